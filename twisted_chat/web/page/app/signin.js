// @ts-check
// `<tc-sign-in>`: a name, or a token, before anything else.

import { el } from "./dom.js";
import { say } from "./strings.js";

export class SignIn extends HTMLElement {
  constructor() {
    super();
    this.onsignin = (/** @type {{ name: string, token: string }} */ _who) => {};
    this.onpassword = () => {};
    this.name = el("input", { name: "name", id: "sign-in-name", maxLength: 64, autocomplete: "nickname", placeholder: say.namePlaceholder, dir: "auto" });
    this.token = el("input", { name: "token", id: "sign-in-token", type: "password", autocomplete: "off", spellcheck: false });
    this.error = el("p", { class: "error", role: "alert" });
    this.invited = el("p", { class: "invited" });
    this.tokenBox = el("details", {}, el("summary", {}, say.withToken), el("label", { for: "sign-in-token" }, say.token), this.token);
  }

  connectedCallback() {
    if (this.error.isConnected) return;
    const form = el("form", { class: "card" },
      el("h1", {}, say.signInTitle), this.invited, el("p", {}, say.signInText),
      el("label", { for: "sign-in-name" }, say.name), this.name, this.tokenBox, this.error,
      el("button", { type: "submit", class: "primary" }, say.join),
      el("button", { type: "button", class: "text-button", onclick: () => this.onpassword() }, say.withPassword));
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      const who = { name: this.name.value.trim(), token: this.token.value.trim() };
      if (!who.name && !who.token) this.name.focus();
      else this.onsignin(who);
    });
    this.append(el("main", {}, form));
  }

  /** @param {string} error */
  say(error) {
    if (this.error.textContent !== error) this.error.textContent = error;
  }

  /** @param {{ name?: string, room?: string, error?: string }} about */
  ask({ name = "", room = "", error = "" }) {
    this.hidden = false;
    this.name.value ||= name;
    this.invited.textContent = room ? say.joinAs(room) : "";
    this.say(error);
    this.name.focus();
  }
}

customElements.define("tc-sign-in", SignIn);
