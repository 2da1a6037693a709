"""The moving picture of `plot`: the model, epoch by epoch, over the data."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING

import numpy as np

from . import _drawing as drawing
from ._labels import with_minus
from ._results.result import FitResult
from ._results.status import Status
from ._validation import as_count

if TYPE_CHECKING:
    from matplotlib.animation import FuncAnimation
    from matplotlib.axes import Axes


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

    ``animation.save("descent.gif", writer="pillow")`` writes a file. As the last value of a cell in a Jupyter notebook,
    the animation is shown with buttons to play it and to step through it.

    Parameters
    ----------
    result, X, y : as for `line`
        The fit, and the rows to draw.
    frames : int, default 60
        The largest number of frames, start and end included. A longer history is shown at equal distances.
    interval : int, default 100
        Milliseconds from frame to frame. The last frame stays for a second.
    features, target : as for `line`
        The names of the features and of the target.
    ax : matplotlib Axes, optional
        The Axes to draw into. By default those of a new figure that pyplot doesn't manage, so that a notebook shows the
        animation and no still picture beside it. For a window, give the Axes of a pyplot figure.

    Returns
    -------
    matplotlib.animation.FuncAnimation
        The animation, which must be kept until it is saved or shown.

    Raises
    ------
    ImportError, ValueError, TypeError
        As for `line`, or if `frames` or `interval` is not a positive integer.

    Examples
    --------
    The progression of diabetes over the body mass index of 442 patients:

    >>> import os, tempfile
    >>> import sgdm.plot
    >>> from sklearn.datasets import load_diabetes
    >>> X, y = load_diabetes(return_X_y=True, as_frame=True, scaled=False)
    >>> result = sgdm.fit(X[["bmi"]], y, fit_intercept=True, standardize=True)
    >>> animation = sgdm.plot.animate(result, X[["bmi"]], y, frames=3)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     animation.save(os.path.join(folder, "descent.gif"), writer="pillow")
    """
    (X, y), names = drawing.as_data(result, X, y), drawing.parameter_names(result, features)
    epochs, path = drawing.trajectory(result)
    path[-1] = drawing.parameters(result)
    frames, interval = as_count(frames, "frames"), as_count(interval, "interval")
    rows = np.unique(np.linspace(0, len(path) - 1, max(2, frames)).round().astype(int)).tolist()
    figure = drawing.new_figure(layout="constrained") if ax is None else None
    ax = drawing.as_axes(ax) if figure is None else figure.subplots()
    plot = drawing.ModelPlot(ax, X, y, names, target)
    plot.add_model(path[0], at_start=True)
    moving = plot.add_model(path[0])
    if result.status != Status.DIVERGED:
        for row in rows:
            predicted = plot.predict(path[row])
            ax.update_datalim([(ax.dataLim.x0, predicted.min()), (ax.dataLim.x0, predicted.max())], updatex=False)
        ax.autoscale_view()
    ax.set_ylim(ax.get_ylim())

    def draw_frame(row):
        plot.move(moving, path[row])
        title = drawing.end_label(result) if row == len(path) - 1 else f"epoch {epochs[row].round(2):.12g}"
        equation = f": {with_minus(drawing.equation(*path[row].tolist()))}" if X.shape[1] == 1 else ""
        ax.set_title(f"{title}{equation}", loc="left")
        return (moving,)

    draw_frame(rows[-1])
    if figure is not None:  # lay it out once: the frames must not shift
        figure.draw_without_rendering()
        figure.set_layout_engine("none")
    last = [rows[-1]] * (1000 // interval)
    animation = import_module("matplotlib.animation").FuncAnimation(
        ax.figure, draw_frame, [*rows, *last], interval=interval, cache_frame_data=False
    )
    if import_module("matplotlib").rcParams["animation.html"] == "none":  # the default: a notebook would show nothing
        animation._repr_html_ = animation.to_jshtml
    return animation
