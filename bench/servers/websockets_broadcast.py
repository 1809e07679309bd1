"""Python `websockets`: the broadcast of its own documentation, with rooms by path.

python websockets_broadcast.py PORT [CERTIFICATE KEY]
"""

import asyncio
import ssl
import sys
from collections import defaultdict

from websockets import ConnectionClosedError
from websockets.asyncio.server import ServerConnection, broadcast, serve

rooms: defaultdict[str, set[ServerConnection]] = defaultdict(set)


async def talk(connection: ServerConnection) -> None:
    assert connection.request is not None
    room = rooms[connection.request.path]
    room.add(connection)
    try:
        async for message in connection:
            broadcast(room, message)
    except ConnectionClosedError:
        pass  # the load generator leaves without a close frame
    finally:
        room.discard(connection)


async def main(port: int, files: list[str]) -> None:
    tls = None
    if files:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(*files)
    async with serve(talk, "127.0.0.1", port, compression=None, ssl=tls, backlog=1024) as server:
        await server.serve_forever()


asyncio.run(main(int(sys.argv[1]), sys.argv[2:]))
