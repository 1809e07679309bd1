// The JavaScript client against a server that the test plays, on a clock that the test moves.

import assert from "node:assert/strict";
import { beforeEach, describe, test } from "node:test";

import { ChatClient, ChatError, closeClass } from "../../twisted_chat/web/page/client.js";
import { FakeClock, FakeSocket, FakeStorage } from "./fakes.js";

/** @type {FakeClock} */
let clock;
/** @type {import("../../twisted_chat/web/page/client.js").Status[]} */
let told;

/** @param {object} [options] */
function made(options = {}) {
  const chat = new ChatClient({ url: "ws://chat/ws", name: "alice", transport: "websocket", WebSocket: FakeSocket, clock, random: () => 1, ...options });
  chat.on("status", (status) => told.push(status));
  return chat;
}

/** A client that is connected and in the lobby. @param {object} [options] @param {object} [roomOptions] @param {object} [found] */
function inLobby(options, roomOptions, found) {
  const chat = made(options);
  const lobby = chat.room("lobby", roomOptions);
  chat.connect();
  FakeSocket.last.welcome();
  FakeSocket.last.join(found);
  return { chat, lobby };
}

/** The next socket, after the client has waited for it. */
function reconnected() {
  const before = FakeSocket.last;
  for (let waited = 0; FakeSocket.last === before; waited += 500) {
    assert.ok(waited < 60_000, "never came back");
    clock.advance(500);
  }
  FakeSocket.last.welcome();
  return FakeSocket.last;
}

beforeEach(() => {
  clock = new FakeClock();
  told = [];
  FakeSocket.opened = [];
});

describe("connecting", () => {
  test("says hello, joins, and is online", () => {
    const chat = made({ device: "device-1" });
    chat.room("lobby");
    chat.connect();
    assert.deepEqual(FakeSocket.last.protocols, ["chat.v1.json"]);
    const hello = FakeSocket.last.welcome();
    assert.deepEqual(hello, { type: "hello", name: "alice", device: "device-1", capabilities: ["batch", "presence"], id: hello.id });
    assert.equal(FakeSocket.last.join()[0].room, "lobby");
    assert.deepEqual(told.map(({ state }) => state), ["connecting", "online"]);
    assert.equal(chat.user?.name, "alice");
  });

  test("a token goes before the upgrade; one that does not fit there goes into the hello", () => {
    made({ token: "abc.def-1" }).connect();
    assert.deepEqual(FakeSocket.last.protocols, ["chat.v1.json", "bearer.abc.def-1"]);
    assert.equal(FakeSocket.last.welcome().token, undefined);
    made({ token: "a b" }).connect();
    assert.deepEqual(FakeSocket.last.protocols, ["chat.v1.json"]);
    assert.equal(FakeSocket.last.welcome().token, "a b");
  });

  test("waits twice as long after each failure, at most 30 s, and begins anew after 10 stable seconds", () => {
    const chat = made();
    chat.connect();
    const waits = [];
    for (let failure = 0; failure < 9; failure++) {
      FakeSocket.last.end(1006);
      const wait = /** @type {number} */ (chat.status.retryAt) - clock.now();
      waits.push(wait);
      clock.advance(wait);
    }
    assert.deepEqual(waits, [500, 1000, 2000, 4000, 8000, 16000, 30000, 30000, 30000]);
    FakeSocket.last.welcome();
    clock.advance(9_000);
    FakeSocket.last.end(1006);
    assert.equal(chat.status.retryAt, clock.now() + 30_000);
    reconnected();
    clock.advance(10_000);
    FakeSocket.last.end(1006);
    assert.equal(chat.status.retryAt, clock.now() + 500);
  });

  test("jitter is full: from nothing to the bound", () => {
    const chat = made({ random: () => 0 });
    chat.connect();
    FakeSocket.last.end(1006);
    assert.equal(chat.status.retryAt, clock.now());
  });

  test("honours the server's delay, and adds its own", () => {
    const chat = made();
    chat.connect();
    FakeSocket.last.welcome();
    FakeSocket.last.say({ type: "bye", code: 4503, reason: "restart", retry: true, retry_after_ms: 3700 });
    FakeSocket.last.end(1012);
    assert.deepEqual(
      { ...chat.status, error: undefined },
      { state: "waiting", code: 4503, attempt: 1, retryAt: clock.now() + 4200, error: undefined, transport: "websocket", reached: true },
    );
    assert.equal(chat.status.error?.code, "restart");
  });

  test("a peer that accepts and says nothing, or garbage, is given up and tried again", () => {
    const chat = made();
    chat.connect();
    FakeSocket.last.open();
    FakeSocket.last.say("HTTP/1.1 200 OK");
    FakeSocket.last.say("[null, 3]");
    clock.advance(10_000);
    assert.equal(chat.status.state, "waiting");
    clock.advance(500);
    assert.equal(FakeSocket.opened.length, 2);
    clock.advance(10_000);
    assert.equal(chat.status.state, "waiting");
  });

  test("comes online at once when the network does", () => {
    const chat = made();
    chat.connect();
    FakeSocket.last.end(1006);
    chat.hint("offline");
    assert.equal(chat.status.state, "waiting");
    chat.hint("online");
    assert.equal(chat.status.state, "connecting");
  });

  test("a refused hello stops, with the reason, and another name may be tried", () => {
    const chat = made();
    chat.connect();
    FakeSocket.last.open();
    const [hello] = FakeSocket.last.take();
    FakeSocket.last.say({ type: "error", id: hello.id, code: "conflict", message: "name: alice looks like another", retry: false });
    assert.deepEqual([chat.status.state, chat.status.error?.code], ["stopped", "conflict"]);
    chat.name = "bob";
    chat.connect();
    assert.equal(FakeSocket.last.welcome().name, "bob");
  });

  test("close says goodbye and stays closed", () => {
    const { chat } = inLobby();
    chat.close();
    assert.deepEqual(FakeSocket.last.take(), [{ type: "bye" }]);
    clock.advance(120_000);
    assert.equal(FakeSocket.opened.length, 1);
    assert.equal(chat.status.state, "stopped");
  });
});

