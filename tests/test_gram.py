"""Leaves of many well-conditioned rows are factored by their Gram matrix: as accurately as by reflections."""

import numpy as np
import pytest

from sgdm import compress
from sgdm._kernel import add_rows
from sgdm._reduction.factor import leaf_rows

EPS = np.finfo(float).eps
D = 24
TALL = 8 * 256  # rows from which on the Gram matrix is tried, up to 127 columns in all


def factor(X, y, weights=None, intercept=False, blocks=False):
    """The factor of all rows at once, or of blocks of rows too short for a Gram matrix, one below the other."""
    q = X.shape[1] + intercept + y.shape[1]
    R = np.zeros(((q + 7) // 8 * 8,) * 2)
    roots = None if weights is None else np.sqrt(weights)
    step = 192 if blocks else len(X)
    for i in range(0, len(X), step):
        part = slice(i, i + step)
        add_rows(R, X[part], intercept, y[part], roots if roots is None else roots[part])
    return R[:q, :q]


def stacked(X, y, weights=None, intercept=False):
    Z = np.hstack([X, np.ones((len(X), int(intercept))), y])
    return Z if weights is None else Z * np.sqrt(weights)[:, np.newaxis]


def whole_numbers(seed, n=TALL, d=D, k=1):
    """X and y of whole numbers, small enough for exact products in double, and of two digits' noise in y."""
    rng = np.random.default_rng(seed)
    X = rng.integers(-(2**12), 2**12, (n, d))
    return X, X[:, :3].sum(axis=1, keepdims=True) + rng.integers(-50, 50, (n, k))


def error(R, Z):
    """The largest error of R'R, in units of eps and of the norms of both columns. Z holds small whole numbers."""
    Z = Z.astype(float)
    exact = Z.T @ Z
    assert np.diagonal(exact).max() < 2**53  # so that no sum was rounded
    R = R.astype(np.longdouble)
    norms = np.sqrt(np.diagonal(exact))
    return float(abs((R.T @ R - exact) / np.outer(norms, norms)).max() / EPS)


def coefficients(R, k):
    return np.linalg.solve(R[:-k, :-k], R[:-k, -k:])


def is_by_gram(*rows, **options):
    return not np.array_equal(factor(*rows, **options), factor(*rows, **options, blocks=True))


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("order", "CF")
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("intercept", [False, True])
@pytest.mark.parametrize("k", [1, 3])
def test_well_conditioned_rows_are_factored_as_accurately_as_by_reflections(k, intercept, weighted, order, dtype):
    X, y = whole_numbers(k, k=k)
    weights = np.random.default_rng(1).choice([1.0, 4.0, 9.0], TALL) if weighted else None
    X, y = np.asarray(X, dtype, order=order), y.astype(dtype)
    Z = stacked(X, y, weights, intercept)
    R, reflected = (factor(X, y, weights, intercept, blocks) for blocks in (False, True))
    assert not np.array_equal(R, reflected)
    assert not np.tril(R, -1).any()
    assert error(R, Z) <= 16
    np.testing.assert_allclose(coefficients(R, k), coefficients(reflected, k), rtol=0, atol=1e-12)
    np.testing.assert_allclose(abs(R[-k, -k]), abs(reflected[-k, -k]), rtol=1e-12)


@pytest.mark.parametrize("k", [1, 9])
@pytest.mark.parametrize("d", [21, 31, 32, 50, 130, 300])
def test_any_number_of_columns(d, k):
    X, y = whole_numbers(d, 16 * 130 + 40 * d, d, k)
    for intercept in (False, True):
        rows = X.astype(float), y.astype(float), None, intercept
        assert error(factor(*rows), stacked(*rows)) <= max(16, d / 10)  # by reflections 18 at 600 columns
        assert is_by_gram(*rows)


@pytest.mark.parametrize("n", [TALL - 1, TALL])
def test_few_rows_are_reflected(n):
    X, y = whole_numbers(3, n)
    assert is_by_gram(X.astype(float), y.astype(float)) == (n == TALL)


def test_narrow_rows_are_reflected():
    X, y = whole_numbers(3, d=20)
    assert not is_by_gram(X.astype(float), y.astype(float))


def spoiled(how):
    """Rows that one of the gates refuses."""
    X, y = (array.astype(float) for array in whole_numbers(4))
    rng = np.random.default_rng(5)
    match how:
        case "columns nearly equal":
            X[:, 7] = X[:, 3] + rng.integers(-9, 9, TALL)
        case "columns equal":
            X[:, 7] = X[:, 3]
        case "column of zeros":
            X[:, 7] = 0
        case "constant column":
            X[:, 7] = 5
        case "columns nearly equal after the first rows":
            X[1024:, 7] = X[1024:, 3]
            X[1024:, 3:8:4] *= 100
        case "columns nearly equal in the first rows":
            X[:256, 7] = X[:256, 3]
            X[5, 7] += 1
        case "column that begins late":
            X[:300, 7] = 0
        case "mean that moves away":
            X[1024:, 7] += 10**6
        case "target of zeros":
            y[:] = 0
        case "NaN":
            X[-1, 7] = np.nan
        case "infinity":
            y[700] = np.inf
    return X, y


SPOILED = [
    "columns nearly equal", "columns equal", "column of zeros", "constant column",
    "columns nearly equal after the first rows", "columns nearly equal in the first rows", "column that begins late",
    "mean that moves away", "target of zeros", "NaN", "infinity",
]  # fmt: skip


@pytest.mark.parametrize("intercept", [False, True])
@pytest.mark.parametrize("how", SPOILED)
def test_other_rows_are_reflected(how, intercept):
    X, y = spoiled(how)
    R, reflected = (factor(X, y, None, intercept, blocks) for blocks in (False, True))
    np.testing.assert_array_equal(R, reflected)


@pytest.mark.parametrize("intercept", [False, True])
def test_accuracy_on_both_sides_of_the_gates(intercept):
    """From independent columns to equal ones: wherever the gates let the Gram matrix be used, it has all digits."""
    used = []
    for bits in range(13):
        X, y = whole_numbers(bits)
        X[:, 7] = X[:, 3] + X[:, 7] // 2**bits
        y = y // 2**bits + X[:, 5:6]
        rows = X.astype(float), y.astype(float), None, intercept
        R, reflected = factor(*rows), factor(*rows, blocks=True)
        assert error(R, stacked(*rows)) <= 16
        np.testing.assert_allclose(coefficients(R, 1)[:D], coefficients(reflected, 1)[:D], rtol=0, atol=1e-14)
        used.append(is_by_gram(*rows))
    assert used[0]
    assert not used[-1]


@pytest.mark.parametrize("exponent", [-300, -100, 0, 100, 300])
def test_columns_of_any_scale(exponent):
    X, y = (array.astype(float) for array in whole_numbers(6))
    scales = np.ldexp(1.0, np.linspace(-exponent, exponent, D).astype(int))
    plain, scaled = compress(X, y[:, 0]).R, compress(X * scales, y[:, 0]).R
    np.testing.assert_allclose(scaled[:, :D] / scales, plain[:, :D], rtol=0, atol=8 * EPS * abs(plain).max())
    np.testing.assert_allclose(scaled[-1, -1], plain[-1, -1], rtol=1e-12)


def test_means_far_from_zero():
    X, y = whole_numbers(7)
    X, y = X // 64 + 2**20, y // 64 - 2**19
    rows = X.astype(float), y.astype(float), None, True
    assert is_by_gram(*rows)
    assert error(factor(*rows), stacked(*rows)) <= 16
    X, y = X - 2**20, y + 2**19
    centred = factor(X.astype(float), y.astype(float), None, True, blocks=True)
    np.testing.assert_allclose(coefficients(factor(*rows), 1)[:-1], coefficients(centred, 1)[:-1], rtol=0, atol=1e-11)


def test_exact_fits():
    """The residual is rounding alone: a column of C whose direction means nothing."""
    X, _ = whole_numbers(8)
    y = X @ np.arange(1, D + 1)[:, np.newaxis]
    rows = X.astype(float), y.astype(float)
    assert is_by_gram(*rows)
    assert error(factor(*rows), stacked(*rows)) <= 16
    reduced = compress(rows[0], rows[1][:, 0])
    np.testing.assert_allclose(reduced.solve(), np.arange(1, D + 1), rtol=1e-12)
    assert reduced.optimal_loss <= (8 * EPS) ** 2 * (y**2).mean()


@pytest.mark.parametrize("d", [21, 50, 200, 500, 1000])
def test_a_leaf_has_enough_rows(d):
    first_rows = max(256, 2 * (d + 2))
    assert leaf_rows(d + 1) >= 8 * first_rows
