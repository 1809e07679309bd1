// @ts-check
// One message as an element.  A row is built whole from what it shows and replaced when that changes.

import { isNotice, noticeOf } from "./about.js";
import { brief } from "./brief.js";
import { avatar, el, hue, icon } from "./dom.js";
import { say, sayError } from "./strings.js";
import { directionsEnd, mentions, render } from "./text.js";

/** @typedef {import("../client.js").ChatEvent} ChatEvent */
/** @typedef {import("../client.js").Post} Post */

/**
 * @typedef {object} Row  What one row shows.
 * @property {string} key  the same as long as it is the same message, pending or kept
 * @property {ChatEvent} event  of a pending message: as it will be, with `seq` 0
 * @property {Post | null} post  if it is not kept yet
 * @property {boolean} grouped  below another one by the same author
 * @property {string} day  the day that begins with it, or nothing
 * @property {boolean} firstUnread
 * @property {ChatEvent | undefined} repliedTo
 */

/** @typedef {{ me: import("../client.js").Me | null, nameOf: (id: string) => string | undefined, names?: import("./names.js").Names, href: (seq: number) => string }} Context */

/** What a row looks like depends on nothing else; the id tells the same number of another room or database apart. @param {Row} row @param {string} [me] */
export function signature({ event, post, grouped, day, firstUnread, repliedTo }, me) {
  const reactions = event.reactions?.map(({ emoji, by, count }) => emoji + by.join() + (count ?? "")).join(";") ?? "";
  return [event.id, event.seq, event.revision, event.gone, reactions, post?.state, grouped, day, firstUnread, repliedTo?.seq, repliedTo?.revision, repliedTo?.gone, me].join("|");
}

/** @param {Row} row @param {Context} context @returns {HTMLLIElement} */
export function buildRow(row, context) {
  const { event, post, grouped, day, firstUnread } = row;
  const own = event.by.id === context.me?.id;
  const called = !own && !!context.me && !!event.text && mentions(event.text, context.me.name, context.names);
  const kind = isNotice(event) ? notice(event) : message(row, context, own);
  const classes = ["row", grouped && "grouped", own && "own", post && "pending", post?.state === "refused" && "failed", called && "called"];
  const item = el("li", { class: classes.filter(Boolean).join(" "), tabIndex: -1, "data-key": row.key });
  if (event.seq) item.dataset.seq = String(event.seq);
  if (day) item.append(el("div", { class: "day" }, el("span", {}, day)));
  if (firstUnread) item.append(el("div", { class: "unread-line" }, el("span", {}, say.unread)));
  item.append(kind);
  return item;
}

/** @param {ChatEvent} event */
function notice(event) {
  if (event.kind === "topic") return topic(event);
  return el("div", { class: "notice" }, el("bdi", {}, noticeOf(event)), " ", time(event.at));
}

/** @param {ChatEvent} event */
function topic({ by, at, text }) {
  const words = text ? [say.topicSet(by.name), " ", el("q", { dir: "auto" }, text)] : [say.topicCleared(by.name)];
  return el("div", { class: "notice" }, ...words, " ", time(at));
}

/** @param {Row} row @param {Context} context @param {boolean} own */
function message(row, context, own) {
  const { event, post, grouped } = row;
  const author = el("bdi", { class: "author" }, event.by.name);
  author.style.setProperty("--hue", String(hue(event.by.id)));
  const head = el("div", { class: grouped ? "head unseen" : "head" }, author, !grouped && " ", !grouped && time(event.at));
  const gutter = el("div", { class: "gutter" }, grouped ? time(event.at, shortTime(event.at)) : avatar(event.by.id, event.by.name));
  const body = el("div", { class: "content" }, head, quote(row, context), ...content(event, context), reactions(event, context));
  if (post) body.append(postState(post));
  return el("div", { class: "message", "data-own": own }, gutter, body);
}

/** @param {ChatEvent} event @param {Context} context @returns {(Node | null)[]} */
function content(event, context) {
  if (event.gone) return [el("p", { class: "gone" }, say.gone)];
  if (event.text === undefined) return [el("p", { class: "gone" }, say.binary)];
  const text = el("div", { class: emojiOnly(event.text) ? "text large" : "text", dir: "auto" }, ...render(event.text, context.me?.name, context.names));
  if ((event.revision ?? 1) > 1) {
    const last = text.lastElementChild?.tagName === "P" ? text.lastElementChild : text;
    last.append(directionsEnd(last.textContent ?? ""), " ", el("bdi", { class: "edited", title: event.edited_at ? fullDate(event.edited_at) : "" }, say.edited));
  }
  return [text];
}

