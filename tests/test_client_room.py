"""A room as a program sees it."""

from __future__ import annotations

from typing import Any

from pytest import MonkeyPatch
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from twisted_chat.client import (
    ChatClient,
    ClientRoom,
    ClientStopped,
    Deleted,
    Edited,
    GapPush,
    LivePush,
    Message,
    PresencePush,
    Reacted,
    ReadPush,
    Reset,
    RoomLeft,
    RoomState,
    State,
    TopicSet,
    TypingPush,
    delivery,
)
from twisted_chat.client.connection import UnknownEvent
from twisted_chat.client.sending import Sender
from twisted_chat.client.subscription import RoomSubscription
from twisted_chat.errors import BadRequest, Conflict, Forbidden, InternalError, NoSuchRoom, SlowMode, TooBig
from twisted_chat.events import Author, Cursor, Event
from twisted_chat.limits import Limits, RoomPolicy
from twisted_chat.testing import MemoryChat
from twisted_chat.users import User

ALICE = User(id="u1", name="alice")
BOB = User(id="u2", name="bob")
POLICIES = {
    "live": RoomPolicy(durable=False),
    "slow": RoomPolicy(slow_mode=5.0),
    "secret": RoomPolicy(guests=False),
    "news": RoomPolicy(writers="moderators"),
}


class RoomTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.chat = MemoryChat(people={"tc_alice": ALICE, "tc_bob": BOB}, rooms=POLICIES)
        self.alice = self.chat.client(token="tc_alice")
        self.bob = self.chat.client(token="tc_bob")

    def room(self, client: ChatClient, name: str = "lobby", **options: Any) -> ClientRoom:
        room = client.room(name, **options)
        self.chat.settle()
        return room

    def seen(self, room: ClientRoom, kind: type[Any] = Message) -> list[Any]:
        found: list[Any] = []
        room.on(kind, found.append)
        return found

    def say(self, *texts: str, room: str = "lobby") -> None:
        for text in texts:
            self.chat.say(room, text)
        self.chat.settle()


