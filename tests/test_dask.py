"""Reductions on a cluster: Dask arrays and data frames, worker processes, one of them killed; and map and reduce."""

import functools
import itertools
import operator
import os
import re
import warnings

import numpy as np
import pytest
from helpers import assert_same_factor, intercepts

from sgdm import Compressed, compress

dask = pytest.importorskip("dask")
da = pytest.importorskip("dask.array")
distributed = pytest.importorskip("distributed")
N, D = 300, 3
RNG = np.random.default_rng(0)
X, Y = RNG.standard_normal((N, D)), RNG.standard_normal(N)
W = RNG.uniform(0.5, 2, N)
SPOILT = np.where(np.arange(N * D).reshape(N, D) == 130 * D + 1, np.nan, X)
ROWS = {"one": N, "even": 60, "ragged": (1, 99, 100, 37, 63), "many": 7}


def as_dask(array, rows):
    return da.from_array(array, chunks=(rows, -1)[: array.ndim])


@pytest.fixture(scope="module")
def client():
    """Two worker processes of one thread each."""
    options = {"n_workers": 2, "threads_per_worker": 1, "processes": True, "dashboard_address": None}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        with distributed.LocalCluster(**options) as cluster, distributed.Client(cluster) as client:
            yield client


@pytest.fixture
def local():
    """The scheduler in this process."""
    with dask.config.set(scheduler="synchronous"):
        yield


# Arrays


@intercepts
@pytest.mark.parametrize("targets", [Y, Y[:, None], np.column_stack([Y, W])], ids=["(n,)", "(n, 1)", "(n, 2)"])
@pytest.mark.parametrize("rows", ROWS)
def test_rows_in_any_chunks_reduce_to_the_same_factor(local, rows, targets, fit_intercept):
    chunks = ROWS[rows]
    for weights in (None, W):
        expected = compress(X, targets, sample_weight=weights, fit_intercept=fit_intercept)
        for other in (chunks, 50):  # y and weights come to the rows of X
            reduced = compress(
                as_dask(X, chunks),
                as_dask(targets, other),
                sample_weight=None if weights is None else as_dask(weights, other),
                fit_intercept=fit_intercept,
            )
            assert_same_factor(reduced, expected)


def test_chunks_of_columns_are_joined(local):
    chunked = da.from_array(X, chunks=(100, 2))
    with pytest.warns(UserWarning, match=r"^X has 2 chunks of columns; they are joined$") as caught:
        reduced = compress(chunked, as_dask(Y, 100))
    assert caught[0].filename == __file__
    assert_same_factor(reduced, compress(X, Y))
    targets = np.column_stack([Y, W])
    assert_same_factor(compress(as_dask(X, 100), da.from_array(targets, chunks=(70, 1))), compress(X, targets))


def test_the_same_chunks_give_the_same_bits(local):
    reduced = compress(as_dask(X, 40), as_dask(Y, 40))
    assert compress(as_dask(X, 40), as_dask(Y, 40)) == reduced
    with dask.config.set(scheduler="threads"):
        assert compress(as_dask(X, 40), as_dask(Y, 40)) == reduced


def test_chunks_of_unknown_length_are_reduced(local):
    rows, y = as_dask(X, 100), as_dask(Y, 100)
    assert_same_factor(compress(rows[y > 0], y[y > 0]), compress(X[Y > 0], Y[Y > 0]))
    none_in_the_first = da.arange(N, chunks=100) >= 150
    assert_same_factor(compress(rows[none_in_the_first], y[none_in_the_first]), compress(X[150:], Y[150:]))


def test_a_block_of_no_weight_adds_nothing(local):
    weights = np.where(np.arange(N) < 120, 0, W)
    reduced = compress(as_dask(X, 100), as_dask(Y, 100), sample_weight=as_dask(weights, 100))
    assert_same_factor(reduced, compress(X, Y, sample_weight=weights))


def test_only_small_matrices_travel(monkeypatch):
    """Tasks hand each other the rows' blocks, where these are, and q x q."""
    graphs = []
    monkeypatch.setattr(dask, "compute", lambda delayed: graphs.append(delayed) or (compress(X, Y),))
    compress(as_dask(X, 30), as_dask(Y, 30), fit_intercept=True)
    (delayed,) = graphs
    monkeypatch.undo()
    keys = [key for key in delayed.dask if re.match("reduce_part|merge_parts", str(key))]
    values = dask.get(dict(delayed.dask), keys)
    assert len(values) == 10 + 5 + 3 + 2 + 1
    for value in values:
        assert isinstance(value, Compressed)
        assert value.R.shape == (D + 2, D + 2)
        held = sum(part.nbytes for part in vars(value).values() if isinstance(part, np.ndarray))
        assert held == 8 * (D + 2) ** 2


BAD = {
    "local y": (lambda: (as_dask(X, 50), Y), {}, TypeError, "y must be a Dask array as X is, got ndarray"),
    "no y": (lambda: (as_dask(X, 50),), {}, TypeError, "y must be a Dask array as X is, got NoneType"),
    "local weights": (lambda: (as_dask(X, 50), as_dask(Y, 50)), {"sample_weight": W}, TypeError,
                      "sample_weight must be a Dask array as X is, got ndarray"),
    "lengths": (lambda: (as_dask(X, 50), as_dask(Y[1:], 50)), {}, ValueError,
                "X and y must have the same number of rows, got 300 and 299"),
    "target": (lambda: (as_dask(X, 50),), {"target": "y"}, ValueError,
               "target names a column of a table; give y where X is a Dask array"),
    "NaN": (lambda: (as_dask(SPOILT, 50), as_dask(Y, 50)), {}, ValueError,
            "block 2: X must be finite, got nan at row 30, column 1"),
    "strings": (lambda: (as_dask(X.astype(str), N), as_dask(Y, 50)), {}, TypeError,
                "block 0: X must hold real numbers"),
    "no rows": (lambda: (as_dask(X[:0], 50), as_dask(Y[:0], 50)), {}, ValueError, "X must have at least one row"),
    "no weight": (lambda: (as_dask(X, 50), as_dask(Y, 50)), {"sample_weight": as_dask(0 * W, 50)}, ValueError,
                  "sample_weight must have a positive, finite sum, got 0.0"),
    "checkpoint": (lambda: (as_dask(X, 50), as_dask(Y, 50)), {"checkpoint": "half.npz"}, ValueError,
                   "checkpoint and progress don't go together with Dask, whose scheduler does both"),
    "progress": (lambda: (as_dask(X, 50), as_dask(Y, 50)), {"progress": True}, ValueError,
                 "checkpoint and progress don't go together with Dask"),
}  # fmt: skip


