"""The QR reduction: the same descent from a few rows, exact merging, and what the triangular factor knows."""

import functools
import itertools
import operator
import pickle
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import sgdm
from sgdm import Compressed, compress
from sgdm._reduction import factor
from sgdm._reduction.leaves import Reduction

FORMS = {
    "ema": {"momentum": 0.8},
    "heavy ball": {"momentum": 0.9, "dampening": 0.0},
    "partial dampening": {"momentum": 0.7, "dampening": 0.3},
    "full dampening": {"momentum": 0.6, "dampening": 1.0},
    "plain": {"momentum": 0.0},
    "nesterov": {"momentum": 0.9, "dampening": 0.0, "nesterov": True},
    "nesterov ema": {"momentum": 0.8, "nesterov": True},
}
HISTORIES = ("loss", "grad", "step", "coef")
pytestmark = pytest.mark.filterwarnings("ignore:.*far above the least:sgdm.ConvergenceWarning")  # of few epochs
forms = pytest.mark.parametrize("form", FORMS)
intercepts = pytest.mark.parametrize("fit_intercept", [False, True])
decays = pytest.mark.parametrize("weight_decay", [0.0, 0.1])


def make_data(n=60, d=5, targets=None, dtype=np.float64, order="C", seed=0, noise=0.5):
    """X, and y = X @ truth + 1 + noise: any sensible fit of it ends below where it began."""
    rng = np.random.default_rng(seed)
    X = np.asarray(rng.standard_normal((n, d)), dtype, order=order)
    slot = () if targets is None else (targets,)
    y = X @ rng.uniform(1, 2, (d, *slot)) + 1 + noise * rng.standard_normal((n, *slot))
    return X, y.astype(dtype)


def design(X, fit_intercept):
    """The rows with the intercept's column."""
    return np.column_stack([X, np.ones(len(X))])[:, : X.shape[1] + fit_intercept].astype(float)


def stable(X, form, fit_intercept=False, weights=None, weight_decay=0.0, share=0.5):
    """The form's constants with `share` of the largest stable lr."""
    constants = FORMS[form]
    reduced = compress(X, np.zeros(len(X)), sample_weight=weights, fit_intercept=fit_intercept)
    names = {name: constants[name] for name in ("dampening", "nesterov") if name in constants}
    lr = share * reduced.max_lr(constants["momentum"], **names, weight_decay=weight_decay)
    if not lr < np.inf:  # only the first step is whole
        lr = share / reduced.spectrum()[0]
    return {"lr": lr, "weight_decay": weight_decay, **constants}


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


# The same descent

PROBLEMS = st.fixed_dictionaries(
    {
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
    }
)


@pytest.mark.filterwarnings("ignore::sgdm.ConvergenceWarning")  # twelve epochs may end above the start
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-12), (np.float32, 2e-5)])
def test_compressed_fit_equals_direct(draws, dtype, tolerance):
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
def test_compressed_fit_over_shapes(shape, form, fit_intercept):
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
def test_rank_deficient(defect, fit_intercept):
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
def test_noise_free_targets(fit_intercept, targets):
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
def test_column_scales(fit_intercept, seed):
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


# Method


def test_auto_takes_the_cheaper():
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


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@intercepts
@pytest.mark.parametrize("targets", [None, 1, 3])
def test_three_ways_to_the_same_bits(targets, fit_intercept, dtype, tmp_path):
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


def test_everything_that_needs_no_rows():
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
def test_validation_against_a_second_reduction(fit_intercept, targets):
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
    "tuned batches": ((X60, Y60), {"batch_size": 5, "lr": "auto"}, ValueError,
                      "batch_size and lr='auto' don't go together: batches need the rows"),
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
    "l1": ((X60, Y60), {"lr": "auto", "l1": 0.1}, ValueError,
           "lr='auto' and l1 don't go together: its formulas hold without; give lr as a number"),
    "init": ((X60, Y60), {"lr": "auto", "init": sgdm.fit(X60, Y60)}, ValueError,
             "lr='auto' and init don't go together"),
    "momentum alone": ((X60, Y60), {"momentum": "auto"}, TypeError, "momentum must be a number, got 'auto'"),
    "another word": ((X60, Y60), {"lr": "best"}, TypeError, "lr must be a number, got 'best'"),
}  # fmt: skip


