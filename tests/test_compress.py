"""A fit to reduced rows is the same descent; what a reduction holds, equals and refuses, and how parts merge."""

import functools
import itertools
import operator
import pickle
import re

import numpy as np
import pytest
from helpers import (
    FORMS,
    assert_same_descent,
    assert_same_factor,
    changed,
    design,
    dtypes,
    ignore_far,
    intercepts,
    layouts,
    make_data,
    stable,
)
from hypothesis import given, settings
from hypothesis import strategies as st

import sgdm
from sgdm import Compressed, compress
from sgdm._reduction.leaves import Reduction

pytestmark = ignore_far
forms = pytest.mark.parametrize("form", FORMS)


# The same descent

PROBLEMS = st.fixed_dictionaries({
    "n": st.integers(1, 70),
    "d": st.integers(1, 40),
    "targets": st.sampled_from([None, 1, 3]),
    "fit_intercept": st.booleans(),
    "weighted": st.booleans(),
    "weight_decay": st.sampled_from([0.0, 0.1]),
    "l1": st.sampled_from([0.0, 0.05]),
    "form": st.sampled_from(sorted(FORMS)),
    "order": st.sampled_from("CF"),
    "seed": st.integers(0, 2**32 - 1),
})  # fmt: skip


@pytest.mark.filterwarnings("ignore::sgdm.ConvergenceWarning")  # twelve epochs may end above the start
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-12), (np.float32, 2e-5)])
def test_a_fit_to_reduced_rows_equals_one_to_the_rows(draws, dtype, tolerance):
    @settings(max_examples=draws(200), derandomize=True, database=None, deadline=None)
    @given(PROBLEMS)
    def check(drawn):
        X, y = make_data(*(drawn[name] for name in ("n", "d", "targets")), dtype, drawn["order"], drawn["seed"])
        rng = np.random.default_rng(drawn["seed"])
        weights = np.where(np.arange(len(X)) % 5 == 4, 0, rng.uniform(0.1, 2, len(X))) if drawn["weighted"] else None
        fit_intercept = drawn["fit_intercept"]
        options = stable(X, drawn["form"], fit_intercept, weights, drawn["weight_decay"])
        coef0 = rng.standard_normal((X.shape[1] + fit_intercept, *y.shape[1:]))
        options |= {"l1": drawn["l1"], "coef0": coef0, "epochs": 12}
        rows = {"sample_weight": weights, "fit_intercept": fit_intercept}
        direct = sgdm.fit(X, y, method="direct", **rows, **options)
        assert_same_descent(sgdm.fit(X, y, method="compress", **rows, **options), direct, tolerance)

    check()


@intercepts
@forms
@pytest.mark.parametrize("shape", [(4000, 3), (3, 50), (700, 130)])
def test_tall_wide_and_blocked_rows_reduce_to_the_same_descent(shape, form, fit_intercept):
    X, y = make_data(*shape, targets=2)
    options = {"fit_intercept": fit_intercept, "epochs": 40, **stable(X, form, fit_intercept, share=0.2)}
    direct = sgdm.fit(X, y, method="direct", **options)
    assert_same_descent(sgdm.fit(X, y, method="compress", **options), direct, 1e-12)


DEFECTS = {
    "duplicated column": lambda X: X[:, [0, 1, 1, 2]],
    "zero column": lambda X: X * [1, 0, 1, 1, 1],
    "constant columns": lambda X: np.column_stack([X, np.ones(len(X)), np.full(len(X), 3.0)]),
    "zeros": lambda X: 0 * X,
    "one row": lambda X: X[:1],
}


@intercepts
@pytest.mark.parametrize("defect", DEFECTS)
def test_rank_deficient_rows_reduce_to_the_same_descent(defect, fit_intercept):
    X, y = make_data()
    X = DEFECTS[defect](X)
    y = y[: len(X)]
    top = np.linalg.norm(design(X, fit_intercept), 2) ** 2 * 2 / len(X)
    options = {"lr": 0.5 / (top or 1), "fit_intercept": fit_intercept, "epochs": 100}
    direct = sgdm.fit(X, y, method="direct", **options)
    assert_same_descent(sgdm.fit(X, y, method="compress", **options), direct, 1e-12)
    reduced = compress(X, y, fit_intercept=fit_intercept)
    expected, *_ = np.linalg.lstsq(design(X, fit_intercept), y, rcond=None)
    np.testing.assert_allclose(reduced.solve(), expected, rtol=0, atol=1e-12)
    assert reduced.condition > 1e25 or (defect == "one row" and X.size == 1)


