"""Training control: mini-batches, averages, schedules, penalties, validation and patience, and what is refused."""

import dataclasses
import json
import math
import re
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import sgdm
from sgdm import schedules

TORCH = dict(np.load(Path(__file__).with_name("data") / "torch_sgd.npz"))
TORCH_RUNS = {
    name: run
    for name, run in json.loads(str(TORCH["meta"])).items()
    if run["batch_size"] is not None or isinstance(run["lr"], list)
}
FORMS = {
    "ema": {"momentum": 0.8},
    "heavy ball": {"momentum": 0.9, "dampening": 0.0},
    "partial dampening": {"momentum": 0.7, "dampening": 0.3},
    "plain": {"momentum": 0.0},
    "nesterov": {"momentum": 0.9, "dampening": 0.0, "nesterov": True},
    "nesterov ema": {"momentum": 0.8, "nesterov": True},
}
HISTORIES = ("loss", "grad", "step", "coef")
N, D = 30, 3

layouts = pytest.mark.parametrize("order", ["C", "F"])
dtypes = pytest.mark.parametrize("dtype", [np.float64, np.float32])
intercepts = pytest.mark.parametrize("fit_intercept", [False, True])


def make_data(n=N, d=D, targets=None, dtype=np.float64, order="C", seed=0, noise=0.5):
    """X, and y = X @ truth + 1 + noise: any sensible fit of it ends below where it began."""
    rng = np.random.default_rng(seed)
    X = np.asarray(rng.standard_normal((n, d)), dtype, order=order)
    slot = () if targets is None else (targets,)
    y = X @ rng.uniform(1, 2, (d, *slot)) + 1 + noise * rng.standard_normal((n, *slot))
    return X, y.astype(dtype)


def params(result):
    """The parameters as coef0 takes them: the intercept last, if there is one."""
    if len(result.velocity) == len(result.coef):
        return result.coef
    return np.concatenate([result.coef, np.reshape(result.intercept, (1, *result.coef.shape[1:]))])


def mse(X, y, coef, weights=None):
    """The mean squared error of coef, which ends with an intercept if it is one longer than the rows of X."""
    Z = np.column_stack([X, np.ones(len(X))])[:, : len(coef)]
    return np.average((Z @ coef - y) ** 2, axis=0, weights=weights)


def assert_close(result, expected, factor=64):
    """Equal histories and parameters, within factor * eps of the largest number of each."""
    pairs = [(params(result), params(expected))]
    pairs += [(getattr(result.history, name), getattr(expected.history, name)) for name in HISTORIES]
    for ours, theirs in pairs:
        eps = np.finfo(expected.coef.dtype).eps
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=factor * eps * np.abs(theirs).max())


# torch.optim.SGD


def test_torch_runs_are_all_there():
    assert sorted(TORCH_RUNS) == ["lr_schedule", "minibatch_in_order_16", "minibatch_ragged_24"]


@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-12), ("float32", 2e-5)])
@layouts
@pytest.mark.parametrize("name", TORCH_RUNS)
def test_torch(name, order, dtype, tolerance):
    run = {"dampening": 0.0, **TORCH_RUNS[name]}
    problem = run.pop("problem")
    X, y, coef0 = (TORCH[f"{array}_{problem}"].astype(dtype) for array in ("X", "y", "coef0"))
    X = np.asarray(X, order=order)
    result = sgdm.fit(X, y, coef0=coef0, shuffle=False, record="updates", **run)
    history = result.history
    ours = {"loss": history.loss, "grad": history.grad, "buffer": history.step, "coef": history.coef}
    for key, array in {**ours, "final": result.coef}.items():
        assert array.dtype == dtype
        theirs = TORCH[f"{name}/{dtype}/{key}"]
        np.testing.assert_allclose(array, theirs, rtol=0, atol=tolerance * np.abs(theirs).max(), err_msg=key)


# The NumPy oracle

EDGES = st.sampled_from([1, 2, 3, 7, 8, 9, 15, 16, 17, 24, 31, 32, 33])
PROBLEMS = st.fixed_dictionaries(
    {
        "n": st.one_of(EDGES, st.integers(1, 70)),
        "d": st.one_of(EDGES, st.integers(1, 40)),
        "targets": st.sampled_from([None, 1, 3]),
        "form": st.sampled_from(sorted(FORMS)),
        "weighted": st.booleans(),
        "scheduled": st.sampled_from([(), ("lr",), ("momentum",), ("lr", "momentum")]),
        "seed": st.integers(0, 2**32 - 1),
    }
)
OPTIONS = st.fixed_dictionaries(
    {
        "fit_intercept": st.booleans(),
        "weight_decay": st.sampled_from([0.0, 0.1]),
        "l1": st.sampled_from([0.0, 0.05, 1.0]),
        "batch_size": st.one_of(st.none(), EDGES, st.integers(1, 80)),
        "shuffle": st.booleans(),
        "average": st.sampled_from([False, True, 3]),
        "record": st.sampled_from(["all", "updates"]),
        "record_every": st.sampled_from([1, 1, 2, 3, 7]),
    }
)


def make_problem(dtype, order, n, d, targets, form, weighted, scheduled, seed, epochs=6, **options):
    """X, y and the options of a fit that is stable whatever the batches: lr goes by the longest row.

    No residual at the start is small and none points elsewhere than the others, lest cancellation leave the first
    gradients no scale to compare with.
    """
    rng = np.random.default_rng(seed)
    slot = () if targets is None else (targets,)
    X = np.asarray(rng.standard_normal((n, d)), dtype, order=order)
    p = d + options["fit_intercept"]
    coef0 = rng.standard_normal((p, *slot)).astype(dtype)
    Z = np.column_stack([X, np.ones(n)])[:, :p]
    uphill = Z @ rng.standard_normal((p, *slot)) > 0
    y = (Z @ coef0 + np.where(uphill, -1, 1) * rng.uniform(1, 2, (n, *slot)) * math.sqrt(p)).astype(dtype)
    lr = 0.5 / (2 * ((X.astype(float) ** 2).sum(1).max() + 1) + options["weight_decay"])
    options |= {"lr": lr, "coef0": coef0, "epochs": epochs, **FORMS[form]}
    for name in scheduled:
        options[name] = options[name] * rng.uniform(0.2, 1, epochs)
    if weighted:
        options["sample_weight"] = rng.uniform(0.1, 2, n).astype(dtype)
    if options["batch_size"] is not None and options["shuffle"]:
        options["seed"] = seed
    return X, y, options


