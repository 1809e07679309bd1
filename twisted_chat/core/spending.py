"""What users have taken from their rates on this node, for the other nodes, and what they have taken there.

A bucket is in each node's memory, so a user has one on each.  Each second the nodes tell one another what was taken, and it is taken
from their buckets, too: in the long run a user has one rate, whatever nodes they use.  What was sent before the others knew is owed: a
bucket may hold less than nothing.
"""

from __future__ import annotations

from collections.abc import Mapping

from twisted_chat.core.ratelimit import SharedRates
from twisted_chat.core.rooms import Rooms

#: Users and addresses of one rate that are told at once; the others with the next.
SPENT_TOLD = 5_000


class Spending:
    """Collects and applies it.

    :param shared: there may be other nodes; else nothing is counted.
    """

    def __init__(self, rates: SharedRates, rooms: Rooms, *, shared: bool) -> None:
        self._tables = {"person": rates.users, "guests": rates.guests, "rooms": rooms.made}
        if shared:
            rates.count_spending()
            rooms.made.count_spending()
        self._rates = rates

    def take(self) -> dict[str, dict[str, int]]:
        """What was taken since the last call, by the name of the rate and the key of the bucket."""
        self._rates.collect_spending()
        taken = {name: table.take_spent(SPENT_TOLD) for name, table in self._tables.items()}
        return {name: counts for name, counts in taken.items() if counts}

    def add(self, spent: Mapping[str, Mapping[str, int]]) -> None:
        """So much was taken on another node; rates that this version does not know are left out."""
        for name, counts in spent.items():
            table = self._tables.get(name)
            if table is not None:
                for key, count in counts.items():
                    table.spend(key, count)
