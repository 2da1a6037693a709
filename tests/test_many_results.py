"""The result of many fits: a result for each, whose parts, files and predictions are those of fit."""

import copy
import dataclasses
import pickle
import re

import numpy as np
import pytest
from helpers import HISTORIES, B, D, N, alone, assert_each_is_fit, dtypes, intercepts
from helpers import MANY_X as X
from helpers import MANY_Y as y

import sgdm


@intercepts
@pytest.mark.parametrize("record", ["all", "loss", None])
def test_a_result_of_many_fits_has_an_axis_for_them(record, fit_intercept):
    many = sgdm.fit_many(X, y, epochs=8, record_every=3, record=record, fit_intercept=fit_intercept)
    p = D + fit_intercept
    shapes = {"coef": (B, D), "velocity": (B, p), "intercept": (B,), "loss": (B,), "epochs": (B,), "status": (B,)}
    shapes |= dict.fromkeys(("lr", "momentum", "dampening"), (B,))
    assert {name: getattr(many, name).shape for name in shapes} == shapes
    kept = {"all": HISTORIES, "loss": ("loss",), None: ()}[record]
    for name in HISTORIES:
        expected = ((B, 3) if name == "loss" else (B, 3, p)) if name in kept else None
        assert getattr(getattr(many.history, name), "shape", None) == expected
    assert many.history.epoch.tolist() == ([0, 3, 6] if record else [])
    assert (many.method, many.best_epoch, many.average_coef) == ("direct", None, None)


def test_an_index_gives_the_result_of_one_fit():
    many = sgdm.fit_many(X, y)
    fits = [sgdm.fit(X[i], y[i], method="direct") for i in range(B)]
    assert list(many) == fits
    assert len(many) == B
    assert [many[i - B] for i in range(B)] == fits
    assert many[np.int64(2)] == fits[2]
    for outside in (B, -B - 1, 10**6):
        with pytest.raises(IndexError, match=f"{outside} is out of bounds"):
            many[outside]
    for other in (slice(1, 3), 1.0, "1", None, (), [1, 2]):
        with pytest.raises(TypeError, match=r"integer|whole number"):
            many[other]
    with pytest.raises(TypeError, match=r"^this is the result of one fit; only that of fit_many has parts$"):
        fits[0][0]


def test_a_part_is_of_the_types_of_a_fit():
    many, fit = sgdm.fit_many(X, y, fit_intercept=True, tol=0.1)[1], sgdm.fit(X[1], y[1], fit_intercept=True, tol=0.1)
    assert type(many.status) is sgdm.Status
    assert (many.epochs.__class__, many.checkpoint.epoch.__class__) == (int, int)
    assert repr(many) == repr(fit)
    assert many.status.message == fit.status.message


def test_results_hold_no_view_of_inputs_nor_parts_of_the_whole():
    arrays = {"X": X.copy(), "y": y.copy(), "sample_weight": np.ones((B, N)), "coef0": np.ones((B, D)), "lr": [0.1] * B}
    arrays["lr"] = np.array(arrays["lr"])
    before = {name: array.copy() for name, array in arrays.items()}
    many = sgdm.fit_many(**arrays, momentum=arrays["lr"], epochs=5, n_threads=2)
    one = many[1]
    many.predict(arrays["X"])
    for name, array in arrays.items():
        assert np.array_equal(array, before[name])

    def held(result):
        parts = [*vars(result).values(), *vars(result.history).values(), *result.checkpoint]
        return [part for part in parts if isinstance(part, np.ndarray)]

    assert not any(np.shares_memory(ours, theirs) for ours in held(many) for theirs in arrays.values())
    assert not any(np.shares_memory(ours, theirs) for ours in held(one) for theirs in held(many))


