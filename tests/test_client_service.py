"""The life of a client: connections come and go, what it was asked for stays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed

from tests.harness.clients import ALICE, ClientCase
from twisted_chat.client import ChatClient, ClientStopped, Message, Postponed, QueueFull, Reset, State
from twisted_chat.client.sending import Sender
from twisted_chat.limits import Limits
from twisted_chat.testing import MemoryChat


class ConnectionTests(ClientCase):
    def test_states(self) -> None:
        """A watcher is told of each change of the state."""
        client = self.chat.client("alice", started=False)
        states: list[State] = []

        client.watch(lambda client: states.append(client.state))
        client.startService()
        self.chat.settle()
        self.chat.kill()
        self.chat.settle()

        self.assertIn("1006", str(client.problem))

        self.chat.start()
        self.chat.pass_time(1)
        client.stopService()
        self.chat.settle()

        self.assertEqual([state.name for state in states], ["CONNECTING", "ONLINE", "WAITING", "CONNECTING", "ONLINE", "STOPPED"])

    def test_failing_watcher(self) -> None:
        """A watcher that raises is logged and stops nothing."""
        client = self.chat.client("alice", started=False)

        client.watch(lambda _: 1 // 0)
        client.startService()
        self.chat.settle()

        self.assertIs(client.state, State.ONLINE)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 2)

    def test_when_online(self) -> None:
        """``when_online`` fires when the client is connected, and at once afterwards."""
        client = self.chat.client("alice", started=False)

        online = client.when_online()

        self.assertNoResult(online)

        client.startService()
        self.chat.settle()
        self.successResultOf(online)
        self.successResultOf(client.when_online())

    def test_stop_from_when_online(self) -> None:
        """A service may be stopped from its own callbacks."""
        client = self.chat.client("alice", started=False)
        stopped = client.when_online().addCallback(lambda _: client.stopService())

        client.watch(lambda client: client.stopService() if client.state is State.ONLINE else None)
        client.startService()
        self.chat.settle()
        self.successResultOf(stopped)

        self.assertIs(client.state, State.STOPPED)

    def test_same_guest(self) -> None:
        """A guest is the same after each reconnect, with the name that the server made up the first time."""
        client = self.client(None)
        me = client.me

        self.chat.cut()
        self.chat.pass_time(1)

        self.assertEqual(client.me, me)

    def test_token(self) -> None:
        """Who we are is said before the upgrade; a token may be fetched by a coroutine or a Deferred."""

        async def fetch() -> str:
            return "tc_alice"

        later: Deferred[str] = Deferred()
        for token in ("tc_alice", lambda: "tc_alice", fetch, lambda: later):
            client = self.client(None, token=token)
            if not later.called and client.me is None:
                later.callback("tc_alice")
                self.chat.settle()
            assert client.me is not None
            self.assertEqual((client.me.id, client.me.guest), ("u1", False))

    def test_token_not_to_be_had(self) -> None:
        """A token function that fails is tried again later."""
        answers = iter([fail(OSError("no network")), succeed("tc_alice")])

        client = self.client(None, token=lambda: next(answers))

        self.assertIs(client.state, State.WAITING)
        self.assertEqual(str(client.problem), "no token could be fetched: OSError: no network")

        self.chat.pass_time(1)
        self.assertIs(client.state, State.ONLINE)
        self.assertEqual(len(self.flushLoggedErrors(OSError)), 1)

    def test_stable(self) -> None:
        """Ten seconds of connection, and the next break is answered fast; a server that lets in and throws out is not hammered."""
        self.client()
        for _ in range(6):
            self.chat.cut()
            self.chat.pass_time(16.1)
            self.assertEqual(len(self.chat.wires), 1)
        attempts = self.chat.endpoint.attempts

        for _ in range(200):
            self.chat.pass_time(0.5)
            self.chat.cut()

        self.assertLess(self.chat.endpoint.attempts - attempts, 14)

    def test_retry_now(self) -> None:
        """A program that knows the network is back need not wait."""
        self.chat.kill()
        client = self.client()

        self.chat.pass_time(200)
        self.chat.start()
        client.retry_now()
        self.chat.settle()

        self.assertIs(client.state, State.ONLINE)

    def test_restart_of_the_server(self) -> None:
        """Everybody is told when to come back, spread out."""
        clients = [self.client(f"guest {number}") for number in range(30)]
        self.chat.stop()
        self.chat.start()
        times = []

        for client in clients:
            client.watch(lambda client: times.append(self.chat.clock.seconds()) if client.state is State.ONLINE else None)
        self.chat.pass_time(15)

        self.assertEqual([client.state for client in clients], [State.ONLINE] * 30)
        self.assertGreater(max(times) - min(times), 5)
        self.assertEqual(self.chat.endpoint.attempts, 60)

    def test_one_connection(self) -> None:
        """However often it comes back, there is at most one connection."""
        client = self.client()
        for _ in range(20):
            self.chat.wires[0].deaf = True
            self.chat.pass_time(70)
            self.assertIs(client.state, State.ONLINE)
            self.assertEqual(len(self.chat.wires), 1)
            assert self.chat.chat is not None
            self.assertEqual(len(self.chat.chat.core.sessions), 1)


class StopTests(ClientCase):
    def test_flush(self) -> None:
        """A clean stop sends what waits and says goodbye."""
        client = self.client()
        room = client.room("lobby")
        sent = [room.send(f"message {number}") for number in range(100)]
        stopped = client.stopService()

        self.chat.settle()
        self.successResultOf(stopped)

        self.assertEqual([self.successResultOf(each).seq for each in sent], list(range(1, 101)))
        self.assertEqual(self.chat.wires, [])
        assert self.chat.chat is not None
        self.assertEqual(len(self.chat.chat.core.sessions), 0)

    def test_flush_takes_too_long(self) -> None:
        """The stop ends all the same, and says what became of the rest."""
        client = self.client(flush_seconds=3.0)
        self.chat.kill()
        sent = client.room("lobby").send("hello")
        stopped = client.stopService()

        self.chat.pass_time(2.9)

        self.assertNoResult(stopped)

        self.chat.pass_time(0.2)
        self.successResultOf(stopped)

        self.failureResultOf(sent, ClientStopped)

    def test_flush_after_reconnect(self) -> None:
        """A stop in the middle of a break waits for the next connection."""
        client = self.client()
        self.chat.cut()
        sent = client.room("lobby").send("hello")
        stopped = client.stopService()

        self.chat.pass_time(1)
        self.successResultOf(stopped)

        self.assertEqual(self.successResultOf(sent).seq, 1)

    def test_deaf_server(self) -> None:
        """A goodbye that nobody answers is not waited for."""
        client = self.client()
        self.chat.wires[0].deaf = True
        stopped = client.stopService()

        self.chat.pass_time(2.1)
        self.successResultOf(stopped)

        self.assertEqual(self.chat.wires, [])

    def test_twice(self) -> None:
        """Stopping twice fires both Deferreds."""
        client = self.client()
        first, second = client.stopService(), client.stopService()

        self.chat.settle()
        self.successResultOf(first)
        self.successResultOf(second)

    def test_start_again(self) -> None:
        """A service that was stopped may be started again, with the rooms it had."""
        client = self.client()
        room = client.room("lobby")
        texts = self.seen(room)

        self.chat.settle()
        client.stopService()
        self.chat.settle()

        self.failureResultOf(room.send("while stopped"), ClientStopped)

        self.chat.say("lobby", "meanwhile")
        client.startService()
        self.chat.settle()

        self.assertEqual(texts, ["meanwhile"])

    def test_nothing_is_left(self) -> None:
        """A stopped client has no delayed call left."""
        client = self.client()

        client.room("lobby").send("hello")
        self.chat.pass_time(20)
        client.stopService()
        self.chat.settle()

        self.assertEqual([call for call in self.chat.clock.calls if "client" in repr(call.func)], [])


class QueueTests(ClientCase):
    def test_offline(self) -> None:
        """What is said offline goes out, in order, when there is a connection."""
        client = self.chat.client("alice", started=False)
        room = client.room("lobby")
        sent = [room.send(f"message {number}") for number in range(20)]

        client.startService()
        self.chat.settle()

        self.assertEqual(self.chat.texts("lobby"), [f"message {number}" for number in range(20)])
        self.assertEqual([self.successResultOf(each).seq for each in sent], list(range(1, 21)))

    def test_full(self) -> None:
        """A bounded queue says so; what is in it is not touched."""
        client = self.chat.client("alice", started=False, queue=2)
        room = client.room("lobby")
        sent = [room.send("one"), room.send("two")]

        self.failureResultOf(room.send("three"), QueueFull)

        client.startService()
        self.chat.settle()

        self.assertEqual([self.successResultOf(each).text for each in sent], ["one", "two"])
        self.assertNoResult(room.send("four"))

    def test_lost_acknowledgements(self) -> None:
        """The server keeps the messages and its answers are lost: each is in the log once."""
        self.assert_once_over_lost_answers(self.client())

    def test_order_over_breaks(self) -> None:
        """Breaks at any moment: nothing lost, doubled or out of order, at the writer, in the log, and at a reader."""
        chat = MemoryChat(latency=0.01)
        alice, bob = chat.client("alice"), chat.client("bob")
        texts = self.seen(bob.room("lobby", history=None))
        room = alice.room("lobby")
        sent: list[Deferred[Any]] = []

        for step in range(300):
            sent.append(room.send(str(step)))
            chat.pass_time(0.013)
            if step % 7 == 3:
                for wire in chat.wires[step % 2 :]:
                    wire.cut()
            elif step % 50 == 11:
                chat.kill()
                chat.pass_time(0.3)
                chat.start()
        chat.pass_time(60)
        expected = [str(step) for step in range(300)]

        self.assertEqual(chat.texts("lobby"), expected)
        self.assertEqual(texts, expected)
        self.assertEqual([self.successResultOf(each).seq for each in sent], list(range(1, 301)))

    def test_said_while_the_server_closes(self) -> None:
        """Between the server's close frame and the end of the connection nothing can be sent; it waits for the next one."""
        chat = MemoryChat(latency=0.01)
        room = chat.client("alice").room("lobby")

        chat.pass_time(1)
        chat.stop()
        chat.pass_time(0.012)
        for number in range(60):
            room.send(str(number))
            chat.pass_time(0.001)
        chat.start()
        chat.pass_time(20)

        self.assertEqual(chat.texts("lobby"), [str(number) for number in range(60)])

    def test_rate(self) -> None:
        """The announced rate is kept, so that nothing is refused and the order holds."""
        self.chat = MemoryChat(limits=Limits(send_burst=5, send_per_second=10.0, person_per_second=0))
        client = self.client()
        room = client.room("lobby")
        refused: list[object] = []

        self.patch(Sender, "post_refused", lambda *args: refused.append(args))
        for number in range(50):
            room.send(str(number))
        self.chat.pass_time(2)

        self.assertLess(len(self.chat.texts("lobby")), 30)

        self.chat.pass_time(4)
        self.assertEqual(self.chat.texts("lobby"), [str(number) for number in range(50)])
        self.assertEqual(refused, [])

    def test_rate_of_a_person(self) -> None:
        """Another connection of the same person uses up what both may: it is tried again, in order."""
        self.chat = MemoryChat(
            people={"tc_alice": ALICE}, limits=Limits(send_per_second=0, person_burst=3, person_per_second=5.0)
        )
        rooms = [self.client(None, token="tc_alice").room(name) for name in ("one", "two")]

        for number in range(20):
            for room in rooms:
                room.send(str(number))
        self.chat.pass_time(60)
        for room in rooms:
            self.assertEqual(self.chat.texts(room.name), [str(number) for number in range(20)])


