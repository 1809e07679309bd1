// @ts-check
// `<tc-log>`: the messages of a room in a scroll box.
//
// The document holds some 400 rows around what is seen; more are built when the reader comes within two screens of either end.
// Scroll anchoring of browsers fails at the very place where older messages are loaded (measured: 2,850 px off for 50 rows), so
// it is off, and the first row that is seen is put back to where it was after every change.

import { el } from "./dom.js";
import { buildRow, signature } from "./row.js";
import { say } from "./strings.js";

/** @typedef {import("./row.js").Row} Row */
/** @typedef {import("./row.js").Context} Context */

/** Who is so near to the end is taken to read along. */
const FOLLOW_WITHIN = 60;
/** Rows in the document, and how many are built at once. */
const MOST_ROWS = 400;
const STEP = 60;

export class Log extends HTMLElement {
  constructor() {
    super();
    /** @type {Row[]} */
    this.rows = [];
    /** @type {Context} */
    this.context = { me: null, nameOf: () => undefined, href: () => "#" };
    /** Whether the last row is the newest there is. */
    this.live = true;
    this.moreBefore = false;
    /** Told when the reader nears an end that is not loaded, and when what is seen changes. */
    this.onnear = (/** @type {"before" | "after"} */ _end) => {};
    this.onseen = () => {};
    this.onnewest = () => {};
    this.list = el("ol", {});
    this.start = el("div", { class: "log-start" });
    this.box = el("div", { class: "log-box", role: "log", tabIndex: 0, "aria-label": "", "aria-live": "off" }, this.start, this.list);
    this.pill = el("button", { type: "button", class: "pill", hidden: true, onclick: () => this.onnewest() });
    /** The rows in the document: from, and up to without. */
    this._from = 0;
    this._to = 0;
    this._following = true;
    this._news = 0;
    this._lastKey = "";
    /** @type {Map<string, { node: HTMLLIElement, signature: string }>} */
    this._built = new Map();
    this._box = new ResizeObserver(() => this._resized());
  }

  connectedCallback() {
    if (!this.box.isConnected) this.append(this.box, el("div", { class: "pill-place" }, this.pill));
    this.box.addEventListener("scroll", this._scrolled, { passive: true });
    this.box.addEventListener("keydown", this._key);
    this._box.observe(this.box);
    this._box.observe(this.list);
  }

  disconnectedCallback() {
    this.box.removeEventListener("scroll", this._scrolled);
    this.box.removeEventListener("keydown", this._key);
    this._box.disconnect();
  }

  /** Whether the reader sees the newest message. */
  get atEnd() {
    return this.live && this._to === this.rows.length && this._distance() <= FOLLOW_WITHIN;
  }

  /** Show other rows. @param {Row[]} rows @param {{ before?: number, anew?: boolean }} [change] how many were put in front */
  show(rows, { before = 0, anew = false } = {}) {
    const follows = anew ? this.live : this._following;
    const known = this.rows.length;
    const newest = rows.at(-1);
    this._count(rows, anew, follows, newest);
    // Rows of another room have the same numbers.
    if (anew) this._built.clear();
    this.rows = rows;
    if (anew || follows) {
      this._to = rows.length;
      this._from = Math.max(0, this._to - (anew ? STEP : Math.min(MOST_ROWS, Math.max(this._to - this._from - before, STEP))));
    } else {
      // Some of the older ones at once: at the very top there would be nowhere to scroll to when the first row loses its day.
      this._from = Math.max(0, this._from + before - (before ? STEP : 0));
      this._to = Math.min(rows.length, this._to + before + (this._to === known ? rows.length - known - before : 0));
    }
    this._from = Math.max(0, Math.min(this._from, rows.length));
    if (this._to - this._from > MOST_ROWS) {
      if (follows) this._from = this._to - MOST_ROWS;
      else this._to = this._from + MOST_ROWS;
    }
    this._render(follows);
    if (anew) requestAnimationFrame(() => this.look());
  }

  /** Put the row in the middle and mark it for a moment; whether it is there. @param {string} key */
  reveal(key) {
    const place = this.rows.findIndex((row) => row.key === key);
    if (place < 0) return false;
    this._following = false;
    this._from = Math.max(0, place - STEP);
    this._to = Math.min(this.rows.length, place + STEP);
    this._render(false);
    const node = this._built.get(key)?.node;
    if (!node) return false;
    this.box.scrollTop = node.offsetTop - Math.max(0, (this.box.clientHeight - node.offsetHeight) / 2);
    for (const other of this.list.querySelectorAll(".revealed")) other.classList.remove("revealed");
    void node.offsetWidth;
    node.classList.add("revealed");
    node.focus({ preventScroll: true });
    this.look();
    return true;
  }

  /** Put the first unread row near the top. @param {string} key */
  revealUnread(key) {
    const place = this.rows.findIndex((row) => row.key === key);
    if (place < 0) return;
    this._from = Math.max(0, Math.min(this._from, place - STEP));
    this._render(false);
    const node = this._built.get(key)?.node;
    if (node) this.box.scrollTop = node.offsetTop - 48;
    this._following = this.atEnd;
  }

  toEnd() {
    this._following = true;
    this._news = 0;
    this._to = this.rows.length;
    this._from = Math.max(0, this._to - Math.max(STEP, Math.min(MOST_ROWS, this._to - this._from)));
    this._render(true);
  }

  /** The element of a row. @param {string} key */
  node(key) {
    return this._built.get(key)?.node;
  }

