"""What several test files share: data, forms of the update, memory layouts, comparisons and refusals."""

import dataclasses
import functools
import itertools
import pickle
import re
import warnings

import numpy as np
import pytest

import sgdm
from sgdm import schedules

HISTORIES = ("loss", "grad", "step", "coef")
FORMS = {
    "ema": {"momentum": 0.8},
    "heavy ball": {"momentum": 0.9, "dampening": 0.0},
    "partial dampening": {"momentum": 0.7, "dampening": 0.3},
    "full dampening": {"momentum": 0.6, "dampening": 1.0},
    "plain": {"momentum": 0.0},
    "nesterov": {"momentum": 0.9, "dampening": 0.0, "nesterov": True},
    "nesterov ema": {"momentum": 0.8, "nesterov": True},
}
# Full dampening ignores every gradient but the first.
LEARNING_FORMS = {name: form for name, form in FORMS.items() if name != "full dampening"}

dtypes = pytest.mark.parametrize("dtype", [np.float64, np.float32])
layouts = pytest.mark.parametrize("order", ["C", "F"])
intercepts = pytest.mark.parametrize("fit_intercept", [False, True])
# A descent of few epochs ends far above the least loss, and says so.
ignore_far = pytest.mark.filterwarnings("ignore:.*far above the least:sgdm.ConvergenceWarning")


# Data


def make_data(n=60, d=5, targets=None, dtype=np.float64, order="C", seed=0, *, slopes="random", noise=0.5, shift=0.0):
    """X, and y = X @ slopes + 1 + noise: any sensible fit of it ends below where it began.

    The slopes are drawn from 1 to 2, or all are the number given; with None, y is standard normal whatever X is.
    """
    rng = np.random.default_rng(seed)
    X = np.asarray(rng.standard_normal((n, d)) + shift, dtype, order=order)
    shape = () if targets is None else (targets,)
    if slopes is None:
        return X, rng.standard_normal((n, *shape)).astype(dtype)
    slopes = rng.uniform(1, 2, (d, *shape)) if slopes == "random" else np.full((d, *shape), float(slopes))
    return X, (X @ slopes + 1 + noise * rng.standard_normal((n, *shape))).astype(dtype)


make_noise = functools.partial(make_data, slopes=None)
N, D = 30, 3
X, y = make_noise(N, D)  # where any rows will do
X.flags.writeable = y.flags.writeable = False


def overfitting(targets=None, seed=1):
    """X, y and validation rows: 25 noisy rows for 20 columns, so the validation loss falls, then rises."""
    X, y = make_data(25, 20, targets, seed=seed, noise=4)
    return X, y, make_data(400, 20, targets, seed=seed + 100, noise=4)


def changed(array, *at, value):
    """A copy with other values at these indices."""
    array = array.copy()
    array[at] = value
    return array


def blocks_of(*arrays, cuts):
    """The rows between the cuts, as blocks."""
    return [tuple(array[a:b] for array in arrays) for a, b in itertools.pairwise(cuts)]


# Tables with names

NAMES = ("age", "b & <w>", "größe")
_rng = np.random.default_rng(0)
TABLE_X = _rng.standard_normal((60, 3))
TABLE_Y = TABLE_X @ [1.0, -2.0, 3.0] + 0.5 + 0.1 * _rng.standard_normal(60)


def table(form, columns=NAMES, cells=TABLE_X):
    """The cells as a table of that library."""
    data = {name: cells[:, j] for j, name in enumerate(columns)}
    library = pytest.importorskip(form.split()[0])
    if form == "pyarrow batch":
        return library.RecordBatch.from_pydict(data)
    return library.table(data) if form == "pyarrow" else library.DataFrame(data)


# Memory layouts


def spread(array):
    """The array with other numbers in between."""
    filler = np.nan if array.dtype.kind == "f" or not array.size else array.flat[0]
    out = np.full(tuple(3 * length for length in array.shape), filler, array.dtype)
    view = out[tuple(slice(1, None, 3) for _ in array.shape)]
    view[...] = array
    return view


def backwards(array):
    """The array with negative strides."""
    return np.ascontiguousarray(np.flip(array))[(slice(None, None, -1),) * array.ndim]


def misaligned(array):
    """The array one byte off the addresses of its dtype."""
    view = np.zeros(array.nbytes + 1, np.uint8)[1:].view(array.dtype).reshape(array.shape)
    view[...] = array
    return view


