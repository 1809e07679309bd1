"""The page's files."""

from __future__ import annotations

import gzip
import re
from importlib.resources import files
from pathlib import Path

from tests.harness.http_chat import HttpCase
from twisted_chat.web.static import page_routes, read_assets


class AssetTests(HttpCase):
    def test_page(self) -> None:
        """The page is served as HTML, whatever the query."""
        reply = self.ask("/")

        self.assertEqual((reply.status, reply.headers["content-type"]), (200, "text/html; charset=utf-8"))
        self.assertIn(b'<script type="module"', reply.body)
        self.assertEqual(self.ask("/?redirect=http://evil.test").status, 200)

    def test_page_runs_nothing_inline(self) -> None:
        """The CSP would stop it, and the page would not work."""
        page = self.ask("/").body
        self.assertEqual(page.count(b"<script"), page.count(b'<script type="module" src='))
        for forbidden in (b" style=", b"<style", b" onclick", b" onload", b"javascript:", b"http://", b"https://"):
            self.assertNotIn(forbidden, page)

    def test_types(self) -> None:
        """Styles, scripts and images have their content type."""
        self.assertEqual(self.ask("/styles/page.css").headers["content-type"], "text/css; charset=utf-8")
        self.assertEqual(self.ask("/client.js").headers["content-type"], "text/javascript; charset=utf-8")
        self.assertEqual(self.ask("/icon.svg").headers["content-type"], "image/svg+xml")

    def test_not_again(self) -> None:
        """A file that the browser has already is answered 304."""
        tag = self.ask("/styles/page.css").headers["etag"]
        for condition in (tag, f'"other", {tag}', f"W/{tag}", "*"):
            reply = self.ask("/styles/page.css", ("If-None-Match", condition))
            self.assertEqual((reply.status, reply.body, reply.headers["etag"]), (304, b"", tag))
            self.assertNotIn("content-length", reply.headers)
            self.assertIn("content-security-policy", reply.headers)
        self.assertEqual(self.ask("/styles/page.css", ("If-None-Match", '"other"')).status, 200)

    def test_compressed(self) -> None:
        """A script is served compressed to clients that accept gzip, with an entity tag of its own."""
        plain = self.ask("/client.js")

        packed = self.ask("/client.js", ("Accept-Encoding", "br, gzip;q=0.8"))

        self.assertEqual((packed.headers["content-encoding"], gzip.decompress(packed.body)), ("gzip", plain.body))
        self.assertLess(len(packed.body), len(plain.body))
        self.assertNotEqual(packed.headers["etag"], plain.headers["etag"])
        self.assertEqual(packed.headers["vary"], "Accept-Encoding")

        for no in ("br", "gzip;q=0", "gzip; q=0.00", "xgzip", ""):
            self.assertNotIn("content-encoding", self.ask("/client.js", ("Accept-Encoding", no)).headers)

    def test_kept_for_ever_by_hash(self) -> None:
        """The page names its files by a hash over all of them; their relative imports stay below it."""
        found = re.search(rb'src="(assets/[0-9a-f]{16}/)app/page.js"', self.ask("/").body)
        assert found is not None
        below = f"/{found[1].decode()}"

        for path in ("app/page.js", "client.js", "styles/page.css"):
            reply = self.ask(below + path)
            self.assertEqual((reply.status, reply.body), (200, self.ask(f"/{path}").body))
            self.assertIn("immutable", reply.headers["cache-control"])

        self.assertEqual(self.ask("/client.js").headers["cache-control"], "no-cache")
        self.assertEqual(self.ask("/").headers["cache-control"], "no-cache")
        self.assertEqual(self.ask("/assets/0123456789abcdef/client.js").status, 404)

    def test_only_what_browsers_understand(self) -> None:
        """Sources of other kinds, hidden files and what lies beside the page have no row."""
        root = Path(self.mktemp())

        (root / "sub").mkdir(parents=True)
        for name in ("index.html", "a.js", "notes.txt", ".hidden.js", "secret.pem", "sub/b.css"):
            (root / name).write_text("x")

        self.assertEqual([path for path, _ in read_assets(root)], ["a.js", "index.html", "sub/b.css"])

        paths = [re.sub("[0-9a-f]{16}", "HASH", route.path) for route in page_routes(root)]
        self.assertEqual(paths, ["/a.js", "/assets/HASH/a.js", "/", "/sub/b.css", "/assets/HASH/sub/b.css"])

    def test_first_load_is_small(self) -> None:
        """Less than 100 kB compressed, and everything from here."""
        total = sum(len(asset.packed or asset.body) for _, asset in read_assets(files("twisted_chat.web") / "page"))
        self.assertLess(total, 100_000)