  /** How many came while the reader looked elsewhere. @param {Row[]} rows @param {boolean} anew @param {boolean} follows @param {Row | undefined} newest */
  _count(rows, anew, follows, newest) {
    if (anew || follows) {
      this._news = 0;
    } else if (newest && newest.key !== this._lastKey && this._lastKey) {
      const seen = this.rows.length ? rows.findIndex(({ key }) => key === this._lastKey) : -1;
      if (seen >= 0) this._news += rows.slice(seen + 1).filter(({ event }) => event.by.id !== this.context.me?.id).length;
    }
    this._lastKey = newest?.key ?? "";
  }

  /** @param {number} count */
  missed(count) {
    this._news += count;
    this._showPill();
  }

  /** @param {boolean} toEnd */
  _render(toEnd) {
    const anchor = toEnd ? null : this._anchor();
    const focused = /** @type {HTMLElement | null} */ (this.list.querySelector(":focus"));
    const focusedKey = focused?.closest("li")?.dataset.key;
    const nodes = this.rows.slice(this._from, this._to).map((row) => this._node(row));
    this._reconcile(nodes);
    const kept = new Set(nodes);
    for (const [key, { node }] of this._built) if (!kept.has(node)) this._built.delete(key);
    for (const [place, node] of nodes.entries()) node.tabIndex = place === nodes.length - 1 ? 0 : -1;
    if (focusedKey && !focused?.isConnected) this._built.get(focusedKey)?.node.focus({ preventScroll: true });
    this.classList.toggle("all", this._from === 0 && !this.moreBefore);
    if (toEnd) this.box.scrollTop = this.box.scrollHeight;
    else if (anchor) this._restore(anchor);
    this._showPill();
  }

  /** @param {Row} row */
  _node(row) {
    const looks = signature(row, this.context.me?.id);
    const built = this._built.get(row.key);
    if (built?.signature === looks) return built.node;
    const node = buildRow(row, this.context);
    built?.node.replaceWith(node);
    this._built.set(row.key, { node, signature: looks });
    return node;
  }

  /** Make the list's children these, touching no more than must be. @param {HTMLLIElement[]} nodes */
  _reconcile(nodes) {
    const wanted = new Set(/** @type {Element[]} */ (nodes));
    for (const child of [...this.list.children]) if (!wanted.has(child)) child.remove();
    let child = this.list.firstElementChild;
    /** @type {HTMLLIElement[]} */
    let run = [];
    const flush = () => {
      if (run.length) this.list.insertBefore(fragment(run), child);
      run = [];
    };
    for (const node of nodes) {
      if (node === child) {
        flush();
        child = child.nextElementSibling;
      } else {
        run.push(node);
      }
    }
    flush();
  }

  /** The first row that is seen, and where. */
  _anchor() {
    const top = this.box.getBoundingClientRect().top;
    const children = /** @type {HTMLCollectionOf<HTMLElement>} */ (this.list.children);
    let low = 0;
    let high = children.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (children[middle].getBoundingClientRect().bottom <= top) low = middle + 1;
      else high = middle;
    }
    const node = children[low];
    return node?.dataset.key ? { key: node.dataset.key, top: place(node) - top, last: low === children.length - 1 } : null;
  }

  /** @param {{ key: string, top: number }} anchor */
  _restore({ key, top }) {
    const node = this._built.get(key)?.node;
    if (!node) return;
    const moved = place(node) - this.box.getBoundingClientRect().top - top;
    if (moved) this.box.scrollTop += moved;
  }

  _scrolled = () => {
    this._following = this.atEnd;
    if (this._following) this._news = 0;
    this.look();
    this._showPill();
    this.onseen();
  };

  /** Build or ask for what comes next in the direction of the reader. */
  look() {
    const near = 2 * this.box.clientHeight;
    if (this.box.scrollTop < near) {
      if (this._from > 0) {
        this._from = Math.max(0, this._from - STEP);
        if (this._to - this._from > MOST_ROWS && !this._following) this._to = this._from + MOST_ROWS;
        this._render(false);
      } else if (this.moreBefore) {
        this.onnear("before");
      }
    }
    if (this._distance() < near && !this._following) {
      if (this._to < this.rows.length) {
        this._to = Math.min(this.rows.length, this._to + STEP);
        this._from = Math.max(this._from, this._to - MOST_ROWS);
        this._render(false);
      } else if (!this.live) {
        this.onnear("after");
      }
    }
  }

  _distance() {
    return this.box.scrollHeight - this.box.clientHeight - this.box.scrollTop;
  }

  _resized() {
    if (this._following) this.box.scrollTop = this.box.scrollHeight;
  }

  _showPill() {
    const hidden = this._following || (this.live && this._to === this.rows.length && this._distance() < this.box.clientHeight && !this._news);
    if (this.pill.hidden !== hidden) this.pill.hidden = hidden;
    const words = this._news ? `${say.newMessages(this._news)} ↓` : `${say.toNewest} ↓`;
    if (this.pill.textContent !== words) this.pill.textContent = words;
  }

  /** The arrow keys walk through the messages. @param {KeyboardEvent} event */
  _key = (event) => {
    const step = { ArrowUp: -1, ArrowDown: 1 }[event.key];
    if (!step || event.altKey || event.ctrlKey || event.metaKey) return;
    const row = /** @type {HTMLElement} */ (event.target).closest("li");
    const next = row ? (step < 0 ? row.previousElementSibling : row.nextElementSibling) : step < 0 ? this.list.lastElementChild : null;
    if (!(next instanceof HTMLElement)) return;
    event.preventDefault();
    next.focus({ preventScroll: true });
    next.scrollIntoView({ block: "nearest" });
  };
}

/** Where what is said begins: a day or an unread line above may come and go. @param {HTMLElement} node */
function place(node) {
  return (node.lastElementChild ?? node).getBoundingClientRect().top;
}

/** @param {Node[]} nodes */
function fragment(nodes) {
  const made = document.createDocumentFragment();
  made.append(...nodes);
  return made;
}

customElements.define("tc-log", Log);
