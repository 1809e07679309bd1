// Bun with its native publish: the shape of the chat benchmark in Bun's own repository,
// each line to everybody, the sender included, with rooms by path.
//   bun bun_publish.js PORT [CERTIFICATE KEY]
const [port, cert, key] = process.argv.slice(2);

const server = Bun.serve({
  port: Number(port),
  hostname: "127.0.0.1",
  ...(cert ? { tls: { cert: Bun.file(cert), key: Bun.file(key) } } : {}),
  fetch(request, server) {
    const room = new URL(request.url).pathname;
    if (server.upgrade(request, { data: { room } })) return;
    return new Response("this is a WebSocket", { status: 426 });
  },
  websocket: {
    perMessageDeflate: false,
    open(ws) {
      ws.subscribe(ws.data.room);
    },
    message(ws, message) {
      server.publish(ws.data.room, message);
    },
  },
});
