// @ts-check
// Light Markdown: text in, plain data out; no document is needed.
//
// The rules are those of CommonMark for what there is: fenced code, code spans, quotations, emphasis by `*` and `_`, strong
// emphasis by `**`; and `~~` from GitHub's.  A chat differs in this: line ends and indents stay, a quotation ends with the first line without `>`,
// `__` and backslashes are text (`__init__`, `¯\_(ツ)_/¯`), and a fence at the very end with nothing behind it is text.
// What matches nothing stays as it was written.  All of it is linear: each character is looked at a bounded number of times.

import { addressAt } from "./links.js";
import { Names, callAt, characterAt, characterBefore } from "./names.js";

/**
 * @typedef {"bold" | "italic" | "strike"} Style
 * @typedef {{ type: "text" | "code" | "link" | "mention", text: string } | { type: Style, inner: Inline[] }} Inline
 * @typedef {{ type: "paragraph", inner: Inline[] } | { type: "quote", blocks: Block[] } | { type: "block", info: string, text: string }} Block
 */

/**
 * Lines that belong together: as they were written, and what they contain.
 * @typedef {{ type: "blank" | "paragraph" | "quote" | "block", written: string[], lines: string[], info: string }} Piece
 */

/** A part of a paragraph: `marks` may turn out to be text. @typedef {{ type: "text" | "code" | "link" | "mention" | "marks", from: number, to: number }} Atom */

