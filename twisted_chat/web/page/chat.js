// The page: what comes from the client is shown, what is typed is sent.  Text becomes text nodes, never markup.

import { Client } from "./connection.js";

const NEAR_BOTTOM_PX = 60;
const $ = (id) => document.getElementById(id);
const room = () => decodeURIComponent(location.hash.replace(/^#\/?/, "")) || "lobby";

function remembered(key, make) {
  let value = localStorage.getItem(key);
  if (!value) localStorage.setItem(key, (value = make()));
  return value;
}

const device = remembered("chat.device", () => crypto.randomUUID?.() ?? String(Math.random()).slice(2) + Date.now());
const rows = new Map();
let client;
let oldest;

function enter() {
  client?.close();
  rows.clear();
  oldest = undefined;
  $("messages").replaceChildren();
  $("older").hidden = true;
  $("room").textContent = document.title = room();
  const url = new URL("ws", location.href.replace(/[#?].*/, ""));
  url.protocol = url.protocol.replace("http", "ws");
  const name = localStorage.getItem("chat.name") || undefined;
  client = new Client({ url: url.href, room: room(), name, device });
  client.addEventListener("status", ({ detail }) => status(detail));
  client.addEventListener("event", ({ detail }) => show(detail));
  client.addEventListener("refused", ({ detail }) => ($("status").textContent = detail.message));
  client.addEventListener("failed", ({ detail }) => rows.get(detail.key)?.classList.replace("pending", "failed"));
  client.addEventListener("reset", () => {
    rows.clear();
    $("messages").replaceChildren();
  });
  client.connect();
}

function status({ state, wait, reason, joined }) {
  const words = {
    connecting: "connecting …",
    open: `here as ${client.user?.name}`,
    waiting: `connection lost, trying again in ${Math.ceil((wait ?? 0) / 1000)} s`,
    ended: `not connected${reason ? `: ${reason}` : ""}`,
  };
  $("status").textContent = words[state];
  if (state === "open") {
    oldest ??= joined.from;
    $("older").hidden = oldest <= joined.first;
    if (!$("name").value) $("name").value = client.user.name;
  }
}

function show(event) {
  if (event.kind === "message") {
    const known = rows.get(event.key);
    place(fill(known ?? document.createElement("li"), event), known);
  } else if (event.kind === "edit" && rows.has(event.of)) {
    rows.get(event.of).lastChild.textContent = `${event.text} (edited)`;
  } else if (event.kind === "delete" && rows.has(event.of)) {
    fill(rows.get(event.of), { ...event, seq: event.of, gone: true });
  } else if (event.kind === "topic") {
    $("room").title = event.text;
  }
}

function fill(row, { seq, at, by, text, data, gone }) {
  row.className = gone ? "gone" : "";
  row.dir = "auto";
  const time = document.createElement("time");
  const author = document.createElement("span");
  const when = at === undefined ? new Date() : new Date(at);
  time.dateTime = when.toISOString();
  time.title = when.toLocaleString();
  time.textContent = when.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
  author.className = "by";
  author.textContent = by.name;
  row.replaceChildren(time, author, document.createTextNode(gone ? "deleted" : (text ?? `[${atob(data).length} bytes]`)));
  if (seq) rows.set(seq, row);
  return row;
}

function place(row, known) {
  const log = $("log");
  const follow = log.scrollHeight - log.scrollTop - log.clientHeight < NEAR_BOTTOM_PX;
  // Behind what is kept, before what is still on its way.
  const waiting = [...$("messages").querySelectorAll(".pending")].find((other) => other !== row);
  if (!known || waiting) $("messages").insertBefore(row, waiting ?? null);
  if (follow) log.scrollTop = log.scrollHeight;
}

$("older").onclick = async () => {
  const page = await client.history(oldest);
  const log = $("log");
  const below = log.scrollHeight - log.scrollTop;
  $("messages").prepend(...page.events.filter(({ kind }) => kind === "message").map((event) => fill(document.createElement("li"), event)));
  log.scrollTop = log.scrollHeight - below;
  oldest = page.events[0]?.seq ?? 1;
  $("older").hidden = !page.more_before;
};

$("say").onsubmit = (event) => {
  event.preventDefault();
  const text = $("text").value;
  if (!text.trim()) return;
  $("text").value = "";
  const key = client.send(text);
  const row = fill(document.createElement("li"), { by: client.user ?? { name: "me" }, text });
  row.className = "pending";
  rows.set(key, row);
  $("messages").append(row);
  $("log").scrollTop = $("log").scrollHeight;
};
$("text").onkeydown = (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    $("say").requestSubmit();
  }
};
$("who").onsubmit = (event) => {
  event.preventDefault();
  localStorage.setItem("chat.name", $("name").value.trim());
  enter();
};
$("go").onsubmit = (event) => {
  event.preventDefault();
  location.hash = `/${encodeURIComponent($("other").value.trim())}`;
  $("other").value = "";
};
addEventListener("hashchange", enter);
addEventListener("online", () => client.hurry());
document.addEventListener("visibilitychange", () => document.hidden || client.hurry());
enter();
