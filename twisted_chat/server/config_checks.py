"""What the value of each setting must be, beyond its type."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from msgspec import Struct

from twisted_chat.errors import BadRequest
from twisted_chat.limits import RoomPolicy
from twisted_chat.names import room_name
from twisted_chat.web.origins import TrustedProxies, parse_host, parse_origin

#: The algorithms of ``jwt_keys``; ``none`` is never one.
JWT_ALGORITHMS = ("HS256", "RS256", "ES256", "EdDSA")


class KeyFile(Struct, frozen=True):
    """One entry of ``jwt_keys``."""

    algorithm: str
    path: str
    kid: str | None = None


def key_file(entry: str) -> KeyFile:
    """``EdDSA#2026:/etc/issuer.pem`` in its parts."""
    match = re.fullmatch(r"(?P<algorithm>\w+)(#(?P<kid>[^:]+))?:(?P<path>.+)", entry)
    if match is None or match["algorithm"] not in JWT_ALGORITHMS:
        raise ValueError(f"{entry!a} is not ALGORITHM:FILE with one of {', '.join(JWT_ALGORITHMS)}, such as EdDSA:issuer.pem")
    return KeyFile(match["algorithm"], match["path"], match["kid"])


def limit_check(name: str) -> Callable[[Any], None] | None:
    """A limit must be more than 0, unless 0 has a meaning."""
    if name == "limits.ping_seconds":
        return _whole_second
    if name.startswith("limits."):
        return _not_negative if name.endswith(_MAY_BE_0) else _positive
    return None


_MAY_BE_0 = ("_per_second", ".guests_per_address", ".typing_members")

#: RFC 6265bis section 5.5.
_SESSION_DAYS_MAX = 400
#: The largest number of a setting: whole numbers that JSON has exactly; of fractions (seconds, days, a second) what fits into a timer and a
#: date in milliseconds.
_MOST = {int: 2**53 - 1, float: 1e9}


def check_size(value: object) -> None:
    """Refuse what no timer, date or JSON number can hold: infinity, what is not a number, and what is absurdly large."""
    most = _MOST.get(type(value))
    if most is not None and not abs(value) <= most:  # type: ignore[arg-type]
        raise ValueError(f"must be at most {most:,.0f}, is {value}")


def _positive(value: float) -> None:
    if not value > 0:
        raise ValueError(f"must be more than 0, is {value}")


def _workers(value: int) -> None:
    if not 1 <= value <= 64:
        raise ValueError(f"must be 1 to 64, is {value}")


def _session_days(value: float) -> None:
    if not 0 < value <= _SESSION_DAYS_MAX:
        raise ValueError(f"must be more than 0 and at most {_SESSION_DAYS_MAX}, which browsers keep a cookie for; is {value}")


def _whole_second(value: float) -> None:
    if not value >= 1:
        raise ValueError(f"must be 1 or more, because connections are checked once a second; is {value}")


def _not_negative(value: float) -> None:
    if not value >= 0:
        raise ValueError(f"must be 0 or more, is {value}")


def _not_empty(value: tuple[str, ...]) -> None:
    if not value:
        raise ValueError("must name at least one endpoint, such as tcp:8080")


def _origins(value: tuple[str, ...]) -> None:
    for origin in value:
        _as_rules(parse_origin, origin)


def _proxies(value: tuple[str, ...]) -> None:
    _as_rules(TrustedProxies, value)


def _as_rules(rule: Callable[[Any], object], value: object) -> None:
    try:
        rule(value)
    except BadRequest as error:
        raise ValueError(error.message) from None


def _jwt_keys(value: tuple[str, ...]) -> None:
    for entry in value:
        key_file(entry)


def _public_url(value: str) -> None:
    parts = urlsplit(value)
    try:
        port_is_wrong = parts.port == 0
    except ValueError:
        port_is_wrong = True
    if value and (parts.scheme not in ("http", "https") or not parts.hostname or port_is_wrong or parts.query or parts.fragment):
        raise ValueError(f"{value!a} is not the URL of a site, such as https://example.org/chat")


def _cookie_name(value: str) -> None:
    if not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", value):
        raise ValueError(f"{value!a} is not the name of a cookie (RFC 6265)")


def _hosts(value: tuple[str, ...]) -> None:
    for host in value:
        _as_rules(parse_host, host)


def _room_policies(value: dict[str, RoomPolicy]) -> None:
    for room, policy in value.items():
        if not re.search(r"[*?\[]", room):
            try:
                normal = room_name(room)
            except BadRequest as error:
                raise ValueError(
                    f'"{ascii(room)[1:-1]}" is not the name of a room: {error.message.removeprefix("room: ")}'
                ) from None
            if normal != room:
                raise ValueError(f"{room!a} is not normalized (NFC); write {normal!a}")
        if policy.writers not in ("all", "users", "moderators"):
            raise ValueError(f'"{room}".writers: {policy.writers!a} is none of all, users, moderators')
        for field in ("size", "keep_events", "keep_days", "slow_mode"):
            try:
                _not_negative(getattr(policy, field))
                check_size(getattr(policy, field))
            except ValueError as error:
                raise ValueError(f'"{room}".{field}: {error}') from None


#: By field: raises ``ValueError`` if the value cannot be used.
CHECKS: dict[str, Callable[[Any], None]] = {
    "listen": _not_empty,
    "workers": _workers,
    "allowed_origins": _origins,
    "allowed_hosts": _hosts,
    "trusted_proxies": _proxies,
    "jwt_keys": _jwt_keys,
    "public_url": _public_url,
    "token_cookie": _cookie_name,
    "drain_seconds": _not_negative,
    "session_days": _session_days,
    "rooms": _room_policies,
}
