"""The settings: one frozen struct, made from the command line, the environment, a TOML file and the defaults.

In: strings and TOML values, each with the name of its source.  Out: a valid :class:`Settings`, or a :class:`SettingsError` of one line
that names the field and the source.  The options of ``twistd``, the variables, ``etc/chat.toml`` and ``docs/configuration.rst`` are
generated from the struct and its ``#:`` comments (:mod:`twisted_chat.server.config_docs`).
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from typing import Any, Literal, get_origin

import msgspec
from msgspec import Struct

from twisted_chat.limits import Limits, RoomPolicies, RoomPolicy
from twisted_chat.server.config_checks import CHECKS, check_size, limit_check
from twisted_chat.stores.urls import is_postgresql

#: Prefix of the environment variables.
PREFIX = "TWISTED_CHAT_"
#: Variables of the command ``twisted-chat``, which are not settings of the server but may be in the same environment.
OF_CLIENTS = frozenset({f"{PREFIX}URL", f"{PREFIX}TOKEN"})

#: Bytes of a configuration file; a larger one is some other file.
FILE_BYTES = 1_048_576


class Settings(Struct, frozen=True, kw_only=True):
    """Everything an operator decides."""

    #: Where the server listens: Twisted server endpoint strings, such as ``tcp:8080``, ``unix:/run/chat.sock``,
    #: ``ssl:8443:privateKey=key.pem:certKey=cert.pem`` or ``systemd:domain=INET6:name=chat``.  The default is the loopback
    #: interface, so that a chat that accepts guests is not public by accident.
    listen: tuple[str, ...] = ("tcp:8080:interface=127.0.0.1",)
    #: Where the server stores rooms and messages: ``sqlite:PATH``; ``postgresql://USER@HOST/DATABASE``, which several servers share; or
    #: ``memory:``, which keeps nothing after the server ends.  A relative path begins in ``$STATE_DIRECTORY``, which systemd sets,
    #: otherwise in the working directory.  A URL may have all parameters of libpq, and a password belongs into the file
    #: ``$PGPASSFILE``.
    store: str = "sqlite:chat.db"
    #: With a pooler (PgBouncer) between the servers and PostgreSQL, ``store`` is the URL of the pooler, and this one leads to PostgreSQL
    #: itself, because a pooler does not pass notifications on.  Empty: the servers listen at ``store``.
    store_listen: str = ""
    #: How many processes serve at the same ports, 1 to 64, each of them a node.  More than one needs a ``postgresql:`` store and
    #: endpoints with addresses (``tcp``, ``ssl``, ``systemd``).
    workers: int = 1
    #: Whether people without a token may use the chat.
    guests: bool = True
    #: Origins of web pages that may use this server besides its own pages: scheme, host and port, such as
    #: ``https://www.example.org``.  Apps have others, such as ``capacitor://localhost``, ``app://localhost``, ``tauri://localhost`` or
    #: ``chrome-extension://ID``; ``null`` (and in some engines ``file://``) is every page opened from disk and every sandboxed frame.
    allowed_origins: tuple[str, ...] = ()
    #: Host names under which web pages may use this server without TLS, besides ``localhost``, addresses, this machine's host name
    #: and the hosts of ``public_url`` and ``allowed_origins``: a name, ``*.example.org`` for all names below ``example.org``, or ``*``
    #: for any.  Pages under other names are refused, because the owner of a name could point it at this machine (DNS rebinding).
    allowed_hosts: tuple[str, ...] = ()
    #: Addresses or networks of reverse proxies; ``unix`` stands for all clients of Unix sockets.  Only the ``X-Forwarded-*`` headers
    #: of these peers are used.
    trusted_proxies: tuple[str, ...] = ()
    #: The URL that people use if the server is behind a proxy, such as ``https://example.org/chat``.  Its path is the prefix of all
    #: paths.  Empty: the URL is taken from the request, and there is no prefix.
    public_url: str = ""
    #: Keys for JSON Web Tokens (JWT), each ``ALGORITHM:FILE`` or ``ALGORITHM#KID:FILE``.  For ``RS256``, ``ES256`` and ``EdDSA`` the file
    #: has a public key in PEM, for ``HS256`` a secret of 32 bytes or more.  Give the old and the new key while the issuer changes its
    #: key.  A key is used with its own algorithm only.  Without keys, no JWT is accepted.
    jwt_keys: tuple[str, ...] = ()
    #: The audience (``aud``) that a JWT must name.  Empty: a JWT with an ``aud`` is refused, because it was issued for another service.
    jwt_audience: str = ""
    #: The issuer (``iss``) that a JWT must have.  Empty: any issuer, because only holders of the keys can sign.
    jwt_issuer: str = ""
    #: The name of the cookie that may carry a token.  The server accepts it only in requests with an allowed ``Origin``, so that pages of
    #: other sites cannot use it.
    token_cookie: str = "chat_token"
    #: Who may make an account: ``closed`` (administrators only, by ``twisted-chat user``), ``invite`` (people with an invitation) or
    #: ``open`` (everybody).  In any case the link that the server prints while there is no account makes the first one.
    sign_up: Literal["closed", "invite", "open"] = "closed"
    #: How many days a person stays signed in on a device.
    session_days: float = 30.0
    #: Other authorities for names and passwords, besides the accounts: strings of Twisted's ``strcred``, such as
    #: ``file:/etc/chat.passwd`` or ``unix``.  Who signs in by one of them gets an account at the first time.
    auth: tuple[str, ...] = ()
    #: Who may read ``/metrics``: ``loopback`` (clients on this machine), ``right`` (tokens with the right ``metrics``), ``all`` or
    #: ``off`` (nobody).
    metrics: Literal["loopback", "right", "all", "off"] = "loopback"
    #: Whether WebSocket messages may be compressed (permessage-deflate with small windows).  It is off because it needs memory for
    #: each connection and chat messages are short.
    compression: bool = False
    #: Whether a client that joins a room that does not exist makes the room.
    create_rooms: bool = True
    #: How many seconds a stop may take.  In this time the server tells clients when to reconnect and commits the messages that it has
    #: received.  It must be less than ``TimeoutStopSec`` of the systemd unit.
    drain_seconds: float = 10.0
    #: The format of the log, in which each event is one line: ``text`` for people, ``json`` (one flat object) for programs.
    log_format: Literal["text", "json"] = "text"
    #: The least urgent level that is logged.
    log_level: Literal["debug", "info", "warn", "error"] = "info"
    #: Bounds on what clients may use.
    limits: Limits = Limits()
    #: How rooms behave, by exact name or by pattern (``live.*``).  An exact name comes before all patterns; otherwise the first pattern
    #: that fits is used.
    rooms: dict[str, RoomPolicy] = {}

    def policies(self) -> RoomPolicies:
        return RoomPolicies(table=self.rooms, create=self.create_rooms)


class SettingsError(Exception):
    """A setting that cannot be used: one line with the field, the source and the remedy."""


class Given(Struct, frozen=True):
    """The raw value of a setting.

    :ivar name: the field, such as ``guests`` or ``limits.send_burst``.
    :ivar value: strings from the command line and the environment, TOML values from a file.
    :ivar source: for the error, such as ``--limit send_burst`` or ``chat.toml: limits.send_burst``.
    :ivar text: the value came as text, so ``20`` may be a number and ``on`` a switch.
    """

    name: str
    value: object
    source: str
    text: bool = False


def load(command_line: Iterable[Given] = (), environ: Mapping[str, str] | None = None, config: str = "") -> Settings:
    """The settings, from the command line, the environment, the file ``config`` and the defaults, in this order of precedence.

    :param config: path from the command line; ``TWISTED_CHAT_CONFIG`` names it otherwise.
    """
    environ = {} if environ is None else environ
    path = config or environ.get(f"{PREFIX}CONFIG", "")
    found: dict[str, Given] = {}
    for source in (from_file(path) if path else (), from_environment(environ), command_line):
        found.update({given.name: given for given in source})
    return _assemble(found)


def from_file(path: str) -> list[Given]:
    """The values in a TOML file."""
    try:
        with open(path, "rb") as file:
            text = file.read(FILE_BYTES + 1)
        if len(text) > FILE_BYTES:
            raise SettingsError(f"{path}: is not TOML: larger than {FILE_BYTES:,} bytes")
        document = tomllib.loads(text.decode())
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise SettingsError(f"{path}: is not TOML: byte {error.start} is not UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{path}: is not TOML: {error}") from None
    except RecursionError:
        raise SettingsError(f"{path}: is not TOML: nested too deeply") from None
    return list(_file_values(path, document))


def from_environment(environ: Mapping[str, str]) -> list[Given]:
    """The values of the variables ``TWISTED_CHAT_…``."""
    known = {variable(name): name for name in field_types() if not name.startswith("rooms")}
    given = []
    for name, value in sorted(environ.items()):
        if not name.startswith(PREFIX) or name == f"{PREFIX}CONFIG" or name in OF_CLIENTS:
            continue
        if name not in known:
            raise SettingsError(f"{name}: no such setting{nearest(name, [*known, f'{PREFIX}CONFIG'])}")
        given.append(Given(known[name], value, name, text=True))
    return given


def variable(name: str) -> str:
    """The environment variable for a field."""
    return PREFIX + name.replace(".", "_").upper()


def nearest(word: str, known: Iterable[str]) -> str:
    """``; did you mean …?`` if a known name is similar, otherwise empty."""
    matches = get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f"; did you mean {matches[0]}?" if matches else ""


def field_types() -> dict[str, Any]:
    """The fields that have one value, ``limits.…`` included, and their types."""
    types: dict[str, Any] = {}
    for field in msgspec.structs.fields(Settings):
        if field.type is Limits:
            types.update({f"{field.name}.{limit.name}": limit.type for limit in msgspec.structs.fields(Limits)})
        else:
            types[field.name] = field.type
    return types


def store_path(url: str, state_directory: str) -> str:
    """The store's URL with an absolute path; a relative one is relative to ``state_directory``."""
    scheme, colon, path = url.partition(":")
    if scheme != "sqlite" or not path or path.startswith("//"):
        return url
    return f"{scheme}{colon}{os.path.normpath(os.path.join(state_directory, os.path.expanduser(path)))}"


