"""What must hold for any data: symmetries, reproducibility, the result's behaviour, stability."""

import copy
import dataclasses
import pickle
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import sgdm
from sgdm import _kernel
from sgdm._descent import curvature as _tuning
from sgdm._descent import descent as _run
from sgdm._descent.problem import as_problem

FORMS = {
    "ema": {"momentum": 0.8},
    "heavy ball": {"momentum": 0.9, "dampening": 0.0},
    "partial dampening": {"momentum": 0.7, "dampening": 0.3},
    "plain": {"momentum": 0.0},
    "nesterov": {"momentum": 0.9, "dampening": 0.0, "nesterov": True},
    "nesterov ema": {"momentum": 0.8, "nesterov": True},
}
HISTORIES = ("loss", "grad", "step", "coef")


def make_data(n=60, d=5, targets=None, dtype=np.float64, order="C", seed=0):
    rng = np.random.default_rng(seed)
    X = np.asarray(rng.standard_normal((n, d)), dtype, order=order)
    return X, rng.standard_normal((n,) if targets is None else (n, targets)).astype(dtype)


def assert_close(result, expected, factor=64):
    """Equal histories and coefficients, within factor * eps of the largest number of each."""
    for ours, theirs in [(result.coef, expected.coef), (result.intercept, expected.intercept)] + [
        (getattr(result.history, name), getattr(expected.history, name)) for name in HISTORIES
    ]:
        eps = np.finfo(expected.coef.dtype).eps
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=factor * eps * np.abs(theirs).max())


# Symmetries

layouts = pytest.mark.parametrize("order", ["C", "F"])
options = pytest.mark.parametrize("fit_intercept", [False, True])


@layouts
@options
def test_duplicated_row_is_doubled_weight(order, fit_intercept):
    X, y = make_data(order=order)
    weights = np.ones(len(X))
    weights[7] = 2
    twice = sgdm.fit(np.vstack([X, X[7]]), np.append(y, y[7]), fit_intercept=fit_intercept)
    assert_close(sgdm.fit(X, y, fit_intercept=fit_intercept, sample_weight=weights), twice)


@layouts
@options
def test_zero_weight_is_a_row_left_out(order, fit_intercept):
    X, y = make_data(order=order)
    keep = np.arange(len(X)) % 4 != 1
    without = sgdm.fit(X[keep], y[keep], fit_intercept=fit_intercept)
    assert_close(sgdm.fit(X, y, fit_intercept=fit_intercept, sample_weight=keep), without)


@layouts
@options
def test_rows_in_another_order(order, fit_intercept):
    X, y = make_data(n=700, order=order)
    weights = np.random.default_rng(1).uniform(0, 2, len(X))
    rows = np.random.default_rng(2).permutation(len(X))
    permuted = sgdm.fit(X[rows], y[rows], fit_intercept=fit_intercept, sample_weight=weights[rows])
    assert_close(sgdm.fit(X, y, fit_intercept=fit_intercept, sample_weight=weights), permuted)


def test_a_common_factor_of_the_weights_cancels():
    X, y = make_data()
    weights = np.random.default_rng(1).uniform(0, 2, len(X))
    assert_close(sgdm.fit(X, y, sample_weight=3 * weights), sgdm.fit(X, y, sample_weight=weights))


@pytest.mark.parametrize(("factor", "tolerance"), [(4.0, 0), (-3.0, 64)])
def test_scaled_target(factor, tolerance):
    """A power of two scales without any rounding."""
    X, y = make_data()
    base, scaled = sgdm.fit(X, y, fit_intercept=True), sgdm.fit(X, factor * y, fit_intercept=True)
    expected = dataclasses.replace(
        base,
        coef=factor * base.coef,
        intercept=factor * base.intercept,
        history=dataclasses.replace(
            base.history,
            loss=factor**2 * base.history.loss,
            **{name: factor * getattr(base.history, name) for name in ("grad", "step", "coef")},
        ),
    )
    assert_close(scaled, expected, tolerance)


@layouts
@pytest.mark.parametrize("targets", [None, 3])
def test_ones_column_is_an_intercept(order, targets):
    X, y = make_data(order=order, targets=targets)
    coef0 = np.random.default_rng(1).standard_normal((6, *y.shape[1:]))
    ones = sgdm.fit(np.column_stack([X, np.ones(len(X))]), y, coef0=coef0)
    result = sgdm.fit(X, y, coef0=coef0, fit_intercept=True)
    assert result.coef.shape == (5, *y.shape[1:])
    assert_close(dataclasses.replace(result, intercept=0.0), dataclasses.replace(ones, coef=ones.coef[:5]))
    np.testing.assert_allclose(result.intercept, ones.coef[5], rtol=1e-12)
    np.testing.assert_allclose(result.velocity, ones.velocity, rtol=0, atol=1e-14)


