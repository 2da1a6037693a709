"""One function per invariant, whose message says what was expected, what came, what to do. Also casts, column names."""

import math
import operator
import os
import sys
from numbers import Complex, Integral, Number, Real

import numpy as np

_FLOAT64 = np.dtype(np.float64)
_FLOATS = (_FLOAT64, np.dtype(np.float32))
_FINITE_AT_ONCE = 1_000_000  # elements that check_finite looks at together


def raise_if_foreign(error):
    """Re-raises an error that neither Python nor NumPy defines: a signal handler raised it."""
    if type(error).__module__.partition(".")[0] not in ("builtins", "numpy"):
        raise error


def as_real(value, name, convert=True):
    """`value`, real numbers, as an ndarray of float32 or float64; the same array where it is one already.

    With convert=False an array of another real dtype is returned as it is.
    """
    if type(value) is np.ndarray and (value.dtype is _FLOAT64 or value.dtype in _FLOATS):
        return value
    if isinstance(value, str):
        advice = "read the file first" if name.endswith("X") else f"pass the column itself, like table[{value!r:.40}]"
        raise TypeError(f"{name} must hold real numbers, got the text {value!r:.40}; {advice}")
    if hasattr(value, "toarray") and not isinstance(value, np.ndarray):
        raise TypeError(f"{name} must be dense, got a sparse {type(value).__name__}; convert it with {name}.toarray()")
    if not hasattr(value, "__array__") and (hasattr(value, "collect") or hasattr(value, "__arrow_c_stream__")):
        raise TypeError(
            f"{name} must be in memory, got a {type(value).__name__}; collect it, or reduce it by "
            "sgdm.compress(table, target=...)"
        )
    if isinstance(value, (list, tuple)) and any(isinstance(item, np.ma.MaskedArray) for item in value):
        value = np.ma.stack(value)
    if isinstance(value, np.ma.MaskedArray) and np.ma.is_masked(value):
        raise ValueError(
            f"{name} has {np.ma.count_masked(value)} masked entries; fill them, or drop their rows, before the fit"
        )
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise_if_foreign(error)
        raise ValueError(f"{name} must be rectangular, with rows of one length ({error})") from None
    if array.dtype in _FLOATS:
        return array
    kind = array.dtype.kind
    if kind == "O":
        for i, item in np.ndenumerate(array):
            if not isinstance(item, Number) or (isinstance(item, Complex) and not isinstance(item, Real)):
                where = f" at index {', '.join(map(str, i))}" if i else ""
                raise TypeError(f"{name} must hold real numbers, got {item!r} of type {type(item).__name__}{where}")
    elif kind not in "fiub":
        raise TypeError(f"{name} must hold real numbers, got dtype {array.dtype}")
    elif not convert:
        return array
    dtype = np.float32 if array.dtype.newbyteorder("=") == np.float32 else np.float64
    try:
        with np.errstate(all="ignore"):  # a longdouble beyond float64 becomes infinite, which is refused later
            return array.astype(dtype, copy=False)
    except OverflowError as error:
        raise_if_foreign(error)
        raise ValueError(f"{name} must hold numbers that float64 can hold, got a larger integer") from None
    except (TypeError, ValueError) as error:  # of other number classes, such as Decimal("sNaN")
        raise_if_foreign(error)
        raise ValueError(f"{name} must hold numbers that float64 can hold ({error})") from None


def as_matrix(value, name, convert=True):
    """`value` as a 2-D array with at least one row and one column; `convert` is that of `as_real`."""
    try:
        array = as_real(value, name, convert)
    except (TypeError, ValueError) as error:
        raise_if_foreign(error)
        for j, column in enumerate(column_names(value) or ()):  # names the column at fault
            values = value.iloc[:, j] if hasattr(value, "iloc") else value[column]
            as_column(values, f"column {column!r}", count_missing(values))
        raise
    if array.ndim != 2:
        column = "to_frame()" if hasattr(value, "to_frame") else "reshape(-1, 1)"
        hint = f"; for a single feature use {name}.{column}" if array.ndim == 1 else ""
        raise ValueError(f"{name} must be 2-D, (rows, columns), got shape {array.shape}{hint}")
    if array.size == 0:
        raise ValueError(f"{name} must have at least one row and one column, got shape {array.shape}")
    return array


def count_missing(values):
    """How many values of a table's column are missing."""
    if hasattr(values, "null_count"):  # Arrow's is a number, that of polars a method
        return values.null_count() if callable(values.null_count) else values.null_count
    return int(values.isna().sum()) if hasattr(values, "isna") else 0


