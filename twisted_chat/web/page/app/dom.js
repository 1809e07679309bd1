// @ts-check
// Nodes are built one by one; no text is ever parsed as markup.

/** @typedef {Node | string | null | undefined | false} Child */

/**
 * An element.  `class`, `data-…`, `aria-…` and other names with a dash become attributes, `on…` listeners, the rest properties.
 * @template {keyof HTMLElementTagNameMap} K
 * @param {K} tag
 * @param {Record<string, any>} [props]
 * @param {...Child} children
 * @returns {HTMLElementTagNameMap[K]}
 */
export function el(tag, props = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (value === undefined || value === false || value === null) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name === "class" || name === "role" || name === "for" || name.includes("-")) node.setAttribute(name, value === true ? "" : value);
    else /** @type {any} */ (node)[name] = value;
  }
  node.append(...children.filter((child) => child !== null && child !== undefined && child !== false).map((child) => /** @type {Node | string} */ (child)));
  return node;
}

/** Whether a key belongs to the composition of a character, as in Chinese or Japanese; the Enter that ends one too (229: Safari). @param {KeyboardEvent} event */
export function composing(event) {
  return event.isComposing || event.keyCode === 229;
}

/** Put words in place of what stands there, as if they were typed, so that it can be undone. @param {HTMLTextAreaElement} area @param {number} from @param {number} to @param {string} words */
export function typeInto(area, from, to, words) {
  area.focus({ preventScroll: true });
  area.setSelectionRange(from, to);
  // The only way that keeps the list of what can be undone; the standard for it, EditContext, is not for text areas.
  if (!document.execCommand("insertText", false, words)) {
    area.setRangeText(words, from, to, "end");
    area.dispatchEvent(new InputEvent("input", { bubbles: true, inputType: "insertText", data: words }));
  }
}

/** Put words on the clipboard; whether that worked.  Plain HTTP has no clipboard but the old command. @param {string} words @returns {Promise<boolean>} */
export async function copy(words) {
  try {
    await navigator.clipboard.writeText(words);
    return true;
  } catch {
    const area = el("textarea", { class: "unseen", value: words, readOnly: true });
    const focused = /** @type {HTMLElement | null} */ (document.activeElement);
    document.body.append(area);
    area.select();
    try {
      return document.execCommand("copy");
    } catch {
      return false;
    } finally {
      area.remove();
      focused?.focus();
    }
  }
}

const SVG = "http://www.w3.org/2000/svg";

/** Paths on a grid of 24, drawn with a line of 2. */
const ICONS = {
  menu: ["M4 6h16", "M4 12h16", "M4 18h16"],
  close: ["M6 6l12 12", "M18 6L6 18"],
  send: ["M4 12l16-8-6 16-3-6z", "M20 4l-9 10"],
  people: ["M16 19v-1a4 4 0 0 0-4-4H7a4 4 0 0 0-4 4v1", "M9.5 10a3.5 3.5 0 1 0 0-7 3.5 3.5 0 0 0 0 7z", "M21 19v-1a4 4 0 0 0-3-3.8", "M15.5 3.3a3.5 3.5 0 0 1 0 6.5"],
  bell: ["M6 9a6 6 0 0 1 12 0c0 6 2 7 2 7H4s2-1 2-7", "M10 20a2 2 0 0 0 4 0"],
  mute: ["M6 9a6 6 0 0 1 9-5", "M18 9c0 6 2 7 2 7H8", "M4 4l16 16", "M10 20a2 2 0 0 0 4 0"],
  plus: ["M12 5v14", "M5 12h14"],
  reply: ["M10 8L5 12l5 4", "M5 12h9a5 5 0 0 1 5 5v1"],
  smile: ["M12 21a9 9 0 1 0 0-18 9 9 0 0 0 0 18z", "M8.5 14.5s1.3 2 3.5 2 3.5-2 3.5-2", "M9 9.5v.01", "M15 9.5v.01"],
  edit: ["M4 20h4L19 9l-4-4L4 16z", "M13 7l4 4"],
  delete: ["M5 7h14", "M10 11v6", "M14 11v6", "M7 7l1 13h8l1-13", "M9 7V4h6v3"],
  link: ["M10 14a4 4 0 0 0 6 0l3-3a4 4 0 0 0-6-6l-1 1", "M14 10a4 4 0 0 0-6 0l-3 3a4 4 0 0 0 6 6l1-1"],
  settings: ["M4 7h10", "M18 7h2", "M16 9a2 2 0 1 0 0-4 2 2 0 0 0 0 4z", "M4 17h2", "M10 17h10", "M8 19a2 2 0 1 0 0-4 2 2 0 0 0 0 4z"],
  help: ["M12 21a9 9 0 1 0 0-18 9 9 0 0 0 0 18z", "M9.6 9.2a2.5 2.5 0 1 1 3.4 2.6c-.7.3-1 .8-1 1.7", "M12 16.8v.01"],
  down: ["M12 5v14", "M6 13l6 6 6-6"],
  clock: ["M12 21a9 9 0 1 0 0-18 9 9 0 0 0 0 18z", "M12 8v4l3 2"],
};

/** @param {keyof typeof ICONS} name */
export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  for (const line of ICONS[name]) {
    const path = document.createElementNS(SVG, "path");
    path.setAttribute("d", line);
    svg.append(path);
  }
  return svg;
}

/** A button that is a picture; its name is for those who do not see it. @param {keyof typeof ICONS} name @param {string} label @param {(event: Event) => void} click @param {Record<string, any>} [props] */
export function iconButton(name, label, click, props = {}) {
  return el("button", { type: "button", class: "icon-button", title: label, "aria-label": label, onclick: click, ...props }, icon(name));
}

/** A number from 0 to 359 that a name always has. @param {string} name */
export function hue(name) {
  let hash = 7;
  for (const character of name) hash = (hash * 31 + (character.codePointAt(0) ?? 0)) >>> 0;
  return (hash * 47) % 360;
}

/** The first letters of a name, for its circle. @param {string} name */
export function initials(name) {
  const words = name.trim().split(/[\s._-]+/).filter(Boolean);
  const letters = words.length > 1 ? [words[0], words[words.length - 1]] : words;
  return letters.map((word) => [...word][0]).join("").toLocaleUpperCase();
}

/** @param {string} id @param {string} name */
export function avatar(id, name) {
  const circle = el("span", { class: "avatar", "aria-hidden": "true" }, initials(name));
  circle.style.setProperty("--hue", String(hue(id)));
  return circle;
}
