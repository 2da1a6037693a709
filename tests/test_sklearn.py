"""The scikit-learn estimators: scikit-learn's own checks, `sgdm.fit` underneath, and the loop that the CV saves."""

import pickle
import warnings

import helpers
import numpy as np
import pytest

import sgdm
from sgdm import schedules

sklearn = pytest.importorskip("sklearn")
# ruff: noqa: E402

from scipy.stats import ttest_rel
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_diabetes, load_linnerud, load_wine, make_regression
from sklearn.exceptions import ConvergenceWarning
from sklearn.inspection import permutation_importance
from sklearn.linear_model import ElasticNet, LinearRegression, Ridge, SGDRegressor
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    KFold,
    LeaveOneOut,
    ShuffleSplit,
    TimeSeriesSplit,
    cross_val_score,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import sgdm.sklearn
from sgdm.sklearn import SGDMRegressor, SGDMRegressorCV

N, D = 60, 5
short = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning", "ignore::sgdm.ConvergenceWarning")


def make_data(targets=None, dtype=float, seed=0):
    X, Y = helpers.make_data(N, D, 3, seed=seed, noise=1, shift=0.5)
    return X.astype(dtype), (Y[:, 0] if targets is None else Y[:, :targets]).astype(dtype)


def make_weights():
    return np.random.default_rng(1).uniform(0.1, 2, N)


@short
@parametrize_with_checks([SGDMRegressor(), SGDMRegressorCV()])
def test_scikit_learns_checks(estimator, check):
    check(estimator)


# The regressor

DIABETES = load_diabetes(return_X_y=True)
FIXED = {"lr": 0.05, "momentum": 0.9, "standardize": False}
OPTIONS = {
    "plain": {},
    "no intercept": {"fit_intercept": False},
    "heavy ball": {"lr": 0.01, "dampening": 0.0},
    "nesterov, decay": {"nesterov": True, "weight_decay": 0.1},
    "l1": {"l1": 0.5},
    "batches": {"batch_size": 16, "random_state": 3, "tol": None},
    "batches in order": {"batch_size": 16, "shuffle": False},
    "average": {"average": 10},
    "schedule": {"lr": schedules.one_cycle(40, 0.1)[0]},
    "early stopping": {"early_stopping": True, "validation_fraction": 0.3, "n_iter_no_change": 3, "random_state": 3},
    "everything recorded": {"record": "all"},
}
NAMES = {
    "max_iter": "epochs",
    "random_state": "seed",
    "validation_fraction": "validation",
    "n_iter_no_change": "patience",
}


@short
@pytest.mark.parametrize(("targets", "dtype"), [(None, float), (2, np.float32)])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", OPTIONS)
def test_the_regressor_is_fit_to_the_bit(name, targets, dtype, weighted):
    """Every bit of the result is that of `sgdm.fit`, and the attributes are of scikit-learn's shapes."""
    X, y = make_data(targets, dtype)
    options = {"tol": None, **FIXED, **OPTIONS[name], "max_iter": 40}
    w = make_weights() if weighted else None
    model = SGDMRegressor(**options).fit(X, y, sample_weight=w)
    own = {"fit_intercept": True, "record": "loss", **options}
    own = {NAMES.get(key, key): value for key, value in own.items() if key != "early_stopping"}
    result = sgdm.fit(X, y, sample_weight=w, **own)
    assert model.result_ == result
    expected = result.coef if result.average_coef is None else result.average_coef
    np.testing.assert_array_equal(model.coef_, expected.T)
    assert model.coef_.shape == ((D,) if targets is None else (targets, D))
    assert model.coef_.dtype == model.predict(X).dtype == model.loss_curve_.dtype == dtype
    assert np.shape(model.intercept_) == (() if targets is None or name == "no intercept" else (targets,))
    assert model.n_iter_ == result.epochs == len(model.history_)
    np.testing.assert_array_equal(model.loss_curve_, result.history.loss)
    assert model.predict(X).shape == y.shape


@pytest.mark.parametrize(
    "data",
    [
        make_data(), make_data(3), (StandardScaler().fit_transform(DIABETES[0]), DIABETES[1]),
        make_regression(500, 20, noise=5, random_state=0),
        make_regression(40, 80, noise=5, random_state=0),
    ],
    ids=["small", "targets", "diabetes", "regression", "wide"],
)  # fmt: skip
def test_the_defaults_converge(data):
    X, y = data
    model, exact = SGDMRegressor().fit(X, y), LinearRegression().fit(X, y)  # a warning would be an error
    assert model.score(X, y) == pytest.approx(exact.score(X, y), abs=1e-9)


