"""One thread for all that is measured, and how results are printed. To be imported before NumPy."""

import os
import platform
import re
import sys
from pathlib import Path

THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
TOO_LATE = "numpy" in sys.modules and any(os.environ.get(name) != "1" for name in THREADS)
os.environ.update(dict.fromkeys(THREADS, "1"))  # numpy and torch read them when they are imported
os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"  # JAX reads it likewise


def markdown(line):
    return f"| {' | '.join(line)} |"


def duration(seconds):
    if seconds < 1e-6:
        return f"{seconds * 1e9:.1f} ns"
    if seconds < 1:
        return f"{seconds * 1e6:.1f} µs" if seconds < 1e-3 else f"{seconds * 1e3:.2f} ms"
    return f"{seconds:.2f} s"


def three_digits(x):
    return f"{x:.3g}" if x < 999.5 else f"{x:.0f}"


def ratio(measured):
    if measured is None:
        return "–"
    middle, low, high = map(three_digits, (measured["ratio"], *measured["spread"]))
    return f"{middle} ({low}–{high})"


def machine(packages):
    """The machine and the versions, and which of the packages are not installed."""
    from sgdm._kernel import ISA

    from .competitors import installed

    cpuinfo = Path("/proc/cpuinfo")
    model = re.search(r"model name\s*:\s*(.*)", cpuinfo.read_text()) if cpuinfo.exists() else None
    cpu = model[1] if model else platform.processor() or platform.machine()
    versions = {name: installed(name) for name in packages}
    present = [f"{name} {version}" for name, version in versions.items() if version]
    absent = [name for name, version in versions.items() if not version]
    line = f"{cpu}, sgdm at level {ISA}, Python {platform.python_version()}, {', '.join(present)}."
    return line + (f" Not installed: {', '.join(absent)}." if absent else "")
