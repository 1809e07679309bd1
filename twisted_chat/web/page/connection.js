// A connection to one room of the chat that comes back by itself (chat.v1.json).  No DOM.
//
// What was sent and not acknowledged is sent again with its key after a reconnect, so it is said once; the cursor of the last event
// is given on joining, so each event comes once.

const FIRST_DELAY_MS = 500;
const LONGEST_DELAY_MS = 30000;
const STABLE_MS = 10000;
/** Close codes after which coming back helps; the others end it (docs/protocol.rst). */
const RETRY = new Set([1001, 1005, 1006, 1011, 1012, 1013, 4408, 4429, 4500, 4503, 4504, 4508, 4509]);

export class Client extends EventTarget {
  /** @param {{url: string, room: string, name?: string, device?: string}} options */
  constructor({ url, room, name, device }) {
    super();
    Object.assign(this, { url, room, name, device });
    this.cursor = null;
    this.delay = FIRST_DELAY_MS;
    this.pending = new Map();
    this.replies = new Map();
    this.commands = 0;
    this.ended = false;
  }

  connect() {
    clearTimeout(this.timer);
    this.ended = false;
    this.live = false;
    this.tell("status", { state: "connecting" });
    const socket = (this.socket = new WebSocket(this.url, ["chat.v1.json"]));
    const opened = Date.now();
    socket.onopen = () => this.hello().catch((error) => this.tell("refused", error));
    socket.onmessage = ({ data }) => {
      this.heard();
      for (const frame of [JSON.parse(data)].flat()) this.take(frame);
    };
    socket.onclose = ({ code, reason }) => {
      if (socket !== this.socket) return;
      clearTimeout(this.watch);
      this.live = false;
      this.replies.clear();
      if (this.ended || !RETRY.has(code)) return this.tell("status", { state: "ended", code, reason });
      if (Date.now() - opened > STABLE_MS) this.delay = FIRST_DELAY_MS;
      const wait = this.retryAfter ?? Math.random() * this.delay;
      this.retryAfter = undefined;
      this.delay = Math.min(LONGEST_DELAY_MS, this.delay * 2);
      this.tell("status", { state: "waiting", wait });
      this.timer = setTimeout(() => this.connect(), wait);
    };
  }

  /** Come back at once, for instance when the browser is online again. */
  hurry() {
    if (!this.ended && this.socket?.readyState === WebSocket.CLOSED) this.connect();
  }

  close() {
    this.ended = true;
    clearTimeout(this.timer);
    this.socket?.close(1000);
  }

  /** Say something; answers the key, by which the event will be known. */
  send(text, key = crypto.randomUUID()) {
    this.pending.set(key, text);
    if (this.live) this.post(key, text);
    return key;
  }

  history(before, limit = 50) {
    return this.ask({ type: "history", room: this.room, before, limit });
  }

  async hello() {
    const welcome = await this.ask({ type: "hello", name: this.name, device: this.device, capabilities: ["batch"] });
    this.silence = welcome.ping_ms + 10000;
    this.user = welcome.user;
    const place = this.cursor ? { since: this.cursor } : { tail: 50 };
    const joined = await this.ask({ type: "join", room: this.room, ...place });
    if (joined.recovered === false) this.tell("reset", joined);
    this.live = true;
    this.tell("status", { state: "open", joined });
    for (const [key, text] of this.pending) this.post(key, text);
  }

  async post(key, text) {
    try {
      await this.ask({ type: "send", room: this.room, key, text });
      this.pending.delete(key);
    } catch (error) {
      if (error.retry) return setTimeout(() => this.live && this.pending.has(key) && this.post(key, text), error.retry_after_ms ?? 1000);
      this.pending.delete(key);
      this.tell("failed", { key, error });
    }
  }

  ask(command) {
    const id = ++this.commands;
    return new Promise((resolve, reject) => {
      this.replies.set(id, { resolve, reject });
      this.socket.send(JSON.stringify({ ...command, id }));
    });
  }

  take(frame) {
    const reply = this.replies.get(frame.id);
    if (reply && frame.type !== "event") {
      this.replies.delete(frame.id);
      return frame.type === "error" ? reply.reject(frame) : reply.resolve(frame);
    }
    if (frame.type === "event") {
      this.cursor = { epoch: this.epoch, seq: frame.seq, id: frame.id };
      this.pending.delete(frame.key);
      this.tell("event", frame);
    } else if (frame.type === "ping") this.socket.send('{"type":"pong"}');
    else if (frame.type === "bye") this.retryAfter = frame.retry_after_ms;
    else this.tell(frame.type, frame);
  }

  heard() {
    clearTimeout(this.watch);
    if (this.silence) this.watch = setTimeout(() => this.socket.close(4000), this.silence);
  }

  tell(type, detail) {
    if (type === "status" && detail.joined) this.epoch = detail.joined.epoch;
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}
