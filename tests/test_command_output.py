"""What the command writes: arrays by --output and pictures by --plot, whole or not at all."""

from __future__ import annotations

import os
import re
import sys

import numpy as np
import pytest

import sgdm
from sgdm import __main__ as command

plots = pytest.mark.usefixtures("matplotlib")


# --output


def test_the_output_holds_the_fit_and_its_history(sgdm_says, tmp_path, houses):
    path, X, y = houses
    output = tmp_path / "result.npz"
    argv = [path, "--target", "price", "--lr", 0.05, "--epochs", 30, "--record-every", 3, "--output", output]
    assert sgdm_says(*argv)[0] == 0
    want = sgdm.fit(X, y, lr=0.05, epochs=30, record_every=3, fit_intercept=True, standardize=True)
    with np.load(output, allow_pickle=False) as saved:
        assert saved["features"].tolist() == ["rooms", "distance", "age"]
        assert saved["features"].dtype.kind == "U"
        assert saved["target"] == "price"
        assert np.array_equal(saved["coef"], want.coef)
        assert saved["intercept"] == want.intercept
        for name in ("epoch", "loss", "grad", "step", "coef"):
            assert np.array_equal(saved[f"history_{name}"], getattr(want.history, name))
    assert sorted(os.listdir(tmp_path)) == ["data.csv", "result.npz"]


def test_a_fit_that_was_saved_predicts_for_other_data(sgdm_says, refused, write, tmp_path, houses):
    path, X, y = houses
    model = tmp_path / "model.npz"
    assert sgdm_says(path, "--target", "price", "--output", model)[0] == 0
    want = sgdm.fit(X, y, fit_intercept=True, standardize=True)
    new = write("age,id,distance,rooms\n1.5,7,0.5,2\n2.5,8,-1,3\n", "new.csv")  # another order, and one column more
    code, out, err = sgdm_says(new, "--predict", model)
    assert (code, err) == (0, "")
    header, *values = out.splitlines()
    assert header == "price"
    np.testing.assert_allclose(np.array(values, float), want.predict([[2, 0.5, 1.5], [3, -1, 2.5]]), rtol=1e-14)

    short = write("age,rooms\n1,2\n", "short.csv")
    assert "short.csv' lacks the fit's feature 'distance'; the columns are 'age', 'rooms'" in refused(
        short, "--predict", model
    )
    text = write("age,distance,rooms\n1,x,2\n", "text.csv")
    assert refused(text, "--predict", model).endswith("column 'distance': expected a number, got 'x'\n")


def test_a_fit_of_one_feature_predicts_for_a_file_of_one_column(sgdm_says, write, tmp_path):
    model, data = tmp_path / "m.npz", write("x,a,b\n" + "\n".join(f"{i},{i},{2 * i}" for i in range(9)))
    assert sgdm_says(data, "--target", "b", "--features", "x", "--epochs", 500, "--output", model)[0] == 0
    code, out, _ = sgdm_says(write("x\n10\n", "new.csv"), "--predict", model)
    assert (code, out.splitlines()[0]) == (0, "b")
    assert float(out.splitlines()[1]) == pytest.approx(20)


def test_what_is_no_saved_fit_predicts_nothing(refused, write, tmp_path, houses):
    path = houses[0]
    np.save(tmp_path / "array.npy", np.ones(3))
    np.savez(tmp_path / "other.npz", coef=np.ones(3))
    parts = {"coef": np.ones(2), "intercept": 0.0, "features": np.array(["rooms"]), "target": "price"}
    np.savez(tmp_path / "uneven.npz", **parts)
    for name in ("array.npy", "other.npz", "uneven.npz", path.name):
        assert "is no file that --output wrote (" in refused(path, "--predict", tmp_path / name)
    assert "No such file or directory" in refused(path, "--predict", tmp_path / "none.npz")


def test_the_output_is_replaced_whole(sgdm_says, tmp_path):
    output = tmp_path / "any name"
    output.write_text("old")
    link = tmp_path / "link"
    link.symlink_to(output)
    assert sgdm_says("--output", link)[0] == 0
    assert link.is_symlink()
    assert np.load(output)["history_loss"].shape == (50,)


