"""Pictures of a descent. matplotlib (``pip install 'sgdm[plot]'``) is imported when one is drawn.

Each function draws into `ax`, by default into a new pyplot figure, and returns the Axes. Colours follow the background,
and no two curves differ by colour alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np

from ._drawing import (
    NAMED,
    Model,
    as_pair,
    axes,
    beginning,
    calm,
    colours,
    curves,
    data,
    ending,
    equation,
    figure_of,
    label_axes,
    line_height,
    name_ends,
    names_of,
    number,
    owners,
    parameters,
    recorded,
    section,
    short,
    titled,
    trajectory,
)
from ._results.result import FitResult
from ._results.status import Status
from ._validation import as_count

if TYPE_CHECKING:
    from matplotlib.animation import FuncAnimation
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["animate", "contours", "line", "loss", "norms", "notebook", "paths"]


def line(
    result: FitResult, X, y, *, features: Sequence[str] | None = None, target: str = "y", ax: Axes | None = None
) -> Axes:
    """Draw the data, and the model before and after the descent.

    With one feature the model is a line through the points; with several, predicted are drawn over actual targets.

    Parameters
    ----------
    result : FitResult
        Of one target, with ``record="all"`` or "updates".
    X : array of shape (n, d)
        Features, of the fit or others.
    y : array of shape (n,)
        Their targets.
    features : sequence of str, optional
        The features' names; by default those that the result knows, or x, or x0, x1, ...
    target : str, default "y"
        The target's name.
    ax : matplotlib Axes, optional
        Where to draw.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ImportError
        If matplotlib is missing.
    ValueError, TypeError
        If the result is of several fits or targets or lacks the history, or X and y don't go with it.

    Examples
    --------
    >>> import numpy as np, sgdm.plot
    >>> x = np.linspace(-1, 1, 100).reshape(-1, 1)
    >>> ax = sgdm.plot.line(sgdm.fit(x, 3 * x[:, 0] + 2, fit_intercept=True), x, 3 * x[:, 0] + 2)
    >>> [text.get_text() for text in ax.texts]
    ['start\\ny = 0.00x + 0.00', 'after 50 epochs\\ny = 3.01x + 2.01']
    """
    (X, y), names = data(result, X, y), names_of(result, features)
    start, began = trajectory(result)[1][0], beginning(result)
    model = Model(axes(ax), X, y, names, target)
    drawn = [model.show(start, before=True), model.show_end(result)]
    if X.shape[1] == 1:
        said = [f"{began}\n{equation(*start.tolist())}", f"{ending(result)}\n{equation(*parameters(result).tolist())}"]
        name_ends(model.ax, [(*each.get_xydata()[-1], name) for each, name in zip(drawn, said, strict=True)])
    else:
        model.legend(**{began: drawn[0], ending(result): drawn[1]})
    return model.ax


def loss(
    result: FitResult, *, optimum: Any = None, label: str | Sequence[str] | None = None, ax: Axes | None = None
) -> Axes:
    """Draw the loss on a log scale, that of the validation rows too, and the least there is where it is known.

    A curve for each target or fit of the result; another result goes into the same `ax` with a `label` of its own. A
    validation loss stands at the end of its epoch.

    Parameters
    ----------
    result : FitResult
        With a history of the loss.
    optimum : float or array, optional
        The least loss there is, or one for each curve; that of the result by default. ``()`` draws none.
    label : str or sequence of str, optional
        A name for the curve, or one for each.
    ax : matplotlib Axes, optional
        Where to draw.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ImportError
        If matplotlib is missing.
    ValueError
        If the result has no history of the loss, or there are more or fewer labels than curves.

    Examples
    --------
    >>> import numpy as np, sgdm.plot
    >>> X, y = np.eye(2), np.ones(2)
    >>> ax = None
    >>> for momentum in (0, 0.9):
    ...     ax = sgdm.plot.loss(sgdm.fit(X, y, momentum=momentum), label=f"momentum {momentum}", ax=ax)
    """
    (epochs, trained), held_out = recorded(result, "loss"), result.history.val_loss
    whose = owners(result, label)
    ax = axes(ax)
    names = [titled(who, "" if held_out is None else "training") for who in whose]
    curves(ax, epochs, trained, names, log=True, calm=calm(result))
    if held_out is not None:
        best = "" if result.best_epoch is None else f", best: epoch {result.best_epoch}"
        held_out = held_out.reshape(len(held_out), -1)
        done = np.arange(len(held_out)) * result.checkpoint.record_every + 1
        curves(ax, done, held_out, [titled(who, f"validation{best}") for who in whose], log=True)
    known = result.optimal_loss if optimum is None else optimum
    for least in np.unique(() if known is None else known).tolist():
        if least > np.min(trained, where=trained > 0, initial=np.inf) / 1000:  # else the descent would be a flat line
            ax.axhline(least, color=colours(ax)[-1], linewidth=1, linestyle=(0, (6, 4)))
        name_ends(ax, [(epochs[-1], least, f"optimum {number(least)}")])
    label_axes(ax, "epoch", "mean squared error")
    return ax


def norms(result: FitResult, *, label: str | Sequence[str] | None = None, ax: Axes | None = None) -> Axes:
    """Draw the norms of the gradient and of the step, the momentum buffer, on a log scale.

    Parameters
    ----------
    result : FitResult
        With ``record="all"`` or "updates".
    label : str or sequence of str, optional
        A name for the fit, or one for each target or fit of the result.
    ax : matplotlib Axes, optional
        Where to draw.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ImportError, ValueError
        As for `loss`.

    Examples
    --------
    >>> import numpy as np, sgdm.plot
    >>> [text.get_text() for text in sgdm.plot.norms(sgdm.fit(np.eye(2), np.ones(2))).texts]
    ['gradient', 'step']
    """
    kept = [(what, *recorded(result, what)) for what in ("grad", "step")]
    whose = owners(result, label)
    ax = axes(ax)
    for what, epochs, vectors in kept:
        scale = np.abs(vectors).max(axis=1, keepdims=True)  # the squares might overflow
        scale[scale == 0] = 1
        norm = np.linalg.norm(vectors / scale, axis=1) * scale[:, 0]
        names = [titled(who, "gradient" if what == "grad" else what) for who in whose]
        curves(ax, epochs, norm, names, log=True, calm=calm(result))
    label_axes(ax, "epoch", "norm")
    return ax


def paths(result: FitResult, *, features: Sequence[str] | None = None, ax: Axes | None = None) -> Axes:
    """Draw how the coefficients go, to the last iterate.

    The largest at the end have names, as many as fit; the others are thin.

    Parameters
    ----------
    result, features, ax
        As for `line`.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ImportError, ValueError
        As for `line`.

    Examples
    --------
    >>> import numpy as np, sgdm.plot
    >>> ax = sgdm.plot.paths(sgdm.fit(np.eye(2), [1.0, 2.0]), features=["height", "width"])
    >>> [text.get_text() for text in ax.texts]
    ['height', 'width']
    """
    (epochs, path), names = trajectory(result), names_of(result, features)
    ax = axes(ax)
    room = int(ax.get_window_extent().height / line_height(ax))
    large = np.argsort(-np.abs(path[-1]), kind="stable")[: max(1, min(NAMED, room))]
    curves(ax, epochs, path, [short(name, 24) if i in large else None for i, name in enumerate(names)])
    label_axes(ax, "epoch", "coefficient")
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
    """Draw the descent over the contours of the loss, for two parameters.

    With more than two parameters, each point shows the loss minimised over the others. The minimum is exact, but the
    path need not run downhill. The levels above the minimum grow by a factor of three.

    Parameters
    ----------
    result : FitResult
        Of one target, with ``record="all"`` or "updates".
    X : array of shape (n, d), or Compressed
        The rows whose loss is drawn, or their reduction: `sgdm.compress` takes weights, and more than fits in memory.
    y : array of shape (n,), optional
        Their targets, unless X is a `Compressed`.
    params : pair of int, default (0, 1)
        Which parameters go along the axes; the intercept comes after the features.
    features, ax
        As for `line`.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ImportError
        If matplotlib is missing.
    ValueError, TypeError
        As for `line`, or if the fit has not two such parameters.

    Examples
    --------
    >>> import numpy as np, sgdm.plot
    >>> X, y = np.eye(2), np.array([1.0, 2.0])
    >>> ax = sgdm.plot.contours(sgdm.fit(X, y), X, y)
    >>> ax.get_xlabel(), ax.get_ylabel()
    ('x0', 'x1')
    """
    path, names = trajectory(result)[1], names_of(result, features)
    pair = as_pair(params, names)
    top, total = section(result, X, y, pair)

    def height(a, b):
        return (np.tensordot(top, np.stack([a, b, -np.ones_like(a)]), 1) ** 2).sum(0) / total

    path, least = path[:, pair], np.linalg.lstsq(top[:, :2], top[:, 2], rcond=None)[0]
    near = path
    if result.status == Status.DIVERGED:  # a look at how it went wrong, not at where it got to
        with np.errstate(over="ignore", invalid="ignore"):
            near = path[height(*path.T) <= 100 * height(*path[:1].T)]
    corners = np.vstack([near, least])
    centre, span = (corners.min(0) + corners.max(0)) / 2, np.ptp(corners, axis=0)
    span[span == 0] = span.max() or np.abs(centre).max() or 1.0
    alike = 1 / 3 < span[0] / span[1] < 3
    if alike:
        span = np.maximum(span, 0.6 * span.max())
    across = np.linspace(centre - 0.65 * span, centre + 0.65 * span, 150)
    heights, bottom = height(*np.meshgrid(*across.T)), height(*least[:, np.newaxis])[0]
    levels = bottom + (heights.max() - bottom) * 3.0 ** -np.arange(8.5, 0, -1)

    ax = axes(ax)
    first, second, *_, ink = colours(ax)
    if np.all(np.diff(levels) > 0):
        rings = ax.contour(*across.T, heights, levels, colors=[ink], alpha=0.45, linewidths=0.8)
        ax.clabel(rings, levels[-5::2], fmt=number, fontsize="x-small")
    ax.plot(*path.T, color=first, linewidth=1.5, marker="o" if len(path) <= 200 else None, markersize=3)
    ax.plot(*least, color=second, linestyle="none", marker="*", markersize=13)
    halo = import_module("matplotlib.patheffects").withStroke(linewidth=3, foreground=ax.get_facecolor())
    for at, name in ((path[0], beginning(result)), (least, "minimum")):
        right, up = ((path - at) / span).T
        up = up[(abs(right) < 0.2) & (abs(up) > 0.04) & (abs(up) < 0.2)]
        below = (up > 0).sum() > (up < 0).sum()  # where less of the path is
        text = ax.annotate(name, at, (0, -9 if below else 9), textcoords="offset points", color=ink)
        side = np.searchsorted((0.2, 0.8), (at[0] - across[0, 0]) / np.ptp(across[:, 0]))
        text.set(va="top" if below else "bottom", ha=("left", "center", "right")[side], path_effects=[halo])
    ax.set(xlim=across[[0, -1], 0], ylim=across[[0, -1], 1])
    if alike:
        ax.set_aspect("equal")  # so that steepest descent is at right angles to the contours
    label_axes(ax, *(names[i] for i in pair))
    ax.grid(False)
    return ax


def animate(
    result: FitResult,
    X,
    y,
    *,
    frames: int = 60,
    interval: int = 100,
    features: Sequence[str] | None = None,
    target: str = "y",
    ax: Axes | None = None,
) -> FuncAnimation:
    """Animate `line`: the model moves, epoch by epoch.

    ``animation.save("descent.gif", writer="pillow")`` writes it. A Jupyter notebook shows it, with buttons to play and
    to step, where it is the value of a cell. Without `ax` its figure is none of pyplot's, which a notebook shows too.

    Parameters
    ----------
    result, X, y, features, target
        As for `line`.
    frames : int, default 60
        How many frames at most, start and end included; of a longer history, epochs at equal distances.
    interval : int, default 100
        Milliseconds from frame to frame; the last stays for a second.
    ax : matplotlib Axes, optional
        Where to draw: one of pyplot's, for a window.

    Returns
    -------
    matplotlib.animation.FuncAnimation

    Raises
    ------
    ImportError, ValueError, TypeError
        As for `line`, or if frames or interval is not a positive integer.

    Examples
    --------
    >>> import os, tempfile
    >>> import numpy as np, sgdm.plot
    >>> x = np.linspace(-1, 1, 100).reshape(-1, 1)
    >>> y = 3 * x[:, 0] + 2
    >>> animation = sgdm.plot.animate(sgdm.fit(x, y, fit_intercept=True), x, y, frames=3)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     animation.save(os.path.join(folder, "descent.gif"), writer="pillow")
    """
    (X, y), names = data(result, X, y), names_of(result, features)
    epochs, path = trajectory(result)
    path[-1] = parameters(result)
    frames, interval = as_count(frames, "frames"), as_count(interval, "interval")
    shown = np.unique(np.linspace(0, len(path) - 1, max(2, frames)).round().astype(int)).tolist()
    figure = figure_of(layout="constrained") if ax is None else None
    ax = axes(ax) if figure is None else figure.subplots()
    model = Model(ax, X, y, names, target)
    model.show(path[0], before=True)
    moving = model.show(path[0])
    if result.status != Status.DIVERGED:
        for row in shown:
            extent = model.predict(path[row])
            ax.update_datalim([(ax.dataLim.x0, extent.min()), (ax.dataLim.x0, extent.max())], updatex=False)
        ax.autoscale_view()
    ax.set_ylim(ax.get_ylim())

    def draw(row):
        model.move(moving, path[row])
        title = ending(result) if row == len(path) - 1 else f"epoch {epochs[row].round(2):.12g}"
        ax.set_title(f"{title}: {equation(*path[row].tolist())}" if X.shape[1] == 1 else title, loc="left")
        return (moving,)

    draw(shown[-1])
    if figure is not None:  # laid out once: the frames must not shift
        figure.draw_without_rendering()
        figure.set_layout_engine("none")
    last = [shown[-1]] * (1000 // interval)
    animation = import_module("matplotlib.animation").FuncAnimation(
        ax.figure, draw, [*shown, *last], interval=interval, cache_frame_data=False
    )
    if import_module("matplotlib").rcParams["animation.html"] == "none":  # its default, which shows nothing
        animation._repr_html_ = animation.to_jshtml
    return animation


def notebook(X, y, result: FitResult, *, features: Sequence[str] | None = None, target: str = "y") -> Figure:
    """Draw a fit as the command does: the data with the model before the descent, and after it, and the loss.

    Parameters
    ----------
    X, y, result, features, target
        As for `line`.

    Returns
    -------
    matplotlib.figure.Figure
        Of three panels, and of no pyplot state: ``figure.savefig("descent.png")`` writes it.

    Raises
    ------
    ImportError, ValueError, TypeError
        As for `line`.

    Examples
    --------
    >>> import numpy as np, sgdm.plot
    >>> x = np.linspace(-1, 1, 100).reshape(-1, 1)
    >>> y = 3 * x[:, 0] + 2
    >>> figure = sgdm.plot.notebook(x, y, sgdm.fit(x, y, fit_intercept=True))
    """
    (X, y), names = data(result, X, y), names_of(result, features)
    start = trajectory(result)[1][0]
    figure = figure_of(figsize=(13.5, 4.2))
    figure.set_layout_engine("constrained", w_pad=0.12)
    left, middle, right = figure.subplots(1, 3)
    middle.sharex(left)
    middle.sharey(left)
    before, after = Model(left, X, y, names, target), Model(middle, X, y, names, target)
    for model, drawn, params, title in (
        (before, before.show(start), start, "at the start" if beginning(result) == "start" else beginning(result)),
        (after, after.show_end(result), parameters(result), ending(result)),
    ):
        model.ax.set_title(title)
        model.legend(**{equation(*params.tolist()): drawn} if X.shape[1] == 1 else {})
    loss(result, ax=right).set_title("loss")
    return figure
