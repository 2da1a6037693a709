"""The command ``sgdm``: fits the columns of a file, or 100 points shipped with it, and prints the descent."""

import argparse
import csv
import io
import itertools
import json
import math
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from importlib import resources
from typing import BinaryIO, NoReturn

import numpy as np

from . import ConvergenceWarning, DivergenceError, FitResult, fit
from ._drawing import equation
from ._files import write_atomically
from ._summary import align_columns, one_line, six_digits
from ._tables import DROP, CommandError, join_names, read_csv, read_model, read_table
from .plot import notebook

_EXAMPLES = """\
examples:
  sgdm                                      100 points near y = 3x + 2.5, shipped with sgdm
  sgdm --plot lesson2.png                   the same, with a picture
  sgdm houses.csv --target price --drop city --epochs 500
  zcat big.csv.gz | sgdm - --target y --features a,b --json
  sgdm houses.parquet --target price --json | jq .coefficients
  sgdm arrays.npz --target y
  sgdm houses.csv --target price --output model.npz && sgdm new.csv --predict model.npz
"""

_DATA = (
    "CSV file with a header, its cells separated by commas, semicolons or tabs, maybe ending in .gz, or - for stdin; "
    ".parquet file or folder, .npz file of arrays (the columns of a 2-D one are X[0], X[1], ...) or .npy file (of "
    "fields, or columns 0, 1, ...); by default 100 points shipped with sgdm"
)

_STANDARDIZE = (
    "descend in the coordinates of features of mean 0 and standard deviation 1 (default for DATA); all that is printed "
    "and saved is in the units of DATA"
)

_POINTS_EPOCHS, _FILE_EPOCHS = 50, 20  # epochs printed at most, for the points of the package and for a file


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command ``sgdm``.

    Parameters
    ----------
    argv : sequence of str, optional
        The arguments. By default those of the process.

    Returns
    -------
    int
        The exit code: 0 for a fit, 1 if it diverged, 2 for a wrong argument or file, 130 for Ctrl-C, each but 0 with
        one line on stderr; 141, without a line, if the reader of stdout closed the pipe.

    Examples
    --------
    >>> from sgdm.__main__ import main
    >>> main(["--epochs", "2"])
    epoch    loss    grad0    grad1    step0    step1
        0  7.5648  -2.5998  -2.8958  -2.5998  -2.8958
        1  6.1540  -2.4394  -2.3239  -2.5678  -2.7814
    <BLANKLINE>
    y = -0.483x + 1.57
    0
    """
    try:
        options = parse(argv)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", ConvergenceWarning)
            try:
                execute(options)
            finally:
                for warning in caught:
                    if not issubclass(warning.category, (DeprecationWarning, PendingDeprecationWarning)):
                        print_message("warning", of_command(warning.message, options))
    except CommandError as error:
        print_message("error", error)
        return error.code
    except MemoryError:
        print_message("error", "out of memory")
        return 2
    except KeyboardInterrupt as interrupt:
        result = getattr(interrupt, "result", None)
        progress = f"the fit had done {result.epochs} epochs" if result else "no fit was running"
        print_message("interrupted", progress)
        return 130
    except BrokenPipeError:
        return 128 + 13  # the shell's code for a process that SIGPIPE ended
    return 0


class Parser(argparse.ArgumentParser):
    """A parser that raises its errors, without printing the usage."""

    def error(self, message: str) -> NoReturn:
        raise CommandError(message)


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The options; CommandError if two of them exclude each other."""
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
    add("--features", metavar="A,B", help="the columns to predict it from, instead of all others")
    add("--drop", metavar="NAME", action="append", default=[], help="a column to leave out; may be repeated")
    add("--lr", type=rate, default=0.1, metavar="LR", help="learning rate, or auto (default %(default)s)")
    add(
        "--momentum",
        type=rate,
        default=0.8,
        metavar="M",
        help="in [0, 1), or auto with --lr auto (default %(default)s)",
    )
    add("--epochs", type=int, default=50, metavar="N", help="number of updates (default %(default)s)")
    add("--no-intercept", dest="intercept", action="store_false", help="fit no intercept")
    units = parser.add_mutually_exclusive_group()
    units.add_argument("--standardize", action="store_true", default=None, help=_STANDARDIZE)
    units.add_argument("--raw", dest="standardize", action="store_false", help="descend on the features as they are")
    add("--record-every", type=int, default=1, metavar="K", help="keep each K-th epoch (default %(default)s)")
    add("--output", metavar="FILE", help="save coefficients and history as .npz")
    add("--plot", metavar="FILE", help="draw start, fit and loss as .png, .pdf or .svg (needs matplotlib)")
    add("--predict", metavar="FILE", help="print what the fit that --output saved in FILE predicts for DATA")
    add("--json", action="store_true", help="print one JSON object and nothing else")
    add("--version", action="store_true", help="print the version and exit")
    options = parser.parse_args(argv)
    for option in ("target", "features", "drop"):
        if options.data is None and getattr(options, option):
            parser.error(f"--{option} needs DATA, the file whose column it names")
    if options.predict is not None:
        if options.data is None:
            parser.error("--predict needs DATA, the file with the features")
        for option in ("target", "features", "drop", "output", "plot", "json"):
            if getattr(options, option):
                parser.error(f"--predict and --{option} don't go together: the fit is done already")
    if options.standardize is None:
        options.standardize = options.data is not None
    if options.features is not None:
        options.features = as_list(parser, options.features)
    return options