def refuse_missing(count, called):
    """Raises ValueError if so many values of a table's column are missing."""
    if count:
        raise ValueError(f"{called} has {count} missing value{'s' * (count > 1)}; fill them, or leave their rows out")


def as_column(values, called, missing=0):
    """A table's column as an array of real, finite numbers. missing: how many of its values are."""
    refuse_missing(missing, called)
    array = np.asarray(values)
    kind = array.dtype.kind
    if kind in "US" or (kind == "O" and any(isinstance(value, str) for value in array.flat)):
        raise TypeError(f"{called} holds text; encode it (OneHotEncoder), or leave it out")
    if kind in "mM":
        raise TypeError(f"{called} holds times; convert them to numbers, or leave it out")
    array = as_real(array, called)
    check_finite(array, called)
    return array


def column_names(X):
    """The names of a table's columns, as a tuple; None where X is no table, or a name is not a str."""
    if type(X) is np.ndarray or hasattr(X, "collect"):  # a lazy frame, whose names may be costly
        return None
    names = getattr(X, "column_names", None)  # Arrow's
    if names is None:
        names = getattr(X, "columns", None)  # those of pandas and polars
    names = () if names is None else tuple(names)
    return names if names and all(isinstance(name, str) for name in names) else None


def by_name(X, names, name="X"):
    """X's columns in the order of `names` if X has column names too; else X itself."""
    own = None if names is None else column_names(X)
    if own is None or own == names:
        return X
    if missing := [repr(column) for column in names if column not in own]:
        raise ValueError(
            f"{name} must have the columns of the fit; it has no {', '.join(missing[:10])}, but "
            f"{', '.join(map(repr, own[:10]))}"
        )
    return X.select(list(names)) if hasattr(X, "column_names") else X[list(names)]


def as_targets(value, n, name="y", both="X and y"):
    """`value` as a float array of shape (n,) or (n, k)."""
    array = as_real(value, name)
    if array.ndim not in (1, 2):
        expected = f"({n},) or ({n}, k), one row per row of X"
        raise ValueError(f"{name} must have shape {expected}, got shape {array.shape}")
    if len(array) != n:
        raise ValueError(f"{both} must have the same number of rows, got {n} and {len(array)}")
    if array.size == 0:
        raise ValueError(f"{name} must have at least one target, got shape {array.shape}")
    return array


def as_weights(value, n, dtype, positive=True, name="sample_weight"):
    """`value` as contiguous weights of shape (n,), none negative, and their sum, which must be positive by default."""
    array = as_real(value, name)
    if array.ndim != 1:
        raise ValueError(f"{name} must have shape ({n},), got shape {array.shape}")
    if len(array) != n:
        raise ValueError(f"{name} must have one weight per row of X, {n}, got {len(array)}")
    weights = for_kernel(array, dtype)
    check_finite(weights, name)
    if weights.min() < 0:
        i = int(weights.argmin())
        raise ValueError(f"{name} must not be negative, got {weights[i]} at row {i}")
    return weights, weight_sum(weights, name, positive)


@np.errstate(all="ignore")
def weight_sum(weights, name="sample_weight", positive=True):
    """The sum of the weights, which must be finite, and positive by default."""
    total = float(weights.sum(dtype=np.float64))
    if not total < math.inf or (positive and not total > 0):
        raise ValueError(f"{name} must have a positive, finite sum, got {total}")
    return total


