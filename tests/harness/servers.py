"""The real server to be hurt: killed, traced, started again on the same data and port; and a JSON client that says little."""

from __future__ import annotations

import json
import select
import socket
import ssl
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

import websockets.sync.client
from websockets.typing import Subprotocol

from tests.harness.serving import TWISTD, Served
from tests.harness.serving import free_port as free_port
from tests.harness.waiting import PATIENCE as PATIENCE

#: No rates: the tests that use it are about something else.
UNLIMITED = """
[limits]
send_burst = 1000000
send_per_second = 1e6
person_burst = 1000000
person_per_second = 1e6
query_burst = 1000000
query_per_second = 1e6
"""
JSON = [Subprotocol("chat.v1.json")]

Json = dict[str, Any]


class Server(Served):
    """``twistd -n chat`` that may be run by another program and comes back after a kill.

    :param config: the text of its configuration file.
    :param wrapper: a program and its options to run it under (``strace``).
    """

    def __init__(
        self,
        directory: str | Path,
        *arguments: str,
        config: str = UNLIMITED,
        wrapper: Sequence[str] = (),
        **environ: str,
    ) -> None:
        directory = Path(directory).absolute()
        directory.mkdir(parents=True, exist_ok=True)
        path = directory / "chat.toml"
        path.write_text(config)
        self.wrapper = wrapper
        if not any(argument.startswith("--listen") for argument in arguments):
            # A fixed one, to be there again after a kill.
            arguments = (f"--listen=tcp:{free_port()}:interface=127.0.0.1", *arguments)
        super().__init__(directory, f"--config={path}", *arguments, **environ)

    def _start(self) -> subprocess.Popen[bytes]:
        command = [*self.wrapper, *TWISTD, "-n", "--pidfile=", "chat", *self.arguments]
        return subprocess.Popen(command, cwd=self.directory, env=self._environ, stdout=self._out, stderr=self._err)

    def __enter__(self) -> Server:
        super().__enter__()
        return self

    def kill(self) -> None:
        """``kill -9``, and wait until it is gone."""
        self.process.kill()
        self.process.wait()

    def start_again(self) -> None:
        """The same command on the same data; :meth:`wait_for` tells when it is ready."""
        self.process = self._start()

    @property
    def server_pid(self) -> int:
        """Of the server itself, under whatever wrapper."""
        pid = self.process.pid
        if self.wrapper:
            (child,) = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
            pid = int(child)
        return pid

    def resident_bytes(self) -> int:
        """The server's memory that is not shared with files."""
        for line in Path(f"/proc/{self.server_pid}/status").read_text().splitlines():
            if line.startswith("RssAnon:"):
                return int(line.split()[1]) * 1024
        raise AssertionError("no RssAnon")


def connect(url: str, **options: Any) -> websockets.sync.client.ClientConnection:
    """The library's function, with a TLS connection whose session tickets have come.

    The library reads in one thread and writes in another, which OpenSSL does not allow for.  If the tickets are read while the
    request is written, the request never leaves (6 of 3,000 handshakes on a busy machine).
    """
    context = options.pop("ssl", None)
    if context is not None:
        options["sock"] = _past_the_tickets(url, context, options.get("sock"))
        url = url.replace("wss:", "ws:", 1)
    connection: websockets.sync.client.ClientConnection = websockets.sync.client.connect(url, **options)
    return connection


def _past_the_tickets(url: str, context: ssl.SSLContext, tcp: socket.socket | None) -> ssl.SSLSocket:
    place = urlsplit(url)
    tls = context.wrap_socket(tcp or socket.create_connection(("127.0.0.1", place.port)), server_hostname=place.hostname)
    tls.setblocking(False)
    while tls.session is None or not tls.session.has_ticket:
        if not select.select([tls], [], [], PATIENCE)[0]:
            raise AssertionError("no session ticket came")
        try:
            tls.recv(1)
        except ssl.SSLWantReadError:
            pass
    tls.setblocking(True)
    return tls


class JsonClient:
    """A blocking client of ``chat.v1.json`` by the ``websockets`` library.

    :param options: for the library; ``hello``: more for the hello.
    """

    def __init__(self, url: str, name: str = "tester", *, options: Mapping[str, Any] | None = None, **hello: object) -> None:
        # With a bound on its queue the library would wait 10 s for the answer to its close frame behind what nobody reads.
        wanted = {"subprotocols": JSON, "compression": None, "max_size": None, "max_queue": None, **(options or {})}
        self._connecting = connect(url, **wanted)
        self._hello = {"type": "hello", "name": name, **hello}
        self.pushes: list[Json] = []
        self._last_id = 0

    def __enter__(self) -> JsonClient:
        self.socket = self._connecting.__enter__()
        self.welcome = self.ask(self._hello)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._connecting.__exit__(kind, error, trace)

    def tell(self, command: Json) -> int:
        """Send a command with an id, which is answered."""
        self._last_id += 1
        self.socket.send(json.dumps({**command, "id": self._last_id}))
        return self._last_id

    def next(self, patience: float = PATIENCE) -> Json:
        """The next object from the server."""
        while not self.pushes:
            message = json.loads(self.socket.recv(patience))
            self.pushes += message if isinstance(message, list) else [message]
        return self.pushes.pop(0)

    def ask(self, command: Json, patience: float = PATIENCE) -> Json:
        """Send a command; its reply.  Pushes that come before it stay for :meth:`next`."""
        number = self.tell(command)
        before: list[Json] = []
        while True:
            message = self.next(patience)
            if message.get("id") == number:
                self.pushes = before + self.pushes
                return message
            before.append(message)

    def send(self, room: str, key: str, text: str) -> Json:
        return self.ask({"type": "send", "room": room, "key": key, "text": text})

    def events(self, patience: float = PATIENCE) -> Iterator[Json]:
        """Events as they come, for ever."""
        while True:
            message = self.next(patience)
            if message["type"] == "event":
                yield message
