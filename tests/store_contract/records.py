"""The contract of what is kept beside the logs: marks, archived rooms, cursors, tokens; news; a store that is closed."""

from __future__ import annotations

from tests.store_contract.case import ALICE, StoreCase, say, token
from twisted_chat.errors import Conflict, Unavailable
from twisted_chat.events import Cursor, NewTopic
from twisted_chat.store_contract import Append, Revocations, RoomNews, RoomRecord


class RecordsContract(StoreCase):
    def test_read_marks_only_rise_and_end_at_the_head(self) -> None:
        """A read mark keeps its maximum, is at most the head, and belongs to a person and a room."""
        self.appended("a", *(say(str(n)) for n in range(9)))
        self.appended("b", say("x"))
        marks = [self.successResultOf(self.store.mark_read("u1", "a", seq)) for seq in (3, 7, 5, 99)]

        self.assertEqual(marks, [3, 7, 7, 9])
        self.assertEqual(self.successResultOf(self.store.mark_read("u2", "a", 1)), 1)
        self.assertEqual(self.successResultOf(self.store.mark_read("u1", "b", 1)), 1)
        self.assertEqual(self.successResultOf(self.store.mark_read("u1", "nowhere", 5)), 0)
        self.assertEqual(self.successResultOf(self.store.read_marks("u1")), {"a": 9, "b": 1})
        self.assertEqual(self.successResultOf(self.store.read_marks("u9")), {})

    def test_archive(self) -> None:
        """A room can be archived and opened again, and each change is in the news of rooms."""
        [event] = self.appended("lobby", say("x"))

        self.assertEqual(self.successResultOf(self.store.archive("lobby", True)), RoomRecord("lobby", 1, 1, event.id, "", True))
        self.assertFalse(self.successResultOf(self.store.archive("lobby", False)).archived)
        self.assertEqual(self.successResultOf(self.store.archive("new", True)), RoomRecord("new", archived=True))
        self.assertEqual(self.room_news(0).archived, {"lobby": False, "new": True})

    def test_cursors_of_readers(self) -> None:
        """Each reader has one cursor for each room; the last that was saved counts, and deleting concerns one reader."""
        one, two = Cursor("epoch", 3, "x-3"), Cursor("epoch", 5, "x-5")
        for reader, room, cursor in (
            ("hook", "a", one),
            ("hook", "a", two),
            ("hook", "b", Cursor("epoch", 0)),
            ("index", "a", one),
        ):
            self.successResultOf(self.store.save_cursor(reader, room, cursor))

        self.assertEqual(self.successResultOf(self.store.load_cursors("hook")), {"a": two, "b": Cursor("epoch", 0)})
        self.successResultOf(self.store.delete_cursors("hook"))
        self.assertEqual(self.successResultOf(self.store.load_cursors("hook")), {})
        self.assertEqual(self.successResultOf(self.store.load_cursors("index")), {"a": one})

    def test_cursors_go_forward(self) -> None:
        """A cursor that was saved late changes nothing; one of another epoch, and one that rewinds, do."""

        def save(cursor: Cursor, *, rewind: bool = False) -> Cursor:
            self.successResultOf(self.store.save_cursor("hook", "a", cursor, rewind=rewind))
            return self.successResultOf(self.store.load_cursors("hook"))["a"]

        five = Cursor("epoch", 5, "x-5")
        self.assertEqual(save(five), five)
        self.assertEqual(save(Cursor("epoch", 4, "x-4")), five)
        self.assertEqual(save(Cursor("epoch", 5, "y-5")), five)
        six = Cursor("epoch", 6, "x-6")
        self.assertEqual(save(six), six)
        self.assertEqual(save(five, rewind=True), five)
        other = Cursor("other", 1, "z-1")
        self.assertEqual(save(other), other)

    def test_news(self) -> None:
        """Heads that are told never go back, and a reader that has stopped is told nothing; stopping twice is no error."""
        told: list[tuple[str, int]] = []
        stopped: list[object] = []
        stops = [self.store.follow(lambda heads: told.extend(heads.items())) for _ in range(2)]
        stop = self.store.follow(stopped.append)
        self.append("lobby", say("one"))
        stop()
        stop()

        self.append("lobby", say("two"), say("three"))
        self.clock.advance(1)

        heads = [head for _, head in told]
        self.assertEqual(heads, sorted(heads))
        self.assertLessEqual({room for room, _ in told}, {"lobby"})
        self.assertEqual(stopped, [])
        for each in stops:
            each()

    def test_the_record_of_a_room(self) -> None:
        """It is what the log has now; asking for one that is not there makes none."""
        self.assertEqual(self.successResultOf(self.store.record("lobby")), RoomRecord("lobby"))

        self.append("lobby", say("one"), NewTopic(ALICE, None, "weather"))
        [head] = self.successResultOf(self.store.read("lobby", 1, 1, 1))

        self.assertEqual(
            self.successResultOf(self.store.record("lobby")), RoomRecord("lobby", head=2, head_id=head.id, topic="weather")
        )

        self.successResultOf(self.store.archive("lobby", True))
        self.successResultOf(self.store.purge("lobby", 1, None))
        record = self.successResultOf(self.store.record("lobby"))

        self.assertEqual((record.first, record.head, record.archived), (2, 2, True))
        self.assertEqual(self.successResultOf(self.store.record("other")).head, 0)
        self.assertEqual(set(self.successResultOf(self.store.room_news(0, 10)).archived), {"lobby"})

    def test_a_lease_is_kept(self) -> None:
        """Who has it gets it again."""
        self.assertTrue(self.successResultOf(self.store.lease("retention", 600)))
        self.assertTrue(self.successResultOf(self.store.lease("retention", 600)))

    def test_probe(self) -> None:
        """A store that works answers its probe."""
        self.assertIsNone(self.successResultOf(self.store.probe()))

    def test_a_closed_store_is_unavailable(self) -> None:
        self.close()
        for answer in (self.store.append([Append("lobby", [say("x")])]), self.store.read("lobby", 0, 1, 1), self.store.probe()):
            self.failureResultOf(answer, Unavailable)

    # -- tokens

    def test_tokens(self) -> None:
        """A token is found by the hash of its secret, and tokens are listed in the order of their creation."""
        first, second = token(1, 2000, 3000, ("moderate", "metrics")), token(2, 1000)

        self.successResultOf(self.store.create_token(first, b"1" * 32))
        self.successResultOf(self.store.create_token(second, b"2" * 32))
        self.assertEqual(self.successResultOf(self.store.find_token(b"1" * 32)), first)
        self.assertEqual(self.successResultOf(self.store.find_token(b"2" * 32)), second)
        self.assertIsNone(self.successResultOf(self.store.find_token(b"3" * 32)))
        self.assertEqual(self.successResultOf(self.store.list_tokens()), [second, first])

    def test_a_token_is_made_once(self) -> None:
        """A second token with the same id or hash is refused."""
        self.successResultOf(self.store.create_token(token(1), b"1" * 32))
        self.failureResultOf(self.store.create_token(token(1), b"2" * 32), Conflict)
        self.failureResultOf(self.store.create_token(token(2), b"1" * 32), Conflict)
        self.assertEqual(self.successResultOf(self.store.list_tokens()), [token(1)])

    def test_revoking(self) -> None:
        """A revocation keeps its first time, and is found by its number, whatever the clock of whoever revoked."""
        self.successResultOf(self.store.create_token(token(1), b"1" * 32))
        self.successResultOf(self.store.create_token(token(2), b"2" * 32))

        revoked = self.successResultOf(self.store.revoke_token("t1", 5000))
        assert revoked is not None

        self.assertEqual(revoked.revoked, 5000)
        self.assertEqual(self.successResultOf(self.store.revoke_token("t1", 6000)), revoked)
        self.assertEqual(self.successResultOf(self.store.find_token(b"1" * 32)), revoked)
        self.assertIsNone(self.successResultOf(self.store.revoke_token("t9", 5000)))
        first = self.revocations(0)
        self.assertEqual(first.tokens, ("t1",))
        self.assertEqual(self.revocations(first.number), Revocations(first.number, ()))
        self.successResultOf(self.store.revoke_token("t2", 1))
        second = self.revocations(first.number)
        self.assertEqual(second.tokens, ("t2",))
        self.assertGreater(second.number, first.number)
        self.assertEqual(self.revocations(0, 1), first)
        self.assertEqual(self.revocations(0).tokens, ("t1", "t2"))

    def revocations(self, since: int, limit: int = 100) -> Revocations:
        return self.successResultOf(self.store.revocations(since, limit))

    def room_news(self, since: int, limit: int = 100) -> RoomNews:
        return self.successResultOf(self.store.room_news(since, limit))

    def test_news_of_rooms(self) -> None:
        """What was made, archived or opened again since the last look, and nothing else."""
        self.assertEqual(self.room_news(self.opened.news), RoomNews(self.opened.news, {}))
        self.appended("a", say("1"))
        self.appended("b", say("1"))
        news = self.room_news(self.opened.news)
        self.assertEqual(news.archived, {"a": False, "b": False})

        self.appended("a", say("2"))
        self.purge("a", 1)
        self.assertEqual(self.room_news(news.number), RoomNews(news.number, {}))

        self.successResultOf(self.store.archive("a", True))
        self.successResultOf(self.store.archive("c", True))
        first = self.room_news(news.number, 1)
        self.assertEqual(first.archived, {"a": True})
        rest = self.room_news(first.number)
        self.assertEqual(rest.archived, {"c": True})
        self.assertEqual(self.room_news(rest.number), RoomNews(rest.number, {}))

        self.successResultOf(self.store.archive("c", False))
        self.assertEqual(self.room_news(rest.number).archived, {"c": False})
