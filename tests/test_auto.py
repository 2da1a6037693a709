"""lr="auto": constants that follow the data continuously, and estimators that end at the optimum with them."""

import warnings

import numpy as np
import pytest
from helpers import ignore_far, intercepts, make_data

import sgdm

pytest.importorskip("sklearn")
from sgdm.sklearn import SGDMRegressor, SGDMRegressorCV

pytestmark = ignore_far
FEW, MANY = range(40), range(40, 1000)


def random_problem(seed):
    """A random problem of any shape: more rows than columns or fewer, centred or not, of integers or not."""
    rng = np.random.default_rng(seed)
    n, d = int(rng.integers(5, 40)), int(rng.integers(1, 15))
    X = rng.random((n, d)) if seed % 2 else rng.standard_normal((n, d)) * 10.0 ** rng.uniform(-1, 1, d)
    y = rng.integers(0, 3, n).astype(float) if seed % 3 else X @ rng.standard_normal(d) + rng.standard_normal(n)
    return rng, X, y


def predictions(X, y, at, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", sgdm.ConvergenceWarning)
        return SGDMRegressor().fit(X, y, **options).predict(at)


def assert_the_same_however_it_is_given(seeds):
    for seed in seeds:
        rng, X, y = random_problem(seed)
        n, d = X.shape
        w = rng.integers(0, 5, n)
        w[:2] += 1
        rows, columns = rng.permutation(n), rng.permutation(d)
        expected = predictions(X, y, X)
        others = {
            "rows": (predictions(X[rows], y[rows], X), expected),
            "columns": (predictions(X[:, columns], y, X[:, columns]), expected),
            "y": (predictions(X, 2 * y, X) / 2, expected),
            "weights": (
                predictions(X, y, X, sample_weight=w),
                predictions(np.repeat(X, w, axis=0), np.repeat(y, w), X),
            ),
        }
        for name, (got, want) in others.items():
            assert np.abs(got - want).max() < 1e-7 * max(1, np.abs(y).max()), (seed, name)


def test_predictions_do_not_depend_on_how_the_data_are_given():
    """Rows or columns in another order, y in another unit, weights or repeated rows."""
    assert_the_same_however_it_is_given(FEW)


@pytest.mark.slow
def test_predictions_of_many_problems_do_not_depend_on_how_the_data_are_given():
    assert_the_same_however_it_is_given(MANY)


@pytest.mark.parametrize("seed", [12, 64])
def test_weights_equal_repeated_rows(seed):
    rng = np.random.RandomState(seed)
    X, y, w = rng.rand(15, 10), rng.randint(0, 3, 15).astype(float), rng.randint(0, 5, 15)
    repeated = predictions(np.repeat(X, w, axis=0), np.repeat(y, w), X)
    np.testing.assert_allclose(predictions(X, y, X, sample_weight=w), repeated, atol=1e-7)


@pytest.mark.parametrize("options", [{}, {"momentum": 0.9}, {"nesterov": True}, {"dampening": 0.5}], ids=str)
def test_data_that_differ_by_rounding_get_constants_that_do(options):
    for seed in FEW:
        rng, X, y = random_problem(seed)
        nudged = X * (1 + 1e-15 * rng.standard_normal(X.shape))
        constants = [
            (result.lr, result.momentum, result.dampening)
            for result in (sgdm.fit(data, y, lr="auto", method="direct", epochs=200, **{"momentum": "auto", **options})
                           for data in (X, nudged))
        ]  # fmt: skip
        np.testing.assert_allclose(*constants, rtol=1e-7, atol=1e-12)


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("weight_decay", [0.0, 0.3])
def test_the_optimum_is_reached_wherever_the_epochs_allow(weight_decay, nesterov):
    """With condition numbers of up to 1000, in 1000 epochs: to 8 digits."""
    for seed in range(20):
        rng = np.random.default_rng(seed)
        X = rng.standard_normal((50, 6)) * 10.0 ** rng.uniform(-1.4, 0, 6)
        y = X @ rng.standard_normal(6) + 3 + rng.standard_normal(50)
        model = SGDMRegressor(weight_decay=weight_decay, nesterov=nesterov).fit(X, y)
        Z = np.column_stack([X, np.ones(50)])
        penalty = np.diag([weight_decay] * 6 + [0.0])
        exact = np.linalg.solve(2 * Z.T @ Z / 50 + penalty, 2 * Z.T @ y / 50)
        np.testing.assert_allclose(np.append(model.coef_, model.intercept_), exact, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.8, 0.95, 0.99])
@pytest.mark.parametrize("options", [{}, {"dampening": 0.0}, {"nesterov": True}, {"dampening": 1.0}], ids=str)
@pytest.mark.parametrize("epochs", [1, 5, 50, 500])
def test_a_momentum_that_is_given_is_kept_and_the_objective_falls(epochs, options, momentum):
    for seed in range(6):
        _, X, y = random_problem(seed)
        result = sgdm.fit(X, y, lr="auto", momentum=momentum, epochs=epochs, **options)
        assert result.momentum == momentum
        assert result.loss < result.history.loss[0]


