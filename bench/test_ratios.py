"""sgdm.fit against its competitors, full-batch and with mini-batches: `pytest bench`, or a part of it with -k."""

from functools import partial
from typing import NamedTuple

import numpy as np
import pytest

import sgdm

from .competitors import BATCH_COMPETITORS, COMPETITORS, LONGEST, ROW_COMPETITORS, Descent, installed
from .rounds import alternate, compare, draw, grouped

LR, MOMENTUM = 0.1, 0.8
BATCH_LR, SEED = 1e-3, 0
TOLERANCE = 1000  # eps, times the largest entry of a history; the most seen is 233 (torch, 1 000 000 rows); batches: 8


class Problem(NamedTuple):
    n: int
    d: int
    epochs: int
    rounds: int
    per: str = "epoch"
    dtype: type = np.float64
    order: str = "C"
    batch: int | None = None

    def __str__(self):
        batch = f"-batch-{self.batch}" if self.batch else ""
        return f"{self.n}x{self.d}-{self.dtype.__name__}-{self.order}-order{batch}"

    @property
    def title(self):
        variant = ", F-order" * (self.order == "F") + ", float32" * (self.dtype == np.float32)
        whole = f", {self.epochs} epochs" * (self.per == "call")
        variant += f", batches of {self.batch}" if self.batch else ""
        variant += ", no momentum" * (self.batch == 1)
        return f"{grouped(self.n)} x {self.d}{variant}{whole}"

    def data(self):
        return draw(self.n, self.d, self.dtype, self.order)


SIZES = [Problem(10_000, 20, 50, 100), Problem(1000, 1000, 50, 50), Problem(1_000_000, 50, 5, 10)]
PROBLEMS = [
    Problem(100, 2, 50, 300, per="call"),
    *SIZES,
    *(size._replace(order="F") for size in SIZES),
    *(size._replace(dtype=np.float32) for size in SIZES),
]
BATCH_PROBLEMS = [Problem(100_000, 50, 5, 10, batch=batch) for batch in (32, 1)]


@pytest.mark.parametrize("problem", PROBLEMS, ids=str)
def test_direct(problem, benchmark, table):
    X, y = problem.data()
    fit = partial(sgdm_loop, X, y, LR, MOMENTUM, problem.epochs)
    others = {
        name: partial(loop, X, y, LR, MOMENTUM, problem.epochs) for name, loop in COMPETITORS.items() if installed(name)
    }
    for name, loop in others.items():
        check_same(loop(), fit(), name)
    flat = X.ravel(order="K")  # a view
    reading = partial(np.dot, flat, flat)

    seconds = alternate(benchmark, fit, {**others, "reading": reading}, problem.rounds)
    if seconds is None:  # --benchmark-disable: the check was all
        return
    ours, limit = seconds.pop("sgdm"), seconds.pop("reading")
    count = problem.epochs if problem.per == "epoch" else 1
    info = {
        "problem": problem.title,
        "seconds": {problem.per: ours.min() / count},
        "ratios": {name: compare(theirs, ours) for name, theirs in seconds.items()},
        "reading_limit": compare(ours / count, limit) if problem.per == "epoch" else None,
    }
    benchmark.extra_info.update(info)
    table.append(info)


@pytest.mark.parametrize("problem", BATCH_PROBLEMS, ids=str)
def test_batches(problem, benchmark, table):
    X, y = problem.data()
    momentum = MOMENTUM if problem.batch > 1 else 0.0  # scikit-learn has none
    options = {"lr": BATCH_LR, "momentum": momentum, "epochs": problem.epochs, "batch": problem.batch, "seed": SEED}
    fit = partial(sgdm_batches, X, y, **options)
    others, rows = {}, {"sgdm": problem.n}
    for name, loop in (BATCH_COMPETITORS if problem.batch > 1 else ROW_COMPETITORS).items():
        if not installed(name):
            continue
        shares_order = name in BATCH_COMPETITORS
        rows[name] = min(problem.n, LONGEST * problem.batch) if shares_order else problem.n
        data = X[: rows[name]], y[: rows[name]]
        checked = options if shares_order else options | {"seed": None}
        check_same(loop(*data, **checked), sgdm_batches(*data, **checked), name)
        others[name] = partial(loop, *data, **options)

    seconds = alternate(benchmark, fit, others, problem.rounds)
    if seconds is None:
        return
    per_row = {name: calls / (rows[name] * problem.epochs) for name, calls in seconds.items()}
    ours = per_row.pop("sgdm")
    info = {
        "problem": problem.title,
        "seconds": {"epoch": ours.min() * problem.n, "row": ours.min()},
        "ratios": {name: compare(theirs, ours) for name, theirs in per_row.items()},
        "reading_limit": None,
    }
    benchmark.extra_info.update(info)
    table.append(info)


def sgdm_loop(X, y, lr, momentum, epochs):
    """sgdm.fit, called as the competitors are."""
    return sgdm.fit(X, y, lr=lr, momentum=momentum, epochs=epochs).history


def sgdm_batches(X, y, lr, momentum, epochs, batch, seed):
    """sgdm.fit, called as the competitors with mini-batches are; rows in their own order if `seed` is None."""
    shuffle = seed is not None
    given = {"lr": lr, "momentum": momentum, "epochs": epochs, "batch_size": batch, "shuffle": shuffle, "seed": seed}
    result = sgdm.fit(X, y, **given, record="loss")
    return Descent(result.history.loss, result.coef)


def check_same(theirs, ours, name):
    """Asserts that two trajectories agree to TOLERANCE in what they keep."""
    for field in theirs._fields:
        expected, got = getattr(ours, field), getattr(theirs, field)
        if got is None:
            continue
        atol = TOLERANCE * np.finfo(expected.dtype).eps * np.abs(expected).max()
        np.testing.assert_allclose(got, expected, rtol=0, atol=atol, err_msg=f"{field} of {name} and of sgdm")
