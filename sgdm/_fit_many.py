"""fit_many(): many fits in one call."""

from __future__ import annotations

import warnings
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Literal

import numpy as np

from ._descent.descent import PARAMETER_COST, SLICE_ELEMENTS, UPDATE_COST, as_dtype, too_large
from ._kernel import OUTCOMES, ManyOptions, Problems, Record, States, advance_many, losses_many
from ._results.result import Checkpoint, ConvergenceWarning, FitResult, History
from ._validation import (
    as_count,
    as_flag,
    as_number,
    as_real,
    as_record,
    as_series,
    as_weights,
    cast,
    check_finite,
    in_place,
    names_of,
    ndim_of,
    pass_on,
)
from ._workers import with_threads

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


def fit_many(
    X: ArrayLike,
    y: ArrayLike,
    *,
    lr: float | ArrayLike = 0.1,
    momentum: float | ArrayLike = 0.8,
    epochs: int = 50,
    dampening: float | ArrayLike | None = None,
    nesterov: bool = False,
    weight_decay: float | ArrayLike = 0.0,
    l1: float | ArrayLike = 0.0,
    fit_intercept: bool = False,
    sample_weight: ArrayLike | None = None,
    coef0: ArrayLike | None = None,
    tol: float | None = None,
    record: Literal["all", "loss"] | None = "all",
    record_every: int = 1,
    n_threads: int = 1,
) -> FitResult:
    """Many fits in one call: a sweep over constants, bootstrap samples, a regression per group.

    Each fit is bit-identical to ``fit(..., method="direct")`` on its data and constants. What all fits share is given
    once.

    Parameters
    ----------
    X : array of shape (B, n, d), or (n, d) for all
        The design matrices. (B, n, d) in C order and (n, d) in C or F order are read in place.
    y : array of shape (B, n), or (n,) for all where X is (n, d)
        The targets, one for each fit.
    lr, momentum, weight_decay, l1 : float or array of shape (B,)
        As for `fit`, without schedules.
    dampening : float or array of shape (B,), optional
        None stands for `momentum`.
    epochs : int, default 50
        How many epochs each fit does.
    nesterov, fit_intercept : bool, default False
        As for `fit`.
    sample_weight : array of shape (n,) or (B, n), optional
        Weights, none negative. A bootstrap sample is how often each row was drawn; fits of fewer rows than n have
        rows of weight 0.
    coef0 : array of shape (p,) or (B, p), optional
        Where to start; zeros by default.
    tol : float, optional
        A fit stops after the epoch in which its gradient's norm is at most tol times its norm at the first.
    record : {"all", "loss", None}, default "all"
        What the histories keep.
    record_every : int, default 1
        Keep epochs 0, k, 2 k, ...
    n_threads : int, default 1
        How many threads share the fits. The bits don't depend on it.

    Returns
    -------
    FitResult
        Its arrays lead with an axis of B: coef (B, d), history.loss (B, epochs). ``status`` and ``epochs`` are arrays
        too: a fit that diverges disturbs no other; it has status ``diverged``, the epochs before that, and NaN in the
        rows after them. ``result[i]`` is fit i as `fit` returns it.

    Raises
    ------
    ValueError, TypeError
        If an argument is not what it should be, or arrays disagree about B.
    MemoryError
        If the histories can't be allocated.
    KeyboardInterrupt
        On Ctrl-C, with the epochs done until then as its ``result``; the fits cut short have status ``stopped``.

    Warns
    -----
    ConvergenceWarning
        If fits end above where they began.

    Examples
    --------
    >>> import numpy as np, sgdm
    >>> X = np.column_stack([np.ones(20), np.linspace(-1, 1, 20)])
    >>> sweep = sgdm.fit_many(X, X @ [1.0, 2.0], lr=[0.01, 0.1, 0.5, 1e5], epochs=50)
    >>> sweep.coef[:3].round(2).tolist(), sweep.status.tolist()
    ([[0.67, 0.63], [1.0, 2.01], [0.99, 2.0]], ['completed', 'completed', 'completed', 'diverged'])
    >>> sweep[1].history.loss[:3].round(3)
    array([2.474, 1.905, 1.444])
    """
    if as_record(record) == "updates":
        raise ValueError("record must be 'all', 'loss' or None here, got 'updates'; an epoch of these is one update")
    lines, by_columns, targets = as_stacks(X, y)
    weights, totals = as_all_weights(sample_weight, targets)
    problems = Problems(lines, by_columns, targets, weights, totals, as_flag(fit_intercept, "fit_intercept"))
    start = None if coef0 is None else as_starts(coef0, problems.one.p, targets.dtype)
    constants = {"lr": lr, "momentum": momentum, "dampening": dampening, "weight_decay": weight_decay, "l1": l1}
    count = count_fits({"X": lines, "y": targets, "sample_weight": weights, "coef0": start}, constants)
    fits = Fits(
        problems,
        ManyOptions(
            *as_rates_and_penalties(count, **constants),
            as_count(epochs, "epochs"),
            as_flag(nesterov, "nesterov"),
            -1.0 if tol is None else as_number(tol, "tol"),
        ),
        start,
        record,
        as_count(record_every, "record_every"),
        names_of(X),
    )
    try:
        fits.advance(as_count(n_threads, "n_threads"))
        result = fits.result()
        if message := fits.rise(result):
            warnings.warn(message, ConvergenceWarning, stacklevel=2)
        return result
    except BaseException as stop:
        with suppress(AttributeError):  # of exceptions that take no attributes
            stop.result = fits.result()  # type: ignore[attr-defined]
        raise


