"""``talk``: chat in a room from a terminal, or from a program.

On a terminal the line that is being typed stays in the last row: events are written above it, and the row is drawn again.
Otherwise each line of the input is a message, and each event a line of the output.
"""

from __future__ import annotations

import os
import shutil
import termios
import tty
from argparse import Namespace
from collections.abc import Callable
from typing import IO, Any

from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.interfaces import IReadDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer

from twisted_chat.cli.connect import with_client
from twisted_chat.cli.line_editor import Ended, LineEditor, LineEntered
from twisted_chat.cli.output import CommandContext, Status
from twisted_chat.cli.send import lines_of
from twisted_chat.cli.tail import Printing
from twisted_chat.client import ChatClient, ClientError, ClientRoom, Message
from twisted_chat.errors import ChatError

#: Seconds between two typing notices; the server does not forward more.
TYPING_SECONDS = 3.0
#: Seconds that the end waits for acknowledgements of the last messages.
LAST_WORDS_SECONDS = 5.0
PROMPT = "> "
HELP = "/who  show who is here    /topic TEXT  set the topic    //…  send a line that begins with /    /quit  or Ctrl+D"


async def talk(args: Namespace, context: CommandContext) -> int:
    """Run the verb."""
    if context.input_terminal and context.output_terminal and not args.json:
        return await _on_terminal(args, context)
    return await _plainly(args, context)


async def _plainly(args: Namespace, context: CommandContext) -> int:
    async def work(client: ChatClient) -> int:
        room = client.room(args.room, history=args.lines)
        await room.when_joined()
        printing = Printing(context, room, args.json, True)
        client.watch(printing.see)
        conversation = Conversation(client, room, context.note)

        async def read() -> int:
            async for line in lines_of(context):
                conversation.say(line.decode("utf-8", "replace"))
            await conversation.finished()
            await printing.up_to(conversation.last)
            return Status.FAILED if conversation.refused else Status.DONE

        reading = Deferred.fromCoroutine(read())
        reading.addCallbacks(printing.over.callback, printing.over.errback)
        try:
            return await printing.over
        finally:
            reading.addErrback(lambda failure: None)
            reading.cancel()

    return await with_client(args, context, work)


async def _on_terminal(args: Namespace, context: CommandContext) -> int:
    screen = Screen(context.stdout, PROMPT, lambda: shutil.get_terminal_size().columns)
    context.stdout, context.stderr = screen, screen  # type: ignore[assignment]

    async def work(client: ChatClient) -> int:
        room = client.room(args.room, history=args.lines)
        await room.when_joined()
        printing = Printing(context, room, False, True)
        client.watch(printing.see)
        topic = f", topic: {room.joined.topic}" if room.joined is not None and room.joined.topic else ""
        me = client.me.name if client.me is not None else "somebody"
        context.note(f"-- you are {me} in {room.name}{topic}; /help --")
        conversation = Conversation(client, room, context.note)
        keyboard = Keyboard(context.reactor, screen, conversation, printing.over)
        keyboard.start()
        try:
            return await printing.over
        finally:
            keyboard.stop()

    try:
        return await with_client(args, context, work)
    finally:
        screen.leave()
        context.stdout = context.stderr = screen.stream


