"""One function per invariant. A message says what was expected, what came, and what to do."""

from __future__ import annotations

import math
import operator
import sys
from numbers import Complex, Number, Real

import numpy as np

from ._kernel import Problem, Settings, State, first_nonfinite

_FLOATS = (np.dtype(np.float64), np.dtype(np.float32))


def as_real(value, name):
    """`value` as an ndarray of float32 or float64, without a copy where it is one. Real numbers only."""
    if type(value) is np.ndarray and value.dtype in _FLOATS:
        return value
    if hasattr(value, "toarray") and not isinstance(value, np.ndarray):
        raise TypeError(f"{name} must be dense, got a sparse {type(value).__name__}; convert it with {name}.toarray()")
    if isinstance(value, np.ma.MaskedArray) and np.ma.is_masked(value):
        raise ValueError(
            f"{name} has {np.ma.count_masked(value)} masked entries; fill them, or drop their rows, before the fit"
        )
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise ValueError(f"{name} must be rectangular, with rows of one length ({error})") from None
    kind = array.dtype.kind
    if kind == "O":
        for i, item in np.ndenumerate(array):
            if not isinstance(item, Number) or (isinstance(item, Complex) and not isinstance(item, Real)):
                where = f" at index {', '.join(map(str, i))}" if i else ""
                raise TypeError(f"{name} must hold real numbers, got {item!r} of type {type(item).__name__}{where}")
    elif kind not in "fiub":
        raise TypeError(f"{name} must hold real numbers, got dtype {array.dtype}")
    dtype = np.float32 if array.dtype.newbyteorder("=") == np.float32 else np.float64
    with np.errstate(over="ignore"):  # a longdouble beyond float64 becomes infinite, and is refused as that
        return array.astype(dtype, copy=False)


def as_matrix(value, name):
    """`value` as a 2-D float array with at least one row and one column."""
    array = as_real(value, name)
    if array.ndim != 2:
        hint = f"; for a single feature use {name}.reshape(-1, 1)" if array.ndim == 1 else ""
        raise ValueError(f"{name} must be 2-D, (rows, columns), got shape {array.shape}{hint}")
    if array.size == 0:
        raise ValueError(f"{name} must have at least one row and one column, got shape {array.shape}")
    return array


def as_targets(value, n, name="y"):
    """`value` as a float array of shape (n,) or (n, k)."""
    array = as_real(value, name)
    if array.ndim not in (1, 2):
        raise ValueError(f"{name} must have shape ({n},) or ({n}, k), one row per row of X, got shape {array.shape}")
    if len(array) != n:
        raise ValueError(f"X and {name} must have the same number of rows, got {n} and {len(array)}")
    if array.size == 0:
        raise ValueError(f"{name} must have at least one target, got shape {array.shape}")
    return array


def as_weights(value, n, dtype):
    """`value` as contiguous weights of shape (n,), none negative, not all zero; and their sum."""
    array = as_real(value, "sample_weight")
    if array.ndim != 1:
        raise ValueError(f"sample_weight must have shape ({n},), got shape {array.shape}")
    if len(array) != n:
        raise ValueError(f"sample_weight must have one weight per row of X, {n}, got {len(array)}")
    weights = np.ascontiguousarray(array, dtype)
    check_finite(weights, "sample_weight")
    if weights.min() < 0:
        i = int(weights.argmin())
        raise ValueError(f"sample_weight must not be negative, got {weights[i]} at row {i}")
    total = float(weights.sum(dtype=np.float64))
    if not 0 < total < math.inf:
        raise ValueError(f"sample_weight must have a positive, finite sum, got {total}")
    return weights, total


def check_finite(array, name):
    """Refuses NaN and infinity, naming the first bad row (and column)."""
    by_columns = array.ndim == 2 and not array.flags.c_contiguous
    lines = np.ascontiguousarray(array.T if by_columns else array)
    bad = first_nonfinite(lines if lines.ndim == 2 else lines.reshape(1, -1))
    if bad is not None:
        line, element = bad
        if array.ndim == 1:
            where, at = (element,), f"row {element}"
        else:
            where = (element, line) if by_columns else (line, element)
            at = f"row {where[0]}, column {where[1]}"
        raise ValueError(f"{name} must be finite, got {array[where]} at {at}")


