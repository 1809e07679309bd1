"""A chat inside a program that has a web site and people of its own: ``python examples/embedded_hub.py [PORT]``.

The page is at ``/chat/``; sign in at ``/?user=alice``, which sets the program's own cookie.
"""

import sys
from typing import Any

from twisted.internet import endpoints, reactor, task
from twisted.web.resource import Resource
from twisted.web.server import Request, Site

from twisted_chat import EmbeddedChat, Settings, User

SESSIONS = {"s3cret-of-alice": "alice", "s3cret-of-bob": "bob"}


class Home(Resource):
    """The program's own page."""

    def render_GET(self, request: Request) -> bytes:
        user = request.args.get(b"user", [b""])[0].decode()
        for session, name in SESSIONS.items():
            if name == user:
                request.addCookie("session", session, path="/", httpOnly=True, sameSite="strict")
        return b'<a href="chat/">chat</a>'


# The ten lines.
def who(session: str) -> User | None:
    """The program's own identity check."""
    name = SESSIONS.get(session)
    return None if name is None else User(id=f"u-{name}", name=name)


root = Resource()
chat = EmbeddedChat(reactor, "memory:", identify=who, settings=Settings(guests=False, token_cookie="session"))
root.putChild(b"", Home())  # type: ignore[no-untyped-call]
root.putChild(b"chat", chat.resource)
chat.startService()
minutes = task.LoopingCall(lambda: chat.publish("lobby", "another minute has gone"))


def main() -> None:
    loop: Any = reactor
    port = sys.argv[1] if len(sys.argv) > 1 else "8080"
    endpoints.serverFromString(reactor, f"tcp:{port}:interface=127.0.0.1").listen(Site(root))
    minutes.start(60)
    loop.addSystemEventTrigger("before", "shutdown", chat.stopService)
    loop.run()


if __name__ == "__main__":
    main()
