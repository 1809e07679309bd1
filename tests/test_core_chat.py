"""The core: names, rooms, look-alikes, posting without a connection, retention, and what it forgets."""

from __future__ import annotations

from msgspec.structs import replace
from twisted.trial.unittest import SynchronousTestCase

from tests.harness.chat import ALICE, BOB, UNBOUND, ChatHarness, HeldStore, guest
from twisted_chat.errors import ChatError, Conflict, Forbidden, LimitReached, NoSuchRoom, Restarting, SlowMode
from twisted_chat.events import NewMessage
from twisted_chat.limits import Limits, RoomPolicy
from twisted_chat.store_contract import Appended, Duplicate


class NamesTests(SynchronousTestCase):
    def test_nobody_imitates(self) -> None:
        """A guest cannot look like a user or a reserved name, nor like another guest; the very same guest name is fine."""
        chat = ChatHarness(self)

        chat.core.sessions.reserve_names([("u7", "Admin")])
        chat.json(ALICE)
        chat.json(guest("eve", 1))
        for user in (guest("eve", 2), guest("evelyn"), BOB, replace(BOB, name="alice")):
            chat.core.sessions.check_name(user)

        for name in ("alice", "Аlice", "a l i c e", "admin", "аdmin"):
            self.assertRaises(Conflict, chat.core.sessions.check_name, guest(name))
        self.assertRaises(Conflict, chat.core.sessions.check_name, guest("еve", 2))

    def test_a_name_is_free_when_its_last_session_has_ended(self) -> None:
        """A name is free when its last session has ended, also of a person with several sessions and names."""
        chat = ChatHarness(self)
        one, two = chat.json(guest("ann")), chat.json(replace(guest("ann"), name="bea"))

        one.lose()
        chat.core.sessions.check_name(guest("аnn", 2))

        self.assertRaises(Conflict, chat.core.sessions.check_name, guest("bеa", 2))

        two.lose()
        chat.core.sessions.check_name(guest("bеa", 2))

    def test_a_new_name_may_look_like_the_own_old_one(self) -> None:
        """A guest may change to a name that looks like the guest's own present one."""
        chat = ChatHarness(self)
        client = chat.stranger(guest("ann"))
        self.assertEqual(client.ask("hello", name="Ann", device="device-1")["user"]["name"], "Ann")


class RoomsTests(SynchronousTestCase):
    def test_rooms_are_made_by_joining_or_not_at_all(self) -> None:
        """``create`` off: only the lobby and the rooms of the configuration."""
        chat = ChatHarness(self, rooms={"den": RoomPolicy()}, create=False)
        self.assertEqual([chat.core.rooms.find(ALICE, name).name for name in ("lobby", "den")], ["lobby", "den"])
        self.assertRaises(NoSuchRoom, chat.core.rooms.find, ALICE, "new")

    def test_look_alikes_of_a_room(self) -> None:
        """A room whose name looks like another's is refused, after a restart, too."""
        chat = ChatHarness(self)
        chat.json(ALICE, "general").ask("send", room="general", text="x")
        for core in (chat.core, chat.restarted().core):
            for name in ("genera1", "GENERAL", "gеneral"):
                self.assertRaises(Conflict, core.rooms.find, ALICE, name)
            self.assertEqual(core.rooms.find(ALICE, "general").head, 1)

    def test_rich_clients_need_no_room_in_their_path(self) -> None:
        """A JSON client is let in whatever room its path names, because it joins by command."""
        chat = ChatHarness(self, rooms={"lobby": RoomPolicy(guests=False)})
        self.assertEqual(chat.json(guest("dora"), "den").ask("leave", room="den")["type"], "ok")

    def test_the_number_of_rooms_is_bounded(self) -> None:
        """The number of rooms is bounded, and an empty unused room is forgotten within a minute."""
        chat = ChatHarness(self, replace(UNBOUND, rooms=2))

        chat.json(ALICE, "a")
        chat.core.rooms.find(ALICE, "b")

        self.assertRaises(LimitReached, chat.core.rooms.find, ALICE, "c")

        chat.pass_time(61)
        self.assertEqual(chat.core.rooms.find(ALICE, "c").name, "c")
        self.assertRaises(LimitReached, chat.core.rooms.find, ALICE, "b")

    def test_a_room_with_a_post_under_way_is_not_forgotten(self) -> None:
        """A room is kept while a post is under way, so that its numbers go on (P1)."""
        chat = ChatHarness(self)
        chat.store.holding = True
        chat.core.post(ALICE, "new", NewMessage(ALICE.author, None, "one"))
        chat.turn()
        chat.pass_time(61)
        chat.store.holding = False
        chat.store.release_all()
        chat.turn()
        bob = chat.json(BOB, "new")

        bob.ask("send", room="new", text="two")

        self.assertEqual([event["seq"] for event in bob.take("event")], [2])

    def test_the_room_without_members_gives_its_cache_back_first(self) -> None:
        """When the caches of all rooms are too large together, the emptiest room loses its own, and members lose nothing."""
        chat = ChatHarness(self, replace(UNBOUND, recent_bytes_total=10_000))
        alice = chat.json(ALICE, "quiet", "busy")

        for room, lines in (("quiet", 24), ("busy", 8)):
            alice.say(*[{"type": "send", "room": room, "text": "x" * 100} for _ in range(lines)])
        alice.ask("leave", room="quiet")

        chat.pass_time(61)

        cached = {room.name for room in chat.core.rooms if room.log.cache.weight}

        self.assertEqual(cached, {"busy"})

        bob = chat.json(BOB)
        bob.ask("join", room="quiet", tail=24)

        self.assertEqual(len(bob.texts()), 24)

    def test_retention(self) -> None:
        """Retention deletes by count and by age; what stays keeps its numbers."""
        chat = ChatHarness(self, rooms={"few": RoomPolicy(keep_events=2), "brief": RoomPolicy(keep_days=1)})

        for room in ("few", "brief", "lobby"):
            alice = chat.json(ALICE, room)
            alice.say(*[{"type": "send", "room": room, "text": str(number)} for number in range(4)])
            alice.lose()
        chat.core.retention.apply()

        self.assertEqual([chat.core.rooms.find(ALICE, room).first for room in ("few", "brief", "lobby")], [3, 1, 1])

        chat.clock.advance(86_401)
        chat.core.retention.apply()

        self.assertEqual([chat.core.rooms.find(ALICE, room).first for room in ("few", "brief", "lobby")], [3, 5, 1])