@options
@pytest.mark.parametrize("form", FORMS)
def test_zero_lr_stays_at_the_start(form, fit_intercept):
    X, y = make_data()
    coef0 = np.arange(5.0 + fit_intercept)
    result = sgdm.fit(X, y, lr=0, coef0=coef0, fit_intercept=fit_intercept, **FORMS[form])
    assert np.array_equal(np.append(result.coef, result.intercept)[: len(coef0)], coef0)
    assert np.array_equal(result.history.coef, np.tile(coef0, (50, 1)))
    assert np.all(result.history.loss == result.history.loss[0])


@layouts
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize(("n", "d"), [(60, 5), (300, 40), (7, 90)])
def test_targets_are_separate_fits(n, d, dtype, order):
    X, Y = make_data(n, d, 3, dtype, order)
    together = sgdm.fit(X, Y, lr=0.02, fit_intercept=True, epochs=30)
    for t in range(3):
        alone = sgdm.fit(X, Y[:, t], lr=0.02, fit_intercept=True, epochs=30)
        history = {name: getattr(together.history, name)[..., t] for name in HISTORIES}
        column = dataclasses.replace(
            together,
            coef=together.coef[:, t],
            intercept=together.intercept[t],
            history=dataclasses.replace(together.history, **history),
        )
        assert_close(column, alone)


# Reproducibility


def some_fits(**extra):
    """Fits that between them take every path through the kernel."""
    results = []
    for dtype in (np.float64, np.float32):
        for order in ("C", "F"):
            for n, d, targets in [(100, 2, None), (33, 17, 2), (601, 5, None), (300, 40, 3), (6, 70, None)]:
                X, y = make_data(n, d, targets, dtype, order)
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


@pytest.mark.parametrize("slice_elements", [1, 3 * 601 * 5])
def test_slicing_changes_no_bit(monkeypatch, slice_elements):
    whole = some_fits(record_every=3)
    monkeypatch.setattr(_run, "SLICE_ELEMENTS", slice_elements)
    calls = []
    advance = _run.advance
    monkeypatch.setattr(_run, "advance", lambda *arguments: calls.append(1) or advance(*arguments))
    assert some_fits(record_every=3) == whole
    assert len(calls) > (1 if slice_elements > 1 else 24) * len(whole)


def test_slicing_changes_nothing_about_convergence(monkeypatch):
    X, y = make_data()
    whole = sgdm.fit(X, y, tol=1e-3, epochs=500)
    monkeypatch.setattr(_run, "SLICE_ELEMENTS", 1)
    assert sgdm.fit(X, y, tol=1e-3, epochs=500) == whole


def test_eight_threads_get_the_same_bits_as_one():
    alone = some_fits()
    together = threading.Barrier(8)

    def run(_):
        together.wait()
        return some_fits()

    with ThreadPoolExecutor(8) as pool:
        for results in pool.map(run, range(8)):
            assert results == alone


def test_the_gil_is_free_meanwhile(monkeypatch):
    """One slice of half a second, in which a thread takes naps: were the GIL held, it would not wake once."""
    monkeypatch.setattr(_run, "SLICE_ELEMENTS", sys.maxsize)
    X, y = make_data(500, 10)
    start = time.perf_counter()
    sgdm.fit(X, y, epochs=1000, record=None)
    epochs = max(1000, int(1000 * 0.5 / (time.perf_counter() - start)))
    begun, done = threading.Event(), threading.Event()
    naps = []

    def nap():
        begun.set()
        while not done.is_set():
            time.sleep(0.001)
            naps.append(time.perf_counter())

    thread = threading.Thread(target=nap)
    thread.start()
    begun.wait()
    start = time.perf_counter()
    sgdm.fit(X, y, epochs=epochs, record=None)
    end = time.perf_counter()
    done.set()
    thread.join()
    # Of some hundreds, on a machine with a second core; noise leaves more than two, away from both ends.
    middle = [at for at in naps if start + 0.1 * (end - start) < at < end - 0.1 * (end - start)]
    assert len(middle) > 2


