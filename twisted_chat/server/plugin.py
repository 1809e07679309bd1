"""The entry points of ``twistd chat``: the options, and the service that they describe."""

from __future__ import annotations

from twisted.application.service import IService

from twisted_chat.server.options import Options

__all__ = ["Options", "makeService"]


def makeService(options: Options) -> IService:
    """The server, not started yet."""
    # Only here is the real reactor imported: by now it is installed (twistd --reactor).
    from twisted.internet import reactor

    from twisted_chat.server.service import Server

    return Server(reactor, options)
