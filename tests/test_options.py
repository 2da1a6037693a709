"""Options that are refused, word by word, and before any row is read."""

import re
from fractions import Fraction

import numpy as np
import pytest
from helpers import D, N, bad_counts, make_data, refuse, starts

import sgdm

X, y = make_data(N, D)
FULL = sgdm.fit(X, y, epochs=2)
SHUFFLED = sgdm.fit(X, y, batch_size=10, seed=0, epochs=2)
VALIDATED = sgdm.fit(X, y, epochs=2, validation=(X, y))


# Numbers, counts and flags

NUMBERS = ("lr", "momentum", "dampening", "weight_decay", "tol")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, -0.1, np.float32(-1), -1])
@pytest.mark.parametrize("name", NUMBERS)
def test_a_number_out_of_range_is_refused(name, value):
    expected = {"momentum": r"in \[0, 1\)", "dampening": r"in \[0, 1\]"}.get(name, "finite and not negative")
    refuse(ValueError, f"^{name} must be {expected}, got {re.escape(repr(value))}$", **{name: value})


@pytest.mark.parametrize("value", ["0.1", True, np.True_, 0.1j, [0.1], np.array([0.1])])
@pytest.mark.parametrize("name", NUMBERS)
def test_a_number_of_another_type_is_refused(name, value):
    if name in ("lr", "momentum", "weight_decay") and np.ndim(value):
        return  # a schedule, or one for each column: see test_schedules.py and test_standardize.py
    message = f"^{name} must be a number, got {re.escape(repr(value))} of type {type(value).__name__}$"
    refuse(TypeError, message, **{name: value})


@pytest.mark.parametrize(("name", "value"), [("momentum", 1), ("momentum", 1.5), ("dampening", 1.01)])
def test_momentum_and_dampening_end_at_one(name, value):
    refuse(ValueError, rf"^{name} must be in \[0, 1[)\]], got {value}$", **{name: value})


@pytest.mark.parametrize("name", ["lr", "weight_decay", "tol"])
def test_an_integer_beyond_float64_is_refused(name):
    refuse(ValueError, f"^{name} must be finite", **{name: 10**400})


@pytest.mark.parametrize("value", [np.float32(0.5), np.float16(0.5), Fraction(1, 2)])
def test_a_number_of_any_real_type_is_taken(value):
    assert sgdm.fit(X, y, lr=value, momentum=value) == sgdm.fit(X, y, lr=0.5, momentum=0.5)


@pytest.mark.parametrize("name", ["epochs", "record_every"])
@bad_counts
def test_a_count_must_be_a_positive_whole_number(name, value, error, expected):
    refuse(error, f"^{name} must be {re.escape(expected)}$", **{name: value})


def test_a_count_may_be_an_integer_of_numpy():
    assert sgdm.fit(X, y, epochs=np.int64(7), record_every=np.uint8(2)) == sgdm.fit(X, y, epochs=7, record_every=2)


@pytest.mark.parametrize("name", ["nesterov", "fit_intercept"])
@pytest.mark.parametrize("value", [1, 0, "yes", None])
def test_a_flag_must_be_a_bool(name, value):
    refuse(TypeError, f"^{name} must be True or False, got {value!r}$", **{name: value})


@pytest.mark.parametrize("value", ["coef", True, 1, ["all"]])
def test_record_must_be_one_of_four(value):
    message = f"^record must be 'all', 'loss', 'updates' or None, got {re.escape(repr(value))}$"
    refuse(ValueError, message, record=value)


# Other values

