// @ts-check
// The emoji that people look for by name; any other can be typed or pasted.

import { rewrite } from "./markdown.js";

/** @type {Record<string, string>} */
export const EMOJI = {
  "+1": "👍", "-1": "👎", heart: "❤️", joy: "😂", smile: "😄", grin: "😁", wink: "😉", blush: "😊", thinking: "🤔", tada: "🎉", fire: "🔥", eyes: "👀",
  rocket: "🚀", clap: "👏", pray: "🙏", wave: "👋", ok: "👌", muscle: "💪", raised_hands: "🙌", check: "✅", cross: "❌", warning: "⚠️", question: "❓",
  exclamation: "❗", hundred: "💯", star: "⭐", sparkles: "✨", sun: "☀️", moon: "🌙", rainbow: "🌈", coffee: "☕", tea: "🍵", beer: "🍺", cake: "🍰", pizza: "🍕",
  apple: "🍎", cat: "🐱", dog: "🐶", bug: "🐛", snake: "🐍", bird: "🐦", fish: "🐟", turtle: "🐢", unicorn: "🦄", tree: "🌳", flower: "🌸", sob: "😭", cry: "😢",
  sweat: "😅", laugh: "😆", rofl: "🤣", heart_eyes: "😍", kiss: "😘", sunglasses: "😎", neutral: "😐", unamused: "😒", sleepy: "😴", scream: "😱", angry: "😠",
  shrug: "🤷", facepalm: "🤦", party: "🥳", hug: "🤗", salute: "🫡", mind_blown: "🤯", cold: "🥶", hot: "🥵", ghost: "👻", robot: "🤖", skull: "💀", poop: "💩",
  bulb: "💡", book: "📚", memo: "📝", pin: "📌", link: "🔗", lock: "🔒", key: "🔑", tools: "🛠️", gear: "⚙️", package: "📦", calendar: "📅", clock: "🕒",
  hourglass: "⏳", phone: "📞", mail: "📧", chart: "📈", money: "💰", gift: "🎁", music: "🎵", game: "🎮", ball: "⚽", trophy: "🏆", bike: "🚲", car: "🚗",
  train: "🚆", plane: "✈️", house: "🏠", earth: "🌍", snow: "❄️", rain: "🌧️", zap: "⚡", boom: "💥", point_up: "☝️", point_right: "👉", handshake: "🤝",
};

/** Offered first. */
export const QUICK = ["👍", "❤️", "😂", "🎉"];

/** One or more `:names:` in a row, not within a path or `a::b`. */
const NAMED = /(?<![:/])(?::[a-z0-9_+-]+:)+(?![:/])/g;

/** `:names:` that are known become emoji, outside of code and addresses. @param {string} text */
export function withEmoji(text) {
  if (!text.includes(":")) return text;
  const one = (/** @type {string} */ written) => {
    const name = written.slice(1, -1);
    return Object.hasOwn(EMOJI, name) ? EMOJI[name] : written;
  };
  return rewrite(text, (plain) => plain.replace(NAMED, (row) => row.replace(/:[^:]+:/g, one)));
}
