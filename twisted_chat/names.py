"""The one rule for names of users and rooms.

In:   a name as somebody typed it, of whatever length.
Out:  its one form, or an error that names the field; and its look-alike form (:func:`skeleton`).

Names are shown next to other users' names, so what cannot be told apart by eye must not be two names: NFC (Unicode annex 15), no
control, bidirectional or zero-width characters, no look-alikes of an existing name (UTS 39 section 4).
"""

from __future__ import annotations

import unicodedata
from functools import lru_cache

from twisted_chat.confusables import PROTOTYPES
from twisted_chat.errors import BadRequest

#: Characters.  Long enough for full names, short enough for a line on a telephone.
PERSON_NAME_MAX = 64
#: Characters.  A room's name is a path segment, a metrics label and a file name in exports.
ROOM_NAME_MAX = 64

#: Characters that are looked at before composition (NFC), which takes quadratic time in CPython, so it comes after this bound.
RAW_NAME_MAX = 256

#: Control, format (bidi, zero width), surrogate, private use, unassigned; line and paragraph separators.
_REFUSED_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_ROOM_PUNCTUATION = frozenset("-_.~@+")


def person_name(raw: str, field: str = "name") -> str:
    """The name in its one form; :class:`BadRequest` naming ``field`` if it is none."""
    name = " ".join([part for part in _composed(raw, field).split(" ") if part])
    if not name:
        raise BadRequest(f"{field}: must not be empty")
    _check_visible(name, field)
    if len(name) > PERSON_NAME_MAX:
        raise BadRequest(f"{field}: at most {PERSON_NAME_MAX} characters, this has {len(name)}")
    return name


def room_name(raw: str, field: str = "room") -> str:
    """The room's name in its one form: letters, digits and ``-_.~@+``, beginning with a letter or digit."""
    name = _composed(raw, field)
    if not name:
        raise BadRequest(f"{field}: must not be empty")
    if len(name) > ROOM_NAME_MAX:
        raise BadRequest(f"{field}: at most {ROOM_NAME_MAX} characters, this has {len(name)}")
    _check_visible(name, field)
    for character in name:
        if not (character.isalnum() or character in _ROOM_PUNCTUATION or unicodedata.category(character)[0] == "M"):
            raise BadRequest(f"{field}: {character!a} may not be in a room's name; letters, digits and -_.~@+ may")
    if not name[0].isalnum():
        raise BadRequest(f"{field}: must begin with a letter or digit")
    return name


@lru_cache(maxsize=4_096)  # asked four times for each connection
def skeleton(name: str) -> str:
    """Two names with one skeleton look alike: compatibility forms, case, accents and confusable letters are folded.

    It is UTS 39's skeleton without case and accents, because a name is also confused with its capitals.

    :param name: in its one form, so of bounded length.
    """
    folded = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", name).casefold())
    letters = "".join(
        _ALSO_CONFUSABLE.get(character) or PROTOTYPES.get(character, character)
        for character in folded
        if not unicodedata.combining(character) and character != " "
    )
    return letters.translate(_AMONG_LATIN).replace("rn", "m").replace("vv", "w")


def _composed(raw: str, field: str) -> str:
    if len(raw) > RAW_NAME_MAX:
        raise BadRequest(f"{field}: at most {RAW_NAME_MAX} characters before composition, this has {len(raw)}")
    return unicodedata.normalize("NFC", raw)


def _check_visible(name: str, field: str) -> None:
    for character in name:
        category = unicodedata.category(character)
        if category in _REFUSED_CATEGORIES or (category == "Zs" and character != " ") or character in _BLANK:
            raise BadRequest(f"{field}: {character!a} is not a character that can be seen")


#: Letters by category that show as nothing.
_BLANK = frozenset("\u115f\u1160\u3164\uffa0\u2800\u034f\u17b4\u17b5")

#: What is confused besides UTS 39's data.
_ALSO_CONFUSABLE = dict(zip("пωђєθ", "nwheo", strict=True))

#: Digits and signs that are confused with Latin letters; ``I`` is ``i`` when case is folded, so ``i`` goes with ``l``.
_AMONG_LATIN = str.maketrans("01i|!5", "olllls")
