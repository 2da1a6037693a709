"""Rows, targets, weights and starts that are refused, word by word, and left as they were."""

import re
from decimal import Decimal

import numpy as np
import pytest
from helpers import D, N, X, changed, dtypes, frozen, layouts, make_data, make_noise, refuse, y

import sgdm

# NaN and infinity

BAD = pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])


@BAD
@dtypes
@layouts
@pytest.mark.parametrize("at", [(0, 0), (5, 2), (N - 1, D - 1)])
def test_an_x_that_is_not_finite_is_refused(at, order, dtype, bad):
    given = np.asarray(changed(X, *at, value=bad), dtype, order=order)
    refuse(ValueError, f"^X must be finite, got {bad} at row {at[0]}, column {at[1]}$", X=given)


@layouts
def test_the_first_row_of_x_that_is_not_finite_is_named(order):
    given = np.asarray(changed(X, [5, 2], [0, 1], value=np.nan), order=order)
    refuse(ValueError, "^X must be finite, got nan at row 2, column 1$", X=given)


def test_x_must_be_finite_in_a_row_of_weight_zero_too():
    weights = np.arange(N) != 5
    refuse(ValueError, "^X must be finite, .* row 5,", X=changed(X, 5, 0, value=np.nan), sample_weight=weights)


@BAD
@pytest.mark.parametrize("options", [{}, {"lr": 0.0}, {"lr": 1e300}, {"coef0": np.zeros(D)}, {"record": None}])
def test_a_y_that_is_not_finite_is_refused(options, bad):
    refuse(ValueError, f"^y must be finite, got {bad} at row 5$", y=changed(y, 5, value=bad), **options)


@BAD
def test_the_target_that_is_not_finite_is_named(bad):
    Y = np.column_stack([y, y])
    refuse(ValueError, f"^y must be finite, got {bad} at row 5, column 1$", y=changed(Y, 5, 1, value=bad))


def test_the_first_row_of_y_that_is_not_finite_is_named():
    Y = np.column_stack([y, y])
    given = changed(Y, [5, 2], [0, 1], value=np.nan)
    refuse(ValueError, "^y must be finite, got nan at row 2, column 1$", y=given)


@BAD
def test_a_weight_that_is_not_finite_is_refused(bad):
    weights = changed(np.ones(N), 5, value=bad)
    refuse(ValueError, f"^sample_weight must be finite, got {bad} at row 5$", sample_weight=weights)


@BAD
@pytest.mark.parametrize(("targets", "at"), [(None, "row 1"), (2, "row 1, column 1")])
def test_a_start_that_is_not_finite_is_refused(targets, at, bad):
    coef0 = np.zeros((D,) if targets is None else (D, targets))
    coef0.reshape(D, -1)[1, -1] = bad
    refuse(ValueError, f"^coef0 must be finite, got {bad} at {at}$", y=make_noise(N, D, targets)[1], coef0=coef0)


@pytest.mark.parametrize("name", ["coef0", "sample_weight"])
def test_what_overflows_in_float32_is_refused(name):
    """Without numpy's overflow warning, which would be an error here."""
    X, y = make_noise(N, D, dtype=np.float32)
    given = np.full(D if name == "coef0" else N, 1e300)
    refuse(ValueError, f"^{name} must be finite, got ", X, y, **{name: given})


@layouts
@pytest.mark.parametrize("batch", [{"shuffle": False}, {"seed": 3}])
@pytest.mark.parametrize("bad", [np.nan, -np.inf])
def test_batches_name_the_row_of_the_data_that_is_not_finite(bad, batch, order):
    X, y = make_data(N, D, order=order)
    X[17, 1] = bad
    for options in ({}, {"fit_intercept": True, "record": "updates", "l1": 0.1}, {"lr": 0.0}, {"average": True}):
        refuse(ValueError, f"^X must be finite, got {bad} at row 17, column 1", X, y, batch_size=4, **options, **batch)
    X[17, 1], y[23] = 0, bad
    refuse(ValueError, f"^y must be finite, got {bad} at row 23", X, y, batch_size=4, **batch)


@pytest.mark.parametrize("name", ["X", "y"])
def test_the_row_that_is_not_finite_is_named_wherever_chance_put_it(name):
    """The row is that of the array that was given, wherever chance put it."""
    X, y = make_data(N, D)
    (X if name == "X" else y)[20] = np.nan
    for seed in range(4):
        with pytest.raises(ValueError, match=rf"{name} must be finite, got nan at row 20\b"):
            sgdm.fit(X, y, validation=0.4, seed=seed)


