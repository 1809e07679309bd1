"""``chat.v1.json``: commands in, answers and pushes out (``docs/protocol.rst``).

One ``case`` for each command.  Commands of one connection take effect in their order; what needs a look at the store answers
later without holding up the ones behind it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum, auto
from math import ceil
from typing import TYPE_CHECKING, TypeVar, assert_never

import msgspec
from msgspec import UNSET, Struct, UnsetType
from msgspec.structs import asdict
from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.python.failure import Failure

from twisted_chat.core.commit import AppendRequest
from twisted_chat.core.joining import join_all, join_one
from twisted_chat.core.posting import PostCommand, new_event_of
from twisted_chat.core.ratelimit import TokenBucket
from twisted_chat.core.room import Room
from twisted_chat.core.session import Session, SessionState
from twisted_chat.core.subscription import Subscription
from twisted_chat.errors import (
    RETRY_CLOSE_CODES,
    BadRequest,
    ChatError,
    CloseCode,
    InternalError,
    LimitReached,
    NotJoined,
    RateLimited,
    Unauthenticated,
)
from twisted_chat.events import NewEvent
from twisted_chat.interfaces import Admission, Connection, Duplicate, Outcome, Page
from twisted_chat.protocol.commands import (
    AnyCommand,
    Bye,
    Delete,
    Edit,
    Hello,
    History,
    Id,
    Join,
    JoinRoom,
    Leave,
    Ping,
    Pong,
    Presence,
    React,
    Read,
    Rooms,
    Send,
    Topic,
    Typing,
)
from twisted_chat.protocol.decoder import Decoded, Wrong, commands_in
from twisted_chat.protocol.encoders import batch_frame
from twisted_chat.protocol.frames import text_frame
from twisted_chat.protocol.replies import (
    ByePush,
    Error,
    GapPush,
    HistoryOk,
    LivePush,
    Me,
    Ok,
    PingPush,
    PongPush,
    PostOk,
    PresenceOk,
    PresencePush,
    ReadOk,
    ReadPush,
    RoomBrief,
    RoomsOk,
    SendRate,
    TypingPush,
    Welcome,
    WelcomeLimits,
    error_body,
)
from twisted_chat.users import Credential, Source, User

if TYPE_CHECKING:
    from twisted_chat.core.chat import Chat

#: Rooms in one join that count as one question: the bound of 128 rooms fits easily into the burst.
ROOMS_A_QUESTION = 16

T = TypeVar("T")

_encode = msgspec.json.Encoder().encode


class Greeting(Enum):
    """How far the hello is."""

    NONE = auto()
    UNDER_WAY = auto()  #: who it is must be found out; commands wait
    WELCOMED = auto()


class JsonSession(Session):
    """A rich client."""

    __slots__ = (
        "_hello_by",
        "_posting_commands",
        "_posting_drafts",
        "_posting_room",
        "_queries",
        "_refused",
        "_said_bye",
        "_waiting",
        "batch",
        "device",
        "greeting",
    )

    def __init__(self, core: Chat, connection: Connection, admission: Admission) -> None:
        super().__init__(core, connection, admission.user, admission.address)
        self.device: str | None = None
        self.greeting = Greeting.NONE
        self._waiting: list[Decoded] = []
        self.batch = False
        self._hello_by = core.wheel.tick + max(1, ceil(core.limits.hello_seconds))
        self._refused = 0
        self._said_bye = False
        self._queries = TokenBucket(core.limits.query_burst, core.limits.query_per_second, core.now)
        self._posting_room: Room | None = None
        self._posting_commands: list[PostCommand] = []
        self._posting_drafts: list[NewEvent] = []

    # In

    def received(self, texts: Sequence[bytes]) -> None:
        for text in texts:
            for command in commands_in(text):
                self._take(command)
        self._submit()

    def received_binary(self, data: bytes) -> None:
        self.close(CloseCode.UNSUPPORTED_DATA, "chat.v1.json is text; send bytes as base64 in data")

    def _take(self, command: Decoded) -> None:
        if self.greeting is Greeting.UNDER_WAY:
            self._waiting.append(command)
            return
        if self.state is not SessionState.OPEN:
            return
        try:
            if isinstance(command, Wrong):
                self._submit()
                self._refuse(command.id, command.error)
                return
            if type(command) is Send:
                if self.greeting is Greeting.NONE:
                    raise BadRequest("type: say hello first")
                self._post(command)
            else:
                self._submit()
                self._do(command)
        except ChatError as error:
            self._refuse(UNSET if command.id is None else command.id, error)
        else:
            self._refused = 0

    def _go_on(self) -> None:
        """What waited for the hello."""
        waiting, self._waiting = self._waiting, []
        for command in waiting:
            self._take(command)
        self._submit()

    def _do(self, command: AnyCommand) -> None:
        if self.greeting is Greeting.NONE and not isinstance(command, Hello | Ping | Pong | Bye):
            raise BadRequest("type: say hello first")
        match command:
            case Hello():
                self._hello(command)
            case Join():
                self._join(command)
            case Leave():
                self.leave_room(self._subscription(command.room).room.name)
                self._ok(command.id)
            case Send() | Edit() | Delete() | React() | Topic():
                self._post(command)
            case Rooms():
                self._rooms(command)
            case History():
                self._history(command)
            case Presence():
                self._presence(command)
            case Typing():
                self._typing(command)
            case Read():
                self._read(command)
            case Ping():
                if command.id is None:
                    self.push(PongPush())
                else:
                    self._ok(command.id)
            case Pong():
                self._ok(command.id)
            case Bye():
                self._ok(command.id)
                self.close(CloseCode.NORMAL, "bye")
            case _:
                assert_never(command)

    # Hello

    def _hello(self, command: Hello) -> None:
        if self.greeting is not Greeting.NONE:
            raise BadRequest("type: hello was said before")
        self.greeting = Greeting.UNDER_WAY
        if command.token is not None:
            user = maybeDeferred(self.core.identify, Credential(command.token, Source.HELLO))
        else:
            user = maybeDeferred(self.core.guest_as, self.user, command.name, command.device)
        marks = user.addCallback(self._become, command)
        marks.addCallback(self._welcome, command)
        marks.addErrback(self._not_welcome, command)
        if self.greeting is Greeting.UNDER_WAY:
            self.connection.pause()
            marks.addBoth(lambda _: self.connection.resume())

    def _become(self, user: User, command: Hello) -> Deferred[dict[str, int]]:
        if self.state is not SessionState.OPEN:
            # It left while its token was looked at; entering it now would make a member that never leaves.
            return succeed({})
        self.core.rename(self, user)
        self.batch = "batch" in command.capabilities
        self.device = command.device
        self.core.replace_device(self)
        return self.core.read_marks(user)

    def _not_welcome(self, failure: Failure, command: Hello) -> None:
        self.greeting = Greeting.NONE
        error = failure.value
        if not isinstance(error, ChatError):
            self.log.failure("A hello failed in a way it should not", failure)
            error = InternalError("the server could not do it; see its log")
        self._refuse(UNSET if command.id is None else command.id, error)
        if isinstance(error, Unauthenticated):
            self.end(error)
        # What waits is answered, too, or may be a better hello.
        self._go_on()

    def _welcome(self, marks: dict[str, int], command: Hello) -> None:
        if self.state is not SessionState.OPEN:
            return
        self.greeting = Greeting.WELCOMED
        limits, user = self.core.limits, self.user
        self.push(
            Welcome(
                id=UNSET if command.id is None else command.id,
                version=1,
                server=self.core.server,
                epoch=self.core.epoch,
                user=_me(user),
                ping_ms=round(limits.ping_seconds * 1000),
                limits=WelcomeLimits(
                    frame=limits.frame_bytes,
                    text=limits.text_bytes,
                    rooms=limits.rooms_per_connection,
                    history=limits.history,
                    send=SendRate(burst=limits.send_burst, per_second=max(0.0, limits.send_per_second)),
                ),
                read=marks,
            )
        )
        self._go_on()

    # Rooms

    def _join(self, command: Join) -> None:
        if (command.room is None) == (command.rooms is None):
            raise BadRequest("room: give either room or rooms")
        if command.room is not None:
            self._query()
            wanted = JoinRoom(room=command.room, since=command.since, tail=command.tail, presence=command.presence)
            join_one(self, command.id, wanted)
            return
        several = [room if isinstance(room, JoinRoom) else JoinRoom(room=room) for room in command.rooms or ()]
        if not several:
            raise BadRequest("rooms: must not be empty")
        if len(several) > self.core.limits.rooms_per_connection:
            raise LimitReached(f"rooms: at most {self.core.limits.rooms_per_connection}")
        # Who comes back to all rooms at once must not be refused for it.
        self._query(ceil(len(several) / ROOMS_A_QUESTION))
        join_all(self, command.id, several)

    def _subscription(self, room: str) -> Subscription:
        subscription = self.subscriptions.get(room)
        if subscription is None:
            subscription = self.subscriptions.get(self.core.room_name(room))
        if subscription is None:
            raise NotJoined(f"room: {room} is not joined")
        return subscription

    # Posting

    def _post(self, command: PostCommand) -> None:
        subscription = self.subscriptions.get(command.room) or self._subscription(command.room)
        room = subscription.broadcast.room
        new_event = new_event_of(command, self.author, self.user, self.core.limits.text_bytes)
        if not room.open_to_all:
            self.core.check_may_write(self.user, room)
        if self.core.metered:
            self.check_rate()
        if not room.open_to_all and type(command) is Send:
            self.core.check_slow_mode(self.user, room)
        if self._posting_room is not room:
            self._submit()
            self._posting_room = room
        self._posting_commands.append(command)
        self._posting_drafts.append(new_event)

    def _submit(self) -> None:
        """Hand over the run of commands for one room that has been collected."""
        room = self._posting_room
        if room is None:
            return
        commands, new_events = self._posting_commands, self._posting_drafts
        self._posting_room, self._posting_commands, self._posting_drafts = None, [], []
        request = AppendRequest(
            room,
            new_events,
            lambda outcomes: self._posted(room.name, commands, outcomes),
            lambda error: self._posted(room.name, commands, [error] * len(commands)),
        )
        try:
            self.core.submit(request)
        except ChatError as error:
            for command in commands:
                self._refuse(UNSET if command.id is None else command.id, error)

    def _posted(self, room: str, commands: Sequence[PostCommand], outcomes: Sequence[Outcome]) -> None:
        for command, outcome in zip(commands, outcomes, strict=True):
            command_id = command.id
            if isinstance(outcome, ChatError):
                self._error(UNSET if command_id is None else command_id, outcome)
            elif command_id is not None:
                event, key = outcome.event, UNSET if command.key is None else command.key
                self.reply(_encode(PostOk(command_id, room, event.seq, event.id, type(outcome) is Duplicate, key)))

    # Looking

    def _rooms(self, command: Rooms) -> None:
        self._query()
        if command.id is not None:
            rooms = self.core.rooms(self.user)
            told = tuple(RoomBrief(room=room.name, head=room.head, topic=room.topic, members=room.members) for room in rooms)
            self.push(RoomsOk(id=command.id, rooms=told))

    def _history(self, command: History) -> None:
        if sum(place is not None for place in (command.before, command.after, command.around)) > 1:
            raise BadRequest("before: give only one of before, after and around")
        self._query()
        page = self.core.page(
            self.user, command.room, command.limit, before=command.before, after=command.after, around=command.around
        )
        self._answer_later(command.id, page, lambda found: self._page(command, found))

    def _page(self, command: History, page: Page) -> None:
        if command.id is not None:
            self.push(
                HistoryOk(
                    id=command.id,
                    room=self.core.room_name(command.room),
                    head=page.head,
                    events=page.events,
                    more_before=page.more_before,
                    more_after=page.more_after,
                )
            )

    def _presence(self, command: Presence) -> None:
        presence = self._subscription(command.room).room.presence
        self._query()
        if command.on is not None:
            (presence.watch if command.on else presence.unwatch)(self)
        if command.id is not None:
            self.push(PresenceOk(id=command.id, **asdict(presence.snapshot())))

    def presence_changed(self, push: PresencePush) -> None:
        # Merged by its version: while this link is congested the client asks again when it notices the gap.
        if not self.connection.congested:
            self.push(push)

    def _typing(self, command: Typing) -> None:
        room = self._subscription(command.room).room
        self.core.check_may_write(self.user, room)
        self.core.typing(self, room)
        self._ok(command.id)

    def see_typing(self, push: TypingPush) -> None:
        """Somebody else is writing; dropped while this link is congested."""
        if self.greeting is Greeting.WELCOMED and not self.connection.congested:
            self.push(push)

    def _read(self, command: Read) -> None:
        room = self._subscription(command.room).room
        if command.seq > room.head:
            raise BadRequest(f"seq: {command.seq} is beyond the head, {room.head}")
        self._query()
        marked = self.core.mark_read(self.user, room, command.seq, self)
        self._answer_later(command.id, marked, lambda seq: self._marked(command, room.name, seq))

    def _marked(self, command: Read, room: str, seq: int) -> None:
        if command.id is not None:
            self.push(ReadOk(id=command.id, room=room, seq=seq))

    def see_read(self, push: ReadPush) -> None:
        """The person read on another device."""
        if self.greeting is Greeting.WELCOMED:
            self.push(push)

    def _query(self, cost: int = 1) -> None:
        cost = min(cost, self.core.limits.query_burst)
        if self._queries.available() < cost:
            wait = self._queries.wait(cost)
            raise RateLimited(f"too many questions, wait {wait:.1f} s", retry_after_ms=ceil(wait * 1000))
        self._queries.take(cost)

    # What readers tell

    def caught_up(self, subscription: Subscription) -> None:
        self.push(LivePush(room=subscription.room.name, seq=subscription.room.head))

    def missed(self, subscription: Subscription, count: int) -> None:
        self.push(GapPush(room=subscription.room.name, dropped=count))
        # Before the events behind the gap, which are written directly.
        self.flush()

    # Life

    def on_timer(self, tick: int) -> int:
        if self.greeting is not Greeting.WELCOMED and self.state is SessionState.OPEN:
            if tick >= self._hello_by:
                self.close(CloseCode.NO_HELLO, "no hello")
                return 0
            return self.set_timer(self._hello_by - tick)
        return super().on_timer(tick)

    def ping(self) -> None:
        self.push(PingPush())

    def bye(self, code: int, reason: str, retry: bool, retry_after_ms: int | None = None) -> None:
        """Say why the connection is about to end, and when to come back."""
        self._said_bye = True
        self.push(
            ByePush(code=code, reason=reason, retry=retry, retry_after_ms=UNSET if retry_after_ms is None else retry_after_ms)
        )

    def end(self, error: ChatError, *, code: int | None = None) -> None:
        self.bye(code if code is not None else error.close_code, error.code, error.retry, error.retry_after_ms)
        super().end(error, code=code)

    def close(self, code: int, reason: str) -> None:
        if self.state is SessionState.OPEN and not self._said_bye and code != CloseCode.NORMAL:
            self.bye(code, reason, code in RETRY_CLOSE_CODES)
        super().close(code, reason)

    # Out

    def push(self, reply: Struct) -> None:
        """Tell the client."""
        self.reply(_encode(reply))

    def _ok(self, command_id: Id | None) -> None:
        if command_id is not None:
            self.push(Ok(id=command_id))

    def refused(self, command_id: Id | None, error: ChatError) -> None:
        """A command was not done, which turned out later."""
        self._error(UNSET if command_id is None else command_id, error)

    def _refuse(self, command_id: Id | UnsetType, error: ChatError) -> None:
        self._error(command_id, error)
        self._refused += 1
        if self._refused >= self.core.limits.refusals and self.state is SessionState.OPEN:
            self.end(RateLimited(f"{self._refused} commands in a row could not be done"))

    def _error(self, command_id: Id | UnsetType, error: ChatError) -> None:
        body = error_body(error)
        self.push(
            Error(id=command_id, code=body.code, message=body.message, retry=body.retry, retry_after_ms=body.retry_after_ms)
        )

    def _answer_later(self, command_id: Id | None, later: Deferred[T], answer: Callable[[T], None]) -> None:
        def failed(failure: Failure) -> None:
            if failure.check(ChatError):
                self._error(UNSET if command_id is None else command_id, failure.value)  # type: ignore[arg-type]
            else:
                self._internal(failure, command_id)

        later.addCallback(answer).addErrback(failed)

    def _internal(self, failure: Failure, command_id: Id | None) -> None:
        self.log.failure("A command failed in a way it should not", failure)
        self._error(UNSET if command_id is None else command_id, InternalError("the server could not do it; see its log"))

    def join_replies(self, replies: Sequence[bytes]) -> bytes:
        if self.batch and len(replies) > 1:
            return b"".join(batch_frame(replies[start : start + 256]) for start in range(0, len(replies), 256))
        return b"".join(map(text_frame, replies))


def _me(user: User) -> Me:
    return Me(id=user.id, name=user.name, guest=user.guest)
