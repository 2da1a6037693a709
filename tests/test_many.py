"""fit_many: each of its fits has the bits of fit(..., method="direct"), and none minds what another does."""

import copy
import dataclasses
import itertools
import os
import pickle
import re
import sys
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import sgdm
from sgdm import _fit_many as _many
from sgdm._descent import descent as _run

B, N, D = 5, 30, 3
HISTORIES = ("loss", "grad", "step", "coef")
CONSTANTS = ("lr", "momentum", "dampening", "weight_decay", "l1")
# How many axes an argument has that comes once for each fit.
AXES = {"X": 3, "y": 2, "sample_weight": 2, "coef0": 2, **dict.fromkeys(CONSTANTS, 1)}
rng = np.random.default_rng(0)
X, y = rng.standard_normal((B, N, D)), rng.standard_normal((B, N))
for array in (X, y):
    array.flags.writeable = False

dtypes = pytest.mark.parametrize("dtype", [np.float64, np.float32])
intercepts = pytest.mark.parametrize("fit_intercept", [False, True])


def own(i, n_threads=1, **arguments):
    """The arguments of fit i."""
    return {name: value[i] if np.ndim(value) == AXES.get(name) else value for name, value in arguments.items()}


def alone(i, **arguments):
    """Fit i by `fit`; if it diverges, what its error holds."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", sgdm.ConvergenceWarning)
        try:
            return sgdm.fit(method="direct", **own(i, **arguments))
        except sgdm.DivergenceError as error:
            return error.result


def check(X=X, y=y, **options):
    """fit_many has, for every i, the bits of fit i; it is returned."""
    many = sgdm.fit_many(X, y, **options)
    for i in range(len(many.epochs)):
        assert many[i] == alone(i, X=X, y=y, **options), f"fit {i}"
    return many


def spread(array):
    """The array with other numbers in between."""
    out = np.full(tuple(3 * length for length in array.shape), np.nan, array.dtype)
    view = out[tuple(slice(1, None, 3) for _ in array.shape)]
    view[...] = array
    return view


def turned(array):
    """The array, its last two axes the other way round in memory."""
    return np.ascontiguousarray(array.swapaxes(-1, -2)).swapaxes(-1, -2)


# The same bits as fit

GIVEN = {
    "lr": (0.05, np.linspace(0, 0.2, B), [0.1, 0.2, 0.3, 0.2, 0.1]),
    "momentum": (0.5, np.linspace(0, 0.9, B), (0.0, 0.5, 0.8, 0.9, 0.95)),
    "dampening": (0.3, np.linspace(0, 1, B), [0, 1, 0, 0, 1]),
    "weight_decay": (0.1, np.linspace(0, 1, B)),
    "l1": (0.1, np.linspace(0, 0.3, B, dtype=np.float32)),
    "coef0": (np.ones(D), rng.standard_normal((B, D)), rng.standard_normal((B, D)).astype("f4")),
    "sample_weight": (rng.uniform(0, 2, N), rng.uniform(0, 2, (B, N)), rng.integers(0, 3, (B, N))),
    "nesterov": (True,),
    "fit_intercept": (True,),
    "tol": (0.0, 0.1, 1e-3),
    "record": ("all", "loss", None),
    "record_every": (2, 7, 50, 1000),
    "epochs": (1, 2, 51),
    "n_threads": (2, 8),
}


@dtypes
@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in GIVEN.items() for value in values], ids=lambda v: str(v)[:20]
)
def test_every_argument(name, value, dtype):
    """For data of each fit's own, for shared X, and where this argument alone, or nothing, tells the fits apart."""
    mine, target = X.astype(dtype), y.astype(dtype)
    many = check(mine, target, **{name: value})
    assert many.coef.shape == (B, D)
    assert many.coef.dtype == dtype
    check(mine[0], target, **{name: value})
    many = check(mine[0], target[0], **{name: value})
    assert len(many.coef) == (B if np.ndim(value) == AXES.get(name) else 1)


@dtypes
@pytest.mark.parametrize("shared", [False, True])
def test_all_arguments_together(shared, dtype):
    options = {name: GIVEN[name][not shared] for name in (*CONSTANTS, "sample_weight")}
    options |= {"coef0": np.ones(D + 1) if shared else rng.standard_normal((B, D + 1)), "momentum": 0.5}
    options |= {"nesterov": True, "fit_intercept": True, "tol": 0.1, "record_every": 3}
    many = check(X.astype(dtype), y.astype(dtype), **options)
    assert len(set(many.epochs)) > 1
    for threads in (2, 8):
        assert sgdm.fit_many(X.astype(dtype), y.astype(dtype), n_threads=threads, **options) == many


