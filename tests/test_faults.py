"""Bad input and rough treatment: what each gets, word by word, and that nothing is modified or lost."""

import _thread
import dataclasses
import os
import pickle
import re
import shutil
import subprocess
import sys
import threading
import time
import warnings
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

import sgdm

N, D = 30, 3


def data(targets=None, dtype=np.float64, seed=0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((N, D)).astype(dtype), rng.standard_normal(
        (N,) if targets is None else (N, targets)
    ).astype(dtype)


X, y = data()
X.flags.writeable = y.flags.writeable = False


def frozen(value):
    """The value in bytes, to tell whether it changed."""
    return pickle.dumps(value) if hasattr(value, "__reduce__") else repr(value)


def refuse(error, match, X=X, y=y, **options):
    """fit(X, y) raises `error` with a message that matches, and leaves what it was given as it was."""
    before = frozen((X, y, options))
    with pytest.raises(error, match=match) as caught:
        sgdm.fit(X, y, **options)
    assert frozen((X, y, options)) == before
    return caught.value


def changed(array, *at, value):
    array = array.copy()
    array[at] = value
    return array


def same_bits(result, expected, **differences):
    assert result == dataclasses.replace(expected, **differences)


# NaN and infinity

BAD = pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])


@BAD
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("at", [(0, 0), (5, 2), (N - 1, D - 1)])
def test_nonfinite_x(at, order, dtype, bad):
    given = np.asarray(changed(X, *at, value=bad), dtype, order=order)
    refuse(ValueError, f"^X must be finite, got {bad} at row {at[0]}, column {at[1]}$", X=given)


@pytest.mark.parametrize("order", ["C", "F"])
def test_nonfinite_x_names_the_first_bad_row(order):
    given = np.asarray(changed(X, [5, 2], [0, 1], value=np.nan), order=order)
    refuse(ValueError, "^X must be finite, got nan at row 2, column 1$", X=given)


def test_nonfinite_x_in_a_row_of_weight_zero():
    weights = np.arange(N) != 5
    refuse(ValueError, "^X must be finite, .* row 5,", X=changed(X, 5, 0, value=np.nan), sample_weight=weights)


@BAD
@pytest.mark.parametrize("options", [{}, {"lr": 0.0}, {"lr": 1e300}, {"coef0": np.zeros(D)}, {"record": None}])
def test_nonfinite_y(options, bad):
    refuse(ValueError, f"^y must be finite, got {bad} at row 5$", y=changed(y, 5, value=bad), **options)


@BAD
def test_nonfinite_y_of_several_targets(bad):
    Y = np.column_stack([y, y])
    refuse(ValueError, f"^y must be finite, got {bad} at row 5, column 1$", y=changed(Y, 5, 1, value=bad))


def test_nonfinite_y_names_the_first_bad_row():
    Y = np.column_stack([y, y])
    given = changed(Y, [5, 2], [0, 1], value=np.nan)
    refuse(ValueError, "^y must be finite, got nan at row 2, column 1$", y=given)


@BAD
def test_nonfinite_sample_weight(bad):
    weights = changed(np.ones(N), 5, value=bad)
    refuse(ValueError, f"^sample_weight must be finite, got {bad} at row 5$", sample_weight=weights)


@BAD
@pytest.mark.parametrize(("targets", "at"), [(None, "row 1"), (2, "row 1, column 1")])
def test_nonfinite_coef0(targets, at, bad):
    coef0 = np.zeros((D,) if targets is None else (D, targets))
    coef0.reshape(D, -1)[1, -1] = bad
    refuse(ValueError, f"^coef0 must be finite, got {bad} at {at}$", y=data(targets)[1], coef0=coef0)


@pytest.mark.parametrize("name", ["coef0", "sample_weight"])
def test_too_large_for_float32(name):
    """Without numpy's overflow warning, which would be an error here."""
    X, y = data(dtype=np.float32)
    given = np.full(D if name == "coef0" else N, 1e300)
    refuse(ValueError, f"^{name} must be finite, got ", X, y, **{name: given})


# Shapes


@pytest.mark.parametrize(
    ("shape", "hint"), [((N,), r"; for a single feature use X\.reshape\(-1, 1\)"), ((), ""), ((N, D, 1), "")]
)
def test_x_must_be_a_matrix(shape, hint):
    message = rf"^X must be 2-D, \(rows, columns\), got shape {re.escape(str(shape))}{hint}$"
    refuse(ValueError, message, X=np.ones(shape))


@pytest.mark.parametrize("shape", [(), (N, 1, 1)])
def test_y_must_be_a_vector_or_matrix(shape):
    message = r"^y must have shape \(30,\) or \(30, k\), .* got shape "
    refuse(ValueError, message + re.escape(str(shape)) + "$", y=np.ones(shape))


@pytest.mark.parametrize("shape", [(N - 1,), (N + 1, 2), (1, N)])
def test_x_and_y_of_different_length(shape):
    message = f"^X and y must have the same number of rows, got 30 and {shape[0]}$"
    refuse(ValueError, message, y=np.ones(shape))


