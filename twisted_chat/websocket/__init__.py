"""The WebSocket edge: Autobahn's protocol with a fast path in front of it."""
