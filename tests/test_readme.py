"""Every code block of README and the guides is run: Python, and shell commands of ours; `.ci/run` runs the two that
install. `python tests/test_readme.py` draws README's pictures."""

import importlib
import re
import shlex
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from helpers import pairs_of_numbers

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


README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = blocks_of(ROOT / "README.md")
SHELL = [line for language, block in BLOCKS if language == "sh" for line in block.splitlines()]
PICTURES = re.findall(r'<img src="([^"]+)" [^>]*alt="[^"]{20,}">', README)


def test_the_readme_has_its_table():
    assert re.search(r"^\| 10 000 x 20, an epoch \| [\d.]+, [\d.]+ \|", README, re.M)


def test_the_readme_fits_two_screens():
    """Lines of text at the width of a code host's page, with its pictures."""
    assert sum(1 + len(line) // 110 for line in README.splitlines()) < 130


def test_the_readme_begins_with_its_commands():
    assert {language for language, _ in BLOCKS} == {"python", "sh", "text"}
    assert SHELL[:2] == ["pip install -e . && sgdm", "pip install -e '.[test]' && pytest -n auto"]  # for .ci/run


def test_the_python_of_the_readme_prints_what_is_shown(capsys):
    """Each block of Python is followed by what it prints; other machines' LAPACK may round the last digits."""
    languages, blocks = zip(*BLOCKS, strict=True)
    scope = {}
    for i in (i for i, language in enumerate(languages) if language == "python"):
        exec(compile(blocks[i], "README.md", "exec"), scope)
        assert languages[i + 1] == "text"
        printed = capsys.readouterr().out
        for number, shown in pairs_of_numbers(printed, blocks[i + 1]):
            assert float(number) == pytest.approx(float(shown), rel=1e-9, abs=0)


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_links_lead_somewhere(page):
    links = re.findall(
        r"\]\((?!https?:)([^)#]+)[^)]*\)|<img src=\"([^\"]+)\"", (ROOT / page).read_text(encoding="utf-8")
    )
    targets = [link or picture for link, picture in links]
    assert [target for target in targets if not (ROOT / target).exists()] == []
    assert page != "README.md" or len(targets) > 15


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


def draw(folder):
    """Draws README's pictures."""
    pyplot, plot = importlib.import_module("matplotlib.pyplot"), importlib.import_module("sgdm.plot")
    points = np.loadtxt(files("sgdm") / "data/lesson2_points.csv", delimiter=",", skiprows=1)
    line = sgdm.fit(points[:, :1], points[:, 1], fit_intercept=True, coef0=[-1, 1])
    with pyplot.rc_context({"backend": "agg", "figure.figsize": (4.2, 2.9)}):
        plot.animate(line, points[:, :1], points[:, 1], frames=18).save(folder / "descent.gif", writer="pillow")
        pyplot.close("all")


def test_the_pictures_are_up_to_date(tmp_path):
    pytest.importorskip("matplotlib")
    Image = pytest.importorskip("PIL.Image")
    draw(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(Path(path).name for path in PICTURES)
    assert sum((ROOT / path).stat().st_size for path in PICTURES) < 150_000
    for path in PICTURES:
        with Image.open(ROOT / path) as kept, Image.open(tmp_path / Path(path).name) as drawn:
            assert (kept.size, kept.n_frames) == (drawn.size, drawn.n_frames)
            for frame in range(kept.n_frames):
                small = []
                for picture in (kept, drawn):
                    picture.seek(frame)
                    small.append(np.asarray(picture.convert("L").resize((42, 29), Image.Resampling.BOX), float))
                difference = np.abs(small[0] - small[1]).mean()  # another matplotlib may set letters otherwise
                assert difference < 2, f"{path} is out of date: python tests/test_readme.py draws it"


@pytest.mark.parametrize("line", [line for line in SHELL if line.startswith("sgdm ")])
def test_the_commands_of_the_readme_run(line, capsys, tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    monkeypatch.chdir(tmp_path)
    x = np.linspace(-1, 1, 30)
    table = np.column_stack([x, x**2, 3 * x + 2])
    np.savetxt("points.csv", table, delimiter=",", header="x,x2,y", comments="")
    assert main(shlex.split(line)[1:]) == 0
    assert "y" in capsys.readouterr().out


if __name__ == "__main__":
    draw(ROOT / "tests" / "pictures")