@pytest.mark.parametrize(
    "options", [{}, {"record": "loss", "record_every": 3, "fit_intercept": True}, {"record": None}]
)
def test_fit_goes_on_from_one_of_many(options):
    """fit goes on from one of many as from its own."""
    many = sgdm.fit_many(X, y, epochs=20, lr=np.linspace(0.05, 0.1, B), **options)
    for i, lr in enumerate(many.lr):
        whole = sgdm.fit(X[i], y[i], epochs=33, lr=lr, method="direct", **options)
        assert sgdm.fit(X[i], y[i], epochs=13, lr=lr, init=many[i], **options) == whole
    with pytest.raises(ValueError, match=r"^init must be one fit, got the many of fit_many; take init\[i\]$"):
        sgdm.fit(X[0], y[0], init=many, **options)


def test_fit_goes_on_from_one_that_converged_or_diverged():
    many = sgdm.fit_many(X, y, tol=0.1, lr=[0.1, 1e5, 0.1, 0.1, 0.1])
    assert many[0] == sgdm.fit(X[0], y[0], tol=0.1, method="direct")
    part = many[0]
    assert sgdm.fit(X[0], y[0], epochs=50 - part.epochs, init=part) == sgdm.fit(X[0], y[0], method="direct")
    assert 0 < many[1].epochs < 50
    for init in (many[1], alone(1, X=X, y=y, lr=1e5, tol=0.1)):
        with pytest.raises(sgdm.DivergenceError) as caught:
            sgdm.fit(X[1], y[1], lr=1e5, init=init)
        assert caught.value.result == many[1]


@dtypes
@intercepts
def test_many_fits_predict_for_shared_rows_and_for_their_own(fit_intercept, dtype):
    many = sgdm.fit_many(X.astype(dtype), y.astype(dtype), fit_intercept=fit_intercept)
    eps = np.finfo(dtype).eps
    for given_X in (X.astype(dtype), X[0].astype(dtype), X[:, :1].astype(dtype), X[0, :1].astype(dtype)):
        predicted = many.predict(given_X)
        assert predicted.shape == (B, given_X.shape[-2])
        assert predicted.dtype == dtype
        for i in range(B):
            expected = many[i].predict(given_X[i] if given_X.ndim == 3 else given_X)
            np.testing.assert_allclose(predicted[i], expected, rtol=0, atol=64 * eps * np.abs(expected).max())
    assert np.array_equal(many.predict(X[0].tolist()), many.predict(X[0]))


@pytest.mark.parametrize(
    "shape", [(D,), (), (N, D - 1), (N, D + 1), (B, N, D - 1), (B - 1, N, D), (B + 1, N, D), (1, N, D), (1, B, N, D)]
)
def test_predict_refuses_other_shapes(shape):
    many = sgdm.fit_many(X, y)
    with pytest.raises(ValueError, match=rf"^X must have shape \(n, 3\) or \(5, n, 3\), got {re.escape(str(shape))}$"):
        many.predict(np.ones(shape))


@intercepts
@pytest.mark.parametrize("record", ["all", "loss", None])
@pytest.mark.parametrize("count", [1, B])
def test_many_fits_are_saved_copied_and_pickled(tmp_path, record, fit_intercept, count):
    options = {"record": record, "fit_intercept": fit_intercept, "tol": 0.2, "record_every": 2}
    many = sgdm.fit_many(X[:count], y[:count], lr=[0.1, 1e200, 0.2, 0.3, 0.0][:count], **options)
    many.save(tmp_path / "many.npz")
    loaded = sgdm.load(tmp_path / "many.npz")
    for clone in (loaded, copy.copy(many), copy.deepcopy(many), pickle.loads(pickle.dumps(many))):
        assert clone == many
        assert list(clone) == list(many)
        assert repr(clone) == repr(many)
    many[0].save(tmp_path / "one.npz")
    assert sgdm.load(tmp_path / "one.npz") == many[0] == alone(0, X=X, y=y, lr=0.1, **options)


