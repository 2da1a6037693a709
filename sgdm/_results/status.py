"""How a fit ended, what it warns of, and what it raises."""

from __future__ import annotations

from contextlib import suppress
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .result import FitResult


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

    result: FitResult | None = None
    max_lr: float | None = None


def attach_result(error, result):
    """Sets ``error.result``, unless exceptions of its class take no attributes."""
    with suppress(AttributeError):
        error.result = result
