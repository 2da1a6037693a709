"""Every code block of README: Python is run, shell commands of ours too; `.ci/run` runs the two that install."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest

import sgdm
from sgdm.__main__ import main

ROOT = Path(__file__).parent.parent
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", (ROOT / "README.md").read_text(encoding="utf-8"), re.M | re.S)
PYTHON = [block for language, block in BLOCKS if language == "python"]
SHELL = [line for language, block in BLOCKS if language == "sh" for line in block.splitlines()]


def test_languages():
    assert {language for language, _ in BLOCKS} == {"python", "sh"}
    assert len(PYTHON) >= 2
    assert SHELL[:2] == ["pip install . && sgdm", "pip install '.[test]' && pytest"]  # as .ci/run takes them


def test_python_blocks(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    scopes = [{"np": np, "sgdm": sgdm} for _ in PYTHON]
    for block, scope in zip(PYTHON, scopes, strict=True):
        exec(compile(block, "README.md", "exec"), scope)
    assert "use an lr of at most" in capsys.readouterr().out
    np.testing.assert_allclose(scopes[0]["result"].coef, 3, atol=1e-4)
    assert scopes[1]["result"].epochs == 25


@pytest.mark.parametrize("line", [line for line in SHELL if line.startswith("sgdm ")])
def test_commands(line, capsys, tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    monkeypatch.chdir(tmp_path)
    x = np.linspace(-1, 1, 30)
    table = np.column_stack([x, x**2, 3 * x + 2])
    np.savetxt("points.csv", table, delimiter=",", header="x,x2,y", comments="")
    assert main(shlex.split(line)[1:]) == 0
    assert "y" in capsys.readouterr().out
