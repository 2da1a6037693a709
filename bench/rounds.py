"""What the suites share: data, calls timed in alternating rounds, and the ratios of their times."""

from itertools import cycle
from time import perf_counter

import numpy as np

GROUPS = 5  # of successive rounds, so rounds come in multiples of it


def draw(n, d, dtype=np.float64, order="C"):
    """Standard normal X in the order asked for, and y linear in it with standard normal noise; both aligned."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal(out=aligned((n, d) if order == "C" else (d, n), dtype), dtype=dtype)
    X = X if order == "C" else X.T
    y = np.dot(X, rng.standard_normal(d, dtype), out=aligned(n, dtype))
    y += rng.standard_normal(n, dtype)
    return X, y


def aligned(shape, dtype=np.float64):
    """An empty array that begins with a cache line: JAX copies others, and they cost NumPy and sgdm up to a fifth."""
    line, size = 64, np.prod(shape) * np.dtype(dtype).itemsize
    memory = np.empty(size + line, np.uint8)
    start = -memory.ctypes.data % line
    return memory[start : start + size].view(dtype).reshape(shape)


def grouped(n):
    """A count, its digits in threes where there are five or more."""
    return f"{n:,}".replace(",", " ") if n >= 10_000 else str(n)


def alternate(benchmark, fit, others, rounds, warm=True, seldom=None):
    """Times one call of each of the `others` and of `fit`, round after round; each is warmed up first if `warm`.

    Those of `seldom`, which take long, have one turn in each of the GROUPS and are not warmed up. Returns the seconds
    of each side's calls by name, those of `fit`, which pytest-benchmark times, as "sgdm". None if benchmarks are
    disabled.
    """
    seldom = seldom or {}
    seconds = {name: [] for name in seldom | others}
    starts_group = cycle([True] + [False] * (rounds // GROUPS - 1))

    def time_the_others():
        for name, call in (seldom | others if next(starts_group) else others).items():
            if warm and name not in seldom:
                warm_up(call)
            start = perf_counter()
            call()
            seconds[name].append(perf_counter() - start)
        if warm:
            warm_up(fit)

    if benchmark.disabled:
        benchmark.pedantic(fit)
        return None
    benchmark.pedantic(fit, setup=time_the_others, rounds=rounds)
    seconds["sgdm"] = benchmark.stats.stats.data
    return {name: np.array(calls) for name, calls in seconds.items()}


def warm_up(call, seconds=2e-3):
    """Calls it for a while: after one call of 20 µs the caches still belong to the side before (28 µs after torch)."""
    end = perf_counter() + seconds
    while True:
        call()
        if perf_counter() > end:
            return


def compare(above, below):
    """The ratio of the least times; and as its spread the least and the largest such ratio of the GROUPS of rounds."""
    of_groups = above.reshape(GROUPS, -1).min(axis=1) / below.reshape(GROUPS, -1).min(axis=1)
    return {"ratio": above.min() / below.min(), "spread": [of_groups.min(), of_groups.max()]}
