"""Take the pictures of the page that the documentation shows: ``python docs/screenshots/take.py`` in the checkout.

It starts a server of its own and needs what the browser tests need (playwright from PyPI, chromium), and a font with emoji for the
emoji to be seen (Debian: fonts-noto-color-emoji).
"""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent.parent))

from tests.harness.browser import Stage, Window  # noqa: E402

DESKTOP = {"width": 1180, "height": 760}
PHONE = {"width": 360, "height": 640}


def converse(alice: Window, bob: Window) -> None:
    """Something to look at."""
    lines = (
        (alice, "Good morning! Has anybody looked at the release notes yet?"),
        (bob, "Yes, I have two remarks:"),
        (bob, "The **upgrade** section should mention the copy that is kept, and `--drain-seconds` is missing from the table."),
        (
            alice,
            "Right. An example would help, too:\n```python\nserver = Server(reactor, options)\nserver.setServiceParent(application)\n```",
        ),
        (bob, "@Alice that is what I was looking for, see https://example.org/docs/embedding.html"),
        (alice, "> the copy that is kept\nIt is described in *Backups*, I will link to it."),
        (bob, "תודה רבה, נראה מצוין"),
    )
    for window, line in lines:
        window.say(line)
        for each in (alice, bob):
            each.until("() => !document.querySelector('.pending')")
            each.until("(count) => document.querySelectorAll('.row').length === count", lines.index((window, line)) + 1)
    bob.act("An example would help", "React with 🎉")
    alice.act("that is what I was looking for", "React with 👍")
    bob.act("Good morning", "React with ❤️")
    bob.act("An example would help", "Reply")
    bob.say("Could that be one of the examples that the tests run?")
    alice.sees("Could that be one")
    alice.page.mouse.move(5, 700)


def shoot(window: Window, name: str) -> None:
    window.value("document.activeElement.closest('.toolbar') && document.activeElement.blur()")
    window.page.mouse.move(5, 600)
    window.page.wait_for_timeout(400)
    window.page.screenshot(path=HERE / f"{name}.png")
    print(HERE / f"{name}.png")


def main() -> None:
    stage = Stage()
    try:
        with (
            Window(stage, "Alice", "release", viewport=DESKTOP, color_scheme="light") as alice,
            Window(stage, "Bob", "release", viewport=DESKTOP, color_scheme="dark") as bob,
        ):
            for room in ("design", "garden", "lobby"):
                alice.goto(f"#/{room}")
                alice.until(
                    "(room) => (({state}) => state?.name === room && state.timeline.loaded)(document.querySelector('tc-room'))",
                    room,
                )
            shoot(alice, "empty")
            alice.goto("#/release")
            alice.page.wait_for_selector("h1:has-text('release')")
            stage.post("garden", ["The tomatoes are ripe", "@Alice do you want some?"])
            stage.post("design", ["New icons are in"])
            converse(alice, bob)
            # Typing is told every three seconds at most.
            bob.page.wait_for_timeout(3200)
            bob.page.type("tc-room textarea", "And what about", delay=20)
            alice.page.wait_for_selector(".typing:has-text('Bob')")
            alice.page.click(".actions [aria-label*='here']")
            shoot(alice, "desktop-light")
            bob.page.fill("tc-room textarea", "")
            bob.page.mouse.move(5, 700)
            shoot(bob, "desktop-dark")
            for scheme in ("light", "dark"):
                with Window(
                    stage,
                    "Carol",
                    "release",
                    viewport=PHONE,
                    color_scheme=scheme,
                    has_touch=True,
                    is_mobile=True,
                    device_scale_factor=2,
                ) as carol:
                    carol.page.wait_for_selector(".row")
                    shoot(carol, f"phone-{scheme}")
                    if scheme == "light":
                        carol.page.click(".menu")
                        shoot(carol, "phone-rooms")
            stage.way.open = False
            stage.way.cut()
            bob.say("I am writing this without a network")
            bob.page.wait_for_selector(".banner button:visible")
            shoot(bob, "offline")
        stage.way.open = True
        with Window(stage, viewport=DESKTOP) as stranger:
            stranger.goto()
            stranger.page.wait_for_selector(".card")
            shoot(stranger, "sign-in")
    finally:
        stage.end()


if __name__ == "__main__":
    main()
