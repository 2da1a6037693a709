"""Data frames of pandas, polars and Arrow: as data of a fit, and the names that its result keeps."""

from __future__ import annotations

import numpy as np
import pytest
from helpers import NAMES, TABLE_X, TABLE_Y, D, N, X, table, y

import sgdm

LIBRARIES = ["pandas", "polars", "pyarrow", "pyarrow batch"]


# Data


@pytest.fixture
def table_fit():
    return sgdm.fit(np.asfortranarray(X), y)


def assert_table_fits(table, column, weights, expected):
    result = sgdm.fit(table, column, sample_weight=weights)
    np.testing.assert_allclose(result.coef, expected.coef, rtol=1e-12)
    np.testing.assert_allclose(result.predict(table), X @ expected.coef, rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", ["float64", "Float64", "double[pyarrow]", "object"])
def test_a_pandas_frame_fits(dtype, table_fit):
    pandas = pytest.importorskip("pandas")
    if "pyarrow" in dtype:
        pytest.importorskip("pyarrow")
    frame, series = pandas.DataFrame(X, columns=list("abc")).astype(dtype), pandas.Series(y).astype(dtype)
    before = frame.copy(), series.copy()
    assert_table_fits(frame, series, pandas.Series(np.ones(N), index=range(N, 0, -1)), table_fit)
    assert sgdm.fit(frame, series.to_frame()).coef.shape == (D, 1)
    assert frame.equals(before[0])
    assert series.equals(before[1])


@pytest.mark.parametrize("more", [1, True])
def test_a_pandas_frame_of_mixed_types_fits(more):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(X, columns=list("abc")).assign(d=more)
    expected = sgdm.fit(np.column_stack([X, np.ones(N)]), y)
    np.testing.assert_allclose(sgdm.fit(frame, y).coef, expected.coef, rtol=1e-12)


TEXT = r"column 'd' holds text; encode it \(OneHotEncoder\), or leave it out$"


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ("a", TEXT),
        ("1", TEXT),
        ("date", "column 'd' holds times; convert them to numbers, or leave it out$"),
        ("category", TEXT),
        ("missing", "column 'd' has 1 missing value; fill them, or leave their rows out$"),
        ("NaN", "column 'd' has 2 missing values; fill them, or leave their rows out$"),
    ],
)
def test_a_pandas_column_that_holds_no_numbers_is_refused(column, message):
    pandas = pytest.importorskip("pandas")
    values = {
        "date": pandas.Timestamp("2020-01-01"),
        "category": pandas.Categorical(["u"] * N),
        "missing": pandas.array([1.0] * 7 + [None] + [1.0] * (N - 8), dtype="Float64"),
        "NaN": np.where(np.arange(N) < 2, np.nan, 1.0),
    }
    frame = pandas.DataFrame(X, columns=list("abc")).assign(d=values.get(column, column))
    before = frame.copy()
    with pytest.raises((TypeError, ValueError), match=r"^" + message):
        sgdm.fit(frame, y)
    assert frame.equals(before)


@pytest.mark.parametrize("dtype", ["float64", "Float64", "Int64"])
def test_a_missing_target_of_pandas_is_refused(dtype):
    pandas = pytest.importorskip("pandas")
    series = pandas.Series([*range(7), None, *range(N - 8)], dtype=dtype)
    with pytest.raises((ValueError, TypeError), match=r"^y must (be finite, .* row 7|hold real .* index 7)$"):
        sgdm.fit(X, series)


def test_a_polars_frame_fits(table_fit):
    polars = pytest.importorskip("polars")
    frame, series = polars.DataFrame(X), polars.Series(y)
    assert_table_fits(frame, series, polars.Series(np.ones(N)), table_fit)
    assert sgdm.fit(frame, polars.DataFrame(y[:, None])).coef.shape == (D, 1)
    single = sgdm.fit(frame.cast(polars.Float32), series.cast(polars.Float32))
    assert single.coef.dtype == np.float32


def test_a_polars_frame_of_strings_or_missing_values_is_refused():
    polars = pytest.importorskip("polars")
    frame = polars.DataFrame(X)
    with pytest.raises(TypeError, match="^" + TEXT):
        sgdm.fit(frame.with_columns(polars.lit("1").alias("d")), y)
    with pytest.raises(TypeError, match=r"^y must hold real numbers, got "):
        sgdm.fit(frame, polars.Series(["1"] * N))
    for missing in ([*y[:7], None, *y[8:]], [*range(7), None, *range(N - 8)]):
        with pytest.raises(ValueError, match=r"^y must be finite, got nan at row 7$"):
            sgdm.fit(frame, polars.Series(missing))


def test_an_arrow_table_fits(table_fit):
    pyarrow = pytest.importorskip("pyarrow")
    table = pyarrow.table({name: X[:, j] for j, name in enumerate("abc")})
    weights = pyarrow.array(np.ones(N))
    assert_table_fits(table, pyarrow.array(y), weights, table_fit)
    assert_table_fits(table, pyarrow.chunked_array([y[:9], y[9:]]), weights, table_fit)


