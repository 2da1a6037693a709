"""What a valid reduction is: types, shapes and ranges of its parts, and how these go together.

Reductions that are saved, loaded, unpickled, merged or fitted are checked here. All checks raise ValueError.
"""

import math

import numpy as np

from .._kernel import is_triangular
from .._results.checks import FLOATS, check_array, check_count, check_names, expect, refuse
from .._validation import raise_if_foreign


def check_reduction(reduced, *, some_rows=False):
    """Refuses a Compressed whose parts are not what they should be, or don't go together.

    The sum of the weights must be positive, unless the Compressed stands for some of the rows alone.
    """
    try:
        _check_reduction(reduced, some_rows)
    except AttributeError as error:
        raise_if_foreign(error)
        raise ValueError(f"a part is missing, or of another kind ({error})") from None


def _check_reduction(reduced, some_rows):
    d, target_shape = check_count(reduced.n_features, "n_features", 1), reduced.target_shape
    expect(type(target_shape) is tuple and len(target_shape) <= 1, "target_shape", "be () or (k,)", target_shape)
    k = check_count(target_shape[0], "target_shape", 1) if target_shape else 1
    expect(type(reduced.fit_intercept) is bool, "fit_intercept", "be True or False", reduced.fit_intercept)
    valid = isinstance(reduced.dtype, np.dtype) and reduced.dtype in FLOATS
    expect(valid, "dtype", "be float32 or float64", reduced.dtype)
    check_names(reduced.feature_names, d)
    check_count(reduced.n_rows, "n_rows", 1)
    total = reduced.total_weight
    if not isinstance(total, float) or not (total >= 0 if some_rows else total > 0) or total == math.inf:
        refuse("total_weight", f"be a {'non-negative' if some_rows else 'positive'}, finite float", total)
    _check_factor(reduced.R, "R", d + reduced.fit_intercept + k)


def _check_factor(R, name, q, leaf=False):
    """A triangular factor of q columns. That of a leaf has a diagonal of any sign."""
    check_array(R, name, (q, q), np.dtype(np.float64), finite=True)
    valid = is_triangular(R) and (leaf or (np.diagonal(R) >= 0).all())
    expect(valid, name, "be upper triangular, with no negative number on its diagonal", "another matrix")


def check_levels(levels, n_leaves, n_rows):
    """Refuses levels [(height, R)] unless their tree holds n_leaves leaves, and n_rows is at least one row for each."""
    leaves = 0
    last = 62  # no tree has 2**62 leaves
    for height, _ in levels:
        check_count(height, "heights", 0, last)
        last = height - 1
        leaves += 2**height
    if not levels or type(n_leaves) is not int or leaves != n_leaves:
        refuse("n_leaves", f"be {leaves}, as the heights say", n_leaves)
    check_count(n_rows, "n_rows", n_leaves)
    q = levels[0][1].shape[-1] if isinstance(levels[0][1], np.ndarray) and levels[0][1].ndim else 0
    for height, R in levels:
        _check_factor(R, f"R of height {height}", q, leaf=not height)
