"""The result of many fits, and results from files."""

import operator
import os
from collections import Counter
from typing import ClassVar

import numpy as np

from .._files import read_npz
from .._validation import as_real, by_name, ceil_div
from .checkpoint import Checkpoint
from .checks import check_result
from .history import History
from .result import FitResult, field_names, r_squared
from .status import Status

_OF_EACH_FIT = ("coef", "velocity", "loss", "lr", "momentum", "dampening")


class FitResults(FitResult):
    """The result of `fit_many`. Its arrays lead with an axis of B fits; ``epochs`` and ``status`` are arrays too."""

    epochs: np.ndarray  # type: ignore[assignment]
    status: np.ndarray  # type: ignore[assignment]

    _is_many: ClassVar[bool] = True

    @np.errstate(all="ignore")
    def predict(self, X) -> np.ndarray:
        """Predict the targets of every fit.

        Parameters
        ----------
        X : array of shape (n, d) or (B, n, d)
            The rows to predict, the same for all fits or those of each.

        Returns
        -------
        array of shape (B, n)
            The predictions.

        Raises
        ------
        ValueError
            If X has another shape, or is a table without one of the fit's columns.
        """
        X = as_real(by_name(X, self.feature_names), "X")
        B, d = self.coef.shape
        if X.ndim not in (2, 3) or X.shape[-1] != d or (X.ndim == 3 and len(X) != B):
            raise ValueError(f"X must have shape (n, {d}) or ({B}, n, {d}), got {X.shape}")
        return (X @ self.coef[:, :, np.newaxis])[..., 0] + self.intercept[:, np.newaxis]

    def score(self, X, y, sample_weight=None) -> np.ndarray:
        """R² of every fit, (B,), for y (n,) or (B, n)."""
        predicted, y = self.predict(X), as_real(y, "y")
        if y.shape not in (predicted.shape, predicted.shape[1:]):
            B, n = predicted.shape
            raise ValueError(f"y must have shape ({n},) or ({B}, {n}), got {y.shape}")
        return r_squared(np.broadcast_to(y, predicted.shape).T, predicted.T, sample_weight)

    def __len__(self) -> int:
        return len(self.epochs)

    def __getitem__(self, i: int) -> FitResult:
        """Fit i, as `fit` returns it."""
        i = operator.index(i)
        checkpoint, history, epochs = self.checkpoint, self.history, int(self.epochs[i])
        rows = 0 if checkpoint.record is None else ceil_div(epochs, checkpoint.record_every)
        own = {name: getattr(self, name)[i] for name in _OF_EACH_FIT}
        paths = {name: getattr(history, name) for name in ("loss", "grad", "step", "coef")}
        return FitResult(
            **{name: value.copy() if value.ndim else value for name, value in own.items()},
            intercept=self.intercept[i] if checkpoint.fit_intercept else 0.0,
            epochs=epochs,
            status=Status(self.status[i]),
            history=History(
                epoch=history.epoch[:rows].copy(),
                **{name: None if path is None else path[i, :rows].copy() for name, path in paths.items()},
            ),
            method=self.method,
            optimal_loss=None if self.optimal_loss is None else self.optimal_loss[i],
            feature_names=self.feature_names,
            checkpoint=checkpoint._replace(
                parameters=checkpoint.parameters[i].copy(),
                metrics=checkpoint.metrics[i].copy(),
                epoch=epochs,
                updates=epochs,
            ),
        )

    def __repr__(self) -> str:
        counts = ", ".join(f"{count} {status}" for status, count in Counter(self.status.tolist()).items())
        return f"FitResult of {len(self)} fits: {counts}\n  history {len(self.history)} rows each"


def load(path: str | os.PathLike[str]) -> FitResult:
    """Read a result that `FitResult.save` wrote, to look at it or to go on with the fit.

    Parameters
    ----------
    path : path
        The file to read.

    Returns
    -------
    FitResult
        The result, equal to the one saved.

    Raises
    ------
    ValueError
        If the file is damaged or something else, or if the parts in it don't belong together.
    OSError
        If the file can't be read.

    Examples
    --------
    >>> import os, tempfile
    >>> import numpy as np, sgdm
    >>> X, y = np.eye(2), np.ones(2)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "run.npz")
    ...     sgdm.fit(X, y, epochs=20).save(path)
    ...     first = sgdm.load(path)
    >>> sgdm.fit(X, y, epochs=30, init=first) == sgdm.fit(X, y, epochs=50)
    True
    """
    return read_npz(path, "result", unflatten)


def unflatten(arrays, metadata):
    """The inverse of `flatten`. Where the epochs are an array, the result is that of many fits."""
    parts = {"": metadata, "history": metadata["history"], "checkpoint": metadata["checkpoint"]}
    for name, value in arrays.items():
        parent, _, leaf = name.rpartition(".")
        parts[parent][leaf] = value if value.ndim else value[()]
    for part, kind in (("", FitResult), ("history", History), ("checkpoint", Checkpoint)):
        if not isinstance(parts[part], dict) or parts[part].keys() != set(field_names(kind)):
            raise ValueError(f"it lacks something of a {kind.__name__}, or has too much")
    metadata["checkpoint"] = Checkpoint(**metadata["checkpoint"])
    if isinstance(metadata["status"], str):
        metadata["status"] = Status(metadata["status"])
    if isinstance(metadata["feature_names"], list):
        metadata["feature_names"] = tuple(metadata["feature_names"])
    metadata["history"] = History(**metadata["history"])
    result = (FitResults if "epochs" in arrays else FitResult)(**metadata)
    check_result(result)
    return result