class JoinTests(RoomTests):
    def test_from_the_head(self) -> None:
        """A room gives only what is said from now on, unless it is asked for more."""
        self.say("old")
        room = self.room(self.alice)
        texts = self.seen(room)

        self.say("new")

        self.assertEqual([event.text for event in texts], ["new"])
        self.assertIs(room.state, RoomState.LIVE)

    def test_history_first(self) -> None:
        """``history=n`` gives the last n messages first, ``history=None`` all of them."""
        self.say("1", "2", "3")
        for history, expected in ((2, ["2", "3", "4"]), (None, ["1", "2", "3", "4"]), (99, ["1", "2", "3", "4"])):
            client = self.chat.client("reader")
            room = client.room("lobby", history=history)
            texts = self.seen(room)
            self.chat.settle()
            if history == 2:
                self.say("4")
            self.assertEqual([event.text for event in texts], expected)

    def test_since(self) -> None:
        """``since`` goes on from a cursor that the program has kept itself."""
        first = self.room(self.alice)
        self.say("1", "2")
        cursor = first.cursor
        self.say("3")
        room = self.bob.room("lobby", since=cursor)
        texts = self.seen(room)

        self.chat.settle()

        self.assertEqual([event.text for event in texts], ["3"])

    def test_resume_before_the_first_event(self) -> None:
        """The connection breaks when nothing was read yet: what was said meanwhile is not missed, what was wanted comes."""
        self.say("old 1", "old 2")
        for number, (history, expected) in enumerate(
            ((0, ["new 0"]), (1, ["new 1"]), (None, ["old 1", "old 2", "new 0", "new 1", "new 2"]))
        ):
            room = self.chat.client("reader").room("lobby", history=history)
            texts = self.seen(room)
            with self.subTest(history), MonkeyPatch.context() as patched:
                patched.setattr(RoomSubscription, "receive_event", lambda *args: None)
                self.chat.settle()
                self.chat.cut()
            self.say(f"new {number}")
            self.chat.pass_time(1)
            self.assertEqual([event.text for event in texts], expected)

    def test_same_room(self) -> None:
        self.assertIs(self.alice.room("lobby"), self.alice.room("lobby"))
        self.assertRaises(BadRequest, self.alice.room, "../lobby")

    def test_refused(self) -> None:
        """A room that one may not see: everything that was asked there fails with its name; the client goes on."""
        guest = self.chat.client("guest")
        room = guest.room("secret")
        joined, sent = room.when_joined(), room.send("hello")
        history = Deferred.fromCoroutine(room.history())

        self.chat.settle()

        self.failureResultOf(joined, NoSuchRoom)
        self.failureResultOf(sent, NoSuchRoom)
        self.failureResultOf(history, NoSuchRoom)
        self.failureResultOf(room.send("again"), NoSuchRoom)
        self.failureResultOf(room.when_joined(), NoSuchRoom)
        self.assertIs(room.state, RoomState.REFUSED)
        self.assertIs(guest.state, State.ONLINE)

        self.chat.cut()
        self.chat.pass_time(1)

        self.assertIs(room.state, RoomState.REFUSED)

    def test_too_many_questions(self) -> None:
        """More rooms, one by one, than the server answers at once: the rest is joined a little later."""
        self.chat = MemoryChat(limits=Limits(query_burst=10, query_per_second=10.0))
        client = self.chat.client("alice")
        rooms = []

        for number in range(40):
            rooms.append(client.room(f"room{number}"))
            self.chat.settle()

        self.assertEqual(sum(room.state is RoomState.LIVE for room in rooms), 10)

        self.chat.pass_time(60)
        self.assertEqual({room.state for room in rooms}, {RoomState.LIVE})

    def test_when_joined(self) -> None:
        room = self.alice.room("lobby")

        joined = room.when_joined()

        self.assertNoResult(joined)

        self.chat.settle()
        self.successResultOf(joined)
        self.successResultOf(room.when_joined())
        assert room.joined is not None

        self.assertEqual(room.joined.can, ("send", "edit", "delete", "react", "topic"))

    def test_leave(self) -> None:
        """After ``leave`` nothing comes, what was not acknowledged fails, and the room is not joined again."""
        room = self.room(self.alice)
        texts = self.seen(room)
        sent = room.send("last words")

        room.leave()

        self.failureResultOf(sent, RoomLeft)
        self.failureResultOf(room.send("more"), RoomLeft)

        self.say("after")
        self.chat.cut()
        self.chat.pass_time(1)

        self.assertEqual(texts, [])
        assert self.chat.chat is not None
        self.assertEqual([room.members for room in self.chat.chat.core.rooms if room.name == "lobby"], [0])
        self.assertIsNot(self.alice.room("lobby"), room)


