// @ts-check
// `<tc-banner>`: says when the connection is lost, and when it is tried again.  It lies over the messages, so nothing moves.

import { el } from "./dom.js";
import { say, sayError } from "./strings.js";

/** Milliseconds.  Interruptions that are shorter are nobody's business; without this every reconnect would flicker. */
const QUIET = 700;

export class Banner extends HTMLElement {
  constructor() {
    super();
    this.words = el("span", { class: "words" });
    this.count = el("span", { class: "count" });
    this.button = el("button", { type: "button", class: "text-button" });
    this.onact = () => {};
    this.button.addEventListener("click", () => this.onact());
    this._hidden = true;
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
      const why = status.error && status.error.code !== "restart" ? sayError(status.error) : say.lost;
      this._say(why, waiting ? say.retryIn(seconds) : say.connecting, waiting ? say.retryNow : "");
    };
    tick();
    this._timer = setInterval(tick, 1000);
    this._delay = setTimeout(() => this._reveal(true), this._hidden ? QUIET : 0);
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

/** @param {import("../client.js").Status} status */
function stopReason({ code, error }) {
  if (code === 4409) return say.elsewhere;
  if (error) return say.ended(sayError(error));
  return code === 4401 ? say.ended(say.errors.unauthenticated) : say.ended(String(code ?? ""));
}

customElements.define("tc-banner", Banner);
