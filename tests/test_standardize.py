"""A standardized descent: its path, its optimum, its restarts; and penalties that differ between columns."""

import numpy as np
import pytest
import reference
from helpers import FORMS, HISTORIES, dtypes, ignore_far, intercepts, layouts, make_data, refuse

import sgdm
from sgdm._descent.problem import as_problem
from sgdm._descent.scaling import scaling_of_rows

SCALES = np.array([1, 100, 0.01, 3, 1e4])
SHIFTS = np.array([2, -300, 0.05, 0, 3e4])
DECAYS = np.array([0.3, 0, 2e-5, 0.1, 20])
L1S = np.array([0.1, 0, 1e-3, 0.05, 10])


def raw_data(n=120, targets=None, dtype=np.float64, order="C", seed=0):
    """Columns as they come: of many scales, not centred."""
    X, y = make_data(n, 5, targets, seed=seed)
    return np.asarray(X * SCALES + SHIFTS, dtype, order=order), y.astype(dtype)


def follow(X, y, tolerance, **options):
    """A fit whose histories are those of the oracle, within tolerance of the largest number of each parameter."""
    ours, twin = sgdm.fit(X, y, **options), reference.fit(X, y, **{k: v for k, v in options.items() if k != "method"})
    for name in HISTORIES:
        expected = getattr(twin.history, name)
        scale = np.abs(expected).max(axis=0) + 1e-300
        np.testing.assert_allclose(getattr(ours.history, name) / scale, expected / scale, atol=tolerance, err_msg=name)
    d, scale = X.shape[1], np.abs(twin.history.step).max(axis=0)
    np.testing.assert_allclose(ours.velocity / scale, twin.velocity / scale, atol=tolerance)
    np.testing.assert_allclose(ours.coef, twin.params[:d], rtol=0, atol=tolerance * np.abs(twin.params[:d]).max())
    return ours, twin


@layouts
@intercepts
@pytest.mark.parametrize("targets", [None, 2])
@pytest.mark.parametrize("method", ["direct", "compress"])
@pytest.mark.parametrize("form", FORMS)
def test_it_follows_a_descent_on_standardized_columns(form, method, targets, fit_intercept, order):
    X, y = raw_data(targets=targets, order=order)
    weights = np.random.default_rng(1).uniform(0, 2, len(X))
    options = {"lr": 0.02, "epochs": 40, **FORMS[form], "fit_intercept": fit_intercept, "sample_weight": weights}
    follow(X, y, 1e-9, **options, weight_decay=1e-5, l1=0.001, standardize=True, method=method)


@intercepts
@pytest.mark.parametrize("standardize", [False, True])
@pytest.mark.parametrize("method", ["direct", "compress"])
def test_each_column_can_have_penalties_of_its_own(method, standardize, fit_intercept):
    X, y = raw_data() if standardize else make_data(d=5)
    start = np.random.default_rng(2).standard_normal(5 + fit_intercept) / np.append(SCALES, 1)[: 5 + fit_intercept]
    scale = 1 if standardize else 0.01
    options = {"lr": 0.03, "epochs": 60, "fit_intercept": fit_intercept, "coef0": start, "standardize": standardize}
    result, twin = follow(X, y, 1e-9, **options, weight_decay=scale * DECAYS, l1=L1S, method=method)
    np.testing.assert_array_equal(result.coef == 0, twin.params[:5] == 0)


@intercepts
@layouts
@dtypes
def test_batches_average_and_schedules_go_with_it(dtype, order, fit_intercept):
    X, y = raw_data(dtype=dtype, order=order)
    tolerance = 1e-9 if dtype == np.float64 else 2e-2  # of float32, the digits that columns that aren't centred leave
    options = {"lr": np.linspace(0.02, 0.002, 12), "epochs": 12, "fit_intercept": fit_intercept, "momentum": 0.5}
    result, twin = follow(X, y, tolerance, **options, batch_size=7, seed=3, average=2, standardize=True, l1=1e-3)
    np.testing.assert_allclose(result.average_coef * SCALES, twin.average[:5] * SCALES, rtol=0, atol=100 * tolerance)