@pytest.mark.parametrize("targets", [None, 2])
@intercepts
def test_the_loss_of_noise_free_targets_falls_to_rounding(fit_intercept, targets):
    """The loss goes down to the rounding of y, squared, and is never below zero."""
    X, y = make_data(n=500, targets=targets, noise=0)
    y = X @ np.arange(1.0, 6.0) if targets is None else X @ np.ones((5, 2))
    result = compress(X, y, fit_intercept=fit_intercept).fit(lr=0.3, momentum=0.3, epochs=400)
    assert result.history.loss.min() >= 0
    assert np.max(result.history.loss[-1]) < 1e-28
    assert np.all(compress(X, y).optimal_loss >= 0)
    assert np.max(compress(X, y).optimal_loss) < 1e-28


@pytest.mark.parametrize("seed", range(4))
@intercepts
def test_columns_of_any_scale_reduce_to_the_same_descent(fit_intercept, seed):
    rng = np.random.default_rng(seed)
    X, y = make_data()
    X = X * 10.0 ** rng.permutation(np.linspace(-6, 6, 5))
    options = {"fit_intercept": fit_intercept, **stable(X, "heavy ball", fit_intercept), "epochs": 200}
    direct = sgdm.fit(X, y, method="direct", **options)
    result = sgdm.fit(X, y, method="compress", **options)
    assert_same_descent(result, direct, 1e-12)
    column = np.abs(direct.history.grad).max(axis=0)  # each parameter by its own scale, too
    np.testing.assert_allclose(result.history.grad / column, direct.history.grad / column, rtol=0, atol=1e-11)
    scaled = compress(X, y, fit_intercept=fit_intercept).solve()[:5] * np.abs(X).max(axis=0)
    expected = np.linalg.lstsq(design(X / np.abs(X).max(axis=0), fit_intercept), y, rcond=None)[0][:5]
    np.testing.assert_allclose(scaled, expected, rtol=1e-12)


# The method


def test_auto_takes_the_cheaper_method():
    few, many = make_data(), make_data(n=20_000, d=20)
    assert sgdm.fit(*few).method == "direct"
    assert sgdm.fit(*few, method="compress").method == "compress"
    assert sgdm.fit(*many, epochs=5000, record=None, method="auto").method == "compress"
    assert sgdm.fit(*many, epochs=3, record=None).method == "direct"
    assert sgdm.fit(*many, epochs=600, record=None, batch_size=20_000, shuffle=False).method == "direct"
    assert compress(*few).fit().method == "compress"
    for method in ("direct", "compress"):
        result = sgdm.fit(*few, epochs=3, method=method)
        assert result.method == sgdm.fit(*few, init=result, epochs=3).method == method


@dtypes
@intercepts
@pytest.mark.parametrize("targets", [None, 1, 3])
def test_three_ways_to_reduce_give_the_same_bits(targets, fit_intercept, dtype, tmp_path):
    """fit(method="compress"), Compressed.fit, and the latter after a file; and a fit in two parts."""
    X, y = make_data(targets=targets, dtype=dtype)
    weights = np.linspace(0, 2, 60).astype(dtype)
    rows = {"sample_weight": weights, "fit_intercept": fit_intercept}
    options = {"epochs": 20, "weight_decay": 0.1, "l1": 0.01, "average": True}
    whole = sgdm.fit(X, y, method="compress", **rows, **options)
    reduced = compress(X, y, **rows)
    reduced.save(tmp_path / "reduced.npz")
    assert reduced.fit(**options) == whole
    assert Compressed.load(tmp_path / "reduced.npz").fit(**options) == whole
    assert whole.coef.dtype == dtype
    options["epochs"] = 8
    begun = reduced.fit(**options)
    begun.save(tmp_path / "begun.npz")
    options["epochs"] = 12
    for init in (begun, sgdm.load(tmp_path / "begun.npz")):
        assert reduced.fit(init=init, **options) == whole
        assert sgdm.fit(X, y, init=init, **rows, **options) == whole


