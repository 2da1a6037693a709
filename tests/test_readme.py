"""Every code block of README and the guides is run: Python, and shell commands of ours; `.ci/run` runs the two that
install."""

import re
import shlex
import warnings
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

import sgdm
from sgdm.__main__ import main

ROOT = Path(__file__).parent.parent
PAGES = {"performance.md", "wheels.md"}  # for developers
GUIDES = sorted(path for path in (ROOT / "docs").glob("*.md") if path.name not in PAGES)
OPTIONAL = ("distributed", "duckdb", "matplotlib", "pandas", "pyarrow", "sgdm.plot", "sklearn", "torch")


def blocks_of(path):
    """(language, code) of each block."""
    return re.findall(r"^```(\w+)\n(.*?)^```$", path.read_text(encoding="utf-8"), re.M | re.S)


def lacks(block):
    """The first optional package that the block needs and isn't there, or None."""
    needed = [name for name in OPTIONAL if re.search(rf"^\s*(import|from) {re.escape(name)}\b", block, re.M)]
    packages = ["matplotlib" if name == "sgdm.plot" else name for name in needed]
    return next((name for name in packages if not find_spec(name)), None)


BLOCKS = blocks_of(ROOT / "README.md")
PYTHON = [block for language, block in BLOCKS if language == "python"]
SHELL = [line for language, block in BLOCKS if language == "sh" for line in block.splitlines()]


def test_the_readme_has_its_table():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "TABLE" not in text
    assert re.search(r"^\| 1 000 000 x 50 \| [\d.]+ ms per epoch \| [\d.]+ \(", text, re.M)


def test_the_readme_holds_python_and_shell_commands():
    assert {language for language, _ in BLOCKS} == {"python", "sh"}
    assert len(PYTHON) >= 2
    assert SHELL[:2] == ["pip install -e . && sgdm", "pip install -e '.[test]' && pytest"]  # as .ci/run takes them


def test_the_python_of_the_readme_runs(capsys, tmp_path, monkeypatch):
    """In one session from top to bottom, as a reader would."""
    monkeypatch.chdir(tmp_path)
    scope, results = {}, []
    for block in PYTHON:
        if lacks(block):
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


def test_the_readme_links_all_guides():
    linked = re.findall(r"\(docs/(\w+\.md)\)", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert sorted(linked) == [guide.name for guide in GUIDES]
    assert len(GUIDES) == 5


@pytest.mark.parametrize("guide", GUIDES, ids=lambda guide: guide.stem)
def test_the_python_of_a_guide_runs(guide, capsys, tmp_path, monkeypatch):
    """Its blocks from top to bottom, up to one that needs what isn't there; torch is for comparison only."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "agg")
    scope, blocks = {}, blocks_of(guide)
    assert blocks
    assert {language for language, _ in blocks} == {"python"}
    for _, block in blocks:
        if missing := lacks(block):
            if missing == "torch":
                continue
            pytest.skip(f"the rest needs {missing}")
        exec(compile(block, guide.name, "exec"), scope)
    if "plt" in scope:
        scope["plt"].close("all")


def test_the_readme_shows_what_its_code_draws(tmp_path, monkeypatch):
    """Those that README shows are those its code draws."""
    pyplot = pytest.importorskip("matplotlib.pyplot")
    Image = pytest.importorskip("PIL.Image")
    shown = re.findall(r'<img src="([^"]+)" .*alt="[^"]{20,}">', (ROOT / "README.md").read_text(encoding="utf-8"))
    (block,) = [block for block in PYTHON if "sgdm.plot" in block]
    monkeypatch.chdir(tmp_path)
    with pyplot.rc_context({"backend": "agg"}):
        exec(compile(block, "README.md", "exec"), {"np": np, "sgdm": sgdm})
        pyplot.close("all")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(Path(path).name for path in shown)
    assert len(shown) == 3
    assert sum((ROOT / path).stat().st_size for path in shown) < 150_000
    for path in shown:
        with Image.open(ROOT / path) as kept, Image.open(tmp_path / Path(path).name) as drawn:
            assert (kept.size, getattr(kept, "n_frames", 1)) == (drawn.size, getattr(drawn, "n_frames", 1))
            for frame in range(getattr(kept, "n_frames", 1)):
                small = []
                for picture in (kept, drawn):
                    picture.seek(frame)
                    small.append(np.asarray(picture.convert("L").resize((38, 29), Image.Resampling.BOX), float))
                difference = np.abs(small[0] - small[1]).mean()  # another matplotlib may set letters otherwise
                assert difference < 2, f"{path} is out of date: run README's block and copy what it draws"


@pytest.mark.parametrize("line", [line for line in SHELL if line.startswith("sgdm ")])
def test_the_commands_of_the_readme_run(line, capsys, tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    monkeypatch.chdir(tmp_path)
    x = np.linspace(-1, 1, 30)
    table = np.column_stack([x, x**2, 3 * x + 2])
    np.savetxt("points.csv", table, delimiter=",", header="x,x2,y", comments="")
    assert main(shlex.split(line)[1:]) == 0
    assert "y" in capsys.readouterr().out
