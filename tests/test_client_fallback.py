"""Networks that let no WebSocket through: the client goes by HTTP with the same promises, and returns when one comes through."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred

from tests.harness.clients import ClientCase
from tests.harness.network import Network
from twisted_chat.client import ChatClient, ClientEnded, Closed, HandshakeRefused, State
from twisted_chat.client.fallback import FIRST_TRIAL, LONGEST_TRIAL
from twisted_chat.testing import MemoryChat


class FallbackCase(ClientCase):
    def network(self, block: str) -> Network:
        network = Network(lambda: None if self.chat.chat is None else self.chat.chat.site, block)
        self.chat.instead = network
        return network


class FallingBackTests(FallbackCase):
    def falls_back(self, block: str, seconds: float = 0.0) -> ChatClient:
        network = self.network(block)
        client = self.client()
        self.chat.pass_time(seconds)
        self.assertEqual((client.state, client.transport), (State.ONLINE, "http"), client.problem)
        self.assertGreaterEqual(network.tried, 1)
        sent = client.room("lobby").send("hello")
        self.chat.settle()
        self.assertEqual(self.successResultOf(sent).seq, 1)
        return client

    def test_refused(self) -> None:
        """Whoever refuses the handshake is not the chat: it goes by HTTP at once."""
        for status in ("403 Forbidden", "502 Bad Gateway", "200 OK", "426 Upgrade Required", "400 Bad Request", "404 Not Found"):
            self.setUp()
            self.falls_back(status)

    def test_stripped(self) -> None:
        """Something takes the upgrade out of the request, and our own server says so."""
        self.falls_back("stripped")

    def test_hangs(self) -> None:
        """A handshake without an answer takes half of the time there is for a connection."""
        self.falls_back("hangs", 5.1)

    def test_silent(self) -> None:
        """The handshake gets through, and then nothing does."""
        self.falls_back("silent", 5.1)

    def test_token(self) -> None:
        """A token is shown by HTTP as it is by WebSocket."""
        self.network("403 Forbidden")
        client = self.client(None, token="tc_alice")
        assert client.me is not None

        self.assertEqual((client.transport, client.me.id), ("http", "u1"))

    def test_one_client(self) -> None:
        """A client that goes by HTTP is one session, also after many breaks."""
        self.network("403 Forbidden")
        client = self.client()
        for _ in range(5):
            self.chat.cut()
            self.chat.pass_time(16)
            self.assertIs(client.state, State.ONLINE)
            assert self.chat.chat is not None
            self.assertEqual(len(self.chat.chat.core.sessions), 1)

    def test_what_is_remembered(self) -> None:
        """After a break the client begins by HTTP, where no WebSocket came through before."""
        network = self.network("hangs")
        client = self.client()
        self.chat.pass_time(20)
        network.tried = 0
        self.chat.cut()

        self.chat.pass_time(1)

        self.assertEqual((client.state, client.transport, network.tried), (State.ONLINE, "http", 0))

    def test_what_is_remembered_wrongly(self) -> None:
        """On another network, where only WebSockets come through, the client finds its way all the same."""
        network = self.network("403 Forbidden")
        client = self.client()
        network.block, network.http = "", "502 Bad Gateway"
        self.chat.cut()

        self.chat.pass_time(5)

        self.assertEqual((client.state, client.transport), (State.ONLINE, "websocket"))

    def test_break_while_asking_by_http(self) -> None:
        """A 403 of something in between is not the end while HTTP may still come through."""
        network = self.network("403 Forbidden")
        network.http = "hangs"
        client = self.client()

        self.assertEqual((client.state, client.transport), (State.CONNECTING, "http"))

        self.chat.cut()
        self.chat.settle()

        self.assertIs(client.state, State.WAITING)

        network.http = ""
        self.chat.pass_time(1)

        self.assertEqual((client.state, client.transport), (State.ONLINE, "http"))

    def test_forbidden_by_both_ways(self) -> None:
        """Where something in between forbids both ways for good, there is nothing to wait for."""
        network = self.network("403 Forbidden")
        network.http = network.block
        client = self.client()

        self.assertIs(client.state, State.ENDED)
        self.assertEqual(self.chat.endpoint.attempts, 2)


class NotFallingBackTests(FallbackCase):
    def test_down(self) -> None:
        """Where nobody listens there is nothing to try by HTTP."""
        self.chat.kill()
        client = self.client()

        self.assertEqual((client.state, client.transport), (State.WAITING, "websocket"))
        self.assertEqual(self.chat.endpoint.attempts, 1)

    def test_down_behind_a_proxy(self) -> None:
        """A proxy whose server is down says the same by both ways: the WebSocket's problem counts, and no way is remembered."""
        network = self.network("502 Bad Gateway")
        network.http = network.block
        client = self.client()

        self.assertEqual((client.state, client.transport), (State.WAITING, "websocket"))
        assert isinstance(client.problem, HandshakeRefused)
        self.assertEqual((client.problem.status, self.chat.endpoint.attempts), (502, 2))

        network.http = network.block = ""
        self.chat.pass_time(1)

        self.assertEqual((client.state, client.transport), (State.ONLINE, "websocket"))

    def test_paused(self) -> None:
        """A server that is there and says nothing is given up after the time for a connection, as ever."""
        network = self.network("hangs")
        network.http = network.block
        client = self.client()

        self.chat.pass_time(9.9)

        self.assertIs(client.state, State.CONNECTING)

        self.chat.pass_time(0.2)

        self.assertEqual((client.state, client.transport), (State.WAITING, "websocket"))
        self.assertEqual(self.chat.wires, [])

    def test_asked_to_wait(self) -> None:
        """Whoever says when to come back is not asked by another way at once."""
        network = self.network("503 Busy\r\nRetry-After: 20")
        client = self.client()

        self.assertEqual((client.state, self.chat.endpoint.attempts), (State.WAITING, 1))

        network.block = ""
        self.chat.pass_time(21)

        self.assertEqual((client.state, client.transport), (State.ONLINE, "websocket"))

    def test_our_own_refusal(self) -> None:
        """What the chat itself refuses is refused by every way."""
        client = self.client(None, token="tc_nobody")

        self.assertIs(client.state, State.ENDED)
        self.assertEqual(self.chat.endpoint.attempts, 1)
        self.failureResultOf(client.when_online(), ClientEnded)

    def test_refused_by_http(self) -> None:
        """What the chat says by HTTP counts, where no WebSocket gets to it."""
        self.network("403 Forbidden")
        client = self.client(None, token="tc_nobody")

        self.assertIs(client.state, State.ENDED)
        assert isinstance(client.problem, HandshakeRefused)
        self.assertEqual(client.problem.status, 401)

    def test_stop_while_falling_back(self) -> None:
        """A client that is stopped while it asks by HTTP leaves nothing behind."""
        network = self.network("hangs")
        network.http = network.block
        client = self.client()
        self.chat.pass_time(7)
        stopped = client.stopService()

        self.chat.settle()

        self.successResultOf(stopped)
        self.assertEqual(self.chat.wires, [])


