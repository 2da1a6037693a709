"""Reductions of what engines hold: queries of DuckDB and Ibis, lazy frames of polars, Arrow streams, Spark's frames."""

import numpy as np
import pytest
from helpers import assert_same_factor, make_data

from sgdm import compress

N, D = 5000, 3
X, Y = make_data(N, D)
W = np.random.default_rng(1).uniform(0.5, 2, N)
COLUMNS = {"a": X[:, 0], "b": X[:, 1], "c": X[:, 2], "y": Y, "w": W}
NAMES = ("a", "b", "c")
EXPECTED = compress(X, Y, sample_weight=W, fit_intercept=True)
OPTIONS = {"target": "y", "sample_weight": "w", "fit_intercept": True}


def test_a_query_of_duckdb_is_streamed():
    duckdb = pytest.importorskip("duckdb")
    rows = pytest.importorskip("pyarrow").table(COLUMNS)
    with duckdb.connect() as connection:
        connection.register("points", rows)
        assert_same_factor(compress(connection.sql("select * from points"), **OPTIONS), EXPECTED, NAMES)
        half = compress(connection.sql("select a, y from points where a > 0"), target="y")
        assert_same_factor(half, compress(X[X[:, 0] > 0, :1], Y[X[:, 0] > 0]), ("a",))
        with pytest.raises(TypeError, match=r"^column 'c' holds text; encode it"):
            compress(connection.sql("select a, 'x' as c, y from points"), target="y")
        with pytest.raises(ValueError, match=rf"^column 'c' has {N} missing values"):
            compress(connection.sql("select a, null::double as c, y from points"), target="y")


def test_a_lazy_frame_of_polars_is_streamed():
    polars = pytest.importorskip("polars")
    lazy = polars.DataFrame(COLUMNS).lazy()
    if not hasattr(lazy, "collect_batches"):  # an older polars
        with pytest.raises(TypeError, match=r"got LazyFrame; collect it first$"):
            compress(lazy, target="y")
        return
    assert_same_factor(compress(lazy, **OPTIONS), EXPECTED, NAMES)
    expected = compress(2 * X[:, :1], Y)
    assert_same_factor(compress(lazy.select(polars.col("a") * 2, "y"), target="y"), expected, ("a",))


def test_a_table_of_ibis_is_streamed():
    ibis, pyarrow = pytest.importorskip("ibis"), pytest.importorskip("pyarrow")
    table = ibis.memtable(pyarrow.table(COLUMNS))
    assert_same_factor(compress(table, **OPTIONS), EXPECTED, NAMES)
    half = compress(table.filter(table.a > 0).select("a", "y"), target="y")
    assert_same_factor(half, compress(X[X[:, 0] > 0, :1], Y[X[:, 0] > 0]), ("a",))


def test_anything_with_an_arrow_stream_is_read():
    rows = pytest.importorskip("pyarrow").table(COLUMNS)

    class Stream:
        def __arrow_c_stream__(self, requested_schema=None):
            return rows.__arrow_c_stream__(requested_schema)

    assert_same_factor(compress(Stream(), **OPTIONS), EXPECTED, NAMES)


@pytest.fixture(scope="module")
def spark():
    """A session in this process."""
    sql = pytest.importorskip("pyspark.sql")
    try:
        session = sql.SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false").getOrCreate()
    except Exception as error:
        pytest.skip(f"Spark does not start: {error}")
    yield session
    session.stop()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("partitions", [1, 20])
def test_a_frame_of_spark_is_reduced_where_it_is(spark, partitions):
    pandas = pytest.importorskip("pandas")
    frame = spark.createDataFrame(pandas.DataFrame(COLUMNS)).repartition(partitions)
    assert_same_factor(compress(frame, **OPTIONS), EXPECTED, NAMES)
    empty = frame.where("a > 1e9")
    with pytest.raises(ValueError, match="at least one row"):
        compress(empty, **OPTIONS)
    with pytest.raises(ValueError, match="a Spark data frame needs target"):
        compress(frame)
    with pytest.raises(Exception, match="target must name a column, got 'z'"):
        compress(frame, target="z")
    with pytest.raises(ValueError, match="don't go together with Spark"):
        compress(frame, target="y", checkpoint="rows.npz")