@pytest.mark.parametrize("length", [0, N - 1, N + 1])
def test_wrong_number_of_weights(length):
    message = f"^sample_weight must have one weight per row of X, 30, got {length}$"
    refuse(ValueError, message, sample_weight=np.ones(length))


@pytest.mark.parametrize("shape", [(), (N, 1), (1, N)])
def test_wrong_shape_of_weights(shape):
    message = r"^sample_weight must have shape \(30,\), got shape " + re.escape(str(shape)) + "$"
    refuse(ValueError, message, sample_weight=np.ones(shape))


@pytest.mark.parametrize("shape", [(0, D), (N, 0), (0, 0)])
def test_empty_x(shape):
    message = f"^X must have at least one row and one column, got shape {re.escape(str(shape))}$"
    refuse(ValueError, message, X=np.ones(shape), y=np.ones(shape[0]))


def test_no_target():
    refuse(ValueError, r"^y must have at least one target, got shape \(30, 0\)$", y=np.ones((N, 0)))


@pytest.mark.parametrize(
    ("shape", "targets", "intercept", "expected"),
    [
        ((D - 1,), None, False, "(3,), the features, got (2,)"),
        ((D,), None, True, "(4,), the features then the intercept, got (3,)"),
        ((D, 1), None, False, "(3,), the features, got (3, 1)"),
        ((D,), 2, False, "(3, 2), the features, got (3,)"),
        ((2, D), 2, False, "(3, 2), the features, got (2, 3)"),
        ((), None, False, "(3,), the features, got ()"),
    ],
)
def test_wrong_shape_of_coef0(shape, targets, intercept, expected):
    message = f"^coef0 must have shape {re.escape(expected)}$"
    refuse(ValueError, message, y=data(targets)[1], coef0=np.ones(shape), fit_intercept=intercept)


def test_y_with_one_column_keeps_it():
    flat, column = sgdm.fit(X, y, fit_intercept=True), sgdm.fit(X, y[:, None], fit_intercept=True)
    for name in ("coef", "intercept", "velocity", "loss"):
        assert np.array_equal(getattr(column, name), np.asarray(getattr(flat, name))[..., None])
    for name in ("loss", "grad", "step", "coef"):
        assert np.array_equal(getattr(column.history, name), getattr(flat.history, name)[..., None])
    assert column.predict(X).shape == (N, 1)


# Types

NOT_NUMBERS = {
    "complex": (X * 1j, TypeError, "X must hold real numbers, got dtype complex128"),
    "long complex": (X.astype(np.clongdouble), TypeError, "X must hold real numbers, got dtype complex"),
    "words": ([["a", "b"]] * N, TypeError, "X must hold real numbers, got dtype <U1"),
    "numeric strings": (X.astype(str), TypeError, "X must hold real numbers, got dtype <U"),
    "bytes": (X.astype(bytes), TypeError, r"X must hold real numbers, got dtype \|S"),
    "dates": (np.full((N, D), "2020-01-01", "M8[D]"), TypeError, r"X must .* got dtype datetime64\[D\]"),
    "durations": (np.ones((N, D), "m8[s]"), TypeError, r"X must .* got dtype timedelta64\[s\]"),
    "records": (np.zeros((N, D), [("a", float)]), TypeError, "X must hold real numbers, got dtype"),
    "None": (None, TypeError, "X must hold real numbers, got None of type NoneType"),
    "None within": ([[1.0, None]] * N, TypeError, "got None of type NoneType at index 0, 1"),
    "a string within": (
        changed(X.astype(object), 4, 1, value="1"), TypeError, "X must .* got '1' of type str at index 4, 1"
    ),
    "a complex within": (changed(X.astype(object), 4, 1, value=1j), TypeError, "of type complex at index 4, 1"),
    "masked": (np.ma.masked_greater(X, 1.5), ValueError, r"X has \d+ masked entries; fill them, or drop"),
    "ragged": ([[1.0, 2.0]] * (N - 1) + [[1.0]], ValueError, "X must be rectangular, with rows of one length"),
    "deeply ragged": ([[1.0, [2.0, 3.0]]] * N, ValueError, "X must be rectangular, with rows of one length"),
    "too large an integer": (changed(X.astype(object), 4, 1, value=10**400), ValueError, "X must .* float64 can hold"),
    "a signalling NaN": (
        changed(X.astype(object), 4, 1, value=Decimal("sNaN")), ValueError, r"X must .* float64 can hold \(cannot"
    ),
}  # fmt: skip


@pytest.mark.parametrize(("given", "error", "match"), NOT_NUMBERS.values(), ids=NOT_NUMBERS)
def test_x_of_something_else(given, error, match):
    refuse(error, match, X=given)


