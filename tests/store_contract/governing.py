"""The contract of settings, members and sanctions: what is decided at the commit, and what the store remembers of it."""

from __future__ import annotations

from tests.store_contract.case import ALICE, AWKWARD, BEGIN, BOB, CAROL, StoreCase, configure, member, sanction, say
from twisted_chat.errors import Conflict, Forbidden
from twisted_chat.events import Author, MemberChanged, NewMember, NewSanction, NewTopic, RoomChanged, RoomSettings, Sanctioned
from twisted_chat.standings import ADMIN_RANK, FOREVER, RANKS, Standing, StandingNews, rank
from twisted_chat.store_contract import Append, Appended, Duplicate, RoomNews

DAVE = Author("u4", "dave")
GUEST = Author("g1", "guest")
NOW = int(BEGIN * 1000)
DEN = RoomSettings("private", "The den", "members", 1.5)
READER, MEMBER, MODERATOR, OWNER = RANKS.values()


class GoverningContract(StoreCase):
    def den(self) -> None:
        """A room of Alice's in which Bob is moderator and Carol a member."""
        self.appended(
            "den",
            configure(creates=True, access="private"),
            member(ALICE, "owner"),
            member(BOB, "moderator"),
            member(CAROL, "member"),
        )

    def roles(self, room: str = "den") -> dict[str, str | None]:
        return {standing.person: standing.role for standing in self.members(room)}

    # -- events

    def test_the_events(self) -> None:
        """The log has what changed, and every way to read it gives the same."""
        settings = configure(creates=True, key="c", access="private", title="The den", writers="members", slow_mode=1.5)
        events = self.appended(
            "den",
            settings,
            member(ALICE, "owner", key="m"),
            sanction(BOB, "mute", until=NOW + 5, key="s"),
            member(ALICE, "owner"),
            configure(archived=True, access="private"),
            sanction(BOB, "mute", on=False),
        )
        ids = [event.id for event in events]

        self.assertEqual(
            events,
            [
                RoomChanged(1, ids[0], NOW, ALICE, "c", settings=DEN),
                MemberChanged(2, ids[1], NOW, ALICE, "m", person=ALICE, role="owner"),
                Sanctioned(3, ids[2], NOW, ALICE, "s", person=BOB, what="mute", until=NOW + 5, reason="a reason"),
                MemberChanged(4, ids[3], NOW, ALICE, person=ALICE, role="owner"),
                RoomChanged(5, ids[4], NOW, ALICE, settings=RoomSettings("private"), archived=True),
                Sanctioned(6, ids[5], NOW, ALICE, person=BOB, what="mute", on=False, reason="a reason"),
            ],
        )
        self.assertEqual(self.log("den"), events)
        self.assertEqual([self.event("den", seq) for seq in range(1, 7)], events)
        self.assertEqual(list(self.page("den").events), events)
        self.assertEqual(list(self.page("den", 2, before=6).events), events[3:5])

    def test_awkward_texts(self) -> None:
        """Names, titles and reasons come back as they were given."""
        self.appended("den", configure(creates=True))
        for number, text in enumerate(AWKWARD):
            who = Author(f"u{number}", text)
            ban = NewSanction(ALICE, None, who, "mute", True, None, text, OWNER)

            changed, named, banned = self.appended("den", configure(title=text), member(who, "member"), ban)

            assert isinstance(changed, RoomChanged) and isinstance(named, MemberChanged) and isinstance(banned, Sanctioned)
            self.assertEqual((changed.settings.title, named.person, banned.reason), (text, who, text))
            self.assertEqual(self.log("den", number * 3 + 1), [changed, named, banned])
            self.assertEqual(self.successResultOf(self.store.record("den")).settings.title, text)
            self.assertEqual(self.standing("den", who.id), Standing("den", who.id, text, "member", FOREVER))
            self.assertIn(who.id, [standing.person for standing in self.members("den", search=text)])
        self.assertEqual(len(self.members("den")), len(AWKWARD))

    def test_amendments_pass_them_by(self) -> None:
        """They are no messages, and messages between them are numbered with them."""
        self.appended(
            "den", say("one"), member(ALICE, "owner"), say("two"), NewTopic(ALICE, None, "x"), sanction(BOB), say("three")
        )

        self.assertEqual([event.seq for event in self.page("den").events], [1, 2, 3, 4, 5, 6])

    def test_keys(self) -> None:
        """A repeated event is answered with the first one, and is not decided again."""
        self.den()
        [first] = self.appended("den", member(DAVE, "moderator", key="k"))
        self.appended("den", member(DAVE, "reader"))
        news = self.standing_news().number

        self.assertEqual(self.append("den", member(DAVE, "moderator", key="k")), [Duplicate(first)])
        one, two = self.append("den", sanction(CAROL, key="b"), sanction(CAROL, key="b"))

        assert isinstance(one, Appended)
        self.assertEqual(two, Duplicate(one.event))
        self.assertEqual(self.roles(), {"u1": "owner", "u2": "moderator", "u4": "reader"})
        self.assertEqual([standing.person for standing in self.standing_news(news).standings], ["u3"])

    # -- creation and settings

    def test_creation(self) -> None:
        """Settings and first members are one request, decided in its order."""
        self.den()

        self.assertEqual(self.roles(), {"u1": "owner", "u2": "moderator", "u3": "member"})
        record = self.successResultOf(self.store.record("den"))
        self.assertEqual((record.head, record.settings), (4, RoomSettings("private")))

    def test_members_need_a_room(self) -> None:
        """Nobody gets a role or a sanction in a room that has no event."""
        for new_event in (member(ALICE, "owner"), sanction(BOB, authority=ADMIN_RANK)):
            self.refused("den", new_event, Conflict)

        self.assertEqual(self.standing_news(), StandingNews(0, ()))
        self.appended("den", configure(), member(ALICE, "owner"))

    def test_a_creation_that_fails_takes_its_members_with_it(self) -> None:
        """Who creates a room that is there already does not become owner of it; others in the same batch are not concerned."""
        self.den()

        outcomes = self.append(
            "den",
            configure(creates=True, by=DAVE),
            member(DAVE, "owner", by=DAVE),
            sanction(CAROL, by=DAVE),
            configure(by=DAVE, access="private", title="mine"),
            member(CAROL, "reader", by=ALICE),
            say("hello", DAVE),
        )

        kinds = [type(outcome) for outcome in outcomes]
        self.assertEqual(kinds, [Conflict, Conflict, Conflict, Conflict, Appended, Appended])
        self.assertEqual(self.roles(), {"u1": "owner", "u2": "moderator", "u3": "reader"})
        self.assertEqual(self.successResultOf(self.store.record("den")).settings, RoomSettings("private"))

    def test_a_creation_that_is_repeated(self) -> None:
        """Who repeats the creation of a room does not get back what was lost since."""
        creation = (configure(creates=True, key="c"), member(ALICE, "owner"), member(BOB, "owner", key="b"))
        first = self.appended("den", *creation)
        self.appended("den", member(ALICE, "reader", by=BOB))

        settings, own, other = self.append("den", *creation)

        self.assertEqual((settings, other), (Duplicate(first[0]), Duplicate(first[2])))
        self.assertIsInstance(own, Conflict)
        self.assertEqual(self.roles(), {"u1": "reader", "u2": "owner"})

    def test_only_a_new_room_is_created(self) -> None:
        """A room with any event exists, also when retention has taken it; one without is as good as none."""
        self.appended("lobby", say("x"))
        self.purge("lobby", 0)
        self.successResultOf(self.store.archive("den", True))

        self.refused("lobby", configure(creates=True), Conflict)
        self.appended("den", configure(creates=True))

        self.assertFalse(self.successResultOf(self.store.record("den")).archived)

    def test_access_stays(self) -> None:
        """Settings may change, but not from private to public."""
        self.den()

        self.refused("den", configure(access="public"), Conflict)
        self.appended("den", configure(access="private", title="new", slow_mode=0.0))

        settings = self.successResultOf(self.store.record("den")).settings
        self.assertEqual(settings, RoomSettings("private", "new", slow_mode=0.0))

    def test_settings_beside_the_log(self) -> None:
        """Retention and archiving keep the settings, and settings archive."""
        self.den()
        self.assertEqual(self.purge("den", 0).settings, RoomSettings("private"))
        self.assertEqual(self.successResultOf(self.store.archive("den", True)).settings, RoomSettings("private"))
        self.appended("den", configure(access="private"))
        self.assertFalse(self.successResultOf(self.store.record("den")).archived)
        self.appended("den", configure(access="private", archived=True))
        self.assertTrue(self.successResultOf(self.store.record("den")).archived)

    def test_news_of_settings(self) -> None:
        """Other processes learn of changed settings as of archived rooms; the usual settings are left out."""
        self.den()
        self.appended("lobby", say("x"))

        def news(since: int) -> RoomNews:
            return self.successResultOf(self.store.room_news(since, 100))

        first = news(self.opened.news)
        self.assertEqual((first.archived, first.settings), ({"den": False, "lobby": False}, {"den": RoomSettings("private")}))

        self.appended("den", configure(access="private"), member(BOB, "reader"))
        self.assertEqual(news(first.number), RoomNews(first.number, {}, {}))

        self.appended("lobby", configure(title="Hall"))
        second = news(first.number)
        self.assertGreater(second.number, first.number)
        self.assertEqual((second.archived, second.settings), ({"lobby": False}, {"lobby": RoomSettings(title="Hall")}))

        self.appended("lobby", configure(archived=True))
        third = news(second.number)
        self.assertEqual((third.archived, third.settings), ({"lobby": True}, {}))
        self.assertEqual(news(third.number), RoomNews(third.number, {}, {}))

    # -- members

    def test_ranks(self) -> None:
        """Who has the higher role decides about the others; an owner about all."""
        self.den()
        for new_event in (
            member(CAROL, "owner", MODERATOR, BOB),
            member(BOB, "member", MODERATOR, DAVE),
            member(ALICE, None, MODERATOR, BOB),
            member(DAVE, "member", READER, CAROL),
            sanction(ALICE, authority=OWNER, by=BOB),
            sanction(BOB, "kick", authority=MODERATOR, by=DAVE),
            sanction(CAROL, "mute", authority=MEMBER, by=DAVE),
        ):
            with self.subTest(new_event=new_event):
                self.refused("den", new_event, Forbidden)

        self.appended("den", member(DAVE, "moderator", MODERATOR, BOB), member(CAROL, None, MEMBER, CAROL))
        self.appended("den", member(BOB, "owner", OWNER), member(ALICE, "reader", OWNER, BOB))

        self.assertEqual(self.roles(), {"u1": "reader", "u2": "owner", "u4": "moderator"})

    def test_a_role_that_is_not_held_any_more(self) -> None:
        """Who is demoted or banned does not act by the lost role in what was asked for before, not even in the same batch."""
        self.den()
        promoted = NewMember(BOB, None, BOB, "moderator", RANKS["moderator"], acting_as="moderator")
        banned = NewSanction(BOB, None, CAROL, "ban", True, None, "", RANKS["moderator"], acting_as="moderator")

        outcomes = self.append("den", member(BOB, "reader"), promoted, banned, member(BOB, None, by=BOB))

        self.assertEqual([type(outcome) for outcome in outcomes], [Appended, Forbidden, Forbidden, Appended])
        self.refused("den", banned, Forbidden)
        self.assertEqual(self.roles(), {"u1": "owner", "u3": "member"})
        self.appended("den", member(BOB, "moderator"), sanction(BOB))
        self.refused("den", promoted, Forbidden)

    def test_the_last_owner(self) -> None:
        """A room keeps an owner, whoever asks."""
        self.den()
        for new_event in (
            member(ALICE, None),
            member(ALICE, "moderator"),
            sanction(ALICE, authority=ADMIN_RANK),
            member(ALICE, None, ADMIN_RANK, DAVE),
        ):
            with self.subTest(new_event=new_event):
                self.refused("den", new_event, Conflict)

        self.appended("den", member(BOB, "owner"), member(ALICE, None))

        self.assertEqual(self.roles(), {"u2": "owner", "u3": "member"})

    def test_two_owners_leave_at_once(self) -> None:
        """In one batch, in one append or two: exactly one of them may."""
        self.den()
        self.appended("den", member(BOB, "owner"))

        one, two = self.append("den", member(ALICE, None), member(BOB, None, by=BOB))

        self.assertIsInstance(one, Appended)
        self.assertIsInstance(two, Conflict)
        self.appended("den", member(ALICE, "owner", by=BOB))
        [[one], [two]] = self.successResultOf(
            self.store.append([Append("den", [member(BOB, None, by=BOB)]), Append("den", [member(ALICE, None)])])
        )
        self.assertIsInstance(one, Appended)
        self.assertIsInstance(two, Conflict)
        self.assertEqual(self.roles(), {"u1": "owner", "u3": "member"})

    def test_the_order_of_members(self) -> None:
        """Higher ranks first, then by folded name, then by id; pages go on behind what was there."""
        people = [
            ("u1", "zoe", "owner"),
            ("u9", "Äda", "moderator"),
            ("u8", "bea", "moderator"),
            ("u7", "Ann", "member"),
            ("u3", "ann", "member"),
            ("u6", "STRASSE", "member"),
            ("u5", "straße", "member"),
            ("u4", "Zed", "member"),
            ("u2", "ann", "reader"),
        ]
        self.appended("den", configure(creates=True))
        self.appended("den", *(member(Author(person, name), role) for person, name, role in people))
        self.appended("den", sanction(DAVE, "mute"), member(Author("u99", "left"), "member"), member(Author("u99", "left"), None))
        order = ["u1", "u8", "u9", "u3", "u7", "u4", "u5", "u6", "u2"]

        self.assertEqual([each.person for each in self.members("den")], order)
        self.assertEqual(self.members("den")[1], Standing("den", "u8", "bea", "moderator"))
        for limit in (1, 2, 4):
            after, found = None, []
            while page := self.members("den", after=after, limit=limit):
                self.assertLessEqual(len(page), limit)
                found += [each.person for each in page]
                after = (rank(page[-1].role), page[-1].name, page[-1].person)
            self.assertEqual(found, order)
        behind = self.members("den", after=(MEMBER, "Bob", "u0"))
        self.assertEqual([each.person for each in behind], ["u4", "u5", "u6", "u2"])
        self.assertEqual(self.members("nowhere"), [])

    def test_searching_members(self) -> None:
        """A part of the name, whatever the case, and no character means anything else."""
        self.appended("den", configure(creates=True))
        names = ["Ann", "joanna", "straße", "100%", "a_b", "ÄDA", "a\\b"]
        self.appended("den", *(member(Author(f"u{number}", name), "member") for number, name in enumerate(names)))

        def found(search: str) -> set[str]:
            return {standing.name for standing in self.members("den", search)}

        for search, wanted in (
            ("ANN", {"Ann", "joanna"}),
            ("STRASS", {"straße"}),
            ("äd", {"ÄDA"}),
            ("%", {"100%"}),
            ("_", {"a_b"}),
            ("\\", {"a\\b"}),
            ("nobody", set()),
            ("", set(names)),
        ):
            with self.subTest(search=search):
                self.assertEqual(found(search), wanted)
        [second] = self.members("den", "ann", (MEMBER, "Ann", "u0"), 1)
        self.assertEqual(second.name, "joanna")

    # -- sanctions

    def test_sanctions(self) -> None:
        """Mutes and bans are remembered with their ends, and both may be in force."""
        self.den()
        self.appended("den", sanction(CAROL, "mute", until=NOW + 5), sanction(BOB, "mute"), sanction(DAVE, until=NOW + 9))
        self.appended("den", sanction(DAVE, "mute", until=NOW + 7))
        carol = Standing("den", "u3", "carol", "member", NOW + 5)
        bob = Standing("den", "u2", "bob", "moderator", FOREVER)
        dave = Standing("den", "u4", "dave", None, NOW + 7, NOW + 9)

        self.assertEqual(self.successResultOf(self.store.sanctions("den")), [bob, carol, dave])
        self.assertEqual(self.successResultOf(self.store.sanctions("nowhere")), [])
        for now, wanted in ((NOW, [bob, carol, dave]), (NOW + 5, [bob, dave]), (NOW + 8, [bob, dave]), (NOW + 9, [bob])):
            self.assertEqual(self.successResultOf(self.store.all_sanctions(now)), wanted)

        self.appended("den", sanction(BOB, "mute", on=False), sanction(DAVE, on=False), sanction(DAVE, "mute", on=False))

        self.assertEqual(self.successResultOf(self.store.sanctions("den")), [carol])
        self.assertEqual(self.standing("den", "u2"), Standing("den", "u2", "bob", "moderator"))
        self.assertTrue(self.standing("den", "u4").nothing)

    def test_sanctions_of_all_rooms(self) -> None:
        """By name of the room and id."""
        for room in ("b", "a"):
            self.appended(room, configure(), sanction(DAVE), sanction(BOB, "mute"), sanction(CAROL, until=NOW))

        found = self.successResultOf(self.store.all_sanctions(NOW))

        self.assertEqual([(each.room, each.person) for each in found], [("a", "u2"), ("a", "u4"), ("b", "u2"), ("b", "u4")])

    def test_a_ban_ends_the_membership(self) -> None:
        """Who is banned has no role, and gets none before the ban has ended: by command or by itself."""
        self.den()
        self.appended("den", sanction(CAROL, until=NOW + 1_000))

        self.assertEqual(self.standing("den", "u3"), Standing("den", "u3", "carol", None, 0, NOW + 1_000))
        self.assertNotIn("u3", self.roles())
        self.refused("den", member(CAROL, "reader"), Conflict)

        self.clock.advance(1)
        self.appended("den", member(CAROL, "reader"))
        self.assertEqual(self.standing("den", "u3"), Standing("den", "u3", "carol", "reader"))
        self.appended("den", sanction(CAROL), sanction(CAROL, on=False), member(CAROL, "member"))
        self.assertEqual(self.standing("den", "u3"), Standing("den", "u3", "carol", "member"))

    def test_a_kick_is_only_an_event(self) -> None:
        """Nothing is remembered of it."""
        self.den()
        news = self.standing_news().number

        [event] = self.appended("den", sanction(CAROL, "kick", address="192.0.2.1"))

        self.assertEqual(self.log("den", 4), [event])
        self.assertEqual(self.roles()["u3"], "member")
        self.assertEqual(self.standing_news(news), StandingNews(news, ()))

    def test_the_address_of_a_guest(self) -> None:
        """A guest is sanctioned under the address, too, which no event names; it is named by the guest's id, to be found again."""
        self.den()
        [event] = self.appended("den", sanction(GUEST, until=NOW + 5, address="2001:db8::/64"))

        guest, address = (
            Standing("den", "g1", "guest", None, 0, NOW + 5),
            Standing("den", "a2001:db8::/64", "g1", None, 0, NOW + 5),
        )
        self.assertNotIn("2001", repr(event))
        self.assertEqual(self.successResultOf(self.store.sanctions("den")), [address, guest])
        self.assertEqual(self.successResultOf(self.store.standings("a2001:db8::/64")), [address])
        self.assertEqual(list(self.standing_news().standings[-2:]), [guest, address])

        self.refused("den", sanction(ALICE, address="192.0.2.1"), Forbidden)
        self.assertTrue(self.standing("den", "a192.0.2.1").nothing)
        self.appended("den", sanction(GUEST, on=False, address="2001:db8::/64"))
        self.assertEqual(self.successResultOf(self.store.sanctions("den")), [])

    # -- standings

    def test_the_rooms_of_a_person(self) -> None:
        """All in which there is something, by name."""
        self.den()
        self.appended("attic", configure(), member(CAROL, "owner"), member(BOB, "reader"))
        self.appended("cellar", configure(), sanction(CAROL), member(BOB, "member"), member(BOB, None))

        found = self.successResultOf(self.store.standings("u3"))

        self.assertEqual(
            found,
            [
                Standing("attic", "u3", "carol", "owner"),
                Standing("cellar", "u3", "carol", None, 0, FOREVER),
                Standing("den", "u3", "carol", "member"),
            ],
        )
        self.assertEqual([each.room for each in self.successResultOf(self.store.standings("u2"))], ["attic", "den"])
        self.assertEqual(self.successResultOf(self.store.standings("u9")), [])
        self.assertTrue(self.standing("nowhere", "u3").nothing)
        self.assertTrue(self.standing("den", "u9").nothing)

    def test_a_new_name(self) -> None:
        """The name is that of the last change, also in the order of members."""
        self.den()
        self.appended("den", member(Author("u3", "Zara"), "member"), sanction(Author("u3", "Anna"), "mute"))

        self.assertEqual(self.standing("den", "u3"), Standing("den", "u3", "Anna", "member", FOREVER))
        self.assertEqual([each.person for each in self.members("den", "anna")], ["u3"])
        self.assertEqual(self.members("den", "zara"), [])

    def test_news(self) -> None:
        """Each change is told once, in order, also that nothing is left; what changed nothing is not told."""
        self.assertEqual((self.opened.standing_news, self.standing_news()), (0, StandingNews(0, ())))
        self.den()
        first = self.standing_news()
        self.assertEqual([each.person for each in first.standings], ["u1", "u2", "u3"])

        self.appended("den", member(BOB, "reader"), member(CAROL, "member"), sanction(DAVE, on=False), say("x"))
        second = self.standing_news(first.number)
        self.assertEqual(second.standings, (Standing("den", "u2", "bob", "reader"),))
        self.assertGreater(second.number, first.number)

        self.append("den", member(ALICE, None), sanction(BOB), sanction(CAROL), member(BOB, "owner"))
        self.appended("den", sanction(BOB, on=False), sanction(DAVE))
        third = self.standing_news(second.number)
        self.assertEqual([(each.person, each.nothing) for each in third.standings], [("u3", False), ("u2", True), ("u4", False)])
        self.assertEqual(self.standing_news(third.number), StandingNews(third.number, ()))

        everything = self.standing_news()
        self.assertEqual([each.person for each in everything.standings], ["u1", "u3", "u2", "u4"])
        number, people = 0, []
        while (part := self.standing_news(number, 1)).standings:
            self.assertGreater(part.number, number)
            people += [each.person for each in part.standings]
            number = part.number
        self.assertEqual((people, number), (["u1", "u3", "u2", "u4"], everything.number))

    def test_retention_keeps_standings(self) -> None:
        """The events go, what they led to stays."""
        self.den()
        self.appended("den", sanction(DAVE))
        news = self.standing_news()
        self.purge("den", 0)

        self.assertEqual(self.log("den"), [])
        self.assertEqual(self.roles(), {"u1": "owner", "u2": "moderator", "u3": "member"})
        self.assertEqual(self.standing_news(), news)
        self.refused("den", member(DAVE, "member"), Conflict)
        self.appended("den", member(CAROL, "moderator"))

    def test_many_members(self) -> None:
        """Thousands of them, in one batch."""
        people = [Author(f"u{number:04}", f"name {number % 100:02}") for number in range(1_500)]
        self.appended("den", configure(creates=True), *(member(person, "member") for person in people))

        page = self.members("den", "name 7", (MEMBER, "name 71", "u0171"), 14)

        wanted = [f"u{number:04}" for number in range(271, 1_500, 100)]
        self.assertEqual([each.person for each in page], [*wanted, "u0072"])
        self.assertEqual(len(self.standing_news().standings), 1_500)
