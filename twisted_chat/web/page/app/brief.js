// @ts-check

/** The beginning of a text on one line, without the marks of code. @param {string} text */
export function brief(text) {
  return text.slice(0, 400).replace(/```[^\s`]*/g, " ").replace(/\s+/g, " ").trim().slice(0, 140);
}