describe("the table of close codes", () => {
  const table = {
    stop: [1000, 1002, 1003, 1007, 1009, 4400, 4403, 4404, 4406, 4409, 4410, 4413, 4499],
    return: [1001, 1005, 1006, 1011, 1012, 1013, 4408, 4429, 4500, 4503, 4504, 4508, 4509, 3000],
    token: [4401],
  };
  for (const [what, codes] of Object.entries(table)) {
    test(`${what}: ${codes.join(" ")}`, () => {
      for (const code of codes) {
        assert.equal(closeClass(code), what, String(code));
        const chat = made();
        chat.connect();
        FakeSocket.last.welcome();
        FakeSocket.last.end(code);
        assert.equal(chat.status.state, what === "return" ? "waiting" : "stopped", String(code));
      }
    });
  }

  test("a goodbye that forbids to return is obeyed even if the close frame is lost", () => {
    const chat = made();
    chat.connect();
    FakeSocket.last.welcome();
    FakeSocket.last.say({ type: "bye", code: 4409, reason: "replaced", retry: false });
    FakeSocket.last.end(1006);
    assert.deepEqual([chat.status.state, chat.status.code], ["stopped", 4409]);
  });

  test("a new token is asked for once", () => {
    let asked = 0;
    const chat = made({ token: () => `t${++asked}` });
    chat.connect();
    FakeSocket.last.welcome();
    FakeSocket.last.end(4401);
    assert.equal(asked, 2);
    FakeSocket.last.open();
    const [hello] = FakeSocket.last.take();
    FakeSocket.last.say({ type: "error", id: hello.id, code: "token_expired", message: "token: expired", retry: false });
    assert.deepEqual([asked, chat.status.state, chat.status.code], [2, "stopped", 4401]);
  });

  test("why a handshake is refused is asked where the browser does not tell", async () => {
    /** @type {(ChatError | null)[]} */
    const why = [null, new ChatError("unavailable", "later", true, 700), new ChatError("unauthenticated", "token: not valid")];
    const chat = made({ diagnose: async () => why.shift() ?? null, token: "bad" });
    chat.connect();
    for (const [state, wait] of [["waiting", 500], ["waiting", 1700], ["stopped", NaN]]) {
      FakeSocket.last.end(1006);
      await new Promise(setImmediate);
      assert.deepEqual([chat.status.state, Number(chat.status.retryAt) - clock.now()], [state, wait]);
      if (state === "waiting") clock.advance(Number(wait));
    }
    assert.deepEqual([chat.status.code, chat.status.error?.code], [4401, "unauthenticated"]);
  });

  test("a token that is fetched may fail, which is tried again", async () => {
    const chat = made({ token: () => Promise.reject(new Error("offline")) });
    chat.connect();
    await new Promise(setImmediate);
    assert.deepEqual([chat.status.state, chat.status.error?.code], ["waiting", "token"]);
  });
});

