"""Anything may come: every public function gives the oracle's result, or refuses in our words, and leaves its input.

The plain run draws the same few examples every time, the slow tests the same many. SGDM_FUZZ=20000 draws so many, other
ones each time, or those of `--hypothesis-seed`.
"""

# ruff: noqa: F403, F405, PT017 - strategies.py is for this file; what an error looks like is what is tested

import re
import traceback
import warnings
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from helpers import design, spread
from hypothesis import given
from hypothesis import strategies as st
from strategies import *

import sgdm
from sgdm import schedules

pytestmark = pytest.mark.filterwarnings("ignore:Generating overly large repr")


# fit and fit_many

EPS = np.finfo(float).eps
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
    shape = () if k is None else (k,)
    ordinary = ("normal", "whole", "large", "positive", "counts", "zeros") if draw(st.booleans()) else tuple(KINDS)
    X, y = draw(arrays((n, d), ordinary)), draw(arrays((n, *shape), ordinary))
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
        chosen["coef0"] = draw(arrays((p, *shape), ordinary))
    if draw(st.integers(0, 7)) == 0:
        chosen["validation"] = draw(arrays((7, d), ordinary)), draw(arrays((7, *shape), ordinary))
    elif draw(st.integers(0, 20)) == 0:
        chosen["validation"] = draw(st.sampled_from([*NUMBERS, (), (1,), [X], (X, y, None, None), (X, None)]))
    return X, y, chosen, ok, values


def conflict(chosen):
    """Whether options that are valid by themselves may not go together."""
    batches = chosen.get("batch_size") is not None
    return (
        (chosen.get("seed") is not None and not shuffles(chosen))
        or chosen.get("patience") is not None
        or (chosen.get("tol") is not None and batches)
        or (chosen.get("method") == "compress" and batches)
        or is_auto(chosen.get("lr"))
    )


def shuffles(chosen):
    """Whether the options ask for shuffled batches."""
    return chosen.get("batch_size") is not None and chosen.get("shuffle", True) is not False


def read_rows(X, y, chosen, weight_dtype=None):
    """The numbers of X, y and the weights as a fit reads them, or None if it must refuse them."""
    dtype, A, b = matrices(X, y)
    weights = chosen.get("sample_weight")
    if A is None:
        return None
    w = np.ones(len(A)) if weights is None else usable_weights(weights, len(A), weight_dtype or dtype)
    return None if w is None else SimpleNamespace(dtype=dtype, X=A, y=b, w=w.astype(weight_dtype or dtype))


def read_fit(X, y, chosen):
    """The numbers of all arrays as fit reads them, or None if it must refuse them."""
    rows = read_rows(X, y, chosen)
    if rows is None:
        return None
    shape = (rows.X.shape[1] + bool(chosen.get("fit_intercept", False)), *rows.y.shape[1:])
    coef0, held_out = chosen.get("coef0"), chosen.get("validation")
    rows.start = np.zeros(shape, rows.dtype) if coef0 is None else real(coef0, rows.dtype)
    if rows.start is None or rows.start.shape != shape:
        return None
    if held_out is not None:
        if not (isinstance(held_out, tuple) and len(held_out) == 2 and matrices(*held_out)[1] is not None):
            return None
        rows.held_out = [real(array, rows.dtype) for array in held_out]  # which may be refused for float32
        if any(array is None for array in rows.held_out):
            return None
        if [array.shape[1:] for array in rows.held_out] != [rows.X.shape[1:], rows.y.shape[1:]]:
            return None
    return rows


def check_predictions(result, X, rows):
    """The predictions for the fit's own rows are X @ coef + intercept, to rounding."""
    A, coef, info = rows.X.astype(float), result.coef.astype(float), np.finfo(rows.dtype)
    with np.errstate(all="ignore"):
        predicted, expected = result.predict(X), A @ coef + result.intercept
    assert predicted.shape == rows.y.shape
    if np.isfinite(expected).all():
        bound = np.abs(A) @ np.abs(coef) + np.abs(result.intercept)
        if bound.max() < info.max / 4:
            assert np.all(np.abs(predicted - expected) <= info.eps * (A.shape[1] + 4) * bound + info.tiny)