def oracle_error(reference, X, y, options):
    """The largest difference of a fit from the oracle, in eps of the largest number of its kind."""
    every = options.pop("record_every", 1)
    twin = reference.fit(X, y, **options)
    updates = reference.fit(X, y, **{**options, "record": "updates"}).history
    result = sgdm.fit(X, y, record_every=every, **options)
    assert np.array_equal(result.history.epoch, twin.row_epochs[::every])
    pairs = [(name, getattr(result.history, name), array[::every]) for name, array in vars(twin.history).items()]
    pairs += [("coef", params(result), twin.params), ("step", result.velocity, twin.velocity)]
    if options["average"] is False:
        assert result.average_coef is result.average_intercept is None
    else:
        average = dataclasses.replace(result, coef=result.average_coef, intercept=result.average_intercept)
        pairs.append(("coef", params(average), twin.average))
    errors = []
    for name, ours, theirs in pairs:
        scale = np.finfo(X.dtype).eps * np.abs(getattr(updates, name)).max()
        assert (ours.dtype, ours.shape) == (X.dtype, theirs.shape), name
        errors.append(np.abs(ours - theirs).max() / scale)
    return max(errors)


FACTOR = 64  # measured over 80 000 draws: at most 41 eps, with l1 and batches of one row


@pytest.mark.parametrize("kind", ["PCG64", "PCG64DXSM", "MT19937", "Philox", "SFC64"])
def test_orders_are_those_of_numpy(kind):
    """Row by row with lr 0 and y = 1, the gradients -2 x name the rows in the order they were taken."""
    ours, numpys = (np.random.Generator(getattr(np.random, kind)(3)) for _ in range(2))
    for n in [1, 2, 3, 4, 5, 63, 64, 65, 66, 127, 128, 129, 1000, 5000]:
        result = sgdm.fit(
            np.arange(n, dtype=float)[:, np.newaxis],
            np.ones(n),
            lr=0,
            epochs=3,
            batch_size=1,
            seed=ours,
            record="updates",
        )
        taken = result.history.grad[:, 0] / -2
        expected = [numpys.permutation(n) for _ in range(3)] if n > 1 else np.zeros((3, 1))
        np.testing.assert_array_equal(taken, np.ravel(expected))
        assert ours.bit_generator.state["state"].keys() == numpys.bit_generator.state["state"].keys()
        np.testing.assert_equal(ours.bit_generator.state, numpys.bit_generator.state)


@pytest.mark.filterwarnings("ignore::sgdm.ConvergenceWarning")  # noise and penalties may win in six epochs
@dtypes
@layouts
def test_oracle(reference, draws, order, dtype):
    @settings(max_examples=draws(300), derandomize=True, database=None, deadline=None)
    @given(PROBLEMS, OPTIONS)
    def check(problem, options):
        X, y, options = make_problem(dtype, order, **problem, **options)
        assert oracle_error(reference, X, y, options) <= FACTOR

    check()


@dtypes
@layouts
@pytest.mark.parametrize(("n", "d"), [(3000, 4), (1500, 50), (700, 130)])
def test_oracle_over_many_blocks(reference, n, d, order, dtype):
    """Batches that hold several of the kernel's blocks, the last one ragged."""
    options = {"fit_intercept": True, "weight_decay": 0.1, "l1": 0.05, "average": True, "record": "updates"}
    for shuffle in (True, False):
        problem = (dtype, order, n, d, 3, "nesterov ema", True, ("lr",), n)
        X, y, drawn = make_problem(*problem, **options, batch_size=600, shuffle=shuffle)
        assert oracle_error(reference, X, y, drawn) <= 2 * FACTOR


LEVELS_SCRIPT = """
import hashlib, itertools, warnings
import numpy as np, sgdm

warnings.simplefilter("ignore", sgdm.ConvergenceWarning)
digest = hashlib.sha256()
for (n, d), dtype, order, k in itertools.product([(7, 3), (64, 16), (300, 41)], ("f8", "f4"), "CF", (1, 3)):
    rng = np.random.default_rng(n)
    X, y = rng.standard_normal((n, d)).astype(dtype, order=order), rng.standard_normal((n, k)).astype(dtype)
    for weights, b in itertools.product((None, rng.uniform(0.5, 2, n)), (1, 20)):
        result = sgdm.fit(X, y, lr=0.005, epochs=5, sample_weight=weights, fit_intercept=weights is None, l1=0.01,
                          weight_decay=0.01, batch_size=b, seed=1, average=True, validation=(X, y), record="updates")
        for array in (result.coef, result.average_coef, result.velocity, *vars(result.history).values()):
            digest.update(np.ascontiguousarray(array).tobytes())
print(digest.hexdigest())
"""


def test_cpu_levels_give_the_same_bits(run_python):
    best = run_python("import sgdm._kernel as k; print(*k.LEVELS[: k.LEVELS.index(k.ISA) + 1])", SGDM_ISA=None)
    runs = [run_python(LEVELS_SCRIPT, SGDM_ISA=level) for level in best.stdout.split()]
    assert [run.returncode for run in runs] == [0] * len(runs), runs[0].stderr
    assert len({run.stdout for run in runs}) == 1


# Mini-batches


@dtypes
@layouts
@pytest.mark.parametrize(("n", "d", "targets"), [(60, 5, None), (600, 20, 3)])
def test_one_batch_is_the_full_batch(n, d, targets, order, dtype):
    X, y = make_data(n, d, targets, dtype, order)
    weights = np.random.default_rng(1).uniform(0, 2, n)
    options = {"fit_intercept": True, "sample_weight": weights, "lr": 0.05, "momentum": 0.9, "l1": 0.1}
    full = sgdm.fit(X, y, **options)
    one = sgdm.fit(X, y, batch_size=n, shuffle=False, **options)
    assert_close(one, full)
    assert_close(sgdm.fit(X, y, batch_size=n, seed=0, **options), full)
    for more in (n + 1, 10 * n, sys.maxsize):
        larger = sgdm.fit(X, y, batch_size=more, shuffle=False, **options)
        assert larger == one
        assert len(larger.history) == 50


@intercepts
def test_batches_of_one_row_are_sgdregressor(fit_intercept):
    linear_model = pytest.importorskip("sklearn.linear_model")
    X, y = make_data(200, 7)
    theirs = linear_model.SGDRegressor(
        penalty=None, learning_rate="constant", eta0=0.02, shuffle=False, max_iter=3, tol=None,
        fit_intercept=fit_intercept,
    ).fit(X, y)  # fmt: skip
    ours = sgdm.fit(X, y, lr=0.01, momentum=0, batch_size=1, shuffle=False, epochs=3, fit_intercept=fit_intercept)
    np.testing.assert_allclose(ours.coef, theirs.coef_, rtol=0, atol=1e-13)
    np.testing.assert_allclose(ours.intercept, theirs.intercept_ if fit_intercept else 0, rtol=0, atol=1e-13)


