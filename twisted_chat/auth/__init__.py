"""Authenticators: from a credential to a user.  Each implements :class:`~twisted_chat.interfaces.Authenticator`."""
