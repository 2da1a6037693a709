"""compress(): reduce rows from any source to one factor."""

from __future__ import annotations

import math
import os
import time
from typing import TYPE_CHECKING, Any

from .._descent.descent import progress_bar
from .._results.status import attach_result
from .._validation import as_count, as_flag, as_number, raise_if_foreign
from .compressed import Compressed
from .leaves import Reduction
from .sources import blocks_of, is_dask, is_spark, reduce_dask, reduce_spark

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


def compress(
    X: Any,
    y: Any = None,
    *,
    sample_weight: ArrayLike | str | None = None,
    fit_intercept: bool = False,
    target: str | None = None,
    n_threads: int = 1,
    progress: bool = False,
    checkpoint: str | os.PathLike[str] | None = None,
    checkpoint_every: float = 30.0,
) -> Compressed:
    """Reduce a least-squares problem to the triangular factor of its rows, which are read once.

    Parameters
    ----------
    X : array of shape (n, d), iterable of blocks, table, path, or Dask collection
        What holds the rows. float32 and float64 arrays, memory maps too, are read in place. An iterable yields
        ``(X, y)`` or ``(X, y, sample_weight)``. With `target`: a pyarrow Table, RecordBatch, RecordBatchReader or data
        set, the path of a Parquet file or folder, a DataFrame (pandas, polars, modin), a polars LazyFrame, anything
        with an Arrow stream (a DuckDB query, an Ibis table), a Dask or Spark DataFrame. They are read a few blocks at a
        time; a DataFrame with `y` is converted as a whole. A Spark or Dask frame is reduced where its partitions are.
    y : array of shape (n,) or (n, k), optional
        The targets, where X is an array or a table; a Dask array where X is one.
    sample_weight : array of shape (n,) or str, optional
        The weights, or their column's name.
    fit_intercept : bool, default False
        Whether the reduced problem has an intercept.
    target : str, optional
        The column to predict; all others but the weights are features.
    n_threads : int, default 1
        How many threads factor rows; no effect with Dask or Spark. The result has the same bits for any number.
    progress : bool, default False
        Whether to show a bar of rows (needs tqdm).
    checkpoint : path, optional
        Where to save the reduction so far. If the file exists, the reduction goes on from it, with the bits of an
        uninterrupted one. The rows that it holds are read again and compared, but not reduced again; a difference
        raises ValueError. The file is deleted when the reduction is complete.
    checkpoint_every : float, default 30.0
        Seconds between two saves.

    Returns
    -------
    Compressed

    Raises
    ------
    ValueError, TypeError
        If an argument or a block is not what it should be; NaN and infinity are named by row and column.
    ImportError
        If narwhals or pyarrow, which read tables, is missing: ``pip install 'sgdm[tables]'``.
    KeyboardInterrupt
        On Ctrl-C, with the reduction of the rows so far as its ``result`` (None before the first); so too for what an
        iterable raises.

    References
    ----------
    J. Demmel, L. Grigori, M. Hoemmen and J. Langou, "Communication-optimal parallel and sequential QR and LU
    factorizations", SIAM J. Sci. Comput. 34 (2012).

    Examples
    --------
    >>> import numpy as np, sgdm
    >>> X = np.arange(12.0).reshape(6, 2) ** 2
    >>> y = X @ [1.0, -1.0]
    >>> reduced = sgdm.compress(X, y)
    >>> reduced
    Compressed(6 rows, 2 features, float64)
    >>> reduced.solve().round(6)
    array([ 1., -1.])
    >>> blocks = ((X[i : i + 2], y[i : i + 2]) for i in (0, 2, 4))
    >>> np.allclose(sgdm.compress(blocks).R, reduced.R)
    True
    """
    reduction = bar = None

    def look(leaf):
        nonlocal saved
        if bar is not None:
            bar.update(leaf.n_rows)
        if checkpoint is not None and time.monotonic() - saved >= every:
            reduction.save(checkpoint)
            saved = time.monotonic()

    try:
        fit_intercept, n_threads = as_flag(fit_intercept, "fit_intercept"), as_count(n_threads, "n_threads")
        if is_dask(X):
            if checkpoint is not None or progress:
                raise ValueError("checkpoint and progress don't go together with Dask, whose scheduler does both")
            return check_total(reduce_dask(X, y, sample_weight, fit_intercept, target, reduce_part, merge_parts))
        if is_spark(X):
            if checkpoint is not None or progress or y is not None:
                raise ValueError("y, checkpoint and progress don't go together with Spark: name the target's column")
            return check_total(reduce_spark(X, sample_weight, fit_intercept, target, reduce_part, merge_parts))
        blocks, rows, names = blocks_of(X, y, sample_weight, target)
        every = as_number(checkpoint_every, "checkpoint_every")
        reduction = Reduction(fit_intercept, names, keeps_digest=checkpoint is not None)
        progress, saved = as_flag(progress, "progress"), time.monotonic()
        if checkpoint is not None and os.path.exists(checkpoint):
            reduction.restore(checkpoint)
        try:
            if progress:
                bar = progress_bar(rows, "row")
                bar.update(reduction.n_rows)
            reduction.run(blocks, n_threads, look)
        finally:
            if bar is not None:
                bar.close()
        result = check_total(reduction.result())
        if checkpoint is not None and os.path.exists(checkpoint):
            reduction.saved = None
            os.unlink(checkpoint)
        return result
    except BaseException as stop:
        attach_result(stop, None if reduction is None else reduction.result())
        if checkpoint is not None and reduction is not None and reduction.done is not reduction.saved:
            try:
                reduction.save(checkpoint)
            except Exception as failure:
                stop.add_note(f"the checkpoint could not be saved: {failure}")
        raise


def check_total(reduced):
    """The reduction itself; ValueError if it has no rows, or a sum of weights that is 0 or infinite."""
    if reduced is None:
        raise ValueError("X must have at least one row, got no block with any")
    if not 0 < reduced.total_weight < math.inf:
        raise ValueError(f"sample_weight must have a positive, finite sum, got {reduced.total_weight}")
    return reduced


def reduce_part(number, X, y, sample_weight, fit_intercept, target):
    """The reduction of one block of a Dask collection or Spark frame, on a worker; None if it is empty."""
    if hasattr(X, "__len__") and not len(X):
        return None
    try:
        blocks, _, names = blocks_of(X, y, sample_weight, target)
        reduction = Reduction(fit_intercept, names)
        reduction.run(blocks)
    except (TypeError, ValueError) as error:
        raise_if_foreign(error)
        raise type(error)(f"block {number}: {error}") from None
    return reduction.result()


def merge_parts(parts):
    """The reductions of several blocks, joined."""
    parts = [part for part in parts if part is not None]
    return Compressed.merge(parts) if parts else None
