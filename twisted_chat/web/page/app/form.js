// @ts-check
// A dialog with fields: what the server says of one is shown beside it.

import { dialog } from "./dialogs.js";
import { el } from "./dom.js";
import { say, sayError } from "./strings.js";

/** @typedef {Record<string, any> & { name: string, label: string }} Field  further ones are properties of the input */

/** An error of the server, or that there was none to ask. @param {unknown} error @returns {{ field: string, words: string }} */
export function wordsOf(error) {
  const { code = "", message = "" } = /** @type {{ code?: string, message?: string }} */ (error);
  const found = /^([a-z_]+): (.*)$/s.exec(message);
  if (!code) return { field: "", words: say.unreachable };
  if (!found) return { field: "", words: sayError({ code, message }) };
  return { field: found[1], words: found[2][0].toLocaleUpperCase() + found[2].slice(1) };
}

export class Form {
  /** @param {string} id @param {string} title @param {Field[]} fields @param {Node[]} more what stands between fields and buttons */
  constructor(id, title, fields, more = []) {
    this.id = id;
    /** What is done with what was typed; the dialog closes when it is done. @type {() => Promise<void>} */
    this.onsubmit = async () => {};
    /** @type {Map<string, { box: HTMLElement, input: HTMLInputElement, error: HTMLElement }>} */
    this.fields = new Map(fields.map((field) => [field.name, this._field(field)]));
    this.error = el("p", { class: "error", role: "alert" });
    this.submit = el("button", { type: "submit", class: "primary" });
    this.cancel = el("button", { type: "button", onclick: () => this.node.close() }, say.cancel);
    this.form = el("form", { class: "fields", noValidate: true }, ...[...this.fields.values()].map(({ box }) => box), ...more, this.error, el("div", { class: "buttons" }, this.cancel, this.submit));
    this.node = dialog(id, title, this.form);
    this.form.addEventListener("submit", (event) => {
      event.preventDefault();
      this._submit();
    });
  }

  /** @param {Field} field */
  _field({ name, label, ...props }) {
    const id = `${this.id}-${name}`;
    const error = el("p", { class: "error", role: "alert", id: `${id}-error` });
    const input = el("input", { type: "text", id, name, autocomplete: "off", dir: "auto", "aria-describedby": error.id, ...props });
    return { input, error, box: el("div", { class: "field-box" }, el("label", { for: id }, label), input, error) };
  }

  /** @param {string} title @param {string} does */
  label(title, does) {
    /** @type {HTMLElement} */ (this.node.querySelector("h2")).textContent = title;
    this.submit.textContent = does;
  }

  /** @param {string} name */
  value(name) {
    return this.fields.get(name)?.input.value ?? "";
  }

  open() {
    for (const { input } of this.fields.values()) input.value = "";
    this._say(null);
    if (!this.node.open) this.node.showModal();
    this.focus();
  }

  focus() {
    for (const { box, input } of this.fields.values()) if (!box.hidden) return input.focus();
  }

  /** @param {unknown} problem null: none */
  _say(problem) {
    const told = problem === null ? null : wordsOf(problem);
    for (const [name, { input, error }] of this.fields) {
      error.textContent = told && told.field === name ? told.words : "";
      if (error.textContent) input.setAttribute("aria-invalid", "true");
      else input.removeAttribute("aria-invalid");
    }
    const field = told && this.fields.get(told.field);
    this.error.textContent = told && !field ? told.words : "";
    field?.input.focus();
  }

  async _submit() {
    this._say(null);
    this.submit.disabled = true;
    try {
      await this.onsubmit();
      this.node.close();
    } catch (error) {
      this._say(error);
    } finally {
      this.submit.disabled = false;
    }
  }
}