class SayingTests(RoomTests):
    def test_send(self) -> None:
        """The committed event, at once and also when nobody reads along."""
        room = self.room(self.alice)
        sent = room.send("hello", reply_to=None)

        self.chat.settle()
        event = self.successResultOf(sent)

        self.assertEqual(event, self.chat.log("lobby")[0])

        data = room.send(data=b"\0\xff")
        self.chat.settle()

        self.assertEqual(self.successResultOf(data).data, b"\0\xff")

    def test_amend(self) -> None:
        """Edits, reactions, deletions and topics are events like all others, for everybody in the room."""
        room, other = self.room(self.alice), self.room(self.bob)
        events = self.seen(other, object)

        room.send("helo")
        self.chat.settle()
        for asked in (
            room.edit(1, 1, "hello"),
            room.react(1, "👍"),
            room.react(1, "👍", on=False),
            room.set_topic("weather"),
            room.delete(1),
        ):
            self.chat.settle()
            self.successResultOf(asked)
        kinds = [type(event) for event in events if not isinstance(event, LivePush)]

        self.assertEqual(kinds, [Message, Edited, Reacted, Reacted, TopicSet, Deleted])

    def test_refused(self) -> None:
        """A final refusal has its name and does not hold up what is behind it."""
        room = self.room(self.alice)
        asked = [room.send(""), room.edit(99, 1, "x"), room.send("x" * 20_000), room.send("x" * 70_000), room.send("good")]

        self.chat.settle()

        self.failureResultOf(asked[0], BadRequest)
        self.failureResultOf(asked[1])
        self.failureResultOf(asked[2], TooBig)
        self.failureResultOf(asked[3], TooBig)
        self.assertEqual(self.successResultOf(asked[4]).text, "good")
        self.assertIs(self.alice.state, State.ONLINE)

    def test_conflict(self) -> None:
        room = self.room(self.alice)
        room.send("one")
        room.edit(1, 1, "two")
        stale = room.edit(1, 1, "three")

        self.chat.settle()

        self.failureResultOf(stale, Conflict)

    def test_forbidden(self) -> None:
        sent = self.room(self.alice, "news").send("me too")
        self.chat.settle()
        self.failureResultOf(sent, Forbidden)

    def test_slow_mode(self) -> None:
        """In slow mode messages go out one by one, in order, and the connection is kept."""
        room = self.room(self.alice, "slow")
        refused: list[type[Any]] = []
        real = Sender.post_refused

        def post_refused(sender: Sender, pending: Any, error: Any) -> bool:
            refused.append(type(error))
            return real(sender, pending, error)

        self.patch(Sender, "post_refused", post_refused)
        for number in range(12):
            room.send(str(number))
        self.chat.pass_time(120)

        self.assertEqual(self.chat.texts("slow"), [str(number) for number in range(12)])
        self.assertEqual(set(refused), {SlowMode})
        self.assertEqual(self.chat.endpoint.attempts, 2)

    def test_store_fails(self) -> None:
        """While the server cannot keep anything, messages wait; then they are kept in order."""
        room = self.room(self.alice)
        broken = self.patch(self.chat.store, "append", lambda batch: 1 // 0)

        for number in range(5):
            room.send(str(number))
        self.chat.pass_time(3)

        self.assertEqual(self.chat.texts("lobby"), [])

        self.flushLoggedErrors(ZeroDivisionError)
        broken.restore()
        self.chat.pass_time(30)

        self.assertEqual(self.chat.texts("lobby"), [str(number) for number in range(5)])

    def test_a_message_that_breaks_the_server(self) -> None:
        """One that fails again and again is given up, and those behind it go on."""
        room = self.room(self.alice)
        real = self.chat.store.append

        def append(batch: Any) -> Any:
            if any(event.text == "poison" for append in batch for event in append.new_events):
                raise ZeroDivisionError
            return real(batch)

        self.patch(self.chat.store, "append", append)
        bad, good = room.send("poison"), room.send("good")

        self.chat.pass_time(300)

        self.failureResultOf(bad, InternalError)
        self.assertEqual(self.successResultOf(good).text, "good")

        self.flushLoggedErrors(ZeroDivisionError)

    def test_ephemeral(self) -> None:
        """A room that keeps nothing delivers all the same."""
        room, other = self.room(self.alice, "live"), self.room(self.bob, "live")
        texts = self.seen(other)
        sent = room.send("42")

        self.chat.settle()

        self.assertEqual(self.successResultOf(sent).text, "42")
        self.assertEqual([event.text for event in texts], ["42"])

        resets = self.seen(other, Reset)
        self.chat.kill()
        self.chat.start()
        self.chat.pass_time(1)

        self.assertEqual([reset.why for reset in resets], ["epoch"])

        room.send("43")
        self.chat.settle()

        self.assertEqual([event.text for event in texts], ["42", "43"])


class AskingTests(RoomTests):
    def test_history(self) -> None:
        """``history`` gives pages of messages in their present state."""
        room = self.room(self.alice)
        for number in range(10):
            room.send(str(number))
        room.edit(10, 1, "nine")
        self.chat.settle()
        asked = Deferred.fromCoroutine(room.history(limit=3))

        self.chat.settle()
        page = self.successResultOf(asked)

        self.assertEqual([event.text for event in page.events if isinstance(event, Message)], ["7", "8", "nine"])
        self.assertEqual((page.head, page.more_before, page.more_after), (11, True, False))

        before = Deferred.fromCoroutine(room.history(before=8, limit=2))
        self.chat.settle()

        self.assertEqual([event.seq for event in self.successResultOf(before).events], [6, 7])

    def test_waits_for_a_connection(self) -> None:
        """A question asked offline, or whose answer got lost, is asked again; a refused one fails."""
        room = self.room(self.alice)
        self.say("hello")
        self.chat.wires[0].mute = True
        asked = Deferred.fromCoroutine(room.history())

        self.chat.settle()

        self.assertNoResult(asked)

        self.chat.cut()
        self.chat.pass_time(1)

        self.assertEqual(self.successResultOf(asked).head, 1)

        wrong = Deferred.fromCoroutine(room.mark_read(99))
        self.chat.settle()

        self.failureResultOf(wrong, BadRequest)

    def test_too_many(self) -> None:
        """More questions than the server answers at once are asked again a little later; what is left at a stop fails."""
        self.chat = MemoryChat(limits=Limits(query_burst=5, query_per_second=5.0))
        client = self.chat.client("alice")
        room = self.room(client)
        asked = [Deferred.fromCoroutine(room.history()) for _ in range(12)]

        self.chat.settle()

        self.assertEqual(sum(each.called for each in asked), 4)

        self.chat.pass_time(30)
        for each in asked:
            self.successResultOf(each)
        late = [Deferred.fromCoroutine(room.history()) for _ in range(9)]
        self.chat.settle()
        client.stopService()
        self.chat.settle()

        self.assertEqual(sum(each.called for each in late), 9)

        for each in late[5:]:
            self.failureResultOf(each, ClientStopped)

        self.assertEqual([call for call in self.chat.clock.calls if "client" in repr(call.func)], [])

    def test_cancelled(self) -> None:
        """A question that nobody wants an answer to any more is not asked again."""
        self.chat.kill()
        asked = Deferred.fromCoroutine(self.alice.room("lobby").history())

        asked.cancel()

        self.failureResultOf(asked)

        self.chat.start()
        self.chat.pass_time(2)

    def test_read_marks(self) -> None:
        """A maximum, told to the person's other devices."""
        room = self.room(self.alice)
        other = self.room(self.chat.client(token="tc_alice"))
        marks = self.seen(other, ReadPush)

        self.say("1", "2", "3")
        for seq, mark in ((2, 2), (1, 2), (3, 3)):
            asked = Deferred.fromCoroutine(room.mark_read(seq))
            self.chat.settle()
            self.assertEqual(self.successResultOf(asked), mark)

        self.assertEqual([push.seq for push in marks], [2, 2, 3])

    def test_core_presence(self) -> None:
        """Presence tells who comes and who goes."""
        room = self.room(self.alice, presence=True)
        pushes = self.seen(room, PresencePush)

        other = self.room(self.bob)

        self.assertEqual({user.name for user in room.people.values()}, {"alice", "bob"})

        asked = Deferred.fromCoroutine(other.presence())
        self.chat.settle()

        self.assertEqual(self.successResultOf(asked).count, 2)

        other.leave()
        self.chat.pass_time(21)

        self.assertEqual([user.name for user in room.people.values()], ["alice"])
        self.assertEqual(room.count, 1)
        self.assertGreater(len(pushes), 1)

    def test_missed_presence(self) -> None:
        """A change that was missed shows in the version, and the list is asked for again."""
        room = self.room(self.alice, presence=True)

        room.subscription.receive_push(PresencePush(room="lobby", version=99, previous=98, count=7))
        self.chat.settle()

        self.assertEqual((room.count, [user.name for user in room.people.values()]), (1, ["alice"]))

    def test_typing(self) -> None:
        room, other = self.room(self.alice), self.room(self.bob)
        typing = self.seen(other, TypingPush)

        room.typing()
        self.chat.settle()

        self.assertEqual([push.by.name for push in typing], ["alice"])


class HandlerTests(RoomTests):
    def test_coroutines(self) -> None:
        """A handler may be a coroutine; failures are logged and keep nothing from anybody."""
        room = self.room(self.alice)
        done: list[str] = []

        async def echo(event: Message) -> None:
            if event.by.id != ALICE.id:
                answer = await room.send(f"you said {event.text}")
                done.append(answer.text)
                raise ZeroDivisionError

        def fails(event: object) -> None:
            raise KeyError("handler")

        room.on(Message, fails)
        room.on(Message, echo)
        self.say("hello")

        self.assertEqual(done, ["you said hello"])
        self.assertEqual(self.chat.texts("lobby"), ["hello", "you said hello"])
        self.assertEqual(len(self.flushLoggedErrors(KeyError)), 2)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_off(self) -> None:
        room = self.room(self.alice)
        texts: list[object] = []
        off = room.on(Message, texts.append)

        self.say("one")
        off()
        off()
        self.say("two")

        self.assertEqual(len(texts), 1)

    def test_notices(self) -> None:
        """Everything that is in no log comes to handlers, too."""
        room = self.room(self.alice)
        notices = self.seen(room, object)

        room.subscription.receive_push(GapPush(room="lobby", dropped=3))

        self.assertEqual(notices, [GapPush(room="lobby", dropped=3)])

    def test_unknown_kind(self) -> None:
        """An event of a kind of the future has its place in the log."""
        room = self.room(self.alice)
        events = self.seen(room, UnknownEvent)

        room.subscription.receive_event(UnknownEvent(seq=1, id="e1", at=1, by=Author("u9", "x"), kind="poll"))

        self.assertEqual(len(events), 1)
        assert room.cursor is not None
        self.assertEqual(room.cursor, Cursor(room.cursor.epoch, 1, "e1"))

    def test_stop_in_a_handler(self) -> None:
        room = self.room(self.alice)

        room.on(Message, lambda _: self.alice.stopService())
        self.say("stop")

        self.assertIs(self.alice.state, State.STOPPED)


class ReadingTests(RoomTests):
    def read(self, room: ClientRoom, *, until: int = 1 << 30) -> tuple[list[Event], Deferred[None]]:
        found: list[Event] = []

        async def run() -> None:
            async for event in room:
                assert not isinstance(event, UnknownEvent)
                found.append(event)
                if len(found) == until:
                    break

        return found, Deferred.fromCoroutine(run())

    def test_async_for(self) -> None:
        """One event after the other, over all connections, until the client is stopped."""
        found, done = self.read(self.alice.room("lobby"))

        self.chat.settle()
        self.say("one")
        self.chat.cut()
        self.say("two")
        self.chat.pass_time(1)

        self.assertEqual([event.seq for event in found], [1, 2])
        self.assertNoResult(done)

        self.alice.stopService()
        self.chat.settle()
        self.successResultOf(done)

    def test_break(self) -> None:
        """A loop over a room that is left takes nothing any more."""
        room = self.alice.room("lobby")
        _, done = self.read(room, until=1)

        self.chat.settle()
        self.say("one", "two")
        self.successResultOf(done)

        self.assertEqual(room.waiting, [])

    def test_refused(self) -> None:
        """A loop over a room that one may not be in fails with the reason."""
        _, done = self.read(self.chat.client("guest").room("secret"))
        self.chat.settle()
        self.failureResultOf(done, NoSuchRoom)

    def test_slow(self) -> None:
        """A loop that does not keep up costs a bounded inbox; what did not fit is read from the server when there is space."""
        self.patch(delivery, "INBOX_EVENTS", 10)
        room = self.alice.room("lobby")
        found: list[int] = []
        gates: list[Deferred[None]] = []

        async def run() -> None:
            async for event in room:
                found.append(event.seq)
                gate: Deferred[None] = Deferred()
                gates.append(gate)
                await gate

        running = Deferred.fromCoroutine(run())

        self.chat.settle()
        for number in range(100):
            self.chat.say("lobby", str(number))
            self.chat.settle()

        self.assertLess(max(room.waiting), 20)

        while len(found) < 100:
            gates[-1].callback(None)
            self.chat.settle()
        self.assertEqual(found, list(range(1, 101)))
        self.assertNoResult(running)

    def test_slow_bot(self) -> None:
        """A handler may await its own sends without a deadlock."""
        self.patch(delivery, "INBOX_EVENTS", 10)
        room = self.alice.room("lobby")

        async def run() -> None:
            async for event in room:
                if event.by.id != ALICE.id and isinstance(event, Message):
                    await room.send(f"re {event.text}")

        running = Deferred.fromCoroutine(run())
        self.chat.settle()
        self.chat.wires[0].mute = True

        self.say(*[str(number) for number in range(50)])
        self.chat.cut()
        self.chat.pass_time(5)

        self.assertEqual([text for text in self.chat.texts("lobby") if text.startswith("re")], [f"re {n}" for n in range(50)])
        self.assertNoResult(running)
