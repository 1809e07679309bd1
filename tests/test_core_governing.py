"""Rooms with members: who sees them, who may do what there, and what becomes of open connections when that changes."""

from __future__ import annotations

from twisted.internet.defer import Deferred, succeed
from twisted.trial.unittest import SynchronousTestCase

from tests.harness.chat import ALICE, BEGIN, BOB, CAROL, MODERATOR, ChatHarness, Json, guest
from tests.harness.nodes import Cluster
from twisted_chat.accounts import Note
from twisted_chat.errors import CloseCode, NoSuchRoom
from twisted_chat.events import MemberChanged, RoomChanged
from twisted_chat.limits import Limits
from twisted_chat.server.maintenance import STANDINGS_SECONDS, standings
from twisted_chat.users import User

ADMIN = User(id="u8", name="root", rights=frozenset({"admin"}))
NOW_MS = int(BEGIN * 1000)


class GoverningCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.chat = ChatHarness(self)
        self.alice, self.bob, self.carol = (self.chat.json(user) for user in (ALICE, BOB, CAROL))

    def ok(self, answer: Json) -> Json:
        self.assertEqual(answer["type"], "ok", answer)
        return answer

    def refused(self, answer: Json, code: str, words: str = "") -> None:
        self.assertEqual((answer["type"], answer.get("code")), ("error", code), answer)
        self.assertIn(words, answer["message"])

    def private(self, *people: User) -> str:
        """A private room of alice with these members, joined by all of them."""
        made = self.alice.ask("create", access="private", title="Plans", people=[user.id for user in people])
        name = str(self.ok(made)["room"])
        clients = {ALICE.id: self.alice, BOB.id: self.bob, CAROL.id: self.carol}
        for user in (ALICE, *people):
            self.ok(clients[user.id].ask("join", room=name))
            clients[user.id].take()
        return name


