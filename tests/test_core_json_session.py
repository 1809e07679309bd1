"""Rich clients: what they say, what they are told, what is refused and when the connection ends."""

from __future__ import annotations

import gc
import random

from msgspec.structs import replace
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from tests.harness.chat import ALICE, BEGIN, BOB, CAROL, MODERATOR, UNBOUND, ChatHarness, Json, MemoryConnection, guest
from twisted_chat.core.json_session import JsonSession
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
        """Also when it is an array."""
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
        """No ghost holds the name."""
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
        """Each command with an id gets exactly one answer."""
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
        """And replaces the connection that the network has not given up yet: 4409, do not come back."""
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
        """Nothing of before, everything from now on; the answer comes first, then live."""
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
        """Both are answered, and the other rooms of the join begin."""
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
        chat = ChatHarness(self)
        alice = chat.json(ALICE, "lobby")
        for number in range(5):
            alice.ask("send", room="lobby", text=str(number))
        for tail, texts in ((0, []), (2, ["3", "4"]), (99, ["0", "1", "2", "3", "4"])):
            bob = chat.json(BOB)
            bob.ask("join", room="lobby", tail=tail)
            self.assertEqual(bob.texts(), texts)

    def test_several_rooms(self) -> None:
        """One answer in their order; what cannot be joined has an error of its own; then the events of all."""
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
        chat = ChatHarness(self)
        alice = chat.json(ALICE, "lobby")
        alice.ask("send", room="lobby", text="x")
        alice.take()
        self.assertEqual(alice.ask("join", room="lobby", tail=5)["from"], 2)
        self.assertEqual(alice.take(), [])
        self.assertEqual(chat.core.rooms.find(ALICE, "lobby").members, 1)

    def test_leave(self) -> None:
        """No event follows the answer."""
        chat = ChatHarness(self)
        alice, bob = chat.json(ALICE, "lobby"), chat.json(BOB, "lobby")
        self.assertEqual(bob.ask("leave", room="lobby")["type"], "ok")
        alice.ask("send", room="lobby", text="x")
        self.assertEqual(bob.take(), [])
        self.assertEqual(bob.ask("leave", room="lobby")["code"], "not_joined")

    def test_a_room_that_one_may_not_see_is_not_there(self) -> None:
        """Its answer is that of a room that does not exist, also for names that look like it."""
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


