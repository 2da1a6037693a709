"""Divergence: when a fit diverges or rises, what it hands over, and the lr that the message suggests."""

import dataclasses
import functools
import re
import warnings

import numpy as np
import pytest
from helpers import (
    HISTORIES,
    LEARNING_FORMS,
    D,
    N,
    X,
    assert_stable_up_to,
    dtypes,
    intercepts,
    layouts,
    make_data,
    make_noise,
    refuse,
    same_but_status,
    y,
)

import sgdm
from sgdm._descent import curvature
from sgdm._descent.problem import as_problem

# What a fit that diverges hands over


forms_in_words = pytest.mark.parametrize(
    ("form", "words"),
    [
        ({}, "momentum=0.8, dampening=0.8"),
        ({"momentum": 0.9, "dampening": 0.0}, "momentum=0.9, dampening=0"),
        ({"momentum": 0.9, "dampening": 0.25, "nesterov": True}, "momentum=0.9, dampening=0.25, nesterov"),
        ({"momentum": 0}, "momentum=0, dampening=0"),
    ],
)


@forms_in_words
@dtypes
@pytest.mark.parametrize("every", [1, 4])
def test_a_fit_that_diverges_hands_over_the_finite_epochs(every, dtype, form, words):
    X, y = make_noise(N, D, dtype=dtype)
    options = {"lr": 50.0, "epochs": 5000, "fit_intercept": True, "record_every": every, **form}
    error = refuse(sgdm.DivergenceError, "^the fit diverged at epoch ", X, y, **options)
    assert isinstance(error, ArithmeticError)
    epoch, lr, suggested = re.fullmatch(
        rf"the fit diverged at epoch (\d+): lr=(\S+) is too large; use an lr of at most (\S+) for {words}", str(error)
    ).groups()
    assert float(lr) == 50
    assert 0.98 * error.max_lr < float(suggested) <= error.max_lr
    # The result is that of a fit of so many epochs, and one epoch more overflows.
    assert error.result.epochs == int(epoch) > 0
    assert error.result.status == "diverged"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", sgdm.ConvergenceWarning)
        assert same_but_status(error.result, sgdm.fit(X, y, **{**options, "epochs": int(epoch)}))
    with pytest.raises(sgdm.DivergenceError, match=f"^the fit diverged at epoch {epoch}:"):
        sgdm.fit(X, y, **{**options, "epochs": int(epoch) + 1})
    assert all(np.isfinite(history).all() for history in vars(error.result.history).values() if history is not None)
    assert np.isfinite(error.result.coef).all()


@pytest.mark.parametrize("options", [{}, {"method": "compress"}, {"batch_size": 50, "lr": 0.01, "momentum": 0}])
def test_a_fit_that_standardized_columns_would_save_says_so(options):
    """And one that they would not save doesn't."""
    far = X[:, :2] * [1, 1000] + [0, 3000]
    options = {"fit_intercept": True, "epochs": 5000, **options}
    assert str(refuse(sgdm.DivergenceError, "too large", far, y, **options)).endswith("; or use standardize=True")
    assert sgdm.fit(far, y, standardize=True, **options).status == "completed"
    for given in ({"lr": 1e6}, {"lr": 1e6, "standardize": True}):
        assert "standardize" not in str(refuse(sgdm.DivergenceError, "too large", far, y, **{**options, **given}))


def test_the_target_that_diverges_is_named():
    Y = make_noise(N, D, 3)[1] * [1, 1e100, 1]
    error = refuse(sgdm.DivergenceError, "^the fit of target 1 diverged at epoch ", y=Y, lr=50, epochs=5000)
    assert error.result.history.loss.shape == (error.result.epochs, 3)