def test_the_defaults_come_near_where_the_condition_number_is_large():
    """Of diabetes as it is, 50 000: the flattest direction needs more than 1000 epochs."""
    model, exact = SGDMRegressor().fit(*DIABETES), LinearRegression().fit(*DIABETES)
    assert model.score(*DIABETES) == pytest.approx(exact.score(*DIABETES), abs=1e-4)


def test_a_tol_that_is_not_met_warns():
    X, y = make_data()
    message = r"did not fall to tol=1e-05 times .* in max_iter=3 epochs; raise max_iter"
    far = pytest.warns(sgdm.ConvergenceWarning, match=r"in 3 epochs, far above the least there is, \S+; use st")
    with far, pytest.warns(ConvergenceWarning, match=message):
        SGDMRegressor(max_iter=3, tol=1e-5, standardize=False).fit(X, y)
    with far:
        SGDMRegressor(max_iter=3, standardize=False).fit(X, y)
    with pytest.warns(ConvergenceWarning, match=r"did not fall to tol=1e-12 times"):
        SGDMRegressor(max_iter=30, **FIXED).fit(X, y)
    with far:
        assert SGDMRegressor(max_iter=3, tol=None, standardize=False).fit(X, y).n_iter_ == 3
    assert SGDMRegressor(tol=0.1, **FIXED).fit(X, y).n_iter_ < SGDMRegressor(tol=1e-3, **FIXED).fit(X, y).n_iter_


BATCHES = {"batch_size": 16, "random_state": 3}


@pytest.mark.parametrize("options", [{}, BATCHES, {"average": True, "record": "all", **BATCHES}])
def test_warm_starts_and_partial_fits_go_on(options):
    """Warm starts and partial fits carry parameters, velocity, epochs, averages and row order."""
    X, y = make_data()
    options = {**FIXED, "tol": None, **options}
    whole = SGDMRegressor(max_iter=30, **options).fit(X, y)
    warm = SGDMRegressor(max_iter=10, warm_start=True, **options)
    partial = SGDMRegressor(**options)
    for _ in range(3):
        warm.fit(X, y)
    for _ in range(30):
        partial.partial_fit(X, y)
    mixed = SGDMRegressor(max_iter=29, **options).fit(X, y).partial_fit(X, y)
    for model in (warm, partial, mixed):
        assert model.result_ == whole.result_
        assert model.n_iter_ == 30
    assert whole.fit(X, y).n_iter_ == 30  # a cold start


def test_batches_may_begin_in_a_partial_fit():
    X, y = make_data()
    model = SGDMRegressor(max_iter=5, tol=None, **FIXED).fit(X, y).set_params(**BATCHES).partial_fit(X, y)
    again = clone(model).set_params(batch_size=None).fit(X, y).set_params(**BATCHES).partial_fit(X, y)
    assert model.result_ == again.result_


@pytest.mark.parametrize("random_state", [None, np.random.RandomState(0)])
def test_another_random_state_gives_another_order(random_state):
    X, y = make_data()
    model = SGDMRegressor(**FIXED, **BATCHES | {"random_state": random_state}).fit(X, y)
    assert not np.array_equal(model.coef_, clone(model).set_params(random_state=7).fit(X, y).coef_)


