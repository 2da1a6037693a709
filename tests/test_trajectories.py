"""Whole trajectories, epoch by epoch, are the notebook's, torch's and the NumPy oracle's, and end at least squares."""

import json
import re
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import reference
from helpers import FORMS, dtypes, layouts
from hypothesis import given, settings
from hypothesis import strategies as st

import sgdm

DATA = Path(__file__).with_name("data")
TORCH = dict(np.load(DATA / "torch_sgd.npz"))
TORCH_RUNS = json.loads(str(TORCH["meta"]))
BY_UPDATES = ["lr_schedule", "minibatch_in_order_16", "minibatch_ragged_24"]  # torch wrote these down at each update


# The notebook


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 5e-5), (np.float32, 6e-5)])
def test_the_notebooks_table_comes_out_number_by_number(dtype, tolerance):
    points = np.loadtxt(files("sgdm") / "data" / "lesson2_points.csv", delimiter=",", skiprows=1, dtype=dtype)
    table = np.loadtxt(DATA / "lesson2_trajectory.csv", delimiter=",", skiprows=1)
    history = sgdm.fit(points[:, :1], points[:, 1], fit_intercept=True, coef0=[-1, 1]).history
    numbers = np.column_stack([history.loss, history.grad, history.step])
    assert numbers.dtype == dtype
    assert numbers.size == 250
    np.testing.assert_array_equal(history.epoch, table[:, 0])
    np.testing.assert_allclose(numbers, table[:, 1:], rtol=0, atol=tolerance)
    if dtype == np.float64:
        printed = [f"{number:.4f}" for number in numbers.flat]
        assert printed == [f"{number:.4f}" for number in table[:, 1:].flat]


# torch.optim.SGD


def test_the_runs_of_torch_are_all_there():
    assert len(TORCH_RUNS) == 11
    in_batches = [run for run in TORCH_RUNS if TORCH_RUNS[run]["batch_size"] or isinstance(TORCH_RUNS[run]["lr"], list)]
    assert sorted(in_batches) == BY_UPDATES


@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-12), ("float32", 2e-5)])
@layouts
@pytest.mark.parametrize("name", TORCH_RUNS)
def test_a_fit_follows_torch(name, order, dtype, tolerance):
    run = {"dampening": 0.0, **TORCH_RUNS[name]}
    problem = run.pop("problem")
    if name in BY_UPDATES:
        run |= {"shuffle": False, "record": "updates"}
    else:
        run.pop("batch_size")
    X, y, coef0 = (TORCH[f"{array}_{problem}"].astype(dtype) for array in ("X", "y", "coef0"))
    result = sgdm.fit(np.asarray(X, order=order), y, coef0=coef0, **run)
    history = result.history
    ours = {"loss": history.loss, "grad": history.grad, "buffer": history.step, "coef": history.coef}
    for key, array in {**ours, "final": result.coef}.items():
        assert array.dtype == dtype
        theirs = TORCH[f"{name}/{dtype}/{key}"]
        np.testing.assert_allclose(array, theirs, rtol=0, atol=tolerance * np.abs(theirs).max(), err_msg=key)


# The NumPy oracle


# Widths around the kernel's groups of 8 and 16 elements and their multiples, and anything else.
EDGES = st.sampled_from([1, 7, 8, 9, 15, 16, 17, 23, 24, 25, 31, 32, 33])
OPTIONS = st.fixed_dictionaries({
    "n": st.one_of(EDGES, st.integers(1, 70), st.sampled_from([63, 64, 65])),
    "d": st.one_of(EDGES, st.integers(1, 40), st.sampled_from([39, 40])),
    "targets": st.sampled_from([None, 1, 2, 5]),
    "fit_intercept": st.booleans(),
    "weighted": st.booleans(),
    "weight_decay": st.sampled_from([0.0, 0.1]),
    "form": st.sampled_from(sorted(FORMS)),
    "seed": st.integers(0, 2**32 - 1),
})  # fmt: skip


