"""One function per invariant. A message says what was expected, what came, and what to do."""

from __future__ import annotations

import math
import operator
import sys
from numbers import Complex, Number, Real

import numpy as np

from ._kernel import Problem

_FLOAT64 = np.dtype(np.float64)
_FLOATS = (_FLOAT64, np.dtype(np.float32))
_FINITE_AT_ONCE = 1_000_000  # elements that check_finite looks at together


def pass_on(error):
    """Raises the error again if its class is neither Python's nor NumPy's: a signal handler's is not to be reworded."""
    if type(error).__module__.partition(".")[0] not in ("builtins", "numpy"):
        raise error


def as_real(value, name, convert=True):
    """`value` as an ndarray of float32 or float64, without a copy where it is one. Real numbers only.

    With convert=False an array of another real dtype stays what it is.
    """
    if type(value) is np.ndarray and (value.dtype is _FLOAT64 or value.dtype in _FLOATS):
        return value
    if hasattr(value, "toarray") and not isinstance(value, np.ndarray):
        raise TypeError(f"{name} must be dense, got a sparse {type(value).__name__}; convert it with {name}.toarray()")
    if isinstance(value, (list, tuple)) and any(isinstance(item, np.ma.MaskedArray) for item in value):
        value = np.ma.stack(value)
    if isinstance(value, np.ma.MaskedArray) and np.ma.is_masked(value):
        raise ValueError(
            f"{name} has {np.ma.count_masked(value)} masked entries; fill them, or drop their rows, before the fit"
        )
    try:
        array = np.asarray(value)
    except ValueError as error:
        pass_on(error)
        raise ValueError(f"{name} must be rectangular, with rows of one length ({error})") from None
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
        with np.errstate(all="ignore"):  # a longdouble beyond float64 becomes infinite, and is refused as that
            return array.astype(dtype, copy=False)
    except OverflowError as error:
        pass_on(error)
        raise ValueError(f"{name} must hold numbers that float64 can hold, got a larger integer") from None
    except (TypeError, ValueError) as error:  # of other classes of numbers: Decimal("sNaN")
        pass_on(error)
        raise ValueError(f"{name} must hold numbers that float64 can hold ({error})") from None


def as_matrix(value, name, convert=True):
    """`value` as a 2-D float array with at least one row and one column."""
    array = as_real(value, name, convert)
    if array.ndim != 2:
        hint = f"; for a single feature use {name}.reshape(-1, 1)" if array.ndim == 1 else ""
        raise ValueError(f"{name} must be 2-D, (rows, columns), got shape {array.shape}{hint}")
    if array.size == 0:
        raise ValueError(f"{name} must have at least one row and one column, got shape {array.shape}")
    return array


def names_of(X):
    """The names of a table's columns, as a tuple; None where X is no table, or a name is not a str."""
    if type(X) is np.ndarray:
        return None
    names = getattr(X, "column_names", None)  # Arrow's
    if names is None:
        names = getattr(X, "columns", None)  # those of pandas and polars
    names = () if names is None else tuple(names)
    return names if names and all(isinstance(name, str) for name in names) else None


def by_name(X, names, name="X"):
    """X's columns in the order of `names` if X has column names too; else X unchanged."""
    own = None if names is None else names_of(X)
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
    """`value` as contiguous weights of shape (n,), none negative, and not all zero unless told; and their sum."""
    array = as_real(value, name)
    if array.ndim != 1:
        raise ValueError(f"{name} must have shape ({n},), got shape {array.shape}")
    if len(array) != n:
        raise ValueError(f"{name} must have one weight per row of X, {n}, got {len(array)}")
    weights = in_place(array, dtype)
    check_finite(weights, name)
    if weights.min() < 0:
        i = int(weights.argmin())
        raise ValueError(f"{name} must not be negative, got {weights[i]} at row {i}")
    with np.errstate(all="ignore"):
        total = float(weights.sum(dtype=np.float64))
    if not total < math.inf or (positive and not total > 0):
        raise ValueError(f"{name} must have a positive, finite sum, got {total}")
    return weights, total


