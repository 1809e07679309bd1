// @ts-check
// Which device this window is.  A guest stays the same user by a device string, and a second connection with the same one ends the
// first, so no two windows may share one.  The first window of a browser has the browser's own device, so that somebody who closes
// the page and comes back is the same guest; each further window has one of its own, for as long as it lives.
//
// Browsers can refuse storage and locks, and plain HTTP has no locks: then a window asks the others by a channel.

import { unique } from "../client.js";

/** Milliseconds that other windows have for their answer. */
const CLAIM = 200;

/** What is kept of this site, by name; what the browser does not keep is forgotten when the page is closed. */
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
    const unsaved = this.memory.get(name);
    if (unsaved !== undefined || !this.storage) return unsaved ?? null;
    try {
      return this.storage.getItem(this.prefix + name);
    } catch {
      return null;
    }
  }

  /** @param {string} name @param {string} value */
  setItem(name, value) {
    this.memory.set(name, value);
    try {
      this.storage?.setItem(this.prefix + name, value);
      if (this.storage) this.memory.delete(name);
    } catch {
      // Full, or forbidden: it stays in the memory.
    }
  }

  /** @param {string} name */
  removeItem(name) {
    this.memory.delete(name);
    try {
      this.storage?.removeItem(this.prefix + name);
    } catch {
      // Forbidden since then.
    }
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
  const device = (await hold(shared)) ? shared : unique();
  if (device === shared) forAll.setItem("device", device);
  forWindow.setItem("device", device);
  return device;
}

/** Have a lock of that name for the life of this window, if no other window has it. @param {string} name @returns {Promise<boolean>} */
export async function hold(name) {
  if (!navigator.locks) return claim(`twisted-chat:${name}`);
  try {
    return await new Promise((resolve, reject) => {
      const request = navigator.locks.request(`twisted-chat:${name}`, { ifAvailable: true }, (lock) => {
        resolve(lock !== null);
        return lock && new Promise(() => {});
      });
      request.catch(reject);
    });
  } catch {
    // Refused together with the storage: another window cannot know the device either.
    return true;
  }
}

/** Call `then` when no other window has the lock; at once where there are no locks. @param {string} name @param {() => void} then */
export function inherit(name, then) {
  if (!navigator.locks) return then();
  navigator.locks
    .request(`twisted-chat:${name}`, () => {
      then();
      return new Promise(() => {});
    })
    .catch(then);
}

/** Ask the other windows whether one has the name; if none answers, have it, and answer. @param {string} name @returns {Promise<boolean>} */
function claim(name) {
  if (typeof BroadcastChannel === "undefined") return Promise.resolve(false);
  return new Promise((resolve) => {
    const channel = new BroadcastChannel(name);
    const me = Math.random();
    let mine = false;
    const decide = (/** @type {boolean} */ had) => {
      clearTimeout(timer);
      if (!had) channel.close();
      mine = had;
      resolve(had);
    };
    const timer = setTimeout(() => decide(true), CLAIM);
    channel.onmessage = ({ data }) => {
      if (data.asks !== undefined && (mine || me < data.asks)) channel.postMessage({ taken: data.asks });
      else if (data.taken === me && !mine) decide(false);
    };
    channel.postMessage({ asks: me });
  });
}
