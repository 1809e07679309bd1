// A clock and a server that tests move by hand.

export class FakeClock {
  time = 1_000_000;
  #timers = new Map();
  #next = 1;

  now() {
    return this.time;
  }

  /** @param {() => void} run @param {number} ms */
  setTimeout(run, ms) {
    const id = this.#next++;
    this.#timers.set(id, { at: this.time + ms, run });
    return id;
  }

  /** @param {any} id */
  clearTimeout(id) {
    this.#timers.delete(id);
  }

  /** Let time pass, timer by timer. @param {number} ms */
  advance(ms) {
    const end = this.time + ms;
    for (;;) {
      const due = [...this.#timers].filter(([, { at }]) => at <= end).sort(([, a], [, b]) => a.at - b.at)[0];
      if (!due) break;
      const [id, { at, run }] = due;
      this.#timers.delete(id);
      this.time = Math.max(this.time, at);
      run();
    }
    this.time = end;
  }
}

/** The other end of a connection. */
export class FakeSocket {
  /** Every socket that was opened, in order. @type {FakeSocket[]} */
  static opened = [];
  readyState = 0;
  /** @type {any[]} */
  heard = [];
  /** @type {number | undefined} */
  closedWith = undefined;
  /** @type {any} */ onopen = null;
  /** @type {any} */ onmessage = null;
  /** @type {any} */ onclose = null;
  /** @type {any} */ onerror = null;

  /** @param {string} url @param {string[]} protocols */
  constructor(url, protocols) {
    this.url = url;
    this.protocols = protocols;
    FakeSocket.opened.push(this);
  }

  static get last() {
    return /** @type {FakeSocket} */ (FakeSocket.opened.at(-1));
  }

  /** @param {string} data */
  send(data) {
    const frame = JSON.parse(data);
    this.heard.push(...(Array.isArray(frame) ? frame : [frame]));
  }

  /** @param {number} [code] */
  close(code) {
    this.readyState = 3;
    this.closedWith = code;
  }

  open() {
    this.readyState = 1;
    this.onopen?.({});
  }

  /** @param {any} frame */
  say(frame) {
    this.onmessage?.({ data: typeof frame === "string" ? frame : JSON.stringify(frame) });
  }

  /** @param {number} code */
  end(code) {
    this.readyState = 3;
    this.onclose?.({ code });
  }

  /** What was heard since the last call, without what keeps the connection alive. */
  take() {
    return this.heard.splice(0).filter(({ type }) => type !== "pong" && type !== "ping");
  }

  /** Open and welcome. @param {object} [more] */
  welcome(more = {}) {
    this.open();
    const [hello] = this.take();
    this.say({
      type: "welcome", id: hello.id, version: 1, server: "fake", epoch: "E1", user: { id: "u1", name: "alice", guest: false }, ping_ms: 25_000,
      limits: { frame: 65_536, text: 16_384, rooms: 128, history: 200, send: { burst: 10, per_second: 0 } }, read: {}, ...more,
    });
    return hello;
  }

  /** Answer the join that comes next. @param {object} [more] */
  join(more = {}) {
    const [join, ...rest] = this.take();
    if (join?.type !== "join" || rest.length) throw new Error(`no join, but ${JSON.stringify([join, ...rest])}`);
    const rooms = join.rooms.map((/** @type {any} */ { room }) => ({
      room, epoch: "E1", head: 0, first: 1, from: 1, durable: true, topic: "", can: ["send"], ...more,
    }));
    this.say({ type: "ok", id: join.id, rooms });
    return join.rooms;
  }

  /** @param {number} seq @param {object} [more] */
  event(seq, more = {}) {
    this.say({ type: "event", room: "lobby", seq, id: `e${seq}`, kind: "message", at: seq, by: { id: "u2", name: "bob" }, text: `t${seq}`, ...more });
  }

  /** Say ok to posts. @param {any[]} commands @param {number} first the number of the first one */
  keep(commands, first) {
    for (const [place, { id, key, room }] of commands.entries()) {
      this.say({ type: "ok", id, room, key, seq: first + place, event: `e${first + place}`, duplicate: false });
    }
  }
}

/** Storage in memory. */
export class FakeStorage {
  /** @type {Map<string, string>} */
  items = new Map();

  /** @param {string} name */
  getItem(name) {
    return this.items.get(name) ?? null;
  }

  /** @param {string} name @param {string} value */
  setItem(name, value) {
    this.items.set(name, value);
  }

  /** @param {string} name */
  removeItem(name) {
    this.items.delete(name);
  }
}

/** Until everything that promises had to do is done. */
export async function settled() {
  for (let turn = 0; turn < 20; turn++) await new Promise((resolve) => setImmediate(resolve));
}

/** The stream of a session by HTTP. */
class FakeStream {
  aborted = false;
  #encoder = new TextEncoder();
  /** @type {any} */ #resolve;
  /** @type {any} */ #reject;
  /** @type {any} */ #controller;