class SendTests(SynchronousTestCase):
    def test_ok_means_on_disk(self) -> None:
        """P2: nobody is told anything before the commit, and readers see it only then."""
        chat = ChatHarness(self)
        alice, bob = chat.json(ALICE, "lobby"), chat.plain(BOB)
        chat.store.holding = True
        alice.say({"type": "send", "id": 1, "room": "lobby", "key": "k", "text": "hi"})
        self.assertEqual((alice.take(), bob.take()), ([], []))
        chat.store.work()
        self.assertEqual((alice.take(), bob.take()), ([], []))
        chat.store.reply()
        chat.turn()
        self.assertEqual((alice.answer(1)["seq"], bob.take()), (1, ["hi"]))

    def test_the_same_key_is_kept_once(self) -> None:
        """A retry gets the first result; another author's same key is another message."""
        chat = ChatHarness(self)
        alice, bob = chat.json(ALICE, "lobby"), chat.json(BOB, "lobby")
        first = alice.ask("send", room="lobby", key="k", text="hi")
        again = alice.ask("send", room="lobby", key="k", text="hi")
        self.assertEqual((again["seq"], again["event"], again["duplicate"]), (first["seq"], first["event"], True))
        self.assertFalse(bob.ask("send", room="lobby", key="k", text="hi")["duplicate"])
        self.assertEqual(len(chat.log("lobby")), 2)

    def test_a_store_that_cannot_commit(self) -> None:
        """The writer gets unavailable, readers nothing; the same key succeeds later."""
        chat = ChatHarness(self)
        alice, bob = chat.json(ALICE, "lobby"), chat.json(BOB, "lobby")
        chat.store.down = True
        refused = alice.ask("send", room="lobby", key="k", text="hi")
        self.assertEqual((refused["code"], refused["retry"]), ("unavailable", True))
        chat.store.down = False
        self.assertFalse(alice.ask("send", room="lobby", key="k", text="hi")["duplicate"])
        self.assertEqual(bob.texts(), ["hi"])

    def test_binary_travels_as_base64(self) -> None:
        chat = ChatHarness(self)
        alice, plain = chat.json(ALICE, "lobby"), chat.plain(BOB)
        alice.ask("send", room="lobby", data="AAH/")
        self.assertEqual(plain.take(), [b"\0\1\xff"])
        self.assertEqual([event["data"] for event in alice.take("event")], ["AAH/"])
        plain.say(b"\xfe")
        self.assertEqual([event["data"] for event in alice.take("event")], ["/g=="])

    def test_amending(self) -> None:
        """Edits, reactions and deletions are events; a page shows the present state."""
        chat = ChatHarness(self)
        alice, bob = chat.json(ALICE, "lobby"), chat.json(BOB, "lobby")
        alice.ask("send", room="lobby", text="helo")
        self.assertEqual(alice.ask("edit", room="lobby", of=1, revision=1, text="hello")["seq"], 2)
        self.assertEqual(alice.ask("edit", room="lobby", of=1, revision=1, text="late")["code"], "conflict")
        self.assertEqual(bob.ask("edit", room="lobby", of=1, revision=2, text="mine")["code"], "forbidden")
        family = "👨\u200d👩\u200d👧"
        self.assertEqual(bob.ask("react", room="lobby", of=1, emoji=family)["seq"], 3)
        self.assertEqual(bob.ask("react", room="lobby", of=9, emoji="👍")["code"], "no_such_event")
        [message] = bob.ask("history", room="lobby")["events"]
        self.assertEqual((message["text"], message["revision"]), ("hello", 2))
        self.assertEqual(message["reactions"], [{"emoji": family, "by": ["u2"]}])
        self.assertEqual(bob.ask("delete", room="lobby", of=1)["code"], "forbidden")
        self.assertEqual(chat.json(MODERATOR, "lobby").ask("delete", room="lobby", of=1)["seq"], 4)
        self.assertEqual(alice.ask("edit", room="lobby", of=1, revision=2, text="x")["code"], "gone")
        [message] = bob.ask("history", room="lobby")["events"]
        self.assertEqual((message["gone"], message.get("text")), (True, None))
        kinds = [(event["kind"], event["seq"]) for event in bob.take("event")]
        self.assertEqual(kinds, [("message", 1), ("edit", 2), ("reaction", 3), ("delete", 4)])

    def test_an_emoji_can_be_seen(self) -> None:
        chat = ChatHarness(self)
        alice = chat.json(ALICE, "lobby")
        alice.ask("send", room="lobby", text="x")
        for emoji in (" ", "\u200d", "\u202e", "\n", "a" * 33):
            self.assertEqual(alice.ask("react", room="lobby", of=1, emoji=emoji)["code"], "bad_request")
        for emoji in ("👍🏽", "❤️", "🏴\U000e0067\U000e0062\U000e0073\U000e0063\U000e0074\U000e007f", ":)"):
            self.assertEqual(alice.ask("react", room="lobby", of=1, emoji=emoji)["type"], "ok")

    def test_topic(self) -> None:
        """Users set it, guests do not; who joins is told."""
        chat = ChatHarness(self)
        alice, bob = chat.json(ALICE, "lobby"), chat.json(guest("bob"), "lobby")
        self.assertEqual(bob.ask("topic", room="lobby", text="mine")["code"], "forbidden")
        alice.ask("topic", room="lobby", text="Cake")
        self.assertEqual([(event["kind"], event["text"]) for event in bob.take("event")], [("topic", "Cake")])
        self.assertEqual(chat.json(CAROL).ask("join", room="lobby")["topic"], "Cake")

    def test_what_is_said_must_be_something_and_fit(self) -> None:
        chat = ChatHarness(self, replace(UNBOUND, text_bytes=10))
        alice = chat.json(ALICE, "lobby")
        for fields, code, field in (
            ({}, "bad_request", "text: "),
            ({"text": "a", "data": "AA=="}, "bad_request", "text: "),
            ({"text": ""}, "bad_request", "text: "),
            ({"data": ""}, "bad_request", "data: "),
            ({"text": "éééééé"}, "too_big", "text: "),
            ({"data": "AAAAAAAAAAAAAAAA"}, "too_big", "data: "),
            ({"text": "x", "key": ""}, "bad_request", "key: "),
            ({"text": "x", "key": "k" * 65}, "bad_request", "key: "),
            ({"text": "x", "reply_to": 0}, "bad_request", "reply_to: "),
            ({"data": "?"}, "bad_request", "data: "),
        ):
            error = alice.ask("send", room="lobby", **fields)
            self.assertEqual((error["code"], error["message"][: len(field)]), (code, field), error)
        self.assertEqual(alice.ask("edit", room="lobby", of=1, revision=1, text="")["code"], "bad_request")
        self.assertEqual(chat.log("lobby"), [])

    def test_who_may_write(self) -> None:
        """``can`` tells it, and forbidden says it."""
        rooms = {"news": RoomPolicy(writers="moderators"), "club": RoomPolicy(writers="users")}
        chat = ChatHarness(self, rooms=rooms)
        for user, room, can in (
            (ALICE, "news", []),
            (MODERATOR, "news", ["send", "edit", "delete", "react", "topic", "moderate"]),
            (guest("x"), "club", []),
            (ALICE, "club", ["send", "edit", "delete", "react", "topic"]),
        ):
            client = chat.json(user)
            self.assertEqual(client.ask("join", room=room)["can"], can)
            answer = client.ask("send", room=room, text="hi")
            self.assertEqual(answer.get("code"), None if can else "forbidden")


