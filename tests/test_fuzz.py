"""Anything may come: every public function gives the oracle's result, or refuses in our words, and leaves its input.

The plain run draws the same few examples every time, the slow tests the same many. SGDM_FUZZ=20000 draws so many, other
ones each time, or those of `--hypothesis-seed`.
"""

# ruff: noqa: PT017 - what an error looks like is what is tested

import inspect
import os
import re
import traceback
import warnings
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

import sgdm
from sgdm import schedules

pytestmark = pytest.mark.filterwarnings("ignore:Generating overly large repr")
EXAMPLES = int(os.environ.get("SGDM_FUZZ", "0"))
PACKAGE = Path(sgdm.__file__).parent


def fuzz(examples):
    """The settings of one test: so many examples, if SGDM_FUZZ doesn't say otherwise."""
    return settings(
        max_examples=EXAMPLES or examples,
        derandomize=not EXAMPLES,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )


# Values. Each strategy draws (value, whether it is valid); None where that depends.

KINDS = {
    "normal": lambda rng, shape: rng.standard_normal(shape),
    "whole": lambda rng, shape: rng.integers(-3, 4, shape).astype(float),
    "positive": lambda rng, shape: rng.uniform(0.1, 2, shape),
    "counts": lambda rng, shape: rng.integers(0, 3, shape).astype(float),
    "zeros": lambda rng, shape: np.zeros(shape),
    "constant": lambda rng, shape: np.full(shape, rng.standard_normal()),
    "large": lambda rng, shape: 1e4 * rng.standard_normal(shape),
    "huge": lambda rng, shape: 10.0 ** rng.uniform(10, 306) * rng.standard_normal(shape),
    "tiny": lambda rng, shape: 10.0 ** rng.uniform(-307, -10) * rng.standard_normal(shape),
    "denormal": lambda rng, shape: rng.choice([5e-324, 1e-310, 1e-45, -1e-40, -0.0], shape),
    "of any size": lambda rng, shape: 10.0 ** rng.uniform(-20, 20, shape) * rng.choice([-1, 0, 1], shape),
    "not finite": lambda rng, shape: np.where(
        rng.random(shape) < 0.2, rng.choice([np.nan, np.inf, -np.inf]), rng.standard_normal(shape)
    ),
}
DTYPES = ["f8"] * 8 + ["f4"] * 4 + ["f2", "g", ">f8", ">f4", "i1", "u2", ">i4", "i8", "?", "O"]
DTYPES += ["c16", "G", "U8", "S8", "M8[s]", "m8[s]", "V8", "mixed"]


def spread(array):
    """The array with other numbers in between."""
    out = np.full(tuple(3 * length for length in array.shape), array.flat[0] if array.size else 0, array.dtype)
    view = out[tuple(slice(1, None, 3) for _ in array.shape)]
    view[...] = array
    return view


def misaligned(array):
    room = np.zeros(array.nbytes + 1, np.uint8)
    view = room[1:].view(array.dtype).reshape(array.shape)
    view[...] = array
    return view


def read_only(array):
    array = array.copy(order="K")
    array.flags.writeable = False
    return array


LAYOUTS = {
    "C": np.ascontiguousarray,
    "F": np.asfortranarray,
    "strided": spread,
    "backwards": lambda a: np.flip(a).copy()[(slice(None, None, -1),) * a.ndim],
    "read-only": read_only,
    "read-only F": lambda a: read_only(np.asfortranarray(a)),
    "misaligned": lambda a: misaligned(a) if a.dtype != object and a.size else a,
    "broadcast": lambda a: np.broadcast_to(a[..., :1], a.shape),
    "masked array": np.ma.array,
    "lists": lambda a: a.tolist(),
}


