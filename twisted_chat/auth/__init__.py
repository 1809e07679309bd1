"""Ways to prove who one is; each is one module behind :class:`twisted_chat.users.Identity`."""