LEVELS_SCRIPT = """
import hashlib, itertools, warnings
import numpy as np
import sgdm
from sgdm import _kernel

assert np.float64(5e-324) * 1 != 0 and np.float32(1e-45) * np.float32(1) != 0, "denormals are switched off"
warnings.simplefilter("ignore", sgdm.ConvergenceWarning)
digest = hashlib.sha256()
shapes = [(1, 1), (7, 3), (33, 17), (64, 16), (600, 7), (300, 40), (130, 8), (20, 130), (259, 65), (139, 300)]

def add(result):
    for array in (result.coef, result.velocity, *vars(result.history).values()):
        if array is not None:
            digest.update(np.ascontiguousarray(array).tobytes())

for (n, d), dtype, order, k in itertools.product(shapes, ("f8", "f4"), "CF", (1, 3, 4, 9)):
    rng = np.random.default_rng(n)
    X, y = rng.standard_normal((n, d)).astype(dtype, order=order), rng.standard_normal((n, k)).astype(dtype)
    for weights in (None, rng.uniform(0.5, 2, n)):
        options = {"lr": 0.003, "momentum": 0.9, "dampening": 0.0, "epochs": 20, "sample_weight": weights,
                   "fit_intercept": weights is None, "weight_decay": 0.01, "method": "direct"}
        add(sgdm.fit(X, y, **options))
        add(sgdm.fit(X, y, **options | {"epochs": 2, "lr": 1e-4, "batch_size": 13, "seed": 1}))
    add(sgdm.fit_many(X, np.ascontiguousarray(y.T), lr=0.003, epochs=20))
for d in (2, 3, 5):  # too large to be copied by columns, or not
    X = np.random.default_rng(d).standard_normal((200_000, d))
    add(sgdm.fit(X, X.sum(axis=1), lr=0.01, epochs=2, n_threads=d % 2 + 1, method="direct"))
assert np.float64(5e-324) * 1 != 0, "denormals were switched off"
print(_kernel.ISA, digest.hexdigest())
"""


def test_cpu_levels_give_the_same_bits(run_python):
    best = run_python("import sgdm._kernel; print(sgdm._kernel.ISA)", SGDM_ISA=None).stdout.strip()
    assert best in _kernel.LEVELS
    digests = set()
    for level in _kernel.LEVELS[: _kernel.LEVELS.index(best) + 1]:
        process = run_python(LEVELS_SCRIPT, SGDM_ISA=level, PYTHONWARNINGS="error")
        assert process.returncode == 0, process.stderr
        used, digest = process.stdout.split()
        assert used == level
        digests.add(digest)
    assert len(digests) == 1


def test_unknown_cpu_level_is_refused(run_python):
    process = run_python("import sgdm", SGDM_ISA="sse9")
    assert process.returncode == 1
    assert "ImportError: SGDM_ISA must be one of baseline" in process.stderr
    assert "got 'sse9'" in process.stderr


# Inputs and results


def input_arrays(dtype, order):
    X, y = make_data(targets=2, dtype=dtype, order=order)
    return X, y, {"sample_weight": np.full(60, 0.5, dtype), "coef0": np.ones((5, 2), dtype)}


@layouts
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_inputs_are_left_alone(dtype, order):
    X, y, more = input_arrays(dtype, order)
    arrays = [X, y, *more.values()]
    before = [array.copy() for array in arrays]
    result = sgdm.fit(X, y, epochs=5, **more)
    result.predict(X)
    for array, copied in zip(arrays, before, strict=True):
        assert np.array_equal(array, copied)
    held = [result.coef, result.velocity, result.loss, *vars(result.history).values()]
    assert not any(np.shares_memory(ours, theirs) for ours in held for theirs in arrays)


def test_single_target_result_holds_no_view_of_inputs():
    X, y = make_data(n=1, d=1)
    coef0 = np.ones(2)
    result = sgdm.fit(X, y, coef0=coef0, epochs=1, fit_intercept=True)
    held = [result.coef, result.velocity, *vars(result.history).values()]
    assert not any(np.shares_memory(ours, theirs) for ours in held for theirs in (X, y, coef0))
    assert np.array_equal(coef0, [1, 1])


def test_histories_are_not_tied_to_each_other():
    X, y = make_data()
    result = sgdm.fit(X, y, tol=0.1)
    arrays = [result.coef, result.velocity, *vars(result.history).values()]
    assert not any(np.shares_memory(a, b) for i, a in enumerate(arrays) for b in arrays[:i])


