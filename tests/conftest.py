"""Fixtures that several test files share; what is no fixture stands in helpers.py."""

import csv
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

# Before NumPy is imported: its threads wait for cores that the tests' own are using.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("SCIPY_ARRAY_API", "1")  # scikit-learn skips two of its checks of estimators without

import numpy as np
import pytest

import sgdm

TESTS = Path(__file__).parent
# --import-mode=importlib puts no folder on the path: the tests find helpers.py, reference.py and the like by this.
sys.path.insert(0, str(TESTS))
pytest.register_assert_rewrite("helpers", "saved_files", "strategies")


def pytest_configure(config):
    """In pyproject.toml the class would be imported, and NumPy, before the lines above."""
    config.addinivalue_line("filterwarnings", "error::sgdm.ConvergenceWarning")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """With -n alone the tests of a file run in one process and in order: some draw their data one after another."""
    if config.getvalue("dist") != "load":
        return None  # what was asked for
    from xdist.scheduler import LoadFileScheduling

    return LoadFileScheduling(config, log)


@pytest.fixture(params=["few", pytest.param("many", marks=pytest.mark.slow)])
def draws(request):
    """How many examples to draw where so many are worth drawing: a quarter, and all of them in the slow tests."""
    return {"few": lambda examples: examples // 4, "many": lambda examples: examples}[request.param]


@pytest.fixture
def small_leaves(monkeypatch):
    """Several leaves in a few hundred rows."""
    from sgdm._reduction import factor

    monkeypatch.setattr(factor, "_LEAF_ELEMENTS", 200)
    monkeypatch.setattr(factor, "_LEAF_ROWS", 8)


# Processes


@pytest.fixture
def heeds_sigint():
    """Lets Ctrl-C raise KeyboardInterrupt in this test. Background jobs and nohup ignore it."""
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, handler)


HEED_SIGINT = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"


@pytest.fixture(scope="session")
def run_python():
    """Runs a script in a fresh interpreter that finds the same sgdm and heeds SIGINT. `env` is set, None unsets."""

    def run(script, **env):
        variables = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), **env}
        variables = {name: value for name, value in variables.items() if value is not None}
        command = [sys.executable, "-P", "-c", HEED_SIGINT + script]  # -P: not the folder we are in
        return subprocess.run(command, env=variables, capture_output=True, text=True, timeout=120)

    return run


INTERRUPTED = """
import dataclasses, faulthandler, signal, threading, time
import numpy as np
import sgdm

faulthandler.dump_traceback_later(60, exit=True)
rng, pressed = np.random.default_rng(0), []
{setup}
def press():
    pressed.append(time.perf_counter())
    signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)  # os.kill may choose this thread

threading.Timer(0.4, press).start()
try:
    {call}
except KeyboardInterrupt as stop:
    took, result = time.perf_counter() - pressed[0], stop.result
assert took < 1, took
deadline = time.monotonic() + 5
while threading.active_count() > 1 and time.monotonic() < deadline:  # the timer may be on its way out
    time.sleep(0.01)
assert threading.active_count() == 1, threading.enumerate()
{check}
"""


@pytest.fixture(scope="session")
def press_ctrl_c(run_python):
    """Runs a call in which Ctrl-C is pressed after 0.4 s; then a check of the result that it handed over."""

    def run(setup, call, check):
        process = run_python(INTERRUPTED.format(setup=setup, call=call, check=check))
        assert process.returncode == 0, process.stderr

    return run


ONE_THREAD = """
import _thread, faulthandler, time
import numpy as np
import sgdm

faulthandler.dump_traceback_later(20, exit=True)
start_new_thread, calls = _thread.start_new_thread, []

def fail(*task):
    calls.append(1)
    if len(calls) == 2:
        raise {error}
    return start_new_thread(*task)

_thread.start_new_thread = fail
start = time.perf_counter()
try:
    {call}
except {error} as stop:
    result = stop.result
    assert {expected}
else:
    raise AssertionError("nothing raised")
assert time.perf_counter() - start < 5, "it did all the work before"
deadline = time.monotonic() + 5
while _thread._count() and time.monotonic() < deadline:  # it may be on its way out
    time.sleep(0.01)
assert _thread._count() == 0
_thread.start_new_thread = start_new_thread
{after}
"""


@pytest.fixture(scope="session")
def without_second_thread(run_python):
    """Runs a call whose second thread can't be started: Ctrl-C comes then, or the system is out of threads."""

    def run(error, call, expected, after=""):
        process = run_python(ONE_THREAD.format(error=error, call=call, expected=expected, after=after))
        assert process.returncode == 0, process.stderr

    return run


# The notebook


@pytest.fixture(scope="module")
def points():
    """The notebook's x, of shape (100, 1), and y."""
    path = Path(sgdm.__file__).parent / "data" / "lesson2_points.csv"
    cells = np.loadtxt(path, delimiter=",", skiprows=1)
    return cells[:, :1], cells[:, 1]


@pytest.fixture(scope="module")
def trajectory():
    """The notebook's table: its header and its 50 rows of cells, as printed."""
    header, *rows = csv.reader((TESTS / "data" / "lesson2_trajectory.csv").read_text().splitlines())
    return header, rows


# The command


@pytest.fixture(scope="session")
def matplotlib():
    """Skips where matplotlib is missing. A first import may write to stderr: not while captured."""
    pytest.importorskip("matplotlib.font_manager")


@pytest.fixture
def sgdm_says(capsys):
    """Runs the command in this process; returns its exit code, stdout and stderr."""
    from sgdm.__main__ import main

    def run(*argv):
        code = main([str(arg) for arg in argv])
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def fitted(sgdm_says):
    """Runs the command with --json; returns its object."""

    def run(*argv):
        code, out, err = sgdm_says(*argv, "--json")
        assert (code, err) == (0, "")
        return json.loads(out)

    return run


@pytest.fixture
def refused(sgdm_says):
    """Runs the command, which must end with one line on stderr; returns the line."""

    def run(*argv, code=2):
        got, out, err = sgdm_says(*argv)
        assert (got, out) == (code, "")
        assert err.startswith("sgdm: error: ")
        assert err.endswith("\n")
        assert err.count("\n") == 1
        return err

    return run


@pytest.fixture
def write(tmp_path):
    """Writes a file of the given text or bytes; returns its path."""

    def run(content, name="data.csv"):
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return run


@pytest.fixture
def houses(write):
    """A user's CSV file with the target in the third column; returns path, X and y."""
    rng = np.random.default_rng(1)
    X = rng.normal([3.0, -1.0, 0.5], [0.5, 1.0, 1.5], (60, 3))
    y = X @ [2.0, -1.0, 0.25] + 4 + 0.1 * rng.standard_normal(60)
    rows = [f"{a!r},{b!r},{t!r},{c!r}" for (a, b, c), t in zip(X.tolist(), y.tolist(), strict=True)]
    return write("\n".join(["rooms,distance,price,age", *rows])), X, y
