"""A result's loss is that of the coefficients it holds; and who ends far above the least loss is told."""

import _thread
import functools
import threading
import warnings
from fractions import Fraction

import helpers
import numpy as np
import pytest
from helpers import dtypes, ignore_far, layouts

import sgdm

N, D = 60, 4
make_data = functools.partial(helpers.make_data, slopes=1, noise=1)


def mean_squared_error(result, X, y, weights=None):
    w = np.ones(len(X)) if weights is None else weights
    residual = X.astype(float) @ result.coef.astype(float) + np.asarray(result.intercept, float) - y
    return np.average(residual**2, axis=0, weights=w)


OPTIONS = {
    "plain": {}, "intercept": {"fit_intercept": True}, "batches": {"batch_size": 7, "seed": 0, "lr": 0.01},
    "batches in order": {"batch_size": 16, "shuffle": False, "lr": 0.01},
    "penalties": {"weight_decay": 0.3, "l1": 0.1}, "averages": {"average": True},
    "updates": {"record": "updates", "batch_size": 20, "shuffle": False}, "nothing recorded": {"record": None},
    "converged": {"tol": 1e-2, "lr": 0.3}, "reduced": {"method": "compress"},
    "reduced, intercept": {"method": "compress", "fit_intercept": True}, "tuned": {"lr": "auto", "momentum": "auto"},
    "threads": {"n_threads": 2},
}  # fmt: skip


@ignore_far
@dtypes
@layouts
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("targets", [None, 1, 3])
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_the_loss_is_that_of_the_coefficients(options, targets, weighted, order, dtype):
    X, y = make_data(N, D, targets=targets, dtype=dtype, order=order)
    weights = np.random.default_rng(1).integers(0, 4, N).astype(dtype) if weighted else None
    result = sgdm.fit(X, y, sample_weight=weights, epochs=12, **options)
    assert np.asarray(result.loss).dtype == dtype
    assert np.shape(result.loss) == y.shape[1:]
    np.testing.assert_allclose(result.loss, mean_squared_error(result, X, y, weights), rtol=40 * np.finfo(dtype).eps)


@pytest.mark.parametrize("shape", [(1, 1), (1000, 2), (5000, 7), (300, 200), (40, 3000), (700_000, 1)], ids=str)
@layouts
def test_the_loss_of_rows_of_all_shapes_has_the_bits_of_the_next_epochs(order, shape):
    X, y = make_data(*shape, order=order)
    options = {"lr": 0.1 / shape[1], "method": "direct"}
    shorter, longer = (sgdm.fit(X, y, epochs=epochs, **options) for epochs in (2, 3))
    assert shorter.loss == longer.history.loss[2]


def test_with_patience_it_is_the_loss_of_the_best_epoch():
    X, y = make_data(N, D)
    held_out = make_data(20, D, seed=1)
    result = sgdm.fit(X, y, validation=held_out, patience=2, lr=0.9, momentum=0.9, dampening=0.0, epochs=200)
    assert result.status == "stopped"
    assert result.best_epoch < result.epochs - 1
    np.testing.assert_allclose(result.loss, mean_squared_error(result, X, y), rtol=1e-13)


@ignore_far
@pytest.mark.parametrize("fit_intercept", [False, True])
def test_it_is_what_the_forecast_says(fit_intercept):
    X, y = make_data(N, D, targets=2)
    reduced = sgdm.compress(X, y, fit_intercept=fit_intercept)
    for epochs in (1, 2, 17):
        result = reduced.fit(lr=0.05, epochs=epochs)
        np.testing.assert_allclose(result.loss, reduced.forecast(0.05, epochs=epochs), rtol=1e-12)


@dtypes
def test_each_of_many_fits_has_its_own(dtype):
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((5, 30, 3)).astype(dtype), rng.standard_normal((5, 30)).astype(dtype) + 3
    weights = rng.integers(0, 3, (5, 30)).astype(dtype)
    lr = [0.1, 0.2, 0.05, 0.1, 0.3]
    many = sgdm.fit_many(X, y, lr=lr, sample_weight=weights, fit_intercept=True, epochs=9)
    assert many.loss.dtype == dtype
    for i in range(5):
        options = {"lr": lr[i], "sample_weight": weights[i], "fit_intercept": True, "epochs": 9, "method": "direct"}
        assert many.loss[i] == many[i].loss == sgdm.fit(X[i], y[i], **options).loss


def test_one_x_for_many_fits():
    X, y = make_data(N, D)
    many = sgdm.fit_many(X, y, lr=[0.01, 0.1], epochs=5)
    assert many.loss.tolist() == [sgdm.fit(X, y, lr=lr, epochs=5, method="direct").loss for lr in (0.01, 0.1)]


