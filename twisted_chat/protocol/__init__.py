"""``chat.v1`` without I/O: commands, replies, and how both look on the wire."""
