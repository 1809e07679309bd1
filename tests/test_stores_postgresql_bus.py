"""What servers tell one another over NOTIFY, and how they find out who is gone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from time import monotonic
from typing import Union

import msgspec
from msgspec import Struct
from twisted.logger import LogLevel, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from tests.harness.logs import LoggedEvents
from tests.harness.postgresql import DatabaseCase, Pump
from twisted_chat.stores.postgresql import address, bus, feed
from twisted_chat.stores.postgresql.bus import PIECE_BYTES, PostgreSQLBus, Seal, Stream, pieces
from twisted_chat.stores.postgresql.connection import Connection, Patience, connect
from twisted_chat.stores.postgresql.feed import Feed


class Said(Struct, frozen=True, tag=True):
    text: str


class Gone(Struct, frozen=True, tag=True):
    node: str


Told = Union[Said, Gone]
SECRET = bytes(range(32))
STRANGE = "Something else than a server of this chat notifies on {channel}"
_decoder = msgspec.json.Decoder(list[Told])


def encode(messages: Iterable[Told]) -> bytes:
    return msgspec.json.encode(list(messages))


class PiecesTests(SynchronousTestCase):
    def test_short_is_whole(self) -> None:
        self.assertEqual(pieces(b"[1]"), [("whole", "[1]")])

    def test_long_is_cut_between_characters(self) -> None:
        """Each piece is a text of its own, because that is what PostgreSQL passes on."""
        text = "".join(chr(0x1F600 + n % 60) + "x" * (n % 4) for n in range(9_000))
        cut = pieces(text.encode())
        self.assertEqual([kind for kind, _ in cut], ["first", *["more"] * (len(cut) - 2), "last"])
        self.assertEqual("".join(piece for _, piece in cut), text)
        self.assertLessEqual(max(len(piece.encode()) for _, piece in cut), PIECE_BYTES)


class StreamTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.stream = Stream()

    def test_arrays_come_whole(self) -> None:
        self.assertEqual(self.stream.take(7, b"whole", b"[1]"), b"[1]")
        self.assertIsNone(self.stream.take(8, b"first", b"[2,"))
        self.assertIsNone(self.stream.take(9, b"more", b"3,"))
        self.assertEqual(self.stream.take(10, b"last", b"4]"), b"[2,3,4]")

    def test_what_came_before_is_not_taken_again(self) -> None:
        """A server sends again what it does not know to have been notified."""
        self.stream.take(1, b"first", b"[1,")
        self.assertIsNone(self.stream.take(1, b"first", b"[1,"))
        self.assertEqual(self.stream.take(2, b"last", b"2]"), b"[1,2]")
        self.assertIsNone(self.stream.take(2, b"last", b"2]"))

    def test_a_missing_number_costs_its_array_and_no_more(self) -> None:
        self.stream.take(1, b"first", b"[1,")
        self.assertIsNone(self.stream.take(3, b"last", b"3]"))
        self.assertEqual(self.stream.take(4, b"whole", b"[4]"), b"[4]")

    def test_the_middle_of_an_array_is_no_beginning(self) -> None:
        """A server that has just begun to listen may hear the end of an array first."""
        self.assertIsNone(self.stream.take(5, b"more", b"x"))
        self.assertIsNone(self.stream.take(6, b"last", b"y]"))
        self.assertEqual(self.stream.take(7, b"whole", b"[]"), b"[]")

    def test_an_array_without_end_is_let_go(self) -> None:
        self.patch(bus, "PARTIAL_BYTES", 10)
        self.stream.take(1, b"first", b"[" + b"x" * 6)
        self.assertIsNone(self.stream.take(2, b"more", b"x" * 6))
        self.assertIsNone(self.stream.take(3, b"last", b"]"))


class Node:
    """A server's bus, and what came by it."""

    def __init__(self, url: str, name: str, pump: Pump) -> None:
        self.name = name
        self.feed = Feed(address.parse(f"{url}?application_name={name}"), name, pump)
        self.bus = PostgreSQLBus[Told](self.feed, name, pump, SECRET, encode=encode, decode=_decoder.decode, gone=Gone)
        self.told: list[Told] = []
        self.news: list[Mapping[str, int]] = []
        self.bus.subscribe(self.told.append)
        self.feed.follow(self.news.append)


