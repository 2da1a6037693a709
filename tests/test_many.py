"""fit_many: each of its fits has the bits of fit(..., method='direct'), and none minds what another does."""

import threading
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from helpers import (
    AXES,
    CONSTANTS,
    HISTORIES,
    LAYOUTS,
    B,
    D,
    N,
    assert_each_is_fit,
    dtypes,
    layouts,
    own,
    spread,
    turned,
)
from helpers import MANY_X as X
from helpers import MANY_Y as y
from hypothesis import given, settings
from hypothesis import strategies as st

import sgdm
from sgdm import _fit_many
from sgdm._descent import descent

rng = np.random.default_rng(1)


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
def test_every_argument_may_be_shared_or_of_each_fit(name, value, dtype):
    """For data of each fit's own, for shared X, and where this argument alone, or nothing, tells the fits apart."""
    mine, target = X.astype(dtype), y.astype(dtype)
    many = assert_each_is_fit(mine, target, **{name: value})
    assert many.coef.shape == (B, D)
    assert many.coef.dtype == dtype
    assert_each_is_fit(mine[0], target, **{name: value})
    many = assert_each_is_fit(mine[0], target[0], **{name: value})
    assert len(many.coef) == (B if np.ndim(value) == AXES.get(name) else 1)


@dtypes
@pytest.mark.parametrize("shared", [False, True])
def test_all_arguments_go_together(shared, dtype):
    options = {name: GIVEN[name][not shared] for name in (*CONSTANTS, "sample_weight")}
    options |= {"coef0": np.ones(D + 1) if shared else rng.standard_normal((B, D + 1)), "momentum": 0.5}
    options |= {"nesterov": True, "fit_intercept": True, "tol": 0.1, "record_every": 3}
    many = assert_each_is_fit(X.astype(dtype), y.astype(dtype), **options)
    assert len(set(many.epochs)) > 1
    for threads in (2, 8):
        assert sgdm.fit_many(X.astype(dtype), y.astype(dtype), n_threads=threads, **options) == many


LAYOUTS = LAYOUTS | {
    "C": np.ascontiguousarray,
    "columns of each": turned,
    "every other": lambda a: np.repeat(a, 2, axis=-2)[..., ::2, :],
    "broadcast": lambda a: np.broadcast_to(a[..., :1, :], a.shape),
    "list of C": list,
    "list of F": lambda a: [np.asfortranarray(one) for one in a],
    "integers": lambda a: (8 * a).astype("i4"),
    "integers F": lambda a: np.asfortranarray((8 * a).astype("i4")),
    "half": lambda a: a.astype("f2"),
}


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("n", "d"), [(30, 1), (31, 5), (33, 40), (1, 3), (3, 1)])
def test_any_layout_of_x_gives_the_bits_of_fit(n, d, layout, shared):
    for dtype in (np.float64, np.float32):
        matrices = rng.standard_normal((B, n, d)).astype(dtype)
        targets = rng.standard_normal((B, n)).astype(dtype)
        assert_each_is_fit(
            LAYOUTS[layout](matrices[0] if shared else matrices), targets, lr=1e-3 / d, dampening=0.0, epochs=5
        )


@pytest.mark.parametrize("layout", ["F", "strided", "other byte order", "lists", "integers", "objects"])
def test_any_layout_of_y_weights_and_starts_gives_the_bits_of_fit(layout):
    make = LAYOUTS[layout]
    weights, coef0 = rng.uniform(1, 2, (B, N)), rng.standard_normal((B, D))
    assert_each_is_fit(X, make(y), sample_weight=make(weights), coef0=make(coef0))
    assert_each_is_fit(X, make(y), sample_weight=make(weights)[0], coef0=make(coef0)[0])


