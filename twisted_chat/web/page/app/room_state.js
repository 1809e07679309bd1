// @ts-check
// What the page knows of one room: its messages, its unread ones, who is there.  No DOM.
//
// It outlives the element's showing it: rooms that are not open are kept up to date, so that opening one is instant.

import { ChatError } from "../client.js";
import { roomLabel, untilText } from "./about.js";
import { brief } from "./brief.js";
import { Names } from "./names.js";
import { dayName, dayOf } from "./row.js";
import { say } from "./strings.js";
import { mentions } from "./text.js";
import { Timeline } from "./timeline.js";

/** @typedef {import("../client.js").ChatClient} ChatClient */
/** @typedef {import("../client.js").ChatEvent} ChatEvent */
/** @typedef {import("../client.js").Post} Post */
/** @typedef {import("./row.js").Row} Row */

/** Milliseconds.  Messages of one author so near to one another are one group. */
const GROUP = 5 * 60_000;
/** A sign of typing is forgotten after this; it is repeated every three seconds. */
const TYPING = 5_000;
/** Messages of one request for older ones: the most that the server gives. */
export const PAGE = 200;
const FIRST_PAGE = 50;
/** Milliseconds until a refused page is asked for again, at least. */
const RETRY = 2_000;

/** What the page knows of a room. */
export class RoomState {
  /** @param {ChatClient} chat @param {string} name @param {(state: RoomState, what: "all" | "news" | "people" | "failed" | "removed", event?: ChatEvent) => void} changed */
  constructor(chat, name, changed) {
    this.chat = chat;
    this.name = name;
    this.changed = changed;
    this.timeline = new Timeline();
    /** Refused posts that are still shown. @type {Map<string, Post>} */
    this.refused = new Map();
    /** How far the person had read when the room was opened, if there were unread messages; -1: there were none. */
    this.unreadFrom = -1;
    /** How far the person has read; -1 until it is known. */
    this.mark = -1;
    this.unread = 0;
    this.called = false;
    /** Who is typing, until when. @type {Map<string, { name: string, until: number }>} */
    this.typing = new Map();
    /** @type {Map<string, string>} */
    this.names = new Map();
    /** What the server said of the room before it was joined. @type {import("../client.js").About | null} */
    this.about = null;
    /** That this person was muted while the page was open. @type {ChatEvent | null} */
    this.muted = null;
    /** Why it cannot be joined, or had to be left. @type {ChatError | null} */
    this.failure = null;
    /** Why the first page could not be loaded; it is asked for again. @type {ChatError | null} */
    this.loadError = null;
    /** Messages that came while an older stretch is shown. */
    this.missed = 0;
    /** The message to begin with, instead of the newest ones; 0: none. */
    this.target = 0;
    /** What is being written there while another room is open. @type {import("./composer.js").Draft | null} */
    this.draft = null;
    /** Which log the read mark is of. */
    this._epoch = "";
    /** The server's clock less this machine's, as far as it is known: milliseconds. */
    this.skew = 0;
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
    this.room.on("rights", () => this.changed(this, "all"));
    this.room.on("failed", (error) => {
      this.failure = error;
      this.changed(this, "failed");
    });
    this.room.on("removed", (error) => {
      this.failure = error;
      this.changed(this, "removed");
    });
  }

  get can() {
    return new Set(this.room.info?.can ?? []);
  }

  /** What the room is shown as. */
  get label() {
    return roomLabel(this.name, this.room.info ?? this.about, this.chat.user?.id);
  }

  /** Why this person may not write here; nothing: they may. */
  get mayNot() {
    const { info } = this.room;
    if (this.failure) return say.mayNot.removed;
    if (!info || this.can.has("send")) return "";
    if (info.archived) return say.mayNot.archived;
    if (this.muted) return say.youAreMuted(this.muted.until ? untilText(this.muted.until) : "", this.muted.reason ?? "");
    return info.role === "reader" ? say.mayNot.reader : say.errors.muted;
  }

  get topic() {
    return this.room.info?.topic ?? "";
  }

  /** The newest message in one line, with its author. */
  get lastLine() {
    const last = this.timeline.live ? this.timeline.items.findLast(({ kind, gone }) => kind === "message" && !gone) : undefined;
    return last ? `${last.by.name}: ${brief(last.text ?? say.binary)}` : "";
  }

  /** The newest number that is known. */
  get head() {
    return Math.max(this.room.info?.head ?? 0, this.room.cursor?.seq ?? 0);
  }

  /** @param {import("../client.js").Joined} joined */
  _joined({ resumed, head }) {
    // A new database counts from 1 again: what was read of the old one says nothing.
    const epoch = this.room.info?.epoch ?? "";
    if (this.mark < 0 || epoch !== this._epoch) {
      this._epoch = epoch;
      this._findMark(head);
    }
    if (!resumed) this.reload();
    else this.changed(this, "all");
  }