@dtypes
@layouts
@pytest.mark.parametrize("batch", [{"shuffle": False}, {"seed": 1}])
@pytest.mark.parametrize("batch_size", [1, 7])
@pytest.mark.parametrize("record", ["all", "updates"])
def test_batches_that_diverge_hand_over_whole_epochs(record, batch_size, batch, order, dtype):
    X, y = make_data(N, D, dtype=dtype, order=order)
    options = {"lr": 5.0 if batch_size > 1 else 1.1, "fit_intercept": True, "record": record, "average": True}
    options |= {"batch_size": batch_size, **batch}
    message = rf"^the fit diverged at epoch \d+: lr=.* is too large; use an lr .*, batches of {batch_size}$"
    with pytest.raises(sgdm.DivergenceError, match=message) as caught:
        sgdm.fit(X, y, epochs=2000, **options)
    result = caught.value.result
    assert f" at epoch {result.epochs}: " in str(caught.value)
    assert result.status == "diverged"
    assert 0 < result.epochs < 2000
    assert np.isfinite(result.history.loss).all()
    assert not result.loss < result.history.loss[-1]  # that of the epoch that overflowed
    with pytest.warns(sgdm.ConvergenceWarning, match="the objective rose from"):
        same = sgdm.fit(X, y, epochs=result.epochs, **options)
    assert dataclasses.replace(result, status="completed") == same


def test_every_update_of_a_fit_that_diverges_is_finite():
    """Each update's loss too, not only the mean over the epoch."""
    X, y = make_data(N, D, dtype=np.float32)
    options = {"lr": 5.0, "fit_intercept": True, "batch_size": 7, "shuffle": False, "record": "updates"}
    with pytest.raises(sgdm.DivergenceError) as caught:
        sgdm.fit(X, y, epochs=2000, **options)
    history = caught.value.result.history
    assert all(np.isfinite(getattr(history, name)).all() for name in HISTORIES)


# Numbers that overflow


@pytest.mark.parametrize(
    ("x_factor", "y_factor", "message"),
    [
        (1e300, 1e300, "^the squares of the data overflow float64 at epoch 0, whatever the lr; scale the columns"),
        (1, 1e300, "^the loss or a parameter overflowed float64 at epoch 0, though .* scale the columns"),
        (1e300, 1, "^the squares of the data overflow float64 at epoch [01], whatever the lr; scale the columns"),
    ],
)
def test_data_whose_squares_overflow_are_told_from_a_large_lr(x_factor, y_factor, message):
    error = refuse(sgdm.DivergenceError, message, X=X * x_factor, y=y * y_factor)
    assert (error.max_lr is None) == (x_factor > 1)
    assert np.isfinite(error.result.coef).all()
    assert len(error.result.history) == error.result.epochs


def test_squares_that_overflow_float32_are_told_too():
    X, y = make_noise(N, D, dtype=np.float32)
    refuse(sgdm.DivergenceError, "^the squares of the data overflow float32 at epoch 0", X * np.float32(1e30), y * 1e30)


def test_a_penalty_whose_square_overflows_has_a_largest_lr():
    """Without numpy's overflow warning, which would be an error here."""
    given = X[:2, :2], y[:2]
    error = refuse(sgdm.DivergenceError, r"^the fit diverged at epoch .* at most 1\S+e-299", *given, weight_decay=1e300)
    assert error.max_lr == pytest.approx(0.95 * 2 * 1.8 / (0.2 * 1e300), rel=1e-3)


@pytest.mark.parametrize("factor", [1e152, 1e153])
def test_a_largest_lr_below_all_powers_of_ten_is_given(factor):
    """The safe lr for batches is a denormal number here, or 0."""
    options = {"momentum": 1 - 2**-53, "dampening": 0.0, "batch_size": 10, "seed": 0, "epochs": 99}
    error = refuse(sgdm.DivergenceError, r"lr of at most \S+ for momentum=1, dampening=0", X=X * factor, **options)
    assert 0 <= error.max_lr < 1e-315


def test_batches_tell_squares_that_overflow_too():
    X, y = make_data(N, D)
    error = refuse(
        sgdm.DivergenceError, "^the squares of the data overflow float64 at epoch 0", X * 1e300, y, batch_size=7
    )
    assert error.result.epochs == 0
    assert error.max_lr is None


# A loss that rises


