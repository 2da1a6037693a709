"""Fixtures that several test files share."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

os.environ.setdefault("SCIPY_ARRAY_API", "1")  # scikit-learn skips two of its checks of estimators without


@pytest.fixture(scope="session")
def reference():
    """The module tests/reference.py: the algorithm in plain NumPy."""
    spec = importlib.util.spec_from_file_location("reference", Path(__file__).with_name("reference.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def run_python():
    """Runs a script in a fresh interpreter that finds the same sgdm. `env` is set there, None unsets."""

    def run(script, **env):
        variables = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), **env}
        variables = {name: value for name, value in variables.items() if value is not None}
        command = [sys.executable, "-P", "-c", script]  # -P: not the folder we are in
        return subprocess.run(command, env=variables, capture_output=True, text=True, timeout=120)

    return run
