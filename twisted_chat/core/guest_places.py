"""From where guests came who are not connected: those who have left, and those who write by HTTP without a connection.

In:   a guest and the address (:meth:`GuestPlaces.note`).
Out:  the address or network under which the guest can be sanctioned.

A guest who says something and leaves at once would otherwise come back as another guest, and nobody could end the mute of the address.
"""

from __future__ import annotations

from twisted_chat.core.connections import address_block
from twisted_chat.users import User

#: Guests that are remembered, the last ones.
MOST = 10_000


class GuestPlaces:
    """The last places of guests, in memory only."""

    def __init__(self) -> None:
        self._blocks: dict[str, str] = {}

    def note(self, user: User, address: str | None) -> None:
        """The user did something from there; others than guests are not remembered."""
        if user.guest and address is not None:
            self._blocks.pop(user.id, None)
            self._blocks[user.id] = address_block(address)
            if len(self._blocks) > MOST:
                del self._blocks[next(iter(self._blocks))]

    def block(self, guest: str) -> str | None:
        """The address or network of the guest of that id, if it is known."""
        return self._blocks.get(guest)
