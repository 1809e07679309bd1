"""Mutes, bans and roles among the faults: a moderator acts against people while they write and read.

The raw clients are people with tokens, so that only they are concerned and not everybody at their address.  Who is muted sends the same
message again until it is kept; who is banned comes back until the ban has ended, and then misses nothing.
"""

from __future__ import annotations

import http.client
import json
import secrets
import time
from collections.abc import Sequence
from pathlib import Path

import jwt

from tests.jepsen.worker import ROOM

#: The file of the key, beside the configuration.
KEY = "jwt.key"
MODERATOR = "mo"
#: Seconds for one request; a server that is paused or dead answers none.
REQUEST_SECONDS = 2.0
#: Seconds for which an end of a mute or ban is tried, however many servers are dead.
END_SECONDS = 40.0


def write_key(directory: Path) -> str:
    """Make the key that tokens are signed with; answers the line of the configuration that names it."""
    (directory / KEY).write_text(secrets.token_hex(32))
    return f'jwt_keys = ["HS256:{directory / KEY}"]\n'


def token(directory: Path, name: str) -> str:
    """The token of the person of that name; the moderator's has the right for it."""
    claims: dict[str, object] = {"sub": name, "name": name, "exp": int(time.time()) + 86_400}
    if name == MODERATOR:
        claims["rights"] = ["moderate"]
    return jwt.encode(claims, (directory / KEY).read_text(), "HS256")


def act(directory: Path, ports: Sequence[int], method: str, path: str, body: object) -> bool:
    """Let the moderator do something by HTTP, on the first server that answers; whether it was done.  Blocking."""
    headers = {"Authorization": f"Bearer {token(directory, MODERATOR)}", "Content-Type": "application/json"}
    for port in ports:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=REQUEST_SECONDS)
        try:
            connection.request(method, f"/api/v1/rooms/{ROOM}/{path}", None if body is None else json.dumps(body), headers)
            answer = connection.getresponse()
            said = answer.read()
        except (OSError, http.client.HTTPException):
            continue
        finally:
            connection.close()
        if answer.status in (200, 201):
            return True
        if answer.status != 503 and b"nobody has the id" not in said:  # the person is not connected there
            raise AssertionError((method, path, body, answer.status, said))
    return False


def sanction(directory: Path, ports: Sequence[int], person: str, what: str, on: bool) -> bool:
    """Mute or ban a person, or end it; an end is tried until it is done."""
    deadline = time.monotonic() + END_SECONDS
    body = {"person": f"u{person}", "what": what, "on": on}
    while not act(directory, ports, "POST", "sanctions", body):
        if on or time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True
