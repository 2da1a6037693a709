"""Streams rows through sgdm.compress in a process of its own: `streaming.py BLOCKS ROWS D ROUNDS`.

Prints, as JSON, the seconds of each pass by number of threads, and by how many bytes the peak of memory exceeds what
was in use before the first (None where there is no /proc).
"""

import json
import re
import sys
from itertools import cycle, islice
from pathlib import Path
from time import perf_counter

import numpy as np

import sgdm

HELD = 4  # blocks in memory, taken in turn: those of 100 000 x 50 are more than the caches hold


def main(count, rows, d, rounds):
    rng = np.random.default_rng(0)
    held = [(rng.standard_normal((rows, d)), rng.standard_normal(rows)) for _ in range(HELD)]
    seconds = {1: [], 2: []}
    before = in_memory("VmRSS")
    for _ in range(rounds):
        for n_threads, passes in seconds.items():
            start = perf_counter()
            sgdm.compress(islice(cycle(held), count), n_threads=n_threads)
            passes.append(perf_counter() - start)
    growth = None if before is None else in_memory("VmHWM") - before
    print(json.dumps({"seconds": seconds, "growth": growth}))


def in_memory(field):
    """A field of /proc/self/status in bytes; of a process started anew, unlike getrusage, which has the parent's."""
    status = Path("/proc/self/status")
    return int(re.search(rf"{field}:\s*(\d+) kB", status.read_text())[1]) * 1024 if status.exists() else None


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
