"""A bridge: what is said in a room of one server is said in a room of another, and the other way round.

``python examples/bridge.py ws://one:8080/ lobby ws://two:8080/ lobby --state DIRECTORY``.  Each message gets a key made of the event that
it comes from, and the journals keep how far was read; so each arrives once, in order, whatever breaks or is restarted.
"""

import argparse
import os

from twisted.internet import defer, reactor, task

from twisted_chat import ChatClient, ClientRoom, Message


def carry(source: ClientRoom, me: ChatClient, target: ClientRoom) -> None:
    """From one room to another."""

    def said(message: Message) -> object:
        if me.me is not None and message.by.id == me.me.id:
            return None  # we said it ourselves: it comes from the other side
        # Until this has been acknowledged, the journal does not say that the message has been dealt with.
        return target.send(f"{message.by.name}: {message.text}", key=f"bridge-{message.id}")

    source.on(Message, said)


def bridge(one: ChatClient, room_one: str, two: ChatClient, room_two: str) -> None:
    """Both ways."""
    carry(one.room(room_one), one, two.room(room_two))
    carry(two.room(room_two), two, one.room(room_one))


async def main(clock: object) -> None:
    parser = argparse.ArgumentParser()
    for name in ("url_one", "room_one", "url_two", "room_two"):
        parser.add_argument(name)
    parser.add_argument("--state", default=".")
    options = parser.parse_args()
    one, two = (
        ChatClient(reactor, url, name="bridge", journal=os.path.join(options.state, f"bridge-{side}.journal"))
        for side, url in (("one", options.url_one), ("two", options.url_two))
    )
    bridge(one, options.room_one, two, options.room_two)
    for client in (one, two):
        client.startService()
        reactor.addSystemEventTrigger("before", "shutdown", client.stopService)
    await defer.Deferred()


if __name__ == "__main__":
    task.react(lambda clock: defer.Deferred.fromCoroutine(main(clock)))