@pytest.mark.parametrize(
    ("x_type", "y_type", "expected"),
    [
        ("f4", "f8", "f8"), ("f8", "f4", "f8"), ("f4", "f4", "f4"), ("f4", "i4", "f8"), ("?", "u1", "f8"),
        ("g", "f8", "f8"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("shared", [False, True])
@layouts
def test_mixed_types_give_the_dtype_of_fit(x_type, y_type, expected, shared, order):
    matrices = np.asarray((3 * X).astype(x_type), order=order)
    many = assert_each_is_fit(
        matrices[0] if shared else matrices, np.abs(3 * y).astype(y_type), lr=0.01, fit_intercept=True
    )
    arrays = [many.coef, many.intercept, many.velocity, many.loss]
    arrays += [getattr(many.history, name) for name in HISTORIES]
    assert {array.dtype for array in arrays} == {np.dtype(expected)}


@dtypes
@pytest.mark.parametrize(
    ("n", "d"), [(100, 2), (601, 5), (257, 7), (300, 40), (6, 70), (33_003, 2), (14_001, 5), (301, 300)]
)
def test_fits_of_any_size_have_the_bits_of_fit(n, d, dtype):
    """Of one block or part of the rows, and of several; X of each, shared, and shared in F order."""
    matrices = rng.standard_normal((2, n, d)).astype(dtype)
    targets = rng.standard_normal((2, n)).astype(dtype)
    weights = rng.uniform(0, 2, (2, n)).astype(dtype)
    for given_X in (matrices, matrices[0], turned(matrices[0])):
        assert_each_is_fit(
            given_X, targets, lr=0.2 / d, epochs=3, sample_weight=weights, fit_intercept=True, n_threads=2
        )


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


def test_several_calls_at_once_get_the_same_bits():
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
def test_any_problem_gives_the_bits_of_fit(arguments):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", sgdm.ConvergenceWarning)
        many = assert_each_is_fit(**arguments)
    counts = [len(value) for name, value in arguments.items() if name in AXES and np.ndim(value) == AXES[name]]
    assert len(many.coef) == max(counts, default=1)


def test_weights_do_a_bootstrap():
    draws = rng.integers(0, N, (20, N))
    counts = np.stack([np.bincount(rows, minlength=N) for rows in draws])
    many = assert_each_is_fit(X[0], y[0], sample_weight=counts, fit_intercept=True)
    for i, rows in enumerate(draws):
        repeated = sgdm.fit(X[0][rows], y[0][rows], fit_intercept=True, method="direct")
        for ours, theirs in [(many.coef[i], repeated.coef), (many.intercept[i], repeated.intercept)] + [
            (getattr(many.history, name)[i], getattr(repeated.history, name)) for name in HISTORIES
        ]:
            tolerance = 64 * np.finfo(float).eps * np.abs(theirs).max()
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance)


def test_rows_of_weight_zero_stand_for_none():
    """Rows of weight 0 stand for none."""
    counts = [30, 12, 7, 1, 20]
    many = assert_each_is_fit(X, y, sample_weight=np.arange(N) < np.array(counts)[:, None])
    for i, count in enumerate(counts):
        expected = sgdm.fit(X[i, :count], y[i, :count], method="direct").history.coef
        np.testing.assert_allclose(many.history.coef[i], expected, rtol=0, atol=64 * 2.3e-16 * np.abs(expected).max())


# Slices


@pytest.mark.parametrize("slice_elements", [1, 3000, 30_000])
@pytest.mark.parametrize("threads", [1, 2, 8])
def test_slices_change_no_bit(monkeypatch, slice_elements, threads):
    options = {"tol": 0.1, "fit_intercept": True, "lr": np.append(np.linspace(0.02, 0.3, B - 1), 1e80)}
    whole = sgdm.fit_many(X, y, **options)
    assert set(whole.status) == {"completed", "converged", "diverged"}
    calls, advance = [], _fit_many.advance_many
    monkeypatch.setattr(_fit_many, "advance_many", lambda *given: calls.append(1) or advance(*given))
    monkeypatch.setattr(_fit_many, "SLICE_ELEMENTS", slice_elements)
    assert sgdm.fit_many(X, y, n_threads=threads, **options) == whole
    assert len(calls) > B or slice_elements > 3000


@pytest.mark.parametrize(("n", "d"), [(1, 1), (100, 2), (1, 1000), (50, 300)])
def test_slices_are_as_short_as_those_of_fit(monkeypatch, n, d):
    """Ctrl-C waits for a slice. (1, 1000) has little data, but many parameters to update and to record."""
    calls = {"advance": [], "advance_many": []}
    for module, name in ((descent, "advance"), (_fit_many, "advance_many")):
        kernel = getattr(module, name)
        monkeypatch.setattr(
            module, name, lambda *given, kernel=kernel, name=name: calls[name].append(1) or kernel(*given)
        )
        monkeypatch.setattr(module, "SLICE_ELEMENTS", 200_000)
    assert_each_is_fit(np.ones((1, n, d)), np.ones((1, n)), lr=0.1 / d, epochs=2000, record=None)
    assert len(calls["advance_many"]) >= len(calls["advance"]) > 1


# Convergence and divergence


def test_each_fit_converges_by_itself():
    many = assert_each_is_fit(X, y, tol=0.05, epochs=500, lr=np.linspace(0.05, 0.4, B))
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
    many = assert_each_is_fit(**arguments)
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
@layouts
def test_data_of_one_fit_that_are_not_finite_reach_no_other(name, order):
    """They are refused after the run, whose results the error holds."""
    arrays = {"X": np.asarray(X.copy(), order=order), "y": np.asarray(y.copy(), order=order)}
    arrays[name][2] = np.nan
    with pytest.raises(ValueError, match=f"^{name} must be finite, got nan at fit 2, row 0") as caught:
        sgdm.fit_many(**arrays)
    others = [0, 1, 3, 4]
    assert [caught.value.result[i] for i in others] == [sgdm.fit(X[i], y[i], method="direct") for i in others]


def test_a_rise_names_the_first_fit_that_rose():
    lr = [0.1, 0.1, 50, 0.1, 40]
    message = r"^the objectives of 2 of 5 fits rose, the first that of fit 2, from \S+ to \S+ in 5 epochs with lr=50; "
    with pytest.warns(sgdm.ConvergenceWarning, match=message) as caught:
        sgdm.fit_many(X, y, lr=lr, epochs=5)
    assert caught[0].filename == __file__
    with pytest.warns(sgdm.ConvergenceWarning, match=message):
        many = assert_each_is_fit(X, y, lr=lr, epochs=5)
    assert set(many.status) == {"completed"}
    assert (many.history.loss[:, -1] > many.history.loss[:, 0]).tolist() == [False, False, True, False, True]


@dtypes
def test_many_fits_warn_of_nothing_that_fit_does_not(dtype):
    """Rounding at an exact solution, a rise in passing, a divergence."""
    exact = (X @ [1, -2, 3]).astype(dtype)
    sgdm.fit_many(X.astype(dtype), exact, coef0=[1, -2, 3])
    many = sgdm.fit_many(X.astype(dtype), exact, lr=3.0, epochs=1000)
    assert (many.history.loss.max(axis=1) > 1.5 * many.history.loss[:, 0]).any()
    sgdm.fit_many(X.astype(dtype), exact, lr=[0.1, 0.1, 1e30, 0.1, 0.1])


def test_all_cpus_share_the_fits():
    X, y = np.random.default_rng(0).standard_normal((2, 40, 30, 3))
    assert sgdm.fit_many(X, y[..., 0], n_threads=-1) == sgdm.fit_many(X, y[..., 0])
