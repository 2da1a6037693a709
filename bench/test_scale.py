"""How the time of sgdm.fit grows with rows, columns and epochs: `pytest bench -k scale --plot scale.png`."""

from functools import partial

import pytest

from .competitors import numpy_loop
from .problems import Problem
from .rounds import GROUPS, alternate, check_same, compare

ELEMENTS = 5_000_000  # a call reads at least so many elements of X: then the set-up doesn't matter


def sized(n, d):
    """A problem with enough epochs for ELEMENTS, and fewer rounds if one epoch is large."""
    return Problem(n, d, min(max(ELEMENTS // (n * d), 5), 1000), GROUPS if n * d > ELEMENTS else 10 * GROUPS)


SERIES = {
    "n": [sized(10**k, 20) for k in range(2, 7)],
    "d": [sized(10_000, 2 * 10**k) for k in range(4)],
    "epochs": [Problem(100, 2, 5 * 10**k, GROUPS if k > 3 else 10 * GROUPS, per="call") for k in range(5)],
}
CASES = [
    pytest.param(axis, problem, id=f"{axis}-{getattr(problem, axis)}")
    for axis, problems in SERIES.items()
    for problem in problems
]


@pytest.mark.parametrize(("axis", "problem"), CASES)
def test_scale(axis, problem, benchmark, tables):
    X, y = problem.data()
    fit = problem.ours(X, y)
    loop = partial(numpy_loop, X, y, problem.lr, problem.momentum, problem.epochs)
    check_same(loop(), fit().history, "NumPy")
    seconds = alternate(benchmark, fit, {"NumPy": loop}, problem.rounds)
    if seconds is None:
        return
    count = problem.epochs if problem.per == "epoch" else 1
    ours, theirs = seconds["sgdm"] / count, seconds["NumPy"] / count
    above = tables["scale"][-1] if tables["scale"] and tables["scale"][-1]["axis"] == axis else None
    info = {
        "problem": problem.title,
        "seconds": {problem.per: ours.min()},
        "ratios": {"NumPy": compare(theirs, ours)},
        "columns": {"growth": compare(ours, above["ours"]) if above else None},
    }
    benchmark.extra_info.update(info)
    tables["scale"].append(info | {"axis": axis, "at": getattr(problem, axis), "ours": ours, "NumPy": theirs})


PANELS = {
    "n": ("rows, of 20 columns", "seconds per epoch"),
    "d": ("columns, of 10 000 rows", "seconds per epoch"),
    "epochs": ("epochs, on 100 x 2", "seconds per call"),
}


def plot(rows, path):
    """Draw the rows of the table, with one panel for each axis in it."""
    from matplotlib.figure import Figure

    axes = [axis for axis in PANELS if any(row["axis"] == axis for row in rows)]
    figure = Figure(figsize=(4 * len(axes), 3.5), layout="constrained")
    for ax, axis in zip(figure.subplots(1, len(axes), squeeze=False)[0], axes, strict=True):
        own = [row for row in rows if row["axis"] == axis]
        at = [row["at"] for row in own]
        ax.loglog(at, [row["NumPy"].min() for row in own], "s--", color="#D55E00", label="NumPy")
        ax.loglog(at, [row["ours"].min() for row in own], "o-", color="#0072B2", label="sgdm")
        ax.set(xlabel=PANELS[axis][0], ylabel=PANELS[axis][1])
        ax.grid(alpha=0.3)
        ax.legend(frameon=False)
    figure.savefig(path, dpi=150)