@pytest.mark.parametrize("name", ["y", "sample_weight", "coef0"])
@pytest.mark.parametrize(
    ("make", "error", "match"),
    [
        (lambda a: a * 1j, TypeError, "must hold real numbers, got dtype complex128"),
        (lambda a: a.astype(str), TypeError, "must hold real numbers, got dtype <U"),
        (lambda a: a.astype("M8[s]"), TypeError, r"must hold real numbers, got dtype datetime64\[s\]"),
        (lambda a: [*a[:-1], "1"], TypeError, "must hold real numbers, got"),
        (lambda a: [*a[:-1], None], TypeError, "must hold real numbers, got None of type NoneType at index"),
        (lambda a: np.ma.masked_array(a, a == a[1]), ValueError, "has 1 masked entries"),
        (lambda a: [*a[:-1], [1.0, 2.0]], ValueError, "must be rectangular, with rows of one length"),
    ],
    ids=["complex", "numeric strings", "dates", "a string within", "None within", "masked", "ragged"],
)
def test_vectors_of_something_else(name, make, error, match):
    given = np.arange(1.0, 1 + (D if name == "coef0" else N))
    refuse(error, f"^{name} {match}", **{name: make(given)})


@pytest.mark.parametrize("form", ["csr_matrix", "csc_array", "coo_array"])
def test_sparse_is_refused(form):
    sparse = getattr(pytest.importorskip("scipy.sparse"), form)
    message = rf"must be dense, got a sparse {form}; convert it with {{}}\.toarray\(\)$"
    refuse(TypeError, "^X " + message.format("X"), X=sparse(X))
    refuse(TypeError, "^y " + message.format("y"), y=sparse(y[:, None]))


# Constants

NUMBERS = ("lr", "momentum", "dampening", "weight_decay", "tol")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, -0.1, np.float32(-1), -1])
@pytest.mark.parametrize("name", NUMBERS)
def test_numbers_out_of_range(name, value):
    expected = {"momentum": r"in \[0, 1\)", "dampening": r"in \[0, 1\]"}.get(name, "finite and not negative")
    refuse(ValueError, f"^{name} must be {expected}, got {re.escape(repr(value))}$", **{name: value})


@pytest.mark.parametrize("value", ["0.1", True, np.True_, 0.1j, [0.1], np.array([0.1])])
@pytest.mark.parametrize("name", NUMBERS)
def test_numbers_of_another_type(name, value):
    if name in ("lr", "momentum") and np.ndim(value):
        return  # a schedule: see test_control.py
    message = f"^{name} must be a number, got {re.escape(repr(value))} of type {type(value).__name__}$"
    refuse(TypeError, message, **{name: value})


@pytest.mark.parametrize(("name", "value"), [("momentum", 1), ("momentum", 1.5), ("dampening", 1.01)])
def test_momentum_and_dampening_end_at_one(name, value):
    refuse(ValueError, rf"^{name} must be in \[0, 1[)\]], got {value}$", **{name: value})


@pytest.mark.parametrize("name", ["lr", "weight_decay", "tol"])
def test_integers_beyond_float64(name):
    refuse(ValueError, f"^{name} must be finite", **{name: 10**400})


@pytest.mark.parametrize("value", [np.float32(0.5), np.float16(0.5), Fraction(1, 2)])
def test_numbers_of_any_real_type(value):
    assert sgdm.fit(X, y, lr=value, momentum=value) == sgdm.fit(X, y, lr=0.5, momentum=0.5)


@pytest.mark.parametrize("name", ["epochs", "record_every"])
@pytest.mark.parametrize(
    ("value", "error", "expected"),
    [
        (0, ValueError, "at least 1, got 0"),
        (-3, ValueError, "at least 1, got -3"),
        (1.5, TypeError, "a whole number, got 1.5 of type float"),
        (2.0, TypeError, "a whole number, got 2.0 of type float"),
        ("5", TypeError, "a whole number, got '5' of type str"),
        (None, TypeError, "a whole number, got None of type NoneType"),
        (True, TypeError, "a whole number, got True"),
        (np.True_, TypeError, f"a whole number, got {np.True_!r}"),
    ],
)
def test_counts(name, value, error, expected):
    refuse(error, f"^{name} must be {re.escape(expected)}$", **{name: value})


def test_counts_of_numpy():
    assert sgdm.fit(X, y, epochs=np.int64(7), record_every=np.uint8(2)) == sgdm.fit(X, y, epochs=7, record_every=2)


@pytest.mark.parametrize("name", ["nesterov", "fit_intercept"])
@pytest.mark.parametrize("value", [1, 0, "yes", None])
def test_flags(name, value):
    refuse(TypeError, f"^{name} must be True or False, got {value!r}$", **{name: value})


@pytest.mark.parametrize("value", ["coef", True, 1, ["all"]])
def test_record(value):
    message = f"^record must be 'all', 'loss', 'updates' or None, got {re.escape(repr(value))}$"
    refuse(ValueError, message, record=value)


def test_negative_weight():
    weights = changed(np.ones(N), [4, 7], value=[-0.5, -2])
    refuse(ValueError, r"^sample_weight must not be negative, got -2\.0 at row 7$", sample_weight=weights)


def test_weights_all_zero():
    message = r"^sample_weight must have a positive, finite sum, got 0\.0$"
    refuse(ValueError, message, sample_weight=np.zeros(N))


