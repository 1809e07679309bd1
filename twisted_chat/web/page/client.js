// @ts-check
/**
 * The JavaScript client of twisted_chat: one module, no dependencies, no DOM.
 *
 *     import { ChatClient } from "./client.js";
 *     const chat = new ChatClient({ url: "wss://chat.example.org/ws", name: "alice" });
 *     const lobby = chat.room("lobby", { tail: 50 });
 *     lobby.on("event", (event) => console.log(event.seq, event.by.name, event.text));
 *     lobby.send("hello");
 *     chat.connect();
 *
 * It speaks `chat.v1.json` (docs/protocol.rst).  Rooms are joined again after each reconnect from where they were, so that each
 * event of a room is told once and in its order.  What is posted waits in a queue with a key of its own until the server
 * says that it is kept; a post whose answer was lost is sent again with the same key, which the server knows, so that it is
 * kept once.  docs/javascript.rst is the manual.
 *
 * Where the network lets no WebSocket through, the same session goes by HTTP, and back to a WebSocket when one comes through.
 *
 * From above to below: the words of the wire, the table of close codes, small helpers, `Post`, the `Lane` of a room's posts,
 * `Room`, `HttpSocket`, one `Connection`, the `Ways` to the server, and `ChatClient`, which is what programs begin with.
 */

/** @typedef {{ id: string, name: string }} Author */
/** @typedef {{ id: string, name: string, guest: boolean }} Me */
/** @typedef {{ access?: "private" | "direct", title?: string, people?: Author[], role?: string }} About  what a room is, and the user's role */
/** @typedef {{ emoji: string, by: string[], count?: number }} Reaction  `count`: how many, where `by` names only some */
/** @typedef {{ epoch: string, seq: number, id?: string }} Cursor  a place in a room's log: everything up to `seq` is known */
/** @typedef {{ id: string, name: string, connections: number }} Present */

/**
 * @typedef {object} ChatEvent  One entry of a room's log.
 * @property {number} seq  its number in the room
 * @property {string} id
 * @property {"message" | "edit" | "delete" | "reaction" | "topic" | "room" | "member" | "sanction" | string} kind
 * @property {number} at  the server's clock, milliseconds since 1970; for display, order is `seq`
 * @property {Author} by
 * @property {string} [key]
 * @property {string} [text]
 * @property {string} [data]  base64
 * @property {number} [reply_to]
 * @property {number} [revision]
 * @property {number} [edited_at]
 * @property {Reaction[]} [reactions]
 * @property {number} [counted]  up to which number `reactions` are counted already
 * @property {boolean} [gone]
 * @property {number} [of]  which message an edit, delete or reaction is about
 * @property {string} [emoji]
 * @property {boolean} [on]
 * @property {Author} [person]  whom a member or sanction is about
 * @property {string} [role]
 * @property {string} [what]  `mute`, `ban`, `kick`
 * @property {number} [until]
 * @property {string} [reason]
 * @property {About & { writers?: string, slow_mode?: number }} [settings]  of a room
 * @property {boolean} [archived]
 */

/**
 * @typedef {object} JoinFound  What a join found.
 * @property {boolean} resumed  everything since the last event that was told follows; if not, what was known of the room is
 *   to be forgotten (and at the first join there was nothing)
 * @property {string} [why]  why not: `epoch`, `fork`, `ahead`, `expired`
 * @property {string} epoch
 * @property {number} head
 * @property {number} first
 * @property {boolean} durable
 * @property {string} topic
 * @property {string[]} can
 * @property {boolean} [archived]  closed for writing, as far as it is known
 * @typedef {JoinFound & About} Joined
 */

/**
 * @typedef {object} Welcome
 * @property {string} server
 * @property {string} epoch
 * @property {Me} user
 * @property {number} ping_ms
 * @property {{ frame: number, text: number, rooms: number, history: number, send: { burst: number, per_second: number } }} limits
 * @property {Record<string, number>} read
 */

/** @typedef {{ head: number, events: ChatEvent[], more_before: boolean, more_after: boolean }} Page */
/** @typedef {{ version: number, count: number, people: Map<string, Present> | null }} Presence  `people` is null in large rooms */
/** @typedef {About & { room: string, head: number, topic: string, members: number }} RoomInfo */
/** @typedef {About & { room: string }} Invited  a room of which the user has become a member */
/** @typedef {About & { can: string[], archived: boolean }} Rights */

/**
 * @typedef {"idle" | "connecting" | "online" | "waiting" | "stopped"} State
 * @typedef {"websocket" | "http"} Way
 * @typedef {object} Status
 * @property {State} state
 * @property {Way} transport  how it is connected, or tries to be, or last tried
 * @property {boolean} reached  whether there has been a connection since the program started
 * @property {boolean} [blocked]  the server answers by HTTP and no WebSocket comes through
 * @property {number} [code]  the close code that ended the last connection
 * @property {ChatError} [error]  why it stopped or could not come in
 * @property {number} [retryAt]  when it tries again, by the clock given (milliseconds)
 * @property {number} [attempt]  failures in a row
 */

/**
 * @typedef {object} SocketLike  What is used of a WebSocket; that of the `ws` package for Node has it as well.
 * @property {number} readyState
 * @property {((event: any) => void) | null} onopen
 * @property {((event: any) => void) | null} onmessage
 * @property {((event: any) => void) | null} onclose
 * @property {((event: any) => void) | null} onerror
 * @property {(data: string) => void} send
 * @property {(code?: number, reason?: string) => void} close
 * @property {() => void} [terminate]
 */
/** @typedef {new (url: string, protocols: string[]) => SocketLike} SocketClass */
/** @typedef {(url: string, options: any) => Promise<Response>} Fetch */
/**
 * @typedef {object} Storage  Where posts and cursors outlive the program; `localStorage` fits.
 * @property {(name: string) => string | null} getItem
 * @property {(name: string, value: string) => void} setItem
 * @property {(name: string) => void} removeItem
 */
/** @typedef {{ now(): number, setTimeout(run: () => void, ms: number): any, clearTimeout(timer: any): void }} Clock */

/**
 * @typedef {object} Options
 * @property {string} url  `ws://` or `wss://`
 * @property {string} [name]  a guest's name
 * @property {string | (() => string | undefined | Promise<string | undefined>)} [token]  who one is; a function is asked again
 *   when the server no longer takes the last one
 * @property {string} [device]  8 to 64 characters that this program keeps: a guest stays the same person by it, and a second
 *   connection with the same device ends the first.  Without one, a new one is made.
 * @property {SocketClass} [WebSocket]  default: the global one
 * @property {"auto" | Way} [transport]  default `auto`: a WebSocket, and HTTP where none comes through
 * @property {Fetch} [fetch]  default: the global one
 * @property {Storage} [session]  where it is kept for a while that no WebSocket comes through; `sessionStorage` fits
 * @property {Storage} [storage]
 * @property {string} [prefix]  of the names in the storage
 * @property {number} [queue]  posts that may wait; more are refused
 * @property {number} [grace]  milliseconds of silence beyond the server's interval after which it is taken for gone
 * @property {() => Promise<ChatError | null>} [diagnose]  asked why when a handshake is refused, which browsers do not tell
 * @property {() => number} [random]
 * @property {Clock} [clock]
 */

/** @typedef {Omit<Status, "transport" | "reached" | "blocked">} News  what changes in the status */
/** @typedef {{ type: string, [field: string]: any }} Command */
/** @typedef {{ command: Command, resolve: (answer: any) => void, reject: (error: ChatError) => void }} Question */
/** @typedef {{ code: number, reason: string, retry: boolean, retry_after_ms?: number }} Bye */

