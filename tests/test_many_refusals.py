"""What fit_many refuses, word by word."""

import sys

import numpy as np
import pytest
from helpers import CONSTANTS, B, N, changed, history_sizes, refuse, starts, turned
from helpers import MANY_X as X
from helpers import MANY_Y as y

import sgdm

ONES = np.ones((B, N))
FIVE = np.full(B, 0.1)
ONE = {"X": X[0], "y": y[0]}
X_SHAPE = "X must have shape (fits, rows, columns), or (rows, columns) for all, got "
Y_SHAPE = "y must have shape (5, 30) for X of shape (5, 30, 3), got "
Y_SHAPES = "y must have shape (fits, 30) or (30,) for X of shape (30, 3), got "
WEIGHTS, WEIGHTS_3 = "sample_weight must ", "sample_weight of fit 3 must "
COUNTS = "arguments with one value per fit must agree on the number of fits, got "
VALUES = [
    # shapes
    ({"X": X[0, 0]}, X_SHAPE + "(3,)"),
    ({"X": 1.0}, X_SHAPE + "()"),
    ({"X": X[None]}, X_SHAPE + "(1, 5, 30, 3)"),
    ({"X": X[:0], "y": y[:0]}, X_SHAPE + "(0, 30, 3)"),
    ({"X": X[:, :0], "y": y[:, :0]}, X_SHAPE + "(5, 0, 3)"),
    ({"X": X[..., :0]}, X_SHAPE + "(5, 30, 0)"),
    ({"X": X[0, :, :0]}, X_SHAPE + "(30, 0)"),
    ({"y": y[0]}, Y_SHAPE + "(30,)"),
    ({"y": y[:, 1:]}, Y_SHAPE + "(5, 29)"),
    ({"y": y[..., None]}, Y_SHAPE + "(5, 30, 1)"),
    ({"X": X[0], "y": y.T}, Y_SHAPES + "(30, 5)"),
    ({"X": X[0], "y": 1.0}, Y_SHAPES + "()"),
    ({"X": X[0], "y": y[:0]}, Y_SHAPES + "(0, 30)"),
    ({"sample_weight": ONES[0, 1:]}, WEIGHTS + "have one weight per row of X, 30, got 29"),
    ({"sample_weight": ONES[:, 1:]}, "sample_weight of fit 0 must have one weight per row of X, 30, got 29"),
    ({"sample_weight": 1.0}, WEIGHTS + "have shape (30,) or (fits, 30), got shape ()"),
    ({"sample_weight": ONES[None]}, WEIGHTS + "have shape (30,) or (fits, 30), got shape (1, 5, 30)"),
    ({"sample_weight": ONES[:0]}, WEIGHTS + "have shape (30,) or (fits, 30), got shape (0, 30)"),
    ({"coef0": np.ones(4)}, "coef0 must have shape (3,) or (fits, 3), got (4,)"),
    ({"coef0": np.ones((B, 3)), "fit_intercept": True}, "coef0 must have shape (4,) or (fits, 4), got (5, 3)"),
    ({"coef0": 1.0}, "coef0 must have shape (3,) or (fits, 3), got ()"),
    ({"coef0": np.ones((B, 3, 1))}, "coef0 must have shape (3,) or (fits, 3), got (5, 3, 1)"),
    ({"coef0": np.ones((0, 3))}, "coef0 must have shape (3,) or (fits, 3), got (0, 3)"),
    ({"lr": np.ones((B, B))}, "lr must be a number, or one value for each of the 5 fits, got shape (5, 5)"),
    ({"l1": np.ones((B, 1))}, "l1 must be a number, or one value for each of the 5 fits, got shape (5, 1)"),
    ({**ONE, "lr": []}, "lr must be a number, or one value for each of the "),
    ({"lr": [[0.1], [0.1, 0.2]]}, "lr must be rectangular"),
    ({"X": [X[0].tolist(), X[1, 1:].tolist()]}, "X must be rectangular"),
    # how many fits
    ({"y": y[:4]}, COUNTS + "5 of X, 4 of y"),
    ({"X": X[0], "sample_weight": ONES[:2]}, COUNTS + "5 of y, 2 of sample_weight"),
    ({"X": X[0], "coef0": np.ones((4, 3))}, COUNTS + "5 of y, 4 of coef0"),
    ({**ONE, "lr": [0.1] * 3, "momentum": [0.1] * 4}, COUNTS + "3 of lr, 4 of momentum"),
    ({**ONE, "dampening": [0, 0], "l1": [0] * 3}, COUNTS + "2 of dampening, 3 of l1"),
    ({"weight_decay": [0.1] * 6}, COUNTS + "5 of X, 5 of y, 6 of weight_decay"),
    ({"lr": [0.1]}, COUNTS + "5 of X, 5 of y, 1 of lr"),
    # constants
    ({"momentum": 1}, "momentum must be in [0, 1), got 1"),
    ({"momentum": changed(FIVE, 3, value=1)}, "momentum at fit 3 must be in [0, 1), got 1.0"),
    ({"dampening": changed(FIVE, 3, value=1.5)}, "dampening at fit 3 must be in [0, 1], got 1.5"),
    ({"tol": -1}, "tol must be finite and not negative, got -1"),
    ({"record": "updates"}, "record must be 'all', 'loss' or None here, got 'updates'"),
    ({"record": "grad"}, "record must be 'all', 'loss'"),
    # values
    ({"sample_weight": changed(ONES, 3, 7, value=-1)}, WEIGHTS_3 + "not be negative, got -1.0 at row 7"),
    ({"sample_weight": changed(ONES, 3, value=0)}, WEIGHTS_3 + "have a positive, finite sum, got 0.0"),
    ({"sample_weight": changed(ONES, 3, 7, value=np.nan)}, WEIGHTS_3 + "be finite, got nan at row 7"),
    ({"sample_weight": 0 * ONES[0]}, WEIGHTS + "have a positive, finite sum, got 0.0"),
    ({"coef0": changed(X[:, 0], 3, 1, value=np.nan)}, "coef0 must be finite, got nan at fit 3, parameter 1"),
    ({"coef0": [1, np.inf, 1]}, "coef0 must be finite, got inf at parameter 1"),
    ({"X": changed(X, [4, 3], [0, 7], [0, 2], value=np.nan)}, "X must be finite, got nan at fit 3, row 7, column 2"),
    ({"X": turned(changed(X, 3, 7, 2, value=np.inf))}, "X must be finite, got inf at fit 3, row 7, column 2"),
    ({"X": changed(X[0], 7, 2, value=-np.inf)}, "X must be finite, got -inf at row 7, column 2"),
    ({"X": turned(changed(X[0], 7, 2, value=np.nan))}, "X must be finite, got nan at row 7, column 2"),
    ({"y": changed(y, 3, 7, value=np.inf)}, "y must be finite, got inf at fit 3, row 7"),
    ({"X": X[0], "y": changed(y[0], 7, value=np.nan), "lr": FIVE}, "y must be finite, got nan at row 7"),
    ({"X": np.ma.masked_equal(X, X[0, 0, 0])}, "X has 1 masked entries"),
]
TYPES = [
    ({"lr": "auto"}, "lr must be a number, got 'auto' of type str"),
    ({"lr": max}, "lr must be a number, got <built-in function max> of type builtin_function"),
    ({"lr": None}, "lr must be a number, got None of type NoneType"),
    ({"tol": FIVE}, "tol must be a number, got array"),
    ({"nesterov": 1}, "nesterov must be True or False, got 1"),
    ({"fit_intercept": None}, "fit_intercept must be True or False, got None"),
    ({"X": 1j * X}, "X must hold real numbers, got dtype complex128"),
    ({"X": X.astype("M8[s]")}, "X must hold real numbers, got dtype datetime64[s]"),
    ({"y": y.astype(str)}, "y must hold real numbers, got dtype <U"),
    ({"y": None}, "y must hold real numbers, got None"),
    ({"sample_weight": ONES.astype(str)}, "sample_weight must hold real numbers"),
    ({"coef0": ["1", "2", "3"]}, "coef0 must hold real numbers"),
]