def test_a_failed_write_leaves_the_old_file_and_still_prints(monkeypatch, sgdm_says, tmp_path):
    def full(file, **arrays):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    output = tmp_path / "result.npz"
    output.write_text("old")
    monkeypatch.setattr(np, "savez", full)
    code, out, err = sgdm_says("--output", output)
    assert (code, err) == (2, f"sgdm: error: cannot write '{output}': No space left on device\n")
    assert out.endswith("y = 3.07x + 2.51\n")
    assert output.read_text() == "old"
    assert os.listdir(tmp_path) == ["result.npz"]


def test_a_diverged_fit_leaves_the_old_file(refused, tmp_path):
    output = tmp_path / "result.npz"
    output.write_text("old")
    refused("--lr", 100, "--epochs", 5000, "--output", output, code=1)
    assert output.read_text() == "old"


@plots
@pytest.mark.parametrize("option", ["--output", "--plot"])
def test_files_that_cannot_be_written_are_refused_before_the_fit(monkeypatch, refused, tmp_path, option):
    (tmp_path / "folder.png").mkdir()
    assert "folder.png': it is a directory" in refused(option, tmp_path / "folder.png")
    absent = tmp_path / "absent"
    assert f"there is no directory '{absent}'" in refused(option, absent / "file.png")
    (tmp_path / "file").write_text("")
    assert "there is no directory" in refused(option, tmp_path / "file" / "file.png")
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert f"the directory '{tmp_path}' is read-only" in refused(option, tmp_path / "file.png")


@pytest.mark.skipif(not os.path.exists("/dev/null"), reason="needs devices")
def test_a_device_is_not_replaced(refused):
    assert "'/dev/null': it is not a regular file" in refused("--output", "/dev/null")


def test_the_data_are_not_overwritten(refused, houses, tmp_path):
    path = houses[0]
    before = path.read_bytes()
    beside = tmp_path / "." / path.name
    assert "must be different files" in refused(path, "--target", "price", "--output", beside)
    assert path.read_bytes() == before


@plots
def test_output_and_plot_must_differ(refused, tmp_path):
    assert "must be different files" in refused("--output", tmp_path / "a.png", "--plot", tmp_path / "a.png")


# --plot


@plots
@pytest.mark.parametrize(
    ("ending", "magic"), [("png", b"\x89PNG"), ("PNG", b"\x89PNG"), ("pdf", b"%PDF"), ("svg", b"<?xml")]
)
def test_plot_writes_a_picture(sgdm_says, tmp_path, ending, magic):
    path = tmp_path / f"lesson2.{ending}"
    code, out, err = sgdm_says("--plot", path)
    assert (code, err) == (0, "")
    assert out.endswith("y = 3.07x + 2.51\n")
    assert path.read_bytes().startswith(magic)
    assert os.listdir(tmp_path) == [path.name]


@plots
def test_the_plot_of_a_table_is_in_original_units(monkeypatch, sgdm_says, tmp_path, houses):
    path, X, y = houses
    drawn = {}
    original = command.notebook

    def watched(result, X, y, **names):
        drawn.update(X=X, result=result, **names)
        return original(result, X, y, **names)

    monkeypatch.setattr(command, "notebook", watched)
    argv = [path, "--target", "price", "--standardize", "--epochs", 3000, "--plot", tmp_path / "fit.png"]
    assert sgdm_says(*argv)[0] == 0
    want = np.linalg.lstsq(np.column_stack([X, np.ones(len(X))]), y, rcond=None)[0]
    assert np.array_equal(drawn["X"], X)
    assert drawn["result"].coef == pytest.approx(want[:3], rel=1e-10)
    assert drawn["result"].history.coef[-1] == pytest.approx(want, rel=1e-8)
    assert (drawn["features"], drawn["target"]) == (["rooms", "distance", "age"], "price")


@plots
@pytest.mark.parametrize(
    "name",
    [
        "price in $ per $",
        "$\\frac{",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("_hidden", "x" * 300, "{}%s\\n")),
    ],
)
def test_a_plot_takes_any_name(sgdm_says, tmp_path, write, name):
    for header in (f"{name},y\n1,2\n2,3\n", f"a,b,{name}\n1,2,2\n2,3,4\n"):
        path = write(header)
        target = "y" if header.startswith(name) else name
        code, _, err = sgdm_says(path, "--target", target, "--plot", tmp_path / "fit.png", "--lr", 0.01)
        assert (code, err) == (0, "")