describe("silence", () => {
  test("answers the server's ping", () => {
    inLobby();
    FakeSocket.last.say({ type: "ping" });
    assert.deepEqual(FakeSocket.last.heard, [{ type: "pong" }]);
  });

  test("after the interval it asks, 10 s later it gives up", () => {
    const { chat } = inLobby();
    clock.advance(25_000);
    assert.deepEqual(FakeSocket.last.heard, [{ type: "ping" }]);
    clock.advance(9_999);
    assert.equal(chat.status.state, "online");
    clock.advance(1);
    assert.equal(chat.status.state, "waiting");
  });

  test("any frame is a sign of life", () => {
    const { chat } = inLobby();
    for (let beat = 0; beat < 20; beat++) {
      clock.advance(20_000);
      FakeSocket.last.say({ type: "ping" });
    }
    assert.equal(chat.status.state, "online");
  });

  test("when the network changed, four seconds are enough", () => {
    const { chat } = inLobby();
    chat.hint("visible");
    clock.advance(3_999);
    FakeSocket.last.say({ type: "pong" });
    clock.advance(10_000);
    assert.equal(chat.status.state, "online");
    chat.hint("offline");
    clock.advance(4_000);
    assert.equal(chat.status.state, "waiting");
  });

  test("what a dead connection says later is not heard", () => {
    const { chat, lobby } = inLobby();
    /** @type {number[]} */
    const seqs = [];
    lobby.on("event", ({ seq }) => seqs.push(seq));
    const dead = FakeSocket.last;
    chat.hint("offline");
    clock.advance(4_000);
    dead.event(1);
    dead.end(4403);
    assert.deepEqual(seqs, []);
    assert.equal(chat.status.state, "waiting");
  });
});

