// @ts-check
// What a room is called, and what became of its people, in words.  No DOM.

import { say } from "./strings.js";

/** @typedef {import("../client.js").ChatEvent} ChatEvent */
/** @typedef {import("../client.js").About} About */

/** Rooms with such names were named by the server. @param {string} name */
export const isGenerated = (name) => /^[pd]~/.test(name);

/** Conversations have such names. @param {string} name */
export const isDirect = (name) => name.startsWith("d~");

/** What to show as the name of a room. @param {string} name @param {About | null | undefined} about @param {string} [me] */
export function roomLabel(name, about, me) {
  if (!isGenerated(name)) return name;
  const others = about?.people?.filter(({ id }) => id !== me).map(({ name: who }) => who);
  return about?.title || others?.join(", ") || (name.startsWith("d") ? say.conversation : say.privateRoom);
}

/** Whether an event is shown as a line of its own that nobody wrote. @param {ChatEvent} event */
export const isNotice = ({ kind }) => kind === "topic" || kind === "room" || kind === "member" || kind === "sanction";

/** "alice made bob a moderator". @param {ChatEvent} event */
export function noticeOf(event) {
  const { kind, by, person, role, seq } = event;
  if (kind === "room") return roomWords(event);
  const whom = person?.name ?? say.someone;
  if (kind === "sanction") return sanctionWords(event, whom);
  if (role) return seq && person?.id === by.id ? say.tookRole(by.name, role) : say.gaveRole(by.name, whom, role);
  return person?.id === by.id ? say.leftRoom(by.name) : say.endedMember(by.name, whom);
}

/** @param {ChatEvent} event */
function roomWords({ by, seq, archived }) {
  if (seq === 1) return say.madeRoom(by.name);
  return archived ? say.archivedRoom(by.name) : say.changedRoom(by.name);
}

/** @param {ChatEvent} event @param {string} whom */
function sanctionWords({ by, what = "", on, until, reason }, whom) {
  const done = on === false ? say.sanctionEnded : say.sanctioned;
  const words = done(by.name, whom, what);
  const end = until ? ` ${say.untilWhen(untilText(until))}` : "";
  return `${words}${end}${reason ? `: ${reason}` : ""}`;
}

const near = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const far = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });

/** When something ends. @param {number} until milliseconds since 1970 */
export function untilText(until) {
  const today = new Date(until).toDateString() === new Date().toDateString();
  return (today ? near : far).format(until);
}