def _file_values(path: str, document: dict[str, object]) -> Iterator[Given]:
    top_level = [field.name for field in msgspec.structs.fields(Settings)]
    for name, value in document.items():
        source = f"{path}: {name}"
        if name not in top_level:
            raise SettingsError(f"{source}: no such setting{nearest(name, top_level)}")
        if name == "limits":
            table = _table(value, source)
            _known_keys(table, Limits, source)
            yield from (Given(f"limits.{key}", entry, f"{source}.{key}") for key, entry in table.items())
            continue
        if name == "rooms":
            for room, policy in _table(value, source).items():
                table = _table(policy, f'{source}."{room}"')
                _known_keys(table, RoomPolicy, f'{source}."{room}"')
                _convert(Given(room, table, f'{source}."{room}"'), RoomPolicy)
        yield Given(name, value, source)


def _table(value: object, source: str) -> dict[str, object]:
    if not isinstance(value, dict):
        raise SettingsError(f"{source}: expected a table, got {type(value).__name__}")
    return value


def _known_keys(table: dict[str, object], struct: type[Struct], source: str) -> None:
    known = [field.name for field in msgspec.structs.fields(struct)]
    for key in table:
        if key not in known:
            raise SettingsError(f"{source}.{key}: no such setting{nearest(key, known)}")