_DIVERGED = OUTCOMES.index("diverged")


def as_stacks(X, y):
    """X and y as the kernel reads them, (B, n, d) or (B, d, n) and (B, n), B being 1 for what is shared; whether it
    reads columns."""
    given, X, y = X, as_real(X, "X"), as_real(y, "y")
    if X.ndim not in (2, 3) or X.size == 0:
        raise ValueError(f"X must have shape (fits, rows, columns), or (rows, columns) for all, got {X.shape}")
    shape = (*X.shape[:-2], X.shape[-2])
    if y.shape[-1:] != shape[-1:] or y.ndim not in (X.ndim - 1, 2) or y.size == 0:
        expected = f"(fits, {shape[-1]}) or ({shape[-1]},)" if X.ndim == 2 else str(shape)
        raise ValueError(f"y must have shape {expected} for X of shape {X.shape}, got {y.shape}")
    dtype = X.dtype if X.dtype == y.dtype else np.dtype(np.float64)
    layout = (X if X.ndim == 2 else as_real(given[0], "X")).flags  # as `fit` finds it
    by_columns = layout.f_contiguous and not layout.c_contiguous
    X = in_place(X.swapaxes(-1, -2) if by_columns else X, dtype)
    y = in_place(y, dtype)
    return X.reshape(-1, *X.shape[-2:]), by_columns, y.reshape(-1, y.shape[-1])


def as_all_weights(sample_weight, targets):
    """The weights, (1, n) or (B, n), or None; and their sums, (1,) or (B,)."""
    n = targets.shape[1]
    if sample_weight is None:
        return None, np.array([float(n)])
    array = as_real(sample_weight, "sample_weight")
    array = array[np.newaxis] if array.ndim == 1 else array
    if array.ndim != 2 or len(array) == 0:
        raise ValueError(f"sample_weight must have shape ({n},) or (fits, {n}), got shape {array.shape}")
    pairs = [
        as_weights(weights, n, targets.dtype, name=f"sample_weight of fit {i}" if len(array) > 1 else "sample_weight")
        for i, weights in enumerate(array)
    ]
    return np.stack([weights for weights, _ in pairs]), np.array([total for _, total in pairs])


