"""The data of a fit, checked once, as the kernel reads them."""

import math
from typing import Any

import numpy as np

from .._kernel import Problem as KernelProblem
from .._results.checkpoint import restore_generator
from .._validation import as_matrix, as_targets, as_weights, by_name, check_finite, column_names, for_kernel, weight_sum

_FLOAT64 = np.dtype(np.float64)


class Problem(KernelProblem):
    """Checked rows, or their reduction.

    Attributes
    ----------
    target_shape : tuple of int
        The shape of one value per target: () for y of shape (n,), (k,) for (n, k).
    feature_names : tuple of str, or None
    method : {"direct", "compress"}
        Whether these are the rows, or the triangular factor of them.
    reduction : Compressed or None
        The reduction of the rows, where there is one.
    scaling : Scaling or None
        The coordinates of a standardized descent.
    """

    __slots__ = "feature_names", "method", "reduction", "scaling", "target_shape"

    target_shape: tuple[int, ...]
    feature_names: tuple[str, ...] | None
    method: str
    reduction: Any
    scaling: Any

    @property
    def has_intercept(self):
        """Whether the last parameter is an intercept."""
        return self.p > self.features

    @property
    def X(self):
        """The rows (n, d)."""
        return self.lines.T if self.by_columns else self.lines

    @property
    def y(self):
        """The targets, (n,) or (n, k)."""
        return self.targets.T.reshape(self.n, *self.target_shape)

    def with_targets(self, targets):
        """The kernel's problem with the same rows and other targets, (k, n)."""
        return KernelProblem(
            self.lines, self.by_columns, targets, self.weights, self.total_weight, self.fit_intercept, self.features,
            self.triangular,
        )  # fmt: skip

    def refuse_nonfinite(self, whose=""):
        """Raises ValueError if X or y holds NaN or infinity."""
        check_finite(self.X, f"{whose}X", names=self.feature_names)
        y = self.targets.T
        check_finite(y[:, 0] if y.shape[1] == 1 else y, f"{whose}y")


def as_problems(X, y, sample_weight, validation, options):
    """The problem of a fit, and that of its held-out rows or None."""
    if y is None:
        raise TypeError("y must be given: only a Compressed goes without")
    names, init = column_names(X), options.init
    if init is not None and init.feature_names is not None:
        X, names = by_name(X, init.feature_names), init.feature_names
    if options.fraction is not None:
        problem, held_out = hold_out(X, y, sample_weight, options)
    else:
        problem, held_out = as_problem(X, y, sample_weight, options.fit_intercept), None
        if validation is not None:
            held_out = as_validation(validation, problem, names)
    problem.feature_names = names
    return problem, held_out


def as_problem(X, y, sample_weight=None, fit_intercept=False, dtype=None, whose=""):
    """The problem of these data, in this dtype or in that of the results.

    NaN and infinity are not looked for, which spares good data a pass: they make the first loss non-finite, and
    `Problem.refuse_nonfinite` then finds them.
    """
    X = as_matrix(X, f"{whose}X")
    y = as_targets(y, len(X), f"{whose}y", f"{whose}X and y")
    if dtype is None:
        dtype = X.dtype if X.dtype == y.dtype else _FLOAT64
    weights, total = None, float(len(X))
    if sample_weight is not None:
        weights, total = as_weights(sample_weight, len(X), dtype, name=f"{whose}sample_weight")
    return _assembled(X, y, weights, total, fit_intercept, dtype)


def _assembled(X, y, weights, total_weight, fit_intercept, dtype):
    """The problem of checked arrays, which are copied where the kernel can't read them in place."""
    layout = X.flags
    by_columns = layout.f_contiguous and not layout.c_contiguous
    targets = for_kernel(y[np.newaxis] if y.ndim == 1 else y.T, dtype)
    lines = for_kernel(X.T if by_columns else X, dtype)
    problem = Problem(lines, by_columns, targets, weights, total_weight, fit_intercept)
    problem.target_shape, problem.feature_names = y.shape[1:], None
    problem.method, problem.reduction, problem.scaling = "direct", None, None
    return problem


def as_validation(validation, problem, names):
    """The problem of held-out data, (X, y) or (X, y, sample_weight), which must go with the problem and be finite."""
    if not isinstance(validation, (tuple, list)):
        raise TypeError("validation can only be a Compressed where X is one")
    if len(validation) not in (2, 3):
        raise TypeError("validation must be (X, y), (X, y, sample_weight) or a fraction of the rows")
    X, y, weights = validation if len(validation) == 3 else (*validation, None)
    X = by_name(X, names, "validation's X")
    held_out = as_problem(X, y, weights, problem.fit_intercept, problem.lines.dtype, "validation's ")
    if held_out.d != problem.d or held_out.target_shape != problem.target_shape:
        raise ValueError(
            f"validation must have the columns and targets of X and y, {problem.d} and {problem.target_shape}, "
            f"got {held_out.d} and {held_out.target_shape}"
        )
    held_out.refuse_nonfinite("validation's ")
    return held_out


def hold_out(X, y, sample_weight, options):
    """The problem without a random fraction of the rows, and that of these rows.

    The fraction is rounded up to whole rows. They are the first of the generator's permutation.
    """
    X = as_matrix(X, "X")
    y = as_targets(y, len(X))
    check_finite(X, "X")  # before the rows are separated, so that messages have their numbers in X
    check_finite(y, "y")
    dtype = X.dtype if X.dtype == y.dtype else _FLOAT64
    weights = None if sample_weight is None else as_weights(sample_weight, len(X), dtype)[0]
    count = math.ceil(round(options.split["fraction"] * len(X), 6))
    if not 0 < count < len(X):
        raise ValueError(
            f"validation must leave rows on both sides, got the fraction {options.fraction} of {len(X)} rows"
        )
    chooser = restore_generator(options.split["state"], "the row generator")
    chosen = np.zeros(len(X), bool)
    chosen[chooser.permutation(len(X))[:count]] = True
    if options.init is None or options.init.checkpoint.generator is None:  # the generator is new
        options.generator.bit_generator.state = chooser.bit_generator.state

    def part(rows, whose=""):
        if weights is None:
            return _assembled(X[rows], y[rows], None, float(np.count_nonzero(rows)), options.fit_intercept, dtype)
        own = weights[rows]
        total = weight_sum(own, f"{whose}sample_weight")
        return _assembled(X[rows], y[rows], own, total, options.fit_intercept, dtype)

    return part(~chosen), part(chosen, "validation's ")
