"""Tables in, names out: data frames in fits and predictions, files in the command, summaries, notebooks."""

from __future__ import annotations

import json
import re
import sys
from xml.etree import ElementTree

import numpy as np
import pytest

import sgdm
from sgdm.__main__ import main

N, NAMES = 60, ("age", "b & <w>", "größe")
RNG = np.random.default_rng(0)
X = RNG.standard_normal((N, 3))
Y = X @ [1.0, -2.0, 3.0] + 0.5 + 0.1 * RNG.standard_normal(N)
FORMS = ["pandas", "polars", "pyarrow", "pyarrow batch"]


def table(form, columns=NAMES, cells=X):
    """The cells as a table of that library."""
    data = {name: cells[:, j] for j, name in enumerate(columns)}
    library = pytest.importorskip(form.split()[0])
    if form == "pyarrow batch":
        return library.RecordBatch.from_pydict(data)
    return library.table(data) if form == "pyarrow" else library.DataFrame(data)


# --- Names ---


@pytest.mark.parametrize("form", FORMS)
def test_names_of_a_table(form):
    frame = table(form)
    for options in ({}, {"method": "compress"}, {"batch_size": 7, "seed": 0}, {"validation": 0.2, "seed": 0}):
        result = sgdm.fit(frame, Y, fit_intercept=True, **options)
        assert result.feature_names == NAMES
        unnamed = sgdm.fit(X, Y, fit_intercept=True, **options)
        assert unnamed.feature_names is None
        np.testing.assert_array_equal(result.coef, unnamed.coef)
    assert sgdm.compress(frame, Y).feature_names == NAMES
    assert sgdm.compress(frame, Y).fit().feature_names == NAMES
    sweep = sgdm.fit_many(frame, Y, lr=[0.1, 0.2])
    assert sweep.feature_names == sweep[1].feature_names == NAMES


def test_names_that_are_not_strings():
    pandas = pytest.importorskip("pandas")
    assert sgdm.fit(pandas.DataFrame(X), Y).feature_names is None
    assert sgdm.fit(pandas.DataFrame(X, columns=["a", 1, "c"]), Y).feature_names is None


@pytest.mark.parametrize("form", FORMS)
def test_predictions_go_by_name(form):
    result = sgdm.fit(table(form), Y, fit_intercept=True)
    expected = result.predict(X)
    np.testing.assert_allclose(result.predict(table(form)), expected, rtol=1e-14)
    turned = table(form, ("größe", "y", "age", "b & <w>"), np.column_stack([X[:, 2], Y, X[:, :2]]))
    np.testing.assert_allclose(result.predict(turned), expected, rtol=1e-14)
    with pytest.raises(
        ValueError, match=r"^X must have the columns of the fit; it has no 'größe', but 'age', 'b & <w>'"
    ):
        result.predict(table(form, NAMES[:2]))
    unnamed = sgdm.fit(X, Y, fit_intercept=True)
    np.testing.assert_allclose(unnamed.predict(table(form)), expected, rtol=1e-14)


@pytest.mark.parametrize("form", FORMS)
def test_init_and_validation_go_by_name(form):
    turned = table(form, NAMES[::-1], X[:, ::-1].copy())
    first = sgdm.fit(table(form), Y, epochs=5, validation=(turned, Y))
    np.testing.assert_allclose(first.history.val_loss[:-1], first.history.loss[1:], rtol=1e-13)
    whole = sgdm.fit(X, Y, epochs=9, validation=(X, Y))
    for again in (turned, X):
        resumed = sgdm.fit(again, Y, epochs=4, init=first, validation=(table(form), Y))
        assert resumed.feature_names == NAMES
        np.testing.assert_allclose(resumed.history.coef, whole.history.coef, rtol=1e-12)
    with pytest.raises(ValueError, match=r"^validation's X must have the columns of the fit; it has no 'age'"):
        sgdm.fit(table(form), Y, validation=(table(form, ("u", "v", "w")), Y))


def test_names_are_saved(tmp_path):
    result = sgdm.fit(table("pandas"), Y, method="compress")
    result.save(tmp_path / "run.npz")
    assert sgdm.load(tmp_path / "run.npz") == result
    assert sgdm.load(tmp_path / "run.npz").feature_names == NAMES


