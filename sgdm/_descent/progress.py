"""What is shown of a fit under way: to callbacks, and on the terminal."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from .._arrays import as_dtype

if TYPE_CHECKING:
    import numpy as np

    from .._results.result import FitResult


class Progress:
    """What a callback sees of a fit. It is live: it shows the last state of the fit also after the callback.

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

    def __init__(self, descent):
        self._descent = descent

    @property
    def epoch(self) -> int:
        return self._descent.state.epoch

    @property
    def loss(self) -> Any:
        problem = self._descent.problem
        loss = as_dtype(self._descent.state.metrics[2], problem.dtype)
        return loss if problem.target_shape else float(loss[0])

    @property
    def coef(self) -> np.ndarray:
        problem = self._descent.problem
        return as_dtype(self._descent.state.parameters[0].reshape(-1, *problem.target_shape), problem.dtype)

    @property
    def result(self) -> FitResult:
        return self._descent.snapshot()

    def __repr__(self) -> str:
        return f"Progress(epoch={self.epoch}, loss={self.loss})"


def progress_bar(total, unit):
    """A tqdm bar."""
    try:
        from tqdm.auto import tqdm  # type: ignore[import-untyped]
    except ImportError:
        raise ImportError("progress=True needs tqdm: pip install 'sgdm[progress]'") from None
    return tqdm(total=total, unit=unit, file=sys.stderr)