@pytest.mark.parametrize(
    ("options", "numbers", "hint"),
    [
        ({}, 1 + 3 * D, "record='loss', a larger record_every or record=None"),
        ({"fit_intercept": True}, 1 + 3 * (D + 1), "record='loss', a larger record_every or record=None"),
        ({"record": "loss"}, 1, "a larger record_every or record=None"),
    ],
)
@pytest.mark.parametrize("every", [1, 10])
def test_history_too_large(every, options, numbers, hint):
    epochs = 10**17  # more than any address space
    size = epochs // every * numbers * 8
    message = rf"^the history of {epochs // every} rows takes {size} bytes \(.* GiB\), .* pass {hint} to keep less$"
    refuse(MemoryError, message, epochs=epochs, record_every=every, **options)


# Divergence

FORMS = pytest.mark.parametrize(
    ("form", "words"),
    [
        ({}, "momentum=0.8, dampening=0.8"),
        ({"momentum": 0.9, "dampening": 0.0}, "momentum=0.9, dampening=0"),
        ({"momentum": 0.9, "dampening": 0.25, "nesterov": True}, "momentum=0.9, dampening=0.25, nesterov"),
        ({"momentum": 0}, "momentum=0, dampening=0"),
    ],
)


@FORMS
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("every", [1, 4])
def test_divergence(every, dtype, form, words):
    X, y = data(dtype=dtype)
    options = {"lr": 50.0, "epochs": 5000, "fit_intercept": True, "record_every": every, **form}
    error = refuse(sgdm.DivergenceError, "^the fit diverged at epoch ", X, y, **options)
    assert isinstance(error, ArithmeticError)
    epoch, lr, suggested = re.fullmatch(
        rf"the fit diverged at epoch (\d+): lr=(\S+) is too large; use an lr of at most (\S+) for {words}", str(error)
    ).groups()
    assert float(lr) == 50
    assert 0.98 * error.max_lr < float(suggested) <= error.max_lr
    # The result is that of a fit of so many epochs, and one epoch more overflows.
    assert error.result.epochs == int(epoch) > 0
    assert error.result.status == "diverged"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", sgdm.ConvergenceWarning)
        same_bits(error.result, sgdm.fit(X, y, **{**options, "epochs": int(epoch)}), status="diverged")
    with pytest.raises(sgdm.DivergenceError, match=f"^the fit diverged at epoch {epoch}:"):
        sgdm.fit(X, y, **{**options, "epochs": int(epoch) + 1})
    assert all(np.isfinite(history).all() for history in vars(error.result.history).values() if history is not None)
    assert np.isfinite(error.result.coef).all()


def test_divergence_names_the_target():
    Y = data(3)[1] * [1, 1e100, 1]
    error = refuse(sgdm.DivergenceError, "^the fit of target 1 diverged at epoch ", y=Y, lr=50, epochs=5000)
    assert error.result.history.loss.shape == (error.result.epochs, 3)


@pytest.mark.parametrize(
    ("x_factor", "y_factor", "message"),
    [
        (1e300, 1e300, "^the squares of the data overflow float64 at epoch 0, whatever the lr; scale the columns"),
        (1, 1e300, "^the loss or a parameter overflowed float64 at epoch 0, though .* scale the columns"),
        (1e300, 1, "^the squares of the data overflow float64 at epoch [01], whatever the lr; scale the columns"),
    ],
)
def test_squares_that_overflow(x_factor, y_factor, message):
    error = refuse(sgdm.DivergenceError, message, X=X * x_factor, y=y * y_factor)
    assert (error.max_lr is None) == (x_factor > 1)
    assert np.isfinite(error.result.coef).all()
    assert len(error.result.history) == error.result.epochs


def test_squares_that_overflow_float32():
    X, y = data(dtype=np.float32)
    refuse(sgdm.DivergenceError, "^the squares of the data overflow float32 at epoch 0", X * np.float32(1e30), y * 1e30)


def test_penalty_whose_square_overflows():
    """Without numpy's overflow warning, which would be an error here."""
    given = X[:2, :2], y[:2]
    error = refuse(sgdm.DivergenceError, r"^the fit diverged at epoch .* at most 1\S+e-299", *given, weight_decay=1e300)
    assert error.max_lr == pytest.approx(0.95 * 2 * 1.8 / (0.2 * 1e300), rel=1e-3)


@pytest.mark.parametrize("factor", [1e152, 1e153])
def test_limit_below_all_powers_of_ten(factor):
    """The safe lr for batches is a denormal number here, or 0."""
    options = {"momentum": 1 - 2**-53, "dampening": 0.0, "batch_size": 10, "seed": 0, "epochs": 99}
    error = refuse(sgdm.DivergenceError, r"lr of at most \S+ for momentum=1, dampening=0", X=X * factor, **options)
    assert 0 <= error.max_lr < 1e-315


