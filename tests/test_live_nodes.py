"""Three servers on one PostgreSQL: restarted one after the other under load, and behind balancers that know nothing of sessions."""

from __future__ import annotations

import json
import re
import sys
from http.client import HTTPConnection, HTTPResponse
from itertools import cycle
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.request import urlopen

from twisted.internet import reactor as installed_reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.trial.unittest import SynchronousTestCase, TestCase

from tests.harness.cluster import Cluster
from tests.harness.long import LongRun
from tests.harness.postgresql import shared
from tests.harness.serving import environment
from tests.harness.waiting import until
from tests.jepsen.nodes import Balancer
from twisted_chat.client import ChatClient, Message, State

reactor: Any = installed_reactor

_ROLLING_RUN = LongRun([sys.executable, "-m", "tests.jepsen.rolling"], environment(), timeout=300)


class RollingTests(SynchronousTestCase):
    #: Begun while other tests run: it mostly waits.
    long_runs = {"test_rolling_restart": _ROLLING_RUN}

    def test_rolling_restart(self) -> None:
        """All three are restarted under 500 messages a second: nothing is lost, all move within a second, and no writer waits for long."""
        out, errors, _ = _ROLLING_RUN.result()
        self.assertTrue(out, errors)
        report = json.loads(out)

        self.assertEqual(report["wrong"], [])
        self.assertGreater(report["per_second"], 450, report)
        for restart in report["restarts"]:
            self.assertEqual(restart["status"], 0, report)
            self.assertGreaterEqual(restart["moved"], 10, report)
            self.assertLessEqual(restart["told_seconds"], 1.0, report)
            self.assertLess(restart["told_in_a_quarter_second"], 0.7 * restart["moved"], report)
            # The rest is work; a server starts in a second on an idle machine.
            work = max(1.0, restart["start_seconds"])
            self.assertLess(restart["longest_pause"], 1.0 + work, report)


class ClusterCase(TestCase):
    """One cluster for all tests of the class."""

    timeout = 60.0
    cluster: Cluster
    directory: TemporaryDirectory[str]

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.directory = TemporaryDirectory()
        cls.cluster = Cluster(Path(cls.directory.name), shared())
        cls.cluster.__enter__()

    @classmethod
    def tearDownClass(cls) -> None:
        cls.cluster.__exit__()
        cls.directory.cleanup()
        super().tearDownClass()

    def client(self, url: str, name: str, transport: Any) -> Person:
        person = Person(url, name, transport, self.id().rpartition(".")[2])
        self.addCleanup(person.client.stopService)
        person.client.startService()
        return person

    def connection(self, port: int) -> HTTPConnection:
        connection = HTTPConnection("127.0.0.1", port, timeout=30)
        self.addCleanup(connection.close)
        return connection

    def open_session(self, port: int) -> tuple[str, HTTPResponse]:
        """The id of a session by HTTP, and its stream."""
        opening = self.connection(port)
        opening.request("GET", "/api/v1/session")
        stream = opening.getresponse()
        return next_data(stream)["session"], stream

    def post(self, connection: HTTPConnection, session: str, number: int = 1) -> tuple[int, Any]:
        """Status and answer of a post."""
        body = json.dumps({"type": "ping", "id": number})
        connection.request("POST", f"/api/v1/session/{session}?n={number}", body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())

    def streams(self) -> list[int]:
        """How many sessions by HTTP each server has had."""
        return [server.stdout.count(" GET /api/v1/session 200 ") for server in self.cluster.servers]

    def not_found(self) -> list[int]:
        """How many requests each server has answered with 404."""
        return [self._not_found(port) for port in self.cluster.ports]

    def _not_found(self, port: int) -> int:
        with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
            found = re.search(r'^twisted_chat_http_answers_total\{status="404"\} ([0-9]+)', answer.read().decode(), re.MULTILINE)
        return 0 if found is None else int(found[1])


class Person:
    """A client in one room.

    :ivar read: what it was told there; ``waits`` how often it had to connect again.
    """

    def __init__(self, url: str, name: str, transport: Any, room: str) -> None:
        self.name = name
        self.client = ChatClient(reactor, url, name=name, longest_wait=0.5, transport=transport)
        self.room = self.client.room(room, history=None)
        self.read: list[tuple[int, str | None]] = []
        self.waits: list[str] = []
        self.room.on(Message, lambda event: self.read.append((event.seq, event.text)))
        self.client.watch(self._changed)

    def _changed(self, client: ChatClient) -> None:
        if client.state is State.WAITING:
            self.waits.append(str(client.problem))

    async def say(self, texts: list[str]) -> None:
        """One after the other, each when the one before is acknowledged."""
        for text in texts:
            await self.room.send(f"{self.name} {text}")