class RateTests(SynchronousTestCase):
    def test_too_fast_is_told_with_the_time_to_wait(self) -> None:
        """The burst, then the rate; after the wait it works."""
        chat = ChatHarness(self, Limits(send_burst=3, send_per_second=2))
        alice = chat.json(ALICE, "lobby")
        answers = [alice.ask("send", room="lobby", text="x").get("code") for _ in range(4)]
        self.assertEqual(answers, [None, None, None, "rate_limited"])
        error = alice.ask("send", room="lobby", text="x")
        self.assertEqual((error["retry"], error["retry_after_ms"]), (True, 500))
        chat.pass_time(0.5)
        self.assertEqual(alice.ask("send", room="lobby", text="x")["type"], "ok")

    def test_a_person_has_one_rate_over_all_connections(self) -> None:
        chat = ChatHarness(self, Limits(send_burst=3, person_burst=4, person_per_second=1))
        one, two = chat.json(ALICE, "lobby"), chat.json(ALICE, "lobby")
        answers = [client.ask("send", room="lobby", text="x").get("code") for client in (one, one, one, two, two)]
        self.assertEqual(answers, [None] * 4 + ["rate_limited"])

    def test_questions_have_a_rate(self) -> None:
        chat = ChatHarness(self, Limits(query_burst=2, query_per_second=1))
        alice = chat.json(ALICE, "lobby")
        self.assertEqual(alice.ask("history", room="lobby")["type"], "ok")
        self.assertEqual(alice.ask("history", room="lobby")["code"], "rate_limited")

    def test_coming_back_to_many_rooms_is_no_flood(self) -> None:
        """As many as one may have, in one command."""
        chat = ChatHarness(self, Limits())
        alice = chat.json(ALICE)
        answer = alice.ask("join", rooms=[f"room-{number}" for number in range(128)])
        self.assertEqual([room.get("error") for room in answer["rooms"]], [None] * 128)

    def test_slow_mode(self) -> None:
        """Between two messages of one person; typing and reactions are free, moderators exempt."""
        chat = ChatHarness(self, rooms={"lobby": RoomPolicy(slow_mode=10)})
        alice, mo = chat.json(ALICE, "lobby"), chat.json(MODERATOR, "lobby")
        self.assertEqual(alice.ask("typing", room="lobby")["type"], "ok")
        self.assertEqual(alice.ask("send", room="lobby", text="x")["type"], "ok")
        chat.pass_time(4)
        error = alice.ask("send", room="lobby", text="y")
        self.assertEqual((error["code"], error["retry_after_ms"]), ("slow_mode", 6000))
        self.assertEqual(alice.ask("react", room="lobby", of=1, emoji="👍")["type"], "ok")
        self.assertEqual(alice.ask("typing", room="lobby")["type"], "ok")
        self.assertEqual([mo.ask("send", room="lobby", text="x")["type"] for _ in "ab"], ["ok", "ok"])
        chat.pass_time(6)
        self.assertEqual(alice.ask("send", room="lobby", text="y")["type"], "ok")

    def test_refusals_end_the_connection(self) -> None:
        """Who does not listen need not be answered for ever: 4429."""
        chat = ChatHarness(self, replace(UNBOUND, refusals=5))
        alice = chat.json(ALICE, "lobby")
        for _ in range(4):
            alice.say(b"nonsense")
        alice.ask("ping")
        for _ in range(5):
            self.assertIsNone(alice.closed)
            alice.say(b"nonsense")
        self.assertEqual(alice.closed, 4429)
        self.assertEqual(alice.take()[-1]["type"], "bye")

    def test_numbers_of_rooms(self) -> None:
        """On one connection, members of one room, and in all."""
        chat = ChatHarness(self, replace(UNBOUND, rooms_per_connection=2, rooms=2), {"small": RoomPolicy(size=1)})
        alice, bob = chat.json(ALICE, "small", "b"), chat.json(BOB)
        self.assertEqual(alice.ask("join", room="c")["code"], "limit")
        self.assertEqual(alice.ask("join", rooms=["a", "b", "c"])["code"], "limit")
        self.assertEqual(bob.ask("join", room="small")["code"], "limit")
        self.assertEqual(bob.ask("join", room="c")["code"], "limit")
        alice.ask("leave", room="small")
        self.assertEqual(bob.ask("join", room="small")["type"], "ok")

    def test_a_store_that_is_far_behind(self) -> None:
        chat = ChatHarness(self, replace(UNBOUND, uncommitted=2))
        alice = chat.json(ALICE, "lobby")
        chat.store.holding = True
        alice.say(*[{"type": "send", "id": number, "room": "lobby", "text": "x"} for number in range(1, 3)])
        alice.say(*[{"type": "send", "id": number, "room": "lobby", "text": "x"} for number in range(3, 5)])
        alice.say({"type": "send", "id": 5, "room": "lobby", "text": "x"})
        self.assertEqual(alice.answer(5)["code"], "unavailable")
        chat.store.holding = False
        chat.store.release_all()
        chat.turn()
        self.assertEqual(len(chat.log("lobby")), 4)