def _assemble(found: dict[str, Given]) -> Settings:
    types = field_types()
    values: dict[str, Any] = {name: _convert(given, types[name]) for name, given in found.items()}
    for name, value in values.items():
        check = CHECKS.get(name, limit_check(name))
        try:
            if check is not None:
                check(value)
            check_size(value)
        except ValueError as error:
            raise SettingsError(f"{found[name].source}: {error}") from None
    limits = {name.partition(".")[2]: values.pop(name) for name in list(values) if name.startswith("limits.")}
    settings = Settings(**values, limits=Limits(**limits))
    if settings.store_listen and not (is_postgresql(settings.store) and is_postgresql(settings.store_listen)):
        source = found["store_listen"].source
        raise SettingsError(f"{source}: must be a postgresql: URL, and is for a postgresql: store only")
    if settings.workers > 1 and settings.store.startswith(("sqlite:", "memory:")):
        kind = settings.store.partition(":")[0]
        raise SettingsError(f"workers: {settings.workers} processes cannot share a {kind}: store; use --store postgresql://…")
    for smaller, larger, why in _PAIRS:
        values_of = settings.limits
        if getattr(values_of, smaller) > getattr(values_of, larger):
            raise SettingsError(f"limits.{smaller}: must not be larger than limits.{larger}, {why}")
    return settings


#: Limits that contradict each other if the first is larger than the second.
_PAIRS = (
    ("text_bytes", "frame_bytes", "which has to hold the text"),
    ("text_bytes", "uncommitted_bytes", "or a long message could never be stored"),
    ("recent_bytes", "recent_bytes_total", "which holds the recent events of all rooms"),
)


def _convert(given: Given, expected: Any) -> Any:
    value = given.value
    if given.text and isinstance(value, str):
        if get_origin(expected) is tuple:
            value = value.split()
        elif expected is bool:
            value = _SWITCH.get(value.lower(), value)
    try:
        return msgspec.convert(value, expected, strict=not given.text or expected is bool)
    except msgspec.ValidationError as error:
        raise SettingsError(f"{given.source}: {_explain(str(error), value, expected)}") from None


_SWITCH = {"on": True, "true": True, "yes": True, "1": True, "off": False, "false": False, "no": False, "0": False}
_KINDS = {
    "int": "a whole number",
    "float": "a number",
    "str": "text",
    "bool": "true or false",
    "array": "a list",
    "object": "a table",
}


def _explain(message: str, value: object, expected: Any) -> str:
    """Reword an error of msgspec for operators."""
    text, _, place = message.replace("`", "").partition(" - at ")
    if text.startswith("Invalid enum value"):
        return f"{value!a} is none of {', '.join(expected.__args__)}{nearest(str(value), expected.__args__)}"
    where = place.replace("$", "").replace("[...]", "").lstrip(".")
    shown = "" if isinstance(value, dict | list | tuple) else f" {value!a}"
    expecting = re.fullmatch(r"Expected (\w+), got (\w+)", text)
    if expecting is None:
        return f"{where}{': ' if where else ''}{text[0].lower()}{text[1:]}{shown}"
    kind = "true or false (on or off)" if expected is bool else _KINDS.get(expecting[1], expecting[1])
    return f"{where}{': ' if where else ''}expected {kind}, got{shown or ' ' + _KINDS.get(expecting[2], expecting[2])}"