  /** @param {string} url @param {any} options */
  constructor(url, { headers, signal }) {
    this.url = url;
    this.headers = headers;
    this.reply = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
    signal.addEventListener("abort", () => {
      this.aborted = true;
      this.fail();
    });
  }

  fail() {
    this.#reject(new TypeError("fetch failed"));
    try {
      this.#controller?.error(new TypeError("aborted"));
    } catch {
      // It has ended before.
    }
  }

  /** @param {number} status @param {any} body */
  refuse(status, body) {
    this.#resolve(new Response(typeof body === "string" ? body : JSON.stringify(body), { status }));
  }

  open() {
    const body = new ReadableStream({ start: (controller) => void (this.#controller = controller) });
    this.#resolve(new Response(body, { headers: { "Content-Type": "text/event-stream; charset=utf-8" } }));
    this.write('event: open\ndata: {"session":"secret"}\n\n');
  }

  /** @param {string} text */
  write(text) {
    this.bytes(this.#encoder.encode(text));
  }

  /** @param {Uint8Array} bytes */
  bytes(bytes) {
    if (!this.aborted) this.#controller.enqueue(bytes);
  }

  end() {
    this.#controller.close();
  }
}

/** A post to a session by HTTP. */
class FakePost {
  aborted = false;
  open = true;
  /** @type {any} */ #resolve;
  /** @type {any} */ #reject;

  /** @param {string} url @param {any} options */
  constructor(url, { body, signal }) {
    this.number = Number(new URL(url).searchParams.get("n"));
    this.body = body;
    this.reply = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
    signal.addEventListener("abort", () => {
      this.aborted = this.open;
      this.fail();
    });
  }

  take() {
    this.answer(200, { taken: this.number });
  }

  /** @param {number} status @param {any} body */
  answer(status, body) {
    this.open = false;
    this.#resolve(new Response(JSON.stringify(body), { status }));
  }

  fail() {
    this.open = false;
    this.#reject(new TypeError("fetch failed"));
  }
}

/** The server by HTTP. */
export class FakeHttp {
  /** @type {FakeStream[]} */
  streams = [];
  /** @type {FakePost[]} */
  all = [];

  /** @param {string} url @param {any} options @returns {Promise<Response>} */
  fetch(url, options) {
    if (options.method === "POST") {
      this.all.push(new FakePost(url, options));
      return /** @type {FakePost} */ (this.all.at(-1)).reply;
    }
    this.streams.push(new FakeStream(url, options));
    return this.stream.reply;
  }

  get stream() {
    return /** @type {FakeStream} */ (this.streams.at(-1));
  }

  /** Posts that have no answer. */
  get open() {
    return this.all.filter(({ open }) => open);
  }

  async fail() {
    this.stream.fail();
    await settled();
  }

  /** @param {number} status @param {any} body */
  async refuse(status, body) {
    this.stream.refuse(status, body);
    await settled();
  }

  /** Take all posts; what is in them. @returns {Promise<any[]>} */
  async posted() {
    const commands = [];
    for (let { open } = this; open.length; { open } = this) {
      for (const post of open) {
        commands.push(...[JSON.parse(post.body)].flat());
        post.take();
      }
      await settled();
    }
    return commands;
  }

  /** @param {any} frame */
  say(frame) {
    this.stream.write(`data: ${JSON.stringify(frame)}\n\n`);
  }

  /** @param {number} seq */
  event(seq) {
    this.say({ type: "event", room: "lobby", seq, id: `e${seq}`, kind: "message", at: seq, by: { id: "u2", name: "bob" }, text: `t${seq}` });
  }

  /** Open the stream and welcome. */
  async welcome() {
    this.stream.open();
    await settled();
    const [hello] = await this.posted();
    this.say({
      type: "welcome", id: hello.id, version: 1, server: "fake", epoch: "E1", user: { id: "u1", name: "alice", guest: false }, ping_ms: 25_000,
      limits: { frame: 65_536, text: 16_384, rooms: 128, history: 200, send: { burst: 10, per_second: 0 } }, read: {},
    });
    await settled();
    return hello;
  }

  /** Answer the join that comes next. */
  async join() {
    const [join] = await this.posted();
    const rooms = join.rooms.map((/** @type {any} */ { room }) => ({ room, epoch: "E1", head: 0, first: 1, from: 1, durable: true, topic: "", can: ["send"] }));
    this.say({ type: "ok", id: join.id, rooms });
    await settled();
  }

  /** Answer all pings that wait. */
  async answerPing() {
    await settled();
    for (const { type, id } of await this.posted()) if (type === "ping") this.say(id === undefined ? { type: "pong" } : { type: "ok", id });
    await settled();
  }
}