class BadInputTests(SynchronousTestCase):
    """P6: a clear error, and nothing has changed."""

    def test_what_is_wrong_is_named(self) -> None:
        client = ChatHarness(self).json()
        for raw, code, message in (
            (b"nonsense", "bad_request", "JSON: "),
            (b'{"type":"join"', "bad_request", "JSON: "),
            (b"", "bad_request", "JSON: "),
            (b"5", "bad_request", "Expected `object`"),
            (b"null", "bad_request", "Expected `object`"),
            (b"{}", "bad_request", "Object missing required field `type`"),
            (b'{"type":5}', "bad_request", "type: "),
            (b'{"type":"nope"}', "unknown_type", "type: 'nope' is not a command"),
            (b'{"type":"nope","type":5}', "unknown_type", "type: 'nope' is not a command"),
            (b'{"type":"Join","room":"lobby"}', "unknown_type", "type: 'Join' is not a command"),
            (b'{"type":"leave"}', "bad_request", "Object missing required field `room`"),
            (b'{"type":"leave","room":7}', "bad_request", "room: Expected `str`, got `int`"),
            (b'{"type":"read","room":"lobby","seq":1e3}', "bad_request", "seq: "),
            (b'{"type":"read","room":"lobby","seq":9007199254740992}', "bad_request", "seq: "),
            (b'{"type":"read","room":"lobby","seq":' + b"9" * 5000 + b"}", "bad_request", "seq: "),
            (b'{"type":"leave","room":' + b"[" * 50_000, "bad_request", "room: "),
            (b'{"type":"leave","x":' + b"[" * 50_000, "bad_request", "JSON: nested too deeply"),
            (b"[" * 50_000, "bad_request", "JSON: nested too deeply"),
            (b'[{"type":"ping"}', "bad_request", "JSON: "),
            (b'{"type":"send","room":"lobby","text":"\\ud800"}', "bad_request", "JSON: "),
            (b'{"type":"send","room":"lobby","text":"\\udc00 x"}', "bad_request", ""),
            (b'{"type":"join","room":"a/b"}', "bad_request", "room: '/' may not be"),
            (b'{"type":"join","room":""}', "bad_request", "room: must not be empty"),
            (b'{"type":"ping","id":9007199254740992}', "bad_request", "id: "),
            (b'{"type":"ping","id":1.5}', "bad_request", "id: "),
        ):
            client.say(raw)
            [error] = client.take()
            self.assertEqual((error["type"], error["code"]), ("error", code), raw[:80])
            self.assertIn(message, error["message"][: len(message)], raw[:80])
        self.assertIsNone(client.closed)

    def test_an_error_has_the_id_where_there_is_one(self) -> None:
        client = ChatHarness(self).json()
        self.assertEqual(client.ask("nope")["code"], "unknown_type")
        self.assertEqual(client.ask("leave", room=5)["code"], "bad_request")
        client.say(b'{"type":"leave","id":"mine"}')
        self.assertEqual(client.answer("mine")["code"], "bad_request")

    def test_unknown_fields_are_ignored(self) -> None:
        self.assertEqual(ChatHarness(self).json().ask("join", room="lobby", colour="red")["type"], "ok")

    def test_a_batch(self) -> None:
        """Each command has its own answer; one that is wrong spoils no other; at most a thousand."""
        client = ChatHarness(self).json()
        client.say([{"type": "join", "id": 1, "room": "lobby"}, {"type": "nope", "id": 2}, {"type": "ping", "id": 3}])
        self.assertEqual([client.answer(number)["type"] for number in (1, 2, 3)], ["ok", "error", "ok"])
        client.take()
        client.say(b'[{"type":"ping","id":4},5,[{"type":"ping"}]]')
        self.assertEqual([one["type"] for one in client.take()], ["ok", "error", "error"])
        client.say([{"type": "ping"}] * 1001)
        self.assertEqual([one["code"] for one in client.take()], ["too_big"])
        client.say(b" []")
        self.assertEqual(client.take(), [])

    def test_binary_frames_are_refused(self) -> None:
        client = ChatHarness(self).json()
        client.session.received_binary(b"x")
        self.assertEqual(client.closed, 1003)

    def test_random_bytes(self) -> None:
        """Whatever comes, the session answers and stays or ends, and raises nothing; the log gets only what is right."""
        rng = random.Random(6)
        seeds = [
            b'{"type":"send","id":1,"room":"lobby","key":"k","text":"hello","reply_to":1}',
            b'{"type":"join","id":2,"rooms":["a",{"room":"b","since":{"epoch":"x","seq":3,"id":"y"},"tail":3}],"presence":true}',
            b'[{"type":"edit","id":"x","room":"lobby","of":1,"revision":1,"text":"t"},{"type":"react","room":"lobby","of":1,"emoji":"e"}]',
            b'{"type":"history","id":3,"room":"lobby","before":3,"limit":5}',
            b'{"type":"hello","id":4,"token":"t","name":"n","device":"dddddddd","capabilities":["batch"]}',
            b'{"type":"presence","room":"lobby","on":true}',
        ]
        chat = ChatHarness(self, replace(UNBOUND, refusals=10**9))
        client = chat.json(ALICE, "lobby")
        for _ in range(3_000):
            raw = bytearray(rng.choice(seeds))
            for _ in range(rng.randrange(4)):
                place = rng.randrange(len(raw))
                raw[place : place + rng.randrange(3)] = rng.choice(
                    (b"", b'"', b"{", b"]", b"\\", b"9" * 20, b"null", b"\0", b"-1")
                )
            client.say(bytes(raw))
            if client.closed:
                client = chat.json(ALICE, "lobby")
        self.assertEqual(self.flushLoggedErrors(), [])
        self.assertEqual([event.seq for event in chat.log("lobby")], list(range(1, len(chat.log("lobby")) + 1)))


