"""What a fit hands back: its result, its history, its status, and what it raises."""

from __future__ import annotations

import operator
from collections import Counter
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .._files import read_npz, write_npz
from .._validation import as_matrix, as_real, by_name
from .checks import check_parts, check_result

if TYPE_CHECKING:
    import os


class Status(StrEnum):
    """How a fit ended. A member equals its name in lower case: ``result.status == "converged"``."""

    COMPLETED = "completed"
    CONVERGED = "converged"
    STOPPED = "stopped"
    DIVERGED = "diverged"

    @property
    def message(self) -> str:
        """The status in a sentence."""
        return _MESSAGES[self]


_MESSAGES = {
    Status.COMPLETED: "All epochs asked for are done.",
    Status.CONVERGED: "The gradient norm of every target fell to tol times its norm at the first epoch.",
    Status.STOPPED: "The fit ended early: by patience, by its callback or by an interrupt.",
    Status.DIVERGED: "A loss or a parameter overflowed; the result holds the epochs before that.",
}


class ConvergenceWarning(UserWarning):
    """A fit ended with an objective above the one it started from, or far above the least there is."""


class DivergenceError(ArithmeticError):
    """A loss or a parameter overflowed on the way.

    Attributes
    ----------
    result : FitResult
        Everything up to the last finite epoch, status ``diverged``.
    max_lr : float or None
        A learning rate just below the largest stable one for the momentum form in use; None where it can't be had
        because the data themselves overflow.
    """

    result: FitResult
    max_lr: float | None


class _Arrays:
    """What the dataclasses here share: they are made by keywords or by `made`, all fields at once; and they are equal
    if types, dtypes, shapes and values are, NaN equal to NaN."""

    def __init__(self, **values):
        vars(self).update(values)

    def __eq__(self, other):
        if type(other) is not type(self):
            return NotImplemented
        return all(_equal(getattr(self, field.name), getattr(other, field.name)) for field in fields(self))

    __hash__ = None  # type: ignore[assignment]


def made(kind, values):
    """``kind(**values)``, which keeps `values` itself: in a sixth of the time of a frozen dataclass's own way."""
    self = object.__new__(kind)
    object.__setattr__(self, "__dict__", values)
    return self


def _equal(a, b):
    if isinstance(a, (np.ndarray, np.generic)) and isinstance(b, (np.ndarray, np.generic)):
        a, b = np.asarray(a), np.asarray(b)
        return a.dtype == b.dtype and np.array_equal(a, b, equal_nan=a.dtype.kind == "f")
    if isinstance(a, Checkpoint) and isinstance(b, Checkpoint):
        return all(map(_equal, a, b))
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(_equal(a[key], b[key]) for key in a)
    return a is b if a is None or b is None else a == b


@dataclass(frozen=True, eq=False, repr=False, init=False)
class History(_Arrays):
    """One row per recorded epoch t, or per recorded update t; what was not recorded is None.

    With p parameters (the features in order, then the intercept if there is one); for k targets a last axis of k. In
    mini-batches a row per epoch holds the loss over the whole epoch as it was met, and the other values of the epoch's
    last update.

    Attributes
    ----------
    epoch : (rows,) int array
        The epoch of each row.
    loss : (rows,) array
        The mean squared error f(a_t), before the update.
    grad : (rows, p) array
        Its gradient g(a_t), without penalties.
    step : (rows, p) array
        The momentum buffer v_t.
    coef : (rows, p) array
        The parameters a_t at which loss and gradient were taken.
    val_loss : (epochs recorded,) array
        The mean squared error on the validation rows at the end of the epoch, after its updates.
    """

    epoch: np.ndarray
    loss: np.ndarray | None
    grad: np.ndarray | None
    step: np.ndarray | None
    coef: np.ndarray | None
    val_loss: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.epoch)

    def __repr__(self) -> str:
        kept = [field.name for field in fields(self)[1:] if getattr(self, field.name) is not None]
        return f"History({len(self)} rows of {', '.join(kept) or 'nothing'})"


class Checkpoint(NamedTuple):
    """All that ``fit(X, y, init=result)`` needs to go on to the bit; not meant to be read.

    parameters are (2, p, k), the last iterate and its velocity; average and best (p, k), the mean of the iterates and
    the best of them. generator and split are states of the row generator: now, and before it chose the validation
    rows. Those of `fit_many` lead with the axis of the fits.
    """

    parameters: np.ndarray
    metrics: np.ndarray
    average: np.ndarray | None
    best: np.ndarray | None
    epoch: int
    updates: int
    averaged: int
    best_epoch: int
    waited: int
    best_loss: float
    record: str | None
    record_every: int
    fit_intercept: bool
    generator: dict[str, Any] | None
    split: dict[str, Any] | None