@pytest.mark.parametrize("method", ["direct", "compress"])
def test_tol_is_a_part_of_the_standardized_gradient(method):
    """In the data's own units the gradient of the largest column hides all others."""
    X, y = raw_data()
    options = {"lr": 0.3, "epochs": 3000, "fit_intercept": True, "tol": 1e-6, "l1": 1e-3, "momentum": 0.5}
    result, _ = follow(X, y, 1e-6, **options, standardize=True, method=method)
    assert result.status == "converged"
    assert np.abs(result.history.grad[-1, 1] / result.history.grad[0, 1]) < 1e-4


@intercepts
@pytest.mark.parametrize("penalty", ["ridge", "elastic net"])
@pytest.mark.parametrize("method", ["direct", "compress"])
def test_the_optimum_is_that_of_the_data_as_they_are(method, penalty, fit_intercept):
    linear_model = pytest.importorskip("sklearn.linear_model")
    X, y = raw_data()
    if penalty == "ridge":
        expected = linear_model.Ridge(alpha=len(X) * 5e-6, fit_intercept=fit_intercept).fit(X, y)
        penalties = {"weight_decay": 1e-5}
    else:
        net = linear_model.ElasticNet(
            alpha=0.01, l1_ratio=0.7, fit_intercept=fit_intercept, tol=1e-13, max_iter=10**6
        )  # fmt: skip
        expected, penalties = net.fit(X, y), {"l1": 2 * 0.01 * 0.7, "weight_decay": 2 * 0.01 * 0.3}
    options = {"lr": 0.1, "momentum": 0.9, "epochs": 6000, "fit_intercept": fit_intercept, "record": None}
    ours = sgdm.fit(X, y, **options, **penalties, standardize=True, method=method)
    np.testing.assert_allclose(ours.coef * SCALES, expected.coef_ * SCALES, rtol=0, atol=1e-8)
    np.testing.assert_allclose(ours.intercept, expected.intercept_, rtol=1e-8)


@pytest.mark.parametrize("way", [{}, {"method": "compress"}, {"batch_size": 16, "seed": 5}])
def test_a_fit_that_goes_on_has_the_bits_of_one(way):
    X, y = raw_data()
    options = {"lr": 0.02, "fit_intercept": True, "standardize": True, "l1": L1S, "average": True} | way
    later = {name: value for name, value in options.items() if name != "seed"}
    result = sgdm.fit(X, y, epochs=7, init=sgdm.fit(X, y, epochs=13, **options), **later)
    assert result == sgdm.fit(X, y, epochs=20, **options)


@dtypes
def test_the_layout_of_x_makes_no_difference_to_means_and_deviations(dtype):
    X, y = raw_data(dtype=dtype)
    c_order, f_order = (scaling_of_rows(problem_of(np.asarray(X, order=order), y)) for order in "CF")
    np.testing.assert_array_equal(c_order, f_order)


@intercepts
@layouts
@pytest.mark.parametrize("shared", ["X", "X and weights", "nothing"])
def test_many_fits_have_the_bits_of_fit(shared, order, fit_intercept):
    Xs, ys = zip(*(raw_data(30, seed=seed, order=order) for seed in range(4)), strict=True)
    weights = np.random.default_rng(1).integers(0, 3, (4, 30)).astype(float)
    X, y = (Xs[0], np.stack(ys)) if "X" in shared else (np.stack(Xs), np.stack(ys))
    w = weights[0] if "weights" in shared else weights
    rates = np.array([0.01, 0.02, 0.03, 0.04])
    options = {"epochs": 9, "fit_intercept": fit_intercept, "standardize": True, "l1": 1e-3, "weight_decay": 1e-5}
    many = sgdm.fit_many(X, y, lr=rates, sample_weight=w, **options)
    for i, lr in enumerate(rates):
        own = X if X.ndim == 2 else X[i]
        one = sgdm.fit(own, ys[i], lr=lr, sample_weight=w if w.ndim == 1 else w[i], method="direct", **options)
        np.testing.assert_array_equal(many[i].coef, one.coef)
        np.testing.assert_array_equal(many[i].history.loss, one.history.loss)


