// @ts-check
// `<tc-room>`: one room, to read and to write in.  The page and the embedded element show the same.
//
// `RoomState` outlives the element's showing it: rooms that are not open are kept up to date, so that opening one is instant.

import { ChatError } from "../client.js";
import { Composer } from "./composer.js";
import { el } from "./dom.js";
import { withEmoji } from "./emoji.js";
import { Log } from "./log.js";
import { Names } from "./names.js";
import { dayName, dayOf } from "./row.js";
import { say, sayError } from "./strings.js";
import { charactersBeyond, mentions } from "./text.js";
import { Timeline } from "./timeline.js";
import { Toolbar } from "./toolbar.js";

/** @typedef {import("../client.js").ChatClient} ChatClient */
/** @typedef {import("../client.js").ChatEvent} ChatEvent */
/** @typedef {import("../client.js").Post} Post */
/** @typedef {import("./row.js").Row} Row */

/** Milliseconds.  Messages of one author so near to one another are one group. */
const GROUP = 5 * 60_000;
/** A sign of typing is forgotten after this; it is repeated every three seconds. */
const TYPING = 5_000;
/** Messages of one request for older ones: the most that the server gives. */
const PAGE = 200;
const FIRST_PAGE = 50;
/** Milliseconds until a refused page is asked for again, at least. */
const RETRY = 2_000;

/** What the page knows of a room. */
export class RoomState {
  /** @param {ChatClient} chat @param {string} name @param {(state: RoomState, what: "all" | "news" | "people" | "failed", event?: ChatEvent) => void} changed */
  constructor(chat, name, changed) {
    this.chat = chat;
    this.name = name;
    this.changed = changed;
    this.timeline = new Timeline();
    /** Refused posts that are still shown. @type {Map<string, Post>} */
    this.refused = new Map();
    /** Where the unread messages began when the room was opened. */
    this.unreadFrom = 0;
    /** How far the person has read; -1 until it is known. */
    this.mark = -1;
    this.unread = 0;
    this.called = false;
    /** Who is typing, until when. @type {Map<string, { name: string, until: number }>} */
    this.typing = new Map();
    /** @type {Map<string, string>} */
    this.names = new Map();
    /** @type {ChatError | null} */
    this.failure = null;
    /** Messages that came while an older stretch is shown. */
    this.missed = 0;
    /** @type {ChatEvent[] | null} */
    this._meanwhile = null;
    this.room = chat.room(name, { presence: true });
    this.room.on("joined", (joined) => this._joined(joined));
    this.room.on("event", (event) => this._event(event));
    this.room.on("read", (seq) => this.read(seq));
    this.room.on("typing", ({ id, name: who }) => {
      this.typing.set(id, { name: who, until: Date.now() + TYPING });
      this.changed(this, "people");
    });
    this.room.on("presence", ({ people }) => {
      for (const person of people?.values() ?? []) this.names.set(person.id, person.name);
      this.changed(this, "people");
    });
    this.room.on("failed", (error) => {
      this.failure = error;
      this.changed(this, "failed");
    });
  }

  get can() {
    return new Set(this.room.info?.can ?? []);
  }

  get topic() {
    return this.room.info?.topic ?? "";
  }

  /** The newest number that is known. */
  get head() {
    return Math.max(this.room.info?.head ?? 0, this.room.cursor?.seq ?? 0);
  }

  /** @param {import("../client.js").Joined} joined */
  _joined({ resumed, head }) {
    if (this.mark < 0) this.mark = Math.min(this.chat.marks[this.name] ?? head, head);
    if (!resumed) this.reload();
    else this.changed(this, "all");
  }

  /** Fetch the newest page, and take in what comes meanwhile. */
  async reload() {
    const mine = (this._meanwhile = /** @type {ChatEvent[]} */ ([]));
    try {
      const page = await this.room.history({ limit: FIRST_PAGE });
      if (this._meanwhile !== mine) return;
      this._meanwhile = null;
      this.missed = 0;
      this.timeline.reset(page);
      for (const event of [...page.events, ...mine]) this.names.set(event.by.id, event.by.name);
      for (const event of mine) this.timeline.apply(event);
      this._count();
      this.changed(this, "all");
    } catch (error) {
      if (this._meanwhile === mine) this._meanwhile = null;
      this._oops(error);
      this._reloadLater(/** @type {ChatError} */ (error));
    }
  }

