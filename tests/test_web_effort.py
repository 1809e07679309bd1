"""What a handshake with a credential costs beside a guest's, in instructions that no machine changes."""

from __future__ import annotations

import os

from twisted.internet.task import Clock
from twisted.logger import Logger
from twisted.trial.unittest import SynchronousTestCase

from tests.harness.counting import instructions
from tests.harness.http_memory import HOST, Wire, handshake
from tests.harness.ws_memory import use_clock
from twisted_chat.auth.authenticator import AuthenticatorChain, GuestFactory
from twisted_chat.auth.tokens import OpaqueTokens
from twisted_chat.core.chat import Chat
from twisted_chat.core.connections import ConnectionLimiter
from twisted_chat.minting import mint
from twisted_chat.server.build import DIALECTS
from twisted_chat.stores.memory import MemoryStore
from twisted_chat.testing import UNBOUND
from twisted_chat.web.auth import RequestAuth
from twisted_chat.web.site import ChatSite
from twisted_chat.web.upgrade import Upgrades
from twisted_chat.websocket.factory import ChatFactory

#: Handshakes with a token, in a header or a cookie, reach at least this part of the rate of guests.
PART = 0.7
ORIGIN = (b"Origin", b"http://" + HOST)


class HandshakeEffortTests(SynchronousTestCase):
    def setUp(self) -> None:
        clock = Clock()
        store = MemoryStore(clock)
        opened = self.successResultOf(store.open())
        minted = mint(os.urandom, 0, user="u1", name="alice")
        self.successResultOf(store.create_token(minted.record, minted.secret_hash))
        self.token = minted.token.encode()
        identities = AuthenticatorChain([OpaqueTokens(store, lambda: 0.0)], GuestFactory(opened.secret, os.urandom))
        core = Chat(
            store,
            opened,
            clock,
            now_seconds=clock.seconds,
            run_id="x",
            random=lambda: 0.5,
            dialects=DIALECTS,
            limits=UNBOUND,
            identify=identities.identify,
        )
        limiter = ConnectionLimiter(UNBOUND)
        sockets = ChatFactory(core.open_session, limiter.ended, UNBOUND, compression=False, reactor=use_clock(self))
        upgrades = Upgrades(
            RequestAuth(limiter, identities, clock), sockets.open_socket, may_enter=core.check_may_enter, logger=Logger()
        )
        self.site = ChatSite(
            upgrades.upgrade,
            limiter,
            clock,
            body_bytes=1_000,
            observe=lambda *answer: None,
            logger=Logger(),
            quick=upgrades.quick,
        )

    def cost(self, *headers: tuple[bytes, bytes]) -> int:
        """The instructions of one handshake, everything that is called included, after a first one."""
        subprotocol = (b"Sec-WebSocket-Protocol", b"chat.v1.json")
        data = handshake(b"/ws", subprotocol, *headers)
        self.open(data)
        return instructions(lambda: self.open(data))

    def open(self, data: bytes) -> None:
        answer = Wire(self.site).deliver(data)
        self.assertTrue(answer.startswith(b"HTTP/1.1 101 "), answer)

    def test_token(self) -> None:
        """A bearer token, as programs send it."""
        guest = self.cost()

        self.assertGreater(guest / self.cost((b"Authorization", b"Bearer " + self.token)), PART)

    def test_cookie(self) -> None:
        """A cookie, as the page of a browser sends it."""
        guest = self.cost(ORIGIN)

        self.assertGreater(guest / self.cost(ORIGIN, (b"Cookie", b"chat_token=" + self.token)), PART)
