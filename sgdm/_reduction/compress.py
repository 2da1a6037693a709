"""compress(): reduce rows from any source to one factor."""

from __future__ import annotations

import math
import os
import time
from typing import TYPE_CHECKING, Any

from .._descent.descent import progress_bar
from .._results.status import attach_result
from .._validation import as_flag, as_number, as_threads, raise_if_foreign
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
    """Read rows once, and reduce them to a small matrix that gives the same losses and gradients.

    An epoch on the reduction of d columns costs about ``d**2`` operations, however many rows there were. The rows may
    be more than memory holds. Reductions of pieces of the data can be added.

    Parameters
    ----------
    X : array of shape (n, d), iterable of blocks, table, path, or Dask collection
        The rows. Arrays of float32 or float64, memory maps too, are read in place. An iterable yields blocks
        ``(X, y)`` or ``(X, y, sample_weight)``. Tables need `target`, and are read a few blocks at a time: a pyarrow
        Table, RecordBatch, RecordBatchReader or data set, the path of a Parquet file or folder or of a CSV file, a
        DataFrame (pandas, polars, modin), a polars LazyFrame, anything with an Arrow stream (a DuckDB query, an Ibis
        table), a Dask or Spark DataFrame. A DataFrame with `y` is converted as a whole. A Dask or Spark frame is
        reduced where its partitions are.
    y : array of shape (n,) or (n, k), optional
        The targets, if X is an array or a table; a Dask array if X is one.
    sample_weight : array of shape (n,) or str, optional
        The weights of the rows, or the name of the column that holds them. By default all are 1.
    fit_intercept : bool, default False
        Whether fits on the reduction have an intercept.
    target : str, optional
        The name of the column to predict. All others but the weights are features.
    n_threads : int, default 1
        The number of threads that factor rows; -1 stands for all CPUs that the process may use. It has no effect with
        Dask or Spark. The bits of the result are the same for any number.
    progress : bool, default False
        Whether to show a bar of rows, which needs tqdm.
    checkpoint : path, optional
        The file in which the reduction is saved while it is under way. If the file exists, the reduction goes on from
        it, and ends with the bits of an uninterrupted one. The rows that it holds are read again and compared, but not
        reduced again; a difference raises ValueError. The file is deleted at the end.
    checkpoint_every : float, default 30.0
        Seconds from one save to the next.

    Returns
    -------
    Compressed
        The reduction, with `fit`, `solve`, `spectrum`, `forecast` and `tune` as methods.

    Raises
    ------
    ValueError, TypeError
        If an argument or a block has a wrong value, shape or type. For NaN and infinity the message has row and column.
    ImportError
        If narwhals or pyarrow, which read tables, is missing: ``pip install 'sgdm[tables]'``; or if `progress` is set
        and tqdm is missing.
    KeyboardInterrupt
        On Ctrl-C. Its ``result`` is the reduction of the rows so far, None before the first. An exception from an
        iterable has such a result too.

    See Also
    --------
    fit : Reduce the rows by itself where that is faster.

    Notes
    -----
    The reduction is a QR factorisation. With the rows scaled by the roots of their weights, ``[X, 1, y] = Q R``, and
    the loss of parameters a is ``|R (a, -1)|**2 / sum(w)``. No ``X'X`` is formed, which would square the condition
    number. Blocks of rows are factored one by one, and their factors merged in a tree [1]_.

    References
    ----------
    .. [1] J. Demmel, L. Grigori, M. Hoemmen and J. Langou, "Communication-optimal parallel and sequential QR and LU
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

    The same rows in blocks, as they may come from a file:

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
        fit_intercept, n_threads = as_flag(fit_intercept, "fit_intercept"), as_threads(n_threads)
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
