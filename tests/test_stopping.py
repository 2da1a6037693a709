"""A fit stops early by tol, at a small gradient, or by patience, where the validation loss has stopped falling."""

import dataclasses

import numpy as np
import pytest
from helpers import HISTORIES, D, N, dtypes, intercepts, layouts, make_data, make_noise, mse, overfitting, params

import sgdm

# tol


@pytest.mark.parametrize("every", [1, 3])
@pytest.mark.parametrize("targets", [None, 2])
def test_tol_stops_a_fit_at_the_first_small_gradient(targets, every):
    X, y = make_noise(targets=targets)
    full = sgdm.fit(X, y, epochs=500)
    result = sgdm.fit(X, y, epochs=500, tol=1e-3, record_every=every)
    assert result.status == "converged"
    assert 10 < result.epochs < 500
    norms = np.linalg.norm(full.history.grad, axis=1).reshape(500, -1)
    met = np.all(norms <= 1e-3 * norms[0], axis=1)
    assert result.epochs == np.argmax(met) + 1
    assert np.array_equal(result.coef, full.history.coef[result.epochs])
    assert np.array_equal(result.history.epoch, np.arange(0, result.epochs, every))
    for name in HISTORIES:
        prefix = getattr(full.history, name)[: result.epochs : every]
        assert np.array_equal(getattr(result.history, name), prefix)


def test_a_tol_that_is_not_met_changes_nothing():
    X, y = make_noise()
    result = sgdm.fit(X, y, tol=0)
    assert result.status == "completed"
    assert result == sgdm.fit(X, y)


def test_tol_without_patience_looks_at_the_gradient_not_the_validation_loss():
    X, y, held_out = overfitting()
    result = sgdm.fit(X, y, lr=0.02, epochs=2000, tol=0.05, validation=held_out)
    plain = sgdm.fit(X, y, lr=0.02, epochs=2000, tol=0.05)
    assert result.status == plain.status == "converged"
    assert np.array_equal(result.coef, plain.coef)


# Validation and patience


@dtypes
@layouts
@intercepts
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("targets", [None, 2])
@pytest.mark.parametrize("batch_size", [None, 7])
def test_the_validation_loss_is_that_of_the_coefficients_after_each_epoch(
    batch_size, targets, weighted, fit_intercept, order, dtype
):
    """Of the coefficients after each epoch; the fit is the same without."""
    X, y = make_data(N, D, targets=targets, dtype=dtype)
    X_val, y_val = make_data(21, 3, targets=targets, dtype=dtype, order=order, seed=1)
    weights = np.random.default_rng(2).uniform(0, 2, 21) if weighted else None
    held_out = (X_val, y_val, weights) if weighted else (X_val, y_val)
    options = {"batch_size": batch_size, "shuffle": False, "epochs": 8, "fit_intercept": fit_intercept}
    result = sgdm.fit(X, y, validation=held_out, **options)
    expected = [
        mse(X_val.astype(float), y_val, params(sgdm.fit(X, y, **{**options, "epochs": t + 1})), weights)
        for t in range(8)
    ]
    assert result.history.val_loss.dtype == dtype
    assert result.history.val_loss.shape == (8, *y.shape[1:])
    np.testing.assert_allclose(result.history.val_loss, expected, rtol=50 * np.finfo(dtype).eps)
    plain = sgdm.fit(X, y, **options)
    assert np.array_equal(result.coef, plain.coef)
    assert dataclasses.replace(result.history, val_loss=None) == plain.history
    assert result.best_epoch == np.argmin(np.sum(result.history.val_loss.reshape(8, -1), axis=1))
    assert plain.best_epoch is plain.history.val_loss is None
    every = sgdm.fit(X, y, validation=list(held_out), record="updates", record_every=3, **options)
    assert np.array_equal(every.history.val_loss, result.history.val_loss[::3])
    assert sgdm.fit(X, y, validation=held_out, record="loss", **options).history.val_loss.shape == (8, *y.shape[1:])
    assert sgdm.fit(X, y, validation=held_out, record=None, **options).best_epoch == result.best_epoch


@layouts
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("targets", [None, 2])
@pytest.mark.parametrize("batch", [{}, {"batch_size": 4}])
@pytest.mark.parametrize(("fraction", "count"), [(0.2, 6), (0.21, 7), (0.5, 15), (0.01, 1)])
def test_a_fraction_holds_out_the_first_rows_of_a_permutation(fraction, count, batch, targets, weighted, order):
    """The first rows of a permutation are held out, the others stay in order; then come the epochs' permutations."""
    X, y = make_data(N, D, targets=targets, order=order)
    weights = np.random.default_rng(2).uniform(0, 2, N) if weighted else None
    options = {"epochs": 10, "fit_intercept": True, **batch}
    given = {**options, "validation": fraction, "sample_weight": weights}
    result = sgdm.fit(X, y, seed=5, **given)
    generator = np.random.default_rng(5)
    chosen = np.sort(generator.permutation(N)[:count])
    rest = np.setdiff1d(range(N), chosen)
    options["validation"] = (X[chosen], y[chosen]) + ((weights[chosen],) if weighted else ())
    if weighted:
        options["sample_weight"] = weights[rest]
    if batch:
        options["seed"] = generator
    expected = sgdm.fit(X[rest], y[rest], **options)
    assert dataclasses.replace(result, checkpoint=expected.checkpoint) == expected
    assert sgdm.fit(X, y, seed=5, **given) == result
    assert sgdm.fit(X, y, seed=6, **given) != result


@pytest.mark.parametrize("targets", [None, 3])
@pytest.mark.parametrize("tol", [None, 0.0, 0.003])
@pytest.mark.parametrize("batch", [{}, {"batch_size": 10, "seed": 1}])
@pytest.mark.parametrize("patience", [1, 5, 40])
def test_patience_stops_a_fit_and_gives_the_best_epoch_back(patience, batch, tol, targets):
    X, y, held_out = overfitting(targets)
    options = {"lr": 0.02, "fit_intercept": True, "validation": held_out, **batch}
    result = sgdm.fit(X, y, epochs=2000, patience=patience, tol=tol, **options)
    assert result.status == "stopped"
    val = result.history.val_loss.reshape(result.epochs, -1).mean(axis=1)
    best = 0
    for t, loss in enumerate(val):
        if loss < val[best] * (1 - (tol or 0)):
            best = t
    assert result.best_epoch == best
    assert tol or best == np.argmin(val)
    assert result.epochs == best + patience + 1
    shorter = sgdm.fit(X, y, epochs=best + 1, **options)
    assert np.array_equal(params(result), params(shorter))
    longer = sgdm.fit(X, y, epochs=result.epochs, **options)
    assert result.history == longer.history
    assert np.array_equal(result.velocity, longer.velocity)
    assert not np.array_equal(params(result), params(longer))


def test_patience_that_lasts_gives_the_best_epoch_back_too():
    """Then too the best epoch's coefficients come back."""
    X, y, held_out = overfitting()
    result = sgdm.fit(X, y, lr=0.02, epochs=300, validation=held_out, patience=1000)
    assert result.status == "completed"
    assert 5 < result.best_epoch < 295
    best = sgdm.fit(X, y, lr=0.02, epochs=result.best_epoch + 1)
    assert np.array_equal(result.coef, best.coef)
    assert len(result.history) == 300