# --- The optimum ---


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("targets", [(), (1,), (3,)])
def test_optimal_loss(targets, dtype):
    cells = X.astype(dtype)
    y = np.add.outer(Y, np.arange(float(np.prod(targets)))).reshape(N, *targets).astype(dtype)
    assert sgdm.fit(cells, y).optimal_loss is None
    best = np.linalg.lstsq(X, y.reshape(N, -1).astype(float), rcond=None)[0]
    least = ((X @ best - y.reshape(N, -1)) ** 2).mean(axis=0).reshape(targets)
    for options in ({"method": "compress"}, {"lr": "auto", "momentum": "auto"}):
        result = sgdm.fit(cells, y, epochs=2000, **options)
        assert np.shape(result.optimal_loss) == targets
        assert np.asarray(result.optimal_loss).dtype == result.loss.dtype == dtype
        np.testing.assert_allclose(result.optimal_loss, least, rtol=20 * np.finfo(dtype).eps)
        np.testing.assert_allclose(result.loss, least, rtol=1e-5)


@pytest.mark.parametrize("columns", [[0, 0], [0, 1, 0], [0, 1, 2, 1, 0]])
def test_optimal_loss_of_dependent_columns(columns):
    best = np.linalg.lstsq(X[:, columns], Y, rcond=None)[0]
    reduced = sgdm.compress(X[:, columns], Y)
    assert reduced.optimal_loss == pytest.approx(((X[:, columns] @ best - Y) ** 2).mean(), rel=1e-12)


# --- Summaries ---


def test_summary():
    result = sgdm.fit(table("pandas"), Y, fit_intercept=True, method="compress", epochs=80)
    facts, _, rows = result.summary().partition("\n\n")
    facts = dict(re.split(r"  +", line) for line in facts.splitlines())
    assert (facts["status"], facts["epochs"], facts["lr"], facts["momentum"]) == ("completed", "80", "0.1", "0.8")
    assert float(facts["loss"]) == pytest.approx(result.loss, rel=1e-5)
    assert float(facts["optimal loss"]) == pytest.approx(result.optimal_loss, rel=1e-5)
    assert float(facts["gap"]) == pytest.approx(result.loss - result.optimal_loss, rel=1e-5)
    header, *body = rows.splitlines()
    assert re.split(r"  +", header.strip()) == ["coefficient", "gradient at epoch 79"]
    cells = [re.split(r"  +", line) for line in body]
    assert [row[0] for row in cells] == [*NAMES, "(intercept)"]
    np.testing.assert_allclose([float(row[1]) for row in cells], [*result.coef, result.intercept], rtol=1e-5)
    np.testing.assert_allclose([float(row[2]) for row in cells], result.history.grad[-1], rtol=1e-5)


def test_summary_without_names_and_gradients():
    rows = sgdm.fit(X, Y, record="loss").summary().partition("\n\n")[2].splitlines()
    assert rows[0].split() == ["coefficient"]
    assert [row.split()[0] for row in rows[1:]] == ["x0", "x1", "x2"]


def test_summary_of_validation_says_which_epoch():
    result = sgdm.fit(X, Y, validation=0.5, seed=0, lr=1.0, momentum=0.9, epochs=2000, patience=3)
    assert f"best epoch  {result.best_epoch}\n" in result.summary()


def test_summary_of_several_targets_and_many_features():
    result = sgdm.fit(np.ones((4, 100)), np.ones((4, 5)), lr=1e-3)
    lines = result.summary().splitlines()
    assert lines[-1] == "60 of the 100 parameters and 4 of the 5 targets are shown."
    assert [lines[9].split()[0], lines[-2].split()[0]] == ["x1", "x99"]
    assert len(lines[9].split()) == 1 + 2 * 4


def test_summary_of_a_name_of_two_lines():
    pandas = pytest.importorskip("pandas")
    result = sgdm.fit(pandas.DataFrame({"a\nb": X[:, 0]}), Y)
    assert result.summary().splitlines()[-1].startswith(r"'a\nb'  ")


def test_summary_of_many_fits():
    sweep = sgdm.fit_many(X, Y, lr=[*np.linspace(0.01, 0.1, 70), 1e9], epochs=60)
    facts, _, rows = sweep.summary().partition("\n\n")
    assert facts.split() == ["fits", "71", "completed", "70", "diverged", "1"]
    header, first, *_, last, note = rows.splitlines()
    assert header.split() == ["fit", "status", "epochs", "loss", "lr", "momentum", "dampening"]
    assert first.split() == ["0", "completed", "60", f"{sweep.loss[0]:#.6g}", "0.01", "0.8", "0.8"]
    assert last.split()[:3] == ["70", "diverged", str(sweep.epochs[70])]
    assert note == "60 of the 71 fits are shown."


# --- What a notebook shows ---