  /** The newest page was refused: ask again after a while, unless a new connection does so before. @param {ChatError} error */
  _reloadLater(error) {
    clearTimeout(this._retryTimer);
    if (!error.retry) return;
    this._retryTimer = setTimeout(() => {
      if (!this.timeline.loaded && !this._meanwhile && this.room.joined) this.reload();
    }, Math.max(RETRY, error.retryAfterMs ?? 0));
  }

  /** @param {ChatEvent} event */
  _event(event) {
    this.names.set(event.by.id, event.by.name);
    this.typing.delete(event.by.id);
    if (this._meanwhile) {
      this._meanwhile.push(event);
      return;
    }
    const what = this.timeline.apply(event);
    if (what === "nothing") return;
    if (what === "missed") this.missed += 1;
    if (event.kind === "message" && what !== "amended") this._news(event);
    this.changed(this, what === "amended" ? "all" : "news", event);
  }

  /** @param {ChatEvent} event */
  _news(event) {
    if (event.by.id === this.chat.user?.id || event.seq <= this.mark) return;
    this.unread += 1;
    this.called ||= this.calls(event);
  }

  /** Whether the message calls this person. @param {ChatEvent} event */
  calls({ text, by }) {
    const { user } = this.chat;
    return !!text && !!user && by.id !== user.id && mentions(text, user.name, new Names(this.names.values(), user.name));
  }

  _count() {
    const news = this.timeline.items.filter((event) => event.kind === "message" && event.seq > this.mark && event.by.id !== this.chat.user?.id);
    this.unread = news.length;
    this.called = news.some((event) => this.calls(event));
  }

  /** Everything up to there is read, here or elsewhere. @param {number} seq */
  read(seq) {
    if (this.mark < 0 || seq <= this.mark) return;
    this.mark = seq;
    this._count();
    this.changed(this, "people");
  }

  /** Load what is next at one end.  Answers how many rows came there; 0: nothing changed, so asking again at once is no use.
   * @param {"before" | "after"} end @returns {Promise<number>} */
  async load(end) {
    const { items } = this.timeline;
    if (this._loading || !items.length) return 0;
    this._loading = true;
    try {
      if (end === "before") {
        const page = await this.room.history({ before: items[0].seq, limit: PAGE });
        return this.timeline.items === items ? this.timeline.prepend(page) : 0;
      }
      const page = await this.room.history({ after: items[items.length - 1].seq, limit: PAGE });
      const added = this.timeline.items === items ? this.timeline.append(page) : 0;
      if (this.timeline.live) this.missed = 0;
      return added;
    } catch (error) {
      this._oops(error);
      return 0;
    } finally {
      this._loading = false;
    }
  }

  /** See to it that the message is among the loaded ones. @param {number} seq */
  async loadAround(seq) {
    if (this.timeline.get(seq)) return;
    const page = await this.room.history({ around: seq, limit: PAGE });
    this.timeline.reset(page);
  }

  /** @param {unknown} error */
  _oops(error) {
    if (!(error instanceof ChatError)) throw error;
  }

  /** @param {Post} post */
  posted(post) {
    if (post.command.type !== "send") return;
    if (post.state === "refused" && post.error?.code !== "cancelled" && post.error?.code !== "left") this.refused.set(post.key, post);
    else this.refused.delete(post.key);
  }

  /** What the log shows: kept messages, then those that are not. @param {number} now @returns {Row[]} */
  rows(now) {
    /** @type {Row[]} */
    const rows = [];
    /** @type {ChatEvent | null} */
    let above = null;
    const me = this.chat.user;
    const add = (/** @type {ChatEvent} */ event, /** @type {Post | null} */ post) => {
      const newDay = !above || dayOf(above.at) !== dayOf(event.at);
      const firstUnread = !post && event.seq > this.unreadFrom && this.unreadFrom > 0 && (!above || above.seq <= this.unreadFrom) && event.by.id !== me?.id;
      const grouped = !!above && !newDay && !firstUnread && above.kind === "message" && event.kind === "message" && above.by.id === event.by.id && !event.reply_to && event.at - above.at < GROUP && above.by.name === event.by.name;
      const own = event.by.id === me?.id;
      // A kept message that was pending in this window keeps its row: the echo takes its place.
      const key = event.key !== undefined && own ? `k:${event.key}` : `s:${event.seq}`;
      rows.push({ key, event, post, grouped, day: newDay ? dayName(event.at, now) : "", firstUnread, repliedTo: event.reply_to ? this.timeline.get(event.reply_to) : undefined });
      above = event;
    };
    for (const event of this.timeline.items) add(event, null);
    if (!this.timeline.live) return rows;
    const shown = new Set(this.timeline.items.slice(-200).map(({ key }) => key));
    for (const post of [...this.refused.values(), ...this.room.posts]) {
      if (post.command.type !== "send" || post.state === "kept" || shown.has(post.key)) continue;
      const by = me ?? { id: "", name: this.chat.name ?? "" };
      add({ seq: 0, id: "", kind: "message", at: now, by, key: post.key, text: post.command.text, reply_to: post.command.reply_to }, post);
    }
    return rows;
  }