def check_finite(array, name, axes=("row", "column")):
    """Refuses NaN and infinity, naming the first bad row (and column)."""
    rows = max(1, _FINITE_AT_ONCE // max(1, array[:1].size))
    for start in range(0, len(array), rows):
        bad = np.argwhere(~np.isfinite(array[start : start + rows]))
        if len(bad):
            bad[0, 0] += start
            at = ", ".join(f"{axis} {i}" for axis, i in zip(axes, bad[0], strict=False))
            raise ValueError(f"{name} must be finite, got {array[tuple(bad[0])]} at {at}")


def in_place(array, dtype):
    """The array itself if the kernel can read it, else a copy."""
    flags = array.flags
    same = array.dtype is dtype or array.dtype == dtype
    return array if same and flags.c_contiguous and flags.aligned else cast(array, dtype)


def cast(array, dtype):
    """A new C-order array of the dtype; what is too large for it becomes infinite, for `check_finite` to find."""
    with np.errstate(all="ignore"):
        return np.array(array, dtype, order="C")


def as_problem(X, y, sample_weight, fit_intercept, dtype=None, whose=""):
    """The data of a fit, as the kernel reads them, and the shape of one target's slot in the results: () or (k,).

    NaN and infinity pass: they make the first loss non-finite, and `refuse_nonfinite` then finds them. That spares
    good data a pass.
    """
    X = as_matrix(X, f"{whose}X")
    y = as_targets(y, len(X), f"{whose}y", f"{whose}X and y")
    if dtype is None:
        dtype = X.dtype if X.dtype == y.dtype else np.dtype(np.float64)
    layout = X.flags
    by_columns = layout.f_contiguous and not layout.c_contiguous
    targets = in_place(y[np.newaxis] if y.ndim == 1 else y.T, dtype)
    weights, total = None, float(len(X))
    if sample_weight is not None:
        weights, total = as_weights(sample_weight, len(X), dtype, name=f"{whose}sample_weight")
    lines = in_place(X.T if by_columns else X, dtype)
    return Problem(lines, by_columns, targets, weights, total, fit_intercept), y.shape[1:]


def as_validation(validation, problem, slot, names):
    """The held-out data of `validation`, (X, y) or (X, y, sample_weight), which must fit the problem's; finite."""
    if len(validation) not in (2, 3):
        raise TypeError("validation must be (X, y), (X, y, sample_weight) or a fraction of the rows")
    X, y, weights = validation if len(validation) == 3 else (*validation, None)
    X = by_name(X, names, "validation's X")
    held_out, held_slot = as_problem(X, y, weights, problem.fit_intercept, problem.lines.dtype, "validation's ")
    if held_out.d != problem.d or held_slot != slot:
        raise ValueError(
            f"validation must have the columns and targets of X and y, {problem.d} and {slot}, "
            f"got {held_out.d} and {held_slot}"
        )
    refuse_nonfinite(held_out, "validation's ")
    return held_out


def as_generator(seed, init, permuted, fraction):
    """The row generator, and how it chose the validation rows: its state before and the fraction; or None each."""
    if not permuted and fraction is None:
        return None, None
    if init is not None and init.checkpoint.generator is not None:
        was = init.checkpoint.split and init.checkpoint.split["fraction"]
        if fraction is not None and fraction != was:
            raise ValueError(f"validation must be given as for init, whose fraction was {was}, got {fraction!r}")
        return restore_generator(init.checkpoint.generator), init.checkpoint.split
    if isinstance(seed, (bool, np.bool_)):
        raise TypeError(f"seed must be an int, a SeedSequence or a Generator, got {seed!r}")
    try:
        generator = np.random.default_rng(seed)
    except (TypeError, ValueError) as error:
        pass_on(error)
        raise type(error)(
            f"seed must be an int of at least 0, a SeedSequence or a Generator, got {seed!r:.80} ({error})"
        ) from None
    if fraction is None:
        return generator, None
    fraction = as_number(fraction, "validation", 1, below=True)
    return generator, {"state": generator.bit_generator.state, "fraction": fraction}


_POSITIONS = {"pos": "key", "buffer_pos": "buffer"}  # of which arrays: numpy takes any, and then reads there


def restore_generator(state, name="init's row generator"):
    """A numpy Generator in the given state of its bit generator; ValueError if it can't be in that state."""
    kind = getattr(np.random, state["bit_generator"], None)
    known = isinstance(kind, type) and issubclass(kind, np.random.BitGenerator) and kind is not np.random.BitGenerator
    if not known:
        raise ValueError(f"{name} is of an unknown kind, {state['bit_generator']!r}")
    bit_generator = kind(0)
    right = alike(state, bit_generator.state)
    if right:
        try:
            bit_generator.state = state
        except (TypeError, ValueError, OverflowError) as error:  # numbers that its generators can't hold
            pass_on(error)
            right = False
    if not right or not same(state, bit_generator.state):
        raise ValueError(f"{name} must be a state of numpy's {kind.__name__}, got {state!r:.80}")
    return np.random.Generator(bit_generator)


def alike(state, example):
    """Whether the state of a bit generator has the parts of the example, with numbers it can work with."""
    if isinstance(example, dict):
        return (
            isinstance(state, dict)
            and state.keys() == example.keys()
            and all(alike(state[part], example[part]) for part in example)
            and all(0 <= state[at] <= len(state[array]) for at, array in _POSITIONS.items() if at in example)
        )
    if isinstance(example, np.ndarray):
        return isinstance(state, np.ndarray) and (state.dtype, state.shape) == (example.dtype, example.shape)
    return type(state) is type(example) and (not isinstance(example, int) or state >= 0)  # NumPy 1 casts -1, and warns


def same(state, other):
    """Whether two states of bit generators that are alike are equal."""
    if isinstance(other, dict):
        return all(same(state[part], other[part]) for part in other)
    return np.array_equal(state, other) if isinstance(other, np.ndarray) else state == other


def hold_out(X, y, sample_weight, fraction, generator, split, init):
    """X, y and weights without a random fraction of the rows, rounded up, and those rows as `validation`: the first of
    the generator's permutation."""
    X = as_matrix(X, "X")
    y = as_targets(y, len(X))
    check_finite(X, "X")  # here, by the rows' own numbers
    check_finite(y, "y")
    count = math.ceil(round(split["fraction"] * len(X), 6))
    if not 0 < count < len(X):
        raise ValueError(f"validation must leave rows on both sides, got the fraction {fraction} of {len(X)} rows")
    chooser = restore_generator(split["state"])
    chosen = np.zeros(len(X), bool)
    chosen[chooser.permutation(len(X))[:count]] = True
    if init is None:
        generator.bit_generator.state = chooser.bit_generator.state
    if sample_weight is None:
        return X[~chosen], y[~chosen], None, (X[chosen], y[chosen])
    weights, _ = as_weights(sample_weight, len(X), np.float64)
    return X[~chosen], y[~chosen], weights[~chosen], (X[chosen], y[chosen], weights[chosen])


def refuse_nonfinite(problem, whose=""):
    """Raises ValueError if X or y holds NaN or infinity."""
    check_finite(problem.lines.T if problem.by_columns else problem.lines, f"{whose}X")
    y = problem.targets.T
    check_finite(y[:, 0] if y.shape[1] == 1 else y, f"{whose}y")


def as_start(coef0, problem, slot, dtype=None):
    """The (2, p, k) parameters and velocities to start from: zeros, or a copy of coef0, of shape (p,) + slot, which
    must be finite in the dtype, that of the problem by default."""
    start = np.zeros((2, problem.p, problem.k), problem.lines.dtype)
    if coef0 is None:
        return start
    coef = as_real(coef0, "coef0")
    if coef.shape != (problem.p, *slot):
        raise ValueError(
            f"coef0 must have shape {(problem.p, *slot)}, the features"
            f"{' then the intercept' if problem.fit_intercept else ''}, got {coef.shape}"
        )
    check_finite(cast(coef, start.dtype if dtype is None else dtype), "coef0")
    coef = cast(coef, start.dtype)
    start[0] = coef.reshape(start.shape[1:])
    return start


def as_number(value, name, high=math.inf, *, below=False):
    """`value` as a finite float in [0, high], or in [0, high) with below=True."""
    if type(value) is float and 0 <= value < high:
        return value
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value[()]
    if type(value) is not float and (isinstance(value, (bool, np.bool_)) or not isinstance(value, Real)):
        raise TypeError(f"{name} must be a number, got {value!r} of type {type(value).__name__}")
    try:
        number = float(value)
    except OverflowError as error:
        pass_on(error)
        number = math.inf
    if not (0 <= number <= high) or number == math.inf or (below and number == high):
        interval = f"in [0, {high:g}{')' if below else ']'}"
        expected = "finite and not negative" if high == math.inf else interval
        raise ValueError(f"{name} must be {expected}, got {value!r}")
    return number


def as_count(value, name):
    """`value` as an int of at least 1."""
    if type(value) is int and 1 <= value <= sys.maxsize:
        return value
    if isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} must be a whole number, got {value!r}")
    try:
        count = operator.index(value)
    except TypeError as error:
        pass_on(error)
        raise TypeError(f"{name} must be a whole number, got {value!r} of type {type(value).__name__}") from None
    if not 1 <= count <= sys.maxsize:
        raise ValueError(f"{name} must be at least 1{' and at most sys.maxsize' if count > 1 else ''}, got {count}")
    return count


