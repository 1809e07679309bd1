"""``send``: sends one message, or one for each line, and waits for the acknowledgements.

The key of each message consists of ``--key`` and the line number, so a repeated command adds no message twice, even if the command or
the server was killed in between.  The server recognises a message by room, author and key, so the identity of a guest is stored.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import AsyncIterator
from secrets import token_hex

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from twisted_chat.cli.connect import guest_device, token_of, url_of, with_client
from twisted_chat.cli.output import CliError, CommandContext, Status
from twisted_chat.client import ChatClient, ClientRoom, Message
from twisted_chat.errors import ChatError

#: Messages that may wait for their acknowledgement; below the client's own limit of 1,000.
WINDOW = 500
#: Bytes of one read of the standard input.
CHUNK = 65_536
#: The longest line; it bounds memory if the input has no line ends, and no server accepts a longer message.
LINE_BYTES = 16_777_216
#: Number of messages from which on progress is shown on a terminal, and seconds between two updates.
MANY, PROGRESS_SECONDS = 20, 0.2
#: Characters of ``--key``: with the line number a key has at most 64.
KEY_LENGTH = 50


async def lines_of(context: CommandContext) -> AsyncIterator[bytes]:
    """The lines of the standard input, without their ends."""
    rest = b""
    while chunk := await context.in_thread(lambda: context.read(CHUNK)):
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            yield line.removesuffix(b"\r")
        if len(rest) > LINE_BYTES:
            raise CliError(f"a line of the input has more than {LINE_BYTES} bytes", Status.FAILED)
    if rest:
        yield rest.removesuffix(b"\r")


async def send(args: Namespace, context: CommandContext) -> int:
    """Run the verb."""
    given = args.key is not None
    key = args.key if given else token_hex(8)
    if not (0 < len(key) <= KEY_LENGTH and key.isascii() and key.isprintable()):
        raise CliError(f"--key: must have 1 to {KEY_LENGTH} visible ASCII characters", Status.USAGE)
    device = None
    if token_of(args, context) is None:
        device = guest_device(context, url_of(args, context), args.room, key)
        if device is None and given:
            raise CliError(
                "--key: a guest's identity is stored in $XDG_STATE_HOME or ~/.local/state, which cannot be written; use a token",
                Status.USAGE,
            )
    sending = Sending(context, args.json, key)

    async def work(client: ChatClient) -> int:
        room = client.room(args.room)
        await room.when_joined()
        if args.text is not None:
            sending.one(room, key, args.text.encode("utf-8", "surrogateescape"))
        else:
            async for line in lines_of(context):
                await sending.space()
                sending.line(room, line)
        await sending.all_settled()
        return sending.end()

    try:
        return await with_client(args, context, work, device=device)
    except CliError as error:
        if sending.ended:
            raise
        error.args = (f"{error}; {sending.rest(device is not None or token_of(args, context) is not None)}",)
        raise
    except CancelledError:
        context.note(f"twisted-chat: {sending.rest(device is not None or token_of(args, context) is not None)}")
        raise
    finally:
        sending.quiet()


class Sending:
    """Sends messages, and counts those that were read, stored and refused."""

    def __init__(self, context: CommandContext, as_json: bool, key: str) -> None:
        self.read = self.kept = self.refused = 0
        self.last = 0
        self.ended = False
        self._world = context
        self._json = as_json
        self._key = key
        self._line = 0
        self._open = 0
        self._waiting: Deferred[None] | None = None
        self._wanted = 0
        self._drawn_at = -1.0
        self._trouble: BaseException | None = None
        self._refusal: CliError | None = None

    def line(self, room: ClientRoom, line: bytes) -> None:
        """Send the next line; an empty line is skipped."""
        self._line += 1
        if line:
            self.one(room, f"{self._key}-{self._line}", line)

    def one(self, room: ClientRoom, key: str, said: bytes) -> None:
        """Send a message."""
        self.read += 1
        number = self._line
        try:
            text = said.decode()
        except UnicodeDecodeError:
            self._refuse(number, key, "bad_request", "this is not UTF-8")
            return
        if not text:
            self._refuse(number, key, "bad_request", "text: must not be empty")
            return
        self._open += 1
        sent: Deferred[Message] = room.send(text, key=key)
        sent.addCallbacks(self._settled, self._failed, callbackArgs=(room, number, key), errbackArgs=(number, key))

    async def space(self) -> None:
        """Wait until another message may be sent."""
        await self._until(WINDOW - 1)

    async def all_settled(self) -> None:
        """Wait until every message is acknowledged or refused."""
        await self._until(0)

    def end(self) -> Status:
        """Print the result; returns the exit status."""
        self.quiet()
        self.ended = True
        if self._refusal is not None:
            raise self._refusal
        if self.refused:
            count = f"{self.kept} of {self.read} messages are stored"
            raise CliError(f"{count}, {self.refused} were refused", Status.FAILED)
        if not self._json and self._world.output_terminal and self.read:
            messages = "1 message is" if self.kept == 1 else f"{self.kept} messages are"
            self._world.say(f"{messages} stored; the last has number {self.last}")
        return Status.DONE

    def rest(self, repeatable: bool) -> str:
        """How many messages are stored, and how to send the others."""
        again = f"; the same command with --key {self._key} sends the others, and none twice" if repeatable else ""
        return f"{self.kept} of {self.read} messages are known to be stored{again}"

    def quiet(self) -> None:
        """Erase the progress."""
        if self._drawn_at >= 0:
            self._world.stderr.write("\r\x1b[K")
            self._world.stderr.flush()
            self._drawn_at = -1.0

    async def _until(self, most: int) -> None:
        while self._open > most and self._trouble is None:
            self._wanted = most
            self._waiting = Deferred()
            await self._waiting
        if self._trouble is not None:
            raise self._trouble

    def _settled(self, event: Message, room: ClientRoom, number: int, key: str) -> None:
        self.kept += 1
        self.last = max(self.last, event.seq)
        try:
            if self._json:
                line = {"line": number} if number else {}
                self._world.say_json({"room": room.name, **line, "key": key, "seq": event.seq, "id": event.id})
            self._progress()
        except OSError as error:
            self._trouble = error
        self._one_less()

    def _failed(self, failure: Failure, number: int, key: str) -> None:
        error = failure.value
        if isinstance(error, ChatError):
            self._refuse(number, key, error.code, error.message)
        else:
            self._trouble = error
        self._one_less()

    def _refuse(self, number: int, key: str, code: str, message: str) -> None:
        self.refused += 1
        self.quiet()
        if not number:
            self._refusal = CliError(f"{code}: {message}", Status.REFUSED)
            return
        if self._json:
            self._world.say_json({"line": number, "key": key, "error": {"code": code, "message": message}})
        else:
            self._world.note(f"twisted-chat: line {number}: {code}: {message}")

    def _one_less(self) -> None:
        self._open -= 1
        if self._waiting is not None and (self._open <= self._wanted or self._trouble is not None):
            waiting, self._waiting = self._waiting, None
            waiting.callback(None)

    def _progress(self) -> None:
        now = self._world.reactor.seconds()
        if not self._world.error_terminal or self.read < MANY or 0 <= now - self._drawn_at < PROGRESS_SECONDS:
            return
        self._drawn_at = now
        self._world.stderr.write(f"\r{self.kept} of {self.read} messages are stored\x1b[K")
        self._world.stderr.flush()
