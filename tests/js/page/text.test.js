// Light Markdown as data.

import assert from "node:assert/strict";
import { test } from "node:test";

import { suggestions } from "../../../twisted_chat/web/page/app/completion.js";
import { withEmoji } from "../../../twisted_chat/web/page/app/emoji.js";
import { address, isRoomName, readRoute } from "../../../twisted_chat/web/page/app/route.js";
import { mentions, parse } from "../../../twisted_chat/web/page/app/text.js";

/** A short way to write what was understood. */
function read(text) {
  const one = (part) => (part.inner ? `${part.type}(${part.inner.map(one).join("")})` : part.type === "text" ? part.text : `${part.type}<${part.text}>`);
  return parse(text).map(one).join(" | ");
}

const CASES = {
  "plain text": "paragraph(plain text)",
  "two\nlines": "paragraph(two\nlines)",
  "**bold** and *italic* and _italic_ and ~~gone~~": "paragraph(bold(bold) and italic(italic) and italic(italic) and strike(gone))",
  "***": "paragraph(***)",
  "2 * 3 * 4": "paragraph(2 * 3 * 4)",
  "snake_case_name": "paragraph(snake_case_name)",
  "**never closed": "paragraph(**never closed)",
  "**not\nover lines**": "paragraph(**not\nover lines**)",
  "**a *nested* style**": "paragraph(bold(a italic(nested) style))",
  "`**code**`": "paragraph(code<**code**>)",
  "```\ncode\n```": "block<code>",
  "```js\nlet x;\n```after": "block<let x;> | paragraph(after)",
  "> quoted\n> more\nnot": "quote(quoted\nmore) | paragraph(not)",
  "see https://example.org/a_b_c, ok": "paragraph(see link<https://example.org/a_b_c>, ok)",
  "(https://example.org)": "paragraph((link<https://example.org>))",
  "https://en.example.org/wiki/A_(b)": "paragraph(link<https://en.example.org/wiki/A_(b)>)",
  "javascript:alert(1)": "paragraph(javascript:alert(1))",
  "hi @alice.": "paragraph(hi mention<@alice>.)",
  "mail@example.org": "paragraph(mail@example.org)",
  "": "",
};

for (const [text, understood] of Object.entries(CASES)) {
  test(JSON.stringify(text), () => assert.equal(read(text), understood));
}

test("no text takes long", () => {
  for (const piece of ["*", "_", "~~", "`", "**a ", "@", "http://", "> ", "```", "*_", "(", "\n"]) {
    const began = performance.now();
    parse(piece.repeat(16_384 / piece.length));
    assert.ok(performance.now() - began < 500, `${piece}: ${performance.now() - began} ms`);
  }
});

test("who is called", () => {
  assert.ok(mentions("hi @Alice!", "alice"));
  assert.ok(mentions("@alice", "Alice"));
  assert.ok(mentions("@Alice Example: look", "Alice Example"));
  assert.ok(!mentions("@alicette", "alice"));
  assert.ok(!mentions("alice", "alice"));
});

test("emoji by name, outside of code, and only known ones", () => {
  assert.equal(withEmoji(":tada: `:tada:` :constructor: 10:30:00"), "🎉 `:tada:` :constructor: 10:30:00");
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
