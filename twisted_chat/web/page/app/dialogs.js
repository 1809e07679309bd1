// @ts-check
// The room switcher, the help and the settings.

import { roomLabel } from "./about.js";
import { composing, el, iconButton } from "./dom.js";
import { isRoomName } from "./route.js";
import { say } from "./strings.js";

/** @param {string} id @param {string} title @param {...Node} content */
export function dialog(id, title, ...content) {
  const box = el("dialog", { id, "aria-labelledby": `${id}-heading` });
  box.append(el("div", { class: "dialog-head" }, el("h2", { id: `${id}-heading` }, title), iconButton("close", say.close, () => box.close())), ...content);
  // A click beside it closes it.
  box.addEventListener("click", (event) => event.target === box && box.close());
  return box;
}

/** Go to a room by its name: one's own first, then all that there are. */
export class Switcher {
  /** @param {(room: string) => void} go */
  constructor(go) {
    this.go = go;
    /** @type {{ name: string, label: string, hint: string }[]} */
    this.rooms = [];
    this.active = 0;
    this.input = el("input", { type: "text", role: "combobox", "aria-expanded": "true", "aria-controls": "switcher-list", "aria-autocomplete": "list", "aria-label": say.switcherHint, placeholder: say.switcherHint, autocomplete: "off", spellcheck: false, maxLength: 64, dir: "auto" });
    this.list = el("ul", { id: "switcher-list", role: "listbox", "aria-label": say.rooms });
    this.none = el("p", { class: "hint", role: "status" });
    this.onnew = () => {};
    /** For those who may make rooms with people. */
    this.fresh = el("button", { type: "button", onclick: () => this._new() }, say.newRoomWith);
    this.node = dialog("switcher", say.switcher, this.input, this.list, this.none, el("div", { class: "buttons" }, this.fresh));
    this.input.addEventListener("input", () => this._show(0));
    this.input.addEventListener("keydown", (event) => this._key(event));
  }

  /** @param {{ name: string, label: string }[]} own @param {Promise<import("../client.js").RoomInfo[]>} all @param {string} [me] */
  async open(own, all, me) {
    this.rooms = own.map(({ name, label }) => ({ name, label, hint: "" }));
    this.input.value = "";
    this._show(0);
    this.node.showModal();
    this.input.focus();
    const others = await all.catch(() => []);
    this.rooms.push(...others.filter(({ room }) => !own.some(({ name }) => name === room)).map((about) => ({ name: about.room, label: roomLabel(about.room, about, me), hint: about.topic })));
    this._show(this.active);
  }

  /** @param {number} active */
  _show(active) {
    const typed = this.input.value.trim().normalize("NFC");
    const lower = typed.toLocaleLowerCase();
    const found = this.rooms.filter(({ label }) => label.toLocaleLowerCase().includes(lower)).slice(0, 50);
    const exact = this.rooms.some(({ name }) => name === typed);
    /** @type {{ name: string, hint: string, label: string, made?: boolean }[]} */
    this.found = found;
    if (typed && !exact && isRoomName(typed)) this.found.push({ name: typed, hint: "", label: say.create(typed), made: true });
    this.active = Math.min(active, Math.max(0, this.found.length - 1));
    this.none.textContent = this.found.length ? "" : say.noRoom;
    this.list.replaceChildren(...this.found.map(({ name, hint, label, made }, place) =>
      el("li", { role: "option", id: `switcher-${place}`, "aria-selected": String(place === this.active), onclick: () => this._go(name) }, el("bdi", {}, made || label !== name ? label : `# ${name}`), hint && el("span", { class: "hint", dir: "auto" }, hint))));
    this.list.hidden = !this.found.length;
    if (this.found.length) this.input.setAttribute("aria-activedescendant", `switcher-${this.active}`);
    else this.input.removeAttribute("aria-activedescendant");
  }

  /** @param {KeyboardEvent} event */
  _key(event) {
    const count = this.found?.length ?? 0;
    if (composing(event) || !count) return;
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      event.preventDefault();
      this._show((this.active + (event.key === "ArrowDown" ? 1 : -1) + count) % count);
      this.list.children[this.active].scrollIntoView({ block: "nearest" });
    } else if (event.key === "Enter") {
      event.preventDefault();
      const chosen = this.found?.[this.active];
      if (chosen) this._go(chosen.name);
    }
  }

  _new() {
    this.node.close();
    this.onnew();
  }

  /** @param {string} room */
  _go(room) {
    this.node.close();
    this.go(room);
  }
}

export function helpDialog() {
  const table = (/** @type {string[][]} */ rows) => el("dl", {}, ...rows.flatMap(([keys, meaning]) => [el("dt", {}, el("kbd", {}, keys)), el("dd", {}, meaning)]));
  return dialog("help", say.help, el("div", { class: "columns" }, table(say.keys), table(say.formats)));
}

/**
 * @typedef {object} Settings
 * @property {() => string} theme
 * @property {(theme: string) => void} setTheme
 * @property {() => boolean} notify
 * @property {(on: boolean) => Promise<boolean>} setNotify
 * @property {() => boolean} sound
 * @property {(on: boolean) => void} setSound
 * @property {() => string} name
 * @property {() => string} connection
 * @property {() => void} signOut
 */

/** @param {Settings} settings */
export function settingsDialog(settings) {
  const choice = (/** @type {string} */ value, /** @type {string} */ label) =>
    el("label", { class: "choice" }, el("input", { type: "radio", name: "theme", value, onchange: () => settings.setTheme(value) }), label);
  const themes = Object.entries(say.themes).map(([value, label]) => choice(value, label));
  const refused = el("p", { class: "error", role: "alert" });
  const notify = el("input", { type: "checkbox" });
  notify.addEventListener("change", async () => {
    const wanted = notify.checked;
    notify.checked = await settings.setNotify(wanted);
    refused.textContent = wanted && !notify.checked ? say.notifyDenied : "";
  });
  const sound = el("input", { type: "checkbox", onchange: () => settings.setSound(sound.checked) });
  const who = el("p", {});
  const connection = el("p", { class: "hint connection" });
  const box = dialog("settings", say.settings,
    el("fieldset", {}, el("legend", {}, say.theme), ...themes),
    el("label", { class: "choice" }, notify, say.notify), refused,
    el("label", { class: "choice" }, sound, say.sound),
    connection,
    el("div", { class: "buttons" }, who, el("button", { type: "button", onclick: () => settings.signOut() }, say.signOut)));
  return {
    node: box,
    open() {
      for (const input of box.querySelectorAll("input[type=radio]")) /** @type {HTMLInputElement} */ (input).checked = /** @type {HTMLInputElement} */ (input).value === settings.theme();
      notify.checked = settings.notify();
      sound.checked = settings.sound();
      who.textContent = say.signedInAs(settings.name());
      connection.textContent = settings.connection();
      refused.textContent = "";
      box.showModal();
    },
  };
}
