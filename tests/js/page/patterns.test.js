// No text takes long: each function that reads one, and each regular expression, on the texts that are worst for it.
//
// A text of 32 times the length may take some 32 times as long; what is quadratic takes a thousand times as long.

import assert from "node:assert/strict";
import { readFileSync, readdirSync } from "node:fs";
import { test } from "node:test";

import { suggestions } from "../../../twisted_chat/web/page/app/completion.js";
import { withEmoji } from "../../../twisted_chat/web/page/app/emoji.js";
import { parse } from "../../../twisted_chat/web/page/app/markdown.js";
import { Names } from "../../../twisted_chat/web/page/app/names.js";
import { isRoomName, readRoute } from "../../../twisted_chat/web/page/app/route.js";
import { brief } from "../../../twisted_chat/web/page/app/brief.js";
import { charactersBeyond, directionsEnd, mentions } from "../../../twisted_chat/web/page/app/text.js";

const APP = new URL("../../../twisted_chat/web/page/app/", import.meta.url);
/** Characters; what somebody pastes by mistake is longer than what a message may have. */
const SHORT = 1 << 12;
const LONG = SHORT * 32;
/** How many times as long the long text may take: six times what is linear, a fifth of what is quadratic. */
const MOST = 200;
/** Milliseconds: the short text is taken to take this at least. */
const LEAST = 0.5;

const filled = (piece, before = "", after = "") => (length) => before + piece.repeat(Math.ceil(length / piece.length)).slice(0, length) + after;
const halves = (first, second) => (length) => filled(first)(length / 2) + filled(second)(length / 2);

/** Milliseconds of the processor, the least of some rounds: what else the machine does counts little. */
function took(work, text, rounds = 3, enough = 0) {
  let least = Infinity;
  for (let round = 0; round < rounds && least > enough; round += 1) {
    const before = process.cpuUsage();
    work(text);
    const { user, system } = process.cpuUsage(before);
    least = Math.min(least, (user + system) / 1000);
  }
  return least;
}

/** @param {(text: string) => unknown} work @param {(length: number) => string} text */
function assertLinear(work, text, what) {
  const short = Math.max(LEAST, took(work, text(SHORT)));
  const long = took(work, text(LONG), 6, short * MOST);
  assert.ok(long < short * MOST, `${what}: ${short.toFixed(1)} ms, and ${long.toFixed(1)} ms for 32 times the length`);
}

const names = new Names(Array.from({ length: 2_000 }, (_, number) => `Person ${number}`), "Alice Example");
const READERS = {
  parse: (text) => parse(text, names),
  withEmoji,
  mentions: (text) => mentions(text, "Alice Example", names),
  suggestions: (text) => suggestions(text, text.length, ["Alice", "Bob Example"]),
  brief,
  directionsEnd,
  charactersBeyond: (text) => charactersBeyond(text, 1000),
  readRoute,
  isRoomName,
};
const TEXTS = [
  "\n", " ", "\t", "\u2028", "a\n", "\n ", " \n", "*", "**", "***", "* ", "*a", "a*", "*a ", "a* ", "*a_b", "_", "_a", "a_", "_a ", "~", "~~", "~~a ", "`", "``a", "`a``b```c", "`a ", "```\n", "```a\n", " ```\n", "````\n```\n",
  "> ", ">", ">>>>a\n", "> a\n", "> ```\n", "@", "@a", "@a ", "@ ", "@a.", "@a-", "@alice ", "@alice example", "http://", "http://a", "http://a ", "http://a(", "http://a)", "http://[", "HTTP://a.~~", "(", ")", "([{", ":", ":a", ":a:", "::", ":cat:", ":cat::", "/", "/a", "#/", "é", "🎉", "\ud83c", "\u202e", "\u2067\u202a", "\u202a\u2069", "e\u0301", "a.", "-", "\\", "'",
];

for (const [name, read] of Object.entries(READERS)) {
  test(`${name} of any text is linear`, () => {
    for (const piece of TEXTS) {
      assertLinear(read, filled(piece), `${name}, ${JSON.stringify(piece)} repeated`);
      assertLinear(read, filled(piece, "a", "a"), `${name}, ${JSON.stringify(piece)} repeated, within others`);
    }
    assertLinear(read, halves("**a ", "b** "), `${name}, nested`);
    assertLinear(read, halves("*a _b ", "c* d_ "), `${name}, crossed`);
  });
}

