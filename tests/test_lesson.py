"""docs/lesson.ipynb runs, and prints what is committed with it. `python tests/test_lesson.py` runs it and keeps what it
prints and draws."""

import math
from pathlib import Path

import pytest
from helpers import pairs_of_numbers

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")
pytest.importorskip("matplotlib")

LESSON = Path(__file__).parent.parent / "docs" / "lesson.ipynb"


def read():
    return nbformat.read(LESSON, as_version=4)


def run(notebook, folder):
    """The notebook with the outputs of a run in `folder`, and nothing else that differs from run to run."""
    client = nbclient.NotebookClient(
        notebook, timeout=60, record_timing=False, resources={"metadata": {"path": str(folder)}}
    )
    client.execute()
    notebook.metadata.language_info = {"name": "python"}
    return notebook


def texts(notebook):
    """What each code cell prints. Pictures are left out: another matplotlib may set letters otherwise."""
    cells = []
    for cell in notebook.cells:
        if cell.cell_type != "code":
            continue
        assert not [
            output for output in cell.outputs if output.output_type == "error" or output.get("name") == "stderr"
        ]
        cells.append("".join(output.text for output in cell.outputs if output.output_type == "stream"))
    return cells


def assert_same_to_the_digits_shown(text, expected):
    """Numbers may differ by one in the last digit, or the factor of one in a power of ten."""
    for number, wanted in pairs_of_numbers(text, expected):
        mantissa, _, exponent = wanted.partition("e")
        last = 10.0 ** (int(exponent or 0) - len(mantissa.partition(".")[2]))
        assert math.isclose(float(number), float(wanted), abs_tol=1.01 * last, rel_tol=0), (number, wanted)


@pytest.mark.slow
def test_the_lesson_prints_what_is_committed(tmp_path):
    kept = texts(read())
    assert sum(map(bool, kept)) > 10
    for text, expected in zip(texts(run(read(), tmp_path)), kept, strict=True):
        assert_same_to_the_digits_shown(text, expected)


def test_the_committed_lesson_is_small_and_whole():
    notebook = read()
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert not any(cell.metadata for cell in cells)
    assert sum("image/" in str(list(output.get("data", ()))) for cell in cells for output in cell.outputs) == 7
    assert LESSON.stat().st_size < 300_000


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        nbformat.write(run(read(), folder), LESSON)
