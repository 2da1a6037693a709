"""A result: its shapes, copies, equality and predictions; and its history, of the epochs and numbers recorded."""

import copy
import dataclasses
import pickle
import re

import numpy as np
import pytest
from helpers import HISTORIES, history_sizes, intercepts, make_data, make_noise, refuse

import sgdm


@pytest.mark.parametrize("targets", [None, 1, 2])
@intercepts
def test_a_result_has_the_shapes_of_its_data(targets, fit_intercept):
    X, y = make_noise(targets=targets)
    result = sgdm.fit(X, y, epochs=8, fit_intercept=fit_intercept)
    shape, p = y.shape[1:], 5 + fit_intercept
    assert result.coef.shape == (5, *shape)
    assert result.velocity.shape == (p, *shape)
    assert result.history.loss.shape == (8, *shape)
    for name in ("grad", "step", "coef"):
        assert getattr(result.history, name).shape == (8, p, *shape)
    assert np.shape(result.loss) == shape
    assert np.shape(result.intercept) == (shape if fit_intercept else ())


def test_arrays_of_a_result_share_no_memory():
    X, y = make_noise()
    result = sgdm.fit(X, y, tol=0.1)
    arrays = [result.coef, result.velocity, *vars(result.history).values()]
    assert not any(np.shares_memory(a, b) for i, a in enumerate(arrays) for b in arrays[:i])


RESULTS = pytest.mark.parametrize(
    "extra",
    [{}, {"fit_intercept": True}, {"record": None}, {"record": "loss"}],
    ids=["all", "intercept", "none", "loss"],
)


@RESULTS
@pytest.mark.parametrize("targets", [None, 2])
def test_results_are_copied_pickled_and_compared(targets, extra):
    X, y = make_noise(targets=targets)
    result = sgdm.fit(X, y, **extra)
    for clone in (copy.copy(result), copy.deepcopy(result), pickle.loads(pickle.dumps(result))):
        assert clone == result
        assert clone.history == result.history
        assert clone.status is result.status
    assert sgdm.fit(X, y, **extra) == result
    assert copy.deepcopy(result).coef is not result.coef


def test_results_that_differ_anywhere_are_unequal():
    X, y = make_noise()
    result = sgdm.fit(X, y)
    other = result.coef.copy()
    other[0] = np.nextafter(other[0], 9)
    loss = result.history.loss.copy()
    loss[-1] += 1
    others = [
        dataclasses.replace(result, coef=coef) for coef in (other, result.coef.astype("f4"), result.coef[:, None])
    ]
    others += [sgdm.fit(X, y, **options) for options in ({"record": "loss"}, {"epochs": 49}, {"fit_intercept": True})]
    others.append(dataclasses.replace(result, status=sgdm.Status.STOPPED))
    others.append(dataclasses.replace(result, history=dataclasses.replace(result.history, loss=loss)))
    for changed in [*others, "a result"]:
        assert changed != result
        assert not changed == result  # noqa: SIM201


def test_results_are_frozen():
    X, y = make_noise()
    result = sgdm.fit(X, y)
    with pytest.raises(dataclasses.FrozenInstanceError):
        result.coef = None
    with pytest.raises(dataclasses.FrozenInstanceError):
        result.history.loss = None


def test_a_divergence_error_is_pickled_with_its_result():
    X, y = make_noise()
    with pytest.raises(sgdm.DivergenceError) as caught:
        sgdm.fit(X, y, lr=1e9)
    clone = pickle.loads(pickle.dumps(caught.value))
    assert (str(clone), clone.max_lr, clone.result) == (
        str(caught.value), caught.value.max_lr, caught.value.result
    )  # fmt: skip


def test_a_result_prints_its_status_and_its_numbers():
    X, y = make_noise()
    text = repr(sgdm.fit(X, y, fit_intercept=True, epochs=20))
    assert text.startswith("FitResult: completed after 20 epochs\n")
    for part in ("\n  loss ", "\n  coef [", "\n  intercept ", "\n  history 20 rows"):
        assert part in text
    assert "intercept" not in repr(sgdm.fit(X, y))
    assert repr(sgdm.fit(X, y).history) == "History(50 rows of loss, grad, step, coef)"
    assert repr(sgdm.fit(X, y, record="loss", record_every=7).history) == "History(8 rows of loss)"
    assert repr(sgdm.fit(X, y, record=None).history) == "History(0 rows of nothing)"


def test_a_large_result_prints_in_a_few_lines():
    X, y = make_noise(d=500, targets=40)
    assert len(repr(sgdm.fit(X, y, lr=1e-3, epochs=2))) < 1500


@intercepts
@pytest.mark.parametrize("targets", [None, 1, 3])
def test_a_result_predicts_by_its_coefficients(targets, fit_intercept):
    X, y = make_noise(targets=targets)
    result = sgdm.fit(X, y, fit_intercept=fit_intercept)
    predicted = result.predict(X[:7])
    assert predicted.shape == y[:7].shape
    np.testing.assert_allclose(predicted, X[:7] @ result.coef + result.intercept, rtol=1e-14)
    assert np.array_equal(result.predict(X[:7].tolist()), predicted)
    r = result.predict(X) - y
    longer = sgdm.fit(X, y, fit_intercept=fit_intercept, epochs=51)
    np.testing.assert_allclose((r**2).mean(axis=0), longer.history.loss[50], rtol=1e-13)


# The history