class PrivateRoomTests(GoverningCase):
    def test_is_made_with_its_members(self) -> None:
        """They are told of it, and its log begins with its settings and members."""
        name = self.ok(self.alice.ask("create", access="private", title="Plans", people=[BOB.id]))["room"]

        self.assertEqual(
            self.bob.take("room"), [{"type": "room", "room": name, "access": "private", "title": "Plans", "role": "member"}]
        )
        joined = self.ok(self.bob.ask("join", room=name, tail=10))
        self.assertEqual((joined["access"], joined["title"], joined["role"]), ("private", "Plans", "member"))
        self.assertEqual(joined["can"], ["send", "edit", "delete", "react", "topic"])
        events = self.bob.take("event")
        self.assertEqual([event["kind"] for event in events], ["room", "member", "member"])
        self.assertEqual([(event["person"]["id"], event["role"]) for event in events[1:]], [("u1", "owner"), ("u2", "member")])

    def test_does_not_exist_for_others(self) -> None:
        """Every command about it has the answer of a room that there is not, and no list or count shows it."""
        name = self.private(BOB)
        nothing = name[:-1] + "~"
        for command, fields in (
            ("join", {}),
            ("history", {}),
            ("members", {}),
            ("sanctions", {}),
            ("settings", {"title": "x"}),
            ("member", {"person": CAROL.id, "role": "owner"}),
            ("member", {"person": CAROL.id, "role": None}),
            ("sanction", {"person": BOB.id, "what": "ban"}),
        ):
            for client in (self.carol, self.chat.json(guest("dora")), self.chat.json(MODERATOR), self.chat.json(ADMIN)):
                with self.subTest(command):
                    answer, other = (client.ask(command, room=room, **fields) for room in (name, nothing))
                    self.refused(answer, "no_such_room")
                    self.assertEqual(answer["message"].replace(name, nothing), other["message"])
                    self.assertEqual({**answer, "id": 0, "message": ""}, {**other, "id": 0, "message": ""})
        self.refused(self.carol.ask("send", room=name, text="x"), "not_joined")
        self.refused(self.carol.ask("send", room=nothing, text="x"), "not_joined")
        self.assertRaises(NoSuchRoom, self.chat.core.rooms.find, CAROL, name)
        self.assertEqual(self.ok(self.carol.ask("rooms"))["rooms"], [])
        self.assertEqual([room["room"] for room in self.ok(self.bob.ask("rooms"))["rooms"]], [name])
        self.assertEqual([type(event) for event in self.chat.log(name)], [RoomChanged, MemberChanged, MemberChanged])

    def test_nobody_makes_one_by_joining(self) -> None:
        """A name that the server would give makes no public room."""
        self.refused(self.carol.ask("join", room="p~0123"), "no_such_room")
        self.refused(self.carol.ask("join", room="d~0123"), "no_such_room")

    def test_a_removed_member_hears_nothing_more(self) -> None:
        """Neither what comes in the same commit behind the removal, nor presence; the others do."""
        name = self.private(BOB, CAROL)
        self.chat.store.holding = True
        self.alice.say(
            {"type": "send", "room": name, "text": "before"},
            {"type": "member", "room": name, "person": BOB.id, "role": None},
            {"type": "send", "room": name, "text": "after"},
        )
        self.chat.store.release_all()
        self.chat.turn()
        self.chat.store.holding = False

        self.assertEqual(self.carol.texts(), ["before", "after"])
        came = self.bob.take()
        self.assertEqual([one["text"] for one in came if one.get("kind") == "message"], ["before"])
        self.assertEqual([(one["room"], one["code"]) for one in came if one["type"] == "removed"], [(name, "no_such_room")])
        self.refused(self.bob.ask("join", room=name), "no_such_room")
        self.refused(self.bob.ask("send", room=name, text="x"), "not_joined")

    def test_a_page_that_was_asked_for_before(self) -> None:
        """Who is removed while the store reads does not get what it read."""
        name = self.private(BOB)
        self.chat.store.holding = True
        self.bob.say({"type": "history", "id": 1, "room": name})
        self.alice.say({"type": "member", "room": name, "person": BOB.id, "role": None})
        self.assertEqual(self.chat.store.waiting, ["page", "append"])
        self.chat.store.release(1)
        self.chat.store.release_all()
        self.chat.turn()

        self.refused(self.bob.answer(1), "no_such_room")

    def test_plain_clients_and_streams_end(self) -> None:
        """A client that has one room loses its connection, with the code of the reason."""
        name = self.private(BOB)
        plain = self.chat.plain(BOB, name)

        self.ok(self.alice.ask("member", room=name, person=BOB.id, role=None))

        self.assertEqual(plain.closed, CloseCode.NO_SUCH_ROOM)

    def test_who_comes_back_reads_from_the_cursor(self) -> None:
        """A member again, somebody resumes as after a lost connection."""
        name = self.private(BOB)
        self.ok(self.alice.ask("member", room=name, person=BOB.id, role=None))
        self.ok(self.alice.ask("send", room=name, text="meanwhile"))
        self.ok(self.alice.ask("member", room=name, person=BOB.id, role="member"))
        self.bob.take()

        self.ok(self.bob.ask("join", room=name, tail=2))

        self.assertEqual(self.bob.texts(), ["meanwhile"])

    def test_guests_make_none_and_are_no_members(self) -> None:
        dora = self.chat.json(guest("dora"))
        self.refused(dora.ask("create", access="private", title="x"), "forbidden", "guests")
        self.refused(dora.ask("direct", people=[BOB.id]), "forbidden", "guests")
        self.refused(self.alice.ask("create", access="private", title="x", people=["g1-dora"]), "bad_request", "people")
        self.refused(self.alice.ask("create", access="private", title="x", people=["u77"]), "bad_request", "u77")

    def test_bad_fields(self) -> None:
        name = self.private(BOB)
        for command, fields, words in (
            ("create", {"access": "private", "title": ""}, "title"),
            ("create", {"access": "private", "title": "a\u202eb"}, "title"),
            ("create", {"access": "private", "title": "x" * 65}, "title"),
            ("create", {"access": "private", "title": "x", "room": "y"}, "room"),
            ("create", {"access": "secret", "title": "x"}, "access"),
            ("direct", {"people": []}, "people"),
            ("direct", {"people": [ALICE.id]}, "people"),
            ("direct", {"people": ["u 7"]}, "people"),
            ("settings", {"room": name, "title": ""}, "title"),
            ("settings", {"room": name, "writers": "nobody"}, "writers"),
            ("settings", {"room": name, "slow_mode": -1}, "slow_mode"),
            ("settings", {"room": name, "slow_mode": 1e300}, "slow_mode"),
            ("member", {"room": name, "person": BOB.id, "role": "king"}, "role"),
            ("member", {"room": name, "person": "x", "role": "member"}, "person"),
            ("sanction", {"room": name, "person": BOB.id, "what": "shout"}, "what"),
            ("sanction", {"room": name, "person": BOB.id, "what": "kick", "on": False}, "on"),
            ("sanction", {"room": name, "person": BOB.id, "what": "mute", "until": 1}, "until"),
            ("sanction", {"room": name, "person": BOB.id, "what": "mute", "until": 2**53 - 1}, "until"),
            ("sanction", {"room": name, "person": BOB.id, "what": "mute", "reason": "a\x00b"}, "reason"),
            ("sanction", {"room": name, "person": ALICE.id, "what": "mute"}, "person"),
            ("members", {"room": name, "after": "x"}, "after"),
        ):
            with self.subTest(command=command, **fields):
                before = len(self.chat.log(name))
                self.refused(self.alice.ask(command, **fields), "bad_request", words)
                self.assertEqual(len(self.chat.log(name)), before)


