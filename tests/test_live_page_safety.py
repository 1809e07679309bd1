"""Text that wants to be more than text: as message, name, topic and room.  Nothing runs, and no element appears."""

from __future__ import annotations

import json
import time
from contextlib import ExitStack
from itertools import product
from pathlib import Path
from tempfile import mkdtemp

import jwt
from twisted.trial.unittest import SynchronousTestCase
from websockets.sync.client import connect

from tests.harness.browser import Stage, Window

SECRET = "a secret of more than thirty-two bytes"
stage: Stage

#: What would run, if it were markup: each sets ``pwned`` or fetches something.
PAYLOADS = (
    "<script>window.pwned=1</script>",
    "<SCRIPT SRC=//evil.test/x.js></SCRIPT>",
    "<script type=module>window.pwned=1</script>",
    "<scr<script>ipt>window.pwned=1</scr</script>ipt>",
    "<img src=x onerror=window.pwned=1>",
    "<IMG SRC='x' OnErRoR='window.pwned=1'>",
    "<img/src=x/onerror=window.pwned=1//",
    "<svg onload=window.pwned=1>",
    "<svg><script>window.pwned=1</script></svg>",
    "<svg><animate onbegin=window.pwned=1 attributeName=x dur=1s>",
    "<math><mtext><table><mglyph><style><img src=x onerror=window.pwned=1>",
    "<iframe srcdoc='<script>parent.pwned=1</script>'></iframe>",
    "<iframe src=javascript:parent.pwned=1>",
    "<object data=javascript:window.pwned=1>",
    "<embed src=javascript:window.pwned=1>",
    "<body onload=window.pwned=1>",
    "<details open ontoggle=window.pwned=1>",
    "<video><source onerror=window.pwned=1></video>",
    "<audio src=x onerror=window.pwned=1>",
    "<input autofocus onfocus=window.pwned=1>",
    "<a href=javascript:window.pwned=1>x</a>",
    "<form action=javascript:window.pwned=1><button autofocus>",
    "<base href=//evil.test/>",
    "<link rel=stylesheet href=//evil.test/x.css>",
    "<meta http-equiv=refresh content='0;url=//evil.test'>",
    "<style>@import '//evil.test/x.css';</style>",
    "<template><script>window.pwned=1</script></template>",
    "<tc-room></tc-room><twisted-chat></twisted-chat>",
    "javascript:window.pwned=1",
    "data:text/html,<script>opener.pwned=1</script>",
    'https://example.org/"onmouseover="window.pwned=1',
    "https://example.org/'><img src=x onerror=window.pwned=1>",
    "http://javascript:window.pwned=1@evil.test/",
    "&lt;script&gt;window.pwned=1&lt;/script&gt;",
    "&#60;script&#62;window.pwned=1&#60;/script&#62;",
    "\\u003cscript\\u003ewindow.pwned=1",
    "{{constructor.constructor('window.pwned=1')()}}",
    "${window.pwned=1}",
    "]]><script>window.pwned=1</script>",
    "--><script>window.pwned=1</script>",
    "__proto__ constructor hasOwnProperty :constructor: :__proto__: :toString:",
    "%3Cscript%3Ewindow.pwned=1%3C/script%3E",
)
#: How it may be wrapped: in our own marks, and in what breaks out of attributes.
WRAPPERS = (
    "{}",
    "**{}**",
    "*{}*",
    "`{}`",
    "```html\n{}\n```",
    "> {}",
    "~~{}~~",
    "@{}",
    ":{}:",
    '">{}',
    "'>{}",
    "[x]({})",
    "/{} ",
    "\u202e{}\u202c",
)
CORPUS = [wrapper.format(payload) for wrapper, payload in product(WRAPPERS, PAYLOADS)]
#: What text may be and must not disturb.
AWKWARD = (
    "\u202eright to left override",
    "Z\u0351\u036b\u0343a\u0363\u0369lgo" + "\u0301" * 200,
    "\u0000 nul",
    "\u2028 line separator \u2029",
    "\ufeff byte order mark",
    "\ud7ff\ue000\uffff",
    "👩‍👩‍👧‍👦" * 50,
    "a" * 5000,
    "**" * 2000,
    "`" * 3001,
    "*_~`>" * 800,
    "http://" * 600,
    "@" * 3000,
    "> " * 2000,
    "\n" * 500 + "x",
    "1" + " " * 3000 + "1",
)


def setUpModule() -> None:
    global stage
    key = Path(mkdtemp()) / "secret"
    key.write_text(SECRET)
    stage = Stage(f"--jwt-keys=HS256:{key}")


def tearDownModule() -> None:
    stage.end()


