"""The problems that the benchmarks time, for sgdm against its competitors and against another sgdm."""

from functools import partial
from typing import NamedTuple

import numpy as np

import sgdm

from .rounds import format_count, random_data

SEED = 0


class Problem(NamedTuple):
    n: int
    d: int
    epochs: int
    rounds: int
    per: str = "epoch"
    dtype: type = np.float64
    order: str = "C"
    batch: int | None = None
    fits: int | None = None
    method: str = "direct"
    n_threads: int = 1
    solvers: bool = False  # whether to time the closed-form solvers too

    def __str__(self):
        parts = [f"{self.n}x{self.d}-{self.dtype.__name__}-{self.order}-order"]
        parts += [f"batch-{self.batch}"] * bool(self.batch) + [f"many-{self.fits}"] * bool(self.fits)
        parts += [f"{self.n_threads}-threads"] * (self.n_threads > 1) + [self.method] * (self.method != "direct")
        return "-".join(parts)

    @property
    def title(self):
        return "".join(
            [
                f"{format_count(self.fits)} fits of " if self.fits else "",
                f"{format_count(self.n)} x {self.d}",
                ", F-order" * (self.order == "F"),
                ", float32" * (self.dtype == np.float32),
                f", batches of {self.batch}" if self.batch else "",
                ", no momentum" * (self.batch == 1),
                f", {format_count(self.epochs)} epochs" * (self.per == "call"),
                f", {self.n_threads} threads" * (self.n_threads > 1),
            ]
        )

    @property
    def lr(self):
        return 1e-3 if self.batch else 0.1

    @property
    def momentum(self):
        return 0.0 if self.batch == 1 else 0.8  # scikit-learn's fits by single rows have none

    def data(self):
        """X (n, d) and y (n,); with `fits`, X (fits, n, d) and y (fits, n)."""
        X, y = random_data(self.n * (self.fits or 1), self.d, self.dtype, self.order)
        return (X.reshape(self.fits, self.n, self.d), y.reshape(self.fits, self.n)) if self.fits else (X, y)

    def ours(self, X, y, **changes):
        """sgdm's call, as a function without arguments. Defaults are left out, as an older sgdm lacks some options."""
        options = {"lr": self.lr, "momentum": self.momentum, "epochs": self.epochs}
        if self.fits:
            return partial(sgdm.fit_many, X, y, **options)
        if self.batch:
            options |= {"batch_size": self.batch, "seed": SEED, "record": "loss"}
        else:
            options |= {"method": self.method}
        if self.n_threads > 1:
            options |= {"n_threads": self.n_threads}
        return partial(sgdm.fit, X, y, **options | changes)


SIZES = [
    Problem(10_000, 20, 50, 100, solvers=True),
    Problem(1000, 1000, 50, 50, solvers=True),
    Problem(1_000_000, 50, 5, 10, solvers=True),
]
WIDE = Problem(2000, 2000, 10, 20)
VARIANTS = [{"order": "F"}, {"dtype": np.float32}]
PROBLEMS = [
    Problem(100, 2, 50, 300, per="call", solvers=True),
    *SIZES[:2],
    WIDE,
    *SIZES[2:],
    *(size._replace(**variant, solvers=False) for variant in VARIANTS for size in SIZES),
]
LARGE = 1_000_000  # elements of X: from here on two threads are timed too, and the closed-form solvers are slow
BATCH_PROBLEMS = [Problem(100_000, 50, 3, 10, batch=batch) for batch in (32, 1)]
N_FITS = 200  # of the many fits, the competitors do so many, one by one
MANY = Problem(100, 2, 50, 10, per="call", fits=10_000)
EPOCHS_TIMED = 5  # of the reduced problem's, NumPy's loop does so many
REDUCED = Problem(1_000_000, 50, 1000, 5, per="call", method="auto")
ALL_PROBLEMS = [
    *PROBLEMS,
    *(problem._replace(n_threads=2) for problem in (*SIZES[1:], WIDE)),
    *BATCH_PROBLEMS,
    MANY,
    REDUCED,
]
