// Node with `ws`: the broadcast of its own documentation, with rooms by path.
//   node node_ws.mjs PORT [CERTIFICATE KEY]       (NODE_PATH or cwd holds node_modules)
import { createRequire } from "node:module";
import { readFileSync } from "node:fs";
import http from "node:http";
import https from "node:https";

const require = createRequire(process.cwd() + "/");
const { WebSocketServer, WebSocket } = require("ws");
const [port, cert, key] = process.argv.slice(2);
const server = cert
  ? https.createServer({ cert: readFileSync(cert), key: readFileSync(key) })
  : http.createServer();
const wss = new WebSocketServer({ server, perMessageDeflate: false });
const rooms = new Map();

wss.on("connection", (ws, request) => {
  const room = rooms.get(request.url) ?? new Set();
  rooms.set(request.url, room.add(ws));
  ws.on("error", () => {});
  ws.on("close", () => room.delete(ws));
  ws.on("message", (data, isBinary) => {
    room.forEach((client) => {
      if (client.readyState === WebSocket.OPEN) client.send(data, { binary: isBinary });
    });
  });
});

server.listen({ port: Number(port), host: "127.0.0.1", backlog: 1024 });
