"""JSON clients begin: what hello and join are answered, and what comes of a cursor."""

from __future__ import annotations

from msgspec.structs import replace
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from tests.harness.chat import ALICE, BOB, CAROL, MODERATOR, ChatHarness, Json, guest
from twisted_chat.errors import TokenExpired, Unauthenticated
from twisted_chat.limits import Limits, RoomPolicy
from twisted_chat.users import User


class HelloTests(SynchronousTestCase):
    def test_welcome_tells_who_and_how_much(self) -> None:
        """The limits are announced, so that a client needs not find them by being refused."""
        chat = ChatHarness(self, Limits())
        client = chat.stranger(ALICE)

        welcome = client.ask("hello")

        self.assertEqual(welcome["user"], {"id": "u1", "name": "alice", "guest": False})
        self.assertEqual(welcome["ping_ms"], 25_000)
        self.assertEqual(
            welcome["limits"],
            {"frame": 65536, "text": 16384, "rooms": 128, "history": 200, "send": {"burst": 10, "per_second": 2.0}},
        )
        self.assertEqual((welcome["version"], welcome["epoch"], welcome["read"]), (1, chat.core.epoch, {}))

    def test_hello_comes_first(self) -> None:
        """Everything else gets an error; ping works before, for keepalives that know nothing."""
        client = ChatHarness(self).stranger()

        for type_ in ("join", "leave", "typing", "history"):
            self.assertEqual(client.ask(type_, room="lobby")["message"], "type: say hello first")

        self.assertEqual(client.ask("send", room="lobby", text="hi")["code"], "bad_request")
        self.assertEqual(client.ask("ping")["type"], "ok")
        self.assertEqual(client.ask("hello")["type"], "welcome")
        self.assertEqual(client.ask("hello")["code"], "bad_request")

    def test_who_says_nothing_is_sent_away(self) -> None:
        """4408 after ten seconds, with a bye; a ping does not help."""
        chat = ChatHarness(self)
        client = chat.stranger()

        chat.pass_time(5)
        client.say({"type": "ping"})
        chat.pass_time(4)

        self.assertIsNone(client.closed)

        chat.pass_time(1)
        self.assertEqual(client.closed, 4408)
        self.assertEqual([(one["code"], one["retry"]) for one in client.take("bye")], [(4408, True)])

    def test_a_token_in_hello_makes_somebody(self) -> None:
        """While it is looked at, commands wait behind it and the socket is not read; then they happen in their order."""
        chat = ChatHarness(self)
        answer: Deferred[User] = Deferred()
        chat.people["t0k"] = answer
        client = chat.stranger(guest("bob"))

        client.say(
            {"type": "hello", "id": "h", "token": "t0k"},
            [{"type": "join", "id": "j", "room": "lobby"}, {"type": "send", "id": "s", "room": "lobby", "text": "hi"}],
        )
        client.say({"type": "ping", "id": "p"})

        self.assertEqual(client.take(), [])
        self.assertTrue(client.connection.paused)

        answer.callback(CAROL)
        chat.turn()
        came = client.take()

        self.assertEqual(
            [one.get("id") for one in came if one["type"] != "event" and one["type"] != "live"], ["h", "j", "p", "s"]
        )
        self.assertEqual(came[0]["user"]["id"], "u3")
        self.assertEqual([one["by"]["id"] for one in came if one["type"] == "event"], ["u3"])
        self.assertFalse(client.connection.paused)

    def test_a_hello_within_a_batch_holds_up_the_rest_of_it(self) -> None:
        """Commands behind a hello in the same array wait until its token has been looked up."""
        chat = ChatHarness(self)
        answer: Deferred[User] = Deferred()
        chat.people["t0k"] = answer
        client = chat.stranger()

        client.say([{"type": "hello", "id": 1, "token": "t0k"}, {"type": "join", "id": 2, "room": "lobby"}])
        answer.callback(ALICE)
        chat.turn()

        self.assertEqual([one["type"] for one in client.take()], ["welcome", "ok", "live"])

    def test_a_bad_token_ends_the_connection(self) -> None:
        """4401; an expired one says so, because then a new one will do."""
        for error, code in (
            (Unauthenticated("token: unknown"), "unauthenticated"),
            (TokenExpired("token: old"), "token_expired"),
        ):
            chat = ChatHarness(self)
            answer: Deferred[User] = Deferred()
            chat.people["t0k"] = answer
            client = chat.stranger()
            client.say({"type": "hello", "id": 1, "token": "t0k"}, {"type": "join", "id": 2, "room": "lobby"})
            answer.errback(error)
            chat.turn()
            self.assertEqual(client.answer(1)["code"], code)
            self.assertEqual([(one["code"], one["reason"], one["retry"]) for one in client.take("bye")], [(4401, code, False)])
            self.assertEqual(client.closed, 4401)

    def test_who_leaves_while_its_token_is_looked_at_is_not_entered(self) -> None:
        """A client that leaves while its token is looked up holds no name and is no member."""
        chat = ChatHarness(self)
        answer: Deferred[User] = Deferred()
        chat.people["t0k"] = answer
        client = chat.stranger()

        client.say({"type": "hello", "token": "t0k"}, {"type": "join", "room": "lobby"})
        client.lose()
        answer.callback(BOB)
        chat.turn()

        self.assertEqual(list(chat.core.sessions), [])

        chat.core.sessions.check_name(guest("bob"))
        self.assertEqual(chat.core.rooms.find(BOB, "lobby").members, 0)

    def test_a_refused_hello_may_be_said_again(self) -> None:
        """A name that looks like somebody's: another one will do."""
        chat = ChatHarness(self)
        chat.json(BOB)
        client = chat.stranger(guest("x"))

        client.say({"type": "hello", "id": 51, "name": "b\u043eb"})

        self.assertEqual(client.answer(51)["code"], "conflict")
        self.assertEqual(client.ask("hello", name="rob")["user"]["name"], "rob")

    def test_what_waits_behind_a_refused_hello_is_answered(self) -> None:
        """Each command behind a refused hello gets exactly one answer."""
        chat = ChatHarness(self)
        chat.json(BOB)
        answer: Deferred[User] = Deferred()
        chat.people["t0k"] = answer
        client = chat.stranger(guest("x"))

        client.say({"type": "hello", "id": 1, "token": "t0k"}, {"type": "join", "id": 2, "room": "lobby"})
        answer.callback(guest("b\u043eb", 7))
        chat.turn()

        self.assertEqual([client.answer(number)["code"] for number in (1, 2)], ["conflict", "bad_request"])

    def test_a_device_makes_the_same_guest_again(self) -> None:
        """The same device is the same guest, and its new connection ends the old one with 4409, which is not to come back."""
        chat = ChatHarness(self)
        first = chat.stranger(guest("x", 1))
        one = first.ask("hello", name="ann", device="device-1")["user"]

        first.ask("join", room="lobby")
        second = chat.stranger(guest("x", 2))
        two = second.ask("hello", name="ann", device="device-1")["user"]

        self.assertEqual(one, two)
        self.assertEqual(first.closed, 4409)
        self.assertEqual([(bye["code"], bye["retry"]) for bye in first.take("bye")], [(4409, False)])

        second.lose()
        names = [chat.stranger(chat.core.make_guest(None, None)).ask("hello", device="device-3")["user"] for _ in "ab"]  # type: ignore[misc]

        self.assertEqual(names[0], names[1])

        third = chat.stranger(guest("x", 3))
        self.assertNotEqual(third.ask("hello", name="ann", device="device-2")["user"]["id"], one["id"])
        self.assertIsNone(third.closed)

    def test_fields_of_hello_are_checked_by_name(self) -> None:
        """An unsuitable field of ``hello`` is named in the error, and ``hello`` can be sent again."""
        client = ChatHarness(self).stranger(guest("x"))
        for fields, begin in (
            ({"device": "short"}, "device: "),
            ({"name": "a\u200bb"}, "name: "),
            ({"name": "x" * 65}, "name: "),
            ({"capabilities": [1]}, "capabilities[0]: "),
            ({"token": 7}, "token: "),
        ):
            error = client.ask("hello", **fields)
            self.assertEqual(error["code"], "bad_request")
            self.assertTrue(error["message"].startswith(begin), error["message"])


