"""Sets the benchmarks up (one thread, on when asked for by name) and prints their tables."""

import os
import platform
import re
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
TOO_LATE = "numpy" in sys.modules and any(os.environ.get(name) != "1" for name in THREADS)
os.environ.update(dict.fromkeys(THREADS, "1"))  # read when numpy and torch are imported
os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"  # when JAX is

TABLES = pytest.StashKey[dict]()


def pytest_addoption(parser):
    parser.addoption("--plot", metavar="FILE", help="draw the times of bench's table `scale` (needs matplotlib)")


def pytest_configure(config):
    """Runs the benchmarks in spite of --benchmark-skip in pyproject.toml if nothing but bench/ was asked for."""
    config.stash[TABLES] = {name: [] for name in LAYOUTS}
    here, start = Path(__file__).resolve().parent, config.invocation_params.dir
    asked_for = [(start / arg.split("::")[0]).resolve() for arg in config.args]
    only_bench = all(path.is_relative_to(here) for path in asked_for)
    if not only_bench or "--benchmark-skip" in config.invocation_params.args:
        return
    if TOO_LATE:
        raise pytest.UsageError(
            "numpy was imported before bench/conftest.py could hold it to one thread; run with "
            + " ".join(f"{name}=1" for name in THREADS)
        )
    if config.option.plot and not find_spec("matplotlib"):
        raise pytest.UsageError("--plot needs matplotlib: pip install '.[bench]'")
    config.option.benchmark_skip = False
    config.option.benchmark_quiet = True  # ours are the only tables


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
        terminalreporter.write_line(("" if written else f"{machine()} ") + legend())
        written = True
    path, rows = config.getoption("plot", None), config.stash[TABLES]["scale"]
    if path and rows:
        from .test_scale import plot

        plot(rows, path)
        terminalreporter.write_line(f"Drawn in {path}.")


def markdown(line):
    return f"| {' | '.join(line)} |"


def against_others(rows):
    """The lines of a table of times and ratios: those to `ratios` of others, then what else is in `columns`."""
    names = list(dict.fromkeys(name for row in rows for name in row["ratios"]))
    columns = list(dict.fromkeys(title for row in rows for title in row.get("columns", {})))
    columns = [title for title in columns if any(row.get("columns", {}).get(title) for row in rows)]
    yield ["problem", "sgdm", *(f"{name} / sgdm" for name in names), *columns]
    yield ["---"] + ["---:"] * (1 + len(names) + len(columns))
    for row in rows:
        ratios = [row["ratios"].get(name) for name in names]
        others = [row.get("columns", {}).get(title) for title in columns]
        times = [f"{duration(seconds)} per {what}" for what, seconds in row["seconds"].items()]
        yield [row["problem"], ", ".join(times + row.get("notes", [])), *map(ratio, ratios + others)]


def crossovers(rows):
    """The lines of the table of when reducing pays."""
    budgets = list(rows[0]["ratios"])
    titles = ["an epoch on the rows", "the reduction", "1000 epochs on it"]
    yield ["problem", *titles, *(f"direct / compress, {epochs} epochs" for epochs in budgets), "even at", "auto from"]
    yield ["---"] + ["---:"] * (len(titles) + len(budgets) + 2)
    for row in rows:
        times = [duration(row[name]) for name in ("direct", "reduction", "epochs")]
        even, auto = ("never" if row[name] is None else f"{row[name]:.0f}" for name in ("crossover", "auto"))
        yield [row["problem"], *times, *(ratio(row["ratios"][epochs]) for epochs in budgets), even, auto]


def duration(seconds):
    if seconds < 1e-6:
        return f"{seconds * 1e9:.1f} ns"
    if seconds < 1:
        return f"{seconds * 1e6:.1f} µs" if seconds < 1e-3 else f"{seconds * 1e3:.2f} ms"
    return f"{seconds:.2f} s"


def ratio(measured):
    if measured is None:
        return "–"
    middle, low, high = (f"{x:.3g}" if x < 999.5 else f"{x:.0f}" for x in (measured["ratio"], *measured["spread"]))
    return f"{middle} ({low}–{high})"


def machine():
    """What the tables were measured on and how, and which competitors were not there."""
    from sgdm._kernel import ISA

    from .competitors import ROW_COMPETITORS, SOLVERS, installed

    cpuinfo = Path("/proc/cpuinfo")
    model = re.search(r"model name\s*:\s*(.*)", cpuinfo.read_text()) if cpuinfo.exists() else None
    cpu = model[1] if model else platform.processor() or platform.machine()
    versions = {name: installed(name) for name in [*(ROW_COMPETITORS | SOLVERS), "dask"]}
    there = [f"{name} {version}" for name, version in versions.items() if version]
    absent = [name for name, version in versions.items() if not version]
    line = f"{cpu}, sgdm at level {ISA}, Python {platform.python_version()}, {', '.join(there)}; one thread where none"
    line += " are counted. Ratios of least times, in brackets their range over fifths of the run."
    return line + (f" Not installed: {', '.join(absent)}." if absent else "")


def ratios_legend():
    from .test_ratios import FEW

    return (
        "X begins with a cache line. Closed forms stand in epochs: as many of ours take the time of one call. Numba"
        " adds in the order written, or in any with fastmath; JAX finds its own gradients. Of many fits the others do"
        f" {FEW} in a loop."
    )


def batches_legend():
    from .competitors import LONGEST

    return (
        "Batches are of rows in a new random order each epoch: no reading limit. For batches of 1 NumPy, torch and JAX"
        f" do {LONGEST} rows, Numba and scikit-learn all, the latter without history of the loss; ratios are per row."
    )


def scale_legend():
    return (
        "Every epoch on all rows, with the whole history. Growth is the time over that of the row above, for ten times"
        " the rows, columns or epochs."
    )


def compress_legend():
    from .test_compress import EPOCHS, FEW

    return (
        f"NumPy stands for its loop, which does {FEW} epochs, scaled to {EPOCHS}; LinearRegression and Ridge are"
        " scikit-learn's, both without an intercept, Ridge without a penalty. Streams are read from memory; peak memory"
        " is above that of the blocks. Dask's workers are processes of one thread that hold the rows."
    )


def crossover_legend():
    return (
        "The epochs on the rows are few and scaled; compress is the reduction and the epochs on it. Both take the same"
        ' time at the epochs "even at"; method="auto" reduces from "auto from" on, where that is twice as fast'
        " by its own estimate and saves what one would notice."
    )


LAYOUTS = {
    "ratios": (against_others, ratios_legend),
    "batches": (against_others, batches_legend),
    "scale": (against_others, scale_legend),
    "compress": (against_others, compress_legend),
    "crossover": (crossovers, crossover_legend),
}