@FORMS
def test_ending_above_the_start_warns(form, words):
    options = {"lr": 50.0, "epochs": 5, **form}
    message = rf"^the objective rose from \S+ to \S+ in 5 epochs with lr=50; use an lr of at most \S+ for {words}$"
    with pytest.warns(sgdm.ConvergenceWarning, match=message) as caught:
        result = sgdm.fit(X, y, **options)
    assert [warning.filename for warning in caught] == [__file__]
    assert result.status == "completed"
    assert result.loss > result.history.loss[0]
    suggested = float(re.search(r"at most (\S+) for", str(caught[0].message))[1])
    assert sgdm.fit(X, y, **{**options, "lr": suggested, "epochs": 500}).status == "completed"


def test_ending_above_the_start_in_passing():
    """The momentum form is stable, just not there yet."""
    steep = X @ np.arange(1.0, 4.0)
    message = r"^the objective rose from .* in 3 epochs with lr=3; lr is stable \(up to .*\), so more epochs will"
    with pytest.warns(sgdm.ConvergenceWarning, match=message):
        sgdm.fit(X, steep, lr=3, epochs=3)
    assert sgdm.fit(X, steep, lr=3, epochs=300).loss < 1e-12


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("noise", [0, 0.1])
def test_a_start_at_the_minimum_does_not_warn(noise, dtype):
    """The loss can only rise by rounding there."""
    for seed in range(20):
        X, y = data(dtype=dtype, seed=seed)
        y = (X @ [0.1, 0.2, 0.3] + noise * y).astype(dtype)
        minimum = np.linalg.lstsq(X.astype(float), y.astype(float), rcond=None)[0].astype(dtype)
        result = sgdm.fit(X, y, coef0=minimum)
        np.testing.assert_allclose(result.coef, minimum, rtol=0, atol=64 * np.finfo(dtype).eps)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_a_restart_from_an_exact_solution_does_not_warn(dtype):
    """Down there the loss is nothing but the square of rounding errors."""
    for seed in range(20):
        X, _ = data(dtype=dtype, seed=seed)
        y = (X @ [1, -2, 3] + 2).astype(dtype)
        first = sgdm.fit(X, y, lr=1, fit_intercept=True, epochs=1000)
        start = np.append(first.coef, first.intercept)
        again = sgdm.fit(X, y, lr=1, fit_intercept=True, coef0=start)
        assert max(first.loss, again.loss) < (64 * np.finfo(dtype).eps) ** 2


def test_loss_that_weight_decay_trades_for_small_coefficients():
    """The objective falls, so there is nothing to warn of."""
    result = sgdm.fit(X, y, coef0=np.linalg.lstsq(X, y, rcond=None)[0], weight_decay=1.0, epochs=200)
    assert result.loss > 1.001 * result.history.loss[0]


# Awkward data that must fit


def assert_oracle(reference, X, y, dtype, **options):
    twin, result = reference.fit(X, y, **options), sgdm.fit(X, y, **options)
    info = np.finfo(dtype)
    for name, expected in vars(twin.history).items():
        # below the smallest normal number, what is lost is some denormals, not some eps
        tolerance = 64 * (info.eps * np.abs(expected).max() + info.smallest_subnormal)
        np.testing.assert_allclose(getattr(result.history, name), expected, rtol=0, atol=tolerance, err_msg=name)


def with_column(j, column):
    return np.column_stack([X[:, :j], np.broadcast_to(column, N), X[:, j:]])


AWKWARD = {
    "constant column": with_column(1, 2.0),
    "zero column": with_column(0, 0.0),
    "all zero": np.zeros((N, D)),
    "negative zeros": np.where(X > 0, X, -0.0),
    "duplicated columns": np.column_stack([X, X, X[:, :1]]),
    "denormal column": with_column(2, 1e-310),
    "smallest denormals": with_column(2, 5e-324),
    "denormals only": X * 1e-310,
    "float32 denormals": with_column(2, 1e-41),
    "float32 denormals only": X * 1e-41,
    "one row": X[:1],
    "one column": X[:, :1],
    "one number": X[:1, :1],
    "fewer rows than columns": np.random.default_rng(1).standard_normal((5, 11)),
    "two rows, many columns": np.random.default_rng(1).standard_normal((2, 40)),
}


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("fit_intercept", [False, True])
@pytest.mark.parametrize("matrix", AWKWARD.values(), ids=AWKWARD)
def test_awkward_data(reference, matrix, fit_intercept, order, dtype):
    matrix = np.asarray(matrix, dtype, order=order)
    target = (1 + y[: len(matrix)]).astype(dtype)
    assert_oracle(reference, matrix, target, dtype, lr=0.02, fit_intercept=fit_intercept)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_denormal_targets(reference, dtype):
    target = y.astype(dtype) * np.finfo(dtype).smallest_subnormal * 10_000
    assert_oracle(reference, X.astype(dtype), target, dtype, lr=0.2)
    assert sgdm.fit(X.astype(dtype), target, lr=0.2).coef.any()


# Layouts and types that must fit


def misaligned(array):
    raw = np.empty(array.nbytes + 1, np.uint8)[1:]
    out = np.ndarray(array.shape, array.dtype, raw)
    out[...] = array
    return out


