"""The QR reduction: any number of rows, read once, become the few rows of a triangular factor.

Let Z = [X, 1, Y], with the ones only if there is an intercept, and with rows scaled by the square roots of the weights;
and Z = Q R. Loss and gradient depend on Z'Z = R'R alone. So R's columns, with the original sum of weights, have the
loss and the gradient of (X, Y), without the cancellation that computing Z'Z would bring. The factors of panels of rows
are stacked and factored again.
"""

import numpy as np

_PANEL_BYTES = 1 << 19  # of a panel: float64 rows that are factored at once, in the second-level cache
_LEAF_PANELS = 32  # of a leaf, at most; a thread factors a leaf, and the factors of leaves are joined in a tree
_LEAF_BYTES = 3 << 23  # of a leaf, unless a single panel is larger


def panel_rows(q):
    """How many rows of q float64 columns make a panel."""
    return max(_PANEL_BYTES // (8 * q), 4 * q)


def leaf_rows(q):
    """How many rows make a leaf: whole panels."""
    rows = panel_rows(q)
    return rows * max(1, min(_LEAF_PANELS, _LEAF_BYTES // (8 * q * rows)))


@np.errstate(all="ignore")  # an overflow shows in the factor
def factor_rows(X, y, weights, fit_intercept):
    """The factor of one leaf's rows: of each panel, and then of these factors together.

    One call of numpy factors all panels. It lets other threads run if there are sixteen panels or more.
    """
    n, d = X.shape
    y = y.reshape(n, -1)
    q = d + fit_intercept + y.shape[1]
    rows = panel_rows(q)
    count = n // rows
    Z = np.empty((n, q))
    Z[:, :d] = X
    if fit_intercept:
        Z[:, d] = 1
    Z[:, d + fit_intercept :] = y
    if weights is not None:
        Z *= np.sqrt(weights[:, None], dtype=np.float64)
    parts = Z[count * rows :]  # the rows after the last panel
    if count:
        factors = np.linalg.qr(Z[: count * rows].reshape(count, rows, q), mode="r")
        parts = np.vstack([factors.reshape(count * q, q), parts])
    return np.linalg.qr(parts, mode="r")


def column_norms(A):
    """The Euclidean norms of the columns, even if their squares overflow or vanish; 1 for a column of zeros."""
    largest = np.abs(A).max(axis=0)
    largest[largest == 0] = 1
    return largest * np.maximum(np.linalg.norm(A / largest, axis=0), 1)


@np.errstate(all="ignore")
def join(*factors):
    """The triangular factor of all their rows, (q, q)."""
    R = np.linalg.qr(np.vstack(factors), mode="r")
    q = R.shape[1]
    if len(R) < q:
        R = np.vstack([R, np.zeros((q - len(R), q))])
    R *= np.where(np.diagonal(R) < 0, -1.0, 1.0)[:, None]  # with a non-negative diagonal, R depends on Z'Z alone
    return R
