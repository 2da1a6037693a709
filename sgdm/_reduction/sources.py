"""Where rows come from: arrays, blocks, tables in memory, Arrow streams and files, Dask and Spark."""

import itertools
import os

import numpy as np

from .._descent.messages import warn
from .._validation import as_column, as_matrix, column_names

_ROWS_AT_ONCE = 1 << 17  # of a data frame are converted to float64; pyarrow reads files in batches of this size


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
    """Blocks of a table whose columns have names; the number of rows if known, and the features' names."""
    refuse_twins(column_names(table) or ())
    frames, keys, rows = frames_of(table)
    names = [str(key) for key in keys]  # those of pandas may be numbers
    refuse_twins(names)
    for role, name in (("target", target), ("sample_weight", weight)):
        if name is not None and (not isinstance(name, str) or name not in names):
            raise ValueError(f"{role} must name a column, got {name!r:.40}; the columns are {', '.join(names)}")
    if target == weight:
        raise ValueError(f"target and sample_weight must be two columns, got {target!r} for both")
    features = tuple(name for name in names if name not in (target, weight))
    if not features:
        raise ValueError(f"there must be a feature beside the target {target!r}; the columns are {', '.join(names)}")
    keys = dict(zip(names, keys, strict=True))

    def blocks():
        for number, frame in enumerate(frames):
            if len(frame):
                where = f" of batch {number}" if number else ""
                columns = {name: column_of(frame, keys[name], f"column {name!r}{where}") for name in names}
                X = np.column_stack([columns[name] for name in features])
                yield X, columns[target], None if weight is None else columns[weight]

    return blocks(), rows, features


def refuse_twins(names):
    """Raises ValueError if two columns have the same name."""
    if len(set(names)) < len(names):
        raise ValueError(f"columns must have different names, got {', '.join(names)}")


def frames_of(table):
    """A table's rows as data frames of narwhals, a part at a time; the keys of its columns, and the rows if known."""
    narwhals = import_narwhals()
    frame = narwhals.from_native(table, eager_only=True, pass_through=True)
    if isinstance(frame, narwhals.DataFrame):  # in memory
        parts = (frame[start : start + _ROWS_AT_ONCE] for start in range(0, len(frame), _ROWS_AT_ONCE))
        return parts, frame.columns, len(frame)
    rows = None
    if hasattr(table, "collect_batches"):  # a lazy frame of polars
        keys = table.collect_schema().names()
        parts = table.collect_batches(chunk_size=_ROWS_AT_ONCE, maintain_order=True)
    else:
        if isinstance(table, (str, os.PathLike)):
            table = arrow_dataset(table)
        if hasattr(table, "scanner"):
            rows, table = table.count_rows(), table.scanner().to_reader()
        if not hasattr(table, "__arrow_c_stream__"):
            advice = "; collect it first" if hasattr(table, "collect") else ""
            raise TypeError(
                "target needs a data frame, a Parquet or CSV file, or a table with an Arrow stream, "
                f"got {type(table).__name__}{advice}"
            )
        arrow = import_arrow(f"a {type(table).__name__}")
        reader = arrow.RecordBatchReader.from_stream(table)
        keys, parts = reader.schema.names, (arrow.Table.from_batches([batch]) for batch in reader)
    return (narwhals.from_native(part, eager_only=True) for part in parts), keys, rows


def column_of(frame, key, called):
    """A column of a data frame of narwhals as an array of real, finite numbers."""
    values = frame.get_column(key)
    return as_column(values.to_numpy(), called, int(values.null_count()))


def import_narwhals():
    try:
        import narwhals.stable.v2 as narwhals  # type: ignore[import-not-found,unused-ignore]
    except ImportError:
        raise ImportError("reading a table needs narwhals: pip install 'sgdm[tables]'") from None
    return narwhals


def import_arrow(what):
    try:
        import pyarrow  # type: ignore[import-untyped,unused-ignore]
        import pyarrow.dataset  # type: ignore[import-untyped,unused-ignore]
    except ImportError:
        raise ImportError(f"reading {what} needs pyarrow: pip install 'sgdm[tables]'") from None
    return pyarrow


def arrow_dataset(path):
    """A Parquet file or folder, or a CSV file, as a pyarrow data set."""
    path = os.fspath(path)
    if not path.lower().endswith((".csv", ".csv.gz")):
        return import_arrow("Parquet").dataset.dataset(path, format="parquet")
    arrow = import_arrow("CSV")
    found = arrow.dataset.dataset(path, format="csv").schema  # from the first rows; later ones may have fractions
    whole = (arrow.types.is_integer, arrow.types.is_null)
    fields = [(f.name, arrow.float64() if any(test(f.type) for test in whole) else f.type) for f in found]
    return arrow.dataset.dataset(path, format="csv", schema=arrow.schema(fields))


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