class ForcedTests(FallbackCase):
    def test_http(self) -> None:
        """A client that is to go by HTTP never tries a WebSocket."""
        network = self.network("")
        client = self.client(transport="http")

        self.chat.pass_time(2 * LONGEST_TRIAL)

        self.assertEqual((client.state, client.transport, network.tried), (State.ONLINE, "http", 0))

    def test_websocket(self) -> None:
        """A client that is to go by WebSocket never asks by HTTP."""
        self.network("502 Bad Gateway")
        client = self.client(transport="websocket")

        self.assertEqual((client.state, client.transport), (State.WAITING, "websocket"))
        self.assertEqual(self.chat.endpoint.attempts, 1)

    def test_hello_refused(self) -> None:
        """What is wrong with the hello is told by every way."""
        for transport in ("websocket", "http", "auto"):
            client = self.client("x" * 300, transport=transport)
            self.assertIs(client.state, State.ENDED)
            self.assertIn("hello: ", str(client.problem))

    def test_nonsense(self) -> None:
        """An unknown transport is refused with the known ones."""
        with self.assertRaises(ValueError) as caught:
            self.chat.client("alice", transport="pigeon")
        self.assertIn("transport: 'pigeon' is none of auto, websocket, http", str(caught.exception))


class ReturningTests(FallbackCase):
    def test_returns(self) -> None:
        """When the block is lifted the client moves: online all the time, and nothing is missed, doubled or out of order."""
        network = self.network("403 Forbidden")
        alice, bob = self.client("alice"), self.client("bob")
        texts = self.seen(bob.room("lobby", history=None))
        room = alice.room("lobby")
        states: list[tuple[State, str]] = []
        alice.watch(lambda client: states.append((client.state, client.transport)))
        sent: list[Deferred[Any]] = []
        network.block = ""

        for number in range(200):
            sent.append(room.send(str(number)))
            self.chat.pass_time(FIRST_TRIAL / 100)
        self.chat.pass_time(1)

        self.assertEqual((alice.transport, bob.transport), ("websocket", "websocket"))
        self.assertEqual(states, [(State.ONLINE, "websocket")])
        expected = [str(number) for number in range(200)]
        self.assertEqual(self.chat.texts("lobby"), expected)
        self.assertEqual(texts, expected)
        self.assertEqual([self.successResultOf(each).seq for each in sent], list(range(1, 201)))
        assert self.chat.chat is not None
        self.assertEqual((len(self.chat.chat.core.sessions), len(self.chat.wires)), (2, 2))

    def test_trials(self) -> None:
        """A WebSocket is tried at once, because the server may just have started, and then more and more seldom."""
        network = self.network("403 Forbidden")
        client = self.client()

        self.assertEqual(network.tried, 2)
        for minutes in (1, 2, 4, 8, 10, 10):
            self.chat.pass_time(60 * minutes)
            network_tried, network.tried = network.tried, 0
            self.assertLessEqual(network_tried, 3)
            self.assertEqual((client.state, client.transport), (State.ONLINE, "http"))

    def test_retry_now(self) -> None:
        """A program that knows of another network need not wait."""
        network = self.network("403 Forbidden")
        client = self.client()
        network.block = ""

        self.chat.pass_time(1)

        self.assertEqual(client.transport, "http")

        client.retry_now()
        self.chat.settle()

        self.assertEqual((client.state, client.transport), (State.ONLINE, "websocket"))

    def test_silent_trial(self) -> None:
        """A WebSocket whose handshake alone gets through is none."""
        network = self.network("silent")
        client = self.client()

        self.chat.pass_time(6 + FIRST_TRIAL)

        self.assertEqual((client.state, client.transport), (State.ONLINE, "http"))
        self.assertGreaterEqual(network.tried, 2)

    def test_break_while_trying(self) -> None:
        """The session breaks while a WebSocket hangs that was tried beside it: that is no connection, and nothing is left of it."""
        self.network("hangs")
        client = self.client()

        self.chat.pass_time(5.5)

        self.assertEqual(client.transport, "http")

        self.chat.cut()
        self.chat.pass_time(12)

        self.assertIs(client.state, State.ONLINE)

    def test_stop_while_trying(self) -> None:
        """A client that is stopped while a WebSocket is tried leaves nothing behind."""
        self.network("hangs")
        client = self.client()
        self.chat.pass_time(5.5)
        stopped = client.stopService()

        self.chat.pass_time(1)

        self.successResultOf(stopped)
        self.assertEqual(self.chat.wires, [])
        self.assertEqual([call for call in self.chat.clock.calls if "client" in repr(call.func)], [])

    def test_stop_while_moving(self) -> None:
        """A client may be stopped at any moment of the move."""
        for hundredths in range(1, 20):
            self.chat = MemoryChat(latency=0.01)
            network = self.network("403 Forbidden")
            client = self.chat.client("alice")
            self.chat.pass_time(1)
            self.assertEqual(client.transport, "http")
            network.block = ""
            client.retry_now()
            self.chat.pass_time(hundredths / 100)
            stopped = client.stopService()
            self.chat.pass_time(3)
            self.successResultOf(stopped)
            self.assertEqual(self.chat.wires, [])
            self.assertEqual([call for call in self.chat.clock.calls if "client" in repr(call.func)], [])

    def test_break_while_moving(self) -> None:
        """The network may break at any moment of the move."""
        for hundredths in range(1, 20):
            self.chat = MemoryChat(latency=0.01)
            network = self.network("403 Forbidden")
            client = self.chat.client("alice")
            self.chat.pass_time(1)
            network.block = ""
            client.retry_now()
            sent = client.room("lobby").send("hello")
            self.chat.pass_time(hundredths / 100)
            self.chat.cut()
            self.chat.pass_time(3)
            self.assertEqual((client.state, client.transport), (State.ONLINE, "websocket"))
            self.assertEqual(self.successResultOf(sent).seq, 1)
            self.assertEqual(self.chat.texts("lobby"), ["hello"])