def read_only(array):
    array = array.copy(order="K")
    array.flags.writeable = False
    return array


LAYOUTS = {
    "F": np.asfortranarray,
    "strided": spread,
    "negative strides": backwards,
    "read-only": read_only,
    "read-only F": lambda a: read_only(np.asfortranarray(a)),
    "misaligned": misaligned,
    "other byte order": lambda a: a.astype(a.dtype.newbyteorder()),
    "lists": lambda a: a.tolist(),
    "objects": lambda a: a.astype(object),
}


# Results


def params(result):
    """The parameters as coef0 takes them: the intercept last, if there is one."""
    if len(result.velocity) == len(result.coef):
        return result.coef
    return np.concatenate([result.coef, np.reshape(result.intercept, (1, *result.coef.shape[1:]))])


def design(X, fit_intercept=True):
    """The rows in float64, with a column of ones for the intercept."""
    return np.column_stack([X, np.ones(len(X))])[:, : X.shape[1] + fit_intercept].astype(float)


def mse(X, y, coef, weights=None):
    """The mean squared error of coef, which ends with an intercept if it is one longer than the rows of X."""
    return np.average((design(X)[:, : len(coef)] @ coef - y) ** 2, axis=0, weights=weights)


def assert_close(result, expected, factor=64):
    """Equal histories and coefficients, within factor * eps of the largest number of each."""
    for ours, theirs in [(result.coef, expected.coef), (result.intercept, expected.intercept)] + [
        (getattr(result.history, name), getattr(expected.history, name)) for name in HISTORIES
    ]:
        eps = np.finfo(expected.coef.dtype).eps
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=factor * eps * np.abs(theirs).max())


def assert_same_descent(result, expected, tolerance):
    """Equal histories, parameters and velocity, within the tolerance of the largest number of each."""
    assert result.epochs == expected.epochs
    pairs = {name: (getattr(result.history, name), getattr(expected.history, name)) for name in HISTORIES}
    pairs |= {name: (getattr(result, name), getattr(expected, name)) for name in ("coef", "velocity", "intercept")}
    scales = {name: np.abs(getattr(expected.history, name)).max() for name in HISTORIES}
    scales |= {"velocity": scales["step"], "intercept": scales["coef"]}
    for name, (ours, theirs) in pairs.items():
        assert np.asarray(ours).dtype == np.asarray(theirs).dtype, name
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance * scales[name], err_msg=name)


def assert_same_factor(ours, expected, names=None):
    """Equal reductions, within rounding, of features with these names."""
    for name in ("n_rows", "n_features", "target_shape", "fit_intercept", "dtype"):
        assert getattr(ours, name) == getattr(expected, name), name
    assert ours.total_weight == pytest.approx(expected.total_weight, rel=1e-14)
    assert ours.feature_names == names
    np.testing.assert_allclose(ours.R, expected.R, rtol=0, atol=1e-13 * np.abs(expected.R).max())


def same_but_status(result, expected):
    return result == dataclasses.replace(expected, status=result.status)


def stable(X, form, fit_intercept=False, weights=None, weight_decay=0.0, share=0.5):
    """The form's constants with `share` of the largest stable lr."""
    constants = FORMS[form]
    reduced = sgdm.compress(X, np.zeros(len(X)), sample_weight=weights, fit_intercept=fit_intercept)
    names = {name: constants[name] for name in ("dampening", "nesterov") if name in constants}
    lr = share * reduced.max_lr(constants["momentum"], **names, weight_decay=weight_decay)
    if not lr < np.inf:  # with dampening 1 only the first gradient counts, so there is no limit
        lr = share / reduced.spectrum()[0]
    return {"lr": lr, "weight_decay": weight_decay, **constants}


def assert_stable_up_to(lr, fit, **options):
    """1 % below lr the loss stays bounded, 1 % above it overflows; that error is returned."""
    below = fit(lr=0.99 * lr, epochs=50_000, record="loss", **options)
    loss = below.history.loss
    assert below.status == "completed"
    assert loss[-1] < loss[0]
    assert loss[25_000:].max() <= (1 + 1e-12) * loss[:25_000].max()
    with pytest.raises(sgdm.DivergenceError, match="too large") as caught:
        fit(lr=1.01 * lr, epochs=50_000, record=None, **options)
    return caught.value


# Refusals


