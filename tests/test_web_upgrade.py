"""The handshake: who gets a ticket, and what everybody else is told.

``KNOCK`` stands for a socket that was opened; whatever is refused is refused in HTTP, and no 101 is ever sent before.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IAddress, IProtocol
from twisted.internet.task import Clock
from twisted.logger import Logger
from twisted.trial.unittest import SynchronousTestCase

from tests.harness.http_memory import KEY, Recorder, Reply, Wire, handshake, request_head
from twisted_chat.auth.authenticator import GuestFactory
from twisted_chat.core.connections import ConnectionLimiter
from twisted_chat.errors import NoSuchRoom, TokenExpired, Unauthenticated
from twisted_chat.interfaces import Admission, Dialect, Handshake
from twisted_chat.limits import Limits
from twisted_chat.users import Credential, Source, User
from twisted_chat.web.auth import RequestAuth
from twisted_chat.web.origins import Origins, TrustedProxies
from twisted_chat.web.site import ChatSite
from twisted_chat.web.upgrade import Upgrades

KNOCK = b"<101>"
OWN = (b"Origin", b"http://chat.test:8080")
ALICE = User(id="u1", name="Alice")


class People:
    """Identities under the test's control: ``good`` is Alice, ``slow`` is answered when the test says so."""

    def __init__(self) -> None:
        self.guests: GuestFactory | None = GuestFactory(b"s" * 32, lambda size: b"\1" * size)
        self.asked: list[Credential] = []
        self.slow: list[Deferred[User]] = []
        self.cancelled = 0

    def identify(self, credential: Credential) -> Deferred[User]:
        self.asked.append(credential)
        match credential.token:
            case "good":
                return succeed(ALICE)
            case "old":
                raise_in: Deferred[User] = Deferred()
                raise_in.errback(TokenExpired("token: expired"))
                return raise_in
            case "slow":
                self.slow.append(Deferred(self._count_cancelled))
                return self.slow[-1]
            case "broken":
                broken: Deferred[User] = Deferred()
                broken.errback(RuntimeError("a bug"))
                return broken
        bad: Deferred[User] = Deferred()
        bad.errback(Unauthenticated("token: unknown"))
        return bad

    def guest(self, name: str | None = None, device: str | None = None) -> User:
        if self.guests is None:
            raise Unauthenticated("a token is needed: this server takes no guests")
        return self.guests.user(name, device)

    def _count_cancelled(self, deferred: Deferred[User]) -> None:
        self.cancelled += 1