def test_fit_gives_the_oracles_result_or_refuses(draws, tmp_path):
    @fuzz(draws(500))
    @given(fits())
    def check(drawn):
        X, y, chosen, valid, values = drawn
        if shuffles(chosen):
            chosen["seed"] = 1 if chosen.get("seed") is None else chosen["seed"]
        rows = read_fit(X, y, chosen) if valid else None
        valid = rows is not None
        result, error = attempt(sgdm.fit, X, y, valid=None if valid and conflict(chosen) else valid, **chosen)
        if not valid:
            return
        auto = is_auto(chosen.get("lr"))
        if auto and result is not None:
            chosen |= {name: getattr(result, name) for name in ("lr", "momentum", "dampening")}
        fitted = rows.dtype, rows.X, rows.y, rows.w
        if error is not None:
            if isinstance(error, sgdm.DivergenceError) and not auto:
                check_divergence(error, *fitted, constants_of(chosen, values), rows.start, chosen)
            return
        every, norms = int(chosen.get("record_every", 1)), result.method == "compress"
        check_trajectory(result, *fitted, constants_of(chosen, values), rows.start, every, norms)
        if result.history.val_loss is not None and (result.epochs - 1) % every == 0:
            check_val_loss(result, rows.dtype, *rows.held_out, norms)
        same_file(result, sgdm.load, tmp_path / "run.npz")
        check_predictions(result, X, rows)

    check()


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


def fit_each(parts):
    """The result of each fit, or None if one of them is refused."""
    results = []
    for part in parts:
        part.pop("n_threads", None)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", sgdm.ConvergenceWarning)
            try:
                results.append(sgdm.fit(method="direct", **part))
            except sgdm.DivergenceError as failure:
                results.append(failure.result)
            except (TypeError, ValueError):
                return None
    return results


def test_fit_many_gives_the_bits_of_fit_or_refuses(draws):
    """The oracle is fit, fit by fit: where all of these have results they have the same bits; else there are none."""

    @fuzz(draws(300))
    @given(many_fits())
    def check(drawn):
        X, y, chosen, ok = drawn
        result, error = attempt(sgdm.fit_many, X, y, **chosen)
        try:
            parts = parts_of(X, y, chosen)
        except ValueError:  # ragged
            parts = None
        if parts is None or (error is not None and not ok):
            assert error is not None
            return
        expected = fit_each(parts)
        if expected is None:
            assert error is not None, "should have been refused"
            return
        several_targets = any(part.coef.ndim > 1 for part in expected)
        assert error is None or several_targets, f"should not have been refused: {error!r}"
        if error is None:
            assert [result[i] for i in range(len(result.epochs))] == expected

    check()


# Reductions

REDUCED_OPTIONS = ("lr", "momentum", "dampening", "nesterov", "weight_decay", "l1", "epochs", "average", "record",
                   "record_every", "n_threads")  # fmt: skip


@st.composite
def reductions(draw):
    """Arguments of compress, whether its options are valid, and rng for more."""
    (n, d), k = draw(shapes), draw(st.sampled_from([None, None, 1, 3]))
    shape = () if k is None else (k,)
    ordinary = ("normal", "whole", "large", "positive", "counts", "zeros") if draw(st.booleans()) else tuple(KINDS)
    X, y = draw(arrays((n, d), ordinary)), draw(arrays((n, *shape), ordinary))
    chosen, ok = draw(options(("fit_intercept", "n_threads", "progress")))
    if draw(st.integers(0, 3)) == 0:
        chosen["sample_weight"] = draw(arrays((n,), ("positive", "counts", "counts", *ordinary)))
    return X, y, chosen, ok


def weigh(rows, fit_intercept):
    """Adds what a reduction is of: [X 1 y], each row times the root of its weight; its columns' norms; the rounding."""
    rows.fit_intercept, rows.p = fit_intercept, rows.X.shape[1] + fit_intercept
    with np.errstate(all="ignore"):
        rows.weighted = np.sqrt(rows.w)[:, None] * np.column_stack(
            [design(rows.X, fit_intercept), rows.y.astype(float)]
        )
        rows.norms = np.sqrt(len(rows.X)) * np.abs(rows.weighted).max(0)
    rows.moderate = rows.norms.max() < 1e140 and rows.w.max() < 1e100


def check_gram(reduced, rows):
    """R' R is the rows' Gram matrix, to rounding."""
    tolerance = 8 * (len(rows.norms) + 16) * EPS * np.outer(rows.norms, rows.norms) + 1e-290
    assert np.all(np.abs(reduced.R.T @ reduced.R - rows.weighted.T @ rows.weighted) <= tolerance)


def check_factor(reduced, rows):
    q = len(rows.norms)
    assert (reduced.R.shape, reduced.n_rows, reduced.n_features) == ((q, q), len(rows.X), rows.X.shape[1])
    assert np.all(np.diag(reduced.R) >= 0)
    assert not np.tril(reduced.R, -1).any()
    assert np.isclose(reduced.total_weight, rows.w.sum(), rtol=1e-12)
    assert repr(reduced)
    if rows.moderate:
        check_gram(reduced, rows)


