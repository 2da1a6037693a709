"""sgdm against what else is installed, in one table: `python -m bench`, in the root folder. It takes a minute.

`pytest bench` has more problems, and the range of each ratio.
"""

import math
import sys
import textwrap
from functools import partial
from time import perf_counter

from .report import duration, machine, three_digits  # limits BLAS to one thread, so it comes before what imports NumPy

# isort: split
from sgdm._summary import align_columns

from .competitors import COMPETITORS, SOLVERS, Descent, available, numpy_loop
from .problems import EPOCHS_TIMED, MANY, N_FITS, PROBLEMS, REDUCED, SIZES
from .rounds import check_same, noise_warning, warm_up

N = 300_000  # rows of the long problems: a million would take minutes, and 1 GB
CHOSEN = [*PROBLEMS[:1], *SIZES[:2], SIZES[2]._replace(n=N), MANY, REDUCED._replace(n=N)]


def main():
    rows = []
    for problem in CHOSEN:
        print(f"measuring {problem.title}", file=sys.stderr)
        rows.append((problem, *measure(problem)))
    names = list(dict.fromkeys(name for *_, ratios in rows for name in ratios))
    lines = [["problem", "sgdm's time", *names]]
    for problem, seconds, ratios in rows:
        cells = [three_digits(ratios[name]) if name in ratios else "–" for name in names]
        lines.append([problem.title, f"{duration(seconds)} per {problem.per}", *cells])
    print("How many times as fast as the others sgdm is:\n", *align_columns(lines, left=1), "", sep="\n")
    problem, _, ratios = rows[1]
    example = f"on {problem.title} sgdm is {three_digits(ratios['NumPy'])} times as fast as NumPy"
    legend = (
        f"So {example}. Below 1 the other is faster. {machine(COMPETITORS | SOLVERS)} All use one thread. Before the"
        " measurement all trajectories were the same, up to rounding. Of the many fits, the others do"
        f" {N_FITS} in a loop. Of {REDUCED.epochs} epochs, NumPy does {EPOCHS_TIMED}, and its time is scaled; the"
        f" solvers do no epochs.{noise_warning()}"
    )
    print(textwrap.fill(legend, 100, break_on_hyphens=False))


def measure(problem):
    """The seconds of sgdm, per epoch or call; and by name, how many times as many the others take."""
    X, y = problem.data()
    fit = problem.ours(X, y)
    calls = {"sgdm": (fit, 1)} | dict((solvers if problem == CHOSEN[-1] else loops)(problem, X, y, fit()))
    seconds = dict.fromkeys(calls, math.inf)
    for _ in range(max(3, problem.rounds // 3)):
        for name, (call, factor) in calls.items():
            warm_up(call)
            start = perf_counter()
            call()
            seconds[name] = min(seconds[name], factor * (perf_counter() - start))
    ours = seconds.pop("sgdm")
    return ours / (problem.epochs if problem.per == "epoch" else 1), {name: seconds[name] / ours for name in seconds}


def loops(problem, X, y, result):
    """The loops that do the same epochs: name, call, and by what its time is multiplied."""
    data = list(zip(X[:N_FITS], y[:N_FITS], strict=True)) if problem.fits else [(X, y)]
    history = (result[0] if problem.fits else result).history
    for name, loop in available(COMPETITORS).items():

        def call(loop=loop):
            return [loop(*rows, problem.lr, problem.momentum, problem.epochs) for rows in data]

        check_same(call()[0], history, name)
        yield name, (call, (problem.fits or 1) / len(data))


def solvers(problem, X, y, result):
    """The solvers that reach the same optimum, and NumPy's loop: name, call, and by what its time is multiplied."""
    epochs = partial(numpy_loop, X, y, problem.lr, problem.momentum, EPOCHS_TIMED)
    yield "NumPy", (epochs, problem.epochs / EPOCHS_TIMED)
    for name, solver in available(SOLVERS).items():
        check_same(Descent(None, solver(X, y)), Descent(None, result.coef), name)
        yield name, (partial(solver, X, y), 1)


if __name__ == "__main__":
    main()