describe("rooms", () => {
  test("resume from the last event, and tell each event once", () => {
    const { lobby } = inLobby();
    /** @type {number[]} */
    const seqs = [];
    lobby.on("event", ({ seq }) => seqs.push(seq));
    FakeSocket.last.event(1);
    FakeSocket.last.say([2, 3].map((seq) => ({ type: "event", room: "lobby", seq, id: `e${seq}`, kind: "later", at: 0, by: { id: "u2", name: "bob" } })));
    FakeSocket.last.end(1006);
    const socket = reconnected();
    assert.deepEqual(socket.join({ recovered: true, head: 4, from: 4 }), [
      { room: "lobby", since: { epoch: "E1", seq: 3, id: "e3" }, tail: 1, presence: false },
    ]);
    assert.equal(lobby.info?.resumed, true);
    for (const seq of [2, 3, 4]) socket.event(seq);
    assert.deepEqual(seqs, [1, 2, 3, 4]);
  });

  test("from the head: the last event is fetched for its id and not told", () => {
    const { lobby } = inLobby({}, {}, { head: 7, from: 7 });
    /** @type {number[]} */
    const seqs = [];
    lobby.on("event", ({ seq }) => seqs.push(seq));
    FakeSocket.last.event(7);
    FakeSocket.last.event(8);
    assert.deepEqual(seqs, [8]);
    assert.deepEqual(lobby.cursor, { epoch: "E1", seq: 8, id: "e8" });
  });

  test("with a tail: so many of the last events are told", () => {
    const { lobby } = inLobby({}, { tail: 2 }, { head: 7, from: 6 });
    /** @type {number[]} */
    const seqs = [];
    lobby.on("event", ({ seq }) => seqs.push(seq));
    for (const seq of [6, 7]) FakeSocket.last.event(seq);
    assert.deepEqual(seqs, [6, 7]);
  });

  test("all that is kept", () => {
    const chat = made();
    chat.room("lobby", { tail: Infinity });
    chat.connect();
    FakeSocket.last.welcome();
    assert.deepEqual(FakeSocket.last.join()[0].since, { epoch: "E1", seq: 0 });
  });

  test("what cannot be resumed begins anew, and says why", () => {
    const { lobby } = inLobby();
    FakeSocket.last.event(1);
    FakeSocket.last.end(1006);
    /** @type {any[]} */
    const found = [];
    lobby.on("joined", (joined) => found.push(joined));
    reconnected().join({ recovered: false, why: "fork", epoch: "E2", head: 9, from: 9 });
    assert.deepEqual([found[0].resumed, found[0].why, lobby.cursor], [false, "fork", null]);
    FakeSocket.last.event(9);
    assert.deepEqual(lobby.cursor, { epoch: "E2", seq: 9, id: "e9" });
  });

  test("one that may not be joined says so, and its posts fail", async () => {
    const chat = made();
    const lobby = chat.room("secret");
    /** @type {any[]} */
    const failed = [];
    lobby.on("failed", (error) => failed.push(error.code));
    const post = lobby.send("hello");
    chat.connect();
    FakeSocket.last.welcome();
    const [join] = FakeSocket.last.take();
    FakeSocket.last.say({ type: "ok", id: join.id, rooms: [{ room: "secret", error: { code: "no_such_room", message: "no", retry: false } }] });
    assert.deepEqual(failed, ["no_such_room"]);
    await assert.rejects(post.done, { code: "no_such_room" });
  });

  test("one that is full is tried again", () => {
    const chat = made();
    chat.room("small");
    chat.connect();
    FakeSocket.last.welcome();
    const [join] = FakeSocket.last.take();
    FakeSocket.last.say({ type: "ok", id: join.id, rooms: [{ room: "small", error: { code: "limit", message: "full", retry: true, retry_after_ms: 100 } }] });
    clock.advance(100);
    assert.equal(FakeSocket.last.join()[0].room, "small");
  });

  test("names have one form", () => {
    const chat = made();
    assert.equal(chat.room("cafe\u0301"), chat.room("caf\u00e9"));
  });

  test("a listener that fails disturbs nobody", () => {
    const { lobby } = inLobby();
    /** @type {any[]} */
    const reported = [];
    const error = console.error;
    console.error = (what) => reported.push(what);
    /** @type {number[]} */
    const seqs = [];
    lobby.on("event", () => {
      throw new Error("mine");
    });
    lobby.on("event", ({ seq }) => seqs.push(seq));
    FakeSocket.last.event(1);
    console.error = error;
    assert.deepEqual([reported[0].message, seqs], ["mine", [1]]);
  });
});

