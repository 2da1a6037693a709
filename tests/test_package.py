"""The package as it is imported, and the lines that its warnings name."""

import os
import re
import shutil
import subprocess
import sys
from importlib.metadata import metadata
from pathlib import Path

import pytest
from helpers import make_noise

import sgdm


def test_the_import_is_light(run_python):
    """What only some programs need is imported when they need it: it would double the time of the import."""
    heavy = ["json", "zipfile", "logging", "concurrent.futures", "matplotlib", "sklearn", "tqdm", "dask", "pyarrow"]
    script = (
        f"import sys, numpy; had = set(sys.modules); import sgdm; print(*({set(heavy)} & (set(sys.modules) - had)))"
    )
    process = run_python(script)
    assert (process.returncode, process.stdout.split()) == (0, [])


def test_pytest_starts_without_numpy():
    """Else conftest.py would be too late to limit NumPy's threads, which bench/conftest.py refuses."""
    root = Path(__file__).parent.parent
    ours = ("_NUM_THREADS", "PYTEST_ADDOPTS")
    environment = {name: value for name, value in os.environ.items() if not name.endswith(ours)}
    command = [sys.executable, "-P", "-m", "pytest", "--collect-only", "-q", "bench"]
    process = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, timeout=120)
    assert process.returncode == 0, process.stdout + process.stderr
    assert "test_direct" in process.stdout


def test_a_warning_names_the_callers_line():
    X, y = make_noise()
    reduced = sgdm.compress(X, y)
    for fit in (lambda: sgdm.fit(X, y, lr=30.0, epochs=9), lambda: reduced.fit(lr=30.0, epochs=9)):
        with pytest.warns(sgdm.ConvergenceWarning) as caught:
            fit()
        assert caught[0].filename == __file__


def test_an_import_of_the_source_alone_says_what_to_do(tmp_path):
    """As from a clone's folder, when the package was installed elsewhere: what happened and what to do."""
    shutil.copytree(Path(sgdm.__file__).parent, tmp_path / "sgdm", ignore=shutil.ignore_patterns("*.so", "*.pyd"))
    command = [sys.executable, "-S", "-P", "-c", "import sgdm"]  # -S: none of what is installed
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    process = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert process.returncode == 1
    assert process.stderr.splitlines()[-1] == (
        f"ModuleNotFoundError: {tmp_path / 'sgdm'} holds the source of sgdm, not compiled for this Python: "
        "run `pip install -e .` in the folder above, or start Python elsewhere to import the sgdm that is installed"
    )


def test_a_package_index_gets_a_page_without_the_files_beside_it():
    """README's links to files, and its pictures, would lead nowhere there."""
    page = metadata("sgdm")["Description"]
    assert page.startswith("# sgdm")
    assert re.findall(r"<img|\]\((?!https?:)", page) == []
    assert "CONTRIBUTING.md says how to build" in page
