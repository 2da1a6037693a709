"""What the triangular factor knows of its rows: solution, spectrum, largest stable lr, forecasts, tuning."""

import functools
import itertools
import re
from fractions import Fraction

import numpy as np
import pytest
from helpers import FORMS, assert_stable_up_to, design, dtypes, ignore_far, intercepts, make_data, stable
from hypothesis import given, settings
from hypothesis import strategies as st

import sgdm
from sgdm import compress
from sgdm._kernel import METRICS, Options, Problem, Record, Rows, State, add_rows, advance, follow_modes, losses

pytestmark = ignore_far
X60, Y60 = make_data()
REDUCED = compress(X60, Y60)
EPS = np.finfo(float).eps
forms = pytest.mark.parametrize("form", FORMS)
decays = pytest.mark.parametrize("weight_decay", [0.0, 0.1])


# The factor

SCALES = {
    "like columns": (0, 0, 0, 0),
    "unlike columns": (-80, 80, 5, 0),
    "beyond the range of squares": (-250, 250, 155, -155),
    "all tiny": (-280, -280, -280, -280),
    "a column of zeros": (-np.inf, 0, 3, 0),
}
ROWS = {
    "tall": lambda rng: rng.standard_normal((500, 3)),
    "few": lambda rng: rng.standard_normal((2, 3)),
    "duplicated column": lambda rng: rng.standard_normal((40, 2))[:, [0, 1, 1]],
    "exact fit": lambda rng: np.cumsum(rng.integers(-9, 9, (200, 3)), axis=1),
    "far from zero": lambda rng: 1e6 + rng.standard_normal((200, 3)),
}


@pytest.mark.parametrize("scales", SCALES)
@pytest.mark.parametrize("rows", ROWS)
def test_the_factor_is_backward_stable_whatever_the_scales(rows, scales):
    """R'R = Z'Z to some eps of the columns' norms, in rational arithmetic."""
    rng = np.random.default_rng(1)
    X = ROWS[rows](rng).astype(float)
    Z = np.column_stack([X, X @ [1.0, 2.0, 3.0] if rows == "exact fit" else rng.standard_normal(len(X))])
    Z = Z * 10.0 ** np.array(SCALES[scales])
    R = compress(Z[:, :3], Z[:, 3]).R
    assert np.array_equal(R, np.triu(R))
    assert (np.diagonal(R) >= 0).all()
    norms = {j: products(Z, j, j) for j in range(4)}
    for i, j in itertools.combinations_with_replacement(range(4), 2):
        error = products(R, i, j) - products(Z, i, j)
        assert error**2 <= norms[i] * norms[j] * Fraction(16 * EPS) ** 2


def products(A, i, j):
    """The exact product of two columns."""
    return sum((Fraction(a) * Fraction(b) for a, b in A[:, [i, j]].tolist()), Fraction(0))


