"""The limits and room policies in force; a reload of the configuration replaces both while the server runs."""

from __future__ import annotations

from twisted_chat.limits import Limits, RoomPolicies, RoomPolicy

#: Rooms whose policy is remembered.
POLICIES_KEPT = 10_000


class Configuration:
    """What every part of the core asks at the moment of use, so that a reload is in force everywhere at once.

    :ivar limits: what was promised to a connection (``welcome``) may differ from it after a reload.
    :ivar metered: there is some bound on how fast a connection or a user may send; follows from the limits.
    """

    __slots__ = ("_found", "limits", "metered", "policies")

    def __init__(self, limits: Limits, policies: RoomPolicies) -> None:
        self.replace(limits, policies)

    def replace(self, limits: Limits, policies: RoomPolicies) -> None:
        """Put these in force; the only place that sets them."""
        self.limits = limits
        self.policies = policies
        #: The policy of each room asked for, because finding it by pattern costs more than all else that may_see does.
        self._found: dict[str, RoomPolicy] = {}
        self.metered = limits.send_per_second > 0 or limits.person_per_second > 0

    def policy(self, room: str) -> RoomPolicy:
        """How the room of that name behaves."""
        policy = self._found.get(room)
        if policy is None:
            if len(self._found) >= POLICIES_KEPT:
                self._found.clear()
            policy = self._found[room] = self.policies.policy(room)
        return policy