@forms_in_words
def test_a_fit_that_ends_above_its_start_warns(form, words):
    options = {"lr": 50.0, "epochs": 5, **form}
    message = rf"^the objective rose from \S+ to \S+ in 5 epochs with lr=50; use an lr of at most \S+ for {words}$"
    with pytest.warns(sgdm.ConvergenceWarning, match=message) as caught:
        result = sgdm.fit(X, y, **options)
    assert [warning.filename for warning in caught] == [__file__]
    assert result.status == "completed"
    assert result.loss > result.history.loss[0]
    suggested = float(re.search(r"at most (\S+) for", str(caught[0].message))[1])
    assert sgdm.fit(X, y, **{**options, "lr": suggested, "epochs": 500}).status == "completed"


def test_a_stable_fit_that_ends_above_its_start_asks_for_more_epochs():
    """The momentum form is stable, just not there yet."""
    steep = X @ np.arange(1.0, 4.0)
    message = r"^the objective rose from .* in 3 epochs with lr=3; lr is stable \(up to .*\), so more epochs will"
    with pytest.warns(sgdm.ConvergenceWarning, match=message):
        sgdm.fit(X, steep, lr=3, epochs=3)
    assert sgdm.fit(X, steep, lr=3, epochs=300).loss < 1e-12


@dtypes
@pytest.mark.parametrize("noise", [0, 0.1])
def test_a_start_at_the_minimum_does_not_warn(noise, dtype):
    """The loss can only rise by rounding there."""
    for seed in range(20):
        X, y = make_noise(N, D, dtype=dtype, seed=seed)
        y = (X @ [0.1, 0.2, 0.3] + noise * y).astype(dtype)
        minimum = np.linalg.lstsq(X.astype(float), y.astype(float), rcond=None)[0].astype(dtype)
        result = sgdm.fit(X, y, coef0=minimum)
        np.testing.assert_allclose(result.coef, minimum, rtol=0, atol=64 * np.finfo(dtype).eps)


@dtypes
def test_a_restart_from_an_exact_solution_does_not_warn(dtype):
    """Down there the loss is nothing but the square of rounding errors."""
    for seed in range(20):
        X, _ = make_noise(N, D, dtype=dtype, seed=seed)
        y = (X @ [1, -2, 3] + 2).astype(dtype)
        first = sgdm.fit(X, y, lr=1, fit_intercept=True, epochs=1000)
        start = np.append(first.coef, first.intercept)
        again = sgdm.fit(X, y, lr=1, fit_intercept=True, coef0=start)
        assert max(first.loss, again.loss) < (64 * np.finfo(dtype).eps) ** 2


def test_a_loss_that_rises_while_the_objective_falls_does_not_warn():
    """The objective falls, so there is nothing to warn of."""
    result = sgdm.fit(X, y, coef0=np.linalg.lstsq(X, y, rcond=None)[0], weight_decay=1.0, epochs=200)
    assert result.loss > 1.001 * result.history.loss[0]


def test_a_rise_by_the_noise_of_batches_is_told():
    X, y = make_data(N, D)
    minimum = np.linalg.lstsq(X, y, rcond=None)[0]
    with pytest.warns(sgdm.ConvergenceWarning, match="use a smaller lr, or one that falls, to even out the noise"):
        sgdm.fit(X, y, lr=0.3, coef0=minimum, batch_size=1, seed=0)


@pytest.mark.parametrize(
    ("extra", "rise"),
    [
        ({"lr": 4.0}, 1),  # the undamped first step goes too far
        ({"lr": 1.0, "momentum": 0.95, "dampening": 0.0}, 1),
        ({"lr": 0.1, "momentum": 0.95, "dampening": 0.0}, 0),  # it rises on the way only
    ],
)
def test_a_passing_rise_is_no_divergence(extra, rise):
    """Warnings are errors here."""
    X, _ = make_noise()
    loss = sgdm.fit(X, X @ np.arange(1.0, 6.0), epochs=1000, **extra).history.loss
    assert loss.max() > 1.5 * loss[0] or not rise
    assert (loss[1:] > 1.5 * loss[:-1]).any()
    assert loss[-1] < 1e-6 * loss[0]


# The largest stable lr


