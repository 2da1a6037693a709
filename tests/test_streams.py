"""Rows that come in blocks: memory maps, iterables, tables and files, interruptions, checkpoints, constant memory."""

import functools
import gzip
import inspect
import os
import re
import signal
import sys
import tracemalloc

import numpy as np
import pytest
from helpers import assert_same_factor, blocks_of, intercepts, layouts

import sgdm
from sgdm import Compressed, compress
from sgdm._reduction.leaves import Reduction

N, D = 300, 3
CUTS = (0, 70, 71, 200, N)
RNG = np.random.default_rng(0)
X, Y = RNG.standard_normal((N, D)), RNG.standard_normal(N)
W = RNG.uniform(0.5, 2, N)
blocks_of = functools.partial(blocks_of, cuts=CUTS)


# Memory maps and iterables


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int16])
@layouts
def test_memory_maps_reduce_to_the_bits_of_arrays(tmp_path, small_leaves, order, dtype):
    """The bits of the same arrays in memory."""
    values, targets = (10 * X).astype(dtype), (10 * Y).astype(dtype)
    mapped = np.memmap(tmp_path / "X", dtype, "w+", shape=X.shape, order=order)
    mapped[:] = values
    mapped.flush()
    np.save(tmp_path / "y.npy", targets)
    mapped = np.memmap(tmp_path / "X", dtype, "r", shape=X.shape, order=order)
    read = np.load(tmp_path / "y.npy", mmap_mode="r")
    for threads in (1, 3):
        assert compress(mapped, read, n_threads=threads) == compress(values, targets)


@intercepts
@pytest.mark.parametrize("targets", [Y, Y[:, None], np.column_stack([Y, W])], ids=["(n,)", "(n, 1)", "(n, 2)"])
def test_blocks_reduce_to_the_factor_of_the_whole(small_leaves, targets, fit_intercept):
    for arrays, weights in (((X, targets), None), ((X, targets, W), W)):
        expected = compress(X, targets, sample_weight=weights, fit_intercept=fit_intercept)
        listed = compress(blocks_of(*arrays), fit_intercept=fit_intercept)
        assert_same_factor(listed, expected)
        for threads in (1, 2, 3):
            reduced = compress(iter(blocks_of(*arrays)), fit_intercept=fit_intercept, n_threads=threads)
            assert reduced == listed
        lists = ([array.tolist() for array in block] for block in blocks_of(*arrays))
        assert compress(lists, fit_intercept=fit_intercept) == listed


def test_blocks_with_and_without_weights_go_together():
    """Without weights a block's rows weigh 1."""
    blocks = blocks_of(X, Y, W)
    blocks[1] = blocks[1][:2]
    weights = np.where((np.arange(N) >= 70) & (np.arange(N) < 71), 1, W)
    assert_same_factor(compress(blocks), compress(X, Y, sample_weight=weights))
    blocks[0] = (*blocks[0][:2], np.zeros(70))  # one of no weight at all
    weights[:70] = 0
    assert_same_factor(compress(blocks), compress(X, Y, sample_weight=weights))


def test_blocks_of_float32_are_float32_if_all_are():
    pairs = [(x.astype(np.float32), y.astype(np.float32)) for x, y in blocks_of(X, Y)]
    assert compress(pairs).dtype == np.float32
    assert compress([*pairs, (X, Y)]).dtype == np.float64


