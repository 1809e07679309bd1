"""Attempts to get more out of rooms with members than is allowed: by races, absurd fields, limited tokens and other clocks."""

from __future__ import annotations

from tests import test_core_governing
from tests.harness.chat import ALICE, BOB, CAROL, MODERATOR, ChatHarness, MemoryConnection, guest
from tests.test_core_governing import NOW_MS
from twisted_chat.core.guest_places import MOST, GuestPlaces
from twisted_chat.errors import Muted
from twisted_chat.events import Message, NewMessage
from twisted_chat.limits import Limits, RoomPolicy
from twisted_chat.users import User

LIMITED = User(id="u5", name="lim", rooms=("open*",))


class RaceTests(test_core_governing.GoverningCase):
    def test_a_moderator_who_is_being_demoted(self) -> None:
        """What a moderator asks for while the demotion is on its way to the disk is refused, above all the old role again."""
        name = self.private(BOB, CAROL)
        self.ok(self.alice.ask("member", room=name, person=BOB.id, role="moderator"))
        self.chat.store.holding = True
        self.alice.say({"type": "member", "room": name, "person": BOB.id, "role": "reader"})
        self.bob.say(
            {"type": "member", "id": 1, "room": name, "person": BOB.id, "role": "moderator"},
            {"type": "sanction", "id": 2, "room": name, "person": CAROL.id, "what": "ban"},
        )
        self.chat.store.release_all()
        self.chat.turn()
        self.chat.store.release_all()
        self.chat.turn()
        self.chat.store.holding = False

        for number in (1, 2):
            self.refused(self.bob.answer(number), "forbidden", "changed")
        members = self.ok(self.alice.ask("members", room=name))["members"]
        self.assertEqual({each["id"]: each["role"] for each in members}, {"u1": "owner", "u2": "reader", "u3": "member"})

    def test_rights_hold_without_a_role(self) -> None:
        """Who acts by a token's rights needs no role, and a role that is lower than these does not matter."""
        mo = self.chat.json(MODERATOR)
        self.ok(self.alice.ask("create", room="garden"))
        self.ok(self.alice.ask("member", room="garden", person=MODERATOR.id, role="reader"))
        self.ok(mo.ask("sanction", room="garden", person=BOB.id, what="mute"))

    def test_a_question_that_waited(self) -> None:
        """Who is removed while the answer waits for a full socket is not told who is in the room."""
        name = self.private()
        self.ok(self.alice.ask("member", room=name, person=BOB.id, role="member"))
        bob = self.chat.json(BOB, name, connection=MemoryConnection())
        bob.connection.capacity = 10
        self.ok(self.alice.ask("send", room=name, text="x" * 100))
        bob.say({"type": "presence", "id": "p", "room": name})
        self.ok(self.alice.ask("member", room=name, person=BOB.id, role=None))
        bob.connection.read()
        self.chat.turn()

        self.refused(bob.answer("p"), "not_joined")

    def test_a_creation_that_is_sent_again(self) -> None:
        """With its key a room is made once, also a private one, whose name the client does not know yet; others get no use of the key."""
        for fields in ({"access": "private", "title": "Plans"}, {"room": "garden"}):
            first, again = (self.ok(self.alice.ask("create", key="k", people=[BOB.id], **fields))["room"] for _ in range(2))
            self.assertEqual(first, again)
            self.assertEqual(len(self.chat.log(first)), 3)
        self.assertNotEqual(first, self.ok(self.bob.ask("create", key="k", access="private", title="Plans"))["room"])
        self.refused(self.bob.ask("create", key="k", room="garden"), "conflict")
        self.refused(self.alice.ask("create", key="other", room="garden"), "conflict")

    def test_a_creation_that_is_sent_again_at_once(self) -> None:
        """Before the first one is in the store; it is still one room."""
        self.chat.store.holding = True
        for number in range(2):
            self.alice.say({"type": "create", "id": number, "key": "k", "access": "private", "title": "Plans"})
        self.chat.store.release_all()
        self.chat.turn()
        self.chat.store.release_all()
        self.chat.turn()
        self.chat.store.holding = False

        first, again = (self.ok(self.alice.answer(number))["room"] for number in range(2))
        self.assertEqual(first, again)
        self.assertEqual(len(self.chat.log(first)), 2)

    def test_removed_while_other_rooms_are_looked_up(self) -> None:
        """A join of several rooms does not answer that one is joined which its member has been removed from meanwhile."""
        name = self.private()
        self.ok(self.alice.ask("member", room=name, person=BOB.id, role="member"))
        self.chat.store.holding = True
        since = {"epoch": self.chat.core.epoch, "seq": 5, "id": "x"}
        self.bob.say({"type": "join", "id": "j", "rooms": [{"room": name}, {"room": "lobby", "since": since}]})
        self.alice.say({"type": "member", "room": name, "person": BOB.id, "role": None})
        self.chat.store.release(1)
        self.chat.turn()
        self.chat.store.release_all()
        self.chat.turn()

        hidden, lobby = self.bob.answer("j")["rooms"]
        self.assertEqual((hidden["room"], hidden["error"]["code"]), (name, "not_joined"))
        self.assertEqual((lobby["room"], lobby["why"]), ("lobby", "ahead"))

    def test_banned_while_throttled(self) -> None:
        """What a plain client has sent too fast is not kept after its ban, not even when the server ends."""
        chat = ChatHarness(self, Limits(send_burst=2, send_per_second=0.01))
        mo, bob = chat.json(MODERATOR, "lobby"), chat.plain(BOB, "lobby")
        bob.say(*(str(number) for number in range(5)))
        self.ok(mo.ask("sanction", room="lobby", person=BOB.id, what="ban"))
        chat.core.drain.begin()
        chat.turn()

        texts = [event.text for event in chat.log("lobby") if isinstance(event, Message)]
        self.assertEqual(texts, ["0", "1"])