def in_order(X, order, path=None):
    """X with the values of X and the memory layout `order`."""
    n, d = X.shape
    if order == "strided":
        out = np.full((2 * n, 3 * d), np.nan, X.dtype)[::2, 1::3]
    elif order == "negative":
        out = np.empty_like(X)[::-1, ::-1]
    elif order == "memmap":
        out = np.memmap(path, X.dtype, "w+", shape=X.shape, order="F")
    else:
        out = np.empty(X.shape, X.dtype, "C" if order == "read-only" else order)
    out[:] = X
    if order in ("read-only", "memmap"):
        out.flags.writeable = False
    return out


def make_problem(dtype, n, d, targets, fit_intercept, weighted, weight_decay, form, seed):
    """X, y and the options of a stable fit.

    The start is off along the steepest direction, lest the first gradient be lost to cancellation in an unlucky
    draw and leave no scale to compare with.
    """
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, d)).astype(dtype)
    w = np.where(rng.random(n) < 0.2, 0, rng.uniform(0.1, 2, n)).astype(dtype)
    w[0] = 1
    Z = np.column_stack([X, np.ones(n)])[:, : d + fit_intercept].astype(float)
    sqrt_w = np.sqrt(w if weighted else np.ones(n), dtype=float)
    _, singular, directions = np.linalg.svd(sqrt_w[:, None] * Z, full_matrices=False)
    curvature = 2 * singular[0] ** 2 / (sqrt_w**2).sum() + weight_decay
    shape = (len(directions[0]),) if targets is None else (len(directions[0]), targets)
    coef0 = rng.standard_normal(shape).astype(dtype)
    steep = np.multiply.outer(directions[0], rng.uniform(2, 4, shape[1:]))
    truth = coef0 + steep + 0.3 * rng.standard_normal(shape)
    y = (Z @ truth + 0.3 * rng.standard_normal((n, *shape[1:]))).astype(dtype)
    form = FORMS[form]
    undamped = 1 - form.get("dampening", form["momentum"])
    lr = 0.5 / (max(undamped, 0.2) * curvature)
    options = {"lr": lr, "weight_decay": weight_decay, "fit_intercept": fit_intercept, "coef0": coef0, **form}
    return X, y, {**options, "sample_weight": w if weighted else None}


def assert_same_trajectory(X, y, options, dtype, factor):
    """Every history of fit(X, y) equals the oracle's within factor * eps of the history's largest number."""
    twin = reference.fit(np.array(X), y, **options)
    result = sgdm.fit(X, y, **options)
    p = X.shape[1]
    assert result.epochs == twin.epochs
    pairs = {name: (getattr(result.history, name), array) for name, array in vars(twin.history).items()}
    pairs["coef at last"] = (result.coef, twin.params[:p])
    pairs["velocity"] = (result.velocity, twin.velocity)
    if options["fit_intercept"]:
        pairs["intercept"] = (result.intercept, twin.params[p])
    for name, (ours, theirs) in pairs.items():
        of = {"coef at last": "coef", "intercept": "coef", "velocity": "step"}.get(name, name)
        scale = np.abs(getattr(twin.history, of)).max()
        assert ours.dtype == dtype, name
        assert ours.shape == theirs.shape, name
        error = np.abs(ours - theirs).max() / (np.finfo(dtype).eps * scale)
        assert error <= factor, f"{name} is off by {error:.1f} eps"


# Measured over 20 000 draws: at most 10 eps.
@pytest.mark.filterwarnings("ignore::sgdm.ConvergenceWarning")  # twelve epochs may end above the start
@dtypes
@pytest.mark.parametrize("order", ["C", "F", "strided", "negative", "read-only", "memmap"])
def test_a_fit_follows_the_oracle(draws, tmp_path_factory, order, dtype):
    path = tmp_path_factory.mktemp("oracle") / "X"

    @settings(max_examples=draws(120), derandomize=True, database=None, deadline=None)
    @given(OPTIONS)
    def check(drawn):
        X, y, options = make_problem(dtype, **drawn)
        X = in_order(X, order, path)
        assert_same_trajectory(X, y, {**options, "epochs": 12}, dtype, factor=32)

    check()


