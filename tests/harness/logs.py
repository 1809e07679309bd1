"""What is logged while a test runs."""

from __future__ import annotations

from twisted.logger import ILogObserver, LogEvent
from zope.interface import implementer


@implementer(ILogObserver)
class LoggedEvents(list[LogEvent]):
    """An observer that keeps the events: ``Logger(observer=logged)``."""

    def __call__(self, event: LogEvent) -> None:
        self.append(event)

    def at_least(self, level: object) -> list[LogEvent]:
        """Those of that level and above."""
        return [event for event in self if event["log_level"] >= level]
