"""What of a result the pictures of `plot` show, and how they draw it."""

from __future__ import annotations

from importlib import import_module

import numpy as np

from ._reduction.compress import compress
from ._reduction.compressed import Compressed
from ._results.status import Status
from ._validation import as_matrix, as_targets

# Okabe and Ito's colours, for colour-blind eyes: those at 3:1 or more against white, and against black. With that of
# the style's text they are five, and the dashes four: so twenty curves differ.
_ON_LIGHT = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
_ON_DARK = "#56B4E9", "#E69F00", "#009E73", "#CC79A7"
_DASHES = "-", "--", "-.", ":"
NAMED = 12  # curves that have a name and a colour, at most


# --- What of a result is drawn ---


def recorded(result, what):
    """The epochs of the history's rows, (rows,), and what they hold, (rows, targets or fits) or (rows, p, ...)."""
    kept, was, many = getattr(result.history, what), result.checkpoint, isinstance(result.epochs, np.ndarray)
    if kept is None or not kept.size:
        need = "record='loss' or 'all'" if what == "loss" else "record='all'"
        held = "of no epoch" if kept is not None else f"with record={was.record!r}"
        raise ValueError(f"expected a result with a history of {what}, got one {held}; fit with {need}")
    kept, epochs = kept.astype(float), result.history.epoch
    updates = -(-was.updates // was.epoch) if was.record != "loss" and not many else 1  # an epoch
    if was.record == "updates":
        epochs = was.record_every * np.arange(len(epochs)) / updates
    elif what != "loss":
        epochs = epochs + 1 - 1 / updates  # when the last of the epoch's updates is due
    if many:
        return epochs, np.moveaxis(kept, 0, -1)
    return epochs, kept if result.coef.ndim == 2 else kept[..., np.newaxis]


def trajectory(result):
    """The epochs done, (rows + 1,), and the parameters then, (rows + 1, p): those recorded, and the last."""
    if isinstance(result.epochs, np.ndarray):
        raise ValueError(f"expected the result of one fit, got {len(result.epochs)} of fit_many; draw one, result[i]")
    if result.coef.ndim == 2:
        k = result.coef.shape[1]
        raise ValueError(f"expected the result of one target, got {k}; fit one, y[:, i], and draw that")
    epochs, kept = recorded(result, "coef")
    last = parameters(result) if result.best_epoch is None else result.checkpoint.parameters[0, :, 0]
    return np.append(epochs, result.epochs), np.vstack([kept[..., 0], last])


def parameters(result):
    """The coefficients, then the intercept if there is one."""
    return np.append(result.coef, result.intercept)[: len(result.velocity)].astype(float)


def beginning(result):
    """Where the first recorded coefficients come from: of batches, the last one's are kept."""
    return "start" if trajectory(result)[0][0] == 0 else "in epoch 0"


def ending(result):
    """Where the result comes from."""
    if result.best_epoch is not None:
        last = result.checkpoint.parameters[0, : len(result.coef), 0]
        if not np.array_equal(result.coef, last.astype(result.coef.dtype)):
            return f"best, epoch {result.best_epoch}"
    diverged = "diverged " if result.status == Status.DIVERGED else ""
    return f"{diverged}after {result.epochs} epoch{'' if result.epochs == 1 else 's'}"


def data(result, X, y):
    """X and y as arrays that go with the result."""
    X = as_matrix(X, "X")
    y = as_targets(y, len(X))
    if y.ndim != 1:
        raise ValueError(f"y must be one target, of shape ({len(X)},), got shape {y.shape}")
    trajectory(result)
    result.predict(X[:1])  # refuses an X of other columns
    return X, y


def names_of(result, features):
    """The parameters' names."""
    d, p = len(result.coef), len(result.velocity)
    if features is None:
        features = result.feature_names or (["x"] if d == 1 else [f"x{i}" for i in range(d)])
    if isinstance(features, str) or len(features) != d:
        raise ValueError(f"features must hold the names of the {d} columns of X, got {features!r:.80}")
    return [*map(str, features), "intercept"][:p]


def calm(result):
    """Whether each curve did not diverge, if others may."""
    return result.status != Status.DIVERGED if isinstance(result.epochs, np.ndarray) else True


def owners(result, label):
    """Whose each curve is: a name for each target or fit, "" for the only one."""
    many = isinstance(result.epochs, np.ndarray)
    k = len(result.epochs) if many else result.coef.shape[1] if result.coef.ndim == 2 else 0
    if label is None:
        return [f"{'fit' if many else 'target'} {i}" for i in range(k)] or [""]
    labels = [label] if isinstance(label, str) else list(label)
    if len(labels) != max(k, 1):
        raise ValueError(f"label must name {max(k, 1)} curve{'s' if k > 1 else ''}, got {label!r:.80}")
    return labels


def titled(who, what):
    """A curve's name."""
    return ", ".join(filter(None, (who, what)))


def as_pair(params, names):
    """Two different indices of parameters."""
    if len(names) < 2:
        raise ValueError(f"contours needs two parameters, the fit has one, {names[0]}; draw sgdm.plot.paths(result)")
    given = list(params) if np.iterable(params) else []
    pair = [int(i) % len(names) for i in given if isinstance(i, (int, np.integer)) and -len(names) <= i < len(names)]
    if len(given) != 2 or len(set(pair)) != 2:
        raise ValueError(f"params must be two different parameters of 0 to {len(names) - 1}, got {params!r:.80}")
    return pair


def section(result, X, y, pair):
    """(3, 3) T and w: ``|T (a, b, -1)|**2 / w`` is the least loss with a and b as the pair of parameters."""
    if not isinstance(X, Compressed):
        X = compress(*data(result, X, y), fit_intercept=result.checkpoint.fit_intercept)
    elif y is not None:
        raise ValueError("a Compressed holds y already; leave y out")
    p = len(result.velocity)
    if (X.n_params, X.target_shape) != (p, ()):
        raise ValueError(f"X must have the {p} parameters of the fit, intercept included, and one target, got {X!r}")
    others = X.R[:, [i for i in range(p) if i not in pair]]
    free = X.R[:, [*pair, p]]
    if others.size:
        free = free - others @ np.linalg.lstsq(others, free, rcond=None)[0]
    return np.linalg.qr(free, mode="r"), X.total_weight


# --- How it is drawn ---


def equation(slope: float, intercept: float | None = None) -> str:
    """A line in school's notation: ``y = 3.07x + 2.51``."""
    slope_digits = f"{slope:#.3g}".rstrip(".")
    if intercept is None:
        return f"y = {slope_digits}x"
    return f"y = {slope_digits}x {'-' if intercept < 0 else '+'} {f'{abs(intercept):#.3g}'.rstrip('.')}"


class Model:
    """Points in an Axes, and models over them: lines through the points, or points of predicted over actual targets."""

    def __init__(self, ax, X, y, names, target):
        self.ax, self.X, self.y, self.is_line = ax, X, y, X.shape[1] == 1
        self.at = X[:, 0] if self.is_line else y
        if self.is_line:
            self.ends = [self.at.argmin(), self.at.argmax()]
            self.scatter(y)
            label_axes(ax, names[0], target)
        else:
            self.diagonal = ax.axline((y[0], y[0]), slope=1, color=colours(ax)[1], linewidth=1.5)
            label_axes(ax, f"actual {target}", f"predicted {target}")
        for axis in (ax.xaxis, ax.yaxis):
            set_ticks(axis, nbins=5)  # so that long ones fit

    def scatter(self, over, **style):
        """Points: many are smaller and fainter, and pixels where a vector file would swell."""
        many = len(over) > 2000
        looks = {"s": 6 if many else 22, "alpha": 0.25 if many else 0.8, "linewidths": 0, "rasterized": many}
        return self.ax.scatter(self.at, over, **{"color": colours(self.ax)[0], **looks, **style})

    def predict(self, params):
        """The predictions that are drawn, at the ends of a line or everywhere."""
        d = self.X.shape[1]
        return self.X[self.ends if self.is_line else slice(None)] @ params[:d] + params[d:].sum()

    def show(self, params, before=False):
        """Draws a model; before, as it was at the start."""
        _, second, *_, ink = colours(self.ax)
        if self.is_line:
            style = {"color": ink, "linestyle": "--"} if before else {"color": second, "linewidth": 2.5}
            return self.ax.plot(self.at[self.ends], self.predict(params), **style)[0]
        return self.scatter(self.predict(params), **({"color": ink, "marker": "x", "linewidths": 1} if before else {}))

    def show_end(self, result):
        """Draws the result's model; one that diverged does not take the view with it."""
        view = self.ax.get_ylim()
        drawn = self.show(parameters(result))
        if result.status == Status.DIVERGED:
            self.ax.set_ylim(view)
        return drawn

    def legend(self, **entries):
        """A legend of what is drawn, by name; where the fewest points are, if that is quickly found."""
        if not self.is_line:
            entries["predicted = actual"] = self.diagonal
        legend = self.ax.legend(entries.values(), entries, loc="best" if len(self.y) <= 2000 else "upper left")
        for handle in legend.legend_handles:  # not as small and faint as the points may be
            handle.set_alpha(1)
            if hasattr(handle, "set_sizes"):
                handle.set_sizes([22])

    def move(self, drawn, params):
        """Shows another model in its place."""
        if self.is_line:
            drawn.set_ydata(self.predict(params))
        else:
            drawn.set_offsets(np.column_stack([self.y, self.predict(params)]))


def curves(ax, x, ys, names, log=False, calm=True):
    """Draw each column of ys, (rows, curves), and label it at its right end.

    Curves without a name are thin, and so are all where too many have one; "" is the name of a curve that needs none.
    Diverged curves don't set the y-limits unless all diverged. Log scale only if values differ by more than 10 %.
    """
    ys = np.where(np.abs(ys) < 1e200, ys, np.nan)  # with more, margins and ticks overflow
    palette, first = colours(ax), len(ax.lines)
    if sum(name is not None for name in names) > NAMED:
        names = [None] * len(names)
    ends = []
    for i, (y, name) in enumerate(zip(ys.T, names, strict=True), first):
        style = {"color": palette[-1], "linewidth": 0.7, "alpha": 0.4, "zorder": 1.5}
        if name is not None:
            style = {"color": palette[i % len(palette)], "linestyle": _DASHES[i % len(_DASHES)], "linewidth": 2}
        dotted = len(x) == 1 or (len(x) <= 60 and names == [""])
        ax.plot(x, y, marker="." if dotted else None, **style)
        finite = np.flatnonzero(np.isfinite(y))
        if name and len(finite):
            ends.append((x[finite[-1]], y[finite[-1]], name))
    calm = np.broadcast_to(calm, len(names))
    positive = ys[:, calm if calm.any() else ~calm]
    positive = positive[positive > 0]
    if log and positive.size and positive.max() > 1.1 * positive.min():
        ax.set_yscale("log")
    if len(x) == 1:  # a view without whole epochs would have ticks between them
        ax.update_datalim([(x[0] + 1, 0)], updatey=False)
        ax.autoscale_view()
    if positive.size and calm.any() and not calm.all():
        ax.set_ylim(positive.min() / 2, positive.max() * 5)
    name_ends(ax, ends)


def name_ends(ax, ends):
    """Names each (x, y, name) at the right of the Axes, and moves all names there apart."""
    ink = colours(ax)[-1]
    for x, y, name in ends:
        joint = {"arrowstyle": "-", "color": ink, "alpha": 0.5, "linewidth": 0.7, "shrinkA": 0, "shrinkB": 0}
        text = ax.annotate(
            short(name, 60), (x, y), (1.03, y), textcoords="axes fraction", annotation_clip=False, arrowprops=joint,
            color=ink, va="center", parse_math=False,
        )  # fmt: skip
        text.set_label("end")
    texts = [text for text in ax.texts if text.get_label() == "end"]
    low, high = sorted(ax.get_ylim())
    for text in texts:
        text.xy = text.xy[0], min(max(text.xy[1], low), high)
    if not texts:
        return
    place = (ax.transData + ax.transAxes.inverted()).transform
    texts.sort(key=lambda text: place(text.xy)[1])
    wanted = np.array([place(text.xy)[1] for text in texts])
    lines = np.array([1 + text.get_text().count("\n") for text in texts])
    room = line_height(ax) / ax.get_window_extent().height * (lines[1:] + lines[:-1]) / 2
    above = np.append(0, room.cumsum())
    up = np.maximum.accumulate(wanted - above) + above  # each pushed up by those below,
    down = np.minimum.accumulate((wanted - above)[::-1])[::-1] + above  # or down by those above; and the mean of both
    heights = np.clip((up + down) / 2 - above, 0, max(0, 1 - above[-1])) + above
    for text, height in zip(texts, heights, strict=True):
        text.set_position((1.03, height))


def line_height(ax):
    """The height in pixels of a line of text."""
    return ax.xaxis.label.get_size() * 1.25 * ax.figure.dpi / 72


def label_axes(ax, x, y):
    """Axis labels, at a length that fits; a $ in a name is a $, not mathematics. Whole epochs; a faint grid."""
    for set_label, text in ((ax.set_xlabel, x), (ax.set_ylabel, y)):
        set_label(short(text, 40), parse_math=False)
    if x == "epoch":
        set_ticks(ax.xaxis, integer=True)
    ax.grid(alpha=0.3)


def set_ticks(axis, **options):
    """Where ticks go, on an axis that the user has not made another than linear."""
    locator = axis.get_major_locator()
    if isinstance(locator, import_module("matplotlib.ticker").MaxNLocator):
        locator.set_params(**options)


def number(value):
    """A number in three digits, or those before the point."""
    return f"{value:.0f}" if 1000 <= abs(value) < 1e6 else f"{value:.3g}"


def short(text, length):
    """The text, cut where it is longer."""
    return text if len(text) <= length else f"{text[: length - 3]}..."


def colours(ax):
    """The palette that goes with the background of an Axes, and the colour of its text as the last."""
    to_rgba, ink = import_module("matplotlib.colors").to_rgba, ax.xaxis.label.get_color()

    def luminance(colour):
        return np.dot((0.2126, 0.7152, 0.0722), np.power(to_rgba(colour)[:3], 2.2))

    face = ax.get_facecolor()
    dark = luminance(face) < 0.18 if face[3] else luminance(ink) > 0.18
    return (*(_ON_DARK if dark else _ON_LIGHT), ink)


def axes(ax):
    """The Axes to draw into, those of a new pyplot figure for None."""
    if ax is None:
        with_matplotlib()
        return import_module("matplotlib.pyplot").subplots(layout="constrained")[1]
    if not hasattr(ax, "transAxes"):
        raise TypeError(f"ax must be one matplotlib Axes, got {type(ax).__name__}")
    return ax


def figure_of(**options):
    """A figure of no pyplot state."""
    with_matplotlib()
    return import_module("matplotlib.figure").Figure(**options)


def with_matplotlib():
    """ImportError, if it is missing, that says what to install."""
    try:
        import_module("matplotlib")
    except ImportError as error:
        raise ImportError("sgdm.plot needs matplotlib: pip install 'sgdm[plot]'") from error
