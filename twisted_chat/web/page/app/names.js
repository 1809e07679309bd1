// @ts-check
// Who is called by `@name`: the longest name that somebody has, or else one word.

/** A word; full stops and dashes may stand within it. */
const WORD = /[\p{L}\p{N}_][\p{L}\p{M}\p{N}_.-]{0,63}/uy;
const PART = /[\p{L}\p{M}\p{N}_]/u;
/** Characters of a name, at most. */
const LONGEST = 64;

/** The names that people of a room have; looked at when the first `@` is. */
export class Names {
  /** @param {Iterable<string>} names @param {...(string | undefined)} more */
  constructor(names = [], ...more) {
    this._given = { names, more };
    /** In small letters. @type {Set<string> | null} */
    this._known = null;
  }

  /** Where the name that begins there ends, or 0. @param {string} text @param {number} from */
  endOf(text, from) {
    this._known ??= this._read();
    for (let end = Math.min(text.length, from + LONGEST); end > from; end -= 1) {
      if (ends(text, end) && this._known.has(text.slice(from, end).toLowerCase())) return end;
    }
    return 0;
  }

  _read() {
    const known = new Set();
    for (const name of this._given.names) known.add(name.toLowerCase());
    for (const name of this._given.more) if (name) known.add(name.toLowerCase());
    return known;
  }
}

/** Whether a name may end there. @param {string} text @param {number} end */
function ends(text, end) {
  const after = characterAt(text, end);
  return !PART.test(after) && !((after === "." || after === "-") && PART.test(characterAt(text, end + 1)));
}

/** Where the call that begins with this `@` ends, or 0 if it calls nobody. @param {string} text @param {number} at @param {Names} names */
export function callAt(text, at, names) {
  const before = characterBefore(text, at);
  if (PART.test(before) || /[+%@/.-]/.test(before)) return 0;
  const end = names.endOf(text, at + 1) || endOfWord(text, at + 1);
  // The first half of `@user@host` calls nobody here.
  return end && text[end] === "@" && PART.test(characterAt(text, end + 1)) ? 0 : end;
}

/** @param {string} text @param {number} from */
function endOfWord(text, from) {
  WORD.lastIndex = from;
  const match = WORD.exec(text);
  if (!match) return 0;
  let end = from + match[0].length;
  while (".-".includes(text[end - 1])) end -= 1;
  return end;
}

/** The whole character that begins there; a space at the end. @param {string} text @param {number} place */
export function characterAt(text, place) {
  return place < text.length ? String.fromCodePoint(/** @type {number} */ (text.codePointAt(place))) : " ";
}

/** The whole character that ends there; a space at the beginning. @param {string} text @param {number} place */
export function characterBefore(text, place) {
  const pair = place > 1 ? characterAt(text, place - 2) : "";
  return pair.length === 2 ? pair : (text[place - 1] ?? " ");
}