# Shapes


@pytest.mark.parametrize(
    ("shape", "hint"), [((N,), r"; for a single feature use X\.reshape\(-1, 1\)"), ((), ""), ((N, D, 1), "")]
)
def test_x_must_be_a_matrix(shape, hint):
    message = rf"^X must be 2-D, \(rows, columns\), got shape {re.escape(str(shape))}{hint}$"
    refuse(ValueError, message, X=np.ones(shape))


@pytest.mark.parametrize("shape", [(), (N, 1, 1)])
def test_y_must_be_a_vector_or_a_matrix(shape):
    message = r"^y must have shape \(30,\) or \(30, k\), .* got shape "
    refuse(ValueError, message + re.escape(str(shape)) + "$", y=np.ones(shape))


@pytest.mark.parametrize("shape", [(N - 1,), (N + 1, 2), (1, N)])
def test_x_and_y_must_have_as_many_rows(shape):
    message = f"^X and y must have the same number of rows, got 30 and {shape[0]}$"
    refuse(ValueError, message, y=np.ones(shape))


@pytest.mark.parametrize("length", [0, N - 1, N + 1])
def test_there_must_be_a_weight_for_each_row(length):
    message = f"^sample_weight must have one weight per row of X, 30, got {length}$"
    refuse(ValueError, message, sample_weight=np.ones(length))


@pytest.mark.parametrize("shape", [(), (N, 1), (1, N)])
def test_weights_must_be_a_vector(shape):
    message = r"^sample_weight must have shape \(30,\), got shape " + re.escape(str(shape)) + "$"
    refuse(ValueError, message, sample_weight=np.ones(shape))


@pytest.mark.parametrize("shape", [(0, D), (N, 0), (0, 0)])
def test_an_empty_x_is_refused(shape):
    message = f"^X must have at least one row and one column, got shape {re.escape(str(shape))}$"
    refuse(ValueError, message, X=np.ones(shape), y=np.ones(shape[0]))


def test_a_y_without_a_target_is_refused():
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
def test_a_start_must_have_the_shape_of_the_parameters(shape, targets, intercept, expected):
    message = f"^coef0 must have shape {re.escape(expected)}$"
    refuse(ValueError, message, y=make_noise(N, D, targets)[1], coef0=np.ones(shape), fit_intercept=intercept)


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
def test_an_x_of_anything_but_numbers_is_refused(given, error, match):
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
def test_a_vector_of_anything_but_numbers_is_refused(name, make, error, match):
    given = np.arange(1.0, 1 + (D if name == "coef0" else N))
    refuse(error, f"^{name} {match}", **{name: make(given)})


@pytest.mark.parametrize("name", ["y", "sample_weight", "coef0"])
def test_the_name_of_a_column_is_refused_with_what_to_give(name):
    refuse(TypeError, rf"^{name} must .*, got the text 'a'; pass the column itself, like table\['a'\]$", **{name: "a"})


def test_a_path_is_refused_with_what_to_give():
    refuse(TypeError, "^X must hold real numbers, got the text 'rows.csv'; read the file first$", X="rows.csv")


@pytest.mark.parametrize("form", ["csr_matrix", "csc_array", "coo_array"])
def test_a_sparse_matrix_is_refused(form):
    sparse = getattr(pytest.importorskip("scipy.sparse"), form)
    message = rf"must be dense, got a sparse {form}; convert it with {{}}\.toarray\(\)$"
    refuse(TypeError, "^X " + message.format("X"), X=sparse(X))
    refuse(TypeError, "^y " + message.format("y"), y=sparse(y[:, None]))


# Weights


def test_a_negative_weight_is_refused():
    weights = changed(np.ones(N), [4, 7], value=[-0.5, -2])
    refuse(ValueError, r"^sample_weight must not be negative, got -2\.0 at row 7$", sample_weight=weights)


def test_weights_that_are_all_zero_are_refused():
    message = r"^sample_weight must have a positive, finite sum, got 0\.0$"
    refuse(ValueError, message, sample_weight=np.zeros(N))


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
def test_predict_refuses_rows_of_other_shapes_and_types(given, error, message):
    result = sgdm.fit(X, y, fit_intercept=True)
    before = frozen((given, result))
    with pytest.raises(error, match=f"^{message}$"):
        result.predict(given)
    assert frozen((given, result)) == before
