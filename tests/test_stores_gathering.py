"""Questions that come while one is under way are asked together."""

from __future__ import annotations

from collections.abc import Mapping

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from twisted_chat.stores.gathering import Gathered


class GatheredTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.asked: list[Mapping[str, int]] = []
        self.answers: list[Deferred[dict[str, str]]] = []

    def put(self, values: Mapping[str, int]) -> Deferred[dict[str, str]]:
        self.asked.append(dict(values))
        self.answers.append(Deferred())
        return self.answers[-1]

    def answer(self) -> None:
        """The query under way has its results: ``KEY=VALUE``."""
        self.answers[-1].callback({key: f"{key}={value}" for key, value in self.asked[-1].items()})

    def test_one_at_a_time_and_all_that_wait_in_the_next(self) -> None:
        gathered = Gathered[str, int, str](self.put, max)
        first = gathered.ask("a", 1)
        others = [gathered.ask(key, value) for key, value in (("a", 2), ("b", 3), ("a", 1))]
        self.assertEqual(self.asked, [{"a": 1}])

        self.answer()
        self.assertEqual(self.successResultOf(first), "a=1")
        self.assertEqual(self.asked[1:], [{"a": 2, "b": 3}])
        self.answer()

        self.assertEqual([self.successResultOf(other) for other in others], ["a=2", "b=3", "a=2"])
        self.assertEqual(len(self.asked), 2)

    def test_no_more_than_so_many_at_once(self) -> None:
        gathered = Gathered[str, int, str](self.put, max, 2)
        waiting = [gathered.ask(key, 1) for key in "abcdef"]
        for _ in range(4):
            self.answer()
        self.assertEqual([list(each) for each in self.asked], [["a"], ["b", "c"], ["d", "e"], ["f"]])
        self.assertEqual([self.successResultOf(each) for each in waiting], [f"{key}=1" for key in "abcdef"])

    def test_a_failure_is_that_of_all_in_the_query(self) -> None:
        """And the next query is put."""
        gathered = Gathered[str, int, str](self.put, max)
        waiting = [gathered.ask(key, 1) for key in "ab"]
        self.answers[-1].errback(ValueError("away"))
        self.failureResultOf(waiting[0], ValueError)
        self.answer()
        self.assertEqual(self.successResultOf(waiting[1]), "b=1")
