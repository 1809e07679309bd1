"""The file that keeps what was accepted and how far was read, so that the end of the program loses neither.

One JSON object a line, appended::

    {"device":"6c1f…"}                                  who we are, for a guest
    {"put":{"type":"send","room":"lobby","key":"…"}}    accepted
    {"done":["lobby","…"]}                              acknowledged or refused
    {"at":["lobby",{"epoch":"…","seq":7,"id":"…"}]}     everything up to there has been handled
    {"left":"lobby"}                                    the room is read no more

A line is given to the operating system before the call that accepts the message returns, so a killed program loses nothing; it is
on disk (``fsync``) before anything of it is sent, so neither does a machine that loses its power.  When most of it is of no
use any more it is written anew and put in place by ``rename``.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterable, Mapping
from typing import IO

import msgspec
from msgspec import Struct

from twisted_chat.client.errors import StateError
from twisted_chat.client.outbox import Post
from twisted_chat.events import Cursor
from twisted_chat.protocol.commands import Delete, Edit, React, Send, Topic

#: Bytes that the file may grow beyond what it needs before it is written anew; once more for each so many that it needs, which keeps
#: the cost of an entry constant: without that, 100,000 messages that wait made 4,700 bytes written for each further one.
SLACK_BYTES = 262_144


class _Line(Struct, omit_defaults=True):
    device: str | None = None
    put: Send | Edit | Delete | React | Topic | None = None
    done: tuple[str, str] | None = None
    at: tuple[str, Cursor] | None = None
    left: str | None = None


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(_Line).decode


class Journal:
    """One program's file.

    :param path: made if it is not there; a program has it for itself.
    :ivar device: who we are, for a guest; None in a new file.
    :ivar cursors: by room, how far was read.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.device: str | None = None
        self.cursors: dict[str, Cursor] = {}
        self._pending: dict[tuple[str, str], bytes] = {}
        self._file: IO[bytes] | None = None
        self._lock: IO[bytes] | None = None
        self._size = self._needed = 0
        self._unsynced = False

    def open(self, device: str) -> list[Post]:
        """Read the file; answers what was accepted and not acknowledged, in order.  :class:`StateError` if it cannot be used.

        :param device: who we are if the file is new.
        """
        try:
            self._take()
            posts = self._read()
            self.device = self.device or device
            self._write_anew()
        except OSError as error:
            self.close()
            raise StateError(f"{self.path}: cannot be used: {error.strerror or error}") from None
        except StateError:
            self.close()
            raise
        return posts

    def put(self, post: Post, wire: bytes) -> None:
        """``post`` is accepted; :class:`StateError` if that cannot be kept, and then it is not."""
        assert post.key is not None
        line = b'{"put":%s}\n' % wire
        self._append(line)
        self._pending[post.room, post.key] = line
        self._needed += len(line)
        self._unsynced = True

    def done(self, room: str, key: str) -> None:
        """It is acknowledged or refused."""
        line = self._pending.pop((room, key), None)
        if line is not None:
            self._needed -= len(line)
            self._append(_encode({"done": (room, key)}) + b"\n")

    def move(self, cursors: Mapping[str, Cursor | None]) -> None:
        """So far was read; None: the room's cursor is gone."""
        lines = b""
        for room, cursor in cursors.items():
            if cursor is None:
                self.cursors.pop(room, None)
                lines += _encode({"left": room}) + b"\n"
            else:
                self.cursors[room] = cursor
                lines += _encode({"at": (room, cursor)}) + b"\n"
        self._append(lines)

    def sync(self) -> None:
        """What was accepted is on disk afterwards."""
        if self._file is None:
            return
        try:
            if self._size > self._needed + SLACK_BYTES * (1 + self._needed // max(1, SLACK_BYTES)):
                self._write_anew()
            elif self._unsynced:
                os.fsync(self._file.fileno())
        except OSError as error:
            raise StateError(f"{self.path}: cannot be written: {error.strerror or error}") from None
        self._unsynced = False

    def close(self) -> None:
        """Let go of the file."""
        for file in (self._file, self._lock):
            if file is not None:
                file.close()
        self._file = self._lock = None

    def _take(self) -> None:
        self._lock = open(self.path + ".lock", "ab", opener=_open_private)  # noqa: SIM115
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StateError(f"{self.path}: another program uses it; give each its own file") from None

    def _read(self) -> list[Post]:
        try:
            with open(self.path, "rb") as file:
                text = file.read()
        except FileNotFoundError:
            return []
        # A line without its end was being written when the program was killed: the call that wrote it has not returned.
        whole = text[: text.rfind(b"\n") + 1]
        posts: dict[tuple[str, str], Post] = {}
        for number, line in enumerate(whole.splitlines(), 1):
            try:
                self._apply(_decode(line), line, posts)
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                raise StateError(
                    f"{self.path}: line {number} cannot be read ({error}); move the file away to begin anew"
                ) from None
        return list(posts.values())

    def _apply(self, said: _Line, line: bytes, posts: dict[tuple[str, str], Post]) -> None:
        if said.device is not None:
            self.device = said.device
        if said.put is not None and said.put.key is not None:
            place = said.put.room, said.put.key
            posts[place] = said.put
            self._pending[place] = line + b"\n"
        if said.done is not None:
            posts.pop(said.done, None)
            self._pending.pop(said.done, None)
        if said.at is not None:
            self.cursors[said.at[0]] = said.at[1]
        if said.left is not None:
            self.cursors.pop(said.left, None)

    def _append(self, line: bytes) -> None:
        if self._file is None or not line:
            return
        descriptor = self._file.fileno()
        written = 0
        try:
            while written < len(line):
                written += os.write(descriptor, line[written:])
        except OSError as error:
            # Half a line would spoil the next one.
            os.ftruncate(descriptor, self._size)
            raise StateError(f"{self.path}: cannot be written: {error.strerror or error}") from None
        self._size += len(line)

    def _write_anew(self) -> None:
        lines = b"".join(self._lines())
        temporary = self.path + ".new"
        with open(temporary, "wb", opener=_open_private) as file:
            file.write(lines)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, self.path)
        _sync_directory(self.path)
        if self._file is not None:
            self._file.close()
        self._file = open(self.path, "ab", buffering=0, opener=_open_private)  # noqa: SIM115
        self._size = self._needed = len(lines)
        self._unsynced = False

    def _lines(self) -> Iterable[bytes]:
        yield _encode({"device": self.device}) + b"\n"
        for room, cursor in self.cursors.items():
            yield _encode({"at": (room, cursor)}) + b"\n"
        yield from self._pending.values()


def _open_private(path: str, flags: int) -> int:
    """Open a file that only its owner may read, also one that was there: it holds the guest's secret and what was said."""
    descriptor = os.open(path, flags, 0o600)
    os.fchmod(descriptor, 0o600)
    return descriptor


def _sync_directory(path: str) -> None:
    """A rename is on disk when its directory is."""
    directory = os.open(os.path.dirname(path) or ".", os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
