"""The page's files: read once at start, served from memory.

A request names a key of a dict, never a path of the file system, so paths cannot be traversed.

Each file has two URLs.  ``/client.js`` is stable, and browsers revalidate it at each use.  ``/assets/HASH/client.js`` is the one that the
page uses, and is cached for ever: HASH is over all files, so what is cached is one consistent set, and the relative imports of the
modules need no build step.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from hashlib import sha256
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import PurePosixPath

from msgspec import Struct

from twisted_chat.web.auth import Headers
from twisted_chat.web.responses import Response
from twisted_chat.web.routing import Route

#: Content types by suffix; other files are not served.
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

#: How ``index.html`` begins the URLs of other files; opened from disk, it finds them, too.
_IN_PAGE = b'"./'
#: A file under the hash never changes (RFC 8246).
_IMMUTABLE = b"public, max-age=31536000, immutable"
_REVALIDATE = b"no-cache"


class Asset(Struct, frozen=True):
    """One file, plain and compressed."""

    kind: bytes
    body: bytes
    packed: bytes | None
    digest: str


def page_routes(directory: Traversable | None = None) -> list[Route]:
    """Two routes for each file of the page; ``index.html`` is at ``/`` and refers to the others by their hashed URLs."""
    root = directory if directory is not None else files("twisted_chat.web").joinpath("page")
    assets = dict(read_assets(root))
    release = sha256("".join(asset.digest for asset in assets.values()).encode()).hexdigest()[:16]
    routes = []
    for path, asset in assets.items():
        if path == "index.html":
            page = asset.body.replace(_IN_PAGE, f'"assets/{release}/'.encode())
            routes.append(_route("/", make_asset(asset.kind, page), _REVALIDATE))
        else:
            routes.append(_route(f"/{path}", asset, _REVALIDATE))
            routes.append(_route(f"/assets/{release}/{path}", asset, _IMMUTABLE))
    return routes


def read_assets(directory: Traversable, below: str = "") -> Iterator[tuple[str, Asset]]:
    """The files of known content types, with their paths."""
    for entry in sorted(directory.iterdir(), key=lambda entry: entry.name):
        suffix = PurePosixPath(entry.name).suffix
        if entry.is_dir():
            yield from read_assets(entry, f"{below}{entry.name}/")
        elif suffix in TYPES and not entry.name.startswith("."):
            yield f"{below}{entry.name}", make_asset(TYPES[suffix], entry.read_bytes(), pack=suffix not in _PACKED)


def make_asset(kind: bytes, body: bytes, *, pack: bool = True) -> Asset:
    """The file with its compressed form and digest."""
    packed = gzip.compress(body, mtime=0) if pack else None
    smaller = packed if packed is not None and len(packed) < len(body) else None
    return Asset(kind, body, smaller, sha256(body).hexdigest()[:16])


def serve(asset: Asset, headers: Headers, cache: bytes) -> Response:
    """The file, compressed if the client accepts that, or 304 if it has the file (RFC 9110 section 13.1.2)."""
    packed = asset.packed is not None and _accepts_gzip(headers)
    tag = f'"{asset.digest}{"-gzip" if packed else ""}"'.encode()
    common = [(b"ETag", tag), (b"Cache-Control", cache), (b"Vary", b"Accept-Encoding")]
    if _matches(tag, headers):
        return Response(304, common)
    common.append((b"Content-Type", asset.kind))
    if packed and asset.packed is not None:
        return Response(200, [*common, (b"Content-Encoding", b"gzip")], asset.packed)
    return Response(200, common, asset.body)


def _route(path: str, asset: Asset, cache: bytes) -> Route:
    return Route(method=b"GET", path=path, endpoint=lambda call: serve(asset, call.headers, cache))


def _accepts_gzip(headers: Headers) -> bool:
    for line in headers.get(b"Accept-Encoding", ()):
        for entry in line.split(b","):
            coding, _, weight = entry.partition(b";")
            if coding.strip().lower() == b"gzip":
                return weight.replace(b" ", b"").rstrip(b"0.") != b"q="
    return False


def _matches(tag: bytes, headers: Headers) -> bool:
    tags = [entry.strip().removeprefix(b"W/") for line in headers.get(b"If-None-Match", ()) for entry in line.split(b",")]
    return tag in tags or b"*" in tags
