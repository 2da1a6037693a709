"""Pictures of a descent, drawn with matplotlib (``pip install 'sgdm[plot]'``), which is imported at the first one.

Each function draws into `ax`, by default into a new pyplot figure, and returns the Axes. Colours suit the background,
and no two curves differ by colour alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from . import _drawing as drawing
from ._animation import animate
from ._labels import Places, label_ends, line_height, shorten, three_digits, with_minus
from ._results.result import FitResult
from ._results.status import Status

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["animate", "contours", "line", "loss", "norms", "notebook", "paths"]

_MOST_OPTIMA = 3  # that `loss` draws unasked: more would fill the picture


def line(
    result: FitResult, X, y, *, features: Sequence[str] | None = None, target: str = "y", ax: Axes | None = None
) -> Axes:
    """Draw the data, and the model before and after the descent.

    With one feature the model is a line through the points. With several features the picture shows predicted over
    actual targets.

    Parameters
    ----------
    result : FitResult
        A fit of one target with ``record="all"`` or "updates".
    X : array of shape (n, d)
        The features of the rows to draw: those of the fit, or others.
    y : array of shape (n,)
        The targets of these rows.
    features : sequence of str, optional
        The names of the d features. By default ``result.feature_names``, or else x, or x0, x1, ...
    target : str, default "y"
        The name of the target.
    ax : matplotlib Axes, optional
        The Axes to draw into. By default those of a new pyplot figure.

    Returns
    -------
    matplotlib.axes.Axes
        What was drawn into: ``ax.figure.savefig("line.png")`` writes a file.

    Raises
    ------
    ImportError
        If matplotlib is missing.
    ValueError, TypeError
        If the result has several fits or targets or no such history, or if X and y don't belong to it.

    Examples
    --------
    The progression of diabetes over the body mass index of 442 patients:

    >>> import sgdm.plot
    >>> from sklearn.datasets import load_diabetes
    >>> X, y = load_diabetes(return_X_y=True, as_frame=True, scaled=False)
    >>> result = sgdm.fit(X[["bmi"]], y, fit_intercept=True, standardize=True)
    >>> ax = sgdm.plot.line(result, X[["bmi"]], y, target="progression")
    >>> [text.get_text() for text in ax.get_legend().get_texts()]
    ['start: y = 0.00x + 0.00', 'after 50 epochs: y = 10.3x − 118']
    """
    (X, y), names = drawing.as_data(result, X, y), drawing.parameter_names(result, features)
    first = drawing.trajectory(result)[1][0]
    plot = drawing.ModelPlot(drawing.as_axes(ax), X, y, names, target)
    names = [drawing.start_label(result), drawing.end_label(result)]
    models = [plot.add_model(first, at_start=True), plot.add_result(result)]
    if X.shape[1] == 1:
        between = "\n" if plot.is_narrow else ": "
        equations = (drawing.equation(*params.tolist()) for params in (first, drawing.parameters(result)))
        names = [f"{name}{between}{with_minus(equation)}" for name, equation in zip(names, equations, strict=True)]
    plot.legend(**dict(zip(names, models, strict=True)))
    return plot.ax


def loss(
    result: FitResult, *, optimum: Any = None, label: str | Sequence[str] | None = None, ax: Axes | None = None
) -> Axes:
    """Draw the loss over the epochs on a log scale, with the validation loss and the least possible loss if known.

    The result gives one curve for each target or fit. To compare results, draw them into the same `ax`, each with its
    own `label`. A training loss is drawn at the start of its epoch, a validation loss at the end.

    Parameters
    ----------
    result : FitResult
        A fit with a history of the loss.
    optimum : float or array, optional
        The least possible loss, or one for each curve. By default ``result.optimal_loss``, or none if the curves have
        more than three different ones. ``()`` draws none.
    label : str or sequence of str, optional
        The label of the curve, or one for each curve. By default the constants that vary between fits, as "lr 0.1", or
        else "fit 0", "target 0", ...; and none for one curve. Of more than 12 curves, six have labels.
    ax : matplotlib Axes, optional
        The Axes to draw into. By default those of a new pyplot figure.

    Returns
    -------
    matplotlib.axes.Axes
        What was drawn into.

    Raises
    ------
    ImportError
        If matplotlib is missing.
    ValueError
        If the result has no history of the loss, or the number of labels is not that of the curves.

    Examples
    --------
    Three momenta on the diabetes data:

    >>> import sgdm.plot
    >>> from sklearn.datasets import load_diabetes
    >>> X, y = load_diabetes(return_X_y=True, as_frame=True, scaled=False)
    >>> ax = None
    >>> for momentum in (0, 0.5, 0.9):
    ...     result = sgdm.fit(X, y, fit_intercept=True, standardize=True, momentum=momentum, dampening=0, lr=0.02)
    ...     ax = sgdm.plot.loss(result, label=f"momentum {momentum}", ax=ax)
    >>> [text.get_text() for text in ax.texts]
    ['momentum 0', 'momentum 0.5', 'momentum 0.9']
    """
    (epochs, training), validation = drawing.recorded_values(result, "loss"), result.history.val_loss
    labels = drawing.fit_labels(result, label)
    ax = drawing.as_axes(ax)
    names = drawing.curve_labels(labels, "" if validation is None else "training")
    drawing.draw_curves(ax, epochs, training, names, log=True, diverged=drawing.diverged_fits(result))
    if validation is not None:
        best = "" if result.best_epoch is None else f", best: epoch {result.best_epoch}"
        validation = validation.reshape(len(validation), -1)
        epoch_ends = np.arange(len(validation)) * result.checkpoint.record_every + 1
        drawing.draw_curves(ax, epoch_ends, validation, drawing.curve_labels(labels, f"validation{best}"), log=True)
    known = result.optimal_loss if optimum is None else optimum
    different = np.unique(() if known is None else known).tolist()
    for least in different if optimum is not None or len(different) <= _MOST_OPTIMA else ():
        # A line far below all losses would leave the descent little height: then only the label shows the optimum.
        if least > np.min(training, where=training > 0, initial=np.inf) / 1000:
            ax.axhline(least, color=drawing.colours(ax)[-1], linewidth=1, linestyle=(0, (6, 4)))
        label_ends(ax, [(epochs[-1], least, f"optimum {three_digits(least)}", drawing.colours(ax)[-1])])
    drawing.label_axes(ax, "epoch", "mean squared error")
    return ax


def norms(result: FitResult, *, label: str | Sequence[str] | None = None, ax: Axes | None = None) -> Axes:
    """Draw the norms of the gradient and of the step (the momentum buffer) over the epochs, on a log scale.

    Several targets or fits have a colour each; the curves of the step are thinner.

    Parameters
    ----------
    result : FitResult
        A fit with ``record="all"`` or "updates".
    label : str or sequence of str, optional
        The label of the fit, or one for each target or fit of the result. By default as for `loss`.
    ax : matplotlib Axes, optional
        The Axes to draw into. By default those of a new pyplot figure.

    Returns
    -------
    matplotlib.axes.Axes
        What was drawn into.

    Raises
    ------
    ImportError
        If matplotlib is missing.
    ValueError
        If the result has no history of gradient and step, or the number of labels is not that of targets or fits.

    Examples
    --------
    >>> import sgdm.plot
    >>> from sklearn.datasets import load_diabetes
    >>> X, y = load_diabetes(return_X_y=True, as_frame=True, scaled=False)
    >>> ax = sgdm.plot.norms(sgdm.fit(X, y, fit_intercept=True, standardize=True, dampening=0, lr=0.02))
    >>> [text.get_text() for text in ax.texts]
    ['gradient', 'step']
    """
    histories = {"gradient": drawing.recorded_values(result, "grad"), "step": drawing.recorded_values(result, "step")}
    labels = drawing.fit_labels(result, label)
    ax, several = drawing.as_axes(ax), len(labels) > 1
    first, linewidth = len(ax.lines), 2.0
    for quantity, (epochs, vectors) in histories.items():
        scale = np.abs(vectors).max(axis=1, keepdims=True)  # without it the squares might overflow
        scale[scale == 0] = 1
        norm = np.linalg.norm(vectors / scale, axis=1) * scale[:, 0]
        names = labels if several else drawing.curve_labels(labels, quantity)
        start, diverged = first if several else None, drawing.diverged_fits(result)
        drawing.draw_curves(ax, epochs, norm, names, log=True, diverged=diverged, first=start, linewidth=linewidth)
        if several:  # the step is thinner, in the colours and dashes of the gradient, whose curves have the labels
            labels, linewidth = [""] * len(labels), 0.8
    drawing.label_axes(ax, "epoch", "norm of gradient (thick) and step (thin)" if several else "norm")
    return ax


def paths(result: FitResult, *, features: Sequence[str] | None = None, ax: Axes | None = None) -> Axes:
    """Draw the parameters over the epochs, up to the last update.

    The parameters that end largest have labels, as many as there is space for. The others are thin lines.

    Parameters
    ----------
    result, features, ax : as for `line`
        The fit, the names of its features, and the Axes to draw into.

    Returns
    -------
    matplotlib.axes.Axes
        What was drawn into.

    Raises
    ------
    ImportError, ValueError, TypeError
        As for `line`.

    Examples
    --------
    The coefficients of the standardized diabetes data:

    >>> import sgdm.plot
    >>> from sklearn.datasets import load_diabetes
    >>> X, y = load_diabetes(return_X_y=True, as_frame=True, scaled=False)
    >>> X = (X - X.mean()) / X.std()
    >>> ax = sgdm.plot.paths(sgdm.fit(X, y - y.mean(), epochs=200))
    >>> [text.get_text() for text in ax.texts]
    ['age', 'sex', 'bmi', 'bp', 's1', 's2', 's3', 's4', 's5', 's6']
    """
    (epochs, path), names = drawing.trajectory(result), drawing.parameter_names(result, features)
    ax = drawing.as_axes(ax)
    fitting = int(ax.get_window_extent().height / line_height(ax))
    labelled = np.argsort(-np.abs(path[-1]), kind="stable")[: max(1, min(drawing.MAX_LABELLED, fitting))]
    labels = [shorten(name, 24) if i in labelled else None for i, name in enumerate(names)]
    drawing.draw_curves(ax, epochs, path, labels)
    drawing.label_axes(ax, "epoch", "coefficient")
    return ax


def contours(
    result: FitResult,
    X: Any,
    y: Any = None,
    *,
    params: tuple[int, int] = (0, 1),
    features: Sequence[str] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw the path of two parameters over the contours of the loss.

    With more than two parameters, each point shows the loss minimised over the others. The minimum is exact, but the
    path need not run downhill. From contour to contour, the distance to the least loss grows by a factor of three. Of a
    descent that diverged, the path ends where it leaves the picture.

    Parameters
    ----------
    result : FitResult
        A fit of one target with ``record="all"`` or "updates".
    X : array of shape (n, d), or Compressed
        The rows whose loss is drawn, without weights. For weighted rows, or more than memory holds, their reduction:
        ``sgdm.compress(X, y, sample_weight=w)``.
    y : array of shape (n,), optional
        The targets of these rows. None if X is a `Compressed`, which holds them.
    params : pair of int, default (0, 1)
        The parameters along the two axes. The intercept comes after the features, and -1 is the last parameter.
    features, ax : as for `line`
        The names of the features, and the Axes to draw into.

    Returns
    -------
    matplotlib.axes.Axes
        What was drawn into.

    Raises
    ------
    ImportError
        If matplotlib is missing.
    ValueError, TypeError
        As for `line`, or if `params` are not two different parameters of the fit.

    Examples
    --------
    The coefficients of body mass index and blood pressure in the diabetes data:

    >>> import sgdm.plot
    >>> from sklearn.datasets import load_diabetes
    >>> X, y = load_diabetes(return_X_y=True, as_frame=True, scaled=False)
    >>> X = ((X - X.mean()) / X.std())[["bmi", "bp"]]
    >>> result = sgdm.fit(X, y - y.mean(), momentum=0.9)
    >>> ax = sgdm.plot.contours(result, X, y - y.mean())
    >>> ax.get_xlabel(), ax.get_ylabel()
    ('coefficient of bmi', 'coefficient of bp')
    """
    path, names = drawing.trajectory(result)[1], drawing.parameter_names(result, features)
    pair = drawing.as_pair(params, names)
    factor, total_weight = drawing.profile_factor(result, X, y, pair)

    def loss_at(a, b):
        return (np.tensordot(factor, np.stack([a, b, -np.ones_like(a)]), 1) ** 2).sum(0) / total_weight

    path, minimum = path[:, pair], np.linalg.lstsq(factor[:, :2], factor[:, 2], rcond=None)[0]
    visible = path
    if result.status == Status.DIVERGED:  # show where the descent began to go wrong, not how far it got
        with np.errstate(over="ignore", invalid="ignore"):
            within = loss_at(*path.T) <= 100 * loss_at(*path[:1].T)
        path = drawing.until_it_leaves(path, within)
        visible = path[:-1]
    points = np.vstack([visible, minimum])
    centre, span = (points.min(0) + points.max(0)) / 2, 1.3 * np.ptp(points, axis=0)
    span[span == 0] = span.max() or np.abs(centre).max() or 1.0
    ax = drawing.as_axes(ax)
    shape = ax.get_window_extent().size
    scale = (span / shape).max()
    similar = bool(0.4 * scale < (span / shape).min())
    if similar:  # equal scales, which fill the panel: then steepest descent is at right angles to the contours
        span = scale * np.asarray(shape)
        shared = all(len(group.get_siblings(ax)) > 1 for group in (ax.get_shared_x_axes(), ax.get_shared_y_axes()))
        ax.set_aspect("equal", adjustable="box" if shared else "datalim")
    grid = np.linspace(centre - 0.75 * span, centre + 0.75 * span, 200)  # beyond the view, which a layout may widen
    low, high = centre - span / 2, centre + span / 2
    losses, least = loss_at(*np.meshgrid(*grid.T)), loss_at(*minimum[:, np.newaxis])[0]
    largest = max(loss_at(*corner) for corner in np.array([low, high, [low[0], high[1]], [high[0], low[1]]])[..., None])
    levels = least + (largest - least) * 3.0 ** -np.arange(8.5, 0, -1)

    first, second, *_, ink = drawing.colours(ax)
    curves: list[np.ndarray] = []
    if np.all(np.diff(levels) > 0):
        drawn = ax.contour(*grid.T, losses, levels, colors=[ink], alpha=0.45, linewidths=0.8)
        curves = [np.asarray(ring.vertices) for ring in drawn.get_paths()]
    ax.plot(*path.T, color=first, linewidth=1.5, marker="o" if len(path) <= 200 else None, markersize=3)
    ax.plot(*minimum, color=second, linestyle="none", marker="*", markersize=13)
    ax.set_xlim(low[0], high[0], auto=similar)  # fixed limits could not follow the aspect
    ax.set_ylim(low[1], high[1], auto=similar)
    drawing.label_axes(ax, *(names[i] if names[i] == "intercept" else f"coefficient of {names[i]}" for i in pair))
    ax.grid(False)
    ax.figure.figure.draw_without_rendering()  # lays the figure out: text is placed by pixels
    pixel = ax.figure.dpi / 72
    places = Places(ax, [path, minimum[np.newaxis]])
    for point, name, radius in ((minimum, "minimum", 6), (path[0], drawing.start_label(result), 2)):
        places.label_point(point, name, radius * pixel)
    for level, curve in list(zip(levels, curves, strict=False))[-5::2]:
        if len(curve):
            places.label_curve(curve, three_digits(level))
    return ax


