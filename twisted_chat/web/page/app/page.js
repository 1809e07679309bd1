// @ts-check
// The page: signs in, knows the rooms, shows one of them, and wires keys, addresses and notifications.

import { ChatClient } from "../client.js";
import { isGenerated, roomLabel } from "./about.js";
import { Banner } from "./banner.js";
import { Kept, storageOf, takeDevice } from "./device.js";
import { Switcher, helpDialog, settingsDialog } from "./dialogs.js";
import { composing, copy, el, icon, iconButton } from "./dom.js";
import { Notifier } from "./notify.js";
import { RoomView } from "./room.js";
import { RoomState } from "./room_state.js";
import { address, isRoomName, readInvitation, readRoute } from "./route.js";
import { People, Rooms } from "./sidebar.js";
import { SignIn } from "./signin.js";
import { say, sayError } from "./strings.js";

const LOBBY = "lobby";
/** Milliseconds that a note stands that tells what somebody else did. */
const NOTE = 15_000;
const THEMES = ["auto", "light", "dark"];

/** @template {HTMLElement} T @param {new () => T} _kind @param {string} tag @returns {T} */
const make = (_kind, tag) => /** @type {T} */ (document.createElement(tag));

/** @param {{ name: string, label: string }} a @param {{ name: string, label: string }} b */
const byLabel = (a, b) => a.label.localeCompare(b.label) || a.name.localeCompare(b.name);

export class Page {
  /** @param {HTMLElement} root */
  constructor(root) {
    const site = new URL(".", document.baseURI);
    this.kept = new Kept(`twisted-chat:${site.pathname}:`, storageOf("localStorage"));
    this.window = new Kept(`twisted-chat:${site.pathname}:`, storageOf("sessionStorage"));
    this.site = site;
    this.root = root;
    /** @type {ChatClient | null} */
    this.chat = null;
    /** @type {Map<string, RoomState>} */
    this.states = new Map();
    this.current = "";
    /** @type {Promise<Awaited<ReturnType<Page["_makeDialogs"]>> | null> | undefined} */
    this._made = undefined;
    this.welcomed = false;
    this.notifier = new Notifier(this.kept, (room, seq) => this.go(room, seq));
    this.rooms = make(Rooms, "tc-rooms");
    this.people = make(People, "tc-people");
    this.view = make(RoomView, "tc-room");
    this.banner = make(Banner, "tc-banner");
    this.signIn = make(SignIn, "tc-sign-in");
    this.switcher = new Switcher((room) => this.go(room));
    this.switcher.onnew = () => this._makeRoom();
    this.help = helpDialog();
    this.settings = settingsDialog({
      theme: () => this.theme,
      setTheme: (theme) => this.setTheme(theme),
      notify: () => this.notifier.on,
      setNotify: (on) => this.notifier.turn(on),
      sound: () => this.notifier.sound,
      setSound: (on) => this.notifier.turnSound(on),
      name: () => this.chat?.user?.name ?? "",
      connection: () => this._connection(),
      signOut: () => this.signOut(),
    });
    this.heading = el("h1", {}, "");
    this.topic = el("p", { class: "topic", dir: "auto" });
    this.peopleButton = iconButton("people", say.people, () => this._toggle("people"), { "aria-expanded": "false" });
    this.peopleCount = el("span", { class: "count" });
    this.peopleButton.append(this.peopleCount);
    this.muteButton = iconButton("bell", say.mute(""), () => this._mute());
    this.roomButton = iconButton("edit", say.roomSettings, () => this._changeRoom(), { hidden: true });
    this.menuBadge = el("span", { class: "dot", hidden: true });
    this.menuButton = iconButton("menu", say.openRooms, () => this._toggle("rooms"), { class: "icon-button menu", "aria-expanded": "false" });
    this.menuButton.append(this.menuBadge);
    const header = el("header", {}, this.menuButton, el("div", { class: "titles" }, this.heading, this.topic),
      el("div", { class: "actions" }, this.roomButton, this.peopleButton, this.muteButton,
        iconButton("help", say.help, () => this.help.showModal()), iconButton("settings", say.settings, () => this.settings.open())));
    this.rooms.onadd = () => this._switch();
    this.rooms.onleave = (room) => this.leave(room);
    this.rooms.id = "rooms";
    this.shade = el("div", { class: "shade", onclick: () => this._close() });
    this.main = el("main", {}, header, el("div", { class: "middle" }, el("div", { class: "conversation" }, this.banner, this.view), el("aside", { "aria-label": say.people }, this.people)));
    this.app = el("div", { class: "app", hidden: true }, el("nav", { class: "side", "aria-label": say.rooms }, this.rooms), this.shade, this.main);
    this.signIn.hidden = true;
    this.root.replaceChildren(this.app, this.signIn, this.switcher.node, this.help, this.settings.node);
    this.view.drafts = this.kept;
    this.view.href = (seq) => address(this.current, seq);
    this.view.onread = () => this._showRooms();
    this.view.onlink = (seq) => this._copyLink(seq);
    this.view.oncommand = (word, rest) => this._command(word, rest);
    this.signIn.onsignin = (who) => this._signedIn(who);
    this.view.onperson = this.people.onperson = (person) => this._showPerson(person);
    this.view.classList.add("with-cards");
    this.signIn.onpassword = () => this._with(({ account }) => account.open());
    this.setTheme(this.theme);
  }

