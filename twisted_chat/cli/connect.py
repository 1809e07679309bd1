"""Run one client for one verb: server and user come from the options, and the verb fails if the server cannot be reached.

``--wait`` limits the time without a connection, at the start and after each break; within it the client reconnects by itself and
resumes where it stopped.
"""

from __future__ import annotations

import os
from argparse import Namespace
from collections.abc import Awaitable, Callable
from hashlib import sha256
from pathlib import Path
from secrets import token_hex
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.ssl import Certificate, trustRootFromCertificates

from twisted_chat.cli.options import DEFAULT_URL, TOKEN, URL
from twisted_chat.cli.output import CliError, CommandContext, Status
from twisted_chat.client import ChatClient, ClientEnded, ClientError, ConnectionProblem, HandshakeRefused, State
from twisted_chat.errors import ChatError, RateLimited


def token_of(args: Namespace, context: CommandContext) -> str | None:
    """The token from the option, the file or the environment; None for a guest."""
    if args.token is not None and args.token_file is not None:
        raise CliError("--token: give either --token or --token-file, not both", Status.USAGE)
    token: str | None = args.token
    if args.token_file is not None:
        token = _text_of(args.token_file, "--token-file").strip()
    elif token is None:
        token = context.environ.get(TOKEN) or None
    if token is not None and not (token and token.isascii() and token.isprintable() and " " not in token):
        source = "--token-file" if args.token_file else "--token" if args.token else TOKEN
        raise CliError(f"{source}: does not contain a token", Status.USAGE)
    return token


def url_of(args: Namespace, context: CommandContext) -> str:
    """The server's address from the option, the environment or the default."""
    return args.url or context.environ.get(URL) or DEFAULT_URL


def guest_device(context: CommandContext, *what: str) -> str | None:
    """The ``device`` of a guest for this command, so that a repeated command is by the same guest; None if it cannot be stored.

    It is derived from a secret of this user, because others can guess keys and rooms.
    """
    base = context.environ.get("XDG_STATE_HOME") or os.path.join(context.environ.get("HOME", ""), ".local", "state")
    path = Path(base) / "twisted-chat" / "device"
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            with open(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as file:
                file.write(token_hex(32))
        except FileExistsError:
            pass
        secret = path.read_text()
    except OSError:
        return None
    return sha256("\0".join([secret, *what]).encode()).hexdigest()[:32]


async def with_client(
    args: Namespace, context: CommandContext, work: Callable[[ChatClient], Awaitable[int]], *, device: str | None = None
) -> int:
    """Start a client, await ``work`` with it, and stop the client; :class:`CliError` if that fails."""
    client = make_client(args, context, device)
    patience = Patience(client, context.reactor, args.wait)

    async def do() -> int:
        return await work(client)

    client.startService()
    working = Deferred.fromCoroutine(do())
    patience.when_over(working.cancel)
    try:
        return await working
    except CancelledError:
        if patience.problem is None:
            raise
        raise explained(patience.problem) from None
    except Exception as error:
        if isinstance(error, OSError):
            raise
        raise explained(error) from None
    finally:
        patience.stop()
        await client.stopService()


def make_client(args: Namespace, context: CommandContext, device: str | None = None) -> ChatClient:
    """The client that the options describe, not started."""
    try:
        return ChatClient(
            context.reactor,
            url_of(args, context),
            token=token_of(args, context),
            name=args.name,
            device=device,
            trust_root=_trust(args.trust),
            flush_seconds=0.0,
        )
    except ValueError as error:
        raise CliError(f"--url: {str(error).removeprefix('where: ')}", Status.USAGE) from None


class Patience:
    """Notices that there was no connection for ``seconds``, or that the client has given up.

    :ivar problem: the reason once that has happened; None before.
    """

    def __init__(self, client: ChatClient, clock: Any, seconds: float) -> None:
        self.problem: Exception | None = None
        self._clock = clock
        self._seconds = seconds
        self._over: Callable[[], object] = lambda: None
        self._call: Any = None
        self._last: Exception | None = None
        client.watch(self._see)

    def when_over(self, over: Callable[[], object]) -> None:
        """Call ``over`` when that happens, or now if it has happened."""
        self._over = over
        if self.problem is not None:
            over()

    def stop(self) -> None:
        """Stop watching."""
        self._over = lambda: None
        self._cancel()

    def _see(self, client: ChatClient) -> None:
        self._last = client.problem or self._last
        if client.state is State.ENDED:
            self._end(client.problem)
        elif client.state in (State.ONLINE, State.STOPPED):
            self._cancel()
        elif self._call is None and self._seconds > 0:
            self._call = self._clock.callLater(self._seconds, self._run_out)

    def _run_out(self) -> None:
        self._call = None
        self._end(self._last)

    def _end(self, problem: Exception | None) -> None:
        self._cancel()
        if self.problem is None:
            self.problem = problem or CliError(f"the server did not answer for {self._seconds:g} s", Status.NO_SERVER)
            # In a later turn, because the cancelled work may stop the client that is calling now.
            self._clock.callLater(0, lambda: self._over())

    def _cancel(self) -> None:
        call, self._call = self._call, None
        if call is not None:
            call.cancel()


def _trust(path: str | None) -> object:
    if path is None:
        return None
    pem = _text_of(path, "--trust")
    end = "-----END CERTIFICATE-----"
    try:
        certificates = [Certificate.loadPEM((part + end).encode()) for part in pem.split(end)[:-1]]
    except Exception as error:
        raise CliError(f"--trust {path}: is not a certificate in PEM ({error})", Status.USAGE) from None
    if not certificates:
        raise CliError(f"--trust {path}: contains no certificate in PEM", Status.USAGE)
    return trustRootFromCertificates(certificates)


def _text_of(path: str, option: str) -> str:
    try:
        return Path(path).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CliError(f"{option} {path}: cannot be read: {getattr(error, 'strerror', None) or error}", Status.USAGE) from None


def explained(error: Exception) -> CliError:
    """A client's error as one line for the user, with the exit status."""
    if isinstance(error, ClientEnded):
        error = error.cause
    match error:
        case CliError():
            return error
        case HandshakeRefused() if error.status == 429 or error.status >= 500:
            return CliError(f"{error}; try again later", Status.NO_SERVER)
        case ConnectionProblem() if error.wants_token or (isinstance(error, HandshakeRefused) and error.error is not None):
            cure = "; give a valid token with --token-file or TWISTED_CHAT_TOKEN" if error.wants_token else ""
            return CliError(f"{error}{cure}", Status.REFUSED)
        case ConnectionProblem() if not error.retry:
            return CliError(str(error), Status.REFUSED)
        case ConnectionProblem():
            return CliError(f"{error}; is the server running, and is --url right?", Status.NO_SERVER)
        case RateLimited():
            return CliError(f"{error.code}: {error.message}; try again later", Status.FAILED)
        case ChatError():
            return CliError(f"{error.code}: {error.message}", Status.REFUSED)
        case ClientError():
            return CliError(str(error), Status.FAILED)
    raise error
