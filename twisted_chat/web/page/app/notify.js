// @ts-check
// Tells of messages that nobody sees: the title, a notification, a sound.  Of several windows one notifies.

import { inherit } from "./device.js";
import { say } from "./strings.js";

export class Notifier {
  /** @param {import("./device.js").Kept} kept @param {(room: string, seq: number) => void} open */
  constructor(kept, open) {
    this.kept = kept;
    this.open = open;
    this.first = false;
    inherit("notifier", () => (this.first = true));
  }

  get on() {
    return this.kept.getItem("notify") === "on" && globalThis.Notification?.permission === "granted";
  }

  /** Asks the browser, which wants a click for it; whether it is on now. @param {boolean} on */
  async turn(on) {
    if (on && globalThis.Notification && Notification.permission !== "granted") await Notification.requestPermission();
    this.kept.setItem("notify", on ? "on" : "off");
    return this.on;
  }

  get sound() {
    return this.kept.getItem("sound") === "on";
  }

  /** @param {boolean} on */
  turnSound(on) {
    this.kept.setItem("sound", on ? "on" : "off");
    if (on) beep();
  }

  /** @param {string} room */
  muted(room) {
    return this.kept.getItem(`muted:${room}`) !== null;
  }

  /** @param {string} room @param {boolean} muted */
  mute(room, muted) {
    if (muted) this.kept.setItem(`muted:${room}`, "1");
    else this.kept.removeItem(`muted:${room}`);
  }

  /** A message of somebody else came. @param {string} room @param {import("../client.js").ChatEvent} event @param {boolean} called */
  news(room, event, called) {
    if (!this.first || (document.visibilityState === "visible" && document.hasFocus()) || (this.muted(room) && !called)) return;
    if (this.sound) beep();
    if (!this.on) return;
    const shown = new Notification(`${event.by.name} · ${room}`, { body: (event.text ?? say.binary).slice(0, 200), tag: `twisted-chat:${room}` });
    shown.onclick = () => {
      focus();
      this.open(room, event.seq);
      shown.close();
    };
  }

  /** @param {string} room @param {number} unread */
  title(room, unread) {
    const words = `${unread ? `(${unread > 99 ? "99+" : unread}) ` : ""}${room || say.title}`;
    if (document.title !== words) document.title = words;
  }
}

function beep() {
  const context = new AudioContext();
  const tone = context.createOscillator();
  const volume = context.createGain();
  tone.frequency.value = 660;
  volume.gain.setValueAtTime(0.06, context.currentTime);
  volume.gain.exponentialRampToValueAtTime(0.0001, context.currentTime + 0.25);
  tone.connect(volume).connect(context.destination);
  tone.start();
  tone.stop(context.currentTime + 0.25);
  tone.onended = () => context.close();
}
