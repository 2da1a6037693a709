"""What the benchmarks share: random data, timing in alternating rounds, ratios of times, comparing trajectories."""

from itertools import cycle
from time import perf_counter

import numpy as np

NOTICED_NOISE = 0.1  # of the least time
TOLERANCE = 1000  # times eps and the largest entry; seen: 363 (Numba, 1 000 000 rows), in mini-batches 8
GROUPS = 5  # of successive rounds: the number of rounds is a multiple of it


def random_data(n, d, dtype=np.float64, order="C"):
    """Standard normal X in C or F order, and y, linear in X with standard normal noise; both aligned."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal(out=aligned((n, d) if order == "C" else (d, n), dtype), dtype=dtype)
    X = X if order == "C" else X.T
    y = np.dot(X, rng.standard_normal(d, dtype), out=aligned(n, dtype))
    y += rng.standard_normal(n, dtype)
    return X, y


def aligned(shape, dtype=np.float64):
    """An empty array that begins at a cache line. JAX copies others; NumPy and sgdm take up to 20 % longer on them."""
    line, size = 64, np.prod(shape) * np.dtype(dtype).itemsize
    memory = np.empty(size + line, np.uint8)
    start = -memory.ctypes.data % line
    return memory[start : start + size].view(dtype).reshape(shape)


def format_count(n):
    """A count as text. From 10 000 on, spaces separate the thousands."""
    return f"{n:,}".replace(",", " ") if n >= 10_000 else str(n)


def alternate(benchmark, fit, others, rounds, warm=True, slow=None):
    """Time one call of each of the `others` and of `fit` in each round. With `warm`, each is warmed up before its call.

    The `slow` ones have one call in each of the GROUPS, without a warm-up. Returns the seconds of all calls by name,
    with those of `fit`, which pytest-benchmark times, as "sgdm"; None if benchmarks are disabled.
    """
    slow = slow or {}
    seconds = {name: [] for name in slow | others}
    starts_group = cycle([True] + [False] * (rounds // GROUPS - 1))

    def time_the_others():
        for name, call in (slow | others if next(starts_group) else others).items():
            if warm and name not in slow:
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
    """Call a function for 2 ms: one call doesn't refill the caches (directly after torch 28 instead of 20 µs)."""
    end = perf_counter() + seconds
    while True:
        call()
        if perf_counter() > end:
            return


def noise(calls=200):
    """By how much the time of one and the same computation varies: the ninth decile of the calls over the least."""
    x = np.ones(4096)
    seconds = []
    for _ in range(calls):
        start = perf_counter()
        for _ in range(50):
            np.dot(x, x)
        seconds.append(perf_counter() - start)
    return np.quantile(seconds, 0.9) / min(seconds) - 1


def noise_warning():
    """What to say if the machine is too noisy for ratios of few percent; else nothing."""
    measured = noise()
    if measured <= NOTICED_NOISE:
        return ""
    return f" Beware: the same computation takes up to {measured:.0%} more time from call to call on this machine now."


def compare(numerator, denominator):
    """The ratio of the least times; and its spread, the least and the largest such ratio among the GROUPS of rounds."""
    by_group = numerator.reshape(GROUPS, -1).min(axis=1) / denominator.reshape(GROUPS, -1).min(axis=1)
    return {"ratio": numerator.min() / denominator.min(), "spread": [by_group.min(), by_group.max()]}


def check_same(theirs, ours, name):
    """Assert that two trajectories agree in all fields that both keep, to TOLERANCE."""
    for field in theirs._fields:
        expected, got = getattr(ours, field), getattr(theirs, field)
        if got is None:
            continue
        atol = TOLERANCE * np.finfo(expected.dtype).eps * np.abs(expected).max()
        np.testing.assert_allclose(got, expected, rtol=0, atol=atol, err_msg=f"{field} of {name} and of sgdm")