def test_a_reduction_needs_no_y():
    assert sgdm.fit(REDUCED, epochs=9) == sgdm.fit(REDUCED, None, epochs=9) == REDUCED.fit(epochs=9)
    with pytest.raises(TypeError, match=r"^y must be given: only a Compressed goes without$"):
        sgdm.fit(X60)


@pytest.mark.parametrize(("data", "options", "error", "message"), TOGETHER.values(), ids=TOGETHER)
def test_options_that_do_not_go_together(data, options, error, message):
    with pytest.raises(error, match="^" + re.escape(message)):
        sgdm.fit(*data, **options)


def spoil(array, at, value):
    """A copy with one bad entry."""
    array = array.copy()
    array[at] = value
    return array


BAD = {
    "NaN": (spoil(X60, (7, 3), np.nan), Y60, {}, ValueError, "X must be finite, got nan at row 7, column 3"),
    "infinite y": (X60, spoil(Y60, 9, -np.inf), {}, ValueError, "y must be finite, got -inf at row 9"),
    "infinity of no weight": (spoil(X60, (7, 3), np.inf), Y60, {"sample_weight": np.arange(60) > 7}, ValueError,
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
def test_bad_rows(X, y, options, error, message, threads):
    with pytest.raises(error, match="^" + re.escape(message)):
        compress(X, y, **{"n_threads": threads, **options})


def test_inputs_are_left_alone():
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


def test_attributes_and_repr():
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


def test_equality_and_copies(tmp_path):
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


def test_damaged_and_foreign_files(tmp_path):
    REDUCED.save(tmp_path / "whole.npz")
    whole = (tmp_path / "whole.npz").read_bytes()
    sgdm.fit(X60, Y60).save(tmp_path / "result.npz")
    for name, content in {"cut.npz": whole[:-100], "empty.npz": b"", "text.npz": b"hello"}.items():
        (tmp_path / name).write_bytes(content)
    for name in ("cut.npz", "empty.npz", "text.npz", "result.npz"):
        with pytest.raises(ValueError, match=rf"{name} is damaged, or not a reduction saved by this version of sgdm"):
            Compressed.load(tmp_path / name)
    with pytest.raises(ValueError, match="not a result saved by this version"):
        sgdm.load(tmp_path / "whole.npz")
    with pytest.raises(FileNotFoundError):
        Compressed.load(tmp_path / "none.npz")


# Merging


@pytest.fixture
def small_leaves(monkeypatch):
    """Several leaves, of several blocks each, in a few hundred rows."""
    monkeypatch.setattr(factor, "_BLOCK_BYTES", 8 * 100)
    monkeypatch.setattr(factor, "_LEAF_BLOCKS", 2)


def assert_same_factor(ours, expected):
    assert (ours.n_rows, ours._kind()) == (expected.n_rows, expected._kind())
    assert ours.total_weight == pytest.approx(expected.total_weight, rel=1e-14)
    np.testing.assert_allclose(ours.R, expected.R, rtol=0, atol=1e-13 * np.abs(expected.R).max())


@pytest.mark.parametrize("targets", [None, 2])
@intercepts
def test_merging(fit_intercept, targets):
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


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("n", [79, 80, 81, 1000])
def test_threads_give_the_same_bits(small_leaves, n, order):
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


def test_parts_that_are_not_of_one_problem():
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


# What R knows


@intercepts
@pytest.mark.parametrize("targets", [None, 1, 3])
@pytest.mark.parametrize("shape", [(200, 6), (6, 6), (4, 9)])
def test_solve_and_spectrum(shape, targets, fit_intercept):
    X, y = make_data(*shape, targets=targets)
    weights = np.random.default_rng(5).uniform(0.5, 2, len(X))
    reduced = compress(X, y, sample_weight=weights, fit_intercept=fit_intercept)
    Z, root = design(X, fit_intercept), np.sqrt(weights)[:, None]
    expected = np.linalg.lstsq(root * Z, (root[:, 0] * y.T).T, rcond=None)[0]  # of minimum norm where there are many
    solution = reduced.solve()
    assert solution.shape == expected.shape
    np.testing.assert_allclose(solution, expected, rtol=0, atol=1e-11 * np.abs(expected).max())
    best = np.average((Z @ expected - y) ** 2, axis=0, weights=weights)
    np.testing.assert_allclose(reduced.optimal_loss, best, rtol=1e-12, atol=1e-28)
    assert np.shape(reduced.optimal_loss) == y.shape[1:]
    values = np.linalg.eigvalsh(2 * Z.T @ (weights[:, None] * Z) / weights.sum())[::-1]
    np.testing.assert_allclose(reduced.spectrum(), values, rtol=0, atol=1e-13 * values[0])
    if len(X) > Z.shape[1]:
        assert reduced.condition == pytest.approx(values[0] / values[-1], rel=1e-9)
    else:
        assert reduced.condition > 1e25 or shape == (6, 6)


@decays
@intercepts
@forms
def test_max_lr_is_exact(form, fit_intercept, weight_decay):
    """1 % below, the loss stays bounded; 1 % above, it overflows."""
    X, y = make_data(40, 4)
    reduced = compress(X, y, fit_intercept=fit_intercept)
    constants = {"weight_decay": weight_decay, **FORMS[form]}
    lr = reduced.max_lr(**constants)
    if form == "full dampening":
        assert lr == np.inf
        return
    loss = reduced.fit(lr=0.99 * lr, epochs=50_000, record="loss", **constants).history.loss
    assert loss[-1] < loss[0]
    assert loss[25_000:].max() <= (1 + 1e-12) * loss[:25_000].max()
    with pytest.raises(sgdm.DivergenceError, match="too large") as caught:
        reduced.fit(lr=1.01 * lr, epochs=50_000, record=None, **constants)
    assert 0.85 * lr < caught.value.max_lr < lr


def test_max_lr_of_zeros():
    reduced = compress(0 * X60, Y60)
    assert reduced.max_lr() == reduced.max_lr(weight_decay=1e-320) == np.inf
    assert 0 < reduced.tune(5, weight_decay=1e-320).lr < np.inf


@pytest.mark.parametrize("factor", [1e-200, 1e200])
def test_columns_whose_squares_overflow_or_vanish(factor):
    """Without numpy's overflow warnings, which would be errors here."""
    plain, reduced = compress(X60, Y60), compress(X60 * factor, Y60)
    np.testing.assert_allclose(reduced.solve(), plain.solve() / factor, rtol=1e-12)
    assert reduced.condition == pytest.approx(plain.condition, rel=1e-12)
    assert reduced.optimal_loss == pytest.approx(plain.optimal_loss, rel=1e-12)
    limit = 0.0 if factor > 1 else np.inf
    assert reduced.spectrum() == pytest.approx(np.full(5, 1 / limit if limit else np.inf))
    assert reduced.max_lr() == limit
    assert reduced.max_lr(dampening=1.0) == np.inf
    assert compress(X60, Y60 * 1e200).optimal_loss == np.inf
    if factor > 1:
        with pytest.raises(ValueError, match=r"^lr can't be tuned, as the losses overflow whatever it is"):
            reduced.tune(5)


def test_solution_that_overflows():
    reduced = compress(X60 * 1e-200, Y60 * 1e200)
    with pytest.raises(ValueError, match=r"^the parameters for these X and y overflow; scale the columns of X up"):
        reduced.solve()
    assert reduced.optimal_loss == np.inf


def test_solution_of_columns_that_are_hardly_there():
    X, y = np.array([[0.0, -1e-40, 1e-45, 1e-310]]), np.array([0.1])
    reduced = compress(X, y)
    np.testing.assert_allclose(X @ reduced.solve(), y, rtol=1e-14)
    assert reduced.solve() == pytest.approx([0, -1e39, 1e34, 0], rel=1e-9, abs=1e-3)
    assert reduced.optimal_loss == 0


def test_penalties_and_weights_whose_product_overflows():
    X, y = make_data()
    reduced = compress(X, y, sample_weight=np.full(60, 1e10))
    limit = 2 * 1.8 / (0.2 * 1e300)
    assert reduced.max_lr(weight_decay=1e300) == pytest.approx(limit, rel=1e-12)


@pytest.mark.parametrize("targets", [None, 2])
@pytest.mark.parametrize("options", [{"lr": 1.0}, {"record": None}, {"record": "loss"}, {"average": True}], ids=str)
def test_overflow_of_float32(options, targets):
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


def test_start_beyond_float32():
    X, y = make_data(dtype=np.float32)
    for data in (X, compress(X, y)):
        with pytest.raises(ValueError, match=r"^coef0 must be finite, got inf at row 0$"):
            sgdm.fit(data, None if data is not X else y, coef0=np.full(5, 1e300))


def test_validation_loss_beyond_float32():
    X, y = make_data(dtype=np.float32)
    far = np.full(60, 1e25, np.float32)
    result = sgdm.fit(X, y, method="compress", validation=(X, far), epochs=3)
    assert np.all(result.history.val_loss == np.inf)


BUDGETS = (0, 1, 2, 10, 1000)


@decays
@forms
@pytest.mark.parametrize("scales", [pytest.param(0, marks=pytest.mark.slow), 6])
def test_forecast_is_the_run(form, weight_decay, scales):
    """To 1e-9 of the loss, and where the descent is all but done, to the rounding of the residuals."""

    @settings(max_examples=40, derandomize=True, database=None, deadline=None)
    @given(st.integers(1, 60), st.integers(1, 12), st.booleans(), st.sampled_from([None, 2]), st.integers(0, 2**32 - 1))
    def check(n, d, fit_intercept, targets, seed):
        rng = np.random.default_rng(seed)
        X, y = make_data(n, d, targets, seed=seed)
        X = X * 10.0 ** rng.uniform(-scales, scales, d)
        start = rng.standard_normal((d + fit_intercept, *y.shape[1:]))
        reduced = compress(X, y, sample_weight=rng.uniform(0.5, 1, n), fit_intercept=fit_intercept)
        for coef0 in (None, start):
            options = {**stable(X, form, fit_intercept, None, weight_decay), "coef0": coef0}
            loss = reduced.fit(epochs=1001, record="loss", **options).history.loss
            for epochs in BUDGETS:
                forecast = reduced.forecast(**options, epochs=epochs)
                assert np.shape(forecast) == y.shape[1:]
                rounding = 1e-14 * np.sqrt(loss[epochs] * loss[0]) + 1e-28 * loss[0]
                assert np.all(np.abs(forecast - loss[epochs]) <= 1e-9 * loss[epochs] + rounding)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sgdm._fit, "convergence_message", lambda *_: None)  # a heavy ball may end above its start
        check()


@forms
def test_forecast_of_a_divergence(form):
    reduced = compress(X60, Y60, fit_intercept=True)
    constants = FORMS[form]
    lr = 1.5 * reduced.max_lr(**constants)
    if lr == np.inf:
        return
    assert reduced.forecast(lr, **constants, epochs=10**6) == np.inf
    with pytest.raises(sgdm.DivergenceError) as caught:
        reduced.fit(lr=lr, epochs=10**6, record=None, **constants)
    last = caught.value.result.epochs
    assert reduced.forecast(lr, **constants, epochs=last - 5) < np.inf
    assert reduced.forecast(lr, **constants, epochs=last + 5) == np.inf


def test_bad_forecasts():
    for options, error, message in [
        ({"lr": -1.0, "epochs": 5}, ValueError, "lr must be finite and not negative, got -1.0"),
        ({"lr": 0.1, "momentum": 1.0, "epochs": 5}, ValueError, "momentum must be in [0, 1), got 1.0"),
        ({"lr": 0.1, "epochs": False}, TypeError, "epochs must be a whole number, got False"),
        ({"lr": 0.1, "epochs": -1}, ValueError, "epochs must be at least 1, got -1"),
        ({"lr": 0.1, "epochs": 5, "coef0": [1.0]}, ValueError, "coef0 must have shape (5,)"),
        ({"lr": "auto", "epochs": 5}, TypeError, "lr must be a number, got 'auto'"),
    ]:
        with pytest.raises(error, match="^" + re.escape(message)):
            REDUCED.forecast(**options)
    assert REDUCED.forecast(0.1, epochs=np.int64(0)) == REDUCED.forecast(0.1, epochs=0)
    with pytest.raises(ValueError, match=r"^epochs must be at least 1, got 0"):
        REDUCED.tune(0)
    with pytest.raises(ValueError, match=r"^dampening must be in \[0, 1\], got 2"):
        REDUCED.tune(5, dampening=2)


# tune


def best_of_grid(reduced, epochs, nesterov=False, weight_decay=0.0):
    """The lowest forecast over 40 lr around the stability limit x 40 momenta, as EMA and as heavy ball."""
    modes = reduced._modes(None, weight_decay)
    momentum, share = np.meshgrid(np.linspace(0, 0.999, 40), np.logspace(-4, 1, 40))
    lowest = np.inf
    for undamped in (1 + 0 * momentum, 1 - momentum):
        limit = 2 * (1 + momentum) / ((1 + 2 * momentum if nesterov else 1) * undamped * modes.curvature[0])
        losses = modes.losses(share * limit, momentum, undamped, nesterov, epochs, True).sum(-1)
        lowest = min(lowest, losses.min())
    return lowest


def random_reduction(seed):
    """Plain, badly scaled, or nearly collinear columns in turn."""
    rng = np.random.default_rng(seed)
    X, y = make_data(int(rng.integers(3, 60)), int(rng.integers(1, 12)), seed=seed)
    X = [X, X * 10.0 ** rng.uniform(-3, 3, X.shape[1]), X + 10 * rng.standard_normal(X.shape[1])][seed % 3]
    return compress(X, y, fit_intercept=seed % 2 == 1)


def diabetes(fit_intercept):
    datasets = pytest.importorskip("sklearn.datasets")
    return compress(*datasets.load_diabetes(return_X_y=True, scaled=False), fit_intercept=fit_intercept)


REDUCTIONS = {f"random {seed}": functools.partial(random_reduction, seed) for seed in range(9)}
REDUCTIONS |= {f"diabetes {intercept}": functools.partial(diabetes, intercept) for intercept in (False, True)}


@pytest.mark.filterwarnings("ignore::sgdm.ConvergenceWarning")
@pytest.mark.parametrize(
    "epochs", [1, pytest.param(2, marks=pytest.mark.slow), 5, pytest.param(20, marks=pytest.mark.slow), 200]
)
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if re.search("[3-8]", name) else ()) for name in REDUCTIONS]
)
def test_tune_is_as_good_as_a_grid(name, epochs):
    """And it promises nothing that the run doesn't hold."""
    reduced = REDUCTIONS[name]()
    for options in ({}, {"nesterov": True}, {"weight_decay": 0.01}):
        tuned = reduced.tune(epochs, **options)
        assert tuned.objective <= 1.01 * best_of_grid(reduced, epochs, **options) + 1e-20
        assert tuned.dampening in (0, pytest.approx(tuned.momentum))
        constants = {"lr": tuned.lr, "momentum": tuned.momentum, "dampening": tuned.dampening}
        history = reduced.fit(epochs=epochs + 1, **constants, **options).history
        penalties = options.get("weight_decay", 0) / 2 * (history.coef[:, : reduced.n_features] ** 2).sum(1)
        assert history.loss[epochs] + penalties[epochs] == pytest.approx(tuned.objective, rel=1e-6, abs=1e-20)
        assert tuned.objective <= history.loss[0]