class Case(SynchronousTestCase):
    """A site that knows only how to upgrade."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.people = People()
        self.admissions: list[Admission] = []
        self.handshakes: list[Handshake] = []
        self.sockets: list[Recorder] = []
        self.failing: Exception | None = None
        self.secret_rooms = {"secret"}
        self.limiter = ConnectionLimiter(Limits())
        self.request_auth = RequestAuth(self.limiter, self.people, self.clock)
        self.outcomes: list[str] = []
        upgrades = Upgrades(self.request_auth, self.open_socket, may_enter=self.may_enter, count=self.outcomes.append)
        self.site = ChatSite(
            upgrades.upgrade, self.limiter, self.clock, body_bytes=1000, observe=lambda *a: None, logger=Logger()
        )

    def open_socket(self, admission: Admission, handshake: Handshake) -> IProtocol:
        if self.failing is not None:
            raise self.failing
        self.admissions.append(admission)
        self.handshakes.append(handshake)
        self.sockets.append(Recorder(KNOCK))
        return self.sockets[-1]

    def may_enter(self, user: User, room: str | None, address: str | None) -> None:
        if room in self.secret_rooms:
            raise NoSuchRoom(f"room: there is no {room}")

    def wire(self, peer: IAddress | None = None) -> Wire:
        return Wire(self.site, peer)

    def opened(self, data: bytes, peer: IAddress | None = None) -> Admission:
        """Send it; it must be let in."""
        self.assertEqual(self.wire(peer).deliver(data), KNOCK)
        return self.admissions[-1]

    def refused(self, data: bytes, status: int, code: str = "bad_request") -> Reply:
        """Send it; it must be answered in HTTP, in the one shape, and the connection must end."""
        before = len(self.admissions)
        wire = self.wire()
        raw = wire.deliver(data)
        self.assertNotIn(KNOCK, raw)
        reply = Reply(raw)
        self.assertEqual((reply.status, reply.error["code"]), (status, code), reply.body)
        self.assertEqual(len(reply.body), int(reply.headers["content-length"]))
        self.assertIn("content-security-policy", reply.headers)
        self.assertEqual(len(self.admissions), before)
        self.assertTrue(wire.disconnecting)
        return reply


class TicketTests(Case):
    def test_tutorial(self) -> None:
        """``new WebSocket("ws://localhost:8080")`` is a guest in the lobby who talks plain text."""
        admission = self.opened(handshake(b"/"))

        self.assertEqual((admission.dialect, admission.room, admission.subprotocol), (Dialect.TEXT, "lobby", None))
        self.assertEqual((admission.address, admission.names, admission.history), ("192.0.2.7", False, 0))
        self.assertTrue(admission.user.guest)
        self.assertEqual(self.handshakes[0].key, KEY)

    def test_rooms(self) -> None:
        """The path names the room, percent-encoded and normalised; without a name it is the lobby."""
        for target, room in (
            (b"/ws", "lobby"),
            (b"/ws/", "lobby"),
            (b"/ws/kitchen", "kitchen"),
            (b"/ws/k%C3%BCche?x=1", "küche"),
            (b"/ws/ku%CC%88che", "küche"),
            (b"/?name=bob", "lobby"),
        ):
            self.assertEqual(self.opened(handshake(target)).room, room)

    def test_bad_rooms(self) -> None:
        """A path with a name that no room can have gets 400."""
        for target in (
            b"/ws/a/b",
            b"/ws/%2e%2e%2fetc",
            b"/ws/..",
            b"/ws/%00",
            b"/ws/%ff",
            b"/ws/%E2%80%AEx",
            b"/ws//",
            b"/ws/" + b"x" * 65,
        ):
            self.refused(handshake(target), 400)

    def test_paths_without_a_socket(self) -> None:
        for target in (b"/chat", b"/wss", b"/ws.", b"/healthz", b"/api/v1/rooms"):
            self.refused(handshake(target), 404, "not_found")

    def test_query(self) -> None:
        """Name, names, history and device come from the query, and the same device is the same guest."""
        admission = self.opened(handshake(b"/ws?name=Zo%C3%AB&names=1&history=20&device=0123456789"))
        self.assertEqual((admission.user.name, admission.names, admission.history), ("Zoë", True, 20))
        self.assertEqual(self.opened(handshake(b"/ws?device=0123456789")).user.id, admission.user.id)

    def test_history_is_bounded(self) -> None:
        """A larger history than the server's limit is the limit."""
        self.assertEqual(self.opened(handshake(b"/ws?history=99999999")).history, Limits().history)

    def test_bad_query(self) -> None:
        """An unsuitable value in the query gets 400 with the name of the field."""
        for query, field in (
            (b"history=-1", "history"),
            (b"history=x", "history"),
            (b"history=%D9%A1", "history"),
            (b"history=" + b"9" * 5000, "history"),
            (b"name=a&name=b", "name"),
            (b"name=%ff", "name"),
            (b"name=%00", "name"),
            (b"name=", "name"),
            (b"device=short", "device"),
        ):
            self.assertIn(field, self.refused(handshake(b"/ws?" + query), 400).error["message"])

    def test_extensions_are_handed_on(self) -> None:
        """The offered extensions reach the WebSocket side."""
        self.opened(handshake(b"/ws", (b"Sec-WebSocket-Extensions", b"permessage-deflate; x")))
        self.assertEqual(self.handshakes[-1].extensions, (b"permessage-deflate; x",))

    def test_counted(self) -> None:
        """Each handshake is counted by its outcome."""
        self.opened(handshake())
        self.refused(handshake(b"/ws/secret"), 404, "no_such_room")
        self.assertEqual(self.outcomes, ["open", "no_such_room"])

    def test_unseen_room(self) -> None:
        """A room that one may not see is refused before the 101, and nothing is counted."""
        self.refused(handshake(b"/ws/secret"), 404, "no_such_room")
        self.assertEqual(self.limiter.connections, 0)