def test_everything_that_needs_no_rows_works_on_a_reduction():
    """Schedules, tol, callbacks and records work as on rows."""
    X, y = make_data()
    reduced, seen = compress(X, y), []
    options = {"lr": np.linspace(0.1, 0, 30)}
    options |= {"momentum": np.linspace(0, 0.9, 30), "epochs": 30, "record_every": 3}
    assert_same_descent(reduced.fit(**options), sgdm.fit(X, y, method="direct", **options), 1e-12)
    assert reduced.fit(tol=1e-3, epochs=500).epochs == sgdm.fit(X, y, tol=1e-3, epochs=500, method="direct").epochs
    reduced.fit(callback=lambda progress: seen.append(progress.epoch), callback_every=10)
    assert seen == [10, 20, 30, 40, 50]
    with pytest.raises(sgdm.DivergenceError) as caught:
        reduced.fit(lr=100.0, epochs=1000)
    assert caught.value.max_lr < reduced.max_lr()


@pytest.mark.parametrize("targets", [None, 2])
@intercepts
def test_validation_rows_may_be_a_second_reduction(fit_intercept, targets):
    X, y = make_data(n=90, targets=targets)
    held_out = X[60:], y[60:], np.linspace(0.5, 1, 30)
    X, y = X[:60], y[:60]
    rows = {"fit_intercept": fit_intercept}
    options = {"epochs": 200, "patience": 5, "tol": 1e-3}
    direct = sgdm.fit(X, y, validation=held_out, method="direct", **rows, **options)
    by_rows = sgdm.fit(X, y, validation=held_out, method="compress", **rows, **options)
    second = compress(held_out[0], held_out[1], sample_weight=held_out[2], **rows)
    result = compress(X, y, **rows).fit(validation=second, **options)
    assert result == by_rows
    assert_same_descent(result, direct, 1e-12)
    assert result.best_epoch == direct.best_epoch
    scale = direct.history.val_loss.max()
    np.testing.assert_allclose(result.history.val_loss, direct.history.val_loss, rtol=0, atol=1e-12 * scale)


X60, Y60 = make_data()
REDUCED = compress(X60, Y60)
HOLDS = "a Compressed holds y, sample_weight and fit_intercept already, and no rows for method='direct'; leave them out"
KIND = "validation of a Compressed must be another of the same kind, got "
TOGETHER = {
    "method": ((X60, Y60), {"method": "qr"}, ValueError, "method must be 'auto', 'direct' or 'compress', got 'qr'"),
    "batches of a reduction": ((REDUCED, None), {"batch_size": 5}, ValueError,
                               "batch_size and a Compressed don't go together: batches need the rows"),
    "batches": ((X60, Y60), {"batch_size": 5, "method": "compress"}, ValueError,
                "batch_size and method='compress' don't go together: batches need the rows"),
    "seed": ((REDUCED, None), {"seed": 1}, ValueError, "seed has no effect here"),
    "y": ((REDUCED, Y60), {}, ValueError, HOLDS),
    "weights": ((REDUCED, None), {"sample_weight": np.ones(60)}, ValueError, HOLDS),
    "intercept": ((REDUCED, None), {"fit_intercept": True}, ValueError, HOLDS),
    "direct": ((REDUCED, None), {"method": "direct"}, ValueError, HOLDS),
    "validation rows": ((REDUCED, None), {"validation": (X60, Y60)}, ValueError, KIND),
    "validation of another kind": ((REDUCED, None), {"validation": compress(X60, Y60, fit_intercept=True)}, ValueError,
                                   f"{KIND}Compressed(60 rows, 5 features, intercept, float64)"),
    "a fraction": ((REDUCED, None), {"validation": 0.2}, ValueError, "validation of a Compressed must be another"),
    "a reduction for rows": ((X60, Y60), {"validation": REDUCED}, TypeError,
                             "validation can only be a Compressed where X is one"),
    "coef0": ((REDUCED, None), {"coef0": np.zeros(4)}, ValueError, "coef0 must have shape (5,), the features, got "),
    "init": ((X60, Y60), {"lr": "auto", "init": sgdm.fit(X60, Y60)}, ValueError,
             "lr='auto' and init don't go together"),
    "momentum alone": ((X60, Y60), {"momentum": "auto"}, ValueError, 'momentum="auto" needs lr="auto"'),
    "another word": ((X60, Y60), {"lr": "best"}, TypeError, "lr must be a number, got 'best'"),
}  # fmt: skip


