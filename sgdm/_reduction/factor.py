"""The QR reduction: any number of rows, read once, become the few rows of a triangular factor.

Let Z = [X, 1, Y], with the ones only if there is an intercept, and with rows scaled by the square roots of the weights;
and Z = Q R. Loss and gradient depend on Z'Z = R'R alone. So R's columns, with the original sum of weights, have the
loss and the gradient of (X, Y), without the cancellation that computing Z'Z would bring. The kernel computes R, with
the same bits on every CPU (G. Golub, "Numerical methods for solving linear least squares problems", Numer. Math. 7,
1965).
"""

import numpy as np

from .._kernel import add_rows
from .._validation import ceil_div

# A thread factors a leaf, and the factors of leaves are joined in a tree. To start and to join a leaf takes as long as
# to reflect four rows for each column, so a leaf of wide rows has more elements.
_LEAF_ELEMENTS = 1 << 20
_LEAF_ROWS = 1 << 14  # at least

# A factor is right if the largest number in each column is between these: squares neither overflow nor vanish.
_LEAST, _MOST = 1e-100, 1e100


_LINE = 8  # doubles of a cache line


def at_cache_lines(rows):
    """A copy of rows of double.

    Long rows begin at cache lines, with zeros between them, which saves up to a third of an epoch's time.
    """
    n, d = rows.shape
    if d <= _LINE // 2:  # the kernel reads up to three columns as such, and those only without gaps
        return np.ascontiguousarray(rows)
    step = ceil_div(d, _LINE) * _LINE
    memory = np.zeros(n * step + _LINE)
    first = -memory.ctypes.data // memory.itemsize % _LINE
    aligned = memory[first : first + n * step].reshape(n, step)[:, :d]
    aligned[:] = rows
    return aligned


def leaf_rows(q):
    """How many rows of q columns make a leaf."""
    return max(_LEAF_ELEMENTS // q, _LEAF_ROWS)


@np.errstate(all="ignore")  # an overflow shows in the factor
def factor_rows(X, y, weights, fit_intercept):
    """The factor (q, q) of one leaf's rows. Its diagonal has any sign."""
    X, y = as_readable(X), as_readable(y.reshape(len(X), -1))
    roots = None if weights is None else np.sqrt(weights, dtype=np.float64)
    R = factored(X, y, roots, fit_intercept)
    if not out_of_range(np.abs(R).max(axis=0)).any():
        return R
    ones = np.ones((len(X), int(fit_intercept)))
    Z = np.hstack([X, ones, y], dtype=np.float64)
    if roots is not None:
        Z *= roots[:, np.newaxis]
    exponents = range_exponents(np.abs(Z).max(axis=0))
    if not exponents.any():
        return R
    Z = np.ldexp(Z, -exponents)
    return np.ldexp(factored(Z, Z[:, :0]), exponents)


def as_readable(array):
    """The array itself if the kernel can read it, else a copy in float64."""
    if array.dtype.isnative and array.dtype in (np.float64, np.float32) and array.flags.aligned:
        return array
    return array.astype(np.float64)


def out_of_range(sizes):
    """Which columns, of these largest numbers, are not factored as they are."""
    return ~((sizes > _LEAST) & (sizes < _MOST))


def range_exponents(sizes):
    """The exponents of the powers of two to divide columns by, 0 for those that need it not."""
    return np.where(out_of_range(sizes) & (sizes > 0) & np.isfinite(sizes), np.frexp(sizes)[1], 0)


def factored(X, y, roots=None, fit_intercept=False, above=None):
    """The factor (q, q) of the rows [X, 1, y]; with `above`, another factor, of the rows of both factors."""
    q = X.shape[1] + fit_intercept + y.shape[1]
    R = np.zeros((ceil_div(q, 8) * 8,) * 2)
    if above is not None:
        R[:q, :q] = above
    add_rows(R, X, fit_intercept, y, roots, above is not None)
    return R[:q, :q].copy()


def column_norms(A):
    """The Euclidean norms of the columns, even if their squares overflow or vanish; 1 for a column of zeros."""
    largest = np.abs(A).max(axis=0)
    largest[largest == 0] = 1
    return largest * np.maximum(np.linalg.norm(A / largest, axis=0), 1)


@np.errstate(all="ignore")
def join(first, *others):
    """The triangular factor of all their rows, (q, q)."""
    R = first
    for other in others:
        exponents = range_exponents(np.maximum(np.abs(R).max(axis=0), np.abs(other).max(axis=0)))
        other = np.ldexp(other, -exponents)
        R = np.ldexp(factored(other, other[:, :0], above=np.ldexp(R, -exponents)), exponents)
    return R * np.where(np.diagonal(R) < 0, -1.0, 1.0)[:, None]  # so that R depends on Z'Z alone