class DialectTests(Case):
    def chosen(self, *lines: bytes) -> tuple[Dialect, str | None]:
        admission = self.opened(handshake(b"/ws", *((b"Sec-WebSocket-Protocol", line) for line in lines)))
        return admission.dialect, admission.subprotocol

    def test_choice(self) -> None:
        """The client's first choice among those we know; nothing offered is plain text, and nothing is then selected."""
        self.assertEqual(self.chosen(), (Dialect.TEXT, None))
        self.assertEqual(self.chosen(b"chat.v1.text"), (Dialect.TEXT, "chat.v1.text"))
        self.assertEqual(self.chosen(b"chat.v1.json"), (Dialect.JSON, "chat.v1.json"))
        self.assertEqual(self.chosen(b"chat.v9, chat.v1.json,chat.v1.text"), (Dialect.JSON, "chat.v1.json"))
        self.assertEqual(self.chosen(b"chat.v1.text, chat.v1.json"), (Dialect.TEXT, "chat.v1.text"))
        self.assertEqual(self.chosen(b"chat.v9", b"chat.v1.json"), (Dialect.JSON, "chat.v1.json"))

    def test_unknown(self) -> None:
        """An offer of unknown subprotocols only gets 400 with the known ones."""
        for line in (b"mqtt", b"chat.v2.json, mqtt", b"CHAT.V1.JSON", b"mqtt, bearer.good"):
            self.assertIn(
                "chat.v1.json", self.refused(handshake(b"/ws", (b"Sec-WebSocket-Protocol", line)), 400).error["message"]
            )

    def test_bearer_is_never_selected(self) -> None:
        """A token among the subprotocols is never echoed."""
        self.assertEqual(self.chosen(b"bearer.good, chat.v1.json"), (Dialect.JSON, "chat.v1.json"))
        self.assertEqual(self.chosen(b"bearer.good"), (Dialect.TEXT, None))
        self.assertEqual(self.admissions[-1].user, ALICE)