GOOD = (X, Y)
NOT_A_BLOCK = "block 1: must be (X, y) or (X, y, sample_weight), got a "
BAD_BLOCKS = {
    "number": (3, TypeError, f"{NOT_A_BLOCK}int"),
    "array": (X, TypeError, f"{NOT_A_BLOCK}ndarray"),
    "four": ((X, Y, W, W), TypeError, f"{NOT_A_BLOCK}tuple of 4"),
    "one": ((X,), TypeError, f"{NOT_A_BLOCK}tuple of 1"),
    "columns": ((X[:, :2], Y), ValueError,
                "block 1: X and y must have the columns and targets of those before, 3 and (), got 2 and ()"),
    "targets": ((X, Y[:, None]), ValueError,
                "block 1: X and y must have the columns and targets of those before, 3 and (), got 3 and (1,)"),
    "lengths": ((X, Y[1:]), ValueError, "block 1: X and y must have the same number of rows, got 300 and 299"),
    "strings": ((X.astype(str), Y), TypeError, "block 1: X must hold real numbers"),
    "empty": ((X[:0], Y[:0]), ValueError, "block 1: X must have at least one row and one column, got shape (0, 3)"),
    "weights": ((X, Y, W[1:]), ValueError, "block 1: sample_weight must have one weight per row of X, 300, got 299"),
    "negative": ((X, Y, np.where(np.arange(N) == 7, -1, W)), ValueError,
                 "block 1: sample_weight must not be negative, got -1.0 at row 7"),
    "NaN": ((np.where(np.arange(N * D).reshape(N, D) == 7 * D + 1, np.nan, X), Y), ValueError,
            "block 1: X must be finite, got nan at row 7, column 1"),
    "infinity": ((X, np.where(np.arange(N) == 290, -np.inf, Y)), ValueError,
                 "block 1: y must be finite, got -inf at row 290"),
    "NaN weight": ((X, Y, np.where(np.arange(N) == 7, np.nan, W)), ValueError,
                   "block 1: sample_weight must be finite, got nan at row 7"),
}  # fmt: skip


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(("block", "error", "message"), BAD_BLOCKS.values(), ids=BAD_BLOCKS)
def test_a_bad_block_is_refused_by_number(small_leaves, block, error, message, threads):
    """Refused by number; what came before is not lost."""
    with pytest.raises(error, match="^" + re.escape(message)) as caught:
        compress([GOOD, block, GOOD], n_threads=threads)
    assert caught.value.result.n_rows <= N + 290
    if threads == 1 and "at row 290" not in message:
        assert caught.value.result.n_rows - N < 20
    if "of those before" not in message:
        with pytest.raises(error, match=re.escape(message.removeprefix("block 1: "))):
            compress([block])


@pytest.mark.parametrize("column", range(D + 1))
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("weights", [None, np.arange(N) > N // 2])
def test_nothing_that_is_not_finite_gets_through(column, value, weights):
    for row in (0, 1, 5, N - 1):
        Z = np.column_stack([X, Y])
        Z[row, column] = value
        with pytest.raises(ValueError, match=rf"[Xy] must be finite, got {value} at row {row}\b"):
            compress(Z[:, :D], Z[:, D], sample_weight=weights)


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        ((X,), {}, ValueError, "y must be given, or the target's column in X, or X must yield blocks (X, y)"),
        ((3,), {}, ValueError, "y must be given, or the target's column"),
        (("rows.parquet",), {}, ValueError, "y must be given, or the target's column"),
        (([],), {}, ValueError, "X must have at least one row, got no block with any"),
        ((blocks_of(X, Y, 0 * W),), {}, ValueError, "sample_weight must have a positive, finite sum, got 0.0"),
        ((blocks_of(X, Y),), {"sample_weight": W}, ValueError, "sample_weight goes into the blocks"),
        (GOOD, {"sample_weight": "w"}, TypeError, "sample_weight can be a column's name only together with target"),
        (GOOD, {"target": "y"}, ValueError, "y and target both say what to predict"),
        (
            (X,),
            {"target": "y"},
            TypeError,
            "target needs a data frame, a Parquet or CSV file, or a table",
        ),
        (GOOD, {"checkpoint_every": -1}, ValueError, "checkpoint_every must be finite and not negative, got -1"),
    ],
)
def test_arguments_that_do_not_go_together_are_refused(arguments, options, error, message):
    with pytest.raises(error, match="^" + re.escape(message)):
        compress(*arguments, **options)


# Tables and files


def make_columns():
    return {"a": X[:, 0], "count": (10 * X[:, 1]).astype(int), "y": Y, "w": W, "c": X[:, 2].astype(np.float32)}


def arrow_tables(path):
    pa = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    dataset = pytest.importorskip("pyarrow.dataset")
    table = pa.table(make_columns())
    (path / "folder").mkdir()
    parquet.write_table(table, path / "rows.parquet", row_group_size=64)
    for i in range(3):
        parquet.write_table(table.slice(100 * i, 100), path / "folder" / f"{i}.parquet")
    (batch,) = table.to_batches()
    return {
        "Table": table,
        "chunked Table": pa.concat_tables([table.slice(0, 120), table.slice(120, 0), table.slice(120)]),
        "RecordBatch": batch,
        "RecordBatchReader": table.to_reader(max_chunksize=77),
        "dataset": dataset.dataset(path / "rows.parquet"),
        "path": path / "rows.parquet",
        "path as str": str(path / "rows.parquet"),
        "folder": path / "folder",
        "empty batches": pa.RecordBatchReader.from_batches(
            table.schema, [batch.slice(0, 0), batch.slice(0, 90), batch.slice(0, 0), batch.slice(90)]
        ),
    }