# Measured: at most 20 eps, for sums of 1000 terms.
@pytest.mark.filterwarnings("ignore::sgdm.ConvergenceWarning")  # twelve epochs may end above the start
@dtypes
@layouts
@pytest.mark.parametrize(("n", "d"), [(3000, 4), (1500, 50), (700, 130), (40, 1000)])
@pytest.mark.parametrize("targets", [None, 3])
def test_a_fit_of_many_blocks_follows_the_oracle(n, d, targets, order, dtype):
    X, y, options = make_problem(dtype, n, d, targets, True, True, 0.1, "nesterov ema", seed=n + d)
    assert_same_trajectory(in_order(X, order), y, {**options, "epochs": 12}, dtype, factor=64)


# Where it ends


def heavy_ball(Z):
    """The heavy ball's best constants, from the eigenvalues of the Hessian 2 Z' Z / n; and its condition."""
    values = 2 * np.linalg.svd(np.asarray(Z, float), compute_uv=False) ** 2 / len(Z)
    top, low = np.sqrt(values[0]), np.sqrt(values[-1])
    constants = {"lr": 4 / (top + low) ** 2, "momentum": ((top - low) / (top + low)) ** 2, "dampening": 0.0}
    return constants, values[0] / values[-1]


def assert_it_ends_at_lstsq(X, y):
    Z = np.column_stack([X, np.ones(len(X))])
    constants, kappa = heavy_ball(Z)
    # each epoch gains a factor of sqrt(momentum): enough of them to reach eps, with as many again
    epochs = int(2 * np.log(np.finfo(float).eps) / np.log(np.sqrt(constants["momentum"])))
    result = sgdm.fit(X, y, fit_intercept=True, epochs=epochs, record=None, **constants)
    expected = np.linalg.lstsq(Z, y, rcond=None)[0]
    params = np.concatenate([result.coef, np.reshape(result.intercept, (1, *y.shape[1:]))])
    # rounding of the gradient, eps, is amplified by the condition of the Hessian
    tolerance = 10 * np.finfo(float).eps * kappa * np.abs(expected).max()
    np.testing.assert_allclose(params, expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("shape", [(60,), (60, 3)])
def test_a_random_problem_ends_at_least_squares(shape):
    rng = np.random.default_rng(7)
    assert_it_ends_at_lstsq(rng.standard_normal((60, 5)), rng.standard_normal(shape))


@pytest.mark.parametrize("name", ["load_diabetes", "load_linnerud"])
def test_real_data_end_at_least_squares(name):
    X, y = getattr(pytest.importorskip("sklearn.datasets"), name)(return_X_y=True)
    assert_it_ends_at_lstsq(X, y)


def test_the_suggested_lr_fits_unscaled_diabetes():
    X, y = pytest.importorskip("sklearn.datasets").load_diabetes(return_X_y=True, scaled=False)
    with pytest.raises(sgdm.DivergenceError, match=r"lr=0\.1 is too large; use an lr of at most ") as caught:
        sgdm.fit(X, y)
    printed = float(
        re.search(r"at most (\S+) for momentum=0\.8, dampening=0\.8; or use standardize=True$", str(caught.value))[1]
    )
    assert 0.98 * caught.value.max_lr < printed <= caught.value.max_lr
    for lr in (caught.value.max_lr, printed):
        result = sgdm.fit(X, y, lr=lr)
        assert result.status == "completed"
        # The first step, undamped, overshoots; from there the loss falls to less than it was at the start.
        envelope = result.history.loss.reshape(5, 10).max(axis=1)
        assert np.all(np.diff(envelope) < 0)
        assert result.history.loss[-1] < 0.2 * result.history.loss[0]
