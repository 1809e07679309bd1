"""A TCP proxy in threads of this process that a test can hurt: it withholds what either side says, resets connections, or is away."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from contextlib import suppress


class TcpProxy:
    """From a port of its own to ``target`` on this machine.

    :ivar target: the port behind it; a change counts for new connections.
    :ivar hold_requests: True for a piece of what a client says that is kept back, with everything behind it on that connection;
        :meth:`release` passes it on, also when the client has gone.
    :ivar hold_answers: the answers of the connections that are open now, and of new ones, are kept back.
    """

    def __init__(self, target: int) -> None:
        self.target = target
        self.hold_requests: Callable[[bytes], bool] = lambda data: False
        self.hold_answers = False
        self._links: list[_Link] = []
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._closed = False
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while not self._closed:
            try:
                before, _ = self._listener.accept()
            except OSError:
                return
            try:
                behind = socket.create_connection(("127.0.0.1", self.target), 5)
            except OSError:
                before.close()
                continue
            for end in (before, behind):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                self._links.append(_Link(self, before, behind))

    @property
    def held(self) -> int:
        """Bytes that are kept back."""
        with self._lock:
            return sum(len(link.held_requests) + len(link.held_answers) for link in self._links)

    def release(self) -> None:
        """Pass on what was kept back, and keep nothing back any more."""
        self.hold_requests, self.hold_answers = lambda data: False, False
        with self._lock:
            links = list(self._links)
        for link in links:
            link.release()

    def let_new_ones_through(self) -> None:
        """What is kept back stays so; connections from now on are not hurt."""
        with self._lock:
            for link in self._links:
                link.frozen = True
        self.hold_requests, self.hold_answers = lambda data: False, False

    def cut(self) -> None:
        """Reset all connections, on both sides."""
        with self._lock:
            links, self._links = self._links, []
        for link in links:
            link.close()

    def close(self) -> None:
        self._closed = True
        self._listener.close()
        self.cut()


class _Link:
    """One connection."""

    def __init__(self, proxy: TcpProxy, before: socket.socket, behind: socket.socket) -> None:
        self._proxy = proxy
        self._before, self._behind = before, behind
        self.frozen = False
        self.held_requests, self.held_answers = b"", b""
        self._holding = False
        threading.Thread(target=self._requests, daemon=True).start()
        threading.Thread(target=self._answers, daemon=True).start()

    def _requests(self) -> None:
        while data := _read(self._before):
            if self._holding or self.frozen or self._proxy.hold_requests(data):
                self._holding = True
                self.held_requests += data
            else:
                _write(self._behind, data)
        if not self._holding:
            self._behind.close()

    def _answers(self) -> None:
        while data := _read(self._behind):
            if self.frozen or self._proxy.hold_answers:
                self.held_answers += data
            else:
                _write(self._before, data)
        if not self.held_answers:
            _shut(self._before)

    def release(self) -> None:
        self.frozen = self._holding = False
        requests, self.held_requests = self.held_requests, b""
        answers, self.held_answers = self.held_answers, b""
        _write(self._behind, requests)
        _write(self._before, answers)

    def close(self) -> None:
        for end in (self._before, self._behind):
            _shut(end)


def _read(end: socket.socket) -> bytes:
    with suppress(OSError):
        return end.recv(65_536)
    return b""


def _write(end: socket.socket, data: bytes) -> None:
    with suppress(OSError):
        end.sendall(data)


def _shut(end: socket.socket) -> None:
    with suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
    end.close()