class RoleTests(GoverningCase):
    def test_owners_decide_moderators_act_members_write_readers_read(self) -> None:
        """What the connection may do follows its role at once, and it is told."""
        name = self.private(BOB)
        write = ["send", "edit", "delete", "react", "topic"]
        for role, can in (
            ("reader", []),
            ("moderator", [*write, "moderate", "sanction", "members"]),
            ("owner", [*write, "moderate", "sanction", "members", "settings"]),
            ("member", write),
        ):
            with self.subTest(role):
                self.ok(self.alice.ask("member", room=name, person=BOB.id, role=role))
                (told,) = self.bob.take("rights")
                self.assertEqual((told["role"], told["can"]), (role, can))
                answer = self.bob.ask("send", room=name, text="x")
                self.assertEqual(answer["type"], "ok" if can else "error", answer)

    def test_ranks(self) -> None:
        """Nobody acts against a role that is not lower, and nobody gives a higher one."""
        name = self.private(BOB, CAROL)
        self.ok(self.alice.ask("member", room=name, person=BOB.id, role="moderator"))
        for fields in ({"person": ALICE.id, "role": "member"}, {"person": CAROL.id, "role": "owner"}):
            self.refused(self.bob.ask("member", room=name, **fields), "forbidden")
        self.refused(self.bob.ask("sanction", room=name, person=ALICE.id, what="ban"), "forbidden")
        self.refused(self.carol.ask("sanction", room=name, person=BOB.id, what="mute"), "forbidden", "moderator")
        self.refused(self.bob.ask("settings", room=name, title="x"), "forbidden", "owner")
        self.ok(self.bob.ask("member", room=name, person=CAROL.id, role="reader"))

    def test_the_last_owner_stays(self) -> None:
        name = self.private(BOB)
        self.refused(self.alice.ask("member", room=name, person=ALICE.id, role=None), "conflict", "owner")
        self.refused(self.alice.ask("member", room=name, person=ALICE.id, role="member"), "conflict", "owner")
        self.ok(self.alice.ask("member", room=name, person=BOB.id, role="owner"))
        self.ok(self.alice.ask("member", room=name, person=ALICE.id, role=None))
        self.refused(self.bob.ask("member", room=name, person=BOB.id, role=None), "conflict", "owner")

    def test_demoted_while_sending(self) -> None:
        """What was sent before is kept, and what comes after the demotion is refused; nothing is lost in silence."""
        name = self.private(BOB)
        self.alice.say({"type": "member", "room": name, "person": BOB.id, "role": "reader"})
        self.bob.say(*({"type": "send", "id": number, "room": name, "text": str(number)} for number in range(3)))
        answers = [self.bob.answer(number)["type"] for number in range(3)]
        self.assertEqual(answers, ["error"] * 3)

    def test_keys(self) -> None:
        """The same command with its key is done once."""
        name = self.private(BOB)
        first, again = (self.ok(self.alice.ask("member", room=name, person=BOB.id, role="reader", key="k")) for _ in range(2))
        self.assertEqual((first["seq"], first["duplicate"], again["seq"], again["duplicate"]), (4, False, 4, True))

    def test_members_are_listed(self) -> None:
        name = self.private(BOB, CAROL)
        answer = self.ok(self.bob.ask("members", room=name, limit=2))
        self.assertEqual(
            [(member["name"], member["role"]) for member in answer["members"]], [("alice", "owner"), ("bob", "member")]
        )
        rest = self.ok(self.bob.ask("members", room=name, limit=2, after=answer["next"]))
        self.assertEqual([member["name"] for member in rest["members"]], ["carol"])
        self.assertNotIn("next", rest)
        found = self.ok(self.bob.ask("members", room=name, search="ARO"))
        self.assertEqual([member["name"] for member in found["members"]], ["carol"])

    def test_a_public_room_has_an_owner_if_it_is_made(self) -> None:
        """Everybody may still come in; only its owner changes it."""
        self.ok(self.alice.ask("create", room="garden"))
        for client in (self.alice, self.bob):
            self.ok(client.ask("join", room="garden"))
        self.refused(self.bob.ask("settings", room="garden", writers="moderators"), "forbidden")
        self.ok(self.alice.ask("settings", room="garden", writers="moderators"))
        self.refused(self.bob.ask("send", room="garden", text="x"), "forbidden")
        self.assertEqual(self.bob.take("rights")[-1]["can"], [])
        self.ok(self.alice.ask("send", room="garden", text="y"))
        self.ok(self.alice.ask("settings", room="garden", writers="", archived=True))
        self.refused(self.alice.ask("send", room="garden", text="z"), "forbidden", "archived")
        self.ok(self.alice.ask("settings", room="garden", archived=False, slow_mode=60))
        self.ok(self.bob.ask("send", room="garden", text="one"))
        self.refused(self.bob.ask("send", room="garden", text="two"), "slow_mode")
        self.refused(self.carol.ask("create", room="Garden"), "conflict")

    def test_after_a_restart(self) -> None:
        """Roles, sanctions and settings are what they were."""
        name = self.private(BOB, CAROL)
        self.ok(self.alice.ask("member", room=name, person=BOB.id, role="moderator"))
        self.ok(self.alice.ask("sanction", room=name, person=CAROL.id, what="mute"))
        again = self.chat.restarted()
        bob, carol = again.json(BOB), again.json(CAROL)
        joined = self.ok(bob.ask("join", room=name))
        self.assertEqual((joined["role"], joined["title"]), ("moderator", "Plans"))
        self.assertEqual(self.ok(carol.ask("join", room=name))["can"], ["delete"])
        self.refused(carol.ask("send", room=name, text="x"), "muted")
        self.refused(again.json(guest("dora")).ask("join", room=name), "no_such_room")


