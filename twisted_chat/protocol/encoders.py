"""How events look on the wire, once per event and encoding, whatever the number of members.

An encoding turns events into items, one each, and joins items into the bytes of one write.  What a dialect does not show
is an empty item, so that items and numbers stay aligned.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

from twisted_chat.events import Event, Message
from twisted_chat.protocol.frames import BARE, Framing, text_frame

#: Bytes in one array of events: one read of a client's socket, and far below what browsers take.
BATCH_BYTES = 65_536

_encode_json = msgspec.json.Encoder().encode


class Encoding(Protocol):
    """One way to write the events of a room."""

    def items(self, events: Sequence[Event]) -> list[bytes]:
        """One item for each event."""

    def join(self, items: Sequence[bytes]) -> bytes:
        """What goes on the wire for these items."""

    def cut(self, items: Sequence[bytes], taken: int) -> tuple[int, bytes]:
        """Of ``join(items)`` the first ``taken`` bytes are gone: how many items are thereby begun, and the rest of the last
        begun frame.  With ``taken`` 0 the first frame counts as begun.
        """


class WholeItems:
    """Items that go on the wire as they are: whole frames, or whole chunks."""

    def join(self, items: Sequence[bytes]) -> bytes:
        return b"".join(items)

    def cut(self, items: Sequence[bytes], taken: int) -> tuple[int, bytes]:
        end = 0
        for count, item in enumerate(items, 1):
            end += len(item)
            if item and end >= taken and end > 0:
                return count, item[len(item) - (end - taken) :]
        return len(items), b""


class TextEncoding(WholeItems):
    """``chat.v1.text``: the bare text, or the bare bytes; nothing else is ever seen."""

    def __init__(self, room: str, framing: Framing = BARE) -> None:
        self._framing = framing

    def items(self, events: Sequence[Event]) -> list[bytes]:
        text, short = self._framing.text, self._framing.short
        return [
            (short[len(line)] + line if len(line := event.text.encode()) < len(short) else text(line))
            if type(event) is Message and event.text is not None
            else self._other(event)
            for event in events
        ]

    def _other(self, event: Event) -> bytes:
        return self._framing.binary(event.data) if type(event) is Message and event.data is not None else b""


class NamedTextEncoding(TextEncoding):
    """``chat.v1.text`` with ``?names=1``: ``bob: `` before each line."""

    def items(self, events: Sequence[Event]) -> list[bytes]:
        text = self._framing.text
        return [
            text(f"{event.by.name}: {event.text}".encode())
            if type(event) is Message and event.text is not None
            else self._other(event)
            for event in events
        ]


class JsonEncoding(WholeItems):
    """``chat.v1.json``: one object a frame."""

    def __init__(self, room: str, framing: Framing = BARE) -> None:
        self._start = b'{"type":"event","room":' + _encode_json(room) + b","
        self._framing = framing

    def objects(self, events: Sequence[Event]) -> list[bytes]:
        """The events as JSON."""
        start = self._start
        return [start + _encode_json(event)[1:] for event in events]

    def items(self, events: Sequence[Event]) -> list[bytes]:
        return [*map(self._framing.text, self.objects(events))]


class JsonBatchEncoding:
    """``chat.v1.json`` with the capability ``batch``: the events of one turn as one array."""

    def __init__(self, room: str, framing: Framing = BARE) -> None:
        self._json = JsonEncoding(room)
        self._framing = framing

    def items(self, events: Sequence[Event]) -> list[bytes]:
        return self._json.objects(events)

    def join(self, items: Sequence[bytes]) -> bytes:
        return b"".join([self._framing.text(batch(group)) for group in _groups(items)])

    def cut(self, items: Sequence[bytes], taken: int) -> tuple[int, bytes]:
        count = end = 0
        for group in _groups(items):
            whole = self._framing.text(batch(group))
            count += len(group)
            end += len(whole)
            if end >= taken:
                return count, whole[len(whole) - (end - taken) :]
        return count, b""


def batch(objects: Sequence[bytes]) -> bytes:
    """JSON objects as one text: an array, or the object alone."""
    return objects[0] if len(objects) == 1 else b"[" + b",".join(objects) + b"]"


def batch_frame(objects: Sequence[bytes]) -> bytes:
    """The same as one frame."""
    return text_frame(batch(objects))


def _groups(items: Sequence[bytes]) -> list[Sequence[bytes]]:
    if sum(map(len, items)) <= BATCH_BYTES:
        return [items] if items else []
    groups: list[Sequence[bytes]] = []
    start = size = 0
    for index, item in enumerate(items):
        if size and size + len(item) > BATCH_BYTES:
            groups.append(items[start:index])
            start, size = index, 0
        size += len(item)
    groups.append(items[start:])
    return groups