def test_a_plot_needs_matplotlib(monkeypatch, refused, tmp_path, points):
    for name in ("matplotlib", "matplotlib.figure"):
        monkeypatch.setitem(sys.modules, name, None)
    message = "needs matplotlib: pip install 'sgdm[plot]'"
    assert f"--plot {message}" in refused("--plot", tmp_path / "fit.png")
    with pytest.raises(ImportError, match=re.escape(f"sgdm.plot {message}")):
        command.notebook(sgdm.fit(*points), *points)


@plots
@pytest.mark.parametrize("name", ["fit.xls", "fit", "fit.", ".png"])
def test_a_plot_of_no_known_format_is_refused(refused, tmp_path, name):
    message = refused("--plot", tmp_path / name)
    assert re.search(r"expected a file ending in one of .*pdf.*png.*svg.*, got ", message)
    assert message.endswith(f"{name}'\n")


@plots
def test_matplotlib_is_imported_for_plot_alone_and_pyplot_never(tmp_path, run_python):
    process = run_python(
        "import sys; from sgdm.__main__ import main; main([]); assert 'matplotlib' not in sys.modules; "
        f"main(['--plot', {str(tmp_path / 'fit.png')!r}]); assert 'matplotlib.pyplot' not in sys.modules"
    )
    assert process.returncode == 0, process.stderr
    assert (tmp_path / "fit.png").exists()


# The picture


@plots
def test_the_picture_of_one_feature_shows_points_and_lines(points):
    x, y = points
    result = sgdm.fit(x, y, fit_intercept=True, coef0=[-1, 1])
    left, middle, right = command.notebook(result, x, y).axes
    ends = np.array([x.min(), x.max()])
    for axes, (slope, intercept), equation in (
        (left, (-1, 1), "y = −1.00x + 1.00"),
        (middle, (result.coef[0], result.intercept), "y = 3.07x + 2.51"),
    ):
        assert np.array_equal(axes.collections[0].get_offsets(), np.column_stack([x, y]))
        (line,) = axes.lines
        assert np.array_equal(line.get_xdata(), ends)
        assert line.get_ydata() == pytest.approx(slope * ends + intercept, rel=1e-14)
        assert axes.get_legend().get_texts()[0].get_text() == equation
        assert (axes.get_xlabel(), axes.get_ylabel()) == ("x", "y")
    assert left.get_ylim() == middle.get_ylim()
    assert middle.get_title() == "after 50 epochs"
    assert np.array_equal(right.lines[0].get_ydata(), result.history.loss)
    assert right.get_yscale() == "log"


@plots
def test_the_picture_of_several_features_shows_predictions(houses):
    _, X, y = houses
    result = sgdm.fit(X, y, lr=0.05, epochs=1)
    left, middle, _ = command.notebook(result, X, y, features=list("abc"), target="price").axes
    assert np.array_equal(left.collections[0].get_offsets(), np.column_stack([y, 0 * y]))
    assert np.array_equal(middle.collections[0].get_offsets(), np.column_stack([y, result.predict(X)]))
    assert (left.get_xlabel(), left.get_ylabel()) == ("actual price", "predicted price")
    assert middle.get_title() == "after 1 epoch"


@plots
def test_a_perfect_start_is_drawn_on_a_linear_scale(tmp_path):
    figure = command.notebook(sgdm.fit([[1.0], [2.0]], [0.0, 0.0]), [[1.0], [2.0]], [0.0, 0.0])
    assert figure.axes[2].get_yscale() == "linear"
    figure.savefig(tmp_path / "zero.png")


@plots
def test_many_points_in_float32_are_drawn_as_pixels(tmp_path):
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((5000, 2), np.float32), rng.standard_normal(5000, np.float32)
    figure = command.notebook(sgdm.fit(X, y, fit_intercept=True), X, y)
    assert figure.axes[0].collections[0].get_rasterized()
    figure.savefig(tmp_path / "many.svg")


@plots
def test_pictures_that_cannot_be_drawn_are_refused(points):
    x, y = points
    with pytest.raises(ValueError, match=r"y must be one target, of shape \(100,\), got shape \(100, 2\)"):
        command.notebook(sgdm.fit(x, np.column_stack([y, y])), x, np.column_stack([y, y]))
    with pytest.raises(ValueError, match="fit with record='all'"):
        command.notebook(sgdm.fit(x, y, record="loss"), x, y)
    with pytest.raises(ValueError, match="X must have the 1 columns of the fit, got 2"):
        command.notebook(sgdm.fit(x, y), np.column_stack([x, x]), y)
