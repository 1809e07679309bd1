"""The page in a real browser: rooms with members, roles and sanctions; accounts."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

from websockets.sync.client import connect

from tests.harness.accounts import PASSWORD
from tests.harness.browser import PageCase, Stage, Window
from tests.harness.serving import Served

ROOMS = "[...document.querySelectorAll('tc-rooms li .name')].map(e => e.textContent)"
HEADING = "document.querySelector('h1').textContent"
NOTICES = "[...document.querySelectorAll('.notice bdi')].map(e => e.textContent)"
TOAST = "document.querySelector('.toast').textContent"
PLACEHOLDER = "document.querySelector('tc-room textarea').placeholder"
STATE = "document.querySelector('tc-room').state"


OWN_NAME = "document.querySelector('.foot bdi')?.textContent"


def shoot(window: Window, name: str) -> None:
    """A picture, where somebody wants some."""
    if directory := os.environ.get("TWISTED_CHAT_SCREENSHOTS"):
        window.page.screenshot(path=Path(directory) / f"{name}.png")


def setUpModule() -> None:
    PageCase.stage = Stage(TWISTED_CHAT_SIGN_UP="open")


tearDownModule = PageCase.end


class Person:
    """Somebody with an account who has no browser."""

    def __init__(self, stage: Stage, name: str) -> None:
        self.name = name
        site = f"http://127.0.0.1:{stage.port}"
        body = json.dumps({"name": name, "password": PASSWORD}).encode()
        headers = {"Content-Type": "application/json", "Origin": site}
        with urlopen(Request(f"{site}/api/v1/accounts", body, headers)) as answer:
            self.cookie = answer.headers["Set-Cookie"].partition(";")[0]
            self.id = json.load(answer)["user"]["id"]
        self.socket = connect(  # type: ignore[call-overload]
            f"ws://127.0.0.1:{stage.port}/ws",
            subprotocols=["chat.v1.json"],
            additional_headers={"Cookie": self.cookie},
            origin=site,
        ).__enter__()
        self.number = 0
        self.ask("hello")

    def ask(self, kind: str, **fields: Any) -> dict[str, Any]:
        """The answer to a command, which is done."""
        self.number += 1
        self.socket.send(json.dumps({"type": kind, "id": self.number, **fields}))
        while True:
            reply = json.loads(self.socket.recv(20))
            for each in reply if isinstance(reply, list) else [reply]:
                if each.get("id") == self.number:
                    if each["type"] == "error":
                        raise AssertionError(each)
                    found: dict[str, Any] = each
                    return found


class Case(PageCase):
    """Names are of one test only, because accounts are of the whole server."""

    def person(self, name: str) -> Person:
        person = Person(self.stage, name + self.room)
        self.addCleanup(person.socket.close)
        return person

    def window_of(self, person: Person, room: str = "lobby") -> Window:
        """The page, with that person's session."""
        window = self.window()
        name, _, value = person.cookie.partition("=")
        window.context.add_cookies([{"name": name, "value": value, "url": self.stage.url}])
        window.goto(f"#/{room}?name={person.name}")
        window.page.wait_for_selector("tc-room textarea")
        window.until(f"{STATE}?.timeline.loaded")
        return window