@pytest.mark.parametrize("order", ["by rows", "by columns", "backwards", "every other", "bytes swapped", "unaligned"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("columns", [3, 11, 27])
@dtypes
def test_rows_of_any_layout_have_the_same_factor(order, columns, weighted, dtype):
    X, y = make_data(300, columns, dtype=dtype)
    options = {"sample_weight": 1 + np.arange(300) % 3 if weighted else None, "fit_intercept": True}
    expected = compress(X, y, **options).R
    views = {
        "by rows": lambda: X,
        "by columns": lambda: np.asfortranarray(X),
        "backwards": lambda: X[::-1, ::-1].copy()[::-1, ::-1],
        "every other": lambda: np.repeat(np.repeat(X, 2, axis=0), 3, axis=1)[::2, ::3],
        "bytes swapped": lambda: X.astype(X.dtype.newbyteorder()),
        "unaligned": lambda: unaligned(X),
    }
    np.testing.assert_array_equal(compress(views[order](), y, **options).R, expected)


@pytest.mark.parametrize("d", [1, 7, 24, 190])
@pytest.mark.parametrize("n", [50, 192, 500])
def test_rows_that_are_zeros_below_their_diagonal(n, d):
    """Those after the last column are zeros, and are not read."""
    X = np.triu(np.random.default_rng(d).standard_normal((n, d)))
    R = np.zeros((-(-d // 8) * 8,) * 2)
    add_rows(R, X, False, X[:, :0], None, True)
    np.testing.assert_allclose(R.T @ R, np.pad(X.T @ X, (0, len(R) - d)), rtol=0, atol=16 * EPS * d)


def unaligned(array):
    memory = np.zeros(array.nbytes + 1, np.uint8)[1:]
    copy = memory.view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


# Solution, spectrum and the largest stable lr


@intercepts
@pytest.mark.parametrize("targets", [None, 1, 3])
@pytest.mark.parametrize("shape", [(200, 6), (6, 6), (4, 9)])
def test_the_solution_and_the_spectrum_are_those_of_the_rows(shape, targets, fit_intercept):
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
def test_the_largest_lr_is_exact(form, fit_intercept, weight_decay):
    X, y = make_data(40, 4)
    reduced = compress(X, y, fit_intercept=fit_intercept)
    constants = {"weight_decay": weight_decay, **FORMS[form]}
    lr = reduced.max_lr(**constants)
    if form == "full dampening":
        assert lr == np.inf
        return
    assert 0.85 * lr < assert_stable_up_to(lr, reduced.fit, **constants).max_lr < lr


def test_columns_of_zeros_have_no_largest_lr():
    reduced = compress(0 * X60, Y60)
    assert reduced.max_lr() == reduced.max_lr(weight_decay=1e-320) == np.inf
    assert 0 < reduced.tune(5, weight_decay=1e-320).lr < np.inf


@pytest.mark.parametrize("factor", [1e-200, 1e200])
def test_columns_whose_squares_overflow_or_vanish_are_solved(factor):
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


def test_a_solution_that_overflows_is_refused():
    reduced = compress(X60 * 1e-200, Y60 * 1e200)
    with pytest.raises(ValueError, match=r"^the parameters for these X and y overflow; scale the columns of X up"):
        reduced.solve()
    assert reduced.optimal_loss == np.inf


def test_columns_that_are_hardly_there_have_a_solution():
    X, y = np.array([[0.0, -1e-40, 1e-45, 1e-310]]), np.array([0.1])
    reduced = compress(X, y)
    np.testing.assert_allclose(X @ reduced.solve(), y, rtol=1e-14)
    assert reduced.solve() == pytest.approx([0, -1e39, 1e34, 0], rel=1e-9, abs=1e-3)
    assert reduced.optimal_loss <= (4 * np.finfo(float).eps * y[0]) ** 2


def test_a_penalty_and_weights_whose_product_overflows_have_a_largest_lr():
    X, y = make_data()
    reduced = compress(X, y, sample_weight=np.full(60, 1e10))
    limit = 2 * 1.8 / (0.2 * 1e300)
    assert reduced.max_lr(weight_decay=1e300) == pytest.approx(limit, rel=1e-12)


# The forecast

BUDGETS = (0, 1, 2, 10, 1000)


@decays
@forms
@pytest.mark.parametrize("scales", [pytest.param(0, marks=pytest.mark.slow), 6])
def test_the_forecast_is_the_loss_of_the_fit(form, weight_decay, scales):
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
def test_the_forecast_of_a_fit_that_diverges_is_infinite(form):
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


EPOCHS = np.array([0, 1, 2, 3, 17, 100, 399, 5])


@decays
@forms
@pytest.mark.parametrize("standardize", [False, True])
@pytest.mark.parametrize("targets", [None, 2])
def test_the_path_is_the_history_of_the_fit(targets, standardize, form, weight_decay):
    X, y = make_data(40, 5, targets)
    X = X + np.arange(5.0)
    start = np.random.default_rng(1).standard_normal((6, *y.shape[1:]))
    reduced = compress(X, y, fit_intercept=True)
    constants = FORMS[form] | {"weight_decay": weight_decay, "standardize": standardize}
    options = {**constants, "lr": min(0.3 * reduced.max_lr(**constants), 0.005), "coef0": start}
    history = reduced.fit(epochs=400, **options).history
    path = reduced.path(epochs=EPOCHS, **options)
    np.testing.assert_array_equal(path.epoch, EPOCHS)
    assert path.step is None
    np.testing.assert_allclose(path.loss, history.loss[EPOCHS], rtol=1e-10)
    for name in ("coef", "grad"):
        expected = getattr(history, name)
        tolerance = 1e-11 * abs(expected).max()
        np.testing.assert_allclose(getattr(path, name), expected[EPOCHS], rtol=0, atol=tolerance)
    np.testing.assert_allclose(reduced.forecast(epochs=EPOCHS, **options), path.loss, rtol=1e-12)
    assert reduced.path(epochs=3, **options).coef.shape == (1, 6, *y.shape[1:])


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("from_start", [False, True])
def test_the_distances_are_those_of_exact_arithmetic(from_start, nesterov):
    """The gradient at x is 1 + s x where distances are measured from the start, and s x where from the optimum."""
    rng = np.random.default_rng(2)
    counts = np.array([0, 1, 2, 3, 4, 7, 8, 40, 41])
    constants = np.array([rng.uniform(0.1, 1.5, 9), rng.uniform(0, 0.95, 9), rng.uniform(0.1, 1, 9)])
    curvature = np.array([1.0, 0.7, 0.3, 0.1, 1e-3, 1e-9, 1e-200, 0.0, 0.9, 0.2])
    exact = np.empty((9, 10))
    for (i, count), (j, s) in itertools.product(enumerate(counts), enumerate(curvature)):
        lr, momentum, gradient_weight, s = map(Fraction, (*constants[:, i].tolist(), float(s)))
        x, v = Fraction(not from_start), Fraction(0)
        for epoch in range(count):
            gradient = from_start + s * x
            v = momentum * v + gradient_weight * gradient if epoch else gradient
            x -= lr * (gradient_weight * gradient + momentum * v if nesterov else v)
        exact[i, j] = x
    distance = follow_modes(curvature, constants, counts, nesterov, from_start)
    np.testing.assert_allclose(distance, exact, rtol=0, atol=200 * EPS * abs(exact).max())
    np.testing.assert_array_equal(distance[0], 0.0 if from_start else 1.0)
    np.testing.assert_allclose(distance[1], exact[1], rtol=4 * EPS)
    weights = rng.uniform(0, 1, 10)
    sums = follow_modes(curvature, constants, counts, nesterov, from_start, weights)
    np.testing.assert_allclose(sums, distance**2 @ weights, rtol=10 * EPS)


def test_directions_without_curvature_stay_where_they_start():
    X, y = make_data(30, 4)
    reduced = compress(np.column_stack([X, X[:, 0]]), y)
    start = np.arange(5.0)
    path = reduced.path(0.1, epochs=[0, 10**6], coef0=start)
    np.testing.assert_array_equal(path.coef[0], start)
    assert path.coef[1, 0] - path.coef[1, 4] == pytest.approx(-4, abs=1e-9)
    assert path.loss[1] == pytest.approx(reduced.optimal_loss, rel=1e-12)


def test_a_slow_direction_moves_by_its_gradient():
    """Its curvature is lost beside 1: 1 - lr s rounds to 1."""
    x = np.array([[1.0, 0.0], [0.0, 1e-9]])
    path = compress(x, [1.0, 1.0]).path(0.1, 0.0, epochs=[0, 1000])
    np.testing.assert_allclose(path.coef[1], [1.0, 1000 * 0.1 * 1e-9], rtol=1e-12)


def test_a_learning_curve_of_a_billion_epochs():
    epochs = np.unique(np.geomspace(1, 10**9, 200).astype(int))
    curve = REDUCED.forecast(1e-5, epochs=epochs)
    assert curve.shape == epochs.shape
    one_by_one = [REDUCED.forecast(1e-5, epochs=int(n)) for n in epochs[::20]]
    np.testing.assert_allclose(curve[::20], one_by_one, rtol=1e-9)
    assert np.all(np.diff(curve) <= 1e-12)


@pytest.mark.parametrize(
    ("epochs", "error", "message"),
    [
        ([1, -1], ValueError, "epochs must not be negative, got -1"),
        ([[1]], ValueError, "epochs must be a whole number or 1-D, got shape (1, 1)"),
        ([1.5], TypeError, "epochs must be whole numbers, got dtype float64"),
        ([], ValueError, "epochs must hold at least one number, got none"),
        ([True], TypeError, "epochs must be whole numbers, got dtype bool"),
        ([2**63], ValueError, "epochs must be at most sys.maxsize, got 9223372036854775808"),
    ],
)
def test_bad_epochs_of_a_curve_are_refused(epochs, error, message):
    for ask in (REDUCED.forecast, REDUCED.path):
        with pytest.raises(error, match="^" + re.escape(message)):
            ask(0.1, epochs=epochs)


def test_a_path_that_diverges_is_infinite():
    path = REDUCED.path(2 * REDUCED.max_lr(), epochs=[5, 10**6])
    assert np.isfinite(path.loss[0])
    assert path.loss[1] == np.inf


def test_a_forecast_refuses_bad_constants():
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


# Tuning


def best_of_grid(reduced, epochs, nesterov=False, weight_decay=0.0):
    """The lowest forecast over 40 lr around the stability limit x 40 momenta, as EMA and as heavy ball."""
    modes = reduced._modes(None, weight_decay)
    momentum, share = map(np.ravel, np.meshgrid(np.linspace(0, 0.999, 40), np.logspace(-4, 1, 40)))
    lowest = np.inf
    for undamped in (1 + 0 * momentum, 1 - momentum):
        limit = 2 * (1 + momentum) / ((1 + 2 * momentum if nesterov else 1) * undamped * modes.curvature[0])
        lowest = min(lowest, modes.objectives(share * limit, momentum, undamped, nesterov, epochs).min())
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
    "name", [pytest.param(name, marks=pytest.mark.slow if re.search("[1-8]", name) else ()) for name in REDUCTIONS]
)
def test_tuned_constants_are_as_good_as_a_grids(name, epochs):
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


@pytest.mark.parametrize("epochs", [1, 5, 50])
@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9, 0.9999999])
@pytest.mark.parametrize("name", ["random 0", "random 2", "diabetes True"])
def test_a_momentum_that_is_given_is_kept_in_tuning(name, momentum, epochs):
    reduced = REDUCTIONS[name]()
    for dampening in (None, 0.0, 1.0):
        tuned = reduced.tune(epochs, momentum=momentum, dampening=dampening)
        undamped = 1 - (momentum if dampening is None else dampening)
        assert (tuned.momentum, tuned.dampening) == (momentum, 1 - undamped)
        modes = reduced._modes(None, 0.0)
        lr = np.logspace(-6, 6, 3000) / modes.curvature[0]
        objectives = modes.objectives(lr, np.full(3000, momentum), np.full(3000, undamped), False, epochs)
        assert tuned.objective <= 1.01 * objectives.min() + 1e-20


def test_targets_and_zeros_are_tuned_for():
    X, y = make_data(targets=3)
    reduced = compress(X, y)
    tuned = reduced.tune(10)
    assert tuned.objective == pytest.approx(reduced.forecast(*tuned[:2], dampening=tuned.dampening, epochs=10).sum())
    tuned = compress(0 * X, y).tune(10)
    assert 0 < tuned.lr < np.inf
    assert tuned.objective == pytest.approx((y**2).mean(axis=0).sum())


@pytest.mark.parametrize("epochs", [100, 300, 1000])
def test_targets_whose_sum_overflows_are_tuned_for(epochs):
    """Somewhere on the grid each loss is just below the largest number: no warning of numpy's, an error here."""
    X, _ = make_data(n=12, d=3)
    tuned = compress(X, np.tile(X[:, :1], 9)).tune(epochs, momentum=0.5)
    assert tuned.objective < 1e-20


@intercepts
@pytest.mark.parametrize("targets", [None, 2])
def test_predictions_are_those_of_the_least_squares_solution(targets, fit_intercept):
    X, y = make_data(targets=targets)
    reduced = compress(X, y, fit_intercept=fit_intercept)
    Z = np.column_stack([X, np.ones(len(X))]) if fit_intercept else X
    want = Z @ np.linalg.lstsq(Z, y, rcond=None)[0]
    np.testing.assert_allclose(reduced.predict(X), want, rtol=1e-9, atol=1e-9)
    with pytest.raises(ValueError, match=f"X must have the {X.shape[1]} columns of the fit, got 2"):
        reduced.predict(X[:, :2])


def test_predictions_take_the_columns_of_a_table_by_name():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(X60, columns=list("abcde"))
    reduced = compress(frame, Y60)
    np.testing.assert_allclose(reduced.predict(frame[list("edcba")]), REDUCED.predict(X60), rtol=1e-12)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("targets", [1, 4, 5])
@pytest.mark.parametrize("columns", [1, 3, 4, 20, 65, 520])
@pytest.mark.parametrize("gap", [0, 1, 9])
def test_a_factor_is_read_from_its_diagonal_on(gap, columns, targets, dtype):
    """Its loss and gradient are those of a full matrix of the same numbers, whatever gap there is between its rows."""
    rng = np.random.default_rng(columns)
    R = np.triu(rng.normal(size=(columns + targets, columns))).astype(dtype)
    y, a = (rng.normal(size=shape).astype(dtype) for shape in ((targets, len(R)), (columns, targets)))
    weights = rng.uniform(1, 2, len(R)).astype(dtype)
    seen = []
    apart = np.pad(R, ((0, 0), (0, gap)))[:, :columns]
    for lines, triangular in ((apart, True), (apart, False), (R, False)):
        rows = Rows(Problem(lines, False, y, weights, float(weights.sum()), False, triangular=triangular))
        state = State(np.stack([a, a]), None, None, np.full((METRICS, targets), np.nan))
        loss, paths = np.zeros((1, targets), dtype), np.zeros((3, 1, columns, targets), dtype)
        advance(rows, Options((0.1, 0.5, 0.5)), state, Record(loss, None, paths), 1)
        seen.append((losses(rows, a), loss, paths))
    for *others, of_matrix in zip(*seen, strict=True):
        size = np.abs(of_matrix).max()
        for other in others:
            np.testing.assert_allclose(other, of_matrix, rtol=0, atol=100 * np.finfo(dtype).eps * size)
