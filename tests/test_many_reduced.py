"""fit_many(method="compress"): each fit is that of `fit`; what is shared is reduced once."""

import itertools

import numpy as np
import pytest
from helpers import MANY_X as X
from helpers import MANY_Y as y
from helpers import alone, assert_each_is_fit, assert_same_descent, dtypes, ignore_far, intercepts, own, turned

import sgdm
from sgdm import _fit_many
from sgdm._kernel import factor_many
from sgdm._reduction import factor, many

pytestmark = ignore_far
B, N, D = X.shape
rng = np.random.default_rng(1)
OWN_WEIGHTS = rng.uniform(0.1, 2, (B, N)) * (np.arange(N) % 5 > 0)
REDUCED = {"method": "compress", "epochs": 9, "lr": np.linspace(0.01, 0.2, B)}
DATA = {
    "X and y of each": (X, y, None),
    "X and y of each, weights of all": (X, y, OWN_WEIGHTS[0]),
    "weights of each": (X[0], y[0], OWN_WEIGHTS),
    "y and weights of each": (X[0], y, OWN_WEIGHTS),
    "constants of each": (X[0], y[0], OWN_WEIGHTS[0]),
}
OPTIONS = {
    "penalties": {"weight_decay": 0.1, "l1": np.linspace(0, 0.1, B)},
    "tol": {"tol": 0.3, "epochs": 200},
    "the loss alone": {"record": "loss", "record_every": 2, "nesterov": True},
    "no history": {"record": None, "dampening": 0.0},
    "a start": {"coef0": np.linspace(0.1, 1, D)},  # which float32 rounds
}


@pytest.mark.parametrize("order", "CF")
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@dtypes
@pytest.mark.parametrize("data", DATA.values(), ids=DATA)
def test_each_reduced_fit_has_the_bits_of_fit(data, dtype, options, order):
    rows, targets, weights = data
    rows, targets = rows.astype(dtype), targets.astype(dtype)
    rows = np.ascontiguousarray(rows.swapaxes(-1, -2)).swapaxes(-1, -2) if order == "F" else rows
    assert_each_is_fit(rows, targets, sample_weight=weights, **REDUCED | options)


def stack(fits, n, d):
    rng = np.random.default_rng([fits, n, d])
    return rng.standard_normal((fits, n, d)), rng.standard_normal((fits, n))


LANES = {
    "every third epoch": {"record_every": 3},
    "nesterov and weight decay": {"nesterov": True, "weight_decay": 0.1, "record": "loss"},
    "no history": {"record": None},
    "l1": {"l1": 0.05, "dampening": 0.3},
    "standardize": {"standardize": True, "nesterov": True},
    "standardize and penalties": {"standardize": True, "l1": 0.05, "weight_decay": 0.1},
}


def assert_in_lanes_is_alone(X, y, **options):
    """Fits in lanes have the bits of a call for each of them; and of `fit`, but where that takes the deviations of
    columns from the reduction."""
    options = {"method": "compress", **options}
    many = sgdm.fit_many(X, y, **options)
    for i in range(len(many.epochs)):
        assert many[i] == sgdm.fit_many(**own(i, X=X, y=y, **options))[0], f"fit {i}"
    if "standardize" not in options:
        assert_each_is_fit(X, y, **options)


@pytest.mark.parametrize("options", LANES.values(), ids=LANES)
@pytest.mark.parametrize("d", [1, 2, 3, 4, 7, 8, 9, 16, 20, 21])
@intercepts
def test_fits_in_lanes_have_the_bits_of_fit(monkeypatch, fit_intercept, d, options):
    """Eight at a time, in slices of one epoch or a few; the last fit alone."""
    monkeypatch.setattr(_fit_many, "SLICE_ELEMENTS", 1 if d in (1, 2, 3, 8) else 10_000)
    rows, targets = stack(17, 40, d)
    rows[:, :, : d > 3] = 5  # constant, if there are others
    assert_in_lanes_is_alone(rows + 1, targets, lr=0.02, epochs=21, fit_intercept=fit_intercept, **options)


