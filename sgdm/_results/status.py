"""How a fit ended, what it warns of, and what it raises."""

from __future__ import annotations

from contextlib import suppress
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .result import FitResult


class Status(StrEnum):
    """How a fit ended.

    A member equals its name in lower case: ``result.status == "converged"``. Its `message` says what it means.

    Attributes
    ----------
    COMPLETED : str
        All epochs are done.
    CONVERGED : str
        The gradient norm fell to `tol` times its first value.
    STOPPED : str
        The fit ended early, by `patience`, by its callback or by an interrupt.
    DIVERGED : str
        A loss or a parameter overflowed.

    Examples
    --------
    >>> import numpy as np, sgdm
    >>> result = sgdm.fit(np.eye(2), np.ones(2), tol=1e-6, epochs=1000)
    >>> print(result.status, "after", result.epochs, "epochs")
    converged after 81 epochs
    """

    COMPLETED = "completed"
    CONVERGED = "converged"
    STOPPED = "stopped"
    DIVERGED = "diverged"

    @property
    def message(self) -> str:
        """What the status means, in a sentence."""
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
    """A loss or a parameter overflowed: the learning rate was too large, or the data were.

    The message says at which epoch, and names a learning rate that is stable.

    Attributes
    ----------
    result : FitResult
        The epochs before that. Its status is ``diverged``.
    max_lr : float or None
        A stable learning rate for these rows and constants. With full batches it is 0.95 times the largest. None if the
        data themselves overflow.

    See Also
    --------
    fit : Raise it, with an example.
    """

    result: FitResult | None = None
    max_lr: float | None = None


def attach_result(error, result):
    """Sets ``error.result``, unless exceptions of its class take no attributes."""
    with suppress(AttributeError):
        error.result = result
