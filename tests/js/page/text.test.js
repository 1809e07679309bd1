// Light Markdown as data.

import assert from "node:assert/strict";
import { test } from "node:test";

import { suggestions } from "../../../twisted_chat/web/page/app/completion.js";
import { withEmoji } from "../../../twisted_chat/web/page/app/emoji.js";
import { parse } from "../../../twisted_chat/web/page/app/markdown.js";
import { Names } from "../../../twisted_chat/web/page/app/names.js";
import { address, isRoomName, readRoute } from "../../../twisted_chat/web/page/app/route.js";
import { charactersBeyond, directionsEnd, mentions } from "../../../twisted_chat/web/page/app/text.js";

/** A short way to write what was understood. */
function read(text, names = []) {
  const one = (part) => (part.inner ? `${part.type}(${part.inner.map(one).join("")})` : part.type === "text" ? part.text : `${part.type}<${part.text}>`);
  const block = (each) => (each.blocks ? `quote(${each.blocks.map(block).join(" | ")})` : each.type === "block" ? `block${each.info && `:${each.info}`}<${each.text}>` : one(each));
  return parse(text, new Names(names)).map(block).join(" | ");
}

/** What a reader sees of it. */
function shown(text) {
  const one = (part) => (part.inner ? part.inner.map(one).join("") : part.text);
  const block = (each) => (each.blocks ? each.blocks.map(block).join("\n") : each.type === "block" ? `${each.info}\n${each.text}` : one(each));
  return parse(text).map(block).join("\n");
}

