"""Where rows come from: arrays, iterables of blocks, Arrow tables, data sets and files, Dask collections."""

from __future__ import annotations

import os
import warnings

import numpy as np

from ._validation import as_matrix, as_real


def blocks_of(X, y, sample_weight, target):
    """An iterator of (X, y, weights or None) blocks, the number of rows if known, and the features' names if any."""
    if target is None and isinstance(sample_weight, str):
        raise TypeError("sample_weight can be a column's name only together with target")
    if target is not None:
        if y is not None:
            raise ValueError("y and target both say what to predict; give y, or the target's column in X")
        return table_blocks(X, target, sample_weight)
    if y is not None:
        X = as_matrix(X, "X")
        return iter([(X, y, sample_weight)]), len(X), None
    if isinstance(X, np.ndarray) or not hasattr(X, "__iter__") or hasattr(X, "columns"):
        raise ValueError("y must be given, or the target's column in X, or X must yield blocks (X, y)")
    if sample_weight is not None:
        raise ValueError("sample_weight goes into the blocks, as (X, y, sample_weight), where X yields them")
    return map(as_block, X), None, None


def as_block(block):
    """A block that an iterable yielded, with its weights or None."""
    if not isinstance(block, (tuple, list)) or len(block) not in (2, 3):
        raise TypeError(f"blocks must be (X, y) or (X, y, sample_weight), got {type(block).__name__}")
    return tuple(block) if len(block) == 3 else (*block, None)


def table_blocks(table, target, weight):
    """Blocks of a table whose columns have names: Arrow, a Parquet file or folder, pandas, polars."""
    if isinstance(table, (str, os.PathLike)):
        table = arrow_dataset(table)
    if hasattr(table, "to_batches"):  # pyarrow.Table, pyarrow.dataset.Dataset
        rows = table.count_rows() if hasattr(table, "count_rows") else table.num_rows
        names, batches = list(table.schema.names), table.to_batches()
    elif hasattr(table, "columns") and hasattr(table, "__getitem__") and not hasattr(table, "schema_arrow"):
        if hasattr(table, "num_rows"):  # pyarrow.RecordBatch
            rows, names, batches = table.num_rows, list(table.schema.names), [table]
        else:  # pandas, polars
            rows, names, batches = len(table), [str(name) for name in table.columns], [table]
    elif hasattr(table, "schema"):  # pyarrow.RecordBatchReader
        rows, names, batches = None, list(table.schema.names), table
    else:
        raise TypeError(
            f"target needs a table with named columns: Arrow, Parquet, pandas or polars, got {type(table).__name__}"
        )
    for column in (target, weight):
        if column is not None and (not isinstance(column, str) or names.count(column) != 1):
            raise ValueError(f"there must be one column {column!r}; the columns are {', '.join(names)}")
    features = tuple(name for name in names if name not in (target, weight))
    if not features:
        raise ValueError(f"there must be a feature beside the target {target!r}; the columns are {', '.join(names)}")

    def column(batch, name):
        values = batch[name] if not hasattr(batch, "num_rows") else batch.column(name)
        if hasattr(values, "null_count") and not callable(values.null_count) and values.null_count:
            raise ValueError(f"column {name!r} must have no missing values, got {values.null_count}")
        return as_real(values.to_numpy(zero_copy_only=False) if hasattr(batch, "num_rows") else values, name)

    def blocks():
        for batch in batches:
            if len(batch):
                X = np.column_stack([column(batch, name) for name in features])
                yield X, column(batch, target), None if weight is None else column(batch, weight)

    return blocks(), rows, features


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
    if target is not None:
        parts = [reduce(frame, None, sample_weight, fit_intercept, target) for frame in X.to_delayed()]
    else:
        if X.ndim == 2 and X.numblocks[1] > 1:
            warnings.warn(f"X has {X.numblocks[1]} chunks of columns; they are joined", UserWarning, stacklevel=4)
            X = X.rechunk({1: -1})
        rows = X.chunks[0]
        columns = [X.to_delayed().ravel()]
        for name, array in (("y", y), ("sample_weight", sample_weight)):
            if array is None:
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
        parts = [reduce(*part, fit_intercept, None) for part in zip(*columns, strict=True)]
    while len(parts) > 1:
        parts = [merge(parts[i : i + 2]) for i in range(0, len(parts), 2)]
    (result,) = dask.compute(parts[0])
    return result