COUNT, NUMBER, PAIR = "must be a whole number, got ", "must be a number, got ", "validation must be "
VALUES = [
    *((name, value, ValueError, f"{name} must be at least 1, got {value}") for name in
      ("batch_size", "patience", "callback_every") for value in (0, -1)),
    *((name, value, TypeError, f"{name} {COUNT}{value!r}") for name in
      ("batch_size", "patience", "callback_every") for value in (1.5, True, np.True_, "a", [3])),
    ("seed", -1, ValueError, "seed must be an int of at least 0, a SeedSequence or a Generator, got -1"),
    *(("seed", value, TypeError, "seed must be an int") for value in (True, np.True_, "a", 1.5, X, print)),
    ("average", -1, ValueError, "average must start at epoch 0 or later, got -1"),
    ("average", 2**63, ValueError, "average must start at epoch 0 or later and at most sys.maxsize, got 9223372036854"),
    ("method", np.array(["auto", "direct"]), ValueError, "method must be 'auto', 'direct' or 'compress', got array(["),
    *(("average", value, TypeError, f"average must be True, False or the epoch to start at, got {value!r}")
      for value in ("x", 1.5, None)),
    ("l1", -0.1, ValueError, "l1 must be finite and not negative, got -0.1"),
    ("l1", np.nan, ValueError, "l1 must be finite and not negative, got nan"),
    ("l1", np.inf, ValueError, "l1 must be finite and not negative, got inf"),
    *(("l1", value, TypeError, f"l1 {NUMBER}{value!r} of type ") for value in (True, "0.1", None)),
    ("callback", 3, TypeError, "callback must be a function, got 3"),
    ("callback", "print", TypeError, "callback must be a function, got 'print'"),
    *((name, value, TypeError, f"{name} must be True or False, got {value!r}") for name in
      ("progress", "shuffle") for value in (1, "yes", None)),
    ("init", 3, TypeError, "init must be a FitResult, got 3"),
    ("init", "result.npz", TypeError, "init must be a FitResult, got 'result.npz'"),
    ("init", FULL.coef, TypeError, "init must be a FitResult, got array"),
    *(("validation", value, ValueError, f"{PAIR}in [0, 1), got {value!r}") for value in (1, 2, -0.1, np.nan)),
    *(("validation", value, ValueError, "validation must leave rows on both sides, got the fraction "
       f"{value} of 30 rows") for value in (0, 0.0, 0.99)),
    *(("validation", value, TypeError, f"validation {NUMBER}{value!r}") for value in (True, "0.2")),
    *(("validation", value, TypeError, f"{PAIR}(X, y), (X, y, sample_weight) or a fraction of the rows") for value in
      ((), (X,), (X, y, None, None))),
    ("validation", (X[:, :2], y), ValueError,
     "validation must have the columns and targets of X and y, 3 and (), got 2 and ()"),
    ("validation", (X, y[:, None]), ValueError,
     "validation must have the columns and targets of X and y, 3 and (), got 3 and (1,)"),
    ("validation", (np.where(X > 2, np.nan, X), y), ValueError, "validation's X must be finite, got nan at row "),
    ("validation", (X, np.where(np.arange(N) == 4, np.inf, y)), ValueError,
     "validation's y must be finite, got inf at row 4"),
    # each message names whose X, y or weights it is about
    ("validation", (X[0], y[:1]), ValueError, "validation's X must be 2-D"),
    ("validation", (X, y[:-1]), ValueError, "validation's X and y must have the same number of rows"),
    ("validation", (X, y, np.ones(3)), ValueError, "validation's sample_weight must have one weight per row"),
    ("validation", (X, y, -np.ones(N)), ValueError, "validation's sample_weight must not be negative"),
    ("validation", (X.astype(str), y), TypeError, "validation's X must hold real numbers"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "value", "error", "message"), VALUES)
def test_a_bad_value_is_refused(name, value, error, message):
    needed = {"patience": {"validation": (X, y)}, "seed": {"batch_size": 5}, "callback_every": {"callback": print}}
    refuse(error, starts(message), **needed.get(name, {}), **{name: value})


def test_tol_with_patience_must_be_a_fraction():
    for value in (1, 1.5, -0.1):
        refuse(ValueError, starts(f"tol must be in [0, 1), got {value}"), tol=value, patience=2, validation=0.2)