def test_a_reduction_needs_no_y():
    assert sgdm.fit(REDUCED, epochs=9) == sgdm.fit(REDUCED, None, epochs=9) == REDUCED.fit(epochs=9)
    with pytest.raises(TypeError, match=r"^y must be given: only a Compressed goes without$"):
        sgdm.fit(X60)


@pytest.mark.parametrize(("data", "options", "error", "message"), TOGETHER.values(), ids=TOGETHER)
def test_options_that_do_not_go_with_a_reduction_are_refused(data, options, error, message):
    with pytest.raises(error, match="^" + re.escape(message)):
        sgdm.fit(*data, **options)


# Rows

BAD = {
    "NaN": (changed(X60, 7, 3, value=np.nan), Y60, {}, ValueError, "X must be finite, got nan at row 7, column 3"),
    "infinite y": (X60, changed(Y60, 9, value=-np.inf), {}, ValueError, "y must be finite, got -inf at row 9"),
    "infinity of no weight": (changed(X60, 7, 3, value=np.inf), Y60, {"sample_weight": np.arange(60) > 7}, ValueError,
                              "X must be finite, got inf at row 7, column 3"),
    "lengths": (X60, Y60[1:], {}, ValueError, "X and y must have the same number of rows, got 60 and 59"),
    "shape": (X60[0], Y60, {}, ValueError, "X must be 2-D"),
    "no rows": (X60[:0], Y60[:0], {}, ValueError, "X must have at least one row and one column, got shape (0, 5)"),
    "weights": (X60, Y60, {"sample_weight": np.ones(3)}, ValueError, "sample_weight must have one weight per row of X"),
    "negative weight": (X60, Y60, {"sample_weight": -np.ones(60)}, ValueError, "sample_weight must not be negative"),
    "no weight": (X60, Y60, {"sample_weight": np.zeros(60)}, ValueError,
                  "sample_weight must have a positive, finite sum, got 0.0"),
    "threads": (X60, Y60, {"n_threads": 0}, ValueError, "n_threads must be at least 1, got 0"),
    "flag": (X60, Y60, {"fit_intercept": 1}, TypeError, "fit_intercept must be True or False, got 1"),
    "progress": (X60, Y60, {"progress": 1}, TypeError, "progress must be True or False, got 1"),
}  # fmt: skip


@pytest.mark.parametrize(("X", "y", "options", "error", "message"), BAD.values(), ids=BAD)
@pytest.mark.parametrize("threads", [1, 2])
def test_bad_rows_are_not_reduced(X, y, options, error, message, threads):
    with pytest.raises(error, match="^" + re.escape(message)):
        compress(X, y, **{"n_threads": threads, **options})


def test_a_reduction_leaves_its_inputs_alone():
    X, y = make_data(targets=2, order="F")
    weights = np.linspace(1, 2, 60)
    arrays = [X, y, weights]
    before = [array.copy() for array in arrays]
    for array in arrays:
        array.flags.writeable = False
    reduced = compress(X, y, sample_weight=weights)
    kept = reduced.R.copy()
    reduced.fit(epochs=5), reduced.solve(), reduced.tune(5), reduced.forecast(0.1, epochs=5)
    assert all(map(np.array_equal, arrays, before))
    assert np.array_equal(reduced.R, kept)


# The object


def test_a_reduction_says_what_it_holds():
    X, y = make_data(targets=2, dtype=np.float32)
    reduced = compress(X, y, sample_weight=np.full(60, 0.5), fit_intercept=True)
    assert (reduced.n_rows, reduced.total_weight, reduced.n_features, reduced.n_params) == (60, 30.0, 5, 6)
    assert (reduced.n_targets, reduced.fit_intercept, reduced.dtype) == (2, True, np.float32)
    assert reduced.R.shape == (8, 8)
    assert reduced.R.dtype == np.float64
    assert np.array_equal(reduced.R, np.triu(reduced.R))
    assert np.all(np.diagonal(reduced.R) >= 0)
    assert repr(reduced) == "Compressed(60 rows, 5 features, 2 targets, intercept, float32)"
    assert repr(REDUCED) == "Compressed(60 rows, 5 features, float64)"
    Z = np.column_stack([design(X, True), y]).astype(float)
    np.testing.assert_allclose(reduced.R.T @ reduced.R, 0.5 * Z.T @ Z, rtol=0, atol=1e-12 * np.abs(Z.T @ Z).max())