@pytest.mark.parametrize("X", [np.zeros((9, 2)), np.full((9, 2), 1e-200)], ids=["zeros", "tiny"])
def test_columns_without_curvature_have_constants_too(X):
    result = sgdm.fit(X, np.arange(9.0), lr="auto", momentum="auto", method="direct")
    assert 0 < result.lr < np.inf
    assert np.isfinite(result.coef).all()


def test_curvature_that_overflows_is_refused():
    with pytest.raises(ValueError, match=r"^lr can't be tuned, as the losses overflow whatever it is; scale the"):
        sgdm.fit(np.eye(3) * 1e200, np.ones(3), lr="auto")


def test_cross_validation_takes_constants_that_are_stable_on_every_training_set():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((60, 5))
    X[:6] *= 20  # in one fold of ten, so that the others are flatter
    y = X @ np.ones(5) + rng.standard_normal(60)
    model = SGDMRegressorCV(cv=10, standardize=False).fit(X, y)
    assert np.isfinite(model.val_loss_curves_).all()
    ranges = [
        sgdm.compress(X[i != np.arange(60) // 6], y[i != np.arange(60) // 6], fit_intercept=True) for i in range(10)
    ]
    limits = [part.max_lr(model.result_.momentum, 0.0) for part in ranges]
    assert model.result_.lr <= min(limits)


@intercepts
def test_tuned_descents_reach_the_penalised_optimum(fit_intercept):
    """Not the point on the way where the loss alone is lowest."""
    X, y = make_data()
    reduced = sgdm.compress(X, y, fit_intercept=fit_intercept)
    ones = np.ones((len(X), int(fit_intercept)))
    Z, penalised = np.hstack([X, ones]), np.diag([1.0] * X.shape[1] + [0.0] * fit_intercept)
    ridge = np.linalg.solve(2 * Z.T @ Z / len(X) + 0.5 * penalised, 2 * Z.T @ y / len(X))
    result = reduced.fit(lr="auto", momentum="auto", weight_decay=0.5, epochs=300)
    np.testing.assert_allclose(np.append(result.coef, result.intercept)[: len(ridge)], ridge, rtol=1e-8)


def auto_rates(X, momentum, fit_intercept, nesterov=False, weight_decay=0.0, dampening=None):
    """lr, momentum and dampening for lr="auto", from the eigenvalues of the Hessian, for many epochs."""
    Z = np.hstack([X, np.ones((len(X), int(fit_intercept)))])
    penalty = weight_decay * np.array([1.0] * X.shape[1] + [0.0] * fit_intercept)
    values = np.linalg.eigvalsh(2 * Z.T @ Z / len(X) + np.diag(penalty))
    top, low = values[-1], values[0]
    if momentum == "auto":
        root = np.sqrt(3 * top / low + 1) if nesterov else np.sqrt(top / low)
        m = (root - 2) / (root + 2) if nesterov else ((root - 1) / (root + 1)) ** 2
        lr = 4 / (3 * top + low) if nesterov else 4 / (np.sqrt(top) + np.sqrt(low)) ** 2
        return lr, m, 0.0
    kappa = ((2 * (1 + momentum) / (1 - momentum)) ** 2 - 1) / 3  # which this momentum is the best for
    lr = 4 / (3 * top + top / kappa) if nesterov else (1 + np.sqrt(momentum)) ** 2 / top
    dampening = momentum if dampening is None else dampening
    return lr / (1 - dampening), momentum, dampening


@pytest.mark.parametrize("method", ["auto", "direct", "compress"])
@pytest.mark.parametrize("options", [{}, {"nesterov": True, "weight_decay": 0.1}, {"dampening": 0.0}], ids=str)
@intercepts
def test_the_constants_are_the_best_for_the_extreme_eigenvalues(fit_intercept, options, method):
    """The result says what was chosen: the best constants for the extreme eigenvalues. auto reduces."""
    X, y = make_data(n=200)
    coef0 = np.ones(5 + fit_intercept)
    reduced = sgdm.compress(X, y, fit_intercept=fit_intercept)
    for momentum in (0.8, 0.5, "auto"):
        result = sgdm.fit(
            X, y, lr="auto", momentum=momentum, coef0=coef0, epochs=300, fit_intercept=fit_intercept, method=method,
            **options,
        )  # fmt: skip
        expected = auto_rates(X, momentum, fit_intercept, **options)
        assert (result.lr, result.momentum, result.dampening) == pytest.approx(expected, rel=1e-12, abs=1e-15)
        assert result.method == ("direct" if method == "direct" else "compress")
        if method != "direct":
            assert reduced.fit(lr="auto", momentum=momentum, coef0=coef0, epochs=300, **options) == result
        assert result.loss <= 1.001 * result.optimal_loss + options.get("weight_decay", 0)