def seeds():
    rng = np.random.Generator(np.random.MT19937(3))
    return {"int": 5, "SeedSequence": np.random.SeedSequence(7), "Generator": rng, "Philox": np.random.Philox(4)}


@pytest.mark.parametrize("kind", seeds())
def test_order_of_rows(kind):
    """Without steps, the loss of a batch of one row says which row it was."""
    X, y = make_data()
    result = sgdm.fit(X, y, lr=0, batch_size=1, seed=(seed := seeds()[kind]), epochs=4, record="updates")
    generator = np.random.default_rng(seeds()[kind])
    expected = np.concatenate([generator.permutation(N) for _ in range(4)])
    np.testing.assert_allclose(result.history.loss, y[expected] ** 2, rtol=1e-15)
    assert np.array_equal(result.history.epoch, np.repeat(range(4), N))
    if isinstance(seed, np.random.Generator):  # it stands where its permutations left it
        assert seed.random() == generator.random()


def test_without_a_seed_orders_differ():
    X, y = make_data()
    losses = [sgdm.fit(X, y, lr=0, batch_size=1, epochs=1, record="updates").history.loss for _ in range(2)]
    assert not np.array_equal(*losses)
    assert np.array_equal(*np.sort(losses))


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("targets", [None, 2])
def test_batches_average_over_their_own_rows(targets, weighted):
    """By hand: seven rows in batches of three, the last of one; and the running loss of the epoch."""
    X, y = make_data(7, targets=targets)
    weights = np.arange(1.0, 8) if weighted else None
    options = {"sample_weight": weights, "batch_size": 3, "shuffle": False, "epochs": 2}
    history = sgdm.fit(X, y, record="updates", **options).history
    w = np.ones(7) if weights is None else weights
    losses = []
    for update, coef in enumerate(history.coef):
        rows = slice(3 * (update % 3), 3 * (update % 3) + 3)
        r = (X[rows] @ coef - y[rows]).T
        losses.append(np.average(r.T**2, axis=0, weights=w[rows]))
        np.testing.assert_allclose(history.loss[update], losses[-1], rtol=1e-13)
        np.testing.assert_allclose(history.grad[update].T, 2 * (w[rows] * r) @ X[rows] / w[rows].sum(), rtol=1e-12)
    running = np.average(np.reshape(losses, (2, 3, *y.shape[1:])), 1, [w[:3].sum(), w[3:6].sum(), w[6]])
    per_epoch = sgdm.fit(X, y, **options).history
    np.testing.assert_allclose(per_epoch.loss, running, rtol=1e-13)
    for name in ("grad", "step", "coef"):
        assert np.array_equal(getattr(per_epoch, name), getattr(history, name)[2::3])


@layouts
@pytest.mark.parametrize("zeros", [range(5), range(5, 10), range(25, 30)])
def test_a_batch_without_weight_teaches_nothing(zeros, order):
    X, y = make_data(order=order)
    weights = np.ones(N)
    weights[zeros] = 0
    result = sgdm.fit(X, y, batch_size=5, shuffle=False, sample_weight=weights, record="updates", fit_intercept=True)
    history, empty = result.history, zeros[0] // 5
    assert all(np.isfinite(getattr(history, name)).all() for name in HISTORIES)
    assert not history.loss[empty::6].any()
    assert not history.grad[empty::6].any()
    after = np.arange(300)[empty::6]
    after = after[after > 0]
    np.testing.assert_allclose(history.step[after], 0.8 * history.step[after - 1], rtol=1e-15)
    shuffled = sgdm.fit(X, y, batch_size=1, seed=0, sample_weight=weights, validation=(X, y, weights), average=True)
    assert np.isfinite([shuffled.coef, shuffled.average_coef]).all()
    assert np.isfinite([shuffled.history.loss, shuffled.history.val_loss]).all()


@pytest.mark.parametrize("batch_size", [None, 7])
@pytest.mark.parametrize("targets", [None, 2])
@intercepts
def test_average_is_the_mean_of_the_iterates(fit_intercept, targets, batch_size):
    X, y = make_data(targets=targets)
    options = {"batch_size": batch_size, "shuffle": False, "record": "updates", "fit_intercept": fit_intercept}
    plain = sgdm.fit(X, y, epochs=9, **options)
    iterates = np.concatenate([plain.history.coef[1:], params(plain)[None]])
    assert plain.average_coef is plain.average_intercept is None
    for average, start in ((True, 0), (0, 0), (6, 6), (8, 8), (20, None)):
        result = sgdm.fit(X, y, epochs=9, average=average, **options)
        expected = iterates[-1] if start is None else iterates[plain.history.epoch >= start].mean(axis=0)
        np.testing.assert_allclose(result.average_coef, expected[:D], rtol=1e-13)
        np.testing.assert_allclose(result.average_intercept, expected[D] if fit_intercept else 0, rtol=1e-13)
        assert np.array_equal(result.coef, plain.coef)


def test_averaging_evens_out_the_noise_of_batches():
    X, y = make_data(500, noise=1)
    options = {"lr": 0.05, "batch_size": 4, "seed": 0, "fit_intercept": True, "average": 20}
    result = sgdm.fit(X, y, epochs=100, **options)
    Z = np.column_stack([X, np.ones(500)])
    minimum = np.linalg.lstsq(Z, y, rcond=None)[0]
    average = np.append(result.average_coef, result.average_intercept)
    assert np.linalg.norm(average - minimum) < 0.2 * np.linalg.norm(params(result) - minimum)


def test_threads_get_the_same_bits():
    X, y = make_data(3000, 9)

    def run(_):
        return sgdm.fit(X, y, batch_size=8, seed=1, epochs=10, average=True, validation=0.1, lr=0.01)

    with ThreadPoolExecutor(4) as pool:
        first, *others = pool.map(run, range(8))
    assert all(other == first for other in others)


# Penalties

ALPHA, RATIO = 0.3, 0.7
ELASTIC = {"l1": 2 * ALPHA * RATIO, "weight_decay": 2 * ALPHA * (1 - RATIO)}
SPARSE = np.array([3, -2, 0, 0, 1.5, 0, 0, 0, 0.5, 0])


