"""JSON clients: what wrong input is answered, what else they may ask, and when their connection ends.

Hello and join are in ``test_core_json_session_joining.py``, what writes in ``test_core_json_session_sending.py``.
"""

from __future__ import annotations

import gc
import random

from msgspec.structs import replace
from twisted.trial.unittest import SynchronousTestCase

from tests.harness.chat import ALICE, BEGIN, BOB, CAROL, UNBOUND, ChatHarness, MemoryConnection, guest
from twisted_chat.core.json_session import JsonSession
from twisted_chat.limits import RoomPolicy
from twisted_chat.users import User


class BadInputTests(SynchronousTestCase):
    """P6: a clear error, and nothing has changed."""

    def test_what_is_wrong_is_named(self) -> None:
        """Input that is no command gets one error that names the fault, and the connection stays."""
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
        """An error has the id of the command, also where the rest of it cannot be decoded."""
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

    def test_rooms(self) -> None:
        """``rooms`` lists the rooms that one may see, by name."""
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
        """``hello`` succeeds without read marks when the store cannot be read."""
        chat = ChatHarness(self)
        chat.store.deaf = True

        self.assertEqual(chat.stranger(ALICE).ask("hello")["read"], {})
        # The store says by itself that it is away.
        self.assertEqual(self.flushLoggedErrors(), [])

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
        """A client with the capability ``batch`` gets one array per turn, others one frame per event."""
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
        """A client that sends a frame now and then is neither pinged nor closed."""
        chat = ChatHarness(self)
        client = chat.json(ALICE)

        for _ in range(20):
            chat.pass_time(20)
            client.say({"type": "pong"})

        self.assertEqual((client.closed, client.take()), (None, []))

    def test_pings_of_any_pair_of_intervals(self) -> None:
        """An idle client is pinged after one interval and stays while it answers; who does not answer goes after a second one."""
        for ping, hello in ((1, 1), (1, 10), (2, 10), (5, 10), (10, 10), (11, 10), (25, 2), (60, 10), (200, 10), (1.4, 0.5)):
            with self.subTest(ping=ping, hello=hello):
                chat = ChatHarness(self, replace(UNBOUND, ping_seconds=float(ping), hello_seconds=float(hello)))
                alive, silent = chat.json(ALICE, "lobby"), chat.json(BOB, "lobby")
                interval, pings, gone = max(1, round(ping)), [], 0

                for second in range(1, 5 * interval + 1):
                    chat.pass_time(1)
                    for _ in alive.take("ping"):
                        pings.append(second)
                        alive.ask("pong")
                    gone = gone or (second if silent.closed else 0)

                self.assertIsNone(alive.closed)
                self.assertEqual(silent.closed, 4509)
                self.assertEqual(len(silent.take("ping")), 1)
                self.assertEqual(pings[0], interval)
                self.assertGreaterEqual(len(pings), 4)
                self.assertLessEqual(gone, 2 * interval + 1)

    def test_shorter_interval_drops_nobody_who_answers(self) -> None:
        """A reload from 60 to 2 seconds: who was silent for 59 is asked first."""
        chat = ChatHarness(self, replace(UNBOUND, ping_seconds=60.0))
        client = chat.json(ALICE, "lobby")
        chat.pass_time(59)

        chat.core.configure(replace(UNBOUND, ping_seconds=2.0), chat.core.configuration.policies)
        for _ in range(20):
            chat.pass_time(1)
            for _ in client.take("ping"):
                client.ask("pong")

        self.assertIsNone(client.closed)

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
        """A token given in ``hello`` closes the connection when it expires."""
        chat = ChatHarness(self)
        chat.people["t0k"] = replace(ALICE, expires=BEGIN + 5)
        client = chat.stranger(guest("x"))

        client.ask("hello", token="t0k")
        chat.pass_time(6)

        self.assertEqual(client.closed, 4401)

    def test_a_revoked_token(self) -> None:
        """A revocation closes the connections of that token only."""
        chat = ChatHarness(self)
        client, other = chat.json(replace(ALICE, token_id="t1")), chat.json(replace(ALICE, token_id="t2"))

        chat.core.sessions.end_tokens(["t1"])
        chat.turn()

        self.assertEqual((client.closed, other.closed), (4401, None))
        self.assertEqual(client.take("bye")[0]["reason"], "unauthenticated")

    def test_bye(self) -> None:
        """``bye`` is answered, the connection is closed with 1000, and later commands are ignored."""
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