ARROW = ["Table", "chunked Table", "RecordBatch", "RecordBatchReader", "dataset", "path", "path as str", "folder",
         "empty batches"]  # fmt: skip


@pytest.mark.parametrize("weight", [None, "w"])
@pytest.mark.parametrize("kind", [*ARROW, "pandas", "polars"])
def test_tables_of_any_kind_reduce_to_the_same_factor(tmp_path, kind, weight):
    columns = make_columns()
    if kind in ("pandas", "polars"):
        table = pytest.importorskip(kind).DataFrame(columns)
    else:
        table = arrow_tables(tmp_path)[kind]
    names = tuple(name for name in columns if name not in ("y", weight))
    rows = np.column_stack([columns[name] for name in names])
    reduced = compress(table, target="y", sample_weight=weight, fit_intercept=True)
    assert_same_factor(reduced, compress(rows, Y, sample_weight=W if weight else None, fit_intercept=True), names)


@pytest.mark.parametrize("missing", ["narwhals", "pyarrow"])
def test_the_extra_that_reads_tables_is_named(monkeypatch, tmp_path, missing):
    monkeypatch.setitem(sys.modules, missing, None)
    what = "a table" if missing == "narwhals" else "Parquet"
    with pytest.raises(ImportError, match=rf"^reading {what} needs {missing}: pip install 'sgdm\[tables\]'$"):
        compress(tmp_path / "rows.parquet", target="y")


def test_numbered_columns_of_pandas_have_names():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(np.column_stack([X, Y]))
    assert_same_factor(compress(frame, target="3"), compress(X, Y), ("0", "1", "2"))
    with pytest.raises(ValueError, match=r"^target must name a column, got 3; the columns are 0, 1, 2, 3$"):
        compress(frame, target=3)


COLUMNS = {"a": [1.0, 2.0, 4.0], "y": [1.0, 2.0, 3.0]}
MISSING = r"column 'b' (has 1 missing value; fill them, or leave their rows out|must be finite, got nan at row 1)$"
BAD_COLUMNS = {
    "null": ([1.0, None, 2.0], ValueError, MISSING),
    "null count": ([1, None, 2], ValueError, MISSING),
    "NaN": ([1.0, float("nan"), 2.0], ValueError, MISSING),
    "infinity": ([1.0, float("inf"), 2.0], ValueError, r"column 'b' must be finite, got inf at row 1$"),
    "strings": (["1", "2", "3"], TypeError, r"column 'b' holds text; encode it \(OneHotEncoder\), or leave it out$"),
    "times": (np.arange(3).astype("datetime64[ms]"), TypeError, "column 'b' holds times; convert them to numbers"),
}  # fmt: skip


@pytest.mark.parametrize("kind", ["pyarrow", "pandas", "polars"])
@pytest.mark.parametrize(("values", "error", "message"), BAD_COLUMNS.values(), ids=BAD_COLUMNS)
def test_bad_columns_are_refused_by_name(kind, values, error, message):
    library = pytest.importorskip(kind)
    table = (library.table if kind == "pyarrow" else library.DataFrame)({**COLUMNS, "b": values})
    with pytest.raises(error, match="^" + message):
        compress(table, target="y")
    if kind == "pyarrow":
        good = library.table({**COLUMNS, "b": library.array([1, 2, 3]).cast(table.schema.field("b").type)})
        with pytest.raises(error, match=message.replace("row 1", "row 4")):
            compress(library.concat_tables([good, table]), target="y")
        with pytest.raises(error, match=message.replace("'b' ", r"'b'( of batch 1)? ")):
            compress(library.concat_tables([good, table]).to_reader(), target="y")


