"""Reductions against NumPy's loop, solvers, fits on the rows, and with threads and Dask: `pytest bench -k compress`."""

import json
import subprocess
import sys
from bisect import bisect_left
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import sgdm
from sgdm._reduction.reduce import reducing_is_faster

from .competitors import SOLVERS, available, numpy_loop
from .problems import EPOCHS_TIMED
from .rounds import GROUPS, alternate, compare, format_count, random_data

LR, MOMENTUM = 0.1, 0.8
EPOCHS = 1000
BUDGETS = (10, 100, EPOCHS)
TOLERANCE = 1e-12  # of the largest entry
SIZES = [(n, d) for n in (10_000, 100_000, 1_000_000) for d in (10, 50, 200)]
ROWS = 100_000  # in a block


def test_compress_is_direct():
    """Rows and reduction give the same trajectory, and the solvers the same optimum."""
    X, y = random_data(20_000, 50)
    reduced = sgdm.compress(X, y)
    on_rows, on_factor = (sgdm.fit(X, y, lr=LR, epochs=EPOCHS, method=method) for method in ("direct", "compress"))
    for field in ("loss", "grad", "step", "coef"):
        check_close(getattr(on_factor.history, field), getattr(on_rows.history, field), field)
    check_close(on_factor.coef, on_rows.coef, "coef")
    for name, solver in available(SOLVERS).items():
        check_close(solver(X, y), reduced.solve(), name)
    streamed = sgdm.compress(((X[i : i + 3000], y[i : i + 3000]) for i in range(0, len(X), 3000)), n_threads=2)
    check_close(streamed.R, reduced.R, "R")


def test_compress_whole_call(benchmark, tables):
    n, d = 1_000_000, 50
    X, y = random_data(n, d)
    fit = partial(sgdm.fit, X, y, lr=LR, momentum=MOMENTUM, epochs=EPOCHS)
    assert fit().method == "compress"
    solvers = available(SOLVERS)
    others = {name: partial(solver, X, y) for name, solver in solvers.items()}
    others["NumPy"] = partial(numpy_loop, X, y, LR, MOMENTUM, EPOCHS_TIMED)
    seconds = alternate(benchmark, fit, others, GROUPS, warm=False)
    if seconds is None:
        return
    seconds["NumPy"] *= EPOCHS / EPOCHS_TIMED
    ours = seconds.pop("sgdm")
    ratios = {name: compare(seconds[name], ours) for name in ("NumPy", *solvers)}
    info = {"problem": f"{format_count(n)} x {d}, {EPOCHS} epochs", "seconds": {"call": ours.min()}, "ratios": ratios}
    benchmark.extra_info.update(info)
    tables["compress"].append(info)