def sparse_data(targets=None, order="C", noise=0.5):
    X, _ = make_data(80, 10, order=order)
    truth = SPARSE if targets is None else np.column_stack([np.roll(SPARSE, t) for t in range(targets)])
    y = X @ truth + 2 + noise * np.random.default_rng(1).standard_normal((80, *truth.shape[1:]))
    return X, y, np.random.default_rng(2).uniform(0.2, 2, 80)


def elastic_net(X, y, weights, fit_intercept):
    linear_model = pytest.importorskip("sklearn.linear_model")
    net = linear_model.ElasticNet(
        alpha=ALPHA, l1_ratio=RATIO, fit_intercept=fit_intercept, tol=1e-13, max_iter=10**6
    )  # fmt: skip
    return net.fit(X, y, sample_weight=weights)


def assert_exact_zeros(coef, expected):
    assert np.array_equal(coef == 0, expected)
    assert expected.any()
    assert not np.signbit(coef[coef == 0]).any()


@layouts
@intercepts
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("targets", [None, 2])
@pytest.mark.parametrize("form", FORMS)
def test_elastic_net(form, targets, weighted, fit_intercept, order):
    X, y, weights = sparse_data(targets, order)
    weights = weights if weighted else None
    theirs = elastic_net(X, y, weights, fit_intercept)
    undamped = 1 - FORMS[form].get("dampening", FORMS[form]["momentum"])
    options = {"lr": 0.1 / undamped, "fit_intercept": fit_intercept, **ELASTIC, **FORMS[form]}
    ours = sgdm.fit(X, y, sample_weight=weights, epochs=2000, record=None, **options)
    np.testing.assert_allclose(ours.coef, theirs.coef_.T, rtol=0, atol=1e-11)
    np.testing.assert_allclose(ours.intercept, theirs.intercept_ if fit_intercept else 0, rtol=0, atol=1e-11)
    assert_exact_zeros(ours.coef, theirs.coef_.T == 0)


@layouts
@dtypes
@pytest.mark.parametrize("batch_size", [None, 16])
def test_a_large_penalty_leaves_the_intercept_alone(batch_size, dtype, order):
    X, y, _ = sparse_data(order=order)
    X, y = np.asarray(X, dtype, order=order), y.astype(dtype)
    coef0 = np.append(np.linspace(-1, 1, 10), 1)
    lr = 0.01 if batch_size is None else schedules.cosine(600, 0.01)
    options = {"lr": lr, "fit_intercept": True, "coef0": coef0, "batch_size": batch_size, "shuffle": False}
    for penalty in ({"l1": 100.0}, {"l1": 100.0, "weight_decay": 5.0}):
        result = sgdm.fit(X, y, epochs=600, **options, **penalty)
        assert_exact_zeros(result.coef, np.ones(10, bool))
        assert result.intercept == pytest.approx(y.mean(), rel=1e-2 if batch_size else 1e-5)


@pytest.mark.parametrize("batch_size", [1, 16])
def test_elastic_net_by_mini_batches(batch_size):
    X, y, _ = sparse_data()
    theirs = elastic_net(X, y, None, True)
    rates = schedules.inverse_scaling(1500, 0.01 if batch_size == 1 else 0.2, 0.75)
    ours = sgdm.fit(X, y, lr=rates, epochs=1500, batch_size=batch_size, seed=0, fit_intercept=True, **ELASTIC)
    np.testing.assert_allclose(ours.coef, theirs.coef_, rtol=0, atol=0.01)
    assert ours.intercept == pytest.approx(theirs.intercept_, abs=0.01)
    if batch_size > 1:
        assert_exact_zeros(ours.coef, theirs.coef_ == 0)


@intercepts
@pytest.mark.parametrize("form", FORMS)
def test_tol_with_l1_stops_near_the_optimum(form, fit_intercept):
    X, y, _ = sparse_data()
    theirs = elastic_net(X, y, None, fit_intercept)
    undamped = 1 - FORMS[form].get("dampening", FORMS[form]["momentum"])
    options = {"lr": 0.1 / undamped, "fit_intercept": fit_intercept, **ELASTIC, **FORMS[form]}
    result = sgdm.fit(X, y, tol=1e-6, epochs=5000, **options)
    assert result.status == "converged"
    assert 10 < result.epochs < 5000
    np.testing.assert_allclose(result.coef, theirs.coef_, rtol=0, atol=1e-5)
    before = sgdm.fit(X, y, tol=1e-6, epochs=result.epochs - 1, **options)
    assert before.status == "completed"


def test_tol_where_the_start_is_the_optimum():
    X, y, _ = sparse_data()
    result = sgdm.fit(X, y, l1=1e3, tol=0.0, epochs=20)
    assert (result.status, result.epochs) == ("converged", 1)
    assert not result.coef.any()


# Schedules


@pytest.mark.parametrize("epochs", [1, 2, 3, 40, 101])
@pytest.mark.parametrize("pct_start", [0.0, 0.25, 0.5, 1.0])
def test_one_cycle(epochs, pct_start):
    lr, momentum = schedules.one_cycle(epochs, 2.0, pct_start=pct_start, div=10, final_div=100, momentum=(0.9, 0.7))
    assert lr.shape == momentum.shape == (epochs,)
    assert lr.dtype == momentum.dtype == np.float64
    peak = round(pct_start * (epochs - 1))
    assert np.argmax(lr) == np.argmin(momentum) == peak
    assert (lr[peak], momentum[peak]) == (2.0, 0.7)
    assert np.all(np.diff(lr[: peak + 1]) > 0)
    assert np.all(np.diff(lr[peak:]) < 0)
    if peak > 0:
        assert (lr[0], momentum[0]) == pytest.approx((0.2, 0.9))
        rise = (lr[: peak + 1] - 0.2) / 1.8
        np.testing.assert_allclose((0.9 - momentum[: peak + 1]) / 0.2, rise, atol=1e-12)
    if peak < epochs - 1:
        assert (lr[-1], momentum[-1]) == pytest.approx((0.02, 0.9))
        np.testing.assert_allclose((0.9 - momentum[peak:]) / 0.2, (lr[peak:] - 0.02) / 1.98, atol=1e-12)