def check_merged(rows, cut):
    """The rows before and after the cut, reduced apart and merged, or given as two blocks."""
    parts = [(rows.X[i], rows.y[i], rows.w[i]) for i in (slice(0, cut), slice(cut, None))]
    if all(w.sum() > 0 for _, _, w in parts):
        options = {"fit_intercept": rows.fit_intercept}
        first, second = (sgdm.compress(A, b, sample_weight=w, **options) for A, b, w in parts)
        for merged in (first + second, sgdm.compress(iter(parts), **options)):
            check_gram(merged, rows)


def check_solution(reduced, rows):
    """The spectrum falls, and the gradient at the solution is zero to rounding."""
    assert not reduced.condition < 1
    values = reduced.spectrum()
    assert np.all(values[1:] <= values[:-1])
    solution, _ = attempt(reduced.solve)
    if solution is None:
        return
    assert np.all(np.asarray(reduced.optimal_loss) >= 0)
    if rows.moderate and rows.norms.min() > 1e-140:
        flat, p = solution.reshape(rows.p, -1), rows.p
        gradient = rows.weighted[:, :p].T @ (rows.weighted[:, :p] @ flat - rows.weighted[:, p:])
        size = np.linalg.norm(rows.norms[:p])
        limit = 64 * len(rows.norms) * EPS * size * (size * np.abs(flat).max(0) + rows.norms[p:])
        assert np.all(np.abs(gradient) <= limit)


def check_constants(reduced, rows, own, start, epochs, tunes):
    """The largest stable lr, the forecast and the tuned constants for options of which some may be invalid."""
    constants = {name: own[name] for name in ("momentum", "dampening", "nesterov", "weight_decay") if name in own}
    bad = {name for name, value in own.items() if any(value is odd for odd in OPTIONS[name][1])}
    valid, sensible, lr = not bad & set(constants), isinstance(epochs, int), own.get("lr", 0.1)
    limit, _ = attempt(reduced.max_lr, valid=valid, **constants)
    assert limit is None or limit >= 0
    good = valid and sensible and "lr" not in bad
    loss, _ = attempt(reduced.forecast, lr, epochs=epochs, valid=good, **constants)
    if loss is not None and sensible and epochs < 9 and rows.moderate:
        given = {**constants, "lr": lr}
        check_forecast(loss, rows.X, rows.y, rows.w, given, rows.fit_intercept, start, epochs)
    if tunes:
        best, _ = attempt(reduced.tune, epochs, valid=None if valid and rows.moderate else valid and None, **constants)
        if best is not None:
            assert np.isfinite(best).all()
            assert best.objective >= 0


def test_compress_gives_the_factor_of_the_rows_or_refuses(draws, tmp_path):
    @fuzz(draws(300))
    @given(reductions(), options(REDUCED_OPTIONS, record=["all", "loss", None]), st.data())
    def check(drawn, more, data):
        X, y, chosen, valid = drawn
        rows = read_rows(X, y, chosen, weight_dtype=np.float64) if valid else None
        valid = rows is not None
        if valid:
            weigh(rows, bool(chosen.get("fit_intercept", False)))
        reduced, _ = attempt(sgdm.compress, X, y, valid=None if valid and not rows.moderate else valid, **chosen)
        if reduced is None or not valid:
            return
        check_factor(reduced, rows)
        same_file(reduced, sgdm.Compressed.load, tmp_path / "reduced.npz")
        if rows.moderate and len(rows.X) > 1:
            check_merged(rows, data.draw(st.integers(1, len(rows.X) - 1)))
        check_solution(reduced, rows)
        (options, ok), start = more, np.zeros((rows.p, *rows.y.shape[1:]))
        result, _ = attempt(reduced.fit, valid=ok, **options)
        own = {"epochs": 50, **options, "fit_intercept": rows.fit_intercept}
        if result is not None and rows.moderate:
            every = int(own.get("record_every", 1))
            fitted = rows.dtype, rows.X, rows.y, rows.w
            check_trajectory(result, *fitted, constants_of(own, {}), start, every, norms=True)
        epochs = data.draw(st.sampled_from([0, 1, 4, 10**9, 2.5, "x", np.ones(2)]))
        tunes = data.draw(st.integers(0, 9)) == 0  # it takes some milliseconds
        check_constants(reduced, rows, own, start, epochs, tunes)

    check()


def test_parts_merge_or_are_refused(draws):
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


def test_a_schedule_is_finite_or_refused(draws):
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


def predictions_of(result, A):
    """X @ coef + intercept, and the size of what its terms may be off by."""
    many = np.ndim(result.epochs) == 1
    expected = A @ (result.coef[:, :, None] if many else result.coef)
    expected = expected[..., 0] if many else expected
    expected = expected + (result.intercept[:, None] if many else result.intercept)
    return expected, np.abs(A).max(initial=0) * np.abs(result.coef).max() * 3 + np.abs(result.intercept).max()


