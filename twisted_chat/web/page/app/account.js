// @ts-check
// Signing in and out with an account, and making one: by the HTTP API, whose cookie the connection uses.

import { el } from "./dom.js";
import { Form } from "./form.js";
import { say } from "./strings.js";

/** @typedef {{ user: { id: string, name: string } | null, account: object | null, sign_up: string, needs_first_account: boolean, rooms?: string[] }} Session */

/** @typedef {import("./route.js").Invitation} Invitation */

export class Account {
  /** @param {URL} site @param {(session: Session) => void} signedIn */
  constructor(site, signedIn) {
    this.site = site;
    this.signedIn = signedIn;
    /** @type {Invitation | null} */
    this.invitation = null;
    this.up = false;
    this.about = el("p", {});
    this.other = el("button", { type: "button", class: "text-button", onclick: () => this._show(!this.up) });
    this.form = new Form("account", say.signIn, [
      { name: "name", label: say.accountName, autocomplete: "username", maxLength: 64, spellcheck: false },
      { name: "password", label: say.password, type: "password", dir: "ltr" },
    ], [this.other]);
    this.form.form.prepend(this.about);
    this.form.onsubmit = () => this._submit();
    this.node = this.form.node;
  }

  /** Who the server takes the browser for; null: it cannot be asked. @returns {Promise<Session | null>} */
  async session() {
    try {
      return await this._ask("GET", "account/session");
    } catch {
      return null;
    }
  }

  signOut() {
    return this._ask("DELETE", "account/session");
  }

  /** @param {Invitation | null} [invitation] */
  async open(invitation = null) {
    this.invitation = invitation;
    this.mayUp = !!invitation;
    this.form.open();
    this._show(!!invitation);
    if (invitation) return;
    this.mayUp = (await this.session())?.sign_up === "open";
    this.other.hidden = !this.mayUp;
  }

  /** @param {boolean} up whether an account is to be made */
  _show(up) {
    this.up = up;
    const kind = up ? (this.invitation?.kind ?? "open") : "in";
    const does = up ? say.signUp : say.signIn;
    this.form.label(kind === "setup" ? say.setUp : does, does);
    this.about.textContent = say.accountTexts[kind];
    this.about.hidden = !this.about.textContent;
    this.other.textContent = up ? say.haveAccount : say.noAccount;
    this.other.hidden = !this.mayUp || kind === "setup";
    const password = this.form.fields.get("password");
    if (password) password.input.autocomplete = up ? "new-password" : "current-password";
    this.form.focus();
  }

  async _submit() {
    const given = { name: this.form.value("name").trim(), password: this.form.value("password") };
    for (const [field, value] of Object.entries(given)) if (!value) throw { code: "bad_request", message: `${field}: ${say.missing}` };
    const more = this.up && this.invitation ? { invitation: this.invitation.secret } : {};
    const session = await this._ask("POST", this.up ? "accounts" : "account/session", { ...given, ...more });
    this.invitation = null;
    this.signedIn(session);
  }

  /** @param {string} method @param {string} path @param {object} [body] @returns {Promise<any>} */
  async _ask(method, path, body) {
    const headers = body && { "Content-Type": "application/json" };
    const answer = await fetch(new URL(`api/v1/${path}`, this.site), { method, headers, body: body && JSON.stringify(body), cache: "no-store" });
    if (answer.status === 204) return null;
    const found = await answer.json();
    if (!answer.ok) throw found.error;
    return found;
  }
}
