"""A page with live numbers: ``python examples/live_numbers.py [PORT]``, then open ``http://127.0.0.1:PORT/``.

The numbers go through a room that keeps nothing; the page needs a WebSocket and no library at all.
"""

import os
import sys
import time
from typing import Any

from twisted.internet import endpoints, reactor, task
from twisted.web.resource import Resource
from twisted.web.server import Site
from twisted.web.static import Data

from twisted_chat import EmbeddedChat, RoomPolicy, Settings

PAGE = b"""<!doctype html>
<meta charset="utf-8">
<title>Load of this machine</title>
<h1 id="load">...</h1>
<script>
  const socket = new WebSocket(location.origin.replace(/^http/, "ws") + "/chat/ws/numbers");
  socket.onmessage = (event) => { document.getElementById("load").textContent = event.data; };
</script>
"""

# Who is slow misses numbers, which is right for numbers; only the program writes.
rooms = {"numbers": RoomPolicy(durable=False, writers="moderators")}
chat = EmbeddedChat(reactor, settings=Settings(rooms=rooms))
root = Resource()
root.putChild(b"", Data(PAGE, "text/html"))
root.putChild(b"chat", chat.resource)


def tell() -> None:
    """The numbers of now."""
    chat.publish("numbers", f"{os.getloadavg()[0]:.2f} at {time.strftime('%H:%M:%S')}")


def main() -> None:
    loop: Any = reactor
    port = sys.argv[1] if len(sys.argv) > 1 else "8080"
    endpoints.serverFromString(reactor, f"tcp:{port}:interface=127.0.0.1").listen(Site(root))
    chat.startService()
    task.LoopingCall(tell).start(0.5)
    loop.addSystemEventTrigger("before", "shutdown", chat.stopService)
    loop.run()


if __name__ == "__main__":
    main()