describe("posting", () => {
  test("what was written offline goes out in order, and each gets its number", async () => {
    const chat = made();
    const lobby = chat.room("lobby");
    const posts = ["a", "b", "c"].map((text) => lobby.send(text));
    chat.connect();
    FakeSocket.last.welcome();
    FakeSocket.last.join();
    const sent = FakeSocket.last.take();
    assert.deepEqual(sent.map(({ text }) => text), ["a", "b", "c"]);
    assert.deepEqual(sent.map(({ key }) => key), posts.map(({ key }) => key));
    FakeSocket.last.keep(sent, 1);
    assert.deepEqual(await Promise.all(posts.map(({ done }) => done)), [1, 2, 3]);
    assert.equal(lobby.posts.length, 0);
  });

  test("a post whose answer is lost goes out again with its key, before later ones", () => {
    const { lobby } = inLobby();
    const first = lobby.send("first");
    const [lost] = FakeSocket.last.take();
    lobby.send("second");
    assert.deepEqual(FakeSocket.last.take(), []);
    FakeSocket.last.end(1006);
    assert.equal(first.state, "waiting");
    const socket = reconnected();
    socket.join({ recovered: true });
    const again = socket.take();
    assert.deepEqual(again.map(({ text }) => text), ["first", "second"]);
    assert.equal(again[0].key, lost.key);
  });

  test("a post whose event came back is kept, and not sent again", async () => {
    const { lobby } = inLobby();
    const post = lobby.send("hello");
    FakeSocket.last.event(1, { key: post.key, by: { id: "u1", name: "alice" } });
    assert.equal(await post.done, 1);
    FakeSocket.last.end(1006);
    const socket = reconnected();
    socket.join({ recovered: true });
    assert.deepEqual(socket.take(), []);
  });

  test("flushed waits for what is decided, not for answers that are still on their way", async () => {
    const { chat, lobby } = inLobby();
    const post = lobby.send("hello");
    FakeSocket.last.event(1, { key: post.key, by: { id: "u1", name: "alice" } });
    await chat.flushed();
    assert.equal(post.state, "kept");
  });

  test("the same key by somebody else means nothing", () => {
    const { lobby } = inLobby();
    const post = lobby.send("hello");
    FakeSocket.last.event(1, { key: post.key });
    assert.equal(post.state, "sent");
  });

  test("one batch at a time, so that a refusal cannot be overtaken", () => {
    const { lobby } = inLobby();
    for (const text of ["a", "b"]) lobby.send(text);
    const [a] = FakeSocket.last.take();
    FakeSocket.last.say({ type: "error", id: a.id, code: "rate_limited", message: "wait", retry: true, retry_after_ms: 700 });
    clock.advance(699);
    assert.deepEqual(FakeSocket.last.take(), []);
    clock.advance(1);
    const again = FakeSocket.last.take();
    assert.deepEqual(again.map(({ text, key }) => [text, key]), [["a", a.key]]);
    FakeSocket.last.keep(again, 1);
    assert.deepEqual(FakeSocket.last.take().map(({ text }) => text), ["b"]);
  });

  test("the announced rate is kept", () => {
    const chat = made();
    const lobby = chat.room("lobby");
    chat.connect();
    FakeSocket.last.welcome({
      limits: { frame: 65_536, text: 16_384, rooms: 128, history: 200, send: { burst: 3, per_second: 2 } },
    });
    FakeSocket.last.join();
    for (const text of ["a", "b", "c", "d", "e"]) lobby.send(text);
    const counts = [];
    for (let half = 0, seq = 1; half < 4; half++) {
      let taken = 0;
      for (let sent = FakeSocket.last.take(); sent.length; sent = FakeSocket.last.take()) {
        FakeSocket.last.keep(sent, seq);
        seq += sent.length;
        taken += sent.length;
      }
      counts.push(taken);
      clock.advance(500);
    }
    assert.deepEqual(counts, [3, 1, 1, 0]);
  });

  test("a batch fits into a frame", () => {
    const { lobby } = inLobby();
    lobby.send("first");
    FakeSocket.last.keep(FakeSocket.last.take(), 1);
    FakeSocket.last.end(1006);
    for (let each = 0; each < 20; each++) lobby.send("x".repeat(10_000));
    const socket = reconnected();
    socket.join({ recovered: true });
    const sent = socket.take();
    assert.ok(sent.length >= 2 && JSON.stringify(sent).length < 65_536, String(sent.length));
  });

  test("refused for good: the post says why and may be tried again with its key", async () => {
    const { lobby } = inLobby();
    const post = lobby.send("hello");
    const [sent] = FakeSocket.last.take();
    FakeSocket.last.say({ type: "error", id: sent.id, code: "muted", message: "you are muted", retry: false });
    await assert.rejects(post.done, (error) => error instanceof ChatError && error.code === "muted");
    const again = post.again();
    assert.equal(FakeSocket.last.take()[0].key, post.key);
    assert.equal(again.state, "sent");
  });

  test("a post that waits can be taken back, one on its way cannot", () => {
    const { lobby } = inLobby();
    const [first, second] = ["a", "b"].map((text) => lobby.send(text));
    assert.deepEqual([first.cancel(), second.cancel()], [false, true]);
    FakeSocket.last.keep(FakeSocket.last.take(), 1);
    assert.deepEqual(FakeSocket.last.take(), []);
  });

  test("the queue has a bound", () => {
    const lobby = made({ queue: 2 }).room("lobby");
    lobby.send("a");
    lobby.send("b");
    assert.throws(() => lobby.send("c"), { code: "queue_full" });
  });

  test("edits, deletions, reactions and topics are posts as well", () => {
    const { lobby } = inLobby();
    lobby.edit(1, 1, "new");
    FakeSocket.last.keep(FakeSocket.last.take(), 2);
    lobby.delete(1);
    lobby.react(1, "👍");
    lobby.setTopic("topic");
    FakeSocket.last.keep(FakeSocket.last.take(), 3);
    const sent = FakeSocket.last.take().map(({ id: _id, key: _key, ...command }) => command);
    assert.deepEqual(sent, [
      { type: "react", of: 1, emoji: "👍", on: true, room: "lobby" },
      { type: "topic", text: "topic", room: "lobby" },
    ]);
  });
});