def test_results_of_many_fits_that_differ_anywhere_are_unequal():
    many = sgdm.fit_many(X, y)
    coef = many.coef.copy()
    coef[3, 0] = np.nextafter(coef[3, 0], 9)
    status = many.status.copy()
    status[1] = "stopped"
    others = [dataclasses.replace(many, coef=coef), dataclasses.replace(many, status=status), many[0]]
    others += [sgdm.fit_many(X[:4], y[:4]), sgdm.fit_many(X, y, record="loss")]
    for other in others:
        assert other != many


def test_a_result_of_many_fits_prints_how_many_ended_how():
    many = sgdm.fit_many(X, y, lr=[0.1, 1e200, 0.1, 1e200, 0.1], record_every=7)
    assert repr(many) == "FitResult of 5 fits: 3 completed, 2 diverged\n  history 8 rows each"
    assert repr(sgdm.fit_many(X, y, record=None)) == "FitResult of 5 fits: 5 completed\n  history 0 rows each"


@pytest.mark.parametrize("options", [{"record": None}, {"record": "loss", "record_every": 10**14}], ids=str)
def test_epochs_that_are_not_recorded_take_no_memory(options):
    """10**15 epochs, of which few are done."""
    many = assert_each_is_fit(X, y, tol=0.5, epochs=10**15, **options)
    assert set(many.status) == {"converged"}
    assert len(many.history) == (0 if options["record"] is None else 10)


# Tables


def test_many_fits_of_pandas_frames():
    pandas = pytest.importorskip("pandas")
    frame, targets = pandas.DataFrame(X[0], columns=list("abc")), pandas.DataFrame(y)
    weights, lr = pandas.DataFrame(np.ones((B, N)) + y**2), pandas.Series(np.full(B, 0.1), index=range(B, 0, -1))
    many = sgdm.fit_many(frame, targets, sample_weight=weights, lr=lr, coef0=pandas.DataFrame(X[:, 0]))
    for i in range(B):
        options = {"sample_weight": weights.iloc[i], "lr": 0.1, "coef0": X[i, 0], "method": "direct"}
        assert many[i] == sgdm.fit(frame, targets.iloc[i], **options)
    predicted = many.predict(frame)
    np.testing.assert_allclose(
        predicted, [X[0] @ coef for coef in many.coef], rtol=0, atol=1e-14 * np.abs(predicted).max()
    )
    one = sgdm.fit_many(frame, targets.iloc[0], l1=pandas.Series([0.0, 0.1]))
    assert one[0] == sgdm.fit(frame, targets.iloc[0], method="direct")


def test_many_fits_of_polars_and_arrow_tables():
    polars, pyarrow = pytest.importorskip("polars"), pytest.importorskip("pyarrow")
    expected = list(sgdm.fit_many(np.asfortranarray(X[0]), y[0], lr=np.full(B, 0.1), sample_weight=np.ones((B, N))[0]))
    table = pyarrow.table({name: X[0, :, j] for j, name in enumerate("abc")})
    for frame, vector in ((polars.DataFrame(X[0]), polars.Series), (table, pyarrow.array)):
        many = sgdm.fit_many(frame, vector(y[0]), lr=vector(np.full(B, 0.1)), sample_weight=vector(np.ones((B, N))[0]))
        np.testing.assert_allclose(many.coef, [fit.coef for fit in expected], rtol=1e-12)


def test_the_scores_are_those_of_the_fits():
    many = sgdm.fit_many(X, y, fit_intercept=True)
    weights = np.linspace(0, 1, N)
    np.testing.assert_allclose(many.score(X, y), [many[i].score(X[i], y[i]) for i in range(B)], rtol=1e-13)
    shared = [many[i].score(X[0], y[0], weights) for i in range(B)]
    np.testing.assert_allclose(many.score(X[0], y[0], weights), shared, rtol=1e-13)
    with pytest.raises(ValueError, match=rf"^y must have shape \({N},\) or \({B}, {N}\), got \({N}, {B}\)$"):
        many.score(X, y.T)


def test_many_fits_have_no_one_history():
    with pytest.raises(TypeError, match=r"^this is the result of many fits, .*; take one of them, result\[i\]$"):
        sgdm.fit_many(X, y).history_columns()