/** Milliseconds.  The first wait is short because most interruptions are; the last spares a server that is ill. */
const FIRST_WAIT = 500;
const LONGEST_WAIT = 30_000;
/** A connection that held so long was good, and the next failure is a new one. */
const STABLE_AFTER = 10_000;
/** To open a socket, and again to be welcomed: a peer that accepts and says nothing is given up. */
const HANDSHAKE_WITHIN = 10_000;
/** The same while it is not known whether the network lets WebSockets through, and HTTP may be faster. */
const UNPROVEN_WITHIN = 5_000;
/** Between two tries whether a WebSocket comes through; twice as long after each failure. */
const FIRST_TRIAL = 60_000;
const LONGEST_TRIAL = 600_000;
/** How long it is remembered that none does. */
const BLOCKED_FOR = 600_000;
/** For the answer to a post of a session by HTTP; then it is sent again. */
const POST_WITHIN = 10_000;
/** So often one is sent while the answer is that there is no such session: a balancer may take another server each time. */
const ELSEWHERE_POSTS = 16;
/** Between two tries of one post: at first, and at most. */
const FIRST_POST_AGAIN = 200;
const LAST_POST_AGAIN = 5_000;
/** For what is still to be posted when a session by HTTP is closed. */
const CLOSE_WITHIN = 2_000;
/** Frames that go in one post; each has at most `BATCH` commands, and the server takes 1000. */
const FRAMES_A_POST = 8;
/** Bytes of a post that browsers send even when the page is closed (Fetch standard: 64 KiB at once). */
const KEEPALIVE = 16_384;
/** How long after the server's interval its silence means that it is gone. */
const SILENCE_GRACE = 10_000;
/** The same when something hints that the network changed. */
const DOUBT_WITHIN = 4_000;
/** Before an answer that said "later" without saying when. */
const ASK_AGAIN = 1_000;
const TYPING_EVERY = 3_000;
const READ_EVERY = 1_000;
/** Posts of one room on the wire at once; what comes meanwhile is the next batch. */
const BATCH = 100;
const DEFAULT_QUEUE = 1_000;
/** Bytes kept free in a frame for what stands around the texts. */
const FRAME_MARGIN = 1_024;
const DEFAULT_LIMITS = { frame: 65_536, text: 16_384, rooms: 128, history: 200, send: { burst: 10, per_second: 2 } };

const STOPPING = new Set([1000, 1002, 1003, 1007, 1009]);
const RETURNING_44 = new Set([4408, 4429]);

/** What a close code tells a client to do (docs/protocol.rst). @param {number} code @returns {"return" | "stop" | "token"} */
export function closeClass(code) {
  if (code === 4401) return "token";
  if (STOPPING.has(code)) return "stop";
  return code >= 4400 && code < 4500 && !RETURNING_44.has(code) ? "stop" : "return";
}

/** Something that was asked for and is not done. */
export class ChatError extends Error {
  /** @param {string} code as in docs/protocol.rst @param {string} message @param {boolean} [retry] @param {number} [retryAfterMs] */
  constructor(code, message, retry = false, retryAfterMs) {
    super(message);
    this.name = "ChatError";
    this.code = code;
    this.retry = retry;
    this.retryAfterMs = retryAfterMs;
  }
}

/** Tells listeners.  A listener that fails is reported and disturbs nobody. @template {Record<string, any>} Told */
export class Emitter {
  constructor() {
    /** @type {Map<keyof Told, Set<(value: any) => void>>} */
    this._listeners = new Map();
  }

  /**
   * Call `listener` from now on; the function that is returned ends that.
   * @template {keyof Told} K
   * @param {K} type
   * @param {(value: Told[K]) => void} listener
   * @returns {() => void}
   */
  on(type, listener) {
    const listeners = this._listeners.get(type) ?? new Set();
    this._listeners.set(type, listeners.add(listener));
    return () => listeners.delete(listener);
  }

  /** @template {keyof Told} K @param {K} type @param {Told[K]} value */
  emit(type, value) {
    for (const listener of this._listeners.get(type) ?? []) {
      try {
        const result = /** @type {any} */ (listener(value));
        if (result instanceof Promise) result.catch(report);
      } catch (error) {
        report(error);
      }
    }
  }
}

/** @param {unknown} error */
function report(error) {
  const { reportError } = /** @type {any} */ (globalThis);
  if (typeof reportError === "function") reportError(error);
  else console.error(error);
}

/** A random string of 128 bits; `crypto.randomUUID` exists only on secure origins. */
export function unique() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** How much may be sent at once and per second, counted as the server counts it. */
class Bucket {
  /** @param {{ burst: number, per_second: number }} rate @param {Clock} clock */
  constructor(rate, clock) {
    this._rate = rate;
    this._clock = clock;
    this._tokens = rate.burst;
    this._at = clock.now();
  }

  /** How many of `wanted` may be sent now. @param {number} wanted */
  take(wanted) {
    if (!this._rate.per_second) return wanted;
    const now = this._clock.now();
    this._tokens = Math.min(this._rate.burst, this._tokens + ((now - this._at) / 1000) * this._rate.per_second);
    this._at = now;
    const taken = Math.min(wanted, Math.floor(this._tokens));
    this._tokens -= taken;
    return taken;
  }

  /** Milliseconds until one more may be sent. */
  wait() {
    return Math.max(0, Math.ceil(((1 - this._tokens) / this._rate.per_second) * 1000));
  }
}

/**
 * Something posted to a room, until it is known whether it is kept.
 *
 * `state`: `waiting` in the queue, `sent` and not answered, `kept`, or `refused` with `error`.
 */
export class Post {
  /** @param {Lane} lane @param {Command} command @param {string} key @param {string} [by] who posted it before the program started anew */
  constructor(lane, command, key, by) {
    this.room = lane.room;
    this.command = command;
    this.key = key;
    this.by = by;
    /** @type {"waiting" | "sent" | "kept" | "refused"} */
    this.state = "waiting";
    /** @type {ChatError | null} */
    this.error = null;
    /** The number that it got, when it is kept. */
    this.seq = 0;
    this._lane = lane;
    /** Fulfilled with the number when it is kept, rejected with a `ChatError` when it is refused for good. @type {Promise<number>} */
    this.done = new Promise((resolve, reject) => {
      this._resolve = resolve;
      this._reject = reject;
    });
    // Whoever does not look at `done` looks at `state`.
    this.done.catch(() => {});
  }

  /** Whether it is still to be decided. */
  get open() {
    return this.state === "waiting" || this.state === "sent";
  }

  /** Post it again after a refusal, with the same key. @returns {Post} */
  again() {
    return this._lane.post(this.command, this.key);
  }

  /** Take it back if it is not on its way; whether that was possible. */
  cancel() {
    return this._lane.cancel(this);
  }
}

/**
 * The posts of one room in their order.
 *
 * One batch is on the wire at a time: were there two, a refusal of the first ("wait a second") could let the second overtake
 * it.  What is posted while a batch is under way is the next batch, so a long way to the server costs no rate.
 */
class Lane {
  /** @param {Room} room @param {ChatClient} client */
  constructor(room, client) {
    this.room = room;
    this._client = client;
    /** @type {Post[]} */
    this.posts = [];
    /** Posts on the wire that are not answered. */
    this._unanswered = 0;
    this._failures = 0;
    this._blockedUntil = 0;
    /** @type {any} */
    this._timer = null;
    for (const { key, by, command } of client.load(`posts:${room.name}`) ?? []) this.posts.push(new Post(this, command, key, by));
  }

