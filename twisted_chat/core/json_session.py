"""``chat.v1.json``: commands in, answers and pushes out (``docs/protocol.rst``).

One ``case`` for each command.  Commands of one connection take effect in their order; what needs a look at the store answers
later without holding up the ones behind it.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from typing import assert_never

from msgspec import UNSET
from msgspec.structs import asdict
from twisted.internet.defer import Deferred

from twisted_chat.core import governance_commands
from twisted_chat.core.answering import AnsweringSession
from twisted_chat.core.chat import Chat
from twisted_chat.core.greeting import Greeting, GreetingState
from twisted_chat.core.joining import about_room, join_all, join_one
from twisted_chat.core.permissions import Action
from twisted_chat.core.posting import Posting
from twisted_chat.core.questions import Question, Questions
from twisted_chat.core.ratelimit import TokenBucket
from twisted_chat.core.session import SessionState
from twisted_chat.core.subscription import Subscription
from twisted_chat.errors import BadRequest, ChatError, CloseCode, LimitReached, NotJoined, RateLimited
from twisted_chat.interfaces import Admission, Connection
from twisted_chat.protocol.commands import (
    AnyCommand,
    Bye,
    Create,
    Delete,
    Direct,
    Edit,
    Hello,
    History,
    Join,
    JoinRoom,
    Leave,
    Member,
    Members,
    Ping,
    Pong,
    Presence,
    React,
    Read,
    Rooms,
    Sanction,
    Sanctions,
    Send,
    Settings,
    Topic,
    Typing,
)
from twisted_chat.protocol.decoder import Decoded, Wrong, commands_in
from twisted_chat.protocol.replies import (
    GapPush,
    HistoryOk,
    LivePush,
    PingPush,
    PongPush,
    PresenceOk,
    PresencePush,
    ReadOk,
    ReadPush,
    RoomBrief,
    RoomsOk,
)
from twisted_chat.store_contract import Page

#: Rooms in one join that count as one query: the bound of 128 rooms fits easily into the burst.
ROOMS_A_QUERY = 16


class JsonSession(AnsweringSession):
    """A rich client."""

    __slots__ = ("_limits", "_posting", "_queries", "_questions", "_waiting", "greeting")

    def __init__(self, core: Chat, connection: Connection, admission: Admission) -> None:
        super().__init__(core, connection, admission.user, admission.address)
        self.greeting = Greeting(self, self._run_waiting)
        self._posting = Posting(self)
        #: Those that the bucket of queries was made for.
        self._limits = core.limits
        self._queries = TokenBucket(core.limits.query_burst, core.limits.query_per_second, core.now)
        self._questions: Questions | None = None
        #: Commands behind a hello that is in progress.
        self._waiting: list[Decoded] = []

    # In

    def received(self, texts: Sequence[bytes]) -> None:
        """Text messages, in order; each is valid UTF-8."""
        for text in texts:
            for command in commands_in(text):
                self._run(command)
        self._posting.submit()

    def received_binary(self, data: bytes) -> None:
        """One binary message."""
        self.close(CloseCode.UNSUPPORTED_DATA, "chat.v1.json is text; send bytes as base64 in data")

    def _run(self, command: Decoded) -> None:
        if self.greeting.state is GreetingState.IN_PROGRESS:
            self._waiting.append(command)
            return
        if self.state is not SessionState.OPEN:
            return
        try:
            if isinstance(command, Wrong):
                self._posting.submit()
                self.refuse(command.id, command.error)
                return
            if type(command) is Send and self.greeting.state is GreetingState.WELCOMED:
                self._posting.add(command)
            else:
                self._posting.submit()
                self._run_other(command)
        except ChatError as error:
            self.refuse(command.id, error)
        else:
            # A hello counts when it has been answered.
            if type(command) is not Hello:
                self._refused = 0

    def _run_waiting(self) -> None:
        waiting, self._waiting = self._waiting, []
        for command in waiting:
            self._run(command)
        self._posting.submit()

    def _run_other(self, command: AnyCommand) -> None:
        if self.greeting.state is GreetingState.NONE and not isinstance(command, Hello | Ping | Pong | Bye):
            raise BadRequest("type: say hello first")
        if isinstance(command, Leave | Typing | Ping | Pong):
            self.count_unrated()
        match command:
            case Hello():
                self.greeting.begin(command)
            case Join():
                self._join(command)
            case Leave():
                self.leave_room(self.membership(command.room).room.name)
                self.ok(command.id)
            case Send() | Edit() | Delete() | React() | Topic():
                self._posting.add(command)
            case Rooms():
                self._list_rooms(command)
            case History():
                self._read_history(command)
            case Presence():
                self._tell_presence(command)
            case Create() | Direct() | Settings() | Member() | Sanction() | Members() | Sanctions():
                self._count_query()
                governance_commands.run(self, command)
            case Typing():
                self._report_typing(command)
            case Read():
                self._mark_read(command)
            case Ping():
                if command.id is None:
                    self.push(PongPush())
                else:
                    self.ok(command.id)
            case Pong():
                self.ok(command.id)
            case Bye():
                self.ok(command.id)
                self.close(CloseCode.NORMAL, "bye")
            case _:
                assert_never(command)

    # Commands

    def _join(self, command: Join) -> None:
        if (command.room is None) == (command.rooms is None):
            raise BadRequest("room: give either room or rooms")
        if command.room is not None:
            self._count_query()
            wanted = JoinRoom(room=command.room, since=command.since, tail=command.tail, presence=command.presence)
            join_one(self, command.id, wanted)
            return
        if not command.rooms:
            raise BadRequest("rooms: must not be empty")
        if len(command.rooms) > self.core.limits.rooms_per_connection:
            raise LimitReached(f"rooms: at most {self.core.limits.rooms_per_connection}")
        several = [room if isinstance(room, JoinRoom) else JoinRoom(room=room) for room in command.rooms]
        # A client that comes back to all rooms at once must not be refused for it.
        self._count_query(ceil(len(several) / ROOMS_A_QUERY))
        join_all(self, command.id, several)

    def _list_rooms(self, command: Rooms) -> None:
        self._count_query()
        command_id = command.id
        if command_id is None:
            return

        def answer() -> None:
            page = self.core.rooms.visible(self.user, command.prefix, command.after, command.limit)
            role = self.core.permissions.role
            briefs = tuple(
                RoomBrief(
                    room=room.name,
                    head=room.head,
                    topic=room.topic,
                    members=room.members,
                    **about_room(room.settings, role(self.user, room.name)),
                )
                for room in page.rooms
            )
            self.push(RoomsOk(id=command_id, rooms=briefs, next=page.next or UNSET))

        self._ask(answer)

    def _read_history(self, command: History) -> None:
        if sum(place is not None for place in (command.before, command.after, command.around)) > 1:
            raise BadRequest("before: give only one of before, after and around")
        self._count_query()
        room = self.core.rooms.find(self.user, command.room, self.address)

        def find() -> Deferred[None]:
            page = self.core.history.page(
                room.log, command.limit, before=command.before, after=command.after, around=command.around, reader=self.user.id
            )
            seen = self.core.permissions.still_seen(self.user, room, self.address, page)
            return self.answer_later(command.id, seen, lambda found: self._send_page(command, room.name, found))

        self._ask(find)

    def _send_page(self, command: History, room: str, page: Page) -> None:
        if command.id is not None:
            self.push(
                HistoryOk(
                    id=command.id,
                    room=room,
                    head=page.head,
                    events=page.events,
                    more_before=page.more_before,
                    more_after=page.more_after,
                )
            )

    def _tell_presence(self, command: Presence) -> None:
        membership = self.membership(command.room)
        presence = membership.room.presence
        self._count_query()
        if command.on is not None:
            (presence.watch if command.on else presence.unwatch)(self)
        command_id = command.id
        if command_id is None:
            return

        def answer() -> None:
            # The question may have waited, and the user may have been removed meanwhile.
            if self.memberships.get(membership.room.name) is membership:
                self.push(PresenceOk(id=command_id, **asdict(presence.snapshot())))
            else:
                self.error(command_id, NotJoined(f"room: {membership.room.name} is not joined"))

        self._ask(answer)

    def _report_typing(self, command: Typing) -> None:
        room = self.membership(command.room).room
        self.core.permissions.check(self.user, Action.SEND, room, self.address)
        self.core.notices.typing(self.user, room)
        self.ok(command.id)

    def _mark_read(self, command: Read) -> None:
        room = self.membership(command.room).room
        # The client may know more than this node, by another one; the store keeps no mark beyond the head.
        if command.seq > room.head and not self.core.nodes.shared:
            raise BadRequest(f"seq: {command.seq} is beyond the head, {room.head}")
        self._count_query()
        marked = self.core.notices.mark_read(self, room, command.seq)

        def confirm(seq: int) -> None:
            if command.id is not None:
                self.push(ReadOk(id=command.id, room=room.name, seq=seq))

        self.answer_later(command.id, marked, confirm)

    def _ask(self, question: Question) -> None:
        if self._questions is None:
            self._questions = Questions(self.connection, self.core.scheduler.at_next)
        self._questions.ask(question)

    def _count_query(self, cost: int = 1) -> None:
        limits = self.core.limits
        if limits is not self._limits:
            self._limits = limits
            self._queries.configure(limits.query_burst, limits.query_per_second)
        cost = min(cost, limits.query_burst)
        buckets = self._queries, self.core.rates.asking(self.user, self.address)
        if any(bucket.available() < cost for bucket in buckets):
            wait = max(bucket.wait(cost) for bucket in buckets)
            raise RateLimited(f"too many queries, wait {wait:.1f} s", retry_after_ms=ceil(wait * 1000))
        for bucket in buckets:
            bucket.take(cost)

    # What the connection, subscriptions and others tell

    def drained(self) -> None:
        super().drained()
        if self._questions is not None:
            self._questions.go_on()

    def lost(self) -> None:
        if self.state is SessionState.LOST:
            return
        if self._questions is not None:
            self._questions.forget()
        super().lost()
        self.greeting.end()
        self._posting.end()

    def caught_up(self, subscription: Subscription) -> None:
        self.push(LivePush(room=subscription.log.name, seq=subscription.log.head))

    def missed(self, subscription: Subscription, count: int) -> None:
        self.push(GapPush(room=subscription.log.name, dropped=count))
        # Before the events behind the gap, which are written directly.
        self.flush()

    def presence_changed(self, push: PresencePush) -> None:
        # Merged by its version: while this connection is congested the client asks again when it notices the gap.
        if not self.connection.congested:
            self.push(push)

    def standing_changed(self, room: str, error: ChatError | None) -> None:
        if error is not None:
            self.leave_room(room)
        if self.greeting.state is GreetingState.WELCOMED:
            self.push(governance_commands.standing_push(self, room, error))

    def see_typing(self, push: bytes) -> None:
        if self.greeting.state is GreetingState.WELCOMED and not self.connection.congested:
            self.reply(push)

    def see_read(self, push: ReadPush) -> None:
        if self.greeting.state is GreetingState.WELCOMED:
            self.push(push)

    # Life

    def on_timer(self, tick: int) -> int:
        if self.greeting.state is not GreetingState.WELCOMED and self.state is SessionState.OPEN:
            if tick >= self.greeting.deadline:
                self.close(CloseCode.NO_HELLO, "no hello")
                return 0
            return self.set_timer(self.greeting.deadline - tick)
        return super().on_timer(tick)

    def ping(self) -> None:
        self.push(PingPush())