/** Each rule with what it makes of some texts. */
const RULES = {
  "lines and paragraphs": {
    "": "",
    "plain text": "paragraph(plain text)",
    "two\nlines": "paragraph(two\nlines)",
    "one\n\n\n \ntwo": "paragraph(one) | paragraph(two)",
    "\n\nfirst": "paragraph(first)",
    "  indented\n    more": "paragraph(  indented\n    more)",
    "\\*not escaped\\*": "paragraph(\\italic(not escaped\\))",
  },
  "emphasis": {
    "**bold** and *italic* and _italic_ and ~~gone~~": "paragraph(bold(bold) and italic(italic) and italic(italic) and strike(gone))",
    "***": "paragraph(***)",
    "2 * 3 * 4": "paragraph(2 * 3 * 4)",
    "2*3*4": "paragraph(2italic(3)4)",
    "** not bold **": "paragraph(** not bold **)",
    "**never closed": "paragraph(**never closed)",
    "never opened**": "paragraph(never opened**)",
    "**over\nlines**": "paragraph(bold(over\nlines))",
    "**not over\n\nparagraphs**": "paragraph(**not over) | paragraph(paragraphs**)",
    "**a *nested* style**": "paragraph(bold(a italic(nested) style))",
    "***both***": "paragraph(italic(bold(both)))",
    "***a** b*": "paragraph(italic(bold(a) b))",
    "***a* b**": "paragraph(bold(italic(a) b))",
    "**a*": "paragraph(*italic(a))",
    "*a**": "paragraph(italic(a)*)",
    "*a **b* c**": "paragraph(italic(a italic(italic(b) c)))",
    "*a _b* c_": "paragraph(italic(a _b) c_)",
    "*a**b*": "paragraph(italic(a**b))",
    "**a ~~b~~ _c_**": "paragraph(bold(a strike(b) italic(c)))",
    "~one~ ~~~three~~~": "paragraph(~one~ ~~~three~~~)",
    "*\"quoted\"*": "paragraph(italic(\"quoted\"))",
    "a*\"quoted\"*": "paragraph(a*\"quoted\"*)",
    "*(*in brackets*)*": "paragraph(italic((italic(in brackets))))",
    "🎉*party*🎉": "paragraph(🎉italic(party)🎉)",
    "*a *b *c *d *e f* e* d* c* b*": "paragraph(italic(a italic(b italic(c italic(d *e f* e) d) c) b))",
  },
  "underscores": {
    "snake_case_name": "paragraph(snake_case_name)",
    "__init__": "paragraph(__init__)",
    "__init__.py and __main__": "paragraph(__init__.py and __main__)",
    "_private and other_": "paragraph(italic(private and other))",
    "_a_b_": "paragraph(italic(a_b))",
    "наш_общий_дом": "paragraph(наш_общий_дом)",
    "(_a_)": "paragraph((italic(a)))",
    "¯\\_(ツ)_/¯": "paragraph(¯\\italic((ツ))/¯)",
    "___": "paragraph(___)",
  },
  "code spans": {
    "`**code**`": "paragraph(code<**code**>)",
    "``a ` b``": "paragraph(code<a ` b>)",
    "`` `a` ``": "paragraph(code<`a`>)",
    "` a `": "paragraph(code<a>)",
    "`  `": "paragraph(code<  >)",
    "`a`` b": "paragraph(`a`` b)",
    "`over\nlines`": "paragraph(code<over lines>)",
    "`not over\n\nparagraphs`": "paragraph(`not over) | paragraph(paragraphs`)",
    "**a `b** c`": "paragraph(**a code<b** c>)",
    "```in one line```": "paragraph(code<in one line>)",
    "look: ```in one line``` there": "paragraph(look: code<in one line> there)",
    "```a``` and ```b```": "paragraph(code<a> and code<b>)",
    "never ` closed": "paragraph(never ` closed)",
  },
  "fenced code": {
    "```\ncode\n```": "block<code>",
    "```js\nlet x;\n```": "block:js<let x;>",
    "``` js strict \nlet x;\n```": "block:js strict<let x;>",
    "a\n```\nb\n```\nc": "paragraph(a) | block<b> | paragraph(c)",
    "````\n```\ncode\n```\n````": "block<```\ncode\n```>",
    "```\ncode\n`````": "block<code>",
    "```\ncode\n``": "block<code\n``>",
    "```\ncode\n``` not the end\n```": "block<code\n``` not the end>",
    "```\n\n  two\n\n```": "block<\n  two\n>",
    "  ```\n   a\n  b\n c\n  ```": "block< a\nb\nc>",
    "    ```\na\n    ```": "paragraph(    code<a    >)",
    "```\nnever closed": "block<never closed>",
    "```": "paragraph(```)",
    "```only a beginning": "paragraph(```only a beginning)",
    "text\n```\n": "paragraph(text\n```)",
    "```\n```": "block<>",
    "a\r\n```js\r\nb\r\nc\r\n```\r\nd\re": "paragraph(a) | block:js<b\nc> | paragraph(d\ne)",
    "```\n**a** @b http://c\n```": "block<**a** @b http://c>",
    "a``` b": "paragraph(a``` b)",
  },
  "quotations": {
    "> quoted\n> more\nnot": "quote(paragraph(quoted\nmore)) | paragraph(not)",
    ">close": "quote(paragraph(close))",
    ">  wide": "quote(paragraph( wide))",
    "   > indented": "quote(paragraph(indented))",
    "    > text": "paragraph(    > text)",
    "a > b": "paragraph(a > b)",
    "> a\n>\n> b": "quote(paragraph(a) | paragraph(b))",
    "> a\n\n> b": "quote(paragraph(a)) | quote(paragraph(b))",
    "> > inner\n> outer": "quote(quote(paragraph(inner)) | paragraph(outer))",
    "> ```\n> code\n> ```": "quote(block<code>)",
    "> ```\n> code\nout": "quote(block<code>) | paragraph(out)",
    ">>>>>> deep": "quote(quote(quote(quote(paragraph(>> deep)))))",
    "> **b**": "quote(paragraph(bold(b)))",
  },
  "addresses": {
    "see https://example.org/a_b_c, ok": "paragraph(see link<https://example.org/a_b_c>, ok)",
    "(https://example.org)": "paragraph((link<https://example.org>))",
    "(see https://example.org/a.)": "paragraph((see link<https://example.org/a>.))",
    "[https://example.org/a]": "paragraph([link<https://example.org/a>])",
    "[a](https://example.org/a) b": "paragraph([a](link<https://example.org/a>) b)",
    "<https://example.org/a>": "paragraph(<link<https://example.org/a>>)",
    "\"https://example.org/a\"": "paragraph(\"link<https://example.org/a>\")",
    "'https://example.org/a'": "paragraph('link<https://example.org/a>')",
    "https://en.example.org/wiki/A_(b)": "paragraph(link<https://en.example.org/wiki/A_(b)>)",
    "(https://en.example.org/wiki/A_(b))": "paragraph((link<https://en.example.org/wiki/A_(b)>))",
    "https://example.org/?a[]=1&b={c}": "paragraph(link<https://example.org/?a[]=1&b={c}>)",
    "https://example.org/Rubik's_Cube": "paragraph(link<https://example.org/Rubik's_Cube>)",
    "HTTP://EXAMPLE.ORG/A and Https://b.example": "paragraph(link<HTTP://EXAMPLE.ORG/A> and link<Https://b.example>)",
    "https://example.org/~": "paragraph(link<https://example.org/~>)",
    "https://example.org/~user/": "paragraph(link<https://example.org/~user/>)",
    "~~https://example.org/a~~": "paragraph(strike(link<https://example.org/a>))",
    "**https://example.org/a**": "paragraph(bold(link<https://example.org/a>))",
    "_https://example.org/a_": "paragraph(italic(link<https://example.org/a>))",
    "**see https://example.org/a_b**, then": "paragraph(bold(see link<https://example.org/a_b>), then)",
    "https://example.org/a?!": "paragraph(link<https://example.org/a>?!)",
    "https://example.org/a...": "paragraph(link<https://example.org/a>...)",
    "https://example.org/a。": "paragraph(link<https://example.org/a>。)",
    "見て https://example.org/a。次": "paragraph(見て link<https://example.org/a>。次)",
    "「https://example.org/a」": "paragraph(「link<https://example.org/a>」)",
    "見てhttps://example.org/東京（a）": "paragraph(見てlink<https://example.org/東京（a）>)",
    "https://example.org/a#b:~:text=c,d": "paragraph(link<https://example.org/a#b:~:text=c,d>)",
    "http://[::1]:8080/a and http://127.0.0.1": "paragraph(link<http://[::1]:8080/a> and link<http://127.0.0.1>)",
    "https://example.org:443/a@b": "paragraph(link<https://example.org:443/a@b>)",
    "http:// and https://. and xhttp://a.b": "paragraph(http:// and https://. and xhttp://a.b)",
    "https://example.org:port/": "paragraph(https://example.org:port/)",
    "https://a.example\u202egpj.exe": "paragraph(link<https://a.example>\u202egpj.exe)",
    "javascript:alert(1)": "paragraph(javascript:alert(1))",
    "`https://example.org`": "paragraph(code<https://example.org>)",
  },
  "calls": {
    "hi @alice.": "paragraph(hi mention<@alice>.)",
    "@a.b-c: look": "paragraph(mention<@a.b-c>: look)",
    "**@alice**": "paragraph(bold(mention<@alice>))",
    "(@alice)": "paragraph((mention<@alice>))",
    "@alice's": "paragraph(mention<@alice>'s)",
    "mail@example.org": "paragraph(mail@example.org)",
    "first.last+tag@example.org": "paragraph(first.last+tag@example.org)",
    "@user@example.org": "paragraph(@user@example.org)",
    "example.org/@alice": "paragraph(example.org/@alice)",
    "https://example.org/@alice": "paragraph(link<https://example.org/@alice>)",
    "https://@alice": "paragraph(https://@alice)",
    "`@alice`": "paragraph(code<@alice>)",
    "@ alice @": "paragraph(@ alice @)",
    "@@alice": "paragraph(@@alice)",
    "@Łukasz, @王": "paragraph(mention<@Łukasz>, mention<@王>)",
  },
};

