"""Make ``twisted_chat/confusables.py``: what letters look like, by the data of Unicode's security mechanisms (UTS 39).

The data come with the package ``confusable-homoglyphs``, which has the pairs of ``confusables.txt``.  Only single characters are used.
For each letter in lower case the module says which letter stands for all that look like it or like its capital; a Latin letter or a
digit where there is one.

Run ``python tools/make_confusables.py > twisted_chat/confusables.py`` after an update of the package.
"""

from __future__ import annotations

import json
import sys
import textwrap
import unicodedata
from importlib.metadata import version
from importlib.resources import files

PACKAGE = "confusable-homoglyphs"


def pairs() -> list[tuple[str, str]]:
    """Characters that look alike."""
    data = json.loads(files("confusable_homoglyphs").joinpath("confusables.json").read_text(encoding="utf-8"))
    return [
        (character, like["c"]) for character, likes in data.items() for like in likes if len(character) == len(like["c"]) == 1
    ]


class Classes:
    """Characters that look alike, each class with its prototype."""

    def __init__(self) -> None:
        self._parent: dict[str, str] = {}
        for one, other in pairs():
            self._join(one, other)

    def prototype(self, character: str) -> str:
        """The first character of the class: an ASCII letter or digit where there is one."""
        parent = self._parent.get(character, character)
        return character if parent == character else self.prototype(parent)

    def _join(self, one: str, other: str) -> None:
        first, second = sorted((self.prototype(one), self.prototype(other)), key=_rank)
        self._parent[second] = first


def _rank(character: str) -> tuple[bool, bool, int]:
    return (not (character.isascii() and character.isalnum()), not character.isalpha(), ord(character))


def table() -> dict[str, str]:
    """What each character, folded to lower case and without accents, is compared as, where that is another one."""
    classes = Classes()
    found = {}
    for number in range(0x80, 0x20000):
        character = chr(number)
        if character.casefold() != character or unicodedata.normalize("NFKD", character) != character:
            continue
        if unicodedata.combining(character) or not character.isalnum():
            continue
        candidates = [classes.prototype(character), classes.prototype(character.upper())]
        plain = [each.casefold() for each in candidates if each.isascii() and each.isalnum()]
        target = plain[0] if plain else candidates[0].casefold()
        if target != character and len(target) == 1:
            found[character] = target
    return found


def module() -> str:
    """The source of the module."""
    found = table()
    lines = [
        f'"""Letters that look like others, made by ``tools/make_confusables.py`` from {PACKAGE} {version(PACKAGE)} (UTS 39)."""',
        "",
        "from __future__ import annotations",
        "",
    ]
    for name, text in (("_LETTERS", "".join(found)), ("_LOOK_LIKE", "".join(found.values()))):
        escaped = [character.encode("unicode_escape").decode() for character in text]
        rows = textwrap.wrap(" ".join(escaped), 118)
        lines += [f"{name} = (", *(f'    "{row.replace(" ", "")}"' for row in rows), ")"]
    lines += [
        "",
        "#: Each letter -> the one that it is compared as.",
        "PROTOTYPES = dict(zip(_LETTERS, _LOOK_LIKE, strict=True))",
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.stdout.write(module())
