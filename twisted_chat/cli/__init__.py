"""The command ``twisted-chat``: a person or a script at a shell (``docs/shell.rst``).

It stands above the server's wiring, and nobody imports it: a verb is either one client (``connection``; ``sending``, ``tailing``,
``talking``) or works on the store's file with the server's own settings (``store``, ``doctor``).
"""
