"""Hurting a running server and counting what is left: ``python -m tests.faults --kills 500``."""
