"""The hello of a rich client: who it is, what it can, and the welcome.

In:   a ``hello`` and the session that received it.
Out:  the session has its user, its device and its capabilities, and is welcomed; or the hello is refused and may be repeated.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, auto
from math import ceil

from msgspec import UNSET
from msgspec.structs import replace
from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.python.failure import Failure

from twisted_chat.core.answering import AnsweringSession
from twisted_chat.core.roles import known_now
from twisted_chat.core.session import SessionState
from twisted_chat.errors import BadRequest, Unauthenticated, as_chat_error
from twisted_chat.names import person_name
from twisted_chat.protocol.commands import Hello
from twisted_chat.protocol.replies import Me, SendRate, Welcome, WelcomeLimits
from twisted_chat.users import Credential, Source, User


class GreetingState(Enum):
    """How far the hello is."""

    NONE = auto()
    IN_PROGRESS = auto()  #: the user must be found out; commands wait
    WELCOMED = auto()


class Greeting:
    """The hello of one connection.

    :param answered: called when a hello has been answered, whether it was accepted or refused.
    :ivar deadline: the tick by which the client has to be welcomed.
    """

    __slots__ = ("_answered", "_session", "deadline", "state")

    def __init__(self, session: AnsweringSession, answered: Callable[[], None]) -> None:
        self._session = session
        self._answered = answered
        self.state = GreetingState.NONE
        self.deadline = session.core.timers.tick + max(1, ceil(session.core.limits.hello_seconds))

    def begin(self, command: Hello) -> None:
        """Find out who it is, then welcome it."""
        if self.state is not GreetingState.NONE:
            raise BadRequest("type: hello was said before")
        self.state = GreetingState.IN_PROGRESS
        session = self._session
        if command.token is not None:
            user = maybeDeferred(session.core.identify, Credential(command.token, Source.HELLO))
        else:
            user = maybeDeferred(self._guest_user, command.name, command.device)
        roles = session.core.roles
        user.addCallback(lambda found: found if found.guest else known_now(roles, found))
        greeted = user.addCallback(self._become, command).addCallback(self._welcome, command)
        greeted.addErrback(self._refuse, command)
        if self.state is GreetingState.IN_PROGRESS:
            session.connection.pause()
            greeted.addBoth(lambda _: session.connection.resume())

    def end(self) -> None:
        """The session is over: let go of it, so that both are freed at once; not while its user is being found out."""
        if self.state is not GreetingState.IN_PROGRESS:
            del self._session, self._answered

    def _guest_user(self, name: str | None, device: str | None) -> User:
        """Who a session without a token is: guests choose a name, others keep theirs."""
        user, make_guest = self._session.user, self._session.core.make_guest
        if not user.guest or make_guest is None or (name is None and device is None):
            return user
        if device is None:
            return user if name is None else replace(user, name=person_name(name), token_id=None)
        if name is None and not _is_named_by_id(user):
            name = user.name
        return make_guest(name, device)

    def _become(self, user: User, command: Hello) -> Deferred[dict[str, int]]:
        session = self._session
        if session.state is not SessionState.OPEN:
            # It left while its token was checked; entering it now would make a member that never leaves.
            return succeed({})
        session.core.sessions.change_user(session, user)
        session.batch = "batch" in command.capabilities
        session.device = command.device
        session.core.nodes.device_connected(session)
        return succeed({}) if user.fresh else session.core.notices.read_marks(user)

    def _welcome(self, marks: dict[str, int], command: Hello) -> None:
        session = self._session
        if session.state is not SessionState.OPEN:
            return
        self.state = GreetingState.WELCOMED
        session.accepted()
        # From here on the interval of pings counts, which may be shorter than the time for a hello.
        session.on_timer(session.core.timers.tick)
        core, limits = session.core, session.core.limits
        session.push(
            Welcome(
                id=UNSET if command.id is None else command.id,
                version=1,
                server=core.server,
                epoch=core.epoch,
                user=Me(id=session.user.id, name=session.user.name, guest=session.user.guest),
                ping_ms=round(limits.ping_seconds * 1000),
                limits=WelcomeLimits(
                    frame=limits.frame_bytes,
                    text=limits.text_bytes,
                    rooms=limits.rooms_per_connection,
                    history=limits.history,
                    send=SendRate(burst=limits.send_burst, per_second=max(0.0, limits.send_per_second)),
                ),
                read=marks,
            )
        )
        self._answered()

    def _refuse(self, failure: Failure, command: Hello) -> None:
        self.state = GreetingState.NONE
        session = self._session
        error = as_chat_error(failure, session.log, "greeting a client")
        session.refuse(command.id, error)
        if isinstance(error, Unauthenticated):
            session.end(error)
        # What waits is answered, too, or may be a better hello.
        self._answered()


def _is_named_by_id(user: User) -> bool:
    """Whether nobody chose the guest's name; the user of the device then has one by its own id, the same after each return."""
    return user.name.startswith("guest-") and user.id.endswith(user.name.removeprefix("guest-"))
