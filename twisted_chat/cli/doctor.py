"""``doctor``: checks for everything that could keep the server from starting or from being reached, each with its remedy."""

from __future__ import annotations

import os
import re
import resource
import shutil
import socket
import sqlite3
import ssl
import stat
from argparse import Namespace
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from enum import Enum
from urllib.parse import urlsplit

from cryptography import x509
from msgspec import Struct
from OpenSSL import crypto

from twisted_chat.cli.admin import settings_of, store_url
from twisted_chat.cli.connect import with_client
from twisted_chat.cli.output import CliError, CommandContext, Status
from twisted_chat.cli.probe import probe
from twisted_chat.client import ChatClient
from twisted_chat.server.config import Settings
from twisted_chat.server.config_checks import key_file
from twisted_chat.server.logging import visible
from twisted_chat.server.process import OTHER_FILES
from twisted_chat.store_contract import StoreError
from twisted_chat.stores.sqlite.connection import FileLock, InUse, connect, explain
from twisted_chat.stores.sqlite.database import schema_steps, steps_taken
from twisted_chat.stores.sqlite.transfer import holes, outgoing
from twisted_chat.stores.urls import store_file

#: Free bytes on the store's disk below which the check fails, and below which it warns.
DISK_FULL, DISK_LOW = 104_857_600, 1_073_741_824
#: A certificate that expires within so many days should have been renewed; most are renewed 30 days before they expire.
CERTIFICATE_DAYS = 14
#: Seconds within which the server must be reached.
CONNECT_SECONDS = 5.0


