"""The notebook's pictures. matplotlib (``pip install 'sgdm[plot]'``) is imported when one is drawn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ._result import FitResult
from ._validation import as_matrix, as_targets

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["notebook"]

_BLUE, _VERMILLION, _GREEN = "#0072B2", "#D55E00", "#009E73"  # Okabe and Ito's, for colour-blind eyes too


def notebook(X, y, result: FitResult, *, features: Sequence[str] | None = None, target: str = "y") -> Figure:
    """Draw a fit: the data with the model it started from and the one it ended at, and the loss on the way.

    One feature is drawn as points and line, several as predicted against actual targets.

    Parameters
    ----------
    X : array of shape (n, d)
        The features of the fit.
    y : array of shape (n,)
        Its target.
    result : FitResult
        What ``sgdm.fit(X, y, ...)`` returned, with ``record="all"``.
    features : sequence of str, optional
        The features' names. The name of a single one labels its axis, ``x`` by default.
    target : str, default "y"
        The target's name.

    Returns
    -------
    matplotlib.figure.Figure
        Of three panels, and of no pyplot state: ``figure.savefig("descent.png")`` writes it.

    Raises
    ------
    ImportError
        If matplotlib is missing.
    ValueError
        If y holds several targets, X is not that of the fit, or the result has no history of coefficients.

    Examples
    --------
    >>> import numpy as np, sgdm
    >>> from sgdm.plot import notebook
    >>> x = np.linspace(-1, 1, 100).reshape(-1, 1)
    >>> y = 3 * x[:, 0] + 2
    >>> figure = notebook(x, y, sgdm.fit(x, y, fit_intercept=True))
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("sgdm.plot needs matplotlib: pip install 'sgdm[plot]'") from error

    X = as_matrix(X, "X")
    y = as_targets(y, len(X))
    if y.ndim != 1:
        raise ValueError(f"y must be one target, of shape ({len(X)},), got shape {y.shape}")
    if result.history.coef is None or result.history.loss is None:
        raise ValueError("the result must have a history of coefficients; fit with record='all'")
    result.predict(X[:1])  # refuses an X of other columns
    start = result.history.coef[0]
    end = np.append(result.coef, result.intercept)[: len(start)]

    figure = Figure(figsize=(13.5, 4.2))
    figure.set_layout_engine("constrained", w_pad=0.12)
    left, middle, right = figure.subplots(1, 3)
    middle.sharex(left)
    middle.sharey(left)
    left.set_title("at the start")
    middle.set_title(f"after {result.epochs} epoch{'' if result.epochs == 1 else 's'}")
    for axes, params in ((left, start), (middle, end)):
        predicted = X @ params[: X.shape[1]] + params[X.shape[1] :].sum()  # no intercept, or one
        if X.shape[1] == 1:
            draw_line(axes, X[:, 0], y, predicted, equation(*params.tolist()))
            label(axes, features[0] if features else "x", target)
        else:
            draw_agreement(axes, y, predicted)
            label(axes, f"actual {target}", f"predicted {target}")
        axes.legend(loc="upper left")  # "best" looks at every point
    draw_loss(right, result)
    return figure


def equation(slope: float, intercept: float | None = None) -> str:
    """A line in school's notation: ``y = 3.07x + 2.51``."""
    slope_digits = f"{slope:#.3g}".rstrip(".")
    if intercept is None:
        return f"y = {slope_digits}x"
    return f"y = {slope_digits}x {'-' if intercept < 0 else '+'} {f'{abs(intercept):#.3g}'.rstrip('.')}"


def draw_line(axes: Axes, x: np.ndarray, y: np.ndarray, predicted: np.ndarray, name: str) -> None:
    """The points, and the line through the predictions."""
    scatter(axes, x, y)
    ends = [x.argmin(), x.argmax()]
    axes.plot(x[ends], predicted[ends], color=_VERMILLION, linewidth=2.5, label=name)


def draw_agreement(axes: Axes, y: np.ndarray, predicted: np.ndarray) -> None:
    """Predictions over targets, and the line where they agree."""
    scatter(axes, y, predicted)
    axes.axline((y[0], y[0]), slope=1, color=_VERMILLION, linewidth=2, label="predicted = actual")


def scatter(axes: Axes, x: np.ndarray, y: np.ndarray) -> None:
    """Points: many are smaller and fainter, and pixels where a vector file would swell. Few ticks: long ones fit."""
    many = len(x) > 2000
    axes.scatter(x, y, s=6 if many else 22, color=_BLUE, alpha=0.25 if many else 0.65, linewidths=0, rasterized=many)
    axes.locator_params(nbins=5)
    axes.grid(alpha=0.3)


def draw_loss(axes: Axes, result: FitResult) -> None:
    """The loss of the recorded epochs, on a log scale unless it is 0 throughout."""
    loss = np.asarray(result.history.loss)
    axes.plot(result.history.epoch, loss, color=_GREEN, linewidth=2, marker="." if len(loss) <= 60 else None)
    if loss.max() > 0:
        axes.set_yscale("log")
    axes.set_title("loss")
    axes.grid(alpha=0.3)
    label(axes, "epoch", "mean squared error")


def label(axes: Axes, x: str, y: str) -> None:
    """Axis labels, at a length that fits; a $ in a name is a $, not mathematics."""
    for set_label, text in ((axes.set_xlabel, x), (axes.set_ylabel, y)):
        set_label(text if len(text) <= 40 else text[:37] + "...", parse_math=False)
