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
