"""Stores for the logs of rooms.  Each implements the store contract of :mod:`twisted_chat.store_contract`."""