def rate(text: str) -> float | str:
    """A number, or "auto"."""
    try:
        return text if text == "auto" else float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a number or auto, got {text!r:.40}") from None


def as_list(parser: Parser, text: str) -> list[str]:
    """The names in a list separated by commas, which may be quoted as in a CSV file."""
    try:
        (names,) = csv.reader([text], skipinitialspace=True, strict=True)
    except (csv.Error, ValueError):
        names = []
    if not names:
        parser.error(f"--features must be names of columns with commas between, got {text!r}")
    return [name.strip() for name in names]


def execute(options: argparse.Namespace) -> None:
    """Read the data, fit, save the files, print."""
    if options.version:
        from . import __version__

        print_out(f"sgdm {__version__}")
        return
    if options.predict is not None:
        print_out(predictions(options.data, options.predict))
        return
    check_destinations(options)
    features, X, y, target = read_data(options)
    start = np.array([-1.0, 1.0])[: 1 + options.intercept] if options.data is None else None  # the line y = -x + 1
    result = run_fit(options, X, y, start)
    explained = result.score(X, y)
    report = (json_report if options.json else text_report)(options, result, features, target, explained)
    try:
        if options.output is not None:
            save(options.output, lambda file: write_arrays(file, result, features, target))
        if options.plot is not None:
            figure = notebook(result, X, y, features=features, target=target)
            save(options.plot, lambda file: figure.savefig(file, format=suffix(options.plot), dpi=150))
    finally:  # print the fit even if a file can't be written
        print_out(report)


# --- The data ---


def read_data(options: argparse.Namespace) -> tuple[list[str], np.ndarray, np.ndarray, str]:
    """The feature names, the features (n, d), the target (n,), and the target's name."""
    if options.data is None:
        points = resources.files("sgdm").joinpath("data/lesson2_points.csv")
        names, cells = read_csv(lambda: points.open("rb"), points.name, list)  # type: ignore[arg-type,return-value]
    else:
        names, cells = read_table(options.data, partial(choose_columns, options))
    return names[:-1], cells[:, :-1], cells[:, -1], names[-1]


def choose_columns(options: argparse.Namespace, names: list[str]) -> list[str]:
    """The features and then the target, of the columns of DATA; CommandError where one is missing."""
    target, known = options.target, f"the columns are {join_names(names)}"
    if len(names) < 2:
        count = f"only one column, {names[0]!r}" if names else "no columns"
        raise CommandError(f"{options.data!r} has {count}; it needs the target and a feature")
    if target is None:
        raise CommandError(f"DATA needs a --target; {known}")
    given = {"target": [target], "features": options.features or [], "drop": options.drop}
    for option, chosen in given.items():
        for name in chosen:
            if name not in names:
                one = "; give --drop once for each column" if option == "drop" and "," in name else ""
                raise CommandError(f"--{option}: there is no column {name!r}; {known}{one}")
    for option in ("features", "drop"):
        if target in given[option]:
            raise CommandError(f"--{option}: {target!r} is the target")
    left_out = {target, *options.drop}
    features = [name for name in options.features or names if name not in left_out]
    if not features:
        raise CommandError("there must be a feature beside the target; leave fewer columns out")
    if "" in features:
        index = "" if names[0] else "; if it is the index of a pandas frame, write the file with index=False"
        advice = f"{index}; or leave it out with --drop ''"
        raise CommandError(f"{options.data!r}: column {names.index('') + 1} has no name{advice}")
    return [*dict.fromkeys(features), target]


