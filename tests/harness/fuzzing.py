"""``python -m tests.harness.fuzzing URL CASE…`` runs the Autobahn test-suite's cases by ``kosoku`` and prints the verdicts in JSON.

A process of its own, because kosoku brings a stand-in for parts of Autobahn, which works only where the real one is not imported.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys

import kosoku


async def run(url: str, cases: list[str]) -> list[dict[str, str]]:
    """Each case with its verdicts: on what was answered, and on how it was closed."""
    try:
        results = await kosoku.run_fuzzingclient(url, cases, concurrency=8)
    except kosoku.FailureError as failure:
        results = failure.results
    return [
        {
            "case": result.case_id,
            "behavior": result.behavior.value,
            "result": str(result.result),
            "behavior_close": result.behavior_close.value,
            "result_close": str(result.result_close),
        }
        for result in results
    ]


if __name__ == "__main__":
    print(json.dumps(asyncio.run(run(sys.argv[1], sys.argv[2:]))), flush=True)
    # Not by the interpreter's own end: kosoku's threads may still be at work, and abort the process when they meet it.
    os._exit(0)
