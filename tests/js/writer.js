// A program that posts and may be killed at any moment: its queue and its cursor are in a file.
//
//     node writer.js URL DEVICE FILE
//
// It says `accepted N` when text N is in the queue, `kept N SEQ` when it is in the log, `read SEQ TEXT` for each event.

import { readFileSync, renameSync, writeFileSync, writeSync } from "node:fs";
import WebSocket from "ws";

import { ChatClient } from "../../twisted_chat/web/page/client.js";

const [url, device, path] = process.argv.slice(2);

/** Whole or not at all: a file beside, then a new name. */
class FileStorage {
  constructor() {
    try {
      this.items = JSON.parse(readFileSync(path, "utf8"));
    } catch {
      this.items = {};
    }
  }

  /** @param {string} name */
  getItem(name) {
    return this.items[name] ?? null;
  }

  /** @param {string} name @param {string} value */
  setItem(name, value) {
    this.items[name] = value;
    this.#write();
  }

  /** @param {string} name */
  removeItem(name) {
    delete this.items[name];
    this.#write();
  }

  #write() {
    writeFileSync(`${path}.new`, JSON.stringify(this.items));
    renameSync(`${path}.new`, path);
  }
}

/** Say it at once: what console.log() keeps while the reader is busy would die with the program. @param {(string | number | undefined)[]} words */
function tell(...words) {
  writeSync(1, `${words.join(" ")}\n`);
}

const storage = new FileStorage();
const chat = new ChatClient({ url, device, name: "written", storage, WebSocket, grace: 1_000 });
const room = chat.room("jepsen", { resume: true, tail: Infinity });
room.on("event", ({ seq, text }) => tell("read", seq, text));
for (const post of room.posts) post.done.then((seq) => tell("kept", String(post.command.text).split(":")[1], seq));
chat.connect();

let number = Number(storage.getItem("number") ?? 0);
for (;;) {
  // Counted first: a number that was never accepted is no loss, one that was accepted twice would be a double of ours.
  storage.setItem("number", String(++number));
  const post = room.send(`killed:${number}`);
  tell("accepted", number);
  await post.done;
  tell("kept", number, post.seq);
}
