"""The log: one event, one line; nothing acts on a terminal; no token in it."""

from __future__ import annotations

import io
import json
import os
import sys
import unicodedata
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from twisted.logger import LogEvent, LogLevel
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from twisted_chat.server.logging import LineObserver, json_line, observer, text_line, visible, without_secrets


def event(text: str, **fields: object) -> LogEvent:
    return {
        "log_time": 1763899200.5,
        "log_level": LogLevel.warn,
        "log_namespace": "twisted_chat.core.chat.Hub",
        "log_format": text,
        **fields,
    }


def failure() -> Failure:
    try:
        raise ValueError("no\x1b[2J\nway")
    except ValueError:
        return Failure()


class LineTests(SynchronousTestCase):
    def test_text(self) -> None:
        """A line of text has time, level, topic and message."""
        line = text_line(event("{who} came", who="alice"))
        self.assertEqual(line, "2025-11-23T12:00:00.500Z warn  chat: alice came")

    def test_foreign_namespaces_are_whole(self) -> None:
        """Events of other packages show their full namespace."""
        self.assertIn(" twisted.web.http: ", text_line(event("x", log_namespace="twisted.web.http")))

    def test_json(self) -> None:
        """One flat object: what the event has beside its text are fields, as long as they are simple."""
        line = json.loads(json_line(event("{who} came", who="alice", count=3, request=object(), log_source=self, time=5)))
        self.assertEqual(
            line,
            {
                "time": "2025-11-23T12:00:00.500Z",
                "level": "warn",
                "logger": "chat",
                "message": "alice came",
                "who": "alice",
                "count": 3,
            },
        )

    def test_failure(self) -> None:
        """A traceback takes one line, too; JSON has all of it in a field."""
        line = text_line(event("It broke", log_failure=failure()))

        self.assertRegex(line, r"chat: It broke: ValueError: no\\x1b\[2J\\nway \(test_server_logging.py:\d+ in failure\)$")

        fields = json.loads(json_line(event("It broke", log_failure=failure())))

        self.assertTrue(fields["error"].startswith("ValueError: no"))
        self.assertIn("Traceback", fields["traceback"])

    def test_event_that_cannot_be_shown(self) -> None:
        """An event that fails to format is still one line."""

        class Unshowable:
            def __repr__(self) -> str:
                raise RuntimeError

            __str__ = __repr__

        self.assertNotIn("\n", text_line(event("{it}", it=Unshowable())))
        self.assertNotIn("\n", text_line({}))

    @given(st.text(alphabet=st.characters(codec="utf-8")))
    def test_nothing_reaches_a_terminal(self, text: str) -> None:
        """Whatever a peer sends: no line more, no control character, no bidi trick."""
        for line in (text_line(event("{it}", it=text)), json_line(event("{it}", it=text))):
            assert not any(unicodedata.category(character) in ("Cc", "Cf", "Zl", "Zp") for character in line), line
            line.encode("utf-8")

    def test_visible(self) -> None:
        """Line ends, escapes, and characters that change the direction of text are escaped, other characters stay."""
        self.assertEqual(visible("plain"), "plain")
        self.assertEqual(visible("héllo 😀"), "héllo 😀")
        self.assertEqual(visible("a\r\n\x1b[31m\u202eb\u2028"), "a\\r\\n\\x1b[31m\\u202eb\\u2028")

    def test_tokens(self) -> None:
        """Whoever logged it, a token is struck out."""
        jwt = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiI0MiJ9.c2lnbmF0dXJl"
        for text in (
            "Authorization: Bearer tc_abcdef",
            "sec-websocket-protocol: chat.v1.json, bearer.tc_abcdef",
            "GET /?token=tc_abcdef&name=bob",
            '{"token":"tc_abcdef"}',
            "Cookie: chat_token=tc_abcdef; other=1",
            f"a JWT {jwt} somewhere",
            "only tc_abcdefabcdefabcdefabcdefabcdefabcdefabcdefabc here",
        ):
            struck = without_secrets(text)
            self.assertNotIn("tc_abcdef", struck)
            self.assertNotIn(jwt, struck)
            self.assertIn("***", struck)
        self.assertEqual(without_secrets("token: expired for bob"), "token: expired for bob")


class ObserverTests(SynchronousTestCase):
    def test_level(self) -> None:
        """Events below the level are not written."""
        path = self.mktemp()
        _, filtered = observer("text", "warn", path)
        filtered(event("seen"))

        filtered(event("unseen", log_level=LogLevel.info))

        self.assertEqual(len(Path(path).read_text().splitlines()), 1)

    def test_reopen(self) -> None:
        """logrotate has moved the file away."""
        path = self.mktemp()
        lines = LineObserver(text_line, path)
        lines(event("one"))
        os.rename(path, path + ".1")
        lines(event("two"))
        lines.reopen()

        lines(event("three"))

        self.assertEqual([line.split()[-1] for line in Path(path + ".1").read_text().splitlines()], ["one", "two"])
        self.assertEqual([line.split()[-1] for line in Path(path).read_text().splitlines()], ["three"])

    def test_full_disk(self) -> None:
        """What cannot be logged does not end the chat."""
        lines = LineObserver(text_line, "/dev/full")
        lines(event("lost"))

    def test_standard_output(self) -> None:
        """twistd puts something else in the place of ``sys.stdout``; the lines go to the real one."""
        out = io.StringIO()
        self.patch(sys, "__stdout__", out)

        LineObserver(text_line, "-")(event("here"))

        self.assertTrue(out.getvalue().endswith("here\n"))

    def test_closed_standard_output(self) -> None:
        """A process whose standard output was closed by the one that started it logs nothing, and runs."""
        self.patch(sys, "__stdout__", None)

        lines = LineObserver(text_line, "-")
        self.addCleanup(lambda: lines._file.close())
        lines(event("nowhere"))