def as_starts(coef0, p, dtype):
    """Where to start, (1, p) or (B, p)."""
    start = as_real(coef0, "coef0")
    if start.ndim not in (1, 2) or start.shape[-1] != p or start.size == 0:
        raise ValueError(f"coef0 must have shape ({p},) or (fits, {p}), got {start.shape}")
    start = cast(start, dtype)
    check_finite(start, "coef0", ("fit", "parameter")[-start.ndim :])
    return start.reshape(-1, p)


def count_fits(arrays, constants):
    """How many fits there are, as all that comes once for each of them must agree."""
    counts = {name: len(array) for name, array in arrays.items() if array is not None and len(array) > 1}
    counts |= {name: len(value) for name, value in constants.items() if ndim_of(value, name) == 1}
    if len(set(counts.values())) > 1:
        got = ", ".join(f"{count} of {name}" for name, count in counts.items())
        raise ValueError(f"arguments with one value per fit must agree on the number of fits, got {got}")
    if 0 in counts.values():
        name = next(iter(counts))
        raise ValueError(f"{name} must be a number, or one value for each of the fits, got shape (0,)")
    return next(iter(counts.values()), 1)


def as_rates_and_penalties(count, lr, momentum, dampening, weight_decay, l1):
    """lr, momentum and 1 - dampening, (B, 3), and weight_decay and l1, (B, 2)."""
    rates, penalties = np.empty((count, 3)), np.empty((count, 2))
    rates[:, 0] = as_series(lr, "lr", count, "fits")
    rates[:, 1] = as_series(momentum, "momentum", count, "fits", high=1, below=True)
    rates[:, 2] = 1 - (rates[:, 1] if dampening is None else as_series(dampening, "dampening", count, "fits", high=1))
    penalties[:, 0] = as_series(weight_decay, "weight_decay", count, "fits")
    penalties[:, 1] = as_series(l1, "l1", count, "fits")
    return rates, penalties