def test_shapes_and_ends_of_schedules():
    t = np.arange(21)
    made = {
        "cosine": (schedules.cosine(21, 0.5, 0.1), 0.1 + 0.4 * (1 + np.cos(np.pi * t / 20)) / 2),
        "to zero": (schedules.cosine(21, 0.5), 0.5 * (1 + np.cos(np.pi * t / 20)) / 2),
        "exponential": (schedules.exponential(21, 0.5, 0.9), 0.5 * 0.9**t),
        "inverse": (schedules.inverse_scaling(21, 0.5), 0.5 / (t + 1) ** 0.25),
        "warm-up": (schedules.warm_up(np.full(21, 0.5), 4), 0.5 * np.minimum(t + 1, 5) / 5),
    }
    for name, (array, expected) in made.items():
        np.testing.assert_allclose(array, expected, rtol=1e-14, atol=1e-17, err_msg=name)
        assert type(array) is np.ndarray
    for one in (schedules.cosine(1, 0.5), schedules.exponential(1, 0.5, 0.9), schedules.inverse_scaling(1, 0.5)):
        assert one.tolist() == [0.5]
    given = np.full(5, 0.5)
    schedules.warm_up(given, 4)
    assert schedules.inverse_scaling(3, 0.5, 1e300).tolist() == [0.5, 0, 0]  # without a warning of the overflow
    assert given.tolist() == [0.5] * 5


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: schedules.cosine(0, 0.1), ValueError, "epochs must be at least 1, got 0"),
        (lambda: schedules.cosine(2.5, 0.1), TypeError, "epochs must be a whole number, got 2.5 of type float"),
        (lambda: schedules.cosine(5, -1), ValueError, "lr must be finite and not negative, got -1"),
        (lambda: schedules.cosine(5, 1, math.nan), ValueError, "final must be finite and not negative, got nan"),
        (lambda: schedules.exponential(5, "1", 0.5), TypeError, "lr must be a number, got '1' of type str"),
        (lambda: schedules.exponential(5, 1, -0.5), ValueError, "gamma must be finite and not negative, got -0.5"),
        (lambda: schedules.inverse_scaling(5, 1, -1), ValueError, "power must be finite and not negative, got -1"),
        (lambda: schedules.one_cycle(True, 1), TypeError, "epochs must be a whole number, got True"),
        (lambda: schedules.one_cycle(5, math.inf), ValueError, "max_lr must be finite and not negative, got inf"),
        (lambda: schedules.one_cycle(5, 1, pct_start=1.5), ValueError, "pct_start must be in [0, 1], got 1.5"),
        (lambda: schedules.one_cycle(5, 1, div=0), ValueError, "div must be above 0, got 0"),
        (lambda: schedules.one_cycle(5, 1, final_div=0.0), ValueError, "final_div must be above 0, got 0.0"),
        (lambda: schedules.one_cycle(5, 1, momentum=(0.9, 1)), ValueError, "momentum must be in [0, 1), got 1"),
        (lambda: schedules.one_cycle(5, 1, momentum=0.9), TypeError, "momentum must be "),
        (lambda: schedules.one_cycle(5, 1, momentum=(0.9,)), ValueError, "momentum must be "),
        (lambda: schedules.warm_up(np.ones(3), 0), ValueError, "epochs must be at least 1, got 0"),
        (lambda: schedules.warm_up(np.ones(3), 3), ValueError,
         "schedule must be 1-D and longer than the 3 epochs of warm-up, got (3,)"),
        (lambda: schedules.warm_up(np.ones((3, 2)), 1), ValueError, "schedule must be 1-D and longer than the 1 epoch"),
        (lambda: schedules.warm_up(["a", "b"], 1), TypeError, "schedule must hold real numbers, got dtype <U1"),
        (lambda: schedules.warm_up([0.1, 1j], 1), TypeError, "schedule must hold real numbers, got dtype complex128"),
        (lambda: schedules.warm_up([[0.1], [0.1, 0.2]], 1), ValueError, "schedule must be rectangular"),
        (lambda: schedules.warm_up([0.1, 0.1, math.inf], 1), ValueError, "schedule must be finite, got inf at epoch 2"),
        (lambda: schedules.exponential(1000, 0.1, 2.5), ValueError, "lr * gamma ** t must be finite, got gamma=2.5"),
        (lambda: schedules.one_cycle(9, 1e10, div=1e-300), ValueError, "max_lr / div must be finite, got 1e+10 / 1e-3"),
        (lambda: schedules.one_cycle(9, 1e10, final_div=1e-300), ValueError, "max_lr / final_div must be finite"),
        (lambda: schedules.warm_up(0.1, 1), ValueError, "schedule must be 1-D and longer than the 1 epochs"),
    ],
)  # fmt: skip
def test_schedules_refuse(make, error, message):
    with pytest.raises(error, match="^" + re.escape(message)):
        make()


@pytest.mark.parametrize("name", ["lr", "momentum"])
@pytest.mark.parametrize("batch_size", [None, 7])
def test_a_schedule_in_any_form(name, batch_size):
    X, y = make_data()
    rates = np.linspace(0.3, 0.1, 12)
    options = {"epochs": 12, "batch_size": batch_size, "shuffle": False}
    expected = sgdm.fit(X, y, **options, **{name: rates})
    for form in (rates.tolist(), tuple(rates), lambda t: rates[t], lambda t: float(rates[t])):
        assert sgdm.fit(X, y, **options, **{name: form}) == expected
    constant = sgdm.fit(X, y, **options, **{name: 0.25})
    for form in (np.full(12, 0.25), np.full(12, 0.25, np.float32), lambda t: 0.25):
        assert sgdm.fit(X, y, **options, **{name: form}) == constant
    assert constant != expected


def test_a_function_gets_the_epochs_of_the_whole_fit():
    X, y = make_data()
    calls = []

    def lr(epoch):
        calls.append(epoch)
        return 0.1

    first = sgdm.fit(X, y, lr=lr, epochs=3)
    sgdm.fit(X, y, lr=lr, momentum=lr, epochs=2, init=first)
    assert calls == [0, 1, 2, 3, 4, 3, 4]
    assert all(type(call) is int for call in calls)


def test_one_cycle_fits():
    X, y = make_data()
    lr, momentum = schedules.one_cycle(200, 0.3)
    result = sgdm.fit(X, y, lr=lr, momentum=momentum, dampening=0.0, epochs=200, fit_intercept=True)
    minimum = np.linalg.lstsq(np.column_stack([X, np.ones(N)]), y, rcond=None)[0]
    np.testing.assert_allclose(params(result), minimum, rtol=0, atol=1e-4)


# Validation and patience


