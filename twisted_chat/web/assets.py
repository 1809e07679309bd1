"""The page's files: read once at start, served from memory.

A request names a key of a dict, never a path of the file system, so there is nothing to traverse.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from hashlib import sha256
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import PurePosixPath

from msgspec import Struct

from twisted_chat.web.answer import Answer
from twisted_chat.web.arrival import Headers
from twisted_chat.web.call import Call, Endpoint, Route

#: By the end of the name; a file of another kind is not served.
TYPES = {
    ".css": b"text/css; charset=utf-8",
    ".html": b"text/html; charset=utf-8",
    ".ico": b"image/x-icon",
    ".js": b"text/javascript; charset=utf-8",
    ".json": b"application/json",
    ".mjs": b"text/javascript; charset=utf-8",
    ".png": b"image/png",
    ".svg": b"image/svg+xml",
    ".webmanifest": b"application/manifest+json",
    ".woff2": b"font/woff2",
}
_PACKED = frozenset({".ico", ".png", ".woff2"})

#: Seconds.  A file that is asked for by its hash never changes.
_FOR_EVER = b"public, max-age=31536000, immutable"
_ASK_AGAIN = b"no-cache"


class Asset(Struct, frozen=True):
    """One file, plain and compressed."""

    kind: bytes
    body: bytes
    packed: bytes | None
    digest: str


def page_routes(directory: Traversable | None = None) -> list[Route]:
    """A row for each file of the page; ``index.html`` is at ``/``.

    Behind ``?v=`` and the first 16 hex digits of a file's SHA-256 it may be kept for ever.
    """
    root = directory if directory is not None else files("twisted_chat.web").joinpath("page")
    routes = []
    for path, asset in read_assets(root):
        where = "/" if path == "index.html" else f"/{path}"
        routes.append(Route(method=b"GET", path=where, endpoint=_endpoint(asset)))
    return routes


def read_assets(directory: Traversable, below: str = "") -> Iterator[tuple[str, Asset]]:
    """All files that browsers understand, with their paths."""
    for entry in sorted(directory.iterdir(), key=lambda entry: entry.name):
        suffix = PurePosixPath(entry.name).suffix
        if entry.is_dir():
            yield from read_assets(entry, f"{below}{entry.name}/")
        elif suffix in TYPES and not entry.name.startswith("."):
            body = entry.read_bytes()
            packed = None if suffix in _PACKED else gzip.compress(body, mtime=0)
            smaller = packed if packed is not None and len(packed) < len(body) else None
            yield f"{below}{entry.name}", Asset(TYPES[suffix], body, smaller, sha256(body).hexdigest()[:16])


def serve(asset: Asset, headers: Headers, version: bytes | None) -> Answer:
    """The file, compressed where that is understood, or 304 if the browser has it (RFC 9110 section 13.1.2)."""
    packed = asset.packed is not None and _takes_gzip(headers)
    tag = f'"{asset.digest}{"-gzip" if packed else ""}"'.encode()
    cache = _FOR_EVER if version == asset.digest.encode() else _ASK_AGAIN
    common = [(b"ETag", tag), (b"Cache-Control", cache), (b"Vary", b"Accept-Encoding")]
    if _has(tag, headers):
        return Answer(304, common)
    common.append((b"Content-Type", asset.kind))
    if packed and asset.packed is not None:
        return Answer(200, [*common, (b"Content-Encoding", b"gzip")], asset.packed)
    return Answer(200, common, asset.body)


def _endpoint(asset: Asset) -> Endpoint:
    def endpoint(call: Call) -> Answer:
        versions = (call.request.args or {}).get(b"v", [None])
        return serve(asset, call.headers, versions[0])

    return endpoint


def _takes_gzip(headers: Headers) -> bool:
    for line in headers.get(b"Accept-Encoding", ()):
        for entry in line.split(b","):
            coding, _, weight = entry.partition(b";")
            if coding.strip().lower() == b"gzip":
                return weight.replace(b" ", b"").rstrip(b"0.") != b"q="
    return False


def _has(tag: bytes, headers: Headers) -> bool:
    tags = [entry.strip().removeprefix(b"W/") for line in headers.get(b"If-None-Match", ()) for entry in line.split(b",")]
    return tag in tags or b"*" in tags
