// The JavaScript client where WebSockets are blocked, against a network and a server that the test plays, on a clock that it moves.

import assert from "node:assert/strict";
import { beforeEach, describe, test } from "node:test";

import { ChatClient } from "../../twisted_chat/web/page/client.js";
import { FakeClock, FakeHttp, FakeSocket, FakeStorage, settled } from "./fakes.js";

/** @type {FakeClock} */
let clock;
/** @type {FakeHttp} */
let http;
/** @type {FakeStorage} */
let session;

/** @param {object} [options] */
function made(options = {}) {
  return new ChatClient({
    url: "ws://chat/ws", name: "alice", WebSocket: FakeSocket, clock, random: () => 1, session, fetch: (url, more) => http.fetch(url, more), ...options,
  });
}

/** A client in the lobby by HTTP, and what it has of the network is not known yet. @param {object} [options] */
async function byHttp(options) {
  const chat = made(options);
  const lobby = chat.room("lobby", { tail: 10 });
  chat.connect();
  if (FakeSocket.opened.length) FakeSocket.last.end(1006);
  await http.welcome();
  await http.join();
  return { chat, lobby };
}

/** The same where it is known that no WebSocket comes through. */
async function blocked() {
  const { chat, lobby } = await byHttp();
  clock.advance(0);
  FakeSocket.last.end(1006);
  await http.answerPing();
  return { chat, lobby };
}

beforeEach(() => {
  clock = new FakeClock();
  http = new FakeHttp();
  session = new FakeStorage();
  FakeSocket.opened = [];
});

describe("falling back", () => {
  test("a handshake that fails is followed by HTTP at once, and nothing is said of the network before it is known", async () => {
    const { chat } = await byHttp();

    assert.equal(http.streams[0].url, "http://chat/api/v1/session");
    assert.deepEqual(chat.status, { state: "online", transport: "http", reached: true });

    clock.advance(0);
    FakeSocket.last.end(1006);
    await http.answerPing();

    assert.deepEqual(chat.status, { state: "online", transport: "http", reached: true, blocked: true });
  });

  test("a handshake that hangs, and a WebSocket that stays silent, are given up after five seconds", async () => {
    for (const opens of [false, true]) {
      FakeSocket.opened = [];
      http = new FakeHttp();
      made({ session: new FakeStorage() }).connect();
      if (opens) FakeSocket.last.open();
      clock.advance(4_999);
      assert.equal(http.streams.length, 0);
      clock.advance(1);
      assert.equal(http.streams.length, 1);
    }
  });

  test("of a server that is down nothing is said but that, and the next try begins with a WebSocket", async () => {
    const chat = made();
    chat.connect();
    FakeSocket.last.end(1006);
    await http.fail();

    assert.deepEqual([chat.status.state, chat.status.code, chat.status.reached, chat.status.blocked], ["waiting", 1006, false, undefined]);
    clock.advance(500);
    assert.equal(FakeSocket.opened.length, 2);
    FakeSocket.last.welcome();
    assert.equal(chat.status.transport, "websocket");
  });

  test("a refusal in the server's words is told and obeyed; the words of a proxy, and of a server without sessions by HTTP, are not", async () => {
    const refused = async (/** @type {number} */ status, /** @type {any} */ body) => {
      http = new FakeHttp();
      const chat = made();
      chat.connect();
      FakeSocket.last.end(1006);
      await http.refuse(status, body);
      return [chat.status.state, chat.status.error?.code];
    };
    assert.deepEqual(await refused(403, { error: { code: "forbidden", message: "Origin: no", retry: false } }), ["stopped", "forbidden"]);
    assert.deepEqual(await refused(429, { error: { code: "limit", message: "full", retry: true } }), ["waiting", "limit"]);
    assert.deepEqual(await refused(502, "<html>"), ["waiting", undefined]);
    assert.deepEqual(await refused(404, { error: { code: "not_found", message: "nothing", retry: false } }), ["waiting", undefined]);
    assert.deepEqual(await refused(200, "<html>sign in</html>"), ["waiting", undefined]);
  });

  test("an expired token is asked for anew, by either way", async () => {
    const tokens = ["old", "new"];
    const chat = made({ token: () => tokens.shift() });
    chat.connect();
    assert.deepEqual(FakeSocket.last.protocols, ["chat.v1.json", "bearer.old"]);
    FakeSocket.last.end(1006);
    assert.equal(http.streams[0].headers.Authorization, "Bearer old");
    await http.refuse(401, { error: { code: "token_expired", message: "", retry: false } });
    assert.deepEqual(FakeSocket.last.protocols, ["chat.v1.json", "bearer.new"]);
    assert.equal(chat.status.state, "connecting");
  });

  test("a WebSocket from which the server was heard is no reason to fall back", () => {
    const chat = made();
    chat.connect();
    FakeSocket.last.welcome();
    FakeSocket.last.end(1006);
    clock.advance(500);
    FakeSocket.last.open();
    FakeSocket.last.end(4408);
    assert.equal(http.streams.length, 0);
    assert.equal(chat.status.code, 4408);
  });

  test("either way may be forced", async () => {
    const forced = made({ transport: "websocket" });
    forced.connect();
    FakeSocket.last.end(1006);
    assert.deepEqual([forced.status.state, http.streams.length], ["waiting", 0]);
    forced.close();

    FakeSocket.opened = [];
    const { chat } = await byHttp({ transport: "http" });
    for (let minute = 0; minute < 20; minute++) {
      for (let seconds = 0; seconds < 60; seconds += 20) {
        clock.advance(20_000);
        await http.answerPing();
      }
    }
    assert.deepEqual([chat.status.transport, FakeSocket.opened.length], ["http", 0]);
  });

  test("below a path, for a room's address, and without one", () => {
    for (const [url, found] of [
      ["wss://chat/team/ws", "https://chat/team/api/v1/session"], ["ws://chat:8080", "http://chat:8080/api/v1/session"],
      ["ws://chat/ws/lobby?name=x", "http://chat/api/v1/session"], ["ws://chat/team/", "http://chat/team/api/v1/session"],
    ]) {
      http = new FakeHttp();
      made({ url, transport: "http" }).connect();
      assert.equal(http.streams[0].url, found);
    }
  });
});