def test_an_early_stop_lets_go_of_the_rows_not_written():
    X, y = make_data()
    result = sgdm.fit(X, y, tol=0.1, epochs=5000)
    assert result.epochs < 100
    for name in HISTORIES:
        history = getattr(result.history, name)
        owner = history if history.base is None else history.base
        assert len(owner) == result.epochs


RESULTS = pytest.mark.parametrize(
    "extra",
    [{}, {"fit_intercept": True}, {"record": None}, {"record": "loss"}],
    ids=["all", "intercept", "none", "loss"],
)


@RESULTS
@pytest.mark.parametrize("targets", [None, 2])
def test_results_copy_pickle_and_compare(targets, extra):
    X, y = make_data(targets=targets)
    result = sgdm.fit(X, y, **extra)
    for clone in (copy.copy(result), copy.deepcopy(result), pickle.loads(pickle.dumps(result))):
        assert clone == result
        assert clone.history == result.history
        assert clone.status is result.status
    assert sgdm.fit(X, y, **extra) == result
    assert copy.deepcopy(result).coef is not result.coef


def test_unequal_results():
    X, y = make_data()
    result = sgdm.fit(X, y)
    other = result.coef.copy()
    other[0] = np.nextafter(other[0], 9)
    loss = result.history.loss.copy()
    loss[-1] += 1
    for changed in [
        dataclasses.replace(result, coef=other),
        dataclasses.replace(result, coef=result.coef.astype(np.float32)),
        dataclasses.replace(result, coef=result.coef[:, None]),
        dataclasses.replace(result, status=sgdm.Status.STOPPED),
        dataclasses.replace(result, history=dataclasses.replace(result.history, loss=loss)),
        sgdm.fit(X, y, record="loss"),
        sgdm.fit(X, y, epochs=49),
        sgdm.fit(X, y, fit_intercept=True),
        "a result",
    ]:
        assert changed != result
        assert not changed == result  # noqa: SIM201


def test_results_are_frozen():
    X, y = make_data()
    result = sgdm.fit(X, y)
    with pytest.raises(dataclasses.FrozenInstanceError):
        result.coef = None
    with pytest.raises(dataclasses.FrozenInstanceError):
        result.history.loss = None


def test_divergence_error_pickles():
    X, y = make_data()
    with pytest.raises(sgdm.DivergenceError) as caught:
        sgdm.fit(X, y, lr=1e9)
    clone = pickle.loads(pickle.dumps(caught.value))
    assert (str(clone), clone.max_lr, clone.result) == (
        str(caught.value), caught.value.max_lr, caught.value.result
    )  # fmt: skip


def test_repr():
    X, y = make_data()
    text = repr(sgdm.fit(X, y, fit_intercept=True, epochs=20))
    assert text.startswith("FitResult: completed after 20 epochs\n")
    for part in ("\n  loss ", "\n  coef [", "\n  intercept ", "\n  history 20 rows"):
        assert part in text
    assert "intercept" not in repr(sgdm.fit(X, y))
    assert repr(sgdm.fit(X, y).history) == "History(50 rows of loss, grad, step, coef)"
    assert repr(sgdm.fit(X, y, record="loss", record_every=7).history) == "History(8 rows of loss)"
    assert repr(sgdm.fit(X, y, record=None).history) == "History(0 rows of nothing)"


def test_repr_of_a_large_result_is_short():
    X, y = make_data(d=500, targets=40)
    assert len(repr(sgdm.fit(X, y, lr=1e-3, epochs=2))) < 1500


# What is recorded


@pytest.mark.parametrize("targets", [None, 1, 2])
@options
def test_shapes(targets, fit_intercept):
    X, y = make_data(targets=targets)
    result = sgdm.fit(X, y, epochs=8, fit_intercept=fit_intercept)
    slot, p = y.shape[1:], 5 + fit_intercept
    assert result.coef.shape == (5, *slot)
    assert result.velocity.shape == (p, *slot)
    assert result.history.loss.shape == (8, *slot)
    for name in ("grad", "step", "coef"):
        assert getattr(result.history, name).shape == (8, p, *slot)
    assert np.shape(result.loss) == slot
    assert np.shape(result.intercept) == (slot if fit_intercept else ())


def test_the_end_of_a_fit_is_the_end_of_its_history():
    X, y = make_data(targets=2)
    result, longer = sgdm.fit(X, y, epochs=8), sgdm.fit(X, y, epochs=9)
    assert np.array_equal(result.loss, longer.history.loss[8])
    assert np.array_equal(result.velocity, result.history.step[-1])
    assert np.array_equal(result.coef, longer.history.coef[8])