  /** @param {Command} command @param {string} [key] */
  post(command, key = unique()) {
    if (this._client.open.length >= this._client.queue) {
      throw new ChatError("queue_full", `${this._client.queue} posts are waiting already`, true);
    }
    const post = new Post(this, command, key, this._client.user?.id);
    this.posts.push(post);
    this._remember();
    this._client.emit("post", post);
    this.pump();
    return post;
  }

  /** @param {Post} post */
  cancel(post) {
    if (post.state !== "waiting") return false;
    this.posts = this.posts.filter((other) => other !== post);
    this._remember();
    this._refuse(post, new ChatError("cancelled", "taken back"));
    return true;
  }

  /** Send the next batch if nothing is in the way. */
  pump() {
    const { clock, connection, bucket, limits } = this._client;
    if (this._unanswered || !this.posts.length || !this.room.joined || !connection) return;
    const blocked = this._blockedUntil - clock.now();
    if (blocked > 0) return this._pumpIn(blocked);
    const count = bucket.take(this._failures ? 1 : this._fitting(limits.frame - FRAME_MARGIN));
    if (!count) return this._pumpIn(bucket.wait());
    const batch = this.posts.slice(0, count);
    this._unanswered = count;
    for (const post of batch) this._turn(post, "sent");
    connection.ask(
      batch.map((post) => ({ ...post.command, room: this.room.name, key: post.key })),
      batch.map((post) => (answer) => this._answered(post, answer)),
    );
  }

  /** The connection is gone: what was on the wire may be kept or not, so it goes first next time, with the same keys. */
  lost() {
    this._unanswered = 0;
    this._settle();
    for (const post of this.posts) if (post.state === "sent") this._turn(post, "waiting");
  }

  /** An event of ours came back: it is kept, whether or not its answer ever comes. @param {ChatEvent} event */
  seen(event) {
    const post = this.posts.find((each) => each.key === event.key);
    if (!post) return;
    this._keep(post, event.seq);
    if (!this._unanswered) this._settle();
  }

  /** Nothing will be sent any more. @param {ChatError} error */
  refuseAll(error) {
    const posts = this.posts.splice(0);
    this._unanswered = 0;
    this._remember();
    for (const post of posts) if (post.open) this._refuse(post, error);
  }

  /** Posts that somebody else left on this device are not this person's. @param {string} person */
  disown(person) {
    const foreign = this.posts.filter(({ by }) => by !== undefined && by !== person);
    if (!foreign.length) return;
    this.posts = this.posts.filter((post) => !foreign.includes(post));
    this._remember();
    for (const post of foreign) this._refuse(post, new ChatError("other_person", "somebody else wrote this"));
  }

  /** How many posts fit into one frame. @param {number} bytes */
  _fitting(bytes) {
    let count = 0;
    for (const post of this.posts) {
      // Three bytes are the most that one UTF-16 unit takes in UTF-8.
      bytes -= 200 + 3 * JSON.stringify(post.command).length;
      if (count && (bytes < 0 || count >= BATCH)) break;
      count += 1;
    }
    return count;
  }

  /** @param {Post} post @param {any} answer */
  _answered(post, answer) {
    this._unanswered -= 1;
    if (answer.type === "ok") {
      this._keep(post, answer.seq);
      this._failures = 0;
    } else if (post.state === "sent") {
      const error = errorOf(answer);
      if (error.retry) this._postpone(post, error);
      else this._refuse(post, error);
    }
    if (!this._unanswered) {
      this._settle();
      this.pump();
    }
  }

  /** @param {Post} post @param {ChatError} error */
  _postpone(post, error) {
    const now = this._client.clock.now();
    // The posts of one batch fail together, which is one failure.
    if (this._blockedUntil <= now) this._failures += 1;
    this._blockedUntil = Math.max(this._blockedUntil, now + (error.retryAfterMs ?? this._client.jitter(this._failures)));
    this._turn(post, "waiting");
  }

  /** Forget what is decided; the rest keeps its order. */
  _settle() {
    this.posts = this.posts.filter((post) => post.open);
    this._remember();
  }

  /** @param {Post} post @param {number} seq */
  _keep(post, seq) {
    if (!post.open) return;
    post.seq = seq;
    post._resolve?.(seq);
    this._turn(post, "kept");
  }

  /** @param {Post} post @param {ChatError} error */
  _refuse(post, error) {
    post.error = error;
    post._reject?.(error);
    this._turn(post, "refused");
  }

  /** @param {Post} post @param {Post["state"]} state */
  _turn(post, state) {
    post.state = state;
    this._client.emit("post", post);
  }

  /** @param {number} ms */
  _pumpIn(ms) {
    const { clock } = this._client;
    clock.clearTimeout(this._timer);
    this._timer = clock.setTimeout(() => this.pump(), ms);
  }

  _remember() {
    if (!this._client.storage) return;
    const open = this.posts.filter((post) => post.open).map(({ key, by, command }) => ({ key, by, command }));
    this._client.save(`posts:${this.room.name}`, open.length ? open : null);
  }
}

/**
 * A room that the client is in, or will be in when it is connected.
 *
 * It tells: `event` (each event of the log once, in order), `joined` (a `Joined`, after each connect), `live` (its head, when
 * all that was missed has been told), `gap` (how many events of an ephemeral room are gone), `typing` (who), `presence`, `read`
 * (the person's own mark from another device), `rights` (what one may do there has changed; it is in `info`), `removed` (a
 * `ChatError`: one may not be there any more), `failed` (a `ChatError`: it cannot be joined).
 *
 * @extends {Emitter<{ event: ChatEvent, joined: Joined, live: number, gap: number, typing: Me, presence: Presence, read: number,
 *   rights: Joined, removed: ChatError, failed: ChatError }>}
 */
export class Room extends Emitter {
  /** @param {ChatClient} client @param {string} name @param {{ tail?: number, presence?: boolean, resume?: boolean }} options */
  constructor(client, name, options) {
    super();
    this.name = name;
    this.options = options;
    /** Whether this connection is in the room. */
    this.joined = false;
    /** What the last join found. @type {Joined | null} */
    this.info = null;
    /** The last event that was told. @type {Cursor | null} */
    this.cursor = (options.resume && client.load(`cursor:${name}`)) || null;
    /** @type {Presence} */
    this.present = { version: 0, count: 0, people: new Map() };
    this._client = client;
    /** Events up to here only give the cursor its place. */
    this._quietUntil = 0;
    this._typedAt = -Infinity;
    this._read = 0;
    this._readAt = -Infinity;
    /** @type {any} */
    this._readTimer = null;
    this._lane = new Lane(this, client);
  }

  /** Posts that are not yet kept, in their order. @returns {readonly Post[]} */
  get posts() {
    return this._lane.posts;
  }

  /** Say something. @param {string} text @param {{ replyTo?: number, key?: string }} [more] @returns {Post} */
  send(text, { replyTo, key } = {}) {
    return this._lane.post({ type: "send", text, ...(replyTo && { reply_to: replyTo }) }, key);
  }

  /** Say bytes, given as base64. @param {string} data @param {{ key?: string }} [more] */
  sendData(data, { key } = {}) {
    return this._lane.post({ type: "send", data }, key);
  }

  /** Give one's own message another text. @param {number} of @param {number} revision the one that was seen @param {string} text */
  edit(of, revision, text) {
    return this._lane.post({ type: "edit", of, revision, text });
  }

  /** Take a message back. @param {number} of */
  delete(of) {
    return this._lane.post({ type: "delete", of });
  }

