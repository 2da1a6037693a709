"""A result as text, for `FitResult.summary`, and as HTML with the losses drawn, for notebooks."""

from html import escape

import numpy as np

_CONSTANTS = ("lr", "momentum", "dampening")
_END_ROWS = 30  # how many rows a long table shows from each end
_MAX_TARGETS = 4  # how many targets a table shows
_MAX_CURVES = 20  # how many losses of each kind are drawn
_CEILING = 1000  # losses above this multiple of the largest first loss are not drawn
_BUCKETS = 200  # a long curve is cut into so many parts, and the least and the largest value of each is drawn
_WIDTH, _HEIGHT = 420, 170  # of the chart, in pixels
_LEFT, _BOTTOM, _MARGIN = 60, 30, 18  # pixels outside its axes; the last at the top and on the right
_LINE, _LETTER, _SWATCH = 14, 7, 14  # pixels from one name to the next, of a letter, and of a name's colour
_NAMED = 8  # of more curves than these, six have names
_COLOURS = "#1f83c9", "#d55e00", "#009e73", "#cc79a7", "#808080"  # at least 3:1 against white and against black


def as_text(result) -> str:
    """Labelled facts, a table, and a note if the table leaves rows or columns out."""
    facts, rows, note = contents(result)
    width = max(len(label) for label, _ in facts)
    lines = [f"{label:{width}}  {value}" for label, value in facts]
    return "\n".join([*lines, "", *align_columns(rows, left=1), *([note] if note else [])])


def as_html(result) -> str:
    """The same as HTML, with the losses drawn. Lines and text have the page's text colour."""
    facts, rows, note = contents(result)
    about = " · ".join(f"{escape(label)} <b>{escape(value)}</b>" for label, value in facts)
    header, *body = ("".join(f"<td>{escape(cell)}</td>" for cell in row) for row in rows)
    return (
        f"<div><p>{about}</p>{loss_svg(result)}"
        f"<table><thead><tr>{header.replace('td>', 'th>')}</tr></thead>"
        f"<tbody>{''.join(f'<tr>{row}</tr>' for row in body)}</tbody></table>"
        f"{f'<p>{note}</p>' if note else ''}</div>"
    )


def contents(result) -> tuple[list[tuple[str, str]], list[list[str]], str]:
    """Labelled facts, the rows of a table with its header first, and a note or ''."""
    return contents_of_many(result) if result._is_many else contents_of_one(result)


def contents_of_one(result):
    """`contents` of one fit: its constants and losses, and a row for each parameter."""
    facts = [("status", str(result.status)), ("epochs", str(result.epochs))]
    if result.best_epoch is not None:
        facts.append(("best epoch", str(result.best_epoch)))
    facts += [(name, f"{getattr(result, name):.6g}") for name in _CONSTANTS]
    facts.append(("loss", format_losses(result.loss)))
    if result.optimal_loss is not None:
        facts.append(("optimal loss", format_losses(result.optimal_loss)))
        facts.append(("gap", format_losses(result.loss - result.optimal_loss)))
    if not result.checkpoint.fit_intercept:
        facts.append(("intercept", "none"))

    names = list(result.feature_names or (f"x{j}" for j in range(len(result.coef))))
    params = result.coef.reshape(len(names), -1)
    if len(result.velocity) > len(names):
        names.append("(intercept)")
        params = np.vstack([params, np.reshape(result.intercept, (1, -1))])
    history, k = result.history, params.shape[1]
    quantities = {"coefficient": params}
    if history.grad is not None and len(history):
        quantities[f"gradient at epoch {history.epoch[-1]}"] = history.grad[-1].reshape(len(names), -1)

    header, columns = [""], []
    for target in range(min(k, _MAX_TARGETS)):
        header += [name + (f" of y{target}" if k > 1 else "") for name in quantities]
        columns += [values[:, target] for values in quantities.values()]
    shown = rows_at_ends(len(names))
    rows = [[one_line(names[j]), *(six_digits(column[j]) for column in columns)] for j in shown]
    parts = [f"{len(shown)} of the {len(names)} parameters"] * (len(shown) < len(names))
    parts += [f"{_MAX_TARGETS} of the {k} targets"] * (k > _MAX_TARGETS)
    return facts, [header, *rows], f"{' and '.join(parts)} are shown." if parts else ""


def contents_of_many(result):
    """`contents` of a result of `fit_many`: how many fits have each status, and a row for each fit."""
    statuses, counts = np.unique(result.status, return_counts=True)
    facts = [("fits", str(len(result.epochs)))]
    facts += [(status, str(count)) for status, count in zip(statuses.tolist(), counts.tolist(), strict=True)]
    shown = rows_at_ends(len(result.epochs))
    rows = [
        [str(i), str(result.status[i]), str(result.epochs[i]), six_digits(result.loss[i])]
        + [f"{getattr(result, name)[i]:.6g}" for name in _CONSTANTS]
        for i in shown
    ]
    note = f"{len(shown)} of the {len(result.epochs)} fits are shown." if len(shown) < len(result.epochs) else ""
    return facts, [["fit", "status", "epochs", "loss", *_CONSTANTS], *rows], note