def test_predict_gives_x_coef_or_refuses(draws):
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
            expected, size = predictions_of(result, A)
        assert predicted.shape == expected.shape
        if size < 1e36:
            eps = np.finfo(predicted.dtype).eps
            assert np.all(np.abs(predicted - expected) <= 8 * float(eps) * size + 1e-36)

    check()


def test_a_damaged_file_is_read_or_refused(draws, tmp_path):
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


def test_a_fit_cut_in_two_has_the_bits_of_the_whole_or_is_refused(draws):
    """A fit cut in two, the second half with another's `init` now and then: the whole fit to the bit, or refused."""

    @fuzz(draws(200))
    @given(fits(), st.integers(1, 4), st.integers(0, 9))
    def check(drawn, first, odd):
        X, y, chosen, _, values = drawn
        if values or is_auto(chosen.get("lr")):
            return
        if shuffles(chosen):
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


ESTIMATOR_OPTIONS = {*FIT_OPTIONS} & {"momentum", "dampening", "nesterov", "weight_decay", "l1", "fit_intercept",
                                       "batch_size", "shuffle", "average", "record"}  # fmt: skip
OWN_OPTIONS = {
    "lr": OPTIONS["lr"],
    "max_iter": OPTIONS["epochs"],
    "tol": OPTIONS["tol"],
    "early_stopping": ([False, False, True], FLAGS[1]),
    "validation_fraction": ([0.1, 0.5, np.float32(0.3)], NUMBERS),
    "n_iter_no_change": ([1, 2], [*COUNTS, None]),
    "warm_start": ([False, True], FLAGS[1]),
}


@st.composite
def parameters(draw):
    """Parameters of an estimator."""
    chosen, _ = draw(options(ESTIMATOR_OPTIONS))
    for name, (good, bad) in OWN_OPTIONS.items():
        kind = draw(st.integers(0, 40))
        if kind < 8:
            chosen[name] = draw(st.sampled_from(bad if kind == 0 else good))
    return chosen


def fit_estimator(model, X, y, sane):
    """Fits it, and returns whether it has; an error must be ours, or scikit-learn's where the data are not sane."""
    import sklearn
    from sklearn.exceptions import ConvergenceWarning, DataConversionWarning

    try:
        with warnings.catch_warnings():
            for category in (sgdm.ConvergenceWarning, ConvergenceWarning, DataConversionWarning):
                warnings.simplefilter("ignore", category)
            warnings.filterwarnings("ignore", "columns that are (constant|equal)")
            if not sane:
                warnings.simplefilter("ignore", RuntimeWarning)  # from scikit-learn's checks
            model.fit(X, y)
    except (ValueError, TypeError, ArithmeticError) as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        if sane:
            assert type(error) in (ValueError, TypeError, sgdm.DivergenceError), repr(error)
            assert PACKAGE in Path(last.filename).parents, repr(error)
            assert last.line.startswith("raise"), repr(error)
            assert NAMED.search(str(error)) or any(name in str(error) for name in OWN_OPTIONS), repr(error)
        else:
            places = (PACKAGE, Path(sklearn.__file__).parent, Path(np.__file__).parent)
            assert any(place in Path(last.filename).parents for place in places), repr(error)
        return False
    return True


def test_an_estimator_fits_or_refuses(draws):
    pytest.importorskip("sklearn")
    import sgdm.sklearn as estimators

    few = ("normal", "whole", "positive", "counts", "huge", "tiny", "not finite")
    shape = st.tuples(st.integers(6, 20), st.integers(1, 5), st.sampled_from([(), (2,)]))
    data = shape.flatmap(lambda s: st.tuples(arrays(s[:2], few), arrays((s[0], *s[2]), few)))

    @fuzz(draws(240))
    @given(parameters(), data, st.booleans())
    def check(chosen, given, validated):
        X, y = given
        _, A, b = matrices(X, y)
        sane = A is not None and len(A) > 5 and np.abs(A).max() < 1e9 and np.abs(b).max() < 1e9
        if validated:
            known = estimators.SGDMRegressorCV().get_params()
            chosen = {name: value for name, value in chosen.items() if name in known} | {"cv": 3}
            model = estimators.SGDMRegressorCV(**chosen)
        else:
            model = estimators.SGDMRegressor(random_state=0, **chosen)
        before = snapshot((X, y, chosen))
        fitted = fit_estimator(model, X, y, sane)
        assert snapshot((X, y, chosen)) == before
        if fitted and A is not None:  # else it reads strings as numbers
            assert np.isfinite(model.coef_).all()
            assert model.coef_.shape == (*b.shape[1:], A.shape[1])
            with np.errstate(all="ignore"):
                assert model.predict(X).shape == b.shape

    check()
