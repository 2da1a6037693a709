"""fit_many(): many fits in one call."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Literal

import numpy as np

from ._descent.descent import PARAMETER_COST, SLICE_ELEMENTS, UPDATE_COST
from ._descent.messages import penalised, risen, warn
from ._descent.options import as_method, as_record
from ._descent.record import too_large
from ._descent.scaling import column_terms, scalings_of_rows
from ._kernel import (
    INITIAL_OBJECTIVE,
    OUTCOMES,
    ManyOptions,
    Record,
    States,
    advance_many,
    fits_together,
    losses_many,
)
from ._reduction.many import ManyProblems, ReducedProblems, many_reductions_ns
from ._reduction.reduce import reducing_is_faster
from ._results.checkpoint import Checkpoint
from ._results.history import History
from ._results.many import FitResults
from ._results.status import attach_result
from ._validation import (
    as_count,
    as_flag,
    as_number,
    as_real,
    as_series,
    as_threads,
    as_weights,
    cast,
    ceil_div,
    check_finite,
    column_names,
    for_kernel,
    ndim_of,
    raise_if_foreign,
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
    standardize: bool = False,
    fit_intercept: bool = False,
    sample_weight: ArrayLike | None = None,
    coef0: ArrayLike | None = None,
    tol: float | None = None,
    record: Literal["all", "loss"] | None = "all",
    record_every: int = 1,
    method: Literal["auto", "direct", "compress"] = "auto",
    n_threads: int = 1,
) -> FitResults:
    """Fit many linear models in one call: a sweep over constants, bootstrap samples, a regression per group.

    Each of the B fits is a `fit` with the same `method`, to the bit. It is the same up to rounding if fits of several
    targets share X and are reduced, unless X is narrow, or if reduced fits are standardized. What all fits share is
    given once.

    Parameters
    ----------
    X : array of shape (B, n, d), or (n, d) for all fits
        The design matrices. Arrays of float64 are read in place, (B, n, d) in C order and (n, d) in C or F order. So
        are those of float32 if y is float32 too. Anything else is copied.
    y : array of shape (B, n), or (n,) for all fits if X is (n, d)
        The targets, one for each fit.
    lr : float or array of shape (B,), default 0.1
        The learning rate of all fits, or of each. There are no schedules here.
    momentum : float in [0, 1) or array of shape (B,), default 0.8
        The part of the last step that is kept.
    epochs : int, default 50
        The number of epochs that each fit does.
    dampening : float in [0, 1] or array of shape (B,), optional
        The new gradient is multiplied by ``1 - dampening``. By default dampening equals `momentum`.
    nesterov : bool, default False
        Whether to use Nesterov momentum.
    weight_decay : float or array of shape (B,), default 0.0
        Adds ``weight_decay / 2 * |a|**2`` to the objective, without the intercept. An array has one value for each fit,
        not for each column.
    l1 : float or array of shape (B,), default 0.0
        Adds ``l1 * |a|_1`` to the objective, without the intercept.
    standardize : bool, default False
        Whether to descend in the coordinates of standardized columns. Each fit has the means and deviations of its own
        rows and weights.
    fit_intercept : bool, default False
        Whether to fit an intercept. It is the last parameter.
    sample_weight : array of shape (n,) or (B, n), optional
        The weights of the rows, none of them negative. The weights of a bootstrap sample are how often each row was
        drawn. Rows of weight 0 fill up fits that have fewer than n rows.
    coef0 : array of shape (p,) or (B, p), optional
        The parameters to start from, as for `fit`. By default all are 0.
    tol : float, optional
        A fit stops after the epoch in which its gradient norm is at most `tol` times its norm at the first epoch.
    record : {"all", "loss", None}, default "all"
        What the histories keep: everything of each epoch, only the losses, or nothing.
    record_every : int, default 1
        The histories keep epochs 0, k, 2 k, ... for ``record_every=k``.
    method : {"auto", "direct", "compress"}, default "auto"
        Whether to descend on the rows of each fit or on their reduction. Both give the same result up to rounding.
        "auto" reduces the rows where that is clearly faster. X that all fits share is reduced once, or with groups of
        the targets.
    n_threads : int, default 1
        The number of threads that share the fits; -1 stands for all CPUs that the process may use. The bits of the
        result are the same for any number.

    Returns
    -------
    FitResult
        All fits in one: the arrays have a first axis of length B, as in coef (B, d) and history.loss (B, epochs).
        ``status`` and ``epochs`` are arrays too. A fit that diverges disturbs no other. It has status ``diverged``, the
        epochs before that, and NaN in the later rows of its history. ``result[i]`` is fit i as `fit` returns it.

    Raises
    ------
    ValueError, TypeError
        If an argument has a wrong value, shape or type, or if arrays disagree about B.
    MemoryError
        If there is no memory for the histories.
    KeyboardInterrupt
        On Ctrl-C. Its ``result`` holds the epochs done so far. Fits cut short have status ``stopped`` there.

    Warns
    -----
    ConvergenceWarning
        If the objectives of some fits are larger at the end than at the start.

    See Also
    --------
    fit : Fit one model; its formulas hold for each fit here.

    Examples
    --------
    A sweep over learning rates, of which the last is too large:

    >>> import numpy as np, sgdm
    >>> X = np.column_stack([np.ones(20), np.linspace(-1, 1, 20)])
    >>> sweep = sgdm.fit_many(X, X @ [1.0, 2.0], lr=[0.01, 0.1, 0.5, 1e5], epochs=50)
    >>> sweep.coef[:3].round(2).tolist(), sweep.status.tolist()
    ([[0.67, 0.63], [1.0, 2.01], [0.99, 2.0]], ['completed', 'completed', 'completed', 'diverged'])
    >>> sweep[1].history.loss[:3].round(3)
    array([2.474, 1.905, 1.444])

    Bootstrap samples, by weights:

    >>> rng = np.random.default_rng(0)
    >>> y = X @ [1.0, 2.0] + rng.normal(size=20)
    >>> draws = rng.multinomial(20, np.full(20, 1 / 20), size=500)
    >>> samples = sgdm.fit_many(X, y, sample_weight=draws, epochs=200)
    >>> samples.coef.std(axis=0).round(2)
    array([0.19, 0.31])
    """
    problems = Problems(X, y, sample_weight, fit_intercept)
    start = None if coef0 is None else as_starts(coef0, problems)
    options = Options(
        problems, start, lr=lr, momentum=momentum, dampening=dampening, weight_decay=weight_decay, l1=l1, epochs=epochs,
        nesterov=nesterov, tol=tol, record=record, record_every=record_every, n_threads=n_threads,
        standardize=standardize, method=method,
    )  # fmt: skip
    together = fits_together(problems.one, options, problems.share_rows)
    reduced = ReducedProblems(problems, len(options.rates), together) if reduces(problems, options, together) else None
    descents = Descents(reduced or problems, options, start)
    try:
        descents.run()
        result = descents.result()
        if message := descents.rise_message(result):
            warn(message)
        return result
    except BaseException as stop:
        attach_result(stop, descents.result())
        raise


def reduces(problems, options, together):
    """Whether the descents run on the reductions of the rows; so many would then run at once."""
    if options.method != "auto":
        return options.method == "compress"
    fits = len(options.rates)
    reduction = many_reductions_ns(problems, fits)
    return reducing_is_faster(problems.one, options.epochs, reduction, fits, together)


_DIVERGED, _COMPLETED = OUTCOMES.index("diverged"), OUTCOMES.index("completed")


class Problems(ManyProblems):
    """The checked data of many fits: (B, n, d) or (B, d, n), (B, n) and weights; B is 1 for what all share."""

    method = "direct"

    def __init__(self, X, y, sample_weight, fit_intercept):
        self.feature_names = column_names(X)
        lines, by_columns, targets = as_stacks(X, y)
        weights, totals = as_all_weights(sample_weight, targets)
        super().__init__(lines, by_columns, targets, weights, totals, as_flag(fit_intercept, "fit_intercept"))

    @property
    def share_rows(self):
        """Whether all fits have the same X and weights."""
        return len(self.lines) == 1 and (self.weights is None or len(self.weights) == 1)

    def scalings(self):
        """The scaling of the columns of each problem, its arrays (B, d), or (1, d) for all."""
        centred = self.one.fit_intercept
        return scalings_of_rows(self.lines, self.by_columns, self.weights, self.total_weights, centred)

    def losses(self, parameters):
        """The mean squared error of each fit at its parameters (B, 2, p)."""
        return losses_many(self, parameters)

    def optimal_losses(self):
        """Not known without a reduction."""

    def refuse_nonfinite(self):
        """Raises ValueError if X or y holds NaN or infinity."""
        X = self.lines.swapaxes(1, 2) if self.by_columns else self.lines
        for array, name, axes in ((X, "X", ("fit", "row", "column")), (self.targets, "y", ("fit", "row"))):
            shared = len(array) == 1
            check_finite(array[0] if shared else array, name, axes[shared:])


def as_stacks(X, y):
    """X and y as the kernel reads them, X's lines (B, n, d), or (B, d, n) if they are columns, and y (B, n)."""
    given, X, y = X, as_real(X, "X"), as_real(y, "y")
    if X.ndim not in (2, 3) or X.size == 0:
        raise ValueError(f"X must have shape (fits, rows, columns), or (rows, columns) for all, got {X.shape}")
    shape = (*X.shape[:-2], X.shape[-2])
    if y.shape[-1:] != shape[-1:] or y.ndim not in (X.ndim - 1, 2) or y.size == 0:
        expected = f"(fits, {shape[-1]}) or ({shape[-1]},)" if X.ndim == 2 else str(shape)
        raise ValueError(f"y must have shape {expected} for X of shape {X.shape}, got {y.shape}")
    dtype = X.dtype if X.dtype == y.dtype else np.dtype(np.float64)
    layout = (X if X.ndim == 2 else as_real(given[0], "X")).flags  # of one fit, as `fit` finds it
    by_columns = layout.f_contiguous and not layout.c_contiguous
    X = for_kernel(X.swapaxes(-1, -2) if by_columns else X, dtype)
    y = for_kernel(y, dtype)
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