class Health(Enum):
    """The outcome of a check."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


class Check(Struct, frozen=True):
    """The result of one check."""

    name: str
    health: Health
    message: str
    cure: str = ""


async def doctor(args: Namespace, context: CommandContext) -> int:
    """Run all checks; the exit status is 0 if none failed."""
    failed = 0
    warned = 0
    try:
        settings = settings_of(args, context)
    except CliError as error:
        _show(
            args, context, Check("configuration", Health.FAIL, str(error), "correct it; docs/configuration.rst has every setting")
        )
        return Status.FAILED
    checks = [Check("configuration", Health.OK, "can be read, and all settings are known")]
    for check in (*checks, *_local(settings, context)):
        failed += check.health is Health.FAIL
        warned += check.health is Health.WARN
        _show(args, context, check)
    for check in await _upgrade(args, context, settings):
        failed += check.health is Health.FAIL
        warned += check.health is Health.WARN
        _show(args, context, check)
    if not args.json:
        context.say(f"{failed} checks failed, {warned} gave a warning" if failed or warned else "no problems were found")
    return Status.FAILED if failed else Status.DONE


def _show(args: Namespace, context: CommandContext, check: Check) -> None:
    if args.json:
        context.say_json({"check": check.name, "health": check.health.value, "message": check.message, "cure": check.cure})
        return
    cure = f"; {check.cure}" if check.cure else ""
    context.say(visible(f"{check.health.value:<4}  {check.name}: {check.message}{cure}"))


def _local(settings: Settings, context: CommandContext) -> Iterator[Check]:
    url = store_url(settings, context)
    if url == "memory:":
        yield Check(
            "store", Health.WARN, "messages are kept in memory only", "use sqlite:PATH if they must be kept when the server ends"
        )
    else:
        try:
            yield from _store(store_file(url))
        except StoreError as error:
            yield Check("store", Health.FAIL, str(error))
    yield from _descriptors(settings)
    yield from _keys(settings)
    yield from _certificates(settings, context)


# The store


def _store(path: str) -> Iterator[Check]:
    directory = os.path.dirname(os.path.abspath(path))
    if not os.path.isdir(directory):
        yield Check(
            "permissions", Health.FAIL, f"{directory} is not a directory", "make the directory, writable for the server's user"
        )
        return
    yield _disk(directory)
    if not os.path.exists(path):
        if os.access(directory, os.W_OK | os.X_OK):
            yield Check("database", Health.OK, f"{path} does not exist yet; the server creates it")
        else:
            yield Check(
                "permissions",
                Health.FAIL,
                f"{directory} cannot be written by this user",
                "make it writable for the server's user",
            )
        return
    allowed = _permissions(path, directory)
    yield allowed
    if allowed.health is not Health.FAIL:
        yield from _database(path)


def _permissions(path: str, directory: str) -> Check:
    info = os.stat(path)
    mode = stat.S_IMODE(info.st_mode)
    if not os.access(path, os.R_OK | os.W_OK) or not os.access(directory, os.W_OK | os.X_OK):
        return Check(
            "permissions",
            Health.FAIL,
            f"this user cannot write {path} or its directory",
            "run this as the server's user, or chown it",
        )
    if mode & 0o077:
        return Check("permissions", Health.WARN, f"other users may open {path} (mode {mode:03o})", f"chmod 600 {path}")
    if info.st_uid != os.geteuid():
        return Check("permissions", Health.WARN, f"{path} belongs to user {info.st_uid}", "run this as the server's user")
    return Check("permissions", Health.OK, f"only this user may open {path}")


def _disk(directory: str) -> Check:
    free = shutil.disk_usage(directory).free
    shown = f"{free / 1e9:.1f} GB free for {directory}"
    if free < DISK_FULL:
        return Check("disk", Health.FAIL, shown, "free disk space, or move the database; on a full disk no message can be stored")
    if free < DISK_LOW:
        return Check("disk", Health.WARN, shown, "free disk space")
    return Check("disk", Health.OK, shown)


def _database(path: str) -> Iterator[Check]:
    server = _server_of(path)
    try:
        with closing(connect(path, "rw")) as connection:
            connection.execute("PRAGMA query_only = ON")
            taken, known = steps_taken(connection, path), len(schema_steps())
            found = " ".join(row[0] for row in connection.execute("PRAGMA integrity_check(3)"))
    except sqlite3.Error as error:
        raise explain(path, error) from error
    if found != "ok":
        yield Check("integrity", Health.FAIL, f"{path}: {found}", "restore a backup, and keep this file")
        return
    yield Check("integrity", Health.OK, f"{path} is not damaged")
    if taken > known:
        cure = "install that version again, or restore the copy that it made before the upgrade"
        yield Check("schema", Health.FAIL, f"has {taken} steps, this version knows {known}", cure)
    elif taken < known:
        yield Check("schema", Health.OK, f"has {taken} of {known} steps; the next start of the server adds the others")
    else:
        yield Check("schema", Health.OK, f"has all {known} steps")
        with outgoing(path) as state:
            records = list(state.rooms.values())
        broken = holes(path, records)
        if broken and not server:
            yield Check(
                "logs", Health.FAIL, f"numbers of events are missing in {', '.join(broken)}", "keep the file and report this"
            )
        else:
            events = sum(record.head - record.first + 1 for record in records)
            yield Check("logs", Health.OK, f"{events} events in {len(records)} rooms, numbered without gaps")
    yield Check("server", Health.OK, server or "no server uses the database now")


def _server_of(path: str) -> str:
    try:
        FileLock(os.path.realpath(path)).release()
    except InUse as error:
        found = re.search(r"pid \w+", str(error))
        return f"running ({found[0] if found else 'pid unknown'})"
    return ""


# The machine


def _descriptors(settings: Settings) -> Iterator[Check]:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = settings.limits.connections + OTHER_FILES
    if hard != resource.RLIM_INFINITY and hard < needed:
        message = f"{hard} files may be open, limits.connections = {settings.limits.connections} needs {needed}"
        yield Check("descriptors", Health.WARN, message, "raise LimitNOFILE (ulimit -Hn), or lower limits.connections")
    else:
        count = "any number of" if hard == resource.RLIM_INFINITY else str(hard)
        yield Check("descriptors", Health.OK, f"{count} files may be open, at most {needed} are needed")


def _keys(settings: Settings) -> Iterator[Check]:
    for entry in settings.jwt_keys:
        path = key_file(entry).path
        if os.access(path, os.R_OK):
            yield Check("keys", Health.OK, f"{path} can be read")
        else:
            yield Check(
                "keys",
                Health.FAIL,
                f"jwt_keys: {path} cannot be read",
                "correct the path, or make the file readable for the server's user",
            )


def _certificates(settings: Settings, context: CommandContext) -> Iterator[Check]:
    for description in settings.listen:
        if not description.startswith("ssl:"):
            continue
        path = _part(description, "certKey") or _part(description, "privateKey") or "server.pem"
        try:
            with open(path, "rb") as file:
                certificate = x509.load_pem_x509_certificate(file.read())
        except (OSError, ValueError, crypto.Error) as error:
            why = getattr(error, "strerror", None) or "is not a certificate in PEM"
            yield Check("certificate", Health.FAIL, f"{path}: {why}", f"correct the path in listen = {description}")
            continue
        yield _expiry(path, certificate.not_valid_after_utc.timestamp(), context)


def _part(description: str, name: str) -> str | None:
    """The value of ``name=value`` in an endpoint string, where a backslash escapes a colon."""
    found = re.search(rf":{name}=((?:\\.|[^:\\])*)", description)
    return re.sub(r"\\(.)", r"\1", found[1]) if found else None


def _expiry(what: str, end: float, context: CommandContext) -> Check:
    days = (end - context.now_seconds()) / 86_400
    day = datetime.fromtimestamp(end, UTC).strftime("%Y-%m-%d")
    if days < 0:
        return Check("certificate", Health.FAIL, f"{what} expired on {day}", "renew it, then send the server SIGHUP")
    if days < CERTIFICATE_DAYS:
        return Check(
            "certificate", Health.WARN, f"{what} expires on {day}, in {days:.0f} days", "find out why it was not renewed"
        )
    return Check("certificate", Health.OK, f"{what} is valid until {day}")


# The connection through the public address


async def _upgrade(args: Namespace, context: CommandContext, settings: Settings) -> list[Check]:
    """Connect as a user does, through any proxy in front of the server."""
    public = args.url or settings.public_url
    url = public or _own_url(settings)
    if url is None:
        return [Check("upgrade", Health.WARN, "there is no address to try", "give the public address with --url or public_url")]
    url = re.sub(r"^http", "ws", url)
    args.url = url
    args.wait = CONNECT_SECONDS
    checks = []

    async def work(client: ChatClient) -> int:
        await client.when_online()
        return Status.DONE

    try:
        await with_client(args, context, work)
        checks.append(Check("upgrade", Health.OK, f"a WebSocket opens at {url}"))
    except CliError as error:
        if error.status is Status.REFUSED:
            cure = "the server can be reached; give a token to test a whole connection"
            checks.append(Check("upgrade", Health.WARN, f"{url}: {error}", cure))
        elif public:
            checks.append(Check("upgrade", Health.FAIL, f"{url}: {error}", "see the next check, and docs/operating.rst"))
        else:
            checks.append(Check("upgrade", Health.WARN, f"{url}: {error}", "start the server, or give its address with --url"))
    if public or checks[0].health is Health.OK:
        checks.append(_page(url, args.trust))
    if url.startswith("wss:"):
        checks += _remote_certificate(url, context, args.trust)
    return checks


def _page(url: str, trust: str | None) -> Check:
    """Send a handshake as a browser does: a proxy in front may change its origin or its headers."""
    opened, message, cure = probe(url, trust, CONNECT_SECONDS)
    return Check("page", Health.OK if opened else Health.FAIL, f"{url}: {message}", cure)


def _own_url(settings: Settings) -> str | None:
    """The URL of the first endpoint whose port can be read from its string; None if there is none."""
    for description in settings.listen:
        found = re.match(r"(tcp|ssl):(?:port=)?([0-9]+)", description)
        if found is not None:
            host = (_part(description, "interface") or "127.0.0.1").replace("0.0.0.0", "127.0.0.1")
            return f"{'wss' if found[1] == 'ssl' else 'ws'}://{host}:{found[2]}"
    return None


def _remote_certificate(url: str, context: CommandContext, trust: str | None) -> list[Check]:
    parts = urlsplit(url)
    assert parts.hostname is not None, url
    tls = ssl.create_default_context(cafile=trust)
    try:
        with (
            socket.create_connection((parts.hostname, parts.port or 443), CONNECT_SECONDS) as plain,
            tls.wrap_socket(plain, server_hostname=parts.hostname) as secure,
        ):
            certificate = secure.getpeercert()
    except ssl.SSLCertVerificationError as error:
        cure = "renew it, or serve the whole chain under the right name"
        return [Check("certificate", Health.FAIL, f"{parts.netloc}: {error.verify_message}", cure)]
    except OSError:
        return []  # the check "upgrade" reports that nothing answers
    end = str((certificate or {}).get("notAfter", ""))
    return [_expiry(parts.netloc, ssl.cert_time_to_seconds(end), context)] if end else []
