"""What the functions of `plot` share: the values to draw, and the drawing itself."""

from importlib import import_module

import numpy as np

from ._labels import is_dark, label_ends, line_height, place_legend, shorten
from ._reduction.compress import compress
from ._reduction.compressed import Compressed
from ._results.status import Status
from ._summary import curve_names, evenly
from ._validation import as_matrix, as_targets

# Okabe and Ito's colours, for colour-blind readers: those with a contrast of at least 3:1 against white, and against
# black. The style's text colour is the fifth. Five colours and four dashes make twenty different curves.
_ON_LIGHT = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
_ON_DARK = "#56B4E9", "#E69F00", "#009E73", "#CC79A7"
_DASHES = "-", "--", "-.", ":"
MAX_LABELLED = 12  # curves with a label and a colour, at most


# --- The values to draw ---


def recorded_values(result, name):
    """The epochs of the recorded rows, (rows,), and the values: loss (rows, curves), others (rows, p, curves).

    There is one curve for each target or fit. Rows within an epoch have fractional epochs.
    """
    values, checkpoint, many = getattr(result.history, name), result.checkpoint, result._is_many
    if values is None or not values.size:
        need = "record='loss' or 'all'" if name == "loss" else "record='all'"
        held = "of no epoch" if values is not None else f"with record={checkpoint.record!r}"
        raise ValueError(f"expected a result with a history of {name}, got one {held}; fit with {need}")
    values, epochs = values.astype(float), result.history.epoch
    per_epoch = 1 if many or checkpoint.record == "loss" else -(-checkpoint.updates // checkpoint.epoch)  # updates
    if checkpoint.record == "updates":
        epochs = checkpoint.record_every * np.arange(len(epochs)) / per_epoch
    elif name != "loss":
        epochs = epochs + 1 - 1 / per_epoch  # the row holds the values of the epoch's last update
    if many:
        return epochs, np.moveaxis(values, 0, -1)
    return epochs, values if result.coef.ndim == 2 else values[..., np.newaxis]


def trajectory(result):
    """The epochs, (rows + 1,), and the parameters, (rows + 1, p): the recorded rows, then the last update's."""
    if result._is_many:
        raise ValueError(f"expected the result of one fit, got {len(result.epochs)} of fit_many; draw one, result[i]")
    if result.coef.ndim == 2:
        k = result.coef.shape[1]
        raise ValueError(f"expected the result of one target, got {k}; fit one, y[:, i], and draw that")
    epochs, coef = recorded_values(result, "coef")
    last = parameters(result) if result.best_epoch is None else result.checkpoint.parameters[0, :, 0]
    return np.append(epochs, result.epochs), np.vstack([coef[..., 0], last])


def parameters(result):
    """The coefficients, then the intercept if the fit has one."""
    return np.append(result.coef, result.intercept)[: len(result.velocity)].astype(float)


def start_label(result):
    """The label of the first recorded parameters. With mini-batches they belong to the last update of epoch 0."""
    return "start" if trajectory(result)[0][0] == 0 else "in epoch 0"


def end_label(result):
    """The label of the result's parameters: how many epochs they took, or which epoch was the best."""
    if result.best_epoch is not None:
        last = result.checkpoint.parameters[0, : len(result.coef), 0]
        if not np.array_equal(result.coef, last.astype(result.coef.dtype)):
            return f"best, epoch {result.best_epoch}"
    diverged = "diverged " if result.status == Status.DIVERGED else ""
    return f"{diverged}after {result.epochs} epoch{'' if result.epochs == 1 else 's'}"


def as_data(result, X, y):
    """X and y as arrays of the result's columns and of one target."""
    X = as_matrix(X, "X")
    y = as_targets(y, len(X))
    if y.ndim != 1:
        raise ValueError(f"y must be one target, of shape ({len(X)},), got shape {y.shape}")
    trajectory(result)  # raises for a result that can't be drawn
    result.predict(X[:1])  # raises for other columns
    return X, y


def parameter_names(result, features):
    """The names of the features, then "intercept" if the fit has one."""
    d, p = len(result.coef), len(result.velocity)
    if features is None:
        features = result.feature_names or (["x"] if d == 1 else [f"x{i}" for i in range(d)])
    if isinstance(features, str) or len(features) != d:
        raise ValueError(f"features must hold the names of the {d} columns of X, got {features!r:.80}")
    return [*map(str, features), "intercept"][:p]


def diverged_fits(result):
    """For `fit_many`, which fits diverged. False for one fit: its curves always set the limits."""
    return result._is_many and result.status == Status.DIVERGED


def fit_labels(result, label):
    """One label for each target or fit; by default "" where there is only one."""
    names = curve_names(result)
    labels = names if label is None else [label] if isinstance(label, str) else list(label)
    if len(labels) != len(names):
        raise ValueError(f"label must name {len(names)} curve{'s' if len(names) > 1 else ''}, got {label!r:.80}")
    return labels


def curve_labels(labels, quantity):
    """The labels of the curves of one quantity: "fit 0, gradient", or either part alone if the other is empty."""
    return [", ".join(filter(None, (label, quantity))) for label in labels]


def until_it_leaves(path, within):
    """The path (rows, p) up to the first point that is not within, (rows,), and a short way on towards that."""
    last = int(np.argmin(within)) if not within.all() else len(path) - 1
    inside = path[: max(last, 1)]
    way, size = path[last] - inside[-1], np.ptp(inside, axis=0).max() or np.abs(inside).max() or 1.0
    return np.vstack([inside, inside[-1] + way * min(1, 10 * size / max(np.abs(way).max(), size))])


def as_pair(params, names):
    """`params` as two different indices into `names`."""
    if len(names) < 2:
        raise ValueError(f"contours needs two parameters, the fit has one, {names[0]}; draw sgdm.plot.paths(result)")
    given = list(params) if np.iterable(params) else []
    pair = [int(i) % len(names) for i in given if isinstance(i, (int, np.integer)) and -len(names) <= i < len(names)]
    if len(given) != 2 or len(set(pair)) != 2:
        raise ValueError(
            f"params must be the numbers of two different parameters, of 0 to {len(names) - 1}, got {params!r:.80}"
        )
    return pair


def profile_factor(result, X, y, pair):
    """(3, 3) T and the total weight w: ``|T (a, b, -1)|**2 / w`` is the loss with a and b as the pair of parameters,
    minimised over all others."""
    if not isinstance(X, Compressed):
        X = compress(*as_data(result, X, y), fit_intercept=result.checkpoint.fit_intercept)
    elif y is not None:
        raise ValueError("a Compressed holds y already; leave y out")
    p = len(result.velocity)
    if (X.n_params, X.target_shape) != (p, ()):
        raise ValueError(f"X must have the {p} parameters of the fit, intercept included, and one target, got {X!r}")
    others = X.R[:, [i for i in range(p) if i not in pair]]
    factor = X.R[:, [*pair, p]]
    if others.size:
        factor = factor - others @ np.linalg.lstsq(others, factor, rcond=None)[0]
    return np.linalg.qr(factor, mode="r"), X.total_weight


# --- Models over the data ---


def equation(slope: float, intercept: float | None = None) -> str:
    """The equation of a line: ``y = 3.07x + 2.51``."""
    slope_digits = f"{slope:#.3g}".rstrip(".")
    if intercept is None:
        return f"y = {slope_digits}x"
    return f"y = {slope_digits}x {'-' if intercept < 0 else '+'} {f'{abs(intercept):#.3g}'.rstrip('.')}"


class ModelPlot:
    """The data and models in one Axes. One feature: points, and lines through them. Several features: predicted over
    actual targets."""

    def __init__(self, ax, X, y, names, target):
        self.ax, self.X, self.y, self.is_line, self.diagonal = ax, X, y, X.shape[1] == 1, None
        self.is_narrow = ax.get_window_extent().width < 25 * line_height(ax)  # for a legend
        self.x = X[:, 0] if self.is_line else y  # where the points are on the horizontal axis
        if self.is_line:
            self.ends = [self.x.argmin(), self.x.argmax()]
            self.scatter(y)
            label_axes(ax, names[0], target)
        else:
            self.diagonal = ax.axline((y[0], y[0]), slope=1, color=colours(ax)[1], linewidth=1.5)
            label_axes(ax, f"actual {target}", f"predicted {target}")
        for axis in (ax.xaxis, ax.yaxis):
            set_ticks(axis, nbins=5)  # long tick labels fit too

    def scatter(self, heights, **style):
        """Draw points. More than 2000 are smaller and fainter, and pixels in a vector file, which would grow large."""
        many = len(heights) > 2000
        defaults = {"s": 6 if many else 22, "alpha": 0.25 if many else 0.8, "linewidths": 0, "rasterized": many}
        return self.ax.scatter(self.x, heights, **{"color": colours(self.ax)[0], **defaults, **style})

    def predict(self, params):
        """The predictions to draw: at both ends of a line, or for all rows."""
        d = self.X.shape[1]
        return self.X[self.ends if self.is_line else slice(None)] @ params[:d] + params[d:].sum()

    def add_model(self, params, at_start=False):
        """Draw a model, in the style of the start or of the result."""
        _, second, *_, ink = colours(self.ax)
        if self.is_line:
            style = {"color": ink, "linestyle": "--"} if at_start else {"color": second, "linewidth": 2.5}
            return self.ax.plot(self.x[self.ends], self.predict(params), **style)[0]
        style = {"color": ink, "marker": "x", "linewidths": 1} if at_start else {}
        return self.scatter(self.predict(params), **style)

    def add_result(self, result):
        """Draw the result's model. A diverged one leaves the y-limits as they are."""
        limits = self.ax.get_ylim()
        artist = self.add_model(parameters(result))
        if result.status == Status.DIVERGED:
            self.ax.set_ylim(limits)
        return artist

    def move(self, artist, params):
        """Give a drawn model other parameters."""
        if self.is_line:
            artist.set_ydata(self.predict(params))
        else:
            artist.set_offsets(np.column_stack([self.y, self.predict(params)]))

    def legend(self, **artists):
        """Add a legend where it covers no points and no lines."""
        if not self.is_line:
            artists["predicted = actual"] = self.diagonal
        if not artists:
            return
        size = {"fontsize": "small"} if self.is_narrow else {}
        legend = self.ax.legend(artists.values(), artists, loc="upper left", **size)
        for handle in legend.legend_handles:  # larger and darker than many points are
            handle.set_alpha(1)
            if hasattr(handle, "set_sizes"):
                handle.set_sizes([22])
        drawn = [points.get_offsets() for points in self.ax.collections]
        share = np.linspace(0, 1, 50)[:, np.newaxis]
        ends = [model.get_xydata() for model in self.ax.lines if model is not self.diagonal]
        ends += [] if self.is_line else [np.column_stack([[self.y.min(), self.y.max()]] * 2)]
        drawn += [first * (1 - share) + last * share for first, last in ends]
        place_legend(self.ax, legend, np.ma.filled(np.concatenate(drawn), np.nan))


# --- Curves over the epochs ---


def draw_curves(ax, x, ys, labels, log=False, diverged=False, first=None, linewidth=2):
    """Draw each column of ys, (rows, curves), and label it at its right end, in its colour.

    A label of None makes a curve thin and faint; "" leaves it without a label. More curves than MAX_LABELLED are thin,
    their colours run from the first to the second, and some of them have their labels. `first` is the number of the
    first colour, by default that of the curves already there. Diverged curves don't set the y-limits unless all
    diverged. Log scale only if values differ by more than 10 %.
    """
    ys = np.where(np.abs(ys) < 1e200, ys, np.nan)  # larger values make margins and ticks overflow
    palette, first = colours(ax), len(ax.lines) if first is None else first
    named, ends = [i for i, label in enumerate(labels) if label is not None], []
    many = len(named) > MAX_LABELLED
    ramp = import_module("matplotlib.colors").LinearSegmentedColormap.from_list("", list(palette[:2]))
    if many:
        named = [named[i] for i in evenly(len(named), MAX_LABELLED // 2)]
    for i, (y, label) in enumerate(zip(ys.T, labels, strict=True)):
        if label is None:
            style = {"color": palette[-1], "linewidth": 0.7, "alpha": 0.4, "zorder": 1.5}
        elif many:
            style = {"color": ramp(i / (len(labels) - 1)), "linewidth": linewidth / 2}
        else:
            colour, dash = palette[(first + i) % len(palette)], _DASHES[(first + i) % len(_DASHES)]
            style = {"color": colour, "linestyle": dash, "linewidth": linewidth}
        dotted = len(x) == 1 or (len(x) <= 60 and labels == [""])
        ax.plot(x, y, marker="." if dotted else None, **style)
        finite = np.flatnonzero(np.isfinite(y))
        if label and i in named and len(finite):
            ends.append((x[finite[-1]], y[finite[-1]], label, style["color"]))
    diverged = np.broadcast_to(diverged, len(labels))
    positive = ys if diverged.all() else ys[:, ~diverged]
    positive = positive[positive > 0]
    if log and positive.size and positive.max() > 1.1 * positive.min():
        ax.set_yscale("log")
    if len(x) == 1:  # show the next epoch too: else the ticks would be fractions of an epoch
        ax.update_datalim([(x[0] + 1, 0)], updatey=False)
        ax.autoscale_view()
    if positive.size and diverged.any() and not diverged.all():
        ax.set_ylim(positive.min() / 2, positive.max() * 5)
    label_ends(ax, ends)


# --- Colours, Axes ---


def label_axes(ax, x, y):
    """Label both axes, with a $ as a plain character; whole epochs as ticks; a faint grid."""
    for set_label, text in ((ax.set_xlabel, x), (ax.set_ylabel, y)):
        set_label(shorten(text, 40), parse_math=False)
    if x == "epoch":
        set_ticks(ax.xaxis, integer=True)
    ax.grid(alpha=0.3)


def set_ticks(axis, **options):
    """Set options of an axis' tick locator, unless the user has given the axis another kind of locator."""
    locator = axis.get_major_locator()
    if isinstance(locator, import_module("matplotlib.ticker").MaxNLocator):
        locator.set_params(**options)


def colours(ax):
    """Four colours that suit the background of the Axes, then the colour of its text."""
    return (*(_ON_DARK if is_dark(ax) else _ON_LIGHT), ax.xaxis.label.get_color())


def as_axes(ax):
    """`ax`, or for None the Axes of a new pyplot figure."""
    if ax is None:
        require_matplotlib()
        return import_module("matplotlib.pyplot").subplots(layout="constrained")[1]
    if not hasattr(ax, "transAxes"):
        raise TypeError(f"ax must be one matplotlib Axes, got {type(ax).__name__}")
    return ax


def new_figure(**options):
    """A figure that pyplot doesn't manage: nothing has to close it."""
    require_matplotlib()
    return import_module("matplotlib.figure").Figure(**options)


def require_matplotlib():
    """Raise an ImportError that says what to install, if matplotlib is missing."""
    try:
        import_module("matplotlib")
    except ImportError as error:
        raise ImportError("sgdm.plot needs matplotlib: pip install 'sgdm[plot]'") from error