@dataclass(frozen=True, eq=False, repr=False, init=False)
class FitResult(_Arrays):
    """Where a descent ended and how it got there. Arrays have the dtype of the fit; equality compares them whole.

    Of `fit_many`, everything leads with an axis of the fits: what is one number or one status below is an array of
    them there, and ``result[i]`` is fit i.

    Attributes
    ----------
    coef : (d,) or (d, k) array
        The coefficients after the last update; with `patience`, after the best epoch.
    intercept : float or (k,) array
        The intercept that goes with them; 0.0 for a fit without.
    velocity : (p,) or (p, k) array
        The momentum buffer of the last update; the intercept's last, if there is one.
    loss : float or (k,) array
        The mean squared error of `coef` and `intercept` over the rows: what one more epoch would record first.
    epochs : int
        Epochs done, those of `init` included.
    status : Status
        ``completed``, ``converged`` or ``stopped``; ``diverged`` on the result of a `DivergenceError`.
    history : History
        Loss, gradient, step and coefficients, row by row.
    best_epoch : int or None
        The epoch with the lowest validation loss, where there was validation.
    average_coef, average_intercept : arrays like coef and intercept, or None
        The mean of the iterates, where it was asked for.
    lr, momentum, dampening : float
        The constants of the last epoch.
    method : {"direct", "compress"}
        Whether the descent ran on the rows, or on their reduction.
    optimal_loss : float or (k,) array, or None
        The least possible mean squared error, known only if the fit reduced the data (``method="compress"``,
        ``lr="auto"``); otherwise use `Compressed.optimal_loss`.
    feature_names : tuple of str, or None
        The columns' names, where X was a table whose columns have names.
    checkpoint : Checkpoint
        What it takes to go on.
    """

    coef: np.ndarray
    intercept: Any
    velocity: np.ndarray
    loss: Any
    epochs: int
    status: Status
    history: History
    best_epoch: int | None
    average_coef: np.ndarray | None
    average_intercept: Any
    lr: float
    momentum: float
    dampening: float
    method: str
    optimal_loss: Any
    feature_names: tuple[str, ...] | None
    checkpoint: Checkpoint

    def __setstate__(self, state):
        """Takes up what was pickled, if its parts are what they should be."""
        vars(self).update(state)
        check_parts(self)

    @np.errstate(all="ignore")
    def predict(self, X) -> np.ndarray:
        """``X @ coef + intercept``, of shape (n,) or (n, k); of fit_many's result (B, n), for X (n, d) or (B, n, d).

        Where both the fit and X are of tables, columns go by their names: others in X are passed over.

        Raises
        ------
        ValueError
            If X is not 2-D, has another number of columns than the fit, or is a table without one of them.
        """
        X = by_name(X, self.feature_names)
        if isinstance(self.epochs, np.ndarray):
            X = as_real(X, "X")
            B, d = self.coef.shape
            if X.ndim not in (2, 3) or X.shape[-1] != d or (X.ndim == 3 and len(X) != B):
                raise ValueError(f"X must have shape (n, {d}) or ({B}, n, {d}), got {X.shape}")
            return (X @ self.coef[:, :, np.newaxis])[..., 0] + self.intercept[:, np.newaxis]
        X = as_matrix(X, "X")
        if X.shape[1] != len(self.coef):
            raise ValueError(f"X must have the {len(self.coef)} columns of the fit, got {X.shape[1]} (shape {X.shape})")
        return X @ self.coef + self.intercept

    def __getitem__(self, i: int) -> FitResult:
        """Fit i of `fit_many`'s result, as `fit` returns it; TypeError if this is one fit."""
        if not isinstance(self.epochs, np.ndarray):
            raise TypeError("this is the result of one fit; only that of fit_many has parts")
        i = operator.index(i)
        was, epochs = self.checkpoint, int(self.epochs[i])
        rows = 0 if was.record is None else -(-epochs // was.record_every)
        own = {name: getattr(self, name)[i] for name in ("coef", "velocity", "loss", "lr", "momentum", "dampening")}
        kept = {field.name: getattr(self.history, field.name) for field in fields(self.history)}
        history = {name: None if array is None else array[i, :rows].copy() for name, array in kept.items()
                   if name != "epoch"}  # fmt: skip
        return FitResult(
            **{name: value.copy() if value.ndim else value for name, value in own.items()},
            intercept=self.intercept[i] if was.fit_intercept else 0.0,
            epochs=epochs,
            status=Status(self.status[i]),
            history=History(epoch=self.history.epoch[:rows].copy(), **history),
            best_epoch=None,
            average_coef=None,
            average_intercept=None,
            method=self.method,
            optimal_loss=None,
            feature_names=self.feature_names,
            checkpoint=was._replace(
                parameters=was.parameters[i].copy(),
                metrics=was.metrics[i].copy(),
                epoch=epochs,
                updates=epochs,
            ),
        )

    def __repr__(self) -> str:
        if isinstance(self.epochs, np.ndarray):
            counts = ", ".join(f"{count} {status}" for status, count in Counter(self.status.tolist()).items())
            return f"FitResult of {len(self.epochs)} fits: {counts}\n  history {len(self.history)} rows each"
        with np.printoptions(precision=6, threshold=10, edgeitems=3):
            lines = [
                f"FitResult: {self.status} after {self.epochs} epochs",
                f"  loss {self.loss}",
                f"  coef {self.coef}",
            ]
            if len(self.velocity) > len(self.coef):
                lines.append(f"  intercept {self.intercept}")
            lines.append(f"  history {len(self.history)} rows")
            return "\n".join(lines)

    def summary(self) -> str:
        """A table of the parameters by name, with their last gradient, beside the constants, the loss and its gap to
        the optimal loss where that is known; of `fit_many`, a table of the fits.

        Examples
        --------
        >>> import numpy as np, sgdm
        >>> x = np.linspace(-1, 1, 100)
        >>> y = 3 * x + 2 + 0.1 * (-1.0) ** np.arange(100)
        >>> print(sgdm.fit(x.reshape(-1, 1), y, fit_intercept=True, method="compress").summary())
        status        completed
        epochs        50
        lr            0.1
        momentum      0.8
        dampening     0.8
        loss          0.0100773
        optimal loss  0.00999700
        gap           8.03471e-05
        <BLANKLINE>
                     coefficient  gradient at epoch 49
        x0               3.00219            0.00337032
        (intercept)      2.00844             0.0186821
        """
        from .._summary import as_text  # here, as most programs don't look

        return as_text(self)

    def _repr_html_(self) -> str:
        """What a notebook shows: the summary, and the losses drawn."""
        from .._summary import as_html

        return as_html(self)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write everything to `path`, an .npz file without pickle; `sgdm.load` reads it.

        The file appears whole or not at all: it is written beside `path` and then renamed.

        Raises
        ------
        ValueError
            If the result's parts don't go together, after `dataclasses.replace` say: it could not be loaded.
        """
        check_result(self)
        write_npz(path, "result", *_flatten(self))


def load(path: str | os.PathLike[str]) -> FitResult:
    """Read a result that `FitResult.save` wrote.

    Raises
    ------
    ValueError
        If the file is damaged, or not one of ours, or what it holds does not go together.
    OSError
        If it can't be read.
    """
    return read_npz(path, "result", _unflatten)


def _flatten(result):
    """The result's arrays by dotted name, and all the rest as a nested dict."""
    arrays = {}

    def visit(part, prefix):
        plain = {}
        names = part._fields if isinstance(part, Checkpoint) else [field.name for field in fields(part)]
        for name in names:
            value = getattr(part, name)
            if isinstance(value, (History, Checkpoint)):
                plain[name] = visit(value, f"{name}.")
            elif isinstance(value, (np.ndarray, np.generic)):
                arrays[prefix + name] = np.asarray(value)
            else:
                plain[name] = value
        return plain

    plain = visit(result, "")
    return arrays, plain


def _unflatten(arrays, plain):
    """The inverse of `_flatten`."""
    parts = {"": plain, "history": plain["history"], "checkpoint": plain["checkpoint"]}
    for name, value in arrays.items():
        parent, _, leaf = name.rpartition(".")
        parts[parent][leaf] = value if value.ndim else value[()]
    for part, kind in (("", FitResult), ("history", History), ("checkpoint", Checkpoint)):
        names = Checkpoint._fields if kind is Checkpoint else [field.name for field in fields(kind)]
        if not isinstance(parts[part], dict) or parts[part].keys() != set(names):
            raise ValueError(f"it lacks something of a {kind.__name__}, or has too much")
    plain["checkpoint"] = Checkpoint(**plain["checkpoint"])
    if isinstance(plain["status"], str):
        plain["status"] = Status(plain["status"])
    if isinstance(plain["feature_names"], list):
        plain["feature_names"] = tuple(plain["feature_names"])
    plain["history"] = History(**plain["history"])
    result = FitResult(**plain)
    check_result(result)
    return result
