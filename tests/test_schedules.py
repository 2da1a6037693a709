"""Schedules of lr and momentum: their shapes, the forms that a fit takes, and what is refused."""

import math
import re

import numpy as np
import pytest
from helpers import D, N, X, make_data, params, refuse, starts, y

import sgdm
from sgdm import schedules

# The schedules of sgdm.schedules


@pytest.mark.parametrize("epochs", [1, 2, 3, 40, 101])
@pytest.mark.parametrize("pct_start", [0.0, 0.25, 0.5, 1.0])
def test_one_cycle_rises_to_its_peak_and_falls(epochs, pct_start):
    lr, momentum = schedules.one_cycle(epochs, 2.0, pct_start=pct_start, div=10, final_div=100, momentum=(0.9, 0.7))
    assert lr.shape == momentum.shape == (epochs,)
    assert lr.dtype == momentum.dtype == np.float64
    peak = round(pct_start * (epochs - 1))
    assert np.argmax(lr) == np.argmin(momentum) == peak
    assert (lr[peak], momentum[peak]) == (2.0, 0.7)
    assert np.all(np.diff(lr[: peak + 1]) > 0)
    assert np.all(np.diff(lr[peak:]) < 0)
    if peak > 0:
        assert (lr[0], momentum[0]) == pytest.approx((0.2, 0.9))
        rise = (lr[: peak + 1] - 0.2) / 1.8
        np.testing.assert_allclose((0.9 - momentum[: peak + 1]) / 0.2, rise, atol=1e-12)
    if peak < epochs - 1:
        assert (lr[-1], momentum[-1]) == pytest.approx((0.02, 0.9))
        np.testing.assert_allclose((0.9 - momentum[peak:]) / 0.2, (lr[peak:] - 0.02) / 1.98, atol=1e-12)


def test_each_schedule_follows_its_formula():
    t = np.arange(21)
    schedule_values = {
        "cosine": (schedules.cosine(21, 0.5, 0.1), 0.1 + 0.4 * (1 + np.cos(np.pi * t / 20)) / 2),
        "to zero": (schedules.cosine(21, 0.5), 0.5 * (1 + np.cos(np.pi * t / 20)) / 2),
        "exponential": (schedules.exponential(21, 0.5, 0.9), 0.5 * 0.9**t),
        "inverse": (schedules.inverse_scaling(21, 0.5), 0.5 / (t + 1) ** 0.25),
        "warm-up": (schedules.warm_up(np.full(21, 0.5), 4), 0.5 * np.minimum(t + 1, 5) / 5),
    }
    for name, (array, expected) in schedule_values.items():
        np.testing.assert_allclose(array, expected, rtol=1e-14, atol=1e-17, err_msg=name)
        assert type(array) is np.ndarray
    for one in (schedules.cosine(1, 0.5), schedules.exponential(1, 0.5, 0.9), schedules.inverse_scaling(1, 0.5)):
        assert one.tolist() == [0.5]
    given = np.full(5, 0.5)
    schedules.warm_up(given, 4)
    assert schedules.inverse_scaling(3, 0.5, 1e300).tolist() == [0.5, 0, 0]  # without a warning of the overflow
    assert given.tolist() == [0.5] * 5


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: schedules.cosine(0, 0.1), ValueError, "epochs must be at least 1, got 0"),
        (lambda: schedules.cosine(2.5, 0.1), TypeError, "epochs must be a whole number, got 2.5 of type float"),
        (lambda: schedules.cosine(5, -1), ValueError, "lr must be finite and not negative, got -1"),
        (lambda: schedules.cosine(5, 1, math.nan), ValueError, "final must be finite and not negative, got nan"),
        (lambda: schedules.exponential(5, "1", 0.5), TypeError, "lr must be a number, got '1' of type str"),
        (lambda: schedules.exponential(5, 1, -0.5), ValueError, "gamma must be finite and not negative, got -0.5"),
        (lambda: schedules.inverse_scaling(5, 1, -1), ValueError, "power must be finite and not negative, got -1"),
        (lambda: schedules.one_cycle(True, 1), TypeError, "epochs must be a whole number, got True"),
        (lambda: schedules.one_cycle(5, math.inf), ValueError, "max_lr must be finite and not negative, got inf"),
        (lambda: schedules.one_cycle(5, 1, pct_start=1.5), ValueError, "pct_start must be in [0, 1], got 1.5"),
        (lambda: schedules.one_cycle(5, 1, div=0), ValueError, "div must be above 0, got 0"),
        (lambda: schedules.one_cycle(5, 1, final_div=0.0), ValueError, "final_div must be above 0, got 0.0"),
        (lambda: schedules.one_cycle(5, 1, momentum=(0.9, 1)), ValueError, "momentum must be in [0, 1), got 1"),
        (lambda: schedules.one_cycle(5, 1, momentum=0.9), TypeError, "momentum must be "),
        (lambda: schedules.one_cycle(5, 1, momentum=(0.9,)), ValueError, "momentum must be "),
        (lambda: schedules.warm_up(np.ones(3), 0), ValueError, "epochs must be at least 1, got 0"),
        (lambda: schedules.warm_up(np.ones(3), 3), ValueError,
         "schedule must be 1-D and longer than the 3 epochs of warm-up, got (3,)"),
        (lambda: schedules.warm_up(np.ones((3, 2)), 1), ValueError, "schedule must be 1-D and longer than the 1 epoch"),
        (lambda: schedules.warm_up(["a", "b"], 1), TypeError, "schedule must hold real numbers, got dtype <U1"),
        (lambda: schedules.warm_up([0.1, 1j], 1), TypeError, "schedule must hold real numbers, got dtype complex128"),
        (lambda: schedules.warm_up([[0.1], [0.1, 0.2]], 1), ValueError, "schedule must be rectangular"),
        (lambda: schedules.warm_up([0.1, 0.1, math.inf], 1), ValueError, "schedule must be finite, got inf at epoch 2"),
        (lambda: schedules.exponential(1000, 0.1, 2.5), ValueError, "lr * gamma ** t must be finite, got gamma=2.5"),
        (lambda: schedules.one_cycle(9, 1e10, div=1e-300), ValueError, "max_lr / div must be finite, got 1e+10 / 1e-3"),
        (lambda: schedules.one_cycle(9, 1e10, final_div=1e-300), ValueError, "max_lr / final_div must be finite"),
        (lambda: schedules.warm_up(0.1, 1), ValueError, "schedule must be 1-D and longer than the 1 epochs"),
    ],
)  # fmt: skip
def test_a_schedule_refuses_bad_arguments(make, error, message):
    with pytest.raises(error, match="^" + re.escape(message)):
        make()


