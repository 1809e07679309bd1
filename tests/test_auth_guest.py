"""Guests: who they are, and that they stay it."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from twisted_chat.auth.authenticator import GuestFactory
from twisted_chat.errors import BadRequest

DEVICE = "3f2b8c1e-device"


def counting() -> GuestFactory:
    """Guests whose random bytes are 1, 2, 3 …"""
    numbers = iter(range(1, 100))
    return GuestFactory(b"s" * 32, lambda size: next(numbers).to_bytes(size, "big"))


class GuestTests(SynchronousTestCase):
    def test_device_keeps_the_id(self) -> None:
        """The same device is the same guest, in another process too, whatever the name."""
        first = counting().user("bob", DEVICE)

        again = counting().user("robert", DEVICE)

        self.assertEqual(first.id, again.id)
        self.assertTrue(first.id.startswith("g") and first.guest)

    def test_id_tells_nothing(self) -> None:
        """Another server, or another device, gives another id."""
        ids = {
            GuestFactory(b"a" * 32, bytes).user(None, DEVICE).id,
            GuestFactory(b"b" * 32, bytes).user(None, DEVICE).id,
            GuestFactory(b"a" * 32, bytes).user(None, DEVICE + "2").id,
        }
        self.assertEqual(len(ids), 3)

    def test_without_device(self) -> None:
        """Guests without a device get a new id each, and all such ids have the same form."""
        guests = counting()
        ids = [guests.user().id, guests.user().id, guests.user(None, DEVICE).id]

        self.assertEqual(len(set(ids)), 3)
        self.assertEqual({len(id) for id in ids}, {25})

    def test_default_name(self) -> None:
        """A guest without a name gets one made of the id."""
        user = counting().user()
        self.assertEqual(user.name, f"guest-{user.id[-4:]}")

    def test_name_has_its_one_form(self) -> None:
        """A guest's name is normalised to NFC."""
        self.assertEqual(counting().user("Zoe\u0308").name, "Zo\u00eb")

    def test_bad_name(self) -> None:
        """A name that is empty, too long or has characters that cannot be seen is refused."""
        for name in ("", " ", "a\u202eb", "x" * 65, "a\nb"):
            self.assertRaises(BadRequest, counting().user, name)

    def test_bad_device(self) -> None:
        """A device of the wrong length or with lone surrogates is refused, and the error names the field."""
        for device in ("short", "", "x" * 65, "\ud800 is no text"):
            self.assertIn("device", self.assertRaises(BadRequest, counting().user, None, device).message)
