// The real server in a process of its own, and a proxy that can do to connections what networks do.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { createServer, connect } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";

const START = "from twisted.scripts.twistd import run; run()";

/** A port that nobody uses now. */
export async function freePort() {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = /** @type {import("node:net").AddressInfo} */ (server.address());
  server.close();
  await once(server, "close");
  return port;
}

/** `twistd -n chat` on one port and one store, however often it is started. */
export class Server {
  /** @param {string} directory @param {number} port @param {Record<string, string>} limits */
  constructor(directory, port, limits) {
    this.directory = directory;
    this.port = port;
    this.environment = { ...process.env, ...Object.fromEntries(Object.entries(limits).map(([name, value]) => [`TWISTED_CHAT_LIMITS_${name}`, value])) };
  }

  async start() {
    const listen = `tcp:${this.port}:interface=127.0.0.1`;
    this.process = spawn(process.env.PYTHON ?? "python3", ["-c", START, "-n", "--pidfile=", "chat", "--listen", listen, "--store", "sqlite:chat.db"], {
      cwd: this.directory,
      env: this.environment,
      stdio: ["ignore", "ignore", "inherit"],
    });
    for (let waited = 0; waited < 30_000; waited += 50) {
      if (await accepts(this.port)) return;
      if (this.process.exitCode !== null) throw new Error(`the server ended with ${this.process.exitCode}`);
      await sleep(50);
    }
    throw new Error("the server does not listen");
  }

  /** @param {NodeJS.Signals} signal */
  signal(signal) {
    this.process?.kill(signal);
  }

  /** @param {NodeJS.Signals} signal */
  async end(signal) {
    const { process } = this;
    if (!process || process.exitCode !== null || process.signalCode !== null) return;
    const ended = once(process, "exit");
    process.kill(signal);
    await ended;
  }
}

/** @param {number} port */
async function accepts(port) {
  const socket = connect(port, "127.0.0.1");
  try {
    await once(socket, "connect");
    return true;
  } catch {
    return false;
  } finally {
    socket.destroy();
  }
}

/** A way to the server that can be cut, go silent, or lose what comes back. */
export class Proxy {
  /** @param {number} target */
  constructor(target) {
    this.target = target;
    /** @type {Set<{ client: import("node:net").Socket, server: import("node:net").Socket, deaf: boolean, mute: boolean }>} */
    this.pairs = new Set();
    this.server = createServer((client) => this.#join(client));
  }

  async listen() {
    this.server.listen(0, "127.0.0.1");
    await once(this.server, "listening");
  }

  get port() {
    return /** @type {import("node:net").AddressInfo} */ (this.server.address()).port;
  }

  /** @param {import("node:net").Socket} client */
  #join(client) {
    const server = connect(this.target, "127.0.0.1");
    const pair = { client, server, deaf: false, mute: false };
    this.pairs.add(pair);
    client.on("data", (data) => pair.deaf || server.write(data));
    server.on("data", (data) => pair.mute || client.write(data));
    for (const side of [client, server]) {
      side.setNoDelay(true);
      side.on("error", () => {});
      side.on("close", () => {
        // A half-open connection does not hear of the other side's end either.
        if (!pair.mute) client.destroy();
        server.destroy();
        if (client.destroyed) this.pairs.delete(pair);
      });
    }
  }

  /** Reset connections. @param {(place: number) => boolean} which */
  cut(which = () => true) {
    [...this.pairs].filter((_, place) => which(place)).forEach(({ client, server }) => (client.destroy(), server.destroy()));
  }

  /** From now on nothing comes back on these connections; what is sent still arrives. */
  loseAnswers() {
    for (const pair of this.pairs) pair.mute = true;
  }

  /** From now on nothing passes on these connections, and nobody is told. @param {(place: number) => boolean} which */
  halfOpen(which) {
    [...this.pairs].filter((_, place) => which(place)).forEach((pair) => (pair.deaf = pair.mute = true));
  }

  close() {
    this.server.close();
    for (const pair of this.pairs) pair.mute = false;
    this.cut();
  }
}