class DirectTests(GoverningCase):
    def test_two_people_have_one_conversation(self) -> None:
        """Whoever of them begins; each sees the other's name in it, and nobody else sees it."""
        name = self.ok(self.alice.ask("direct", people=[BOB.id]))["room"]
        self.assertEqual(self.ok(self.bob.ask("direct", people=[ALICE.id]))["room"], name)
        (told,) = self.bob.take("room")
        self.assertEqual((told["access"], [each["name"] for each in told["people"]]), ("direct", ["alice", "bob"]))
        self.refused(self.carol.ask("join", room=name), "no_such_room")
        for client in (self.alice, self.bob):
            self.assertEqual(self.ok(client.ask("join", room=name))["can"], ["send", "edit", "delete", "react"])
        other = self.ok(self.alice.ask("direct", people=[BOB.id, CAROL.id]))["room"]
        self.assertNotEqual(other, name)

    def test_its_members_do_not_change(self) -> None:
        name = self.ok(self.alice.ask("direct", people=[BOB.id]))["room"]
        self.refused(self.alice.ask("member", room=name, person=CAROL.id, role="member"), "forbidden")
        self.refused(self.alice.ask("member", room=name, person=ALICE.id, role=None), "forbidden")
        self.refused(self.alice.ask("sanction", room=name, person=BOB.id, what="ban"), "forbidden")
        self.refused(self.alice.ask("settings", room=name, title="x"), "forbidden")

    def test_both_at_once(self) -> None:
        """One of the two commits makes it, and both get it."""
        self.chat.store.holding = True
        self.alice.say({"type": "direct", "id": 1, "people": [BOB.id]})
        self.bob.say({"type": "direct", "id": 1, "people": [ALICE.id]})
        self.chat.store.release_all()
        self.chat.turn()
        self.chat.store.release_all()
        self.chat.turn()
        first, second = self.alice.answer(1), self.bob.answer(1)
        self.assertEqual(self.ok(first)["room"], self.ok(second)["room"])


