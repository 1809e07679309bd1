"""Passwords: which ones are accepted, and their hashes (argon2id), made by few threads of low priority.

The rules are those of NIST SP 800-63B: a length, no common passwords, none that contains the name; and no rules of composition.
"""

from __future__ import annotations

import os
import sys
import unicodedata
from collections.abc import Callable
from threading import get_native_id, local
from typing import Protocol, TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import Argon2Error, InvalidHashError
from twisted.internet.defer import Deferred, fail
from twisted.python.failure import Failure

from twisted_chat.auth.common_passwords import is_common
from twisted_chat.errors import BadRequest, LimitReached
from twisted_chat.names import skeletons

T = TypeVar("T")

#: Characters (code points) of a password in its one form.
PASSWORD_MIN, PASSWORD_MAX = 8, 128
#: Characters that are looked at before normalization, which can make one character from several.
RAW_MAX = 512
#: Threads that hash; each needs 19 MiB while it does, and a core for some 40 ms.
THREADS = 2
#: Passwords that are being checked or wait for it; with two threads that is a wait of about a second.
QUEUE_MAX = 50
#: Milliseconds.
_RETRY_MS = 2_000
#: Characters of a name; shorter ones are in many good passwords by chance.
_NAME_MIN = 4
#: Added to the nice value of a thread that hashes, so that the reactor's thread comes first.
_NICE = 10

_thread = local()


class Runner(Protocol):
    """Calls functions in threads."""

    def run(self, work: Callable[[], object]) -> None:
        """Call it soon, elsewhere; it does not raise."""

    def finish(self) -> None:
        """Call the functions that were given before, and end."""


class CallInReactor(Protocol):
    """``reactor.callFromThread``."""

    def __call__(self, callable: Callable[..., object], /, *args: object) -> object: ...


def normal(password: str, field: str = "password") -> str:
    """The password in its one form (NFKC), so that it is the same whatever the keyboard; ``BadRequest`` if it is too long for it."""
    if len(password) > RAW_MAX:
        raise BadRequest(f"{field}: at most {PASSWORD_MAX} characters, this has {len(password)}")
    try:
        password.encode()
    except UnicodeEncodeError:
        raise BadRequest(f"{field}: must be text") from None
    return unicodedata.normalize("NFKC", password)


def check_password(password: str, name: str, field: str = "password") -> None:
    """Raise ``BadRequest`` if somebody called ``name`` should not have this password."""
    normalized = normal(password, field)
    if not PASSWORD_MIN <= len(normalized) <= PASSWORD_MAX:
        raise BadRequest(f"{field}: {PASSWORD_MIN} to {PASSWORD_MAX} characters, this has {len(normalized)}")
    if is_common(normalized):
        raise BadRequest(f"{field}: too common; others would guess it")
    looks = skeletons(normalized)
    for part in (name, *name.split(" ")):
        if len(part) >= _NAME_MIN and any(own in look for own in skeletons(part) for look in looks):
            raise BadRequest(f"{field}: must not contain the name")


class Argon2Passwords:
    """Hashes passwords in the threads of ``make_runner``, which is called when the first one comes.

    :ivar hashed: how many have been hashed or compared, for tests and metrics.
    """

    def __init__(
        self, make_runner: Callable[[], Runner], call_in_reactor: CallInReactor, hasher: PasswordHasher | None = None
    ) -> None:
        self._make_runner = make_runner
        self._runner: Runner | None = None
        self._call_in_reactor = call_in_reactor
        # OWASP's first choice for argon2id: 19 MiB, two passes, one lane.
        self._hasher = hasher or PasswordHasher(time_cost=2, memory_cost=19_456, parallelism=1)
        self._dummy = ""
        self._waiting = 0
        self.hashed = 0

    def check(self, password: str, name: str, field: str = "password") -> None:
        check_password(password, name, field)

    def hash(self, password: str) -> Deferred[str]:
        return self._do(lambda: self._hasher.hash(normal(password)))

    def verify(self, password: str, kept: str) -> Deferred[bool]:
        return self._do(lambda: self._matches(password, kept))

    def finish(self) -> None:
        """End the threads."""
        runner, self._runner = self._runner, None
        if runner is not None:
            runner.finish()

    def _matches(self, password: str, kept: str) -> bool:
        if not kept and not self._dummy:
            self._dummy = self._hasher.hash("nobody has this password")
        try:
            matches = self._hasher.verify(kept or self._dummy, normal(password))
        except (Argon2Error, InvalidHashError):
            return False
        return matches and bool(kept)

    def _do(self, work: Callable[[], T]) -> Deferred[T]:
        if self._waiting >= QUEUE_MAX:
            return fail(LimitReached("password: too many are being checked now", retry_after_ms=_RETRY_MS))
        if self._runner is None:
            self._runner = self._make_runner()
        self._waiting += 1
        answer: Deferred[T] = Deferred()

        def run() -> None:
            _lower_priority()
            try:
                result = work()
            except BaseException:
                self._call_in_reactor(self._done, answer.errback, Failure())
            else:
                self._call_in_reactor(self._done, answer.callback, result)

        self._runner.run(run)
        return answer

    def _done(self, tell: Callable[[object], None], result: object) -> None:
        self._waiting -= 1
        self.hashed += 1
        tell(result)


def _lower_priority() -> None:
    """Let the operating system prefer other threads to this one, where it can; never the main thread."""
    if getattr(_thread, "lowered", False):
        return
    _thread.lowered = True
    if sys.platform == "linux" and get_native_id() != os.getpid():
        try:
            os.setpriority(os.PRIO_PROCESS, get_native_id(), _NICE)
        except OSError:
            pass  # it is only a preference
