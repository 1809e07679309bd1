"""What a room of the client answers beside joining and saying: history, presence, handlers, loops, read marks."""

from __future__ import annotations

from twisted.internet.defer import Deferred

from tests.test_client_room import ALICE, RoomTests
from twisted_chat.client import (
    ClientRoom,
    ClientStopped,
    GapPush,
    Message,
    PresencePush,
    ReadPush,
    State,
    TypingPush,
    delivery,
)
from twisted_chat.client.connection import UnknownEvent
from twisted_chat.errors import BadRequest, NoSuchRoom
from twisted_chat.events import Author, Cursor, Event
from twisted_chat.limits import Limits
from twisted_chat.testing import MemoryChat


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

    def test_presence(self) -> None:
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
        """A typing notice reaches the others in the room with the name."""
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
        """A handler that was removed is not called again; removing it twice is no error."""
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
        """A handler may stop the client."""
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
