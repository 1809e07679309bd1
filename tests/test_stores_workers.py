"""Workers: threads that share a queue."""

from __future__ import annotations

import threading
from queue import SimpleQueue

from twisted.trial.unittest import SynchronousTestCase

from twisted_chat.stores.workers import AtOnce, Threads, call_at_once

#: Seconds after which a thread that does nothing is a failure.
PATIENCE = 30


class ThreadsTests(SynchronousTestCase):
    def test_one_thread_keeps_the_order_and_finishes_before_it_quits(self) -> None:
        done: SimpleQueue[tuple[int, str]] = SimpleQueue()
        worker = Threads("one")
        for number in range(100):
            worker.run(lambda number=number: done.put((number, threading.current_thread().name)))  # type: ignore[misc]
        worker.finish()
        results = [done.get(timeout=PATIENCE) for _ in range(100)]

        self.assertEqual([number for number, _ in results], list(range(100)))
        self.assertEqual({name for _, name in results}, {"one-0"})

    def test_two_threads_work_at_once(self) -> None:
        """Each waits for the other."""
        both = threading.Barrier(2)
        done: SimpleQueue[int] = SimpleQueue()
        worker = Threads("two", 2)

        for _ in range(2):
            worker.run(lambda: done.put(both.wait(PATIENCE)))

        self.assertEqual({done.get(timeout=PATIENCE), done.get(timeout=PATIENCE)}, {0, 1})

        names = {thread.name for thread in threading.enumerate()}
        self.assertTrue({"two-0", "two-1"} <= names, names)

        worker.finish()

    def test_at_once(self) -> None:
        """AtOnce runs work in the caller's thread."""
        done: list[int] = []
        worker = AtOnce()
        worker.run(lambda: done.append(1))
        worker.finish()

        call_at_once(done.append, 2)

        self.assertEqual(done, [1, 2])
