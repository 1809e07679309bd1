"""The parts put together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from tests.harness.certificates import make_certificate
from twisted_chat.errors import Conflict, Forbidden, Unauthenticated
from twisted_chat.limits import Limits, RoomPolicy
from twisted_chat.server.build import RunningChat, SetUpError, build, read_keys, reloaded
from twisted_chat.server.config import Settings
from twisted_chat.store_contract import StoreError, TokenRecord
from twisted_chat.web.api import body_bytes

SECRET = "a secret that is shared with the issuer of tokens"


class Reactor(MemoryReactorClock):
    """In memory, with the way back from threads that nobody uses here."""

    def callFromThread(self, callable: Any, *args: Any, **kwargs: Any) -> None:
        callable(*args, **kwargs)


class BuildTests(SynchronousTestCase):
    def build(self, *, loopback: bool = True, **settings: Any) -> RunningChat:
        building = build(Reactor(), Settings(**settings), "memory:", loopback=loopback)
        return self.successResultOf(Deferred.fromCoroutine(building))

    def file(self, content: str) -> str:
        path = Path(self.mktemp())
        path.write_text(content)
        return str(path)

    def test_out_of_the_box(self) -> None:
        """Pages opened from disk (origin ``null``) may connect while there is nobody but guests of this machine."""
        chat = self.build()
        self.assertTrue(chat.null_origin)
        chat.request_auth.origins.check("null", "http", "127.0.0.1:8080")

    def test_any_sign_of_more(self) -> None:
        """As soon as something else is configured, ``null`` is as foreign as any other origin."""
        for chat in (
            self.build(loopback=False),
            self.build(guests=False),
            self.build(jwt_keys=(f"HS256:{self.file(SECRET)}",)),
            self.build(public_url="https://example.org/"),
            self.build(trusted_proxies=("127.0.0.1",)),
            self.build(allowed_origins=("https://www.example.org",)),
        ):
            self.assertFalse(chat.null_origin)
            self.assertRaises(Forbidden, chat.request_auth.origins.check, "null", "http", "127.0.0.1:8080")

    def test_first_token(self) -> None:
        """With the first token that somebody makes while it runs the out-of-the-box state ends, and its name is taken."""
        chat = self.build()
        chat.tokens_seen([TokenRecord("t1", "u1", "Alice", 0)])

        self.assertFalse(chat.null_origin)

        guest = chat.request_auth.user(None, "alice", None)
        assert not isinstance(guest, Deferred)

        self.assertRaises(Conflict, chat.core.sessions.check_name, guest)

    def test_reload_that_restricts(self) -> None:
        """A reload that adds an origin or a proxy ends the out-of-the-box state, and one that takes it away brings it back."""
        for changed in (
            Settings(trusted_proxies=("127.0.0.1",)),
            Settings(allowed_origins=("https://www.example.org",)),
        ):
            chat = self.build()

            chat.apply(changed)

            self.assertRaises(Forbidden, chat.request_auth.origins.check, "null", "http", "127.0.0.1:8080")

            chat.apply(Settings())

            chat.request_auth.origins.check("null", "http", "127.0.0.1:8080")

    def test_reload_after_the_first_token(self) -> None:
        """With tokens, no reload brings the out-of-the-box state back."""
        chat = self.build(allowed_origins=("https://www.example.org",))
        chat.tokens_seen([TokenRecord("t1", "u1", "Alice", 0)])

        chat.apply(Settings())

        self.assertRaises(Forbidden, chat.request_auth.origins.check, "null", "http", "127.0.0.1:8080")

    def test_reload_with_another_public_url(self) -> None:
        """The public address changes at the next start, so until then its host stays known, and ``null`` as it was."""
        chat = self.build(public_url="https://chat.example.org/")

        chat.apply(Settings(public_url="https://new.example.org/", allowed_hosts=("chat.lan",)))

        hosts = chat.request_auth.hosts
        assert hosts is not None
        hosts.check("chat.example.org")
        hosts.check("chat.lan")
        self.assertRaises(Forbidden, hosts.check, "new.example.org")

        chat.apply(Settings())

        self.assertRaises(Forbidden, chat.request_auth.origins.check, "null", "http", "127.0.0.1:8080")

    def test_reload_of_sizes(self) -> None:
        """The largest body follows ``text_bytes``; the size of frames, which is built into connections, waits for the next start."""
        chat = self.build()

        chat.apply(Settings(limits=Limits(text_bytes=100, frame_bytes=200_000)))

        self.assertEqual(chat.site.body_bytes, body_bytes(Limits(text_bytes=100)))
        self.assertEqual(chat.core.limits.frame_bytes, Limits().frame_bytes)

    def test_what_waits_for_the_next_start(self) -> None:
        """Every setting either changes at a reload or keeps its value and is named."""
        read = Settings(compression=True, allowed_hosts=("chat.lan",), limits=Limits(rooms=7, frame_bytes=99_999))

        in_force, waiting = reloaded(Settings(), read)

        self.assertEqual(waiting, ["compression", "limits.frame_bytes"])
        self.assertEqual(in_force, Settings(allowed_hosts=("chat.lan",), limits=Limits(rooms=7)))

    def test_without_guests(self) -> None:
        """Nobody gets in without a token."""
        self.assertRaises(Unauthenticated, self.build(guests=False).request_auth.user, None, "bob", None)
        self.assertEqual(self.build().request_auth.user(None, "bob", None).name, "bob")  # type: ignore[union-attr]

    def test_apply(self) -> None:
        """SIGHUP: limits, rooms, origins and proxies change while running; how a room keeps its log does not."""
        chat = self.build()
        guest = chat.request_auth.user(None, "bob", None)
        assert not isinstance(guest, Deferred)
        room = chat.core.rooms.find(guest, "lobby")
        changed = Settings(
            limits=Limits(send_burst=3),
            rooms={"lobby": RoomPolicy(size=5), "new": RoomPolicy(durable=False)},
            allowed_origins=("https://www.Example.org",),
            trusted_proxies=("10.0.0.0/8",),
        )

        chat.apply(changed)

        self.assertEqual((chat.core.limits.send_burst, chat.limiter.limits.send_burst), (3, 3))
        self.assertEqual(room.policy.size, 5)
        self.assertFalse(chat.core.rooms.find(guest, "new").durable)

        chat.request_auth.origins.check("https://www.example.org", "http", "localhost")
        self.assertTrue(chat.request_auth.proxies.trusts("10.1.2.3"))

        chat.apply(Settings(rooms={"lobby": RoomPolicy(durable=False, guests=False)}))
        self.assertEqual((room.policy.durable, room.policy.guests), (True, False))

    def test_unknown_store(self) -> None:
        """An unknown kind of store is refused with the known ones."""
        failure = self.failureResultOf(
            Deferred.fromCoroutine(build(Reactor(), Settings(), "mysql:chat", loopback=True)), StoreError
        )
        self.assertIn("there are sqlite:PATH, postgresql://… and memory:", str(failure.value))


class KeyTests(SynchronousTestCase):
    def refused(self, entry: str) -> str:
        return str(self.assertRaises(SetUpError, read_keys, [entry]))

    def test_read(self) -> None:
        """A key has algorithm, key id and secret of its entry, without the line end of the file."""
        path = Path(self.mktemp())
        path.write_text(SECRET + "\n")
        (key,) = read_keys([f"HS256#one:{path}"])

        self.assertEqual((key.algorithm, key.kid, key.key), ("HS256", "one", SECRET.encode()))

    def test_refused(self) -> None:
        """The line names the file and what is wrong, and never the secret."""
        self.assertIn("/nowhere: cannot be read: No such file", self.refused("HS256:/nowhere"))

        directory = Path(self.mktemp())
        directory.mkdir()
        private, _ = make_certificate(directory)

        self.assertIn("this is a private key", self.refused(f"ES256:{private}"))

        (directory / "short").write_text("short secret")
        line = self.refused(f"HS256:{directory}/short")

        self.assertIn("at least 32 bytes", line)
        self.assertNotIn("short secret", line)

        (directory / "binary").write_bytes(bytes(range(128, 256)))
        self.assertIn("neither PEM nor a secret in text", self.refused(f"HS256:{directory}/binary"))
        (directory / "large").write_text("x" * 65_537)
        self.assertIn("larger than 65,536 characters", self.refused(f"HS256:{directory}/large"))
