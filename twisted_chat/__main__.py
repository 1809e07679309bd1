"""``python -m twisted_chat …`` is ``twistd -n chat …``."""

import sys

from twisted.scripts.twistd import run

if __name__ == "__main__":
    sys.argv = ["twistd", "-n", "chat", *sys.argv[1:]]
    run()
