"""What one peer, and all peers together, can make the server hold or do: the bounds that are not about one command."""

from __future__ import annotations

from msgspec.structs import replace
from twisted.trial.unittest import SynchronousTestCase

from tests.harness.chat import ALICE, BOB, UNBOUND, ChatHarness, MemoryConnection, guest
from twisted_chat.core import commit
from twisted_chat.core.commit import AppendRequest
from twisted_chat.errors import Conflict, RateLimited, Unavailable
from twisted_chat.events import NewEvent, NewMessage
from twisted_chat.limits import Limits, RoomPolicies, RoomPolicy
from twisted_chat.users import User

#: Rates as an operator has them who changes nothing.
DEFAULT = Limits()


class GuestRateTests(SynchronousTestCase):
    """A guest without a device is a new user at each connection, so its address is counted."""

    def kept(self, chat: ChatHarness) -> int:
        return len(chat.log("lobby"))

    def test_plain_guests_that_reconnect(self) -> None:
        """300 connections with ten lines each, one after the other, keep no more than the burst of the address."""
        chat = ChatHarness(self, DEFAULT)
        for number in range(300):
            client = chat.plain(guest("x", number))
            client.say(*["spam"] * 10)
            client.lose()

        self.assertEqual(self.kept(chat), DEFAULT.guests_per_address * DEFAULT.person_burst)

    def test_rich_guests_that_reconnect(self) -> None:
        """JSON guests that reconnect from one address share the rate of that address."""
        chat = ChatHarness(self, DEFAULT)
        refused = 0

        for number in range(100):
            client = chat.json(guest("x", number), "lobby")
            client.say([{"type": "send", "room": "lobby", "text": "spam"}] * 5)
            refused += sum(one["type"] == "error" for one in client.take())
            client.lose()

        allowed = DEFAULT.guests_per_address * DEFAULT.person_burst

        self.assertEqual((self.kept(chat), refused), (allowed, 500 - allowed))

    def test_users_are_not_counted_by_address(self) -> None:
        """Who is authenticated has a rate of its own, wherever it is."""
        chat = ChatHarness(self, DEFAULT)
        for number in range(300):
            chat.plain(guest("x", number)).say(*["spam"] * 10)
        before = self.kept(chat)

        chat.plain(ALICE).say("hello")

        self.assertEqual(self.kept(chat), before + 1)

    def test_no_bound(self) -> None:
        """A server without a rate for persons has none for addresses either."""
        chat = ChatHarness(self, replace(DEFAULT, send_per_second=0, person_per_second=0))
        for number in range(40):
            chat.plain(guest("x", number)).say(*["x"] * 10)

        self.assertEqual(self.kept(chat), 400)


class ReloadTests(SynchronousTestCase):
    def test_rates_that_a_reload_switches_on(self) -> None:
        """Rates that a reload switches on are in force at once, for existing connections, too."""
        chat = ChatHarness(self)
        alice, bob = chat.plain(ALICE), chat.json(BOB, "lobby")

        alice.say(*["x"] * 50)
        bob.say([{"type": "send", "room": "lobby", "text": "x"}] * 50)

        self.assertEqual(len(chat.log("lobby")), 100)

        chat.core.configure(DEFAULT, RoomPolicies())
        alice.say(*["x"] * 50)
        bob.say([{"type": "send", "room": "lobby", "text": "x"}] * 50)

        self.assertEqual(len(chat.log("lobby")), 100 + 2 * DEFAULT.send_burst)

    def test_rates_that_a_reload_switches_off(self) -> None:
        """A reload that removes the rates holds for connections that are open."""
        chat = ChatHarness(self, DEFAULT)
        alice = chat.json(ALICE, "lobby")

        alice.say([{"type": "send", "room": "lobby", "text": "x"}] * 50)

        chat.core.configure(UNBOUND, RoomPolicies())
        alice.say([{"type": "send", "room": "lobby", "text": "x"}] * 50)

        self.assertEqual(len(chat.log("lobby")), DEFAULT.send_burst + 50)

    def test_rate_of_questions_that_a_reload_switches_on(self) -> None:
        """A reload that adds a rate of queries holds for connections that are open."""
        chat = ChatHarness(self)
        alice = chat.json(ALICE, "lobby")
        answers = [alice.ask("history", room="lobby")["type"] for _ in range(60)]
        self.assertEqual(answers, ["ok"] * 60)

        chat.core.configure(replace(UNBOUND, query_burst=5, query_per_second=1.0), RoomPolicies())
        answers = [alice.ask("history", room="lobby")["type"] for _ in range(8)]

        self.assertEqual(answers, ["ok"] * 5 + ["error"] * 3)

    def test_recent_events(self) -> None:
        """Rooms that are in memory keep as many recent events as the new limits allow."""
        chat = ChatHarness(self)
        alice = chat.plain(ALICE)
        alice.say(*["x"] * 50)
        cache = chat.core.rooms.find(ALICE, "lobby").log.cache
        self.assertEqual(len(cache.events), 50)

        chat.core.configure(replace(UNBOUND, recent_events=10), RoomPolicies())
        alice.say("x")

        self.assertLessEqual(len(cache.events), 10)