class PostTests(SynchronousTestCase):
    def new_event(self, key: str | None = None) -> NewMessage:
        return NewMessage(ALICE.author, key, "hi")

    def test_without_a_connection(self) -> None:
        """``post`` fires when the event is on disk; the same key a second time gives the first result."""
        chat = ChatHarness(self)
        bob = chat.plain(BOB)
        first, again = chat.core.post(ALICE, "lobby", self.new_event("k")), chat.core.post(ALICE, "lobby", self.new_event("k"))

        chat.turn()

        self.assertIsInstance(self.successResultOf(first), Appended)
        self.assertIsInstance(self.successResultOf(again), Duplicate)
        self.assertEqual(bob.take(), ["hi"])

    def test_refusals(self) -> None:
        """A post by the program is refused by the rules of the room, without a store, and while the server stops."""
        rooms = {"news": RoomPolicy(writers="moderators"), "slow": RoomPolicy(slow_mode=9), "staff": RoomPolicy(guests=False)}
        chat = ChatHarness(self, rooms=rooms)
        chat.core.post(ALICE, "slow", self.new_event())
        chat.turn()
        for user, room, error in (
            (ALICE, "news", Forbidden),
            (ALICE, "slow", SlowMode),
            (guest("x"), "staff", NoSuchRoom),
        ):
            self.assertRaises(error, chat.core.post, user, room, self.new_event())
        chat.store.down = True
        failed = chat.core.post(ALICE, "lobby", self.new_event())

        chat.turn()

        self.assertEqual(self.failureResultOf(failed, ChatError).value.code, "unavailable")

        chat.store.down = False
        chat.core.drain.begin()

        self.assertRaises(Restarting, chat.core.post, ALICE, "lobby", self.new_event())
        self.assertRaises(Restarting, chat.core.check_may_enter, ALICE, "lobby")

    def test_reading_the_log(self) -> None:
        """``read`` gives the log after a number as it is, also of a room that keeps nothing."""
        chat = ChatHarness(self, Limits(send_per_second=0, person_per_second=0, history=3), {"live": RoomPolicy(durable=False)})
        for room in ("lobby", "live"):
            chat.json(ALICE, room).say(*[{"type": "send", "room": room, "text": str(number)} for number in range(5)])
            for after, seqs in ((0, [1, 2, 3]), (3, [4, 5]), (5, []), (99, [])):
                events = self.successResultOf(chat.core.read(BOB, room, after, 3))
                self.assertEqual([event.seq for event in events], seqs, (room, after))


class RestartTests(SynchronousTestCase):
    def test_a_cursor_outlives_a_restart(self) -> None:
        """P4: each later event once; an ephemeral room says that it cannot."""
        rooms = {"live": RoomPolicy(durable=False)}
        chat = ChatHarness(self, rooms=rooms)
        alice = chat.json(ALICE, "lobby", "live")
        cursors = []

        for room in ("lobby", "live"):
            for text in ("one", "two"):
                alice.ask("send", room=room, text=text)
            event = alice.take("event")[0]
            cursors.append({"epoch": alice.ask("join", room=room)["epoch"], "seq": 1, "id": event["id"]})
        after = chat.restarted(rooms=rooms)
        bob = after.json(BOB)
        rooms_since = [{"room": room, "since": since} for room, since in zip(("lobby", "live"), cursors, strict=True)]
        answer = bob.ask("join", rooms=rooms_since)

        self.assertEqual([(one["recovered"], one.get("why")) for one in answer["rooms"]], [(True, None), (False, "epoch")])
        self.assertEqual(bob.texts(), ["two"])
        self.assertIsInstance(after.store, HeldStore)