@pytest.mark.parametrize("fit_intercept", [False, True])
def test_tuned_descents_reach_the_penalised_optimum(fit_intercept):
    """Not the point on the way where the loss alone is lowest."""
    X, y = make_data()
    reduced = compress(X, y, fit_intercept=fit_intercept)
    ones = np.ones((len(X), int(fit_intercept)))
    Z, penalised = np.hstack([X, ones]), np.diag([1.0] * X.shape[1] + [0.0] * fit_intercept)
    ridge = np.linalg.solve(2 * Z.T @ Z / len(X) + 0.5 * penalised, 2 * Z.T @ y / len(X))
    result = reduced.fit(lr="auto", momentum="auto", weight_decay=0.5, epochs=300)
    np.testing.assert_allclose(np.append(result.coef, result.intercept)[: len(ridge)], ridge, rtol=1e-8)


@pytest.mark.parametrize("epochs", [1, 5, 50])
@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9, 0.9999999])
@pytest.mark.parametrize("name", ["random 0", "random 2", "diabetes True"])
def test_tune_with_momentum_given(name, momentum, epochs):
    reduced = REDUCTIONS[name]()
    for dampening in (None, 0.0, 1.0):
        tuned = reduced.tune(epochs, momentum=momentum, dampening=dampening)
        undamped = 1 - (momentum if dampening is None else dampening)
        assert (tuned.momentum, tuned.dampening) == (momentum, 1 - undamped)
        modes = reduced._modes(None, 0.0)
        lr = np.logspace(-6, 6, 3000) / modes.curvature[0]
        assert tuned.objective <= 1.01 * modes.losses(lr, momentum, undamped, False, epochs).sum(-1).min() + 1e-20


