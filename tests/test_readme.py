"""Every code block of README: Python is run, shell commands of ours too; `.ci/run` runs the two that install."""

import re
import shlex
import warnings
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from sgdm.__main__ import main

ROOT = Path(__file__).parent.parent
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", (ROOT / "README.md").read_text(encoding="utf-8"), re.M | re.S)
PYTHON = [block for language, block in BLOCKS if language == "python"]
SHELL = [line for language, block in BLOCKS if language == "sh" for line in block.splitlines()]


def test_table_is_there():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "TABLE" not in text
    assert re.search(r"^\| 1 000 000 x 50 \| [\d.]+ ms per epoch \| [\d.]+ \(", text, re.M)


def test_languages():
    assert {language for language, _ in BLOCKS} == {"python", "sh"}
    assert len(PYTHON) >= 2
    assert SHELL[:2] == ["pip install . && sgdm", "pip install '.[test]' && pytest"]  # as .ci/run takes them


def test_python_blocks(capsys, tmp_path, monkeypatch):
    """In one session from top to bottom, as a reader would."""
    monkeypatch.chdir(tmp_path)
    scope, results = {}, []
    for block in PYTHON:
        if any(name in block and not find_spec(name) for name in ("distributed", "sklearn")):
            continue
        with warnings.catch_warnings():
            if "distributed" in block:
                warnings.simplefilter("ignore")  # what a cluster says as it closes is not ours
            exec(compile(block, "README.md", "exec"), scope)
        results.append(scope.get("result"))
    assert "use an lr of at most" in capsys.readouterr().out
    np.testing.assert_allclose(results[0].coef, 3, atol=1e-4)
    assert results[1].epochs == 25
    np.testing.assert_allclose(scope["reduced"].solve()[:5], [1, -2, 0, 0, 3], atol=0.02)
    assert scope["total"].n_rows == 1000
    assert scope["sweep"].status.tolist() == 4 * ["completed"] + ["diverged"]
    if find_spec("sklearn"):
        np.testing.assert_allclose(scope["model"].coef_, [1, -2, 0, 0, 3], atol=0.02)


@pytest.mark.parametrize("line", [line for line in SHELL if line.startswith("sgdm ")])
def test_commands(line, capsys, tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    monkeypatch.chdir(tmp_path)
    x = np.linspace(-1, 1, 30)
    table = np.column_stack([x, x**2, 3 * x + 2])
    np.savetxt("points.csv", table, delimiter=",", header="x,x2,y", comments="")
    assert main(shlex.split(line)[1:]) == 0
    assert "y" in capsys.readouterr().out
