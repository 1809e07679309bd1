"""Short stories, one module per module; real sockets only in ``test_live_*.py`` (a package, so that ``trial tests`` works, too)."""
