"""What must hold for any data: symmetries of rows, weights, targets and the intercept."""

import dataclasses

import numpy as np
import pytest
from helpers import HISTORIES, LEARNING_FORMS, assert_close, dtypes, intercepts, layouts, make_noise

import sgdm


@layouts
@intercepts
def test_a_duplicated_row_is_a_doubled_weight(order, fit_intercept):
    X, y = make_noise(order=order)
    weights = np.ones(len(X))
    weights[7] = 2
    twice = sgdm.fit(np.vstack([X, X[7]]), np.append(y, y[7]), fit_intercept=fit_intercept)
    assert_close(sgdm.fit(X, y, fit_intercept=fit_intercept, sample_weight=weights), twice)


@layouts
@intercepts
def test_a_weight_of_zero_leaves_the_row_out(order, fit_intercept):
    X, y = make_noise(order=order)
    keep = np.arange(len(X)) % 4 != 1
    without = sgdm.fit(X[keep], y[keep], fit_intercept=fit_intercept)
    assert_close(sgdm.fit(X, y, fit_intercept=fit_intercept, sample_weight=keep), without)


@layouts
@intercepts
def test_rows_in_another_order_give_the_same_fit(order, fit_intercept):
    X, y = make_noise(n=700, order=order)
    weights = np.random.default_rng(1).uniform(0, 2, len(X))
    rows = np.random.default_rng(2).permutation(len(X))
    permuted = sgdm.fit(X[rows], y[rows], fit_intercept=fit_intercept, sample_weight=weights[rows])
    assert_close(sgdm.fit(X, y, fit_intercept=fit_intercept, sample_weight=weights), permuted)


def test_a_common_factor_of_the_weights_cancels():
    X, y = make_noise()
    weights = np.random.default_rng(1).uniform(0, 2, len(X))
    assert_close(sgdm.fit(X, y, sample_weight=3 * weights), sgdm.fit(X, y, sample_weight=weights))


@pytest.mark.parametrize(("factor", "tolerance"), [(4.0, 0), (-3.0, 64)])
def test_a_scaled_target_scales_the_fit(factor, tolerance):
    """A power of two scales without any rounding."""
    X, y = make_noise()
    base, scaled = sgdm.fit(X, y, fit_intercept=True), sgdm.fit(X, factor * y, fit_intercept=True)
    paths = {name: factor * getattr(base.history, name) for name in ("grad", "step", "coef")}
    history = dataclasses.replace(base.history, loss=factor**2 * base.history.loss, **paths)
    expected = dataclasses.replace(base, coef=factor * base.coef, intercept=factor * base.intercept, history=history)
    assert_close(scaled, expected, tolerance)


@layouts
@pytest.mark.parametrize("targets", [None, 3])
def test_a_column_of_ones_is_an_intercept(order, targets):
    X, y = make_noise(order=order, targets=targets)
    coef0 = np.random.default_rng(1).standard_normal((6, *y.shape[1:]))
    ones = sgdm.fit(np.column_stack([X, np.ones(len(X))]), y, coef0=coef0)
    result = sgdm.fit(X, y, coef0=coef0, fit_intercept=True)
    assert result.coef.shape == (5, *y.shape[1:])
    assert_close(dataclasses.replace(result, intercept=0.0), dataclasses.replace(ones, coef=ones.coef[:5]))
    np.testing.assert_allclose(result.intercept, ones.coef[5], rtol=1e-12)
    np.testing.assert_allclose(result.velocity, ones.velocity, rtol=0, atol=1e-14)


@intercepts
@pytest.mark.parametrize("form", LEARNING_FORMS)
def test_an_lr_of_zero_stays_at_the_start(form, fit_intercept):
    X, y = make_noise()
    coef0 = np.arange(5.0 + fit_intercept)
    result = sgdm.fit(X, y, lr=0, coef0=coef0, fit_intercept=fit_intercept, **LEARNING_FORMS[form])
    assert np.array_equal(np.append(result.coef, result.intercept)[: len(coef0)], coef0)
    assert np.array_equal(result.history.coef, np.tile(coef0, (50, 1)))
    assert np.all(result.history.loss == result.history.loss[0])


@layouts
@dtypes
@pytest.mark.parametrize(("n", "d"), [(60, 5), (300, 40), (7, 90)])
def test_targets_are_separate_fits(n, d, dtype, order):
    X, Y = make_noise(n, d, 3, dtype, order)
    together = sgdm.fit(X, Y, lr=0.02, fit_intercept=True, epochs=30)
    for t in range(3):
        alone = sgdm.fit(X, Y[:, t], lr=0.02, fit_intercept=True, epochs=30)
        history = {name: getattr(together.history, name)[..., t] for name in HISTORIES}
        column = dataclasses.replace(
            together,
            coef=together.coef[:, t],
            intercept=together.intercept[t],
            history=dataclasses.replace(together.history, **history),
        )
        assert_close(column, alone)


# Rows, columns and parts of both are read in other pieces for each of these: narrow and wide X, from L1 to memory.
READ = [(3000, 20), (10_003, 50), (700, 1000), (601, 5000), (45_003, 50), (2101, 1000)]


@dtypes
@pytest.mark.parametrize("targets", [None, 5])
@pytest.mark.parametrize("shape", READ, ids=str)
def test_columns_of_an_array_give_the_descent_of_its_rows(shape, targets, dtype):
    rng = np.random.default_rng(0)
    X = rng.standard_normal(shape, dtype)
    y = rng.standard_normal((shape[0], targets) if targets else shape[0], dtype)
    options = {
        "lr": 0.01,
        "epochs": 4,
        "fit_intercept": True,
        "method": "direct",
        "sample_weight": rng.uniform(0, 1, shape[0]),
    }
    rows, columns = sgdm.fit(X, y, **options), sgdm.fit(np.asfortranarray(X), y, **options)
    assert_close(columns, rows, 4000)
    np.testing.assert_array_equal(sgdm.fit(X, y, n_threads=2, **options).coef, rows.coef)


@pytest.mark.parametrize(
    ("n", "batch"), [(5000, 32), pytest.param(3_500_000, 1_000_000, marks=pytest.mark.slow)], ids=["copied", "in place"]
)
def test_shuffled_batches_of_columns_are_those_of_rows(n, batch):
    """F-order X of more than 256 MiB is not copied by rows."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((20, n), np.float32)
    y = X[3] + rng.standard_normal(n, np.float32)
    options = {"lr": 0.01, "epochs": 2, "batch_size": batch, "seed": 1, "record": "loss"}
    expected = sgdm.fit(np.ascontiguousarray(X.T), y, **options)
    result = sgdm.fit(X.T, y, **options)
    np.testing.assert_allclose(result.coef, expected.coef, rtol=0, atol=1e-4 * abs(expected.coef).max())
    np.testing.assert_allclose(result.history.loss, expected.history.loss, rtol=1e-5)
