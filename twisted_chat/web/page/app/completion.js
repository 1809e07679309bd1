// @ts-check
// Suggestions while writing: people after `@`, emoji after `:`, commands after `/` at the beginning.

import { el } from "./dom.js";
import { EMOJI } from "./emoji.js";
import { say } from "./strings.js";

/**
 * What may stand in place of what is typed from `from` to the cursor; `done`: that says it already, so that Enter need not choose it.
 * @typedef {{ from: number, typed: string, insert: string, done: boolean, label: string, hint: string }} Suggestion
 */

const MOST = 8;

/** What may be meant by the word before the cursor. @param {string} text @param {number} cursor @param {string[]} people @returns {Suggestion[]} */
export function suggestions(text, cursor, people) {
  const before = text.slice(0, cursor);
  const word = /(?:^|\s)([@:])([\p{L}\p{N}_+.-]*)$/u.exec(before);
  if (word) {
    const typed = word[1] + word[2];
    return word[1] === "@" ? calls(people, typed, cursor) : emoji(typed, cursor);
  }
  if (!/^\/\w*$/.test(before)) return [];
  return Object.entries(say.commands)
    .filter(([name]) => name.startsWith(before.slice(1)))
    .map(([name, [usage, meaning]]) => ({ from: 0, typed: before, insert: `/${name} `, done: usage === before, label: usage, hint: meaning }));
}

/** @param {string[]} people @param {string} typed @param {number} cursor @returns {Suggestion[]} */
function calls(people, typed, cursor) {
  const begin = typed.slice(1).toLowerCase();
  return people
    .filter((name) => [name, ...name.split(/\s+/)].some((part) => part.toLowerCase().startsWith(begin)))
    .slice(0, MOST)
    .map((name) => ({ from: cursor - typed.length, typed, insert: `@${name} `, done: typed === `@${name}`, label: name, hint: "" }));
}

/** @param {string} typed @param {number} cursor @returns {Suggestion[]} */
function emoji(typed, cursor) {
  const begin = typed.slice(1).toLowerCase();
  if (begin.length < 2) return [];
  const names = Object.keys(EMOJI);
  const found = [...names.filter((name) => name.startsWith(begin)), ...names.filter((name) => name.indexOf(begin) > 0)];
  return found.slice(0, MOST).map((name) => ({ from: cursor - typed.length, typed, insert: `${EMOJI[name]} `, done: false, label: `${EMOJI[name]} :${name}:`, hint: "" }));
}

let boxes = 0;

/** A list box above a text area (WAI-ARIA combobox pattern: the focus stays in the text). */
export class Completion {
  /** @param {HTMLTextAreaElement} area @param {(chosen: Suggestion) => void} choose */
  constructor(area, choose) {
    this.area = area;
    this.choose = choose;
    /** @type {Suggestion[]} */
    this.found = [];
    /** Which one is chosen; -1: none, as nothing but the mark has been typed. */
    this.active = -1;
    this.id = `tc-completion-${++boxes}`;
    this.box = el("ul", { class: "completion", role: "listbox", id: this.id, "aria-label": say.completions, hidden: true });
    area.setAttribute("aria-autocomplete", "list");
    area.setAttribute("aria-controls", this.id);
  }

  get open() {
    return this.found.length > 0;
  }

  /** @param {Suggestion[]} found */
  show(found) {
    this.found = found;
    this.active = found.length && found[0].typed.length > 1 ? 0 : -1;
    this.box.hidden = !found.length;
    this.box.replaceChildren(
      ...found.map((one, place) =>
        el("li", { role: "option", id: `${this.id}-${place}`, onpointerdown: (/** @type {Event} */ event) => this._press(event, one) }, el("span", {}, one.label), one.hint && el("span", { class: "hint" }, one.hint)),
      ),
    );
    this._mark();
  }

  /** Whether the key was for the suggestions. @param {KeyboardEvent} event */
  key(event) {
    if (!this.open) return false;
    if (!this._fits()) {
      this.show([]);
      return false;
    }
    if (event.shiftKey || event.ctrlKey || event.altKey || event.metaKey) return false;
    const { length } = this.found;
    if (event.key === "ArrowDown") {
      this.active = (this.active + 1) % length;
      this._mark();
    } else if (event.key === "ArrowUp") {
      this.active = (Math.max(0, this.active) + length - 1) % length;
      this._mark();
    } else if (event.key === "Tab") {
      this.choose(this.found[Math.max(0, this.active)]);
    } else if (event.key === "Enter" && this.active >= 0 && !this.found[this.active].done) {
      this.choose(this.found[this.active]);
    } else if (event.key === "Escape") {
      this.show([]);
    } else {
      return false;
    }
    return true;
  }

  /** Whether what was typed still stands before the cursor. */
  _fits() {
    const { value, selectionStart, selectionEnd } = this.area;
    const { from, typed } = this.found[0];
    return selectionStart === selectionEnd && selectionStart === from + typed.length && value.startsWith(typed, from);
  }

  /** @param {Event} event @param {Suggestion} one */
  _press(event, one) {
    // The focus stays in the text.
    event.preventDefault();
    if (this._fits()) this.choose(one);
    else this.show([]);
  }

  _mark() {
    for (const [place, option] of [...this.box.children].entries()) option.setAttribute("aria-selected", String(place === this.active));
    this.box.children[this.active]?.scrollIntoView({ block: "nearest" });
    if (this.active >= 0) this.area.setAttribute("aria-activedescendant", `${this.id}-${this.active}`);
    else this.area.removeAttribute("aria-activedescendant");
  }
}
