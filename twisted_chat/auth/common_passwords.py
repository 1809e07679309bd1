"""Passwords that attackers try first, recognized by how they are made: a common word, a row of keys or a repetition, and an ornament.

A list of the passwords themselves would need tens of thousands of entries, nearly all of which these few rules make from some 300 words.
"""

from __future__ import annotations

import re

#: Words, names and phrases that lists of stolen passwords begin with.
_TEXT = """
    password passwort passw passwd passphrase motdepasse contrasena senha wachtwoord parola haslo parool salasana losenord
    admin administrator root user guest test tester testing demo sample default changeme change secret private letmein letmeinn
    welcome willkommen bienvenue benvenuto hello hallo bonjour login logon signin access open sesame opensesame master super
    superuser system server computer internet google facebook twitter linkedin apple microsoft windows android samsung iphone
    chat twisted twistedchat autobahn websocket message messenger
    iloveyou iloveu loveyou lovely love lover loveme ilove tequiero teamo amour liebe jetaime sweetheart honey babe baby babygirl
    princess prince queen king angel angels heaven sunshine sunny rainbow flower flowers butterfly dolphin summer winter spring
    autumn monday tuesday wednesday thursday friday saturday sunday january february march april may june july august september
    october november december
    football fussball soccer baseball basketball hockey tennis golf racing player sports champion winner arsenal chelsea
    liverpool barcelona realmadrid juventus bayern dortmund yankees cowboys lakers eagles steelers packers redsox
    dragon monkey tiger lion eagle falcon wolf shadow panther horse kitty kitten puppy doggy charlie buster
    superman batman spiderman ironman starwars startrek pokemon pikachu naruto matrix matrix gandalf hobbit merlin wizard
    minecraft fortnite roblox nintendo playstation xbox zelda mario counterstrike warcraft
    michael michelle daniel david robert thomas andrew andrea joshua matthew jennifer jessica jordan ashley amanda nicole
    samantha elizabeth anthony william richard charles christopher patrick alexander alexandra alexandre alex martin martina
    nicolas stephanie sebastian thomas andreas jessica isabella sophie charlotte victoria anna maria george jackson
    hunter ranger ninja pirate soldier killer trustno trustnoone whatever freedom liberty forever nothing something anything
    cheese chocolate cookie banana orange pepper ginger coffee pizza vanilla cherry strawberry
    mustang corvette ferrari porsche mercedes harley yamaha honda toyota subaru camaro chevy
    computer hacker hacking security keyboard mouse monitor phone mobile number numbers
    purple yellow green silver golden black white blue red orange diamond crystal jasmine destiny
    london berlin paris madrid america american canada australia germany england france scotland ireland russia india brazil
    jesus christ jesuschrist blessed blessing godislove church faith grace
    correcthorsebatterystaple
    qwerty qwertz azerty asdf zxcv qwer wasd
    """
_WORDS = frozenset(_TEXT.split())
#: Rows of keys, in reading order, and the alphabets.
_ROWS = (
    "qwertyuiop[]", "asdfghjkl;'", "zxcvbnm,./", "1234567890-=", "qwertzuiopü", "yxcvbnm", "azertyuiop", "qsdfghjklm", "wxcvbn",
    "0987654321", "abcdefghijklmnopqrstuvwxyz", "1qaz2wsx3edc4rfv5tgb6yhn7ujm8ik,9ol.0p;/", "!qaz@wsx#edc$rfv%tgb",
    "qazwsxedcrfvtgbyhnujmikolp", "!@#$%^&*()", "147258369", "159357", "abcabc",
)  # fmt: skip
#: Characters of a piece of a row that count as one; shorter ones occur by chance.
_PIECE = 3

_LEET = str.maketrans("0134578@$!+|", "oieastbasitl")
_ORNAMENT = re.compile(r"[\d\W_]+")
_ENDS = re.compile(r"^[\d\W_]+|[\d\W_]+$")


def is_common(password: str) -> bool:
    """Whether it is one of those that are guessed first; ``password`` is of bounded length."""
    folded = password.casefold()
    return _is_repetition(folded) or _is_rows(folded) or _is_words(folded) or _is_words(_ENDS.sub("", folded).translate(_LEET))


def _is_repetition(folded: str) -> bool:
    """The same few characters again and again: ``aaaaaaaa``, ``abcabcabc``."""
    if len(set(folded)) < 3:
        return True
    return any(folded == (folded[:size] * len(folded))[: len(folded)] for size in range(1, min(4, len(folded) // 2) + 1))


def _is_rows(folded: str) -> bool:
    """Nothing but pieces of rows, forwards or backwards, and digits: ``1q2w3e4r`` is in the columns, ``qwerty123`` in the rows."""
    woven = folded[::2], folded[1::2]
    if len(folded) >= 8 and all(_covered(half) for half in woven):
        return True
    return _covered(_ORNAMENT.sub("", folded) or folded)


def _covered(text: str) -> bool:
    place = 0
    while place < len(text):
        size = _longest_piece(text[place:])
        if size < _PIECE:
            return False
        place += size
    return True


def _longest_piece(text: str) -> int:
    for size in range(min(len(text), 40), _PIECE - 1, -1):
        piece = text[:size]
        if any(piece in row or piece[::-1] in row for row in _ROWS):
            return size
    return 0


def _is_words(folded: str) -> bool:
    """Common words with ornaments: ``Password123!``, ``1letmein``, ``iloveyou2024``; at most four characters are not explained."""
    ornaments = sum(len(match) for match in _ORNAMENT.findall(folded))
    letters = _ORNAMENT.sub("", folded)
    if ornaments > 8 or not letters:
        # Digits and signs alone: dates and telephone numbers, as long as they are short.
        return not letters and folded.isdigit() and len(folded) <= 10
    return _made_of_words(letters)


def _made_of_words(letters: str, words: int = 2) -> bool:
    if letters in _WORDS or letters.rstrip("s") in _WORDS:
        return True
    return words > 1 and any(
        letters[:place] in _WORDS and _made_of_words(letters[place:], 1) for place in range(3, len(letters) - 2)
    )