  /** Put an emoji on a message, or take it away. @param {number} of @param {string} emoji @param {boolean} [on] */
  react(of, emoji, on = true) {
    return this._lane.post({ type: "react", of, emoji, on });
  }

  /** @param {string} text */
  setTopic(text) {
    return this._lane.post({ type: "topic", text });
  }

  /**
   * A page of messages in their present state, oldest first.  Waits for a connection, and asks again on the next one if it breaks.
   * @param {{ before?: number, after?: number, around?: number, limit?: number }} place
   * @returns {Promise<Page>}
   */
  history(place) {
    return this._client.ask({ type: "history", room: this.name, ...place });
  }

  /**
   * Change the room, or what somebody is in it: the commands `settings`, `member` and `sanction` (docs/protocol.rst), without
   * `room` and `key`.  Waits for a connection.
   * @param {Command} command @returns {Promise<any>}
   */
  govern(command) {
    return this._client.ask({ ...command, room: this.name, key: unique() });
  }

  /** The person is writing; said at most every three seconds. */
  typing() {
    const now = this._client.clock.now();
    if (!this.joined || now - this._typedAt < TYPING_EVERY) return;
    this._typedAt = now;
    this._client.tell({ type: "typing", room: this.name });
  }

  /** The person has read up to there; said at most every second. @param {number} seq */
  read(seq) {
    if (seq <= this._read) return;
    this._read = seq;
    this._tellRead();
  }

  /** Tell at once what was read, because the page is about to be closed. */
  flushRead() {
    if (!this.joined || this._readTimer === null) return;
    this._client.clock.clearTimeout(this._readTimer);
    this._readTimer = null;
    this._client.tell({ type: "read", room: this.name, seq: this._read });
  }

  /** Be there no more. */
  leave() {
    this._client.forget(this);
  }

  _tellRead() {
    const { clock } = this._client;
    clock.clearTimeout(this._readTimer);
    if (!this.joined) return;
    this._readTimer = clock.setTimeout(() => {
      this._readTimer = null;
      this._readAt = clock.now();
      this._client.tell({ type: "read", room: this.name, seq: this._read });
    }, Math.max(0, this._readAt + READ_EVERY - clock.now()));
  }

  /** What to ask for: everything since the cursor, or, where that is not to be had, the tail. */
  _wanted() {
    const { tail = 0, presence = false } = this.options;
    if (tail === Infinity) return { room: this.name, since: this.cursor ?? { epoch: this._client.epoch, seq: 0 }, presence };
    // The last event is asked for in any case, because its id belongs to the cursor.
    return { room: this.name, since: this.cursor ?? undefined, tail: Math.max(1, tail), presence };
  }

  /** @param {any} answer */
  _found({ recovered, why, epoch, head, first, durable, topic, can, access, title, people, role }) {
    const resumed = recovered === true && this.cursor !== null;
    if (!resumed) {
      this.cursor = head === 0 ? { epoch, seq: 0 } : null;
      this._quietUntil = this.options.tail ? 0 : head;
      this._saveCursor();
    }
    // Another log has other numbers.
    if (this.info && this.info.epoch !== epoch) this._read = 0;
    this.joined = true;
    this.info = { resumed, why, epoch, head, first, durable, topic, can, access, title, people, role };
    this.emit("joined", this.info);
    if (this._read) this._tellRead();
    this._lane.pump();
  }

  /** @param {any} push */
  _pushed(push) {
    switch (push.type) {
      case "event":
        return this._event(push);
      case "live":
        return this.emit("live", push.seq);
      case "gap":
        return this.emit("gap", push.dropped);
      case "typing":
        for (const person of push.people ?? [push.by]) this.emit("typing", person);
        return undefined;
      case "read":
        this._read = Math.max(this._read, push.seq);
        return this.emit("read", push.seq);
      case "presence":
        return this._presence(push);
      case "rights":
        return this._rights(push);
      case "removed":
        return this._removed(new ChatError(push.code, push.message));
    }
  }

  /** @param {Rights} push */
  _rights({ can, archived, access, title, people, role }) {
    if (!this.info) return;
    this.info = { ...this.info, can, archived, access, title, people, role };
    this.emit("rights", this.info);
  }

  /** The server has put this connection out of the room. @param {ChatError} error */
  _removed(error) {
    this.joined = false;
    if (this.info) this.info = { ...this.info, can: [] };
    this._client.forget(this, error);
    this.emit("removed", error);
  }

  /** @param {ChatEvent & { type: string, room: string }} push */
  _event({ type: _type, room: _room, ...event }) {
    if (!this.joined || !this.info || (this.cursor && event.seq <= this.cursor.seq)) return;
    this.cursor = { epoch: this.info.epoch, seq: event.seq, id: event.id };
    if (event.kind === "topic" && event.text !== undefined) this.info.topic = event.text;
    if (event.key !== undefined && event.by.id === this._client.user?.id) this._lane.seen(event);
    if (event.seq > this._quietUntil) this.emit("event", event);
    // After it was told: what a program that is killed had in hand comes again.
    this._saveCursor();
  }

  /** @param {any} push */
  _presence({ version, previous, count, people, came = [], left = [] }) {
    const known = this.present;
    if (people) {
      this.present = { version, count, people: new Map(people.map((/** @type {Present} */ each) => [each.id, each])) };
    } else if (previous !== undefined && version <= known.version) {
      return;
    } else if (!came.length && !left.length) {
      this.present = { version, count, people: null };
    } else if (previous !== known.version || !known.people) {
      // One was missed while the connection was congested, or the room was large until now.
      this._client.tell({ type: "presence", room: this.name, on: true }, (answer) => answer.type === "ok" && this._presence(answer));
      return;
    } else {
      for (const each of came) known.people.set(each.id, each);
      for (const id of left) known.people.delete(id);
      this.present = { version, count, people: known.people };
    }
    this.emit("presence", this.present);
  }

  _saveCursor() {
    if (this.options.resume) this._client.save(`cursor:${this.name}`, this.cursor);
  }

  _lost() {
    this.joined = false;
    this._client.clock.clearTimeout(this._readTimer);
    this._lane.lost();
  }
}

/**
 * A session by HTTP that looks like a WebSocket: frames come as Server-Sent Events and go by numbered posts, one at a time
 * (docs/protocol.rst, "The same session by HTTP").
 */
class HttpSocket {
  /** @param {string} url @param {string | undefined} token @param {{ fetch: Fetch, clock: Clock }} world */
  constructor(url, token, { fetch, clock }) {
    this.readyState = 0;
    /** @type {((event: any) => void) | null} */ this.onopen = null;
    /** @type {((event: any) => void) | null} */ this.onmessage = null;
    /** @type {((event: any) => void) | null} */ this.onclose = null;
    /** @type {((event: any) => void) | null} */ this.onerror = null;
    /** Why the server lets nobody in, if it said so. @type {ChatError | null} */
    this.refused = null;
    this._url = url;
    /** @type {Record<string, string>} */
    this._headers = token === undefined ? {} : { Authorization: `Bearer ${token}` };
    this._fetch = fetch;
    this._clock = clock;
    this._abort = new AbortController();
    this._session = "";
    /** The number of the next post. */
    this._number = 1;
    /** Frames that wait for their post. @type {string[]} */
    this._waiting = [];
    /** The work on them. @type {Promise<void> | null} */
    this._posting = null;
    /** @type {any} */
    this._timer = null;
    this._open();
  }

  /** @param {string} frame */
  send(frame) {
    this._waiting.push(frame);
    this._posting ??= this._post();
  }

