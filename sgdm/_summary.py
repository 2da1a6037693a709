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
_BLUE, _ORANGE = "#1f83c9", "#d55e00"  # at least 3:1 against white and against black


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


def loss_svg(result) -> str:
    """Training losses (solid), validation losses (dashed) and optimal losses (dotted) over the epochs, on a log scale.

    '' if no loss was recorded, or if none is positive.
    """
    history = result.history
    if history.loss is None or not len(history):
        return ""
    losses, many = np.asarray(history.loss, float), result._is_many
    training, validation = [*(losses if many else losses.reshape(len(history), -1).T)][:_MAX_CURVES], []
    if history.val_loss is not None and len(history.val_loss) == len(history):
        validation = [*np.asarray(history.val_loss, float).reshape(len(history), -1).T][:_MAX_CURVES]
    ceiling = _CEILING * np.nanmax([0, *(curve[0] for curve in training)])  # diverged fits must not press others flat
    drawn = np.concatenate(training + validation)
    drawn = drawn[(drawn > 0) & (drawn <= ceiling)]
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
    legend = [("loss", _BLUE, training), ("validation loss, dashed", _ORANGE, validation)]
    legend.append(("optimal loss, dotted", "currentColor", optima))
    parts = [
        *chart.axes("update" if per_update else "epoch"),
        *(
            f'<path d="M{_LEFT},{chart.y(loss):.1f}H{chart.right}" stroke="currentColor" stroke-dasharray="1 3"/>'
            for loss in optima
        ),
        *(chart.curve(losses, ceiling, f'stroke="{_BLUE}"') for losses in training),
        *(chart.curve(losses, ceiling, f'stroke="{_ORANGE}" stroke-dasharray="5 3"') for losses in validation),
        f'<text x="{chart.right}" y="{_MARGIN + 6}" text-anchor="end">',
        *(f'<tspan dx="8" fill="{colour}">{label}</tspan>' for label, colour, curves in legend if curves),
        "</text></svg>",
    ]
    return "".join(parts)


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

    def axes(self, x_label):
        """The start of the SVG, both axes, and their tick labels."""
        decades = np.arange(np.ceil(self.low), np.floor(self.high) + 1)
        ticks = [10.0**exponent for exponent in decades[:: -(-len(decades) // 4) or 1]]
        if len(ticks) < 2:
            ticks = [10.0**self.low, 10.0**self.high]
        frame, below = f"M{_LEFT},{_MARGIN}V{self.bottom}H{self.right}", self.bottom + 15
        return [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{_HEIGHT}" '
            f'viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" font-size="11" font-family="sans-serif" fill="currentColor">',
            "<title>mean squared error by epoch, on a log scale</title>",
            f'<path d="{frame}" fill="none" stroke="currentColor" opacity="0.5"/>',
            *(_text(_LEFT - 6, self.y(tick) + 4, "end", f"{tick:.3g}") for tick in ticks),
            _text(_LEFT, below, "start", int(self.positions[0])),
            _text(self.right, below, "end", int(self.positions[-1])),
            _text((_LEFT + self.right) / 2, below, "middle", x_label),
        ]

    def curve(self, values, ceiling, style):
        """The values above 0 and up to the ceiling, as a polyline."""
        rows = downsample(values, ceiling)
        points = " ".join(f"{self.x(self.positions[i]):.1f},{self.y(values[i]):.1f}" for i in rows)
        return f'<polyline points="{points}" fill="none" stroke-width="1.5" {style}/>'


def _text(x, y, anchor, content):
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{content}</text>'


def downsample(values: np.ndarray, ceiling: float) -> list[int]:
    """The indices of values above 0 and up to the ceiling; of many, the least and the largest of each bucket."""
    rows = np.flatnonzero((values > 0) & (values <= ceiling))
    if len(rows) <= 2 * _BUCKETS:
        return rows.tolist()
    buckets = np.array_split(rows, _BUCKETS)
    return sorted({bucket[i] for bucket in buckets for i in (values[bucket].argmin(), values[bucket].argmax())})