describe("storage", () => {
  test("a program that starts anew posts what was left, with the same keys", () => {
    const storage = new FakeStorage();
    const before = made({ storage }).room("lobby").send("hello");
    const { lobby } = inLobby({ storage });
    const [sent] = FakeSocket.last.take();
    assert.deepEqual([sent.text, sent.key], ["hello", before.key]);
    FakeSocket.last.keep([sent], 1);
    assert.deepEqual([lobby.posts.length, storage.items.size], [0, 0]);
  });

  test("but not as somebody else", () => {
    const storage = new FakeStorage();
    inLobby({ storage }).lobby.send("mine");
    const chat = made({ storage });
    const lobby = chat.room("lobby");
    const [post] = lobby.posts;
    chat.connect();
    FakeSocket.last.welcome({ user: { id: "u9", name: "mallory", guest: false } });
    FakeSocket.last.join();
    assert.deepEqual(FakeSocket.last.take(), []);
    assert.equal(post.error?.code, "other_person");
  });

  test("the cursor is kept for rooms that resume", () => {
    const storage = new FakeStorage();
    inLobby({ storage }, { resume: true });
    FakeSocket.last.event(1);
    const chat = made({ storage });
    chat.room("lobby", { resume: true });
    chat.connect();
    FakeSocket.last.welcome();
    assert.deepEqual(FakeSocket.last.join({ recovered: true })[0].since, { epoch: "E1", seq: 1, id: "e1" });
  });

  test("a storage that fails is reported and nothing else", () => {
    const error = console.error;
    let reported = 0;
    console.error = () => (reported += 1);
    const storage = new FakeStorage();
    storage.setItem = () => {
      throw new Error("full");
    };
    made({ storage }).room("lobby").send("hello");
    console.error = error;
    assert.equal(reported, 1);
  });
});

describe("questions", () => {
  test("wait for the connection and are asked again on the next one", async () => {
    const { chat, lobby } = inLobby();
    const page = lobby.history({ before: 10 });
    FakeSocket.last.end(1006);
    const socket = reconnected();
    const asked = socket.take().find(({ type }) => type === "history");
    socket.say({ type: "error", id: asked.id, code: "rate_limited", message: "wait", retry: true, retry_after_ms: 50 });
    clock.advance(50);
    const [again] = socket.take();
    assert.deepEqual(again, { type: "history", room: "lobby", before: 10, id: again.id });
    socket.say({ type: "ok", id: again.id, room: "lobby", head: 1, events: [], more_before: false, more_after: false });
    assert.equal((await page).head, 1);
    const rooms = chat.rooms({ prefix: "a", limit: 9 });
    const [list] = socket.take();
    assert.deepEqual(list, { type: "rooms", prefix: "a", limit: 9, id: list.id });
    chat.close();
    await assert.rejects(rooms, { code: "stopped" });
  });

  test("typing is said every three seconds, reading once a second and only forward", () => {
    const { lobby } = inLobby();
    for (let second = 0; second < 6; second++) {
      lobby.typing();
      lobby.read(10 + second);
      lobby.read(5);
      clock.advance(1_000);
    }
    const heard = FakeSocket.last.take();
    assert.equal(heard.filter(({ type }) => type === "typing").length, 2);
    assert.deepEqual(heard.filter(({ type }) => type === "read").map(({ seq }) => seq), [10, 11, 12, 13, 14, 15]);
  });
});