class BusTests(DatabaseCase):
    def setUp(self) -> None:
        super().setUp()
        self.pump = Pump()

    def node(self, name: str) -> Node:
        node = Node(self.url, name, self.pump)
        self.addCleanup(node.feed.stop)
        self.pump.until(lambda: self.is_alive(name))
        return node

    def is_alive(self, name: str) -> bool:
        return bool(self.sql("SELECT 1 FROM twisted_chat.node WHERE id = %s", name))

    def test_a_message_is_told_here_at_once_and_elsewhere_soon(self) -> None:
        """In the order in which they were published, each once."""
        one, two = self.node("one"), self.node("two")
        messages = [Said(f"message {n} é \x00 😀") for n in range(500)]

        for message in messages:
            one.bus.publish(message)

        self.assertEqual(one.told, messages)
        self.pump.until(lambda: len(two.told) >= 500)
        self.assertEqual(two.told, messages)
        self.assertEqual(one.told, messages)

    def test_a_message_longer_than_a_payload(self) -> None:
        one, two = self.node("one"), self.node("two")
        long = Said("é" * 100_000)
        one.bus.publish(long)
        one.bus.publish(Said("short"))
        self.pump.until(lambda: len(two.told) == 2)
        self.assertEqual(two.told, [long, Said("short")])

    def test_the_connection_is_lost_and_comes_back(self) -> None:
        """Messages wait meanwhile, and are told once."""
        one, two = self.node("one"), self.node("two")
        one.bus.publish(Said("before"))
        self.pump.until(lambda: len(two.told) == 1)

        self.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'one'")
        for number in range(50):
            one.bus.publish(Said(f"after {number}"))

        self.pump.until(lambda: Said("after 49") in two.told)
        after = [message for message in two.told if isinstance(message, Said) and message.text != "before"]
        self.assertEqual(len(after), len(set(after)))

    def test_what_waits_is_bounded(self) -> None:
        """The oldest go first, and somebody counts them."""
        self.patch(bus, "WAITING_BYTES", 10_000)
        lonely = PostgreSQLBus[Told](
            Feed(address.parse(self.url), "x", self.pump),
            "x",
            self.pump,
            SECRET,
            encode=encode,
            decode=_decoder.decode,
            gone=Gone,
        )
        for number in range(1000):
            lonely.publish(Said(f"message {number:4} " + "x" * 50))
        self.assertGreater(lonely.dropped, 800)
        self.assertLess(lonely.dropped, 1000)

    def test_a_server_that_ends_is_gone(self) -> None:
        self.patch(bus, "BEAT_SECONDS", 0.1)
        one, two = self.node("one"), self.node("two")
        one.bus.publish(Said("hello"))
        self.pump.until(lambda: two.told)

        self.pump.answer(one.feed.stop())

        self.assertFalse(self.is_alive("one"))
        self.pump.until(lambda: Gone("one") in two.told)
        self.assertEqual(two.told, [Said("hello"), Gone("one")])

    def test_a_server_that_gives_no_sign_of_life_is_gone_until_it_does(self) -> None:
        """Nothing of it is told until then."""
        self.patch(bus, "BEAT_SECONDS", 0.1)
        one = self.node("one")
        self.sql("INSERT INTO twisted_chat.node (id) VALUES ('silent')")
        self.heartbeat("silent", "1 hour")
        self.notify("silent 1 whole " + encode([Said("I live")]).decode())
        self.pump.until(lambda: one.told)
        one.bus._trust_at = 0.0  # this server was there all the time
        self.heartbeat("silent", "-1 minute")
        self.pump.until(lambda: Gone("silent") in one.told)
        self.assertEqual(one.told, [Said("I live"), Gone("silent")])

        self.notify("silent 2 whole " + encode([Said("too late")]).decode())
        self.heartbeat("silent", "1 hour")
        self.pump.until(lambda: "silent" not in one.bus._dead)
        self.notify("silent 3 whole " + encode([Said("again")]).decode())

        self.pump.until(lambda: Said("again") in one.told)
        self.assertEqual(one.told, [Said("I live"), Gone("silent"), Said("again")])

    def test_what_is_no_message_harms_nobody(self) -> None:
        one = self.node("one")
        for said in ("nonsense", "two x whole []", "two 1 whole {", 'two 2 whole [{"type":"Other"}]'):
            self.notify(said)
        self.notify("two 3 whole " + encode([Said("hello")]).decode())
        self.pump.until(lambda: one.told)
        self.assertEqual(one.told, [Said("hello")])

    def test_a_server_that_was_cut_off_itself_declares_nobody_gone_at_once(self) -> None:
        """The others may have been cut off as well, by a database that was away."""
        self.patch(bus, "BEAT_SECONDS", 0.1)
        one = self.node("one")
        self.sql("INSERT INTO twisted_chat.node (id) VALUES ('two')")
        self.notify("two 1 whole " + encode([Said("I live")]).decode())
        self.pump.until(lambda: one.told)

        self.heartbeat("one", "-1 minute")
        self.heartbeat("two", "-1 minute")
        beats = one.bus._beat_at
        self.pump.until(lambda: one.bus._beat_at > beats + 1)

        self.assertEqual(one.told, [Said("I live")])

    def heartbeat(self, node: str, away: str) -> None:
        """The last sign of life of a server, so far from now."""
        self.sql(f"UPDATE twisted_chat.node SET heartbeat = clock_timestamp() + interval '{away}' WHERE id = %s", node)

    def test_nobody_but_the_servers_is_heard(self) -> None:
        """Whoever may connect to the database may notify, too.  It costs no memory, and one line in the log for all of it."""
        lines = LoggedEvents()
        globalLogPublisher.addObserver(lines)
        self.addCleanup(globalLogPublisher.removeObserver, lines)
        one = self.node("one")
        array = encode([Said("forged")]).decode()
        stranger = Seal(b"\x00" * 32)
        for payload in ("", " ", "é", "[" * 7_000, f"two 1 whole {array}", stranger.close(f"two 2 whole {array}")):
            self.notify_as_it_is(payload)
        self.sql(
            "SELECT count(pg_notify(%s, 'node-' || number || ' 1 first ' || repeat('x', 7800))) FROM generate_series(1, 100) AS number",
            bus.CHANNEL,
        )
        self.notify_as_it_is(stranger.close("two 999999999 whole []"))
        self.notify("two 3 whole " + encode([Said("hello")]).decode())
        self.pump.until(lambda: one.told)

        self.assertEqual(one.told, [Said("hello")])
        self.assertEqual(list(one.bus._streams), ["two"])
        loud = [line for line in lines if line["log_level"] > LogLevel.info]
        self.assertEqual([line["log_format"].partition(":")[0] for line in loud], [STRANGE])

    def notify(self, said: str) -> None:
        self.notify_as_it_is(Seal(SECRET).close(said))

    def notify_as_it_is(self, payload: str) -> None:
        self.sql("SELECT pg_notify(%s, %s)", bus.CHANNEL, payload)


