"""``python -m tests.faults --kills 500``: the long way of ``tests/test_live_faults.py``."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from tests.faults.kills import Broken, run_story


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--kills", type=int, default=500, help="how often the server is killed (default: 500)")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="repeats the random choices of a run")
    parser.add_argument("--directory", type=Path, help="keeps the data here (default: a temporary directory)")
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    with tempfile.TemporaryDirectory() as temporary:
        try:
            story = run_story(options.directory or Path(temporary), options.kills, options.seed, progress=10)
        except Broken as broken:
            print(f"BROKEN: {broken}")
            return 1
    print(f"{story.kills} kills: {story.summary()}.  Each exactly once, in one order for all, no hole.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