def test_tune_over_targets_and_zeros():
    X, y = make_data(targets=3)
    reduced = compress(X, y)
    tuned = reduced.tune(10)
    assert tuned.objective == pytest.approx(reduced.forecast(*tuned[:2], dampening=tuned.dampening, epochs=10).sum())
    tuned = compress(0 * X, y).tune(10)
    assert 0 < tuned.lr < np.inf
    assert tuned.objective == pytest.approx((y**2).mean(axis=0).sum())


@pytest.mark.parametrize("epochs", [100, 300, 1000])
def test_tune_of_targets_whose_sum_overflows(epochs):
    """Somewhere on the grid each loss is just below the largest number: no warning of numpy's, an error here."""
    X, _ = make_data(n=12, d=3)
    tuned = compress(X, np.tile(X[:, :1], 9)).tune(epochs, momentum=0.5)
    assert tuned.objective < 1e-20


def auto_rates(X, momentum, fit_intercept, nesterov=False, weight_decay=0.0, dampening=None):
    """lr, momentum and dampening for lr="auto", from the eigenvalues of the Hessian, for many epochs."""
    Z = np.hstack([X, np.ones((len(X), int(fit_intercept)))])
    penalty = weight_decay * np.array([1.0] * X.shape[1] + [0.0] * fit_intercept)
    values = np.linalg.eigvalsh(2 * Z.T @ Z / len(X) + np.diag(penalty))
    top, low = values[-1], values[0]
    if momentum == "auto":
        root = np.sqrt(3 * top / low + 1) if nesterov else np.sqrt(top / low)
        m = (root - 2) / (root + 2) if nesterov else ((root - 1) / (root + 1)) ** 2
        lr = 4 / (3 * top + low) if nesterov else 4 / (np.sqrt(top) + np.sqrt(low)) ** 2
        return lr, m, 0.0
    kappa = ((2 * (1 + momentum) / (1 - momentum)) ** 2 - 1) / 3  # which this momentum is the best for
    lr = 4 / (3 * top + top / kappa) if nesterov else (1 + np.sqrt(momentum)) ** 2 / top
    dampening = momentum if dampening is None else dampening
    return lr / (1 - dampening), momentum, dampening