  /** How far the user had read: as the server knows, or this browser; on a first visit everything is read. @param {number} head */
  _findMark(head) {
    const kept = this.chat.load(`mark:${this.name}`);
    const marks = [this.chat.marks[this.name], kept?.epoch === this._epoch ? kept.seq : undefined].filter((mark) => mark !== undefined);
    this.mark = Math.min(head, marks.length ? Math.max(...marks) : head);
    this._keepMark();
    if (!marks.length) this.room.read(this.mark);
  }

  _keepMark() {
    this.chat.save(`mark:${this.name}`, { epoch: this._epoch, seq: this.mark });
  }

  /** Fetch the newest page, or the one around the target, and take in what comes meanwhile. */
  async reload() {
    const { target } = this;
    this.target = 0;
    try {
      await this._begin(target ? { around: target, limit: PAGE } : { limit: FIRST_PAGE });
      // Unread messages that are not on the page are counted, too.
      if (!this.covered && this.timeline.live) await this.load("before");
    } catch (error) {
      this._oops(error);
      this.loadError = /** @type {ChatError} */ (error);
      this.changed(this, "all");
      this._reloadLater(this.loadError);
    }
  }

  /** Begin anew with a page; a later call, or a lost connection, takes its place. @param {Parameters<import("../client.js").Room["history"]>[0]} place */
  async _begin(place) {
    const mine = (this._meanwhile = /** @type {ChatEvent[]} */ ([]));
    try {
      const page = await this.room.history(place);
      if (this._meanwhile !== mine) return;
      this._meanwhile = null;
      this.missed = 0;
      this.loadError = null;
      this.timeline.reset(page);
      for (const event of [...page.events, ...mine]) this.names.set(event.by.id, event.by.name);
      for (const event of mine) this.timeline.apply(event);
      this._count();
      this.changed(this, "all");
    } catch (error) {
      if (this._meanwhile === mine) {
        this._meanwhile = null;
        for (const event of mine) this._event(event);
      }
      throw error;
    }
  }

  /** Whether every unread message is among the loaded ones. */
  get covered() {
    const { items, moreBefore, live } = this.timeline;
    return live && (!moreBefore || !items.length || items[0].seq <= this.mark + 1);
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
    if (event.person) this._governed(event);
    if (this._meanwhile) {
      this._meanwhile.push(event);
      return;
    }
    const what = this.timeline.apply(event);
    if (what === "nothing") return;
    if (what === "missed") this.missed += 1;
    // Only what is said now tells what time it is at the server.
    if (event.seq > (this.room.info?.head ?? Infinity)) this.skew = event.at - Date.now();
    if (event.kind === "message" && what !== "amended") this._news(event);
    this.changed(this, what === "amended" ? "all" : "news", event);
  }

  /** Somebody was given a role, or muted. @param {ChatEvent} event */
  _governed(event) {
    const { person, kind, what, on } = event;
    if (!person) return;
    this.names.set(person.id, person.name);
    if (kind === "sanction" && what === "mute" && person.id === this.chat.user?.id) this.muted = on === false ? null : event;
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
    // Of a long absence only the end is loaded: the numbers say how much there is at most.
    this.unread = this.covered ? news.length : Math.max(news.length, this.head - Math.max(this.mark, 0));
    this.called = news.some((event) => this.calls(event));
  }

  /** Everything up to there is read, here or elsewhere. @param {number} seq */
  read(seq) {
    if (this.mark < 0 || seq <= this.mark) return;
    this.mark = seq;
    this._keepMark();
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
        const added = this.timeline.items === items ? this.timeline.prepend(page) : 0;
        this._count();
        return added;
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
    if (!this.timeline.get(seq)) await this._begin({ around: seq, limit: PAGE });
  }

  /** @param {unknown} error */
  _oops(error) {
    if (!(error instanceof ChatError)) throw error;
  }

  /** Leave the room, and forget what was kept of it. */
  leave() {
    this.room.leave();
    this.chat.save(`mark:${this.name}`, null);
  }

  /** @param {Post} post */
  posted(post) {
    if (post.command.type !== "send") return;
    if (post.state === "refused" && post.error?.code !== "cancelled" && post.error?.code !== "left") this.refused.set(post.key, post);
    else this.refused.delete(post.key);
  }

  /** What the log shows: kept messages, then those that are not. @param {number} [now] the server's time @returns {Row[]} */
  rows(now = Date.now() + this.skew) {
    /** @type {Row[]} */
    const rows = [];
    /** @type {ChatEvent | null} */
    let above = null;
    const me = this.chat.user;
    // Where it stands is known only if what comes before it is loaded.
    let marked = this.timeline.moreBefore && this.timeline.items[0]?.seq > this.unreadFrom + 1;
    const add = (/** @type {ChatEvent} */ event, /** @type {Post | null} */ post) => {
      const newDay = !above || dayOf(above.at) !== dayOf(event.at);
      const firstUnread = !post && !marked && this.unreadFrom >= 0 && event.seq > this.unreadFrom && event.by.id !== me?.id;
      marked ||= firstUnread;
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