  /** Post what waits, then end. */
  close() {
    if (this.readyState !== 1 || !this._posting) return this.terminate();
    this.readyState = 2;
    this._timer = this._clock.setTimeout(() => this.terminate(), CLOSE_WITHIN);
    this._posting.finally(() => this.terminate());
  }

  /** End at once. */
  terminate() {
    this._clock.clearTimeout(this._timer);
    this.readyState = 3;
    this._abort.abort();
  }

  async _open() {
    try {
      const headers = { ...this._headers, Accept: "text/event-stream" };
      const reply = await this._fetch(this._url, { headers, cache: "no-store", signal: this._abort.signal });
      if (!reply.ok) this.refused = await refusal(reply);
      else if (reply.body && reply.headers.get("Content-Type")?.startsWith("text/event-stream")) await this._read(reply.body);
    } catch {
      // Whatever it was: there is no connection.
    }
    this._ended(1006);
  }

  /** @param {ReadableStream<Uint8Array>} body */
  async _read(body) {
    const reader = body.getReader();
    const decoder = new TextDecoder();
    let text = "";
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      const blocks = (text + decoder.decode(value, { stream: true })).split("\n\n");
      text = blocks.pop() ?? "";
      for (const block of blocks) if (this.readyState !== 3) this._event(block);
    }
  }

  /** @param {string} block */
  _event(block) {
    let name = "";
    let data = "";
    for (const line of block.split("\n")) {
      if (line.startsWith("event: ")) name = line.slice(7);
      else if (line.startsWith("data: ")) data += line.slice(6);
    }
    if (name === "open") {
      this._session = JSON.parse(data).session;
      this.readyState = 1;
      this.onopen?.({});
    } else if (name === "close") {
      this._ended(JSON.parse(data).code);
    } else if (!name && data) {
      this.onmessage?.({ data });
    }
  }

  /** Post what waits, until nothing does. */
  async _post() {
    while (this._waiting.length && this.readyState !== 3) {
      const body = this._next();
      for (let failures = 0; this.readyState !== 3; failures++) {
        const again = await this._taken(body, failures);
        if (again === null) break;
        await new Promise((resolve) => this._clock.setTimeout(() => resolve(null), again));
      }
      this._number += 1;
    }
    // Not a moment later, or what is said then would wait for nothing.
    this._posting = null;
  }

  /** What fits of the waiting frames, as one. */
  _next() {
    const frames = [this._waiting.shift() ?? ""];
    // Three bytes are the most that one UTF-16 unit takes in UTF-8.
    let left = DEFAULT_LIMITS.frame - 3 * frames[0].length;
    while (this._waiting.length && frames.length < FRAMES_A_POST && (left -= 3 * this._waiting[0].length + 1) > 0) {
      frames.push(/** @type {string} */ (this._waiting.shift()));
    }
    if (frames.length === 1) return frames[0];
    return `[${frames.map((frame) => (frame.startsWith("[") ? frame.slice(1, -1) : frame)).join(",")}]`;
  }

  /** Null when the server has it, or milliseconds until it is sent again. @param {string} body @param {number} failures */
  async _taken(body, failures) {
    const again = Math.min(LAST_POST_AGAIN, FIRST_POST_AGAIN * 2 ** failures);
    const abort = new AbortController();
    const giveUp = () => abort.abort();
    const timer = this._clock.setTimeout(giveUp, POST_WITHIN);
    this._abort.signal.addEventListener("abort", giveUp);
    try {
      const post = () =>
        this._fetch(`${this._url}/${this._session}?n=${this._number}`, {
          method: "POST",
          headers: { ...this._headers, "Content-Type": "application/json" },
          body,
          cache: "no-store",
          keepalive: body.length < KEEPALIVE,
          signal: abort.signal,
        });
      let reply = await post();
      for (let posts = 1; reply.status === 404 && posts < ELSEWHERE_POSTS; posts++) reply = await post();
      if (reply.ok) return /** @type {any} */ (await reply.json()).taken >= this._number ? null : again;
      const error = await refusal(reply);
      if (reply.status >= 500 || [408, 425, 429].includes(reply.status)) {
        return error?.retryAfterMs ?? Math.max(again, 1000 * (Number(reply.headers.get("Retry-After")) || 0));
      }
      this._ended(1006);
      return null;
    } catch {
      return again;
    } finally {
      this._clock.clearTimeout(timer);
      this._abort.signal.removeEventListener("abort", giveUp);
    }
  }

  /** @param {number} code */
  _ended(code) {
    if (this.readyState === 3) return;
    this.terminate();
    this.onclose?.({ code });
  }
}

/** The server's own words in a refusal; null if they are somebody else's, or those of a server that knows no session by HTTP. @param {Response} reply */
async function refusal(reply) {
  try {
    const { error } = /** @type {any} */ (await reply.json());
    return error.code === "not_found" || typeof error.code !== "string" ? null : errorOf(error);
  } catch {
    return null;
  }
}

/** Where sessions by HTTP are, beside the WebSocket. @param {string} url */
function sessionUrl(url) {
  const address = new URL(url, /** @type {any} */ (globalThis).location?.href);
  address.protocol = address.protocol.replace("ws", "http");
  address.pathname = address.pathname.replace(/(\/ws(\/[^/]*)?)?\/?$/, "/api/v1/session");
  address.search = address.hash = "";
  return address.href;
}

/** One WebSocket, or what looks like one, from its opening to its end, and the watch over its silence. */
class Connection {
  /** @param {ChatClient} client @param {SocketLike} socket @param {Way} way @param {number} [within] */
  constructor(client, socket, way, within = HANDSHAKE_WITHIN) {
    this.way = way;
    /** Whether the server itself has said anything. */
    this.heard = false;
    this._client = client;
    this._socket = socket;
    this._nextId = 1;
    /** @type {Map<number, (answer: any) => void>} */
    this._answers = new Map();
    this._pingMs = 0;
    this._heardAt = client.clock.now();
    this._pinged = false;
    /** The server said that it ends the connection, and what to do then. @type {Bye | null} */
    this.bye = null;
    this.opened = false;
    this._timer = client.clock.setTimeout(() => this._ended(1006), within);
    socket.onopen = () => this.greet(within);
    socket.onmessage = ({ data }) => this._heard(data);
    socket.onclose = ({ code }) => this._ended(code);
    socket.onerror = () => {};
  }

  /** Why the server lets nobody in, if that is known. @returns {ChatError | null} */
  get refused() {
    return this._socket instanceof HttpSocket ? this._socket.refused : null;
  }

  /** It is open: say hello. @param {number} [within] */
  greet(within = HANDSHAKE_WITHIN) {
    this.opened = true;
    this._timeout(within, () => this._ended(1006));
    this._client._opened(this);
  }

  /** Send commands in one frame; each gets one answer. @param {Command[]} commands @param {((answer: any) => void)[]} answers */
  ask(commands, answers) {
    const numbered = commands.map((command, place) => {
      const id = this._nextId++;
      this._answers.set(id, answers[place]);
      return { ...command, id };
    });
    this.say(numbered.length === 1 ? numbered[0] : numbered);
  }

  /** @param {object} frame */
  say(frame) {
    if (this._socket.readyState === 1) this._socket.send(JSON.stringify(frame));
  }

  /** From now on silence is measured. @param {number} pingMs */
  welcomed(pingMs) {
    this._pingMs = pingMs;
    this._watch();
  }

  /** Something hints that the network changed: unless the server answers soon, this connection is dead. */
  doubt() {
    this._probe(DOUBT_WITHIN);
  }

