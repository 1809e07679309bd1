"""A port of the loopback whose connections go to a function, and bytes from one socket to another; for ways to the server."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable


def listen(serve: Callable[[socket.socket], None]) -> socket.socket:
    """The listener; until it is closed, a thread gives each connection to ``serve``, which must not block."""
    listener = socket.create_server(("127.0.0.1", 0))

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                serve(listener.accept()[0])

    threading.Thread(target=accept, daemon=True).start()
    return listener


def pump(source: socket.socket, sink: socket.socket, loses: Callable[[], bool] = lambda: False) -> None:
    """Pass bytes on until either side ends, and then end both.

    :param loses: whether what comes now is lost.
    """
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            if not loses():
                sink.sendall(data)
    for side in (source, sink):
        with contextlib.suppress(OSError):
            side.shutdown(socket.SHUT_RDWR)
