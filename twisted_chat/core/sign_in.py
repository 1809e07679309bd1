"""Who may try a password now: bounds by account, by address, and by both together.

The counters are in the store, so they hold over reconnects and restarts and on all nodes.  The exchange of rates between nodes would not
do: it forgets at a restart, and the counters of a second on each node are what an attacker with many connections needs.

* *Account and address together* are bounded hard: who mistypes waits, and so does who guesses at one account from one place.
* *The address alone* is bounded for those who try many names.
* *The account alone* is bounded softly, for guesses from many places.  From a place where the account has signed in lately this bound
  does not hold, so an attacker cannot lock the owner out.
"""

from __future__ import annotations

from hashlib import sha256

from msgspec import Struct

from twisted_chat.accounts import AccountStore, Bound
from twisted_chat.core.connections import address_block
from twisted_chat.errors import RateLimited
from twisted_chat.names import skeletons

#: Attempts at once, and milliseconds for each further one.
_PAIR = 5, 60_000
_ADDRESS = 50, 5_000
_ACCOUNT = 30, 20_000
#: Milliseconds for which a place is remembered as the account's own.
_KNOWN_MS = 90 * 86_400_000


class Attempt(Struct, frozen=True):
    """One attempt to sign in that was let through."""

    pair: Bound
    address: Bound
    account: Bound

    async def succeeded(self, store: AccountStore, now_ms: int) -> None:
        """It was the right password."""
        await store.attempt_succeeded(
            [self.pair.key], [self.address, self.account], known=self.account.unless, until_ms=now_ms + _KNOWN_MS
        )


async def let_in(store: AccountStore, name: str, account_id: str | None, address: str, now_ms: int) -> Attempt:
    """Count an attempt by that name from that address, or raise ``RateLimited``; a name without an account is bounded in the same way."""
    who = account_id or sha256(skeletons(name)[0].encode()).hexdigest()[:32]
    place = address_block(address)
    attempt = Attempt(
        Bound(f"pair {who} {place}", *_PAIR),
        Bound(f"address {place}", *_ADDRESS),
        Bound(f"account {who}", *_ACCOUNT, unless=f"known {who} {place}"),
    )
    wait = await store.take_attempt([attempt.pair, attempt.address, attempt.account], now_ms)
    if wait:
        raise RateLimited(f"password: too many attempts, wait {-(-wait // 1000)} s", retry_after_ms=wait)
    return attempt