@pytest.mark.parametrize("every", [1, 2, 7, 20, 21, 1000])
@pytest.mark.parametrize("record", ["all", "loss", None])
def test_record(record, every):
    X, y = make_data()
    full = sgdm.fit(X, y, epochs=21)
    result = sgdm.fit(X, y, epochs=21, record=record, record_every=every)
    assert np.array_equal(result.coef, full.coef)
    assert result.epochs == 21
    assert np.array_equal(result.loss, full.loss)
    expected = np.arange(0, 21, every) if record else np.arange(0)
    assert np.array_equal(result.history.epoch, expected)
    assert len(result.history) == len(expected)
    for name in HISTORIES:
        kept = {"all": True, "loss": name == "loss", None: False}[record]
        history = getattr(result.history, name)
        assert (history is not None) == kept
        if kept:
            assert np.array_equal(history, getattr(full.history, name)[::every])


@pytest.mark.parametrize("every", [1, 3])
@pytest.mark.parametrize("targets", [None, 2])
def test_tol_gives_a_prefix(targets, every):
    X, y = make_data(targets=targets)
    full = sgdm.fit(X, y, epochs=500)
    result = sgdm.fit(X, y, epochs=500, tol=1e-3, record_every=every)
    assert result.status == "converged"
    assert 10 < result.epochs < 500
    norms = np.linalg.norm(full.history.grad, axis=1).reshape(500, -1)
    met = np.all(norms <= 1e-3 * norms[0], axis=1)
    assert result.epochs == np.argmax(met) + 1
    assert np.array_equal(result.coef, full.history.coef[result.epochs])
    assert np.array_equal(result.history.epoch, np.arange(0, result.epochs, every))
    for name in HISTORIES:
        prefix = getattr(full.history, name)[: result.epochs : every]
        assert np.array_equal(getattr(result.history, name), prefix)


def test_tol_that_is_not_met():
    X, y = make_data()
    result = sgdm.fit(X, y, tol=0)
    assert result.status == "completed"
    assert result == sgdm.fit(X, y)


# dtypes


@pytest.mark.parametrize("record", ["all", "loss"])
def test_float32_stays_float32(record):
    X, y = make_data(dtype=np.float32)
    result = sgdm.fit(
        X, y, sample_weight=np.ones(60), coef0=np.ones(6), fit_intercept=True, record=record
    )  # fmt: skip
    arrays = [result.coef, result.intercept, result.velocity, result.loss, result.predict(X)]
    arrays += [a for name in HISTORIES if (a := getattr(result.history, name)) is not None]
    assert [array.dtype for array in arrays] == [np.float32] * len(arrays)


@pytest.mark.parametrize(
    ("x_type", "y_type"), [("f4", "f8"), ("f8", "f4"), ("f4", "i4"), ("i8", "f4"), ("f2", "f2"), ("?", "u1")]
)
def test_anything_else_becomes_float64(x_type, y_type):
    X, y = make_data()
    X, y = (3 * X).astype(x_type), np.abs(3 * y).astype(y_type)
    result = sgdm.fit(X, y, lr=0.01)
    arrays = [result.coef, result.velocity, result.loss]
    arrays += [getattr(result.history, name) for name in HISTORIES]
    assert [array.dtype for array in arrays] == [np.float64] * len(arrays)
    assert result == sgdm.fit(X.astype(float), y.astype(float), lr=0.01)


# predict


@options
@pytest.mark.parametrize("targets", [None, 1, 3])
def test_predict(targets, fit_intercept):
    X, y = make_data(targets=targets)
    result = sgdm.fit(X, y, fit_intercept=fit_intercept)
    predicted = result.predict(X[:7])
    assert predicted.shape == y[:7].shape
    np.testing.assert_allclose(predicted, X[:7] @ result.coef + result.intercept, rtol=1e-14)
    assert np.array_equal(result.predict(X[:7].tolist()), predicted)
    r = result.predict(X) - y
    longer = sgdm.fit(X, y, fit_intercept=fit_intercept, epochs=51)
    np.testing.assert_allclose((r**2).mean(axis=0), longer.history.loss[50], rtol=1e-13)


# Stability


