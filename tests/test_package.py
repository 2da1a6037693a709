"""The package as it is imported, and the lines that its warnings name."""

import importlib.metadata
import inspect
import os
import re
import shutil
import subprocess
import sys
import tomllib
from importlib.util import find_spec
from pathlib import Path

import pytest
from helpers import make_noise

import sgdm

ROOT = Path(__file__).parent.parent


def test_the_import_is_light(run_python):
    """What only some programs need is imported when they need it: it would double the time of the import."""
    heavy = ["json", "zipfile", "logging", "concurrent.futures", "matplotlib", "sklearn", "tqdm", "dask", "pyarrow"]
    script = (
        f"import sys, numpy; had = set(sys.modules); import sgdm; print(*({set(heavy)} & (set(sys.modules) - had)))"
    )
    process = run_python(script)
    assert (process.returncode, process.stdout.split()) == (0, [])


def test_the_version_stands_once():
    """It is that of pyproject.toml, which the citation and the changelog name too."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert sgdm.__version__ == importlib.metadata.version("sgdm") == version
    citation = (ROOT / "CITATION.cff").read_text()
    released = re.search(r"^date-released: (.*)$", citation, re.M)[1]
    assert re.search(r"^version: (.*)$", citation, re.M)[1] == version
    assert f"\n## {version} ({released})\n" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_modules_that_need_more_are_found_when_they_are_used(run_python):
    pytest.importorskip("matplotlib")
    pytest.importorskip("sklearn")
    process = run_python("import sgdm; print(sgdm.plot.line.__name__, sgdm.sklearn.SGDMRegressor.__name__)")
    assert (process.returncode, process.stdout) == (0, "line SGDMRegressor\n"), process.stderr
    with pytest.raises(AttributeError, match=r"^module 'sgdm' has no attribute 'ploot'$"):
        _ = sgdm.ploot


def test_the_arguments_of_what_is_public_have_types():
    """Else a checker of types takes the type of the default: it would refuse SGDMRegressor(lr=0.1)."""
    called = [sgdm.fit, sgdm.fit_many, sgdm.compress, sgdm.Compressed.forecast, sgdm.Compressed.tune]
    if find_spec("sklearn"):
        called += [sgdm.sklearn.SGDMRegressor, sgdm.sklearn.SGDMRegressorCV]
    for function in called:
        parameters = [each for each in inspect.signature(function).parameters.values() if each.name != "self"]
        assert [each.name for each in parameters if each.annotation is each.empty] == []


def test_pytest_starts_without_numpy():
    """Else conftest.py would be too late to limit NumPy's threads, which bench/conftest.py refuses."""
    ours = ("_NUM_THREADS", "PYTEST_ADDOPTS")
    environment = {name: value for name, value in os.environ.items() if not name.endswith(ours)}
    command = [sys.executable, "-P", "-m", "pytest", "--collect-only", "-q", "bench"]
    process = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)
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
    page = importlib.metadata.metadata("sgdm")["Description"]
    assert page.startswith("# sgdm")
    assert re.findall(r"<img|\]\((?!https?:)", page) == []
    assert "CONTRIBUTING.md says how to build" in page
