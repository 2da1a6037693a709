"""Where rows come from: arrays, blocks, tables in memory, Arrow streams and files, Dask and Spark."""

import itertools
import os

import numpy as np

from .._descent.messages import warn
from .._validation import as_column, as_matrix, column_names, count_missing

_ROWS_AT_ONCE = 1 << 17  # of an in-memory table are converted to float64; pyarrow reads files in batches of this size


def blocks_of(X, y, sample_weight, target):
    """An iterator of (X, y, weights or None) blocks, the number of rows if known, and the features' names if any."""
    if target is None and isinstance(sample_weight, str):
        raise TypeError("sample_weight can be a column's name only together with target")
    if target is not None:
        if y is not None:
            raise ValueError("y and target both say what to predict; give y, or the target's column in X")
        return table_blocks(X, target, sample_weight)
    if y is not None:
        names, X = column_names(X), as_matrix(X, "X", convert=False)
        return iter([(X, y, sample_weight)]), len(X), names
    if isinstance(X, (np.ndarray, str)) or not hasattr(X, "__iter__") or hasattr(X, "schema") or hasattr(X, "columns"):
        raise ValueError("y must be given, or the target's column in X, or X must yield blocks (X, y)")
    if sample_weight is not None:
        raise ValueError("sample_weight goes into the blocks, as (X, y, sample_weight), where X yields them")
    return map(as_block, X, itertools.count()), None, None


def as_block(block, number):
    """A block that an iterable yielded, with its weights or None."""
    if not isinstance(block, (tuple, list)) or len(block) not in (2, 3):
        length = f" of {len(block)}" if isinstance(block, (tuple, list)) else ""
        raise TypeError(
            f"block {number}: must be (X, y) or (X, y, sample_weight), got a {type(block).__name__}{length}"
        )
    return tuple(block) if len(block) == 3 else (*block, None)


def table_blocks(table, target, weight):
    """Blocks of a table whose columns have names: Arrow, a Parquet file or folder, pandas, polars, an Arrow stream."""
    if isinstance(table, (str, os.PathLike)):
        table = arrow_dataset(table)
    table, lazy = as_stream(table)
    rows, arrow = None, not lazy and hasattr(table, "schema") and hasattr(table.schema, "metadata")
    if arrow:
        names = keys = list(table.schema.names)
        if hasattr(table, "to_batches"):  # pyarrow.Table, pyarrow.dataset.Dataset
            rows = table.count_rows() if hasattr(table, "count_rows") else table.num_rows
            batches = table.to_batches(**({} if hasattr(table, "count_rows") else {"max_chunksize": _ROWS_AT_ONCE}))
        elif hasattr(table, "num_rows"):  # pyarrow.RecordBatch
            rows, batches = table.num_rows, [table]
        else:  # pyarrow.RecordBatchReader
            batches = table
    elif lazy:
        names = keys = table.collect_schema().names()
        batches = table.collect_batches(chunk_size=_ROWS_AT_ONCE, maintain_order=True)
    elif hasattr(table, "columns") and hasattr(table, "__len__"):  # pandas, polars
        rows, keys = len(table), list(table.columns)
        by_position = getattr(table, "iloc", table)  # pandas slices an index of floats by label
        batches = (by_position[start : start + _ROWS_AT_ONCE] for start in range(0, rows, _ROWS_AT_ONCE))
        names = [str(key) for key in keys]
    else:
        raise TypeError(
            "target needs a table with named columns: Arrow, Parquet, pandas, polars or anything with an Arrow stream, "
            f"got {type(table).__name__}"
        )
    for role, name in (("target", target), ("sample_weight", weight)):
        if name is not None and (not isinstance(name, str) or name not in names):
            raise ValueError(f"{role} must name a column, got {name!r:.40}; the columns are {', '.join(names)}")
    if len(set(names)) < len(names):
        raise ValueError(f"columns must have different names, got {', '.join(names)}")
    if target == weight:
        raise ValueError(f"target and sample_weight must be two columns, got {target!r} for both")
    features = tuple(name for name in names if name not in (target, weight))
    if not features:
        raise ValueError(f"there must be a feature beside the target {target!r}; the columns are {', '.join(names)}")
    keys = dict(zip(names, keys, strict=True))

    def column(batch, name, where):
        called = f"column {name!r}{where}"
        values = batch.column(name) if arrow else batch[keys[name]]
        return as_column(values.to_numpy(zero_copy_only=False) if arrow else values, called, count_missing(values))

    def blocks():
        for number, batch in enumerate(batches):
            if len(batch):
                where = f" of batch {number}" if number else ""
                X = np.column_stack([column(batch, name, where) for name in features])
                yield X, column(batch, target, where), None if weight is None else column(batch, weight, where)

    return blocks(), rows, features


