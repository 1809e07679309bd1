"""JSON clients write: what is committed, told and refused, and how fast it may come."""

from __future__ import annotations

from msgspec.structs import replace
from twisted.trial.unittest import SynchronousTestCase

from tests.harness.chat import ALICE, BOB, CAROL, MODERATOR, UNBOUND, ChatHarness, guest
from twisted_chat.limits import Limits, RoomPolicy


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
        """Data of a JSON client arrives as bytes at a plain one, and the other way round."""
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
        """Invisible or long reactions are refused, and emoji of several code points accepted."""
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
        """A message needs exactly one of text and data, within the limits; the error names the field."""
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
        """``can`` in the answer to a join tells who may write; others get ``forbidden``."""
        rooms = {"news": RoomPolicy(writers="moderators"), "club": RoomPolicy(writers="users")}
        chat = ChatHarness(self, rooms=rooms)
        for user, room, can, code in (
            (ALICE, "news", [], "forbidden"),
            (MODERATOR, "news", ["send", "edit", "delete", "react", "topic", "moderate", "sanction", "members"], None),
            (guest("x"), "club", [], "forbidden"),
            (ALICE, "club", ["send", "edit", "delete", "react", "topic"], None),
        ):
            client = chat.json(user)
            self.assertEqual(client.ask("join", room=room)["can"], can)
            answer = client.ask("send", room=room, text="hi")
            self.assertEqual(answer.get("code"), code)


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
        """Connections of one person share the person's rate."""
        chat = ChatHarness(self, Limits(send_burst=3, person_burst=4, person_per_second=1))
        one, two = chat.json(ALICE, "lobby"), chat.json(ALICE, "lobby")
        answers = [client.ask("send", room="lobby", text="x").get("code") for client in (one, one, one, two, two)]

        self.assertEqual(answers, [None] * 4 + ["rate_limited"])

    def test_questions_have_a_rate(self) -> None:
        """Queries beyond their rate are refused."""
        chat = ChatHarness(self, Limits(query_burst=2, query_per_second=1))

        alice = chat.json(ALICE, "lobby")

        self.assertEqual(alice.ask("history", room="lobby")["type"], "ok")
        self.assertEqual(alice.ask("history", room="lobby")["code"], "rate_limited")

    def test_coming_back_to_many_rooms_is_no_flood(self) -> None:
        """One command may join as many rooms as a connection may have."""
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
        """Rooms are bounded per connection and in all, and members per room."""
        chat = ChatHarness(self, replace(UNBOUND, rooms_per_connection=2, rooms=2), {"small": RoomPolicy(size=1)})
        alice, bob = chat.json(ALICE, "small", "b"), chat.json(BOB)

        self.assertEqual(alice.ask("join", room="c")["code"], "limit")
        self.assertEqual(alice.ask("join", rooms=["a", "b", "c"])["code"], "limit")
        self.assertEqual(bob.ask("join", room="small")["code"], "limit")
        self.assertEqual(bob.ask("join", room="c")["code"], "limit")

        alice.ask("leave", room="small")
        self.assertEqual(bob.ask("join", room="small")["type"], "ok")

    def test_a_store_that_is_far_behind(self) -> None:
        """Messages are refused as ``unavailable`` while too many wait for the store; none of the others is lost."""
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