  /** @param {number} code */
  close(code) {
    this._detach();
    this._socket.close(code);
  }

  /** @param {unknown} data */
  _heard(data) {
    this._heardAt = this._client.clock.now();
    if (this._pinged) {
      this._pinged = false;
      this._watch();
    }
    for (const reply of replies(data)) this._one(reply);
  }

  /** @param {any} reply */
  _one(reply) {
    this.heard = true;
    const answer = this._answers.get(reply.id);
    if (answer) {
      this._answers.delete(reply.id);
      answer(reply);
    } else if (reply.type === "ping") {
      this.say({ type: "pong" });
    } else if (reply.type === "bye") {
      this.bye = reply;
    } else if (reply.room !== undefined) {
      this._client._pushed(reply);
    }
  }

  /** Looks once per interval how long it has been silent; the server's own `ping` does not come while the client talks. */
  _watch() {
    const silent = this._client.clock.now() - this._heardAt;
    if (silent >= this._pingMs) this._probe(this._client.grace);
    else this._timeout(this._pingMs - silent, () => this._watch());
  }

  /** @param {number} within */
  _probe(within) {
    this._pinged = true;
    this.say({ type: "ping" });
    this._timeout(within, () => this._ended(1006));
  }

  /** @param {number} ms @param {() => void} run */
  _timeout(ms, run) {
    this._client.clock.clearTimeout(this._timer);
    this._timer = this._client.clock.setTimeout(run, ms);
  }

  /** @param {number} code */
  _ended(code) {
    this._detach();
    // A peer that is gone would keep a closing handshake waiting.
    if (this._socket.terminate) this._socket.terminate();
    else this._socket.close();
    this._client._ended(this, code);
  }

  _detach() {
    this._client.clock.clearTimeout(this._timer);
    const socket = this._socket;
    socket.onopen = socket.onmessage = socket.onclose = null;
    socket.onerror = () => {};
  }
}

/**
 * Which way goes to the server, and what is known of the network.
 *
 * A WebSocket from which no word of the server comes says nothing about the reason, so the same is tried by HTTP.  If that way is open, the server is
 * there, and a second WebSocket beside it tells whether they come through: it is asked for a word of the server, because some proxies
 * let the handshake through and nothing else.
 */
class Ways {
  /** @param {ChatClient} client @param {Options} options */
  constructor(client, { transport = "auto", session, fetch = globalThis.fetch?.bind(globalThis), WebSocket }) {
    this.forced = transport;
    /** @type {Fetch | undefined} */
    this.fetch = fetch;
    this._client = client;
    this._WebSocket = WebSocket;
    /** Not the storage of posts, which may outlive the network. */
    this._session = session ?? null;
    this._name = `blocked:${new URL(client.url, /** @type {any} */ (globalThis).location?.href).host}`;
    /** A WebSocket has come through before. */
    this._proven = false;
    /** None comes through, and the server is there. */
    this.blocked = transport === "auto" && client.load(this._name, this._session) > client.clock.now();
    this._trialIn = this.blocked ? FIRST_TRIAL : 0;
    /** @type {any} */
    this._timer = null;
    /** The WebSocket that is tried. @type {SocketLike | null} */
    this._tried = null;
  }

  /** @returns {SocketClass | undefined} */
  get Socket() {
    return this._WebSocket ?? /** @type {any} */ (globalThis).WebSocket;
  }

  /** Where to begin, after so many failures in a row. @param {number} failures @returns {Way} */
  first(failures) {
    if (this.forced !== "auto") return this.forced;
    if (!this.Socket) return "http";
    // What is remembered may be wrong: now and then a WebSocket is tried all the same.
    return this.blocked && failures % 3 !== 2 ? "http" : "websocket";
  }

  /** How long a peer on that way may be silent at first. @param {Way} way */
  within(way) {
    return way === "websocket" && this.forced === "auto" && !this._proven ? UNPROVEN_WITHIN : HANDSHAKE_WITHIN;
  }

  /** Whether to go on by HTTP after that connection. @param {Connection} connection @param {number} code */
  another({ way, heard }, code) {
    const byServer = code >= 4400 && code < 4600;
    return this.forced === "auto" && way === "websocket" && !heard && !byServer && Boolean(this.fetch);
  }

  /** The client is welcomed on that way. @param {Way} way */
  welcomed(way) {
    if (way === "http") return this._trialLater();
    this._proven = true;
    this._trialIn = 0;
    this._know(false);
  }

  /** The network may be another one now. */
  changed() {
    this._trialIn = 0;
    if (this._client.connection?.way === "http") this._trialLater();
  }

  /** There is no connection any more. */
  lost() {
    this._client.clock.clearTimeout(this._timer);
    this._drop();
  }

  _trialLater() {
    const { clock } = this._client;
    if (this.forced !== "auto" || !this.Socket || this._tried) return;
    clock.clearTimeout(this._timer);
    this._timer = clock.setTimeout(() => this._trial(), this._trialIn);
    this._trialIn = Math.min(LONGEST_TRIAL, Math.max(FIRST_TRIAL, 2 * this._trialIn));
  }

  /** Look whether a WebSocket comes through, beside the connection that there is. */
  _trial() {
    const client = this._client;
    const { connection } = client;
    const failed = () => {
      this._drop();
      // Only if the other way is open still: else it is the network that is gone.
      if (connection && connection === client.connection) connection.ask([{ type: "ping" }], [() => this._blocked()]);
    };
    client._withToken(() => {
      if (!connection || connection !== client.connection) return;
      const socket = client._websocket();
      this._tried = socket;
      this._timer = client.clock.setTimeout(failed, HANDSHAKE_WITHIN);
      socket.onopen = () => socket.send('{"type":"ping"}');
      socket.onclose = failed;
      socket.onerror = () => {};
      socket.onmessage = ({ data }) => {
        if (!replies(data).some(({ type }) => type === "pong")) return;
        this._tried = null;
        client._move(socket);
      };
    }, () => this._trialLater());
  }

  _blocked() {
    const known = this.blocked;
    this._know(true);
    if (!known) this._client._setStatus({ state: "online" });
    this._trialLater();
  }

  /** @param {boolean} blocked */
  _know(blocked) {
    this.blocked = blocked;
    this._client.save(this._name, blocked ? this._client.clock.now() + BLOCKED_FOR : null, this._session);
  }

  _drop() {
    const socket = this._tried;
    if (!socket) return;
    this._tried = null;
    this._client.clock.clearTimeout(this._timer);
    socket.onopen = socket.onmessage = socket.onclose = null;
    if (socket.terminate) socket.terminate();
    else socket.close();
  }
}

/**
 * A person's way into the chat.
 *
 * It tells: `status` (a `Status`, whenever it changes), `welcome` (a `Welcome`, after each connect), `post` (a `Post` whose state
 * changed).
 *
 * @extends {Emitter<{ status: Status, welcome: Welcome, post: Post, room: Invited }>}
 */
