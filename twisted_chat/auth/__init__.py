"""Authenticators: each is one module behind :class:`twisted_chat.interfaces.Authenticator`."""