class FieldsTests(test_core_governing.GoverningCase):
    def setUp(self) -> None:
        super().setUp()
        self.mo = self.chat.json(MODERATOR, "lobby")
        self.ok(self.mo.ask("send", room="lobby", text="welcome"))

    def test_an_end_in_a_year_that_cannot_be_written(self) -> None:
        """A ban until the year 287,396 holds like any other."""
        self.ok(self.bob.ask("join", room="lobby"))
        self.ok(self.mo.ask("sanction", room="lobby", person=BOB.id, what="ban", until=2**53 - 2))

        self.assertEqual([one["code"] for one in self.bob.take("removed")], ["banned"])
        self.refused(self.bob.ask("join", room="lobby"), "banned")

    def test_a_place_in_the_members_that_there_is_not(self) -> None:
        """No store is asked with numbers that it cannot take."""
        for rank in (-1, 5, 2**63, 10**30):
            self.refused(self.alice.ask("members", room="lobby", after=f'[{rank},"a","u1"]'), "bad_request", "after")

    def test_a_token_for_some_rooms(self) -> None:
        """Its bearer makes none of other names, and does not learn which of them there are."""
        self.ok(self.alice.ask("create", room="garden"))
        limited = self.chat.json(LIMITED)
        answers = [limited.ask("create", room=room) for room in ("garden", "desert")]
        answers += [limited.ask("create", access="private", title="x"), limited.ask("direct", people=[BOB.id])]
        for answer in answers:
            self.refused(answer, "forbidden", "token")
        self.assertEqual(len({answer["message"] for answer in answers}), 1)
        self.ok(limited.ask("create", room="open-air"))

    def test_a_look_alike_of_a_room_that_is_not_seen(self) -> None:
        """The refusal does not name it."""
        chat = ChatHarness(self, rooms={"staff": RoomPolicy(guests=False)})
        chat.json(ALICE, "staff")
        answer = chat.json(guest("dora")).ask("join", room="Staff")
        self.refused(answer, "conflict")
        self.assertNotIn("staff", answer["message"])
        self.refused(chat.json(BOB).ask("join", room="Staff"), "conflict", "staff")

    def test_a_wall_clock_that_was_ahead(self) -> None:
        """A mute that ended only by a wrong clock goes on when the clock is right again."""
        self.ok(self.mo.ask("sanction", room="lobby", person=BOB.id, what="mute", until=NOW_MS + 3_600_000))
        right = self.chat.core.now_seconds
        self.chat.core.now_seconds = lambda: right() + 7_200
        self.chat.pass_time(61)
        self.ok(self.chat.json(BOB, "lobby").ask("send", room="lobby", text="early"))
        self.chat.core.now_seconds = right

        self.refused(self.chat.json(BOB, "lobby").ask("send", room="lobby", text="x"), "muted")

    def test_refused_in_a_room_without_events(self) -> None:
        """What is refused leaves no event, also where it would have been the first."""
        self.ok(self.mo.ask("join", room="hall"))
        self.refused(self.mo.ask("member", room="hall", person=BOB.id, role="owner"), "forbidden", "higher")
        self.assertEqual(self.chat.log("hall"), [])
        self.ok(self.mo.ask("member", room="hall", person=BOB.id, role="moderator"))

    def test_administrators_are_not_locked_out(self) -> None:
        """A moderator's ban and mute of an administrator of the server do not hold."""
        admin = self.chat.json(test_core_governing.ADMIN, "lobby")
        for what in ("mute", "ban"):
            self.ok(self.mo.ask("sanction", room="lobby", person=admin.session.user.id, what=what))
        self.assertEqual(admin.take("removed"), [])
        self.ok(admin.ask("send", room="lobby", text="x"))
        self.ok(self.chat.json(test_core_governing.ADMIN, "lobby").ask("settings", room="lobby", writers="users"))

    def test_slow_mode_of_the_owners(self) -> None:
        """It is not forgotten when the server forgets what it does not need, once a minute."""
        self.ok(self.alice.ask("create", room="garden"))
        self.ok(self.alice.ask("settings", room="garden", slow_mode=3_600))
        self.ok(self.chat.json(BOB, "garden").ask("send", room="garden", text="one"))
        self.chat.pass_time(130)
        self.refused(self.chat.json(BOB, "garden").ask("send", room="garden", text="two"), "slow_mode")


