// @ts-check
// The text of a message as nodes, and what else is asked of a text.

import { copy, el } from "./dom.js";
import { calls, parse } from "./markdown.js";
import { Names } from "./names.js";
import { say } from "./strings.js";

/** @typedef {import("./markdown.js").Block} Block */
/** @typedef {import("./markdown.js").Inline} Inline */
/** @typedef {{ me: string, names: Names }} Readers whose mentions are marked, and who else may be called */

/** Whether the text calls somebody of that name; `names` are those of everybody. @param {string} text @param {string} name @param {Names} [names] */
export function mentions(text, name, names = new Names([name])) {
  const called = name.toLowerCase();
  // Most texts need no second look.
  if (!text.includes("@") || !text.toLowerCase().includes(`@${called}`)) return false;
  return calls(text, names).some((each) => each.toLowerCase() === called);
}

/** How many characters of the text are beyond that many bytes. @param {string} text @param {number} limit */
export function charactersBeyond(text, limit) {
  const bytes = new TextEncoder().encode(text);
  let beyond = 0;
  // Bytes that go on with a character begin with the bits 10.
  for (let place = limit; place < bytes.length; place += 1) beyond += Number((bytes[place] & 0xc0) !== 0x80 || place === limit);
  return beyond;
}

/** @param {string} text @param {string} [me] whose mentions are marked @param {Names} [names] who can be called @returns {Node[]} */
export function render(text, me = "", names = new Names([me])) {
  return blocks(parse(text, names), me.toLowerCase());
}

/** @param {Block[]} all @param {string} me @returns {HTMLElement[]} */
function blocks(all, me) {
  return all.map((block) => {
    if (block.type === "block") return codeBlock(block.text, block.info);
    if (block.type === "quote") return el("blockquote", {}, ...blocks(block.blocks, me));
    return el("p", {}, ...nodes(block.inner, me));
  });
}

/** @param {Inline[]} parts @param {string} me @returns {(Node | string)[]} */
function nodes(parts, me) {
  return parts.map((part) => {
    switch (part.type) {
      case "text":
        return part.text;
      case "code":
        return el("code", {}, part.text);
      case "link":
        return el("a", { href: part.text, target: "_blank", rel: "noopener noreferrer" }, part.text);
      case "mention":
        return el("span", { class: part.text.slice(1).toLowerCase() === me ? "mention me" : "mention" }, part.text);
      case "bold":
        return el("strong", {}, ...nodes(part.inner, me));
      case "italic":
        return el("em", {}, ...nodes(part.inner, me));
      case "strike":
        return el("s", {}, ...nodes(part.inner, me));
    }
  });
}

/** @param {string} text @param {string} info */
function codeBlock(text, info) {
  const button = el("button", { type: "button", class: "copy" }, say.copyCode);
  button.addEventListener("click", async () => {
    button.textContent = (await copy(text)) ? say.copied : say.notCopied;
    setTimeout(() => (button.textContent = say.copyCode), 1500);
  });
  const head = el("div", { class: "block-head" }, el("span", { class: "info", dir: "auto" }, info), button);
  return el("div", { class: "block" }, head, el("pre", { tabIndex: 0, "aria-label": info || say.code, role: "group" }, el("code", {}, text)));
}

/** What ends the directions that the last line of a text begins and leaves open, so that what follows is not reversed. @param {string} text */
export function directionsEnd(text) {
  /** @type {string[]} */
  const open = [];
  let isolates = 0;
  for (const [mark] of text.slice(text.lastIndexOf("\n") + 1).matchAll(/[\u202a-\u202e\u2066-\u2069]/g)) {
    if (mark === "\u202c") {
      if (open.at(-1) === mark) open.pop();
    } else if (mark === "\u2069") {
      if (!isolates) continue;
      while (open.pop() !== mark);
      isolates -= 1;
    } else if (mark < "\u2066") {
      open.push("\u202c");
    } else {
      open.push("\u2069");
      isolates += 1;
    }
  }
  return open.reverse().join("");
}
