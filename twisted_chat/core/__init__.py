"""What the chat does, in plain Python: no sockets, no SQL, no web, no reactor; a test drives it with a ``Clock``."""
