"""For operators: liveness, readiness, metrics and the access log."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Gauge
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from twisted.internet.defer import Deferred, TimeoutError, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger, LogLevel
from twisted.python.failure import Failure

from twisted_chat.core.connections import ConnectionLimiter
from twisted_chat.errors import ChatError, Forbidden, Unavailable
from twisted_chat.web.responses import Response
from twisted_chat.web.routing import ApiRequest, Route
from twisted_chat.web.session import LOGGED_PATH
from twisted_chat.web.site import Observe

#: Who may read ``/metrics``: this machine, users with the right ``metrics``, everybody, nobody.
MetricsFor = Literal["loopback", "right", "all", "off"]

#: Seconds for which an answer of the store is reused: everybody may ask, and each probe costs a commit.
PROBE_SECONDS = 1.0
#: Seconds in which the store must answer to be ready.
PROBE_TIMEOUT = 5.0

_TEXT = ((b"Content-Type", b"text/plain; charset=utf-8"), (b"Cache-Control", b"no-store"))


class Readiness:
    """Whether messages can be kept now.

    :param probe: commits something small, or fails.
    """

    def __init__(self, limiter: ConnectionLimiter, probe: Callable[[], Deferred[None]], clock: IReactorTime) -> None:
        self._limiter = limiter
        self._probe = probe
        self._clock = clock
        self._error: ChatError | None = None
        self._asked_at: float | None = None
        self._waiting: list[Deferred[None]] | None = None

    def check(self) -> Deferred[None]:
        """Fails with ``Restarting`` or ``Unavailable``."""
        self._limiter.check_open()
        if self._waiting is not None:
            waiter: Deferred[None] = Deferred()
            self._waiting.append(waiter)
            return waiter
        if self._asked_at is not None and self._clock.seconds() - self._asked_at < PROBE_SECONDS:
            return self._result()
        self._waiting = []
        return self._probe().addTimeout(PROBE_TIMEOUT, self._clock).addBoth(self._answered).addCallback(lambda _: self._result())

    def _answered(self, result: Failure | None) -> None:
        self._asked_at = self._clock.seconds()
        self._error = None
        if isinstance(result, Failure):
            late = result.check(TimeoutError) is not None
            why = f"no answer in {PROBE_TIMEOUT:g} s" if late else result.getErrorMessage()
            self._error = result.value if isinstance(result.value, ChatError) else Unavailable(f"the store cannot commit: {why}")
        waiting, self._waiting = self._waiting or [], None
        for waiter in waiting:
            if self._error is None:
                waiter.callback(None)
            else:
                waiter.errback(self._error)

    def _result(self) -> Deferred[None]:
        if self._error is not None:
            raise self._error
        return succeed(None)


class WebMetrics:
    """The metrics of the HTTP edge."""

    def __init__(self, registry: CollectorRegistry, limiter: ConnectionLimiter) -> None:
        self._handshakes = Counter(
            "twisted_chat_handshakes",
            "WebSocket handshakes: open, or the code of the error.",
            ["outcome"],
            registry=registry,
        )
        self._opened = self._handshakes.labels("open")
        self._answers = Counter("twisted_chat_http_answers", "HTTP answers by status.", ["status"], registry=registry)
        connections = Gauge("twisted_chat_connections", "Open connections: WebSockets and event streams.", registry=registry)
        connections.set_function(lambda: limiter.connections)

    def handshake(self, outcome: str) -> None:
        """A handshake has ended."""
        if outcome == "open":
            self._opened.inc()
        else:
            self._handshakes.labels(outcome).inc()

    def answer(self, status: int) -> None:
        """A request was answered."""
        self._answers.labels(str(status)).inc()


def health_routes(readiness: Readiness, registry: CollectorRegistry, metrics_for: MetricsFor) -> list[Route]:
    """``/healthz``, ``/readyz``, ``/metrics``."""

    def alive(call: ApiRequest) -> Response:
        """The process answers requests."""
        return Response(200, _TEXT, b"ok\n")

    async def ready(call: ApiRequest) -> Response:
        """The store commits, and the server is not stopping."""
        await readiness.check()
        return Response(200, _TEXT, b"ready\n")

    async def metrics(call: ApiRequest) -> Response:
        """The metrics, for Prometheus."""
        await _check_reader(call, metrics_for)
        headers = ((b"Content-Type", CONTENT_TYPE_LATEST.encode()), (b"Cache-Control", b"no-store"))
        return Response(200, headers, generate_latest(registry))

    routes = [
        Route(method=b"GET", path="/healthz", endpoint=alive),
        Route(method=b"GET", path="/readyz", endpoint=ready),
    ]
    if metrics_for != "off":
        routes.append(Route(method=b"GET", path="/metrics", endpoint=metrics))
    return routes


async def _check_reader(call: ApiRequest, metrics_for: MetricsFor) -> None:
    """This machine may read, except as a proxy; users with the right ``metrics`` always may."""
    client = call.client
    if metrics_for == "all":
        return
    if metrics_for == "loopback" and client.credential is None and call.from_this_machine():
        return
    if client.credential is not None and "metrics" in (await call.user()).rights:
        return
    raise Forbidden("metrics: only from this machine, or with a token that has the right metrics")


#: Requested every few seconds by machines, or at each word of somebody; logged at level debug.
_QUIET = frozenset({b"/healthz", b"/readyz", b"/metrics", LOGGED_PATH})


def observer(logger: Logger, count: Callable[[int], None]) -> Observe:
    """Logs one line for each answer and counts its status.

    Without the query, which may hold a guest's device, and without headers, which may hold a token.
    """

    def observe(method: bytes, path: bytes, status: int, size: int, address: str) -> None:
        count(status)
        logger.emit(
            LogLevel.debug if path in _QUIET and status < 500 else LogLevel.info,
            "{address} {method} {path} {status} {size}",
            address=address,
            method=method.decode("latin-1") or "-",
            path=path.decode("latin-1") or "-",
            status=status,
            size=size,
        )

    return observe