class GuestTests(test_core_governing.GoverningCase):
    def setUp(self) -> None:
        super().setUp()
        self.mo = self.chat.json(MODERATOR, "lobby")
        self.ok(self.mo.ask("send", room="lobby", text="welcome"))

    def test_a_guest_who_left_at_once(self) -> None:
        """The address is still that of the guest: it is muted with the guest, and freed with the guest."""
        dora = self.chat.json(guest("dora"), "lobby", address="192.0.2.7")
        self.ok(dora.ask("send", room="lobby", text="spam"))
        dora.session.lost()
        self.ok(self.mo.ask("sanction", room="lobby", person="g1-dora", what="mute"))

        eve = self.chat.json(guest("eve"), "lobby", address="192.0.2.7")
        self.refused(eve.ask("send", room="lobby", text="spam"), "muted")
        self.ok(self.mo.ask("sanction", room="lobby", person="g1-dora", what="mute", on=False))
        self.ok(eve.ask("send", room="lobby", text="sorry"))

    def test_a_guest_who_has_no_connection(self) -> None:
        """Who writes by HTTP is another guest with each message, and has one address."""
        post, address = self.chat.core.post, "192.0.2.7"
        for name in ("dora", "eve"):
            user = guest(name)
            posting = post(user, "lobby", NewMessage(user.author, None, "spam", None, None), address)
            self.chat.turn()
            self.successResultOf(posting)
        self.ok(self.mo.ask("sanction", room="lobby", person="g1-eve", what="mute"))

        fay = guest("fay")
        self.assertRaises(Muted, post, fay, "lobby", NewMessage(fay.author, None, "spam", None, None), address)

    def test_the_end_of_a_mute_after_a_restart(self) -> None:
        """It frees the address of a guest whom the server does not remember, and no other one."""
        for name, address in (("dora", "192.0.2.7"), ("eve", "192.0.2.8")):
            self.chat.json(guest(name), "lobby", address=address)
            self.ok(self.mo.ask("sanction", room="lobby", person=f"g1-{name}", what="mute"))
        again = self.chat.restarted()
        self.ok(again.json(MODERATOR).ask("sanction", room="lobby", person="g1-dora", what="mute", on=False))

        self.ok(again.json(guest("fay"), "lobby", address="192.0.2.7").ask("send", room="lobby", text="x"))
        self.refused(again.json(guest("gil"), "lobby", address="192.0.2.8").ask("send", room="lobby", text="x"), "muted")

    def test_so_many_guests_are_remembered(self) -> None:
        places = GuestPlaces()
        for number in range(MOST + 1):
            places.note(User(id=f"g{number}", name="x", guest=True), "192.0.2.7")
        places.note(ALICE, "192.0.2.7")
        self.assertEqual([places.block(who) for who in ("g0", "g1", "u1")], [None, "192.0.2.7", None])