class SafetyTests(SynchronousTestCase):
    def window(self, name: str, room: str) -> Window:
        window = Window(stage, name, room)
        self.addCleanup(window.__exit__, None, None, None)
        window.value(
            "document.addEventListener('securitypolicyviolation', e => (window.violations ??= []).push(e.violatedDirective))"
        )
        return window

    def assert_harmless(self, window: Window) -> None:
        """Only elements that we make, no attribute that acts, nothing run and nothing fetched."""
        found = window.value(
            """() => {
                const ours = new Set(('DIV SPAN OL LI P BDI TIME CODE PRE STRONG EM S A Q BUTTON BLOCKQUOTE SVG PATH NAV UL H1 H2 ' +
                    'MAIN HEADER ASIDE ' +
                    'FORM TEXTAREA DIALOG INPUT LABEL FIELDSET LEGEND DL DT DD KBD SUMMARY DETAILS ' +
                    'TC-ROOM TC-LOG TC-COMPOSER TC-BANNER TC-ROOMS TC-PEOPLE TC-SIGN-IN').split(' '));
                const all = [...document.querySelectorAll('body *')].filter(e => e.tagName !== 'NOSCRIPT');
                return {
                    elements: all.map(e => e.tagName.toUpperCase()).filter(name => !ours.has(name)),
                    acting: all.flatMap(e => [...e.attributes])
                        .filter(a => /^on|^srcdoc$|^style$/.test(a.name) && !/^(--hue|height|left|top)/.test(a.value))
                        .map(a => a.name + '=' + a.value),
                    links: [...document.querySelectorAll('a')].filter(a => !/^https?:$/.test(a.protocol)).map(a => a.href),
                    inLog: document.querySelectorAll('tc-log :is(form, input, dialog, textarea, nav, tc-room)').length,
                    pwned: window.pwned ?? null, violations: window.violations ?? [],
                    foreign: performance.getEntriesByType('resource').map(e => e.name).filter(name => !name.startsWith(location.origin)),
                };
            }"""
        )
        self.assertEqual(
            found, {"elements": [], "acting": [], "links": [], "inLog": 0, "pwned": None, "violations": [], "foreign": []}
        )

    def test_text(self) -> None:
        """Each line is shown as it was written, however the light Markdown reads it."""
        self.assertGreaterEqual(len(CORPUS), 500)

        alice = self.window("Alice", "texts")
        for start in range(0, len(CORPUS), 150):
            batch = CORPUS[start : start + 150]
            stage.post("texts", batch)
            alice.until("(count) => document.querySelector('tc-room').state.timeline.items.length >= count", start + len(batch))
            alice.until("document.querySelectorAll('.row').length >= 150")
            self.assert_harmless(alice)

        shown = alice.value("[...document.querySelectorAll('.text')].slice(-42).map(e => e.textContent)")
        self.assertEqual(shown, [f"\u202e{payload}\u202c" for payload in PAYLOADS])

    def test_awkward(self) -> None:
        """Text of any kind breaks nothing and sticks out nowhere; ``tests/js/page/patterns.test.js`` measures the time that it takes."""
        alice = self.window("Alice", "awkward")
        stage.post("awkward", AWKWARD)
        alice.until(f"document.querySelector('tc-room').state.timeline.items.length === {len(AWKWARD)}")

        alice.until(f"document.querySelectorAll('.row').length === {len(AWKWARD)}")

        self.assert_harmless(alice)
        self.assertTrue(
            alice.value("document.querySelector('.log-box').scrollWidth <= document.querySelector('.log-box').clientWidth")
        )

    def test_names_and_topics(self) -> None:
        """People named so (by somebody else's tokens), and topics."""
        alice = self.window("Alice", "names")
        alice.page.click(".actions [aria-label*='here']")
        company = ExitStack()

        self.addCleanup(company.close)

        for number, payload in enumerate(PAYLOADS):
            claims = {"sub": f"u{number}", "name": payload[:60], "exp": int(time.time()) + 600}
            url = f"ws://127.0.0.1:{stage.port}/ws"
            client = company.enter_context(
                connect(url, subprotocols=["chat.v1.json"], max_queue=None, close_timeout=1)  # type: ignore[list-item]
            )
            for command in (
                {"type": "hello", "id": 1, "token": jwt.encode(claims, SECRET, "HS256")},
                {"type": "join", "room": "names"},
                {"type": "topic", "room": "names", "text": payload},
                {"type": "send", "room": "names", "text": f"hi @{payload}"},
                {"type": "react", "room": "names", "of": 1, "emoji": payload[:30]},
                {"type": "typing", "room": "names"},
            ):
                client.send(json.dumps(command))
            self.assertEqual(json.loads(client.recv(10))["type"], "welcome", payload)

        alice.until(f"document.querySelectorAll('tc-people li').length === {len(PAYLOADS) + 1}")
        alice.until(f"document.querySelectorAll('.notice').length === {len(PAYLOADS)}")

        self.assert_harmless(alice)
        self.assertIn(PAYLOADS[0], alice.value("[...document.querySelectorAll('tc-people bdi')].map(e => e.textContent)"))

    def test_rooms(self) -> None:
        """An address with such a room leads to the lobby; a name never becomes markup on the way."""
        alice = self.window("Alice", "lobby")
        for payload in PAYLOADS:
            alice.value("(payload) => { location.hash = '#/' + encodeURIComponent(payload) }", payload)
            alice.value("(payload) => { location.hash = '#/' + payload }", payload)
        alice.page.keyboard.press("Control+k")
        for payload in PAYLOADS[:12]:
            alice.page.fill("#switcher input", payload[:60])

        alice.becomes("document.querySelector('h1')?.innerText", "lobby")

        self.assert_harmless(alice)

    def test_policy(self) -> None:
        """The policy has no exception, and strings cannot become markup even in our own scripts."""
        alice = self.window("Alice", "lobby")
        response = alice.page.request.get(stage.url)
        policy = response.headers["content-security-policy"]

        for hole in ("unsafe", "*", "http:", "data:", "blob:", "nonce"):
            self.assertNotIn(hole, policy)
        self.assertIn("require-trusted-types-for 'script'", policy)

        refused = alice.value(
            "(() => { try { document.createElement('div').innerHTML = '<b>x</b>'; return 'done' } catch (e) { return e.name } })()"
        )
        self.assertEqual(refused, "TypeError")

        sources = [path.read_text() for path in (Path(__file__).parent.parent / "twisted_chat/web/page").rglob("*.js")]
        for sink in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function", "DOMParser"):
            self.assertFalse([source for source in sources if sink in source], sink)