class RoomsTests(Case):
    def test_rooms_of_members(self) -> None:
        """They come into the list by themselves, under their titles or the names of the others, and go when membership ends."""
        alice, bob = self.person("alice"), self.person("bob")
        before = alice.ask("create", access="private", title="Plans before", people=[bob.id])["room"]
        window = self.window_of(bob)
        window.becomes(ROOMS, ["lobby", "Plans before"])

        alice.ask("create", access="private", title="Later plans", people=[bob.id])
        window.becomes(ROOMS, ["Later plans", "lobby", "Plans before"])
        window.becomes(TOAST, "You are now a member of Later plans")
        alice.ask("direct", people=[bob.id])
        window.becomes(f"{ROOMS}.includes('{alice.name}')", True)
        window.page.click(f"tc-rooms a:has-text('{alice.name}')")
        window.becomes(HEADING, alice.name)
        window.becomes("document.title", alice.name)
        window.becomes(PLACEHOLDER, f"Message {alice.name}")

        window.page.click("tc-rooms a:has-text('Plans before')")
        window.becomes(HEADING, "Plans before")
        window.page.keyboard.press("Control+k")
        window.page.fill("#switcher input", "later")
        window.becomes(
            "[...document.querySelectorAll('#switcher li bdi')].map(e => e.textContent)", ["Later plans", "Join later"]
        )
        window.page.keyboard.press("Escape")

        window.page.reload()
        window.becomes(HEADING, "Plans before")
        window.page.wait_for_selector("tc-room textarea:enabled")
        window.say("/leave")
        window.until(f"{TOAST}.startsWith('Members stay in the room')")
        alice.ask("member", room=before, person=bob.id, role=None)
        window.becomes(TOAST, "You are not a member of Plans before any more")
        window.becomes(HEADING, "lobby")
        window.becomes(ROOMS, sorted([alice.name, "Later plans", "lobby"], key=str.lower))
        window.becomes(HEADING, "lobby")
        self.assertEqual(window.axe(), [])

    def test_what_becomes_of_people(self) -> None:
        """Lines tell it; the composer says why one may not write; who is banned is told."""
        alice, bob = self.person("alice"), self.person("bob")
        alice.ask("create", room=self.room)
        window = self.window_of(bob, self.room)
        change = {"room": self.room, "person": bob.id}

        alice.ask("member", **change, role="moderator")
        alice.ask("sanction", **change, what="mute", reason="loud")
        window.becomes(PLACEHOLDER, "You are muted: loud")
        alice.ask("sanction", **change, what="mute", on=False)
        window.becomes(PLACEHOLDER, f"Message {self.room}")
        alice.ask("member", **change, role="reader")
        window.becomes(PLACEHOLDER, "You are a reader here: you may not write")
        alice.ask("settings", room=self.room, archived=True)
        window.becomes(PLACEHOLDER, "This room is closed for writing")
        a, b = alice.name, bob.name
        made = [f"{a} made the room", f"{a} is an owner"]
        lines = [*made, f"{a} made {b} a moderator", f"{a} muted {b}: loud", f"{a} unmuted {b}", f"{a} made {b} a reader"]
        window.becomes(NOTICES, [*lines, f"{a} closed the room for writing"])
        self.assertEqual(window.axe(), [])

        alice.ask("sanction", **change, what="ban")
        window.becomes(TOAST, f"You are banned from {self.room}")
        window.becomes(ROOMS, ["lobby"])


