"""Connections that cannot be accepted: one line for the operator, and none of Twisted's."""

from __future__ import annotations

import errno
import io
import resource
import socket
from typing import Any

from twisted.internet import tcp, unix
from twisted.internet.tcp import _accept, _FileDescriptorReservation
from twisted.logger import FilteringLogObserver, Logger
from twisted.trial.unittest import SynchronousTestCase

from tests.harness.logs import LoggedEvents
from twisted_chat.server.descriptors import SAY_SECONDS, AcceptTrouble


class FailingSocket:
    """A listening socket that cannot accept: the errors in their order, and then nobody waits."""

    def __init__(self, *errors: int) -> None:
        self._errors = [*errors, errno.EAGAIN]

    def accept(self) -> tuple[socket.socket, Any]:
        error = self._errors.pop(0)
        raise OSError(error, "no")


class AcceptTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.now = 1_000.0
        self.seen, self.said = LoggedEvents(), LoggedEvents()
        self.patch(AcceptTrouble, "log", Logger(observer=self.said))
        self.filtered = FilteringLogObserver(self.seen, [AcceptTrouble(lambda: self.now)])

    def accept(self, *errors: int, port: Any = tcp.Port) -> None:
        """A port of Twisted tries to accept; what it logs goes through the filter."""
        loose: Any = FailingSocket(*errors)
        logger = Logger(port._logger.namespace, observer=self.filtered)
        self.patch(_FileDescriptorReservation, "_log", Logger(_FileDescriptorReservation._log.namespace, observer=self.filtered))
        reserve = _FileDescriptorReservation(io.BytesIO)
        reserve.reserve()
        self.assertEqual(list(_accept(logger, range(5), loose, reserve)), [])

    def test_out_of_descriptors(self) -> None:
        """Cause, limits and cure in one line, however often it happens within a minute, on ports of both kinds."""
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)

        for port in (tcp.Port, unix.Port, tcp.Port):
            self.accept(errno.EMFILE, errno.EMFILE, port=port)

        self.assertEqual(self.seen, [])
        (event,) = self.said
        self.assertEqual((event["soft"], event["hard"]), (str(soft), str(hard)))
        self.assertIn("LimitNOFILE", event["log_format"])

        self.now += SAY_SECONDS
        self.accept(errno.EMFILE)

        self.assertEqual(len(self.said), 2)

    def test_no_descriptor_in_reserve(self) -> None:
        """The reserve that is lost, too, adds no traceback."""

        def refuse() -> Any:
            raise OSError(errno.EMFILE, "too many")

        self.patch(_FileDescriptorReservation, "_log", Logger(_FileDescriptorReservation._log.namespace, observer=self.filtered))
        _FileDescriptorReservation(refuse).reserve()

        self.assertEqual((len(self.seen), len(self.said)), (0, 1))

    def test_other_causes(self) -> None:
        """The system's own limits have other cures."""
        for error, cure in ((errno.ENFILE, "fs.file-max"), (errno.ENOBUFS, "memory"), (errno.ENOMEM, "memory")):
            self.accept(error)
            self.assertIn(cure, self.said[-1]["cure"])

        self.assertEqual((len(self.seen), len(self.said)), (0, 3))

    def test_everything_else_is_logged(self) -> None:
        """A client that has gone before it was accepted, and whatever others log, is shown as it is."""
        self.accept(errno.ECONNABORTED)
        Logger("twisted.web.http", observer=self.filtered).info("EMFILE is somebody's text")

        self.assertEqual((len(self.seen), len(self.said)), (2, 0))