class BalancerTests(ClusterCase):
    async def talk(self, url: str) -> None:
        """Six by WebSocket and six by HTTP, on all servers, and the posts of these reach all servers, too: nobody is cut off."""
        streams_before, not_found_before = self.streams(), self.not_found()
        people = [self.client(url, f"s{number}", "websocket") for number in range(6)]
        people += [self.client(url, f"h{number}", "http") for number in range(6)]
        await gatherResults([person.room.when_joined() for person in people])

        await gatherResults([Deferred.fromCoroutine(person.say([str(number) for number in range(15)])) for person in people])
        await until(lambda: all(len(person.read) >= 15 * len(people) for person in people))

        first = people[0].read
        self.assertEqual([seq for seq, _ in first], list(range(1, 15 * len(people) + 1)))
        for person in people:
            self.assertEqual(person.read, first)
            self.assertEqual(person.waits, [], person.name)
            self.assertEqual([text for _, text in first if str(text).startswith(f"{person.name} ")][-1], f"{person.name} 14")

        # What is posted by somebody who would not try again is passed on by the balancer itself.
        port = int(url.rpartition(":")[2])
        session, _ = self.open_session(port)
        posts = [self.post(self.connection(port), session, number) for number in range(1, 13)]
        self.assertEqual(posts, [(200, {"taken": number}) for number in range(1, 13)])

        for person in people:
            await person.client.stopService()
        await until(lambda: sum(self.streams()) - sum(streams_before) >= 6)
        for now, before in zip((*self.streams(), *self.not_found()), (*streams_before, *not_found_before), strict=True):
            self.assertGreater(now, before)

    async def test_haproxy(self) -> None:
        await self.talk(self.cluster.behind_haproxy())

    async def test_nginx(self) -> None:
        await self.talk(self.cluster.behind_nginx())


class ElsewhereTests(ClusterCase):
    def test_a_post_to_another_server(self) -> None:
        """It is answered with 404 and does nothing, and the session goes on where it is."""
        here, elsewhere = self.cluster.ports[:2]
        session, stream = self.open_session(here)
        wrong, right = self.connection(elsewhere), self.connection(here)

        self.assertEqual(self.post(wrong, session)[0], 404)
        self.assertIsNone(wrong.sock, "the connection is kept")
        self.assertEqual(self.post(right, session), (200, {"taken": 1}))
        self.assertIsNotNone(right.sock)
        self.assertEqual(next_data(stream), {"type": "ok", "id": 1})

    async def test_a_balancer_that_takes_turns(self) -> None:
        """Each new connection comes to the next server: the posts find theirs, and nobody has to begin anew."""
        turns = cycle(self.cluster.ports)
        balancer = Balancer(reactor, lambda: next(turns))
        self.addCleanup(balancer.stop)
        people = [self.client(f"ws://127.0.0.1:{balancer.port}", f"h{number}", "http") for number in range(3)]
        await gatherResults([person.room.when_joined() for person in people])

        await gatherResults([Deferred.fromCoroutine(person.say([str(number) for number in range(10)])) for person in people])
        await until(lambda: all(len(person.read) >= 30 for person in people))

        for person in people:
            self.assertEqual([seq for seq, _ in person.read], list(range(1, 31)))
            self.assertEqual(person.waits, [], person.name)

    async def test_posts_that_go_elsewhere(self) -> None:
        """A client whose posts reach another server than its stream begins a new session there: nothing is lost or doubled."""
        place = [0]
        balancer = Balancer(reactor, lambda: self.cluster.ports[place[0]])
        self.addCleanup(balancer.stop)
        url = f"ws://127.0.0.1:{balancer.port}"
        alice, bob = self.client(url, "alice", "http"), self.client(f"ws://127.0.0.1:{self.cluster.ports[2]}", "bob", "websocket")
        await gatherResults([alice.room.when_joined(), bob.room.when_joined()])
        said = 0
        for place[0] in (0, 1, 2, 0):
            for pair in [pair for pair in balancer.pairs if pair.first.startswith(b"POST")]:
                pair.cut()
            await gatherResults([alice.room.send(str(number)) for number in range(said, said + 10)])
            said += 10

        await until(lambda: len(bob.read) >= said and len(alice.read) >= said)

        expected = [(number + 1, str(number)) for number in range(said)]
        self.assertEqual((alice.read, bob.read), (expected, expected))
        self.assertEqual(len([problem for problem in alice.waits if "404" in problem]), 3, alice.waits)
        self.assertEqual(balancer.reached.keys(), set(self.cluster.ports))


def next_data(stream: HTTPResponse) -> Any:
    """Of the next event."""
    while not (line := stream.readline()).startswith(b"data: "):
        assert line, "the stream has ended"
    return json.loads(line[6:])
