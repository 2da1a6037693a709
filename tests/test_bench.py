"""The table of `python -m bench`, on small problems."""

from pathlib import Path

import sgdm

ROOT = Path(__file__).parent.parent

SCRIPT = """
import sys
sys.path.append({root!r})
import bench.__main__ as bench
from bench import competitors

found = competitors.installed
competitors.installed = lambda name: found(name) if name == "NumPy" else None
sizes = [dict(n=100, epochs=50), *[dict(n=200, d=3, epochs=3)] * 3, dict(fits=20), dict(n=3000, d=5)]
bench.CHOSEN[:] = [problem._replace(rounds=3, **size) for problem, size in zip(bench.CHOSEN, sizes, strict=True)]
bench.main()
assert "pytest" not in sys.modules
"""


def test_one_table_says_how_many_times_as_fast_sgdm_is(run_python):
    """With nothing but NumPy, and without pytest."""
    process = run_python(SCRIPT.format(root=str(ROOT)))
    assert process.returncode == 0, process.stderr
    title, table, legend = process.stdout.split("\n\n")
    assert title == "How many times as fast as the others sgdm is:"
    header, *lines = table.splitlines()
    assert header.split() == ["problem", "sgdm's", "time", "NumPy", "lstsq"]
    assert len(lines) == 6
    for line in lines:
        numpy, lstsq = line.split()[-2:]
        assert float(numpy) > 0
        assert (lstsq == "–") == ("1000 epochs" not in line)
    text = " ".join(legend.split())
    assert f"So on 200 x 3 sgdm is {lines[1].split()[-2]} times as fast as NumPy. Below 1 the other is faster." in text
    assert f"sgdm at level {sgdm._kernel.ISA}, Python " in text
    assert "Not installed: torch, JAX, Numba, scikit-learn." in text
