"""The one rule for names of people and rooms.

Both are shown next to other people's names, so what cannot be told apart by eye must not be two names: NFC (Unicode
annex 15), no control, bidi or zero-width characters, no look-alikes of an existing name (annex 39's idea of a skeleton).
"""

from __future__ import annotations

import unicodedata
from functools import lru_cache

from twisted_chat.errors import BadRequest

#: Characters.  Long enough for full names, short enough for a line on a telephone.
PERSON_NAME_MAX = 64
#: Characters.  A room's name is a path segment, a metrics label and a file name in exports.
ROOM_NAME_MAX = 64

#: Control, format (bidi, zero width), surrogate, private use, unassigned; line and paragraph separators.
_REFUSED_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_ROOM_PUNCTUATION = frozenset("-_.~@+")


def person_name(raw: str, field: str = "name") -> str:
    """The name in its one form; :class:`BadRequest` naming ``field`` if it is none."""
    name = " ".join([part for part in unicodedata.normalize("NFC", raw).split(" ") if part])
    if not name:
        raise BadRequest(f"{field}: must not be empty")
    _refuse_unseen(name, field)
    if len(name) > PERSON_NAME_MAX:
        raise BadRequest(f"{field}: at most {PERSON_NAME_MAX} characters, this has {len(name)}")
    return name


def room_name(raw: str, field: str = "room") -> str:
    """The room's name in its one form: letters, digits and ``-_.~@+``, beginning with a letter or digit."""
    name = unicodedata.normalize("NFC", raw)
    if not name:
        raise BadRequest(f"{field}: must not be empty")
    if len(name) > ROOM_NAME_MAX:
        raise BadRequest(f"{field}: at most {ROOM_NAME_MAX} characters, this has {len(name)}")
    _refuse_unseen(name, field)
    for character in name:
        if not (character.isalnum() or character in _ROOM_PUNCTUATION or unicodedata.category(character)[0] == "M"):
            raise BadRequest(f"{field}: {character!a} may not be in a room's name; letters, digits and -_.~@+ may")
    if not name[0].isalnum():
        raise BadRequest(f"{field}: must begin with a letter or digit")
    return name


@lru_cache(maxsize=4_096)  # asked four times for each connection
def skeleton(name: str) -> str:
    """Two names with one skeleton look alike: compatibility forms, case, accents and the commonest confusables folded."""
    folded = unicodedata.normalize("NFKD", name).casefold()
    letters = "".join(
        _CONFUSABLE.get(character, character) for character in folded if not unicodedata.combining(character) and character != " "
    )
    return letters.replace("rn", "m").replace("vv", "w")


def _refuse_unseen(name: str, field: str) -> None:
    for character in name:
        category = unicodedata.category(character)
        if category in _REFUSED_CATEGORIES or (category == "Zs" and character != " ") or character in _BLANK:
            raise BadRequest(f"{field}: {character!a} is not a character that can be seen")


#: Letters by category that show as nothing.
_BLANK = frozenset("\u115f\u1160\u3164\uffa0\u2800\u034f\u17b4\u17b5")

# What Cyrillic, Greek and other letters look like in Latin, and what digits and letters look like among each other.
_CONFUSABLE = {
    **dict(zip("аеорсухіјѕһԁԛԝкмтвнгпьзбё", "aeopcyxijshdqwkmtbhrnb36e", strict=True)),
    **dict(zip("αβεικνορτυχγηωζμσ", "abeikvoptuxynwzuo", strict=True)),
    **dict(zip("օոսցհզքյ", "onugnqpj", strict=True)),
    "0": "o",
    "1": "l",
    "i": "l",
    "|": "l",
    "!": "l",
    "5": "s",
    "ı": "l",
    "ɑ": "a",
    "ɡ": "g",
    "ƽ": "s",
    "ѡ": "w",
}
_CONFUSABLE.update({source: _CONFUSABLE.get(target, target) for source, target in list(_CONFUSABLE.items())})