@pytest.mark.parametrize(
    ("extra", "rise"),
    [
        ({"lr": 4.0}, 1),  # the undamped first step goes too far
        ({"lr": 1.0, "momentum": 0.95, "dampening": 0.0}, 1),
        ({"lr": 0.1, "momentum": 0.95, "dampening": 0.0}, 0),  # it rises on the way only
    ],
)
def test_a_passing_rise_is_no_divergence(extra, rise):
    """Warnings are errors here."""
    X, _ = make_data()
    loss = sgdm.fit(X, X @ np.arange(1.0, 6.0), epochs=1000, **extra).history.loss
    assert loss.max() > 1.5 * loss[0] or not rise
    assert (loss[1:] > 1.5 * loss[:-1]).any()
    assert loss[-1] < 1e-6 * loss[0]


def make_limit(form, weight_decay, fit_intercept):
    """A random problem, its curvature, and its largest stable lr by the eigenvalues of its Hessian."""
    X, y = make_data(40, 4, seed=3)
    weights = np.random.default_rng(4).uniform(0, 2, 40)
    extra = {"weight_decay": weight_decay, "fit_intercept": fit_intercept, **FORMS[form]}
    Z = np.column_stack([X, np.ones(40)])[:, : 4 + fit_intercept]
    H = 2 * Z.T @ (weights[:, None] * Z) / weights.sum() + weight_decay * np.diag(np.arange(len(Z.T)) < 4)
    momentum, dampening = extra["momentum"], extra.get("dampening", extra["momentum"])
    top = np.linalg.eigvalsh(H)[-1]
    limit = _tuning.stability_limit(top, momentum, 1 - dampening, extra.get("nesterov", False))
    problem = as_problem(X, y, weights, fit_intercept)
    return X, y, {**extra, "sample_weight": weights}, problem, top, limit


@pytest.mark.parametrize("weight_decay", [0.0, 0.5])
@pytest.mark.parametrize("form", FORMS)
def test_stability_limit(form, weight_decay):
    X, y, extra, _, _, limit = make_limit(form, weight_decay, fit_intercept=False)
    below = sgdm.fit(X, y, lr=0.99 * limit, epochs=50_000, record="loss", **extra)
    assert below.status == "completed"
    loss = below.history.loss
    assert loss[-1] < loss[0]
    assert loss[25_000:].max() <= (1 + 1e-12) * loss[:25_000].max()
    with pytest.raises(sgdm.DivergenceError, match="too large"):
        sgdm.fit(X, y, lr=1.01 * limit, epochs=50_000, record=None, **extra)


@pytest.mark.parametrize("fit_intercept", [False, True])
@pytest.mark.parametrize("weight_decay", [0.0, 0.5])
@pytest.mark.parametrize("form", FORMS)
def test_suggested_lr_is_just_below_the_limit(form, weight_decay, fit_intercept):
    X, y, extra, problem, top, limit = make_limit(form, weight_decay, fit_intercept)
    assert _tuning.largest_curvature(problem, weight_decay) == pytest.approx(top, rel=1e-3)
    with pytest.raises(sgdm.DivergenceError) as caught:
        sgdm.fit(X, y, lr=3 * limit, epochs=50_000, record=None, **extra)
    assert 0.85 * limit < caught.value.max_lr < limit
    assert sgdm.fit(X, y, lr=caught.value.max_lr, epochs=1000, **extra).status == "completed"


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize(("n", "d"), [(1, 1), (1, 60), (400, 100), (90, 300)])
def test_suggested_lr_over_shapes(n, d, dtype):
    X, y = make_data(n, d, dtype=dtype)
    limit = 2 * 1.8 / (0.2 * np.linalg.eigvalsh(2 * X.T.astype(float) @ X / n)[-1])
    with pytest.raises(sgdm.DivergenceError) as caught:
        sgdm.fit(X, y, lr=1e3 * limit)
    assert 0.85 * limit < caught.value.max_lr < limit


# The package itself


def test_import_is_light(run_python):
    """What only some programs need is imported when they need it: it would double the time of the import."""
    heavy = ["json", "zipfile", "logging", "concurrent.futures", "matplotlib", "sklearn", "tqdm", "dask", "pyarrow"]
    script = (
        f"import sys, numpy; had = set(sys.modules); import sgdm; print(*({set(heavy)} & (set(sys.modules) - had)))"
    )
    process = run_python(script)
    assert (process.returncode, process.stdout.split()) == (0, [])


def test_warnings_name_the_callers_line():
    X, y = make_data()
    reduced = sgdm.compress(X, y)
    for fit in (lambda: sgdm.fit(X, y, lr=30.0, epochs=9), lambda: reduced.fit(lr=30.0, epochs=9)):
        with pytest.warns(sgdm.ConvergenceWarning) as caught:
            fit()
        assert caught[0].filename == __file__
