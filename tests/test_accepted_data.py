"""Data of any layout, dtype and size that must fit: awkward columns, other strides, 2**31 numbers."""

import sys

import numpy as np
import pytest
import reference
from helpers import HISTORIES, LAYOUTS, D, N, X, dtypes, intercepts, layouts, make_data, make_noise, y

import sgdm

# Awkward data


def assert_oracle(X, y, dtype, **options):
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


@dtypes
@layouts
@intercepts
@pytest.mark.parametrize("matrix", AWKWARD.values(), ids=AWKWARD)
def test_awkward_data_follow_the_oracle(matrix, fit_intercept, order, dtype):
    matrix = np.asarray(matrix, dtype, order=order)
    target = (1 + y[: len(matrix)]).astype(dtype)
    assert_oracle(matrix, target, dtype, lr=0.02, fit_intercept=fit_intercept)


@dtypes
def test_denormal_targets_follow_the_oracle(dtype):
    target = y.astype(dtype) * np.finfo(dtype).smallest_subnormal * 10_000
    assert_oracle(X.astype(dtype), target, dtype, lr=0.2)
    assert sgdm.fit(X.astype(dtype), target, lr=0.2).coef.any()


def test_a_y_of_one_column_keeps_it():
    flat, column = sgdm.fit(X, y, fit_intercept=True), sgdm.fit(X, y[:, None], fit_intercept=True)
    for name in ("coef", "intercept", "velocity", "loss"):
        assert np.array_equal(getattr(column, name), np.asarray(getattr(flat, name))[..., None])
    for name in ("loss", "grad", "step", "coef"):
        assert np.array_equal(getattr(column.history, name), getattr(flat.history, name)[..., None])
    assert column.predict(X).shape == (N, 1)


# Layouts

LAYOUTS = {**LAYOUTS, "broadcast": lambda a: np.broadcast_to(a, (2, *a.shape))[1], "subclass": np.ma.array}


@dtypes
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_fit_has_the_same_bits_for_any_layout(layout, dtype):
    X, Y = make_noise(N, D, 2, dtype)
    weights, coef0 = np.linspace(0, 2, N).astype(dtype), np.ones((D + 1, 2), dtype)
    make = LAYOUTS[layout]
    result = sgdm.fit(make(X), make(Y), fit_intercept=True, sample_weight=make(weights), coef0=make(coef0))
    if layout in ("lists", "objects"):
        dtype = np.float64
    arrays = [np.asarray(array, dtype) for array in (X, Y, weights, coef0)]
    if layout in ("F", "read-only F"):
        arrays[0] = np.asfortranarray(arrays[0])
    X, Y, weights, coef0 = arrays
    assert result == sgdm.fit(X, Y, fit_intercept=True, sample_weight=weights, coef0=coef0)
    assert result.coef.dtype == dtype


@pytest.mark.skipif(sys.maxsize < 2**40, reason="the address space is too small")
@layouts
def test_more_than_2_to_31_numbers_fit(order):
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


# Types


@pytest.mark.parametrize("dtype", ["i1", "u2", "i4", "i8", "u8", "?", "f2", "g", ">f8", ">i4", "O"])
@layouts
def test_data_of_other_types_fit_as_float64(order, dtype):
    matrix, target = np.asarray(np.abs(8 * X).astype(dtype), order=order), np.abs(8 * y).astype(dtype)
    expected = sgdm.fit(matrix.astype(np.float64), target.astype(np.float64), lr=1e-3, fit_intercept=True)
    assert sgdm.fit(matrix, target, lr=1e-3, fit_intercept=True) == expected
    assert expected.coef.dtype == np.float64


@pytest.mark.parametrize("record", ["all", "loss"])
def test_float32_in_is_float32_out(record):
    X, y = make_noise(dtype=np.float32)
    result = sgdm.fit(
        X, y, sample_weight=np.ones(60), coef0=np.ones(6), fit_intercept=True, record=record
    )  # fmt: skip
    arrays = [result.coef, result.intercept, result.velocity, result.loss, result.predict(X)]
    arrays += [a for name in HISTORIES if (a := getattr(result.history, name)) is not None]
    assert [array.dtype for array in arrays] == [np.float32] * len(arrays)


@pytest.mark.parametrize(
    ("x_type", "y_type"), [("f4", "f8"), ("f8", "f4"), ("f4", "i4"), ("i8", "f4"), ("f2", "f2"), ("?", "u1")]
)
def test_anything_else_becomes_float64(x_type, y_type):
    X, y = make_noise()
    X, y = (3 * X).astype(x_type), np.abs(3 * y).astype(y_type)
    result = sgdm.fit(X, y, lr=0.01)
    arrays = [result.coef, result.velocity, result.loss]
    arrays += [getattr(result.history, name) for name in HISTORIES]
    assert [array.dtype for array in arrays] == [np.float64] * len(arrays)
    assert result == sgdm.fit(X.astype(float), y.astype(float), lr=0.01)


# Inputs


def input_arrays(dtype, order):
    X, y = make_noise(targets=2, dtype=dtype, order=order)
    return X, y, {"sample_weight": np.full(60, 0.5, dtype), "coef0": np.ones((5, 2), dtype)}


@layouts
@dtypes
def test_a_fit_leaves_its_inputs_alone(dtype, order):
    X, y, more = input_arrays(dtype, order)
    arrays = [X, y, *more.values()]
    before = [array.copy() for array in arrays]
    result = sgdm.fit(X, y, epochs=5, **more)
    result.predict(X)
    for array, copied in zip(arrays, before, strict=True):
        assert np.array_equal(array, copied)
    held = [result.coef, result.velocity, result.loss, *vars(result.history).values()]
    assert not any(np.shares_memory(ours, theirs) for ours in held for theirs in arrays)


def test_a_result_of_one_target_holds_no_view_of_inputs():
    X, y = make_noise(n=1, d=1)
    coef0 = np.ones(2)
    result = sgdm.fit(X, y, coef0=coef0, epochs=1, fit_intercept=True)
    held = [result.coef, result.velocity, *vars(result.history).values()]
    assert not any(np.shares_memory(ours, theirs) for ours in held for theirs in (X, y, coef0))
    assert np.array_equal(coef0, [1, 1])


def test_a_fit_with_batches_and_validation_leaves_its_inputs_alone():
    X, y = make_data(N, D, targets=2)
    arrays = {"lr": np.full(5, 0.1), "momentum": np.full(5, 0.5), "sample_weight": np.ones(N)}
    held_out = (X[:7].copy(), y[:7].copy(), np.ones(7))
    given = [X, y, *arrays.values(), *held_out]
    before = [array.copy() for array in given]
    for array in given:
        array.flags.writeable = False
    result = sgdm.fit(X, y, epochs=5, batch_size=4, seed=0, validation=held_out, patience=2, average=True, **arrays)
    assert all(map(np.array_equal, given, before))
    held = [result.coef, result.average_coef, result.velocity, *vars(result.history).values(), *result.checkpoint[:5]]
    assert not any(np.shares_memory(ours, theirs) for ours in held for theirs in given)