class SanctionTests(GoverningCase):
    def setUp(self) -> None:
        super().setUp()
        self.mo = self.chat.json(MODERATOR, "lobby")
        for client in (self.alice, self.bob):
            self.ok(client.ask("join", room="lobby"))
            client.take()
        self.ok(self.mo.ask("send", room="lobby", text="welcome"))

    def sanction(self, what: str, person: str = BOB.id, **fields: object) -> Json:
        return self.ok(self.mo.ask("sanction", room="lobby", person=person, what=what, **fields))

    def test_mute_and_its_end(self) -> None:
        """Who is muted reads, and may delete what was written before."""
        sent = self.ok(self.bob.ask("send", room="lobby", text="mine"))
        self.sanction("mute", reason="loud")
        (event,) = [one for one in self.bob.take("event") if one["kind"] == "sanction"]
        self.assertEqual((event["what"], event["person"]["id"], event["reason"]), ("mute", BOB.id, "loud"))
        for command, fields in (
            ("send", {"text": "x"}),
            ("edit", {"of": sent["seq"], "revision": 1, "text": "y"}),
            ("typing", {}),
        ):
            self.refused(self.bob.ask(command, room="lobby", **fields), "muted")
        self.ok(self.bob.ask("delete", room="lobby", of=sent["seq"]))
        self.ok(self.alice.ask("send", room="lobby", text="x"))
        self.sanction("mute", on=False)
        self.ok(self.bob.ask("send", room="lobby", text="again"))

    def test_a_mute_ends_by_itself(self) -> None:
        self.sanction("mute", until=NOW_MS + 60_000)
        self.refused(self.bob.ask("send", room="lobby", text="x"), "muted", "until")
        self.chat.pass_time(61)
        self.ok(self.chat.json(BOB, "lobby").ask("send", room="lobby", text="x"))

    def test_ban(self) -> None:
        """Who is banned leaves at once, does not come back, and reads nothing."""
        plain = self.chat.plain(BOB, "lobby")
        self.sanction("ban", until=NOW_MS + 3_600_000)
        self.assertEqual([one["code"] for one in self.bob.take("removed")], ["banned"])
        self.assertEqual(plain.closed, CloseCode.BANNED)
        self.refused(self.bob.ask("join", room="lobby"), "banned", "until 20")
        self.refused(self.bob.ask("history", room="lobby"), "banned")
        self.chat.pass_time(3601, 60)
        self.chat.json(BOB, "lobby")

    def test_kick(self) -> None:
        """Who was removed may come back."""
        self.sanction("kick")
        self.assertEqual([one["code"] for one in self.bob.take("removed")], ["forbidden"])
        self.ok(self.bob.ask("join", room="lobby"))

    def test_a_guest_and_the_address(self) -> None:
        """A guest who comes back as another one from the same address or network is still muted; others are not."""
        dora = self.chat.json(guest("dora"), "lobby", address="2001:db8::1")
        self.sanction("mute", person="g1-dora")
        self.refused(dora.ask("send", room="lobby", text="x"), "muted")
        other = self.chat.json(guest("eve"), "lobby", address="2001:db8::2")
        self.refused(other.ask("send", room="lobby", text="x"), "muted")
        self.ok(self.chat.json(guest("fay"), "lobby", address="192.0.2.1").ask("send", room="lobby", text="x"))
        self.assertNotIn("2001", str(self.alice.take()))
        self.ok(self.chat.json(CAROL, "lobby", address="2001:db8::2").ask("send", room="lobby", text="users are not guests"))
        self.sanction("mute", person="g1-dora", on=False)
        self.ok(dora.ask("send", room="lobby", text="x"))
        self.ok(other.ask("send", room="lobby", text="x"))

    def test_a_banned_guest_comes_back_as_another(self) -> None:
        dora = self.chat.json(guest("dora"), "lobby", address="192.0.2.7")
        self.sanction("ban", person="g1-dora")
        self.assertEqual([one["code"] for one in dora.take("removed")], ["banned"])
        self.refused(self.chat.json(guest("eve"), address="192.0.2.7").ask("join", room="lobby"), "banned")

    def test_sanctions_are_listed_for_moderators(self) -> None:
        self.sanction("mute")
        dora = self.chat.json(guest("dora"), "lobby", address="192.0.2.7")
        self.sanction("ban", person="g1-dora")
        listed = self.ok(self.mo.ask("sanctions", room="lobby"))["sanctions"]
        self.assertEqual(sorted(each["id"] for each in listed), ["g1-dora", "u2"])
        self.refused(self.alice.ask("sanctions", room="lobby"), "forbidden")
        self.assertIsNone(dora.closed)

    def test_every_command_is_rated(self) -> None:
        """A moderator cannot fill the log faster than anybody else."""
        chat = ChatHarness(self, Limits(send_burst=3, send_per_second=1))
        mo = chat.json(MODERATOR, "lobby")
        answers = [mo.ask("sanction", room="lobby", person="u2", what="mute") for _ in range(5)]
        self.assertEqual([answer.get("code") for answer in answers[3:]], ["rate_limited"] * 2)


