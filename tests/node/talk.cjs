// A WebSocket on standard input and output: each line in is sent as text ("binary:HEX" as bytes), each event comes out as a line of JSON.
//
//   node talk.cjs URL [SUBPROTOCOL]          the package `ws` (its own address of trust: CA=FILE)
//   bun talk.cjs URL [SUBPROTOCOL] built-in  the WebSocket of the runtime itself

const [url, subprotocol, implementation] = process.argv.slice(2);
const builtIn = implementation === "built-in";
const protocols = subprotocol ? [subprotocol] : [];
const ca = process.env.CA && require("fs").readFileSync(process.env.CA);
const socket = builtIn
  ? new WebSocket(url, ca ? { protocols, tls: { ca } } : protocols)
  : new (require("ws"))(url, protocols, { ca });
socket.binaryType = "arraybuffer";

const say = (event) => process.stdout.write(JSON.stringify(event) + "\n");

socket.onopen = () => say({ open: socket.protocol });
socket.onclose = (event) => {
  say({ close: event.code, reason: event.reason });
  process.exit(0);
};
socket.onerror = (event) => say({ error: String(event.message) });
socket.onmessage = (event) =>
  say(typeof event.data === "string" ? { text: event.data } : { binary: Buffer.from(event.data).toString("hex") });

require("readline")
  .createInterface({ input: process.stdin })
  .on("line", (line) => socket.send(line.startsWith("binary:") ? Buffer.from(line.slice(7), "hex") : line))
  .on("close", () => socket.close(1000, "bye"));