LAYOUTS = {
    "C": np.ascontiguousarray,
    "F": np.asfortranarray,
    "columns of each": turned,
    "strided": spread,
    "negative strides": lambda a: np.ascontiguousarray(np.flip(a))[(slice(None, None, -1),) * a.ndim],
    "every other": lambda a: np.repeat(a, 2, axis=-2)[..., ::2, :],
    "broadcast": lambda a: np.broadcast_to(a[..., :1, :], a.shape),
    "other byte order": lambda a: a.astype(a.dtype.newbyteorder()),
    "lists": lambda a: a.tolist(),
    "list of C": list,
    "list of F": lambda a: [np.asfortranarray(one) for one in a],
    "integers": lambda a: (8 * a).astype("i4"),
    "integers F": lambda a: np.asfortranarray((8 * a).astype("i4")),
    "half": lambda a: a.astype("f2"),
    "objects": lambda a: a.astype(object),
}


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("n", "d"), [(30, 1), (31, 5), (33, 40), (1, 3), (3, 1)])
def test_layouts(n, d, layout, shared):
    for dtype in (np.float64, np.float32):
        matrices = rng.standard_normal((B, n, d)).astype(dtype)
        targets = rng.standard_normal((B, n)).astype(dtype)
        check(LAYOUTS[layout](matrices[0] if shared else matrices), targets, lr=1e-3 / d, dampening=0.0, epochs=5)


@pytest.mark.parametrize("layout", ["F", "strided", "other byte order", "lists", "integers", "objects"])
def test_layouts_of_the_rest(layout):
    make = LAYOUTS[layout]
    weights, coef0 = rng.uniform(1, 2, (B, N)), rng.standard_normal((B, D))
    check(X, make(y), sample_weight=make(weights), coef0=make(coef0))
    check(X, make(y), sample_weight=make(weights)[0], coef0=make(coef0)[0])


@pytest.mark.parametrize(
    ("x_type", "y_type", "expected"),
    [
        ("f4", "f8", "f8"),
        ("f8", "f4", "f8"),
        ("f4", "f4", "f4"),
        ("f4", "i4", "f8"),
        ("?", "u1", "f8"),
        ("g", "f8", "f8"),
    ],
)
@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("order", ["C", "F"])
def test_mixed_types(x_type, y_type, expected, shared, order):
    matrices = np.asarray((3 * X).astype(x_type), order=order)
    many = check(matrices[0] if shared else matrices, np.abs(3 * y).astype(y_type), lr=0.01, fit_intercept=True)
    arrays = [many.coef, many.intercept, many.velocity, many.loss]
    arrays += [getattr(many.history, name) for name in HISTORIES]
    assert {array.dtype for array in arrays} == {np.dtype(expected)}


@dtypes
@pytest.mark.parametrize(
    ("n", "d"), [(100, 2), (601, 5), (257, 7), (300, 40), (6, 70), (33_003, 2), (14_001, 5), (301, 300)]
)
def test_sizes(n, d, dtype):
    """Of one block or part of the rows, and of several; X of each, shared, and shared in F order."""
    matrices = rng.standard_normal((2, n, d)).astype(dtype)
    targets = rng.standard_normal((2, n)).astype(dtype)
    weights = rng.uniform(0, 2, (2, n)).astype(dtype)
    for given_X in (matrices, matrices[0], turned(matrices[0])):
        check(given_X, targets, lr=0.2 / d, epochs=3, sample_weight=weights, fit_intercept=True, n_threads=2)


def test_alignment_changes_no_bit():
    """Fit i begins anywhere in a cache line; a copy of its rows elsewhere."""
    for n, d in [(9, 9), (7, 13), (5, 21)]:
        matrices, targets = rng.standard_normal((8, n, d)), rng.standard_normal((8, n))
        many = sgdm.fit_many(matrices, targets, lr=0.01)
        for i in range(8):
            assert many[i] == sgdm.fit(matrices[i].copy(), targets[i].copy(), lr=0.01, method="direct")


def test_one_fit_is_many_of_one():
    for given_X, given_y in [(X[0], y[0]), (X[:1], y[:1]), (X[0], y[:1])]:
        many = sgdm.fit_many(given_X, given_y)
        assert many.coef.shape == (1, D)
        assert list(many) == [sgdm.fit(X[0], y[0], method="direct")]


def test_what_comes_once_is_shared():
    expected = [sgdm.fit(X[0], one, sample_weight=np.arange(N), coef0=np.ones(D), method="direct") for one in y]
    options = {"sample_weight": np.arange(N)[np.newaxis], "coef0": np.ones((1, D))}
    assert list(sgdm.fit_many(X[:1], y, **options)) == expected


