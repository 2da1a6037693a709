"""The text in the pictures of `plot`: where labels stand, so that they cover nothing, and how numbers are written."""

import textwrap
from importlib import import_module

import numpy as np

_WIDEST = 0.24  # of the width of the Axes: longer end labels are broken
_CONTRAST = 4.6  # of text against its background; the WCAG ask for 4.5
_PAD = 5  # pixels between a label beside a point, or a legend, and what is near
_CORNERS = {"upper left": (0, 1), "upper right": (1, 1), "lower right": (1, 0), "lower left": (0, 0)}
_SIDES = (0, 1), (0, -1), (1, 0), (-1, 0), (1, 1), (-1, 1), (1, -1), (-1, -1)


# --- Places ---


def label_ends(ax, ends):
    """Write each label of (x, y, label, colour) right of the Axes, and move all labels there apart."""
    width = max(8, int(_WIDEST * ax.get_window_extent().width / (0.5 * line_height(ax))))  # in characters
    for x, y, label, colour in ends:
        joint = {"arrowstyle": "-", "color": colour, "alpha": 0.6, "linewidth": 0.7, "shrinkA": 0, "shrinkB": 0}
        text = ax.annotate(
            broken(shorten(label, 60), width), (x, y), (1.03, y), textcoords="axes fraction",
            annotation_clip=False, arrowprops=joint, color=legible(colour, ax), va="center", parse_math=False,
        )  # fmt: skip
        text.set_label("end")
    texts = [text for text in ax.texts if text.get_label() == "end"]
    low, high = sorted(ax.get_ylim())
    for text in texts:
        text.xy = text.xy[0], min(max(text.xy[1], low), high)
    if not texts:
        return
    to_axes = (ax.transData + ax.transAxes.inverted()).transform
    texts.sort(key=lambda text: to_axes(text.xy)[1])
    wanted = np.array([to_axes(text.xy)[1] for text in texts])
    n_lines = np.array([1 + text.get_text().count("\n") for text in texts])
    distances = line_height(ax) / ax.get_window_extent().height * (n_lines[1:] + n_lines[:-1]) / 2
    stacked = np.append(0, distances.cumsum())  # the heights of labels without gaps
    up = np.maximum.accumulate(wanted - stacked) + stacked  # each label pushed up by those below it
    down = np.minimum.accumulate((wanted - stacked)[::-1])[::-1] + stacked  # each pushed down by those above it
    heights = np.clip((up + down) / 2 - stacked, 0, max(0, 1 - stacked[-1])) + stacked
    for text, height in zip(texts, heights, strict=True):
        text.set_position((1.03, height))


def place_legend(ax, legend, points):
    """Move a legend into a corner where it covers none of the points (n, 2), or make room for it above them."""
    ax.get_xlim(), ax.get_ylim()  # these do the autoscaling that is due
    to_axes = ax.transData - ax.transAxes
    box, size = legend.get_window_extent(), ax.get_window_extent().size
    width, height = (np.array(box.size) + 2 * _PAD + line_height(ax)) / size
    points = to_axes.transform(points).T
    x, y = points[:, ((points >= 0) & (points <= 1)).all(axis=0)]
    for corner, (right, top) in _CORNERS.items():
        beside = (x < 1 - width) if right else (x > width)
        if (beside | ((y < 1 - height) if top else (y > height))).all():
            legend.set_loc(corner)
            return
    legend.set_loc("upper left")
    if height < 0.5:
        ax.set_ylim(top=to_axes.inverted().transform((0, 1 / (1 - height)))[1])