@st.composite
def arrays(draw, shape, kinds=tuple(KINDS)):
    """An array of the shape, mostly; of one of the kinds, mostly."""
    odd = draw(st.integers(0, 40))
    shape = {
        0: lambda: shape[:-1],
        1: lambda: (*shape, 1),
        2: lambda: (0, *shape[1:]),
        3: lambda: (*shape[:-1], 0),
        4: lambda: (shape[0] + 1, *shape[1:]),
        5: lambda: (*shape[:-1], shape[-1] + 1),
    }.get(odd, lambda: shape)()
    if odd == 6:
        return draw(st.sampled_from([None, "x", 5.0, [], [[]], [[1.0, 2.0], [3.0]], {}, object(), [[[1], 2]], {1: 2}]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    array = np.asarray(KINDS[draw(st.sampled_from(kinds))](rng, shape))
    dtype = draw(st.sampled_from(DTYPES))
    if dtype == "mixed":
        array = np.asarray(array, object)
        if array.size:
            odd = [None, "1", 1j, True, Fraction(1, 3), Decimal("0.1"), Decimal("sNaN"), 10**400, [1], np.float32(2)]
            array.flat[draw(st.integers(0, array.size - 1))] = draw(st.sampled_from(odd))
    else:
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a complex or infinite number becomes something, whatever it is
            if np.dtype(dtype).kind in "iu":
                array = np.clip(np.nan_to_num(array), 0 if dtype == "u2" else -100, 100)
            array = array.astype("i8").astype(dtype) if dtype[0] in "Mm" else array.astype(dtype)
    layout = draw(st.sampled_from(["C"] * 6 + ["F"] * 4 + list(LAYOUTS)))
    return LAYOUTS[layout](array) if shape else array


JUNK = ["x", b"x", [[]], {}, object(), 1j, np.ones((2, 2)), np.array(["x"]), np.array(1j), Ellipsis, Decimal("NaN")]
JUNK += [float("nan"), float("inf"), -1, -0.5, np.float32("nan"), np.int8(-1)]
NUMBERS = [*JUNK, True, np.True_, 10**400, None, Decimal(1), "0.1", [True, False], lambda *_: None]
ANY_RATES = [0.1, 0.0, 0, 1, 1e-3, 0.02, np.float32(0.05), np.array(0.1), Fraction(1, 7), np.float16(0.5)]
FLAGS = ([False, True, np.True_], [0, 1, None, "x", np.array([True, False]), np.ones(2)])
COUNTS = [*(x for x in NUMBERS if x is not None), 0, 1.5, 2.0, "3", 10**30]
# name: (valid values, invalid ones)
OPTIONS = {
    "lr": ([*ANY_RATES, 1e300, 5e-324, 30.0], NUMBERS),
    "momentum": ([0.8, 0.0, 0, 0.99, 1 - 1e-16, np.float32(0.5), 1e-320], [*NUMBERS, 1, 1.5]),
    "dampening": ([None, 0.0, 1.0, 0, 1, 0.3], [*(x for x in NUMBERS if x is not None), 1.5, [0.1, 0.2]]),
    "nesterov": FLAGS,
    "weight_decay": ([0.0, 0.1, 1, 1e300, 1e-320], [*NUMBERS, [0.1]]),
    "l1": ([0.0, 0.1, 5, 1e300, 1e-320], [*NUMBERS, [0.1]]),
    "fit_intercept": FLAGS,
    "epochs": ([1, 2, 3, 5, np.int64(4), np.uint8(2), np.array(3)], [*COUNTS, None]),
    "batch_size": ([None, 1, 2, 7, 8, 64, np.int16(3), 2**63 - 1], COUNTS),
    "shuffle": FLAGS,
    "average": ([False, True, 0, 2, 1000, np.int8(1), 2**63 - 1], ["x", None, 1.5, -1, 10**30, {}, np.ones(2)]),
    "tol": ([None, 0.0, 1e-3, 0.5, 1e-320], [*(x for x in NUMBERS if x is not None), [0.1]]),
    "patience": ([None, 1, 2, 100], COUNTS),
    "record": (["all", "loss", "updates", None], ["x", b"all", 1, True, ["all"], np.array(["all", "loss"]), {}]),
    "record_every": ([1, 2, 3, 100, 2**63 - 1], [*COUNTS, None]),
    "method": (["auto", "direct", "compress"], ["x", None, 1, ["auto"], np.array(["auto", "direct"]), {}]),
    "n_threads": ([1, 2, 3, 10**6], [*COUNTS, None]),
    "seed": ([None, 0, 7, 2**70, np.uint32(3)], [-1, 1.5, "x", {}, np.ones(2), 1j, object()]),
    "callback": ([None, lambda progress: progress.result], [1, "x", np.ones(2), {}]),
    "callback_every": ([1], [*COUNTS, None]),
    "progress": ([False], FLAGS[1]),
}


@st.composite
def options(draw, names, given=None, **valid):
    """Some of the options of these names, and whether all are valid."""
    chosen, ok = {}, True
    for name in draw(st.lists(st.sampled_from(sorted(names)), unique=True, max_size=6)):
        good, bad = OPTIONS[name]
        good = valid.get(name, good)
        if draw(st.integers(0, 30)) == 0:
            chosen[name], ok = draw(st.sampled_from(bad)), False
        else:
            chosen[name] = draw(st.sampled_from(good))
    return chosen, ok


# What must hold

ARGUMENTS = {
    name
    for function in (
        sgdm.fit,
        sgdm.fit_many,
        sgdm.compress,
        sgdm.Compressed.tune,
        sgdm.Compressed.forecast,
        sgdm.Compressed.max_lr,
        sgdm.Compressed.merge,
        *(getattr(schedules, name) for name in schedules.__all__),
    )
    for name in inspect.signature(function).parameters
}
NAMED = re.compile(rf"(^|[^A-Za-z_])({'|'.join(sorted(ARGUMENTS, key=len, reverse=True))})($|[^A-Za-z_])")


def frozen(value):
    """What tells whether a value, or what it is a view of, has changed."""
    if isinstance(value, (list, tuple)):
        return [frozen(item) for item in value]
    if isinstance(value, dict):
        return {name: frozen(item) for name, item in value.items()}
    if not isinstance(value, np.ndarray):
        return repr(value)
    owner = value
    while isinstance(owner.base, np.ndarray):
        owner = owner.base
    content = [repr(item) for item in owner.flat] if owner.dtype == object else owner.tobytes()
    return value.dtype, value.shape, value.strides, value.flags.writeable, content


def attempt(function, *arguments, valid=None, names=NAMED, places=(PACKAGE,), **keywords):
    """The function's result, or None and why. An error must be ours, and there must be a reason for it."""
    before = frozen((arguments, keywords))
    result = error = None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", sgdm.ConvergenceWarning)
            result = function(*arguments, **keywords)
    except (ValueError, TypeError, ArithmeticError) as caught:
        error = caught
        assert type(error) in (ValueError, TypeError, sgdm.DivergenceError), repr(error)
        last = traceback.extract_tb(error.__traceback__)[-1]
        ours = any(place in Path(last.filename).parents for place in places) and last.line.startswith("raise")
        assert ours, f"raised by {last.filename}, {last.lineno}: {error!r}"
        assert names.search(str(error)), f"names no argument: {error!r}"
    assert frozen((arguments, keywords)) == before, "an input was changed"
    event("result" if error is None else type(error).__name__)
    if valid is False:
        assert error is not None, "should have been refused"
    if valid and error is not None:
        assert isinstance(error, sgdm.DivergenceError), f"should not have been refused: {error!r}"
    return result, error


def real(given, dtype=np.float64):
    """The array's numbers as a fit of this dtype reads them; None if it must refuse them."""
    try:
        array = np.asarray(given)
    except ValueError:
        return None
    if array.dtype == object:
        for item in array.flat:
            if not isinstance(item, (int, float, Fraction, Decimal, np.floating, np.integer, np.bool_)):
                return None
    elif array.dtype.kind not in "fiub":
        return None
    try:
        with np.errstate(over="ignore"):
            array = array.astype(dtype)
    except (OverflowError, ValueError):
        return None
    return array if np.isfinite(array).all() else None


def type_of(*given):
    """The dtype of a fit to these data."""
    types = [np.asarray(array).dtype.newbyteorder("=") for array in given]
    return np.float32 if all(kind == np.float32 for kind in types) else np.float64


def matrices(X, y):
    """The dtype and the numbers of X and y; None for those that must be refused."""
    if real(X) is None or real(y) is None:
        return np.float64, None, None
    dtype = type_of(X, y)
    X, y = real(X, dtype), real(y, dtype)
    if X.ndim != 2 or X.size == 0 or y.ndim not in (1, 2) or y.size == 0 or len(y) != len(X):
        return dtype, None, None
    return dtype, X, y


def usable_weights(given, n, dtype):
    """The weights as numbers, or None if they must be refused."""
    weights = real(given, dtype)
    if weights is None or weights.shape != (n,) or weights.min() < 0:
        return None
    total = weights.sum(dtype=float)
    return weights if 0 < total < np.inf else None


def norms_of(array):
    """The columns' norms, whatever their sizes."""
    size = np.abs(array).max(0)
    return size * np.linalg.norm(array / np.where(size > 0, size, 1), axis=0)


def majorant(reference, dtype, X, y, w, constants, coef0, norms=False):
    """What bounds the rounding errors, in units of eps: the oracle of the absolute values, none of which cancel.

    A residual is off by eps times the sum of its terms' absolute values, a gradient by that of its terms' and what the
    residuals bring, and so on: the same recurrence, with signs that add up. Underflow is off by the least normal number
    wherever it strikes: in the residual, in its product with the weight, in the parameters. norms: for the rows'
    triangular factor, whose columns are off by eps of their norms.
    """
    info = np.finfo(dtype)
    floor = float(info.tiny) / float(info.eps)
    tail = (1,) * (y.ndim - 1)
    with np.errstate(all="ignore"):
        lost = floor * np.maximum(1, 1 / np.where(w > 0, w.astype(float), 1)).reshape(-1, *tail)
        X, y, w = np.abs(X.astype(float)), -np.abs(y.astype(float)) - lost, w.astype(float)
        extra = {"sample_weight": w}
        if norms:
            Z = np.column_stack([X, np.ones(len(X))])[:, : X.shape[1] + constants.get("fit_intercept", False)]
            root = np.sqrt(w / w.sum())
            X, y = norms_of(root[:, None] * Z)[None], -norms_of(root.reshape(-1, *tail) * y)[None]
            constants = {name: value for name, value in constants.items() if name != "fit_intercept"}
            extra = {}
        start = np.abs(np.asarray(coef0, float)) + floor
        constants = {**constants, "lr": -np.asarray(constants["lr"], float), "l1": 0.0}
        bound = reference.fit(X, y, **constants, **extra, coef0=start, record="updates")
        Z = np.column_stack([X, np.ones(len(X))])[:, : len(start)]
        coefs = bound.history.coef.reshape(len(bound.history.coef), len(start), -1)
        r = Z @ coefs + np.abs(y).reshape(len(X), -1)
        weights = extra.get("sample_weight", np.ones(len(X)))[:, None]
        sums = [r, weights * r, Z.T @ (weights * r), (weights * r**2).sum(1) / (1 if dtype is np.float64 else w.sum())]
        peak = float(np.max([np.max(part) for part in [*sums, *vars(bound.history).values(), bound.params]]))
    return bound, peak


def check_trajectory(reference, result, dtype, X, y, w, constants, coef0, record_every=1, norms=False):
    """The result is the oracle's, to rounding, unless numbers come near the largest there are."""
    n, epochs = len(X), result.epochs
    constants = {**constants, "epochs": epochs}
    for name in ("lr", "momentum"):
        if np.ndim(constants[name]):
            constants[name] = np.asarray(constants[name], float)[:epochs]
    seed = constants.get("seed")
    twins = []
    with np.errstate(all="ignore"):
        for record in ("all", "updates"):
            own = {**constants, "seed": seed()} if seed else constants
            args = X.astype(float), y.astype(float)
            twins.append(reference.fit(*args, **own, sample_weight=w.astype(float), coef0=coef0, record=record))
    own = {**constants, "seed": seed()} if seed else constants
    bound, peak = majorant(reference, dtype, X, y, w, own, coef0, norms)
    if not peak < float(np.finfo(dtype).max) / 1e6:
        event("near overflow")
        return
    twin = twins[result.checkpoint.record == "updates"]
    updates = len(bound.history.loss)
    d, unit = X.shape[1], float(np.finfo(dtype).eps) * (n + X.shape[1] + 16) * updates
    least = float(np.finfo(dtype).tiny) * (n + 16) * updates
    last = result.checkpoint.parameters[0].reshape(twin.params.shape).astype(dtype)
    pairs = [("coef", last, twin.params), ("step", result.velocity, twin.velocity)]
    if result.best_epoch is None:  # else the best epoch's may be given
        assert np.array_equal(result.coef, last[:d])
        assert np.array_equal(result.intercept, last[d] if constants.get("fit_intercept") else 0)
    if result.average_coef is not None and twin.average is not None:
        pairs.append(("coef", result.average_coef, twin.average[:d]))
    for name in ("loss", "grad", "step", "coef"):
        ours = getattr(result.history, name)
        if ours is not None:
            pairs.append((name, ours, getattr(twin.history, name)[::record_every]))
    scales = {name: np.abs(array).max() for name, array in vars(bound.history).items()}
    scales["coef"] = max(scales["coef"], np.abs(bound.params).max())
    for name, ours, theirs in pairs:
        assert np.shape(ours) == np.shape(theirs), (name, np.shape(ours), np.shape(theirs))
        off = np.abs(np.asarray(ours, float) - theirs).max(initial=0)
        assert off <= unit * scales[name] + least, f"{name} is off by {off / (unit * scales[name] + least):.3g} bounds"


def same_file(result, load, path):
    """Saved and loaded, it is the same."""
    result.save(path)
    assert load(path) == result


# The functions

FIT_OPTIONS = set(OPTIONS) - {"callback", "callback_every"}
shapes = st.tuples(
    st.one_of(st.integers(1, 20), st.sampled_from([31, 33, 64, 65, 300])),
    st.one_of(st.integers(1, 9), st.sampled_from([15, 16, 17, 24, 33])),
)


@st.composite
def schedules_of(draw, epochs, rng, top):
    """A schedule for so many epochs, in each form there is; and its values."""
    values = rng.uniform(0, top, epochs)
    form = draw(st.sampled_from(["array", "list", "function", "float32", "strided"]))
    if form == "float32":
        values = values.astype(np.float32)
    return {
        "array": values,
        "float32": values,
        "list": values.tolist(),
        "function": lambda epoch: values[epoch],
        "strided": spread(values),
    }[form], values


@st.composite
def fits(draw):
    """Arguments of fit, whether all of them are valid by themselves, and the schedules among them as arrays."""
    n, d = draw(shapes)
    k = draw(st.sampled_from([None, None, None, 1, 2, 4, 5]))
    slot = () if k is None else (k,)
    ordinary = ("normal", "whole", "large", "positive", "counts", "zeros") if draw(st.booleans()) else tuple(KINDS)
    X, y = draw(arrays((n, d), ordinary)), draw(arrays((n, *slot), ordinary))
    auto = draw(st.integers(0, 15)) == 0
    chosen, ok = draw(options(FIT_OPTIONS - {"lr", "momentum"} if auto else FIT_OPTIONS))
    if auto:
        chosen |= {"lr": "auto", "momentum": draw(st.sampled_from(["auto", 0.5, 0.9]))}
    epochs = chosen.get("epochs", 4)
    chosen.setdefault("epochs", 4)
    values = {}
    for name, top in (("lr", 0.1), ("momentum", 0.95)):
        if draw(st.integers(0, 8)) == 0 and isinstance(epochs, (int, np.integer)) and 0 < epochs < 9:
            rng = np.random.default_rng(draw(st.integers(0, 99)))
            count = int(epochs) + draw(st.sampled_from([0] * 9 + [-1, 1]))
            if is_auto(chosen.get("lr")) or any(chosen.get(name) is odd for odd in NUMBERS):
                continue
            chosen[name], values[name] = draw(schedules_of(count, rng, top))
            ok &= count == epochs or (callable(chosen[name]) and count > epochs)
            if callable(chosen[name]) and count < epochs:
                del chosen[name], values[name]  # its own error, not ours
    if draw(st.integers(0, 3)) == 0:
        chosen["sample_weight"] = draw(arrays((n,), ("positive", "counts", "counts", *ordinary)))
    if draw(st.integers(0, 3)) == 0:
        p = d + (chosen.get("fit_intercept") is True)
        chosen["coef0"] = draw(arrays((p, *slot), ordinary))
    if draw(st.integers(0, 7)) == 0:
        chosen["validation"] = draw(arrays((7, d), ordinary)), draw(arrays((7, *slot), ordinary))
    elif draw(st.integers(0, 20)) == 0:
        chosen["validation"] = draw(st.sampled_from([*NUMBERS, (), (1,), [X], (X, y, None, None), (X, None)]))
    return X, y, chosen, ok, values


def is_auto(value):
    return isinstance(value, str) and value == "auto"


def conflict(chosen):
    """Whether options that are valid by themselves may not go together."""
    batches = chosen.get("batch_size") is not None
    shuffled = batches and chosen.get("shuffle", True) is not False
    return (
        (chosen.get("seed") is not None and not shuffled)
        or chosen.get("patience") is not None
        or (chosen.get("tol") is not None and batches)
        or (chosen.get("method") == "compress" and batches)
        or is_auto(chosen.get("lr"))
    )


def constants_of(chosen, values):
    """The options as the oracle takes them."""
    constants = {"lr": 0.1, "momentum": 0.8} | {
        name: values.get(name, value)
        for name, value in chosen.items()
        if name in ("lr", "momentum", "dampening", "nesterov", "weight_decay", "l1", "fit_intercept", "average")
        or (name in ("batch_size", "shuffle") and chosen.get("batch_size") is not None)
    }
    for name, value in constants.items():
        if name not in ("nesterov", "fit_intercept", "shuffle", "average", "batch_size") and value is not None:
            constants[name] = np.asarray(value, float) if np.ndim(value) else float(value)
    if constants.get("average") is not False and isinstance(constants.get("average"), (bool, np.bool_)):
        constants["average"] = True
    if chosen.get("batch_size") is not None and chosen.get("shuffle", True) is not False:
        constants["seed"] = lambda: np.random.default_rng(chosen["seed"])
    return constants


def test_fit(draws, reference, tmp_path):
    @fuzz(draws(500))
    @given(fits())
    def check(drawn):
        X, y, chosen, valid, values = drawn
        if chosen.get("batch_size") is not None and chosen.get("shuffle", True) is not False:
            chosen["seed"] = 1 if chosen.get("seed") is None else chosen["seed"]
        dtype, A, b = matrices(X, y)
        w = None if A is None else np.ones(len(A), dtype)
        if A is None:
            valid = False
        elif "sample_weight" in chosen:
            weights = chosen["sample_weight"]
            if weights is not None:
                w = usable_weights(weights, len(A), dtype)
            valid &= w is not None
        coef0 = chosen.get("coef0")
        if valid:
            p = A.shape[1] + bool(chosen.get("fit_intercept", False))
            start = np.zeros((p, *b.shape[1:]), dtype) if coef0 is None else real(coef0, dtype)
            valid = start is not None and start.shape == (p, *b.shape[1:])
        held_out = chosen.get("validation")
        if valid and held_out is not None:
            valid = isinstance(held_out, tuple) and len(held_out) == 2 and matrices(*held_out)[1] is not None
            if valid:
                C, c = (real(array, dtype) for array in held_out)  # which may be refused for float32
                valid = C is not None and c is not None and C.shape[1:] + c.shape[1:] == A.shape[1:] + b.shape[1:]
        result, error = attempt(sgdm.fit, X, y, valid=None if valid and conflict(chosen) else valid, **chosen)
        if not valid:
            return
        if is_auto(chosen.get("lr")) and result is not None:
            chosen |= {name: getattr(result, name) for name in ("lr", "momentum", "dampening")}
        if error is not None:
            if isinstance(error, sgdm.DivergenceError) and not is_auto(chosen.get("lr")):
                check_divergence(reference, error, dtype, A, b, w, constants_of(chosen, values), start, chosen)
            return
        every, norms = int(chosen.get("record_every", 1)), result.method == "compress"
        check_trajectory(reference, result, dtype, A, b, w, constants_of(chosen, values), start, every, norms)
        if held_out is not None and result.history.val_loss is not None and (result.epochs - 1) % every == 0:
            check_val_loss(result, dtype, C, c, norms)
        same_file(result, sgdm.load, tmp_path / "run.npz")
        with np.errstate(all="ignore"):
            predicted = result.predict(X)
            expected = A.astype(np.float64) @ result.coef.astype(float) + result.intercept
        assert predicted.shape == b.shape
        if np.isfinite(expected).all():
            bound = np.abs(A).astype(float) @ np.abs(result.coef).astype(float) + np.abs(result.intercept)
            limit = np.finfo(dtype)
            if bound.max() < limit.max / 4:
                assert np.all(np.abs(predicted - expected) <= limit.eps * (A.shape[1] + 4) * bound + limit.tiny)

    check()


def check_val_loss(result, dtype, X, y, norms):
    """The last validation loss is that of the last parameters."""
    params = result.checkpoint.parameters[0].astype(float)
    Z = np.column_stack([X, np.ones(len(X))])[:, : len(params)].astype(float)
    with np.errstate(all="ignore"):
        y = y.reshape(len(X), -1).astype(float)
        expected = ((Z @ params - y) ** 2).mean(0)
        bound = (np.abs(Z) @ np.abs(params) + np.abs(y) + float(np.finfo(dtype).tiny)) ** 2
        if norms:
            bound = (norms_of(Z) @ np.abs(params) + norms_of(y)) ** 2
        if bound.max() * len(X) < float(np.finfo(dtype).max) / 1e6:
            off = np.abs(result.history.val_loss[-1] - expected)
            info = np.finfo(dtype)
            assert np.all(off <= 4 * (sum(X.shape) + 16) * float(info.eps) * bound.max(0) + float(info.tiny) ** 0.5)


def check_divergence(reference, error, dtype, X, y, w, constants, start, chosen):
    """Numbers did come near the largest there are."""
    seed = constants.get("seed")
    own = {**constants, "epochs": int(chosen["epochs"]), **({"seed": seed()} if seed else {})}
    _, peak = majorant(reference, dtype, X, y, w, own, start, error.result.method == "compress")
    assert not peak < float(np.finfo(dtype).max) / 1e6, f"no number above {peak:g}: {error!r}"
    assert error.result.epochs < int(chosen["epochs"])
    assert np.isfinite(error.result.coef).all()


@st.composite
def many_fits(draw):
    """Arguments of fit_many, and whether all options are valid."""
    count, (n, d) = draw(st.integers(1, 4)), draw(shapes)
    ordinary = ("normal", "whole", "large", "positive", "counts", "zeros") if draw(st.booleans()) else tuple(KINDS)
    own = st.booleans()
    X_own = draw(own)
    X = draw(arrays((count, n, d) if X_own else (n, d), ordinary))
    y = draw(arrays((count, n) if X_own or draw(own) else (n,), ordinary))
    names = ("lr", "momentum", "dampening", "nesterov", "weight_decay", "l1", "fit_intercept", "epochs", "tol",
             "record", "record_every", "n_threads")  # fmt: skip
    chosen, ok = draw(options(names, record=["all", "loss", None]))
    for name in ("lr", "momentum", "dampening", "weight_decay", "l1"):
        if name not in chosen and draw(st.integers(0, 9)) == 0:
            length = count + draw(st.sampled_from([0] * 9 + [1]))
            chosen[name] = np.random.default_rng(draw(st.integers(0, 99))).uniform(0, 0.3, length)
    weighted, started = draw(st.integers(0, 3)) == 0, draw(st.integers(0, 3)) == 0
    if weighted:
        chosen["sample_weight"] = draw(arrays((count, n) if draw(own) else (n,), ("positive", "counts", *ordinary)))
    if started:
        p = d + (chosen.get("fit_intercept") is True)
        chosen["coef0"] = draw(arrays((count, p) if draw(own) else (p,), ordinary))
    return X, y, chosen, ok


def parts_of(X, y, chosen):
    """The arguments of each fit, or None if there is no telling them apart."""
    axes = {"X": 3, "y": 2, "sample_weight": 2, "coef0": 2}
    constants = dict.fromkeys(("lr", "momentum", "dampening", "weight_decay", "l1"), 1)
    axes |= constants
    arguments = {"X": X, "y": y, **chosen}
    own = {name for name, value in arguments.items() if name in axes and np.ndim(value) == axes[name]}
    counts = {len(arguments[name]) for name in own if name in constants or len(arguments[name]) != 1}
    lone = np.ndim(X) == 3 and np.ndim(y) != 2
    too_deep = any(np.ndim(arguments[name]) > axes.get(name, 9) for name in arguments)
    if lone or len(counts) > 1 or 0 in counts or too_deep:
        return None

    def part(name, value, i):
        return value[i if len(value) > 1 else 0] if name in own else value

    return [{name: part(name, value, i) for name, value in arguments.items()} for i in range(max(counts, default=1))]


def test_fit_many(draws):
    """The oracle is fit, fit by fit: where all of these have results they have the same bits; else there are none."""

    @fuzz(draws(300))
    @given(many_fits())
    def check(drawn):
        X, y, chosen, ok = drawn
        result, error = attempt(sgdm.fit_many, X, y, **chosen)
        try:
            each = parts_of(X, y, chosen)
        except ValueError:  # ragged
            each = None
        if each is None or (error is not None and not ok):
            assert error is not None
            return
        single = []
        for part in each:
            part.pop("n_threads", None)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", sgdm.ConvergenceWarning)
                try:
                    single.append(sgdm.fit(method="direct", **part))
                except sgdm.DivergenceError as failure:
                    single.append(failure.result)
                except (TypeError, ValueError) as failure:
                    assert error is not None, f"should have been refused: {failure!r}"
                    return
        slot = any(part.coef.ndim > 1 for part in single)
        assert error is None or slot, f"should not have been refused: {error!r}"
        if error is None:
            assert [result[i] for i in range(len(result.epochs))] == single

    check()


# Reductions

REDUCED_OPTIONS = ("lr", "momentum", "dampening", "nesterov", "weight_decay", "l1", "epochs", "average", "record",
                   "record_every", "n_threads")  # fmt: skip


@st.composite
def reductions(draw):
    """Arguments of compress, whether its options are valid, and rng for more."""
    (n, d), k = draw(shapes), draw(st.sampled_from([None, None, 1, 3]))
    slot = () if k is None else (k,)
    ordinary = ("normal", "whole", "large", "positive", "counts", "zeros") if draw(st.booleans()) else tuple(KINDS)
    X, y = draw(arrays((n, d), ordinary)), draw(arrays((n, *slot), ordinary))
    chosen, ok = draw(options(("fit_intercept", "n_threads", "progress")))
    if draw(st.integers(0, 3)) == 0:
        chosen["sample_weight"] = draw(arrays((n,), ("positive", "counts", "counts", *ordinary)))
    return X, y, chosen, ok


def test_compress(draws, reference, tmp_path):
    @fuzz(draws(300))
    @given(reductions(), options(REDUCED_OPTIONS, record=["all", "loss", None]), st.data())
    def check(drawn, more, data):
        X, y, chosen, valid = drawn
        dtype, A, b = matrices(X, y)
        w = None if A is None else np.ones(len(A))
        if A is not None and chosen.get("sample_weight") is not None:
            w = usable_weights(chosen["sample_weight"], len(A), np.float64)
        valid &= A is not None and w is not None
        if valid:
            fit_intercept = bool(chosen.get("fit_intercept", False))
            Z = np.column_stack([A, np.ones(len(A))])[:, : A.shape[1] + fit_intercept].astype(float)
            p = Z.shape[1]
            with np.errstate(all="ignore"):
                rows = np.sqrt(w)[:, None] * np.column_stack([Z, b.astype(float)])
                norms = np.sqrt(len(rows)) * np.abs(rows).max(0)
            moderate = norms.max() < 1e140 and w.max() < 1e100
        reduced, _ = attempt(sgdm.compress, X, y, valid=None if valid and not moderate else valid, **chosen)
        if reduced is None or not valid:
            return
        q, eps = len(norms), np.finfo(float).eps
        assert (reduced.R.shape, reduced.n_rows, reduced.n_features) == ((q, q), len(A), A.shape[1])
        assert np.all(np.diag(reduced.R) >= 0)
        assert not np.tril(reduced.R, -1).any()
        assert np.isclose(reduced.total_weight, w.sum(), rtol=1e-12)
        same_file(reduced, sgdm.Compressed.load, tmp_path / "reduced.npz")
        repr(reduced)
        if moderate:
            tolerance = 8 * (q + 16) * eps * np.outer(norms, norms) + 1e-290
            assert np.all(np.abs(reduced.R.T @ reduced.R - rows.T @ rows) <= tolerance)
            if len(A) > 1:
                cut = data.draw(st.integers(1, len(A) - 1))
                blocks = [(A[i], b[i], w[i]) for i in (slice(0, cut), slice(cut, None))]
                if all(block[2].sum() > 0 for block in blocks):
                    halves = [
                        sgdm.compress(*block[:2], sample_weight=block[2], fit_intercept=fit_intercept)
                        for block in blocks
                    ]
                    for other in (halves[0] + halves[1], sgdm.compress(iter(blocks), fit_intercept=fit_intercept)):
                        assert np.all(np.abs(other.R.T @ other.R - rows.T @ rows) <= tolerance)
        start = np.zeros((p, *b.shape[1:]))
        assert not reduced.condition < 1
        values = reduced.spectrum()
        assert np.all(values[1:] <= values[:-1])
        solution, _ = attempt(reduced.solve)
        if solution is not None:
            assert np.all(np.asarray(reduced.optimal_loss) >= 0)
        if solution is not None and moderate and norms.min() > 1e-140:
            flat = solution.reshape(p, -1)
            gradient = rows[:, :p].T @ (rows[:, :p] @ flat - rows[:, p:])
            size = np.linalg.norm(norms[:p])
            limit = 64 * q * eps * size * (size * np.abs(flat).max(0) + norms[p:])
            assert np.all(np.abs(gradient) <= limit)
        chosen, ok = more
        result, _ = attempt(reduced.fit, valid=ok, **chosen)
        own = {"epochs": 50, **chosen, "fit_intercept": fit_intercept}
        if result is not None and moderate:
            every = int(own.get("record_every", 1))
            constants = constants_of(own, {})
            check_trajectory(reference, result, dtype, A, b, w, constants, start, every, norms=True)
        constants = {name: own[name] for name in ("momentum", "dampening", "nesterov", "weight_decay") if name in own}
        bad = {name for name, value in own.items() if any(value is odd for odd in OPTIONS[name][1])}
        valid = not bad & set(constants)
        limit, _ = attempt(reduced.max_lr, valid=valid, **constants)
        if limit is not None:
            assert limit >= 0
        epochs = data.draw(st.sampled_from([0, 1, 4, 10**9, 2.5, "x", np.ones(2)]))
        sensible = isinstance(epochs, int)
        lr = own.get("lr", 0.1)
        loss, _ = attempt(
            reduced.forecast, lr, epochs=epochs, valid=valid and sensible and "lr" not in bad, **constants
        )
        if loss is not None and sensible and epochs < 9 and moderate:
            check_forecast(reference, loss, A, b, w, {**constants, "lr": lr}, fit_intercept, start, epochs)
        if data.draw(st.integers(0, 9)) == 0:  # it takes some milliseconds
            best, _ = attempt(reduced.tune, epochs, valid=None if valid and moderate else valid and None, **constants)
            if best is not None:
                assert np.isfinite(best).all()
                assert best.objective >= 0

    check()


def check_forecast(reference, loss, X, y, w, constants, fit_intercept, start, epochs):
    """The forecast is the oracle's loss, to rounding."""
    constants = constants_of({**constants, "fit_intercept": fit_intercept, "epochs": epochs}, {})
    constants["epochs"] = epochs + 1
    with np.errstate(all="ignore"):
        expected = reference.fit(X.astype(float), y.astype(float), **constants, sample_weight=w, coef0=start)
    bound, peak = majorant(reference, np.float64, X, y, w, constants, start, norms=True)
    if peak < 1e300:
        scale = bound.history.loss.max()
        off = np.abs(loss - expected.history.loss[-1]).max()
        assert off <= 64 * (sum(X.shape) + 16) * (epochs + 1) * np.finfo(float).eps * scale + 1e-290


def test_merge(draws):
    X = np.random.default_rng(0).standard_normal((9, 3))
    base = sgdm.compress(X, X[:, 0])
    others = [
        base,
        sgdm.compress(X, X),
        sgdm.compress(X[:, :2], X[:, 0]),
        sgdm.compress(X.astype("f4"), X[:, 0].astype("f4")),
        sgdm.compress(X, X[:, 0], fit_intercept=True),
    ]

    @fuzz(draws(80))
    @given(st.lists(st.sampled_from([base, base, *others, "x", None, 0, X]), max_size=5), st.sampled_from([list, iter]))
    def check(parts, kind):
        valid = bool(parts) and any(parts[0] is one for one in others) and all(part is parts[0] for part in parts)
        merged, _ = attempt(sgdm.Compressed.merge, kind(parts), valid=valid)
        if valid:
            assert merged.n_rows == 9 * len(parts)

    check()
    for odd in (None, 5, base):
        with pytest.raises(TypeError, match=r"^parts must be an iterable of Compressed, got "):
            sgdm.Compressed.merge(odd)


# Schedules


def test_schedules(draws):
    numbers = st.sampled_from([*NUMBERS, 0.1, 0, 1, 2.5, 1e-300, 1e300, 5e-324, 0.5, np.float32(0.25), Fraction(1, 3)])
    counts = st.sampled_from([*COUNTS, None, 1, 2, 3, 10, 1000, np.int8(7)])
    others = [None, 0.5, (0.9,), "ab", [0.9, 0.8], {}, (1, 2, 3)]
    pairs = st.one_of(st.tuples(numbers, numbers), st.sampled_from(others))
    forms = {
        "one_cycle": {"epochs": counts, "max_lr": numbers, "pct_start": numbers, "div": numbers, "final_div": numbers,
                      "momentum": pairs},
        "cosine": {"epochs": counts, "lr": numbers, "final": numbers},
        "exponential": {"epochs": counts, "lr": numbers, "gamma": numbers},
        "inverse_scaling": {"epochs": counts, "lr": numbers, "power": numbers},
        "warm_up": {"schedule": st.one_of(arrays((8,)), st.just(np.full(5, 0.1))), "epochs": counts},
    }  # fmt: skip
    assert forms.keys() == set(schedules.__all__)
    needed = {"epochs", "max_lr", "lr", "gamma", "schedule"}

    @fuzz(draws(600))
    @given(st.sampled_from(sorted(forms)).flatmap(lambda name: st.tuples(st.just(name), st.fixed_dictionaries(
        {key: values for key, values in forms[name].items() if key in needed},
        optional={key: values for key, values in forms[name].items() if key not in needed},
    ))))  # fmt: skip
    def check(drawn):
        name, arguments = drawn
        result, _ = attempt(getattr(schedules, name), **arguments)
        if result is None:
            return
        length = len(arguments["schedule"]) if name == "warm_up" else int(arguments["epochs"])
        for array in result if name == "one_cycle" else (result,):
            assert (array.shape, array.dtype) == ((length,), np.float64)
            assert np.isfinite(array).all()
            assert name == "warm_up" or array.min() >= 0

    check()


# Results


def test_predict(draws):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((20, 3))
    options = {"epochs": 2, "record": None}
    one, several = sgdm.fit(X, X[:, 0], fit_intercept=True, **options), sgdm.fit(X, X, **options)
    single, many = sgdm.fit(X.astype("f4"), X.astype("f4"), **options), sgdm.fit_many(X, X.T.copy(), **options)

    @fuzz(draws(200))
    @given(st.sampled_from([one, several, single, many]), st.one_of(arrays((5, 3)), arrays((3, 5, 3))))
    def check(result, given):
        A = real(given)
        valid = A is not None and A.shape[-1:] == (3,)
        valid &= valid and (A.ndim == 2 or (result is many and A.ndim == 3 and len(A) == 3))
        with np.errstate(all="ignore"):
            # what is not finite is the caller's own here, as in X @ coef
            whether = valid if A is not None and A.size else None
            predicted, _ = attempt(result.predict, given, valid=whether)
            if predicted is None or not valid:
                return
            expected = A @ (result.coef[:, :, None] if result is many else result.coef)
            expected = expected[..., 0] if result is many else expected
            expected = expected + (result.intercept[:, None] if result is many else result.intercept)
            size = np.abs(A).max(initial=0) * np.abs(result.coef).max() * 3 + np.abs(result.intercept).max()
        assert predicted.shape == expected.shape
        if size < 1e36:
            eps = np.finfo(predicted.dtype).eps
            assert np.all(np.abs(predicted - expected) <= 8 * float(eps) * size + 1e-36)

    check()


def test_damaged_files(draws, tmp_path):
    X = np.random.default_rng(0).standard_normal((9, 2))
    saved = []
    for value, load in ((sgdm.fit(X, X, batch_size=4, seed=0), sgdm.load), (sgdm.compress(X, X), sgdm.Compressed.load)):
        value.save(tmp_path / "whole")
        saved.append((value, load, (tmp_path / "whole").read_bytes()))
    damage = st.lists(st.tuples(st.integers(0, 2**16), st.integers(0, 255)), max_size=3)

    @fuzz(draws(300))
    @given(st.sampled_from(saved), damage, st.integers(0, 2**16), st.integers(0, 5))
    def check(drawn, changes, length, cut):
        value, load, content = drawn
        content = bytearray(content)
        for at, byte in changes:
            content[at % len(content)] = byte
        content = bytes(content[: length % len(content)] if cut == 0 else content)
        path = tmp_path / "damaged"
        path.write_bytes(content)
        loaded, _ = attempt(load, path, valid=True if content == drawn[2] else None, names=re.compile("damaged"))
        if loaded is not None:
            assert type(loaded) is type(value)
        if content == drawn[2]:
            assert loaded == value

    check()


def test_going_on(draws):
    """A fit cut in two, the second half with another's `init` now and then: the whole fit to the bit, or refused."""

    @fuzz(draws(200))
    @given(fits(), st.integers(1, 4), st.integers(0, 9))
    def check(drawn, first, odd):
        X, y, chosen, _, values = drawn
        if values or is_auto(chosen.get("lr")):
            return
        if chosen.get("batch_size") is not None and chosen.get("shuffle", True) is not False:
            chosen["seed"] = np.random.default_rng(5)
            chosen["seed"].bit_generator.state = np.random.default_rng(5).bit_generator.state
        chosen |= {"epochs": first}
        half, _ = attempt(fit_anew, X, y, **chosen)
        if half is None:
            return
        options = {name: value for name, value in chosen.items() if name not in ("seed", "coef0")}
        if odd == 0:
            strange = [None, 5, "x", half.coef, half.history, sgdm.fit_many([[1.0]], [1.0]), half.checkpoint]
            for init in strange[1:]:
                attempt(sgdm.fit, X, y, valid=False, **options, init=init)
        if odd == 1:  # of other data
            attempt(sgdm.fit, np.ones((4, 77)), np.ones(4), valid=False, init=half)
            attempt(sgdm.fit, X, y, **options | {"fit_intercept": not options.get("fit_intercept", False)}, init=half)
        whole, failure = attempt(fit_anew, X, y, **chosen | {"epochs": first + 3})
        rest, error = attempt(fit_anew, X, y, **options | {"epochs": 3}, init=half)
        if half.status == "completed":  # else the whole ends there
            assert (error is None) == (failure is None), (error, failure)
            assert rest == whole

    check()


def fit_anew(X, y, seed=None, **options):
    """fit, with a seed's Generator left as it was."""
    if isinstance(seed, np.random.Generator):
        seed = np.random.default_rng(5)
    return sgdm.fit(X, y, seed=seed, **options)


# The estimators


def test_estimators(draws):
    pytest.importorskip("sklearn")
    import sklearn
    from sklearn.exceptions import ConvergenceWarning, DataConversionWarning

    from sgdm.sklearn import SGDMRegressor, SGDMRegressorCV

    few = ("normal", "whole", "positive", "counts", "huge", "tiny", "not finite")
    names = ("momentum", "dampening", "nesterov", "weight_decay", "l1", "fit_intercept", "batch_size", "shuffle",
             "average", "record")  # fmt: skip
    own = {
        "lr": OPTIONS["lr"],
        "max_iter": OPTIONS["epochs"],
        "tol": OPTIONS["tol"],
        "early_stopping": ([False, False, True], FLAGS[1]),
        "validation_fraction": ([0.1, 0.5, np.float32(0.3)], NUMBERS),
        "n_iter_no_change": ([1, 2], [*COUNTS, None]),
        "warm_start": ([False, True], FLAGS[1]),
    }
    places = (PACKAGE, Path(sklearn.__file__).parent, Path(np.__file__).parent)

    @st.composite
    def parameters(draw):
        chosen, ok = draw(options(names))
        for name, (good, bad) in own.items():
            kind = draw(st.integers(0, 40))
            if kind < 8:
                chosen[name], ok = draw(st.sampled_from(bad if kind == 0 else good)), ok and kind > 0
        return chosen, ok

    shape = st.tuples(st.integers(6, 20), st.integers(1, 5), st.sampled_from([(), (2,)]))
    data = shape.flatmap(lambda s: st.tuples(arrays(s[:2], few), arrays((s[0], *s[2]), few)))

    @fuzz(draws(240))
    @given(parameters(), data, st.booleans())
    def check(drawn, given, validated):
        (chosen, _), (X, y) = drawn, given
        _, A, b = matrices(X, y)
        sane = A is not None and len(A) > 5 and np.abs(A).max() < 1e9 and np.abs(b).max() < 1e9
        kind = SGDMRegressor
        if validated:
            kind = SGDMRegressorCV
            chosen = {name: value for name, value in chosen.items() if name in kind().get_params()} | {"cv": 3}
        model = kind(random_state=0, **chosen) if kind is SGDMRegressor else kind(**chosen)
        before = frozen((X, y, chosen))
        try:
            with warnings.catch_warnings():
                for category in (sgdm.ConvergenceWarning, ConvergenceWarning, DataConversionWarning):
                    warnings.simplefilter("ignore", category)
                if not sane:
                    warnings.simplefilter("ignore", RuntimeWarning)  # from scikit-learn's checks
                model.fit(X, y)
        except (ValueError, TypeError, ArithmeticError) as error:
            last = traceback.extract_tb(error.__traceback__)[-1]
            if sane:  # else it is scikit-learn's to refuse
                assert type(error) in (ValueError, TypeError, sgdm.DivergenceError), repr(error)
                assert PACKAGE in Path(last.filename).parents, repr(error)
                assert last.line.startswith("raise"), repr(error)
                assert NAMED.search(str(error)) or any(name in str(error) for name in own), repr(error)
            else:
                assert any(place in Path(last.filename).parents for place in places), repr(error)
            return
        finally:
            assert frozen((X, y, chosen)) == before
        if A is None:  # it reads strings as numbers
            return
        assert np.isfinite(model.coef_).all()
        assert model.coef_.shape == (*b.shape[1:], A.shape[1])
        with np.errstate(all="ignore"):
            assert model.predict(X).shape == b.shape

    check()