def test_reductions_are_saved_pickled_and_compared(tmp_path):
    X, y = make_data(targets=2)
    reduced = compress(X, y, fit_intercept=True)
    reduced.feature_names = ("a", "b", "ç", "d", "e")
    reduced.save(tmp_path / "a.npz")
    for clone in (pickle.loads(pickle.dumps(reduced)), Compressed.load(tmp_path / "a.npz")):
        assert clone == reduced
        assert clone.feature_names == reduced.feature_names
        assert (clone.R.dtype, clone.dtype, clone.target_shape) == (np.float64, np.float64, (2,))
    plain = compress(X, y, fit_intercept=True)
    for other in (plain, compress(X, y), compress(X[:59], y[:59], fit_intercept=True), compress(X, y[:, 0]), "R"):
        assert other != reduced
    assert plain == compress(X, y, fit_intercept=True)
    with pytest.raises(TypeError, match="unhashable"):
        hash(plain)


# Numbers beyond float32


@pytest.mark.parametrize("targets", [None, 2])
@pytest.mark.parametrize("options", [{"lr": 1.0}, {"record": None}, {"record": "loss"}, {"average": True}], ids=str)
def test_a_reduced_fit_diverges_where_float32_overflows(options, targets):
    """The descent on the factor is in float64, but what its result can't hold has overflowed."""
    X, y = make_data(dtype=np.float32, targets=targets)
    X[:, 0] *= np.float32(3e5)
    errors = []
    for method in ("direct", "compress"):
        with pytest.raises(sgdm.DivergenceError, match=r"(diverged|overflowed float32)") as caught:
            sgdm.fit(X, y, method=method, epochs=100, **options)
        errors.append(caught.value)
        held = [caught.value.result.coef, caught.value.result.velocity]
        assert all(np.isfinite(array).all() and array.dtype == np.float32 for array in held)
        assert caught.value.result.loss.dtype == np.float32
    assert abs(errors[0].result.epochs - errors[1].result.epochs) <= 1
    with pytest.raises(sgdm.DivergenceError, match="overflowed float32 at epoch 0"):
        sgdm.fit(X, y, method="compress", lr=0.0, coef0=np.full((5, *y.shape[1:]), 1e25))


def test_a_start_beyond_float32_is_refused():
    X, y = make_data(dtype=np.float32)
    for data in (X, compress(X, y)):
        with pytest.raises(ValueError, match=r"^coef0 must be finite, got inf at row 0$"):
            sgdm.fit(data, None if data is not X else y, coef0=np.full(5, 1e300))


def test_a_validation_loss_beyond_float32_is_infinite():
    X, y = make_data(dtype=np.float32)
    far = np.full(60, 1e25, np.float32)
    result = sgdm.fit(X, y, method="compress", validation=(X, far), epochs=3)
    assert np.all(result.history.val_loss == np.inf)


# Parts that merge


def test_the_refusal_to_add_reductions_tells_their_names_apart():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"a": [1.0, 2.0], "b": [1.0, 3.0]})
    ab, ba, unnamed = (compress(X, [1.0, 2.0]) for X in (frame, frame[["b", "a"]], frame.to_numpy()))
    with pytest.raises(ValueError, match=r"same features, .*; the features are 'a', 'b' and 'b', 'a'$"):
        ab + ba
    with pytest.raises(ValueError, match=r"; the features are 'a', 'b' and no names$"):
        Compressed.merge([ab, unnamed])


@pytest.mark.parametrize("targets", [None, 2])
@intercepts
def test_parts_merge_into_the_whole(fit_intercept, targets):
    """In any order and grouping, weights split anywhere: the same factor to rounding; in the same order: its bits."""
    X, y = make_data(n=300, targets=targets)
    weights = np.random.default_rng(1).uniform(0, 2, 300)

    def part(rows):
        return compress(X[rows], y[rows], sample_weight=weights[rows], fit_intercept=fit_intercept)

    whole = part(slice(None))
    rng = np.random.default_rng(2)
    for count in (1, 2, 3, 4, 5, 7, 16, 300):
        cuts = [0, *sorted(rng.choice(np.arange(1, 300), count - 1, replace=False)), 300]
        parts = [part(slice(a, b)) for a, b in itertools.pairwise(cuts)]
        for order in (parts, parts[::-1], [parts[i] for i in rng.permutation(count)]):
            sums = [sum(order), functools.reduce(operator.add, order), Compressed.merge(order)]
            sums.append(functools.reduce(lambda a, b: b + a, order))
            for merged in sums:
                assert_same_factor(merged, whole)
            assert sums[0] == sums[1]
            assert Compressed.merge(iter(order)) == sums[2]
    split = rng.uniform(0, 1, 300) * weights
    halves = (compress(X, y, sample_weight=w, fit_intercept=fit_intercept) for w in (split, weights - split))
    both = sum(halves)
    both.n_rows = 300
    assert_same_factor(both, whole)
    assert_same_descent(both.fit(), whole.fit(), 1e-12)


