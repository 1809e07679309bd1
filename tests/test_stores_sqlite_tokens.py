"""Tokens that are looked up while others are being looked up share one read of the database."""

from __future__ import annotations

from collections import deque

from twisted.internet.defer import CancelledError
from twisted.internet.task import Clock

from tests.harness.sqlite_files import FileCase
from tests.store_contract.case import token
from twisted_chat.errors import Unavailable
from twisted_chat.store_contract import TokenRecord
from twisted_chat.stores.sqlite.store import SQLiteStore
from twisted_chat.stores.workers import AtOnce, Work, call_at_once


class ReadsByHand:
    """A worker that reads when the test says so."""

    def __init__(self) -> None:
        self.waiting: deque[Work] = deque()

    def run(self, work: Work) -> None:
        self.waiting.append(work)

    def go(self) -> None:
        self.waiting.popleft()()

    def finish(self) -> None:
        pass


def secret_hash(number: int) -> bytes:
    return number.to_bytes(32, "big")


class LookupTests(FileCase):
    """300 tokens, of which every third has rights."""

    def setUp(self) -> None:
        super().setUp()
        self.readers = ReadsByHand()
        self.tokens: list[TokenRecord] = []
        self.store = SQLiteStore(self.path, Clock(), AtOnce(), self.readers, call_at_once)
        self.successResultOf(self.store.open())
        for number in range(300):
            record = token(number, expires=number or None, rights=("moderate", "metrics")[: number % 3])
            self.tokens.append(record)
            self.successResultOf(self.store.create_token(record, secret_hash(number)))

    def tearDown(self) -> None:
        closed = self.store.close()
        while self.readers.waiting:
            self.readers.go()
        self.successResultOf(closed)

    def test_one_read_for_all_that_wait(self) -> None:
        """The first is read alone; those that come meanwhile, known, unknown and repeated, are one more read."""
        wanted = [7, *range(300), 999, 7]
        answers = [self.store.find_token(secret_hash(number)) for number in wanted]

        self.readers.go()
        self.assertEqual(self.successResultOf(answers[0]), self.tokens[7])
        self.assertEqual(len(self.readers.waiting), 1)
        self.readers.go()

        self.assertEqual([self.successResultOf(answer) for answer in answers[1:]], [*self.tokens, None, self.tokens[7]])
        self.assertEqual(len(self.readers.waiting), 0)

    def test_any_number(self) -> None:
        """As many hashes as fit the places of the statement, one more, one less."""
        for count in (1, 2, 3, 4, 5, 255, 256, 257):
            first = self.store.find_token(secret_hash(0))
            answers = [self.store.find_token(secret_hash(number)) for number in range(count)]
            self.readers.go()
            self.readers.go()

            self.assertEqual(self.successResultOf(first), self.tokens[0])
            self.assertEqual([self.successResultOf(answer) for answer in answers], self.tokens[:count])

    def test_revoked_before_it_is_asked(self) -> None:
        """An answer shows what was committed when the token was asked for, even if another read was in progress then."""
        first = self.store.find_token(secret_hash(1))
        self.successResultOf(self.store.revoke_token("t2", 5000))
        second = self.store.find_token(secret_hash(2))

        self.readers.go()
        self.readers.go()

        self.assertEqual(self.successResultOf(first), self.tokens[1])
        revoked = self.successResultOf(second)
        assert revoked is not None
        self.assertEqual(revoked.revoked, 5000)

    def test_read_that_fails(self) -> None:
        """All that shared the read learn of it, and the next one is made as if nothing had been."""
        first = self.store.find_token(secret_hash(1))
        others = [self.store.find_token(secret_hash(number)) for number in (2, 3)]
        self.readers.go()
        self.sql("ALTER TABLE token RENAME TO gone")
        self.readers.go()
        self.sql("ALTER TABLE gone RENAME TO token")

        self.assertEqual(self.successResultOf(first), self.tokens[1])
        for answer in others:
            self.failureResultOf(answer, Unavailable)
        again = self.store.find_token(secret_hash(2))
        self.readers.go()
        self.assertEqual(self.successResultOf(again), self.tokens[2])

    def test_one_that_is_given_up(self) -> None:
        """A handshake that waits no longer takes no other's answer away."""
        self.store.find_token(secret_hash(0))
        given_up, other = self.store.find_token(secret_hash(1)), self.store.find_token(secret_hash(2))

        given_up.cancel()
        self.failureResultOf(given_up, CancelledError)
        self.readers.go()
        self.readers.go()

        self.assertEqual(self.successResultOf(other), self.tokens[2])
