"""Read the usual request head with one regular expression, without splitting it line by line.

``twisted.web`` takes some 30 of the 50 microseconds of a handshake for its lines, headers and objects.  What is read here is a
strict part of what it reads: GET, a path, HTTP/1.1, headers of visible ASCII, nothing folded, everything in one piece.  What does
not look like that is left to it; ``tests/test_web_handshake_readers.py`` holds that both ways read the same.
"""

from __future__ import annotations

import re

from twisted_chat.web.auth import Headers

#: Bytes.  Longer heads are not usual; ``twisted.web`` knows what to do with them.
_HEAD_MAX = 4_096
_HEADERS_MAX = 50
_HEAD = re.compile(rb"GET (/[!-~]*) HTTP/1\.1\r\n((?:[A-Za-z0-9-]+:[\t -~]*\r\n)+)\r\n")

#: Names as they were written to what ``twisted.web`` makes of them; the only ones that a usual handshake may have beside those
#: that nobody looks at.
_KNOWN = (
    b"Authorization",
    b"Connection",
    b"Cookie",
    b"Forwarded",
    b"Host",
    b"Origin",
    b"Sec-Websocket-Extensions",
    b"Sec-Websocket-Key",
    b"Sec-Websocket-Protocol",
    b"Sec-Websocket-Version",
    b"Upgrade",
    b"X-Forwarded-For",
    b"X-Forwarded-Proto",
)
_CANONICAL = {name.lower(): name for name in _KNOWN}
#: A body, or a question whether to send one.
_NOT_USUAL = frozenset({b"content-length", b"transfer-encoding", b"expect"})


def read_head(data: bytes) -> tuple[bytes, Headers, int] | None:
    """Target, the headers that matter to a handshake, and where the head ends; None if it is not the usual case."""
    match = _HEAD.match(data, 0, _HEAD_MAX)
    if match is None:
        return None
    target, lines = match.groups()
    entries = lines.split(b"\r\n")
    if len(entries) > _HEADERS_MAX:
        return None
    headers: dict[bytes, list[bytes]] = {}
    del entries[-1]
    for entry in entries:
        name, _, value = entry.partition(b":")
        lowered = name.lower()
        canonical = _CANONICAL.get(lowered)
        if canonical is not None:
            headers.setdefault(canonical, []).append(value.strip(b" \t"))
        elif lowered in _NOT_USUAL:
            return None
    return (target, headers, match.end()) if b"Upgrade" in headers else None
