"""Linear least squares by gradient descent with momentum, with the whole history of the descent."""

from . import schedules
from ._fit import fit
from ._result import Checkpoint, ConvergenceWarning, DivergenceError, FitResult, History, Status, load
from ._run import Progress

__all__ = [
    "Checkpoint",
    "ConvergenceWarning",
    "DivergenceError",
    "FitResult",
    "History",
    "Progress",
    "Status",
    "fit",
    "load",
    "schedules",
]
