"""What the fuzz tests draw, and what must hold of whatever comes out."""

import inspect
import os
import re
import traceback
import warnings
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import numpy as np
import reference
from helpers import backwards, misaligned, read_only, spread
from hypothesis import HealthCheck, event, settings
from hypothesis import strategies as st

import sgdm
from sgdm import schedules

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
LAYOUTS = {
    "C": np.ascontiguousarray,
    "F": np.asfortranarray,
    "strided": spread,
    "backwards": backwards,
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
    "n_threads": (
        [1, 2, 3, 10**6, -1, np.int8(-1)],
        [*(x for x in COUNTS if type(x) not in (int, np.int8) or x != -1), None],
    ),
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


ARGUMENTS = {
    name
    for function in (
        sgdm.fit, sgdm.fit_many, sgdm.compress, sgdm.Compressed.tune, sgdm.Compressed.forecast, sgdm.Compressed.path,
        sgdm.Compressed.max_lr, sgdm.Compressed.merge, *(getattr(schedules, name) for name in schedules.__all__),
    )
    for name in inspect.signature(function).parameters
}  # fmt: skip
NAMED = re.compile(rf"(^|[^A-Za-z_])({'|'.join(sorted(ARGUMENTS, key=len, reverse=True))})($|[^A-Za-z_])")


def snapshot(value):
    """What tells whether a value, or what it is a view of, has changed."""
    if isinstance(value, (list, tuple)):
        return [snapshot(item) for item in value]
    if isinstance(value, dict):
        return {name: snapshot(item) for name, item in value.items()}
    if not isinstance(value, np.ndarray):
        return repr(value)
    owner = value
    while isinstance(owner.base, np.ndarray):
        owner = owner.base
    content = [repr(item) for item in owner.flat] if owner.dtype == object else owner.tobytes()
    return value.dtype, value.shape, value.strides, value.flags.writeable, content


def attempt(function, *arguments, valid=None, names=NAMED, places=(PACKAGE,), **keywords):
    """The function's result, or None and why. An error must be ours, and there must be a reason for it."""
    before = snapshot((arguments, keywords))
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
    assert snapshot((arguments, keywords)) == before, "an input was changed"
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


def majorant(dtype, X, y, w, constants, coef0, norms=False):
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


def check_trajectory(result, dtype, X, y, w, constants, coef0, record_every=1, norms=False):
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
    bound, peak = majorant(dtype, X, y, w, own, coef0, norms)
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


def is_auto(value):
    return isinstance(value, str) and value == "auto"


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


def check_divergence(error, dtype, X, y, w, constants, start, chosen):
    """Numbers did come near the largest there are."""
    seed = constants.get("seed")
    own = {**constants, "epochs": int(chosen["epochs"]), **({"seed": seed()} if seed else {})}
    _, peak = majorant(dtype, X, y, w, own, start, error.result.method == "compress")
    assert not peak < float(np.finfo(dtype).max) / 1e6, f"no number above {peak:g}: {error!r}"
    assert error.result.epochs < int(chosen["epochs"])
    assert np.isfinite(error.result.coef).all()


def check_forecast(loss, X, y, w, constants, fit_intercept, start, epochs):
    """The forecast is the oracle's loss, to rounding."""
    constants = constants_of({**constants, "fit_intercept": fit_intercept, "epochs": epochs}, {})
    constants["epochs"] = epochs + 1
    with np.errstate(all="ignore"):
        expected = reference.fit(X.astype(float), y.astype(float), **constants, sample_weight=w, coef0=start)
    bound, peak = majorant(np.float64, X, y, w, constants, start, norms=True)
    if peak < 1e300:
        scale = bound.history.loss.max()
        off = np.abs(loss - expected.history.loss[-1]).max()
        assert off <= 64 * (sum(X.shape) + 16) * (epochs + 1) * np.finfo(float).eps * scale + 1e-290
