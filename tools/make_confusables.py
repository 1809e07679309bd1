"""Make ``twisted_chat/confusables.py``: what characters look like, by Unicode's data for security mechanisms (UTS 39).

Download ``confusables.txt`` of the version below from https://www.unicode.org/Public/security/ and run
``python tools/make_confusables.py confusables.txt > twisted_chat/confusables.py``.  For a newer version, change the constants here.

A row is left out when the module that uses the table finds the same without it, by compatibility decomposition.
"""

from __future__ import annotations

import hashlib
import sys
import textwrap
import unicodedata
from pathlib import Path

VERSION = "17.0.0"
SHA256 = "091c7f82fc39ef208faf8f94d29c244de99254675e09de163160c810d13ef22a"


def prototypes(path: Path) -> dict[str, str]:
    """Each character of the file and what it looks like, the file's version checked."""
    data = path.read_bytes()
    if hashlib.sha256(data).hexdigest() != SHA256:
        raise SystemExit(f"{path} is not confusables.txt of Unicode {VERSION}: its SHA-256 is another")
    found = {}
    for line in data.decode("utf-8-sig").splitlines():
        fields = line.partition("#")[0].split(";")
        if len(fields) == 3:
            source, target = ("".join(chr(int(number, 16)) for number in field.split()) for field in fields[:2])
            found[source] = target
    return found


def table(found: dict[str, str]) -> dict[str, str]:
    """The rows that say more than compatibility decomposition does."""

    def decomposed(character: str) -> str | None:
        parts = unicodedata.normalize("NFKD", character)
        return None if parts == character else "".join(found.get(each, each) for each in parts)

    return {
        source: target
        for source, target in sorted(found.items())
        if not (source.isascii() or target.isspace() or unicodedata.combining(source) or decomposed(source) == target)
    }


def module(rows: dict[str, str]) -> str:
    """The source of the module."""
    lines = [
        f'"""What characters look like, made by ``tools/make_confusables.py`` from confusables.txt {VERSION} of Unicode (UTS 39)."""',
        "",
        "from __future__ import annotations",
        "",
        "#: Version of Unicode's data.",
        f'VERSION = "{VERSION}"',
        "",
    ]
    texts = (("_CHARACTERS", "".join(rows)), ("_LOOK_LIKE", " ".join(rows.values())))
    for name, text in texts:
        escaped = ['\\"' if each == '"' else each.encode("unicode_escape").decode() for each in text]
        lines += [f"{name} = (", *(f'    "{line}"' for line in _lines(escaped)), ")"]
    lines += [
        "",
        "#: A character -> the characters, one or more, that it looks like.",
        'PROTOTYPES = dict(zip(_CHARACTERS, _LOOK_LIKE.split(" "), strict=True))',
    ]
    return "\n".join(lines) + "\n"


def _lines(escaped: list[str]) -> list[str]:
    lines = [""]
    for each in escaped:
        if len(lines[-1]) + len(each) > 120:
            lines.append("")
        lines[-1] += each
    return lines


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit(textwrap.dedent(__doc__ or ""))
    sys.stdout.write(module(table(prototypes(Path(sys.argv[1])))))
