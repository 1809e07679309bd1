// @ts-check
/**
 * `<twisted-chat>`: a room of this server in any page whose origin the server allows (`allowed_origins`).
 *
 *     <script type="module" src="https://chat.example.org/embed.js"></script>
 *     <twisted-chat room="lobby" token="…"></twisted-chat>
 *
 * Attributes: `room` (lobby; may be changed), `token` or `name` (of a guest), `server` (where this file came from), `theme` (`light`, `dark`; without
 * it the system's).  A page that fetches tokens sets the property `getToken`, a function, before the element is in the document.
 * It looks as the custom properties `--chat-…` say (styles/theme.css), and needs a height from the page.
 *
 * It tells the page, by events that bubble: `chat-status` (detail: the client's status) and `chat-message` (detail: a message).
 */

import { ChatClient, unique } from "./client.js";
import { Banner } from "./app/banner.js";
import { Kept, storageOf } from "./app/device.js";
import { copy, el } from "./app/dom.js";
import { RoomView } from "./app/room.js";
import { RoomState } from "./app/room_state.js";
import { say } from "./app/strings.js";

/** Which numbers of elements are in use. @type {boolean[]} */
const places = [];

const HERE = new URL(".", import.meta.url);

export class TwistedChat extends HTMLElement {
  static observedAttributes = ["room"];

  constructor() {
    super();
    /** Asked for a token when there is none, or when the last one has expired. @type {(() => string | undefined | Promise<string | undefined>) | null} */
    this.getToken = null;
    /** @type {ChatClient | null} */
    this.chat = null;
    /** @type {RoomState | null} */
    this.state = null;
    this._place = 0;
    const root = this.attachShadow({ mode: "open" });
    for (const sheet of ["theme", "room", "embed"]) {
      // Asked for as the modules are (CORS): the server says yes to the origins that it allows.
      root.append(el("link", { rel: "stylesheet", href: new URL(`styles/${sheet}.css`, HERE).href, crossOrigin: "anonymous" }));
    }
    this.view = /** @type {RoomView} */ (document.createElement("tc-room"));
    this.banner = /** @type {Banner} */ (document.createElement("tc-banner"));
    root.append(el("div", { class: "conversation" }, this.banner, this.view));
  }

  connectedCallback() {
    const server = new URL(this.getAttribute("server") ?? HERE);
    const url = new URL("ws", server.href.endsWith("/") ? server : `${server}/`);
    url.protocol = url.protocol.replace("http", "ws");
    // Each element of a page is a device of its own, and the same one after a reload.
    this._place = places.findIndex((taken) => !taken);
    if (this._place < 0) this._place = places.length;
    places[this._place] = true;
    const kept = new Kept(`twisted-chat:${url.host}${url.pathname}:${this._place || ""}`, storageOf("sessionStorage"));
    const device = kept.getItem("embedded") ?? unique();
    kept.setItem("embedded", device);
    const token = this.getToken ?? this.getAttribute("token") ?? undefined;
    const chat = new ChatClient({ url: url.href, token, name: this.getAttribute("name") ?? undefined, device, storage: kept, session: kept });
    this.chat = chat;
    chat.on("status", (status) => {
      this.banner.show(status, { now: () => chat.clock.now(), act: (what) => (what === "retry" ? chat.retryNow() : chat.connect()) });
      this._tell("chat-status", status);
    });
    chat.on("post", (post) => {
      if (post.room.name === this.state?.name) this.state.posted(post);
      if (post.state === "refused") this.view.failed(post);
      this.view.changed();
    });
    this.view.drafts = kept;
    // Addresses of messages belong to the server's own page.
    this.view.href = (seq) => new URL(`#/${encodeURIComponent(this.state?.name ?? "")}/${seq}`, server).href;
    this.view.onlink = async (seq) => this.view.tell((await copy(this.view.href(seq))) ? say.linkCopied : say.linkNotCopied);
    this._open();
    chat.connect();
  }

  disconnectedCallback() {
    this.chat?.close();
    this.chat = null;
    places[this._place] = false;
  }

  attributeChangedCallback() {
    if (this.chat) this._open();
  }

  /** Show the room of the attribute. */
  _open() {
    const chat = /** @type {ChatClient} */ (this.chat);
    const name = this.getAttribute("room") || "lobby";
    if (this.state?.name === name && this.state.chat === chat) return;
    if (this.state?.chat === chat) this.state.leave();
    this.state = new RoomState(chat, name, (changed, what, event) => this._changed(changed, what, event));
    this.view.open(this.state);
  }

  /** @type {ConstructorParameters<typeof RoomState>[2]} */
  _changed = (state, what, event) => {
    if (state !== this.state) return;
    if (what === "failed" && state.failure) this.view.tell(state.failure.message);
    else if (what === "people") this.view.showTyping();
    else this.view.changed();
    if (what !== "news" || event?.kind !== "message") return;
    this.view.speak(event);
    this._tell("chat-message", event);
  };

  /** @param {string} name @param {unknown} detail */
  _tell(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail, bubbles: true, composed: true }));
  }
}

customElements.define("twisted-chat", TwistedChat);
