"""``twistd -n chat`` as a process: how it starts, what it says when it cannot, how it ends."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import sqlite3
import ssl
import stat
import subprocess
import tempfile
import time
from pathlib import Path

from twisted.trial.unittest import SkipTest, SynchronousTestCase
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, unix_connect

from tests.harness.certificates import make_certificate
from tests.harness.servers import connect
from tests.harness.serving import TWISTD, NotReady, Served, ServedCase, environment, run
from tests.harness.waiting import wait_until
from twisted_chat.minting import Minted, mint
from twisted_chat.stores.urls import make_shared_tokens


class StartTests(SynchronousTestCase):
    def test_start_block(self) -> None:
        """Without options one short block says where the page is, what to try, where the data is, how to stop."""
        directory = self.mktemp()
        with Served(directory) as server:
            block = server.stdout[server.stdout.index("twisted_chat 0") :].splitlines()
            self.assertLess(len(block), 10)
            self.assertRegex("\n".join(block), rf"  Page       {server.url}\n")
            self.assertIn(f'new WebSocket("{server.websocket}")', server.stdout)
            self.assertIn(f"  Data       {os.path.realpath(directory)}/chat.db", server.stdout)
            self.assertIn(f"kill {server.process.pid}", server.stdout)
            self.assertIn('origin "null"', server.stdout)
            self.assertEqual(server.stderr, "")

    def test_no_word_of_pages_from_disk(self) -> None:
        """Pages opened from disk are accepted only out of the box, and only then it is said."""
        with Served(self.mktemp(), "--no-guests") as server:
            self.assertNotIn("null", server.stdout)

    def test_state_directory(self) -> None:
        """systemd says where the data belongs; the mode of the file keeps others out."""
        state = Path(self.mktemp()).absolute()
        state.mkdir()
        with Served(self.mktemp(), STATE_DIRECTORY=str(state)) as server:
            self.assertIn(f"  Data       {state}/chat.db", server.stdout)
            self.assertEqual(stat.S_IMODE((state / "chat.db").stat().st_mode) & 0o007, 0)

    def test_two_people_chat(self) -> None:
        """Two people in a room both see what one sends."""
        with Served(self.mktemp()) as server, connect(server.websocket) as alice, connect(server.websocket + "/ws") as bob:
            alice.send("hello")
            self.assertEqual([alice.recv(5), bob.recv(5)], ["hello", "hello"])

    def test_json_log(self) -> None:
        """Each line of the log is one flat object."""
        with Served(self.mktemp(), "--log-format", "json") as server:
            self.assertEqual(server.end(), 0)
            lines = [json.loads(line) for line in server.stdout.splitlines()]
        serving = next(line for line in lines if line["message"].startswith("Serving"))

        self.assertEqual((serving["logger"], serving["level"]), ("service", "info"))
        self.assertTrue(all(not isinstance(value, dict | list) for line in lines for value in line.values()))

    def test_descriptors(self) -> None:
        """The soft limit of open files is raised to the hard one."""
        with Served(self.mktemp()) as server:
            limits = Path(f"/proc/{server.process.pid}/limits").read_text()
        found = re.search(r"Max open files +(\d+) +(\d+)", limits)
        assert found is not None

        self.assertEqual(found[1], found[2])

    def test_unix_socket(self) -> None:
        """The server serves a Unix socket, over which pages from disk are not accepted."""
        path = f"{tempfile.gettempdir()}/twisted-chat-test-{os.getpid()}"  # the path of a Unix socket is short
        self.addCleanup(Path(path).unlink, missing_ok=True)
        with Served(self.mktemp(), "--listen", f"unix:{path}") as server, unix_connect(path, "ws://localhost/") as alice:
            alice.send("hello")
            self.assertEqual(alice.recv(5), "hello")
            self.assertNotIn("null", server.stdout)
            self.assertEqual(server.end(), 0)

    def test_unix_socket_left_behind(self) -> None:
        """A server that was killed leaves its socket; the next one takes it."""
        path = f"{tempfile.gettempdir()}/twisted-chat-left-{os.getpid()}"
        for name in (path, path + ".lock"):
            self.addCleanup(Path(name).unlink, missing_ok=True)
        directory = self.mktemp()

        with Served(directory, "--listen", f"unix:{path}") as server:
            server.end(signal.SIGKILL)
        with Served(directory, "--listen", f"unix:{path}") as server, unix_connect(path, "ws://localhost/") as alice:
            alice.send("hello")
            self.assertEqual(alice.recv(5), "hello")
            self.assertEqual(server.end(), 0)

    def test_module(self) -> None:
        """``python -m twisted_chat`` is the same command."""
        shown = subprocess.run(
            [*TWISTD[:1], "-m", "twisted_chat", "--version"],
            env=environment(),
            capture_output=True,
            text=True,
            check=True,
        )
        self.assertRegex(shown.stdout, r"^twisted_chat \d")

    def test_help(self) -> None:
        """``--help`` lists the options within 100 columns."""
        shown = run(self.mktemp(), ["--help"])

        self.assertEqual(shown.returncode, 0)
        self.assertIn("--listen=", shown.stdout)
        self.assertLess(max(map(len, shown.stdout.splitlines())), 101)


class StartErrorTests(SynchronousTestCase):
    """One line with cause and cure, exit status 1, no traceback."""

    def line(self, *arguments: str, directory: str | None = None, **environ: str) -> str:
        ended = run(directory or self.mktemp(), arguments, **environ)
        self.assertEqual(ended.returncode, 1, ended.stdout)
        self.assertNotIn("Traceback", ended.stdout + ended.stderr)
        self.assertEqual(len(ended.stderr.splitlines()), 1, ended.stderr)
        self.assertTrue(ended.stderr.startswith("twisted_chat: "))
        return ended.stderr.strip().removeprefix("twisted_chat: ")

    def test_configuration(self) -> None:
        """Misspelt options and variables, and a missing file, are one line with the remedy."""
        self.assertEqual(self.line("--lisen=tcp:1"), "--lisen: no such option; did you mean --listen?")
        self.assertIn("/nowhere.toml: cannot be read", self.line("--config=/nowhere.toml"))
        self.assertIn("did you mean TWISTED_CHAT_STORE?", self.line(TWISTED_CHAT_STOR="x"))

    def test_endpoint(self) -> None:
        """An endpoint string that Twisted does not understand is one line."""
        self.assertIn("tpc:8080: is no endpoint", self.line("--listen=tpc:8080"))
        self.assertIn("tcp:http: is no endpoint", self.line("--listen=tcp:http"))
        self.assertIn("tcp:0:interfce=localhost: is no endpoint", self.line("--listen=tcp:0:interfce=localhost"))

    def test_address_of_another_machine(self) -> None:
        """An address that this machine does not have is one line with the cause."""
        self.assertIn("this machine does not have that address", self.line("--listen=tcp:0:interface=192.0.2.1"))

    def test_port_taken(self) -> None:
        """A port that is taken is one line with the remedy."""
        with socket.create_server(("127.0.0.1", 0)) as other:
            endpoint = f"tcp:{other.getsockname()[1]}:interface=127.0.0.1"
            self.assertRegex(self.line("--listen", endpoint), rf"^{endpoint}: Address already in use; stop the other program or ")

    def test_second_of_two_ports_taken(self) -> None:
        """A start with two ports of which the second is taken fails, and names it."""
        with socket.create_server(("127.0.0.1", 0)) as other:
            endpoint = f"tcp:{other.getsockname()[1]}:interface=127.0.0.1"
            self.assertIn(endpoint, self.line("--listen=tcp:0:interface=127.0.0.1", "--listen", endpoint))

    def test_systemd_without_socket(self) -> None:
        """A missing socket of systemd is one line with its name."""
        self.assertIn("systemd passed no socket named chat", self.line("--listen=systemd:domain=INET6:name=chat"))

    def test_tls_key(self) -> None:
        """A key that is missing, broken or another certificate's is one line."""
        directory = Path(self.mktemp()).absolute()

        directory.mkdir()
        key, certificate = make_certificate(directory)
        other_key, _ = make_certificate(directory, "other")
        missing = f"ssl:0:interface=127.0.0.1:privateKey={directory}/none.pem:certKey={certificate}"

        self.assertIn("none.pem: No such file", self.line("--listen", missing))

        (directory / "broken.pem").write_text("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")
        broken = f"ssl:0:interface=127.0.0.1:privateKey={directory}/broken.pem:certKey={certificate}"

        self.assertIn("TLS key or certificate cannot be used", self.line("--listen", broken))

        unfit = f"ssl:0:interface=127.0.0.1:privateKey={other_key}:certKey={certificate}"
        self.assertIn("TLS key or certificate cannot be used", self.line("--listen", unfit))

    def test_jwt_key(self) -> None:
        """A key file that cannot be read is one line with its path."""
        self.assertIn("/nowhere: cannot be read", self.line("--jwt-keys=HS256:/nowhere", "--listen=tcp:0:interface=127.0.0.1"))

    def test_store(self) -> None:
        """What stores there are is said when another one is asked for."""
        line = self.line("--store=mysql:chat", "--listen=tcp:0:interface=127.0.0.1")
        self.assertIn("sqlite:", line)

    def test_directory_not_writable(self) -> None:
        """A store that cannot be written is one line with its path."""
        free = "--listen=tcp:0:interface=127.0.0.1"
        self.assertIn("/nowhere/at/all", self.line(free, "--store=sqlite:/nowhere/at/all/chat.db"))
        self.assertIn("/proc/chat.db cannot be written", self.line(free, "--store=sqlite:/proc/chat.db"))

    def test_damaged_database(self) -> None:
        """A file that is no database is one line with its path."""
        directory = Path(self.mktemp()).absolute()

        directory.mkdir()
        (directory / "chat.db").write_bytes(b"this was a database once" * 1000)
        line = self.line("--listen=tcp:0:interface=127.0.0.1", directory=str(directory))

        self.assertIn("chat.db", line)

    def test_newer_database(self) -> None:
        """A database of a newer version is refused, and the line says so."""
        directory = self.mktemp()

        with Served(directory) as server:
            self.assertEqual(server.end(), 0)
        with sqlite3.connect(Path(directory) / "chat.db") as database:
            (version,) = database.execute("PRAGMA user_version").fetchone()
            self.assertGreater(version, 0)
            database.execute(f"PRAGMA user_version = {version + 1000}")
        database.close()

        self.assertIn("newer", self.line("--listen=tcp:0:interface=127.0.0.1", directory=directory))

    def test_second_server_on_the_same_file(self) -> None:
        """A second server on the same database is refused, and the first one goes on."""
        directory = self.mktemp()
        with Served(directory) as server:
            line = self.line("--listen=tcp:0:interface=127.0.0.1", directory=directory)
            self.assertIn("chat.db", line)
            self.assertIsNone(server.process.poll())

    def test_daemon(self) -> None:
        """Without ``-n`` the shell is told of a taken port, too."""
        directory = self.mktemp()

        Path(directory).mkdir()
        with socket.create_server(("127.0.0.1", 0)) as other:
            endpoint = f"tcp:{other.getsockname()[1]}:interface=127.0.0.1"
            command = [*TWISTD, "chat", "--listen", endpoint]
            ended = subprocess.run(
                command, cwd=directory, env=environment(), capture_output=True, text=True, timeout=30, check=False
            )

        self.assertEqual(ended.returncode, 1)
        self.assertIn("Address already in use", ended.stderr)