def check_finite(array, name, axes=("row", "column"), names=None):
    """Refuses NaN and infinity. The message names the first bad row (and column, by its place or its name)."""
    rows = max(1, _FINITE_AT_ONCE // max(1, array[:1].size))
    for start in range(0, len(array), rows):
        finite = np.isfinite(array[start : start + rows])
        if not finite.all():
            first = np.argwhere(~finite)[0]
            first[0] += start
            if names is not None:
                column = first[1]
                refuse_missing(int(np.isnan(array[:, column]).sum()), f"column {names[column]!r}")
            at = ", ".join(f"{axis} {i}" for axis, i in zip(axes, first, strict=False))
            at += f", {names[first[1]]!r}" if names is not None else ""
            raise ValueError(f"{name} must be finite, got {array[tuple(first)]} at {at}")


def as_number(value, name, high=math.inf, *, below=False):
    """`value` as a finite float in [0, high], or in [0, high) with below=True."""
    if type(value) is float and 0 <= value < high:
        return value
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value[()]
    if type(value) is not float and (isinstance(value, (bool, np.bool_)) or not isinstance(value, Real)):
        raise TypeError(f"{name} must be a number, got {value!r:.80} of type {type(value).__name__}")
    try:
        number = float(value)
    except OverflowError as error:
        raise_if_foreign(error)
        number = math.inf
    if not (0 <= number <= high) or number == math.inf or (below and number == high):
        interval = f"in [0, {high:g}{')' if below else ']'}"
        expected = "finite and not negative" if high == math.inf else interval
        raise ValueError(f"{name} must be {expected}, got {value!r}")
    return number


def as_penalty(value, name, d=None):
    """`value` as a number of at least 0, or as one for each of d columns. With d None the count is not checked."""
    if type(value) is float and 0 <= value < math.inf:
        return value
    if type(value) is float or ndim_of(value, name) == 0:
        return as_number(value, name)
    array = as_real(value, name).astype(float)
    if array.ndim != 1 or (d is not None and len(array) != d):
        columns = "column" if d is None else f"of the {d} columns"
        raise ValueError(f"{name} must be a number, or one for each {columns}, got shape {array.shape}")
    for j in np.flatnonzero(~((array >= 0) & (array < np.inf)))[:1]:
        raise ValueError(f"{name} must be finite and not negative, got {array[j]} for column {j}")
    return array


def as_count(value, name):
    """`value` as an int of at least 1."""
    if type(value) is int and 1 <= value <= sys.maxsize:
        return value
    if isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} must be a whole number, got {value!r}")
    try:
        count = operator.index(value)
    except TypeError as error:
        raise_if_foreign(error)
        raise TypeError(f"{name} must be a whole number, got {value!r:.80} of type {type(value).__name__}") from None
    if not 1 <= count <= sys.maxsize:
        raise ValueError(f"{name} must be at least 1{' and at most sys.maxsize' if count > 1 else ''}, got {count}")
    return count


def as_threads(value):
    """`n_threads` as an int of at least 1. -1 stands for all CPUs that this process may use."""
    if isinstance(value, Integral) and value == -1:
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if isinstance(value, Integral) and value < 1 and value is not False:
        raise ValueError(f"n_threads must be at least 1, got {value}; -1 stands for all CPUs")
    return as_count(value, "n_threads")


def as_flag(value, name):
    """`value` as a bool."""
    if value is True or value is False:
        return value
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} must be True or False, got {value!r:.80}")
    return bool(value)


def ndim_of(value, name):
    """numpy.ndim; ragged lists are refused with the message of `as_real`."""
    try:
        return np.ndim(value)
    except ValueError as error:
        raise_if_foreign(error)
        as_real(value, name)
        raise


def as_series(value, name, count, of="epochs", start=0, high=math.inf, *, below=False):
    """`value` as a number in [0, high], or as an array of such numbers: one for each of the `count` fits, or of the
    `count` epochs from `start`. A function of the epoch gives the array too."""
    if type(value) is float and 0 <= value < high:
        return value
    if callable(value) and of == "epochs":
        value = [value(epoch) for epoch in range(start, start + count)]
    if isinstance(value, str) and value.lower() == "auto":
        advice = 'fit knows "auto"' if of == "epochs" else "for constants from the data, see Compressed.tune"
        raise TypeError(f"{name} must be a number, got {value!r} of type str; {advice}")
    if isinstance(value, (Real, str, bytes, np.bool_)) or value is None or ndim_of(value, name) == 0:
        return as_number(value, name, high, below=below)
    array = as_real(value, name)
    boolean = isinstance(value, (list, tuple)) and any(isinstance(item, (bool, np.bool_)) for item in value)
    if boolean or np.asarray(value).dtype == bool:
        raise TypeError(f"{name} must hold real numbers, got True or False")
    if array.shape != (count,):
        function = " a function of the epoch," if of == "epochs" else ""
        raise ValueError(
            f"{name} must be a number,{function} or one value for each of the {count} {of}, got shape {array.shape}"
        )
    for i in np.flatnonzero(~((array >= 0) & (array <= high) & (array < np.inf)) | (below & (array == high)))[:1]:
        as_number(float(array[i]), f"{name} at {of[:-1]} {start + i}", high, below=below)
    return array.astype(np.float64)


def ceil_div(a, b):
    """a / b, rounded up to a whole number. Exact for ints of any size."""
    return -(-a // b)


def cast(array, dtype):
    """A C-order copy of the array in this dtype. What the dtype can't hold becomes infinite, or 0."""
    if array.dtype is dtype:
        return array.copy()
    with np.errstate(all="ignore"):
        return array.astype(dtype, order="C")


def for_kernel(array, dtype):
    """The array itself if the kernel can read it, else a copy."""
    flags = array.flags
    same = array.dtype is dtype or array.dtype == dtype
    return array if same and flags.c_contiguous and flags.aligned else cast(array, dtype)
