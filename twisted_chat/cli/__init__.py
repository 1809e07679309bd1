"""The command ``twisted-chat``: a person or a script at a shell (``docs/shell.rst``).

No other package imports it.  A verb either runs one client (``connect``; ``send``, ``tail``, ``talk``) or works on the store's file
with the server's settings (``admin``, ``transfer``, ``doctor``).
"""