@pytest.mark.parametrize("slice_elements", [1, 3000, 30_000])
@pytest.mark.parametrize("threads", [1, 2, 8])
def test_slices_change_no_bit(monkeypatch, slice_elements, threads):
    options = {"tol": 0.1, "fit_intercept": True, "lr": np.append(np.linspace(0.02, 0.3, B - 1), 1e80)}
    whole = sgdm.fit_many(X, y, **options)
    assert set(whole.status) == {"completed", "converged", "diverged"}
    calls, advance = [], _many.advance_many
    monkeypatch.setattr(_many, "advance_many", lambda *given: calls.append(1) or advance(*given))
    monkeypatch.setattr(_many, "SLICE_ELEMENTS", slice_elements)
    assert sgdm.fit_many(X, y, n_threads=threads, **options) == whole
    assert len(calls) > B or slice_elements > 3000


@pytest.mark.parametrize(("n", "d"), [(1, 1), (100, 2), (1, 1000), (50, 300)])
def test_slices_are_as_short_as_those_of_fit(monkeypatch, n, d):
    """Ctrl-C waits for a slice. (1, 1000) has little data, but many parameters to update and to record."""
    calls = {"advance": [], "advance_many": []}
    for module, name in ((_run, "advance"), (_many, "advance_many")):
        kernel = getattr(module, name)
        monkeypatch.setattr(
            module, name, lambda *given, kernel=kernel, name=name: calls[name].append(1) or kernel(*given)
        )
        monkeypatch.setattr(module, "SLICE_ELEMENTS", 200_000)
    check(np.ones((1, n, d)), np.ones((1, n)), lr=0.1 / d, epochs=2000, record=None)
    assert len(calls["advance_many"]) >= len(calls["advance"]) > 1


def test_several_calls_at_once():
    lr = np.linspace(0, 0.2, 200)
    whole = sgdm.fit_many(X[0], y[0], lr=lr)
    together = threading.Barrier(4)

    def run(_):
        together.wait()
        return all(sgdm.fit_many(X[0], y[0], lr=lr, n_threads=2) == whole for _ in range(5))

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(run, range(4)))


ORDERS = {"C": np.ascontiguousarray, "F": np.asfortranarray, "columns": turned, "strided": spread}


@st.composite
def problems(draw):
    """Arguments of fit_many: any of them shared, or one for each fit."""
    count, n, d = draw(st.integers(1, 5)), draw(st.integers(1, 40)), draw(st.integers(1, 20))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    dtype = draw(st.sampled_from([np.float64, np.float32]))

    def some(*shape, own=None, low=None, high=None):
        own = draw(st.booleans()) if own is None else own
        shape = (count, *shape) if own else shape
        numbers = rng.standard_normal(shape) if low is None else rng.uniform(low, high, shape)
        return numbers if np.ndim(numbers) else float(numbers)

    matrices = some(n, d).astype(dtype)
    arguments = {
        "X": ORDERS[draw(st.sampled_from(list(ORDERS)))](matrices),
        "y": some(n, own=matrices.ndim == 3 or None).astype(draw(st.sampled_from([dtype, np.float64]))),
        "lr": some(low=0, high=draw(st.sampled_from([0.1 / d, 1.0, 1e30, 1e300]))),
        "momentum": some(low=0, high=0.99),
        "nesterov": draw(st.booleans()),
        "fit_intercept": draw(st.booleans()),
        "epochs": draw(st.integers(1, 30)),
        "tol": draw(st.sampled_from([None, 0.0, 0.1, 0.9])),
        "record": draw(st.sampled_from(["all", "loss", None])),
        "record_every": draw(st.integers(1, 12)),
        "n_threads": draw(st.integers(1, 3)),
    }
    optional = {
        "dampening": lambda: some(low=0, high=1),
        "weight_decay": lambda: some(low=0, high=1),
        "l1": lambda: some(low=0, high=1),
        "sample_weight": lambda: some(n, low=0, high=1) + 0.01,
        "coef0": lambda: some(d + arguments["fit_intercept"]),
    }
    return arguments | {name: make() for name, make in optional.items() if draw(st.booleans())}


@settings(max_examples=150, derandomize=True, database=None, deadline=None)
@given(problems())
def test_any_problem(arguments):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", sgdm.ConvergenceWarning)
        many = check(**arguments)
    counts = [len(value) for name, value in arguments.items() if name in AXES and np.ndim(value) == AXES[name]]
    assert len(many.coef) == max(counts, default=1)


# Convergence and divergence


def test_each_fit_converges_by_itself():
    many = check(X, y, tol=0.05, epochs=500, lr=np.linspace(0.05, 0.4, B))
    assert set(many.status) == {"converged"}
    assert len(set(many.epochs)) == B
    for i, epochs in enumerate(many.epochs):
        assert np.isfinite(many.history.loss[i, :epochs]).all()
        assert np.isnan(many.history.coef[i, epochs:]).all()


