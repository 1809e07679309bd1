"""From one socket to many through the whole chat in memory, on Twisted's real transport: sockets take what they like, when they like.

Whatever they take, in the end each member has every message once, in the order of the log, in whole frames.
"""

from __future__ import annotations

import json
from random import Random
from typing import Any

from twisted.internet import tcp
from twisted.internet.error import ConnectionDone
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from tests.harness.chat import UNBOUND, ChatHarness, MemoryConnection, guest
from tests.harness.http_memory import KEY
from tests.harness.ws_memory import PING, PONG, TEXT, FakeSocket, client_frame, server_frames, use_clock
from twisted_chat.interfaces import Admission, Dialect, Handshake
from twisted_chat.limits import Limits
from twisted_chat.websocket.factory import ChatFactory

SEEDS = 20
STEPS = 150


class Member:
    """Somebody in the lobby, on a socket that takes ``room`` bytes.

    :ivar from_seq: the number of the first message that was said after coming.
    """

    def __init__(self, number: int, dialect: Dialect, factory: ChatFactory, reactor: Any, chat: ChatHarness) -> None:
        self.dialect = dialect
        self.reactor = reactor
        self.socket = FakeSocket()
        self.received = b""
        self.pings = 0
        admission = Admission(user=guest(f"m{number}", number), dialect=dialect, room="lobby", address="192.0.2.7")
        self.protocol: Any = factory.open_socket(admission, Handshake(KEY))
        self.transport: Any = tcp.Connection(self.socket, self.protocol, reactor)  # type: ignore[arg-type]
        self.transport.connected = True
        self.transport.startReading()
        self.protocol.makeConnection(self.transport)
        self.socket.take()
        if dialect is Dialect.JSON:
            capabilities = ["batch"] * (number % 2)
            self.send(json.dumps({"type": "hello", "id": 1, "capabilities": capabilities}).encode())
            self.send(json.dumps({"type": "join", "id": 2, "room": "lobby"}).encode())
            chat.turn()
        self.from_seq = chat.core.rooms.find(guest("any"), "lobby").head + 1

    def send(self, text: bytes) -> None:
        """If the server reads."""
        if self.transport in self.reactor.readers:
            self.protocol.dataReceived(client_frame(TEXT, text))

    def ping(self) -> None:
        if self.transport in self.reactor.readers:
            self.pings += 1
            self.protocol.dataReceived(client_frame(PING, b"p"))

    def take(self, count: int | None) -> None:
        """The peer reads ``count`` bytes, or all that come from now on."""
        self.socket.room = count
        if self.transport in self.reactor.writers:
            self.transport.doWrite()
        self.received += self.socket.take()

    def leave(self) -> None:
        self.transport.connectionLost(Failure(ConnectionDone()))

    def heard(self) -> list[str]:
        """The texts that have come; fails if a frame is torn."""
        texts = []
        pongs = 0
        for opcode, payload in server_frames(self.received):
            if opcode == PONG:
                pongs += 1
            elif self.dialect is Dialect.TEXT:
                texts.append(payload.decode())
            else:
                decoded = json.loads(payload)
                for message in decoded if isinstance(decoded, list) else [decoded]:
                    if message["type"] == "event":
                        texts.append(message["text"])
        assert pongs == self.pings, (pongs, self.pings)
        return texts


class FullFromInside(MemoryConnection):
    """Takes a part and says already from inside ``send`` that it is full, as TLS written to directly does."""

    def send(self, data: bytes) -> int:
        taken = super().send(data)
        if taken < len(data) and self.session is not None:
            self.session.congested()
        return taken


class FullFromInsideTests(SynchronousTestCase):
    def test_taken_out_of_the_row_once(self) -> None:
        """Removed twice it would take others with it: they would hear nothing more, or what is not theirs."""
        for place in range(3):
            chat = ChatHarness(self)
            websockets = [FullFromInside(5) if number == place else MemoryConnection() for number in range(3)]
            members = [
                chat.plain(guest(f"m{number}", number), connection=websocket) for number, websocket in enumerate(websockets)
            ]
            writer = chat.plain(guest("writer", 9))
            said = [f"{number} hello" for number in range(6)]
            for line in said[:3]:
                writer.say(line)
            websockets[place].read()
            chat.turn()
            for line in said[3:]:
                writer.say(line)
            self.assertEqual([member.take() for member in (*members, writer)], [said] * 4)


class DeliveryTests(SynchronousTestCase):
    def test_whatever_sockets_take(self) -> None:
        """With random sockets every client gets every message once and in order."""
        for seed in range(SEEDS):
            self.story(Random(seed), UNBOUND)

    def test_far_behind(self) -> None:
        """Every reader gets every message once, also where the room forgets so soon that the log has to be read again."""
        for seed in range(SEEDS):
            self.story(Random(seed), Limits(send_per_second=0, person_per_second=0, query_per_second=0, recent_events=4))

    def story(self, random: Random, limits: Limits) -> None:
        reactor = use_clock(self)
        chat = ChatHarness(self, limits)
        factory = ChatFactory(chat.core.open_session, lambda address: None, limits, reactor=reactor)
        dialects = [Dialect.TEXT, Dialect.TEXT, Dialect.JSON, Dialect.JSON]
        members = [Member(number, dialect, factory, reactor, chat) for number, dialect in enumerate(dialects)]
        writer = Member(9, Dialect.TEXT, factory, reactor, chat)
        said: list[str] = []
        for step in range(STEPS):
            member = random.choice(members)
            match random.randrange(8):
                case 0 | 1 | 2:
                    for _ in range(random.choice((1, 1, 5, 30))):
                        said.append(f"{len(said)} " + "é" * random.choice((0, 3, 60, 2_000)))
                        writer.send(said[-1].encode())
                case 3 | 4:
                    member.take(random.choice((0, 1, 7, 100, 3_000, 100_000)))
                case 5:
                    member.take(None)
                case 6:
                    member.ping()
                case 7 if random.random() < 0.1:
                    member.leave()
                    chat.turn()
                    members[members.index(member)] = Member(10 + step, member.dialect, factory, reactor, chat)
            if random.random() < 0.7:
                chat.turn()
            writer.take(None)
        for _ in range(2_000):
            chat.turn()
            for member in members:
                member.take(None)
            if not any(member.protocol.link.congested for member in members):
                break
        chat.turn()
        for member in (writer, *members):
            member.take(None)
            self.assertEqual(member.heard(), said[member.from_seq - 1 :], f"{member.dialect}")
