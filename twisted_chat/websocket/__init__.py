"""WebSockets: Autobahn's protocol with a fast path in front of it, and the link to a session."""
