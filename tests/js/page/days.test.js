// Which day a message is of, where days have 23 and 25 hours.

import assert from "node:assert/strict";
import { test } from "node:test";

process.env.TZ = "Europe/Berlin";
const { dayName, dayOf } = await import("../../../twisted_chat/web/page/app/row.js");

const at = (text) => new Date(text).getTime();

test("each moment of a day is of that day, however long the day is", () => {
  for (const day of ["2026-03-28", "2026-03-29", "2026-03-30", "2026-10-24", "2026-10-25", "2026-10-26", "2026-12-31"]) {
    const first = at(`${day}T00:00:00`);
    const last = at(`${day}T23:59:59`);
    for (let moment = first; moment <= last; moment += 900_000) assert.equal(dayOf(moment), new Date(first).toDateString());
    assert.notEqual(dayOf(first - 1), dayOf(first));
    assert.notEqual(dayOf(last + 1000), dayOf(last));
  }
});

test("yesterday is the day before, also across the hour that is left out or comes twice", () => {
  for (const [before, today] of [["2026-03-28", "2026-03-29"], ["2026-03-29", "2026-03-30"], ["2026-10-24", "2026-10-25"], ["2026-10-25", "2026-10-26"]]) {
    for (const then of ["00:00:01", "02:30:00", "12:00:00", "23:59:59"]) {
      for (const now of ["00:00:01", "00:30:00", "03:30:00", "12:00:00", "23:30:00", "23:59:59"]) {
        assert.equal(dayName(at(`${before}T${then}`), at(`${today}T${now}`)), "Yesterday", `${before} ${then}, ${today} ${now}`);
        assert.equal(dayName(at(`${today}T00:00:00`), at(`${today}T${now}`)), "Today");
      }
    }
  }
});