@pytest.mark.parametrize(("n", "d"), SIZES)
def test_compress_crossover(n, d, benchmark, tables):
    X, y = random_data(n, d)
    n_epochs = max(EPOCHS_TIMED, 5_000_000 // (n * d))
    reduced = sgdm.compress(X[: 10 * d], y[: 10 * d])  # epochs on it take as long as on the reduction of all rows
    others = {
        "direct": partial(sgdm.fit, X, y, lr=LR, epochs=n_epochs, method="direct"),
        "epochs": partial(reduced.fit, lr=LR, epochs=EPOCHS),
    }
    small = n * d < 10_000_000
    rounds = 10 * GROUPS if small else GROUPS
    seconds = alternate(benchmark, partial(sgdm.compress, X, y), others, rounds, warm=small)
    if seconds is None:
        return
    direct, on_factor, reduction = seconds["direct"] / n_epochs, seconds["epochs"] / EPOCHS, seconds["sgdm"]
    saved = direct.min() - on_factor.min()
    size = SimpleNamespace(n=n, p=d, k=1)
    most = 10**9  # epochs
    auto = 1 + bisect_left(range(1, most), True, key=lambda epochs: reducing_is_faster(size, epochs))
    info = {
        "problem": f"{format_count(n)} x {d}",
        "direct": direct.min(),
        "reduction": reduction.min(),
        "epochs": seconds["epochs"].min(),
        "ratios": {epochs: compare(epochs * direct, reduction + epochs * on_factor) for epochs in BUDGETS},
        "crossover": reduction.min() / saved if saved > 0 else None,
        "auto": auto if auto < most else None,
    }
    benchmark.extra_info.update(info)
    tables["crossover"].append(info)


def test_compress_stream(benchmark, tables):
    blocks, d = 10, 50
    script = Path(__file__).with_name("streaming.py")
    rounds = 1 if benchmark.disabled else 2 * GROUPS
    command = [sys.executable, script, *map(str, (blocks, ROWS, d, rounds))]
    run = partial(subprocess.run, command, stdout=subprocess.PIPE, check=True)
    measured = json.loads(benchmark.pedantic(run).stdout)
    if benchmark.disabled:
        return
    n, growth = blocks * ROWS, measured["growth"]
    one, two = (np.array(measured["seconds"][n_threads]) for n_threads in "12")
    notes = [] if growth is None else [f"peak memory +{growth / 1e6:.0f} MB"]
    for n_threads, seconds in (("", one), (", 2 threads", two)):
        info = {
            "problem": f"{format_count(n)} x {d} in blocks of {format_count(ROWS)}{n_threads}",
            "seconds": {"row": seconds.min() / n},
            "notes": [f"{n / seconds.min() / 1e6:.2f} million rows/s", *notes],
            "ratios": {"one thread": compare(one, seconds)} if n_threads else {},
        }
        benchmark.extra_info.update({f"stream{n_threads}": info})
        tables["compress"].append(info)


def test_compress_dask(benchmark, tables):
    for package in ("dask.array", "distributed"):
        pytest.importorskip(package, reason="needs dask[array,distributed]")
    n, d = 2_000_000, 50
    with ExitStack() as stack:
        sides = [stack.enter_context(Workers(count, n, d)) for count in (1, 2)]
        first, second = (side.compress() for side in sides)  # this also warms them up
        assert first == second
        one, two = (side.compress for side in sides)
        seconds = alternate(benchmark, two, {"one worker": one}, GROUPS, warm=False)
    if seconds is None:
        return
    ours = seconds.pop("sgdm")
    info = {
        "problem": f"{format_count(n)} x {d} on two Dask workers",
        "seconds": {"call": ours.min()},
        "notes": [f"{n / ours.min() / 1e6:.2f} million rows/s"],
        "ratios": {name: compare(theirs, ours) for name, theirs in seconds.items()},
    }
    benchmark.extra_info.update(info)
    tables["compress"].append(info)


class Workers:
    """A Dask cluster of processes of one thread each, and the random rows that they hold."""

    def __init__(self, count, n, d):
        self.count, self.shape = count, (n, d)

    def __enter__(self):
        import dask.array
        from distributed import Client, LocalCluster, wait

        n, d = self.shape
        self.cluster = LocalCluster(n_workers=self.count, threads_per_worker=1, dashboard_address=":0")
        self.client = Client(self.cluster, set_as_default=False)
        with self.client.as_current():
            rng = dask.array.random.default_rng(0)
            X = rng.standard_normal((n, d), chunks=(ROWS, d))
            self.data = dask.persist(X, X.sum(axis=1) + rng.standard_normal(n, chunks=ROWS))
            wait(self.data)
        return self

    def compress(self):
        with self.client.as_current():
            return sgdm.compress(*self.data)

    def __exit__(self, *_):
        self.client.close()
        self.cluster.close()


def check_close(got, expected, name):
    """Assert that two arrays agree to TOLERANCE times the largest entry."""
    np.testing.assert_allclose(got, expected, rtol=0, atol=TOLERANCE * np.abs(expected).max(), err_msg=name)