class AccountTests(Case):
    def fill(self, window: Window, name: str, password: str = PASSWORD) -> None:
        window.page.fill("#account-name", name)
        window.page.fill("#account-password", password)
        window.page.press("#account-password", "Enter")

    def test_guest_signs_in_and_out(self) -> None:
        """From the button beside the name; what is wrong is said beside the field; a reload keeps the session, signing out ends it."""
        alice = self.person("alice")
        window = self.window("Gast")
        window.page.click(".foot button:has-text('Sign in')")
        window.becomes("document.activeElement.id", "account-name")
        self.fill(window, "", "")
        window.becomes("document.querySelector('#account-name-error').textContent", "To be filled in")
        self.fill(window, alice.name, "something else")
        window.becomes("document.querySelector('#account-password-error').textContent", "The name or the password is wrong")
        window.becomes("document.activeElement.id", "account-password")
        shoot(window, "sign-in")
        self.assertEqual(window.axe(), [])

        self.fill(window, alice.name)
        window.becomes(OWN_NAME, alice.name)
        window.becomes("document.querySelector('#account').open", False)
        window.say("with an account")
        window.sees("with an account")
        window.page.reload()
        window.sees("with an account")
        window.becomes(OWN_NAME, alice.name)

        window.page.click(".foot button:has-text('Sign out')")
        window.page.wait_for_selector("#sign-in-name")
        window.becomes("fetch('api/v1/account/session').then(a => a.json()).then(s => s.user)", None)

    def test_sign_up(self) -> None:
        """Where everybody may, without having been a guest before."""
        window = self.window()
        window.goto()
        window.page.wait_for_selector("#sign-in-name")
        shoot(window, "guest")
        window.page.click("text=Sign in with a password")
        window.page.click("text=Make an account instead")
        self.fill(window, f"new{self.room}", "short")
        window.becomes("document.querySelector('#account-password').getAttribute('aria-invalid')", "true")
        self.fill(window, f"new{self.room}")
        window.becomes(OWN_NAME, f"new{self.room}")

    def test_session_that_ends_elsewhere(self) -> None:
        """The page asks who one is; the cookie is gone."""
        alice = self.person("alice")
        window = self.window_of(alice)
        window.value("fetch('api/v1/account/session', {method: 'DELETE'}).then(() => 0)")
        window.page.wait_for_selector("#sign-in-name")
        window.page.fill("#sign-in-name", "Gast")
        window.page.press("#sign-in-name", "Enter")
        window.becomes(OWN_NAME, "Gast")

    def test_session_that_has_expired(self) -> None:
        """Nobody becomes a guest by that; one signs in again."""
        alice = self.person("alice")
        window = self.window_of(alice)
        window.context.clear_cookies()
        window.page.reload()
        window.page.wait_for_selector("tc-sign-in .error:has-text('The sign-in has expired')")
        window.page.click("text=Sign in with a password")
        self.fill(window, alice.name)
        window.becomes(OWN_NAME, alice.name)

    def test_first_account(self) -> None:
        """By the link of the start, whose secret does not stay in the address; the next one by an invitation, which leads to its room."""
        with Served(tempfile.mkdtemp(), TWISTED_CHAT_SIGN_UP="invite") as server:
            url = next(line.split()[-1] for line in server.stdout.splitlines() if "#setup=" in line)
            window = self.window()
            window.page.goto(url)
            window.page.wait_for_selector("#account[open] h2:has-text('Set up the chat')")
            self.assertTrue(window.page.url.endswith("#/lobby"), window.page.url)
            shoot(window, "set-up")
            self.assertEqual(window.axe(), [])
            self.fill(window, "root")
            window.becomes(OWN_NAME, "root")
            window.becomes("fetch('api/v1/account').then(a => a.json()).then(a => a.rights.join())", "admin")

            asked = "{method: 'POST', headers: {'Content-Type': 'application/json'}, body: JSON.stringify({rooms: ['plans']})}"
            secret = window.value(f"fetch('api/v1/invitations', {asked}).then(a => a.json()).then(a => a.secret)")
            other = self.window()
            other.page.goto(f"{server.url}#invite={secret}")
            self.fill(other, "bob")
            other.becomes(HEADING, "plans")
            other.becomes(OWN_NAME, "bob")


class CardTests(Case):
    def card(self, window: Window, person: Person) -> None:
        """Open the person's card from the panel of people."""
        if not window.page.is_visible("tc-people"):
            window.page.click("[aria-label$='here'] >> nth=0")
        window.page.click(f"tc-people button:has-text('{person.name}')")
        window.page.wait_for_selector("#person[open]")

    def press(self, window: Window, words: str) -> None:
        window.page.click(f"#person button:text-is('{words}')")

    def stands(self, window: Window, words: str) -> None:
        """Until the card says that of the person."""
        window.becomes("document.querySelector('#person [role=status]').textContent", words)

    def test_owner(self) -> None:
        """Roles, a mute with its end and reason, and a ban; the person's page follows."""
        alice, bob = self.person("alice"), self.person("bob")
        alice.ask("create", room=self.room)
        window, other = self.window_of(alice, self.room), self.window_of(bob, self.room)
        self.card(window, bob)
        self.stands(window, "no role in this room")
        self.press(window, "Make a moderator")
        self.stands(window, "moderator")
        self.press(window, "Make a reader")
        self.stands(window, "reader")
        other.becomes(PLACEHOLDER, "You are a reader here: you may not write")
        self.press(window, "End membership")
        self.stands(window, "no role in this room")
        other.becomes(PLACEHOLDER, f"Message {self.room}")

        window.page.select_option("#person-duration", label="1 hour")
        window.page.fill("#person-reason", "loud")
        self.press(window, "Mute")
        window.until("document.querySelector('#person [role=status]').textContent.includes('muted until')")
        other.becomes(f"/^You are muted until .*: loud$/.test({PLACEHOLDER})", True)
        shoot(window, "card")
        self.assertEqual(window.axe(), [])
        self.press(window, "End the mute")
        self.stands(window, "no role in this room")
        other.becomes(PLACEHOLDER, f"Message {self.room}")

        window.page.select_option("#person-duration", label="Until ended")
        self.press(window, "Ban")
        self.stands(window, "no role in this room, banned")
        other.becomes(TOAST, f"You are banned from {self.room}")
        self.press(window, "End the ban")
        self.stands(window, "no role in this room")

    def test_author(self) -> None:
        """From a message and by ``/who``; somebody without rights may only write to the person."""
        alice, bob = self.person("alice"), self.person("bob")
        alice.ask("create", room=self.room)
        alice.ask("join", room=self.room)
        alice.ask("send", room=self.room, text="welcome")
        window = self.window_of(bob, self.room)
        buttons = (
            "[...document.querySelectorAll('#person .fields button')].filter(e => e.checkVisibility()).map(e => e.textContent)"
        )
        window.row("welcome").locator(".author").click()
        self.stands(window, "owner")
        window.becomes(buttons, ["Write to them alone"])
        window.page.keyboard.press("Escape")
        window.say(f"/who {alice.name}")
        self.stands(window, "owner")

        self.press(window, "Write to them alone")
        window.becomes(HEADING, alice.name)
        window.say("just us")
        window.sees("just us")


