// What the page knows of a room.

import assert from "node:assert/strict";
import { test } from "node:test";

import { Timeline, fold } from "../../../twisted_chat/web/page/app/timeline.js";

const said = (seq, more = {}) => ({ seq, id: `e${seq}`, kind: "message", at: seq, by: { id: "u1", name: "alice" }, text: `t${seq}`, ...more });
const page = (events, more_before = false, more_after = false) => ({ head: 99, events, more_before, more_after });

function loaded(...seqs) {
  const timeline = new Timeline();
  timeline.reset(page(seqs.map((seq) => said(seq))));
  return timeline;
}

test("pages and events join without doubles", () => {
  const timeline = new Timeline();
  timeline.reset(page([said(5), said(6)], true));
  assert.equal(timeline.prepend(page([said(3), said(4), said(5)])), 2);
  assert.equal(timeline.apply(said(6)), "nothing");
  assert.equal(timeline.apply(said(7)), "added");
  assert.deepEqual(timeline.items.map(({ seq }) => seq), [3, 4, 5, 6, 7]);
  assert.equal(timeline.moreBefore, false);
});

test("while an older stretch is shown, news are only counted", () => {
  const timeline = new Timeline();
  timeline.reset(page([said(1), said(2)], false, true));
  assert.equal(timeline.apply(said(9)), "missed");
  timeline.append(page([said(3)], false, true));
  assert.equal(timeline.live, false);
  timeline.append(page([said(9)]));
  assert.equal(timeline.live, true);
  assert.equal(timeline.apply(said(10)), "added");
});

test("numbers are found, also with holes between", () => {
  const timeline = loaded(2, 5, 9);
  assert.deepEqual([1, 2, 3, 5, 9, 10].map((seq) => timeline.placeOf(seq)), [-1, 0, -1, 1, 2, -1]);
  assert.equal(timeline.get(5)?.text, "t5");
});

test("edits, deletions and reactions fold in, and twice is once", () => {
  const timeline = loaded(1, 2);
  const edit = { seq: 3, id: "e3", kind: "edit", at: 3, by: { id: "u1", name: "alice" }, of: 1, revision: 2, text: "new" };
  const like = { seq: 4, id: "e4", kind: "reaction", at: 4, by: { id: "u2", name: "bob" }, of: 1, emoji: "👍", on: true };
  for (const event of [edit, like, edit, like]) assert.equal(timeline.apply(event), "amended");
  assert.deepEqual([timeline.get(1)?.text, timeline.get(1)?.revision, timeline.get(1)?.reactions], ["new", 2, [{ emoji: "👍", by: ["u2"] }]]);
  timeline.apply({ ...like, seq: 5, on: false });
  assert.deepEqual(timeline.get(1)?.reactions, []);
  timeline.apply({ seq: 6, id: "e6", kind: "delete", at: 6, by: { id: "u1", name: "alice" }, of: 1 });
  assert.deepEqual([timeline.get(1)?.gone, timeline.get(1)?.text], [true, undefined]);
  timeline.apply(edit);
  assert.equal(timeline.get(1)?.text, undefined);
});

test("reactions of which only the first people are named are counted", () => {
  const timeline = new Timeline();
  timeline.reset({ head: 9, events: [said(1, { reactions: [{ emoji: "👍", by: ["u2", "u3"], count: 5 }] })], more_before: false, more_after: false });
  const like = { seq: 10, id: "e10", kind: "reaction", at: 4, by: { id: "u9", name: "zoe" }, of: 1, emoji: "👍", on: true };
  const shown = () => timeline.get(1)?.reactions;
  timeline.apply({ ...like, seq: 9 });
  assert.deepEqual(shown(), [{ emoji: "👍", by: ["u2", "u3"], count: 5 }]);
  for (const event of [like, like]) timeline.apply(event);
  assert.deepEqual(shown(), [{ emoji: "👍", by: ["u2", "u3", "u9"], count: 6 }]);
  timeline.apply({ ...like, seq: 11, on: false });
  timeline.apply({ ...like, seq: 12, on: false, by: { id: "u5", name: "eve" } });
  timeline.apply({ ...like, seq: 13, on: false, by: { id: "u2", name: "bob" } });
  assert.deepEqual(shown(), [{ emoji: "👍", by: ["u3"], count: 3 }]);
  timeline.apply({ ...like, seq: 14, on: false, by: { id: "u6", name: "kim" } });
  timeline.apply({ ...like, seq: 15, on: false, by: { id: "u7", name: "lee" } });
  assert.deepEqual(shown(), [{ emoji: "👍", by: ["u3"] }]);
});

test("what it does not know changes nothing", () => {
  const timeline = loaded(1);
  assert.equal(timeline.apply({ ...said(2), kind: "later", of: 1 }), "amended");
  assert.equal(fold(said(1), { ...said(2), kind: "later" }).text, "t1");
  assert.equal(timeline.apply({ ...said(3), kind: "edit", of: 77, revision: 2 }), "nothing");
});