def as_problem(X, y, sample_weight, fit_intercept):
    """The data of a fit, as the kernel reads them, and the shape of one target's slot in the results: () or (k,).

    NaN and infinity pass: they make the first loss non-finite, and `refuse_nonfinite` then finds them. That spares
    good data a pass.
    """
    X = as_matrix(X, "X")
    y = as_targets(y, len(X))
    dtype = X.dtype if X.dtype == y.dtype else np.dtype(np.float64)
    layout = X.flags
    if not (layout.c_contiguous or layout.f_contiguous) or not layout.aligned or X.dtype != dtype:
        X = np.array(X, dtype, order="K" if layout.c_contiguous or layout.f_contiguous else "C")
        layout = X.flags
    by_columns = layout.f_contiguous and (X.shape[1] == 1 or not layout.c_contiguous)
    targets = y.reshape(1, -1) if y.ndim == 1 else y.T
    if targets.dtype != dtype or not targets.flags.c_contiguous or not targets.flags.aligned:
        targets = np.array(targets, dtype, order="C")
    weights, total = None, float(len(X))
    if sample_weight is not None:
        weights, total = as_weights(sample_weight, len(X), dtype)
    return Problem(X.T if by_columns else X, by_columns, targets, weights, total, fit_intercept), y.shape[1:]


def refuse_nonfinite(problem):
    """Raises ValueError if X or y holds NaN or infinity."""
    check_finite(problem.lines.T if problem.by_columns else problem.lines, "X")
    y = problem.targets.T
    check_finite(y[:, 0] if y.shape[1] == 1 else y, "y")


def as_state(problem, slot, coef0):
    """The start of a fit: zeros, or a copy of coef0, of shape (p,) + slot."""
    shape = (problem.p, problem.k)
    dtype = problem.lines.dtype
    if coef0 is None:
        coef = np.zeros(shape, dtype)
    else:
        coef = as_real(coef0, "coef0")
        if coef.shape != (problem.p, *slot):
            raise ValueError(
                f"coef0 must have shape {(problem.p, *slot)}, the features"
                f"{' then the intercept' if problem.fit_intercept else ''}, got {coef.shape}"
            )
        coef = np.array(coef, dtype, order="C")
        check_finite(coef, "coef0")
        coef = coef.reshape(shape)
    return State(coef, np.zeros(shape, dtype), np.full((4, problem.k), np.nan))


def as_number(value, name, high=math.inf, *, below=False):
    """`value` as a finite float in [0, high], or in [0, high) with below=True."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, Real):
        raise TypeError(f"{name} must be a number, got {value!r} of type {type(value).__name__}")
    number = float(value)
    if not (0 <= number <= high) or number == math.inf or (below and number == high):
        interval = f"in [0, {high:g}{')' if below else ']'}"
        expected = "finite and not negative" if high == math.inf else interval
        raise ValueError(f"{name} must be {expected}, got {value!r}")
    return number


def as_count(value, name):
    """`value` as an int of at least 1."""
    if isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} must be a whole number, got {value!r}")
    try:
        count = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be a whole number, got {value!r} of type {type(value).__name__}") from None
    if not 1 <= count <= sys.maxsize:
        raise ValueError(f"{name} must be at least 1{' and at most sys.maxsize' if count > 1 else ''}, got {count}")
    return count


def as_flag(value, name):
    """`value` as a bool."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} must be True or False, got {value!r}")
    return bool(value)


def as_settings(lr, momentum, dampening, nesterov, weight_decay, tol):
    """The constants of the update, as the kernel reads them."""
    lr = as_number(lr, "lr")
    momentum = as_number(momentum, "momentum", 1, below=True)
    dampening = momentum if dampening is None else as_number(dampening, "dampening", 1)
    return Settings(
        np.array([[lr, momentum, 1 - dampening]]),
        as_flag(nesterov, "nesterov"),
        as_number(weight_decay, "weight_decay"),
        -1.0 if tol is None else as_number(tol, "tol"),
    )