class NewRoomTests(Case):
    def open(self, window: Window) -> None:
        window.page.click("[aria-label='Join or create a room']")
        window.page.click("text=New room with people")
        window.page.wait_for_selector("#new-room[open]")

    def test_private(self) -> None:
        """With the people who are here; they are told, and have it in their lists."""
        alice, bob = self.person("alice"), self.person("bob")
        window, other = self.window_of(alice, self.room), self.window_of(bob, self.room)
        window.until(f"{STATE}.room.present.count === 2")
        self.open(window)
        window.page.check("#new-room [value=private]")
        window.page.press("#new-room-title", "Enter")
        window.becomes("document.querySelector('#new-room-title-error').textContent", "To be filled in")
        window.page.fill("#new-room-title", "Plans")
        window.page.check(f"#new-room label:has-text('{bob.name}') input")
        shoot(window, "new-room")
        self.assertEqual(window.axe(), [])
        window.page.press("#new-room-title", "Enter")
        window.becomes(HEADING, "Plans")
        other.becomes(ROOMS, ["lobby", "Plans", self.room])

        window.page.click("[aria-label='Room settings']")
        window.page.fill("#room-settings-title", "Old plans")
        window.page.check("#room-settings [type=checkbox]")
        shoot(window, "room-settings")
        self.assertEqual(window.axe(), [])
        window.page.click("#room-settings button:text-is('Save')")
        window.becomes(HEADING, "Old plans")
        window.becomes(PLACEHOLDER, "This room is closed for writing")
        other.becomes(ROOMS, ["lobby", "Old plans", self.room])

    def test_public(self) -> None:
        """A name that is taken, or that no room can have, is told beside the field."""
        alice = self.person("alice")
        alice.ask("create", room=f"{self.room}a")
        window = self.window_of(alice, self.room)
        self.open(window)
        for name in (f"{self.room}a", "two words"):
            window.page.fill("#new-room-room", name)
            window.page.press("#new-room-room", "Enter")
            window.becomes("document.querySelector('#new-room-room-error').textContent !== ''", True)
        window.page.fill("#new-room-room", f"{self.room}b")
        window.page.press("#new-room-room", "Enter")
        window.becomes(HEADING, f"{self.room}b")
        window.page.wait_for_selector("[aria-label='Room settings']")

    def test_own_membership(self) -> None:
        """One ends it on one's own card."""
        alice, bob = self.person("alice"), self.person("bob")
        room = alice.ask("create", access="private", title="Plans", people=[bob.id])["room"]
        window = self.window_of(bob, room)
        window.page.click("[aria-label$='here'] >> nth=0")
        window.page.click(f"tc-people button:has-text('{bob.name}')")
        window.page.click("#person button:text-is('End my membership')")
        window.becomes(HEADING, "lobby")
        window.becomes(ROOMS, ["lobby"])
        window.becomes("document.querySelector('#person').open", False)