def rows_at_ends(count: int) -> list[int]:
    """The indices of all rows, or of those at both ends if there are many."""
    return [*range(count)] if count <= 2 * _END_ROWS else [*range(_END_ROWS), *range(count - _END_ROWS, count)]


def format_losses(losses) -> str:
    """The loss of one target, or the losses of several."""
    values = np.ravel(losses)
    rest = ", ..." if len(values) > _MAX_TARGETS else ""
    return ", ".join(map(six_digits, values[:_MAX_TARGETS])) + rest


def six_digits(value: float) -> str:
    """A number of any size to six digits."""
    return f"{value:z#.6g}".rstrip(".")


def one_line(name: str) -> str:
    """A column's name; its repr if it has line breaks or other characters that can't be printed."""
    return name if name.isprintable() else repr(name)


def align_columns(rows: list[list[str]], left: int = 0) -> list[str]:
    """Rows of cells as lines of text. The first `left` columns are flush left, the others flush right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    sides = ["<"] * left + [">"] * (len(widths) - left)
    return [
        "  ".join(f"{cell:{side}{width}}" for cell, side, width in zip(row, sides, widths, strict=True)) for row in rows
    ]


# --- The losses as SVG ---


def curve_names(result) -> list[str]:
    """A name for each target or fit: what varies between fits, as "lr 0.1", or else "fit 0"; [""] for one curve."""
    if not result._is_many:
        return [f"target {i}" for i in range(result.coef.shape[1])] if result.coef.ndim == 2 else [""]
    own_dampening = (result.dampening != result.momentum).any()  # by default they are equal
    constants = {name: getattr(result, name) for name in _CONSTANTS if name != "dampening" or own_dampening}
    varying = {name: values.tolist() for name, values in constants.items() if np.ptp(values) > 0}
    for digits in (3, 6):
        columns = ([f"{name} {value:.{digits}g}" for value in values] for name, values in varying.items())
        names = [", ".join(row) for row in zip(*columns, strict=True)]
        if names and len(set(names)) == len(names):
            return names
    return [f"fit {i}" for i in range(len(result.epochs))]


def loss_svg(result) -> str:
    """Training losses (solid), validation losses (dashed) and optimal losses (dotted) over the epochs, on a log scale.

    Several curves have a colour each, and their names beside the chart, in the order of the last losses. '' if no loss
    was recorded, or if none is positive.
    """
    history = result.history
    if history.loss is None or not len(history):
        return ""
    losses, many, names = np.asarray(history.loss, float), result._is_many, curve_names(result)
    shown = evenly(len(names), _MAX_CURVES)
    names, colours = [names[i] for i in shown], curve_colours(len(shown))
    training, validation = [*(losses if many else losses.reshape(len(history), -1).T)[shown]], []
    if history.val_loss is not None and len(history.val_loss) == len(history):
        validation = [*np.asarray(history.val_loss, float).reshape(len(history), -1).T[shown]]
    # Diverged fits must not press others flat.
    ceiling = _CEILING * np.nanmax([0, *(curve[0] for curve in training)]) if len(shown) > 1 else np.inf
    drawn = np.concatenate(training + validation)
    drawn = drawn[(drawn > 0) & (drawn <= ceiling) & (drawn < np.inf)]
    if not len(drawn):
        return ""
    low, high = np.log10(drawn.min()), np.log10(drawn.max())
    known = np.ravel([] if result.optimal_loss is None else result.optimal_loss)[:_MAX_CURVES].astype(float)
    # An optimum far below all losses is not drawn: it would press the curves flat.
    optima = [loss for loss in known if loss > 0 and low - np.log10(loss) < max(high - low, 1) / 4]
    low = min([low, *np.log10(optima)])
    if high - low < 1e-3:
        low, high = low - 0.5, high + 0.5
    low -= (high - low) / 20  # the lowest curve lies above the axis
    per_update, every = result.checkpoint.record == "updates", result.checkpoint.record_every
    chart = _Chart(every * np.arange(len(history)) if per_update else history.epoch, low, high)
    notes = [f"{len(shown)} of the {len(result.epochs)} fits"] if many and len(shown) < len(result.epochs) else []
    notes += ["validation dashed"] * bool(validation) + ["optimum dotted"] * bool(optima)
    dashed = colours if len(shown) > 1 else _COLOURS[1:]
    parts = [
        *chart.axes("update" if per_update else "epoch", ", ".join(notes), max(map(len, names))),
        *(
            f'<path d="M{_LEFT},{chart.y(loss):.1f}H{chart.right}" stroke="currentColor" stroke-dasharray="1 3"/>'
            for loss in optima
        ),
        *(
            chart.curve(losses, ceiling, f'stroke="{colour}"', name)
            for losses, colour, name in zip(training, colours, names, strict=True)
        ),
        *(
            chart.curve(losses, ceiling, f'stroke="{colour}" stroke-dasharray="5 3"', f"{name} validation".strip())
            for losses, colour, name in zip(validation, dashed, names, strict=False)
        ),
        *chart.names([curve[-1] for curve in training], names, colours),
        "</svg>",
    ]
    return "".join(parts)


def evenly(count: int, most: int) -> list[int]:
    """So many indices of `count` at most, at equal distances, the first and the last among them."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(int)).tolist()