def test_a_fit_with_one_cycle_ends_at_least_squares():
    X, y = make_data(N, D)
    lr, momentum = schedules.one_cycle(200, 0.3)
    result = sgdm.fit(X, y, lr=lr, momentum=momentum, dampening=0.0, epochs=200, fit_intercept=True)
    minimum = np.linalg.lstsq(np.column_stack([X, np.ones(N)]), y, rcond=None)[0]
    np.testing.assert_allclose(params(result), minimum, rtol=0, atol=1e-4)


# Schedules in a fit


@pytest.mark.parametrize("name", ["lr", "momentum"])
@pytest.mark.parametrize("batch_size", [None, 7])
def test_a_schedule_in_any_form_gives_the_same_fit(name, batch_size):
    X, y = make_data(N, D)
    rates = np.linspace(0.3, 0.1, 12)
    options = {"epochs": 12, "batch_size": batch_size, "shuffle": False}
    expected = sgdm.fit(X, y, **options, **{name: rates})
    for form in (rates.tolist(), tuple(rates), lambda t: rates[t], lambda t: float(rates[t])):
        assert sgdm.fit(X, y, **options, **{name: form}) == expected
    constant = sgdm.fit(X, y, **options, **{name: 0.25})
    for form in (np.full(12, 0.25), np.full(12, 0.25, np.float32), lambda t: 0.25):
        assert sgdm.fit(X, y, **options, **{name: form}) == constant
    assert constant != expected


def test_a_function_gets_the_epochs_of_the_whole_fit():
    X, y = make_data(N, D)
    calls = []

    def lr(epoch):
        calls.append(epoch)
        return 0.1

    first = sgdm.fit(X, y, lr=lr, epochs=3)
    sgdm.fit(X, y, lr=lr, momentum=lr, epochs=2, init=first)
    assert calls == [0, 1, 2, 3, 4, 3, 4]
    assert all(type(call) is int for call in calls)


def refuse_fit(error, message, **options):
    refuse(error, starts(message), *make_data(N, D), **options)


@pytest.mark.parametrize("name", ["lr", "momentum"])
def test_a_fit_refuses_a_bad_schedule(name):
    high = {"lr": "finite and not negative", "momentum": "in [0, 1)"}[name]
    shapes = f"{name} must be a number, a function of the epoch, or one value for each of the 50 epochs, got shape "
    for value in (np.ones(49), np.ones(51), [], np.ones((50, 1)), lambda t: [0.1, 0.2]):
        shape = (50, 2) if callable(value) else np.shape(value)
        refuse_fit(ValueError, f"{shapes}{shape}", **{name: value})
    bad = np.where(np.arange(50) == 7, -1, 0.1)
    for value, got in ((bad, -1.0), (lambda t: bad[t], -1.0), (np.where(bad < 0, np.nan, bad), np.nan)):
        refuse_fit(ValueError, f"{name} at epoch 7 must be {high}, got {got}", **{name: value})
    refuse_fit(ValueError, f"{name} at epoch 9 must be ", init=sgdm.fit(X, y, epochs=2), **{name: bad})
    for value in (["0.1"] * 50, [None] * 50, lambda t: "0.1", lambda t: None, np.full(50, 1j)):
        refuse_fit(TypeError, f"{name} must hold real numbers, got ", **{name: value})
    for value in (None, "0.1"):
        refuse_fit(TypeError, f"{name} must be a number, got {value!r}", **{name: value})
    if name == "momentum":
        refuse_fit(ValueError, "momentum at epoch 0 must be in [0, 1), got 1.0", momentum=np.ones(50))


def test_a_schedule_of_bools_is_refused_as_a_bool_is():
    """lr=True is refused, so these are too."""
    for value in ([True] * 50, lambda t: True, (0.1,) * 49 + (True,), [0.1] * 49 + [np.True_]):
        refuse_fit(TypeError, "lr must hold real numbers", lr=value)