def parsed(result):
    """The HTML as a tree, which it can be only if it is well-formed."""
    return ElementTree.fromstring(result._repr_html_().replace("&nbsp;", " "))


def lines_of(tree):
    """The points of the polylines, as arrays."""
    svg = "{http://www.w3.org/2000/svg}polyline"
    return [np.array([point.split(",") for point in line.get("points").split()], float) for line in tree.iter(svg)]


def test_html():
    tree = parsed(sgdm.fit(table("pandas"), Y, fit_intercept=True, epochs=30))
    cells = [[cell.text or "" for cell in row] for row in tree.iter("tr")]
    assert cells[0] == ["", "coefficient", "gradient at epoch 29"]
    assert [row[0] for row in cells[1:]] == [*NAMES, "(intercept)"]
    (curve,) = lines_of(tree)
    assert len(curve) == 30
    assert (np.diff(curve[:, 0]) > 0).all()


def test_html_draws_the_losses_to_scale():
    losses = sgdm.fit(X, Y, epochs=40, lr=0.02)
    (curve,) = lines_of(parsed(losses))
    exponents = np.log10(losses.history.loss)
    heights = (curve[:, 1] - curve[-1, 1]) / (curve[0, 1] - curve[-1, 1])
    np.testing.assert_allclose(heights, (exponents - exponents[-1]) / (exponents[0] - exponents[-1]), atol=2e-3)


def test_html_of_many_epochs_keeps_the_peaks():
    result = sgdm.fit(X, Y, epochs=30_000, lr=lambda epoch: 3.0 if epoch == 12_345 else 1e-4)
    whole = result.history.loss
    (curve,) = lines_of(parsed(result))
    assert len(curve) <= 400
    top, bottom = curve[:, 1].min(), curve[:, 1].max()
    assert curve[curve[:, 1].argmin(), 0] == pytest.approx(60 + whole.argmax() / 29_999 * 342, abs=0.2)
    assert (top, bottom) == (18, 134.2)


@pytest.mark.parametrize("options", [{"validation": 0.3, "seed": 0}, {"batch_size": 7, "seed": 0, "record": "updates"}])
def test_html_of_other_histories(options):
    tree = parsed(sgdm.fit(X, Y, **options))
    assert len(lines_of(tree)) == (2 if "validation" in options else 1)
    svg = ElementTree.tostring(tree, encoding="unicode")
    assert (">update<" in svg) == ("batch_size" in options)


@pytest.mark.filterwarnings("ignore:.*far above the least:sgdm.ConvergenceWarning")
def test_html_shows_the_optimum_once_it_is_near():
    def dotted(epochs):
        result = sgdm.fit(X, Y, fit_intercept=True, method="compress", epochs=epochs, lr=0.3)
        return result._repr_html_().count('dasharray="1 3"')

    assert (dotted(2), dotted(100)) == (0, 1)


def test_html_is_not_pressed_flat_by_what_diverges():
    sweep = sgdm.fit_many(X, Y, lr=[0.1, 1e3], epochs=60)
    assert sweep.status.tolist() == ["completed", "diverged"]
    fine, wild = lines_of(parsed(sweep))
    assert np.ptp(fine[:, 1]) > 50
    assert len(wild) < 10


def test_html_of_what_has_no_curve():
    for result in (
        sgdm.fit(X, Y, record=None),
        sgdm.fit(X, np.zeros(N)),  # a loss of 0 has no logarithm
    ):
        assert not lines_of(parsed(result))
    with pytest.raises(sgdm.DivergenceError) as caught:
        sgdm.fit(X, Y, lr=1e300, momentum=0.0, epochs=9)
    assert len(lines_of(parsed(caught.value.result))) == 1


def test_html_of_several_targets_and_of_many_fits():
    assert len(lines_of(parsed(sgdm.fit(X, np.column_stack([Y, -Y, 2 * Y]))))) == 3
    assert len(lines_of(parsed(sgdm.fit_many(X, Y, lr=np.geomspace(1e-3, 1e-1, 50))))) == 20


# --- Files in the command ---


@pytest.fixture
def fitted(capsys):
    """Runs the command with --json; returns its coefficients."""

    def run(*argv):
        code = main([*map(str, argv), "--json"])
        out, err = capsys.readouterr()
        assert (code, err) == (0, "")
        return json.loads(out)["coefficients"]

    return run


@pytest.fixture
def refused(capsys):
    """Runs the command, which must end with one line on stderr; returns the line."""

    def run(*argv):
        code = main([*map(str, argv)])
        out, err = capsys.readouterr()
        assert (code, out, err.count("\n")) == (2, "", 1)
        return err.removeprefix("sgdm: error: ").rstrip("\n")

    return run