def problem_of(X, y, weights=None):
    return as_problem(X, y, weights, fit_intercept=True)


@pytest.mark.parametrize("factor", [1e-200, 1, 1e150])
def test_means_and_deviations_keep_their_digits(factor):
    """Those of the rows and of the factor are NumPy's, far from zero and near the limits of floats too."""
    X, y = raw_data()
    weights = np.random.default_rng(1).uniform(0, 2, len(X))
    weights[0] = 0
    X[0] = 1e9  # a row without weight
    problem = problem_of(factor * X, y, weights)
    means = np.average(X, axis=0, weights=weights)
    deviations = np.sqrt(np.average((X - means) ** 2, axis=0, weights=weights))
    reduced = sgdm.compress(factor * X, y, sample_weight=weights, fit_intercept=True)
    for scaling in (scaling_of_rows(problem), reduced._scaling()):
        np.testing.assert_allclose(scaling.means, factor * means, rtol=1e-11)
        np.testing.assert_allclose(scaling.deviations, factor * deviations, rtol=1e-11)


def test_a_constant_column_is_not_scaled():
    X, y = raw_data()
    X[:, 1] = 0.1 + 0.2
    for method in ("direct", "compress"):
        for constant in (0.1 + 0.2, 1e12):
            X[:, 1] = constant
            result = sgdm.fit(X, y, fit_intercept=True, standardize=True, lr="auto", epochs=300, method=method)
            assert result.coef[1] == 0
            np.testing.assert_allclose(result.loss, result.optimal_loss, rtol=1e-8)


def test_a_penalty_moves_the_coefficient_of_a_constant_column():
    X, y = raw_data()
    X[:, 1] = 7.0
    options = {"fit_intercept": True, "standardize": True, "epochs": 300, "coef0": np.ones(6)}
    assert sgdm.fit(X, y, **options, lr=0.01).coef[1] == 1
    assert abs(sgdm.fit(X, y, **options, lr=0.01, weight_decay=[0, 5, 0, 0, 0]).coef[1]) < 1e-3


def test_equal_columns_far_from_zero_do_not_slow_lr_auto_down():
    X, y = make_data(40, 3)
    twice = np.column_stack([X + 1000, X[:, 0] + 1000])
    result = sgdm.fit(twice, y, fit_intercept=True, lr="auto", momentum="auto", epochs=100, standardize=True)
    np.testing.assert_allclose(result.loss, result.optimal_loss, rtol=1e-10)


def test_validation_rows_are_scaled_like_the_others():
    X, y = raw_data()
    held_out = raw_data(seed=1)
    result = sgdm.fit(X, y, fit_intercept=True, standardize=True, validation=held_out, epochs=20)
    expected = ((held_out[0] @ result.coef + result.intercept - held_out[1]) ** 2).mean()
    np.testing.assert_allclose(result.history.val_loss[-1], expected, rtol=1e-12)


