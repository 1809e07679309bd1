// @ts-check
// Who this window is.  A guest stays the same person by a device string, and a second connection with the same one ends the
// first, so no two windows may share one.  The first window of a browser has the browser's own device, so that somebody
// who closes the page and comes back is the same guest; each further window has one for itself, for as long as it lives.

import { unique } from "../client.js";

/** What is kept of this site, by name; a browser that keeps nothing forgets at the end. */
export class Kept {
  /** @param {string} prefix so that several chats on one host do not mix @param {globalThis.Storage | null} storage */
  constructor(prefix, storage) {
    this.prefix = prefix;
    this.storage = storage;
    /** @type {Map<string, string>} */
    this.memory = new Map();
  }

  /** @param {string} name */
  getItem(name) {
    return this.storage ? this.storage.getItem(this.prefix + name) : (this.memory.get(name) ?? null);
  }

  /** @param {string} name @param {string} value */
  setItem(name, value) {
    if (!this.storage) this.memory.set(name, value);
    else {
      try {
        this.storage.setItem(this.prefix + name, value);
      } catch {
        // Full, or forbidden: it is lost at the end, and nothing else happens.
      }
    }
  }

  /** @param {string} name */
  removeItem(name) {
    this.memory.delete(name);
    this.storage?.removeItem(this.prefix + name);
  }
}

/** @param {"localStorage" | "sessionStorage"} which */
export function storageOf(which) {
  try {
    return globalThis[which];
  } catch {
    return null;
  }
}

/** @param {Kept} forAll @param {Kept} forWindow @returns {Promise<string>} */
export async function takeDevice(forAll, forWindow) {
  const mine = forWindow.getItem("device");
  if (mine && (await hold(mine))) return mine;
  const shared = forAll.getItem("device") ?? unique();
  // Without locks, which browsers have on secure origins only, nobody can tell who else has it.
  const device = navigator.locks && (await hold(shared)) ? shared : unique();
  if (device === shared) forAll.setItem("device", device);
  forWindow.setItem("device", device);
  return device;
}

/** Have a lock of that name for the life of this window, if nobody else has it. @param {string} name @returns {Promise<boolean>} */
export function hold(name) {
  if (!navigator.locks) return Promise.resolve(true);
  return new Promise((resolve) => {
    navigator.locks.request(`twisted-chat:${name}`, { ifAvailable: true }, (lock) => {
      resolve(lock !== null);
      return lock && new Promise(() => {});
    });
  });
}

/** The same, when whoever has it is gone. @param {string} name @param {() => void} then */
export function inherit(name, then) {
  if (!navigator.locks) return then();
  navigator.locks.request(`twisted-chat:${name}`, () => {
    then();
    return new Promise(() => {});
  });
}