EXPECTED = sgdm.fit(X, Y, fit_intercept=True).coef.tolist()


def test_reads_npz(fitted, tmp_path):
    path = tmp_path / "arrays.npz"
    np.savez(path, X=X[:, :2], größe=X[:, 2:], y=Y)
    assert fitted(path, "--target", "y") == dict(zip(["X[0]", "X[1]", "größe"], EXPECTED, strict=True))


def test_reads_npy(fitted, tmp_path):
    path = tmp_path / "array.npy"
    np.save(path, np.column_stack([X, Y]))
    assert fitted(path, "--target", "3") == dict(zip("012", EXPECTED, strict=True))
    records = np.rec.fromarrays([*X.T, Y], names="a,b,c,y")
    np.save(path, records)
    assert fitted(path, "--target", "y") == dict(zip("abc", EXPECTED, strict=True))


@pytest.mark.parametrize("name", ["table.parquet", "table.PQ", "folder.parquet/part.parquet"])
def test_reads_parquet(name, fitted, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    parquet.write_table(table("pyarrow", (*NAMES, "y"), np.column_stack([X, Y])), path)
    given = path.parent if "/" in name else path
    assert fitted(given, "--target", "y") == dict(zip(NAMES, EXPECTED, strict=True))


def test_a_result_is_refused_as_data_in_clear_words(refused, tmp_path):
    path = tmp_path / "run.npz"
    sgdm.fit(X, Y).save(path)
    assert "must hold real numbers, got dtype <U" in refused(path, "--target", "loss")


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"X": X, "y": Y[1:]}, "columns must have the same number of rows, got 60 in 'X[0]', 60 in 'X[1]', 60 in"),
        ({"y": Y}, "has only one column, 'y'; it needs the target and a feature"),
        ({}, "has no columns; it needs the target and a feature"),
        ({"X": X, "y": np.array(1.0)}, "array 'y' must be 1-D, got shape ()"),
        ({"X": X.reshape(5, 12, 3), "y": Y}, "array 'X' must be 2-D, (rows, columns), got shape (5, 12, 3)"),
        ({"X": X.astype(str), "y": Y}, "array 'X' must hold real numbers, got dtype <U32"),
        ({"X": X * 1j, "y": Y}, "array 'X' must hold real numbers, got dtype complex128"),
        ({"X": np.where(X[7, 1] == X, np.nan, X), "y": Y}, "row 7, column 'X[1]': expected a finite number, got nan"),
        ({"X[0]": Y, "X": X, "y": Y}, "columns 1 and 2 have the same name, 'X[0]'"),
        ({"X": X[:0], "y": Y[:0]}, "has columns but no rows"),
        ({"X": X, "z": Y}, "--target: there is no column 'y'; the columns are 'X[0]', 'X[1]', 'X[2]', 'z'"),
        ({"X": np.array([{}] * N), "y": Y}, "Object arrays cannot be loaded when allow_pickle=False"),
    ],
)
def test_arrays_that_are_refused(arrays, message, refused, tmp_path):
    path = tmp_path / "arrays.npz"
    np.savez(path, **arrays)
    assert message in refused(path, "--target", "y")


@pytest.mark.parametrize("ending", ["npz", "npy", "parquet"])
@pytest.mark.parametrize("content", [None, b"", b"PK\3\4 no", b"\x93NUMPY\1\0 no", b"PAR1 no PAR1"])
def test_files_that_are_damaged_or_missing(ending, content, refused, tmp_path):
    if ending == "parquet":
        pytest.importorskip("pyarrow")
    path = tmp_path / f"data.{ending}"
    if content is not None:
        path.write_bytes(content)
    assert refused(path, "--target", "y").startswith(f"cannot read {str(path)!r}: ")


def test_parquet_that_is_refused(refused, tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "table.parquet"
    for values, message in (
        (["1", "2"], "column 'a' must hold real numbers, got '1' of type str"),
        ([1.0, None], "column 'a' must have no missing values, got 1"),
        ([1.0, float("inf")], "row 1, column 'a': expected a finite number, got inf"),
    ):
        parquet.write_table(pyarrow.table({"a": values, "y": [1.0, 2.0]}), path)
        assert message in refused(path, "--target", "y")


def test_parquet_without_pyarrow(refused, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert (
        refused(tmp_path / "t.parquet", "--target", "y") == "reading Parquet needs pyarrow: pip install 'sgdm[arrow]'"
    )