export class ChatClient extends Emitter {
  /** @param {Options} options */
  constructor(options) {
    super();
    this.url = options.url;
    this.name = options.name;
    this.token = options.token;
    this.device = options.device ?? unique();
    this.queue = options.queue ?? DEFAULT_QUEUE;
    this.grace = options.grace ?? SILENCE_GRACE;
    this.storage = options.storage;
    this.diagnose = options.diagnose;
    /** @type {Clock} */
    this.clock = options.clock ?? {
      now: () => Date.now(),
      setTimeout: (run, ms) => setTimeout(run, ms),
      clearTimeout: (timer) => clearTimeout(timer),
    };
    /** Who the server takes us for. @type {Me | null} */
    this.user = null;
    this.epoch = "";
    this.limits = DEFAULT_LIMITS;
    /** The last welcome's read marks. @type {Record<string, number>} */
    this.marks = {};
    /** The connection, while it is welcomed. @type {Connection | null} */
    this.connection = null;
    this.bucket = new Bucket(this.limits.send, this.clock);
    this._prefix = options.prefix ?? "twisted-chat:";
    this._random = options.random ?? Math.random;
    this._ways = new Ways(this, options);
    /** @type {Way} */
    this._way = this._ways.first(0);
    /** @type {Status} */
    this.status = { state: "idle", transport: this._way, reached: false };
    /** The connection from its first moment. @type {Connection | null} */
    this._current = null;
    /** @type {Map<string, Room>} */
    this._rooms = new Map();
    /** @type {Question[]} */
    this._questions = [];
    this._attempt = 0;
    this._welcomedAt = 0;
    this._askedForToken = false;
    /** @type {string | undefined} */
    this._helloToken = undefined;
    /** @type {string | undefined} */
    this._bearer = undefined;
    /** @type {any} */
    this._timer = null;
  }

  /** Posts in all rooms that are not decided. */
  get open() {
    return [...this._rooms.values()].flatMap((room) => room.posts.filter((post) => post.open));
  }

  /** The rooms that are joined or will be. @returns {Iterable<Room>} */
  get joined() {
    return this._rooms.values();
  }

  /**
   * The room of that name; the first call joins it.
   *
   * `tail`: so many of the last events are told first (0: only new ones, `Infinity`: all that are kept).  `presence`: who is there
   * is told.  `resume`: the cursor is kept in the storage, so that the next start of the program goes on from there.
   * @param {string} name
   * @param {{ tail?: number, presence?: boolean, resume?: boolean }} [options]
   */
  room(name, options = {}) {
    const normal = name.normalize("NFC");
    let room = this._rooms.get(normal);
    if (!room) {
      room = new Room(this, normal, options);
      this._rooms.set(normal, room);
      if (this.user) room._lane.disown(this.user.id);
      this._join([room]);
    }
    return room;
  }

  /** Begin, or begin again after it stopped. */
  connect() {
    if (this.status.state === "idle" || this.status.state === "stopped") this._connect();
  }

  /** End the waiting: try now. */
  retryNow() {
    if (this.status.state === "waiting") this._connect();
  }

  /** Say goodbye and stop; posts that wait stay in the queue. */
  close() {
    this.connection?.say({ type: "bye" });
    this._current?.close(1000);
    this._disconnected();
    this._stop(1000);
  }

  /**
   * What the surroundings noticed: the network is back (`online`) or gone (`offline`), somebody looks at the page (`visible`).
   * @param {"online" | "offline" | "visible"} what
   */
  hint(what) {
    if (what === "online") this._ways.changed();
    if (this.connection) this.connection.doubt();
    else if (what !== "offline") this.retryNow();
  }

  /**
   * The rooms that one may see, by name, at most 1,000: those that begin with `prefix`, behind the name `after`.
   * @param {{ prefix?: string, after?: string, limit?: number }} [which] @returns {Promise<RoomInfo[]>}
   */
  async rooms(which = {}) {
    return (await this.ask({ ...which, type: "rooms" })).rooms;
  }

  /** Make a room: a public one with a name (`room`), or a private one with a title; its name. @param {{ room?: string, access?: "public" | "private", title?: string, people?: string[] }} about @returns {Promise<string>} */
  async create(about) {
    return (await this.ask({ ...about, type: "create", key: unique() })).room;
  }

  /** The name of the conversation with these people, which is made if there is none. @param {string[]} people their ids @returns {Promise<string>} */
  async direct(people) {
    return (await this.ask({ type: "direct", people })).room;
  }

  /** Resolves when all posts are decided. */
  async flushed() {
    for (let { open } = this; open.length; { open } = this) await Promise.allSettled(open.map((post) => post.done));
  }

  /**
   * Ask something that changes nothing: again on the next connection if this one breaks, later if it was too much at once.
   * @param {Command} command
   * @returns {Promise<any>}
   */
  ask(command) {
    return new Promise((resolve, reject) => {
      const question = { command, resolve, reject };
      this._questions.push(question);
      if (this.connection) this._put(question);
      else if (this.status.state === "stopped") this._failQuestions();
    });
  }

  /** Say something that may get lost. @param {Command} command @param {(answer: any) => void} [answered] */
  tell(command, answered = () => {}) {
    this.connection?.ask([command], [answered]);
  }

  /** @param {Room} room @param {ChatError} [why] */
  forget(room, why = new ChatError("left", "the room was left")) {
    if (!this._rooms.delete(room.name)) return;
    if (room.joined) this.tell({ type: "leave", room: room.name });
    room.joined = false;
    room._lane.refuseAll(why);
  }

  /** A wait after so many failures in a row: anything up to twice the bound before, so that many clients spread. @param {number} failures */
  jitter(failures) {
    return this._random() * Math.min(LONGEST_WAIT, FIRST_WAIT * 2 ** Math.max(0, failures - 1));
  }

  /** @param {string} name @param {Storage | null} [storage] @returns {any} */
  load(name, storage = this.storage) {
    try {
      return JSON.parse(storage?.getItem(this._prefix + name) ?? "null");
    } catch {
      return null;
    }
  }

  /** @param {string} name @param {unknown} value null removes it @param {Storage | null} [storage] */
  save(name, value, storage = this.storage) {
    try {
      if (value === null) storage?.removeItem(this._prefix + name);
      else storage?.setItem(this._prefix + name, JSON.stringify(value));
    } catch (error) {
      report(error);
    }
  }

  // Connecting

  _connect() {
    this.clock.clearTimeout(this._timer);
    this._way = this._ways.first(this._attempt);
    this._setStatus({ state: "connecting", attempt: this._attempt });
    this._withToken(
      () => this.status.state === "connecting" && this._open(this._way),
      (error) => this.status.state === "connecting" && this._comeBack(1006, new ChatError("token", String(error), true)),
    );
  }

  /** Ask for the token, and then run. @param {() => void} run @param {(error: unknown) => void} failed */
  _withToken(run, failed) {
    /** @param {string | undefined} token */
    const found = (token) => {
      // In headers the token is seen before the session begins; one that does not fit there is said in the hello.
      const fits = token !== undefined && /^[\w.~+-]+$/.test(token);
      this._bearer = fits ? token : undefined;
      this._helloToken = fits ? undefined : token;
      run();
    };
    const token = typeof this.token === "function" ? this.token() : this.token;
    if (token instanceof Promise) token.then(found, failed);
    else found(token);
  }

  /** @param {Way} way */
  _open(way) {
    const socket = way === "http" ? this._httpSocket() : this._websocket();
    this._current = new Connection(this, socket, way, this._ways.within(way));
  }

  _httpSocket() {
    const { fetch } = this._ways;
    if (!fetch) throw new TypeError("fetch: there is no global one here; give one in the options");
    return new HttpSocket(sessionUrl(this.url), this._bearer, { fetch, clock: this.clock });
  }

  /** @returns {SocketLike} */
  _websocket() {
    const { Socket } = this._ways;
    if (!Socket) throw new TypeError("WebSocket: there is no global one here; give one in the options");
    return new Socket(this.url, this._bearer === undefined ? ["chat.v1.json"] : ["chat.v1.json", `bearer.${this._bearer}`]);
  }

