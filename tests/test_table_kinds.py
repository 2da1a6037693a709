"""Tables of many kinds: the same coefficients and factors as of the array, and the names of the columns kept."""

import decimal
import os

import numpy as np
import pytest
from helpers import refuse

import sgdm

os.environ.setdefault("MODIN_ENGINE", "python")  # of its engines the one that runs in this process
N = 60
RNG = np.random.default_rng(0)
X = RNG.integers(-5, 6, (N, 3)).astype(float)
Y = X @ [1.0, 2.0, -1.0] + 0.1 * RNG.standard_normal(N)
NAMES = ("a", "b", "c")
COLUMNS = {name: X[:, j] for j, name in enumerate(NAMES)}


def pandas_frame(dtype=None, index=None):
    def make(pandas):
        frame = pandas.DataFrame(COLUMNS, index=index)
        if dtype == "sparse":
            return frame.astype(pandas.SparseDtype("float", 0.0))
        return frame if dtype is None else frame.astype(dtype)

    return make


def pandas_decimals(pandas):
    return pandas.DataFrame({name: [decimal.Decimal(int(value)) for value in COLUMNS[name]] for name in NAMES})


def polars_frame(dtype=None):
    def make(polars):
        frame = polars.DataFrame(COLUMNS)
        if dtype == "Decimal":
            return frame.cast(polars.Decimal(20, 2))
        return frame if dtype is None else frame.cast(getattr(polars, dtype))

    return make


KINDS = {
    "pandas": ("pandas", pandas_frame()),
    "pandas float32": ("pandas", pandas_frame("float32")),
    "pandas int8": ("pandas", pandas_frame("int8")),
    "pandas Int64": ("pandas", pandas_frame("Int64")),
    "pandas Float64": ("pandas", pandas_frame("Float64")),
    "pandas mixed": ("pandas", pandas_frame({"a": "Int64", "b": "float32"})),
    "pandas of Arrow's doubles": ("pandas", pandas_frame("double[pyarrow]")),
    "pandas of Arrow's ints": ("pandas", pandas_frame("int64[pyarrow]")),
    "pandas sparse": ("pandas", pandas_frame("sparse")),
    "pandas category": ("pandas", pandas_frame("category")),
    "pandas object": ("pandas", pandas_frame(object)),
    "pandas decimals": ("pandas", pandas_decimals),
    "pandas with an index of floats": ("pandas", pandas_frame(index=np.linspace(1, 0, N))),
    "pandas with an index of dates": ("pandas", pandas_frame(index=np.arange("2020-01", "2025-01", dtype="M8[M]"))),
    "modin": ("modin.pandas", pandas_frame()),
    "polars": ("polars", polars_frame()),
    "polars float32": ("polars", polars_frame("Float32")),
    "polars Int32": ("polars", polars_frame("Int32")),
    "polars Decimal": ("polars", polars_frame("Decimal")),
    "Arrow table": ("pyarrow", lambda arrow: arrow.table(COLUMNS)),
    "Arrow table in chunks": (
        "pyarrow",
        lambda arrow: arrow.concat_tables([arrow.table(COLUMNS).slice(0, 20), arrow.table(COLUMNS).slice(20)]),
    ),
    "Arrow batch": ("pyarrow", lambda arrow: arrow.RecordBatch.from_pydict(COLUMNS)),
    "Arrow ints": ("pyarrow", lambda arrow: arrow.table({name: COLUMNS[name].astype(int) for name in NAMES})),
    "Arrow dictionaries": (
        "pyarrow",
        lambda arrow: arrow.table({name: arrow.array(COLUMNS[name]).dictionary_encode() for name in NAMES}),
    ),
}


@pytest.mark.parametrize(("library", "make"), KINDS.values(), ids=KINDS)
def test_a_table_gives_what_its_array_gives(library, make):
    if "pyarrow" in str(make) or library == "pandas":
        pytest.importorskip("pyarrow")  # for pandas' columns of Arrow
    table = make(pytest.importorskip(library))
    options = {"lr": 0.01, "epochs": 20, "fit_intercept": True, "standardize": True}
    result, expected = sgdm.fit(table, Y, **options), sgdm.fit(X, Y, **options)
    np.testing.assert_allclose(result.coef, expected.coef, rtol=1e-6)
    assert result.feature_names == NAMES
    np.testing.assert_allclose(result.predict(table), expected.predict(X), rtol=1e-5)
    reduced = sgdm.compress(table, Y)
    np.testing.assert_allclose(reduced.R, sgdm.compress(X, Y).R, rtol=1e-6, atol=1e-6)
    assert reduced.feature_names == NAMES


@pytest.mark.parametrize(("library", "make"), KINDS.values(), ids=KINDS)
def test_the_target_may_be_a_column_of_the_table(library, make):
    pytest.importorskip("narwhals")
    table = make(pytest.importorskip(library))
    reduced = sgdm.compress(table, target="c", fit_intercept=True)
    expected = sgdm.compress(X[:, :2], X[:, 2], fit_intercept=True)
    np.testing.assert_allclose(reduced.R, expected.R, rtol=1e-6, atol=1e-6)
    assert reduced.feature_names == ("a", "b")


def test_what_is_not_in_memory_is_refused_with_advice():
    polars, pyarrow = pytest.importorskip("polars"), pytest.importorskip("pyarrow")
    for lazy in (polars.DataFrame(COLUMNS).lazy(), pyarrow.table(COLUMNS).to_reader()):
        refuse(TypeError, r"^X must be in memory, got a \w+; collect it, or reduce it by sgdm.compress\(", lazy, Y)
