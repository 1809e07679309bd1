"""A checker in the manner of Jepsen: clients write and read while a nemesis breaks what it can; then everything is compared.

``python -m tests.jepsen`` runs it and prints a report; ``tests/test_live_jepsen.py`` is the same as a test.

* ``proxy``: between clients and server; cuts, swallows, and loses what the server says.
* ``writer``, ``reader``: programs with the project's client; ``raw``: the same with ``websockets``, which knows nothing of ours.
* ``nemesis``: the faults.  * ``checking``: what must hold afterwards.
"""