def notebook(result: FitResult, X, y, *, features: Sequence[str] | None = None, target: str = "y") -> Figure:
    """Draw three panels, as ``sgdm --plot`` does: the model before the descent, the model after it, and the loss.

    Parameters
    ----------
    result, X, y, features, target : as for `line`
        The fit, the rows to draw, and the names of features and target.

    Returns
    -------
    matplotlib.figure.Figure
        A figure that pyplot doesn't manage; ``figure.savefig("descent.png")`` writes a file.

    Raises
    ------
    ImportError, ValueError, TypeError
        As for `line`.

    Examples
    --------
    The example of the command ``sgdm``, 100 points near the line y = 3x + 2.5:

    >>> from importlib.resources import files
    >>> import numpy as np, sgdm.plot
    >>> x, y = np.loadtxt(files("sgdm") / "data/lesson2_points.csv", delimiter=",", skiprows=1, unpack=True)
    >>> result = sgdm.fit(x.reshape(-1, 1), y, fit_intercept=True, coef0=[-1, 1])
    >>> figure = sgdm.plot.notebook(result, x.reshape(-1, 1), y)
    >>> [ax.get_title() for ax in figure.axes]
    ['at the start', 'after 50 epochs', 'loss']
    """
    (X, y), names = drawing.as_data(result, X, y), drawing.parameter_names(result, features)
    start, first = drawing.start_label(result), drawing.trajectory(result)[1][0]
    figure = drawing.new_figure(figsize=(13.5, 4.2))
    figure.set_layout_engine("constrained", w_pad=0.12)
    left, middle, right = figure.subplots(1, 3)
    middle.sharex(left)
    middle.sharey(left)
    before, after = drawing.ModelPlot(left, X, y, names, target), drawing.ModelPlot(middle, X, y, names, target)
    for plot, model, params, title in (
        (before, before.add_model(first), first, "at the start" if start == "start" else start),
        (after, after.add_result(result), drawing.parameters(result), drawing.end_label(result)),
    ):
        plot.ax.set_title(title)
        plot.legend(**{with_minus(drawing.equation(*params.tolist())): model} if X.shape[1] == 1 else {})
    loss(result, ax=right).set_title("loss")
    return figure