/** @param {string} text */
function emojiOnly(text) {
  return text.length <= 24 && /^(?:\p{Extended_Pictographic}[\u{1f3fb}-\u{1f3ff}\ufe0f\u200d]*\s?){1,3}$/u.test(text);
}

/** @param {Row} row @param {Context} context */
function quote({ event, repliedTo }, { href }) {
  if (!event.reply_to) return null;
  const who = repliedTo && !repliedTo.gone ? repliedTo.by.name : "";
  const text = (repliedTo?.text && brief(repliedTo.text)) || (repliedTo?.gone ? say.gone : say.anEarlierMessage);
  return el("a", { class: "quote", href: href(event.reply_to), "aria-label": `${who ? say.repliedTo(who) : ""} ${text}`.trim() }, icon("reply"), who && el("bdi", {}, who), " ", el("span", { dir: "auto" }, text));
}

/** @param {ChatEvent} event @param {Context} context */
function reactions({ seq, reactions: all }, { me, nameOf }) {
  if (!all?.length) return null;
  const buttons = all.map(({ emoji, by, count = by.length }) => {
    const own = !!me && by.includes(me.id);
    const names = by.map((id) => (id === me?.id ? say.you : nameOf(id) ?? say.someone));
    const label = say.reactedWith(emoji, count, names.slice(0, 20).join(", "));
    return el("button", { type: "button", class: "reaction", "aria-pressed": String(own), "aria-label": label, title: names.slice(0, 20).join(", "), "data-emoji": emoji, "data-of": String(seq) },
      el("span", { "aria-hidden": "true" }, `${emoji} `), el("span", { class: "count" }, String(count)));
  });
  return el("div", { class: "reactions" }, ...buttons);
}

/** @param {Post} post */
function postState(post) {
  if (post.state !== "refused" || !post.error) {
    const words = post.state === "sent" ? say.sending : say.waiting;
    return el("span", { class: "post-state", title: words }, icon("clock"), el("span", { class: "unseen" }, words));
  }
  return el("div", { class: "post-state" }, el("span", {}, say.notSent(sayError(post.error))), " ",
    el("button", { type: "button", class: "text-button", "data-do": "retry" }, say.retry), " ",
    el("button", { type: "button", class: "text-button", "data-do": "discard" }, say.discard));
}

const clockTime = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const whole = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "medium" });
const dayNear = new Intl.DateTimeFormat(undefined, { weekday: "long", day: "numeric", month: "long" });
const dayFar = new Intl.DateTimeFormat(undefined, { weekday: "long", day: "numeric", month: "long", year: "numeric" });

/** @param {number} at @param {string} [words] */
function time(at, words = clockTime.format(at)) {
  return el("time", { dateTime: new Date(at).toISOString(), title: fullDate(at) }, words);
}

/** Hour and minute alone, which fit beside the message. @param {number} at */
function shortTime(at) {
  return clockTime.formatToParts(at).filter(({ type }) => type !== "dayPeriod").map(({ value }) => value).join("").trim();
}

/** @param {number} at */
export function fullDate(at) {
  return whole.format(at);
}

/** The day of the last look; neighbours in a log are mostly of one. */
let known = { from: 0, to: 0, day: "" };

/** The day in the reader's zone, comparable. @param {number} at */
export function dayOf(at) {
  if (at < known.from || at >= known.to) {
    const date = new Date(at);
    const from = new Date(date.getFullYear(), date.getMonth(), date.getDate());
    const to = new Date(date.getFullYear(), date.getMonth(), date.getDate() + 1);
    known = { from: from.getTime(), to: to.getTime(), day: date.toDateString() };
  }
  return known.day;
}

/** @param {number} at @param {number} now */
export function dayName(at, now) {
  if (dayOf(at) === dayOf(now)) return say.today;
  // Not 24 hours before: a day has 23 or 25 when summer time begins or ends.
  const date = new Date(now);
  if (dayOf(at) === dayOf(new Date(date.getFullYear(), date.getMonth(), date.getDate() - 1).getTime())) return say.yesterday;
  return (new Date(at).getFullYear() === new Date(now).getFullYear() ? dayNear : dayFar).format(at);
}
