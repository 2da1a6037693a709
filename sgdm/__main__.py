"""The command ``sgdm``: fits the notebook's points, or the columns of a file, and prints the descent."""

from __future__ import annotations

import argparse
import itertools
import json
import math
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from importlib import resources
from typing import BinaryIO, NoReturn

import numpy as np

from . import ConvergenceWarning, DivergenceError, FitResult, fit
from ._drawing import equation
from ._files import write_whole
from ._summary import aligned, digits, printable
from ._tables import Refusal, listed, read_csv, read_table
from .plot import notebook

_EXAMPLES = """\
examples:
  sgdm                                      the notebook's 100 points
  sgdm --plot lesson2.png                   and its pictures
  sgdm houses.csv --target price --standardize --epochs 500
  sgdm houses.parquet --target price --json | jq .coefficients
  sgdm arrays.npz --target y
"""

_DATA = (
    "CSV file with a header, .parquet file or folder, .npz file of arrays (the columns of a 2-D one are X[0], X[1], "
    "...) or .npy file (of fields, or columns 0, 1, ...); the notebook's points by default"
)

_STANDARDIZE = (
    "descend on features of mean 0 and standard deviation 1; gradients, steps and saved history are in these "
    "units, coefficients in those of DATA"
)

_NOTEBOOK_ROWS, _TABLE_ROWS = 50, 20  # rows of a printed table at most


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command ``sgdm``.

    Parameters
    ----------
    argv : sequence of str, optional
        The arguments; those of the process by default.

    Returns
    -------
    int
        The exit code: 0 for a fit, 1 for one that diverged, 2 for arguments or files that won't do, 130 for
        Ctrl-C; each but 0 with one line on stderr. 141, quietly, where the reader of stdout left.
    """
    try:
        options = parse(argv)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", ConvergenceWarning)
            try:
                execute(options)
            finally:
                for warning in caught:
                    if not issubclass(warning.category, (DeprecationWarning, PendingDeprecationWarning)):  # developers'
                        complain("warning", warning.message)
    except Refusal as refusal:
        complain("error", refusal)
        return refusal.code
    except MemoryError:
        complain("error", "out of memory")
        return 2
    except KeyboardInterrupt as stop:
        result = getattr(stop, "result", None)
        progress = f"the fit had done {result.epochs} epochs" if result else "no fit was running"
        complain("interrupted", progress)
        return 130
    except BrokenPipeError:
        return 128 + 13  # what the shell reports of a process that SIGPIPE ended
    return 0


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, without the usage."""

    def error(self, message: str) -> NoReturn:
        raise Refusal(message)


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The options, refused where they don't go together."""
    parser = Parser(
        prog="sgdm",
        description="Fit linear least squares by gradient descent with momentum, and print the descent.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("data", metavar="DATA", nargs="?", help=_DATA)
    add("--target", metavar="NAME", help="the column of DATA to predict; all others are features")
    add("--lr", type=float, default=0.1, metavar="LR", help="learning rate (default %(default)s)")
    add("--momentum", type=float, default=0.8, metavar="M", help="momentum in [0, 1) (default %(default)s)")
    add("--epochs", type=int, default=50, metavar="N", help="number of updates (default %(default)s)")
    add("--no-intercept", dest="intercept", action="store_false", help="fit no intercept")
    add("--standardize", action="store_true", help=_STANDARDIZE)
    add("--record-every", type=int, default=1, metavar="K", help="keep each K-th epoch (default %(default)s)")
    add("--output", metavar="FILE", help="save coefficients and history as .npz")
    add("--plot", metavar="FILE", help="draw start, fit and loss as .png, .pdf or .svg (needs matplotlib)")
    add("--json", action="store_true", help="print one JSON object and nothing else")
    add("--version", action="store_true", help="print the version and exit")
    options = parser.parse_args(argv)
    if options.data is None and options.target is not None:
        parser.error("--target needs DATA, the file whose column it names")
    if options.standardize and not options.intercept:
        parser.error("--standardize centres the features, so it needs the intercept: drop --no-intercept")
    return options


def execute(options: argparse.Namespace) -> None:
    """Read, fit, save, print."""
    if options.version:
        emit(f"sgdm {installed_version()}")
        return
    check_destinations(options)
    features, X, y, target = load(options)
    mean, scale = np.zeros(len(features)), np.ones(len(features))
    if options.standardize:
        mean, scale = moments(X, features)
    start = None
    if options.data is None:  # the line y = -x + 1, where the notebook starts
        start = np.array([-1.0 * scale[0], 1.0 - mean[0]])[: 1 + options.intercept]
    descent = descend(options, (X - mean) / scale if options.standardize else X, y, start)
    result = in_original_units(descent, mean, scale) if options.standardize else descent
    report = as_json if options.json else as_text
    printed = report(options, result, features, target)
    try:
        if options.output is not None:
            save(options.output, lambda file: write_npz(file, descent, result, features, target, mean, scale))
        if options.plot is not None:
            draw(options.plot, X, y, result, features, target)
    finally:  # a full disk doesn't cost the fit that is done
        emit(printed)


# --- The table ---


def load(options: argparse.Namespace) -> tuple[list[str], np.ndarray, np.ndarray, str]:
    """The features' names, the features, the target, and its name."""
    if options.data is None:
        points = resources.files("sgdm").joinpath("data/lesson2_points.csv")
        names, cells = read_csv(points, points.name)
        target = "y"
    else:
        names, cells = read_table(options.data)
        target = options.target
    if target not in names:
        problem = "DATA needs a --target" if target is None else f"--target: there is no column {target!r}"
        raise Refusal(f"{problem}; the columns are {listed(names)}")
    features = [name for name in names if name != target]
    column = names.index(target)
    return features, np.delete(cells, column, axis=1), cells[:, column], target


# --- The fit ---


def descend(options: argparse.Namespace, X: np.ndarray, y: np.ndarray, start: np.ndarray | None) -> FitResult:
    """The fit that the options ask for."""
    try:
        return fit(
            X,
            y,
            lr=options.lr,
            momentum=options.momentum,
            epochs=options.epochs,
            fit_intercept=options.intercept,
            coef0=start,
            record_every=options.record_every,
        )
    except DivergenceError as error:
        scaled = options.data is None or options.standardize or not options.intercept
        too_fast = error.max_lr is not None and options.lr >= error.max_lr
        hint = "; or try --standardize" if too_fast and not scaled else ""
        raise Refusal(f"{error}{hint}", code=1) from None
    except (ValueError, OverflowError) as error:
        raise Refusal(str(error)) from None
    except MemoryError:
        kept = f"every {options.record_every}. of {options.epochs} epochs"
        raise Refusal(f"a history of {kept} does not fit in memory; try a larger --record-every") from None


def moments(X: np.ndarray, features: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each column; the value and 1 for a constant one."""
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        mean, scale = X.mean(axis=0), X.std(axis=0)
    for name, finite in zip(features, np.isfinite(mean) & np.isfinite(scale), strict=True):
        if not finite:
            raise Refusal(f"--standardize: the squares of column {name!r} overflow; scale it down")
    constant = X.max(axis=0) == X.min(axis=0)  # rounding leaves its standard deviation just off 0
    scale[constant | (scale == 0)] = 1
    return np.where(constant, X[0], mean), scale


def in_original_units(result: FitResult, mean: np.ndarray, scale: np.ndarray) -> FitResult:
    """A fit to ``(X - mean) / scale`` with its coefficients as they apply to X."""
    path = np.array(result.history.coef)
    path[:, :-1] /= scale
    path[:, -1] -= path[:, :-1] @ mean
    coef = result.coef / scale
    intercept = result.intercept - coef @ mean
    return replace(result, coef=coef, intercept=intercept, history=replace(result.history, coef=path))


# --- The files ---


def check_destinations(options: argparse.Namespace) -> None:
    """Refuses, before the fit, files that could not be written after it."""
    if options.plot is not None:
        check_picture(options.plot)
    destinations = [path for path in (options.output, options.plot) if path is not None]
    for path in destinations:
        real = os.path.realpath(path)
        folder = os.path.dirname(real)
        if os.path.isdir(real):
            raise Refusal(f"cannot write {path!r}: it is a directory")
        if os.path.exists(real) and not os.path.isfile(real):
            raise Refusal(f"cannot write {path!r}: it is not a regular file")
        if not os.path.isdir(folder):
            raise Refusal(f"cannot write {path!r}: there is no directory {folder!r}")
        if not os.access(folder, os.W_OK):
            raise Refusal(f"cannot write {path!r}: the directory {folder!r} is read-only")
    if options.data is not None:
        destinations.append(options.data)
    if len(set(map(os.path.realpath, destinations))) < len(destinations):
        raise Refusal("DATA, --output and --plot must be different files")


def check_picture(path: str) -> None:
    """Refuses a picture that matplotlib, if it is there at all, can't write."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise Refusal("--plot needs matplotlib: pip install 'sgdm[plot]'") from None
    known = Figure().canvas.get_supported_filetypes()
    if suffix(path) not in known:
        raise Refusal(f"--plot: expected a file ending in one of {', '.join(sorted(known))}, got {path!r}")


def suffix(path: str) -> str:
    """The ending of a file's name, without its dot."""
    return os.path.splitext(path)[1].lower().removeprefix(".")


def save(path: str, write: Callable[[BinaryIO], object]) -> None:
    """Writes a file, whole or not at all."""
    try:
        write_whole(path, write)
    except OSError as error:
        raise Refusal(f"cannot write {path!r}: {error.strerror}") from None


def write_npz(
    file: BinaryIO,
    descent: FitResult,
    result: FitResult,
    features: list[str],
    target: str,
    mean: np.ndarray,
    scale: np.ndarray,
) -> None:
    """The arrays of ``--output``; the history is of the fit to ``(X - mean) / scale``."""
    history = descent.history
    np.savez(
        file,
        coef=result.coef,
        intercept=np.asarray(result.intercept),
        features=np.array(features),
        target=np.array(target),
        mean=mean,
        scale=scale,
        history_epoch=history.epoch,
        history_loss=np.asarray(history.loss),
        history_grad=np.asarray(history.grad),
        history_step=np.asarray(history.step),
        history_coef=np.asarray(history.coef),
    )


def draw(path: str, X: np.ndarray, y: np.ndarray, result: FitResult, features: list[str], target: str) -> None:
    """The picture of ``--plot``."""
    figure = notebook(X, y, result, features=features, target=target)
    save(path, lambda file: figure.savefig(file, format=suffix(path), dpi=150))


# --- What is printed ---


def as_json(options: argparse.Namespace, result: FitResult, features: list[str], target: str) -> str:
    """The fit as one JSON object."""
    used = {**vars(options), "target": target}
    del used["json"], used["version"]
    loss = np.asarray(result.history.loss)
    fitted = {
        "status": str(result.status),
        "epochs": result.epochs,
        "loss": float(result.loss),
        "coefficients": dict(zip(features, result.coef.tolist(), strict=True)),
        "intercept": float(result.intercept),
        "options": used,
        "history": {"epoch": result.history.epoch.tolist(), "loss": loss.tolist()},
    }
    return json.dumps(fitted)


def as_text(options: argparse.Namespace, result: FitResult, features: list[str], target: str) -> str:
    """The fit for people: a table of the descent, and what it found."""
    history = result.history
    loss, grad, step = (np.asarray(kept) for kept in (history.loss, history.grad, history.step))
    rows = shown(len(history), _NOTEBOOK_ROWS if options.data is None else _TABLE_ROWS)
    values = [*result.coef.tolist(), *[float(result.intercept)] * options.intercept]
    if options.data is None:
        p = grad.shape[1]
        header = ["epoch", "loss", *(f"grad{j}" for j in range(p)), *(f"step{j}" for j in range(p))]
        body = [[str(history.epoch[i]), *map(fixed, (loss[i], *grad[i], *step[i]))] for i in rows]
        found = [equation(*values)]
    else:
        header = ["epoch", "loss", "|gradient|", "|step|"]
        norms = ((loss[i], math.hypot(*grad[i]), math.hypot(*step[i])) for i in rows)
        body = [[str(history.epoch[i]), *map(digits, row)] for i, row in zip(rows, norms, strict=True)]
        found = [f"{printable(target)} ="]
        names = [*map(printable, features), *["(intercept)"] * options.intercept]
        width = max(map(len, names))
        found += [f"  {name:{width}}  {digits(value):>12}" for name, value in zip(names, values, strict=True)]
    lines = [*aligned([header, *body]), ""]
    if len(rows) < len(history):
        lines += [f"{len(rows)} of the {len(history)} epochs recorded are shown.", ""]
    return "\n".join([*lines, *found])


def shown(rows: int, limit: int) -> list[int]:
    """At most `limit` of so many rows: all, or each 2nd, 5th, 10th, 20th ... and the last."""
    if rows <= limit:
        return [*range(rows)]
    strides = (factor * 10**power for power in itertools.count() for factor in (1, 2, 5))
    stride = next(stride for stride in strides if (rows - 1) // stride + 2 <= limit)
    return sorted({*range(0, rows, stride), rows - 1})


def fixed(value: float) -> str:
    """A number to four decimals, as the notebook prints it, unless it is huge."""
    return f"{value:z.4f}" if abs(value) < 1e7 else digits(value)


def emit(text: str) -> None:
    """Prints to stdout, at once, so that what goes wrong is seen here; escapes what its encoding lacks."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    try:
        print(text.encode(encoding, "backslashreplace").decode(encoding), flush=True)
    except OSError as error:
        with suppress(OSError):  # or else the interpreter tries again on exit, and complains
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            raise
        raise Refusal(f"cannot write to stdout: {error.strerror}") from None


def complain(kind: str, message: object) -> None:
    """One line on stderr."""
    print(f"sgdm: {kind}: {' '.join(str(message).splitlines())}", file=sys.stderr)


def installed_version() -> str:
    """The version that is installed; pyproject.toml alone states it."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("sgdm")
    except PackageNotFoundError:
        return "(not installed)"


if __name__ == "__main__":
    sys.exit(main())
