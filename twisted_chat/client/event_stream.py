"""Server-Sent Events as the bytes come: pieces in, whole events out (WHATWG HTML, "Interpreting an event stream").

Each byte is looked at once, however small the pieces are.  Comments, ids and times to wait mean nothing to a session.
"""

from __future__ import annotations

from collections.abc import Iterator


class TooLong(Exception):
    """An event has more bytes than anybody sends."""


class EventStream:
    """The reader of one stream.

    :param most: bytes of one event.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._line: list[bytes] = []
        self._name = ""
        self._data: list[bytes] = []
        self._size = 0

    def feed(self, piece: bytes) -> Iterator[tuple[str, bytes]]:
        """More bytes; the events that they complete, each with its name (empty: none) and data."""
        first, *rest = piece.split(b"\n")
        for part in rest:
            yield from self._end_line(first)
            first = part
        self._add_part(first)

    def _add_part(self, part: bytes) -> None:
        self._size += len(part)
        if self._size > self._most:
            raise TooLong
        self._line.append(part)

    def _end_line(self, last: bytes) -> Iterator[tuple[str, bytes]]:
        self._add_part(last)
        line = b"".join(self._line).removesuffix(b"\r")
        self._line = []
        if line:
            field, _, value = line.partition(b":")
            value = value.removeprefix(b" ")
            if field == b"data":
                self._data.append(value)
            elif field == b"event":
                self._name = value.decode(errors="replace")
            return
        name, data = self._name, self._data
        self._name, self._data, self._size = "", [], 0
        if data:
            yield name, b"\n".join(data)