  /** Go on by a WebSocket that is open; what is on the old way and not answered is asked again. @param {SocketLike} socket */
  _move(socket) {
    const before = this._current;
    this._disconnected();
    before?.say({ type: "bye" });
    before?.close(1000);
    this._way = "websocket";
    this._current = new Connection(this, socket, "websocket");
    this._current.greet();
  }

  /** @param {Connection} connection */
  _opened(connection) {
    const { _helloToken: token, name, device } = this;
    const hello = { type: "hello", token, name, device, capabilities: ["batch", "presence"] };
    connection.ask([hello], [(answer) => this._greeted(connection, answer)]);
  }

  /** @param {Connection} connection @param {any} answer */
  _greeted(connection, answer) {
    if (answer.type !== "welcome") {
      this._turnedAway(errorOf(answer));
      return;
    }
    /** @type {Welcome} */
    const welcome = answer;
    this.connection = connection;
    this.user = welcome.user;
    this.epoch = welcome.epoch;
    this.limits = welcome.limits;
    this.marks = welcome.read;
    this.bucket = new Bucket(welcome.limits.send, this.clock);
    this._welcomedAt = this.clock.now();
    this._askedForToken = false;
    connection.welcomed(welcome.ping_ms);
    for (const room of this._rooms.values()) room._lane.disown(welcome.user.id);
    this._join([...this._rooms.values()]);
    for (const question of [...this._questions]) this._put(question);
    this._ways.welcomed(connection.way);
    this._setStatus({ state: "online" });
    this.emit("welcome", welcome);
  }

  /** The server does not take the hello. @param {ChatError} error */
  _turnedAway(error) {
    this._current?.close(1000);
    this._disconnected();
    this._turned(1013, error);
  }

  /** @param {number} code @param {ChatError | null} error */
  _turned(code, error) {
    if (error?.code === "unauthenticated" || error?.code === "token_expired") this._newToken(4401, error);
    else if (!error || error.retry) this._comeBack(code, error ?? undefined, error?.retryAfterMs);
    else this._stop(1000, error);
  }

  /** @param {Connection} connection @param {number} code */
  _ended(connection, code) {
    if (connection !== this._current) return;
    this._disconnected();
    const { bye } = connection;
    if (this._ways.another(connection, code)) {
      this._way = "http";
      this._setStatus({ state: "connecting", attempt: this._attempt });
      this._open("http");
      return;
    }
    if (connection.refused) return this._turned(code, connection.refused);
    if (!connection.opened && this.diagnose && connection.way === "websocket") {
      const { status } = this;
      this.diagnose().then((error) => status === this.status && this._turned(code, error), report);
      return;
    }
    if (!bye) return this._act(closeClass(code), code);
    // The goodbye says more than the close code, and is there even if the close frame got lost.
    const error = new ChatError(bye.reason, bye.reason, bye.retry, bye.retry_after_ms);
    const byeClass = closeClass(bye.code) === "token" ? "token" : bye.retry ? "return" : "stop";
    this._act(byeClass, bye.code, error, bye.retry_after_ms);
  }

  /** @param {"return" | "stop" | "token"} what @param {number} code @param {ChatError} [error] @param {number} [after] */
  _act(what, code, error, after) {
    if (what === "token") this._newToken(code, error);
    else if (what === "stop") this._stop(code, error);
    else this._comeBack(code, error, after);
  }

  /** @param {number} code @param {ChatError} [error] */
  _newToken(code, error) {
    if (typeof this.token !== "function" || this._askedForToken) {
      this._stop(code, error);
      return;
    }
    this._askedForToken = true;
    this._connect();
  }

  /** @param {number} code @param {ChatError} [error] @param {number} [after] milliseconds that the server asked for */
  _comeBack(code, error, after = 0) {
    if (this._welcomedAt && this.clock.now() - this._welcomedAt >= STABLE_AFTER) this._attempt = 0;
    this._welcomedAt = 0;
    this._attempt += 1;
    const wait = after + this.jitter(this._attempt);
    this._timer = this.clock.setTimeout(() => this._connect(), wait);
    this._setStatus({ state: "waiting", code, error, attempt: this._attempt, retryAt: this.clock.now() + wait });
  }

  /** @param {number} code @param {ChatError} [error] */
  _stop(code, error) {
    this._attempt = 0;
    this._askedForToken = false;
    this._setStatus({ state: "stopped", code, error });
    this._failQuestions();
  }

  _disconnected() {
    this.clock.clearTimeout(this._timer);
    this._ways.lost();
    this._current = this.connection = null;
    for (const room of this._rooms.values()) room._lost();
  }

  /** @param {News} news */
  _setStatus(news) {
    const { blocked } = this._ways;
    this.status = { ...news, transport: this._way, reached: this.user !== null, ...(blocked && { blocked }) };
    this.emit("status", this.status);
  }

  // Connected

  /** @param {Room[]} rooms */
  _join(rooms) {
    const { connection, limits } = this;
    if (!connection) return;
    for (let start = 0; start < rooms.length; start += limits.rooms) {
      const some = rooms.slice(start, start + limits.rooms);
      connection.ask([{ type: "join", rooms: some.map((room) => room._wanted()) }], [(answer) => this._joined(some, answer)]);
    }
  }

  /** @param {Room[]} rooms @param {any} answer */
  _joined(rooms, answer) {
    for (const [place, room] of rooms.entries()) {
      const found = answer.type === "ok" ? answer.rooms[place] : { error: answer };
      if (found.error) this._notJoined(room, errorOf(found.error));
      else if (this._rooms.get(room.name) === room) room._found(found);
      else if (!this._rooms.has(room.name)) this.tell({ type: "leave", room: room.name });
    }
  }

  /** @param {Room} room @param {ChatError} error */
  _notJoined(room, error) {
    if (this._rooms.get(room.name) !== room) return;
    if (error.retry) {
      this._later(error, () => this._join([room]));
      return;
    }
    this._rooms.delete(room.name);
    room._lane.refuseAll(error);
    room.emit("failed", error);
  }

  /** @param {any} push */
  _pushed(push) {
    if (push.type === "room") this.emit("room", push);
    else this._rooms.get(push.room)?._pushed(push);
  }

  /** @param {Question} question */
  _put(question) {
    this.tell(question.command, (answer) => {
      const error = answer.type === "error" ? errorOf(answer) : null;
      if (error?.retry) {
        this._later(error, () => this._put(question));
        return;
      }
      this._questions.splice(this._questions.indexOf(question), 1);
      if (error) question.reject(error);
      else question.resolve(answer);
    });
  }

  /** Again when the server says, if it is still the same connection. @param {ChatError} error @param {() => void} run */
  _later(error, run) {
    const { connection } = this;
    this.clock.setTimeout(() => connection === this.connection && run(), error.retryAfterMs ?? ASK_AGAIN);
  }

  _failQuestions() {
    const error = new ChatError("stopped", "the client has stopped");
    for (const { reject } of this._questions.splice(0)) reject(error);
  }
}

/** The objects in a frame; what does not speak the protocol says nothing. @param {unknown} data @returns {any[]} */
function replies(data) {
  try {
    const frame = JSON.parse(String(data));
    return (Array.isArray(frame) ? frame : [frame]).filter((reply) => typeof reply === "object" && reply !== null);
  } catch {
    return [];
  }
}

/** @param {{ code: string, message: string, retry: boolean, retry_after_ms?: number }} answer */
function errorOf({ code, message, retry, retry_after_ms }) {
  return new ChatError(code, message, retry, retry_after_ms);
}