@pytest.mark.parametrize(("arguments", "options", "error", "message"), BAD.values(), ids=BAD)
def test_bad_arrays_are_refused(local, arguments, options, error, message):
    with pytest.raises(error, match="^" + re.escape(message)):
        compress(*arguments(), **options)


# Data frames


@pytest.fixture
def frame():
    """Four partitions, the second of them empty."""
    pandas = pytest.importorskip("pandas")
    dd = pytest.importorskip("dask.dataframe")
    whole = pandas.DataFrame({"a": X[:, 0], "b": X[:, 1].astype(np.float32), "y": Y, "w": W, "c": X[:, 2]})
    cuts = [0, 90, 90, 100, N]
    parts = [whole.iloc[a:b] for a, b in itertools.pairwise(cuts)]
    return whole, dd.from_delayed([dask.delayed(part) for part in parts], meta=whole.iloc[:0], verify_meta=False)


@pytest.mark.parametrize("weight", [None, "w"])
def test_data_frames_reduce_to_the_same_factor(local, frame, weight):
    whole, split = frame
    expected = compress(whole, target="y", sample_weight=weight, fit_intercept=True)
    names = tuple(name for name in whole if name not in ("y", weight))
    for some in (split, split.repartition(npartitions=1), split.repartition(npartitions=3)):
        assert_same_factor(compress(some, target="y", sample_weight=weight, fit_intercept=True), expected, names)
    assert_same_factor(
        compress(split[split.a > 0], target="y"), compress(whole[whole.a > 0], target="y"), ("a", "b", "w", "c")
    )


def test_bad_data_frames_are_refused(local, frame):
    whole, split = frame
    for arguments, options, error, message in [
        ((split,), {}, ValueError, "a Dask data frame needs target, the column to predict, and takes no y"),
        ((split, split.y), {"target": "y"}, ValueError, "a Dask data frame needs target, the column to predict"),
        ((split.repartition(npartitions=1),), {"target": "z"}, ValueError,
         "block 0: target must name a column, got 'z'; the columns are a, b, y"),
        ((split.assign(c=split.c.where(split.c != whole.c[95])),), {"target": "y"}, ValueError,
         "block 2: column 'c' has 1 missing value"),
        ((split[split.a > 100],), {"target": "y"}, ValueError, "X must have at least one row, got no block with any"),
    ]:  # fmt: skip
        with pytest.raises(error, match="^" + re.escape(message)):
            compress(*arguments, **options)


# A cluster


@pytest.mark.parametrize("rows", ["even", "ragged"])
def test_a_cluster_reduces_to_the_same_bits(client, rows, frame):
    assert len(client.scheduler_info()["workers"]) == 2
    reduced = compress(as_dask(X, ROWS[rows]), as_dask(Y, 50), sample_weight=as_dask(W, 30), fit_intercept=True)
    assert_same_factor(reduced, compress(X, Y, sample_weight=W, fit_intercept=True))
    with dask.config.set(scheduler="synchronous"):
        alone = compress(as_dask(X, ROWS[rows]), as_dask(Y, 50), sample_weight=as_dask(W, 30), fit_intercept=True)
    assert reduced == alone
    whole, split = frame
    assert_same_factor(compress(split, target="y"), compress(whole, target="y"), ("a", "b", "w", "c"))


def test_errors_come_back_from_a_cluster(client):
    with pytest.raises(ValueError, match=r"^block 2: X must be finite, got nan at row 30, column 1"):
        compress(as_dask(SPOILT, 50), as_dask(Y, 50))


def test_the_work_of_a_worker_that_dies_is_done_again(client, tmp_path):
    """A task kills its worker the first time it runs; what was on it is reduced again elsewhere."""
    flag = str(tmp_path / "died")

    def die_once(block, block_info=None):
        if block_info[0]["chunk-location"][0] == 5:
            try:
                os.close(os.open(flag, os.O_CREAT | os.O_EXCL))
            except FileExistsError:
                return block
            os._exit(1)
        return block

    rows = as_dask(X, 30).map_blocks(die_once, dtype=X.dtype, meta=X[:0])
    reduced = compress(rows, as_dask(Y, 30))
    assert os.path.exists(flag)
    with dask.config.set(scheduler="synchronous"):
        assert reduced == compress(as_dask(X, 30), as_dask(Y, 30))


def test_any_map_and_reduce_gives_the_same_factor(client):
    """As with rdd.map(...).reduce(operator.add)."""
    blocks = [(X[i : i + 40], Y[i : i + 40]) for i in range(0, N, 40)]
    parts = map(lambda block: compress(*block), blocks)
    reduced = functools.reduce(operator.add, parts)
    assert_same_factor(reduced, compress(X, Y))
    parts = client.gather(client.map(lambda block: compress(*block), blocks))
    assert functools.reduce(operator.add, parts) == reduced