class Fits:
    """Fits under way. start: (B or 1, p), or None for zeros."""

    def __init__(self, problems, options, start, record, record_every, names):
        self.problems, self.options, self.kept, self.feature_names = problems, options, record, names
        count, p, dtype = len(options.rates), problems.one.p, problems.lines.dtype
        rows = -(-options.epochs // record_every)
        parameters = np.zeros((count, 2, p), dtype)
        if start is not None:
            parameters[:, 0] = start
        self.states = States(parameters)
        self.over = False  # set to stop all threads
        loss = paths = None
        try:
            if record is not None:
                loss = np.empty((count, rows), dtype)
            if record == "all":
                paths = np.empty((3, count, rows, p), dtype)
        except (MemoryError, ValueError) as error:
            pass_on(error)
            raise too_large(count * rows, 1 + 3 * p * (record == "all"), dtype, record) from None
        self.record = Record(loss, None, paths, record_every)

    def advance(self, n_threads):
        """Does all epochs of all fits, a slice at a time, so that Python sees signals in between."""
        problem, total, count = self.problems.one, self.options.epochs, len(self.states.epochs)
        cost = problem.n * problem.d + UPDATE_COST + PARAMETER_COST * problem.p
        epochs = max(1, min(total, SLICE_ELEMENTS // cost))  # of a slice
        size = max(1, min(SLICE_ELEMENTS // (cost * total), -(-count // (8 * n_threads))))  # fits of a slice
        threads = min(n_threads, -(-count // size))
        slices = deque([*range(0, count, size), *[None] * threads])  # popleft is one step, whoever is interrupted

        def work():
            while (first := slices.popleft()) is not None and not self.over:
                self._advance(first, min(first + size, count), epochs)

        def lead(start):
            for _ in range(threads - 1):
                start(work)
            work()

        with_threads(lead, self._stop)
        if ((self.states.outcomes == _DIVERGED) & (self.states.epochs == 0)).any():
            self._refuse_nonfinite()

    def _stop(self):
        self.over = True

    def _advance(self, first, last, epochs):
        """Does all epochs of fits `first` to `last`, unless it is over before."""
        while not self.over and (self.states.outcomes[first:last] < 0).any():
            advance_many(self.problems, self.options, self.states, self.record, first, last, epochs)

    def _refuse_nonfinite(self):
        """Raises ValueError if X or y holds NaN or infinity."""
        X, y = self.problems.lines, self.problems.targets
        X = X.swapaxes(1, 2) if self.problems.by_columns else X
        for array, name, axes in ((X, "X", ("fit", "row", "column")), (y, "y", ("fit", "row"))):
            shared = len(array) == 1
            check_finite(array[0] if shared else array, name, axes[shared:])

    @np.errstate(all="ignore")
    def rise(self, result):
        """What to warn of when objectives ended above their start; None if it is all rounding, at an exact fit."""
        penalties, start, coef = self.options.penalties, self.states.metrics[:, 0], np.abs(result.coef.astype(float))
        end = result.loss + (penalties[:, :1] / 2 * coef**2 + penalties[:, 1:] * coef).sum(axis=1)
        y = self.problems.targets
        eps = np.finfo(y.dtype).eps
        floor = 1000 * eps * np.abs(y).max(axis=1).astype(float)
        rose = (end > start * (1 + 1000 * eps)) & (np.sqrt(end) > floor)
        rose &= self.states.outcomes == OUTCOMES.index("completed")
        if not rose.any():
            return None
        i = int(np.argmax(rose))
        return (
            f"the objectives of {rose.sum()} of {len(rose)} fits rose, the first that of fit {i}, from {start[i]:g} to "
            f"{end[i]:g} in {self.options.epochs} epochs with lr={self.options.rates[i, 0]:g}; use a smaller lr there"
        )

    def result(self):
        """The result of the epochs done so far. It takes over the arrays."""
        problem, states, record, rates = self.problems.one, self.states, self.record, self.options.rates
        coef, velocity = states.parameters.swapaxes(0, 1)
        status = np.array([*OUTCOMES, "stopped"])[states.outcomes]
        epoch = np.arange(0, 0 if self.kept is None else self.options.epochs, record.every)
        unwritten = epoch >= states.epochs[:, np.newaxis]
        if unwritten.any():
            record.loss[unwritten] = np.nan
            if record.paths is not None:
                record.paths[:, unwritten] = np.nan
        grad, step, path = (None, None, None) if record.paths is None else record.paths
        count = len(status)
        loss = np.empty(count)
        losses_many(self.problems, states.parameters, loss)
        return FitResult(
            coef=coef[:, : problem.d].copy(),
            intercept=coef[:, problem.d].copy() if problem.fit_intercept else np.zeros(count, coef.dtype),
            velocity=velocity.copy(),
            loss=as_dtype(loss, coef.dtype),
            epochs=states.epochs,
            status=status,
            history=History(
                epoch=epoch,
                loss=record.loss,
                grad=grad,
                step=step,
                coef=path,
                val_loss=None,
            ),
            best_epoch=None,
            average_coef=None,
            average_intercept=None,
            lr=rates[:, 0],
            momentum=rates[:, 1],
            dampening=1 - rates[:, 2],
            method="direct",
            optimal_loss=None,
            feature_names=self.feature_names,
            checkpoint=Checkpoint(
                parameters=states.parameters[..., np.newaxis],
                metrics=states.metrics[..., np.newaxis],
                average=None,
                best=None,
                epoch=states.epochs,
                updates=states.epochs,
                averaged=0,
                best_epoch=-1,
                waited=0,
                best_loss=np.inf,
                record=self.kept,
                record_every=record.every,
                fit_intercept=problem.fit_intercept,
                generator=None,
                split=None,
            ),
        )