class Notifier:
    """A user of the feed's connection that notifies itself each time it may work."""

    channel = "echo"

    def __init__(self) -> None:
        self.said = 0
        self.payloads: list[bytes] = []
        self.connections: list[Connection] = []

    def connected(self, connection: Connection) -> None:
        self.connections.append(connection)

    def work(self, connection: Connection) -> float:
        if self.said < 3:
            self.said += 1
            connection.execute("SELECT pg_notify('echo', %s)", (str(self.said),))
        return monotonic() + 0.05

    def leave(self, connection: Connection) -> None:
        pass

    def heard(self, payloads: list[bytes]) -> None:
        self.payloads += payloads


class FeedTests(DatabaseCase):
    """News of rooms that have grown."""

    def setUp(self) -> None:
        super().setUp()
        self.pump = Pump()
        self.news: list[tuple[str, int]] = []

    def listen(self) -> None:
        listening = Feed(address.parse(self.url), "one", self.pump)
        self.addCleanup(listening.stop)
        listening.follow(lambda heads: self.news.extend(heads.items()))
        self.pump.until(
            lambda: self.sql(
                "SELECT 1 FROM pg_stat_activity WHERE query LIKE '%SELECT pg_current_snapshot%'"
                " AND datname = current_database() AND pid <> pg_backend_pid()"
            )
        )

    def grow(self, name: str, head: int, *, quietly: bool = True) -> None:
        self.sql(
            "INSERT INTO twisted_chat.room (name, head, news, changed) VALUES (%s, %s, 1, pg_current_xact_id())"
            " ON CONFLICT (name) DO UPDATE SET head = excluded.head, changed = excluded.changed",
            name,
            head,
        )
        if not quietly:
            self.notify(msgspec.json.encode(["two-x", {name: head}]).decode())

    def notify(self, payload: str) -> None:
        self.sql("SELECT pg_notify('twisted_chat_heads', %s)", payload)

    def test_at_the_beginning_it_tells_of_all_rooms(self) -> None:
        self.grow("lobby", 3)
        self.listen()
        self.pump.until(lambda: ("lobby", 3) in self.news)

    def test_without_any_notification_it_finds_what_has_grown_and_only_that(self) -> None:
        self.patch(feed, "LOOK_SECONDS", 0.1)
        self.grow("lobby", 3)
        self.grow("tea", 1)
        self.listen()
        self.pump.until(lambda: ("tea", 1) in self.news)
        self.news.clear()

        self.grow("lobby", 4)

        self.pump.until(lambda: self.news)
        self.assertEqual(set(self.news), {("lobby", 4)})

    def test_a_transaction_that_was_slow_to_commit_is_found(self) -> None:
        """It has an older number than what was committed before it."""
        self.patch(feed, "LOOK_SECONDS", 0.1)
        self.grow("slow", 1)
        self.grow("quick", 1)
        with self.connected() as slow:
            slow.execute("BEGIN")
            slow.execute("UPDATE twisted_chat.room SET head = 2, changed = pg_current_xact_id() WHERE name = 'slow'")
            self.listen()
            self.grow("quick", 2)
            self.pump.until(lambda: ("quick", 2) in self.news)
            self.grow("quick", 3)
            self.pump.until(lambda: ("quick", 3) in self.news)
            slow.execute("COMMIT")

        self.pump.until(lambda: ("slow", 2) in self.news)

    def connected(self) -> Connection:
        return connect(address.parse(self.url), Patience())

    def test_a_notification_tells_at_once(self) -> None:
        self.patch(feed, "LOOK_SECONDS", 3600.0)
        self.listen()
        self.grow("lobby", 5, quietly=False)
        self.pump.until(lambda: ("lobby", 5) in self.news)

    def test_its_own_commits_are_no_news(self) -> None:
        self.patch(feed, "LOOK_SECONDS", 3600.0)
        self.listen()
        self.notify('["one-x",{"lobby":5}]')
        self.notify('["two-x",{"tea":1}]')
        self.pump.until(lambda: self.news)
        self.assertEqual(self.news, [("tea", 1)])

    def test_an_empty_notification_says_look(self) -> None:
        """What has grown was too much for one."""
        self.patch(feed, "LOOK_SECONDS", 3600.0)
        self.listen()
        self.grow("lobby", 5)
        self.notify("")
        self.pump.until(lambda: ("lobby", 5) in self.news)

    def test_what_arrives_while_the_connection_is_used_is_heard(self) -> None:
        """The answer to a statement and notifications come by the same connection, and nobody else keeps them."""
        self.patch(feed, "LOOK_SECONDS", 3600.0)
        listening, notifier = Feed(address.parse(self.url), "one", self.pump), Notifier()
        self.addCleanup(listening.stop)
        listening.carry(notifier)
        listening.start()
        self.pump.until(lambda: len(notifier.payloads) == 3)

        self.assertEqual(notifier.payloads, [b"1", b"2", b"3"])
        # psycopg keeps what it hears itself there since 3.2.4.
        self.assertEqual(list(getattr(notifier.connections[0], "_notifies_backlog", None) or ()), [])

    def test_what_is_no_hint_is_passed_over(self) -> None:
        """It comes from somebody else, and the connection goes on."""
        self.patch(feed, "LOOK_SECONDS", 3600.0)
        self.listen()
        for payload in ("nonsense", "[" * 7_000, '["two-x",{"lobby":null}]', "{}"):
            self.notify(payload)
        self.notify('["two-x",{"tea":1}]')
        self.pump.until(lambda: self.news)
        self.assertEqual(self.news, [("tea", 1)])
