// @ts-check
// Making a room, public or private, with people; and changing one, for its owners.

import { el } from "./dom.js";
import { Form } from "./form.js";
import { isGuest } from "./person.js";
import { say } from "./strings.js";

/** @typedef {import("../client.js").ChatClient} ChatClient */
/** @typedef {import("../client.js").Author} Author */

export class NewRoom {
  /** @param {(room: string) => void} go */
  constructor(go) {
    this.go = go;
    /** @type {ChatClient | null} */
    this.chat = null;
    this.public = this._choice("public");
    this.private = this._choice("private");
    this.people = el("fieldset", { class: "people" });
    const access = el("fieldset", {}, el("legend", {}, say.whoSees), ...[this.public, this.private].map((input) => el("label", { class: "choice" }, input, say.access[input.value])));
    this.form = new Form("new-room", say.newRoom, [
      { name: "room", label: say.roomName, maxLength: 64, spellcheck: false },
      { name: "title", label: say.roomTitle, maxLength: 64 },
    ], [this.people]);
    this.form.label(say.newRoom, say.makeRoom);
    this.form.form.prepend(access);
    this.form.onsubmit = () => this._submit();
    this.node = this.form.node;
  }

  /** @param {string} value */
  _choice(value) {
    return el("input", { type: "radio", name: "access", value, onchange: () => this._show() });
  }

  /** @param {ChatClient} chat @param {Iterable<Author>} people who may be asked in */
  open(chat, people) {
    this.chat = chat;
    this.public.checked = true;
    const others = [...people].filter(({ id }) => id !== chat.user?.id && !isGuest(id)).sort((a, b) => a.name.localeCompare(b.name));
    const choices = others.map(({ id, name }) => el("label", { class: "choice" }, el("input", { type: "checkbox", value: id }), el("bdi", {}, name)));
    this.people.replaceChildren(el("legend", {}, say.withPeople), ...choices);
    this.people.hidden = !others.length;
    this._show();
    this.form.open();
  }

  _show() {
    const isPublic = this.public.checked;
    for (const [name, { box }] of this.form.fields) box.hidden = (name === "room") !== isPublic;
  }

  async _submit() {
    const people = [.../** @type {NodeListOf<HTMLInputElement>} */ (this.people.querySelectorAll("input:checked"))].map(({ value }) => value);
    const name = this.public.checked ? "room" : "title";
    const value = this.form.value(name).trim();
    if (!value) throw { code: "bad_request", message: `${name}: ${say.missing}` };
    const about = name === "room" ? { room: value.normalize("NFC") } : { access: /** @type {const} */ ("private"), title: value };
    const room = await this.chat?.create({ ...about, people });
    if (room) this.go(room);
  }
}

/** Title and archive of a room; for its owners. */
export class RoomSettings {
  constructor() {
    /** @type {import("./room_state.js").RoomState | null} */
    this.state = null;
    this.archived = el("input", { type: "checkbox" });
    this.form = new Form("room-settings", say.roomSettings, [{ name: "title", label: say.roomTitle, maxLength: 64 }],
      [el("label", { class: "choice" }, this.archived, say.closeForWriting)]);
    this.form.label(say.roomSettings, say.save);
    this.form.onsubmit = () => this._submit();
    this.node = this.form.node;
  }

  /** @param {import("./room_state.js").RoomState} state */
  open(state) {
    const { info } = state.room;
    const title = this.form.fields.get("title");
    this.state = state;
    this.form.open();
    if (title) {
      title.box.hidden = info?.access !== "private";
      title.input.value = info?.title ?? "";
    }
    // Who joins is not told; but who may change the room may write in it unless it is closed.
    this.archived.checked = info?.archived ?? !state.can.has("send");
  }

  async _submit() {
    const isPrivate = this.state?.room.info?.access === "private";
    await this.state?.room.govern({ type: "settings", archived: this.archived.checked, ...(isPrivate && { title: this.form.value("title").trim() }) });
  }
}