def spread(array):
    out = np.full(tuple(3 * length for length in array.shape), np.nan, array.dtype)
    view = out[tuple(slice(1, None, 3) for _ in array.shape)]
    view[...] = array
    return view


def read_only(array):
    array = array.copy(order="K")
    array.flags.writeable = False
    return array


LAYOUTS = {
    "read-only": read_only,
    "read-only F": lambda a: read_only(np.asfortranarray(a)),
    "F": np.asfortranarray,
    "strided": spread,
    "negative strides": lambda a: np.ascontiguousarray(np.flip(a))[(slice(None, None, -1),) * a.ndim],
    "broadcast": lambda a: np.broadcast_to(a, (2, *a.shape))[1],
    "misaligned": misaligned,
    "other byte order": lambda a: a.astype(a.dtype.newbyteorder()),
    "subclass": lambda a: np.ma.array(a),
    "lists": lambda a: a.tolist(),
    "objects": lambda a: a.astype(object),
}


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(layout, dtype):
    X, Y = data(2, dtype)
    weights, coef0 = np.linspace(0, 2, N).astype(dtype), np.ones((D + 1, 2), dtype)
    make = LAYOUTS[layout]
    result = sgdm.fit(make(X), make(Y), fit_intercept=True, sample_weight=make(weights), coef0=make(coef0))
    if layout in ("lists", "objects"):
        dtype = np.float64
    arrays = [np.asarray(array, dtype) for array in (X, Y, weights, coef0)]
    if layout in ("F", "read-only F"):
        arrays[0] = np.asfortranarray(arrays[0])
    X, Y, weights, coef0 = arrays
    same_bits(result, sgdm.fit(X, Y, fit_intercept=True, sample_weight=weights, coef0=coef0))
    assert result.coef.dtype == dtype