class DaemonTests(SynchronousTestCase):
    """Without ``-n``: log and process id are files in the working directory."""

    def twistd(self, directory: Path, *arguments: str) -> int:
        command = [*TWISTD, "chat", "--listen=tcp:0:interface=127.0.0.1", *arguments]
        ended = subprocess.run(command, cwd=directory, env=environment(), capture_output=True, timeout=30, check=False)
        return ended.returncode

    def test_life(self) -> None:
        """As a daemon the server writes log and pid file, serves, and ends at SIGTERM."""
        directory = Path(self.mktemp()).absolute()

        directory.mkdir()
        log = directory / "twistd.log"

        self.assertEqual(self.twistd(directory), 0)

        wait_until(lambda: "Serving on" in log.read_text())
        found = re.search(r"Serving on http(\S+);", log.read_text())
        assert found is not None
        with connect(f"ws{found[1]}") as alice:
            alice.send("hello")
            self.assertEqual(alice.recv(5), "hello")
        os.kill(int((directory / "twistd.pid").read_text()), signal.SIGTERM)
        wait_until(lambda: not (directory / "twistd.pid").exists())

        self.assertIn("Server Shut Down", log.read_text())

    def test_failed_start(self) -> None:
        """A start that fails leaves its reason in the log and no file with a process id."""
        directory = Path(self.mktemp()).absolute()

        directory.mkdir()

        self.assertEqual(self.twistd(directory, "--store=mysql:chat"), 0)

        wait_until(lambda: "Server Shut Down" in (directory / "twistd.log").read_text())
        self.assertIn("critical service: --store mysql:chat: no such kind of store", (directory / "twistd.log").read_text())

        wait_until(lambda: not (directory / "twistd.pid").exists())