# --- The fit ---


def run_fit(options: argparse.Namespace, X: np.ndarray, y: np.ndarray, start: np.ndarray | None) -> FitResult:
    """The fit of the options; CommandError if it diverges or can't be done."""
    try:
        return fit(
            X,
            y,
            lr=options.lr,
            momentum=options.momentum,
            epochs=options.epochs,
            standardize=options.standardize,
            fit_intercept=options.intercept,
            coef0=start,
            record_every=options.record_every,
        )
    except DivergenceError as error:
        raise CommandError(of_command(error, options), code=1) from None
    except (ValueError, OverflowError) as error:
        raise CommandError(str(error)) from None
    except MemoryError:
        recorded = f"every {options.record_every}. of {options.epochs} epochs"
        raise CommandError(f"a history of {recorded} does not fit in memory; try a larger --record-every") from None


# --- The files ---


def check_destinations(options: argparse.Namespace) -> None:
    """Raise a CommandError, before the fit, for files that could not be written after it."""
    if options.plot is not None:
        check_picture(options.plot)
    destinations = [path for path in (options.output, options.plot) if path is not None]
    for path in destinations:
        real = os.path.realpath(path)
        folder = os.path.dirname(real)
        if os.path.isdir(real):
            raise CommandError(f"cannot write {path!r}: it is a directory")
        if os.path.exists(real) and not os.path.isfile(real):
            raise CommandError(f"cannot write {path!r}: it is not a regular file")
        if not os.path.isdir(folder):
            raise CommandError(f"cannot write {path!r}: there is no directory {folder!r}")
        if not os.access(folder, os.W_OK):
            raise CommandError(f"cannot write {path!r}: the directory {folder!r} is read-only")
    if options.data not in (None, "-"):
        destinations.append(options.data)
    if len(set(map(os.path.realpath, destinations))) < len(destinations):
        raise CommandError("DATA, --output and --plot must be different files")


def check_picture(path: str) -> None:
    """Raise a CommandError if matplotlib is missing or can't write this kind of file."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise CommandError("--plot needs matplotlib: pip install 'sgdm[plot]'") from None
    known = Figure().canvas.get_supported_filetypes()
    if suffix(path) not in known:
        raise CommandError(f"--plot: expected a file ending in one of {', '.join(sorted(known))}, got {path!r}")


def suffix(path: str) -> str:
    """The ending of a file's name, in lower case and without the dot."""
    return os.path.splitext(path)[1].lower().removeprefix(".")


def save(path: str, write: Callable[[BinaryIO], object]) -> None:
    """Write a file completely or not at all."""
    try:
        write_atomically(path, write)
    except OSError as error:
        raise CommandError(f"cannot write {path!r}: {error.strerror}") from None


def write_arrays(file: BinaryIO, result: FitResult, features: list[str], target: str) -> None:
    """Write the arrays of ``--output``."""
    history = result.history
    np.savez(
        file,
        coef=result.coef,
        intercept=np.asarray(result.intercept),
        features=np.array(features),
        target=np.array(target),
        **{f"history_{name}": getattr(history, name) for name in ("epoch", "loss", "grad", "step", "coef")},
    )


def predictions(data: str, path: str) -> str:
    """What the fit that ``--output`` saved in a file predicts for DATA, as a CSV file of one column."""
    features, target, coef, intercept = read_model(path)

    def choose(names: list[str]) -> list[str]:
        for name in features:
            if name not in names:
                raise CommandError(f"{data!r} lacks the fit's feature {name!r}; the columns are {join_names(names)}")
        return features

    try:
        _, X = read_table(data, choose)
    except CommandError as error:
        raise CommandError(str(error).removesuffix(DROP)) from None
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([[target], *zip((X @ coef + intercept).tolist(), strict=True)])
    return text.getvalue().removesuffix("\n")