class ReconnectingTests(SynchronousTestCase):
    """What is bounded for a person is bounded for guests who come back as other persons, and for users with many connections."""

    limits = replace(UNBOUND, query_burst=4, query_per_second=1.0, guests_per_address=2)

    def asked(self, chat: ChatHarness, user: User, address: str) -> int:
        """How many of four questions a new connection of that user gets answers to."""
        client = chat.json(user, address=address)
        answers = [client.ask("rooms")["type"] for _ in range(4)]
        client.lose()
        return answers.count("ok")

    def test_guests_ask(self) -> None:
        """Guests of one address ask as much as two persons, however often they come back; of another address not less for it."""
        chat = ChatHarness(self, self.limits)

        asked = [self.asked(chat, guest("guest", number), "192.0.2.1") for number in range(4)]
        elsewhere = self.asked(chat, guest("guest", 9), "192.0.2.2")
        chat.pass_time(2)
        later = self.asked(chat, guest("guest", 10), "192.0.2.1")

        self.assertEqual((asked, elsewhere, later), ([4, 4, 0, 0], 4, 4))

    def test_user_asks(self) -> None:
        """A user with a token asks as much as five connections, from whatever addresses."""
        chat = ChatHarness(self, self.limits)

        asked = [self.asked(chat, ALICE, f"192.0.2.{number}") for number in range(6)]

        self.assertEqual(asked, [4, 4, 4, 4, 4, 0])

    def test_slow_mode(self) -> None:
        """In slow mode guests of one address say as much as two persons, in each dialect."""
        chat = ChatHarness(self, self.limits, {"lobby": RoomPolicy(slow_mode=60.0)})

        for number in range(4):
            client = chat.json(guest("guest", number), "lobby")
            client.say({"type": "send", "room": "lobby", "text": str(number)})
            client.lose()
        plain = chat.plain(guest("guest", 9))
        plain.say("plain")
        before = [event.text for event in chat.log("lobby")]  # type: ignore[union-attr]
        chat.pass_time(61)
        after = [event.text for event in chat.log("lobby")]  # type: ignore[union-attr]

        self.assertEqual((before, after), (["0", "1"], ["0", "1", "plain"]))

    def test_slow_mode_of_users(self) -> None:
        """Users with a token are counted one by one."""
        chat = ChatHarness(self, self.limits, {"lobby": RoomPolicy(slow_mode=60.0)})

        for number in range(5):
            client = chat.json(User(id=f"u{number}", name=f"user{number}"), "lobby")
            client.say({"type": "send", "room": "lobby", "text": str(number)})

        self.assertEqual(len(chat.log("lobby")), 5)


class UnratedTests(SynchronousTestCase):
    """Commands that cost little and that no rate counts are bounded for each connection."""

    def test_commands(self) -> None:
        """Far too many end the connection, in one frame or in many."""
        for command in ("ping", "pong", "typing"):
            with self.subTest(command):
                client = ChatHarness(self).json(ALICE, "lobby")

                client.say([{"type": command, "room": "lobby"}] * 450)
                before = client.closed
                client.say(*[{"type": command, "room": "lobby"}] * 100)

                self.assertEqual((before, client.closed), (None, 4429))

    def test_refused_between_accepted(self) -> None:
        """Refused commands count also when others between them are accepted."""
        client = ChatHarness(self).json(ALICE, "lobby")

        for _ in range(4):
            client.say([{"type": "send", "room": "den", "text": "x"}, {"type": "rooms"}] * 200)

        self.assertEqual(client.closed, 4429)

    def test_usual(self) -> None:
        """A client that types, pings and changes rooms all day stays."""
        chat = ChatHarness(self)
        client = chat.json(ALICE)

        for _ in range(200):
            client.say([{"type": "join", "room": "lobby"}, {"type": "ping"}, {"type": "typing", "room": "lobby"}] * 5)
            client.say({"type": "leave", "room": "lobby"})
            chat.pass_time(1)

        self.assertIsNone(client.closed)

    def test_empty_messages(self) -> None:
        client = ChatHarness(self).plain(ALICE)

        client.say(*[""] * 400)
        before = client.closed
        client.say(*[""] * 400)

        self.assertEqual((before, client.closed), (None, 4429))


