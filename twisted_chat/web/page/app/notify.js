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
    /** The browser has notifications, and does not let pages show them. */
    this.refused = false;
    inherit("notifier", () => (this.first = true));
  }

  get on() {
    return !this.refused && this.kept.getItem("notify") === "on" && globalThis.Notification?.permission === "granted";
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

  /** A message of somebody else came. @param {string} room @param {string} label what the room is shown as @param {import("../client.js").ChatEvent} event @param {boolean} called */
  news(room, label, event, called) {
    if (!this.first || (document.visibilityState === "visible" && document.hasFocus()) || (this.muted(room) && !called)) return;
    if (this.sound) beep();
    if (!this.on) return;
    try {
      const shown = new Notification(`${event.by.name} · ${label}`, { body: (event.text ?? say.binary).slice(0, 200), tag: `twisted-chat:${room}` });
      shown.onclick = () => {
        focus();
        this.open(room, event.seq);
        shown.close();
      };
    } catch {
      // Chrome on Android has the constructor and refuses it.
      this.refused = true;
    }
  }

  /** @param {string} room what it is shown as @param {number} unread */
  title(room, unread) {
    const words = `${unread ? `(${unread > 99 ? "99+" : unread}) ` : ""}${room || say.title}`;
    if (document.title !== words) document.title = words;
  }
}

function beep() {
  try {
    tone(new AudioContext());
  } catch {
    // No sound device, or too many contexts: the message is shown all the same.
  }
}

/** @param {AudioContext} context */
function tone(context) {
  const oscillator = context.createOscillator();
  const volume = context.createGain();
  oscillator.frequency.value = 660;
  volume.gain.setValueAtTime(0.06, context.currentTime);
  volume.gain.exponentialRampToValueAtTime(0.0001, context.currentTime + 0.25);
  oscillator.connect(volume).connect(context.destination);
  oscillator.start();
  oscillator.stop(context.currentTime + 0.25);
  oscillator.onended = () => context.close();
}