@pytest.mark.parametrize("dtype", ["i1", "u2", "i4", "i8", "u8", "?", "f2", "g", ">f8", ">i4", "O"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_other_types_fit_as_float64(order, dtype):
    matrix, target = np.asarray(np.abs(8 * X).astype(dtype), order=order), np.abs(8 * y).astype(dtype)
    expected = sgdm.fit(matrix.astype(np.float64), target.astype(np.float64), lr=1e-3, fit_intercept=True)
    assert sgdm.fit(matrix, target, lr=1e-3, fit_intercept=True) == expected
    assert expected.coef.dtype == np.float64


# Tables


@pytest.fixture
def table_fit():
    return sgdm.fit(np.asfortranarray(X), y)


def assert_table_fits(table, column, weights, expected):
    result = sgdm.fit(table, column, sample_weight=weights)
    np.testing.assert_allclose(result.coef, expected.coef, rtol=1e-12)
    np.testing.assert_allclose(result.predict(table), X @ expected.coef, rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", ["float64", "Float64", "double[pyarrow]", "object"])
def test_pandas(dtype, table_fit):
    pandas = pytest.importorskip("pandas")
    if "pyarrow" in dtype:
        pytest.importorskip("pyarrow")
    frame, series = pandas.DataFrame(X, columns=list("abc")).astype(dtype), pandas.Series(y).astype(dtype)
    before = frame.copy(), series.copy()
    assert_table_fits(frame, series, pandas.Series(np.ones(N), index=range(N, 0, -1)), table_fit)
    assert sgdm.fit(frame, series.to_frame()).coef.shape == (D, 1)
    assert frame.equals(before[0])
    assert series.equals(before[1])


@pytest.mark.parametrize("more", [1, True])
def test_pandas_of_mixed_types(more):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(X, columns=list("abc")).assign(d=more)
    expected = sgdm.fit(np.column_stack([X, np.ones(N)]), y)
    np.testing.assert_allclose(sgdm.fit(frame, y).coef, expected.coef, rtol=1e-12)


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ("a", "X must hold real numbers, got 'a' of type str at index 0, 3$"),
        ("1", "X must hold real numbers, got '1' of type str at index 0, 3$"),
        ("date", "X must hold real numbers, got .* of type Timestamp at index 0, 3$"),
        ("category", "X must hold real numbers, got 'u' of type str at index 0, 3$"),
        ("missing", "X must hold real numbers, got <NA> of type NAType at index 7, 3$"),
    ],
)
def test_pandas_columns_that_are_refused(column, message):
    pandas = pytest.importorskip("pandas")
    values = {
        "date": pandas.Timestamp("2020-01-01"),
        "category": pandas.Categorical(["u"] * N),
        "missing": pandas.array([1.0] * 7 + [None] + [1.0] * (N - 8), dtype="Float64"),
    }
    frame = pandas.DataFrame(X, columns=list("abc")).assign(d=values.get(column, column))
    before = frame.copy()
    with pytest.raises(TypeError, match=r"^" + message):
        sgdm.fit(frame, y)
    assert frame.equals(before)


@pytest.mark.parametrize("dtype", ["float64", "Float64", "Int64"])
def test_pandas_missing_target(dtype):
    pandas = pytest.importorskip("pandas")
    series = pandas.Series([*range(7), None, *range(N - 8)], dtype=dtype)
    with pytest.raises((ValueError, TypeError), match=r"^y must (be finite, .* row 7|hold real .* index 7)$"):
        sgdm.fit(X, series)


def test_polars(table_fit):
    polars = pytest.importorskip("polars")
    frame, series = polars.DataFrame(X), polars.Series(y)
    assert_table_fits(frame, series, polars.Series(np.ones(N)), table_fit)
    assert sgdm.fit(frame, polars.DataFrame(y[:, None])).coef.shape == (D, 1)
    single = sgdm.fit(frame.cast(polars.Float32), series.cast(polars.Float32))
    assert single.coef.dtype == np.float32


def test_polars_that_are_refused():
    polars = pytest.importorskip("polars")
    frame = polars.DataFrame(X)
    with pytest.raises(TypeError, match=r"^X must hold real numbers, got '1' of type str at index 0, 3$"):
        sgdm.fit(frame.with_columns(polars.lit("1").alias("d")), y)
    with pytest.raises(TypeError, match=r"^y must hold real numbers, got "):
        sgdm.fit(frame, polars.Series(["1"] * N))
    for missing in ([*y[:7], None, *y[8:]], [*range(7), None, *range(N - 8)]):
        with pytest.raises(ValueError, match=r"^y must be finite, got nan at row 7$"):
            sgdm.fit(frame, polars.Series(missing))


def test_pyarrow(table_fit):
    pyarrow = pytest.importorskip("pyarrow")
    table = pyarrow.table({name: X[:, j] for j, name in enumerate("abc")})
    weights = pyarrow.array(np.ones(N))
    assert_table_fits(table, pyarrow.array(y), weights, table_fit)
    assert_table_fits(table, pyarrow.chunked_array([y[:9], y[9:]]), weights, table_fit)


def test_pyarrow_that_are_refused():
    pyarrow = pytest.importorskip("pyarrow")
    with pytest.raises(TypeError, match=r"^y must hold real numbers, got '1' of type str at index 0$"):
        sgdm.fit(X, pyarrow.array(["1"] * N))
    with pytest.raises(TypeError, match=r"^X must hold real numbers, got '1' of type str at index 0, 0$"):
        sgdm.fit(pyarrow.table({"a": ["1"] * N}), y)
    with pytest.raises(ValueError, match=r"^y must be finite, got nan at row 7$"):
        sgdm.fit(X, pyarrow.array([*y[:7], None, *y[8:]]))


# predict


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        (X[:, :2], ValueError, r"X must have the 3 columns of the fit, got 2 \(shape \(30, 2\)\)"),
        (np.ones((4, 5)), ValueError, r"X must have the 3 columns of the fit, got 5 \(shape \(4, 5\)\)"),
        (X[0], ValueError, r"X must be 2-D, \(rows, columns\), got shape \(3,\); .*reshape\(-1, 1\)"),
        (X[None], ValueError, r"X must be 2-D, \(rows, columns\), got shape \(1, 30, 3\)"),
        (X[:0], ValueError, r"X must have at least one row and one column, got shape \(0, 3\)"),
        (X * 1j, TypeError, "X must hold real numbers, got dtype complex128"),
        ([[1.0, 2.0, 3.0], [1.0]], ValueError, "X must be rectangular, .*"),
    ],
)
def test_predict(given, error, message):
    result = sgdm.fit(X, y, fit_intercept=True)
    before = frozen((given, result))
    with pytest.raises(error, match=f"^{message}$"):
        result.predict(given)
    assert frozen((given, result)) == before


# Interruption, processes, size


@pytest.fixture
def interrupt_later(heeds_sigint):
    """Call it to have Ctrl-C pressed in 0.2 s; the list it returns then holds when that was."""
    timers = []

    def start():
        times = []

        def press():
            times.append(time.perf_counter())
            _thread.interrupt_main()

        timers.append(threading.Timer(0.2, press))
        timers[-1].start()
        return times

    yield start
    for timer in timers:
        timer.cancel()
        timer.join()


@pytest.mark.thread_unsafe(reason="a signal, to the main thread")
@pytest.mark.parametrize(
    ("n", "d", "targets", "options"),
    [
        (100, 2, None, {"record_every": 1000}),
        pytest.param(100, 2, None, {"record": None}, marks=pytest.mark.slow),
        (2000, 100, None, {"record": "loss"}),
        pytest.param(200, 1000, None, {"record_every": 100, "fit_intercept": True}, marks=pytest.mark.slow),
        (50, 5, 40, {"record_every": 1000, "nesterov": True}),
        pytest.param(1, 2, 10_000, {"record": None}, marks=pytest.mark.slow),
        (1, 100_000, None, {"record": None}),
    ],
    ids=lambda value: "" if isinstance(value, dict) else str(value),
)
def test_ctrl_c(interrupt_later, n, d, targets, options):
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((n, d)), rng.standard_normal((n,) if targets is None else (n, targets))
    options = {"lr": 0.1 / d, "method": "direct", **options}
    epochs = 10**10 // (n * d * (targets or 1) + 100)  # ten seconds or so, were it not for the interruption
    pressed = interrupt_later()
    with pytest.raises(KeyboardInterrupt) as caught:
        sgdm.fit(X, y, epochs=epochs, **options)
    # 0.2 s is the promise; a machine that is busy with other things may take a little longer to come round to us.
    assert time.perf_counter() - pressed[0] < 0.5
    result = caught.value.result
    assert result.status == "stopped"
    assert 0 < result.epochs < epochs
    same_bits(result, sgdm.fit(X, y, epochs=result.epochs, **options), status="stopped")


