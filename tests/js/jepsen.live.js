// Writers and readers with `client.js`, the real server, and a nemesis (in the manner of Jepsen).
//
// Every post that was acknowledged is in the log exactly once, at the number that was told, in its writer's order; every
// reader was told the whole log in its order.  Half of the writers go by HTTP.  The run fails if a kind of fault did not happen.
//
// Seconds and the server's Python come from the environment: NEMESIS_SECONDS, PYTHON.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import WebSocket from "ws";

import { ChatClient } from "../../twisted_chat/web/page/client.js";
import { Proxy, Server, freePort } from "./server.js";

const SECONDS = Number(process.env.NEMESIS_SECONDS ?? 30);
const WRITERS = 4;
/** Posts of one writer that are not decided. */
const UNDER_WAY = 40;
const EACH_FAULT = 3;
const AT_LEAST = 5_000;
const LIMITS = {
  SEND_BURST: "1000000", SEND_PER_SECOND: "1000000", PERSON_BURST: "1000000", PERSON_PER_SECOND: "1000000", QUERY_BURST: "1000", PING_SECONDS: "1",
};

/** Posts numbered texts as fast as they are kept, and reads everything. */
class Writer {
  /** @param {string} name @param {string} url @param {"auto" | "http"} [transport] */
  constructor(name, url, transport = "auto") {
    this.name = name;
    this.stopped = false;
    this.number = 0;
    /** @type {Map<string, number>} */
    this.kept = new Map();
    /** @type {[number, string | undefined][]} */
    this.read = [];
    /** @type {string[]} */
    this.refused = [];
    this.restarts = 0;
    this.client = new ChatClient({ url, name, WebSocket, transport, grace: 1_000, random: () => Math.random() / 4 });
    this.room = this.client.room("jepsen", { tail: Infinity });
    this.room.on("event", ({ seq, text }) => this.read.push([seq, text]));
    this.room.on("joined", ({ resumed }) => (this.restarts += resumed ? 0 : 1));
    this.client.connect();
  }

  async write() {
    while (!this.stopped) {
      while (this.room.posts.length < UNDER_WAY && !this.stopped) this.post();
      await sleep(2);
    }
    await this.client.flushed();
  }

  post() {
    const text = `${this.name}:${++this.number}`;
    this.room.send(text).done.then(
      (seq) => this.kept.set(text, seq),
      (error) => this.refused.push(`${text} ${error.code}`),
    );
  }
}

/** A writer in a process that is killed and started again. */
class Killed {
  /** @type {Set<string>} */ accepted = new Set();
  /** @type {Map<string, number>} */ kept = new Map();
  /** @type {[number, string][]} */ read = [];

  /** @param {string} url @param {string} directory */
  constructor(url, directory) {
    this.url = url;
    this.path = join(directory, "writer.json");
    this.start();
  }

  start() {
    const script = new URL("writer.js", import.meta.url).pathname;
    this.process = spawn(process.execPath, [script, this.url, "device-of-the-killed", this.path], { stdio: ["ignore", "pipe", "inherit"] });
    createInterface(this.process.stdout).on("line", (line) => this.#line(line));
  }

  /** @param {string} line */
  #line(line) {
    const [what, first, second] = line.split(" ");
    if (what === "accepted") this.accepted.add(`killed:${first}`);
    else if (what === "kept") this.kept.set(`killed:${first}`, Number(second));
    else if (what === "read") this.read.push([Number(first), second]);
  }

  async kill() {
    const { process } = this;
    if (!process || process.signalCode !== null) return;
    const ended = new Promise((resolve) => process.once("close", resolve));
    process.kill("SIGKILL");
    await ended;
  }
}

