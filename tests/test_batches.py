"""Mini-batches: the oracle's trajectory, NumPy's row orders, what a batch is; and averages of the iterates."""

import dataclasses
import math
import sys

import numpy as np
import pytest
import reference
from helpers import HISTORIES, LEARNING_FORMS, D, N, assert_close, dtypes, intercepts, layouts, make_data, params
from hypothesis import given, settings
from hypothesis import strategies as st

import sgdm

# The NumPy oracle

EDGES = st.sampled_from([1, 2, 3, 7, 8, 9, 15, 16, 17, 24, 31, 32, 33])
PROBLEMS = st.fixed_dictionaries({
    "n": st.one_of(EDGES, st.integers(1, 70)),
    "d": st.one_of(EDGES, st.integers(1, 40)),
    "targets": st.sampled_from([None, 1, 3]),
    "form": st.sampled_from(sorted(LEARNING_FORMS)),
    "weighted": st.booleans(),
    "scheduled": st.sampled_from([(), ("lr",), ("momentum",), ("lr", "momentum")]),
    "seed": st.integers(0, 2**32 - 1),
})  # fmt: skip
OPTIONS = st.fixed_dictionaries({
    "fit_intercept": st.booleans(),
    "weight_decay": st.sampled_from([0.0, 0.1]),
    "l1": st.sampled_from([0.0, 0.05, 1.0]),
    "batch_size": st.one_of(st.none(), EDGES, st.integers(1, 80)),
    "shuffle": st.booleans(),
    "average": st.sampled_from([False, True, 3]),
    "record": st.sampled_from(["all", "updates"]),
    "record_every": st.sampled_from([1, 1, 2, 3, 7]),
})  # fmt: skip


def make_problem(dtype, order, n, d, targets, form, weighted, scheduled, seed, epochs=6, **options):
    """X, y and the options of a fit that is stable whatever the batches: lr goes by the longest row.

    No residual at the start is small and none points elsewhere than the others, lest cancellation leave the first
    gradients no scale to compare with.
    """
    rng = np.random.default_rng(seed)
    shape = () if targets is None else (targets,)
    X = np.asarray(rng.standard_normal((n, d)), dtype, order=order)
    p = d + options["fit_intercept"]
    coef0 = rng.standard_normal((p, *shape)).astype(dtype)
    Z = np.column_stack([X, np.ones(n)])[:, :p]
    uphill = Z @ rng.standard_normal((p, *shape)) > 0
    y = (Z @ coef0 + np.where(uphill, -1, 1) * rng.uniform(1, 2, (n, *shape)) * math.sqrt(p)).astype(dtype)
    lr = 0.5 / (2 * ((X.astype(float) ** 2).sum(1).max() + 1) + options["weight_decay"])
    options |= {"lr": lr, "coef0": coef0, "epochs": epochs, **LEARNING_FORMS[form]}
    for name in scheduled:
        options[name] = options[name] * rng.uniform(0.2, 1, epochs)
    if weighted:
        options["sample_weight"] = rng.uniform(0.1, 2, n).astype(dtype)
    if options["batch_size"] is not None and options["shuffle"]:
        options["seed"] = seed
    return X, y, options


def oracle_error(X, y, options):
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


@pytest.mark.filterwarnings("ignore::sgdm.ConvergenceWarning")  # noise and penalties may win in six epochs
@dtypes
@layouts
def test_mini_batches_follow_the_oracle(draws, order, dtype):
    @settings(max_examples=draws(300), derandomize=True, database=None, deadline=None)
    @given(PROBLEMS, OPTIONS)
    def check(problem, options):
        X, y, options = make_problem(dtype, order, **problem, **options)
        assert oracle_error(X, y, options) <= FACTOR

    check()


@dtypes
@layouts
@pytest.mark.parametrize(("n", "d"), [(3000, 4), (1500, 50), (700, 130)])
def test_batches_of_many_blocks_follow_the_oracle(n, d, order, dtype):
    """Batches that hold several of the kernel's blocks, the last one ragged."""
    options = {"fit_intercept": True, "weight_decay": 0.1, "l1": 0.05, "average": True, "record": "updates"}
    for shuffle in (True, False):
        problem = (dtype, order, n, d, 3, "nesterov ema", True, ("lr",), n)
        X, y, drawn = make_problem(*problem, **options, batch_size=600, shuffle=shuffle)
        assert oracle_error(X, y, drawn) <= 2 * FACTOR


# The order of the rows