# Options that don't go together

RANDOM = "seed has no effect here: it needs batch_size with shuffle=True, or a fraction as validation"
TOGETHER = {
    "init and coef0": ({"init": FULL, "coef0": np.zeros(D)}, "init and coef0 both say where to start"),
    "init and seed": (
        {"init": SHUFFLED, "batch_size": 10, "seed": 1},
        "init and seed both set the row generator; leave seed out",
    ),
    "seed alone": ({"seed": 1}, RANDOM),
    "seed without shuffle": ({"seed": 1, "batch_size": 5, "shuffle": False}, RANDOM),
    "seed and validation rows": ({"seed": 1, "validation": (X, y)}, RANDOM),
    "patience alone": ({"patience": 3}, "patience needs validation rows to watch; give validation, or tol"),
    "patience and tol": ({"patience": 3, "tol": 0.1}, "patience needs validation rows to watch"),
    "tol and batch_size": ({"tol": 1e-3, "batch_size": 5}, "tol and batch_size don't go together"),
    "tol and validation": (
        {"tol": 1e-3, "batch_size": 5, "validation": 0.2},
        "tol and batch_size don't go together: a batch's gradient is too noisy to stop by; use validation",
    ),
    "method and batch_size": (
        {"method": "compress", "batch_size": 5},
        "batch_size and method='compress' don't go together: batches need the rows",
    ),
    "lr='auto' and init": ({"lr": "auto", "init": FULL}, "lr='auto' and init don't go together"),
    "callback_every alone": ({"callback_every": 3}, "callback_every needs a callback"),
    "init and validation": ({"init": FULL, "validation": (X, y)}, "validation must be given as for init, which"),
    "init and fraction": ({"init": FULL, "validation": 0.2}, "validation must be given as for init, which"),
    "init without validation": ({"init": VALIDATED}, "validation must be given as for init, which had some"),
    "init and average": ({"init": FULL, "average": True}, "average must start at epoch 2 or later: init kept no"),
    "init and average of 1": ({"init": FULL, "average": 1}, "average must start at epoch 2 or later: init kept no"),
    "init and record": ({"init": FULL, "record": "loss"}, "record and record_every must be those of init, 'all' and 1"),
    "init and record_every": ({"init": FULL, "record_every": 2}, "record and record_every must be those of init"),
}


@pytest.mark.parametrize(("options", "message"), TOGETHER.values(), ids=TOGETHER)
def test_options_that_do_not_go_together_are_refused(options, message):
    refuse(ValueError, starts(message), **options)


# Before a row is read


@pytest.mark.parametrize("method", ["auto", "direct", "compress"])
@pytest.mark.parametrize(
    "option",
    [
        {"record": "bogus"}, {"record_every": 0}, {"weight_decay": "x"}, {"l1": -1}, {"lr": "x"}, {"momentum": 1},
        {"dampening": 2}, {"nesterov": 1}, {"epochs": 0}, {"average": -1}, {"tol": "x"}, {"progress": 1},
        {"n_threads": 0}, {"callback_every": 0, "callback": print}, {"lr": "auto", "momentum": 2},
    ],
    ids=str,
)  # fmt: skip
def test_an_option_is_refused_before_a_row_is_read(monkeypatch, option, method):
    def read(*_):
        raise AssertionError("the rows were read first")

    monkeypatch.setattr(sgdm._fit, "as_problems", read)
    with pytest.raises((ValueError, TypeError)):
        sgdm.fit(X, y, method=method, **option)


def test_a_start_is_refused_before_the_rows_are_reduced(monkeypatch):
    def reduce(*_):
        raise AssertionError("the rows were reduced first")

    monkeypatch.setattr(sgdm._reduction.reduce, "reduce_problem", reduce)
    with pytest.raises(ValueError, match=r"^coef0 must have shape \(3,\), the features, got \(2,\)$"):
        sgdm.fit(X, y, method="compress", coef0=[1.0, 2.0])