/** Each pattern of the page, with texts on which a careless engine goes back most often: [before, repeated, after]. */
const PATTERNS = {
  "completion.js": { "(?:^|\\s)([@:])([\\p{L}\\p{N}_+.-]*)$": [["", " @a", "!"], ["@", "a", "!"], ["", " @", "!"]], "^\\/\\w*$": [["/", "a", "!"]], "\\s+": [["a", " ", "a"]] },
  "dom.js": { "[\\s._-]+": [["a", " ", "a"], ["", "a-", ""]] },
  "emoji.js": { "(?<![:/])(?::[a-z0-9_+-]+:)+(?![:/])": [["", ":a:", ":"], ["", ":a", ""], ["", ":", "a"], [":", "a", "!"], ["", ":a: ", ""]], ":[^:]+:": [[":", "a", ""], ["", ":a", ""], ["", ":", ""]] },
  "form.js": { "^([a-z_]+): (.*)$": [["", "a", ""], ["", "_", ":"], ["a: ", "b", "\n"], ["", "a: ", "\n"]] },
  "page.js": { "^@": [["", "@", ""], ["", "a", "@"]] },
  "links.js": {
    "https?:\\/\\/[\\p{L}\\p{N}[]": [["", "http:/", ""], ["", "http://", ""]],
    "[\\s<>\"`。、，\\p{Cc}\\u061c\\u200e\\u200f\\u202a-\\u202e\\u2066-\\u2069]": [["", "a", ""]],
    "[A-Za-z0-9]": [["", " ", ""]],
  },
  "markdown.js": {
    "\\r\\n?|\\n": [["", "\r", ""], ["", "\r\n", ""]],
    "^( {0,3})(`{3,})([^`]*)$": [["", "`", "a`"], ["```", "a", "`"], ["   ", "`", "` `"]],
    "^ {0,3}(`{3,})[ \\t]*$": [["", "`", "a"], ["```", " ", "a"], ["", " ", ""]],
    "^ {0,3}> ?": [["", " ", ">"], ["", ">", ""]],
    "`+|https?:\\/\\/|@|\\*+|_+|~+": [["", "`", ""], ["", "http:/", ""], ["", "~*_", ""]],
    "`+": [["", "`", ""], ["", "` ", ""]],
    "\\s": [["", "a", ""]],
    "[\\p{P}\\p{S}]": [["", "a", ""]],
  },
  "names.js": {
    "[\\p{L}\\p{N}_][\\p{L}\\p{M}\\p{N}_.-]{0,63}": [["", "a", ""], ["", "a.", "!"]],
    "[\\p{L}\\p{M}\\p{N}_]": [["", " ", ""]],
    "[+%@/.-]": [["", "a", ""]],
  },
  "room.js": { "^\\/(\\w+)(?:\\s+([^]*))?$": [["/", "a", "!"], ["/a", " ", ""], ["/a", " \n", "b"]], "^ (?=\\/)": [["", " ", "/"]] },
  "route.js": { "^#(invite|setup)=([\\w.~-]{1,128})$": [["#setup=", "a", "!"], ["#invite=", "~-", ""], ["", "#setup=", ""]], "^#\\/([^/?]+)(?:\\/(\\d{1,15}))?(?:\\?(.*))?$": [["#/", "a", "/"], ["#/a/", "1", "!"], ["#/a?", "b", "\n"]], "^[\\p{L}\\p{N}][\\p{L}\\p{N}\\p{M}_.~@+-]*$": [["", "a", "!"]] },
  "brief.js": { "```[^\\s`]*": [["", "`", ""], ["```", "a", "`"], ["", "```a", ""]], "\\s+": [["a", " ", "a"]] },
  "row.js": { "^(?:\\p{Extended_Pictographic}[\\u{1f3fb}-\\u{1f3ff}\\ufe0f\\u200d]*\\s?){1,3}$": [["", "🎉", "!"], ["🎉", "\ufe0f", "!"], ["🎉", "\u200d", "🎉🎉!"]] },
  "text.js": { "[\\u202a-\\u202e\\u2066-\\u2069]": [["", "\u202e", ""], ["", "a", ""]] },
};

/** The regular expressions that a module is written with. */
function patternsOf(file) {
  const source = readFileSync(new URL(file, APP), "utf8").replace(/^\s*(?:\/\/.*|\/\*\*.*\*\/)$/gm, "");
  return [...source.matchAll(/(?<=[(=,!&|:?] ?)\/(?![/*])((?:[^/\\\n[]|\\.|\[(?:[^\]\\\n]|\\.)*\])+)\/([dgimsuvy]*)/g)].map(([, pattern, flags]) => [pattern, flags]);
}

for (const file of readdirSync(APP).filter((name) => name.endsWith(".js"))) {
  for (const [pattern, flags] of patternsOf(file)) {
    test(`${file} /${pattern}/${flags} is linear`, () => {
      const worst = PATTERNS[file]?.[pattern];

      assert.ok(worst, "this pattern has no worst text in the table");
      const work = (text) => text.replace(new RegExp(pattern, flags.replace("y", "")), "");
      for (const [before, piece, after] of worst) assertLinear(work, filled(piece, before, after), JSON.stringify(piece));
    });
  }
}

test("the table has no pattern that is gone", () => {
  for (const [file, patterns] of Object.entries(PATTERNS)) assert.deepEqual(Object.keys(patterns).filter((each) => !patternsOf(file).some(([pattern]) => pattern === each)), [], file);
});