class JoinTests(SynchronousTestCase):
    def test_from_the_head(self) -> None:
        """A join without a cursor gives nothing of before and everything from now on; its answer comes first, then live."""
        chat = ChatHarness(self)
        alice = chat.json(ALICE, "lobby")
        alice.ask("send", room="lobby", text="before")
        bob = chat.json(BOB)

        bob.say({"type": "join", "id": 1, "room": "lobby"})
        joined, live = bob.take()

        self.assertEqual((joined["head"], joined["first"], joined["from"], joined["durable"]), (1, 1, 2, True))
        self.assertEqual(joined["can"], ["send", "edit", "delete", "react", "topic"])
        self.assertNotIn("recovered", joined)
        self.assertEqual(live, {"type": "live", "room": "lobby", "seq": 1})

        alice.ask("send", room="lobby", text="after")
        self.assertEqual(bob.texts(), ["after"])

    def test_resume_gives_what_came_meanwhile_once(self) -> None:
        """P4, from the cursor of the join, of an event, and from the very beginning."""
        chat = ChatHarness(self)
        alice, bob = chat.json(ALICE, "lobby"), chat.json(BOB)
        alice.ask("send", room="lobby", text="one")
        joined = bob.ask("join", room="lobby")

        bob.lose()
        for text in ("two", "three"):
            alice.ask("send", room="lobby", text=text)
        cursor = {"epoch": joined["epoch"], "seq": joined["head"], "id": joined["head_id"]}
        bob = chat.json(BOB)
        again = bob.ask("join", room="lobby", since=cursor)

        self.assertEqual((again["recovered"], again["from"]), (True, 2))

        events = bob.take("event")
        self.assertEqual([event["text"] for event in events], ["two", "three"])

        bob = chat.json(CAROL)
        self.assertTrue(
            bob.ask("join", room="lobby", since={"epoch": joined["epoch"], "seq": 2, "id": events[0]["id"]})["recovered"]
        )
        self.assertEqual(bob.texts(), ["three"])

        carol = chat.json(MODERATOR)
        self.assertTrue(carol.ask("join", room="lobby", since={"epoch": joined["epoch"], "seq": 0})["recovered"])
        self.assertEqual(carol.texts(), ["one", "two", "three"])

    def test_what_cannot_be_recovered_says_why(self) -> None:
        """Never a partial recovery: the room is given from its beginning instead."""
        chat = ChatHarness(self, rooms={"short": RoomPolicy(keep_events=2)})
        alice = chat.json(ALICE, "lobby", "short")
        for number in range(5):
            ids = [alice.ask("send", room=room, text=str(number))["event"] for room in ("lobby", "short")]
        chat.core.retention.apply()
        epoch = chat.core.epoch

        for room, since, why in (
            ("lobby", {"epoch": "OTHER", "seq": 5, "id": ids[0]}, "epoch"),
            ("lobby", {"epoch": epoch, "seq": 5, "id": "other-5"}, "fork"),
            ("lobby", {"epoch": epoch, "seq": 3, "id": "other-3"}, "fork"),
            ("lobby", {"epoch": epoch, "seq": 6, "id": "x-6"}, "ahead"),
            ("lobby", {"epoch": epoch, "seq": 2**53 - 1, "id": "x"}, "ahead"),
            ("short", {"epoch": epoch, "seq": 1, "id": "x-1"}, "expired"),
            ("short", {"epoch": epoch, "seq": 0}, "expired"),
        ):
            bob = chat.json(BOB)
            joined = bob.ask("join", room=room, since=since)
            self.assertEqual((joined["recovered"], joined["why"]), (False, why))
            seqs = [event["seq"] for event in bob.take("event")]
            self.assertEqual(seqs, list(range(joined["from"], 6)))
            self.assertEqual(joined["from"], joined["first"])
        chat.json(BOB).ask("join", room="lobby", since={"epoch": epoch, "seq": -3, "id": "x"})

    def test_a_cursor_needs_the_id(self) -> None:
        """A cursor behind the beginning without the id of its event is refused."""
        chat = ChatHarness(self)
        alice = chat.json(ALICE, "lobby")

        alice.ask("send", room="lobby", text="x")
        error = chat.json(BOB).ask("join", room="lobby", since={"epoch": chat.core.epoch, "seq": 1})

        self.assertEqual((error["code"], error["message"]), ("bad_request", "since: needs the id of the event at seq"))

    def test_a_cursor_that_memory_does_not_know_is_checked_in_the_store(self) -> None:
        """After a restart; and when the store cannot be read, the join says so and may be repeated."""
        before = ChatHarness(self)
        alice = before.json(ALICE, "lobby")
        ids = [alice.ask("send", room="lobby", text=text)["event"] for text in ("one", "two", "three")]
        chat = before.restarted()
        bob = chat.json(BOB)
        chat.store.deaf = True
        cursor = {"epoch": chat.core.epoch, "seq": 1, "id": ids[0]}

        self.assertEqual(bob.ask("join", room="lobby", since=cursor)["code"], "unavailable")

        chat.store.deaf = False
        self.assertTrue(bob.ask("join", room="lobby", since=cursor)["recovered"])
        self.assertEqual(bob.texts(), ["two", "three"])

        carol = chat.json(CAROL)
        self.assertEqual(carol.ask("join", room="lobby", since={**cursor, "id": "other-1"})["why"], "fork")

    def test_leaving_before_the_join_is_answered(self) -> None:
        """A leave before the answer to a join of several rooms: both are answered, and the other rooms begin."""
        before = ChatHarness(self)
        alice = before.json(ALICE, "lobby", "den")
        ids = {room: [alice.ask("send", room=room, text=text)["event"] for text in "abc"] for room in ("lobby", "den")}
        chat = before.restarted()
        bob = chat.json(BOB)
        chat.store.holding = True
        rooms = [{"room": room, "since": {"epoch": chat.core.epoch, "seq": 1, "id": ids[room][0]}} for room in ids]
        bob.say({"type": "join", "id": 1, "rooms": rooms}, {"type": "leave", "id": 2, "room": "lobby"})
        chat.store.holding = False

        chat.store.release_all()
        chat.turn()

        self.assertEqual(bob.answer(2)["type"], "ok")

        lobby, den = bob.answer(1)["rooms"]
        self.assertEqual((lobby["room"], lobby["error"]["code"]), ("lobby", "not_joined"))
        self.assertTrue(den["recovered"])
        self.assertEqual([(event["room"], event["text"]) for event in bob.take("event")], [("den", "b"), ("den", "c")])

    def test_tail(self) -> None:
        """A join with ``tail`` gets as many of the last events as there are."""
        chat = ChatHarness(self)
        alice = chat.json(ALICE, "lobby")

        for number in range(5):
            alice.ask("send", room="lobby", text=str(number))
        for tail, texts in ((0, []), (2, ["3", "4"]), (99, ["0", "1", "2", "3", "4"])):
            bob = chat.json(BOB)
            bob.ask("join", room="lobby", tail=tail)
            self.assertEqual(bob.texts(), texts)

    def test_several_rooms(self) -> None:
        """A join of several rooms has one answer, in their order and with an error for each that is refused; then come the events."""
        chat = ChatHarness(self, rooms={"staff": RoomPolicy(guests=False)})
        alice = chat.json(ALICE, "a", "b")

        alice.ask("send", room="a", text="in a")
        alice.ask("send", room="b", text="in b")
        bob = chat.json(guest("bob"))
        answer = bob.ask("join", rooms=["a", {"room": "b", "tail": 5}, "staff", "a b", "a"])

        self.assertEqual([one["room"] for one in answer["rooms"]], ["a", "b", "staff", "a b", "a"])
        self.assertEqual([one["error"]["code"] for one in answer["rooms"][2:4]], ["no_such_room", "bad_request"])
        self.assertEqual(bob.texts(), ["in b"])

        wrong: list[Json] = [{}, {"room": "a", "rooms": ["b"]}, {"rooms": []}]
        for fields in wrong:
            self.assertEqual(bob.ask("join", **fields)["code"], "bad_request")

    def test_joining_twice_moves_nothing(self) -> None:
        """A second join of the same room sends no event again and counts no second member."""
        chat = ChatHarness(self)
        alice = chat.json(ALICE, "lobby")

        alice.ask("send", room="lobby", text="x")
        alice.take()

        self.assertEqual(alice.ask("join", room="lobby", tail=5)["from"], 2)
        self.assertEqual(alice.take(), [])
        self.assertEqual(chat.core.rooms.find(ALICE, "lobby").members, 1)

    def test_leave(self) -> None:
        """No event follows the answer to a leave."""
        chat = ChatHarness(self)
        alice, bob = chat.json(ALICE, "lobby"), chat.json(BOB, "lobby")

        self.assertEqual(bob.ask("leave", room="lobby")["type"], "ok")

        alice.ask("send", room="lobby", text="x")
        self.assertEqual(bob.take(), [])
        self.assertEqual(bob.ask("leave", room="lobby")["code"], "not_joined")

    def test_a_room_that_one_may_not_see_is_not_there(self) -> None:
        """A room that one may not see is answered like one that does not exist, also to names that look like it."""
        policies = {"secret": RoomPolicy(guests=False)}
        chat = ChatHarness(self, rooms=policies, create=False)

        chat.json(ALICE, "secret")
        bob = chat.json(guest("bob"))
        hidden, absent = (bob.ask("join", room=room) for room in ("secret", "nowhere"))

        self.assertEqual(hidden["message"], absent["message"].replace("nowhere", "secret"))
        self.assertEqual({**hidden, "id": 0, "message": ""}, {**absent, "id": 0, "message": ""})

        only = replace(BOB, rooms=("live.*",))
        bob = chat.json(CAROL)
        bob.lose()
        chat = ChatHarness(self)
        bob = chat.json(replace(only, rooms=("live.*", "lobby")))

        self.assertEqual(bob.ask("join", room="den")["code"], "no_such_room")
        self.assertEqual(bob.ask("history", room="den")["code"], "no_such_room")
        self.assertNotIn("den", [room.name for room in chat.core.rooms])
        self.assertEqual(bob.ask("join", room="live.1")["type"], "ok")
