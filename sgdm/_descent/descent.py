"""A run: the state that the kernel advances, slice by slice, and all that happens between slices."""

from __future__ import annotations

import math
import sys
from functools import partial
from typing import Any

import numpy as np

from .._kernel import Record, State, Team, advance, losses, parts
from .._results.result import Checkpoint, DivergenceError, FitResult, History, Status, made
from .._validation import as_start, pass_on, refuse_nonfinite
from .._workers import with_threads
from .tuning import stable_lr

# A slice, the epochs between two returns to Python, reads so many elements of X, which takes 10 to 30 ms. A target's
# update counts as UPDATE_COST elements more for its fixed work, and PARAMETER_COST for every parameter.
SLICE_ELEMENTS = 50_000_000
UPDATE_COST, PARAMETER_COST = 500, 8

FAR_ABOVE = 0.01  # of the way from the start to the least objective: who ends that far above it is warned

_NO_METRICS = np.full((3, 1), np.nan)
_STATUS = {str(status): status for status in Status}  # quicker than Status(name)


class Progress:
    """What a callback sees of a run; it is live, and shows the run's last state to whoever keeps it.

    Attributes
    ----------
    epoch : int
        Epochs done, those of `init` included.
    loss : float or (k,) array
        The mean squared error that the last epoch recorded.
    coef : array of shape (p,) or (p, k)
        A copy of the parameters now, the intercept's last.
    result : FitResult
        The result so far, made when asked for.
    """

    def __init__(self, run):
        self._run = run

    @property
    def epoch(self) -> int:
        return self._run.state.epoch

    @property
    def loss(self) -> Any:
        loss = as_dtype(self._run.state.metrics[2], self._run.dtype)
        return loss if self._run.slot else float(loss[0])

    @property
    def coef(self) -> np.ndarray:
        return as_dtype(self._run.state.parameters[0].reshape(-1, *self._run.slot), self._run.dtype)

    @property
    def result(self) -> FitResult:
        return self._run.result(Status.STOPPED)

    def __repr__(self) -> str:
        return f"Progress(epoch={self.epoch}, loss={self.loss})"


