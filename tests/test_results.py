"""A result: its shapes, copies, equality and predictions; and its history, of the epochs and numbers recorded."""

import copy
import dataclasses
import pickle
import re

import numpy as np
import pytest
from helpers import HISTORIES, history_sizes, intercepts, make_noise, refuse

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
