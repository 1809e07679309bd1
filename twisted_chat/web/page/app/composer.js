// @ts-check
// `<tc-composer>`: where one writes.

import { brief } from "./brief.js";
import { Completion, suggestions } from "./completion.js";
import { composing, el, icon, iconButton, typeInto } from "./dom.js";
import { say } from "./strings.js";

/** @typedef {import("../client.js").ChatEvent} ChatEvent */

/** What is being written, and as what. @typedef {{ mode: Composer["mode"], text: string, before: string }} Draft */

export class Composer extends HTMLElement {
  constructor() {
    super();
    /** What a message may be: the reply or the edit that is being written. @type {{ kind: "new" } | { kind: "reply" | "edit", event: ChatEvent }} */
    this.mode = { kind: "new" };
    /** What stood there before an edit began. */
    this._before = "";
    this.onsay = (/** @type {string} */ _text) => {};
    this.ondraft = (/** @type {string} */ _text) => {};
    this.ontyping = () => {};
    this.oneditlast = () => {};
    this.onescape = () => {};
    /** @type {() => string[]} */
    this.people = () => [];
    this.area = el("textarea", { rows: 1, dir: "auto", autocomplete: "off", enterKeyHint: "send", "aria-label": "" });
    this.button = el("button", { type: "submit", class: "send", title: say.send, "aria-label": say.send }, icon("send"));
    this.aboutWho = el("span", {});
    this.aboutText = el("span", { class: "about-text", dir: "auto" });
    this.about = el("div", { class: "about", hidden: true }, this.aboutWho, this.aboutText, iconButton("close", say.cancel, () => this.cancel()));
    this.completion = new Completion(this.area, (chosen) => this._complete(chosen));
    this.form = el("form", { class: "composer" }, this.about, this.completion.box, el("div", { class: "field" }, this.area, this.button));
    this.form.addEventListener("submit", (event) => {
      event.preventDefault();
      this._submit();
    });
    this.area.addEventListener("keydown", (event) => this._key(event));
    this.area.addEventListener("input", () => this._input());
    this.area.addEventListener("blur", () => this.completion.show([]));
  }

  connectedCallback() {
    if (!this.form.isConnected) this.append(this.form);
    this._fit();
  }

  /** @param {string} label @param {string} mayNot why one may not write; nothing: one may */
  label(label, mayNot) {
    this.area.setAttribute("aria-label", label);
    this.area.placeholder = mayNot || label;
    this.area.title = mayNot;
    this.area.disabled = this.button.disabled = mayNot !== "";
  }

  get text() {
    return this.area.value;
  }

  set text(text) {
    this.area.value = text;
    this.completion.show([]);
    this._fit();
  }

  focusText() {
    this.area.focus({ preventScroll: true });
  }

  /** @param {ChatEvent} event */
  reply(event) {
    this.cancel();
    this.mode = { kind: "reply", event };
    this._tell(say.replyingTo(event.by.name), event.text ?? "");
    this.focusText();
  }

  /** @param {ChatEvent} event */
  edit(event) {
    this.cancel();
    this._before = this.text;
    this.mode = { kind: "edit", event };
    this._tell(say.editing, "");
    this.focusText();
    this.text = event.text ?? "";
    this.area.setSelectionRange(this.text.length, this.text.length);
  }

  /** What is being written, to go on with it later. @returns {Draft} */
  get draft() {
    return { mode: this.mode, text: this.text, before: this._before };
  }

  /** @param {Draft} draft */
  set draft({ mode, text, before }) {
    this.mode = { kind: "new" };
    this.about.hidden = true;
    if (mode.kind !== "new") {
      this.mode = mode;
      this._tell(mode.kind === "edit" ? say.editing : say.replyingTo(mode.event.by.name), mode.kind === "edit" ? "" : mode.event.text ?? "");
    }
    this._before = before;
    this.text = text;
  }

  /** End a reply or an edit; whether there was one. */
  cancel() {
    const { kind } = this.mode;
    this.mode = { kind: "new" };
    this.about.hidden = true;
    if (kind === "edit") this.text = this._before;
    return kind !== "new";
  }

  /** @param {string} who @param {string} text */
  _tell(who, text) {
    this.aboutWho.textContent = who;
    this.aboutText.textContent = brief(text);
    this.about.hidden = false;
  }

  _submit() {
    if (!this.text.trim()) return;
    this.onsay(this.text);
  }

  /** @param {KeyboardEvent} event */
  _key(event) {
    if (composing(event)) return;
    if (this.completion.key(event)) {
      event.preventDefault();
      event.stopPropagation();
    } else if (event.key === "Enter" && !event.shiftKey && !event.altKey) {
      event.preventDefault();
      this._submit();
    } else if (event.key === "ArrowUp" && !this.text && this.mode.kind === "new" && !event.altKey) {
      event.preventDefault();
      this.oneditlast();
    } else if (event.key === "Escape" && !this.cancel()) {
      this.onescape();
    }
  }

  _input() {
    this._fit();
    this.completion.show(suggestions(this.text, this.area.selectionStart, this.people()));
    if (this.mode.kind !== "edit") this.ondraft(this.text);
    if (this.text && !this.text.startsWith("/")) this.ontyping();
  }

  /** @param {import("./completion.js").Suggestion} chosen */
  _complete({ from, insert }) {
    this.completion.show([]);
    typeInto(this.area, from, this.area.selectionStart, insert);
  }

  /** As high as the text, up to what the style allows. */
  _fit() {
    this.area.style.height = "auto";
    if (this.area.scrollHeight) this.area.style.height = `${this.area.scrollHeight}px`;
  }
}

customElements.define("tc-composer", Composer);
