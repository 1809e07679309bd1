"""What ``twistd chat`` calls: the options, and the service that they describe."""

from __future__ import annotations

from twisted.application.service import IService

from twisted_chat.server.options import Options

__all__ = ["Options", "makeService"]


def makeService(options: Options) -> IService:
    """The whole server, not yet started."""
    # The reactor is installed by now (twistd --reactor), and only here is the real one asked for.
    from twisted.internet import reactor

    from twisted_chat.server.service import Server

    return Server(reactor, options)