@ignore_far
@intercepts
@pytest.mark.parametrize("decay", [0.0, 1e-5, DECAYS])
def test_what_a_reduction_says_of_a_standardized_descent(decay, fit_intercept):
    X, y = raw_data()
    reduced = sgdm.compress(X, y, fit_intercept=fit_intercept)
    means, deviations = X.mean(axis=0) * fit_intercept, None
    deviations = np.sqrt(((X - means) ** 2).mean(axis=0))
    Z = np.column_stack([(X - means) / deviations, np.ones((len(X), int(fit_intercept)))])
    spectrum = np.linalg.eigvalsh(2 * Z.T @ Z / len(X))[::-1]
    np.testing.assert_allclose(reduced.spectrum(standardize=True), spectrum, rtol=1e-9)
    limit = reduced.max_lr(0.5, weight_decay=decay, standardize=True)
    options = {"weight_decay": decay, "standardize": True, "record": "loss"}
    with pytest.raises(sgdm.DivergenceError):
        reduced.fit(lr=1.01 * limit, momentum=0.5, epochs=100_000, **options)
    losses = reduced.fit(lr=0.8 * limit, momentum=0.5, epochs=60, **options).history.loss
    del options["record"]
    start = np.zeros(X.shape[1] + fit_intercept)
    ends = [reduced.forecast(0.8 * limit, 0.5, epochs=n, coef0=start, **options) for n in (0, 1, 20, 59)]
    np.testing.assert_allclose(losses[[0, 1, 20, 59]], ends, rtol=1e-9)
    tuned = reduced.tune(30, **options)
    constants = {"lr": tuned.lr, "momentum": tuned.momentum, "dampening": tuned.dampening}
    result = reduced.fit(epochs=30, **constants, **options)
    penalty = (np.asarray(decay) / 2 * result.coef**2).sum()
    np.testing.assert_allclose(result.loss + penalty, tuned.objective, rtol=1e-6)


def test_auto_reaches_least_squares_on_columns_as_they_come():
    X, y = raw_data()
    exact = np.linalg.lstsq(np.column_stack([X, np.ones(len(X))]), y, rcond=None)[0]
    result = sgdm.fit(X, y, fit_intercept=True, lr="auto", momentum="auto", epochs=200, standardize=True)
    np.testing.assert_allclose(result.coef, exact[:5], rtol=1e-8)
    np.testing.assert_allclose(result.intercept, exact[5], rtol=1e-8)


@pytest.mark.parametrize("batches", [{}, {"batch_size": 16, "seed": 0}], ids=["all rows", "batches"])
def test_the_largest_stable_lr_is_that_of_the_standardized_descent(batches):
    X, y = raw_data()
    options = {"fit_intercept": True, "standardize": True, "epochs": 2000, **batches}
    with pytest.raises(sgdm.DivergenceError) as caught:
        sgdm.fit(X, y, lr=50.0, method="direct", **options)
    assert 0.01 < caught.value.max_lr < 50
    assert sgdm.fit(X, y, lr=caught.value.max_lr, **options).loss < 1


def test_the_means_and_deviations_can_be_given():
    X, y = raw_data()
    scaling = X.mean(axis=0), X.std(axis=0)
    options = {"fit_intercept": True, "epochs": 30}
    given, own = (sgdm.fit(X, y, **options, standardize=how) for how in (scaling, True))
    np.testing.assert_allclose(given.coef, own.coef, rtol=1e-9)
    refuse(
        ValueError, "5 means and deviations, got 2 and 2", X, y, standardize=(scaling[0][:2], scaling[1][:2]), **options
    )
    refuse(
        ValueError,
        "standardize's deviations must be above 1e-300, got 0.0",
        X,
        y,
        standardize=(scaling[0], 0 * scaling[1]),
        **options,
    )
    refuse(ValueError, "no means where there is no intercept", X, y, standardize=scaling)
    refuse(ValueError, "means must have shape", X, y, standardize=(1, 2))
    refuse(TypeError, "standardize must be True, False or", X, y, standardize="x")
    refuse(TypeError, "standardize must be True, False or", X, y, standardize=None)
    as_array = sgdm.fit(X, y, **options, standardize=np.array(scaling))
    assert as_array == given


@pytest.mark.parametrize("name", ["weight_decay", "l1"])
def test_penalties_of_another_shape_are_refused(name):
    X, y = raw_data()
    refuse(
        ValueError,
        rf"{name} must be a number, or one for each of the 5 columns, got shape \(3,\)",
        X,
        y,
        **{name: [1, 2, 3]},
    )
    refuse(
        ValueError, f"{name} must be finite and not negative, got -1.0 for column 1", X, y, **{name: [1, -1, 0, 0, 0]}
    )
    refuse(TypeError, "standardize must be True or False", X, y, standardize=1)