# Options, the numbers that each epoch's history then holds for D features, and what to pass to keep less.
history_sizes = pytest.mark.parametrize(
    ("options", "numbers", "hint"),
    [
        ({}, 1 + 3 * D, "record='loss', a larger record_every or record=None"),
        ({"fit_intercept": True}, 1 + 3 * (D + 1), "record='loss', a larger record_every or record=None"),
        ({"record": "loss"}, 1, "a larger record_every or record=None"),
    ],
)
bad_counts = pytest.mark.parametrize(
    ("value", "error", "expected"),
    [
        (0, ValueError, "at least 1, got 0"), (-3, ValueError, "at least 1, got -3"),
        (1.5, TypeError, "a whole number, got 1.5 of type float"),
        (2.0, TypeError, "a whole number, got 2.0 of type float"),
        ("5", TypeError, "a whole number, got '5' of type str"),
        (None, TypeError, "a whole number, got None of type NoneType"),
        (True, TypeError, "a whole number, got True"),
        (np.True_, TypeError, f"a whole number, got {np.True_!r}"),
    ],
)  # fmt: skip


def starts(message):
    """The pattern of a text that starts with this message."""
    return "^" + re.escape(message)


def refuse(error, match, X=X, y=y, call=sgdm.fit, **options):
    """The call raises `error` with a message that matches, and leaves what it was given as it was."""
    before = frozen((X, y, options))
    with pytest.raises(error, match=match) as caught:
        call(X, y, **options)
    assert frozen((X, y, options)) == before
    return caught.value


def frozen(value):
    """The value in bytes, to tell whether it changed. Functions can't be pickled; their repr is compared."""
    try:
        return pickle.dumps(value)
    except (AttributeError, TypeError, pickle.PicklingError):
        return repr(value)


# Ways to fit, each of which may be cut, sliced and watched

SPLIT, TOTAL = 30, 50


def make_problem(everything=False, seed=0):
    """X, y and options: plain; or, with everything, float32 in F order, three targets, weights and an intercept."""
    rng = np.random.default_rng(seed)
    X, Y = make_data(40, 5, 3, seed=rng, noise=0.3)
    if not everything:
        return X, Y[:, 0], {}
    weights = rng.uniform(0.1, 2, 40)
    return np.asfortranarray(X, np.float32), Y.astype(np.float32), {"sample_weight": weights, "fit_intercept": True}


def held_out(everything=False, seed=1):
    X, y, options = make_problem(everything, seed)
    return (X, y, options["sample_weight"]) if everything else (X, y)


both = pytest.mark.parametrize("everything", [False, True], ids=["plain", "everything"])
SHUFFLED = {"batch_size": 7, "seed": 5}
IN_ORDER = {"batch_size": 7, "shuffle": False}
LR, MOMENTUM = schedules.one_cycle(TOTAL, 0.2)
HELD_OUT = "the validation rows of the data at hand"
WAYS = {
    "full batch": {},
    "heavy ball": {"momentum": 0.9, "dampening": 0.0, "lr": 0.02},
    "nesterov": {"nesterov": True, "weight_decay": 0.1},
    "in order": IN_ORDER, "shuffled": SHUFFLED, "one batch": {"batch_size": 100, "seed": 5},
    "row by row": {"batch_size": 1, "seed": 5, "lr": 0.01},
    "arrays": {"lr": LR, "momentum": MOMENTUM}, "lr array": {"lr": LR, **IN_ORDER},
    "arrays, shuffled": {"lr": LR, "momentum": MOMENTUM, "dampening": 0.5, **SHUFFLED},
    "functions": {"lr": lambda t: 0.1 / (1 + t), "momentum": lambda t: 0.9 - 0.5 / (1 + t), **SHUFFLED},
    "averaged": {"average": True}, "averaged, shuffled": {"average": True, **SHUFFLED},
    "averaged from 10": {"average": 10, **SHUFFLED}, "averaged from 40": {"average": 40, **SHUFFLED},
    "l1": {"l1": 0.3, "weight_decay": 0.1}, "l1, shuffled": {"l1": 0.3, **SHUFFLED, "average": True},
    "validation": {"validation": HELD_OUT}, "validation, shuffled": {"validation": HELD_OUT, **SHUFFLED},
    "fraction": {"validation": 0.3, "seed": 5}, "fraction, shuffled": {"validation": 0.3, **SHUFFLED},
    "fraction, in order": {"validation": 0.3, **IN_ORDER, "seed": 5},
    "patience": {"validation": 0.3, "patience": 49, **SHUFFLED},
    "patience and tol": {"validation": HELD_OUT, "patience": 45, "tol": 0.01},
    "tol": {"tol": 0.01},
    "reduced": {"method": "compress", "average": True},
    "reduced, validation": {"method": "compress", "validation": HELD_OUT, "patience": 45},
    "updates": {"record": "updates", **SHUFFLED},
    "every fourth update": {"record": "updates", "record_every": 4, "validation": HELD_OUT, **SHUFFLED},
    "every seventh": {"record_every": 7, **SHUFFLED},
    "every seventh, validation": {"record_every": 7, "validation": 0.3, **SHUFFLED},
    "losses": {"record": "loss", "record_every": 4, "validation": HELD_OUT},
    "nothing": {"record": None, "validation": HELD_OUT, "average": True, **SHUFFLED},
    "the first": {"record_every": 1000, **SHUFFLED},
}  # fmt: skip
ways = pytest.mark.parametrize("way", WAYS)


