// @ts-check
// What is known of one room's log, as the page shows it: messages in their present state.  No DOM.
//
// A single unbroken stretch of the log is held.  While it reaches the head (`live`) new events extend it; while somebody
// looks at an older stretch they are only counted.

import { isNotice } from "./about.js";

/** @typedef {import("../client.js").ChatEvent} ChatEvent */
/** @typedef {import("../client.js").Page} Page */

export class Timeline {
  /** Messages and notices (topics, what became of the room and its people) in order. @type {ChatEvent[]} */
  items = [];
  /** Whether the last item is the newest there is. */
  live = false;
  moreBefore = false;
  /** Whether anything has been loaded. */
  loaded = false;

  /** Begin anew with a page. @param {Page} page */
  reset({ events, head, more_before, more_after }) {
    this.items = events.map((event) => counted(event, head));
    this.moreBefore = more_before;
    this.live = !more_after;
    this.loaded = true;
  }

  /** Older messages; how many came. @param {Page} page */
  prepend({ events, head, more_before }) {
    const first = this.items[0]?.seq ?? Infinity;
    const older = events.filter(({ seq }) => seq < first);
    this.items.unshift(...older.map((event) => counted(event, head)));
    this.moreBefore = more_before;
    return older.length;
  }

  /** Newer messages; how many came. @param {Page} page */
  append({ events, head, more_after }) {
    const last = this.items.at(-1)?.seq ?? 0;
    const newer = events.filter(({ seq }) => seq > last);
    this.items.push(...newer.map((event) => counted(event, head)));
    this.live = !more_after;
    return newer.length;
  }

  /** An event of the log. @param {ChatEvent} event @returns {"added" | "missed" | "amended" | "nothing"} */
  apply(event) {
    if (event.kind === "message" || isNotice(event)) {
      if (!this.live) return "missed";
      if (event.seq <= (this.items.at(-1)?.seq ?? 0)) return "nothing";
      this.items.push(event);
      return "added";
    }
    const place = event.of === undefined ? -1 : this.placeOf(event.of);
    if (place < 0) return "nothing";
    this.items[place] = fold(this.items[place], event);
    return "amended";
  }

  /** Where the message of that number is, or -1. @param {number} seq */
  placeOf(seq) {
    const place = this.placeAfter(seq - 1);
    return this.items[place]?.seq === seq ? place : -1;
  }

  /** Where the first item after that number is. @param {number} seq */
  placeAfter(seq) {
    let low = 0;
    let high = this.items.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.items[middle].seq <= seq) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /** @param {number} seq @returns {ChatEvent | undefined} */
  get(seq) {
    return this.items[this.placeOf(seq)];
  }
}

/** A message after an event that amends it.  Applying an event twice changes nothing. @param {ChatEvent} message @param {ChatEvent} event @returns {ChatEvent} */
export function fold(message, event) {
  if (message.gone) return message;
  switch (event.kind) {
    case "edit":
      if ((event.revision ?? 0) <= (message.revision ?? 1)) return message;
      return { ...message, text: event.text, revision: event.revision, edited_at: event.at };
    case "delete":
      return { ...message, gone: true, text: undefined, data: undefined, reactions: undefined };
    case "reaction":
      if (event.seq <= (message.counted ?? 0)) return message;
      return counted({ ...message, reactions: react(message.reactions ?? [], event) }, event.seq);
    default:
      return message;
  }
}

/** @param {import("../client.js").Reaction[]} reactions @param {ChatEvent} event */
function react(reactions, { emoji = "", by, on }) {
  const known = reactions.some((reaction) => reaction.emoji === emoji);
  const all = known || !on ? reactions : [...reactions, { emoji, by: [] }];
  return all
    .map((reaction) => {
      if (reaction.emoji !== emoji) return reaction;
      const others = reaction.by.filter((id) => id !== by.id);
      const people = on ? (reaction.by.includes(by.id) ? reaction.by : [...others, by.id]) : others;
      if (reaction.count === undefined) return { emoji, by: people };
      // Somebody who is not named takes it away: one less all the same.
      const count = reaction.count + (people.length - reaction.by.length || (on ? 0 : -1));
      return count > people.length ? { emoji, by: people, count } : { emoji, by: people };
    })
    .filter((reaction) => reaction.by.length || reaction.count);
}

/**
 * A message whose reactions are counted up to that number.  Names can be put in twice and are the same; a number cannot.
 * @param {ChatEvent} message @param {number} seq @returns {ChatEvent}
 */
function counted(message, seq) {
  return message.reactions?.some(({ count }) => count !== undefined) ? { ...message, counted: seq } : message;
}
