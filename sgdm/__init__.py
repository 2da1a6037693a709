"""Linear least squares by gradient descent with momentum, with the whole history of the descent.

`fit` fits a problem, and `fit_many` many in one call. `compress` reduces any number of rows, read once, to a small
problem with the same losses and gradients. `sgdm.schedules` has learning rates that change, `sgdm.sklearn` estimators,
`sgdm.plot` pictures. The folder docs/ of the source has tutorials, how-tos and explanations: begin with
docs/tutorials/start.md, or with docs/lesson.ipynb to learn how gradient descent works. help(sgdm.fit),
help(sgdm.fit_many) and help(sgdm.compress) list all options.
"""

try:
    from . import _kernel  # noqa: F401 - whether it is compiled
except ModuleNotFoundError as missing:
    if not str(missing.name).startswith(f"{__name__}._kernel."):
        raise
    raise ModuleNotFoundError(
        f"{__path__[0]} holds the source of sgdm, not compiled for this Python: run `pip install -e .` in the folder "
        "above, or start Python elsewhere to import the sgdm that is installed",
        name=missing.name,
    ) from None

from typing import TYPE_CHECKING

from . import schedules
from ._descent.descent import Progress
from ._descent.tuning import Tuned
from ._fit import fit
from ._fit_many import fit_many
from ._reduction.compress import compress
from ._reduction.compressed import Compressed
from ._results.checkpoint import Checkpoint
from ._results.history import History
from ._results.many import load
from ._results.result import FitResult
from ._results.status import ConvergenceWarning, DivergenceError, Status

__all__ = [
    "Checkpoint", "Compressed", "ConvergenceWarning", "DivergenceError", "FitResult", "History", "Progress", "Status",
    "Tuned", "compress", "fit", "fit_many", "load", "schedules",
]  # fmt: skip

if TYPE_CHECKING:
    from . import plot as plot
    from . import sklearn as sklearn

    __version__: str
else:

    def __getattr__(name):
        """What is found when it is asked for: the version, and the modules that need matplotlib or scikit-learn."""
        if name == "__version__":
            from importlib.metadata import PackageNotFoundError, version

            try:
                return version(__name__)  # only pyproject.toml states it
            except PackageNotFoundError:
                return "0+unknown"
        if name in ("plot", "sklearn"):
            from importlib import import_module

            return import_module(f"{__name__}.{name}")
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
