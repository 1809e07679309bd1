"""The server: options become settings, and settings become a tree of services."""
