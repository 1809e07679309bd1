"""The one rule for names of users and rooms.

In:   a name as somebody typed it, of whatever length.
Out:  its one form, or an error that names the field; and its look-alike forms (:func:`skeletons`).

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


def visible_text(raw: str, field: str, most: int) -> str:
    """One line of text for people, such as a title; :class:`BadRequest` naming ``field`` if it is empty, too long or not visible.

    :param most: characters.
    """
    if len(raw) > 4 * most:
        raise BadRequest(f"{field}: at most {most} characters, this has {len(raw)}")
    text = " ".join([part for part in unicodedata.normalize("NFC", raw).split(" ") if part])
    if not text:
        raise BadRequest(f"{field}: must not be empty")
    _check_visible(text, field)
    if len(text) > most:
        raise BadRequest(f"{field}: at most {most} characters, this has {len(text)}")
    return text


@lru_cache(maxsize=4_096)  # asked four times for each connection
def skeletons(name: str) -> tuple[str, ...]:
    """The look-alike forms of a name, one or two: names that share one cannot be told apart reliably.

    It is UTS 39's skeleton, and besides it folds case, accents and spaces, because a name is also confused with its capitals.  A capital
    can look like another letter than its small form does (a Greek capital nu like ``N``, the small one like ``v``), so the name is
    looked at as it is written and in small letters.

    :param name: in its one form, so of bounded length.
    """
    if name.isascii():
        return (_among_latin(name.casefold()),)
    written = unicodedata.normalize("NFD", name)
    return tuple(dict.fromkeys((_look(written), _look(unicodedata.normalize("NFD", written.casefold())))))


def _look(name: str) -> str:
    """What a decomposed name looks like."""
    parts: list[str] = []
    alphabetic = True
    for character in name:
        if _is_mark(character):
            # On a Latin, Greek or Cyrillic letter each mark is an accent; in other scripts it can make another letter.
            if not (alphabetic or character in _ACCENTS):
                parts.append(character)
            continue
        plain = unicodedata.normalize("NFKD", character)
        alphabetic = plain < _ALPHABETS_END
        look = PROTOTYPES.get(character) or _ALSO_CONFUSABLE.get(character)
        if look is None:
            look = "".join([PROTOTYPES.get(part, part) for part in plain]) if plain != character else character
        parts.append("".join([part for part in look.casefold() if part not in _ACCENTS]))
    return _among_latin("".join(parts))


def _is_mark(character: str) -> bool:
    return unicodedata.category(character) in ("Mn", "Me")


def _among_latin(text: str) -> str:
    return text.translate(_AMONG_LATIN).replace("rn", "m").replace("vv", "w")


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

#: What is confused besides UTS 39's data: Cyrillic letters that are drawn like Latin ones in italics, and letters in boxes.
_ALSO_CONFUSABLE = {
    **dict(zip("пωђєθ", "nwheo", strict=True)),
    **{chr(first + place): chr(ord("a") + place) for first in (0x1F130, 0x1F150, 0x1F170) for place in range(26)},
}

#: Accents, which are folded, and variation selectors, which change no letter: combining marks for Latin, Greek and Cyrillic,
#: vowel points of Hebrew and Arabic.
_ACCENTS = frozenset(
    chr(number)
    for first, last in (
        (0x0300, 0x036F),
        (0x0483, 0x0489),
        (0x0591, 0x05C7),
        (0x0610, 0x061A),
        (0x064B, 0x0652),
        (0x0656, 0x065F),
        (0x0670, 0x0670),
        (0x06D6, 0x06ED),
        (0x180B, 0x180F),
        (0x1AB0, 0x1AFF),
        (0x1DC0, 0x1DFF),
        (0x20D0, 0x20FF),
        (0x2DE0, 0x2DFF),
        (0xFE00, 0xFE0F),
        (0xFE20, 0xFE2F),
        (0xE0100, 0xE01EF),
    )
    for number in range(first, last + 1)
    if unicodedata.category(chr(number)) in ("Mn", "Me")
)

#: Latin, Greek and Cyrillic letters come before this one.
_ALPHABETS_END = "\u0530"

#: Signs that are confused with Latin letters, and spaces, which are left out; ``I`` is ``i`` when case is folded, so ``i`` goes with
#: ``l``.
_AMONG_LATIN = str.maketrans("01i|!5", "olllls", " ")