def as_starts(coef0, problems):
    """Where to start, (1, p) or (B, p)."""
    start, p = as_real(coef0, "coef0"), problems.one.p
    if start.ndim not in (1, 2) or start.shape[-1] != p or start.size == 0:
        raise ValueError(f"coef0 must have shape ({p},) or (fits, {p}), got {start.shape}")
    shown = cast(start, problems.targets.dtype)  # in results; a reduction starts from the numbers as they are
    check_finite(shown, "coef0", ("fit", "parameter")[-start.ndim :])
    return start.reshape(-1, p)


class Options(ManyOptions):
    """What `fit_many` is asked, but the data: the arguments of the same names, checked."""

    def __init__(
        self, problems, start, *, lr, momentum, dampening, weight_decay, l1, epochs, nesterov, tol, record,
        record_every, n_threads, standardize, method,
    ):  # fmt: skip
        if as_record(record) == "updates":
            raise ValueError(
                "record must be 'all', 'loss' or None here, got 'updates'; an epoch of these is one update"
            )
        self.record, self.record_every = record, as_count(record_every, "record_every")
        self.n_threads, self.method = as_threads(n_threads), as_method(method)
        arrays = {"X": problems.lines, "y": problems.targets, "sample_weight": problems.weights, "coef0": start}
        constants = {"lr": lr, "momentum": momentum, "dampening": dampening, "weight_decay": weight_decay, "l1": l1}
        B = count_fits(arrays, constants)
        rates, penalties = np.empty((B, 3)), np.empty((B, 2))
        rates[:, 0] = as_series(lr, "lr", B, "fits")
        rates[:, 1] = as_series(momentum, "momentum", B, "fits", high=1, below=True)
        dampening = rates[:, 1] if dampening is None else as_series(dampening, "dampening", B, "fits", high=1)
        rates[:, 2] = 1 - dampening
        penalties[:, 0] = as_series(weight_decay, "weight_decay", B, "fits")
        penalties[:, 1] = as_series(l1, "l1", B, "fits")
        tol = -1.0 if tol is None else as_number(tol, "tol")
        super().__init__(rates, penalties, as_count(epochs, "epochs"), as_flag(nesterov, "nesterov"), tol)
        if as_flag(standardize, "standardize"):
            scalings = problems.scalings()
            self.columns = column_terms(scalings, penalties[:, :1], penalties[:, 1:], problems.one.d)