class Conversation:
    """Carries out the lines that a person enters: messages and commands.

    :ivar refused: how many messages and commands failed.
    :ivar last: the highest number of the person's stored messages.
    """

    def __init__(self, client: ChatClient, room: ClientRoom, note: Callable[[str], None]) -> None:
        self.refused = 0
        self.last = 0
        self._under_way: set[Deferred[Any]] = set()
        self._client = client
        self._room = room
        self._note = note
        self._typed_at = -TYPING_SECONDS

    def say(self, line: str) -> bool:
        """Carry out a line; False if it ends the conversation."""
        command, _, rest = line.partition(" ")
        match command:
            case "":
                if line.strip():
                    self._send(line)
            case "/quit":
                return False
            case "/help":
                self._note(HELP)
            case "/who":
                Deferred.fromCoroutine(self._who()).addErrback(self._failed)
            case "/topic":
                self._room.set_topic(rest.strip()).addErrback(self._failed)
            case _ if line.startswith("//"):
                self._send(line[1:])
            case _ if line.startswith("/"):
                self._note(f"-- {command} is not a command; {HELP} --")
            case _:
                self._send(line)
        return True

    def typing(self) -> None:
        """Tell the room that the person is typing."""
        now = self._client.clock.seconds()
        if now - self._typed_at >= TYPING_SECONDS:
            self._typed_at = now
            self._room.typing()

    async def finished(self) -> None:
        """Wait until all messages are acknowledged or refused, for at most :data:`LAST_WORDS_SECONDS`."""
        try:
            await DeferredList(list(self._under_way)).addTimeout(LAST_WORDS_SECONDS, self._client.clock)
        except Exception:
            self.refused += 1
            self._note("-- the last messages were not acknowledged; they may have been added or not --")

    def _send(self, text: str) -> None:
        sent: Deferred[Any] = self._room.send(text)
        sent.addCallbacks(self._kept, self._failed)
        if not sent.called:
            self._under_way.add(sent)
            sent.addCallback(lambda _: self._under_way.discard(sent))

    def _kept(self, event: Message) -> None:
        self.last = max(self.last, event.seq)

    def _failed(self, failure: Failure) -> None:
        self.refused += 1
        error = failure.value
        if isinstance(error, ChatError):
            self._note(f"-- refused: {error.code}: {error.message} --")
        elif isinstance(error, ClientError):
            self._note(f"-- {error} --")
        else:
            self._note(f"-- failed: {type(error).__name__}: {error} --")

    async def _who(self) -> None:
        state = await self._room.presence()
        people = state.people if isinstance(state.people, tuple) else ()
        self._note(f"-- {state.count} here{': ' if people else ''}{', '.join(user.name for user in people)} --")


class Screen:
    """A terminal whose last row is the line being typed; what is written to it as a stream appears above.

    :param width: columns of the terminal; called at each redraw, because it may change.
    """

    def __init__(self, stream: IO[str], prompt: str, width: Callable[[], int]) -> None:
        self.stream = stream
        self.line = LineEditor()
        self.shown = False
        self._prompt = prompt
        self._width = width

    def write(self, text: str) -> int:
        """Write complete lines above the line being typed."""
        self.stream.write(f"\r\x1b[K{text}{self._row()}" if self.shown else text)
        return len(text)

    def flush(self) -> None:
        self.stream.flush()

    def draw(self) -> None:
        """Draw the line being typed."""
        self.shown = True
        self.stream.write("\r\x1b[K" + self._row())
        self.stream.flush()

    def leave(self) -> None:
        """Erase the line being typed."""
        if self.shown:
            self.shown = False
            self.stream.write("\r\x1b[K")
            self.stream.flush()

    def _row(self) -> str:
        row, column = self.line.row(self._prompt, self._width())
        return f"{row}\r" + (f"\x1b[{column}C" if column else "")


@implementer(IReadDescriptor)
class Keyboard:
    """Reads single keystrokes from the terminal; :meth:`stop` restores the terminal's mode."""

    def __init__(
        self, reactor: Any, screen: Screen, conversation: Conversation, over: Deferred[int], descriptor: int = 0
    ) -> None:
        self._reactor = reactor
        self._screen = screen
        self._conversation = conversation
        self._over = over
        self._descriptor = descriptor
        self._before: list[Any] | None = None
        self._ending = False

    def start(self) -> None:
        self._before = termios.tcgetattr(self._descriptor)
        tty.setcbreak(self._descriptor, termios.TCSADRAIN)
        self._screen.draw()
        self._reactor.addReader(self)

    def stop(self) -> None:
        self._reactor.removeReader(self)
        if self._before is not None:
            termios.tcsetattr(self._descriptor, termios.TCSADRAIN, self._before)
            self._before = None

    def fileno(self) -> int:
        return self._descriptor

    def logPrefix(self) -> str:
        return "keyboard"

    def doRead(self) -> None:
        try:
            data = os.read(self._descriptor, 4096)
        except OSError:
            data = b""
        if not data:
            self._end()
            return
        self.typed(data)

    def typed(self, data: bytes) -> None:
        """Apply keystrokes."""
        before = self._screen.line.text
        for happened in self._screen.line.feed(data):
            match happened:
                case LineEntered(text):
                    self._screen.draw()
                    if not self._conversation.say(text):
                        self._end()
                        return
                case Ended():
                    self._end()
                    return
        if self._screen.line.text != before and self._screen.line.text:
            self._conversation.typing()
        self._screen.draw()

    def connectionLost(self, reason: Failure) -> None:
        """The terminal is gone."""
        self._end()

    def _end(self) -> None:
        if self._ending:
            return
        self._ending = True
        self._reactor.removeReader(self)
        ending = Deferred.fromCoroutine(self._conversation.finished())
        ending.addBoth(lambda _: None if self._over.called else self._over.callback(Status.DONE))
