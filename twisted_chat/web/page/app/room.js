// @ts-check
// `<tc-room>`: one room, to read and to write in.  The page and the embedded element show the same.

import { ChatError } from "../client.js";
import { brief } from "./brief.js";
import { Composer } from "./composer.js";
import { el } from "./dom.js";
import { withEmoji } from "./emoji.js";
import { Log } from "./log.js";
import { Names } from "./names.js";
import { say, sayError } from "./strings.js";
import { charactersBeyond } from "./text.js";
import { Toolbar } from "./toolbar.js";

/** @typedef {import("../client.js").Post} Post */
/** @typedef {import("./row.js").Row} Row */
/** @typedef {import("./room_state.js").RoomState} RoomState */

/** Where drafts are kept. @typedef {{ getItem(name: string): string | null, setItem(name: string, value: string): void, removeItem(name: string): void }} Drafts */

/** Messages that were read aloud and still stand in the document. */
const SPOKEN = 5;

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
    /** A click at an author. @type {((person: import("../client.js").Author) => void) | null} */
    this.onperson = null;
    this.onread = () => {};
    this.onlink = (/** @type {number} */ _seq) => {};
    this.log = /** @type {Log} */ (document.createElement("tc-log"));
    this.composer = /** @type {Composer} */ (document.createElement("tc-composer"));
    this.typing = el("div", { class: "typing", role: "status" });
    this.toast = el("div", { class: "toast", role: "status" });
    this.empty = el("div", { class: "empty", hidden: true });
    /** Stands where the messages will be. */
    this.skeleton = el("div", { class: "skeleton", "aria-hidden": "true", hidden: true }, ...Array.from({ length: 6 }, () => el("div", {}, el("span", {}), el("span", {}))));
    /** Reads new messages of others aloud, once each. */
    this.spoken = el("div", { class: "unseen", role: "log", "aria-live": "polite", "aria-relevant": "additions" });
    this.toolbar = new Toolbar({
      may: (seq) => this._may(seq),
      act: (deed, seq) => this._act(deed, seq),
      react: (seq, emoji) => this._react(seq, emoji),
    });
    this.question = el("dialog", { class: "question", "aria-labelledby": "tc-question" });
    this._frame = 0;
    /** The message to go to when the first page is there; 0: none. */
    this._goal = 0;
    /** The room whose end is shown only until the message is there that it is opened for. @type {RoomState | null} */
    this._leaving = null;
    this._wire();
  }

  connectedCallback() {
    if (this.log.isConnected) return;
    this.append(el("div", { class: "room-log" }, this.skeleton, this.empty, this.log, this.toast, this.spoken), this.typing, this.composer, this.toolbar.picker, this.question);
  }

  /** Show this room. @param {RoomState} state @param {number} [seq] the message that {@link goTo} is asked for next */
  open(state, seq = 0) {
    if (this.state) this.state.draft = this.composer.draft;
    this.state = state;
    const text = this.drafts?.getItem(`draft:${state.name}`) ?? "";
    this.composer.draft = state.draft ?? { mode: { kind: "new" }, text, before: text };
    this.spoken.replaceChildren();
    this._goal = 0;
    this._leaving = seq ? state : null;
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
    const anew = this._anew && timeline.loaded;
    if (anew) state.unreadFrom = state.unread ? state.mark : -1;
    const rows = state.rows();
    this.log.show(rows, { before, anew });
    if (anew) this._opened(rows);
    this._showEmpty(state, rows);
    this.log.start.textContent = !rows.length ? "" : timeline.moreBefore ? say.loading : say.beginning(state.label);
    this.log.box.setAttribute("aria-label", say.messagesIn(state.label));
    this.composer.label(say.messageTo(state.label), state.mayNot);
    this.showTyping();
    this.seen();
  }

  /** What stands there instead of messages. @param {RoomState} state @param {Row[]} rows */
  _showEmpty(state, rows) {
    const { loaded } = state.timeline;
    const failed = !loaded && state.loadError;
    this.skeleton.hidden = loaded || rows.length > 0 || !!failed;
    this.empty.hidden = !failed && (!loaded || rows.length > 0);
    const [title, words] = failed ? [say.notLoaded(state.label), sayError(failed)] : [say.emptyTitle(state.label), say.emptyText];
    const looks = `${title}\n${words}`;
    if (this.empty.hidden || this.empty.dataset.looks === looks) return;
    this.empty.dataset.looks = looks;
    this.empty.replaceChildren(el("h2", {}, title), el("p", {}, words));
  }

  /** @param {Row[]} rows */
  _opened(rows) {
    const { state } = this;
    this._anew = false;
    this._midnight();
    if (this._goal) {
      const goal = this._goal;
      this._goal = 0;
      this._reveal(goal);
      return;
    }
    if (this._leaving) return;
    if (state && state.unread && !state.covered && state.timeline.live) {
      this._toUnread(state);
      return;
    }
    const unread = rows.find(({ firstUnread }) => firstUnread);
    if (unread) this.log.revealUnread(unread.key);
  }

  /** The first unread message is too far up to be among the loaded ones. @param {RoomState} state */
  async _toUnread(state) {
    // Until then the newest ones are shown, which nobody has read.
    this._leaving = state;
    await this.goTo(Math.max(state.mark, 1), { mark: false });
    // The person may have gone elsewhere meanwhile.
    if (this._leaving !== state) return;
    this._leaving = null;
    const unread = this.log.rows.find(({ firstUnread }) => firstUnread);
    if (unread) this.log.revealUnread(unread.key);
  }

  /** The days have other names after midnight. */
  _midnight() {
    clearTimeout(this._midnightTimer);
    const now = new Date(Date.now() + (this.state?.skew ?? 0));
    const next = new Date(now.getFullYear(), now.getMonth(), now.getDate() + 1);
    this._midnightTimer = setTimeout(() => {
      this.refresh();
      this._midnight();
    }, next.getTime() - now.getTime() + 1000);
  }

  /** Read a new message of somebody else aloud. @param {import("../client.js").ChatEvent} event */
  speak(event) {
    if (event.kind !== "message" || event.by.id === this.state?.chat.user?.id) return;
    this.spoken.append(el("p", {}, el("bdi", {}, event.by.name), ": ", brief(event.text ?? say.binary)));
    while (this.spoken.children.length > SPOKEN) this.spoken.firstElementChild?.remove();
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
    if (!state?.timeline.loaded || this._leaving === state || !this.log.atEnd || document.visibilityState !== "visible" || !document.hasFocus()) return;
    const last = state.timeline.items.at(-1)?.seq ?? 0;
    if (last <= state.mark) return;
    state.room.read(last);
    state.read(last);
    this.onread();
  }

  /** Go to a message. @param {number} seq @param {{ mark?: boolean }} [how] whether to mark it, or to only have it loaded */
  async goTo(seq, { mark = true } = {}) {
    const { state } = this;
    if (!state) return;
    if (!state.timeline.loaded) {
      // The first page that is loaded is the one around it.
      state.target = this._goal = seq;
      this._leaving = null;
      return;
    }
    try {
      await state.loadAround(seq);
    } catch (error) {
      if (this._leaving === state) this._leaving = null;
      if (error instanceof ChatError) this.tell(sayError(error));
      return;
    }
    if (this.state !== state) return;
    this._anew = false;
    this.log._following = false;
    this.refresh();
    if (!mark) return;
    this._reveal(seq);
    // Only now is what one sees what one came for.
    this._leaving = null;
    this.seen();
  }

  /** @param {number} seq */
  _reveal(seq) {
    this.log._following = false;
    const row = this.log.rows.find(({ event }) => event.seq === seq);
    if (!row || !this.log.reveal(row.key)) this.tell(say.errors.no_such_event);
  }

  /** A short notice over the log. @param {string} words @param {number} [ms] how long it stands */
  tell(words, ms = 5000) {
    this.toast.textContent = words;
    clearTimeout(this._toastTimer);
    this._toastTimer = setTimeout(() => (this.toast.textContent = ""), ms);
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
    const added = await state.load(end);
    if (this.state !== state) return;
    this.refresh(end === "before" ? added : 0);
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
    state.unreadFrom = -1;
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

  /** @param {HTMLElement} target in the row of a message by that person */
  _showPerson(target) {
    const seq = Number(/** @type {HTMLElement | null} */ (target.closest("li"))?.dataset.seq);
    const event = this.state?.timeline.get(seq);
    if (event) this.onperson?.(event.by);
  }

  /** @param {MouseEvent} event */
  _click(event) {
    const target = /** @type {HTMLElement} */ (event.target);
    const reaction = /** @type {HTMLElement | null} */ (target.closest(".reaction"));
    if (reaction) this._react(Number(reaction.dataset.of), reaction.dataset.emoji ?? "");
    if (this.onperson && target.closest(".author, .gutter .avatar")) this._showPerson(target);
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