@dtypes
@layouts
@intercepts
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("targets", [None, 2])
@pytest.mark.parametrize("batch_size", [None, 7])
def test_validation_loss(batch_size, targets, weighted, fit_intercept, order, dtype):
    """Of the coefficients after each epoch; the fit is the same without."""
    X, y = make_data(targets=targets, dtype=dtype)
    X_val, y_val = make_data(21, targets=targets, dtype=dtype, order=order, seed=1)
    weights = np.random.default_rng(2).uniform(0, 2, 21) if weighted else None
    held_out = (X_val, y_val, weights) if weighted else (X_val, y_val)
    options = {"batch_size": batch_size, "shuffle": False, "epochs": 8, "fit_intercept": fit_intercept}
    result = sgdm.fit(X, y, validation=held_out, **options)
    expected = [
        mse(X_val.astype(float), y_val, params(sgdm.fit(X, y, **{**options, "epochs": t + 1})), weights)
        for t in range(8)
    ]
    assert result.history.val_loss.dtype == dtype
    assert result.history.val_loss.shape == (8, *y.shape[1:])
    np.testing.assert_allclose(result.history.val_loss, expected, rtol=50 * np.finfo(dtype).eps)
    plain = sgdm.fit(X, y, **options)
    assert np.array_equal(result.coef, plain.coef)
    assert dataclasses.replace(result.history, val_loss=None) == plain.history
    assert result.best_epoch == np.argmin(np.sum(result.history.val_loss.reshape(8, -1), axis=1))
    assert plain.best_epoch is plain.history.val_loss is None
    every = sgdm.fit(X, y, validation=list(held_out), record="updates", record_every=3, **options)
    assert np.array_equal(every.history.val_loss, result.history.val_loss[::3])
    assert sgdm.fit(X, y, validation=held_out, record="loss", **options).history.val_loss.shape == (8, *y.shape[1:])
    assert sgdm.fit(X, y, validation=held_out, record=None, **options).best_epoch == result.best_epoch


@layouts
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("targets", [None, 2])
@pytest.mark.parametrize("batch", [{}, {"batch_size": 4}])
@pytest.mark.parametrize(("fraction", "count"), [(0.2, 6), (0.21, 7), (0.5, 15), (0.01, 1)])
def test_validation_fraction(fraction, count, batch, targets, weighted, order):
    """The first rows of a permutation are held out, the others stay in order; then come the epochs' permutations."""
    X, y = make_data(targets=targets, order=order)
    weights = np.random.default_rng(2).uniform(0, 2, N) if weighted else None
    options = {"epochs": 10, "fit_intercept": True, **batch}
    given = {**options, "validation": fraction, "sample_weight": weights}
    result = sgdm.fit(X, y, seed=5, **given)
    generator = np.random.default_rng(5)
    chosen = np.sort(generator.permutation(N)[:count])
    rest = np.setdiff1d(range(N), chosen)
    options["validation"] = (X[chosen], y[chosen]) + ((weights[chosen],) if weighted else ())
    if weighted:
        options["sample_weight"] = weights[rest]
    if batch:
        options["seed"] = generator
    expected = sgdm.fit(X[rest], y[rest], **options)
    assert dataclasses.replace(result, checkpoint=expected.checkpoint) == expected
    assert sgdm.fit(X, y, seed=5, **given) == result
    assert sgdm.fit(X, y, seed=6, **given) != result


def overfitting(targets=None, seed=1):
    """More columns than rows tell: the validation loss falls, then rises."""
    X, y = make_data(25, 20, targets, seed=seed, noise=4)
    return X, y, make_data(400, 20, targets, seed=seed + 100, noise=4)


@pytest.mark.parametrize("targets", [None, 3])
@pytest.mark.parametrize("tol", [None, 0.0, 0.003])
@pytest.mark.parametrize("batch", [{}, {"batch_size": 10, "seed": 1}])
@pytest.mark.parametrize("patience", [1, 5, 40])
def test_patience(patience, batch, tol, targets):
    X, y, held_out = overfitting(targets)
    options = {"lr": 0.02, "fit_intercept": True, "validation": held_out, **batch}
    result = sgdm.fit(X, y, epochs=2000, patience=patience, tol=tol, **options)
    assert result.status == "stopped"
    val = result.history.val_loss.reshape(result.epochs, -1).mean(axis=1)
    best = 0
    for t, loss in enumerate(val):
        if loss < val[best] * (1 - (tol or 0)):
            best = t
    assert result.best_epoch == best
    assert tol or best == np.argmin(val)
    assert result.epochs == best + patience + 1
    shorter = sgdm.fit(X, y, epochs=best + 1, **options)
    assert np.array_equal(params(result), params(shorter))
    longer = sgdm.fit(X, y, epochs=result.epochs, **options)
    assert result.history == longer.history
    assert np.array_equal(result.velocity, longer.velocity)
    assert not np.array_equal(params(result), params(longer))


def test_patience_that_lasts():
    """Then too the best epoch's coefficients come back."""
    X, y, held_out = overfitting()
    result = sgdm.fit(X, y, lr=0.02, epochs=300, validation=held_out, patience=1000)
    assert result.status == "completed"
    assert 5 < result.best_epoch < 295
    best = sgdm.fit(X, y, lr=0.02, epochs=result.best_epoch + 1)
    assert np.array_equal(result.coef, best.coef)
    assert len(result.history) == 300


def test_tol_without_patience_is_about_the_gradient():
    X, y, held_out = overfitting()
    result = sgdm.fit(X, y, lr=0.02, epochs=2000, tol=0.05, validation=held_out)
    plain = sgdm.fit(X, y, lr=0.02, epochs=2000, tol=0.05)
    assert result.status == plain.status == "converged"
    assert np.array_equal(result.coef, plain.coef)


# What is refused


def refuse(error, message, X=None, y=None, **options):
    """fit() raises `error` with a message that starts so."""
    given = make_data()
    with pytest.raises(error, match="^" + re.escape(message)) as caught:
        sgdm.fit(given[0] if X is None else X, given[1] if y is None else y, **options)
    return caught.value


