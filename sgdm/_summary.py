"""A result in words and figures: the text of `FitResult.summary`, and what a notebook shows of a result."""

from __future__ import annotations

from html import escape

import numpy as np

_CONSTANTS = ("lr", "momentum", "dampening")
_SIDE = 30  # rows of a table that are shown from each end
_TARGETS, _CURVES = 4, 20  # that are shown of many
_ROOF = 1000  # times the first loss: what is above is not drawn
_BUCKETS = 200  # of a curve, each drawn by its least and its largest value
_WIDTH, _HEIGHT, _LEFT, _FOOT, _PAD = 420, 170, 60, 30, 18  # of the curves, in pixels
_BLUE, _ORANGE = "#1f83c9", "#d55e00"  # a contrast of 3 and more on white and on black


def as_text(result) -> str:
    """Facts, a table, and what of it is not shown."""
    facts, rows, note = contents(result)
    width = max(len(label) for label, _ in facts)
    lines = [f"{label:{width}}  {value}" for label, value in facts]
    return "\n".join([*lines, "", *aligned(rows, left=1), *([note] if note else [])])


def as_html(result) -> str:
    """The same, with the losses drawn; lines and text have the colour of the page's text."""
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
    """Labelled facts, the rows of a table with its header, and a note or ''."""
    return of_many(result) if result._of_many else of_one(result)


def of_one(result):
    """`contents` of one fit: its constants and losses, and a row for every parameter."""
    facts = [("status", str(result.status)), ("epochs", str(result.epochs))]
    if result.best_epoch is not None:
        facts.append(("best epoch", str(result.best_epoch)))
    facts += [(name, f"{getattr(result, name):.6g}") for name in _CONSTANTS]
    facts.append(("loss", listed(result.loss)))
    if result.optimal_loss is not None:
        facts.append(("optimal loss", listed(result.optimal_loss)))
        facts.append(("gap", listed(result.loss - result.optimal_loss)))

    names = list(result.feature_names or (f"x{j}" for j in range(len(result.coef))))
    params = result.coef.reshape(len(names), -1)
    if len(result.velocity) > len(names):
        names.append("(intercept)")
        params = np.vstack([params, np.reshape(result.intercept, (1, -1))])
    history, k = result.history, params.shape[1]
    grads = None
    if history.grad is not None and len(history):
        grads = history.grad[-1].reshape(len(names), -1)
        when = f"gradient at epoch {history.epoch[-1]}"

    header, columns = [""], []
    for target in range(min(k, _TARGETS)):
        of = f" of y{target}" if k > 1 else ""
        header.append(f"coefficient{of}")
        columns.append(params[:, target])
        if grads is not None:
            header.append(f"{when}{of}")
            columns.append(grads[:, target])
    chosen = ends(len(names))
    rows = [[printable(names[j]), *(digits(column[j]) for column in columns)] for j in chosen]
    parts = [f"{len(chosen)} of the {len(names)} parameters"] * (len(chosen) < len(names))
    parts += [f"{_TARGETS} of the {k} targets"] * (k > _TARGETS)
    return facts, [header, *rows], f"{' and '.join(parts)} are shown." if parts else ""


def of_many(result):
    """`contents` of `fit_many`'s result: how the fits ended, and a row for each."""
    statuses, counts = np.unique(result.status, return_counts=True)
    facts = [("fits", str(len(result.epochs)))]
    facts += [(status, str(count)) for status, count in zip(statuses.tolist(), counts.tolist(), strict=True)]
    chosen = ends(len(result.epochs))
    rows = [
        [
            *(str(i), str(result.status[i]), str(result.epochs[i]), digits(result.loss[i])),
            *(f"{getattr(result, name)[i]:.6g}" for name in _CONSTANTS),
        ]
        for i in chosen
    ]
    note = f"{len(chosen)} of the {len(result.epochs)} fits are shown." if len(chosen) < len(result.epochs) else ""
    return facts, [["fit", "status", "epochs", "loss", *_CONSTANTS], *rows], note


def ends(count: int) -> list[int]:
    """All of so many rows, or those at both ends."""
    return [*range(count)] if count <= 2 * _SIDE else [*range(_SIDE), *range(count - _SIDE, count)]


def listed(losses) -> str:
    """One loss, or those of several targets."""
    values = np.ravel(losses)
    rest = ", ..." if len(values) > _TARGETS else ""
    return ", ".join(map(digits, values[:_TARGETS])) + rest


def digits(value: float) -> str:
    """A number of any size to six digits."""
    return f"{value:z#.6g}".rstrip(".")


def printable(name: str) -> str:
    """A column's name, on one line."""
    return name if name.isprintable() else repr(name)