test("nothing is lost, doubled or reordered", { timeout: (SECONDS + 90) * 1000 }, async (t) => {
  const directory = mkdtempSync(join(tmpdir(), "twisted-chat-"));
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  const server = new Server(directory, await freePort(), LIMITS);
  await server.start();
  t.after(() => server.end("SIGKILL"));
  const proxy = new Proxy(server.port);
  await proxy.listen();
  t.after(() => proxy.close());
  const url = `ws://127.0.0.1:${proxy.port}/ws`;
  const writers = Array.from({ length: WRITERS }, (_, place) => new Writer(`w${place}`, url, place % 2 ? "http" : "auto"));
  t.after(() => writers.forEach(({ client }) => client.close()));
  const killed = new Killed(url, directory);
  t.after(() => killed.kill());
  const writing = writers.map((writer) => writer.write());

  /** @type {Record<string, () => Promise<void>>} */
  const faults = {
    "kill -9 of the server": async () => {
      await server.end("SIGKILL");
      await server.start();
    },
    "stop of the server": async () => {
      await server.end("SIGTERM");
      await server.start();
      for (const { client } of writers) client.retryNow();
    },
    "pause of the server": async () => {
      server.signal("SIGSTOP");
      await sleep(700);
      server.signal("SIGCONT");
    },
    "all connections cut": async () => proxy.cut(),
    "half of the connections cut": async () => proxy.cut((place) => place % 2 === 0),
    "answers lost": async () => {
      proxy.loseAnswers();
      await sleep(100);
      for (const pair of proxy.pairs) pair.mute = false;
      proxy.cut();
    },
    "half-open connections": async () => {
      proxy.halfOpen((place) => place % 2 === 0);
      await sleep(200);
    },
    "kill -9 of a client": async () => {
      await killed.kill();
      killed.start();
    },
  };
  /** @type {Record<string, number>} */
  const happened = Object.fromEntries(Object.keys(faults).map((name) => [name, 0]));
  const began = Date.now();
  for (let round = 0; Date.now() - began < SECONDS * 1000 || round < EACH_FAULT; round++) {
    for (const name of Object.keys(faults).sort(() => Math.random() - 0.5)) {
      await sleep(200 + Math.random() * 600);
      await faults[name]();
      happened[name] += 1;
      if (round >= EACH_FAULT && Date.now() - began >= SECONDS * 1000) break;
    }
  }
  for (const writer of writers) writer.stopped = true;
  for (const { client } of writers) client.retryNow();
  await Promise.all(writing);
  await killed.kill();

  // The killed one's queue, once more, without new posts; then one who was not there.
  const last = new Writer("last", url);
  t.after(() => last.client.close());
  last.post();
  await last.client.flushed();
  const heir = new Killed(url, directory);
  t.after(() => heir.kill());
  while (![...heir.accepted].some((text) => heir.kept.has(text))) await sleep(20);
  await heir.kill();
  // What it accepted in its last moment is in its queue still.
  for (const text of heir.accepted) if (heir.kept.has(text)) killed.accepted.add(text);
  for (const [text, seq] of heir.kept) killed.kept.set(text, seq);
  const log = await wholeLog(url);

  check(log, writers, killed);
  const acknowledged = writers.reduce((sum, { kept }) => sum + kept.size, killed.kept.size);
  t.diagnostic(`${acknowledged} acknowledged, of writers ${writers.map(({ kept }) => kept.size)}; ${JSON.stringify(happened)}`);
  for (const [name, count] of Object.entries(happened)) assert.ok(count >= EACH_FAULT, `${name} happened ${count} times`);
  assert.ok(acknowledged >= AT_LEAST, `only ${acknowledged} acknowledged`);
});

/** @param {string} url @returns {Promise<string[]>} texts; number N is at N - 1 */
async function wholeLog(url) {
  const client = new ChatClient({ url, name: "auditor", WebSocket });
  /** @type {string[]} */
  const log = [];
  const room = client.room("jepsen", { tail: Infinity });
  const complete = new Promise((resolve) => room.on("live", resolve));
  room.on("event", ({ seq, text }) => {
    assert.equal(seq, log.length + 1, "a hole in the log");
    log.push(String(text));
  });
  client.connect();
  await complete;
  client.close();
  return log;
}

/** @param {string[]} log @param {Writer[]} writers @param {Killed} killed */
function check(log, writers, killed) {
  const places = new Map();
  for (const [place, text] of log.entries()) {
    assert.ok(!places.has(text), `doubled: ${text} at ${places.get(text)} and ${place + 1}`);
    places.set(text, place + 1);
  }
  for (const { name, kept, read, refused, restarts } of writers) {
    assert.deepEqual(refused, [], `${name}: refused`);
    assert.equal(restarts, 1, `${name}: had to begin anew`);
    for (const [text, seq] of kept) assert.equal(places.get(text), seq, `lost: ${text} was acknowledged as ${seq}`);
    assert.deepEqual(read, log.slice(0, read.length).map((text, place) => [place + 1, text]), `${name} was told another order`);
  }
  for (const text of killed.accepted) assert.ok(places.has(text), `lost: ${text} was accepted`);
  for (const [text, seq] of killed.kept) assert.equal(places.get(text), seq, `lost: ${text}`);
  // What it had in hand when it was killed it may be told again; nothing may be missing between.
  let last = 0;
  for (const [seq, text] of killed.read) {
    assert.ok(seq <= last + 1, `the killed one was not told ${last + 1} to ${seq - 1}`);
    assert.equal(text, log[seq - 1]);
    last = seq;
  }
  const numbers = new Map();
  for (const text of log) {
    const [name, number] = text.split(":");
    assert.ok(Number(number) > (numbers.get(name) ?? 0), `reordered: ${text} after ${name}:${numbers.get(name)}`);
    numbers.set(name, Number(number));
  }
}