def as_flag(value, name):
    """`value` as a bool."""
    if value is True or value is False:
        return value
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} must be True or False, got {value!r}")
    return bool(value)


def ndim_of(value, name):
    """numpy.ndim, but ragged lists are refused in our words."""
    try:
        return np.ndim(value)
    except ValueError as error:
        pass_on(error)
        as_real(value, name)
        raise


def as_series(value, name, count, of="epochs", start=0, high=math.inf, *, below=False):
    """A number in [0, high] as it is; or an array of one for each of the `count` epochs from `start`, or fits, in
    which case a function of the epoch makes the array."""
    if type(value) is float and 0 <= value < high:
        return value
    if callable(value) and of == "epochs":
        value = [value(epoch) for epoch in range(start, start + count)]
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


def as_rates(lr, momentum, dampening, epochs, start):
    """lr, momentum and 1 - dampening, for all epochs or (epochs, 3), as the kernel's Options take them."""
    lr = as_series(lr, "lr", epochs, start=start)
    momentum = as_series(momentum, "momentum", epochs, start=start, high=1, below=True)
    undamped = 1 - (momentum if dampening is None else as_number(dampening, "dampening", 1))
    if type(lr) is float and type(momentum) is float:
        return lr, momentum, undamped
    rates = np.empty((epochs, 3))
    rates[:, 0], rates[:, 1], rates[:, 2] = lr, momentum, undamped
    return rates


