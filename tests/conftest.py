"""Fixtures that several test files share."""

import importlib.util
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # NumPy's threads wait for cores that the tests' own are using
os.environ.setdefault("SCIPY_ARRAY_API", "1")  # scikit-learn skips two of its checks of estimators without


@pytest.fixture(scope="session")
def reference():
    """The module tests/reference.py: the algorithm in plain NumPy."""
    spec = importlib.util.spec_from_file_location("reference", Path(__file__).with_name("reference.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(params=["few", pytest.param("many", marks=pytest.mark.slow)])
def draws(request):
    """How many examples to draw where so many are worth drawing: a quarter, and all of them in the slow tests."""
    return {"few": lambda examples: examples // 4, "many": lambda examples: examples}[request.param]


@pytest.fixture
def heeds_sigint():
    """Ctrl-C raises KeyboardInterrupt in this test; in a background job, or under nohup, it is ignored otherwise."""
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