@pytest.mark.parametrize("options", LANES.values(), ids=LANES)
@pytest.mark.parametrize(("d", "fits"), [(2, 3), (7, 5), (21, 17), (22, 2), (40, 4), (131, 9), (254, 8), (255, 8)])
@intercepts
def test_constants_in_lanes_have_the_bits_of_fit(fit_intercept, d, fits, options):
    """X is shared, and may be wide; the last lanes are empty."""
    rows, targets = (array[0] for array in stack(1, 300, d))
    constants = {"lr": np.linspace(1e-5, 1e-4, fits), "momentum": np.linspace(0, 0.9, fits)}
    assert_in_lanes_is_alone(rows + 1, targets, epochs=7, fit_intercept=fit_intercept, **constants | options)


def factors_of(X, intercept, y, roots, together):
    """The factors of 8 fits, so many of which are computed together, and the sizes of their columns."""
    d = X.shape[2] + intercept
    lines, targets = np.full((8, d + 1, d), np.nan), np.full((8, d + 1), np.nan)
    firsts = range(0, 8, together)
    sizes = [factor_many(X, intercept, y, roots, lines, targets, i, i + together) for i in firsts]
    return lines, targets, np.concatenate(sizes)


@pytest.mark.parametrize("order", "CF")
@dtypes
@pytest.mark.parametrize("rows_of_weights", [0, 1, 8])
@intercepts
def test_eight_factors_at_once_have_the_bits_of_each(fit_intercept, rows_of_weights, dtype, order):
    """Of one block of rows or two; with columns that are zero, duplicated, tiny or not finite. Any NaN is as good."""
    for n, d in itertools.product([1, 9, 192, 200], [1, 2, 3, 4, 7, 8, 11, 20 - fit_intercept]):
        X, y = (array.astype(dtype) for array in stack(8, n, d))
        X[1, :, -1], X[2], X[3], X[4, :, 0] = 0, 1, X[3] * dtype(1e-30), np.nan
        X[5, :, -1] = X[5, :, 0]
        X = turned(X) if order == "F" else X
        roots = np.sqrt(rng.integers(0, 3, (rows_of_weights, n)).astype(float)) if rows_of_weights else None
        together, alone = (factors_of(X, fit_intercept, y, roots, count) for count in (8, 1))
        for part, expected in zip(together, alone, strict=True):
            part, expected = (np.where(np.isnan(array), np.nan, array) for array in (part, expected))
            assert part.tobytes() == expected.tobytes(), (n, d)
        lines, targets, sizes = together
        np.testing.assert_array_equal(sizes[:, :-1], np.abs(lines).max(axis=1))
        np.testing.assert_array_equal(sizes[:, -1], np.abs(targets).max(axis=1))


@pytest.mark.parametrize("d", [2, 6])
def test_fits_of_which_one_overflows_in_its_lane_have_the_bits_of_fit(d):
    lr = np.where(np.arange(8) == 5, 1e9, 0.05)
    fits = assert_each_is_fit(*stack(8, 40, d), method="compress", lr=lr, epochs=60, dampening=0.0)
    assert (fits.status == "diverged").tolist() == (lr > 1).tolist()
    assert 2 < fits.epochs[5] < 60


def test_a_loss_that_overflows_for_one_epoch_alone_ends_its_fit():
    """The parameters stay finite, and so does the loss of the next epoch."""
    X, y = stack(8, 40, 2)
    start = np.zeros((8, 2))
    start[3] = 1e155
    fits = assert_each_is_fit(X, y, method="compress", lr=0.05, epochs=9, coef0=start, momentum=0.0)
    assert fits.status[3] == "diverged"


@pytest.mark.parametrize(("n", "d"), [(40, 15), (40, 30), (2500, 25), (30, 2)])
@intercepts
def test_targets_that_share_the_factor_of_x_are_reduced_to_rounding(fit_intercept, n, d, monkeypatch):
    """In groups, of which the last one is smaller; 2500 rows of 25 columns by their Gram matrix, too."""
    monkeypatch.setattr(many, "_TOGETHER", 4)
    monkeypatch.setattr(many, "shares_factor", lambda rows: True)
    group = many.group_of_targets(n, d + fit_intercept)
    X, y = stack(group + 3, n, d)
    options = {"method": "compress", "epochs": 9, "lr": 0.02, "fit_intercept": fit_intercept}
    fits = sgdm.fit_many(X[0], y, **options)
    for i in (0, group - 1, group, group + 2):
        expected = alone(i, X=X[0], y=y, **options)
        assert_same_descent(fits[i], expected, 1e-12)
        assert fits[i].optimal_loss == pytest.approx(expected.optimal_loss, rel=1e-12)