def test_of_a_descent_that_diverged_it_is_that_of_the_epoch_that_overflowed():
    X, y = make_data(N, D)
    with pytest.raises(sgdm.DivergenceError) as caught:
        sgdm.fit(X, y, lr=50.0, epochs=5000)
    result = caught.value.result
    assert np.isfinite(result.coef).all()
    assert result.loss > result.history.loss[-1]


def test_of_a_fit_that_was_interrupted_it_is_that_of_the_epochs_done(heeds_sigint):
    X, y = make_data(20_000, 20)
    timer = threading.Timer(0.1, _thread.interrupt_main)
    timer.start()
    with pytest.raises(KeyboardInterrupt) as caught:
        sgdm.fit(X, y, epochs=10**6, record=None, lr=0.01, method="direct")
    result = caught.value.result
    np.testing.assert_allclose(result.loss, mean_squared_error(result, X, y), rtol=1e-12)


def test_goes_on_with_the_loss_of_the_whole_descent():
    X, y = make_data(N, D)
    first = sgdm.fit(X, y, epochs=5)
    assert sgdm.fit(X, y, init=first, epochs=6) == sgdm.fit(X, y, epochs=11)


# Far above the least loss


def test_ending_far_above_the_least_loss_warns_with_both_numbers():
    X, y = make_data(N, D)
    reduced = sgdm.compress(X, y)
    message = r"^the objective went from \S+ to (\S+) in 3 epochs, far above the least there is, (\S+); use standardize"
    with pytest.warns(sgdm.ConvergenceWarning, match=message) as caught:
        result = sgdm.fit(X, y, method="compress", epochs=3, lr=0.01)
    assert f"{result.loss:g} in" in str(caught[0].message)
    assert f"is, {reduced.optimal_loss:g};" in str(caught[0].message)
    assert caught[0].filename == __file__


def test_milliseconds_since_1970_do_not_pass_in_silence():
    from sgdm.sklearn import SGDMRegressor, SGDMRegressorCV

    rng = np.random.default_rng(0)
    t = 1.7e12 + np.sort(rng.integers(0, 86_400_000, 200)).astype(float)
    y = 2 * (t - 1.7e12) + 5 + rng.standard_normal(200)
    with pytest.warns(sgdm.ConvergenceWarning, match="far above the least there is"):
        SGDMRegressor(standardize=False).fit(t[:, np.newaxis], y)
    with pytest.warns(sgdm.ConvergenceWarning, match="but the least-squares solutions have"):
        SGDMRegressorCV(cv=3, standardize=False).fit(t[:, np.newaxis], y)
    for model in (SGDMRegressor(), SGDMRegressorCV(cv=3)):
        assert model.fit(t[:, np.newaxis], y).score(t[:, np.newaxis], y) > 1 - 1e-9


@pytest.mark.parametrize(
    "options",
    [
        {"epochs": 500}, {"epochs": 500, "tol": 1e-3}, {"epochs": 500, "weight_decay": 2.0},
        {"epochs": 3, "validation": sgdm.compress(*make_data(N, D, seed=1)), "patience": 1},
    ],
    ids=["converges", "tol", "penalised optimum", "stopped early"],
)  # fmt: skip
def test_ending_near_it_or_stopping_on_purpose_does_not_warn(options):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sgdm.compress(*make_data(N, D)).fit(**options)


def test_of_several_targets_the_first_that_is_far_is_named():
    X, y = make_data(N, D, targets=3)
    y[:, 0] = 0
    with pytest.warns(sgdm.ConvergenceWarning, match=r"^the objective of target 1 went from"):
        sgdm.compress(X, y).fit(epochs=2, lr=0.001)


def test_folds_that_all_overflow_are_an_error():
    from sgdm.sklearn import SGDMRegressorCV

    X, y = make_data(N, D)
    with pytest.raises(sgdm.DivergenceError):
        SGDMRegressorCV(lr=[1e300, 1e200], momentum=0.5, max_iter=50).fit(X * 1e60, y)


# What the least loss is


def exact_loss(A, y):
    """The least mean squared error, by Gram and Schmidt in rational numbers."""
    rest, basis = [Fraction(float(v)) for v in y], []

    def without(column):
        for b, bb in basis:
            f = sum(p * q for p, q in zip(column, b, strict=True)) / bb
            column = [p - f * q for p, q in zip(column, b, strict=True)]
        return column

    for column in A.T:
        left = without([Fraction(float(v)) for v in column])
        if length := sum(v * v for v in left):
            basis.append((left, length))
    return float(sum(v * v for v in without(rest)) / len(y))


