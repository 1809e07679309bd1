"""A bot: ``python examples/bot.py [URL] [ROOM]``.  It answers ``!time`` and ``!count``, and marks with an emoji what it has counted.

It comes back by itself, and with ``--journal FILE`` it answers what was asked while it was away.
"""

import argparse
import time

from twisted.internet import defer, reactor, task

from twisted_chat import ChatClient, ClientRoom, Message


class Bot:
    """Answers in one room, one question after the other."""

    def __init__(self, client: ChatClient, room: str) -> None:
        self.client = client
        self.room: ClientRoom = client.room(room)
        self.counted = 0

    async def run(self) -> None:
        async for event in self.room:
            if isinstance(event, Message) and event.by.id != getattr(self.client.me, "id", None):
                await self.heard(event)

    async def heard(self, message: Message) -> None:
        self.counted += 1
        # The key makes one answer of it, even if we crash and are asked again.
        if message.text == "!time":
            await self.room.send(time.strftime("%H:%M"), reply_to=message.seq, key=f"answer-{message.id}")
        elif message.text == "!count":
            await self.room.react(message.seq, "👍", key=f"seen-{message.id}")
            await self.room.send(f"{self.counted} messages", reply_to=message.seq, key=f"answer-{message.id}")


async def main(clock: object) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("url", nargs="?", default="ws://127.0.0.1:8080")
    parser.add_argument("room", nargs="?", default="lobby")
    parser.add_argument("--journal")
    parser.add_argument("--token")
    options = parser.parse_args()
    client = ChatClient(reactor, options.url, name="bot", token=options.token, journal=options.journal)
    bot = Bot(client, options.room)
    client.startService()
    reactor.addSystemEventTrigger("before", "shutdown", client.stopService)
    await bot.run()


if __name__ == "__main__":
    task.react(lambda clock: defer.Deferred.fromCoroutine(main(clock)))
