"""Linear least squares by gradient descent with momentum, with the whole history of the descent."""

from ._fit import fit
from ._result import ConvergenceWarning, DivergenceError, FitResult, History, Status

__all__ = ["ConvergenceWarning", "DivergenceError", "FitResult", "History", "Status", "fit"]
