// @ts-check
// `<tc-banner>`: says when there is no connection, and when it is tried again, and once that WebSockets are blocked.  It lies over the
// messages, so nothing moves.

import { el } from "./dom.js";
import { say, sayError } from "./strings.js";

/** Milliseconds.  Interruptions that are shorter are nobody's business; without this every reconnect would flicker. */
const QUIET = 700;
/** Milliseconds for which it stands there that WebSockets are blocked: nothing is to be done about it. */
const NOTE = 8_000;

export class Banner extends HTMLElement {
  constructor() {
    super();
    this.words = el("span", { class: "words" });
    this.count = el("span", { class: "count" });
    this.button = el("button", { type: "button", class: "text-button" });
    this.onact = () => {};
    this.button.addEventListener("click", () => this.onact());
    this._hidden = true;
    this._noted = false;
  }

  connectedCallback() {
    if (this.words.isConnected) return;
    // The seconds are not read aloud each time.
    this.append(el("div", { class: "banner", hidden: true }, el("span", { role: "status" }, this.words), this.count, this.button));
  }

  /** @param {import("../client.js").Status} status @param {{ now: () => number, act: (what: "retry" | "connect") => void }} client */
  show(status, { now, act }) {
    clearInterval(this._timer);
    clearTimeout(this._delay);
    if (status.state === "online" || status.state === "idle") {
      this._reveal(false);
      if (status.state === "online" && status.blocked && !this._noted) this._note(say.blocked);
      return;
    }
    if (status.state === "stopped") {
      this._say(stopReason(status), "", status.code === 4409 ? say.useHere : say.connectAgain);
      this.onact = () => act("connect");
      this._reveal(true);
      return;
    }
    this.onact = () => act("retry");
    const tick = () => {
      const seconds = Math.ceil(((status.retryAt ?? now()) - now()) / 1000);
      const waiting = status.state === "waiting" && seconds > 0;
      this._say(offlineReason(status), waiting ? say.retryIn(seconds) : say.connecting, waiting ? say.retryNow : "");
    };
    tick();
    this._timer = setInterval(tick, 1000);
    this._delay = setTimeout(() => this._reveal(true), this._hidden ? QUIET : 0);
  }

  /** Say it for a while, once. @param {string} words */
  _note(words) {
    this._noted = true;
    this._say(words, "", "");
    this._reveal(true);
    this._delay = setTimeout(() => this._reveal(false), NOTE);
  }

  /** @param {string} words @param {string} count @param {string} action */
  _say(words, count, action) {
    if (this.words.textContent !== words) this.words.textContent = words;
    this.count.textContent = count;
    this.button.textContent = action;
    this.button.hidden = !action;
  }

  /** @param {boolean} shown */
  _reveal(shown) {
    this._hidden = !shown;
    const box = /** @type {HTMLElement | null} */ (this.firstElementChild);
    if (box) box.hidden = !shown;
  }
}

/** Why there is no connection, as far as that is known: what never was is not lost. @param {import("../client.js").Status} status */
function offlineReason({ error, reached, attempt, transport }) {
  if (error && error.code !== "restart") return sayError(error);
  if (reached) return say.lost;
  if (attempt) return say.unreachable;
  return transport === "http" ? say.tryingHttp : "";
}

/** @param {import("../client.js").Status} status */
function stopReason({ code, error }) {
  if (code === 4409) return say.elsewhere;
  if (error) return say.ended(sayError(error));
  return code === 4401 ? say.ended(say.errors.unauthenticated) : say.ended(String(code ?? ""));
}

customElements.define("tc-banner", Banner);