def as_average(average):
    """The epoch from which on to average: 0 for True, -1 for False."""
    if isinstance(average, (bool, np.bool_)):
        return 0 if average else -1
    try:
        start = operator.index(average)
    except TypeError as error:
        pass_on(error)
        raise TypeError(f"average must be True, False or the epoch to start at, got {average!r}") from None
    if not 0 <= start <= sys.maxsize:
        most = " and at most sys.maxsize" if start > 0 else ""
        raise ValueError(f"average must start at epoch 0 or later{most}, got {start}")
    return start


def as_record(record):
    """What the history keeps."""
    if record is not None and not (isinstance(record, str) and record in ("all", "loss", "updates")):
        raise ValueError(f"record must be 'all', 'loss', 'updates' or None, got {record!r}")
    return record


def check_together(init, coef0, batch_size, seed, permuted, tol, validation, fraction, patience):
    """Refuses options that contradict each other, or that would be ignored."""
    if init is not None and not hasattr(init, "checkpoint"):
        raise TypeError(f"init must be a FitResult, got {init!r:.80}")
    if init is not None and isinstance(init.epochs, np.ndarray):
        raise ValueError("init must be one fit, got the many of fit_many; take init[i]")
    if init is not None and coef0 is not None:
        raise ValueError("init and coef0 both say where to start; give one of them")
    if seed is not None and not permuted and fraction is None:
        raise ValueError("seed has no effect here: it needs batch_size with shuffle=True, or a fraction as validation")
    if seed is not None and init is not None and init.checkpoint.generator is not None:
        raise ValueError("init and seed both set the row generator; leave seed out to go on as init did")
    if patience is not None and validation is None:
        raise ValueError("patience needs validation rows to watch; give validation, or tol without patience")
    if tol is not None and patience is None and batch_size is not None:
        raise ValueError(
            "tol and batch_size don't go together: a batch's gradient is too noisy to stop by; "
            "use validation with patience"
        )


def check_callback(callback, callback_every):
    """Refuses what can't be called, and an interval for nothing."""
    if callback is not None and not callable(callback):
        raise TypeError(f"callback must be a function, got {callback!r:.80}")
    if callback is None and callback_every != 1:
        raise ValueError("callback_every needs a callback")
