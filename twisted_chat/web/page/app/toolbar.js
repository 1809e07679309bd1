// @ts-check
// What can be done with a message: one row of buttons that moves to the message that is pointed at or focused.

import { el, iconButton } from "./dom.js";
import { EMOJI, QUICK } from "./emoji.js";
import { say } from "./strings.js";

/** @typedef {"reply" | "edit" | "delete" | "link"} Deed */

export class Toolbar {
  /** @param {{ may: (seq: number) => Set<string>, act: (deed: Deed, seq: number) => void, react: (seq: number, emoji: string) => void }} room */
  constructor(room) {
    this.room = room;
    this.seq = 0;
    const button = (/** @type {Deed} */ deed, /** @type {Parameters<typeof iconButton>[0]} */ name, /** @type {string} */ label) =>
      iconButton(name, label, () => room.act(deed, this.seq));
    this.quick = QUICK.map((emoji) => el("button", { type: "button", class: "icon-button emoji", "aria-label": say.reactWith(emoji), title: say.reactWith(emoji), onclick: () => room.react(this.seq, emoji) }, emoji));
    this.more = iconButton("smile", say.react, () => this._pick(), { "aria-haspopup": "dialog" });
    this.buttons = {
      reply: button("reply", "reply", say.reply),
      edit: button("edit", "edit", say.edit),
      delete: button("delete", "delete", say.delete),
      link: button("link", "link", say.copyLink),
    };
    this.node = el("div", { class: "toolbar", role: "group", "aria-label": say.more }, ...this.quick, this.more, ...Object.values(this.buttons));
    this.picker = el("div", { class: "picker", popover: "auto", role: "dialog", "aria-label": say.react });
    this.picker.addEventListener("toggle", (event) => {
      if (/** @type {ToggleEvent} */ (event).newState === "closed") this.picker.replaceChildren();
    });
  }

  /** @param {HTMLElement | null} row */
  moveTo(row) {
    const seq = Number(row?.dataset.seq ?? 0);
    const message = row?.querySelector(".message");
    const may = seq ? this.room.may(seq) : new Set();
    if (!message || !may.size) {
      this.node.remove();
      return;
    }
    this.seq = seq;
    for (const [deed, button] of Object.entries(this.buttons)) button.hidden = !may.has(deed);
    for (const button of [...this.quick, this.more]) button.hidden = !may.has("react");
    if (this.node.parentElement !== message) message.append(this.node);
  }

  _pick() {
    const { seq } = this;
    const choose = (/** @type {string} */ emoji) => {
      this.room.react(seq, emoji);
      this.picker.hidePopover();
    };
    this.picker.replaceChildren(
      ...Object.entries(EMOJI).map(([name, emoji]) => el("button", { type: "button", title: `:${name}:`, "aria-label": name.replaceAll("_", " "), onclick: () => choose(emoji) }, emoji)),
    );
    const { top, right, bottom } = this.more.getBoundingClientRect();
    this.picker.showPopover();
    const { offsetWidth: width, offsetHeight: height } = this.picker;
    this.picker.style.left = `${Math.max(8, Math.min(right - width, innerWidth - width - 8))}px`;
    this.picker.style.top = `${bottom + height + 8 < innerHeight ? bottom + 4 : Math.max(8, top - height - 4)}px`;
    /** @type {HTMLElement | null} */ (this.picker.firstElementChild)?.focus();
  }
}