class LookingTests(SynchronousTestCase):
    def test_history(self) -> None:
        """Pages by number, before, after and around, bounded by the announced limit."""
        chat = ChatHarness(self, replace(UNBOUND, history=4), {"live": RoomPolicy(durable=False)})
        for room in ("lobby", "live"):
            alice = chat.json(ALICE, room)
            for number in range(1, 10):
                alice.ask("send", room=room, text=str(number))
            for fields, seqs, more in (
                ({}, [6, 7, 8, 9], (True, False)),
                ({"before": 4}, [1, 2, 3], (False, True)),
                ({"after": 7}, [8, 9], (True, False)),
                ({"after": 0, "limit": 2}, [1, 2], (False, True)),
                ({"limit": 999}, [6, 7, 8, 9], (True, False)),
                ({"before": 0}, [], (False, True)),
                ({"after": 99}, [], (True, False)),
            ):
                page = alice.ask("history", room=room, **fields)
                self.assertEqual([event["seq"] for event in page["events"]], seqs, (room, fields))
                self.assertEqual((page["more_before"], page["more_after"]), more, (room, fields))
            page = alice.ask("history", room=room, around=5, limit=3)
            self.assertIn(5, [event["seq"] for event in page["events"]])
            self.assertEqual(alice.ask("history", room=room, before=1, after=1)["code"], "bad_request")
            self.assertEqual(alice.ask("history", room=room, limit=0)["code"], "bad_request")

    def test_core_rooms(self) -> None:
        """Those that one may see, by name."""
        chat = ChatHarness(self, rooms={"staff": RoomPolicy(guests=False)})
        chat.json(ALICE, "staff", "den").ask("send", room="den", text="x")
        told = chat.json(guest("bob"), "lobby").ask("rooms")["rooms"]
        self.assertEqual([(room["room"], room["head"], room["members"]) for room in told], [("den", 1, 1), ("lobby", 0, 1)])

    def test_read_marks(self) -> None:
        """A maximum that the person's other devices learn, and the next hello tells."""
        chat = ChatHarness(self)
        one, two, bob = chat.json(ALICE, "lobby"), chat.json(ALICE, "lobby"), chat.json(BOB, "lobby")
        for _ in range(3):
            one.ask("send", room="lobby", text="x")
        self.assertEqual(one.ask("read", room="lobby", seq=2)["seq"], 2)
        self.assertEqual(two.take("read"), [{"type": "read", "room": "lobby", "seq": 2}])
        self.assertEqual(one.ask("read", room="lobby", seq=1)["seq"], 2)
        self.assertEqual(one.ask("read", room="lobby", seq=4)["code"], "bad_request")
        self.assertEqual(bob.take("read"), [])
        self.assertEqual(chat.stranger(ALICE).ask("hello")["read"], {"lobby": 2})

    def test_read_marks_that_cannot_be_read_do_not_keep_one_out(self) -> None:
        chat = ChatHarness(self)
        chat.store.deaf = True
        self.assertEqual(chat.stranger(ALICE).ask("hello")["read"], {})
        self.assertEqual(len(self.flushLoggedErrors()), 1)

    def test_typing(self) -> None:
        """Passed on at most every three seconds and person, to others only, and not to who is congested."""
        chat = ChatHarness(self)
        one, two, bob = chat.json(ALICE, "lobby"), chat.json(ALICE, "lobby"), chat.json(BOB, "lobby")
        stuck = chat.json(CAROL, "lobby", connection=MemoryConnection())
        stuck.connection.capacity = 0
        one.ask("send", room="lobby", text="x")
        bob.take()
        for client in (one, two, one):
            self.assertEqual(client.ask("typing", room="lobby")["type"], "ok")
        user = {"id": "u1", "name": "alice", "guest": False}
        self.assertEqual(bob.take(), [{"type": "typing", "room": "lobby", "by": user}])
        self.assertEqual(two.take("typing"), [])
        chat.pass_time(3)
        two.ask("typing", room="lobby")
        self.assertEqual(len(bob.take("typing")), 1)
        stuck.connection.read()
        chat.turn()
        self.assertEqual(stuck.take("typing"), [])
        self.assertEqual(bob.ask("typing", room="den")["code"], "not_joined")

    def test_a_batch_client_gets_one_frame_per_turn(self) -> None:
        """Only who asked for it gets arrays."""
        chat = ChatHarness(self)
        alice = chat.json(ALICE, "lobby")
        batch, single = chat.json(BOB, "lobby", capabilities=["batch"]), chat.json(CAROL, "lobby")
        alice.say(*[{"type": "send", "room": "lobby", "text": str(number)} for number in range(5)])
        self.assertEqual((len(batch.connection.frames()), len(single.connection.frames())), (1, 5))