class NewRoomTests(SynchronousTestCase):
    """Making rooms is rated by user and by address, and an empty room is given back."""

    limits = replace(UNBOUND, rooms_made_burst=5, rooms_made_per_second=0.01)

    def test_by_user_and_by_address(self) -> None:
        """Reconnecting under other names does not help."""
        chat = ChatHarness(self, self.limits)
        answers = [chat.json(guest("x", number)).ask("join", room=f"room{number}") for number in range(8)]

        self.assertEqual([one["type"] for one in answers], ["ok"] * 5 + ["error"] * 3)
        self.assertEqual(answers[-1]["code"], "rate_limited")
        self.assertGreater(answers[-1]["retry_after_ms"], 0)
        self.assertEqual(chat.json(BOB).ask("join", room="room1")["type"], "ok", "a room that is there")

    def test_empty_rooms_are_given_back(self) -> None:
        """They are forgotten within two minutes, and others can be made; rooms in which something was said are not."""
        chat = ChatHarness(self, self.limits)
        alice = chat.json(ALICE)

        for number in range(5):
            alice.ask("join", room=f"room{number}")
        alice.ask("send", room="room0", text="x")
        for number in range(5):
            alice.ask("leave", room=f"room{number}")

        self.assertEqual(alice.ask("join", room="more")["code"], "rate_limited")

        chat.pass_time(61)

        alice = chat.json(ALICE)

        self.assertEqual([alice.ask("join", room=f"new{number}")["type"] for number in range(5)], ["ok"] * 4 + ["error"])
        self.assertIn("room0", chat.core.rooms.names_after("", 100))

    def test_the_program_itself_is_not_rated(self) -> None:
        """An embedding program may make any number of rooms at once."""
        chat = ChatHarness(self, self.limits)

        for number in range(20):
            chat.core.post(ALICE, f"room{number}", NewMessage(ALICE.author, None, "x"))
        chat.turn()

        self.assertEqual(len(chat.core.rooms), 20)

    def test_history_makes_no_rooms_without_bound(self) -> None:
        """Any command that names a room makes it, so each of them is rated."""
        chat = ChatHarness(self, self.limits)
        alice = chat.json(ALICE)
        answers = [alice.ask("history", room=f"room{number}")["type"] for number in range(8)]

        self.assertEqual(answers, ["ok"] * 5 + ["error"] * 3)

    def test_leaving_many_rooms_costs_no_timer_each(self) -> None:
        """The grace periods of presence are on the one wheel."""
        chat = ChatHarness(self)
        alice = chat.json(ALICE)
        alice.say([{"type": "join", "room": f"room{number}"} for number in range(100)])
        before = len(chat.clock.getDelayedCalls())

        alice.lose()

        self.assertLessEqual(len(chat.clock.getDelayedCalls()), before)

        chat.pass_time(25)
        self.assertEqual([room.presence.count for room in chat.core.rooms], [0] * 100)


class UncommittedTests(SynchronousTestCase):
    """What waits for the store is bounded by number and by bytes, over all connections."""

    def request(self, chat: ChatHarness, size: int) -> AppendRequest:
        new_events: list[NewEvent] = [NewMessage(ALICE.author, None, "x" * size)]
        return AppendRequest(chat.core.rooms.find(ALICE, "lobby"), new_events, None, lambda error: None, size)

    def test_bytes(self) -> None:
        """The sender is told to come back; the bytes are free again when a transaction has taken them."""
        chat = ChatHarness(self, replace(UNBOUND, uncommitted_bytes=10_000))
        chat.store.holding = True

        for _ in range(2):
            chat.core.submit(self.request(chat, 4_000))

        self.assertRaises(Unavailable, chat.core.submit, self.request(chat, 4_000))
        self.assertEqual(chat.core.commits.waiting_bytes, 2 * (4_000 + commit.EVENT_BYTES))

        chat.turn()

        self.assertEqual(chat.core.commits.waiting_bytes, 0)

        chat.core.submit(self.request(chat, 4_000))

    def test_a_transaction_is_bounded_in_bytes(self) -> None:
        """Waiting messages are committed in several transactions of bounded size."""
        self.patch(commit, "BATCH_BYTES", 10_000)
        chat = ChatHarness(self)
        chat.store.holding = True
        for _ in range(5):
            chat.core.submit(self.request(chat, 4_000))
        kept = []

        for _ in range(3):
            chat.turn()
            chat.store.release()
            kept.append(len(chat.log("lobby")))

        self.assertEqual(kept, [2, 4, 5])

    def test_every_way_to_send_is_counted(self) -> None:
        """Plain lines, binary messages, commands and posts weigh what they hold."""
        chat = ChatHarness(self)
        plain, rich = chat.plain(), chat.json(BOB, "lobby")
        chat.store.holding = True
        chat.core.submit(self.request(chat, 1))
        chat.turn()
        before = chat.core.commits.waiting_bytes

        plain.say("x" * 1_000, b"y" * 1_000)
        rich.say({"type": "send", "room": "lobby", "text": "z" * 1_000})
        chat.core.post(ALICE, "lobby", NewMessage(ALICE.author, None, "x" * 1_000))

        self.assertEqual(chat.core.commits.waiting_bytes - before, 4 * (1_000 + commit.EVENT_BYTES))