  /** The dialogs that are seldom opened, loaded when the first one is; null: they cannot be. */
  _dialogs() {
    this._made ??= this._makeDialogs().catch(() => {
      this._made = undefined;
      return null;
    });
    return this._made;
  }

  async _makeDialogs() {
    const [{ Account }, { NewRoom, RoomSettings }, { PersonCard }] = await Promise.all([import("./account.js"), import("./new_room.js"), import("./person.js")]);
    const go = (/** @type {string} */ room) => this.go(room);
    const dialogs = { account: new Account(this.site, (session) => this._withAccount(session)), newRoom: new NewRoom(go), roomSettings: new RoomSettings(), card: new PersonCard(go) };
    this.root.append(...Object.values(dialogs).map(({ node }) => node));
    return dialogs;
  }

  /** @param {(dialogs: Awaited<ReturnType<Page["_makeDialogs"]>>) => void} act */
  async _with(act) {
    const dialogs = await this._dialogs();
    if (dialogs) return act(dialogs);
    this.view.tell(say.notLoadedDialog);
    this.signIn.say(say.notLoadedDialog);
  }

  // What is seen

  get theme() {
    const theme = this.kept.getItem("theme") ?? "auto";
    return THEMES.includes(theme) ? theme : "auto";
  }

  /** @param {string} theme */
  setTheme(theme) {
    this.kept.setItem("theme", theme);
    if (theme === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = theme;
  }

  /** @param {"rooms" | "people"} which */
  _toggle(which) {
    const open = this.app.dataset.open === which ? "" : which;
    this.app.dataset.open = open;
    this.menuButton.setAttribute("aria-expanded", String(open === "rooms"));
    this.peopleButton.setAttribute("aria-expanded", String(open === "people"));
    if (open === "rooms") this.rooms.querySelector("a")?.focus();
  }

  _close() {
    if (this.app.dataset.open) this._toggle(/** @type {any} */ (this.app.dataset.open));
  }

  // Beginning

  async start() {
    const invited = this._takeInvitation();
    const route = readRoute(location.hash);
    if (route?.token) this.kept.setItem("token", route.token);
    if (route?.name) this.kept.setItem("name", route.name);
    // The secret does not stay in the address, nor in the history.
    if (route?.token || route?.name) history.replaceState(null, "", address(route.room, route.seq));
    addEventListener("hashchange", () => this._routed());
    addEventListener("keydown", (event) => this._key(event));
    if (["name", "token", "account"].some((each) => this.kept.getItem(each))) {
      await this._connect();
      return;
    }
    this.signIn.ask({ room: route && route.room !== LOBBY ? route.room : "" });
    if (!invited) this._lookForSession();
  }

  /** Open the dialog for the secret of a link, which does not stay in the address; whether there is one. */
  _takeInvitation() {
    const invitation = readInvitation(location.hash);
    if (!invitation) return false;
    history.replaceState(null, "", address(this.current || LOBBY));
    this._with(({ account }) => account.open(invitation));
    return true;
  }

  /** The browser may have a session of which the page kept nothing; one that has ended is forgotten. */
  async _lookForSession() {
    const account = (await this._dialogs())?.account;
    const session = await account?.session();
    if (session?.user && !this.signIn.hidden && !account?.node.open) this._withAccount(session);
  }

  /** The browser has the cookie of an account. @param {import("./account.js").Session} session */
  async _withAccount({ user, rooms = [] }) {
    this._byCookie(user?.name ?? "");
    this.chat?.close();
    await this._signedIn({ name: "", token: "" });
    for (const room of rooms) this._room(room);
    if (rooms.length) this.go(rooms[0]);
  }

  /** @param {{ name: string, token: string }} who */
  async _signedIn({ name, token }) {
    if (name) this.kept.setItem("name", name);
    if (token) this.kept.setItem("token", token);
    else this.kept.removeItem("token");
    if (!this.chat) {
      await this._connect();
      return;
    }
    this.chat.name = name || undefined;
    this.chat.token = token || undefined;
    this.chat.connect();
  }

  async _connect() {
    const device = await takeDevice(this.kept, this.window);
    const url = new URL("ws", this.site);
    url.protocol = url.protocol.replace("http", "ws");
    const chat = new ChatClient({
      url: url.href,
      name: this.kept.getItem("name") ?? undefined,
      token: this.kept.getItem("token") ?? undefined,
      device,
      storage: this.kept,
      session: this.window,
      prefix: `${device.slice(0, 12)}:`,
    });
    this.chat = chat;
    chat.on("status", (status) => this._status(status));
    chat.on("welcome", () => this._welcomed());
    chat.on("post", (post) => this._posted(post));
    chat.on("room", (about) => this._invited(about));
    addEventListener("online", () => chat.hint("online"));
    addEventListener("offline", () => chat.hint("offline"));
    addEventListener("focus", () => this._looked());
    addEventListener("pagehide", () => {
      for (const { room } of this.states.values()) room.flushRead();
    });
    document.addEventListener("visibilitychange", () => {
      if (document.visibilityState === "visible") chat.hint("visible");
      this._looked();
    });
    for (const room of this._savedRooms()) this._room(room);
    this._routed();
    chat.connect();
  }

  /** How the page is connected, in words. */
  _connection() {
    const status = this.chat?.status;
    if (status?.state !== "online") return say.notConnected;
    return status.blocked ? say.blocked : say.connections[status.transport];
  }

  /** Whether the cookie has gone, so that the server takes the person for a new guest. */
  _expired() {
    const chat = /** @type {ChatClient} */ (this.chat);
    if (!chat.user?.guest || !this.kept.getItem("account")) return false;
    chat.close();
    this._signedOut();
    this.app.hidden = true;
    this.signIn.ask({ error: say.errors.token_expired });
    return true;
  }

  /** The account needs no name of a guest. @param {string} name */
  _byCookie(name) {
    this.kept.setItem("account", name);
    this.kept.removeItem("name");
    if (this.chat) this.chat.name = undefined;
  }

  _welcomed() {
    if (this._expired()) return;
    this.welcomed = true;
    this.signIn.hidden = true;
    this.app.hidden = false;
    const { user } = /** @type {ChatClient} */ (this.chat);
    // Somebody with neither is known by the cookie.
    if (user && !user.guest && !this.kept.getItem("token")) this._byCookie(user.name);
    this.rooms.foot.replaceChildren(el("bdi", {}, user?.name ?? ""), " ", ...this._besideName(!!user?.guest));
    if (!this.kept.storage && !this._told) this.view.tell(say.nothingKept);
    this._told = true;
    this._findOwn();
    this._looked();
    if (matchMedia("(hover: hover)").matches) this.view.composer.focusText();
  }

  /** What stands beside the own name. @param {boolean} guest */
  _besideName(guest) {
    const button = (/** @type {string} */ words, /** @type {() => void} */ act) => el("button", { type: "button", class: "text-button", onclick: act }, words);
    if (guest) return [el("span", { class: "hint" }, say.guest), " ", button(say.signIn, () => this._with(({ account }) => account.open()))];
    return this.kept.getItem("account") ? [button(say.signOut, () => this.signOut())] : [];
  }

  /** @param {import("../client.js").Status} status */
  _status(status) {
    const chat = /** @type {ChatClient} */ (this.chat);
    const mustSignIn = status.state === "stopped" && (status.code === 4401 || ["conflict", "bad_request", "unauthenticated", "token_expired"].includes(status.error?.code ?? ""));
    if (mustSignIn || (status.state === "stopped" && !this.welcomed && status.code !== 4409)) {
      this.app.hidden = true;
      if (status.code === 4401) this._signedOut();
      this.signIn.ask({ name: chat.name, error: status.error ? sayError(status.error) : say.ended(String(status.code ?? "")) });
      return;
    }
    if (!this.signIn.hidden) this.signIn.say(status.state === "waiting" ? (status.error ? sayError(status.error) : say.unreachable) : "");
    // Until there was a first connection, nothing is lost but time; the page is shown all the same.
    if (this.app.hidden && this.signIn.hidden) this.app.hidden = false;
    this.banner.show(status, { now: () => chat.clock.now(), act: (what) => (what === "retry" ? chat.retryNow() : chat.connect()) });
  }

  /** The server does not take the token or the cookie any more. */
  _signedOut() {
    this.kept.removeItem("token");
    this.kept.removeItem("account");
    // One that has ended is removed by the answer.
    this._lookForSession();
  }

  async signOut() {
    if (this.kept.getItem("account")) await (await this._dialogs())?.account.signOut().catch(() => {});
    for (const name of ["name", "token", "account", "device"]) this.kept.removeItem(name);
    for (const room of this.states.keys()) if (isGenerated(room)) this._saveRoom(room, false);
    this.window.removeItem("device");
    this.chat?.close();
    location.hash = "";
    location.reload();
  }

  // Rooms

  /** @returns {string[]} */
  _savedRooms() {
    try {
      const saved = JSON.parse(this.kept.getItem("rooms") ?? "[]");
      return [LOBBY, ...saved.filter((/** @type {unknown} */ name) => typeof name === "string" && isRoomName(name) && name !== LOBBY)];
    } catch {
      return [LOBBY];
    }
  }

  /** Keep which rooms one is in; other windows keep theirs in the same place. @param {string} name @param {boolean} joined */
  _saveRoom(name, joined) {
    const saved = new Set(this._savedRooms());
    if (joined === saved.has(name)) return;
    if (joined) saved.add(name);
    else saved.delete(name);
    this.kept.setItem("rooms", JSON.stringify([...saved]));
  }

  /** @param {string} name */
  _room(name) {
    let state = this.states.get(name);
    if (!state) {
      state = new RoomState(/** @type {ChatClient} */ (this.chat), name, (...changed) => this._changed(...changed));
      this.states.set(name, state);
      this._saveRoom(name, true);
    }
    return state;
  }

  /** @param {string} room @param {number} [seq] */
  go(room, seq) {
    const target = address(room, seq);
    if (location.hash === target) this._routed();
    else location.hash = target;
  }

  _routed() {
    if (this._takeInvitation() || !this.chat) return;
    const route = readRoute(location.hash);
    const name = route && isRoomName(route.room) ? route.room : LOBBY;
    const state = this._room(name);
    const seq = route?.seq ?? 0;
    if (this.current !== name) {
      this.current = name;
      this._close();
      this.view.open(state, seq);
      if (this.welcomed && matchMedia("(hover: hover)").matches && !this.rooms.contains(document.activeElement)) this.view.composer.focusText();
    }
    this._showHead();
    this._showRooms();
    if (seq) this.view.goTo(seq);
  }

  /** @type {ConstructorParameters<typeof RoomState>[2]} */
  _changed = (state, what, event) => {
    if (what === "failed" || what === "removed") {
      this._refused(state, what);
      return;
    }
    const shown = state.name === this.current;
    if (what === "news" && event?.kind === "message" && event.by.id !== this.chat?.user?.id && event.seq > state.mark) {
      this.notifier.news(state.name, state.label, event, state.calls(event));
      if (shown) this.view.speak(event);
    }
    if (shown && what === "people") this.view.showTyping();
    else if (shown) this.view.changed();
    if (shown && event && !state.timeline.live) this.view.log.missed(1);
    this._soon ||= requestAnimationFrame(() => {
      this._soon = 0;
      this._showHead();
      this._showRooms();
    });
  };

  /** A room that cannot be joined, or not be stayed in. @param {RoomState} state @param {"failed" | "removed"} what */
  _refused(state, what) {
    const { failure, label } = state;
    this.states.delete(state.name);
    this._saveRoom(state.name, false);
    if (state.name === this.current && state.name !== LOBBY) this.go(LOBBY);
    else this._showRooms();
    if (state.name === this.current) this.view.changed();
    const words = what === "removed" && failure && say.removed[failure.code]?.(label);
    this.view.tell(words || `${label}: ${failure ? sayError(failure) : ""}`, NOTE);
  }

  /** The user has become a member of a room. @param {import("../client.js").Invited} about */
  _invited(about) {
    const known = this.states.has(about.room);
    this._known(about);
    // Of what one has made oneself one needs no note, and a conversation says enough when somebody writes.
    if (!known && about.role && about.role !== "owner") this.view.tell(say.newRoomForYou(roomLabel(about.room, about, this.chat?.user?.id)), NOTE);
    this._showRooms();
  }

  /** A room that the server tells of belongs to the list. @param {import("../client.js").Invited} about */
  _known(about) {
    const state = this._room(about.room);
    state.about = about;
  }

  /** Rooms of which only their members know are in no link. */
  async _findOwn() {
    const chat = /** @type {ChatClient} */ (this.chat);
    if (!chat.user || chat.user.guest) return;
    const rooms = await chat.rooms().catch(() => []);
    for (const about of rooms) if (about.access) this._known(about);
    this._showRooms();
  }

  _showHead() {
    const state = this.states.get(this.current);
    if (!state) return;
    if (this.heading.textContent !== state.label) this.heading.textContent = state.label;
    if (this.topic.textContent !== state.topic) this.topic.textContent = state.topic;
    this.roomButton.hidden = !state.can.has("settings");
    this.peopleCount.textContent = String(state.room.present.count || "");
    this.peopleButton.setAttribute("aria-label", say.peopleCount(state.room.present.count));
    this.people.show(state.room.present, this.chat?.user?.id);
    const muted = this.notifier.muted(state.name);
    const label = muted ? say.unmute(state.label) : say.mute(state.label);
    if (this.muteButton.title !== label) {
      this.muteButton.title = label;
      this.muteButton.setAttribute("aria-label", label);
      this.muteButton.setAttribute("aria-pressed", String(muted));
      this.muteButton.replaceChildren(icon(muted ? "mute" : "bell"));
    }
  }

  _showRooms() {
    const entries = [...this.states.values()].map(({ name, label, unread, called, topic, lastLine }) => ({ name, label, unread, called, topic, lastLine, mayLeave: name !== LOBBY && !isGenerated(name), muted: this.notifier.muted(name), current: name === this.current }));
    entries.sort(byLabel);
    this.rooms.show(entries);
    const count = entries.reduce((sum, { unread, muted, called }) => sum + (muted && !called ? 0 : unread), 0);
    this.notifier.title(this.states.get(this.current)?.label ?? this.current, count);
    const elsewhere = entries.some(({ unread, muted, current }) => unread && !muted && !current);
    this.menuBadge.hidden = !elsewhere;
    this.menuButton.setAttribute("aria-label", elsewhere ? `${say.openRooms}, ${say.unreadCount(count)}` : say.openRooms);
  }

  _looked() {
    if (document.visibilityState === "visible") this.view.seen();
  }

  /** @param {import("../client.js").Post} post */
  _posted(post) {
    const state = this.states.get(post.room.name);
    state?.posted(post);
    if (post.state === "refused") this.view.failed(post);
    if (state && state.name === this.current) this.view.changed();
  }

  // What is done

  _mute() {
    this.notifier.mute(this.current, !this.notifier.muted(this.current));
    this._showHead();
    this._showRooms();
  }

  _switch() {
    this.switcher.fresh.hidden = !this.chat?.user || this.chat.user.guest;
    if (this.chat && !this.switcher.node.open) this.switcher.open([...this.states.values()].sort(byLabel), this.chat.rooms(), this.chat.user?.id);
  }

  /** @param {number} seq */
  async _copyLink(seq) {
    const link = new URL(address(this.current, seq), document.baseURI).href;
    this.view.tell((await copy(link)) ? say.linkCopied : say.linkNotCopied);
  }

  /** @param {number} step */
  _neighbour(step) {
    const names = [...this.states.values()].sort(byLabel).map(({ name }) => name);
    this.go(names[(names.indexOf(this.current) + step + names.length) % names.length]);
  }

  leave(name = this.current) {
    const state = this.states.get(name);
    if (!state || name === LOBBY) return;
    if (isGenerated(name)) {
      // It would come back: a member hears what is said there.
      this.view.tell(say.stays);
      return;
    }
    state.leave();
    this.states.delete(name);
    this._saveRoom(name, false);
    if (name === this.current) this.go(LOBBY);
    else this._showRooms();
  }

  _makeRoom() {
    const people = this.states.get(this.current)?.room.present.people;
    const { chat } = this;
    if (chat) this._with(({ newRoom }) => newRoom.open(chat, people?.values() ?? []));
  }

  _changeRoom() {
    const state = this.states.get(this.current);
    if (state) this._with(({ roomSettings }) => roomSettings.open(state));
  }

  /** @param {import("../client.js").Author} person */
  _showPerson(person) {
    const state = this.states.get(this.current);
    if (state) this._with(({ card }) => card.open(state, person));
  }

  /** @param {string} name with or without `@` */
  _who(name) {
    const wanted = name.replace(/^@/, "").toLowerCase();
    const found = [...(this.states.get(this.current)?.names ?? [])].find(([, known]) => known.toLowerCase() === wanted);
    if (found) this._showPerson({ id: found[0], name: found[1] });
    else this.view.tell(say.nobody(name));
  }

  /** @param {string} word @param {string} rest */
  _command(word, rest) {
    switch (word) {
      case "join":
        if (isRoomName(rest.normalize("NFC"))) this.go(rest.normalize("NFC"));
        else this.view.tell(say.noRoom);
        return true;
      case "leave":
        this.leave();
        return true;
      case "nick":
        if (rest) this._signedInAs(rest);
        return true;
      case "who":
        if (rest) this._who(rest);
        return true;
      case "help":
        this.help.showModal();
        return true;
      default:
        return false;
    }
  }

  /** Come back under another name. @param {string} name */
  _signedInAs(name) {
    const chat = /** @type {ChatClient} */ (this.chat);
    chat.close();
    this._signedIn({ name, token: "" });
  }

  /** @param {KeyboardEvent} event */
  _key(event) {
    if (this.app.hidden || composing(event)) return;
    const target = /** @type {HTMLElement} */ (event.target);
    const writing = target.matches("input, textarea, select");
    if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "k") {
      event.preventDefault();
      this._switch();
    } else if (event.altKey && (event.key === "ArrowUp" || event.key === "ArrowDown")) {
      event.preventDefault();
      this._neighbour(event.key === "ArrowUp" ? -1 : 1);
    } else if (event.key === "?" && !writing) {
      event.preventDefault();
      if (!this.help.open) this.help.showModal();
    } else if (event.key === "Escape" && this.app.dataset.open) {
      this._close();
    }
  }
}

const root = document.getElementById("root");
if (root) new Page(root).start();