# --- The report ---


def json_report(
    options: argparse.Namespace, result: FitResult, features: list[str], target: str, explained: float
) -> str:
    """The fit as one JSON object."""
    arguments = {**vars(options), "target": target}
    del arguments["json"], arguments["predict"], arguments["version"]
    loss = np.asarray(result.history.loss)
    report = {
        "status": str(result.status),
        "epochs": result.epochs,
        "loss": float(result.loss),
        "r2": explained if math.isfinite(explained) else None,
        "lr": result.lr,
        "momentum": result.momentum,
        "coefficients": dict(zip(features, result.coef.tolist(), strict=True)),
        "intercept": float(result.intercept),
        "options": arguments,
        "history": {"epoch": result.history.epoch.tolist(), "loss": loss.tolist()},
    }
    return json.dumps(report)


def text_report(
    options: argparse.Namespace, result: FitResult, features: list[str], target: str, explained: float
) -> str:
    """The fit as text: a table of the descent, then the coefficients."""
    history = result.history
    loss, grad, step = map(np.asarray, (history.loss, history.grad, history.step))
    rows = shown(len(history), _POINTS_EPOCHS if options.data is None else _FILE_EPOCHS)
    values = [*result.coef.tolist(), *[float(result.intercept)] * options.intercept]
    if options.data is None:
        p = grad.shape[1]
        header = ["epoch", "loss", *(f"grad{j}" for j in range(p)), *(f"step{j}" for j in range(p))]
        body = [[str(history.epoch[i]), *map(four_decimals, (loss[i], *grad[i], *step[i]))] for i in rows]
        model = [equation(*values)]
    else:
        header = ["epoch", "loss", "|gradient|", "|step|"]
        norms = ((loss[i], math.hypot(*grad[i]), math.hypot(*step[i])) for i in rows)
        body = [[str(history.epoch[i]), *map(six_digits, row)] for i, row in zip(rows, norms, strict=True)]
        model = [f"{one_line(target)} ="]
        names = [*map(one_line, features), *["(intercept)"] * options.intercept]
        width = max(map(len, names))
        model += [f"  {name:{width}}  {six_digits(value):>12}" for name, value in zip(names, values, strict=True)]
        model += ["", f"R2 = {six_digits(explained)}"] if math.isfinite(explained) else []
    if options.lr == "auto":
        model += ["", f"lr = {six_digits(result.lr)}, momentum = {six_digits(result.momentum)}"]
    lines = [*align_columns([header, *body]), ""]
    if len(rows) < len(history):
        lines += [f"{len(rows)} of the {len(history)} epochs recorded are shown.", ""]
    return "\n".join([*lines, *model])


def shown(rows: int, limit: int) -> list[int]:
    """The rows to print, at most `limit`: all of them, or every 2nd, 5th, 10th, 20th, ... and the last."""
    if rows <= limit:
        return [*range(rows)]
    strides = (factor * 10**power for power in itertools.count() for factor in (1, 2, 5))
    stride = next(stride for stride in strides if (rows - 1) // stride + 2 <= limit)
    return sorted({*range(0, rows, stride), rows - 1})


def four_decimals(value: float) -> str:
    """A number to four decimals, or to six digits from 1e7 on."""
    return f"{value:z.4f}" if abs(value) < 1e7 else six_digits(value)


def print_out(text: str) -> None:
    """Print to stdout and flush, so that errors appear here. Characters that its encoding lacks are escaped."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    try:
        print(text.encode(encoding, "backslashreplace").decode(encoding), flush=True)
    except OSError as error:
        with suppress(OSError):  # otherwise the interpreter flushes again on exit, and prints an error
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            raise
        raise CommandError(f"cannot write to stdout: {error.strerror}") from None


def of_command(message: object, options: argparse.Namespace) -> str:
    """A message of the package, with the command's own option in place of the keyword."""
    option = "use --standardize" if options.data is None else "leave --raw out"
    return str(message).replace("use standardize=True", option)


def print_message(kind: str, message: object) -> None:
    """Print one line to stderr."""
    print(f"sgdm: {kind}: {' '.join(str(message).splitlines())}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