def refuse_many(error, message, **arguments):
    refuse(error, starts(message), call=sgdm.fit_many, **{"X": X, "y": y, **arguments})


@pytest.mark.parametrize(
    ("error", "arguments", "message"),
    [(error, *row) for error, rows in ((ValueError, VALUES), (TypeError, TYPES)) for row in rows],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_bad_arguments_of_many_fits_are_refused(error, arguments, message):
    refuse_many(error, message, **arguments)


@pytest.mark.parametrize("name", CONSTANTS)
def test_a_bad_constant_of_any_fit_is_refused(name):
    unit = {"momentum": "in [0, 1)", "dampening": "in [0, 1]"}.get(name, "finite and not negative")
    for bad in (np.nan, np.inf, -0.5):
        refuse_many(ValueError, f"{name} must be {unit}, got {bad}", **{name: bad})
        refuse_many(
            ValueError, f"{name} at fit 2 must be {unit}, got {bad}", **{name: changed(FIVE, [2, 4], value=bad)}
        )
    refuse_many(TypeError, f"{name} must be a number, got '0.1' of type str", **{name: "0.1"})
    refuse_many(TypeError, f"{name} must be a number, got True of type bool", **{name: True})
    for bad in (["0.1"] * B, [True] * B, np.ones(B, bool), 1j * FIVE, [0.1, 0.1, None, 0.1, 0.1]):
        refuse_many(TypeError, f"{name} must hold real numbers, got ", **{name: bad})


@pytest.mark.parametrize("name", ["epochs", "record_every", "n_threads"])
def test_a_bad_count_is_refused(name):
    refuse_many(ValueError, f"{name} must be at least 1, got 0", **{name: 0})
    refuse_many(ValueError, f"{name} must be at least 1, got -3", **{name: -3})
    refuse_many(TypeError, f"{name} must be a whole number, got 1.5 of type float", **{name: 1.5})
    refuse_many(TypeError, f"{name} must be a whole number, got True", **{name: True})
    refuse_many(TypeError, f"{name} must be a whole number, got array", **{name: np.full(B, 2)})


@history_sizes
@pytest.mark.parametrize("epochs", [10**17, sys.maxsize])
def test_a_history_of_many_fits_too_large_for_memory_is_refused(epochs, options, numbers, hint):
    rows = B * epochs
    size = rows * numbers * 8
    message = f"the history of {rows} rows takes {size} bytes ({size / 2**30:.1f} GiB), more than there is; "
    refuse_many(MemoryError, message + f"pass {hint} to keep less", epochs=epochs, **options)


def test_everything_after_y_is_by_keyword():
    with pytest.raises(TypeError, match="positional"):
        sgdm.fit_many(X, y, 0.1)