class RefusalTests(SynchronousTestCase):
    def test_refused_hellos_are_counted(self) -> None:
        """A client that says hello wrongly again and again is disconnected like one that errs otherwise."""
        chat = ChatHarness(self, replace(UNBOUND, refusals=5))
        client = chat.stranger(guest("x"))

        for _ in range(5):
            client.say({"type": "hello", "name": "\u202e"})

        self.assertEqual(client.closed, 4429)

    def test_very_many_reserved_names(self) -> None:
        """They are read some in each turn; until all are, those of before hold; newer ones replace a reading in progress."""
        chat = ChatHarness(self, UNBOUND)
        chat.one_turn = True
        sessions = chat.core.sessions
        visitor = guest("Zoe")

        sessions.reserve_names([("u1", "Zoe")])
        self.assertRaises(Conflict, sessions.check_name, visitor)

        sessions.reserve_names((f"u{number}", f"name {number}") for number in range(1_200))
        for _ in range(2):
            self.assertRaises(Conflict, sessions.check_name, visitor)
            chat.turn()
        chat.turn()
        sessions.check_name(visitor)
        self.assertRaises(Conflict, sessions.check_name, guest("name 1199"))

        sessions.reserve_names((f"u{number}", f"other {number}") for number in range(1_200))
        sessions.reserve_names([("u1", "Zoe")])
        for _ in range(4):
            chat.turn()
        self.assertRaises(Conflict, sessions.check_name, visitor)
        sessions.check_name(guest("other 7"))

    def test_names_of_revoked_tokens_are_free(self) -> None:
        """The reserved names are those of the tokens that there are now."""
        chat = ChatHarness(self)

        chat.core.sessions.reserve_names([("u7", "Admin"), ("u8", "Root")])
        chat.core.sessions.reserve_names([("u8", "Root")])

        client = chat.stranger(guest("x"))

        self.assertEqual(client.ask("hello", name="admin")["type"], "welcome")
        self.assertEqual(chat.stranger(guest("y", 2)).ask("hello", name="root")["code"], "conflict")


class LagTests(SynchronousTestCase):
    def test_who_is_behind(self) -> None:
        """Clients behind, the oldest position and the unsent bytes, and nothing of it once they have read on."""
        chat = ChatHarness(self)
        slow, stuck = chat.plain(BOB, connection=MemoryConnection(10)), chat.plain(BOB, connection=MemoryConnection(0))
        alice = chat.json(ALICE, "lobby")

        alice.say([{"type": "send", "room": "lobby", "text": "hello"} for _ in range(6)])

        lag = chat.core.sessions.lag()

        self.assertEqual((lag.behind, lag.furthest), (2, 5))
        self.assertEqual(lag.unsent, len(slow.connection.unsent) + len(stuck.connection.unsent))

        for client in (slow, stuck):
            client.connection.read()
        chat.turn()

        lag = chat.core.sessions.lag()

        self.assertEqual((lag.behind, lag.furthest, lag.unsent), (0, 0, 0))


class RateKeyTests(SynchronousTestCase):
    def test_the_error_says_how_long(self) -> None:
        """The refusal of a rate says when to try again."""
        chat = ChatHarness(self, DEFAULT, {"slow": RoomPolicy()})
        rates = chat.core.rates

        for _ in range(DEFAULT.person_burst):
            rates.check(ALICE, "2001:db8::1")

        error = self.assertRaises(RateLimited, rates.check, ALICE, "2001:db8::2")

        self.assertGreater(error.retry_after_ms or 0, 0)
