"""The version, in a module of its own: the front door imports nothing, and everybody may import this."""

__version__ = "0.1.0"