class PromisesTests(FallbackCase):
    def test_order_over_breaks(self) -> None:
        """Breaks at any moment, on a network that changes its mind: nothing lost, doubled or out of order, anywhere."""
        self.chat = MemoryChat(latency=0.01)
        network = self.network("403 Forbidden")
        alice, bob = self.chat.client("alice"), self.chat.client("bob")
        texts = self.seen(bob.room("lobby", history=None))
        room = alice.room("lobby")
        sent: list[Deferred[Any]] = []

        for step in range(300):
            sent.append(room.send(str(step)))
            self.chat.pass_time(0.013)
            if step % 7 == 3:
                for wire in self.chat.wires[step % 3 :: 2]:
                    wire.cut()
            elif step % 50 == 11:
                self.chat.kill()
                self.chat.pass_time(0.3)
                self.chat.start()
            elif step % 40 == 20:
                network.block = "" if network.block else "403 Forbidden"
        self.chat.pass_time(60)
        expected = [str(step) for step in range(300)]

        self.assertEqual(self.chat.texts("lobby"), expected)
        self.assertEqual(texts, expected)
        self.assertEqual([self.successResultOf(each).seq for each in sent], list(range(1, 301)))

    def test_lost_acknowledgements(self) -> None:
        """The server keeps the messages and its answers are lost: each is in the log once."""
        self.assert_once_over_lost_answers(self.client(transport="http"))

    def test_restart(self) -> None:
        """A server that is about to restart says by HTTP, too, when to come back."""
        client = self.client(transport="http")
        self.chat.stop()
        self.chat.settle()
        assert isinstance(client.problem, Closed)

        self.assertEqual(client.problem.reason, "restart")
        self.assertGreater(client.problem.retry_after, 0)

    def test_clean_stop(self) -> None:
        """A clean stop posts what waits and says goodbye."""
        client = self.client(transport="http")
        room = client.room("lobby")
        sent = [room.send(f"message {number}") for number in range(100)]
        stopped = client.stopService()

        self.chat.pass_time(1)
        self.successResultOf(stopped)

        self.assertEqual([self.successResultOf(each).seq for each in sent], list(range(1, 101)))
        self.assertEqual(self.chat.wires, [])
        assert self.chat.chat is not None
        self.assertEqual(len(self.chat.chat.core.sessions), 0)