  /** The last message of this person that can be edited. */
  ownLast() {
    return this.timeline.items.findLast((event) => event.kind === "message" && event.by.id === this.chat.user?.id && !event.gone && event.text !== undefined);
  }
}

/** Where drafts are kept. @typedef {{ getItem(name: string): string | null, setItem(name: string, value: string): void, removeItem(name: string): void }} Drafts */

export class RoomView extends HTMLElement {
  constructor() {
    super();
    /** @type {RoomState | null} */
    this.state = null;
    /** @type {Drafts | null} */
    this.drafts = null;
    /** The address of a message. @param {number} seq @returns {string} */
    this.href = (seq) => `#${seq}`;
    /** Does `/word rest`; whether there is such a command. @param {string} _word @param {string} _rest */
    this.oncommand = (_word, _rest) => false;
    this.onread = () => {};
    this.onlink = (/** @type {number} */ _seq) => {};
    this.log = /** @type {Log} */ (document.createElement("tc-log"));
    this.composer = /** @type {Composer} */ (document.createElement("tc-composer"));
    this.typing = el("div", { class: "typing", role: "status" });
    this.toast = el("div", { class: "toast", role: "status" });
    this.empty = el("div", { class: "empty", hidden: true });
    this.toolbar = new Toolbar({
      may: (seq) => this._may(seq),
      act: (deed, seq) => this._act(deed, seq),
      react: (seq, emoji) => this._react(seq, emoji),
    });
    this.question = el("dialog", { class: "question", "aria-labelledby": "tc-question" });
    this._frame = 0;
    this._wire();
  }

  connectedCallback() {
    if (this.log.isConnected) return;
    this.append(el("div", { class: "room-log" }, this.empty, this.log, this.toast), this.typing, this.composer, this.toolbar.picker, this.question);
  }

  /** Show this room. @param {RoomState} state */
  open(state) {
    this.state = state;
    this.log.box.removeAttribute("aria-busy");
    this.composer.cancel();
    this.composer.text = this.drafts?.getItem(`draft:${state.name}`) ?? "";
    state.unreadFrom = state.unread ? state.mark : 0;
    this.log.box.setAttribute("aria-label", say.messagesIn(state.name));
    this._anew = true;
    this.refresh();
  }

  /** Show what changed, with the next frame. */
  changed() {
    this._frame ||= requestAnimationFrame(() => {
      this._frame = 0;
      this.refresh();
    });
  }

  /** @param {number} [before] rows that came in front */
  refresh(before = 0) {
    const { state } = this;
    if (!state) return;
    const { timeline, chat } = state;
    this.log.context = { me: chat.user, nameOf: (id) => state.names.get(id), names: new Names(state.names.values(), chat.user?.name), href: this.href };
    // A room of which nothing is loaded yet has no newer messages to ask for.
    this.log.live = timeline.live || !timeline.loaded;
    this.log.moreBefore = timeline.moreBefore;
    const rows = state.rows(Date.now());
    const anew = this._anew && timeline.loaded;
    this.log.show(rows, { before, anew });
    if (anew) this._opened(rows);
    this.empty.hidden = !timeline.loaded || rows.length > 0;
    if (!this.empty.hidden && this.empty.dataset.room !== state.name) {
      this.empty.dataset.room = state.name;
      this.empty.replaceChildren(el("h2", {}, say.emptyTitle(state.name)), el("p", {}, say.emptyText));
    }
    this.log.start.textContent = !rows.length ? "" : timeline.moreBefore ? say.loading : say.beginning(state.name);
    const may = !state.room.info || state.can.has("send");
    this.composer.label(say.messageTo(state.name), may);
    this.showTyping();
    this.seen();
  }

  /** @param {Row[]} rows */
  _opened(rows) {
    this._anew = false;
    const unread = rows.find(({ firstUnread }) => firstUnread);
    if (unread) this.log.revealUnread(unread.key);
  }

