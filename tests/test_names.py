"""Names of people and rooms: one form, nothing unseen, no look-alikes."""

from __future__ import annotations

import subprocess
import sys
import unicodedata
from typing import Literal

from twisted.trial.unittest import SynchronousTestCase

from tests.harness.serving import ROOT
from twisted_chat.errors import BadRequest
from twisted_chat.names import PERSON_NAME_MAX, RAW_NAME_MAX, ROOM_NAME_MAX, person_name, room_name, skeleton

UNSEEN = {
    "NUL": "\0",
    "escape": "\x1b",
    "newline": "\n",
    "C1": "\x85",
    "soft hyphen": "\u00ad",
    "zero width space": "\u200b",
    "zero width joiner": "\u200d",
    "right-to-left override": "\u202e",
    "isolate": "\u2066",
    "byte order mark": "\ufeff",
    "line separator": "\u2028",
    "no-break space": "\u00a0",
    "ideographic space": "\u3000",
    "Hangul filler": "\u3164",
    "blank Braille": "\u2800",
    "private use": "\ue000",
    "unassigned": "\U000e1000",
    "tag": "\U000e0041",
}


class PersonNameTests(SynchronousTestCase):
    def test_names_have_one_form(self) -> None:
        """Composed (NFC), single spaces, none at the ends."""
        for raw, name in (
            ("alice", "alice"),
            ("  Ann   B. ", "Ann B."),
            ("Zoe\u0308", "Zoë"),
            ("李小龍", "李小龍"),
            ("🙂", "🙂"),
        ):
            self.assertEqual(person_name(raw), name)
            self.assertEqual(person_name(person_name(raw)), name)

    def test_what_cannot_be_seen_is_refused(self) -> None:
        for what, character in UNSEEN.items():
            for raw in (character, f"a{character}b", f"a{character}", f"{character}a"):
                with self.assertRaises(BadRequest, msg=what) as caught:
                    person_name(raw, "guest")
                self.assertTrue(caught.exception.message.startswith("guest: "))
                self.assertTrue(caught.exception.message.isascii())

    def test_length(self) -> None:
        self.assertEqual(len(person_name("x" * PERSON_NAME_MAX)), PERSON_NAME_MAX)
        for raw in ("", "   ", "x" * (PERSON_NAME_MAX + 1)):
            self.assertRaises(BadRequest, person_name, raw)

    def test_length_comes_first(self) -> None:
        """Composition takes quadratic time, so it never sees more than a bounded number of characters."""
        seen: list[int] = []
        real = unicodedata.normalize

        def normalize(form: Literal["NFC", "NFD", "NFKC", "NFKD"], text: str) -> str:
            seen.append(len(text))
            return real(form, text)

        self.patch(unicodedata, "normalize", normalize)
        for check in (person_name, room_name):
            error = self.assertRaises(BadRequest, check, "\u0300\u0323" * 16_000)
            self.assertIn("at most", error.message)

        self.assertLessEqual(max(seen, default=0), RAW_NAME_MAX)


class RoomNameTests(SynchronousTestCase):
    def test_letters_digits_and_a_little_punctuation(self) -> None:
        for name in ("lobby", "live.1", "a-b_c.d~e@f+g", "größe", "комната", "1", "हिन्दी", "x" * ROOM_NAME_MAX):
            self.assertEqual(room_name(name), name)
        self.assertEqual(room_name("Cafe\u0301"), "Café")

    def test_what_is_none(self) -> None:
        bad = [
            "",
            "a b",
            "a/b",
            "../x",
            ".hidden",
            "-x",
            "a#b",
            "a?b",
            "a%20b",
            "a:b",
            'a"b',
            "<b>",
            "🙂",
            "x" * (ROOM_NAME_MAX + 1),
        ]
        for raw in [*bad, *(f"a{character}b" for character in UNSEEN.values())]:
            with self.assertRaises(BadRequest) as caught:
                room_name(raw)
            self.assertTrue(caught.exception.message.startswith("room: "))
            self.assertTrue(caught.exception.message.isascii())


class SkeletonTests(SynchronousTestCase):
    def test_look_alikes_have_one_skeleton(self) -> None:
        """Case, accents, width, Cyrillic and Greek letters, digits for letters, ``rn`` for ``m``."""
        for one, other in (
            ("alice", "ALICE"),
            ("alice", "аlicе"),
            ("alice", "alícé"),
            ("alice", "al1ce"),
            ("alice", "a l i c e"),
            ("alice", "ａｌｉｃｅ"),
            ("bob", "b0b"),
            ("mike", "rnike"),
            ("will", "vvill"),
            ("paypal", "раураl"),
            ("omega", "οmega"),
            ("bill", "biII"),
            ("straße", "strasse"),
            ("abba", "ᎪᏴᏴᎪ"),
            ("peter", "ᑭETEᖇ"),
            ("lisa", "ꓡІꓢꓮ"),
            ("anna", "𝒶𝓃𝓃𝒶"),
            ("нина", "НИНА"),
        ):
            self.assertEqual(skeleton(one), skeleton(other), (one, other))

    def test_others_differ(self) -> None:
        names = [
            "alice",
            "bob",
            "alicia",
            "bo",
            "carol",
            "李",
            "小",
            "lobby",
            "a-b",
            "a_b",
            "team1",
            "team2",
            "👍",
            "👎",
            "нина",
            "анна",
            "иван",
            "ивана",
            "Ελένη",
            "Ελένα",
        ]
        self.assertEqual(len({skeleton(name) for name in names}), len(names))

    def test_the_table_is_made_from_the_data(self) -> None:
        """``tools/make_confusables.py`` makes the very module again."""
        made = subprocess.run([sys.executable, ROOT / "tools/make_confusables.py"], capture_output=True, text=True, check=True)

        self.assertEqual(made.stdout, (ROOT / "twisted_chat/confusables.py").read_text())
