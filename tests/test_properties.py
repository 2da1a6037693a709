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
