"""What a fit hands back: its result, its history, its status, and what it raises."""

from __future__ import annotations

from dataclasses import dataclass, fields
from enum import StrEnum

import numpy as np

from ._validation import as_matrix


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
    Status.CONVERGED: "The gradient norm of every target fell to tol times its first value.",
    Status.STOPPED: "The fit was interrupted; the result holds the epochs done until then.",
    Status.DIVERGED: "A loss or a parameter overflowed; the result holds the epochs before that.",
}


class ConvergenceWarning(UserWarning):
    """A fit ended with a loss above the one it started from."""


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


class _ArrayEquality:
    """Equality of dataclasses that hold arrays: same type, dtypes, shapes and values, NaN equal to NaN."""

    def __eq__(self, other):
        if type(other) is not type(self):
            return NotImplemented
        return all(_equal(getattr(self, field.name), getattr(other, field.name)) for field in fields(self))

    __hash__ = None  # type: ignore[assignment]


def _equal(a, b):
    if isinstance(a, (np.ndarray, np.generic)) and isinstance(b, (np.ndarray, np.generic)):
        a, b = np.asarray(a), np.asarray(b)
        return a.dtype == b.dtype and np.array_equal(a, b, equal_nan=True)
    return a == b


@dataclass(frozen=True, eq=False)
class History(_ArrayEquality):
    """One row per recorded epoch t; what was not recorded is None.

    With p parameters (the features in order, then the intercept if there is one), and for k targets a last axis of k:

    Attributes
    ----------
    epoch : (rows,) int array
        The epochs recorded.
    loss : (rows,) array
        The mean squared error f(a_t), before epoch t's update.
    grad : (rows, p) array
        Its gradient g(a_t), without weight decay.
    step : (rows, p) array
        The momentum buffer v_t.
    coef : (rows, p) array
        The parameters a_t at which loss and gradient were taken.
    """

    epoch: np.ndarray
    loss: np.ndarray | None
    grad: np.ndarray | None
    step: np.ndarray | None
    coef: np.ndarray | None

    def __len__(self) -> int:
        return len(self.epoch)

    def __repr__(self) -> str:
        kept = [name for name in ("loss", "grad", "step", "coef") if getattr(self, name) is not None]
        return f"History({len(self)} epochs of {', '.join(kept) or 'nothing'})"


@dataclass(frozen=True, eq=False)
class FitResult(_ArrayEquality):
    """Where a descent ended and how it got there. Arrays have the dtype of the fit; equality compares them whole.

    Attributes
    ----------
    coef : (d,) or (d, k) array
        The coefficients after the last update.
    intercept : float or (k,) array
        The intercept after the last update; 0.0 for a fit without.
    velocity : (p,) or (p, k) array
        The momentum buffer of the last update; the intercept's last, if there is one.
    loss : float or (k,) array
        The mean squared error at the beginning of the last epoch done; NaN where none was.
    epochs : int
        Epochs done.
    status : Status
        ``completed``, ``converged`` or ``stopped``; ``diverged`` on the result of a `DivergenceError`.
    history : History
        Loss, gradient, step and coefficients, epoch by epoch.
    """

    coef: np.ndarray
    intercept: float | np.ndarray
    velocity: np.ndarray
    loss: float | np.ndarray
    epochs: int
    status: Status
    history: History

    def predict(self, X) -> np.ndarray:
        """``X @ coef + intercept``, of shape (n,) or (n, k).

        Raises
        ------
        ValueError
            If X is not 2-D or has another number of columns than the fit.
        """
        X = as_matrix(X, "X")
        if X.shape[1] != len(self.coef):
            raise ValueError(f"X must have the {len(self.coef)} columns of the fit, got {X.shape[1]} (shape {X.shape})")
        return X @ self.coef + self.intercept

    def __repr__(self) -> str:
        with np.printoptions(precision=6, threshold=10, edgeitems=3):
            lines = [
                f"FitResult: {self.status} after {self.epochs} epochs",
                f"  loss {self.loss}",
                f"  coef {self.coef}",
            ]
            if len(self.velocity) > len(self.coef):
                lines.append(f"  intercept {self.intercept}")
            lines.append(f"  history {len(self.history)} epochs")
            return "\n".join(lines)
