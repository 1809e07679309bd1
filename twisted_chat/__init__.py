"""A chat and broadcast server on Twisted and Autobahn: a room is a log, a subscriber is a cursor.

The packages are layers, and imports point down only (``tests/test_layers.py`` holds it)::

    shell                                       wiring of the command line: one client, or the store's file
    service                                     wiring of the server: options -> settings -> tree of services
    ws  web  identity  stores  client           edges: the outside world, each apart from the others
    rules                                       what the chat does: hub, rooms, sessions, limits
    words                                       what is said: events, commands, errors, interfaces
"""

__version__ = "0.1.0"