def aligned(rows: list[list[str]], left: int = 0) -> list[str]:
    """Rows as lines, their cells flush right, but for the first `left`."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    sides = ["<"] * left + [">"] * (len(widths) - left)
    return [
        "  ".join(f"{cell:{side}{width}}" for cell, side, width in zip(row, sides, widths, strict=True)) for row in rows
    ]


# --- The losses, drawn ---


def loss_svg(result) -> str:
    """Training losses (full), validation losses (dashed) and the optimal loss (dotted) on a log scale, as SVG; '' where
    none was recorded, or none is positive."""
    history = result.history
    if history.loss is None or not len(history):
        return ""
    losses = np.asarray(history.loss, float)
    curves = [*(losses if result._of_many else losses.reshape(len(history), -1).T)][:_CURVES]
    dashed = []
    if history.val_loss is not None and len(history.val_loss) == len(history):
        dashed = [*np.asarray(history.val_loss, float).reshape(len(history), -1).T][:_CURVES]
    roof = _ROOF * max(curve[0] for curve in curves)  # or a fit that diverged would press all others flat
    every = np.concatenate(curves + dashed)
    every = every[(every > 0) & (every <= roof)]
    if not len(every):
        return ""
    optima = np.ravel([] if result.optimal_loss is None else result.optimal_loss)[:_CURVES].astype(float)
    low, high = np.log10(every.min()), np.log10(every.max())
    near = [value for value in optima if value > 0 and low - np.log10(value) < max(high - low, 1) / 4]
    low = min([low, *np.log10(near)])
    if high - low < 1e-3:
        low, high = low - 0.5, high + 0.5
    low -= (high - low) / 20  # the lowest line lies above the axis
    batches = bool((np.diff(history.epoch) <= 0).any())  # several rows to an epoch: count the updates
    x = np.arange(len(history)) if batches else history.epoch
    span = max(x[-1] - x[0], 1)
    right, foot = _WIDTH - _PAD, _HEIGHT - _FOOT

    def across(value):
        return _LEFT + (value - x[0]) / span * (right - _LEFT)

    def up(exponent):
        return foot - (exponent - low) / (high - low) * (foot - _PAD)

    def polyline(values, style):
        kept = thinned(values, roof)
        points = " ".join(f"{across(x[i]):.1f},{up(np.log10(values[i])):.1f}" for i in kept)
        return f'<polyline points="{points}" fill="none" stroke-width="1.5" {style}/>'

    def text(at_x, at_y, anchor, content):
        return f'<text x="{at_x:.1f}" y="{at_y:.1f}" text-anchor="{anchor}">{content}</text>'

    legend = [("loss", _BLUE), ("validation loss, dashed", _ORANGE), ("optimal loss, dotted", "currentColor")]
    legend = [entry for entry, there in zip(legend, (curves, dashed, near), strict=True) if there]
    decades = np.arange(np.ceil(low), np.floor(high) + 1)
    ticks = [10.0**exponent for exponent in decades[:: -(-len(decades) // 4) or 1]]
    if len(ticks) < 2:
        ticks = [10.0**low, 10.0**high]
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{_HEIGHT}" '
        f'viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" font-size="11" font-family="sans-serif" fill="currentColor">',
        "<title>mean squared error by epoch, on a log scale</title>",
        f'<path d="M{_LEFT},{_PAD}V{foot}H{right}" fill="none" stroke="currentColor" opacity="0.5"/>',
        *(text(_LEFT - 6, up(np.log10(tick)) + 4, "end", f"{tick:.3g}") for tick in ticks),
        text(_LEFT, foot + 15, "start", int(x[0])),
        text(right, foot + 15, "end", int(x[-1])),
        text((_LEFT + right) / 2, foot + 15, "middle", "update" if batches else "epoch"),
        *(
            f'<path d="M{_LEFT},{up(np.log10(value)):.1f}H{right}" stroke="currentColor" stroke-dasharray="1 3"/>'
            for value in near
        ),
        *(polyline(curve, f'stroke="{_BLUE}"') for curve in curves),
        *(polyline(curve, f'stroke="{_ORANGE}" stroke-dasharray="5 3"') for curve in dashed),
        f'<text x="{right}" y="{_PAD + 6}" text-anchor="end">',
        *(f'<tspan dx="8" fill="{colour}">{label}</tspan>' for label, colour in legend),
        "</text></svg>",
    ]
    return "".join(parts)


def thinned(values: np.ndarray, roof: float) -> list[int]:
    """The places of the values that can be drawn on a log scale: all, or the least and largest of each bucket."""
    places = np.flatnonzero((values > 0) & (values <= roof))
    if len(places) <= 2 * _BUCKETS:
        return places.tolist()
    buckets = np.array_split(places, _BUCKETS)
    return sorted({bucket[i] for bucket in buckets for i in (values[bucket].argmin(), values[bucket].argmax())})