def as_stream(table):
    """The table itself, or a reader of its Arrow stream (DuckDB, Ibis, ...); and whether it is a lazy polars frame."""
    if hasattr(table, "collect_batches"):
        return table, True
    streams = hasattr(table, "__arrow_c_stream__")
    if hasattr(table, "collect") and not streams:  # its schema may be costly
        raise TypeError(f"target needs a table in memory, got {type(table).__name__}; convert it with .collect()")
    in_memory = hasattr(table, "iloc") or hasattr(table, "get_column")
    if in_memory or not streams or hasattr(getattr(table, "schema", None), "metadata"):
        return table, False
    try:
        from pyarrow import RecordBatchReader  # type: ignore[import-untyped]
    except ImportError:
        raise ImportError(f"reading a {type(table).__name__} needs pyarrow: pip install 'sgdm[arrow]'") from None
    return RecordBatchReader.from_stream(table), False


def arrow_dataset(path):
    """A Parquet file or folder as a pyarrow data set."""
    try:
        from pyarrow import dataset  # type: ignore[import-untyped]
    except ImportError:
        raise ImportError("reading Parquet needs pyarrow: pip install 'sgdm[arrow]'") from None
    return dataset.dataset(os.fspath(path), format="parquet")


def is_dask(X):
    """Whether X is a Dask array or data frame, without importing dask."""
    return type(X).__module__.partition(".")[0] in ("dask", "dask_expr") and hasattr(X, "dask")


def reduce_dask(X, y, sample_weight, fit_intercept, target, reduce, merge):
    """One reduction per block on the workers, a tree of merges there, and the last one's result."""
    import dask  # type: ignore[import-not-found,import-untyped,unused-ignore]

    reduce = dask.delayed(reduce, pure=False)
    merge = dask.delayed(merge, pure=False)
    if hasattr(X, "columns"):  # a data frame
        if target is None or y is not None:
            raise ValueError("a Dask data frame needs target, the column to predict, and takes no y")
        frames = X.to_delayed()
        parts = [reduce(i, frame, None, sample_weight, fit_intercept, target) for i, frame in enumerate(frames)]
    else:
        if target is not None:
            raise ValueError("target names a column of a table; give y where X is a Dask array")
        if X.ndim == 2 and X.numblocks[1] > 1:
            warn(f"X has {X.numblocks[1]} chunks of columns; they are joined", UserWarning)
            X = X.rechunk({1: -1})
        rows = X.chunks[0]
        columns = [X.to_delayed().ravel()]
        for name, array in (("y", y), ("sample_weight", sample_weight)):
            if array is None and name == "sample_weight":
                columns.append([None] * len(rows))
                continue
            if not is_dask(array):
                raise TypeError(f"{name} must be a Dask array as X is, got {type(array).__name__}")
            chunks = {0: rows, **({1: -1} if array.ndim == 2 else {})}
            if array.shape[0] == X.shape[0]:
                array = array.rechunk(chunks)
            elif not np.isnan(array.shape[0]) or array.numblocks[0] != len(rows):
                raise ValueError(
                    f"X and {name} must have the same number of rows, got {X.shape[0]} and {array.shape[0]}"
                )
            columns.append(array.to_delayed().ravel())
        parts = [reduce(i, *part, fit_intercept, None) for i, part in enumerate(zip(*columns, strict=True))]
    while len(parts) > 1:
        parts = [merge(parts[i : i + 2]) for i in range(0, len(parts), 2)]
    (result,) = dask.compute(parts[0])
    return result


def is_spark(X):
    """Whether X is a Spark data frame, without importing pyspark."""
    return type(X).__module__.startswith("pyspark.sql") and hasattr(X, "mapInArrow")


_MERGED_PARTS = 8  # of a Spark frame: the executors merge the factors of all partitions to so many


def reduce_spark(frame, sample_weight, fit_intercept, target, reduce, merge):
    """One reduction per partition on the executors, merged there to a few, and here to one."""
    import pickle

    if target is None:
        raise ValueError("a Spark data frame needs target, the column to predict, and takes no y")

    def pack(number, part):
        import pyarrow

        return pyarrow.RecordBatch.from_pydict({"number": [number], "part": [pickle.dumps(part)]})

    def reduce_partition(batches):
        import pyarrow
        from pyspark import TaskContext

        first = next(batches, None)
        number = TaskContext.get().partitionId()
        if first is not None:
            reader = pyarrow.RecordBatchReader.from_batches(first.schema, itertools.chain([first], batches))
            yield pack(number, reduce(number, reader, None, sample_weight, fit_intercept, target))

    def merge_partition(batches):
        rows = sorted((row["number"], row["part"]) for batch in batches for row in batch.to_pylist())
        if rows:
            yield pack(rows[0][0], merge([pickle.loads(part) for _, part in rows]))

    parts = frame.mapInArrow(reduce_partition, "number long, part binary")
    merged = parts.repartition(_MERGED_PARTS).mapInArrow(merge_partition, "number long, part binary").collect()
    return merge([pickle.loads(row.part) for row in sorted(merged, key=lambda row: row.number)])
