"""Sends a WebSocket handshake as a browser does for the server's own page, and finds faults of a proxy in between by the answer."""

from __future__ import annotations

import http.client
import json
import ssl
from contextlib import closing
from typing import NamedTuple
from urllib.parse import urlsplit

#: Bytes that are read of an answer.
_ANSWER_BYTES = 65_536
_KEY = "dGhlIHNhbXBsZSBub25jZQ=="


class Finding(NamedTuple):
    """The result of the handshake.

    :ivar opened: a WebSocket opened.
    :ivar message: what happened; ``cure``: what to change, empty if it opened.
    """

    opened: bool
    message: str
    cure: str = ""


def probe(url: str, trust: str | None, seconds: float) -> Finding:
    """Try a handshake at a ``ws:`` or ``wss:`` URL with the ``Origin`` of a page there.

    :param trust: a file of certificates to trust instead of the system's.
    :param seconds: how long to wait for each step.
    """
    parts = urlsplit(url)
    assert parts.hostname is not None, url
    connection: http.client.HTTPConnection
    if parts.scheme == "wss":
        tls = ssl.create_default_context(cafile=trust)
        connection = http.client.HTTPSConnection(parts.hostname, parts.port, timeout=seconds, context=tls)
    else:
        connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=seconds)
    scheme = "https" if parts.scheme == "wss" else "http"
    headers = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": _KEY,
        "Origin": f"{scheme}://{parts.netloc.rpartition('@')[2]}",
    }
    with closing(connection):
        try:
            connection.request("GET", parts.path.rstrip("/") + "/ws", headers=headers)
            answer = connection.getresponse()
            body = b"" if answer.status == 101 else answer.read(_ANSWER_BYTES)
        except TimeoutError:
            cure = "let the proxy pass on the answer to a handshake at once, without buffering it"
            return Finding(False, f"no answer to a handshake within {seconds:g} s", cure)
        except http.client.HTTPException as error:
            return Finding(False, f"the answer is not HTTP ({type(error).__name__})", "check that the port is that of the proxy")
        except OSError as error:
            why = error.strerror or str(error)
            return Finding(False, f"no connection: {why}", "start the server and the proxy, and check the address")
    return judge(answer.status, answer.getheader("Upgrade", ""), body)


def judge(status: int, upgrade: str, body: bytes) -> Finding:
    """The finding for an answer to a handshake."""
    if status == 101 and upgrade.lower() == "websocket":
        return Finding(True, "a page there may open a WebSocket")
    code, message = _error(body)
    if status == 101:
        return Finding(False, "status 101 without Upgrade: websocket", "let the proxy pass on the header Upgrade of the answer")
    if code == "unauthenticated":
        return Finding(True, "a page there reaches the server, which wants a token")
    if code == "forbidden":
        return Finding(False, f"a page there is refused: {message}", "change the setting that the message names")
    if status == 426 or (code == "bad_request" and message.startswith(("Connection", "Sec-WebSocket", "a WebSocket needs"))):
        cure = "let the proxy speak HTTP/1.1 to the server and pass on the headers Upgrade, Connection and Sec-WebSocket-*"
        return Finding(False, f"the handshake arrives as another request: {message}", cure)
    if code:
        return Finding(False, f"the server answers {status}: {message}", "docs/protocol.rst says what the error means")
    if status in (502, 503, 504):
        return Finding(False, f"the proxy answers {status}", "start the server, and check the address that the proxy has for it")
    if status in (401, 407):
        return Finding(False, f"the proxy answers {status}", "let the proxy ask for no password of its own below this path")
    cure = "check that the proxy passes this host and path on to the server, with the path that public_url has"
    return Finding(False, f"something other than this server answers {status}", cure)


def _error(body: bytes) -> tuple[str, str]:
    """Code and message of an error of this server; empty if the body is none."""
    try:
        error = json.loads(body)["error"]
        return str(error["code"]), str(error["message"])
    except (ValueError, TypeError, LookupError, RecursionError):
        return "", ""
