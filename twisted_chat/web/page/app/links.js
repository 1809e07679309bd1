// @ts-check
// Where an address in a text ends.  One pass for each address, however it is written.

const BEGINNING = /https?:\/\/[\p{L}\p{N}[]/iuy;
/** What can be no part of an address; marks of direction would let it read as another one. */
const OUTSIDE = /[\s<>"`。、，\p{Cc}\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/u;
/** Longer ones are text: no browser or server takes them. */
const LONGEST = 2_048;
const BRACKETS = new Map([["(", ")"], ["[", "]"], ["{", "}"], ["（", "）"], ["「", "」"], ["『", "』"], ["【", "】"], ["《", "》"], ["〈", "〉"]]);
const CLOSING = new Set(BRACKETS.values());
/** What belongs to the sentence if an address ends with it. */
const PUNCTUATION = new Set("?!.,:;*_'…！？：；．｡､’”»›");

/**
 * What begins at that place: the end of the address, or 0 if it is none, and the end of what was read for it.
 * @param {string} text @param {number} from @returns {{ end: number, read: number }}
 */
export function addressAt(text, from) {
  const none = { end: 0, read: 0 };
  if (/[A-Za-z0-9]/.test(text[from - 1] ?? " ")) return none;
  BEGINNING.lastIndex = from;
  if (!BEGINNING.test(text)) return none;
  const read = endOf(text, from);
  const end = withoutPunctuation(text, from, read);
  return { end: end - from <= LONGEST && URL.canParse(text.slice(from, end)) ? end : 0, read };
}

/** Up to what is outside, and to a bracket that closes none of the address's own. @param {string} text @param {number} from */
function endOf(text, from) {
  /** How many are open, by what closes them. @type {Map<string, number>} */
  const open = new Map();
  for (let place = from; place < text.length; place += 1) {
    const character = text[place];
    if (OUTSIDE.test(character)) return place;
    const closes = BRACKETS.get(character);
    const count = open.get(closes ?? character) ?? 0;
    if (closes) open.set(closes, count + 1);
    else if (CLOSING.has(character) && !count) return place;
    else if (count) open.set(character, count - 1);
  }
  return text.length;
}

/** @param {string} text @param {number} from @param {number} to */
function withoutPunctuation(text, from, to) {
  while (to > from) {
    const last = text[to - 1];
    if (last === "~" && text[to - 2] === "~") to -= 2;
    else if (PUNCTUATION.has(last) || BRACKETS.has(last)) to -= 1;
    else return to;
  }
  return to;
}