X30, Y30 = make_data()
SHUFFLED = sgdm.fit(X30, Y30, batch_size=10, seed=0, epochs=2)
FULL = sgdm.fit(X30, Y30, epochs=2)
VALIDATED = sgdm.fit(X30, Y30, epochs=2, validation=(X30, Y30))
RANDOM = "seed has no effect here: it needs batch_size with shuffle=True, or a fraction as validation"
TOGETHER = {
    "init and coef0": ({"init": FULL, "coef0": np.zeros(D)}, "init and coef0 both say where to start"),
    "init and seed": (
        {"init": SHUFFLED, "batch_size": 10, "seed": 1},
        "init and seed both set the row generator; leave seed out",
    ),
    "seed alone": ({"seed": 1}, RANDOM),
    "seed without shuffle": ({"seed": 1, "batch_size": 5, "shuffle": False}, RANDOM),
    "seed and validation rows": ({"seed": 1, "validation": (X30, Y30)}, RANDOM),
    "patience alone": ({"patience": 3}, "patience needs validation rows to watch; give validation, or tol"),
    "patience and tol": ({"patience": 3, "tol": 0.1}, "patience needs validation rows to watch"),
    "tol and batch_size": ({"tol": 1e-3, "batch_size": 5}, "tol and batch_size don't go together"),
    "tol and validation": (
        {"tol": 1e-3, "batch_size": 5, "validation": 0.2},
        "tol and batch_size don't go together: a batch's gradient is too noisy to stop by; use validation",
    ),
    "lr='auto' and batch_size": ({"lr": "auto", "batch_size": 5}, "batch_size and lr='auto' don't go together"),
    "method and batch_size": (
        {"method": "compress", "batch_size": 5},
        "batch_size and method='compress' don't go together: batches need the rows",
    ),
    "lr='auto' and l1": ({"lr": "auto", "l1": 0.1}, "lr='auto' and l1 don't go together"),
    "lr='auto' and init": ({"lr": "auto", "init": FULL}, "lr='auto' and init don't go together"),
    "callback_every alone": ({"callback_every": 3}, "callback_every needs a callback"),
    "init and validation": ({"init": FULL, "validation": (X30, Y30)}, "validation must be given as for init, which"),
    "init and fraction": ({"init": FULL, "validation": 0.2}, "validation must be given as for init, which"),
    "init without validation": ({"init": VALIDATED}, "validation must be given as for init, which had some"),
    "init and average": ({"init": FULL, "average": True}, "average must start at epoch 2 or later: init kept no"),
    "init and average of 1": ({"init": FULL, "average": 1}, "average must start at epoch 2 or later: init kept no"),
    "init and record": ({"init": FULL, "record": "loss"}, "record and record_every must be those of init, 'all' and 1"),
    "init and record_every": ({"init": FULL, "record_every": 2}, "record and record_every must be those of init"),
}


@pytest.mark.parametrize(("options", "message"), TOGETHER.values(), ids=TOGETHER)
def test_options_that_do_not_go_together(options, message):
    refuse(ValueError, message, **options)


COUNT, NUMBER, PAIR = "must be a whole number, got ", "must be a number, got ", "validation must be "
VALUES = [
    *((name, value, ValueError, f"{name} must be at least 1, got {value}") for name in
      ("batch_size", "patience", "callback_every") for value in (0, -1)),
    *((name, value, TypeError, f"{name} {COUNT}{value!r}") for name in
      ("batch_size", "patience", "callback_every") for value in (1.5, True, np.True_, "a", [3])),
    ("seed", -1, ValueError, "seed must be an int of at least 0, a SeedSequence or a Generator, got -1"),
    *(("seed", value, TypeError, "seed must be an int") for value in (True, np.True_, "a", 1.5, X30, print)),
    ("average", -1, ValueError, "average must start at epoch 0 or later, got -1"),
    ("average", 2**63, ValueError, "average must start at epoch 0 or later and at most sys.maxsize, got 9223372036854"),
    ("method", np.array(["auto", "direct"]), ValueError, "method must be 'auto', 'direct' or 'compress', got array(["),
    *(("average", value, TypeError, f"average must be True, False or the epoch to start at, got {value!r}")
      for value in ("x", 1.5, None)),
    ("l1", -0.1, ValueError, "l1 must be finite and not negative, got -0.1"),
    ("l1", np.nan, ValueError, "l1 must be finite and not negative, got nan"),
    ("l1", np.inf, ValueError, "l1 must be finite and not negative, got inf"),
    *(("l1", value, TypeError, f"l1 {NUMBER}{value!r} of type ") for value in (True, "0.1", [0.1], None)),
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
      ((), (X30,), (X30, Y30, None, None))),
    ("validation", (X30[:, :2], Y30), ValueError,
     "validation must have the columns and targets of X and y, 3 and (), got 2 and ()"),
    ("validation", (X30, Y30[:, None]), ValueError,
     "validation must have the columns and targets of X and y, 3 and (), got 3 and (1,)"),
    ("validation", (np.where(X30 > 2, np.nan, X30), Y30), ValueError, "validation's X must be finite, got nan at row "),
    ("validation", (X30, np.where(np.arange(N) == 4, np.inf, Y30)), ValueError,
     "validation's y must be finite, got inf at row 4"),
    # each message names whose X, y or weights it is about
    ("validation", (X30[0], Y30[:1]), ValueError, "validation's X must be 2-D"),
    ("validation", (X30, Y30[:-1]), ValueError, "validation's X and y must have the same number of rows"),
    ("validation", (X30, Y30, np.ones(3)), ValueError, "validation's sample_weight must have one weight per row"),
    ("validation", (X30, Y30, -np.ones(N)), ValueError, "validation's sample_weight must not be negative"),
    ("validation", (X30.astype(str), Y30), TypeError, "validation's X must hold real numbers"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "value", "error", "message"), VALUES)
def test_bad_values(name, value, error, message):
    needed = {
        "patience": {"validation": (X30, Y30)},
        "seed": {"batch_size": 5},
        "callback_every": {"callback": print},
    }
    refuse(error, message, **needed.get(name, {}), **{name: value})


@pytest.mark.parametrize("name", ["lr", "momentum"])
def test_bad_schedules(name):
    high = {"lr": "finite and not negative", "momentum": "in [0, 1)"}[name]
    shapes = f"{name} must be a number, a function of the epoch, or one value for each of the 50 epochs, got shape "
    for value in (np.ones(49), np.ones(51), [], np.ones((50, 1)), lambda t: [0.1, 0.2]):
        shape = (50, 2) if callable(value) else np.shape(value)
        refuse(ValueError, f"{shapes}{shape}", **{name: value})
    bad = np.where(np.arange(50) == 7, -1, 0.1)
    for value, got in ((bad, -1.0), (lambda t: bad[t], -1.0), (np.where(bad < 0, np.nan, bad), np.nan)):
        refuse(ValueError, f"{name} at epoch 7 must be {high}, got {got}", **{name: value})
    refuse(ValueError, f"{name} at epoch 9 must be ", init=FULL, **{name: bad})
    for value in (["0.1"] * 50, [None] * 50, lambda t: "0.1", lambda t: None, np.full(50, 1j)):
        refuse(TypeError, f"{name} must hold real numbers, got ", **{name: value})
    for value in (None, "0.1"):
        refuse(TypeError, f"{name} must be a number, got {value!r}", **{name: value})
    if name == "momentum":
        refuse(ValueError, "momentum at epoch 0 must be in [0, 1), got 1.0", momentum=np.ones(50))