describe("presence", () => {
  const bob = { id: "u2", name: "bob", connections: 1 };
  const carol = { id: "u3", name: "carol", connections: 1 };

  test("changes are folded in, a missed one is noticed", () => {
    const { lobby } = inLobby({}, { presence: true });
    const socket = FakeSocket.last;
    socket.say({ type: "presence", room: "lobby", version: 4, count: 1, people: [bob] });
    socket.say({ type: "presence", room: "lobby", version: 5, previous: 4, count: 2, came: [carol] });
    socket.say({ type: "presence", room: "lobby", version: 6, previous: 5, count: 1, left: ["u2"] });
    assert.deepEqual([...(lobby.present.people ?? [])], [["u3", carol]]);
    assert.deepEqual(socket.take(), []);
    socket.say({ type: "presence", room: "lobby", version: 8, previous: 7, count: 2, came: [bob] });
    const [asked] = socket.take();
    assert.equal(asked.type, "presence");
    socket.say({ type: "ok", id: asked.id, room: "lobby", version: 8, count: 2, people: [bob, carol] });
    assert.equal(lobby.present.people?.size, 2);
  });

  test("a large room is a number", () => {
    const { lobby } = inLobby({}, { presence: true });
    FakeSocket.last.say({ type: "presence", room: "lobby", version: 4, count: 900 });
    assert.deepEqual(lobby.present, { version: 4, count: 900, people: null });
  });
});

describe("members", () => {
  test("what one may do changes while one is there", () => {
    const { lobby } = inLobby({}, {}, { can: ["send"] });
    /** @type {unknown[]} */
    const heard = [];
    lobby.on("rights", ({ can, role, archived }) => heard.push([can, role, archived]));
    FakeSocket.last.say({ type: "rights", room: "lobby", can: [], archived: true, role: "reader" });
    assert.deepEqual(heard, [[[], "reader", true]]);
    assert.deepEqual([lobby.info?.can, lobby.info?.epoch !== undefined], [[], true]);
  });

  test("who is put out does not come back by itself, and what waits is refused", async () => {
    const { chat, lobby } = inLobby();
    /** @type {ChatError[]} */
    const heard = [];
    lobby.on("removed", (error) => heard.push(error));
    FakeSocket.last.take();
    const post = lobby.send("too late");
    post.done.catch(() => {});
    FakeSocket.last.take();
    FakeSocket.last.say({ type: "removed", room: "lobby", code: "banned", message: "room: you are banned" });
    assert.deepEqual([heard.map(({ code }) => code), post.error?.code, [...chat.joined]], [["banned"], "banned", []]);
    assert.deepEqual(FakeSocket.last.take(), []);
  });

  test("rooms are made, governed, and told of", async () => {
    const { chat, lobby } = inLobby();
    /** @type {string[]} */
    const rooms = [];
    chat.on("room", ({ room, title }) => rooms.push(`${room} ${title}`));
    const answers = [chat.create({ access: "private", title: "Plans" }), chat.direct(["u2"])];
    lobby.govern({ type: "member", person: "u2", role: "owner" });
    const [create, direct, member] = FakeSocket.last.take();
    assert.ok(create.key && member.key);
    assert.deepEqual([create.title, direct.people, member.room, member.role], ["Plans", ["u2"], "lobby", "owner"]);
    FakeSocket.last.say({ type: "room", room: "p~1", access: "private", title: "Plans" });
    FakeSocket.last.say({ type: "ok", id: create.id, room: "p~1" });
    FakeSocket.last.say({ type: "ok", id: direct.id, room: "d~2" });
    assert.deepEqual([await Promise.all(answers), rooms], [["p~1", "d~2"], ["p~1 Plans"]]);
  });
});