def count_fits(arrays, constants):
    """The number of fits, B. All that comes once for each fit must agree on it."""
    counts = {name: len(array) for name, array in arrays.items() if array is not None and len(array) > 1}
    counts |= {name: len(value) for name, value in constants.items() if ndim_of(value, name) == 1}
    if len(set(counts.values())) > 1:
        got = ", ".join(f"{count} of {name}" for name, count in counts.items())
        raise ValueError(f"arguments with one value per fit must agree on the number of fits, got {got}")
    if 0 in counts.values():
        name = next(iter(counts))
        raise ValueError(f"{name} must be a number, or one value for each of the fits, got shape (0,)")
    return next(iter(counts.values()), 1)


class Descents:
    """Many fits under way. start: (B or 1, p), or None for zeros."""

    def __init__(self, problems, options, start):
        self.problems, self.options = problems, options
        B, p, dtype = len(options.rates), problems.one.p, problems.lines.dtype
        parameters = np.zeros((B, 2, p), dtype)
        if start is not None:
            parameters[:, 0] = start
        self.states = States(parameters)
        self.over = False  # stops all threads where it is True
        rows, record = ceil_div(options.epochs, options.record_every), options.record
        loss = val_loss = paths = None
        try:
            if problems.held_out is not None:
                val_loss = np.empty((B, rows), dtype)
            if record is not None:
                loss = np.empty((B, rows), dtype)
            if record == "all":
                paths = np.empty((3, B, rows, p), dtype)
        except (MemoryError, ValueError) as error:
            raise_if_foreign(error)
            raise too_large(B * rows, 1 + 3 * p * (record == "all"), dtype, record) from None
        self.record = Record(loss, val_loss, paths, options.record_every)

    def run(self):
        """Does all epochs of all fits, a slice at a time, so that Python sees signals in between."""
        problem, total, B = self.problems.one, self.options.epochs, len(self.options.rates)
        cost = problem.n * problem.d + UPDATE_COST + PARAMETER_COST * problem.p
        n_threads, multiple = self.options.n_threads, self.problems.slice_multiple
        epochs = max(1, min(total, SLICE_ELEMENTS // (cost * multiple)))  # of a slice
        all_epochs = cost * total + self.problems.reading_cost
        least = 8 * n_threads if n_threads > 1 else 1  # slices: several for each thread, so that all end together
        size = max(1, min(SLICE_ELEMENTS // all_epochs, ceil_div(B, least)))  # fits of a slice
        size = ceil_div(size, multiple) * multiple
        threads = min(n_threads, ceil_div(B, size))
        slices = deque([*range(0, B, size), *[None] * threads])  # popleft is atomic: no exception comes within it

        def work():
            while (first := slices.popleft()) is not None and not self.over:
                self._advance(first, min(first + size, B), epochs)

        def lead(start):
            for _ in range(threads - 1):
                start(work)
            work()

        with_threads(lead, self._stop)
        if ((self.states.outcomes == _DIVERGED) & (self.states.epochs == 0)).any():
            self.problems.refuse_nonfinite()

    def _stop(self):
        self.over = True

    def _advance(self, first, last, epochs):
        """Does all epochs of fits `first` to `last`, unless `over` is set before."""
        self.problems.reduce(first, last)
        while not self.over and (self.states.outcomes[first:last] < 0).any():
            advance_many(self.problems, self.options, self.states, self.record, first, last, epochs)

    @np.errstate(all="ignore")
    def rise_message(self, result):
        """What to warn of where objectives ended above their start; else None."""
        start, penalties = self.states.metrics[:, INITIAL_OBJECTIVE], self.options.penalties
        end = result.loss.astype(float)
        if penalties.any():
            end = penalised(end, result.coef.T, penalties[:, 0], penalties[:, 1])
        rose = risen(start, end, self.problems.targets) & (self.states.outcomes == _COMPLETED)
        if not rose.any():
            return None
        i = int(np.argmax(rose))
        return (
            f"the objectives of {rose.sum()} of {len(rose)} fits rose, the first that of fit {i}, from {start[i]:g} to "
            f"{end[i]:g} in {self.options.epochs} epochs with lr={self.options.rates[i, 0]:g}; use a smaller lr there"
        )

    def result(self):
        """The result of the epochs done. It takes over the arrays: the descents must not go on."""
        problem, options, states, record = self.problems.one, self.options, self.states, self.record
        dtype, features, has_intercept = problem.dtype, problem.features, problem.p > problem.features
        coef, velocity = states.parameters.swapaxes(0, 1)
        status = np.array([*OUTCOMES, "stopped"]).take(states.outcomes)  # of which the last is at -1
        epoch = np.arange(0, 0 if options.record is None else options.epochs, record.every)
        if (states.epochs < options.epochs).any() and record.loss is not None:
            unwritten = epoch >= states.epochs[:, np.newaxis]
            record.loss[unwritten] = np.nan
            if record.paths is not None:
                record.paths[:, unwritten] = np.nan
        losses, paths = (
            part if part is None or part.dtype == dtype else cast(part, dtype) for part in (record.loss, record.paths)
        )
        grad, step, path = (None, None, None) if paths is None else paths
        checkpoint = Checkpoint(
            parameters=states.parameters[..., np.newaxis], metrics=states.metrics[..., np.newaxis],
            epoch=states.epochs, updates=states.epochs, record=options.record, record_every=options.record_every,
            fit_intercept=has_intercept,
        )  # fmt: skip
        return FitResults(
            coef=cast(coef[:, :features], dtype),
            intercept=cast(coef[:, features], dtype) if has_intercept else np.zeros(len(coef), dtype),
            velocity=cast(velocity, dtype), loss=cast(self.problems.losses(states.parameters), dtype),
            epochs=states.epochs, status=status,
            history=History(epoch=epoch, loss=losses, grad=grad, step=step, coef=path, val_loss=None),
            lr=options.rates[:, 0], momentum=options.rates[:, 1], dampening=1 - options.rates[:, 2],
            method=self.problems.method, optimal_loss=self.problems.optimal_losses(), checkpoint=checkpoint,
            feature_names=self.problems.feature_names,
        )  # fmt: skip