def make_limit(form, weight_decay, fit_intercept):
    """A random problem, its curvature, and its largest stable lr by the eigenvalues of its Hessian."""
    X, y = make_noise(40, 4, seed=3)
    weights = np.random.default_rng(4).uniform(0, 2, 40)
    extra = {"weight_decay": weight_decay, "fit_intercept": fit_intercept, **LEARNING_FORMS[form]}
    Z = np.column_stack([X, np.ones(40)])[:, : 4 + fit_intercept]
    H = 2 * Z.T @ (weights[:, None] * Z) / weights.sum() + weight_decay * np.diag(np.arange(len(Z.T)) < 4)
    momentum, dampening = extra["momentum"], extra.get("dampening", extra["momentum"])
    top = np.linalg.eigvalsh(H)[-1]
    limit = curvature.stability_limit(top, momentum, 1 - dampening, extra.get("nesterov", False))
    problem = as_problem(X, y, weights, fit_intercept)
    return X, y, {**extra, "sample_weight": weights}, problem, top, limit


@pytest.mark.parametrize("weight_decay", [0.0, 0.5])
@pytest.mark.parametrize("form", LEARNING_FORMS)
def test_a_fit_is_stable_below_the_limit_and_diverges_above_it(form, weight_decay):
    X, y, extra, _, _, limit = make_limit(form, weight_decay, fit_intercept=False)
    assert_stable_up_to(limit, functools.partial(sgdm.fit, X, y), **extra)


@intercepts
@pytest.mark.parametrize("weight_decay", [0.0, 0.5])
@pytest.mark.parametrize("form", LEARNING_FORMS)
def test_the_suggested_lr_is_just_below_the_limit(form, weight_decay, fit_intercept):
    X, y, extra, problem, top, limit = make_limit(form, weight_decay, fit_intercept)
    assert curvature.largest_curvature(problem, weight_decay) == pytest.approx(top, rel=1e-3)
    with pytest.raises(sgdm.DivergenceError) as caught:
        sgdm.fit(X, y, lr=3 * limit, epochs=50_000, record=None, **extra)
    assert 0.85 * limit < caught.value.max_lr < limit
    assert sgdm.fit(X, y, lr=caught.value.max_lr, epochs=1000, **extra).status == "completed"


@dtypes
@pytest.mark.parametrize(("n", "d"), [(1, 1), (1, 60), (400, 100), (90, 300)])
def test_the_suggested_lr_is_just_below_the_limit_for_any_shape(n, d, dtype):
    X, y = make_noise(n, d, dtype=dtype)
    limit = 2 * 1.8 / (0.2 * np.linalg.eigvalsh(2 * X.T.astype(float) @ X / n)[-1])
    with pytest.raises(sgdm.DivergenceError) as caught:
        sgdm.fit(X, y, lr=1e3 * limit)
    assert 0.85 * limit < caught.value.max_lr < limit


@pytest.mark.filterwarnings("ignore::sgdm.ConvergenceWarning")  # noise may win at the largest stable lr
@pytest.mark.parametrize("batch_size", [1, 5, 29])
@pytest.mark.parametrize("weight_decay", [0.0, 1000.0])
@pytest.mark.parametrize("form", LEARNING_FORMS)
def test_batches_with_the_suggested_lr_neither_overflow_nor_climb(form, weight_decay, batch_size):
    """It neither overflows nor climbs. 29 leaves a last batch of one row."""
    X, y = make_data(N, D)
    options = {"batch_size": batch_size, "seed": 0, "weight_decay": weight_decay, "record": "loss"}
    options |= LEARNING_FORMS[form]
    with pytest.raises(sgdm.DivergenceError) as caught:
        sgdm.fit(X, y, lr=1e6, epochs=1000, **options)
    assert caught.value.max_lr > 0
    loss = sgdm.fit(X, y, lr=caught.value.max_lr, epochs=2000, **options).history.loss
    assert loss[-100:].mean() < 100 * loss[0]


def test_a_rise_that_no_learning_rate_prevents_says_what_to_do():
    """The curvature overflows, so no largest stable lr is known."""
    X = np.random.default_rng(0).standard_normal((50, 1)) * 1e155
    with pytest.warns(
        sgdm.ConvergenceWarning, match=r"^the objective rose from .*; scale the columns of X and y down$"
    ):
        sgdm.fit(X, np.zeros(50), lr=1e-309, momentum=0, epochs=2, coef0=[1e-200], method="direct")