@pytest.mark.parametrize("order", "CF")
@dtypes
@pytest.mark.parametrize("weights", [None, OWN_WEIGHTS[0]], ids=["plain", "weighted"])
@intercepts
def test_targets_of_one_narrow_x_have_the_bits_of_fit(fit_intercept, weights, dtype, order):
    """Eight at a time; by three threads, too."""
    y = stack(19, N, D)[1].astype(dtype)
    options = {"sample_weight": weights, "fit_intercept": fit_intercept, "method": "compress", "epochs": 9}
    rows = np.asarray(X[0], dtype, order=order)
    assert assert_each_is_fit(rows, y, **options) == sgdm.fit_many(rows, y, n_threads=3, **options)


def test_targets_of_one_narrow_x_in_several_leaves_share_its_factor(monkeypatch):
    monkeypatch.setattr(factor, "_LEAF_ELEMENTS", 1)
    monkeypatch.setattr(factor, "_LEAF_ROWS", 8)
    fits = sgdm.fit_many(X[0], y, **REDUCED)
    for i in range(B):
        assert_same_descent(fits[i], alone(i, X=X[0], y=y, **REDUCED), 1e-12)


@pytest.mark.parametrize(
    ("n", "d", "targets", "weights", "shares"),
    [
        (100, 2, 1, None, True), (100, 2, 2, None, False), (100, 2, 500, None, False), (100, 2, 500, 500, False),
        (100, 15, 500, None, True), (100, 21, 2, None, True), (100_000, 2, 3, None, True), (1, 2, 9, None, False),
    ],
)  # fmt: skip
def test_fits_share_the_factor_of_x_where_that_takes_less_time(n, d, targets, weights, shares):
    weights = None if weights is None else np.ones((weights, n))
    rows = _fit_many.Problems(np.ones((n, d)), np.ones((targets, n)), weights, False)
    assert many.shares_factor(rows) == shares


@pytest.mark.parametrize(("n", "d", "group"), [(1, 1, 128), (100, 20, 117), (10**6, 1, 4), (10**6, 200, 200)])
def test_a_group_has_so_many_targets_that_each_takes_the_least_time(n, d, group):
    assert many.group_of_targets(n, d) == group


def test_one_target_of_many_x_is_read_in_its_bounds():
    """y has one row for all, so it isn't read ahead."""
    X, y = stack(5000, 7, 2)
    fits = sgdm.fit_many(X, y[:1], method="compress", epochs=3)
    for i in (0, 2500, 4999):
        assert fits[i] == sgdm.fit(X[i], y[0], method="compress", epochs=3)


@intercepts
def test_reduced_fits_are_standardized_to_rounding(fit_intercept):
    rows = X * [1, 1e3, 1e-3] + [0, 1e4, 0]
    options = {**REDUCED, "standardize": True, "fit_intercept": fit_intercept}
    fits = sgdm.fit_many(rows, y, **options)
    for i in range(B):
        np.testing.assert_allclose(fits[i].history.loss, alone(i, X=rows, y=y, **options).history.loss, rtol=1e-9)