class Places:
    """Text in the Axes that keeps clear of paths, points and other text. All coordinates are pixels.

    paths: arrays (n, 2) of data coordinates.
    """

    def __init__(self, ax, paths):
        self.ax, view = ax, ax.get_window_extent()
        self.low, self.high = np.array(view.min), np.array(view.max)
        taken = np.concatenate([_densely(ax.transData.transform(path)) for path in paths])
        self.taken = taken[self._inside(taken, 0)]
        self.style = {"color": ax.xaxis.label.get_color(), "ha": "center", "va": "center"}
        stroke = import_module("matplotlib.patheffects").withStroke
        self.style["path_effects"] = [stroke(linewidth=3, foreground=ax.get_facecolor())]

    def _inside(self, points, margin):
        """Which points lie in the Axes, and not in their margin."""
        return ((points > self.low + margin) & (points < self.high - margin)).all(axis=-1)

    def label_point(self, point, name, radius):
        """Write a name beside a mark of this radius, on the side where it covers least."""
        text = self.ax.annotate(name, point, (0, 0), textcoords="offset points", **self.style)
        centre = self.ax.transData.transform(point)
        half = np.array(_extent(text).size) / 2
        offsets = np.array(_SIDES) * (half + radius + _PAD)
        offsets[4:, 1] = np.array(_SIDES[4:])[:, 1] * (half[1] + radius / 2)
        covered = [self._covered(centre + offset, half) for offset in offsets]
        offset = offsets[int(np.argmin(covered))]
        text.set_position(offset * 72 / self.ax.figure.dpi)
        self._take(centre + offset, half)
        return text

    def label_curve(self, curve, name):
        """Write a name upon a curve (n, 2), where it is farthest from all else; not at all where there is no room."""
        text = self.ax.annotate(name, curve[0], fontsize="x-small", annotation_clip=True, **self.style)
        half = np.array(_extent(text).size) / 2
        pixels = self.ax.transData.transform(curve)
        fits = self._inside(pixels, half + _PAD)
        curve, pixels = curve[fits], pixels[fits]
        if len(pixels):
            step = 1 + len(pixels) // 100
            apart = np.abs(pixels[::step, np.newaxis] - self.taken) - half
            apart = apart.max(axis=2).min(axis=1, initial=np.inf)
            best = int(np.argmax(apart))
            if apart[best] > _PAD:
                text.xy = tuple(curve[::step][best])
                text.set_position(text.xy)
                self._take(pixels[::step][best], half)
                return
        text.remove()

    def _covered(self, centre, half):
        """How many points of what is there a box covers; infinite where it leaves the Axes."""
        if not self._inside(centre, half):
            return np.inf
        return (np.abs(self.taken - centre) < half + _PAD / 2).all(axis=1).sum()

    def _take(self, centre, half):
        corners = centre + half * np.array([(-1, -1), (1, -1), (1, 1), (-1, 1), (-1, -1), (1, 1)])
        self.taken = np.concatenate([self.taken, _densely(corners)])


def _densely(points):
    """The points of a path, with 20 on each of its segments if they are not many."""
    if not 2 <= len(points) <= 2000:
        return points
    share = np.linspace(0, 1, 20)[:, np.newaxis, np.newaxis]
    return (points[:-1] * (1 - share) + points[1:] * share).reshape(-1, 2)


def _extent(text):
    """The box of a text in pixels, without what an annotation points at."""
    return import_module("matplotlib.text").Text.get_window_extent(text)


# --- Text and its colour ---


def line_height(ax):
    """The height in pixels of a line of text."""
    return ax.xaxis.label.get_size() * 1.25 * ax.figure.dpi / 72


def three_digits(value):
    """A number to three digits, or to all digits before the point."""
    return f"{value:.0f}" if 1000 <= abs(value) < 1e6 else f"{value:.3g}"


def broken(label, width):
    """The label in lines of so many characters, or of its longest word if that has no more than twice as many."""
    longest = max(map(len, label.split()), default=0)
    return textwrap.fill(label, max(width, min(longest, 2 * width)), break_on_hyphens=False)


def shorten(text, length):
    """The text, cut off with "..." where it is longer."""
    return text if len(text) <= length else f"{text[: length - 3]}..."


def with_minus(text):
    """The text with minus signs in place of hyphens, as matplotlib writes the numbers on its axes."""
    return text.replace("-", "\N{MINUS SIGN}") if import_module("matplotlib").rcParams["axes.unicode_minus"] else text


def luminance(colour):
    """The relative luminance of a colour, 0 to 1, as the WCAG define it."""
    channels = np.array(import_module("matplotlib.colors").to_rgb(colour))
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return linear @ (0.2126, 0.7152, 0.0722)


def is_dark(ax):
    """Whether the Axes are dark; where they are transparent, whether their text is light."""
    face = ax.get_facecolor()
    return luminance(face) < 0.18 if face[3] else luminance(ax.xaxis.label.get_color()) > 0.18


def legible(colour, ax):
    """The colour, moved so far towards black or white that text in it can be read."""
    to_rgb = import_module("matplotlib.colors").to_rgb
    face = ax.get_facecolor()
    behind = luminance(face) if face[3] else 0.0 if is_dark(ax) else 1.0
    colour, end = np.array(to_rgb(colour)), np.full(3, float(behind < 0.18))
    for share in np.linspace(0, 1, 21):
        mixed = colour * (1 - share) + end * share
        low, high = sorted((luminance(mixed), behind))
        if (high + 0.05) / (low + 0.05) >= _CONTRAST:
            break
    return tuple(mixed.tolist())
