"""Where the database is: a URL of libpq's kind, what is added to it, and how it is shown without its password.

``postgresql://user@host:5432/name?sslmode=verify-full``; several hosts are tried in turn.  What the URL does not say comes from libpq's
environment (``PGHOST``, ``PGPASSFILE`` …).
"""

from __future__ import annotations

import os
import re

from msgspec import Struct

from twisted_chat.store_contract import StoreError

try:
    import psycopg
    from psycopg import conninfo
except ImportError as error:
    raise StoreError(
        'the store postgresql: needs psycopg, which is not installed; install it with: pip install "twisted_chat[postgresql]"'
        if error.name in ("psycopg", None)
        else f"psycopg cannot be used ({error}); install it with its library: pip install 'twisted_chat[postgresql]'"
    ) from None

#: Seconds to connect to one host, and to wait for the answer to one statement.
CONNECT_SECONDS = 5
#: Parameters of a connection, unless the URL or the environment sets them.  A peer that has silently disappeared is noticed within
#: 10 s, and of several hosts the one that accepts writes is used.
DEFAULTS: dict[str, str] = {
    "application_name": "twisted_chat",
    "connect_timeout": str(CONNECT_SECONDS),
    "target_session_attrs": "read-write",
    "keepalives_idle": "5",
    "keepalives_interval": "2",
    "keepalives_count": "3",
    "tcp_user_timeout": "10000",
    "client_encoding": "UTF8",
    # Kerberos must be requested explicitly, because otherwise each connection would first look for its tickets.
    "gssencmode": "disable",
}
#: The environment variables that set these parameters.
_VARIABLES = {
    "application_name": "PGAPPNAME",
    "connect_timeout": "PGCONNECT_TIMEOUT",
    "target_session_attrs": "PGTARGETSESSIONATTRS",
    "gssencmode": "PGGSSENCMODE",
}
#: A password in a message of libpq or psycopg.
_PASSWORD = re.compile(r"(://[^:/?#@\s]*:)[^@/?#\s]*@|((?:password|sslpassword)=)(?:'[^']*'|[^&\s]*)")


class Address(Struct, frozen=True):
    """A database.

    :ivar conninfo: for :func:`psycopg.connect`.
    :ivar shown: for logs and errors.
    :ivar prepare: statements are prepared on each connection.
    """

    conninfo: str
    shown: str
    prepare: bool = True

    def __repr__(self) -> str:
        return self.shown


def parse(url: str, *, prepare: bool = True) -> Address:
    """The database that the URL names; :class:`StoreError` if libpq does not understand it."""
    _check_password(url)
    try:
        given = {name: str(value) for name, value in conninfo.conninfo_to_dict(url).items() if value is not None}
    except psycopg.Error as error:
        raise StoreError(f"--store {_url_without_password(url)}: {_without_values(one_line(error), url)}") from None
    added = {name: value for name, value in DEFAULTS.items() if os.environ.get(_VARIABLES.get(name, "")) is None}
    return Address(conninfo.make_conninfo("", **{**added, **given}), _shown({**_environment(), **given}), prepare)


def _check_password(url: str) -> None:
    """Raise :class:`StoreError` if libpq would take a part of the password for the host, the port or the database, and show it."""
    authority, _, rest = url.partition("://")[2].partition("?")[0].partition("/")
    if authority.count("@") > 1 or "@" in rest:
        raise StoreError(
            f"--store {_url_without_password(url)}: @ and / in a user, password or database have to be written as %40 and %2F; "
            "a password belongs into the file ~/.pgpass"
        )


def _url_without_password(url: str) -> str:
    """The URL, which libpq may not understand."""
    scheme, _, rest = url.partition("://")
    if not rest:
        return f"{scheme.partition(':')[0]}:***"
    return re.sub(r"(password=)[^&]*", r"\1***", re.sub(r"(://[^:/?#@]*:).*@", r"\1***@", url, flags=re.DOTALL), flags=re.DOTALL)


def _without_values(said: str, url: str) -> str:
    """What libpq says against the URL, without what it quotes, unless that is the name of a parameter."""

    def shown(quoted: re.Match[str]) -> str:
        return quoted[0] if re.search(rf"[?&]{re.escape(quoted[1])}=", url) else '"***"'

    return re.sub(r'"(.*)"', shown, said)


def _environment() -> dict[str, str]:
    names = {"host": "PGHOST", "hostaddr": "PGHOSTADDR", "port": "PGPORT", "dbname": "PGDATABASE", "user": "PGUSER"}
    return {name: os.environ[variable] for name, variable in names.items() if variable in os.environ}


def _shown(given: dict[str, str]) -> str:
    host = given.get("host") or given.get("hostaddr") or ""
    port = f":{given['port']}" if given.get("port") else ""
    user = f"{given['user']}@" if given.get("user") else ""
    return f"postgresql://{user}{host}{port}/{given.get('dbname') or given.get('user') or ''}"


def without_password(text: str) -> str:
    """The text with no password of a URL or a list of parameters in it."""
    return _PASSWORD.sub(lambda found: f"{found[1]}***@" if found[1] else f"{found[2]}***", text)


def one_line(error: BaseException) -> str:
    """The text of the error in one line."""
    return without_password("; ".join(line.strip() for line in str(error).splitlines() if line.strip()) or type(error).__name__)