class LifeTests(SynchronousTestCase):
    def test_heartbeat_both_can_see(self) -> None:
        """A ping after 25 s of silence, dead after 50; what the server sends is no sign of the client's life."""
        chat = ChatHarness(self)
        quiet, bob = chat.json(ALICE, "lobby"), chat.json(BOB, "lobby")
        chat.pass_time(24)
        bob.ask("send", room="lobby", text="x")
        self.assertEqual(quiet.take("ping"), [])
        chat.pass_time(2)
        self.assertEqual(quiet.take("ping"), [{"type": "ping"}])
        chat.pass_time(22)
        bob.ask("ping")
        self.assertEqual(quiet.take("ping"), [])
        chat.pass_time(3)
        self.assertEqual((quiet.closed, quiet.connection.aborted), (4509, True))
        self.assertEqual(quiet.take("bye")[0]["code"], 4509)
        self.assertIsNone(bob.closed)

    def test_any_frame_is_a_sign_of_life(self) -> None:
        chat = ChatHarness(self)
        client = chat.json(ALICE)
        for _ in range(20):
            chat.pass_time(20)
            client.say({"type": "pong"})
        self.assertEqual((client.closed, client.take()), (None, []))

    def test_who_cannot_see_a_ping_is_not_asked(self) -> None:
        """A congested link is silent for its own reason; one that takes nothing for five minutes is told to come back."""
        chat = ChatHarness(self)
        alice, stuck = chat.json(ALICE, "lobby"), chat.json(BOB, "lobby")
        stuck.connection.capacity = 0
        alice.ask("send", room="lobby", text="x")
        for _ in range(29):
            chat.pass_time(10)
            alice.ask("ping")
        self.assertIsNone(stuck.closed)
        for _ in range(4):
            chat.pass_time(10)
            alice.ask("ping")
        self.assertEqual((stuck.closed, stuck.connection.aborted), (4508, True))

    def test_a_token_that_ends_ends_the_connection(self) -> None:
        """4401, token_expired, in the second in which it ends."""
        chat = ChatHarness(self)
        client = chat.json(replace(ALICE, expires=BEGIN + 61))
        plain = chat.plain(replace(BOB, expires=BEGIN + 61))
        for _ in range(6):
            chat.pass_time(10)
            client.ask("ping")
            plain.say("x")
        self.assertEqual((client.closed, plain.closed), (None, None))
        chat.pass_time(2)
        self.assertEqual((client.closed, plain.closed), (4401, 4401))
        self.assertEqual(client.take("bye")[0]["reason"], "token_expired")

    def test_a_token_said_in_hello_ends_in_time(self) -> None:
        chat = ChatHarness(self)
        chat.people["t0k"] = replace(ALICE, expires=BEGIN + 5)
        client = chat.stranger(guest("x"))
        client.ask("hello", token="t0k")
        chat.pass_time(6)
        self.assertEqual(client.closed, 4401)

    def test_a_revoked_token(self) -> None:
        chat = ChatHarness(self)
        client, other = chat.json(replace(ALICE, token_id="t1")), chat.json(replace(ALICE, token_id="t2"))
        chat.core.sessions.end_tokens(["t1"])
        chat.turn()
        self.assertEqual((client.closed, other.closed), (4401, None))
        self.assertEqual(client.take("bye")[0]["reason"], "unauthenticated")

    def test_bye(self) -> None:
        client = ChatHarness(self).json()
        self.assertEqual(client.ask("bye")["type"], "ok")
        self.assertEqual(client.closed, 1000)
        client.say({"type": "ping", "id": 99})
        self.assertEqual(client.take(), [])

    def test_drain(self) -> None:
        """What came is committed and answered; everybody is told when to come back, spread out; then 1012."""
        chat = ChatHarness(self)
        clients = [chat.json(User(id=f"u{number}", name=f"p{number}"), "lobby") for number in range(50)]
        chat.store.holding = True
        clients[0].say({"type": "send", "id": 1, "room": "lobby", "text": "last"})
        done = chat.core.drain.begin()
        clients[1].say({"type": "send", "id": 2, "room": "lobby", "text": "too late"})
        self.assertEqual(clients[1].answer(2)["code"], "unavailable")
        self.assertNoResult(done)
        chat.store.holding = False
        chat.store.release_all()
        chat.turn()
        self.successResultOf(done)
        self.assertEqual(clients[0].answer(1)["type"], "ok")
        byes = [client.take("bye") for client in clients]
        delays = [bye["retry_after_ms"] for [bye] in byes]
        self.assertEqual({(bye["code"], bye["reason"], bye["retry"]) for [bye] in byes}, {(4503, "restart", True)})
        self.assertGreater(max(delays) - min(delays), 5_000)
        self.assertGreaterEqual(min(delays), 500)
        self.assertEqual({client.closed for client in clients}, {1012})
        self.assertEqual({tuple(client.texts()) for client in clients}, {("last",)})

    def test_nothing_is_left_of_who_left(self) -> None:
        """Sessions, names, members, places on the wheel."""
        chat = ChatHarness(self)
        clients = [chat.json(guest(f"x{number}"), "lobby", "den") for number in range(20)]
        for client in clients:
            client.lose()
            client.session.lost()
        self.assertEqual(list(chat.core.sessions), [])
        self.assertEqual([room.members for room in chat.core.rooms], [0, 0])
        self.assertEqual(chat.core.sessions.names_in_use, [])
        clients.clear()
        del client
        chat.pass_time(30)
        gc.collect()
        self.assertEqual([each for each in gc.get_objects() if type(each) is JsonSession and each.core is chat.core], [])