class RequestTests(Case):
    """RFC 6455 section 4.2.1, and what the traps of the stack ask for."""

    def test_versions(self) -> None:
        """Other versions than 13 get 426 with the supported one."""
        for version in (b"8", b"12", b"13, 8", b"14", b"x", b""):
            reply = self.refused(handshake(b"/ws", (b"Sec-WebSocket-Version", version), without="Sec-WebSocket-Version"), 426)
            self.assertEqual(reply.headers["sec-websocket-version"], "13")
        self.refused(handshake(without="Sec-WebSocket-Version"), 426)

    def test_plain_get(self) -> None:
        """A browser that opens /ws is told what is spoken there."""
        reply = self.refused(request_head(target=b"/ws"), 426)
        self.assertEqual(reply.headers["upgrade"], "websocket")
        self.refused(handshake(b"/ws", (b"Upgrade", b"h2c"), without="Upgrade"), 426)

    def test_keys(self) -> None:
        """A missing, malformed or second key gets 400."""
        self.refused(handshake(without="Sec-WebSocket-Key"), 400)
        self.refused(handshake(b"/ws", (b"Sec-WebSocket-Key", b"short"), without="Sec-WebSocket-Key"), 400)
        self.refused(handshake(b"/ws", (b"Sec-WebSocket-Key", KEY)), 400)

    def test_connection_header(self) -> None:
        """``Connection`` must have ``upgrade`` and ``Upgrade`` ``websocket``, in any case."""
        for value in (b"keep-alive", b"upgraded", b""):
            self.refused(handshake(b"/ws", (b"Connection", value), without="Connection"), 400)
        self.opened(handshake(b"/ws", (b"Connection", b"UPGRADE"), without="Connection"))
        self.opened(handshake(b"/ws", (b"Upgrade", b"h2c, WebSocket"), without="Upgrade"))

    def test_method(self) -> None:
        """Another method than GET gets 405."""
        for method in (b"POST", b"HEAD", b"OPTIONS"):
            raw = handshake().replace(b"GET ", method + b" ", 1)
            answer = self.wire().deliver(raw)
            self.assertTrue(answer.startswith(b"HTTP/1.1 405 "), answer)
            self.assertIn(b"Allow: GET\r\n", answer)

    def test_http_10(self) -> None:
        """A handshake by HTTP/1.0 gets 400."""
        self.refused(handshake(version=b"HTTP/1.0"), 400)

    def test_no_host(self) -> None:
        """A missing or second host gets 400."""
        self.refused(handshake(host=None), 400)
        self.refused(handshake(b"/ws", (b"Host", b"evil.test")), 400)

    def test_body(self) -> None:
        """A handshake with a body gets 400."""
        self.opened(handshake(b"/ws", (b"Content-Length", b"0")))
        self.refused(handshake(b"/ws", (b"Content-Length", b"3")) + b"abc", 400)
        self.refused(handshake(b"/ws", (b"Transfer-Encoding", b"chunked")) + b"0\r\n\r\n", 400)

    def test_control_bytes(self) -> None:
        """A byte that somebody could take for a line end would be a second header: refused, in any header."""
        for byte in (0x01, 0x08, 0x0B, 0x0C, 0x1B, 0x1C, 0x1D, 0x1E, 0x1F, 0x7F):
            for name in (b"Origin", b"X-Other", b"Cookie", b"User-Agent"):
                with self.subTest(byte=byte, name=name):
                    self.refused(handshake(b"/ws", (name, b"a" + bytes([byte]) + b"Origin: http://chat.test:8080")), 400)

    def test_harmless_bytes(self) -> None:
        """Bytes above 0x7f have no meaning, in a cookie of a neighbour site or in what a proxy adds; TAB is white space."""
        for value in ("city=Århus\tx".encode(), "city=Montréal".encode("latin-1"), b"\x85\x9b\xff", "\u2028".encode()):
            for name in (b"Cookie", b"Cf-Ipcity", b"User-Agent"):
                with self.subTest(name=name, value=value):
                    self.opened(handshake(b"/ws", (name, value)))

    def test_origin_beyond_ascii(self) -> None:
        """An origin with other bytes than ASCII gets 403."""
        self.refused(handshake(b"/ws", (b"Origin", b"http://ch\xe4t.test")), 403, "forbidden")

    def test_nul_and_line_ends(self) -> None:
        """A header with NUL or a bare line end gets 400."""
        for byte in (b"\0", b"\n", b"\r"):
            self.refused(handshake(b"/ws", (b"X-Other", b"a" + byte + b"b")), 400)

    def test_redirects_nobody(self) -> None:
        """Autobahn would answer ``?redirect=`` with 303 to anywhere."""
        for target in (b"/ws?redirect=http://evil.test/&after=0", b"//evil.test/ws", b"/ws/%2f%2fevil.test"):
            answer = self.wire().deliver(request_head(target=target))
            self.assertNotIn(b"\r\nLocation:", answer)
            self.assertNotIn(b" 30", answer.partition(b"\r\n")[0])

    def test_absolute_form(self) -> None:
        """A request to a proxy is not for us: its host and the Host header could disagree."""
        self.refused(handshake(b"http://chat.test:8080/ws"), 404, "not_found")

    def test_bytes_behind_the_handshake(self) -> None:
        """Frames in the same packet as the handshake are not lost."""
        self.opened(handshake() + b"\x81\x82abcdXX")
        self.assertEqual(self.sockets[-1].received, b"\x81\x82abcdXX")

    def test_smuggled_request(self) -> None:
        """What comes behind is for the socket, whatever it looks like: no second request is answered."""
        wire = self.wire()

        self.assertEqual(wire.deliver(handshake() + request_head(target=b"/ws/second")), KNOCK)
        self.assertEqual(len(self.admissions), 1)
        self.assertEqual(wire.deliver(handshake()), b"")
        self.assertEqual(len(self.admissions), 1)
        self.assertTrue(self.sockets[0].received.startswith(b"GET /ws/second"))

    def test_smuggled_behind_a_refusal(self) -> None:
        """Frames behind a refused handshake are no request: the connection ends."""
        wire = self.wire()

        answer = wire.deliver(handshake(b"/nowhere") + handshake())

        self.assertEqual(answer.count(b"HTTP/1.1 "), 1)
        self.assertEqual(wire.deliver(handshake()), b"")
        self.assertEqual(self.admissions, [])

    def test_trickled(self) -> None:
        """A handshake that comes byte by byte is accepted."""
        wire = self.wire()
        for byte in handshake():
            wire.deliver(bytes([byte]))
        self.assertEqual(len(self.admissions), 1)

    def test_socket_that_cannot_be_made(self) -> None:
        """A fault while the connection is made is logged, answered with 500, and not counted as a connection."""
        self.failing = RuntimeError("a bug")
        reply = Reply(self.wire().deliver(handshake()))

        self.assertEqual((reply.status, reply.error["code"]), (500, "internal"))
        self.assertNotIn("a bug", reply.body.decode())
        self.assertEqual(self.limiter.connections, 0)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    def test_socket_that_fails_at_once(self) -> None:
        """A bug behind the 101 ends that connection and nothing else."""

        class Failing(Recorder):
            def connectionMade(self) -> None:
                raise RuntimeError("a bug")

        def failing(admission: Admission, handshake: Handshake) -> IProtocol:
            return Failing(b"")

        self.open_socket = failing  # type: ignore[method-assign]
        self.site.answer = Upgrades(self.request_auth, failing, may_enter=self.may_enter).upgrade

        wire = self.wire()

        self.assertEqual(wire.deliver(handshake()), b"")
        self.assertTrue(wire.aborted)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)


