"""The result of a fit."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from .._files import write_npz
from .._validation import as_matrix, as_targets, as_weights, by_name, check_finite
from .checkpoint import Checkpoint
from .checks import check_parts, check_result
from .history import ArrayFields, History

if TYPE_CHECKING:
    import os

    from .status import Status


@dataclass(frozen=True, eq=False, repr=False, init=False)
class FitResult(ArrayFields):
    """Where a descent ended, and how it got there.

    Arrays have the dtype of the fit. Two results are equal if all their fields are. A result of `fit_many` has all
    fits in one: every array but ``history.epoch`` has a first axis of length B, and numbers and the status are arrays
    of length B. ``result[i]`` is fit i.

    Attributes
    ----------
    coef : array of shape (d,) or (d, k)
        The coefficients after the last update; with `patience`, after the best epoch.
    intercept : float or array of shape (k,)
        The intercept that belongs to them; 0.0 for a fit without.
    velocity : array of shape (p,) or (p, k)
        The momentum buffer after the last update. Its last row belongs to the intercept, if there is one.
    loss : float or array of shape (k,)
        The mean squared error of `coef` and `intercept` on the rows. A full-batch fit without `patience` would record
        it in the next epoch.
    epochs : int
        The number of epochs done, those of `init` included.
    status : Status
        ``completed``, ``converged`` or ``stopped``; ``diverged`` for the result of a `DivergenceError`.
    history : History
        Losses, gradients, steps and coefficients of the epochs.
    best_epoch : int or None
        The epoch with the lowest validation loss, summed over the targets. With `patience` and `tol`, the last epoch
        that lowered it by `tol`.
    average_coef, average_intercept : arrays like `coef` and `intercept`, or None
        The mean of the iterates, if the fit was asked for it.
    lr, momentum, dampening : float
        The constants of the last epoch.
    method : {"direct", "compress"}
        Whether the descent ran on the rows, or on their reduction.
    optimal_loss : float, array of shape (k,), or None
        The least possible mean squared error. It is known only if the rows were reduced (``method="compress"`` or
        ``lr="auto"``). `Compressed.optimal_loss` has it for any data.
    feature_names : tuple of str, or None
        The names of the columns of X, if it was a table.
    checkpoint : Checkpoint
        What ``fit(X, y, init=result)`` needs.

    Examples
    --------
    >>> import numpy as np, sgdm
    >>> sgdm.fit(np.eye(2), np.array([1.0, 3.0]), epochs=10)
    FitResult: completed after 10 epochs
      loss 0.2189279082215782
      coef [0.79075 2.37225]
      history 10 rows
    """

    coef: np.ndarray
    intercept: Any
    velocity: np.ndarray
    loss: Any
    epochs: int
    status: Status
    history: History
    lr: float
    momentum: float
    dampening: float
    method: str
    checkpoint: Checkpoint
    best_epoch: int | None = None
    average_coef: np.ndarray | None = None
    average_intercept: Any = None
    optimal_loss: Any = None
    feature_names: tuple[str, ...] | None = None

    _is_many: ClassVar[bool] = False  # whether this is the result of many fits

    def __setstate__(self, state):
        """Sets what was pickled, if its parts are what they should be."""
        vars(self).update(state)
        check_parts(self)

    @np.errstate(all="ignore")
    def predict(self, X) -> np.ndarray:
        """Predict targets: ``X @ coef + intercept``.

        Parameters
        ----------
        X : array of shape (n, d)
            The rows to predict. If the fit and X are both of tables, the columns are taken by name, and other columns
            of X are ignored. The prediction for a row with NaN is NaN.

        Returns
        -------
        array of shape (n,) or (n, k)
            The predictions. Those of a result of `fit_many` have shape (B, n), for X of shape (n, d) or (B, n, d).

        Raises
        ------
        ValueError
            If X is not 2-D, has another number of columns than the fit, or is a table without one of its columns.

        Examples
        --------
        >>> import numpy as np, sgdm
        >>> x = np.linspace(-1, 1, 100)
        >>> result = sgdm.fit(x.reshape(-1, 1), 3 * x + 2, fit_intercept=True, epochs=200)
        >>> result.predict([[0.0], [10.0]]).round(3)
        array([ 2., 32.])
        """
        return predictions(X, self.feature_names, self.coef, self.intercept)

    def score(self, X, y, sample_weight=None) -> Any:
        """R², the share of the variance of `y` that the predictions explain.

        It is 1 for exact predictions, 0 for those of the mean of `y`, and below 0 for worse ones. If `y` is constant,
        it is NaN or -inf.

        Parameters
        ----------
        X : array of shape (n, d)
            The rows to predict, as for `predict`.
        y : array of shape (n,) or (n, k)
            Their targets. For a result of `fit_many` of shape (n,) or (B, n).
        sample_weight : array of shape (n,), optional
            Their weights, 1 by default.

        Returns
        -------
        float or array of shape (k,)
            R² of each target. For a result of `fit_many` that of each fit, (B,).

        Raises
        ------
        ValueError
            If y does not have the shape of the predictions, or holds NaN or infinity.

        Examples
        --------
        >>> import numpy as np, sgdm
        >>> x = np.linspace(-1, 1, 100)
        >>> y = 3 * x + 2 + (-1.0) ** np.arange(100)
        >>> result = sgdm.fit(x.reshape(-1, 1), y, fit_intercept=True, epochs=500)
        >>> round(result.score(x.reshape(-1, 1), y), 4)
        0.7501
        """
        predicted = self.predict(X)
        y = as_targets(y, len(predicted))
        if y.shape != predicted.shape:
            raise ValueError(f"y must have the shape of the predictions, {predicted.shape}, got {y.shape}")
        return r_squared(y, predicted, sample_weight)

    def history_columns(self) -> dict[str, np.ndarray]:
        """The history as columns by name, for ``pandas.DataFrame`` or ``polars.DataFrame``.

        Returns
        -------
        dict of str to array of shape (rows,)
            ``epoch``, ``loss`` and ``val_loss``; ``grad_NAME``, ``step_NAME`` and ``coef_NAME`` for each parameter. The
            names are those of the columns of X, or x0, x1, ...; the intercept's is (intercept). With several targets,
            the number of the target follows: ``loss_0``. What was not recorded is left out, and so is ``val_loss`` if
            there is a row per update.

        Raises
        ------
        TypeError
            If this is the result of `fit_many`: take one of its fits, ``result[i]``.

        Examples
        --------
        >>> import sgdm
        >>> result = sgdm.fit([[1.0, 0.0], [0.0, 2.0]], [1.0, 3.0], fit_intercept=True, epochs=2)
        >>> list(result.history_columns())[:5]
        ['epoch', 'loss', 'grad_x0', 'grad_x1', 'grad_(intercept)']
        """
        if self._is_many:
            raise TypeError("this is the result of many fits, each with its own history; take one of them, result[i]")
        history, columns = self.history, {"epoch": self.history.epoch}
        names = [f"_{name}" for name in self.feature_names or (f"x{j}" for j in range(len(self.coef)))]
        names += ["_(intercept)"] * self.checkpoint.fit_intercept
        of_targets = [""] if self.coef.ndim == 1 else [f"_{t}" for t in range(self.coef.shape[1])]
        for field in ("loss", "val_loss", "grad", "step", "coef"):
            array = getattr(history, field)
            if array is not None and len(array) == len(history):
                of_params = names if field in ("grad", "step", "coef") else [""]
                keys = [f"{field}{param}{target}" for param in of_params for target in of_targets]
                columns |= zip(keys, array.reshape(len(array), -1).T, strict=True)
        return columns

    def __getitem__(self, i: int) -> FitResult:
        """Fit i of `fit_many`'s result, as `fit` returns it; TypeError if this is one fit."""
        raise TypeError("this is the result of one fit; only that of fit_many has parts")

    def __repr__(self) -> str:
        with np.printoptions(precision=6, threshold=10, edgeitems=3):
            lines = [
                f"FitResult: {self.status} after {self.epochs} epochs",
                f"  loss {self.loss}",
                f"  coef {self.coef}",
            ]
            if self.checkpoint.fit_intercept:
                lines.append(f"  intercept {self.intercept}")
            lines.append(f"  history {len(self.history)} rows")
            return "\n".join(lines)

    def summary(self) -> str:
        """Describe the result as text: its constants, its losses, and a table of the parameters.

        The table has the last recorded gradient too. For a result of `fit_many` it is a table of the fits.

        Returns
        -------
        str
            Lines to print. The gap is the loss minus the optimal loss, if that is known.

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
        from .._summary import as_text  # here, because most programs don't call it

        return as_text(self)

    def _repr_html_(self) -> str:
        """What a notebook shows: the summary, and the losses drawn."""
        from .._summary import as_html

        return as_html(self)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the result to a file, which `sgdm.load` reads.

        The file appears whole or not at all: it is written beside ``path`` and then renamed.

        Parameters
        ----------
        path : path
            The file to write, an .npz file without pickle.

        Raises
        ------
        ValueError
            If the parts of the result don't belong together, for example after `dataclasses.replace`. `load` would
            refuse such a file.
        """
        check_result(self)
        write_npz(path, "result", *flatten(self))


