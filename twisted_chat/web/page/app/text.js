// @ts-check
// Light Markdown: text in, nodes out.  `parse` is plain data, so that it can be tested without a document.
//
// One pass from left to right; a mark that is never closed is text.  Whatever does not match stays as it was written.

import { el } from "./dom.js";
import { say } from "./strings.js";

/**
 * @typedef {{ type: "text", text: string } | { type: "code", text: string } | { type: "link", text: string }
 *   | { type: "mention", text: string } | { type: "bold" | "italic" | "strike", inner: Inline[] }} Inline
 * @typedef {{ type: "paragraph" | "quote", inner: Inline[] } | { type: "block", language: string, text: string }} Block
 */

const FENCE = /```([\w+-]{0,20})[ \t]*\n?([^]*?)(?:\n?```|$)/g;
/** What may begin something: each alternative is bounded or ends at its first stop, so that no text takes long. */
const MARK =
  /(?<code>`[^`\n]{1,2000}`)|(?<link>\bhttps?:\/\/[^\s<>"'`]{1,2000})|(?<mention>(?<![\p{L}\p{N}_])@[\p{L}\p{N}_][\p{L}\p{N}_.-]{0,63})|(?<mark>\*\*|~~|\*|(?<![\p{L}\p{N}_])_|_(?![\p{L}\p{N}_]))/gu;
const STYLES = /** @type {const} */ ({ "**": "bold", "~~": "strike", "*": "italic", _: "italic" });
/** Nested styles beyond that are text. */
const DEEPEST = 4;
/** Characters of one style; without a bound a text of marks alone would take the square of its length. */
const LONGEST = 1000;

/** @param {string} text @returns {Block[]} */
export function parse(text) {
  /** @type {Block[]} */
  const blocks = [];
  let end = 0;
  for (const match of text.matchAll(FENCE)) {
    blocks.push(...paragraphs(text.slice(end, match.index)));
    blocks.push({ type: "block", language: match[1], text: match[2] });
    end = match.index + match[0].length;
  }
  blocks.push(...paragraphs(text.slice(end)));
  return blocks;
}

/** @param {string} text @returns {Block[]} */
function paragraphs(text) {
  /** @type {Block[]} */
  const blocks = [];
  /** @type {{ quoted: boolean, lines: string[] } | null} */
  let open = null;
  const close = () => {
    if (open) blocks.push({ type: open.quoted ? "quote" : "paragraph", inner: inline(open.lines.join("\n")) });
    open = null;
  };
  for (const line of text.replace(/^\n+|\n+$/g, "").split("\n")) {
    const quoted = /^>\s?/.test(line);
    if (open && open.quoted !== quoted) close();
    open ??= { quoted, lines: [] };
    open.lines.push(quoted ? line.replace(/^>\s?/, "") : line);
  }
  if (text.trim()) close();
  return blocks;
}

/** @param {string} text @param {number} [depth] @returns {Inline[]} */
export function inline(text, depth = 0) {
  /** @type {Inline[]} */
  const found = [];
  let end = 0;
  const plain = (/** @type {number} */ until) => until > end && found.push({ type: "text", text: text.slice(end, until) });
  MARK.lastIndex = 0;
  for (const match of text.matchAll(MARK)) {
    if (match.index < end) continue;
    const { code, link, mention, mark } = /** @type {Record<string, string | undefined>} */ (match.groups);
    if (mark !== undefined) {
      const close = depth < DEEPEST ? closing(text, match.index + mark.length, mark) : -1;
      if (close < 0) continue;
      plain(match.index);
      const style = STYLES[/** @type {keyof typeof STYLES} */ (mark)];
      found.push({ type: style, inner: inline(text.slice(match.index + mark.length, close), depth + 1) });
      end = close + mark.length;
      continue;
    }
    plain(match.index);
    if (code !== undefined) {
      found.push({ type: "code", text: code.slice(1, -1) });
      end = match.index + code.length;
    } else if (mention !== undefined) {
      const name = mention.replace(/[.-]+$/, "");
      found.push({ type: "mention", text: name });
      end = match.index + name.length;
    } else if (link !== undefined) {
      const address = trimmed(link);
      found.push({ type: "link", text: address });
      end = match.index + address.length;
    }
  }
  plain(text.length);
  return found;
}

/** Where a style ends: not after a blank, on the same line and not too far off. @param {string} text @param {number} from @param {string} mark */
function closing(text, from, mark) {
  const [line] = text.slice(from, from + LONGEST).split("\n", 1);
  if (/^\s|^$/.test(line)) return -1;
  for (let place = line.indexOf(mark, 1); place >= 0; place = line.indexOf(mark, place + mark.length)) {
    const inDouble = mark === "*" && (line[place + 1] === "*" || line[place - 1] === "*");
    const inWord = mark === "_" && /[\p{L}\p{N}_]/u.test(line[place + 1] ?? " ");
    if (!inDouble && !inWord && !/\s/.test(line[place - 1])) return from + place;
  }
  return -1;
}

/** An address without the punctuation of the sentence around it. @param {string} link */
function trimmed(link) {
  const address = link.replace(/[.,;:!?*_~]+$/, "");
  return address.endsWith(")") && !address.includes("(") ? address.slice(0, -1) : address;
}

/** Whether the text calls somebody of that name. @param {string} text @param {string} name */
export function mentions(text, name) {
  if (!text.includes("@")) return false;
  const lower = text.toLocaleLowerCase();
  const called = `@${name.toLocaleLowerCase()}`;
  for (let place = lower.indexOf(called); place >= 0; place = lower.indexOf(called, place + 1)) {
    if (!/[\p{L}\p{N}_]/u.test(lower[place + called.length] ?? " ")) return true;
  }
  return false;
}

/** @param {string} text @param {string} [me] whose mentions are marked @returns {Node[]} */
export function render(text, me) {
  return parse(text).map((block) => {
    if (block.type === "block") return codeBlock(block.text, block.language);
    return el(block.type === "quote" ? "blockquote" : "p", {}, ...nodes(block.inner, me));
  });
}

/** @param {Inline[]} parts @param {string} [me] @returns {(Node | string)[]} */
function nodes(parts, me) {
  return parts.map((part) => {
    switch (part.type) {
      case "text":
        return part.text;
      case "code":
        return el("code", {}, part.text);
      case "link":
        return link(part.text);
      case "mention":
        return el("span", { class: me && mentions(part.text, me) ? "mention me" : "mention" }, part.text);
      case "bold":
        return el("strong", {}, ...nodes(part.inner, me));
      case "italic":
        return el("em", {}, ...nodes(part.inner, me));
      case "strike":
        return el("s", {}, ...nodes(part.inner, me));
    }
  });
}

/** @param {string} address */
function link(address) {
  if (!URL.canParse(address)) return address;
  return el("a", { href: address, target: "_blank", rel: "noopener noreferrer" }, address);
}

/** @param {string} text @param {string} language */
function codeBlock(text, language) {
  const copy = el("button", { type: "button", class: "copy" }, say.copyCode);
  copy.addEventListener("click", async () => {
    await navigator.clipboard?.writeText(text);
    copy.textContent = say.copied;
    setTimeout(() => (copy.textContent = say.copyCode), 1500);
  });
  const code = el("code", {}, text);
  return el("div", { class: "block" }, el("pre", { tabIndex: 0, "aria-label": language || "code", role: "group" }, code), copy);
}
