"""Names of people and rooms: one form, nothing unseen, no look-alikes."""

from __future__ import annotations

import subprocess
import sys
import unicodedata
from itertools import combinations
from pathlib import Path
from typing import Literal

from twisted.trial.unittest import SynchronousTestCase

from tests.harness.serving import ROOT
from twisted_chat import confusables
from twisted_chat.errors import BadRequest
from twisted_chat.names import PERSON_NAME_MAX, RAW_NAME_MAX, ROOM_NAME_MAX, person_name, room_name, skeletons

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
        """Characters that cannot be seen are refused at any place, in an ASCII error that names the field."""
        for what, character in UNSEEN.items():
            for raw in (character, f"a{character}b", f"a{character}", f"{character}a"):
                with self.assertRaises(BadRequest, msg=what) as caught:
                    person_name(raw, "guest")
                self.assertTrue(caught.exception.message.startswith("guest: "))
                self.assertTrue(caught.exception.message.isascii())

    def test_length(self) -> None:
        """A name has at least one visible character and at most the allowed number."""
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
        """Names of rooms may have letters and digits of any script and some punctuation, and are normalised."""
        for name in ("lobby", "live.1", "a-b_c.d~e@f+g", "größe", "комната", "1", "हिन्दी", "x" * ROOM_NAME_MAX):
            self.assertEqual(room_name(name), name)
        self.assertEqual(room_name("Cafe\u0301"), "Café")

    def test_what_is_none(self) -> None:
        """Names of rooms with other characters, or of the wrong length, are refused in an ASCII error that names the field."""
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


def alike(one: str, other: str) -> bool:
    return not set(skeletons(one)).isdisjoint(skeletons(other))


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
            ("nick", "Νick"),
            ("NINA", "ΝΙΝΑ"),
            ("Νίνα", "ΝΙΝΑ"),
            ("carol", "ϲarol"),
            ("aeon", "æon"),
            ("dan", "đan"),
            ("bob", "Ⲃob"),
            ("bob", "🅱ob"),
            ("bob", "🅑ob"),
            ("O'Neil", "O’Neil"),
            ("へ", "ヘ"),
            ("محمد", "مُحَمَّد"),
            ("שלום", "שָׁלוֹם"),
        ):
            self.assertTrue(alike(one, other), (one, other))

    def test_signs_that_are_not_seen(self) -> None:
        """A variation selector or a foreign mark behind any letter makes no other name."""
        selectors = [*range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0), *range(0x180B, 0x180E), 0x180F, 0x093C, 0x0901]
        for selector in map(chr, selectors):
            for name in ("alice", "нина", "Ελένη"):
                for place in range(1, len(name) + 1):
                    self.assertTrue(alike(name, name[:place] + selector + name[place:]), (name, place, ascii(selector)))
        self.assertTrue(alike("❤", "❤\ufe0f"))

    def test_others_differ(self) -> None:
        """Names of many scripts, among them pairs that differ in a mark which makes another letter."""
        names = [
            "alice",
            "bob",
            "alicia",
            "bo",
            "carol",
            "hanna",
            "ханна",
            "lobby",
            "a-b",
            "a_b",
            "team1",
            "team2",
            "👍",
            "👎",
            "🇩🇪",
            "🇫🇷",
            "нина",
            "анна",
            "иван",
            "ивана",
            "Ольга",
            "Олег",
            "Ελένη",
            "Ελένα",
            "გიორგი",
            "ნინო",
            "Արամ",
            "Արմեն",
            "李",
            "小",
            "王",
            "玉",
            "李小龍",
            "李小龙",
            "か",
            "が",
            "カ",
            "ガ",
            "はは",
            "ばば",
            "ぱぱ",
            "김철수",
            "김철호",
            "कमल",
            "क़मल",
            "फल",
            "फ़ल",
            "अनिल",
            "अनील",
            "ரவி",
            "ரவீ",
            "রবি",
            "রবী",
            "မောင်",
            "မောင",
            "ខ្មែរ",
            "ខមែរ",
            "นา",
            "น่า",
            "น้า",
            "ນາ",
            "ນ້າ",
            "ขจร",
            "ขจี",
            "אבי",
            "רבי",
            "محمد",
            "محمود",
            "Nguyễn",
            "Hoàng",
        ]

        for one, other in combinations(names, 2):
            self.assertFalse(alike(one, other), (one, other, skeletons(one), skeletons(other)))

    def test_forms_are_few_and_stable(self) -> None:
        """One or two forms; a form of a form is among its forms, so that nothing is reached only by a second step."""
        for name in ("alice", "Νίνα", "Straße", "🅱ob", "xviii"):
            forms = skeletons(name)
            self.assertLessEqual(len(forms), 2)
            self.assertEqual(len(set(forms)), len(forms))
            for form in forms:
                self.assertIn(form, skeletons(form))

    def test_the_table(self) -> None:
        """It has Unicode's version that the tool names, and nothing in it is done by decomposition anyway."""
        tool = (ROOT / "tools/make_confusables.py").read_text()
        self.assertIn(f'VERSION = "{confusables.VERSION}"', tool)
        self.assertEqual(len(confusables.PROTOTYPES), 2_838)
        self.assertEqual({len(character) for character in confusables.PROTOTYPES}, {1})

        samples = {"ϲ": "c", "Ν": "N", "æ": "ae", "’": "'", "đ": "d\u0335", "Ⲃ": "B", "а": "a"}
        self.assertEqual({character: confusables.PROTOTYPES[character] for character in samples}, samples)
        for plain in ("ａ", "𝒶", "ﬁ", "a", " "):
            self.assertNotIn(plain, confusables.PROTOTYPES)

    def test_the_tool_checks_its_input(self) -> None:
        """Another file than that of the version is refused, and nothing is written."""
        path = Path(self.mktemp())
        path.write_text("0430 ; 0061 ; MA # a\n")
        made = subprocess.run([sys.executable, ROOT / "tools/make_confusables.py", path], capture_output=True, text=True)

        self.assertEqual((made.returncode, made.stdout), (1, ""))
        self.assertIn("its SHA-256 is another", made.stderr)