def test_schedules_of_bools():
    """lr=True is refused, so these are too."""
    for value in ([True] * 50, lambda t: True, (0.1,) * 49 + (True,), [0.1] * 49 + [np.True_]):
        refuse(TypeError, "lr must hold real numbers", lr=value)


def test_tol_with_patience_is_a_fraction():
    for value in (1, 1.5, -0.1):
        refuse(ValueError, f"tol must be in [0, 1), got {value}", tol=value, patience=2, validation=0.2)


@layouts
@pytest.mark.parametrize("batch", [{"shuffle": False}, {"seed": 3}])
@pytest.mark.parametrize("bad", [np.nan, -np.inf])
def test_nonfinite_data_with_batches(bad, batch, order):
    X, y = make_data(order=order)
    X[17, 1] = bad
    for options in ({}, {"fit_intercept": True, "record": "updates", "l1": 0.1}, {"lr": 0.0}, {"average": True}):
        refuse(ValueError, f"X must be finite, got {bad} at row 17, column 1", X, y, batch_size=4, **options, **batch)
    X[17, 1], y[23] = 0, bad
    refuse(ValueError, f"y must be finite, got {bad} at row 23", X, y, batch_size=4, **batch)


@pytest.mark.parametrize("name", ["X", "y"])
def test_nonfinite_data_with_a_fraction_held_out(name):
    """The row is that of the array that was given, wherever chance put it."""
    X, y = make_data()
    (X if name == "X" else y)[20] = np.nan
    for seed in range(4):
        with pytest.raises(ValueError, match=rf"{name} must be finite, got nan at row 20\b"):
            sgdm.fit(X, y, validation=0.4, seed=seed)


def test_inputs_are_left_alone():
    X, y = make_data(targets=2)
    arrays = {"lr": np.full(5, 0.1), "momentum": np.full(5, 0.5), "sample_weight": np.ones(N)}
    held_out = (X[:7].copy(), y[:7].copy(), np.ones(7))
    given = [X, y, *arrays.values(), *held_out]
    before = [array.copy() for array in given]
    for array in given:
        array.flags.writeable = False
    result = sgdm.fit(X, y, epochs=5, batch_size=4, validation=held_out, patience=2, average=True, **arrays)
    assert all(map(np.array_equal, given, before))
    held = [result.coef, result.average_coef, result.velocity, *vars(result.history).values(), *result.checkpoint[:5]]
    assert not any(np.shares_memory(ours, theirs) for ours in held for theirs in given)


@pytest.mark.parametrize("record", ["updates", "all"])
def test_history_too_large(record):
    error = refuse(MemoryError, "the history of ", epochs=10**14, batch_size=1, seed=0, record=record)
    assert re.search(r"takes \d+ bytes .*pass record='loss', a larger record_every or record=None", str(error))


# Divergence


@dtypes
@layouts
@pytest.mark.parametrize("batch", [{"shuffle": False}, {"seed": 1}])
@pytest.mark.parametrize("batch_size", [1, 7])
@pytest.mark.parametrize("record", ["all", "updates"])
def test_divergence_keeps_whole_epochs(record, batch_size, batch, order, dtype):
    X, y = make_data(dtype=dtype, order=order)
    options = {"lr": 5.0 if batch_size > 1 else 1.1, "fit_intercept": True, "record": record, "average": True}
    options |= {"batch_size": batch_size, **batch}
    message = rf"^the fit diverged at epoch \d+: lr=.* is too large; use an lr .*, batches of {batch_size}$"
    with pytest.raises(sgdm.DivergenceError, match=message) as caught:
        sgdm.fit(X, y, epochs=2000, **options)
    result = caught.value.result
    assert f" at epoch {result.epochs}: " in str(caught.value)
    assert result.status == "diverged"
    assert 0 < result.epochs < 2000
    assert np.isfinite(result.history.loss).all()
    assert not result.loss < result.history.loss[-1]  # that of the epoch that overflowed
    with pytest.warns(sgdm.ConvergenceWarning, match="the objective rose from"):
        same = sgdm.fit(X, y, epochs=result.epochs, **options)
    assert dataclasses.replace(result, status="completed") == same


def test_what_is_kept_of_a_diverged_fit_is_finite():
    """Each update's loss too, not only the mean over the epoch."""
    X, y = make_data(dtype=np.float32)
    options = {"lr": 5.0, "fit_intercept": True, "batch_size": 7, "shuffle": False, "record": "updates"}
    with pytest.raises(sgdm.DivergenceError) as caught:
        sgdm.fit(X, y, epochs=2000, **options)
    history = caught.value.result.history
    assert all(np.isfinite(getattr(history, name)).all() for name in HISTORIES)


@pytest.mark.filterwarnings("ignore::sgdm.ConvergenceWarning")  # noise may win at the largest stable lr
@pytest.mark.parametrize("batch_size", [1, 5, 29])
@pytest.mark.parametrize("weight_decay", [0.0, 1000.0])
@pytest.mark.parametrize("form", FORMS)
def test_suggested_lr_with_batches(form, weight_decay, batch_size):
    """It neither overflows nor climbs. 29 leaves a last batch of one row."""
    X, y = make_data()
    options = {"batch_size": batch_size, "seed": 0, "weight_decay": weight_decay, "record": "loss", **FORMS[form]}
    with pytest.raises(sgdm.DivergenceError) as caught:
        sgdm.fit(X, y, lr=1e6, epochs=1000, **options)
    assert caught.value.max_lr > 0
    loss = sgdm.fit(X, y, lr=caught.value.max_lr, epochs=2000, **options).history.loss
    assert loss[-100:].mean() < 100 * loss[0]


def test_squares_that_overflow():
    X, y = make_data()
    error = refuse(
        sgdm.DivergenceError, "the squares of the data overflow float64 at epoch 0", X * 1e300, y, batch_size=7
    )
    assert error.result.epochs == 0
    assert error.max_lr is None


def test_a_rise_by_noise_is_told():
    X, y = make_data()
    minimum = np.linalg.lstsq(X, y, rcond=None)[0]
    with pytest.warns(sgdm.ConvergenceWarning, match="use a smaller lr, or one that falls, to even out the noise"):
        sgdm.fit(X, y, lr=0.3, coef0=minimum, batch_size=1, seed=0)