class Directory:
    """Knows bob, and keeps what is noted."""

    def __init__(self) -> None:
        self.notes: list[Note] = []

    def name_of(self, person: str) -> Deferred[str | None]:
        return succeed({BOB.id: BOB.name}.get(person))

    def note(self, note: Note) -> Deferred[None]:
        self.notes.append(note)
        return succeed(None)


class AuditTests(GoverningCase):
    def test_each_change_is_noted_once(self) -> None:
        """Who did what to whom, from where; what was refused or repeated is not."""
        directory = Directory()
        self.patch(self.chat.core.governing, "_directory", directory)
        name = self.private(BOB)
        self.ok(self.alice.ask("member", room=name, person=BOB.id, role="reader", key="k"))
        self.ok(self.alice.ask("member", room=name, person=BOB.id, role="reader", key="k"))
        self.refused(self.bob.ask("member", room=name, person=ALICE.id, role=None), "forbidden")
        self.ok(self.alice.ask("settings", room=name, title="More plans"))
        self.ok(self.alice.ask("sanction", room=name, person=BOB.id, what="ban", reason="loud"))

        found = [(note.action, note.by, note.subject, note.address) for note in directory.notes]
        here = "127.0.0.1"
        self.assertEqual(
            found,
            [
                ("room.create", ALICE.id, name, here),
                ("room.member", ALICE.id, ALICE.id, here),
                ("room.member", ALICE.id, BOB.id, here),
                ("room.member", ALICE.id, BOB.id, here),
                ("room.change", ALICE.id, name, here),
                ("room.ban", ALICE.id, BOB.id, here),
            ],
        )
        self.assertEqual(directory.notes[-1].details, {"room": name, "on": "true", "reason": "loud", "event": "6"})


class NodesTests(SynchronousTestCase):
    """Two nodes with one store: alice on the first one, bob on the second."""

    def setUp(self) -> None:
        self.cluster = Cluster(self)
        self.one, self.two = self.cluster.nodes(2)
        for node in (self.one, self.two):
            task = standings(node.store, node.core, node.clock, 0)
            task.startService()
            self.addCleanup(task.stopService)
        self.alice, self.bob = self.one.json(ALICE), self.two.json(BOB)
        self.patch(self.one.core.governing, "_directory", Directory())

    def made(self) -> str:
        answer = self.alice.ask("create", access="private", title="Plans", people=[BOB.id])
        self.assertEqual(answer["type"], "ok", answer)
        name = str(answer["room"])
        self.cluster.pass_time(STANDINGS_SECONDS + 0.1)
        return name

    def test_a_room_that_was_not_in_memory(self) -> None:
        """The person is told of the room, on whatever node, and may join; nobody else on that node sees it."""
        name = self.made()
        self.assertEqual([(one["room"], one["title"]) for one in self.bob.take("room")], [(name, "Plans")])
        carol = self.two.json(CAROL)
        self.assertEqual(carol.ask("join", room=name)["code"], "no_such_room")
        self.assertEqual(self.bob.ask("rooms")["rooms"][0]["room"], name)
        answer = self.bob.ask("join", room=name)
        self.cluster.pass_time(1)
        self.assertEqual(answer["type"], "ok", answer)

    def test_removed_on_another_node(self) -> None:
        """The second node delivers nothing behind the removal, because both stand in one log."""
        name = self.made()
        self.bob.say({"type": "join", "id": 1, "room": name})
        self.cluster.pass_time(1)
        self.bob.take()
        self.alice.say({"type": "join", "room": name}, {"type": "send", "room": name, "text": "before"})
        self.alice.say({"type": "member", "room": name, "person": BOB.id, "role": None})
        self.alice.say({"type": "send", "room": name, "text": "after"})
        self.cluster.pass_time(3)
        came = self.bob.take()
        self.assertEqual([one["text"] for one in came if one.get("kind") == "message"], ["before"])
        self.assertEqual([one["room"] for one in came if one["type"] == "removed"], [name])

    def test_muted_on_another_node(self) -> None:
        """Also where the room is not in memory, within a second."""
        self.one.json(MODERATOR, "lobby").ask("sanction", room="lobby", person=BOB.id, what="mute")
        self.cluster.pass_time(STANDINGS_SECONDS + 0.1)
        self.bob.say({"type": "join", "room": "lobby"})
        self.cluster.pass_time(1)
        self.assertEqual(self.bob.ask("send", room="lobby", text="x").get("code"), "muted")
