"""Random parts of the ids that stores make."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

#: Returns so many random bytes: ``secrets.token_bytes``, or a test's substitute.
RandomBytes: TypeAlias = Callable[[int], bytes]

#: Characters.  30 bits distinguish databases of the same name.
EPOCH_LENGTH = 6
#: Characters.  50 bits per commit and room: two histories of a room have the same id at a number by chance once in 10^15.
BATCH_LENGTH = 10

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


def random_text(random_bytes: RandomBytes, length: int) -> str:
    """``length`` random characters of Crockford's base 32, which has no letters that can be confused with digits."""
    return "".join([_ALPHABET[byte & 31] for byte in random_bytes(length)])
