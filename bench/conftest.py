"""Sets the benchmarks up and prints their tables. They use one thread, and run only if bench/ is asked for."""

from importlib.util import find_spec
from pathlib import Path

import pytest

from .report import THREADS, TOO_LATE, duration, machine, markdown, ratio  # limits BLAS to one thread

TABLES = pytest.StashKey[dict]()


def pytest_addoption(parser):
    parser.addoption("--plot", metavar="FILE", help="draw the times of bench's table `scale` (needs matplotlib)")


def pytest_configure(config):
    """Run the benchmarks, although pyproject.toml has --benchmark-skip, if only bench/ is asked for."""
    config.stash[TABLES] = {name: [] for name in LAYOUTS}
    here, start = Path(__file__).resolve().parent, config.invocation_params.dir
    asked_for = [(start / arg.split("::")[0]).resolve() for arg in config.args]
    only_bench = all(path.is_relative_to(here) for path in asked_for)
    if not only_bench or "--benchmark-skip" in config.invocation_params.args:
        return
    if TOO_LATE:
        raise pytest.UsageError(
            "numpy was imported before the benchmarks could limit it to one thread; run with "
            + " ".join(f"{name}=1" for name in THREADS)
        )
    if config.option.plot and not find_spec("matplotlib"):
        raise pytest.UsageError("--plot needs matplotlib: pip install '.[bench]'")
    config.option.benchmark_skip = False
    config.option.benchmark_quiet = True  # print only our own tables


@pytest.fixture
def tables(request):
    """The rows of each table so far."""
    return request.config.stash[TABLES]


def pytest_terminal_summary(terminalreporter, config):
    written = False
    for name, rows in config.stash[TABLES].items():
        if not rows:
            continue
        layout, legend = LAYOUTS[name]
        terminalreporter.section(name)
        for line in layout(rows):
            terminalreporter.write_line(markdown(line))
        terminalreporter.write_line("")
        terminalreporter.write_line(("" if written else f"{common_legend()} ") + legend())
        written = True
    path, rows = config.getoption("plot", None), config.stash[TABLES]["scale"]
    if path and rows:
        from .test_scale import plot

        plot(rows, path)
        terminalreporter.write_line(f"Drawn in {path}.")


def against_others(rows):
    """The lines of a table of times, ratios to the others, and other columns."""
    names = list(dict.fromkeys(name for row in rows for name in row["ratios"]))
    columns = list(dict.fromkeys(title for row in rows for title in row.get("columns", {})))
    columns = [title for title in columns if any(row.get("columns", {}).get(title) for row in rows)]
    yield ["problem", "sgdm", *(f"{name} / sgdm" for name in names), *columns]
    yield ["---"] + ["---:"] * (1 + len(names) + len(columns))
    for row in rows:
        ratios = [row["ratios"].get(name) for name in names]
        others = [row.get("columns", {}).get(title) for title in columns]
        times = [f"{duration(seconds)} per {unit}" for unit, seconds in row["seconds"].items()]
        yield [row["problem"], ", ".join(times + row.get("notes", [])), *map(ratio, ratios + others)]


def crossovers(rows):
    """The lines of the table of the epochs from which on a reduction is faster."""
    budgets = list(rows[0]["ratios"])
    titles = ["an epoch on the rows", "the reduction", "1000 epochs on the reduction"]
    yield ["problem", *titles, *(f"direct / compress, {epochs} epochs" for epochs in budgets), "even at", "auto from"]
    yield ["---"] + ["---:"] * (len(titles) + len(budgets) + 2)
    for row in rows:
        times = [duration(row[name]) for name in ("direct", "reduction", "epochs")]
        even, auto = ("never" if row[name] is None else f"{row[name]:.0f}" for name in ("crossover", "auto"))
        yield [row["problem"], *times, *(ratio(row["ratios"][epochs]) for epochs in budgets), even, auto]


def common_legend():
    """The machine, the versions and the method of all tables."""
    from .competitors import ROW_COMPETITORS, SOLVERS
    from .rounds import noise_warning

    return (
        f"{machine([*(ROW_COMPETITORS | SOLVERS), 'dask'])} All use one thread unless the column says otherwise. A / B"
        " is A's time over B's: if NumPy / sgdm is above 1, sgdm is faster. Each ratio compares the least times; the"
        f" brackets show its range over fifths of the run.{noise_warning()}"
    )


def ratios_legend():
    from .problems import N_FITS

    return (
        "X begins at a cache line. lstsq, LinearRegression and Ridge show how many sgdm epochs fit into one call of"
        " theirs. Numba adds in the order written, or with fastmath in any order. JAX differentiates by itself. Of the"
        f" many fits, the others do {N_FITS} in a loop."
    )


def batches_legend():
    from .competitors import MAX_BATCHES

    return (
        "Each epoch takes the rows in a new random order. The column NumPy gathers the rows of a whole epoch at once."
        f" For batches of 1, NumPy, torch and JAX do {MAX_BATCHES} rows, and Numba and scikit-learn all rows; the"
        " ratios are per row. scikit-learn keeps no history of the loss."
    )


def scale_legend():
    return (
        "Every epoch uses all rows and keeps the whole history. Growth is the time over that of the row above, which"
        " has a tenth of the rows, columns or epochs."
    )


def compress_legend():
    from .problems import EPOCHS_TIMED, REDUCED

    return (
        f"NumPy's loop does {EPOCHS_TIMED} epochs, and its time is scaled to {REDUCED.epochs}. LinearRegression and"
        " Ridge are scikit-learn's, both without an intercept, Ridge without a penalty. Streams are read from memory;"
        " peak memory is that above the blocks. Dask's workers are processes of one thread that hold the rows."
    )


def crossover_legend():
    return (
        "direct does few epochs on the rows, and its time is scaled; compress is the reduction and the epochs on it."
        ' Both take the same time for the number of epochs in "even at". method="auto" reduces from "auto from" on: by'
        " its own estimate a reduction is then twice as fast and saves a noticeable time."
    )


LAYOUTS = {
    "ratios": (against_others, ratios_legend),
    "batches": (against_others, batches_legend),
    "scale": (against_others, scale_legend),
    "compress": (against_others, compress_legend),
    "crossover": (crossovers, crossover_legend),
}
