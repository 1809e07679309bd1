// @ts-check
// `<tc-rooms>`: the rooms one is in, and what is unread there.  `<tc-people>`: who is in a room.

import { avatar, el, icon, iconButton } from "./dom.js";
import { isDirect } from "./about.js";
import { address } from "./route.js";
import { say } from "./strings.js";

/** @typedef {{ name: string, label: string, unread: number, called: boolean, topic: string, lastLine: string, mayLeave: boolean, muted: boolean, current: boolean }} RoomEntry */

export class Rooms extends HTMLElement {
  constructor() {
    super();
    this.onadd = () => {};
    this.onleave = (/** @type {string} */ _room) => {};
    this.list = el("ul", {});
    this.list.addEventListener("click", ({ target }) => {
      const leave = target instanceof Element && /** @type {HTMLElement | null} */ (target.closest("[data-leave]"));
      if (leave) this.onleave(leave.dataset.leave ?? "");
    });
    this.foot = el("div", { class: "foot" });
  }

  connectedCallback() {
    if (this.list.isConnected) return;
    this.append(
      el("div", { class: "side-head" }, el("h2", {}, say.rooms), iconButton("plus", say.joinRoom, () => this.onadd())),
      this.list,
      this.foot,
    );
  }

  /** @param {RoomEntry[]} rooms */
  show(rooms) {
    const known = new Map([...this.list.children].map((item) => [/** @type {HTMLElement} */ (item).dataset.room, /** @type {HTMLElement} */ (item)]));
    const items = rooms.map((room) => {
      const looks = JSON.stringify(room);
      const item = known.get(room.name);
      if (item?.dataset.looks === looks) return item;
      const made = entry(room);
      made.dataset.looks = looks;
      return made;
    });
    const same = items.length === this.list.children.length && items.every((item, place) => this.list.children[place] === item);
    if (!same) {
      const focused = this.list.contains(document.activeElement) && /** @type {HTMLElement | null} */ (document.activeElement?.closest("li"))?.dataset.room;
      this.list.replaceChildren(...items);
      if (focused) items.find(({ dataset }) => dataset.room === focused)?.querySelector("a")?.focus();
    }
  }
}

/** @param {RoomEntry} room @returns {HTMLElement} */
function entry({ name, label, unread, called, topic, lastLine, mayLeave, muted, current }) {
  const count = unread > 99 ? "99+" : String(unread);
  const line = lastLine || topic;
  const about = [unread ? say.unreadCount(unread) : "", called ? say.mentions : "", muted ? say.muted : ""].filter(Boolean).join(", ");
  const link = el("a", { href: address(name), "aria-current": current ? "page" : undefined, title: topic || undefined },
    el("span", { class: "hash", "aria-hidden": "true" }, isDirect(name) ? "@" : "#"),
    el("span", { class: "labels" }, el("bdi", { class: "name" }, label), " ", line && el("span", { class: "last-line", dir: "auto" }, line)),
    about && el("span", { class: "unseen" }, `, ${about}`), muted && icon("mute"),
    unread > 0 && !current && el("span", { class: called ? "badge called" : "badge", "aria-hidden": "true" }, called ? `@ ${count}` : count));
  const leave = mayLeave && iconButton("close", say.leaveRoom(label), () => {}, { class: "icon-button leave", "data-leave": name });
  return el("li", { class: [unread && !muted && "unread", muted && "muted"].filter(Boolean).join(" "), "data-room": name }, link, leave);
}

export class People extends HTMLElement {
  constructor() {
    super();
    this.looks = "";
    this.onperson = (/** @type {import("../client.js").Author} */ _person) => {};
    this.head = el("h2", {}, say.people);
    this.list = el("ul", {});
  }

  connectedCallback() {
    if (!this.list.isConnected) this.append(el("div", { class: "side-head" }, this.head), this.list);
  }

  /** @param {import("../client.js").Presence} presence @param {string} [me] */
  show({ count, people }, me) {
    this.head.textContent = say.peopleCount(count);
    const sorted = [...(people?.values() ?? [])].sort((a, b) => a.name.localeCompare(b.name));
    const looks = JSON.stringify([sorted, me]);
    if (this.looks === looks) return;
    this.looks = looks;
    this.list.replaceChildren(...sorted.map(({ id, name }) => el("li", {},
      el("button", { type: "button", title: say.aboutPerson(name), onclick: () => this.onperson({ id, name }) }, avatar(id, name), el("bdi", { class: "name" }, name), id === me && el("span", { class: "hint" }, say.you)))));
  }
}

customElements.define("tc-rooms", Rooms);
customElements.define("tc-people", People);