def test_a_fit_ends_where_its_history_goes_on():
    X, y = make_noise(targets=2)
    result, longer = sgdm.fit(X, y, epochs=8), sgdm.fit(X, y, epochs=9)
    assert np.array_equal(result.loss, longer.history.loss[8])
    assert np.array_equal(result.velocity, result.history.step[-1])
    assert np.array_equal(result.coef, longer.history.coef[8])


@pytest.mark.parametrize("every", [1, 2, 7, 20, 21, 1000])
@pytest.mark.parametrize("record", ["all", "loss", None])
def test_a_shorter_record_holds_part_of_the_whole_one(record, every):
    X, y = make_noise()
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


def test_a_fit_that_stops_early_frees_the_rows_it_did_not_write():
    X, y = make_noise()
    result = sgdm.fit(X, y, tol=0.1, epochs=5000)
    assert result.epochs < 100
    for name in HISTORIES:
        history = getattr(result.history, name)
        owner = history if history.base is None else history.base
        assert len(owner) == result.epochs


@history_sizes
@pytest.mark.parametrize("every", [1, 10])
def test_a_history_too_large_for_memory_is_refused(every, options, numbers, hint):
    epochs = 10**17  # more than any address space
    size = epochs // every * numbers * 8
    message = rf"^the history of {epochs // every} rows takes {size} bytes \(.* GiB\), .* pass {hint} to keep less$"
    refuse(MemoryError, message, epochs=epochs, record_every=every, **options)


@pytest.mark.parametrize("record", ["updates", "all"])
def test_a_history_of_batches_too_large_for_memory_is_refused(record):
    error = refuse(MemoryError, "^the history of ", epochs=10**14, batch_size=1, seed=0, record=record)
    assert re.search(r"takes \d+ bytes .*pass record='loss', a larger record_every or record=None", str(error))


# The score


@pytest.mark.parametrize("targets", [None, 2])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_the_score_is_r_squared(targets, weighted, dtype):
    metrics = pytest.importorskip("sklearn.metrics")
    X, y = make_noise(targets=targets, dtype=dtype)
    weights = np.linspace(0, 1, len(X)) if weighted else None
    result = sgdm.fit(X, y, fit_intercept=True)
    multioutput = "raw_values" if targets else "variance_weighted"
    expected = metrics.r2_score(y.astype(float), result.predict(X), sample_weight=weights, multioutput=multioutput)
    got = result.score(X, y, weights)
    assert np.shape(got) == y.shape[1:]
    np.testing.assert_allclose(got, expected, rtol=0, atol=64 * np.finfo(dtype).eps)


def test_a_score_needs_targets_like_the_predictions():
    X, y = make_noise()
    result = sgdm.fit(X, y)
    assert np.isnan(sgdm.fit(X, 0 * y).score(X, 0 * y))
    assert result.score(X, 0 * y + 1) == -np.inf
    for wrong, message in (
        (y[1:], "X and y must have the same number of rows, got 60 and 59"),
        (np.column_stack([y, y]), "y must have the shape of the predictions, (60,), got (60, 2)"),
        (y * np.inf, "y must be finite, got "),
    ):
        with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
            result.score(X, wrong)
    with pytest.raises(ValueError, match=r"^sample_weight must have a positive, finite sum"):
        result.score(X, y, 0 * y)


# The history as columns


@pytest.mark.parametrize("targets", [None, 2])
@intercepts
def test_the_history_is_handed_over_as_columns(targets, fit_intercept):
    X, y = make_noise(targets=targets)
    result = sgdm.fit(X, y, epochs=8, record_every=3, fit_intercept=fit_intercept, validation=(X, y))
    columns = result.history_columns()
    assert {len(column) for column in columns.values()} == {3}
    names = ["x0", "x1", "x2", "x3", "x4", *["(intercept)"] * fit_intercept]
    for t in range(targets or 1):
        of_target, at = (f"_{t}", (t,)) if targets else ("", ())
        for field in ("loss", "val_loss"):
            np.testing.assert_array_equal(columns.pop(f"{field}{of_target}"), getattr(result.history, field)[:, *at])
        for field in ("grad", "step", "coef"):
            for j, name in enumerate(names):
                expected = getattr(result.history, field)[:, j, *at]
                np.testing.assert_array_equal(columns.pop(f"{field}_{name}{of_target}"), expected)
    assert list(columns) == ["epoch"]


def test_the_columns_of_a_history_make_a_data_frame():
    pandas = pytest.importorskip("pandas")
    X, y = make_noise(d=2)
    result = sgdm.fit(pandas.DataFrame(X, columns=["age", "size"]), y, epochs=3)
    frame = pandas.DataFrame(result.history_columns())
    assert frame.columns.tolist()[:4] == ["epoch", "loss", "grad_age", "grad_size"]
    assert frame["coef_size"].tolist() == result.history.coef[:, 1].tolist()


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"record": None}, ["epoch"]),
        ({"record": "loss", "validation": 0.2, "seed": 0}, ["epoch", "loss", "val_loss"]),
        (
            {"record": "updates", "batch_size": 7, "validation": 0.2, "seed": 0},
            ["epoch", "loss", "grad_x0", "step_x0", "coef_x0"],
        ),
    ],
)
def test_what_was_not_recorded_is_no_column(options, expected):
    X, y = make_data(d=1)
    assert list(sgdm.fit(X, y, lr=0.01, **options).history_columns()) == expected