class Run:
    """A descent under way.

    generator: None, or what chose the validation rows and orders the rows of every epoch.
    slot: the shape of one target's place in the results, () for y of shape (n,), (k,) for (n, k). method: what the rows are, for the result, as are
    feature_names and optimal_loss.
    """

    def __init__(
        self,
        problem,
        slot,
        settings,
        epochs,
        *,
        generator,
        validation,
        coef0,
        init,
        record,
        record_every,
        split=None,
        method="direct",
        n_threads=1,
        feature_names=None,
        optimal_loss=None,
    ):
        self.problem, self.slot, self.settings, self.epochs = problem, slot, settings, epochs
        self.generator, self.split = generator, split
        self.validation, self.init = validation, init
        self.record, self.record_every = record, record_every
        self.feature_names, self.optimal_loss = feature_names, optimal_loss
        self.dtype, self.method = problem.dtype, method
        self.intercept = problem.p > problem.features
        self.batch = settings.batch_size or problem.n
        self.helpers = 0 if n_threads == 1 else min(n_threads, parts(problem, settings)) - 1
        self.state = self._begin(coef0)
        self.histories = self._allocate()

    def _begin(self, coef0):
        """The state to start from: fresh, or a copy of that of `init`."""
        p, k, dtype = self.problem.p, self.problem.k, self.problem.lines.dtype
        averages = self.settings.average_from >= 0
        validates = self.validation is not None
        if self.init is None:
            return State(
                as_start(coef0, self.problem, self.slot, self.dtype),
                np.zeros((p, k)) if averages else None,
                np.zeros((p, k), dtype) if validates else None,
                _NO_METRICS.copy() if k == 1 else np.full((3, k), np.nan),
                generator=self.generator,
                split=self.split,
            )
        was = self.init.checkpoint
        expected = (self.problem.features, *self.slot), dtype.name, self.intercept
        got = self.init.coef.shape, was.parameters.dtype.name, was.fit_intercept
        if got != expected:
            raise ValueError(f"init must have the parameters, dtype and intercept of this fit, {expected}, got {got}")
        if (was.record, was.record_every) != (self.record, self.record_every):
            raise ValueError(
                f"record and record_every must be those of init, {was.record!r} and {was.record_every}, "
                f"got {self.record!r} and {self.record_every}"
            )
        if validates != (was.best is not None):
            raise ValueError(f"validation must be given as for init, which had {'none' if validates else 'some'}")
        if averages and was.average is None and self.settings.average_from < was.epoch:
            raise ValueError(f"average must start at epoch {was.epoch} or later: init kept no average until there")
        updates = self.epochs * -(-self.problem.n // self.batch)
        if updates > sys.maxsize - was.updates:
            raise ValueError(f"epochs must be fewer: {updates} updates after the {was.updates} of init are too many")
        state = State(
            was.parameters,
            None if not averages else np.zeros((p, k)) if was.average is None else was.average,
            was.best,
            was.metrics,
            was.epoch,
            was.updates,
            was.averaged if averages else 0,
            was.best_epoch,
            was.waited,
            was.best_loss,
            self.generator,
            self.split,
        )
        return state.copy()

    def rows(self, epochs):
        """How many rows `epochs` epochs from the start add to the histories: (per epoch, per epoch or update)."""
        every, start = self.record_every, self.settings.start
        if every == 1 and self.record != "updates":
            return epochs, epochs
        start_update = self.start_update
        per_epoch = -(-(start + epochs) // every) - -(-start // every)
        if self.record != "updates":
            return per_epoch, per_epoch
        updates = epochs * -(-self.problem.n // self.batch)
        return per_epoch, -(-(start_update + updates) // every) - -(-start_update // every)

    @property
    def start_update(self):
        return 0 if self.init is None else self.init.checkpoint.updates

    def _allocate(self):
        """The histories of the run, unwritten."""
        (epochs, rows), p, k = self.rows(self.epochs), self.problem.p, self.problem.k
        dtype = self.problem.lines.dtype
        loss = paths = val_loss = None
        try:
            if self.record is not None:
                loss = np.empty(rows * k, dtype)
                if self.validation is not None:
                    val_loss = np.empty(epochs * k, dtype)
            if self.record in ("all", "updates"):
                paths = np.empty(3 * rows * p * k, dtype)
        except (MemoryError, ValueError) as error:
            pass_on(error)
            columns = k if self.record == "loss" else k + 3 * p * k
            raise too_large(rows, columns, dtype, self.record) from None
        return Record(
            loss,
            val_loss,
            paths,
            self.record_every,
            self.record == "updates",
            self.settings.start,
            self.start_update,
        )

    def advance(self, callback=None, callback_every=1, bar=None):
        """Runs all epochs, a slice at a time, so that Python sees signals in between. Returns a Status."""
        do = partial(_together, self.helpers, Team(self.helpers)) if self.helpers else advance
        return self._advance(callback, callback_every, bar, do)

    def _advance(self, callback, callback_every, bar, do):
        problem, state, last = self.problem, self.state, self.settings.start + self.epochs
        rows = problem.n + (0 if self.validation is None else self.validation.n)
        updates = -(-problem.n // self.batch)
        cost = rows * problem.d + updates * (UPDATE_COST + PARAMETER_COST * problem.p)
        at_once = max(1, SLICE_ELEMENTS // (cost * problem.k))
        outcome = "completed"
        called = state.epoch
        while state.epoch < last and outcome == "completed":
            epochs = min(at_once, last - state.epoch)
            if callback is not None:
                epochs = min(epochs, called + callback_every - state.epoch)
            before = state.epoch
            outcome = do(problem, self.settings, state, self.histories, epochs, self.validation)
            if bar is not None:
                bar.set_postfix(loss=float(np.mean(state.metrics[2])), refresh=False)
                bar.update(state.epoch - before)
            if callback is not None and state.epoch == called + callback_every:
                called = state.epoch
                try:
                    callback(Progress(self))
                except StopIteration:
                    return Status.STOPPED
        return _STATUS[outcome]

    def result(self, status, final=False):
        """The result of the epochs done so far, as the caller knows it. A final one takes over the run's arrays."""
        state, slot, d, dtype = self.state, self.slot, self.problem.features, self.dtype
        generator = self.generator
        validated = state.best_epoch >= 0
        kept = state if final else state.copy()
        best = validated and self.settings.patience > 0
        loss = losses(self.problem, state.best if best else state.parameters[0])
        own = state.parameters if slot else state.parameters[..., 0]
        own = as_dtype(own, dtype)
        coef, velocity = own[0], own[1]
        if best:
            coef = as_dtype(state.best.reshape(coef.shape), dtype)
        loss = as_dtype(np.array(loss), dtype)
        average = average_intercept = None
        if state.average is not None:
            average = state.average if state.averaged else state.parameters[0]
            average = as_dtype(average.reshape(coef.shape), dtype)
            average_intercept = average[d] if self.intercept else 0.0
            average = average[:d]
        lr, momentum, undamped = self.rates(state.epoch - 1)
        return made(
            FitResult,
            {
                "coef": coef[:d],
                "intercept": coef[d] if self.intercept else 0.0,
                "velocity": velocity,
                "loss": loss if slot else loss[0],
                "epochs": state.epoch,
                "status": status,
                "history": self._history(final),
                "best_epoch": state.best_epoch if validated else None,
                "average_coef": average,
                "average_intercept": average_intercept,
                "lr": lr,
                "momentum": momentum,
                "dampening": 1 - undamped,
                "method": self.method,
                "optimal_loss": self.optimal_loss,
                "feature_names": self.feature_names,
                "checkpoint": Checkpoint(
                    kept.parameters,
                    kept.metrics,
                    kept.average,
                    kept.best,
                    state.epoch,
                    state.updates,
                    state.averaged,
                    state.best_epoch,
                    state.waited,
                    state.best_loss,
                    self.record,
                    self.record_every,
                    self.intercept,
                    None if generator is None else generator.bit_generator.state,
                    self.split,
                ),
            },
        )

    def _history(self, final):
        """The rows written so far, after those of `init`; a final one takes over the arrays if they are full."""
        start, every, slot, histories = self.settings.start, self.record_every, self.slot, self.histories
        epochs, rows = self.rows(self.state.epoch - start)
        taken_over = final and self.state.epoch == start + self.epochs and self.problem.lines.dtype is self.dtype
        earlier = None if self.init is None else self.init.history
        loss, val_loss = histories.loss, histories.val_loss
        if slot:
            loss = None if loss is None else loss.reshape(-1, *slot)
            val_loss = None if val_loss is None else val_loss.reshape(-1, *slot)
        grad = step = coef = None
        if histories.paths is not None:
            paths = histories.paths.reshape(3, -1, self.problem.p, *slot)
            grad, step, coef = paths[0], paths[1], paths[2]  # a third of the time of taking it apart

        def whole(name, history, rows):
            if not taken_over:
                history = as_dtype(history[:rows], self.dtype)
            return history if earlier is None else np.concatenate([getattr(earlier, name), history])

        if self.record is None:
            epoch = np.arange(0)
        elif every == 1 and self.record != "updates":
            epoch = np.arange(start, start + rows)
        elif self.record == "updates":
            first, per_epoch = -(-self.start_update // every) * every, -(-self.problem.n // self.batch)
            epoch = start + (first + every * np.arange(rows) - self.start_update) // per_epoch
        else:
            first = -(-start // every) * every
            epoch = np.arange(first, first + rows * every, every)
        if taken_over and earlier is None:
            kept = {"epoch": epoch, "loss": loss, "grad": grad, "step": step, "coef": coef, "val_loss": val_loss}
            return made(History, kept)
        return History(
            epoch=epoch if earlier is None else np.concatenate([earlier.epoch, epoch]),
            loss=None if loss is None else whole("loss", loss, rows),
            grad=None if grad is None else whole("grad", grad, rows),
            step=None if step is None else whole("step", step, rows),
            coef=None if coef is None else whole("coef", coef, rows),
            val_loss=None if val_loss is None else whole("val_loss", val_loss, epochs),
        )

    def rates(self, epoch):
        """lr, momentum and 1 - dampening of an epoch of this run."""
        rates = self.settings.rates
        if isinstance(rates, tuple):
            return rates
        return tuple(rates[max(0, min(epoch - self.settings.start, len(rates) - 1))].tolist())

    def divergence(self):
        """What to raise when an epoch overflowed: ValueError if the data were not finite to begin with."""
        problem, state = self.problem, self.state
        if state.epoch == self.settings.start:
            refuse_nonfinite(problem)
        rates = self.rates(state.epoch)
        lr, dtype = float(rates[0]), self.dtype
        target = f" of target {state.diverged}" if problem.k > 1 else ""
        max_lr = stable_lr(problem, self.settings, rates)
        if max_lr is None:
            message = (
                f"the squares of the data{target} overflow {dtype} at epoch {self.settings.start}, whatever the lr; "
                "scale the columns of X and y down"
            )
        elif lr < max_lr:
            message = (
                f"the loss or a parameter{target} overflowed {dtype} at epoch {state.epoch}, though lr={lr:g} "
                f"is stable (up to {self._describe(max_lr)}); scale the columns of X and y, or the start, down"
            )
        else:
            message = (
                f"the fit{target} diverged at epoch {state.epoch}: lr={lr:g} is too large; use an lr of at most "
                f"{self._describe(max_lr)}"
            )
        error = DivergenceError(message)
        error.max_lr = max_lr
        return error

    def concern(self, result, reduced):
        """What to warn of: the objective ended above its start, or far above the least there is; else None."""
        settings, start, loss = self.settings, self.state.metrics[0], result.loss
        plain = not (settings.weight_decay or settings.l1)
        if plain and reduced is None and self.problem.k == 1 and loss <= start[0]:  # the usual case, quickly
            return None
        end = np.atleast_1d(loss).astype(float)
        with np.errstate(all="ignore"):
            if not plain:
                coef = np.abs(result.coef.reshape(-1, self.problem.k).astype(float))
                end = end + (settings.weight_decay / 2 * coef**2 + settings.l1 * coef).sum(axis=0)
            y, eps = self.problem.targets, 1000 * np.finfo(self.problem.targets.dtype).eps
            above = end > (eps * np.abs(y).max(axis=1).astype(float)) ** 2  # more than rounding, at an exact fit
            rose = above & (end > start * (1 + eps))
            if rose.any() and result.status is Status.COMPLETED:
                return self._rise(int(np.argmax(rose)), start, end)
            if reduced is None or settings.l1 or settings.patience or result.status is Status.STOPPED:
                return None
            least = np.atleast_1d(reduced.optimal_loss)
            if settings.weight_decay and (above & (end - least > FAR_ABOVE * (start - least))).any():
                least = reduced._least_objective(settings.weight_decay)
            far = above & (end - least > FAR_ABOVE * np.maximum(start - least, 0))
        if not far.any():
            return None
        t = int(np.argmax(far))
        return (
            f"the objective{self._target(t)} went from {start[t]:g} to {end[t]:g} in {self.state.epoch} epochs, far "
            f"above the least there is, {least[t]:g}; centre the columns of X and bring them to one scale "
            "(scikit-learn's StandardScaler does both), or do more epochs"
        )

    def _target(self, t):
        """Target t for a message, if there are several."""
        return f" of target {t}" if self.problem.k > 1 else ""

    def _rise(self, t, start, end):
        """What to warn of when the objective of target t ended above its start."""
        rates = self.rates(self.state.epoch - 1)
        lr, max_lr = float(rates[0]), stable_lr(self.problem, self.settings, rates)
        message = (
            f"the objective{self._target(t)} rose from {start[t]:g} to {end[t]:g} in {self.state.epoch} epochs "
            f"with lr={lr:g}; "
        )
        if self.batch < self.problem.n:
            return f"{message}use a smaller lr, or one that falls, to even out the noise of the batches"
        if max_lr is not None and lr < max_lr:
            return f"{message}lr is stable (up to {self._describe(max_lr)}), so more epochs will bring it down"
        return f"{message}use an lr of at most {self._describe(max_lr)}"

    def _describe(self, max_lr):
        """A learning rate rounded down to three digits, and what it goes with."""
        if max_lr in (None, math.inf):
            digits = str(max_lr)
        elif max_lr < 1e-300:  # where powers of ten have few digits, or none
            digits = f"{max_lr:.3g}"
        else:
            unit = 10.0 ** (math.floor(math.log10(max_lr)) - 2)
            digits = f"{math.floor(max_lr / unit) * unit:.3g}"
        _, momentum, undamped = self.rates(self.state.epoch)
        form = ", nesterov" if self.settings.nesterov else ""
        batches = f", batches of {self.batch}" if self.batch < self.problem.n else ""
        return f"{digits} for momentum={momentum:g}, dampening={1 - undamped:g}{form}{batches}"


def as_dtype(array, dtype):
    """A copy of the dtype; what it can't hold becomes infinite, or 0."""
    if array.dtype is dtype:
        return array.copy()
    with np.errstate(all="ignore"):
        return array.astype(dtype)


def too_large(rows, columns, dtype, record):
    """What to raise when there is no memory for the histories."""
    size = rows * columns * dtype.itemsize
    instead = "a larger record_every" if record == "loss" else "record='loss', a larger record_every"
    return MemoryError(
        f"the history of {rows} rows takes {size} bytes ({size / 2**30:.1f} GiB), more than there is; "
        f"pass {instead} or record=None to keep less"
    )


def _together(helpers, team, *what):
    """Advances with the team, which so many helpers join for as long as that takes."""

    def lead(start):
        for member in range(1, helpers + 1):
            start(team.help, member)
        outcome = advance(*what, team)
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
