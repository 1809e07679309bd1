"""The wiring: options become settings, settings become a tree of services."""
