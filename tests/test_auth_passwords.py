"""Which passwords are accepted, and the threads that hash them."""

from __future__ import annotations

import os
from collections.abc import Callable
from queue import SimpleQueue

from argon2 import PasswordHasher
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from twisted_chat.auth import passwords
from twisted_chat.auth.passwords import QUEUE_MAX, Argon2Passwords, check_password
from twisted_chat.errors import BadRequest, LimitReached
from twisted_chat.stores.workers import AtOnce, Threads, call_at_once

CHEAP = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)


class RulesTests(SynchronousTestCase):
    def test_accepted(self) -> None:
        """Length alone decides: small letters, spaces, any script."""
        for password in (
            "tangerine ladder moss",
            "vylofeqa",
            "пароход уходит",
            "日本語のパスワードだよ",
            "x7#kQ9!z",
            "💧" * 4 + "🔥🌳🍄🌙",
            "zqvjxkwp" * 16,
        ):
            check_password(password, "alice")

    def test_refused(self) -> None:
        """Too short, too long, common ones with ornaments, and what has the name in it; the field is named."""
        for password in (
            "short", "x" * 129, "x" * 100_000, "password", "Password123!", "p4ssw0rd", "P@ssw0rd2024", "12345678", "1234567890", "11111111",
            "abcdefgh", "qwertyuiop", "1qaz2wsx", "1q2w3e4r", "qwerty123", "iloveyou", "letmein1!", "trustno1", "sunshine", "abcabcabc",
            "football1", "superman99", "welcome2024", "aaaaaaaab"[:8], "asdfghjkl", "zxcvbnm123", "19840523", "adminadmin", "princess",
            "alice in chains", "xx-ALICE-xx", "al1ce-tree-9", "ﬀ\ud800abcdefgh", "\ufdfa" * 20,
        ):  # fmt: skip
            with self.subTest(password[:20]):
                error = self.assertRaises(BadRequest, check_password, password, "Alice", "new_password")
                self.assertIn("new_password: ", error.message)
                self.assertNotIn(password, error.message.partition(":")[2])

    def test_length_counts_characters_after_composition(self) -> None:
        """The seven letters of which some are written as two characters are seven."""
        self.assertRaises(BadRequest, check_password, "u\u0308o\u0308a\u0308zkwq", "alice")
        check_password("u\u0308o\u0308a\u0308zkwqm", "alice")


class Held:
    """A runner that a test lets go on."""

    def __init__(self) -> None:
        self.works: list[Callable[[], object]] = []
        self.ended = False

    def run(self, work: Callable[[], object]) -> None:
        self.works.append(work)

    def finish(self) -> None:
        self.ended = True


class HashTests(SynchronousTestCase):
    def test_hash(self) -> None:
        """A password matches its hash however it was typed, others do not, and no hash matches anything."""
        hashing = Argon2Passwords(AtOnce, call_at_once, CHEAP)
        kept = self.successResultOf(hashing.hash("Ångström-würde"))

        self.assertTrue(kept.startswith("$argon2id$"))
        self.assertTrue(self.successResultOf(hashing.verify("A\u030angstro\u0308m-wu\u0308rde", kept)))
        for password, against in (("other", kept), ("x", ""), ("nobody has this password", ""), ("x", "no hash")):
            self.assertFalse(self.successResultOf(hashing.verify(password, against)))

    def test_default_cost(self) -> None:
        """What is kept is argon2id with 19 MiB, two passes."""
        kept = self.successResultOf(Argon2Passwords(AtOnce, call_at_once).hash("tangerine ladder"))
        self.assertIn("$argon2id$v=19$m=19456,t=2,p=1$", kept)

    def test_same_work_for_unknown_names(self) -> None:
        """Without a hash as much is compared as with one."""
        hashing = Argon2Passwords(AtOnce, call_at_once, CHEAP)
        verified: list[str] = []

        def verify(hasher: PasswordHasher, kept: str, password: str) -> bool:
            verified.append(kept)
            return True

        self.patch(PasswordHasher, "verify", verify)
        self.assertFalse(self.successResultOf(hashing.verify("secret", "")))
        self.assertTrue(self.successResultOf(hashing.verify("secret", CHEAP.hash("secret"))))
        self.assertEqual(next(kept.rpartition("$")[0].rpartition("$")[0] for kept in verified), "$argon2id$v=19$m=8,t=1,p=1")
        self.assertEqual(len(verified), 2)

    def test_queue(self) -> None:
        """Of 10,000 attempts some wait, the others are refused at once, and it goes on when those are done; then the threads end."""
        runner = Held()
        hashing = Argon2Passwords(lambda: runner, call_at_once, CHEAP)
        answers = [hashing.verify("secret", "") for _ in range(10_000)]

        self.assertEqual(len(runner.works), QUEUE_MAX)
        for answer in answers[QUEUE_MAX:]:
            self.assertEqual(self.failureResultOf(answer, LimitReached).value.retry_after_ms, 2_000)
        for work in runner.works:
            work()
        self.assertEqual([self.successResultOf(answer) for answer in answers[:QUEUE_MAX]], [False] * QUEUE_MAX)
        self.assertNoResult(hashing.verify("secret", ""))
        hashing.finish()
        self.assertTrue(runner.ended)

    def test_who_left(self) -> None:
        """A client that leaves meanwhile breaks nothing."""
        runner = Held()
        hashing = Argon2Passwords(lambda: runner, call_at_once, CHEAP)
        answer: Deferred[bool] = hashing.verify("secret", "")
        answer.addErrback(lambda _: None)
        answer.cancel()
        runner.works[0]()
        self.assertEqual(hashing.hashed, 1)

    def test_priority(self) -> None:
        """Only the threads that hash give way to others."""
        given: list[tuple[int, int, int]] = []
        self.patch(os, "setpriority", lambda *arguments: given.append(arguments))
        self.patch(passwords, "_thread", type("T", (), {})())
        self.successResultOf(Argon2Passwords(AtOnce, call_at_once, CHEAP).hash("secret"))
        self.assertEqual(given, [])
        threads = Threads("test-password")
        done: SimpleQueue[object] = SimpleQueue()
        self.patch(passwords, "_thread", type("T", (), {})())
        hashing = Argon2Passwords(lambda: threads, lambda call, *arguments: done.put(call(*arguments)), CHEAP)
        answer = hashing.hash("secret")
        done.get(timeout=30)
        hashing.finish()
        self.assertTrue(self.successResultOf(answer))
        self.assertEqual([nice for _, _, nice in given], [10])
