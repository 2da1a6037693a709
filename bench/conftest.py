"""Sets the benchmarks up (one thread, on when asked for by name) and prints their table of ratios."""

import os
import platform
import re
import sys
from pathlib import Path

import pytest

THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
TOO_LATE = "numpy" in sys.modules and any(os.environ.get(name) != "1" for name in THREADS)
os.environ.update(dict.fromkeys(THREADS, "1"))  # read when numpy and torch are imported

TABLE = pytest.StashKey[list]()


def pytest_configure(config):
    """Runs the benchmarks in spite of --benchmark-skip in pyproject.toml if nothing but bench/ was asked for."""
    config.stash[TABLE] = []
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
    config.option.benchmark_skip = False
    config.option.benchmark_quiet = True  # one table: ours


@pytest.fixture
def table(request):
    """The rows of the table so far."""
    return request.config.stash[TABLE]


def pytest_terminal_summary(terminalreporter, config):
    rows = config.stash[TABLE]
    if not rows:
        return
    names = list(dict.fromkeys(name for row in rows for name in row["ratios"]))
    lines = [
        ["problem", "sgdm", *(f"{name} / sgdm" for name in names), "sgdm / reading limit"],
        ["---"] + ["---:"] * (len(names) + 2),
    ]
    for row in rows:
        ratios = [row["ratios"].get(name) for name in names] + [row["reading_limit"]]
        times = [f"{duration(seconds)} per {what}" for what, seconds in row["seconds"].items()]
        lines.append([row["problem"], ", ".join(times), *map(ratio, ratios)])
    terminalreporter.section("ratios")
    for line in lines:
        terminalreporter.write_line(f"| {' | '.join(line)} |")
    terminalreporter.write_line("")
    terminalreporter.write_line(machine())


def duration(seconds):
    if seconds < 1e-6:
        return f"{seconds * 1e9:.1f} ns"
    return f"{seconds * 1e6:.1f} µs" if seconds < 1e-3 else f"{seconds * 1e3:.2f} ms"


def ratio(measured):
    if measured is None:
        return "–"
    low, high = measured["spread"]
    return f"{measured['ratio']:.3g} ({low:.3g}–{high:.3g})"


def machine():
    """What the table was measured on and how, and which competitors were not there."""
    from sgdm._kernel import ISA

    from .competitors import COMPETITORS, LONGEST, ROW_COMPETITORS, installed

    cpuinfo = Path("/proc/cpuinfo")
    model = re.search(r"model name\s*:\s*(.*)", cpuinfo.read_text()) if cpuinfo.exists() else None
    cpu = model[1] if model else platform.processor() or platform.machine()
    versions = {name: installed(name) for name in COMPETITORS | ROW_COMPETITORS}
    there = [f"{name} {version}" for name, version in versions.items() if version]
    absent = [name for name, version in versions.items() if not version]
    line = f"{cpu}, sgdm at level {ISA}, Python {platform.python_version()}, {', '.join(there)}; one thread."
    line += " Ratios of least times, in brackets their range over fifths of the run."
    line += " Batches are of rows in a new random order each epoch: no reading limit. For batches of 1 NumPy and torch"
    line += f" do {LONGEST} rows, scikit-learn all, without history of the loss; ratios are per row."
    return line + (f" Not installed: {', '.join(absent)}." if absent else "")