  showTyping() {
    const { state } = this;
    clearTimeout(this._typingTimer);
    if (!state) return;
    const now = Date.now();
    for (const [id, { until }] of state.typing) if (until <= now) state.typing.delete(id);
    const names = [...state.typing.values()].map(({ name }) => name);
    const words = names.length ? say.typing(names) : "";
    if (this.typing.textContent !== words) this.typing.textContent = words;
    if (names.length) this._typingTimer = setTimeout(() => this.showTyping(), 1000);
  }

  /** If the person sees the end of the log, it is read. */
  seen() {
    const { state } = this;
    if (!state?.timeline.loaded || !this.log.atEnd || document.visibilityState !== "visible" || !document.hasFocus()) return;
    const last = state.timeline.items.at(-1)?.seq ?? 0;
    if (last <= state.mark) return;
    state.room.read(last);
    state.read(last);
    this.onread();
  }

  /** Go to a message. @param {number} seq */
  async goTo(seq) {
    const { state } = this;
    if (!state) return;
    this.log.box.setAttribute("aria-busy", "true");
    try {
      await state.loadAround(seq);
    } catch (error) {
      if (error instanceof ChatError) this.tell(sayError(error));
      return;
    } finally {
      this.log.box.removeAttribute("aria-busy");
    }
    if (this.state !== state) return;
    this._anew = false;
    this.log._following = false;
    this.refresh();
    const row = this.log.rows.find(({ event }) => event.seq === seq);
    if (!row || !this.log.reveal(row.key)) this.tell(say.errors.no_such_event);
  }

  /** A short notice over the log. @param {string} words */
  tell(words) {
    this.toast.textContent = words;
    clearTimeout(this._toastTimer);
    this._toastTimer = setTimeout(() => (this.toast.textContent = ""), 5000);
  }

  /** A post that is no message failed. @param {Post} post */
  failed(post) {
    if (post.command.type !== "send" && post.error && post.error.code !== "left") this.tell(sayError(post.error));
  }

  _wire() {
    const { log, composer } = this;
    log.onnear = (end) => this._load(end);
    log.onseen = () => this.seen();
    log.onnewest = () => this.toNewest();
    composer.onsay = (text) => this._say(text);
    composer.ondraft = (text) => this._keepDraft(text);
    composer.ontyping = () => this.state?.room.typing();
    composer.onescape = () => this.toNewest();
    composer.oneditlast = () => {
      const last = this.state?.ownLast();
      if (last && this.state?.can.has("edit")) composer.edit(last);
    };
    composer.people = () => this._people();
    log.list.addEventListener("pointerover", ({ target }) => this._point(target));
    log.list.addEventListener("focusin", ({ target }) => this._point(target));
    log.list.addEventListener("pointerleave", () => this._point(this._focusedRow()));
    log.list.addEventListener("click", (event) => this._click(event));
  }

  _focusedRow() {
    return this.log.list.querySelector("li:focus-within");
  }

  /** @param {EventTarget | null} target */
  _point(target) {
    const row = target instanceof Element ? /** @type {HTMLElement | null} */ (target.closest("li")) : null;
    this.toolbar.moveTo(row);
  }

  /** @param {"before" | "after"} end */
  async _load(end) {
    const { state } = this;
    if (!state || state._loading) return;
    // Older messages are not news: they are not to be read aloud.
    this.log.box.setAttribute("aria-busy", "true");
    const added = await state.load(end);
    if (this.state !== state) return;
    this.refresh(end === "before" ? added : 0);
    this.log.box.removeAttribute("aria-busy");
    // Only what has changed is worth another look: asking again for what was refused, or is not there, would never end.
    if (added) this.log.look();
  }

  async toNewest() {
    const { state } = this;
    if (!state) return;
    if (!state.timeline.live) {
      this._anew = true;
      await state.reload();
    }
    this.log.toEnd();
    this.seen();
    this.composer.focusText();
  }

  /** @param {string} raw */
  _say(raw) {
    const { state, composer } = this;
    if (!state) return;
    const written = raw.trimEnd();
    const limit = state.chat.limits.text;
    // What is pasted may have any length: nothing else is done with what is too long.
    const text = charactersBeyond(written, limit) ? written : withEmoji(written);
    const beyond = charactersBeyond(text, limit);
    if (beyond) {
      this.tell(say.tooLong(beyond));
      return;
    }
    const command = composer.mode.kind === "new" && /^\/(\w+)(?:\s+([^]*))?$/.exec(text);
    if (command) {
      if (!this._command(command[1], command[2]?.trim() ?? "")) this.tell(say.unknownCommand(`/${command[1]}`));
      return;
    }
    try {
      this._post(state, text.replace(/^ (?=\/)/, ""));
    } catch (error) {
      if (!(error instanceof ChatError)) throw error;
      this.tell(sayError(error));
    }
  }