FORK_SCRIPT = """
import os, sys, threading
import numpy as np
import sgdm

rng = np.random.default_rng(0)
X, y = rng.standard_normal((20_000, 20)), rng.standard_normal(20_000)
expected = sgdm.fit(X, y)
meanwhile = threading.Thread(target=sgdm.fit, args=(X, y), kwargs={"epochs": 2000, "record": None})
meanwhile.start()
child = os.fork()
if child == 0:
    os._exit(0 if sgdm.fit(X, y) == expected else 1)
_, status = os.waitpid(child, 0)
meanwhile.join()
assert sgdm.fit(X, y) == expected
sys.exit(os.waitstatus_to_exitcode(status))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no fork there")
def test_fork_after_and_during_a_fit(run_python):
    # Python 3.12 warns of any fork beside threads; what is tested is that it works all the same.
    process = run_python(FORK_SCRIPT, PYTHONWARNINGS="ignore::DeprecationWarning")
    assert process.returncode == 0, process.stderr


def test_import_of_the_source_alone(tmp_path):
    """As from a clone's folder, when the package was installed elsewhere: what happened and what to do."""
    shutil.copytree(Path(sgdm.__file__).parent, tmp_path / "sgdm", ignore=shutil.ignore_patterns("*.so", "*.pyd"))
    command = [sys.executable, "-S", "-P", "-c", "import sgdm"]  # -S: none of what is installed
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    process = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert process.returncode == 1
    assert process.stderr.splitlines()[-1] == (
        f"ModuleNotFoundError: {tmp_path / 'sgdm'} holds the source of sgdm, not compiled for this Python: "
        "run `pip install -e .` in the folder above, or start Python elsewhere to import the sgdm that is installed"
    )


@pytest.mark.skipif(sys.maxsize < 2**40, reason="the address space is too small")
@pytest.mark.parametrize("order", ["C", "F"])
def test_more_than_2_to_31_elements(order):
    """Zeros but for the corners. Reading them maps no memory of its own: 0.1 GB for 8.6 GB of them."""
    n, d = 2**16 + 3, 2**15 + 1
    assert n * d > 2**31
    try:
        X = np.zeros((n, d), np.float32, order)
    except MemoryError:
        pytest.skip("the system does not promise memory that it may not have")
    rows, columns = [0, n // 2, n - 2, n - 1], [0, 1, d // 2, d - 1]
    X[np.ix_(rows, columns)] = corners = np.random.default_rng(0).standard_normal((4, 4))
    y = np.zeros(n, np.float32)
    y[rows] = [1, -2, 3, 4]
    result = sgdm.fit(X, y, lr=0.05 * n / 4, epochs=2, record="loss")
    # All the rest adds nothing to the sums, and rows to their number.
    small = sgdm.fit(corners, y[rows].astype(float), lr=0.05, epochs=2)
    np.testing.assert_allclose(result.coef[columns], small.coef, rtol=1e-5)
    np.testing.assert_allclose(result.history.loss * n / 4, small.history.loss, rtol=1e-5)
    assert np.count_nonzero(result.coef) == 4


# Options before rows


@pytest.mark.parametrize("method", ["auto", "direct", "compress"])
@pytest.mark.parametrize(
    "option",
    [
        {"record": "bogus"},
        {"record_every": 0},
        {"weight_decay": "x"},
        {"l1": -1},
        {"lr": "x"},
        {"momentum": 1},
        {"dampening": 2},
        {"nesterov": 1},
        {"epochs": 0},
        {"average": -1},
        {"tol": "x"},
        {"progress": 1},
        {"n_threads": 0},
        {"callback_every": 0, "callback": print},
        {"lr": "auto", "momentum": 2},
        {"lr": "auto", "l1": 1.0},
    ],
    ids=str,
)
def test_an_option_is_refused_before_a_row_is_read(monkeypatch, option, method):
    def read(*_):
        raise AssertionError("the rows were read first")

    monkeypatch.setattr(sgdm._fit, "as_problems", read)
    with pytest.raises((ValueError, TypeError)):
        sgdm.fit(X, y, method=method, **option)


def test_a_start_is_refused_before_the_rows_are_reduced(monkeypatch):
    def reduce(*_):
        raise AssertionError("the rows were reduced first")

    monkeypatch.setattr(sgdm._reduction.reduce, "reduce_problem", reduce)
    with pytest.raises(ValueError, match=r"^coef0 must have shape \(3,\), the features, got \(2,\)$"):
        sgdm.fit(X, y, method="compress", coef0=[1.0, 2.0])
