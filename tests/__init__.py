"""Test modules, one for each module of the code; real sockets only in ``test_live_*.py``; ``harness`` has what they share."""