@pytest.mark.parametrize("weights", [None, OWN_WEIGHTS[:, : N // 2].repeat(2, axis=1)], ids=["plain", "weighted"])
def test_rows_of_several_leaves_have_the_bits_of_fit(monkeypatch, weights):
    monkeypatch.setattr(factor, "_LEAF_ELEMENTS", 1)
    monkeypatch.setattr(factor, "_LEAF_ROWS", 8)
    assert factor.leaf_rows(D + 1) < N
    assert_each_is_fit(X, y, sample_weight=weights, **REDUCED)


@pytest.mark.parametrize("scale", [1e-200, 1e200, 0.0])
def test_columns_whose_squares_overflow_or_vanish_are_reduced(scale):
    rows = X * [1, scale, 1]
    rows[0] = X[0]
    options = {**REDUCED, "lr": 0.1 if scale < 1 else 0.0}
    fits = sgdm.fit_many(rows, y, **options)
    for i in range(B):
        expected = sgdm.compress(rows[i], y[i]).optimal_loss
        assert fits.optimal_loss[i] == pytest.approx(expected, rel=1e-12)
        if scale < 1:
            assert fits[i] == alone(i, X=rows, y=y, **options)


def test_a_fit_that_diverges_disturbs_no_other():
    lr = np.where(np.arange(B) == 1, 1e5, 0.1)
    fits = assert_each_is_fit(lr=lr, epochs=300, method="compress")
    assert fits.status.tolist() == ["completed", "diverged", *["completed"] * (B - 2)]


@pytest.mark.parametrize("shared", [False, True])
def test_data_that_are_not_finite_are_named(shared):
    targets = y.copy()
    targets[3, 7] = np.nan
    with pytest.raises(ValueError, match=r"^y must be finite, got nan at fit 3, row 7"):
        sgdm.fit_many(X[0] if shared else X, targets, method="compress")


def test_auto_reduces_where_that_is_clearly_faster():
    rows = np.random.default_rng(0).standard_normal((20, 4000, 10))
    options = {"lr": 1e-3, "record": None}
    assert sgdm.fit_many(rows, rows[:, :, 0], epochs=1000, **options).method == "compress"
    assert sgdm.fit_many(rows, rows[:, :, 0], epochs=3, **options).method == "direct"
    assert sgdm.fit_many(rows[0], rows[0, :, 0], epochs=150, **options | {"lr": np.full(80, 1e-3)}).method == "compress"
    with pytest.raises(ValueError, match=r"^method must be 'auto', 'direct' or 'compress', got 'none'"):
        sgdm.fit_many(X, y, method="none")


@dtypes
def test_reduced_fits_are_saved_and_go_on(tmp_path, dtype):
    rows, targets = X.astype(dtype), y.astype(dtype)
    fits = sgdm.fit_many(rows, targets, epochs=5, fit_intercept=True, method="compress")
    fits.save(tmp_path / "fits.npz")
    assert sgdm.load(tmp_path / "fits.npz") == fits
    longer = sgdm.fit_many(rows, targets, epochs=9, fit_intercept=True, method="compress")
    for i in (0, B - 1):
        assert sgdm.fit(rows[i], targets[i], fit_intercept=True, epochs=4, init=fits[i]) == longer[i]


@pytest.mark.parametrize(("record", "epochs"), [("all", 77), ("loss", 400)])
@pytest.mark.parametrize("d", [2, 5])
def test_large_histories_have_the_bits_of_small_ones(d, record, epochs):
    """Those of more than 4 MiB are written past the caches. Their rows begin anywhere in a cache line."""
    X, y = stack(2000, 7, d)
    options = {"method": "compress", "record": record, "epochs": epochs}
    names = ("loss", "grad", "step", "coef") if record == "all" else ("loss",)
    large = sgdm.fit_many(X, y, **options).history
    assert sum(getattr(large, name).nbytes for name in names) > 1 << 22
    for first in range(0, 2000, 200):
        part = slice(first, first + 200)
        small = sgdm.fit_many(X[part], y[part], **options).history
        for name in names:
            np.testing.assert_array_equal(getattr(large, name)[part], getattr(small, name))


def test_threads_reduce_to_the_same_bits():
    assert sgdm.fit_many(X, y, n_threads=3, **REDUCED) == sgdm.fit_many(X, y, **REDUCED)


@pytest.mark.parametrize("after", [0, 1])
def test_an_interrupt_while_rows_are_reduced_hands_over_what_was_done(monkeypatch, after):
    """Eight fits are reduced at a time. The loss of a fit that has not begun is that of its start, taken from its
    rows."""
    X, y = stack(17, N, D)
    monkeypatch.setattr(_fit_many, "SLICE_ELEMENTS", 1)
    calls, factor_many, begun = itertools.count(), many.factor_many, 8 * after

    def fail(*arguments):
        if next(calls) == after:
            raise KeyboardInterrupt
        return factor_many(*arguments)

    monkeypatch.setattr(many, "factor_many", fail)
    with pytest.raises(KeyboardInterrupt) as caught:
        sgdm.fit_many(X, y, method="compress", coef0=np.ones(D))
    result = caught.value.result
    assert result.status.tolist() == ["completed"] * begun + ["stopped"] * (17 - begun)
    assert np.isnan(result.optimal_loss).tolist() == [False] * begun + [True] * (17 - begun)
    monkeypatch.undo()
    for i in range(begun):
        assert result[i] == alone(i, X=X, y=y, method="compress", coef0=np.ones(D))
    start = ((X.sum(axis=2) - y) ** 2).mean(axis=1)
    np.testing.assert_allclose(result.loss[begun:], start[begun:], rtol=1e-14)
