"""A fit under way: advance the state by some epochs, look, advance on."""

import sys
from functools import partial
from typing import Any

import numpy as np

from .._kernel import LAST_LOSS, Rows, Team, advance, losses, parts
from .._results.checkpoint import Checkpoint
from .._results.history import from_fields
from .._results.result import FitResult
from .._results.status import Status
from .._validation import cast, for_kernel
from .._workers import with_threads
from .messages import divergence
from .record import Record
from .scaling import column_terms
from .state import start_state

# A slice, the epochs between two returns to Python, takes 10 to 30 ms: it reads SLICE_ELEMENTS elements of X. Each
# update of a target costs as much as reading UPDATE_COST elements, plus PARAMETER_COST per parameter.
SLICE_ELEMENTS = 50_000_000
UPDATE_COST, PARAMETER_COST = 500, 8

_STATUS = {str(status): status for status in Status}  # faster than Status(name)


class Progress:
    """What a callback sees of a fit: the epoch, the loss, the parameters, and the result so far.

    It is live: it shows the current state of the fit, also after the callback has returned.

    Examples
    --------
    >>> import numpy as np, sgdm
    >>> def show(progress):
    ...     print(progress.epoch, round(progress.loss, 3), progress.coef.round(3))
    >>> result = sgdm.fit(np.eye(2), np.ones(2), epochs=20, callback=show, callback_every=10)
    10 0.068 [0.791 0.791]
    20 0.001 [1.033 1.033]
    """

    def __init__(self, descent):
        self._descent = descent

    @property
    def epoch(self) -> int:
        """The number of epochs done, those of `init` included."""
        return self._descent.state.epoch

    @property
    def loss(self) -> Any:
        """The mean squared error of the last epoch, before its update: float or array of shape (k,)."""
        problem = self._descent.problem
        loss = cast(self._descent.state.metrics[LAST_LOSS], problem.dtype)
        return loss if problem.target_shape else float(loss[0])

    @property
    def coef(self) -> np.ndarray:
        """The parameters now, the intercept last: a new array of shape (p,) or (p, k)."""
        problem = self._descent.problem
        return cast(self._descent.state.parameters[0].reshape(-1, *problem.target_shape), problem.dtype)

    @property
    def result(self) -> FitResult:
        """The result so far, a `FitResult` made when asked for."""
        return self._descent.snapshot()

    def __repr__(self) -> str:
        return f"Progress(epoch={self.epoch}, loss={self.loss})"


