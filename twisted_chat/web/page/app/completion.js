// @ts-check
// Suggestions while writing: people after `@`, emoji after `:`, commands after `/` at the beginning.

import { el } from "./dom.js";
import { EMOJI } from "./emoji.js";
import { say } from "./strings.js";

/** @typedef {{ from: number, insert: string, label: string, hint: string }} Suggestion */

const MOST = 8;

/** What may be meant by the word before the cursor. @param {string} text @param {number} cursor @param {string[]} people @returns {Suggestion[]} */
export function suggestions(text, cursor, people) {
  const before = text.slice(0, cursor);
  const word = /(?:^|\s)([@:])([\p{L}\p{N}_+.-]*)$/u.exec(before);
  if (word) {
    const from = cursor - word[2].length - 1;
    const typed = word[2].toLocaleLowerCase();
    return word[1] === "@" ? calls(people, typed, from) : emoji(typed, from);
  }
  if (!/^\/\w*$/.test(before)) return [];
  return Object.entries(say.commands)
    .filter(([name]) => name.startsWith(before.slice(1)))
    .map(([name, [usage, meaning]]) => ({ from: 0, insert: `/${name} `, label: usage, hint: meaning }));
}

/** @param {string[]} people @param {string} typed @param {number} from */
function calls(people, typed, from) {
  return people
    .filter((name) => name.toLocaleLowerCase().split(/\s+/).some((part) => part.startsWith(typed)) || name.toLocaleLowerCase().startsWith(typed))
    .slice(0, MOST)
    .map((name) => ({ from, insert: `@${name} `, label: name, hint: "" }));
}

/** @param {string} typed @param {number} from */
function emoji(typed, from) {
  if (typed.length < 2) return [];
  const names = Object.keys(EMOJI);
  const found = [...names.filter((name) => name.startsWith(typed)), ...names.filter((name) => name.indexOf(typed) > 0)];
  return found.slice(0, MOST).map((name) => ({ from, insert: `${EMOJI[name]} `, label: `${EMOJI[name]} :${name}:`, hint: "" }));
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
    this.active = 0;
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
    this.active = 0;
    this.box.hidden = !found.length;
    this.box.replaceChildren(
      ...found.map((one, place) =>
        el("li", { role: "option", id: `${this.id}-${place}`, onpointerdown: (/** @type {Event} */ event) => (event.preventDefault(), this.choose(one)) }, el("span", {}, one.label), one.hint && el("span", { class: "hint" }, one.hint)),
      ),
    );
    this._mark();
  }

  /** Whether the key was for the suggestions. @param {KeyboardEvent} event */
  key(event) {
    if (!this.open) return false;
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      this.active = (this.active + (event.key === "ArrowDown" ? 1 : -1) + this.found.length) % this.found.length;
      this._mark();
    } else if (event.key === "Enter" || event.key === "Tab") {
      this.choose(this.found[this.active]);
    } else if (event.key === "Escape") {
      this.show([]);
    } else {
      return false;
    }
    return true;
  }

  _mark() {
    for (const [place, option] of [...this.box.children].entries()) option.setAttribute("aria-selected", String(place === this.active));
    if (this.open) this.area.setAttribute("aria-activedescendant", `${this.id}-${this.active}`);
    else this.area.removeAttribute("aria-activedescendant");
  }
}
