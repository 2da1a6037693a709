"""The average of the iterates: what it is the mean of, and what it is good for."""

import numpy as np
import pytest
from helpers import D, N, intercepts, make_data, params

import sgdm


@pytest.mark.parametrize("batch_size", [None, 7])
@pytest.mark.parametrize("targets", [None, 2])
@intercepts
def test_the_average_is_the_mean_of_the_iterates(fit_intercept, targets, batch_size):
    X, y = make_data(N, D, targets=targets)
    options = {"batch_size": batch_size, "shuffle": False, "record": "updates", "fit_intercept": fit_intercept}
    plain = sgdm.fit(X, y, epochs=9, **options)
    iterates = np.concatenate([plain.history.coef[1:], params(plain)[None]])
    assert plain.average_coef is plain.average_intercept is None
    for average, start in ((True, 0), (0, 0), (6, 6), (8, 8), (20, None)):
        result = sgdm.fit(X, y, epochs=9, average=average, **options)
        expected = iterates[-1] if start is None else iterates[plain.history.epoch >= start].mean(axis=0)
        np.testing.assert_allclose(result.average_coef, expected[:D], rtol=1e-13)
        np.testing.assert_allclose(result.average_intercept, expected[D] if fit_intercept else 0, rtol=1e-13)
        assert np.array_equal(result.coef, plain.coef)


def test_averaging_evens_out_the_noise_of_batches():
    X, y = make_data(500, 3, noise=1)
    options = {"lr": 0.05, "batch_size": 4, "seed": 0, "fit_intercept": True, "average": 20}
    result = sgdm.fit(X, y, epochs=100, **options)
    Z = np.column_stack([X, np.ones(500)])
    minimum = np.linalg.lstsq(Z, y, rcond=None)[0]
    average = np.append(result.average_coef, result.average_intercept)
    assert np.linalg.norm(average - minimum) < 0.2 * np.linalg.norm(params(result) - minimum)