def test_an_arrow_table_of_strings_or_missing_values_is_refused():
    pyarrow = pytest.importorskip("pyarrow")
    with pytest.raises(TypeError, match=r"^y must hold real numbers, got '1' of type str at index 0$"):
        sgdm.fit(X, pyarrow.array(["1"] * N))
    with pytest.raises(TypeError, match=r"^column 'a' holds text"):
        sgdm.fit(pyarrow.table({"a": ["1"] * N}), y)
    with pytest.raises(ValueError, match=r"^y must be finite, got nan at row 7$"):
        sgdm.fit(X, pyarrow.array([*y[:7], None, *y[8:]]))


# Names


@pytest.mark.parametrize("form", LIBRARIES)
def test_a_result_keeps_the_names_of_a_table(form):
    frame = table(form)
    for options in ({}, {"method": "compress"}, {"batch_size": 7, "seed": 0}, {"validation": 0.2, "seed": 0}):
        result = sgdm.fit(frame, TABLE_Y, fit_intercept=True, **options)
        assert result.feature_names == NAMES
        unnamed = sgdm.fit(TABLE_X, TABLE_Y, fit_intercept=True, **options)
        assert unnamed.feature_names is None
        np.testing.assert_array_equal(result.coef, unnamed.coef)
    assert sgdm.compress(frame, TABLE_Y).feature_names == NAMES
    assert sgdm.compress(frame, TABLE_Y).fit().feature_names == NAMES
    sweep = sgdm.fit_many(frame, TABLE_Y, lr=[0.1, 0.2])
    assert sweep.feature_names == sweep[1].feature_names == NAMES


def test_names_that_are_not_strings_are_not_kept():
    pandas = pytest.importorskip("pandas")
    assert sgdm.fit(pandas.DataFrame(TABLE_X), TABLE_Y).feature_names is None
    assert sgdm.fit(pandas.DataFrame(TABLE_X, columns=["a", 1, "c"]), TABLE_Y).feature_names is None


@pytest.mark.parametrize("form", LIBRARIES)
def test_predictions_go_by_name(form):
    result = sgdm.fit(table(form), TABLE_Y, fit_intercept=True)
    expected = result.predict(TABLE_X)
    np.testing.assert_allclose(result.predict(table(form)), expected, rtol=1e-14)
    turned = table(form, ("größe", "y", "age", "b & <w>"), np.column_stack([TABLE_X[:, 2], TABLE_Y, TABLE_X[:, :2]]))
    np.testing.assert_allclose(result.predict(turned), expected, rtol=1e-14)
    with pytest.raises(
        ValueError, match=r"^X must have the columns of the fit; it has no 'größe', but 'age', 'b & <w>'"
    ):
        result.predict(table(form, NAMES[:2]))
    unnamed = sgdm.fit(TABLE_X, TABLE_Y, fit_intercept=True)
    np.testing.assert_allclose(unnamed.predict(table(form)), expected, rtol=1e-14)


@pytest.mark.parametrize("form", LIBRARIES)
def test_init_and_validation_go_by_name(form):
    turned = table(form, NAMES[::-1], TABLE_X[:, ::-1].copy())
    first = sgdm.fit(table(form), TABLE_Y, epochs=5, validation=(turned, TABLE_Y))
    np.testing.assert_allclose(first.history.val_loss[:-1], first.history.loss[1:], rtol=1e-13)
    whole = sgdm.fit(TABLE_X, TABLE_Y, epochs=9, validation=(TABLE_X, TABLE_Y))
    for again in (turned, TABLE_X):
        resumed = sgdm.fit(again, TABLE_Y, epochs=4, init=first, validation=(table(form), TABLE_Y))
        assert resumed.feature_names == NAMES
        np.testing.assert_allclose(resumed.history.coef, whole.history.coef, rtol=1e-12)
    with pytest.raises(ValueError, match=r"^validation's X must have the columns of the fit; it has no 'age'"):
        sgdm.fit(table(form), TABLE_Y, validation=(table(form, ("u", "v", "w")), TABLE_Y))


def test_names_are_saved(tmp_path):
    result = sgdm.fit(table("pandas"), TABLE_Y, method="compress")
    result.save(tmp_path / "run.npz")
    assert sgdm.load(tmp_path / "run.npz") == result
    assert sgdm.load(tmp_path / "run.npz").feature_names == NAMES


def test_rows_of_a_table_are_taken_by_position_whatever_its_index(monkeypatch):
    """A pandas frame with an index of floats slices by label."""
    pd = pytest.importorskip("pandas")
    monkeypatch.setattr(sgdm._reduction.sources, "_ROWS_AT_ONCE", 7)
    frame = pd.DataFrame({"a": np.arange(40.0), "b": np.arange(40.0) ** 2, "y": np.arange(40.0) * 3})
    shifted = frame.set_index(pd.Index(np.arange(40) * 0.5))
    assert sgdm.compress(shifted, target="y") == sgdm.compress(frame, target="y")
