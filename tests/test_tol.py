"""A fit with tol stops at the first epoch whose gradient is small enough; until then nothing changes."""

import numpy as np
import pytest
from helpers import HISTORIES, make_noise, overfitting

import sgdm


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