describe("memory", () => {
  test("the next start begins with HTTP, and tries a WebSocket after a minute", async () => {
    (await blocked()).chat.close();
    FakeSocket.opened = [];
    http = new FakeHttp();

    const { chat } = await byHttp();

    assert.deepEqual([FakeSocket.opened.length, chat.status.blocked], [0, true]);
    clock.advance(60_000);
    assert.equal(FakeSocket.opened.length, 1);
  });

  test("it is not kept where posts are kept, which may outlive the network", async () => {
    const storage = new FakeStorage();
    await byHttp({ storage, session: undefined });
    clock.advance(0);
    FakeSocket.last.end(1006);
    await http.answerPing();
    assert.equal(storage.items.size, 0);
  });

  test("it is forgotten after ten minutes, and is about one server", async () => {
    (await blocked()).chat.close();
    FakeSocket.opened = [];
    made({ url: "ws://other/ws" }).connect();
    assert.equal(FakeSocket.opened.length, 1);
    clock.time += 600_000;
    made().connect();
    assert.equal(FakeSocket.opened.length, 2);
  });

  test("if HTTP does not lead there any more, a WebSocket is tried now and then", async () => {
    (await blocked()).chat.close();
    FakeSocket.opened = [];
    http = new FakeHttp();
    made().connect();
    for (const wait of [500, 1000]) {
      await http.fail();
      assert.equal(FakeSocket.opened.length, 0);
      clock.advance(wait);
    }
    assert.equal(FakeSocket.opened.length, 1);
  });
});

describe("returning", () => {
  test("when a WebSocket has brought a word of the server, it takes over from the cursor; the old session says goodbye", async () => {
    const { chat, lobby } = await byHttp();
    /** @type {number[]} */
    const seen = [];
    lobby.on("event", ({ seq }) => seen.push(seq));
    http.event(1);
    await settled();
    clock.advance(0);
    FakeSocket.last.open();
    assert.deepEqual(FakeSocket.last.heard, [{ type: "ping" }]);
    assert.equal(chat.status.transport, "http");

    FakeSocket.last.say({ type: "pong" });
    FakeSocket.last.heard = FakeSocket.last.heard.slice(1);
    http.event(2);
    await settled();
    FakeSocket.last.welcome();

    assert.deepEqual(FakeSocket.last.join({ recovered: true, head: 2 })[0].since, { epoch: "E1", seq: 1, id: "e1" });
    FakeSocket.last.event(2);
    assert.deepEqual(seen, [1, 2]);
    assert.deepEqual(chat.status, { state: "online", transport: "websocket", reached: true });
    assert.deepEqual((await http.posted()).at(-1), { type: "bye" });
    await settled();
    assert.equal(http.streams[0].aborted, true);
  });

  test("what was not answered by HTTP is sent again by the WebSocket, with the same keys and first", async () => {
    const { lobby } = await byHttp();
    lobby.send("one");
    lobby.send("two");
    const [one] = (await http.posted()).filter(({ type }) => type === "send");
    clock.advance(0);
    FakeSocket.last.open();
    FakeSocket.last.take();
    FakeSocket.last.say({ type: "pong" });
    FakeSocket.last.welcome();
    FakeSocket.last.join({ recovered: true });
    const again = FakeSocket.last.take();
    assert.deepEqual(again.map(({ text }) => text), ["one", "two"]);
    assert.equal(again[0].key, one.key);
  });

  test("trials become rarer, up to ten minutes, and one is made at once when the network changes", async () => {
    const { chat } = await blocked();
    /** @type {number[]} */
    const waits = [];
    for (let trial = 0; trial < 5; trial++) {
      const before = FakeSocket.opened.length;
      let waited = 0;
      while (FakeSocket.opened.length === before) {
        clock.advance(10_000);
        waited += 10_000;
        await http.answerPing();
      }
      waits.push(waited);
      FakeSocket.last.end(1006);
      await http.answerPing();
    }
    assert.deepEqual(waits, [60_000, 120_000, 240_000, 480_000, 600_000]);
    const before = FakeSocket.opened.length;
    chat.hint("online");
    clock.advance(0);
    assert.equal(FakeSocket.opened.length, before + 1);
  });

  test("a trial that fails because the network has gone says nothing about WebSockets", async () => {
    const { chat } = await byHttp();
    clock.advance(0);
    FakeSocket.last.end(1006);
    http.streams[0].end();
    await settled();
    assert.deepEqual([chat.status.state, chat.status.blocked], ["waiting", undefined]);
    assert.equal(session.items.size, 0);
  });
});