def predictions(X, feature_names, coef, intercept):
    """``X @ coef + intercept``, the columns of a table taken by name."""
    X = as_matrix(by_name(X, feature_names), "X")
    if X.shape[1] != len(coef):
        raise ValueError(f"X must have the {len(coef)} columns of the fit, got {X.shape[1]} (shape {X.shape})")
    return X @ coef + intercept


@np.errstate(all="ignore")
def r_squared(y, predicted, sample_weight=None):
    """``1 - sum w (y - predicted)**2 / sum w (y - mean)**2`` along the rows, in float64."""
    check_finite(y, "y")
    y = y.astype(np.float64)
    weights = None if sample_weight is None else as_weights(sample_weight, len(y), y.dtype)[0]
    mean = np.average(y, axis=0, weights=weights)
    error, variance = (np.average((y - other) ** 2, axis=0, weights=weights) for other in (predicted, mean))
    explained = 1 - error / variance
    return explained if explained.ndim else float(explained)


def flatten(result):
    """The result's arrays by dotted name, and all the rest as a nested dict."""
    arrays = {}

    def visit(part, prefix):
        metadata = {}
        for name in field_names(part):
            value = getattr(part, name)
            if isinstance(value, (History, Checkpoint)):
                metadata[name] = visit(value, f"{name}.")
            elif isinstance(value, (np.ndarray, np.generic)):
                arrays[prefix + name] = np.asarray(value)
            else:
                metadata[name] = value
        return metadata

    metadata = visit(result, "")
    return arrays, metadata


def field_names(part):
    """The fields of a FitResult, a History or a Checkpoint, or of these classes."""
    return getattr(part, "_fields", None) or tuple(field.name for field in fields(part))
