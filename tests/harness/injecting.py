"""A way to the server on which the page gets a script that runs before its own, in browsers whose drivers cannot do that."""

from __future__ import annotations

import contextlib
import re
import socket
import threading

from tests.harness.listening import listen, pump

#: Notes what a browser's console would show.
ERRORS = """
globalThis.pageErrors = [];
addEventListener('error', ({ message }) => pageErrors.push(message));
addEventListener('unhandledrejection', ({ reason }) => pageErrors.push(String(reason)));
globalThis.consoleError = console.error;
console.error = (...words) => (pageErrors.push(words.join(' ')), consoleError.apply(console, words));
"""


class InjectingWay:
    """Passes every connection on; the page is changed so that it loads :attr:`script` first.

    :ivar script: JavaScript for the pages that are loaded from now on.
    """

    def __init__(self, target: int) -> None:
        self.script = ""
        self._target = target
        self._listener = listen(lambda client: threading.Thread(target=self._serve, args=(client,), daemon=True).start())
        self.port: int = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/"

    def close(self) -> None:
        self._listener.close()

    def _serve(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError), client:
            head = b""
            while b"\r\n\r\n" not in head:
                data = client.recv(65536)
                if not data:
                    return
                head += data
            target = head.split(b" ", 2)[1]
            if target == b"/before.js":
                body = (ERRORS + self.script).encode()
                kind = b"Content-Type: text/javascript\r\nCache-Control: no-store\r\nConnection: close\r\n"
                client.sendall(b"HTTP/1.1 200 OK\r\n%sContent-Length: %d\r\n\r\n%s" % (kind, len(body), body))
                return
            with socket.create_connection(("127.0.0.1", self._target)) as server:
                if re.search(rb"\r\nupgrade:", head, re.IGNORECASE) is None:
                    # One request a connection, so that each of them is looked at.
                    head = re.sub(rb"(?i)\r\n(connection|if-none-match|accept-encoding):[^\r]*", b"", head)
                    head = head.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1)
                server.sendall(head)
                if target == b"/":
                    self._pass_page(server, client)
                else:
                    threading.Thread(target=pump, args=(client, server), daemon=True).start()
                    pump(server, client)

    def _pass_page(self, server: socket.socket, client: socket.socket) -> None:
        answer = b""
        while data := server.recv(65536):
            answer += data
        head, _, body = answer.partition(b"\r\n\r\n")
        body = body.replace(b"<head>", b'<head><script src="before.js"></script>', 1)
        assert b"before.js" in body, answer[:500]
        head = re.sub(rb"(?i)content-length: [0-9]+", b"Content-Length: %d" % len(body), head)
        client.sendall(head + b"\r\n\r\n" + body)