class JournalTests(ClientCase):
    def test_killed(self) -> None:
        """The program is killed with messages accepted: the next run sends them, once, as the same guest."""
        path = self.mktemp()
        first = self.client(journal=path)
        room = first.room("lobby")
        self.chat.settle()
        self.chat.wires[0].mute = True
        kept = [room.send("kept by the server"), room.send("too")]
        self.chat.settle()
        self.chat.kill()
        lost = room.send("never sent")
        self.vanish(first)
        self.chat.start()
        second = self.client(journal=path)

        self.chat.settle()

        self.assertEqual(self.chat.texts("lobby"), ["kept by the server", "too", "never sent"])
        self.assertEqual(second.me, first.me)
        self.assertEqual(len(second.outbox), 0)

        for each in (*kept, lost):
            self.assertNoResult(each)

    def vanish(self, client: ChatClient) -> None:
        """As kill -9: it does nothing any more, and lets go of the file."""
        self.chat.clock.calls = [call for call in self.chat.clock.calls if "client" not in repr(call.func)]
        for wire in self.chat.wires:
            wire.client.protocol = None
            wire.cut()
        client.kept.close()

    def test_cursor(self) -> None:
        """Reading goes on where the last run stopped; what it had not finished comes again."""
        path = self.mktemp()
        first = self.client(journal=path)
        unfinished: Deferred[None] = Deferred()
        first.room("lobby").on(Message, lambda event: unfinished if event.text == "two" else None)
        self.chat.settle()
        for text in ("one", "two", "three"):
            self.chat.say("lobby", text)
        self.chat.settle()
        self.vanish(first)
        self.chat.say("lobby", "four")
        second = self.client(journal=path)
        texts = self.seen(second.room("lobby"))

        self.chat.settle()

        self.assertEqual(texts, ["two", "three", "four"])

    def test_stopped(self) -> None:
        """A stop with messages left: they are postponed, and say so."""
        path = self.mktemp()
        client = self.client(journal=path, flush_seconds=1.0)
        self.chat.kill()
        sent = client.room("lobby").send("hello")

        client.stopService()
        self.chat.pass_time(2)

        self.assertIn("goes out at the next start", str(self.failureResultOf(sent, Postponed).value))

        self.chat.start()
        client.startService()
        self.chat.settle()

        self.assertEqual(self.chat.texts("lobby"), ["hello"])

    def test_own_key(self) -> None:
        """A program that names its messages may say them again after anything: they are in the log once."""
        path = self.mktemp()
        client = self.client(journal=path)
        room = client.room("lobby")
        first, second = room.send("line 1", key="log:1"), room.send("line 1", key="log:1")

        self.chat.settle()

        self.assertEqual(self.successResultOf(first), self.successResultOf(second))

        third = room.send("line 1", key="log:1")
        self.chat.settle()

        self.assertEqual(self.successResultOf(third).seq, 1)
        self.assertEqual(self.chat.texts("lobby"), ["line 1"])

    def test_refused_later(self) -> None:
        """What an earlier run accepted and the server refuses is logged; nobody else is there to be told."""
        path = self.mktemp()
        Path(path).write_text('{"device":"a-device"}\n{"put":{"type":"send","room":"lobby","key":"k","text":""}}\n')
        client = self.client(journal=path)

        self.chat.settle()

        self.assertEqual(len(client.outbox), 0)

        client.stopService()
        self.chat.settle()

        self.assertNotIn('"put"', self.written_anew(path))

    def written_anew(self, path: str) -> str:
        client = self.chat.client("alice", journal=path)
        self.chat.settle()
        client.stopService()
        self.chat.settle()
        return Path(path).read_text()


class ResetTests(ClientCase):
    def test_another_database(self) -> None:
        """What was read is worth nothing any more: the program is told, and reads what there is."""
        client = self.client()
        room = client.room("lobby", history=None)
        texts, resets = self.seen(room), []
        room.on(Reset, lambda reset: resets.append(reset.why))
        self.chat.say("lobby", "old")
        self.chat.settle()
        self.chat.kill()
        other = MemoryChat(clock=self.chat.clock)
        other.say("lobby", "new 1")
        other.say("lobby", "new 2")
        other.settle()
        self.chat.store = other.store

        self.chat.start()
        self.chat.pass_time(1)

        self.assertEqual((texts, resets), (["old", "new 1", "new 2"], ["epoch"]))
