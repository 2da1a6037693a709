"""The l1 and weight-decay penalties: ElasticNet's coefficients, exact zeros, and a free intercept."""

import numpy as np
import pytest
from helpers import LEARNING_FORMS, dtypes, intercepts, layouts, make_data

import sgdm
from sgdm import schedules

ALPHA, RATIO = 0.3, 0.7
ELASTIC = {"l1": 2 * ALPHA * RATIO, "weight_decay": 2 * ALPHA * (1 - RATIO)}
SPARSE = np.array([3, -2, 0, 0, 1.5, 0, 0, 0, 0.5, 0])


def sparse_data(targets=None, order="C", noise=0.5):
    X, _ = make_data(80, 10, order=order)
    truth = SPARSE if targets is None else np.column_stack([np.roll(SPARSE, t) for t in range(targets)])
    y = X @ truth + 2 + noise * np.random.default_rng(1).standard_normal((80, *truth.shape[1:]))
    return X, y, np.random.default_rng(2).uniform(0.2, 2, 80)


def elastic_net(X, y, weights, fit_intercept):
    linear_model = pytest.importorskip("sklearn.linear_model")
    net = linear_model.ElasticNet(
        alpha=ALPHA, l1_ratio=RATIO, fit_intercept=fit_intercept, tol=1e-13, max_iter=10**6
    )  # fmt: skip
    return net.fit(X, y, sample_weight=weights)


def assert_exact_zeros(coef, expected):
    assert np.array_equal(coef == 0, expected)
    assert expected.any()
    assert not np.signbit(coef[coef == 0]).any()


@layouts
@intercepts
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("targets", [None, 2])
@pytest.mark.parametrize("form", LEARNING_FORMS)
def test_a_fit_ends_at_elastic_nets_coefficients(form, targets, weighted, fit_intercept, order):
    X, y, weights = sparse_data(targets, order)
    weights = weights if weighted else None
    theirs = elastic_net(X, y, weights, fit_intercept)
    undamped = 1 - LEARNING_FORMS[form].get("dampening", LEARNING_FORMS[form]["momentum"])
    options = {"lr": 0.1 / undamped, "fit_intercept": fit_intercept, **ELASTIC, **LEARNING_FORMS[form]}
    ours = sgdm.fit(X, y, sample_weight=weights, epochs=2000, record=None, **options)
    np.testing.assert_allclose(ours.coef, theirs.coef_.T, rtol=0, atol=1e-11)
    np.testing.assert_allclose(ours.intercept, theirs.intercept_ if fit_intercept else 0, rtol=0, atol=1e-11)
    assert_exact_zeros(ours.coef, theirs.coef_.T == 0)


@layouts
@dtypes
@pytest.mark.parametrize("batch_size", [None, 16])
def test_a_large_penalty_leaves_the_intercept_alone(batch_size, dtype, order):
    X, y, _ = sparse_data(order=order)
    X, y = np.asarray(X, dtype, order=order), y.astype(dtype)
    coef0 = np.append(np.linspace(-1, 1, 10), 1)
    lr = 0.01 if batch_size is None else schedules.cosine(600, 0.01)
    options = {"lr": lr, "fit_intercept": True, "coef0": coef0, "batch_size": batch_size, "shuffle": False}
    for penalty in ({"l1": 100.0}, {"l1": 100.0, "weight_decay": 5.0}):
        result = sgdm.fit(X, y, epochs=600, **options, **penalty)
        assert_exact_zeros(result.coef, np.ones(10, bool))
        assert result.intercept == pytest.approx(y.mean(), rel=1e-2 if batch_size else 1e-5)


@pytest.mark.parametrize("batch_size", [1, 16])
def test_mini_batches_end_near_elastic_nets_coefficients(batch_size):
    X, y, _ = sparse_data()
    theirs = elastic_net(X, y, None, True)
    rates = schedules.inverse_scaling(1500, 0.01 if batch_size == 1 else 0.2, 0.75)
    ours = sgdm.fit(X, y, lr=rates, epochs=1500, batch_size=batch_size, seed=0, fit_intercept=True, **ELASTIC)
    np.testing.assert_allclose(ours.coef, theirs.coef_, rtol=0, atol=0.01)
    assert ours.intercept == pytest.approx(theirs.intercept_, abs=0.01)
    if batch_size > 1:
        assert_exact_zeros(ours.coef, theirs.coef_ == 0)


@intercepts
@pytest.mark.parametrize("form", LEARNING_FORMS)
def test_tol_with_l1_stops_a_fit_near_the_optimum(form, fit_intercept):
    X, y, _ = sparse_data()
    theirs = elastic_net(X, y, None, fit_intercept)
    undamped = 1 - LEARNING_FORMS[form].get("dampening", LEARNING_FORMS[form]["momentum"])
    options = {"lr": 0.1 / undamped, "fit_intercept": fit_intercept, **ELASTIC, **LEARNING_FORMS[form]}
    result = sgdm.fit(X, y, tol=1e-6, epochs=5000, **options)
    assert result.status == "converged"
    assert 10 < result.epochs < 5000
    np.testing.assert_allclose(result.coef, theirs.coef_, rtol=0, atol=1e-5)
    before = sgdm.fit(X, y, tol=1e-6, epochs=result.epochs - 1, **options)
    assert before.status == "completed"


def test_tol_stops_a_fit_at_once_where_the_start_is_the_optimum():
    X, y, _ = sparse_data()
    result = sgdm.fit(X, y, l1=1e3, tol=0.0, epochs=20)
    assert (result.status, result.epochs) == ("converged", 1)
    assert not result.coef.any()