const LINE_END = /\r\n?|\n/;
const FENCE = /^( {0,3})(`{3,})([^`]*)$/;
const FENCE_END = /^ {0,3}(`{3,})[ \t]*$/;
const QUOTED = /^ {0,3}> ?/;
/** What may begin something within a paragraph. */
const BEGINNING = /`+|https?:\/\/|@|\*+|_+|~+/giu;
/** Quotations, and styles, within one another: more are text. */
const DEEPEST = 4;

/** @param {string} text @param {Names} [names] that can be called @returns {Block[]} */
export function parse(text, names = new Names()) {
  return blocks(text.split(LINE_END), names, 0);
}

/** @param {string[]} lines @param {Names} names @param {number} depth @returns {Block[]} */
function blocks(lines, names, depth) {
  return pieces(lines, depth)
    .filter(({ type }) => type !== "blank")
    .map((piece) => {
      if (piece.type === "quote") return { type: "quote", blocks: blocks(piece.lines, names, depth + 1) };
      if (piece.type === "block") return { type: "block", info: piece.info, text: piece.lines.join("\n") };
      return { type: "paragraph", inner: inline(piece.lines.join("\n"), names) };
    });
}

/** The text with its plain parts changed; code, addresses and names stay. @param {string} text @param {(plain: string) => string} change */
export function rewrite(text, change) {
  return rewritten(text.split("\n"), change, 0).join("\n");
}

/** @param {string[]} lines @param {(plain: string) => string} change @param {number} depth @returns {string[]} */
function rewritten(lines, change, depth) {
  return pieces(lines, depth).flatMap((piece) => {
    if (piece.type === "paragraph") return changed(piece.lines.join("\n"), change).split("\n");
    if (piece.type !== "quote") return piece.written;
    const inner = rewritten(piece.lines, change, depth + 1);
    return piece.written.map((line, place) => line.slice(0, line.length - piece.lines[place].length) + inner[place]);
  });
}

/** @param {string} text @param {(plain: string) => string} change */
function changed(text, change) {
  let made = "";
  let end = 0;
  for (const { type, from, to } of atoms(text, new Names())) {
    if (type === "text" || type === "marks") continue;
    made += change(text.slice(end, from)) + text.slice(from, to);
    end = to;
  }
  return made + change(text.slice(end));
}

/** The names behind each `@` outside of code and addresses. @param {string} text @param {Names} names @returns {string[]} */
export function calls(text, names) {
  return callsIn(text.split(LINE_END), names, 0);
}

/** @param {string[]} lines @param {Names} names @param {number} depth @returns {string[]} */
function callsIn(lines, names, depth) {
  return pieces(lines, depth).flatMap((piece) => {
    if (piece.type === "quote") return callsIn(piece.lines, names, depth + 1);
    if (piece.type !== "paragraph") return [];
    const text = piece.lines.join("\n");
    return atoms(text, names).filter(({ type }) => type === "mention").map(({ from, to }) => text.slice(from + 1, to));
  });
}

// Blocks

/** @param {string[]} lines @param {number} depth @returns {Piece[]} */
function pieces(lines, depth) {
  /** @type {Piece[]} */
  const found = [];
  for (let place = 0; place < lines.length; ) {
    const fenced = fence(lines, place);
    if (fenced) {
      found.push(fenced);
      place += fenced.written.length;
      continue;
    }
    const line = lines[place];
    const prefix = depth < DEEPEST && QUOTED.exec(line);
    const type = prefix ? "quote" : line.trim() ? "paragraph" : "blank";
    let last = found.at(-1);
    if (last?.type !== type) found.push((last = { type, written: [], lines: [], info: "" }));
    last.written.push(line);
    last.lines.push(prefix ? line.slice(prefix[0].length) : line);
    place += 1;
  }
  return found;
}

/** The block of code that begins with that line. @param {string[]} lines @param {number} from @returns {Piece | null} */
function fence(lines, from) {
  const opening = FENCE.exec(lines[from]);
  if (!opening) return null;
  const [, indent, marks, info] = opening;
  let end = from + 1;
  while (end < lines.length && (FENCE_END.exec(lines[end])?.[1].length ?? 0) < marks.length) end += 1;
  if (end >= lines.length && !lines.slice(from + 1).some((line) => line.trim())) return null;
  const inner = lines.slice(from + 1, end).map((line) => unindented(line, indent.length));
  return { type: "block", written: lines.slice(from, end + 1), lines: inner, info: info.trim() };
}

/** @param {string} line @param {number} most */
function unindented(line, most) {
  let spaces = 0;
  while (spaces < most && line[spaces] === " ") spaces += 1;
  return line.slice(spaces);
}

// Within a paragraph

/** @param {string} text @param {Names} names @returns {Atom[]} */
function atoms(text, names) {
  /** @type {Atom[]} */
  const found = [];
  const code = codeSpans(text);
  let end = 0;
  const add = (/** @type {Atom["type"]} */ type, /** @type {number} */ from, /** @type {number} */ to) => {
    if (from > end) found.push({ type: "text", from: end, to: from });
    if (to > from) found.push({ type, from, to });
    end = Math.max(end, to);
  };
  for (const { 0: written, index } of text.matchAll(BEGINNING)) {
    if (index < end) continue;
    const after = index + written.length;
    if (written[0] === "`") {
      const close = code.get(index);
      if (close) add("code", index, close);
      else add("text", index, after);
    } else if (written === "@") {
      const close = callAt(text, index, names);
      if (close) add("mention", index, close);
    } else if (written.length > 3 && written.endsWith("/")) {
      const { end: close, read } = addressAt(text, index);
      if (close) add("link", index, close);
      else if (read) add("text", index, read);
    } else {
      add("marks", index, after);
    }
  }
  add("text", text.length, text.length);
  return found;
}

/** Where code spans begin, and end: at the next equally long run of backticks. @param {string} text @returns {Map<number, number>} */
function codeSpans(text) {
  const spans = new Map();
  if (!text.includes("`")) return spans;
  /** Of each length the nearest run to the right. @type {Map<number, number>} */
  const next = new Map();
  for (const { 0: run, index } of [...text.matchAll(/`+/g)].reverse()) {
    const close = next.get(run.length);
    if (close !== undefined) spans.set(index, close + run.length);
    next.set(run.length, index);
  }
  return spans;
}

/** @param {string} text @param {Names} [names] @returns {Inline[]} */
export function inline(text, names = new Names()) {
  const all = atoms(text, names);
  return tree(text, all, pairs(text, all));
}

/**
 * A run of marks: how many are left, and which lengths of it open and close a style, in the order in which they were found.
 * @typedef {{ mark: string, length: number, left: number, opens: number[], closes: number[], canOpen: boolean, canClose: boolean, place: number }} Run
 */

/** @param {string} text @param {Atom} atom @param {number} place @returns {Run} */
function run(text, { from, to }, place) {
  const before = characterBefore(text, from);
  const after = characterAt(text, to);
  const [blankBefore, blankAfter] = [/\s/.test(before), /\s/.test(after)];
  const [signBefore, signAfter] = [/[\p{P}\p{S}]/u.test(before), /[\p{P}\p{S}]/u.test(after)];
  const left = !blankAfter && (!signAfter || blankBefore || signBefore);
  const right = !blankBefore && (!signBefore || blankAfter || signAfter);
  const mark = text[from];
  const length = to - from;
  // A longer run of these is text.
  const usable = mark === "*" || length === (mark === "_" ? 1 : 2);
  const within = mark === "_" && left && right;
  return {
    mark, length, left: length, opens: [], closes: [], place,
    canOpen: usable && left && (!within || signBefore),
    canClose: usable && right && (!within || signAfter),
  };
}

/** CommonMark's "process emphasis". @param {string} text @param {Atom[]} all @returns {Map<Atom, Run>} */
function pairs(text, all) {
  const runs = new Map();
  /** @type {Run[]} */
  const openers = [];
  /** Down to where there is no opener for this kind of closer. @type {Map<string, number>} */
  const bottom = new Map();
  for (const [place, atom] of all.entries()) {
    if (atom.type !== "marks") continue;
    const one = run(text, atom, place);
    runs.set(atom, one);
    const kind = `${one.mark}${one.canOpen}${one.length % 3}`;
    while (one.canClose && one.left) {
      const opener = openerFor(openers, one, bottom.get(kind) ?? -1);
      if (opener < 0) {
        bottom.set(kind, openers.at(-1)?.place ?? -1);
        break;
      }
      const used = openers[opener].left > 1 && one.left > 1 ? 2 : 1;
      openers[opener].opens.push(used);
      one.closes.push(used);
      openers[opener].left -= used;
      one.left -= used;
      openers.length = openers[opener].left ? opener + 1 : opener;
    }
    if (one.canOpen && one.left) openers.push(one);
  }
  return runs;
}

/** @param {Run[]} openers @param {Run} closer @param {number} bottom */
function openerFor(openers, closer, bottom) {
  for (let index = openers.length - 1; index >= 0 && openers[index].place > bottom; index -= 1) {
    const opener = openers[index];
    const odd = (opener.canClose || closer.canOpen) && (opener.length + closer.length) % 3 === 0 && opener.length % 3 !== 0;
    if (opener.mark === closer.mark && !odd) return index;
  }
  return -1;
}

/** @param {string} text @param {Atom[]} all @param {Map<Atom, Run>} runs @returns {Inline[]} */
function tree(text, all, runs) {
  /** @type {Inline[]} */
  const top = [];
  /** The styles that are open; without a style where they are too deep. @type {{ inner: Inline[], style: Style | null }[]} */
  const open = [];
  let inner = top;
  const write = (/** @type {string} */ plain) => {
    const last = inner.at(-1);
    if (last?.type === "text") last.text += plain;
    else if (plain) inner.push({ type: "text", text: plain });
  };
  for (const atom of all) {
    const one = runs.get(atom);
    const written = text.slice(atom.from, atom.to);
    if (atom.type === "text") write(written);
    else if (atom.type === "code") inner.push({ type: "code", text: codeText(written) });
    else if (!one) inner.push({ type: /** @type {"link" | "mention"} */ (atom.type), text: written });
    else {
      for (const length of one.closes) {
        const { inner: outer, style } = /** @type {typeof open[0]} */ (open.pop());
        if (style) inner = outer;
        else write(one.mark.repeat(length));
      }
      write(one.mark.repeat(one.left));
      for (const length of one.opens.reverse()) {
        const style = open.length < DEEPEST ? styleOf(one.mark, length) : null;
        open.push({ inner, style });
        if (!style) write(one.mark.repeat(length));
        else {
          /** @type {Inline[]} */
          const within = [];
          inner.push({ type: style, inner: within });
          inner = within;
        }
      }
    }
  }
  return top;
}

/** @param {string} mark @param {number} length @returns {Style} */
function styleOf(mark, length) {
  if (mark === "~") return "strike";
  return length === 2 ? "bold" : "italic";
}

/** @param {string} span */
function codeText(span) {
  let marks = 0;
  while (span[marks] === "`") marks += 1;
  const text = span.slice(marks, -marks).replaceAll("\n", " ");
  return text.length > 2 && text.startsWith(" ") && text.endsWith(" ") && text.trim() ? text.slice(1, -1) : text;
}