for (const [rule, texts] of Object.entries(RULES)) {
  test(rule, async (context) => {
    for (const [text, understood] of Object.entries(texts)) await context.test(JSON.stringify(text), () => assert.equal(read(text), understood));
  });
}

test("of names that people have, the longest is called", () => {
  const names = ["Al", "Al Ample", "O'Brien", "J.R."];
  assert.equal(read("@Al Ample: hi", names), "paragraph(mention<@Al Ample>: hi)");
  assert.equal(read("@al amply", names), "paragraph(mention<@al> amply)");
  assert.equal(read("@O'Brien @J.R. @j.r.x", names), "paragraph(mention<@O'Brien> mention<@J.R.> mention<@j.r.x>)");
});

test("text is never lost", () => {
  const random = randomFrom(7);
  const pieces = ["`", "``", "```", "````", "*", "**", "_", "__", "~~", "@", "@ann", "http://a.b", "(", ")", "]", "'", "。", ":cat:", "\n", "\n```\n", "\n> ", " ", "x", "é", "🎉", "\\"];
  const bare = (text) => [...text.replace(/[\s`*_~>]/g, "")].join("");
  for (let round = 0; round < 3000; round += 1) {
    const text = Array.from({ length: 1 + random(14) }, () => pieces[random(pieces.length)]).join("");
    assert.equal(bare(shown(text)), bare(text), JSON.stringify(text));
    assert.equal(bare(withEmoji(text).replaceAll("🐱", ":cat:")), bare(text), JSON.stringify(text));
  }
});

/** Numbers that are the same in each run. */
function randomFrom(seed) {
  return (below) => {
    seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
    return Math.floor((seed / 2 ** 32) * below);
  };
}

test("who is called", () => {
  const called = (text, name, ...others) => mentions(text, name, new Names(others, name));
  for (const text of ["hi @Alice!", "@alice", "@ALICE: look", "see (@alice)", "> @alice said", "**@alice**", "a\n@alice"]) assert.ok(called(text, "Alice"), text);
  for (const text of ["@alicette", "alice", "@alice-marie", "@alice.b", "`@alice`", "```\n@alice\n```", "bob@alice.example", "x@alice", "https://x.example/@alice", "@alice@x.example"]) {
    assert.ok(!called(text, "alice"), text);
  }
  assert.ok(called("@Alice Example: look", "Alice Example"));
  assert.ok(called("@Alice Example: look", "Alice Example", "Alice"));
  assert.ok(!called("@Alice Example: look", "Alice", "Alice Example"));
  assert.ok(called("@Alice Exam: look", "Alice", "Alice Example"));
  assert.ok(mentions("@Alice Example", "alice example"));
});

test("emoji by name, outside of code and addresses, and only known ones", () => {
  assert.equal(withEmoji(":tada: `:tada:` :constructor: 10:30:00"), "🎉 `:tada:` :constructor: 10:30:00");
  assert.equal(withEmoji("```\n:cat:\n```\n:cat:"), "```\n:cat:\n```\n🐱");
  assert.equal(withEmoji("> :cat:\n> > :dog:\n:cat:"), "> 🐱\n> > 🐶\n🐱");
  assert.equal(withEmoji("https://example.org/:cat:/ and ftp://a/:cat:/x :cat:"), "https://example.org/:cat:/ and ftp://a/:cat:/x 🐱");
  assert.equal(withEmoji("std::key::value :cat::dog: nice:tada:"), "std::key::value 🐱🐶 nice🎉");
  assert.equal(withEmoji("**:cat:** :raised_hands: @a:cat:"), "**🐱** 🙌 @a🐱");
});

test("how much is too much", () => {
  assert.equal(charactersBeyond("abc", 3), 0);
  assert.equal(charactersBeyond("abcd", 3), 1);
  assert.equal(charactersBeyond("äöü", 6), 0);
  assert.equal(charactersBeyond("äöü", 5), 1);
  assert.equal(charactersBeyond("äöü", 3), 2);
  assert.equal(charactersBeyond("🎉🎉", 4), 1);
  assert.equal(charactersBeyond("🎉🎉", 3), 2);
});

test("directions that a text leaves open", () => {
  assert.equal(directionsEnd("plain"), "");
  assert.equal(directionsEnd("a \u202e b"), "\u202c");
  assert.equal(directionsEnd("a \u202e b \u202c"), "");
  assert.equal(directionsEnd("\u2067 \u202a x"), "\u202c\u2069");
  assert.equal(directionsEnd("\u2067 \u202a x \u2069"), "");
  assert.equal(directionsEnd("\u202a x \u2069"), "\u202c");
  assert.equal(directionsEnd("\u202e first\nlast"), "");
});

test("suggestions", () => {
  const labels = (text, people = ["Alice", "Albert Ample", "Bob"]) => suggestions(text, text.length, people).map(({ insert }) => insert);
  assert.deepEqual(labels("hi @al"), ["@Alice ", "@Albert Ample "]);
  assert.deepEqual(labels("@amp"), ["@Albert Ample "]);
  assert.deepEqual(labels("mail@al"), []);
  assert.deepEqual(labels(":rocke"), ["🚀 "]);
  assert.deepEqual(labels("/to"), ["/topic "]);
  assert.deepEqual(labels("a /to"), []);
});

test("addresses", () => {
  assert.deepEqual(readRoute("#/caf%C3%A9/12"), { room: "café", seq: 12, name: null, token: null });
  assert.deepEqual(readRoute("#/lobby?name=Bob&token=x.y"), { room: "lobby", seq: 0, name: "Bob", token: "x.y" });
  assert.equal(readRoute("#/%ff"), null);
  assert.equal(readRoute("#other"), null);
  assert.equal(address("a b", 3), "#/a%20b/3");
  assert.ok(isRoomName("live.scores-2"));
  for (const name of ["", "-x", "a b", "<b>", "x".repeat(65)]) assert.ok(!isRoomName(name), name);
});