class Descent:
    """A fit under way. held_out: the problem of the held-out rows, or None.

    rows, held_out_rows: the rows of both, opened for reading.
    """

    def __init__(self, problem, options, held_out):
        self.problem, self.options, self.held_out = problem, options, held_out
        self.state, self.record = start_state(problem, options), Record(problem, options)
        self.helpers = 0  # threads beside this one
        if options.n_threads > 1:
            self.helpers = min(options.n_threads, parts(problem, options.batch_size)) - 1
        team = Team(self.helpers) if self.helpers else None
        columns = column_terms(problem.scaling, options.weight_decay, options.l1, problem.features)
        self.rows = Rows(problem, options.batch_size, team, columns)
        self.held_out_rows = None if held_out is None else Rows(held_out, 0, team)
        self.status, self.optimal_loss = Status.STOPPED, None
        if problem.reduction is not None:
            self.optimal_loss = cast(np.asarray(problem.reduction.optimal_loss), problem.dtype)[()]

    def run(self):
        """Does all epochs, unless the options end them before; DivergenceError or ValueError where one overflows."""
        options = self.options
        bar = progress_bar(options.epochs, "epoch") if options.progress else None
        advance_by = partial(_advance_together, self.helpers) if self.helpers else advance
        try:
            self.status = self._advance(advance_by, bar)
        finally:
            if bar is not None:
                bar.close()
        if self.status is Status.DIVERGED:
            raise divergence(self)

    def _advance(self, advance_by, bar):
        """Does the epochs a slice at a time, so that Python sees signals in between. Returns a Status."""
        rows, held_out, options, state, record = self.rows, self.held_out_rows, self.options, self.state, self.record
        callback, every, last = options.callback, options.callback_every, options.start + options.epochs
        slice_epochs = self._epochs_of_a_slice()
        outcome, called = "completed", state.epoch
        while state.epoch < last and outcome == "completed":
            before = state.epoch
            epochs = min(slice_epochs, last - before)
            if callback is not None:
                epochs = min(epochs, called + every - before)
            outcome = advance_by(rows, options, state, record, epochs, held_out)
            if bar is not None:
                bar.set_postfix(loss=float(np.mean(state.metrics[LAST_LOSS])), refresh=False)
                bar.update(state.epoch - before)
            if callback is not None and state.epoch == called + every:
                called = state.epoch
                try:
                    callback(Progress(self))
                except StopIteration:
                    return Status.STOPPED
        return _STATUS[outcome]

    def _epochs_of_a_slice(self):
        """How many epochs there are between two returns to Python, at most."""
        problem = self.problem
        rows = problem.n if self.held_out is None else problem.n + self.held_out.n
        updates = self.record.updates_per_epoch
        cost = rows * problem.d + updates * (UPDATE_COST + PARAMETER_COST * problem.p)
        return max(1, SLICE_ELEMENTS // (cost * problem.k))

    def result(self):
        """The result of the epochs done. It takes over the arrays: the descent must not go on."""
        return self._result(self.state, self.status, self.rows, True)

    def snapshot(self):
        """The result so far, with copies of the arrays. Other threads may ask for it while the fit goes on."""
        return self._result(self.state.copy(), Status.STOPPED, Rows(self.problem, self.options.batch_size), False)

    def _result(self, state, status, rows, final):
        problem, options = self.problem, self.options
        target_shape, dtype = problem.target_shape, problem.dtype
        d, has_intercept = problem.features, problem.has_intercept
        last = state.parameters if target_shape else state.parameters[..., 0]
        last = cast(last, dtype)
        coef, velocity = last[0], last[1]
        validated, parameters = state.best_epoch >= 0, state.parameters[0]
        if validated and options.patience:
            parameters = state.best
            coef = cast(parameters.reshape(coef.shape), dtype)
        loss = losses(rows, parameters)
        if target_shape or dtype != np.float64:  # one float64 is made a third of a microsecond faster without an array
            loss = for_kernel(np.array(loss), dtype)
        average = average_intercept = None
        if state.average is not None:
            average = cast((state.average if state.averaged else state.parameters[0]).reshape(coef.shape), dtype)
            average_intercept = average[d] if has_intercept else 0.0
            average = average[:d]
        lr, momentum, gradient_weight = options.rates_at(state.epoch - 1)
        parts = {
            "coef": coef[:d], "intercept": coef[d] if has_intercept else 0.0, "velocity": velocity,
            "loss": loss if target_shape else dtype.type(loss[0]), "epochs": state.epoch, "status": status,
            "history": self.record.history(state, final), "best_epoch": state.best_epoch if validated else None,
            "average_coef": average, "average_intercept": average_intercept,
            "lr": lr, "momentum": momentum, "dampening": 1 - gradient_weight,
            "method": problem.method, "optimal_loss": self.optimal_loss, "feature_names": problem.feature_names,
            "checkpoint": Checkpoint.of(state, options, has_intercept),
        }  # fmt: skip
        return from_fields(FitResult, parts)


def _advance_together(helpers, rows, *arguments):
    """`advance` by the team of the rows, which `helpers` threads join until it returns."""
    team = rows.team

    def lead(start):
        for member in range(1, helpers + 1):
            start(team.help, member)
        outcome = advance(rows, *arguments)
        team.close()
        return outcome

    team.open()
    return with_threads(lead, team.close)


def progress_bar(total, unit):
    """A tqdm bar."""
    try:
        from tqdm.auto import tqdm  # type: ignore[import-untyped]
    except ImportError:
        raise ImportError("progress=True needs tqdm: pip install 'sgdm[progress]'") from None
    return tqdm(total=total, unit=unit, file=sys.stderr)
