// @ts-check
// A person's card: who it is, and what this user may do about them in the room.

import { untilText } from "./about.js";
import { dialog } from "./dialogs.js";
import { avatar, el } from "./dom.js";
import { wordsOf } from "./form.js";
import { say } from "./strings.js";

/** @typedef {import("../client.js").Author} Author */
/** @typedef {import("./room_state.js").RoomState} RoomState */
/** What the server knows of somebody in a room. @typedef {{ role?: string, muted?: number, banned?: number }} Standing */

/** From the lowest; nobody decides about somebody with a higher role. */
const ROLES = ["reader", "member", "moderator", "owner"];
/** A sanction until then has no end. */
const FOREVER = Number.MAX_SAFE_INTEGER;
/** Milliseconds, with the words for it. */
const DURATIONS = [600_000, 3_600_000, 86_400_000, 0];

/** @param {string} id */
export const isGuest = (id) => id.startsWith("g");

export class PersonCard {
  /** @param {(room: string) => void} go */
  constructor(go) {
    this.go = go;
    /** @type {RoomState | null} */
    this.state = null;
    /** @type {Author} */
    this.person = { id: "", name: "" };
    this.face = el("div", { class: "face" });
    this.standing = el("p", { class: "hint", role: "status" });
    this.deeds = el("div", { class: "deeds" });
    this.duration = el("select", { id: "person-duration" }, ...DURATIONS.map((ms, place) => el("option", { value: String(ms) }, say.durations[place])));
    this.reason = el("input", { type: "text", id: "person-reason", maxLength: 256, autocomplete: "off", dir: "auto" });
    this.order = el("div", { class: "deeds" });
    this.sanctions = el("fieldset", { class: "fields" }, el("legend", {}, say.keepOrder),
      el("div", { class: "field-box" }, el("label", { for: "person-duration" }, say.howLong), this.duration),
      el("div", { class: "field-box" }, el("label", { for: "person-reason" }, say.reason), this.reason), this.order);
    this.error = el("p", { class: "error", role: "alert" });
    this.node = dialog("person", say.person, el("div", { class: "fields" }, this.face, this.deeds, this.sanctions, this.error));
  }

  /** @param {RoomState} state @param {Author} person */
  open(state, person) {
    this.state = state;
    this.person = person;
    this.reason.value = this.error.textContent = "";
    this.face.replaceChildren(avatar(person.id, person.name), el("div", {}, el("bdi", { class: "name" }, person.name), this.standing));
    this._show({});
    if (!this.node.open) this.node.showModal();
    return this._refresh();
  }

  /** Ask what the person is here, and show it. */
  async _refresh() {
    const { state, person } = this;
    if (!state) return;
    /** @type {(type: string, more?: object) => Promise<any>} */
    const ask = (type, more = {}) => state.chat.ask({ type, room: state.name, ...more }).catch(() => ({}));
    const sees = state.can.has("sanction");
    const [{ members = [] }, { sanctions = [] }] = await Promise.all([ask("members", { search: person.name }), sees ? ask("sanctions") : { sanctions: [] }]);
    if (this.person !== person || this.state !== state) return;
    const find = (/** @type {any[]} */ all) => all.find(({ id }) => id === person.id) ?? {};
    const { muted, banned } = find(sanctions);
    this._show({ role: find(members).role, muted, banned });
  }

  /** @param {Standing} standing */
  _show({ role, muted, banned }) {
    const { state, person } = this;
    if (!state) return;
    const words = [role ? say.roles[role] : isGuest(person.id) ? say.guest : say.noRole, muted && say.mutedUntil(end(muted)), banned && say.bannedUntil(end(banned))];
    this.standing.textContent = words.filter(Boolean).join(", ");
    const focused = this.node.contains(document.activeElement) && document.activeElement?.textContent;
    this.deeds.replaceChildren(...this._talk(), ...this._roles(role));
    this.deeds.hidden = !this.deeds.childElementCount;
    this.sanctions.hidden = !state.can.has("sanction") || this._isMe || !this._decides(role);
    this.order.replaceChildren(...this._order(muted, banned));
    const again = focused ? [...this.node.querySelectorAll("button")].find(({ textContent }) => textContent === focused) : null;
    if (!this.node.contains(document.activeElement)) (again ?? this.node.querySelector("button"))?.focus();
  }

  get _isMe() {
    return this.person.id === this.state?.chat.user?.id;
  }

  /** Whether this user's role is not lower. @param {string} [role] the person's */
  _decides(role) {
    const own = this.state?.room.info?.role;
    return !own || own === "owner" || ROLES.indexOf(role ?? "") < ROLES.indexOf(own);
  }

  _talk() {
    const { user } = /** @type {RoomState} */ (this.state).chat;
    if (this._isMe || !user || user.guest || isGuest(this.person.id)) return [];
    return [this._button(say.writeTo, () => this._write(), "primary")];
  }

  /** @param {string} [role] */
  _roles(role) {
    const state = /** @type {RoomState} */ (this.state);
    const { info } = state.room;
    const give = (/** @type {string | null} */ given) => () => this._govern({ type: "member", person: this.person.id, role: given });
    if (this._isMe) return role && info?.access !== "direct" ? [this._button(say.endOwn, give(null), "danger")] : [];
    if (isGuest(this.person.id) || !state.can.has("members") || !this._decides(role)) return [];
    const own = info?.role ?? "owner";
    const given = ROLES.slice(0, ROLES.indexOf(own) + 1).filter((each) => each !== role).reverse();
    const buttons = given.map((each) => this._button(say.make(each), give(each)));
    return role ? [...buttons, this._button(say.endMember, give(null), "danger")] : buttons;
  }

  /** @param {number} [muted] @param {number} [banned] */
  _order(muted, banned) {
    const act = (/** @type {string} */ what) => () => this._sanction(what);
    const stop = (/** @type {string} */ what) => () => this._govern({ type: "sanction", person: this.person.id, what, on: false });
    return [
      muted ? this._button(say.unmutePerson, stop("mute")) : this._button(say.mutePerson, act("mute")),
      this._button(say.kick, act("kick")),
      banned ? this._button(say.unban, stop("ban")) : this._button(say.ban, act("ban"), "danger"),
    ];
  }

  /** @param {string} words @param {() => void} act @param {string} [kind] */
  _button(words, act, kind) {
    return el("button", { type: "button", class: kind, onclick: act }, words);
  }

  /** @param {string} what */
  _sanction(what) {
    const ms = what === "kick" ? 0 : Number(this.duration.value);
    const until = ms ? Math.round(Date.now() + (this.state?.skew ?? 0) + ms) : null;
    return this._govern({ type: "sanction", person: this.person.id, what, until, reason: this.reason.value.trim() });
  }

  /** @param {import("../client.js").Command} command */
  _govern(command) {
    return this._try(async () => {
      await this.state?.room.govern(command);
      if (command.role === null && this._isMe) this.node.close();
      await this._refresh();
    });
  }

  _write() {
    return this._try(async () => {
      const room = await this.state?.chat.direct([this.person.id]);
      this.node.close();
      if (room) this.go(room);
    });
  }

  /** @param {() => Promise<void>} act */
  async _try(act) {
    this.error.textContent = "";
    try {
      await act();
    } catch (error) {
      this.error.textContent = wordsOf(error).words;
    }
  }
}

/** @param {number} until */
const end = (until) => (until >= FOREVER ? "" : untilText(until));