def curve_colours(count: int) -> list[str]:
    """A colour for each curve; for many, from blue to orange."""
    if count <= len(_COLOURS):
        return list(_COLOURS[:count])
    ends = np.array([[int(colour[i : i + 2], 16) for i in (1, 3, 5)] for colour in _COLOURS[:2]])
    mixed = (ends[0] + np.linspace(0, 1, count)[:, np.newaxis] * (ends[1] - ends[0])).round().astype(int)
    return [f"#{red:02x}{green:02x}{blue:02x}" for red, green, blue in mixed.tolist()]


class _Chart:
    """An SVG chart: `positions` on a linear horizontal axis, 10**low to 10**high on a vertical log axis."""

    right, bottom = _WIDTH - _MARGIN, _HEIGHT - _BOTTOM

    def __init__(self, positions, low, high):
        self.positions, self.low, self.high = positions, low, high

    def x(self, position):
        first, last = self.positions[[0, -1]]
        return _LEFT + (position - first) / max(last - first, 1) * (self.right - _LEFT)

    def y(self, value):
        return self.bottom - (np.log10(value) - self.low) / (self.high - self.low) * (self.bottom - _MARGIN)

    def axes(self, x_label, note, letters):
        """The start of the SVG, both axes with labels, and a note; beside them is room for names of so many letters."""
        decades = np.arange(np.ceil(self.low), np.floor(self.high) + 1)
        ticks = [10.0**exponent for exponent in decades[:: -(-len(decades) // 4) or 1]]
        if len(ticks) < 2:
            ticks = [10.0**self.low, 10.0**self.high]
        frame, below = f"M{_LEFT},{_MARGIN}V{self.bottom}H{self.right}", self.bottom + 15
        width = _WIDTH + (_SWATCH + _LETTER * letters if letters else 0)
        return [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{_HEIGHT}" '
            f'viewBox="0 0 {width} {_HEIGHT}" role="img" font-size="11" font-family="sans-serif" fill="currentColor">',
            "<title>mean squared error by epoch, on a log scale</title>",
            f'<path d="{frame}" fill="none" stroke="currentColor" opacity="0.5"/>',
            *(_text(_LEFT - 6, self.y(tick) + 4, "end", f"{tick:.3g}") for tick in ticks),
            _text(_LEFT, below, "start", int(self.positions[0])),
            _text(self.right, below, "end", int(self.positions[-1])),
            _text((_LEFT + self.right) / 2, below, "middle", x_label),
            _text(2, 10, "start", "mean squared error"),
            _text(self.right, 10, "end", note),
        ]

    def curve(self, values, ceiling, style, name):
        """The values above 0 and up to the ceiling, as a polyline; where there is a pointer, it shows the name."""
        rows = downsample(values, ceiling)
        points = " ".join(f"{self.x(self.positions[i]):.1f},{self.y(values[i]):.1f}" for i in rows)
        shape = f'<polyline points="{points}" fill="none" stroke-width="1.5" {style}'
        return f"{shape}><title>{escape(name)}</title></polyline>" if name else f"{shape}/>"

    def names(self, heights, names, colours):
        """The names of curves beside the chart, with their colours, the highest first; of many, some."""
        named = [i for i in evenly(len(names), len(names) if len(names) <= _NAMED else 6) if names[i]]
        named.sort(key=lambda i: -np.nan_to_num(heights[i], nan=np.inf))
        for row, i in enumerate(named):
            y = _MARGIN + 6 + _LINE * row
            yield f'<path d="M{self.right + 8},{y}h{_SWATCH}" stroke="{colours[i]}" stroke-width="2"/>'
            yield _text(self.right + 12 + _SWATCH, y + 4, "start", escape(names[i]))


def _text(x, y, anchor, content):
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{content}</text>'


def downsample(values: np.ndarray, ceiling: float) -> list[int]:
    """The indices of values above 0 and up to the ceiling; of many, the least and the largest of each bucket."""
    rows = np.flatnonzero((values > 0) & (values <= ceiling) & (values < np.inf))
    if len(rows) <= 2 * _BUCKETS:
        return rows.tolist()
    buckets = np.array_split(rows, _BUCKETS)
    return sorted({bucket[i] for bucket in buckets for i in (values[bucket].argmin(), values[bucket].argmax())})