class OriginTests(Case):
    def test_own(self) -> None:
        """A page of the server itself may connect."""
        self.opened(handshake(b"/ws", OWN))

    def test_foreign(self) -> None:
        """A page of another scheme, host or port gets 403."""
        for origin in (
            b"http://evil.test",
            b"https://chat.test:8080",
            b"http://chat.test",
            b"null",
            b"http://chat.test:8080.evil.test",
        ):
            self.refused(handshake(b"/ws", (b"Origin", origin)), 403, "forbidden")

    def test_twice(self) -> None:
        """A handshake with two origins is refused."""
        self.refused(handshake(b"/ws", OWN, (b"Origin", b"http://evil.test")), 400)

    def test_configured(self) -> None:
        """A page of a configured origin may connect."""
        self.request_auth.origins = Origins(frozenset({"https://www.test"}))
        self.opened(handshake(b"/ws", (b"Origin", b"https://www.test")))

    def test_foreign_page_with_a_token(self) -> None:
        """A token does not make a page one of ours; the origin is looked at first, and the token not at all."""
        self.refused(handshake(b"/ws", (b"Origin", b"http://evil.test"), (b"Authorization", b"Bearer good")), 403, "forbidden")
        self.assertEqual(self.people.asked, [])

    def test_behind_tls_proxy(self) -> None:
        """The page came by https, though the proxy speaks http to us; only a trusted one may say so."""
        headers = ((b"Origin", b"https://chat.test:8080"), (b"X-Forwarded-Proto", b"https"))
        self.refused(handshake(b"/ws", *headers), 403, "forbidden")
        self.request_auth.proxies = TrustedProxies(["192.0.2.7"])

        self.opened(handshake(b"/ws", *headers))