describe("posts", () => {
  test("one at a time, numbered; what is said meanwhile is the next one", async () => {
    const { chat } = await byHttp();
    for (let n = 0; n < 3; n++) chat.tell({ type: "typing", room: `r${n}` });
    const [first] = http.open;
    assert.deepEqual([http.open.length, first.number, JSON.parse(first.body).room], [1, 3, "r0"]);
    first.take();
    await settled();
    const [second] = http.open;
    assert.deepEqual([http.open.length, second.number, JSON.parse(second.body).map((/** @type {any} */ { room }) => room)], [1, 4, ["r1", "r2"]]);
  });

  test("one without an answer is sent again with the same number and body", async () => {
    const { chat } = await byHttp();
    chat.tell({ type: "typing", room: "lobby" });
    const [first] = http.open;
    first.fail();
    await settled();
    clock.advance(200);
    await settled();
    const [again] = http.open;
    assert.deepEqual([again.number, again.body], [first.number, first.body]);
    again.answer(429, { error: { code: "rate_limited", message: "", retry: true, retry_after_ms: 700 } });
    await settled();
    clock.advance(699);
    assert.equal(http.open.length, 0);
    clock.advance(1);
    await settled();
    assert.equal(http.open.length, 1);
    clock.advance(10_000);
    assert.equal(http.all.at(-1)?.aborted, true);
  });

  test("a balancer that takes turns gives it to another server, until one has the session", async () => {
    const { chat } = await byHttp();
    chat.tell({ type: "typing", room: "lobby" });
    const { number } = http.open[0];
    for (let n = 0; n < 2; n++) {
      http.open[0].answer(404, { error: { code: "not_found", message: "", retry: false } });
      await settled();
    }
    assert.deepEqual(http.open.map((post) => post.number), [number]);
    http.open[0].take();
    await settled();
    chat.tell({ type: "typing", room: "den" });
    assert.deepEqual([http.open.map((post) => post.number), chat.status.state], [[number + 1], "online"]);
  });

  test("to a session that is not there any more it is not posted for ever: the client comes back", async () => {
    const { chat, lobby } = await byHttp();
    lobby.send("hello");
    let posts = 0;
    for (; http.open.length && posts < 100; posts++) {
      http.open[0].answer(404, { error: { code: "not_found", message: "", retry: false } });
      await settled();
    }
    assert.equal(posts, 16);
    assert.deepEqual([chat.status.state, lobby.posts[0].state], ["waiting", "waiting"]);
  });

  test("close() says goodbye before it ends, and does not wait for ever", async () => {
    const { chat } = await byHttp();
    chat.close();
    assert.deepEqual([JSON.parse(http.open[0].body).type, http.streams[0].aborted], ["bye", false]);
    clock.advance(2_000);
    assert.equal(http.streams[0].aborted, true);
    assert.equal(chat.status.state, "stopped");
  });

  test("a close event has the meaning of a close code", async () => {
    const { chat } = await byHttp();
    http.streams[0].write('event: close\ndata: {"code":4409,"reason":"replaced"}\n\n');
    await settled();
    assert.deepEqual([chat.status.state, chat.status.code], ["stopped", 4409]);
  });

  test("frames may come in any pieces", async () => {
    const { lobby } = await byHttp();
    /** @type {(string | undefined)[]} */
    const texts = [];
    lobby.on("event", ({ text }) => texts.push(text));
    const event = { type: "event", room: "lobby", seq: 1, id: "e1", kind: "message", at: 1, by: { id: "u2", name: "bob" }, text: "größer 😀" };
    for (const byte of new TextEncoder().encode(`:\n\ndata: ${JSON.stringify(event)}\n\n`)) http.streams[0].bytes(new Uint8Array([byte]));
    await settled();
    assert.deepEqual(texts, ["größer 😀"]);
  });
});