WILD = {
    "lr soon": {"lr": [0.1, 1e200, 0.1, 0.1, 0.1]},
    "lr late": {"lr": [0.1, 50, 0.1, 0.1, 0.1], "epochs": 5000},
    "momentum": {
        "lr": 2.0,
        "momentum": [0.9, 0.1, 0.9, 0.9, 0.9],
        "dampening": [0.9, 0, 0.9, 0.9, 0.9],
        "epochs": 5000,
    },
    "X": {"X": np.where(np.arange(B)[:, None, None] == 1, 1e300 * X, X)},
    "one number of X": {"X": np.where(np.arange(X.size).reshape(X.shape) == 2 * N * D - 1, 1e300, X)},
    "y": {"y": np.where(np.arange(B)[:, None] == 1, 1e300 * y, y)},
    "coef0": {"coef0": np.where(np.arange(B)[:, None] == 1, 1e300, np.ones((B, D)))},
}


@pytest.mark.parametrize(("record", "every", "threads"), [("all", 1, 1), ("all", 3, 2), ("loss", 3, 1), (None, 1, 2)])
@pytest.mark.parametrize("wild", WILD.values(), ids=WILD)
def test_a_fit_that_diverges_disturbs_no_other(wild, record, every, threads):
    arguments = {"X": X, "y": y, "n_threads": threads, "record": record, "record_every": every, **wild}
    many = check(**arguments)
    assert many.status.tolist() == ["completed", "diverged", "completed", "completed", "completed"]
    others = [0, 2, 3, 4]
    without = {
        name: np.asarray(value)[others] if np.ndim(value) == AXES.get(name) else value
        for name, value in arguments.items()
    }
    assert [many[i] for i in others] == list(sgdm.fit_many(**without))
    epochs, total = many.epochs[1], arguments.get("epochs", 50)
    assert epochs < total
    assert np.all(many.epochs[others] == total)
    kept = -(-epochs // every)
    for name in HISTORIES if record == "all" else ("loss",) if record else ():
        history = getattr(many.history, name)
        assert np.isfinite(history[1, :kept]).all()
        assert np.isnan(history[1, kept:]).all()
        assert np.isfinite(history[others]).all()
    with pytest.raises(sgdm.DivergenceError) as caught:
        sgdm.fit(method="direct", **own(1, **arguments))
    assert many[1] == caught.value.result


@pytest.mark.parametrize("name", ["X", "y"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_nonfinite_data_of_one_fit_reach_no_other(name, order):
    """They are refused after the run, whose results the error holds."""
    arrays = {"X": np.asarray(X.copy(), order=order), "y": np.asarray(y.copy(), order=order)}
    arrays[name][2] = np.nan
    with pytest.raises(ValueError, match=f"^{name} must be finite, got nan at fit 2, row 0") as caught:
        sgdm.fit_many(**arrays)
    others = [0, 1, 3, 4]
    assert [caught.value.result[i] for i in others] == [sgdm.fit(X[i], y[i], method="direct") for i in others]


def test_a_rise_warns_and_names_the_fit():
    lr = [0.1, 0.1, 50, 0.1, 40]
    message = r"^the objectives of 2 of 5 fits rose, the first that of fit 2, from \S+ to \S+ in 5 epochs with lr=50; "
    with pytest.warns(sgdm.ConvergenceWarning, match=message) as caught:
        many = check(X, y, lr=lr, epochs=5)
    assert caught[0].filename == __file__
    assert set(many.status) == {"completed"}
    assert (many.history.loss[:, -1] > many.history.loss[:, 0]).tolist() == [False, False, True, False, True]


@dtypes
def test_what_fit_does_not_warn_of(dtype):
    """Rounding at an exact solution, a rise in passing, a divergence."""
    exact = (X @ [1, -2, 3]).astype(dtype)
    sgdm.fit_many(X.astype(dtype), exact, coef0=[1, -2, 3])
    many = sgdm.fit_many(X.astype(dtype), exact, lr=3.0, epochs=1000)
    assert (many.history.loss.max(axis=1) > 1.5 * many.history.loss[:, 0]).any()
    sgdm.fit_many(X.astype(dtype), exact, lr=[0.1, 0.1, 1e30, 0.1, 0.1])


def test_bootstrap_by_weights():
    draws = rng.integers(0, N, (20, N))
    counts = np.stack([np.bincount(rows, minlength=N) for rows in draws])
    many = check(X[0], y[0], sample_weight=counts, fit_intercept=True)
    for i, rows in enumerate(draws):
        repeated = sgdm.fit(X[0][rows], y[0][rows], fit_intercept=True, method="direct")
        for ours, theirs in [(many.coef[i], repeated.coef), (many.intercept[i], repeated.intercept)] + [
            (getattr(many.history, name)[i], getattr(repeated.history, name)) for name in HISTORIES
        ]:
            tolerance = 64 * np.finfo(float).eps * np.abs(theirs).max()
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance)


def test_groups_of_fewer_rows():
    """Rows of weight 0 stand for none."""
    counts = [30, 12, 7, 1, 20]
    many = check(X, y, sample_weight=np.arange(N) < np.array(counts)[:, None])
    for i, count in enumerate(counts):
        expected = sgdm.fit(X[i, :count], y[i, :count], method="direct").history.coef
        np.testing.assert_allclose(many.history.coef[i], expected, rtol=0, atol=64 * 2.3e-16 * np.abs(expected).max())


# The result


@intercepts
@pytest.mark.parametrize("record", ["all", "loss", None])
def test_shapes(record, fit_intercept):
    many = sgdm.fit_many(X, y, epochs=8, record_every=3, record=record, fit_intercept=fit_intercept)
    p = D + fit_intercept
    shapes = {"coef": (B, D), "velocity": (B, p), "intercept": (B,), "loss": (B,), "epochs": (B,), "status": (B,)}
    shapes |= dict.fromkeys(("lr", "momentum", "dampening"), (B,))
    assert {name: getattr(many, name).shape for name in shapes} == shapes
    kept = {"all": HISTORIES, "loss": ("loss",), None: ()}[record]
    for name in HISTORIES:
        expected = ((B, 3) if name == "loss" else (B, 3, p)) if name in kept else None
        assert getattr(getattr(many.history, name), "shape", None) == expected
    assert many.history.epoch.tolist() == ([0, 3, 6] if record else [])
    assert (many.method, many.best_epoch, many.average_coef) == ("direct", None, None)


def test_indices():
    many = sgdm.fit_many(X, y)
    fits = [sgdm.fit(X[i], y[i], method="direct") for i in range(B)]
    assert list(many) == fits
    assert [many[i - B] for i in range(B)] == fits
    assert many[np.int64(2)] == fits[2]
    for outside in (B, -B - 1, 10**6):
        with pytest.raises(IndexError, match=f"{outside} is out of bounds"):
            many[outside]
    for other in (slice(1, 3), 1.0, "1", None, (), [1, 2]):
        with pytest.raises(TypeError, match=r"integer|whole number"):
            many[other]
    with pytest.raises(TypeError, match=r"^this is the result of one fit; only that of fit_many has parts$"):
        fits[0][0]


def test_a_part_is_of_the_types_of_a_fit():
    many, fit = sgdm.fit_many(X, y, fit_intercept=True, tol=0.1)[1], sgdm.fit(X[1], y[1], fit_intercept=True, tol=0.1)
    assert type(many.status) is sgdm.Status
    assert (many.epochs.__class__, many.checkpoint.epoch.__class__) == (int, int)
    assert repr(many) == repr(fit)
    assert many.status.message == fit.status.message


def test_results_hold_no_view_of_inputs_nor_parts_of_the_whole():
    arrays = {"X": X.copy(), "y": y.copy(), "sample_weight": np.ones((B, N)), "coef0": np.ones((B, D)), "lr": [0.1] * B}
    arrays["lr"] = np.array(arrays["lr"])
    before = {name: array.copy() for name, array in arrays.items()}
    many = sgdm.fit_many(**arrays, momentum=arrays["lr"], epochs=5, n_threads=2)
    one = many[1]
    many.predict(arrays["X"])
    for name, array in arrays.items():
        assert np.array_equal(array, before[name])

    def held(result):
        parts = [*vars(result).values(), *vars(result.history).values(), *result.checkpoint]
        return [part for part in parts if isinstance(part, np.ndarray)]

    assert not any(np.shares_memory(ours, theirs) for ours in held(many) for theirs in arrays.values())
    assert not any(np.shares_memory(ours, theirs) for ours in held(one) for theirs in held(many))


@pytest.mark.parametrize(
    "options", [{}, {"record": "loss", "record_every": 3, "fit_intercept": True}, {"record": None}]
)
def test_restart(options):
    """fit goes on from one of many as from its own."""
    many = sgdm.fit_many(X, y, epochs=20, lr=np.linspace(0.05, 0.1, B), **options)
    for i, lr in enumerate(many.lr):
        whole = sgdm.fit(X[i], y[i], epochs=33, lr=lr, method="direct", **options)
        assert sgdm.fit(X[i], y[i], epochs=13, lr=lr, init=many[i], **options) == whole
    with pytest.raises(ValueError, match=r"^init must be one fit, got the many of fit_many; take init\[i\]$"):
        sgdm.fit(X[0], y[0], init=many, **options)


def test_restart_after_convergence_and_divergence():
    many = sgdm.fit_many(X, y, tol=0.1, lr=[0.1, 1e5, 0.1, 0.1, 0.1])
    assert many[0] == sgdm.fit(X[0], y[0], tol=0.1, method="direct")
    part = many[0]
    assert sgdm.fit(X[0], y[0], epochs=50 - part.epochs, init=part) == sgdm.fit(X[0], y[0], method="direct")
    assert 0 < many[1].epochs < 50
    for init in (many[1], alone(1, X=X, y=y, lr=1e5, tol=0.1)):
        with pytest.raises(sgdm.DivergenceError) as caught:
            sgdm.fit(X[1], y[1], lr=1e5, init=init)
        assert caught.value.result == many[1]


@dtypes
@intercepts
def test_predict(fit_intercept, dtype):
    many = sgdm.fit_many(X.astype(dtype), y.astype(dtype), fit_intercept=fit_intercept)
    eps = np.finfo(dtype).eps
    for given_X in (X.astype(dtype), X[0].astype(dtype), X[:, :1].astype(dtype), X[0, :1].astype(dtype)):
        predicted = many.predict(given_X)
        assert predicted.shape == (B, given_X.shape[-2])
        assert predicted.dtype == dtype
        for i in range(B):
            expected = many[i].predict(given_X[i] if given_X.ndim == 3 else given_X)
            np.testing.assert_allclose(predicted[i], expected, rtol=0, atol=64 * eps * np.abs(expected).max())
    assert np.array_equal(many.predict(X[0].tolist()), many.predict(X[0]))


@pytest.mark.parametrize(
    "shape", [(D,), (), (N, D - 1), (N, D + 1), (B, N, D - 1), (B - 1, N, D), (B + 1, N, D), (1, N, D), (1, B, N, D)]
)
def test_predict_of_wrong_shapes(shape):
    many = sgdm.fit_many(X, y)
    with pytest.raises(ValueError, match=rf"^X must have shape \(n, 3\) or \(5, n, 3\), got {re.escape(str(shape))}$"):
        many.predict(np.ones(shape))


@intercepts
@pytest.mark.parametrize("record", ["all", "loss", None])
@pytest.mark.parametrize("count", [1, B])
def test_save_load_copy_and_pickle(tmp_path, record, fit_intercept, count):
    options = {"record": record, "fit_intercept": fit_intercept, "tol": 0.2, "record_every": 2}
    many = sgdm.fit_many(X[:count], y[:count], lr=[0.1, 1e200, 0.2, 0.3, 0.0][:count], **options)
    many.save(tmp_path / "many.npz")
    loaded = sgdm.load(tmp_path / "many.npz")
    for clone in (loaded, copy.copy(many), copy.deepcopy(many), pickle.loads(pickle.dumps(many))):
        assert clone == many
        assert list(clone) == list(many)
        assert repr(clone) == repr(many)
    many[0].save(tmp_path / "one.npz")
    assert sgdm.load(tmp_path / "one.npz") == many[0] == alone(0, X=X, y=y, lr=0.1, **options)


def test_unequal_results():
    many = sgdm.fit_many(X, y)
    coef = many.coef.copy()
    coef[3, 0] = np.nextafter(coef[3, 0], 9)
    status = many.status.copy()
    status[1] = "stopped"
    for other in [
        dataclasses.replace(many, coef=coef),
        dataclasses.replace(many, status=status),
        sgdm.fit_many(X[:4], y[:4]),
        sgdm.fit_many(X, y, record="loss"),
        many[0],
    ]:
        assert other != many


def test_repr():
    many = sgdm.fit_many(X, y, lr=[0.1, 1e200, 0.1, 1e200, 0.1], record_every=7)
    assert repr(many) == "FitResult of 5 fits: 3 completed, 2 diverged\n  history 8 rows each"
    assert repr(sgdm.fit_many(X, y, record=None)) == "FitResult of 5 fits: 5 completed\n  history 0 rows each"


@pytest.mark.parametrize("options", [{"record": None}, {"record": "loss", "record_every": 10**14}], ids=str)
def test_epochs_that_are_not_recorded_take_no_memory(options):
    """10**15 epochs, of which few are done."""
    many = check(X, y, tol=0.5, epochs=10**15, **options)
    assert set(many.status) == {"converged"}
    assert len(many.history) == (0 if options["record"] is None else 10)


# Bad input


def changed(array, *at, value):
    array = np.array(array, float)
    array[at] = value
    return array


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


def refuse(error, message, **arguments):
    arguments = {"X": X, "y": y, **arguments}
    before = pickle.dumps(arguments)
    with pytest.raises(error, match="^" + re.escape(message)):
        sgdm.fit_many(**arguments)
    assert pickle.dumps(arguments) == before


@pytest.mark.parametrize(
    ("error", "arguments", "message"),
    [(error, *row) for error, rows in ((ValueError, VALUES), (TypeError, TYPES)) for row in rows],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_faults(error, arguments, message):
    refuse(error, message, **arguments)


@pytest.mark.parametrize("name", CONSTANTS)
def test_bad_constants(name):
    unit = {"momentum": "in [0, 1)", "dampening": "in [0, 1]"}.get(name, "finite and not negative")
    for bad in (np.nan, np.inf, -0.5):
        refuse(ValueError, f"{name} must be {unit}, got {bad}", **{name: bad})
        refuse(ValueError, f"{name} at fit 2 must be {unit}, got {bad}", **{name: changed(FIVE, [2, 4], value=bad)})
    refuse(TypeError, f"{name} must be a number, got '0.1' of type str", **{name: "0.1"})
    refuse(TypeError, f"{name} must be a number, got True of type bool", **{name: True})
    for bad in (["0.1"] * B, [True] * B, np.ones(B, bool), 1j * FIVE, [0.1, 0.1, None, 0.1, 0.1]):
        refuse(TypeError, f"{name} must hold real numbers, got ", **{name: bad})


@pytest.mark.parametrize("name", ["epochs", "record_every", "n_threads"])
def test_bad_counts(name):
    refuse(ValueError, f"{name} must be at least 1, got 0", **{name: 0})
    refuse(ValueError, f"{name} must be at least 1, got -3", **{name: -3})
    refuse(TypeError, f"{name} must be a whole number, got 1.5 of type float", **{name: 1.5})
    refuse(TypeError, f"{name} must be a whole number, got True", **{name: True})
    refuse(TypeError, f"{name} must be a whole number, got array", **{name: np.full(B, 2)})


@pytest.mark.parametrize(
    ("options", "numbers", "hint"),
    [
        ({}, 1 + 3 * D, "record='loss', a larger record_every or record=None"),
        ({"fit_intercept": True}, 1 + 3 * (D + 1), "record='loss', a larger record_every or record=None"),
        ({"record": "loss"}, 1, "a larger record_every or record=None"),
    ],
)
@pytest.mark.parametrize("epochs", [10**17, sys.maxsize])
def test_history_too_large(epochs, options, numbers, hint):
    rows = B * epochs
    size = rows * numbers * 8
    message = f"the history of {rows} rows takes {size} bytes ({size / 2**30:.1f} GiB), more than there is; "
    refuse(MemoryError, message + f"pass {hint} to keep less", epochs=epochs, **options)


def test_everything_after_y_is_by_keyword():
    with pytest.raises(TypeError, match="positional"):
        sgdm.fit_many(X, y, 0.1)


# Tables


def test_pandas():
    pandas = pytest.importorskip("pandas")
    frame, targets = pandas.DataFrame(X[0], columns=list("abc")), pandas.DataFrame(y)
    weights, lr = pandas.DataFrame(ONES + y**2), pandas.Series(FIVE, index=range(B, 0, -1))
    many = sgdm.fit_many(frame, targets, sample_weight=weights, lr=lr, coef0=pandas.DataFrame(X[:, 0]))
    for i in range(B):
        options = {"sample_weight": weights.iloc[i], "lr": 0.1, "coef0": X[i, 0], "method": "direct"}
        assert many[i] == sgdm.fit(frame, targets.iloc[i], **options)
    predicted = many.predict(frame)
    np.testing.assert_allclose(
        predicted, [X[0] @ coef for coef in many.coef], rtol=0, atol=1e-14 * np.abs(predicted).max()
    )
    one = sgdm.fit_many(frame, targets.iloc[0], l1=pandas.Series([0.0, 0.1]))
    assert one[0] == sgdm.fit(frame, targets.iloc[0], method="direct")


def test_polars_and_pyarrow():
    polars, pyarrow = pytest.importorskip("polars"), pytest.importorskip("pyarrow")
    expected = list(sgdm.fit_many(np.asfortranarray(X[0]), y[0], lr=FIVE, sample_weight=ONES[0]))
    table = pyarrow.table({name: X[0, :, j] for j, name in enumerate("abc")})
    for frame, vector in ((polars.DataFrame(X[0]), polars.Series), (table, pyarrow.array)):
        many = sgdm.fit_many(frame, vector(y[0]), lr=vector(FIVE), sample_weight=vector(ONES[0]))
        np.testing.assert_allclose(many.coef, [fit.coef for fit in expected], rtol=1e-12)


# Interruption

INTERRUPT_SCRIPT = """
import dataclasses, faulthandler, os, signal, threading, time
import numpy as np
import sgdm

faulthandler.dump_traceback_later(40, exit=True)
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have had it ignored
rng = np.random.default_rng(0)
B, n, d, epochs, threads = {sizes}
X, y, lr = rng.standard_normal((n, d)), rng.standard_normal((B, n)), np.linspace(0.01, 0.05, B) / d
y[{still}] = 0  # at their minimum from the beginning
options = {options}
pressed = []

def press():
    pressed.append(time.perf_counter())
    signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)  # os.kill may choose this thread

threading.Timer(0.4, press).start()
try:
    sgdm.fit_many(X, y, lr=lr, epochs=epochs, n_threads=threads, **options)
except KeyboardInterrupt as stop:
    took, many = time.perf_counter() - pressed[0], stop.result
assert took < 1, took
deadline = time.monotonic() + 5
while threading.active_count() > 1 and time.monotonic() < deadline:  # the timer may be on its way out
    time.sleep(0.01)
assert threading.active_count() == 1, threading.enumerate()

cut = many.epochs < epochs
assert many.coef.shape == (B, d) and {{"stopped"}} <= set(many.status) <= {{"stopped", "completed", "converged"}}
for status in set(many.status):
    for i in np.flatnonzero(many.status == status)[[0, -1]]:
        kept = len(range(0, many.epochs[i], options["record_every"]))
        assert np.isfinite(many.history.loss[i, :kept]).all() and np.isnan(many.history.loss[i, kept:]).all()
        if many.epochs[i] > 0:
            alone = sgdm.fit(X, y[i], lr=lr[i], epochs=int(many.epochs[i]), method="direct", **options)
            assert many[i] == dataclasses.replace(alone, status=sgdm.Status(status))
        else:
            assert status == "stopped" and not many.coef[i].any() and not many.velocity[i].any()
"""


@pytest.mark.thread_unsafe(reason="it must be quick")
@pytest.mark.skipif(os.name == "nt", reason="no pthread_kill there")
@pytest.mark.parametrize("threads", [pytest.param(1, marks=pytest.mark.slow), 2])
@pytest.mark.parametrize(
    ("sizes", "still", "options"),
    [
        ((20_000, 100, 2, 10_000), "[]", {"record": "loss", "record_every": 5000}),
        ((3, 200, 20, 5_000_000), "[]", {"record": "all", "record_every": 10_000}),
        ((3, 200, 20, 5_000_000), "1:", {"record": "loss", "record_every": 1000, "tol": 0.0}),
        ((3, 200, 20, 5_000_000), ":-1", {"record": "loss", "record_every": 1000, "tol": 0.0}),
    ],
    ids=["many", "few", "the first", "the last"],
)
def test_ctrl_c(run_python, sizes, still, options, threads):
    """While all are at work; and while one still is, be it this thread's or another's."""
    script = INTERRUPT_SCRIPT.format(sizes=(*sizes, threads), still=still, options=options)
    process = run_python(script)
    assert process.returncode == 0, process.stderr


HELPERLESS_SCRIPT = """
import _thread, faulthandler, time
import numpy as np
import sgdm

faulthandler.dump_traceback_later(20, exit=True)
start_new_thread, calls = _thread.start_new_thread, []

def fail(*task):
    calls.append(1)
    if len(calls) == 2:
        raise {error}
    return start_new_thread(*task)

_thread.start_new_thread = fail
start = time.perf_counter()
try:
    sgdm.fit_many(np.ones((200, 20)), np.ones((20, 200)), lr=1e-3, epochs=2_000_000, record=None, n_threads=3)
except {error} as stop:
    assert "stopped" in stop.result.status
else:
    raise AssertionError("nothing raised")
assert time.perf_counter() - start < 5, "it did all the fits before"
deadline = time.monotonic() + 5
while _thread._count() and time.monotonic() < deadline:  # it may be on its way out
    time.sleep(0.01)
assert _thread._count() == 0
"""


@pytest.mark.parametrize("error", ["KeyboardInterrupt", "RuntimeError"])
def test_helpers_go_home_if_one_can_not_be_had(run_python, error):
    """Ctrl-C comes while they are called, or the system is out of threads."""
    process = run_python(HELPERLESS_SCRIPT.format(error=error))
    assert process.returncode == 0, process.stderr


ORPHAN_SCRIPT = """
import _thread, faulthandler, time
import numpy as np
import sgdm

faulthandler.dump_traceback_later(20, exit=True)
start_new_thread = _thread.start_new_thread

def interrupt(*task):
    start_new_thread(*task)
    time.sleep(0.1)
    raise KeyboardInterrupt

_thread.start_new_thread = interrupt
try:
    sgdm.fit_many(np.ones((200, 20)), np.ones((20, 200)), lr=1e-3, epochs=2_000_000, record=None, n_threads=2)
except KeyboardInterrupt as stop:
    result = stop.result
before = result.epochs.copy()
assert before.any()
time.sleep(0.3)
assert (result.epochs == before).all()
"""


def test_a_helper_whose_start_was_interrupted_is_waited_for(run_python):
    """Ctrl-C comes while its thread starts: it writes to the result's arrays until it sees that it's over."""
    process = run_python(ORPHAN_SCRIPT)
    assert process.returncode == 0, process.stderr


def test_an_error_in_a_helper_reaches_the_caller(monkeypatch):
    calls, advance = itertools.count(), _many.advance_many

    def fail(*arguments):
        if next(calls) == 3:
            raise MemoryError("mine")
        return advance(*arguments)

    monkeypatch.setattr(_many, "advance_many", fail)
    before = threading.active_count()
    with pytest.raises(MemoryError, match=r"^mine$") as caught:
        sgdm.fit_many(X, y, n_threads=4)
    assert threading.active_count() == before
    result = caught.value.result
    assert "stopped" in result.status
    for i in np.flatnonzero(result.status == "completed"):
        assert result[i] == alone(i, X=X, y=y)