@short
@pytest.mark.parametrize("max_iter", [3, 200])
def test_warm_starts_with_automatic_constants_converge(max_iter):
    """Constants for a few epochs may be unstable in the long run; those that a fit goes on with are not."""
    X, y = make_data()
    model = SGDMRegressor(max_iter=max_iter, warm_start=True, tol=None)
    for _ in range(-(-600 // max_iter)):
        model.fit(X, y)
    assert model.score(X, y) == pytest.approx(LinearRegression().fit(X, y).score(X, y), abs=1e-6)


@pytest.mark.parametrize(
    "options",
    [
        {},
        pytest.param({"momentum": 0.5, "dampening": 0.0}, marks=pytest.mark.slow),
        pytest.param({"nesterov": True}, marks=pytest.mark.slow),
        pytest.param({"dampening": 1.0}, marks=pytest.mark.slow),
    ],
)
def test_partial_fits_with_automatic_constants_converge(options):
    """A stream of blocks of differing sizes and scales, after a fit tuned to the first or from the start."""
    rng = np.random.default_rng(0)
    coef = rng.uniform(1, 2, D)
    fresh = SGDMRegressor(**options, record=None)
    tuned = SGDMRegressor(momentum=options.get("momentum", "auto"), max_iter=50, tol=None, record=None)
    X = rng.standard_normal((50, D))
    tuned.fit(X, X @ coef + 1)
    for _ in range(600):
        X = rng.uniform(0.1, 3) * rng.standard_normal((rng.integers(5, 60), D))
        for model in (fresh, tuned):
            model.partial_fit(X, X @ coef + 1)
    np.testing.assert_allclose(tuned.coef_, coef, atol=1e-3)
    if options != {"dampening": 1.0}:  # which never looks at a gradient but the first
        np.testing.assert_allclose(fresh.coef_, coef, atol=1e-3)
    assert SGDMRegressor().partial_fit(np.zeros((3, 2)), np.ones(3)).coef_.tolist() == [0, 0]


@pytest.mark.parametrize(
    ("options", "method", "message"),
    [
        ({"max_iter": 0}, "fit", "max_iter must be at least 1"),
        ({"early_stopping": True, "n_iter_no_change": 0}, "fit", "n_iter_no_change must be at least 1"),
        ({"early_stopping": True, "validation_fraction": 1}, "fit", r"validation_fraction must be in \[0, 1\)"),
        ({"early_stopping": True}, "partial_fit", "partial_fit and early_stopping don't go together"),
        ({"batch_size": 5, "lr": 0.1, "tol": 0.1}, "fit", "tol and batch_size don't go together"),
        ({"record": "some"}, "fit", "record must be"),
    ],
)
def test_the_regressor_refuses_what_does_not_go_together(options, method, message):
    with pytest.raises(ValueError, match=message):
        getattr(SGDMRegressor(**options), method)(*make_data())


def test_a_fit_that_diverges_is_an_error():
    with pytest.raises(sgdm.DivergenceError, match="lr=1000"):
        SGDMRegressor(lr=1e3).fit(*make_data())


def test_the_estimators_need_scikit_learn(run_python):
    done = run_python("import sys; sys.modules['sklearn'] = None; import sgdm; import sgdm.sklearn")
    assert "ImportError: sgdm.sklearn needs scikit-learn 1.6 or later: pip install 'sgdm[sklearn]'" in done.stderr


# Among scikit-learn's tools

ESTIMATORS = [
    SGDMRegressor(max_iter=60, tol=None, weight_decay=0.1),
    SGDMRegressorCV(max_iter=60, lr=[0.05, 0.1], momentum=0.5),
]
both = pytest.mark.parametrize("estimator", ESTIMATORS, ids=["regressor", "cv"])


@short
@both
def test_the_estimators_work_in_scikit_learns_tools(estimator):
    X, y = make_data()
    model = clone(estimator).fit(X, y)
    copied = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(copied.predict(X), model.predict(X))
    assert copied.result_ == model.result_
    pipeline = make_pipeline(StandardScaler(), clone(estimator)).set_output(transform="pandas").fit(X, y)
    assert pipeline.score(X, y) > 0.8
    assert cross_val_score(clone(estimator), X, y, cv=3).min() > 0.5
    assert permutation_importance(model, X, y, n_repeats=2, random_state=0).importances_mean.min() > 0
    search = GridSearchCV(pipeline, {f"{type(estimator).__name__.lower()}__max_iter": [2, 60]}, cv=3).fit(X, y)
    assert search.best_params_.popitem()[1] == 60
    assert not any(name.endswith("_") for name in vars(clone(model)))


@both
@pytest.mark.parametrize("library", ["pandas", "polars", "pyarrow"])
def test_the_estimators_take_data_frames(estimator, library):
    frames = pytest.importorskip(library)
    X, y = make_data()
    make_table, make_column = (
        (frames.table, frames.array) if library == "pyarrow" else (frames.DataFrame, frames.Series)
    )
    columns = {f"x{i}": column for i, column in enumerate(X.T)}
    model = clone(estimator).fit(make_table(columns), make_column(y))
    assert model.feature_names_in_.tolist() == list(model.result_.feature_names) == list(columns)
    assert "\nx4 " in model.result_.summary()
    np.testing.assert_array_equal(model.coef_, clone(estimator).fit(X, y).coef_)
    np.testing.assert_allclose(model.predict(make_table(columns)), model.result_.predict(X), rtol=1e-13)
    with pytest.raises(ValueError, match="feature names"):
        model.predict(make_table(dict(reversed(columns.items()))))


@both
def test_sample_weight_is_routed(estimator):
    X, y = make_data()
    w = make_weights()
    with sklearn.config_context(enable_metadata_routing=True):
        asks = clone(estimator).set_fit_request(sample_weight=True)
        routed = make_pipeline(StandardScaler().set_fit_request(sample_weight=False), asks).fit(X, y, sample_weight=w)
    X = StandardScaler().fit_transform(X)
    np.testing.assert_array_equal(routed[-1].coef_, clone(estimator).fit(X, y, sample_weight=w).coef_)


@both
def test_weights_that_are_all_zero_are_refused(estimator):
    with pytest.raises(ValueError, match="sample_weight must not be zero for every row"):
        clone(estimator).fit(*make_data(), sample_weight=np.zeros(N))


# Cross-validation

GROUPS = np.random.default_rng(2).integers(0, 4, N)
FOLDS = [np.arange(0, N, 2), np.arange(1, N, 2)]
CVS = {
    "default": None,
    "shuffled": KFold(7, shuffle=True, random_state=0),
    "one by one": LeaveOneOut(),
    "groups": GroupKFold(4),
    "overlapping": ShuffleSplit(4, test_size=0.3, random_state=0),
    "in time": TimeSeriesSplit(4),
    "pairs": [(FOLDS[0], FOLDS[1]), (FOLDS[1], FOLDS[0])],
    "masks": [(np.arange(N) >= 20, np.arange(N) < 20), (np.arange(N) < 20, np.arange(N) >= 20)],
    "a single split": [(FOLDS[0], FOLDS[1])],
    "part of the training set": [(FOLDS[0][:-5], FOLDS[1]), (FOLDS[1], FOLDS[0])],
    "rows twice": [(np.repeat(FOLDS[0], 2)[:30], FOLDS[1]), (FOLDS[1], FOLDS[0])],
    "seen before": [(np.arange(N), FOLDS[0]), (np.arange(N), FOLDS[1])],
}
CV_OPTIONS = {
    "plain": FIXED,
    "nesterov, decay": {**FIXED, "nesterov": True, "weight_decay": 0.3, "fit_intercept": False},
    "l1, function": {
        "lr": lambda t: 0.1 / (1 + t),
        "momentum": 0.5,
        "l1": 0.2,
        "dampening": 0.3,
        "standardize": False,
    },
}


def loop(X, y, splits, w=None, max_iter=40, d=D, **options):
    """What a person would write: the mean squared error on each fold after every epoch over the others' rows."""
    curves = np.empty((len(splits), max_iter))
    for curve, (train, test) in zip(curves, splits, strict=True):
        weights = None if w is None else w[train]
        path = sgdm.fit(X[train], y[train], sample_weight=weights, epochs=max_iter + 1, method="direct", **options)
        for t, params in enumerate(path.history.coef[1:]):
            residual = X[test] @ params[:d] + params[d:].sum(axis=0) - y[test]
            curve[t] = np.average(residual**2, axis=0, weights=None if w is None else w[test]).mean()
    return curves


def chosen_epochs(curves, y, splits, fit_intercept):
    """Those of the lowest mean loss, or all where the last loss is not significantly above it, nor far above it."""
    mean = curves.mean(0)
    best, last = mean.argmin(), curves.shape[1] - 1
    if best == last:
        return last + 1
    of_the_mean = np.mean([((y[test] - fit_intercept * y[train].mean()) ** 2).mean() for train, test in splits])
    far = mean[last] > max(2 * mean[best], of_the_mean)
    if len(curves) == 1 or far or ttest_rel(curves[:, last], curves[:, best]).pvalue < 0.05:
        return best + 1
    return last + 1


@short
@pytest.mark.parametrize("options", CV_OPTIONS.values(), ids=CV_OPTIONS)
@pytest.mark.parametrize(
    ("cv", "groups"), [(cv, GROUPS if name == "groups" else None) for name, cv in CVS.items()], ids=CVS
)
def test_estimators_is_the_loop_over_folds(cv, groups, options):
    X, y = make_data()
    model = SGDMRegressorCV(max_iter=40, cv=cv, **options).fit(X, y, groups=groups)
    rows = np.arange(N)
    splits = cv if isinstance(cv, list) else (cv or KFold(5)).split(X, y, groups)
    splits = [(rows[train], rows[test]) for train, test in splits]
    options = {"fit_intercept": True, **options}
    expected = loop(X, y, splits, **options)
    assert model.n_splits_ == len(splits)
    np.testing.assert_allclose(model.val_loss_curves_, expected, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(model.mean_val_loss_curve_, expected.mean(0), rtol=1e-10)
    assert model.best_n_iter_ == model.n_iter_ == chosen_epochs(expected, y, splits, options["fit_intercept"])
    final = sgdm.fit(X, y, epochs=model.best_n_iter_, **options)
    np.testing.assert_allclose(model.coef_, final.coef, rtol=1e-10)
    np.testing.assert_allclose(model.intercept_, final.intercept, rtol=1e-10)
    np.testing.assert_allclose(model.loss_curve_, final.history.loss, rtol=1e-10)


@pytest.mark.parametrize("cv", [None, ShuffleSplit(3, random_state=0)], ids=["folds", "overlapping"])
def test_estimators_takes_weights_and_targets(cv):
    X, y = make_data(3)
    w = make_weights()
    model = SGDMRegressorCV(max_iter=40, cv=cv, **FIXED).fit(X, y, sample_weight=w)
    splits = list((cv or KFold(5)).split(X))
    expected = loop(X, y, splits, w, fit_intercept=True, **FIXED)
    np.testing.assert_allclose(model.val_loss_curves_, expected, rtol=1e-10)
    mean = np.average(expected, axis=0, weights=[w[test].sum() for _, test in splits])
    np.testing.assert_allclose(model.mean_val_loss_curve_, mean, rtol=1e-10)
    assert model.coef_.shape == (3, D)
    assert model.intercept_.shape == (3,)


@short
@pytest.mark.parametrize(("cv", "times"), [(2, 1), (12, 1), (ShuffleSplit(3, test_size=0.5), 4)])
def test_estimators_reads_the_rows_once(cv, times, monkeypatch):
    """However many folds share them out; else once per split, and once for the final fit."""
    rows, compress = [], sgdm._estimators.compress
    monkeypatch.setattr(
        sgdm._estimators, "compress", lambda X, y, **options: rows.append(len(X)) or compress(X, y, **options)
    )
    SGDMRegressorCV(lr=[0.01, 0.1], max_iter=10, cv=cv).fit(*make_data())
    assert sum(rows) == times * N


@pytest.mark.parametrize(
    "option",
    [
        {"lr": -1}, {"lr": [0.1, "x"]}, {"momentum": 1}, {"dampening": 2, "lr": 0.1}, {"weight_decay": "x"}, {"l1": -1},
        {"nesterov": 1}, {"record": "bogus"}, {"max_iter": 0},
    ],
    ids=str,
)  # fmt: skip
def test_estimators_refuses_an_option_before_it_reduces_a_fold(option, monkeypatch):
    def reduce(*_, **__):
        raise AssertionError("the rows were reduced first")

    monkeypatch.setattr(sgdm._estimators, "compress", reduce)
    with pytest.raises((ValueError, TypeError)):
        SGDMRegressorCV(**option).fit(*make_data())


def test_an_error_of_every_setting_has_the_attributes_of_its_class():
    error = sgdm.DivergenceError("a loss overflows")
    assert error.result is None
    assert error.max_lr is None


@short
def test_estimators_searches_a_grid():
    X, y = make_data()
    lrs, momenta, decays = [0.001, 0.05], (0.0, 0.9), np.array([0.0, 10.0])
    model = SGDMRegressorCV(lr=lrs, momentum=momenta, weight_decay=decays, max_iter=30).fit(X, y)
    results = model.cv_results_
    assert len(results["params"]) == 8
    for i, params in enumerate(results["params"]):
        one = SGDMRegressorCV(**params, max_iter=30).fit(X, y)
        np.testing.assert_array_equal(results["val_loss_curves"][i], one.val_loss_curves_)
        assert results["n_iter"][i] == one.mean_val_loss_curve_.argmin() + 1
        at_best = one.val_loss_curves_[:, results["n_iter"][i] - 1]
        assert (results["mean_val_loss"][i], results["std_val_loss"][i]) == (at_best.mean(), at_best.std())
    best = results["mean_val_loss"].argmin()
    assert model.best_params_ == results["params"][best]
    assert model.best_params_["lr"] == 0.05
    assert model.best_n_iter_ in (results["n_iter"][best], 30)
    np.testing.assert_array_equal(model.val_loss_curves_, results["val_loss_curves"][best])


@pytest.mark.parametrize("d", [2, 30])
@pytest.mark.parametrize("k", [None, 3])
def test_each_setting_has_the_losses_that_it_has_alone(d, k):
    """Whatever is beside it in its lanes: a fit that diverges, another rule of rates, another penalty."""
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((90, d)), rng.standard_normal((90, k) if k else 90)
    grid = {"lr": [0.01, 1e9, lambda epoch: 0.05 / (1 + epoch)], "momentum": [0.5, 0.9], "l1": [0.0, 0.1]}
    model = SGDMRegressorCV(**grid, max_iter=40, cv=3).fit(X, y)
    results = model.cv_results_
    folds = list(KFold(3).split(X))
    moments = X.mean(axis=0), X.std(axis=0)
    for params, curves in zip(results["params"], results["val_loss_curves"], strict=True):
        if params["lr"] == 1e9:
            assert np.isinf(curves[:, -1]).all()
            continue
        expected = loop(X, y, folds, fit_intercept=True, standardize=moments, d=d, **params)
        np.testing.assert_allclose(curves, expected, rtol=1e-9)


def test_losses_beyond_float32_are_infinite_for_data_of_float32():
    X, y = (array.astype(np.float32) for array in make_data())
    model = SGDMRegressorCV(lr=[3.0, 0.1], momentum=0.0, max_iter=120, cv=3, standardize=False).fit(X, y)
    curves = model.cv_results_["val_loss_curves"][0]
    largest = np.finfo(np.float32).max
    assert curves[np.isfinite(curves)].max() <= largest
    assert np.isinf(curves[:, -1]).all()
    with pytest.raises(sgdm.DivergenceError):
        SGDMRegressorCV(lr=0.1, max_iter=5).fit(X, y * np.float32(1e20))


def test_the_error_of_folds_that_diverge_comes_without_warnings():
    X, y = make_data()
    X[:15] *= 1e90
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(sgdm.DivergenceError):
            SGDMRegressorCV(lr=1e140, momentum=0.0, max_iter=1, standardize=False).fit(X, y)


def test_losses_that_memory_does_not_hold_are_refused_with_advice():
    with pytest.raises(
        MemoryError, match=r"the losses of 15 descents of 10+ epochs take .* GiB.*; lower max_iter, or try"
    ):
        SGDMRegressorCV(lr=[0.1, 0.2, 0.3], max_iter=10**13).fit(*make_data())


def test_estimators_tunes_once_for_all_folds():
    """Tuned once, on all rows, and stable on every training set: the loop with the same constants gives the same."""
    X, y = make_data()
    X[:12] /= 10  # which makes the curvature of the other folds greater
    model = SGDMRegressorCV(max_iter=300, standardize=False).fit(X, y)
    assert model.best_params_ == {"lr": "auto", "momentum": "auto", "weight_decay": 0.0, "l1": 0.0}
    rates = {name: getattr(model.result_, name) for name in ("lr", "momentum", "dampening")}
    expected = loop(X, y, list(KFold(5).split(X)), fit_intercept=True, max_iter=300, **rates)
    np.testing.assert_allclose(model.val_loss_curves_, expected, rtol=1e-10)
    exact = -cross_val_score(LinearRegression(), X, y, cv=5, scoring="neg_mean_squared_error").mean()
    assert model.mean_val_loss_curve_[-1] == pytest.approx(exact, rel=1e-3)


@pytest.mark.parametrize("dtype", [float, np.float32])
def test_a_setting_that_diverges_loses(dtype):
    """A setting that diverges loses, with inf from where it overflowed; if all do at once, that is the error."""
    X, y = make_data(dtype=dtype)
    model = SGDMRegressorCV(lr=[1e3, 0.05], max_iter=300).fit(X, y)
    assert model.best_params_["lr"] == 0.05
    curves = model.cv_results_["val_loss_curves"][0]
    assert np.isfinite(curves[:, 0]).all()
    assert (curves[:, -1] == np.inf).all()
    assert model.coef_.dtype == dtype
    with pytest.raises(sgdm.DivergenceError, match="lr=1e\\+300"):
        SGDMRegressorCV(lr=1e300).fit(X, y)


def test_settings_that_all_overflow_at_once_are_an_error():
    """In the first epoch: there is no loss of any."""
    X, y = make_data(targets=2)
    for target in (y, y[:, 0]):
        with pytest.raises(sgdm.DivergenceError, match="at epoch 0"):
            SGDMRegressorCV(lr=0.1).fit(X, target * 1e160)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_iter": 0}, "max_iter must be at least 1"),
        ({"lr": []}, "lr must be a value or a sequence of at least one value, got"),
        ({"lr": np.array(-0.1)}, "lr must be finite and not negative, got"),
        ({"lr": [[0.1], [0.1, 0.2]]}, "lr must be"),
        ({"lr": [[0.1, 0.2]]}, "lr must be a value or a sequence of at least one value, got"),
        ({"weight_decay": -1.0, "lr": 0.1}, "weight_decay must be finite and not negative"),
        ({"cv": 1}, "n_splits=1|at least one train/test split"),
    ],
)
def test_estimators_refuses_bad_settings(options, message):
    with pytest.raises(ValueError, match=message):
        SGDMRegressorCV(**options).fit(*make_data())


# Data as they come


def countries():
    """Population, income and life expectancy: columns of 1e9, 1e4 and 1e1."""
    rng = np.random.default_rng(0)
    population, income = 10 ** rng.uniform(5, 9.2, 150), 10 ** rng.uniform(2.5, 5, 150)
    return np.column_stack([population, income]), 30 + 7 * np.log10(income) + 3 * rng.standard_normal(150)


RAW = {
    "wine": load_wine(return_X_y=True), "breast cancer": load_breast_cancer(return_X_y=True),
    "diabetes": load_diabetes(return_X_y=True, scaled=False), "linnerud": load_linnerud(return_X_y=True),
    "countries": countries(),
    "shifted": (make_data()[0] * [1, 1e-6, 1e6, 3, 0.1] + [0, 1, 1e9, 5, -40], make_data()[1]),
}  # fmt: skip
RAW = {name: (X, y.astype(float)) for name, (X, y) in RAW.items()}
raw = pytest.mark.parametrize("data", RAW.values(), ids=RAW)


def least_squares(X, y):
    """R^2 of least squares. Without StandardScaler, LinearRegression drops a small column among large ones."""
    return make_pipeline(StandardScaler(), LinearRegression()).fit(X, y).score(X, y)


@raw
def test_the_regressor_reaches_least_squares_on_raw_data(data):
    expected = least_squares(*data)
    assert SGDMRegressor().fit(*data).score(*data) == pytest.approx(expected, abs=1e-4)
    assert make_pipeline(StandardScaler(), SGDMRegressor()).fit(*data).score(*data) == pytest.approx(expected, abs=1e-4)


@raw
def test_cross_validation_ends_near_least_squares_on_raw_data(data):
    expected = least_squares(*data)
    assert SGDMRegressorCV().fit(*data).score(*data) == pytest.approx(expected, abs=0.01)


@pytest.mark.parametrize("name", ["wine", "diabetes", "countries"])
def test_penalties_give_ridges_and_elastic_nets_coefficients_on_raw_data(name):
    X, y = RAW[name]
    scale, alpha = X.std(axis=0), 0.01 * y.std()
    ridge = Ridge(alpha=len(X) * alpha).fit(X, y)
    ours = SGDMRegressor(weight_decay=2 * alpha).fit(X, y)
    np.testing.assert_allclose(ours.coef_ * scale, ridge.coef_ * scale, rtol=1e-6, atol=1e-8)
    net = ElasticNet(alpha=alpha, l1_ratio=0.5, tol=1e-13, max_iter=10**6).fit(X, y)
    ours = SGDMRegressor(weight_decay=alpha, l1=alpha, max_iter=3000).fit(X, y)
    np.testing.assert_allclose(ours.coef_ * scale, net.coef_ * scale, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("noise", [0, 5])
@pytest.mark.parametrize("seed", range(10))
def test_early_stopping_is_not_ended_by_a_swing(seed, noise):
    X, y = make_regression(400, 20, noise=noise, random_state=seed)
    theirs = make_pipeline(StandardScaler(), SGDRegressor(early_stopping=True, random_state=seed)).fit(X, y)
    ours = SGDMRegressor(early_stopping=True, random_state=seed).fit(X, y)
    assert ours.score(X, y) > theirs.score(X, y) - 1e-4


@pytest.mark.parametrize("options", [{"batch_size": 16}, {"batch_size": 16, "l1": 0.01}, {"batch_size": 1}], ids=str)
@pytest.mark.parametrize("name", ["wine", "diabetes", "countries"])
def test_batches_have_automatic_constants_on_raw_data(name, options):
    X, y = RAW[name]
    model = SGDMRegressor(random_state=0, max_iter=300, **options).fit(X, y)
    assert model.score(X, y) > LinearRegression().fit(X, y).score(X, y) - 0.1  # the noise of the batches
    assert model.partial_fit(X[:50], y[:50]).n_iter_ == 301


def test_partial_fits_standardize_by_all_rows_that_they_have_seen():
    X, y = RAW["countries"]
    model = SGDMRegressor(batch_size=1, random_state=0)
    for epoch in range(30):
        for rows in np.array_split(np.random.default_rng(epoch).permutation(len(X)), 15):
            model.partial_fit(X[rows], y[rows])
    weight, means, deviations = model._moments
    assert weight == 30 * len(X)
    np.testing.assert_allclose(means, X.mean(axis=0), rtol=1e-10)
    np.testing.assert_allclose(deviations, X.std(axis=0), rtol=1e-10)
    assert model.score(X, y) > LinearRegression().fit(X, y).score(X, y) - 0.05


def test_float32_columns_far_from_zero_keep_their_digits():
    X, y = make_data()
    X = (X + 1000).astype(np.float32)
    exact = LinearRegression().fit(X.astype(float), y)
    model = SGDMRegressor().fit(X, y.astype(np.float32))
    assert model.coef_.dtype == np.float32
    np.testing.assert_allclose(model.coef_, exact.coef_, rtol=2e-5)


@pytest.mark.parametrize("model", [SGDMRegressor(), SGDMRegressorCV(max_iter=200)], ids=["fit", "cross-validation"])
def test_constant_and_equal_columns_are_named_and_get_the_solution_of_least_norm(model):
    pandas = pytest.importorskip("pandas")
    X, y = make_data()
    table = pandas.DataFrame(X, columns=list("abcde")).assign(ones=1.0, third=0.1 + 0.2, b2=X[:, 1])
    with pytest.warns(UserWarning, match="^columns that are") as caught:
        model = clone(model).fit(table, y)
    assert [str(warning.message) for warning in caught] == [
        "columns that are constant have coefficient 0: 'ones', 'third'; leave them out",
        "columns that are equal share their coefficient: 'b2' and 'b'; leave one of each out",
    ]
    exact = LinearRegression().fit(table, y)
    np.testing.assert_allclose(model.coef_, exact.coef_, rtol=0, atol=1e-6)
    assert model.coef_[1] == pytest.approx(model.coef_[7], rel=1e-9)


@pytest.mark.parametrize("cv", [2, 3, 5])
def test_cross_validation_stops_early_where_all_epochs_overfit(cv):
    """A few folds that differ much make hardly any difference significant."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((60, 40))
    y = X[:, 0] + rng.standard_normal(60)
    model = SGDMRegressorCV(cv=cv).fit(X, y)
    assert model.best_n_iter_ < 100
    assert model.mean_val_loss_curve_[model.best_n_iter_ - 1] == model.mean_val_loss_curve_.min()


def test_a_row_without_weight_does_not_set_the_rate_of_batches():
    X, y = make_data()
    w = np.ones(N)
    w[0] = 0
    expected = SGDMRegressor(batch_size=4, max_iter=30, random_state=0).fit(X, y, sample_weight=w)
    X = X.copy()
    X[0] = 1e6
    model = SGDMRegressor(batch_size=4, max_iter=30, random_state=0).fit(X, y, sample_weight=w)
    assert model.result_.lr == pytest.approx(expected.result_.lr)