def way_options(way, everything):
    options = dict(WAYS[way])
    if options.get("validation") is HELD_OUT:
        options["validation"] = held_out(everything)
    return options


def fit_epochs(problem, epochs, start=0, init=None, **options):
    """Runs epochs start to start + epochs. Arrays of constants are sliced; with init, seed and coef0 are left out."""
    X, y, more = problem
    for name in ("lr", "momentum"):
        if isinstance(options.get(name), np.ndarray):
            options[name] = options[name][start : start + epochs]
    if init is not None:
        options.pop("seed", None)
        options.pop("coef0", None)
    return sgdm.fit(X, y, epochs=epochs, init=init, **options, **more)


def some_fits(**extra):
    """Fits over all row layouts, dtypes and widths."""
    results = []
    for dtype in (np.float64, np.float32):
        for order in ("C", "F"):
            for n, d, targets in [(100, 2, None), (33, 17, 2), (601, 5, None), (300, 40, 3), (6, 70, None)]:
                X, y = make_noise(n, d, targets, dtype, order)
                weights = np.random.default_rng(n).uniform(0, 2, n)
                for form in ("ema", "nesterov"):
                    results.append(
                        sgdm.fit(
                            X, y, lr=0.01, weight_decay=0.1, epochs=25, tol=1e-9,
                            fit_intercept=d % 2 == 1, sample_weight=weights if n % 2 else None,
                            **FORMS[form], **extra,
                        )
                    )  # fmt: skip
    return results


# Many fits, and the fits that each of them must equal

B = 5
_rng = np.random.default_rng(0)
MANY_X, MANY_Y = _rng.standard_normal((B, N, D)), _rng.standard_normal((B, N))
MANY_X.flags.writeable = MANY_Y.flags.writeable = False
CONSTANTS = ("lr", "momentum", "dampening", "weight_decay", "l1")
# How many axes an argument has that comes once for each fit.
AXES = {"X": 3, "y": 2, "sample_weight": 2, "coef0": 2, **dict.fromkeys(CONSTANTS, 1)}


def own(i, n_threads=1, **arguments):
    """The arguments of fit i."""
    return {name: value[i] if np.ndim(value) == AXES.get(name) else value for name, value in arguments.items()}


def alone(i, **arguments):
    """Fit i by `fit`; if it diverges, what its error holds."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", sgdm.ConvergenceWarning)
        try:
            return sgdm.fit(**{"method": "direct", **own(i, **arguments)})
        except sgdm.DivergenceError as error:
            return error.result


def assert_each_is_fit(X=MANY_X, y=MANY_Y, **options):
    """fit_many has, for every i, the bits of fit i; it is returned."""
    options = {"method": "direct", **options}
    many = sgdm.fit_many(X, y, **options)
    for i in range(len(many.epochs)):
        assert many[i] == alone(i, X=X, y=y, **options), f"fit {i}"
    return many


def turned(array):
    """The array, its last two axes the other way round in memory."""
    return np.ascontiguousarray(array.swapaxes(-1, -2)).swapaxes(-1, -2)


_NUMBER = re.compile(r"-?\d+\.?\d*(?:e[+-]?\d+)?")


def pairs_of_numbers(text, expected):
    """The numbers of two texts, side by side. Asserts that the texts differ in nothing else."""
    assert _NUMBER.sub("#", text) == _NUMBER.sub("#", expected)
    return list(zip(_NUMBER.findall(text), _NUMBER.findall(expected), strict=True))