@pytest.mark.parametrize("kind", ["PCG64", "PCG64DXSM", "MT19937", "Philox", "SFC64"])
def test_the_order_of_rows_is_numpys(kind):
    """Row by row with lr 0 and y = 1, the gradients -2 x name the rows in the order they were taken."""
    ours, numpys = (np.random.Generator(getattr(np.random, kind)(3)) for _ in range(2))
    for n in [1, 2, 3, 4, 5, 63, 64, 65, 66, 127, 128, 129, 1000, 5000]:
        X, y = np.arange(n, dtype=float)[:, np.newaxis], np.ones(n)
        result = sgdm.fit(X, y, lr=0, epochs=3, batch_size=1, seed=ours, record="updates")
        taken = result.history.grad[:, 0] / -2
        expected = [numpys.permutation(n) for _ in range(3)] if n > 1 else np.zeros((3, 1))
        np.testing.assert_array_equal(taken, np.ravel(expected))
        assert ours.bit_generator.state["state"].keys() == numpys.bit_generator.state["state"].keys()
        np.testing.assert_equal(ours.bit_generator.state, numpys.bit_generator.state)


def seeds():
    rng = np.random.Generator(np.random.MT19937(3))
    return {"int": 5, "SeedSequence": np.random.SeedSequence(7), "Generator": rng, "Philox": np.random.Philox(4)}


@pytest.mark.parametrize("kind", seeds())
def test_a_seed_of_any_kind_gives_the_order_of_its_generator(kind):
    """Without steps, the loss of a batch of one row says which row it was."""
    X, y = make_data(N, D)
    result = sgdm.fit(X, y, lr=0, batch_size=1, seed=(seed := seeds()[kind]), epochs=4, record="updates")
    generator = np.random.default_rng(seeds()[kind])
    expected = np.concatenate([generator.permutation(N) for _ in range(4)])
    np.testing.assert_allclose(result.history.loss, y[expected] ** 2, rtol=1e-15)
    assert np.array_equal(result.history.epoch, np.repeat(range(4), N))
    if isinstance(seed, np.random.Generator):  # it stands where its permutations left it
        assert seed.random() == generator.random()


def test_without_a_seed_two_fits_take_the_rows_in_other_orders():
    X, y = make_data(N, D)
    losses = [sgdm.fit(X, y, lr=0, batch_size=1, epochs=1, record="updates").history.loss for _ in range(2)]
    assert not np.array_equal(*losses)
    assert np.array_equal(*np.sort(losses))


# What a batch is


@dtypes
@layouts
@pytest.mark.parametrize(("n", "d", "targets"), [(60, 5, None), (600, 20, 3)])
def test_one_batch_of_all_rows_is_the_full_batch(n, d, targets, order, dtype):
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
def test_batches_of_one_row_give_sgdregressors_coefficients(fit_intercept):
    linear_model = pytest.importorskip("sklearn.linear_model")
    X, y = make_data(200, 7)
    theirs = linear_model.SGDRegressor(
        penalty=None, learning_rate="constant", eta0=0.02, shuffle=False, max_iter=3, tol=None,
        fit_intercept=fit_intercept,
    ).fit(X, y)  # fmt: skip
    ours = sgdm.fit(X, y, lr=0.01, momentum=0, batch_size=1, shuffle=False, epochs=3, fit_intercept=fit_intercept)
    np.testing.assert_allclose(ours.coef, theirs.coef_, rtol=0, atol=1e-13)
    np.testing.assert_allclose(ours.intercept, theirs.intercept_ if fit_intercept else 0, rtol=0, atol=1e-13)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("targets", [None, 2])
def test_a_batch_averages_over_its_own_rows(targets, weighted):
    """By hand: seven rows in batches of three, the last of one; and the running loss of the epoch."""
    X, y = make_data(7, 3, targets=targets)
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
    X, y = make_data(N, D, order=order)
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


# Averages of the iterates


@pytest.mark.parametrize("batch_size", [None, 7])
@pytest.mark.parametrize("targets", [None, 2])
@intercepts
def test_the_average_is_the_mean_of_the_iterates(fit_intercept, targets, batch_size):
    X, y = make_data(N, D, targets=targets)
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
    X, y = make_data(500, 3, noise=1)
    options = {"lr": 0.05, "batch_size": 4, "seed": 0, "fit_intercept": True, "average": 20}
    result = sgdm.fit(X, y, epochs=100, **options)
    Z = np.column_stack([X, np.ones(500)])
    minimum = np.linalg.lstsq(Z, y, rcond=None)[0]
    average = np.append(result.average_coef, result.average_intercept)
    assert np.linalg.norm(average - minimum) < 0.2 * np.linalg.norm(params(result) - minimum)