@pytest.mark.parametrize("kind", ["pyarrow", "pandas", "polars"])
def test_columns_that_are_not_there_are_refused(kind):
    library = pytest.importorskip(kind)
    make = library.table if kind == "pyarrow" else library.DataFrame
    table = make(COLUMNS)
    for options, message in [
        ({"target": "z"}, "target must name a column, got 'z'; the columns are a, y"),
        ({"target": 1}, "target must name a column, got 1; the columns are a, y"),
        ({"target": "y", "sample_weight": "z"}, "sample_weight must name a column, got 'z'; the columns are a, y"),
        ({"target": "y", "sample_weight": np.ones(3)}, "sample_weight must name a column, got array([1., 1., 1.])"),
        ({"target": "y", "sample_weight": "y"}, "target and sample_weight must be two columns, got 'y' for both"),
    ]:
        with pytest.raises(ValueError, match="^" + re.escape(message)):
            compress(table, **options)
    with pytest.raises(ValueError, match=r"^there must be a feature beside the target 'y'; the columns are y$"):
        compress(make({"y": COLUMNS["y"]}), target="y")
    with pytest.raises(ValueError, match=r"^y must be given, or the target's column in X"):
        compress(table)
    if kind == "polars":
        return
    twice = table.rename_columns(["a", "a"]) if kind == "pyarrow" else table.set_axis(["a", "a"], axis=1)
    twice = twice.append_column("y", [COLUMNS["y"]]) if kind == "pyarrow" else twice.assign(y=COLUMNS["y"])
    with pytest.raises(ValueError, match=r"^columns must have different names, got a, a, y$"):
        compress(twice, target="y")


def test_an_empty_table_is_refused():
    arrow = pytest.importorskip("pyarrow")
    with pytest.raises(ValueError, match=r"^X must have at least one row, got no block with any$"):
        compress(arrow.table(COLUMNS).slice(0, 0), target="y")


def test_tables_that_merge_must_have_the_same_names():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(COLUMNS)
    with pytest.raises(ValueError, match="both parts must have the same features"):
        compress(frame, target="y") + compress(frame.rename(columns={"a": "b"}), target="y")


# Progress and interruptions


@pytest.mark.parametrize("known", [True, False])
def test_a_progress_bar_counts_rows(small_leaves, known, capsys):
    pytest.importorskip("tqdm")
    rows = (X, Y) if known else (iter(blocks_of(X, Y)),)
    assert compress(*rows, progress=True) == compress(*((X, Y) if known else (blocks_of(X, Y),)))
    shown = capsys.readouterr()
    assert shown.out == ""
    assert ("300/300 [" if known else "300row [") in shown.err.splitlines()[-1].rpartition("\r")[2]


class Trouble(Exception):
    pass


def interrupted(blocks, after, error):
    """Some blocks, then an error."""
    yield from blocks[:after]
    if isinstance(error, BaseException):
        raise error
    signal.raise_signal(error)
    yield from blocks[after:]


@pytest.mark.thread_unsafe(reason="a signal, to the main thread")
@pytest.mark.parametrize(
    "error", [Trouble("no more"), KeyboardInterrupt(), signal.SIGINT, FloatingPointError("mine")], ids=repr
)
@pytest.mark.parametrize("after", range(5))
def test_an_interruption_keeps_what_was_reduced(heeds_sigint, error, after):
    blocks = blocks_of(X, Y)
    if after == 4 and error is signal.SIGINT:
        blocks.append(blocks[-1])
    kind = KeyboardInterrupt if isinstance(error, int) else type(error)
    with pytest.raises(kind) as caught:
        compress(interrupted(blocks, after, error))
    result = caught.value.result
    assert result == (compress(blocks[:after]) if after else None)
    if isinstance(error, Exception):
        assert caught.value is error
    with pytest.raises(kind) as caught:
        compress(interrupted(blocks, after, error), n_threads=2)
    assert (caught.value.result.n_rows if caught.value.result else 0) in CUTS[: after + 1]


# Checkpoints

BLOCKS = 24


def numbered_block(i, seed=0):
    rng = np.random.default_rng([seed, i])
    rows = int(rng.integers(1, 40))
    return rng.standard_normal((rows, D)), rng.standard_normal(rows), rng.uniform(0.5, 2, rows)


def all_blocks(seed=0):
    return [numbered_block(i, seed) for i in range(BLOCKS)]


