"""Reduces a stream of blocks with sgdm.compress in a fresh process: `streaming.py BLOCKS ROWS D ROUNDS`.

Prints as JSON the seconds of each pass for 1 and 2 threads, and by how many bytes the peak of memory exceeds the memory
before the first pass (None without /proc).
"""

import json
import re
import sys
from itertools import cycle, islice
from pathlib import Path
from time import perf_counter

import numpy as np

import sgdm

BLOCKS = 4  # different blocks in memory, used in turn: too large for the caches at 100 000 x 50


def main(count, rows, d, rounds):
    rng = np.random.default_rng(0)
    blocks = [(rng.standard_normal((rows, d)), rng.standard_normal(rows)) for _ in range(BLOCKS)]
    seconds = {1: [], 2: []}
    before = in_memory("VmRSS")
    for _ in range(rounds):
        for n_threads, passes in seconds.items():
            start = perf_counter()
            sgdm.compress(islice(cycle(blocks), count), n_threads=n_threads)
            passes.append(perf_counter() - start)
    growth = None if before is None else in_memory("VmHWM") - before
    print(json.dumps({"seconds": seconds, "growth": growth}))


def in_memory(field):
    """A field of /proc/self/status in bytes. getrusage would include the peak of the parent process."""
    status = Path("/proc/self/status")
    return int(re.search(rf"{field}:\s*(\d+) kB", status.read_text())[1]) * 1024 if status.exists() else None


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
