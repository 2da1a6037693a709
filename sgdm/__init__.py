"""Linear least squares by gradient descent with momentum, with the whole history of the descent."""

from . import schedules
from ._compress import Compressed, compress
from ._fit import fit
from ._many import fit_many
from ._result import Checkpoint, ConvergenceWarning, DivergenceError, FitResult, History, Status, load
from ._run import Progress
from ._tuning import Tuned

__all__ = [
    "Checkpoint",
    "Compressed",
    "ConvergenceWarning",
    "DivergenceError",
    "FitResult",
    "History",
    "Progress",
    "Status",
    "Tuned",
    "compress",
    "fit",
    "fit_many",
    "load",
    "schedules",
]
