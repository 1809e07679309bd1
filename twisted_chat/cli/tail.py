"""``tail``: prints the last events of a room, or all after a number, and with ``--follow`` those that come later."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

from twisted.internet.defer import Deferred

from twisted_chat.cli.connect import with_client
from twisted_chat.cli.output import CommandContext, Status, as_json, shown
from twisted_chat.client import ChatClient, ClientRoom, GapPush, LivePush, Reset, State
from twisted_chat.client.connection import AnyEvent


async def tail(args: Namespace, context: CommandContext) -> int:
    """Run the verb."""

    async def work(client: ChatClient) -> int:
        room = client.room(args.room, history=0 if args.since is not None else args.lines)
        if args.since is not None:
            room, after = await _placed(client, room, args.since)
        else:
            await room.when_joined()
            after = 0
        printing = Printing(context, room, args.json, args.follow, after)
        if args.since is not None and room.joined is not None and room.joined.head <= after and not args.follow:
            return Status.DONE
        client.watch(printing.see)
        return await printing.over

    return await with_client(args, context, work)


async def _placed(client: ChatClient, room: ClientRoom, since: int) -> tuple[ClientRoom, int]:
    """Join the room so that all events after number ``since`` follow.

    A cursor needs the id of its event, which is not known at a shell, so the position is counted from the head.  If the head moves
    between two joins, it is counted again.
    """
    await room.when_joined()
    joined = room.joined
    assert joined is not None, "joined rooms know what the join found"
    after = max(since, joined.first - 1)
    while joined.head > after and joined.from_ > after + 1:
        room.leave()
        room = client.room(room.name, history=joined.head - after)
        await room.when_joined()
        assert room.joined is not None, "joined rooms know what the join found"
        joined = room.joined
        after = max(after, joined.first - 1)
    return room, after


class Printing:
    """Prints a room's events to the standard output.

    It must be made as soon as the room is joined, before the first event.

    :ivar over: without ``follow``, fires with the exit status when all events have been printed; fails if the output cannot be written.
    """

    def __init__(self, context: CommandContext, room: ClientRoom, json: bool, follow: bool, after: int = 0) -> None:
        self.over: Deferred[int] = Deferred()
        self._world = context
        self._room = room
        self._json = json
        self._follow = follow
        self._after = after
        self._was_online = True
        self._waiting: Deferred[None] | None = None
        room.on(object, self._told)

    async def up_to(self, seq: int) -> None:
        """Wait for the event of that number, which may come after the acknowledgement of its message."""
        while self._after < seq and not self.over.called:
            self._waiting = Deferred()
            await self._waiting

    def see(self, client: ChatClient) -> None:
        """Report when the connection breaks and when it is back."""
        online = client.state is State.ONLINE
        if online:
            self._room.when_joined().addErrback(self._ended)
        if self._follow and online is not self._was_online and client.state in (State.ONLINE, State.WAITING):
            self._was_online = online
            self._world.note("-- connected again --" if online else f"-- {client.problem}; trying again --")

    def _ended(self, failure: Any) -> None:
        if not self.over.called:
            self.over.errback(failure)

    def _told(self, said: object) -> None:
        if self.over.called:
            return
        try:
            self._print_change(said)
        except Exception as error:
            self.over.errback(error)

    def _print_change(self, said: object) -> None:
        match said:
            case LivePush():
                if not self._follow:
                    self.over.callback(Status.DONE)
            case Reset():
                self._after = 0
                self._world.note(f"-- the room is loaded again ({said.why}) --")
            case GapPush():
                self._world.note(f"-- {said.dropped} events were missed --")
            case _ if isinstance(said, AnyEvent) and said.seq > self._after:
                self._print(said)

    def _print(self, event: AnyEvent) -> None:
        if self._json:
            self._world.say_json(as_json(self._room.name, event))
        else:
            self._world.say(shown(event))
        self._after = event.seq
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.callback(None)