@pytest.mark.parametrize("method", ["auto", "direct", "compress"])
@pytest.mark.parametrize("options", [{}, {"nesterov": True, "weight_decay": 0.1}, {"dampening": 0.0}], ids=str)
@intercepts
def test_fit_auto(fit_intercept, options, method):
    """The result says what was chosen: the best constants for the extreme eigenvalues. auto reduces."""
    X, y = make_data(n=200)
    coef0 = np.ones(5 + fit_intercept)
    reduced = compress(X, y, fit_intercept=fit_intercept)
    for momentum in (0.8, 0.5, "auto"):
        result = sgdm.fit(
            X,
            y,
            lr="auto",
            momentum=momentum,
            coef0=coef0,
            epochs=300,
            fit_intercept=fit_intercept,
            method=method,
            **options,
        )
        expected = auto_rates(X, momentum, fit_intercept, **options)
        assert (result.lr, result.momentum, result.dampening) == pytest.approx(expected, rel=1e-12, abs=1e-15)
        assert result.method == ("direct" if method == "direct" else "compress")
        if method != "direct":
            assert reduced.fit(lr="auto", momentum=momentum, coef0=coef0, epochs=300, **options) == result
        assert result.loss <= 1.001 * result.optimal_loss + options.get("weight_decay", 0)