  /** @param {RoomState} state @param {string} text */
  _post(state, text) {
    const { composer } = this;
    const { mode } = composer;
    if (mode.kind === "edit") {
      const now = state.timeline.get(mode.event.seq) ?? mode.event;
      if (text !== now.text) state.room.edit(now.seq, now.revision ?? 1, text);
      composer.cancel();
      return;
    }
    state.room.send(text, mode.kind === "reply" ? { replyTo: mode.event.seq } : {});
    composer.cancel();
    composer.text = "";
    this._keepDraft("");
    state.unreadFrom = 0;
    if (!state.timeline.live) this.toNewest();
    else {
      this.refresh();
      this.log.toEnd();
    }
  }

  /** @param {string} word @param {string} rest */
  _command(word, rest) {
    const { state, composer } = this;
    const done = () => {
      composer.text = "";
      this._keepDraft("");
      return true;
    };
    if (word === "shrug") {
      state?.room.send(`${rest} ¯\\_(ツ)_/¯`.trim());
      return done();
    }
    if (word === "topic") {
      state?.room.setTopic(rest);
      return done();
    }
    return this.oncommand(word, rest) && done();
  }

  /** @param {string} text */
  _keepDraft(text) {
    const name = `draft:${this.state?.name}`;
    if (text) this.drafts?.setItem(name, text);
    else this.drafts?.removeItem(name);
  }

  /** Names that may be called: who is here, then who wrote. */
  _people() {
    const { state } = this;
    if (!state) return [];
    const present = [...(state.room.present.people?.values() ?? [])].map(({ name }) => name);
    const wrote = state.timeline.items.slice(-200).map(({ by }) => by.name);
    return [...new Set([...present, ...wrote.reverse()])].filter((name) => name !== state.chat.user?.name);
  }

  /** @param {number} seq */
  _may(seq) {
    const { state } = this;
    const event = state?.timeline.get(seq);
    if (!state || event?.kind !== "message" || event.gone) return new Set();
    const may = new Set(["link"]);
    const { can } = state;
    const own = event.by.id === state.chat.user?.id;
    if (can.has("send")) may.add("reply");
    if (can.has("react")) may.add("react");
    if (can.has("edit") && own && event.text !== undefined) may.add("edit");
    if ((can.has("delete") && own) || can.has("moderate")) may.add("delete");
    return may;
  }

  /** @param {import("./toolbar.js").Deed} deed @param {number} seq */
  _act(deed, seq) {
    const { state } = this;
    const event = state?.timeline.get(seq);
    if (!state || !event) return;
    if (deed === "reply") this.composer.reply(event);
    else if (deed === "edit") this.composer.edit(event);
    else if (deed === "link") this.onlink(seq);
    else this._ask(say.deleteQuestion, say.delete, () => state.room.delete(seq));
  }

  /** @param {number} seq @param {string} emoji */
  _react(seq, emoji) {
    const { state } = this;
    const event = state?.timeline.get(seq);
    const me = state?.chat.user;
    if (!state || !event || !me) return;
    const on = !event.reactions?.some((reaction) => reaction.emoji === emoji && reaction.by.includes(me.id));
    state.room.react(seq, emoji, on);
  }

  /** @param {string} words @param {string} yes @param {() => void} act */
  _ask(words, yes, act) {
    const close = () => this.question.close();
    const does = () => {
      close();
      act();
    };
    this.question.replaceChildren(
      el("p", { id: "tc-question" }, words),
      el("div", { class: "buttons" }, el("button", { type: "button", onclick: close }, say.cancel), el("button", { type: "button", class: "danger", onclick: does }, yes)),
    );
    this.question.showModal();
  }

  /** @param {MouseEvent} event */
  _click(event) {
    const target = /** @type {HTMLElement} */ (event.target);
    const reaction = /** @type {HTMLElement | null} */ (target.closest(".reaction"));
    if (reaction) this._react(Number(reaction.dataset.of), reaction.dataset.emoji ?? "");
    const deed = /** @type {HTMLElement | null} */ (target.closest("[data-do]"))?.dataset.do;
    if (!deed || !this.state) return;
    const key = /** @type {HTMLElement | null} */ (target.closest("li"))?.dataset.key?.slice(2) ?? "";
    const post = this.state.refused.get(key);
    this.state.refused.delete(key);
    if (deed === "retry" && post) post.again();
    this.changed();
  }
}

customElements.define("tc-room", RoomView);