@pytest.mark.parametrize(
    "tree", ["balanced", *(pytest.param(tree, marks=pytest.mark.slow) for tree in ("random", "one by one"))]
)
def test_merging_thousands_of_factors_loses_few_digits(tree):
    """R'R is Z'Z, which is exact for such integers, to some eps of the columns' norms, whatever the tree."""
    parts, rows, d = 3000, 8, 6
    rng = np.random.default_rng(0)
    Z = rng.integers(-1000, 1001, (parts * rows, d + 1)) * 2.0 ** np.arange(0, 4 * d + 4, 4)
    factors = [compress(part[:, :d], part[:, d]) for part in np.split(Z, parts)]
    if tree == "balanced":
        whole = Compressed.merge(factors)
    elif tree == "one by one":
        whole = sum(factors)
    else:
        while len(factors) > 1:
            i, j = rng.choice(len(factors), 2, replace=False)
            merged = factors[i] + factors[j]
            factors = [part for at, part in enumerate(factors) if at not in (i, j)] + [merged]
        (whole,) = factors
    assert whole.n_rows == len(Z)
    norms = np.linalg.norm(Z, axis=0)
    error = abs(whole.R.T @ whole.R - Z.T @ Z) / np.outer(norms, norms)
    assert error.max() < {"balanced": 16, "random": 32, "one by one": 256}[tree] * np.finfo(float).eps


@layouts
@pytest.mark.parametrize("n", [79, 80, 81, 1000])
def test_threads_reduce_to_the_same_bits(small_leaves, n, order):
    X, y = make_data(n, order=order)
    weights = np.linspace(0, 1, n)
    one = compress(X, y, sample_weight=weights)
    for threads in (2, 3, 8):
        assert compress(X, y, sample_weight=weights, n_threads=threads) == one
        fits = (sgdm.fit(X, y, sample_weight=weights, method="compress", n_threads=t) for t in (1, threads))
        assert next(fits) == next(fits)
    leaves = list(Reduction(False, None).leaves([(X, y, None)]))
    assert len(leaves) > (1 if n < 100 else 10)


def test_leaves_change_rounding_only(small_leaves, monkeypatch):
    X, y = make_data(1000, targets=2)
    small = compress(X, y, fit_intercept=True)
    monkeypatch.undo()
    assert_same_factor(small, compress(X, y, fit_intercept=True))


def test_parts_of_other_problems_are_refused():
    X, y = X60, Y60
    others = [compress(X[:, :3], y), compress(X, y[:, None]), compress(X, y, fit_intercept=True)]
    others.append(compress(X.astype(np.float32), y.astype(np.float32)))
    others.append(compress(X, y))
    others[-1].feature_names = tuple("abcde")
    for other in others:
        with pytest.raises(
            ValueError, match="both parts must have the same features, targets, intercept and dtype, got"
        ):
            REDUCED + other
        with pytest.raises(ValueError, match=re.escape(repr(REDUCED))):
            Compressed.merge([other, REDUCED])
    for other in (1, None, X):
        with pytest.raises(TypeError):
            REDUCED + other
    with pytest.raises(TypeError):
        1 + REDUCED
    with pytest.raises(ValueError, match="parts must hold at least one Compressed, got none"):
        Compressed.merge([])
    for parts in (["x"], [REDUCED, None], [X], iter([REDUCED, 0])):
        with pytest.raises(TypeError, match=r"^parts must hold Compressed alone, got "):
            Compressed.merge(parts)
    for parts in (None, 5, REDUCED):
        with pytest.raises(TypeError, match=r"^parts must be an iterable of Compressed, got "):
            Compressed.merge(parts)
