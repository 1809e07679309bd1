"""The server as ``twistd`` runs it: the order of the start, the signals of the operator, the end.

Start: the ports are bound (still with twistd's privileges), the store is opened, the chat is built, and the ports accept connections;
then systemd is told READY, and the operator the address.  Any failure is one line and exit status 1.  End: the ports are closed,
clients are told when to reconnect, and received messages are committed and sent, all within ``drain_seconds``.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

from twisted.application.internet import TimerService
from twisted.application.service import MultiService
from twisted.internet.defer import Deferred, gatherResults, maybeDeferred, succeed
from twisted.internet.interfaces import IAddress, ILoggingContext, IProtocol, IProtocolFactory, IProtocolNegotiationFactory
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.server import Site
from zope.interface import implementer

from twisted_chat.core.accounts import Caller, invite
from twisted_chat.internals.clock import use_monotonic_time
from twisted_chat.internals.reactor import read_without_log_context
from twisted_chat.server.build import RunningChat, SetUpError, SharedStore, build, reloaded
from twisted_chat.server.config import Settings, SettingsError, store_path
from twisted_chat.server.listeners import Listener, ListenError, listen
from twisted_chat.server.maintenance import accounts, bearers, retention, revocation, rooms, standings
from twisted_chat.server.options import Options
from twisted_chat.server.process import (
    OTHER_FILES,
    Notifier,
    Signals,
    Watchdog,
    exit_status_at_end,
    say_error,
    settle,
    tune,
    watchdog_seconds,
)
from twisted_chat.server.workers import ParentWatch, Place, WorkerPorts, Workers
from twisted_chat.store_contract import StoreError
from twisted_chat.stores.urls import shown_store
from twisted_chat.version import __version__

#: Seconds between two attempts to read a certificate that could not be used at a reload.
RETRY_SECONDS = 5.0


@implementer(IProtocolFactory, IProtocolNegotiationFactory, ILoggingContext)
class HeldFactory:
    """The factory of the ports until the site is built.

    A port of an unusual kind cannot be held (:meth:`Listener.hold`); connections that come too early there are closed.
    """

    def __init__(self) -> None:
        self.site: Site | None = None
        self._ports = 0

    def doStart(self) -> None:
        """A port starts to use the factory."""
        self._ports += 1

    def doStop(self) -> None:
        """A port was closed; after the last one the site closes the connections that have sent no request yet."""
        self._ports -= 1
        if self._ports == 0 and self.site is not None:
            self.site.doStop()

    def buildProtocol(self, addr: IAddress) -> IProtocol | None:
        return None if self.site is None else self.site.buildProtocol(addr)

    def logPrefix(self) -> str:
        """Twisted logs ``chat starting on 8080``."""
        return "chat"

    def acceptableProtocols(self) -> list[bytes]:
        """The protocols for ALPN, as the site has them (never ``h2``, which has no upgrade to WebSocket)."""
        return [b"http/1.1"]


class Server(MultiService):
    """The server: starts, reloads and stops all parts."""

    log = Logger()

    def __init__(self, reactor: Any, options: Options) -> None:
        super().__init__()
        self.settings: Settings = options.settings
        self.chat: RunningChat | None = None
        self.listeners: list[Listener] = []
        self._reactor = reactor
        self._options = options
        self._gate = HeldFactory()
        self._listening: Deferred[list[Listener]] | None = None
        self._notify = Notifier(options.environ)
        self._files = 0
        self._failed = False
        self._place = Place(options.environ)
        self._ports: WorkerPorts | None = None
        self._workers: Workers | None = None
        self._certificates: Any = TimerService(RETRY_SECONDS, self._retry_certificates)
        self._certificates.clock = reactor

    @property
    def _daemon(self) -> bool:
        return self._options.parent is not None and not self._options.parent.get("nodaemon")

    # Start

    def privilegedStartService(self) -> None:
        super().privilegedStartService()
        use_monotonic_time(self._reactor)
        self._files = tune()
        count = self.settings.workers
        if count > 1:
            self._ports = WorkerPorts(self._reactor, count, self._place.descriptors)
        self._listening = listen(self._ports or self._reactor, self.settings.listen, self._gate)
        if self._daemon:
            self._tell_twistd(self._listening)

    def startService(self) -> None:
        super().startService()
        signals = Signals(self._reactor.stop, self.reload, self._reactor.callFromThread)
        self._reactor.callWhenRunning(signals.install)
        if self._place.number > 1:
            self._reactor.callWhenRunning(ParentWatch(self._reactor, signals.end).begin)
        self._reactor.callWhenRunning(self._begin)

    def _begin(self) -> None:
        Deferred.fromCoroutine(self._start()).addErrback(lambda failure: self.log.failure("The start failed", failure))

    async def _start(self) -> None:
        try:
            await self._build()
        except (ListenError, StoreError, SetUpError) as error:
            self._give_up(" ".join(str(error).split()))
        except Exception as error:
            self.log.failure("The server could not be built")
            self._give_up(f"an internal error, which the log explains: {type(error).__name__}: {error}")

    async def _build(self) -> None:
        assert self._listening is not None, "startService before privilegedStartService"
        self.listeners = await self._listening
        directory = self._options.environ.get("STATE_DIRECTORY", "").split(":")[0] or os.getcwd()
        only_here = all(listener.loopback for listener in self.listeners)
        url = store_path(self.settings.store, directory)
        chat = self.chat = await build(self._reactor, self.settings, url, loopback=only_here)
        retention(chat.core, self._reactor).setServiceParent(self)
        bearers(chat.store, self._reactor, chat.tokens_seen).setServiceParent(self)
        accounts(chat.accounts, self._reactor).setServiceParent(self)
        rooms(chat.store, chat.core, self._reactor, chat.core.room_news).setServiceParent(self)
        standings(chat.store, chat.core, self._reactor, chat.core.standing_news).setServiceParent(self)
        revocation(chat.store, chat.core, self._reactor).setServiceParent(self)
        watchdog = watchdog_seconds(self._options.environ, os.getpid())
        self._certificates.setServiceParent(self)
        if watchdog is not None:
            Watchdog(self._reactor, self._notify, watchdog).setServiceParent(self)
        read_without_log_context(self._reactor)
        settle()
        self._gate.site = chat.site
        chat.site.noisy = False
        chat.site.doStart()
        for listener in self.listeners:
            listener.let_in()
        if isinstance(chat.store, SharedStore):
            chat.store.when_ended(self._give_up)
        self._start_workers()
        setup = await self._setup_secret(chat)
        self._say_where(chat, url, setup)
        self._notify("READY=1", f"STATUS=Serving {self._page()}")

    def _start_workers(self) -> None:
        if self._ports is not None and self._place.number == 1:
            options, settings = self._options, self.settings
            self._workers = Workers(
                self._reactor, settings.workers, options.command(), self._ports, options.environ, settings.drain_seconds
            )
            self._workers.setServiceParent(self)

    def _tell_twistd(self, listening: Deferred[list[Listener]]) -> None:
        """Raise the error for twistd, which prints its first 100 bytes to the shell; a daemon has no standard error of its own."""
        troubles: list[Failure] = []

        def keep(failure: Failure) -> Failure:
            troubles.append(failure)
            return failure

        listening.addErrback(keep)
        if troubles:
            listening.addErrback(lambda failure: None)
            line = str(troubles[0].value)
            self.log.critical("{line}", line=line)
            raise OSError(line)

    def _give_up(self, line: str) -> None:
        """Report why the server cannot start, or cannot go on: one line, exit status 1."""
        self._failed = True
        self._notify(f"STATUS=Failed: {line}")
        if self._daemon or (self._options.lines is not None and self._options.lines.path):
            self.log.critical("{line}", line=line)
        say_error(line)
        exit_status_at_end(1)
        self._reactor.stop()

    def _page(self) -> str:
        return self.settings.public_url or self.listeners[0].url

    def _warn_of_files(self) -> None:
        connections = self.settings.limits.connections
        needed = connections + OTHER_FILES
        if self._files < needed:
            self.log.warn(
                "limits.connections is {connections}, which needs {needed} open files, but this process may open only {files}; "
                "raise LimitNOFILE in the systemd unit (or ulimit -Hn), or lower limits.connections",
                connections=connections,
                needed=needed,
                files=self._files,
            )

    def _speaks(self) -> bool:
        """Whether the start is told to people at the standard output."""
        terminal = self.settings.log_format == "text" and sys.__stdout__ is not None
        return terminal and not self._daemon and self._place.number <= 1

    async def _setup_secret(self, chat: RunningChat) -> str:
        """The secret with which the first account is made; empty if there is an account, or nobody to tell it to."""
        if chat.accounts.any or not self._speaks():
            return ""
        _, secret = await invite(chat.accounts, Caller("start of the server"), rights=("admin",), first=True)
        return secret

    def _say_where(self, chat: RunningChat, store_url: str, setup: str) -> None:
        self._warn_of_files()
        self.log.info(
            "Serving on {endpoints}; data in {store}; {files} open files allowed",
            endpoints=" ".join(listener.url for listener in self.listeners),
            store=shown_store(store_url),
            files=self._files,
        )
        if not self._speaks() or sys.__stdout__ is None:
            return
        page = self._page()
        lines = [f"twisted_chat {__version__} is ready.", f"  Page       {page}"]
        if page.startswith("http"):
            lines.append(f'  WebSocket  new WebSocket("ws{page.removeprefix("http").rstrip("/")}")')
        lines += [f"  Data       {_place(store_url)}", f"  Stop       Ctrl+C, or kill {os.getpid()}"]
        if setup:
            lines.append(f"  Set up     {page.rstrip('/')}/#setup={setup}")
        if chat.null_origin:
            lines.append(
                '  Pages opened from disk (origin "null") may connect too, because only this machine can reach the server,'
            )
            lines.append("  guests are welcome and there are no tokens or keys.")
        sys.__stdout__.write("\n".join(lines) + "\n")
        sys.__stdout__.flush()

    # SIGHUP

    def reload(self) -> None:
        """Reopen the log, read the configuration and the certificates again."""
        self._notify("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")
        if self._workers is not None:
            self._workers.send_signal(signal.SIGHUP)
        try:
            if self._options.lines is not None:
                self._attempt("The log cannot be opened again", self._options.lines.reopen)
            for listener in self.listeners:
                self._attempt(f"{listener.description}: the certificate cannot be read again", listener.renew_certificate)
            self._attempt("The configuration cannot be read again, so the old one stays in force", self._reload_settings)
        finally:
            self._notify("READY=1")

    def _attempt(self, trouble: str, part: Callable[[], object]) -> None:
        """Do one part of a reload; a failure is logged in one line, and that part keeps its old state."""
        try:
            part()
        except Exception as error:
            self.log.error("{trouble}: {why}", trouble=trouble, why=" ".join(str(error).split()) or type(error).__name__)

    def _retry_certificates(self) -> None:
        """Read certificates again that could not be used at a reload: a renewal writes key and certificate one after the other."""
        for listener in self.listeners:
            listener.retry_certificate()

    def _reload_settings(self) -> None:
        try:
            settings = self._options.load()
        except SettingsError as error:
            self.log.error("The new configuration has an error, so the old one stays in force: {error}", error=str(error))
        else:
            self._apply(settings)

    def _apply(self, settings: Settings) -> None:
        self.settings, waiting = reloaded(self.settings, settings)
        if self.chat is not None:
            self.chat.apply(self.settings)
            self._warn_of_files()
        self.log.info(
            "The configuration was read again. Changes that wait for the next start: {waiting}",
            waiting=", ".join(waiting) or "none",
        )

    # End

    def stopService(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        self._notify("STOPPING=1")
        chat = self.chat
        if chat is not None:
            chat.limiter.draining = True
        if not self.listeners and self._listening is not None and self._listening.called and not self._failed:
            self.listeners = await self._listening
        workers: Deferred[object] = maybeDeferred(self._workers.disownServiceParent) if self._workers else succeed(None)
        await gatherResults([listener.close() for listener in self.listeners])
        if chat is not None:
            await chat.drain(self._reactor, self.settings.drain_seconds)
        children: Deferred[object] | None = super().stopService()
        if children is not None:
            await children
        await workers
        if chat is not None:
            await chat.store.close()


def _place(store_url: str) -> str:
    return "in memory only, gone at the end" if store_url == "memory:" else shown_store(store_url)