@pytest.mark.parametrize("exponent", [0, 10, 27, 40, 66, 330])
@pytest.mark.parametrize("seed", range(6))
def test_duplicated_columns_at_scales_far_apart_have_the_exact_least_loss(seed, exponent):
    """Scales are powers of two, so duplicates are exact."""
    rng = np.random.default_rng(seed)
    A = rng.standard_normal((9, 5))
    A[:, 2] = A[:, 0]
    A[:, 4] = 0 if seed == 5 else A[:, 1] if seed % 2 else A[:, 4]
    A *= 2.0 ** np.array([exponent, 0, -exponent, exponent // 2, -exponent // 3])
    y = rng.standard_normal(9)
    reduced = sgdm.compress(A, y)
    assert abs(reduced.optimal_loss - exact_loss(A, y)) < 1e-10 * (y @ y / 9)
    solution = reduced.solve()
    assert abs(((A @ solution - y) ** 2).mean() - exact_loss(A, y)) < 1e-10 * (y @ y / 9)


def test_of_several_solutions_the_shortest_is_given():
    rng = np.random.default_rng(0)
    A = rng.standard_normal((20, 6))
    A[:, 4], A[:, 5] = 3 * A[:, 0], A[:, 1] - A[:, 2]
    y = rng.standard_normal(20)
    np.testing.assert_allclose(sgdm.compress(A, y).solve(), np.linalg.lstsq(A, y, rcond=1e-12)[0], rtol=1e-9)


# The caller's numpy.seterr


def test_the_callers_seterr_makes_no_difference():
    from sgdm.sklearn import SGDMRegressor, SGDMRegressorCV

    X, y = make_data(100, 5)
    tiny, faint, float32 = X * 1e-310, y * 1e-200, X.astype(np.float32)
    small32, held_out = (y * 1e-30).astype(np.float32), ((X * 1e20).astype(np.float32), y.astype(np.float32))
    result, tiny_weights = sgdm.fit(X, faint), np.array([5e-324] * 99 + [1e-308])
    calls = {
        "fit": lambda: sgdm.fit(X, faint, epochs=300),
        "auto": lambda: sgdm.fit(X, y, lr="auto", momentum="auto", epochs=300),
        "forecast": lambda: sgdm.compress(X, y).forecast(0.1, epochs=10**9),
        "overflowing forecast": lambda: sgdm.compress(X, y).forecast(1e9, epochs=10**9),
        "tune": lambda: sgdm.compress(X, y).tune(20),
        "optimal_loss": lambda: sgdm.compress(X, faint).optimal_loss,
        "max_lr": lambda: sgdm.compress(tiny, y).max_lr(),
        "spectrum": lambda: sgdm.compress(tiny, y).spectrum(),
        "condition": lambda: sgdm.compress(X * [1, 1, 1, 1, 1e-200], y).condition,
        "solve": lambda: sgdm.compress(X * [1, 1, 1, 1, 1e-200], y).solve(),
        "merge": lambda: sgdm.compress(tiny, y) + sgdm.compress(tiny, y),
        "float32": lambda: sgdm.fit(float32, small32, epochs=5000),
        "float32 reduced": lambda: sgdm.fit(float32, small32, lr="auto", momentum="auto", epochs=5000),
        "float32 validation": lambda: sgdm.fit(float32, held_out[1], validation=held_out, epochs=9),
        "weights": lambda: sgdm.fit(X, y, sample_weight=np.full(100, 1e-300)),
        "weights of a reduction": lambda: sgdm.compress(X, y, sample_weight=tiny_weights).total_weight,
        "schedule": lambda: sgdm.schedules.exponential(100_000, 1.0, 0.5),
        "scaling": lambda: sgdm.schedules.inverse_scaling(100, 1e-300, 20.0),
        "many": lambda: sgdm.fit_many(X, faint, lr=[0.1, 1e-200], epochs=300),
        "predict": lambda: result.predict(tiny),
        "summary": result.summary,
        "estimator": lambda: SGDMRegressor().fit(X, faint).predict(X),
        "cv": lambda: SGDMRegressorCV(max_iter=100).fit(X, faint).predict(X),
        "longdouble": lambda: sgdm.fit(X.astype(np.longdouble), y),
    }
    failed = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", sgdm.ConvergenceWarning)
        for name, call in calls.items():
            expected = call()
            with np.errstate(all="raise"):
                try:
                    got = call()
                except FloatingPointError as error:
                    failed.append(f"{name}: {error}")
                else:
                    same = np.array_equal(got, expected) if isinstance(got, np.ndarray) else got == expected
                    assert same, name
    assert not failed