KILLED = """
import os, signal, sys
import numpy as np, sgdm
D, BLOCKS = 3, 24
{source}
def blocks(kill_at):
    for i in range(BLOCKS):
        if i == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        yield numbered_block(i)
reduced = sgdm.compress(blocks({kill_at}), checkpoint={path!r}, checkpoint_every=0, n_threads={threads})
reduced.save({path!r} + ".done")
print(reduced.n_rows)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no kill -9 here")
@pytest.mark.parametrize("threads", [1, 3])
def test_a_reduction_that_was_killed_is_resumed_to_the_bit(run_python, tmp_path, threads):
    """Killed twice, then resumed: the bits of an uninterrupted reduction; no row twice, no row lost."""
    path = tmp_path / "half.npz"
    expected = compress(all_blocks())
    held = 0
    for kill_at in (9, 17, None):
        script = KILLED.format(
            source=inspect.getsource(numbered_block), kill_at=kill_at, path=str(path), threads=threads
        )
        process = run_python(script)
        if kill_at is None:
            assert process.returncode == 0, process.stderr
            assert int(process.stdout) == sum(len(y) for _, y, _ in all_blocks())
        else:
            assert process.returncode == -signal.SIGKILL, process.stderr
            reduction = Reduction(False, None)
            reduction.restore(path)
            assert held < reduction.n_leaves <= kill_at
            assert reduction.n_leaves >= kill_at - 1 - threads
            held = reduction.n_leaves
    assert Compressed.load(f"{path}.done") == expected
    assert not path.exists()
    assert os.listdir(tmp_path) == ["half.npz.done"]


def stop(blocks, path, after, every=1e9, **options):
    """Leaves a checkpoint of the first blocks behind."""
    with pytest.raises(Trouble):
        compress(interrupted(blocks, after, Trouble()), checkpoint=path, checkpoint_every=every, **options)
    return path


@pytest.mark.parametrize("threads", [1, 2])
def test_an_exception_leaves_a_checkpoint(tmp_path, threads, small_leaves):
    blocks, path = all_blocks(), tmp_path / "half.npz"
    for after in (1, 5, 6, 23):
        stop(blocks, path, after)
    assert compress(blocks, checkpoint=path, n_threads=threads) == compress(blocks)
    assert not path.exists()
    assert compress(blocks, checkpoint=path, checkpoint_every=0) == compress(blocks)  # an int, as any number
    assert not path.exists()


def test_an_array_that_was_half_reduced_is_resumed(tmp_path, small_leaves, monkeypatch):
    """Any source can be taken up again: here a reduction stopped within one array."""
    expected, add, path = compress(X, Y, sample_weight=W), Reduction.add, tmp_path / "half.npz"

    def add_some(reduction, leaf, R, words):
        if reduction.n_leaves == 4:
            raise Trouble
        add(reduction, leaf, R, words)

    monkeypatch.setattr(Reduction, "add", add_some)
    with pytest.raises(Trouble) as caught:
        compress(X, Y, sample_weight=W, checkpoint=path)
    monkeypatch.setattr(Reduction, "add", add)
    assert 0 < caught.value.result.n_rows < N
    assert compress(X, Y, sample_weight=W, checkpoint=path) == expected


def test_a_progress_bar_goes_on_where_the_checkpoint_is(tmp_path, capsys):
    pytest.importorskip("tqdm")
    path = stop(all_blocks(), tmp_path / "half.npz", 12)
    reduced = compress(all_blocks(), checkpoint=path, progress=True)
    assert f"{reduced.n_rows}row [" in capsys.readouterr().err


@pytest.mark.parametrize("end", [0, 1, 100, -1])
def test_a_truncated_checkpoint_is_refused(tmp_path, end):
    path = stop(all_blocks(), tmp_path / "half.npz", 12)
    content = path.read_bytes()[:end]
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"half\.npz is damaged, or not a checkpoint saved by this version of sgdm"):
        compress(all_blocks(), checkpoint=path)
    assert path.read_bytes() == content


def test_a_foreign_checkpoint_is_refused(tmp_path):
    path = tmp_path / "other.npz"
    damaged = r"other\.npz\S* is damaged, or not a checkpoint saved by this version of sgdm"
    for save, message in (
        (compress(X, Y).save, "is no checkpoint: it holds a reduction, which is for sgdm.Compressed.load"),
        (sgdm.fit(X, Y).save, "is no checkpoint: it holds a result, which is for sgdm.load"),
        (lambda path: np.savez(path, X), damaged),
        (lambda path: np.save(path, X), damaged),
    ):
        save(path)
        written = path if path.exists() else path.with_suffix(".npz.npy")
        content = written.read_bytes()
        with pytest.raises(ValueError, match=message):
            compress(all_blocks(), checkpoint=written)
        assert written.read_bytes() == content
        written.unlink()


OTHER_SHAPE = "block 0: X and y must have the columns and targets of those before, 3 and"
OTHER = "checkpoint holds [0-9]+ rows of other data, or in other blocks, than these"
OTHER_DATA = {
    "values": (lambda: all_blocks(seed=1), {}, "checkpoint holds"),
    "a row": (lambda: [(x + (i == 5), y, w) for i, (x, y, w) in enumerate(all_blocks())], {}, OTHER),
    "order": (lambda: [*all_blocks()[1::-1], *all_blocks()[2:]], {}, OTHER),
    "weights": (lambda: [(x, y, 2 * w) for x, y, w in all_blocks()], {}, OTHER),
    "no weights": (lambda: [block[:2] for block in all_blocks()], {}, OTHER),
    "fewer": (lambda: all_blocks()[:11], {}, "checkpoint holds [0-9]+ rows, but these data have only [0-9]+$"),
    "longer blocks": (lambda: [tuple(map(np.concatenate, zip(*all_blocks(), strict=True)))], {}, "checkpoint holds"),
    "columns": (lambda: [(x[:, :2], y, w) for x, y, w in all_blocks()], {}, OTHER_SHAPE),
    "targets": (lambda: [(x, y[:, None], w) for x, y, w in all_blocks()], {}, OTHER_SHAPE),
    "intercept": (all_blocks, {"fit_intercept": True}, "is of a reduction with other columns or intercept; delete it"),
}  # fmt: skip


@pytest.mark.parametrize(("blocks", "options", "message"), OTHER_DATA.values(), ids=OTHER_DATA)
def test_a_checkpoint_of_other_data_is_refused(tmp_path, blocks, options, message):
    path = stop(all_blocks(), tmp_path / "half.npz", 12)
    with pytest.raises(ValueError, match=message):
        compress(blocks(), checkpoint=path, **options)
    assert compress(all_blocks(), checkpoint=path) == compress(all_blocks())


# Constant memory

LONG = """
import resource, sys, time
import numpy as np, sgdm
rows, at_once = {rows}, 100_000
unit = 1 if sys.platform == "darwin" else 1024
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
rng = np.random.default_rng(0)
drawn = [(rng.standard_normal((at_once, 8)), rng.standard_normal(at_once)) for _ in range(4)]
start = time.perf_counter()
reduced = sgdm.compress(((X.copy(), y) for i in range(rows // at_once) for X, y in drawn[i % 4 : i % 4 + 1]))
assert reduced.n_rows == rows
grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * unit
print(grown, time.perf_counter() - start)
"""


too_long = pytest.mark.skipif("SGDM_LONG_TESTS" not in os.environ, reason="set SGDM_LONG_TESTS=1 to run it")


@pytest.mark.parametrize("rows", [10**7, pytest.param(10**8, marks=too_long)])
def test_a_long_stream_takes_constant_memory(run_python, rows):
    """10**8 rows of 8 columns are 6.4 GB."""
    pytest.importorskip("resource")
    process = run_python(LONG.format(rows=rows))
    assert process.returncode == 0, process.stderr
    grown, seconds = map(float, process.stdout.split())
    print(f"{rows} rows: {seconds:.1f} s, peak RSS grew by {grown / 2**20:.0f} MiB")
    assert grown < 200e6


def test_an_array_of_small_integers_is_converted_a_leaf_at_a_time():
    """1 000 000 x 20 take 20 MB as they are, and 160 MB as float64."""
    X = np.ones((1_000_000, 20), np.int8)
    tracemalloc.start()
    try:
        compress(X, X[:, 0])
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 120e6


@pytest.mark.parametrize("name", ["rows.csv", "ROWS.CSV", "rows.csv.gz"])
def test_a_csv_file_is_reduced(tmp_path, name):
    """Also if a column has fractions only after the rows that pyarrow looks at to guess its type."""
    pytest.importorskip("pyarrow")
    pytest.importorskip("narwhals")
    n = 80_000
    X = np.column_stack([np.arange(n) % 1000.0, np.linspace(0, 1, n)])
    X[-1, 0] = 0.5
    y = X @ [2.0, -1.0]
    lines = ["a,b,y", *(f"{a:g},{b!r},{t!r}" for (a, b), t in zip(X.tolist(), y.tolist(), strict=True))]
    path = tmp_path / name
    text = "\n".join(lines).encode()
    path.write_bytes(gzip.compress(text) if name.endswith("gz") else text)
    reduced = sgdm.compress(path, target="y", n_threads=-1)
    assert reduced.feature_names == ("a", "b")
    np.testing.assert_allclose(reduced.solve(), [2, -1], rtol=1e-9)
    with pytest.raises(ValueError, match=r"target must name a column, got 'z'; the columns are a, b, y"):
        sgdm.compress(str(path), target="z")