class CredentialTests(Case):
    def test_ways(self) -> None:
        """Header, cookie and subprotocol each carry a token; the header counts most, the cookie least."""
        header = (b"Authorization", b"Bearer good")
        cookie = (b"Cookie", b"a=b; chat_token=good; c=d")
        offer = (b"Sec-WebSocket-Protocol", b"chat.v1.json, bearer.good")

        for headers, source in (
            ([header], Source.HEADER),
            ([cookie, OWN], Source.COOKIE),
            ([offer], Source.SUBPROTOCOL),
            ([header, cookie, offer], Source.HEADER),
            ([cookie, offer], Source.SUBPROTOCOL),
        ):
            self.assertEqual(self.opened(handshake(b"/ws", *headers)).user, ALICE)
            self.assertEqual(self.people.asked[-1].source, source)

    def test_cookie_needs_an_origin(self) -> None:
        """A browser adds the cookie to what any page sends."""
        self.refused(handshake(b"/ws", (b"Cookie", b"chat_token=good")), 403, "forbidden")
        self.refused(handshake(b"/ws", (b"Cookie", b"chat_token=good"), (b"Origin", b"http://evil.test")), 403, "forbidden")

    def test_two_cookie_lines(self) -> None:
        """The cookie is found among several headers, and may be quoted."""
        admission = self.opened(handshake(b"/ws", (b"Cookie", b"a=b"), (b"Cookie", b'chat_token="good"'), OWN))

        self.assertEqual(admission.user, ALICE)

    def test_cookie_twice(self) -> None:
        """A neighbouring site can add a cookie of the same name: then it is open whose it is."""
        self.refused(handshake(b"/ws", (b"Cookie", b"chat_token=good; chat_token=old"), OWN), 400)
        self.opened(handshake(b"/ws", (b"Cookie", b"chat_token=good; chat_token=good"), OWN))

    def test_names_that_only_look_alike(self) -> None:
        """A cookie whose name only contains ours is not read."""
        self.assertTrue(
            self.opened(handshake(b"/ws", (b"Cookie", b"x_chat_token=good; chat_token2=good; chat_token="))).user.guest
        )

    def test_bad_tokens(self) -> None:
        """Unknown and malformed tokens get 401, repeated ones 400."""
        for token in (b"unknown", b"", b"a b", b"\xc3\xa9", b"good, good"):
            reply = self.refused(handshake(b"/ws", (b"Authorization", b"Bearer " + token)), 401, "unauthenticated")
            self.assertTrue(reply.headers["www-authenticate"].startswith("Bearer"))
        self.refused(handshake(b"/ws", (b"Sec-WebSocket-Protocol", b"bearer.")), 401, "unauthenticated")
        self.refused(handshake(b"/ws", (b"Authorization", b"Token good")), 401, "unauthenticated")
        self.refused(handshake(b"/ws", (b"Authorization", b"Bearer good"), (b"Authorization", b"Bearer good")), 400)
        self.refused(handshake(b"/ws", (b"Sec-WebSocket-Protocol", b"bearer.good, bearer.old, chat.v1.json")), 400)

    def test_expired(self) -> None:
        """An expired token gets 401 that says so."""
        reply = self.refused(handshake(b"/ws", (b"Authorization", b"Bearer old")), 401, "token_expired")
        self.assertFalse(reply.error["retry"])

    def test_scheme_in_any_case(self) -> None:
        """``Bearer`` is recognised in any case."""
        self.assertEqual(self.opened(handshake(b"/ws", (b"Authorization", b"bearer  good"))).user, ALICE)

    def test_password_for_a_proxy(self) -> None:
        """``Basic`` is between the browser and a proxy in front of us."""
        self.assertTrue(self.opened(handshake(b"/ws", (b"Authorization", b"Basic YTpi"))).user.guest)

    def test_no_guests(self) -> None:
        """Without guests a handshake needs a token."""
        self.people.guests = None
        self.refused(handshake(), 401, "unauthenticated")
        self.opened(handshake(b"/ws", (b"Authorization", b"Bearer good")))

    def test_bug_in_a_way(self) -> None:
        """A fault in a way to authenticate is logged and answered with 500."""
        reply = self.refused(handshake(b"/ws", (b"Authorization", b"Bearer broken")), 500, "internal")
        self.assertNotIn("a bug", reply.body.decode())
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
