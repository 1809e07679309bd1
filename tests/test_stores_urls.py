"""Which store a URL names."""

from __future__ import annotations

import os
import threading
from tempfile import TemporaryDirectory

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from twisted_chat.store_contract import Opened, Store, StoreError
from twisted_chat.stores.memory import MemoryStore
from twisted_chat.stores.sqlite.store import SQLiteStore
from twisted_chat.stores.urls import make_shared_tokens, make_store
from twisted_chat.stores.workers import call_at_once


class MakeStoreTests(SynchronousTestCase):
    def made(self, url: str) -> Store:
        return make_store(url, Clock(), call_at_once)

    def test_memory(self) -> None:
        """``memory:`` is the store in memory."""
        self.assertIsInstance(self.made("memory:"), MemoryStore)

    def test_sqlite_with_threads_of_its_own(self) -> None:
        """They end with the store."""
        with TemporaryDirectory() as directory:
            before = threading.active_count()
            store = self.made(f"sqlite:{directory}/chat.db")
            self.assertIsInstance(store, SQLiteStore)
            self.assertEqual(threading.active_count(), before + 3)
            opened = waited_for(store.open())
            assert isinstance(opened, Opened)
            self.assertEqual(opened.rooms, ())
            self.assertTrue(os.path.exists(f"{directory}/chat.db"))
            waited_for(store.close())
            for thread in threading.enumerate():
                if thread.name.startswith("chat-"):
                    thread.join(10)
            self.assertEqual(threading.active_count(), before)

    def test_no_such_kind(self) -> None:
        """An unknown scheme is refused with the known ones."""
        for url in ("mysql://localhost/chat", "chat.db", "", ":", "SQLITE:x"):
            error = self.assertRaises(StoreError, self.made, url)
            self.assertEqual(
                str(error), f"--store {url}: no such kind of store; there are sqlite:PATH, postgresql://… and memory:"
            )

    def test_what_is_missing_or_too_much(self) -> None:
        """``sqlite:`` needs a path, and ``memory:`` takes none."""
        error = self.assertRaises(StoreError, self.made, "sqlite:")

        self.assertEqual(str(error), "--store sqlite: names no file; write sqlite:PATH")

        error = self.assertRaises(StoreError, self.made, "memory:chat")
        self.assertEqual(str(error), "--store memory:chat: nothing may follow memory:")

    def test_shared_tokens_need_a_file(self) -> None:
        """Tokens for other processes need a store in a file."""
        with TemporaryDirectory() as directory:
            self.successResultOf(make_shared_tokens(f"sqlite:{directory}/chat.db").open())
        error = self.assertRaises(StoreError, make_shared_tokens, "memory:")
        self.assertEqual(
            str(error), "--store memory:: keeps nothing that another process can see; use sqlite:PATH or postgresql://…"
        )


def waited_for(answer: Deferred[Opened] | Deferred[None]) -> object:
    """What a store with threads answers; its way back is taken in its thread."""
    fired = threading.Event()
    results: list[object] = []
    answer.addBoth(results.append)
    answer.addBoth(lambda _: fired.set())
    if not fired.wait(30):
        raise AssertionError("no answer")
    return results[0]