class TokenTests(SynchronousTestCase):
    """Tokens are made and revoked by another process, on the same file, while the server runs."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).absolute()
        self.server = Served(self.directory)
        self.server.__enter__()
        self.addCleanup(self.server.__exit__, None, None, None)
        self.tokens = make_shared_tokens(f"sqlite:{self.directory}/chat.db")
        self.successResultOf(self.tokens.open())

    def token(self, expires_ms: int | None = None) -> Minted:
        minted = mint(os.urandom, int(time.time() * 1000), user="u1", name="Alice", expires_ms=expires_ms)
        self.successResultOf(self.tokens.create_token(minted.record, minted.secret_hash))
        return minted

    def closed_within(self, seconds: float, client: ClientConnection) -> int:
        began = time.monotonic()
        closed: ConnectionClosed = self.assertRaises(ConnectionClosed, client.recv, seconds + 5)
        self.assertLess(time.monotonic() - began, seconds)
        assert closed.rcvd is not None
        return closed.rcvd.code

    def test_revoked(self) -> None:
        """The connection ends within 5 s (4401), and the token opens none any more."""
        minted = self.token()
        headers = {"Authorization": f"Bearer {minted.token}"}

        with connect(self.server.websocket, additional_headers=headers) as alice, connect(self.server.websocket) as guest:
            alice.send("hello")
            self.assertEqual([alice.recv(5), guest.recv(5)], ["hello", "hello"])
            self.successResultOf(self.tokens.revoke_token(minted.record.id, int(time.time() * 1000)))
            self.assertEqual(self.closed_within(5, alice), 4401)
            refused = self.assertRaises(InvalidStatus, connect, self.server.websocket, additional_headers=headers)
            self.assertEqual(refused.response.status_code, 401)
            guest.send("still here")
            self.assertEqual(guest.recv(5), "still here")

        self.assertNotIn(minted.token, self.server.stdout + self.server.stderr)

    def test_expired(self) -> None:
        """A connection is closed when its token expires."""
        minted = self.token(expires_ms=int((time.time() + 1.5) * 1000))
        with connect(self.server.websocket, additional_headers={"Authorization": f"Bearer {minted.token}"}) as alice:
            self.assertEqual(self.closed_within(1.5 + 5, alice), 4401)


class EndTests(SynchronousTestCase):
    def test_sigterm(self) -> None:
        """Everybody is told to come back (1012), what was said is kept, the exit status is 0."""
        directory = self.mktemp()
        with Served(directory) as server:
            with connect(server.websocket) as plain, connect(server.websocket, subprotocols=["chat.v1.json"]) as rich:
                rich.send(json.dumps({"type": "hello", "id": 1, "name": "alice"}))
                self.assertEqual(json.loads(rich.recv(5))["type"], "welcome")
                plain.send("kept")
                self.assertEqual(plain.recv(5), "kept")
                server.process.send_signal(signal.SIGTERM)
                bye = json.loads(rich.recv(5))
                self.assertEqual((bye["type"], bye["code"], bye["retry"]), ("bye", 4503, True))
                self.assertGreater(bye["retry_after_ms"], 0)
                for client in (plain, rich):
                    closed = self.assertRaises(ConnectionClosed, client.recv, 5)
                    assert closed.rcvd is not None
                    self.assertEqual(closed.rcvd.code, 1012)
            self.assertEqual(server.process.wait(10), 0)
        with Served(directory) as server, connect(server.websocket + "/?history=5") as late:
            self.assertEqual(late.recv(5), "kept")

    def test_deadline(self) -> None:
        """Who does not answer the goodbye is not waited for longer than said."""
        with Served(self.mktemp(), "--drain-seconds=0.5") as server, socket.create_connection(("127.0.0.1", server.port)) as deaf:
            deaf.sendall(
                b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
            )
            self.assertTrue(deaf.recv(4096).startswith(b"HTTP/1.1 101"))
            began = time.monotonic()
            self.assertEqual(server.end(), 0)
            self.assertLess(time.monotonic() - began, 5)

    def test_interrupt(self) -> None:
        """SIGINT ends the server with status 0 and without an error."""
        with Served(self.mktemp()) as server:
            self.assertEqual(server.end(signal.SIGINT), 0)
            self.assertEqual(server.stderr, "")

    def test_second_signal(self) -> None:
        """A second signal ends the server without waiting for its connections."""
        with Served(self.mktemp(), "--drain-seconds=60") as server, socket.create_connection(("127.0.0.1", server.port)) as deaf:
            deaf.sendall(
                b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
            )
            deaf.recv(4096)
            server.process.send_signal(signal.SIGTERM)
            server.wait_for("STOPPING=1")
            self.assertEqual(server.end(signal.SIGTERM), 128 + signal.SIGTERM)

    def test_new_connections_are_refused(self) -> None:
        """The port is closed as soon as the signal comes."""
        with Served(self.mktemp()) as server:
            port = server.port
            server.end()
            self.assertRaises(ConnectionRefusedError, socket.create_connection, ("127.0.0.1", port))


class SystemdTests(SynchronousTestCase):
    def test_states(self) -> None:
        """READY when it serves, STOPPING when it ends, and a watchdog fed from the reactor at half of what is allowed."""
        with Served(self.mktemp(), WATCHDOG_USEC="200000") as server:
            server.wait_for("WATCHDOG=1")
            server.wait_for("WATCHDOG=1")
            server.process.send_signal(signal.SIGTERM)
            server.wait_for("STOPPING=1")
            self.assertEqual(server.process.wait(10), 0)
        self.assertLess(server.states.index("READY=1"), server.states.index("STOPPING=1"))

    def test_no_ready_on_failure(self) -> None:
        """A server that cannot start does not tell systemd that it is ready."""
        server = Served(self.mktemp(), "--store=sqlite:/nowhere/at/all/chat.db")

        with self.assertRaises(NotReady), server:
            pass

        server.__exit__(None, None, None)
        self.assertNotIn("READY=1", server.states)

    def test_socket_activation(self) -> None:
        """systemd opens the port; addresses of IPv4 peers at the dual-stack socket are theirs."""
        with socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as port:
            number = port.getsockname()[1]
            start = (
                "import os, sys; fd = int(sys.argv[1]); os.dup2(fd, 3); os.environ.update(LISTEN_FDS='1', LISTEN_FDNAMES='chat', "
                "LISTEN_PID=str(os.getpid())); sys.argv = ['twistd', '-n', '--pidfile=', 'chat', *sys.argv[2:]]; "
                "from twisted.scripts.twistd import run; run()"
            )
            directory = self.mktemp()
            os.mkdir(directory)
            python = TWISTD[0]
            arguments = [python, "-c", start, str(port.fileno()), "--listen=systemd:domain=INET6:name=chat"]
            with subprocess.Popen(
                arguments, cwd=directory, env=environment(), pass_fds=[port.fileno()], stdout=subprocess.DEVNULL
            ) as process:
                try:
                    # The port is open already, so the client waits in its queue until the server lets it in.
                    with connect(f"ws://127.0.0.1:{number}/", open_timeout=30) as alice:
                        alice.send("hello")
                        self.assertEqual(alice.recv(5), "hello")
                finally:
                    process.terminate()
                    self.assertEqual(process.wait(15), 0)


class ReloadTests(SynchronousTestCase):
    def test_limits(self) -> None:
        """SIGHUP changes the limits of those who come; what cannot change is said."""
        directory = Path(self.mktemp())
        directory.mkdir()
        config = directory / "chat.toml"

        config.write_text("[limits]\nsend_burst = 3\n")
        with Served(directory, "--config=chat.toml") as server:
            self.assertEqual(self.burst(server), 3)
            config.write_text("compression = true\n[limits]\nsend_burst = 4\n")
            server.process.send_signal(signal.SIGHUP)
            server.wait_for("READY=1")
            self.assertIn("RELOADING=1", server.states)
            self.assertEqual(self.burst(server), 4)
            self.assertIn("wait for the next start: compression", server.stdout)
            config.write_text("[limits]\nsend_brst = 5\n")
            server.process.send_signal(signal.SIGHUP)
            server.wait_for("READY=1")
            self.assertIn("so the old one stays in force: ", server.stdout)
            self.assertEqual(self.burst(server), 4)

    def burst(self, server: Served) -> int:
        with connect(server.websocket, subprotocols=["chat.v1.json"]) as client:
            client.send(json.dumps({"type": "hello", "id": 1, "name": "alice"}))
            burst = json.loads(client.recv(5))["limits"]["send"]["burst"]
            assert isinstance(burst, int)
            return burst

    def test_log(self) -> None:
        """logrotate moves the file away; SIGHUP begins a new one."""
        directory = Path(self.mktemp()).absolute()
        directory.mkdir()
        with Served(directory) as first:
            first.end()
        command = [*TWISTD, "-n", "--pidfile=", "--logfile=chat.log", "chat", "--listen=tcp:0:interface=127.0.0.1"]
        log = directory / "chat.log"

        with subprocess.Popen(command, cwd=directory, env=environment(), stdout=subprocess.DEVNULL) as process:
            try:
                wait_until(lambda: log.exists() and "Serving on" in log.read_text())
                log.rename(directory / "chat.log.1")
                process.send_signal(signal.SIGHUP)
                wait_until(lambda: log.exists() and "The configuration was read again" in log.read_text())
            finally:
                process.terminate()
                process.wait(15)

    def test_certificate(self) -> None:
        """A renewed certificate is used for new connections, without a restart; a broken one leaves the old."""
        directory = Path(self.mktemp()).absolute()
        directory.mkdir()
        key, certificate = make_certificate(directory)

        with Served(directory, f"--listen=ssl:0:interface=127.0.0.1:privateKey={key}:certKey={certificate}") as server:
            old = self.certificate(server)
            new_key, new_certificate = make_certificate(directory, "new")
            shutil.copy(new_key, key)
            shutil.copy(new_certificate, certificate)
            server.process.send_signal(signal.SIGHUP)
            server.wait_for("READY=1")
            renewed = self.certificate(server)
            self.assertNotEqual(renewed, old)
            certificate.write_text("nothing")
            server.process.send_signal(signal.SIGHUP)
            server.wait_for("READY=1")
            self.assertIn("so the old one stays in use", server.stdout)
            self.assertEqual(self.certificate(server), renewed)

    def certificate(self, server: Served) -> bytes:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with socket.create_connection(("127.0.0.1", server.port)) as tcp, context.wrap_socket(tcp) as tls:
            return tls.getpeercert(binary_form=True) or b""


class TlsTests(ServedCase):
    """TLS by endpoint string works with what people use; nobody upgrades under h2, so only http/1.1 is agreed on."""

    authority: Path

    @classmethod
    def make_server(cls, directory: Path) -> Served:
        key, cls.authority = make_certificate(directory)
        return Served(directory, f"--listen=ssl:0:interface=127.0.0.1:privateKey={key}:certKey={cls.authority}")

    def test_alpn(self) -> None:
        """ALPN chooses HTTP/1.1, never HTTP/2."""
        for offered, chosen in (([], None), (["http/1.1"], "http/1.1"), (["h2", "http/1.1"], "http/1.1")):
            context = ssl.create_default_context(cafile=str(self.authority))
            if offered:
                context.set_alpn_protocols(offered)
            with (
                socket.create_connection(("127.0.0.1", self.server.port)) as tcp,
                context.wrap_socket(tcp, server_hostname="localhost") as tls,
            ):
                self.assertEqual(tls.selected_alpn_protocol(), chosen)

    def test_websockets(self) -> None:
        """A WebSocket works over TLS."""
        context = ssl.create_default_context(cafile=str(self.authority))
        with connect(f"wss://localhost:{self.server.port}/", ssl=context) as alice:
            alice.send("hello")
            self.assertEqual(alice.recv(5), "hello")

    def test_curl(self) -> None:
        """curl, which offers h2, is answered over HTTP/1.1."""
        options = ("--silent", "--show-error", "--http2", "--write-out", " by HTTP/%{http_version}")

        shown = self.run_program("curl", *options, "--cacert", str(self.authority), self.address("healthz"))

        self.assertIn("ok", shown)
        self.assertIn(" by HTTP/1.1", shown)

    def test_node(self) -> None:
        """Node, which offers HTTP/2, is served by HTTP/1.1."""
        script = """
            const [port, authority] = process.argv.slice(1);
            const ca = require("fs").readFileSync(authority);
            const options = {host: "localhost", port, path: "/healthz", ALPNProtocols: ["h2", "http/1.1"], ca};
            require("https").get(options, (answer) => {
                console.log(answer.statusCode, answer.socket.alpnProtocol);
                answer.resume();
            });
        """
        shown = self.run_program("node", "-e", script, str(self.server.port), str(self.authority))
        self.assertEqual(shown.strip(), "200 http/1.1")

    def address(self, path: str) -> str:
        return f"https://localhost:{self.server.port}/{path}"

    def run_program(self, *command: str) -> str:
        if shutil.which(command[0]) is None:
            raise SkipTest(f"{command[0]} is not installed")
        ended = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
        self.assertEqual((ended.returncode, ended.stderr), (0, ""))
        return ended.stdout
