"""The stores: places where logs are kept.  Each module passes the store contract of :mod:`twisted_chat.interfaces`."""
