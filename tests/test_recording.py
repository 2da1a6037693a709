"""The history of a fit: which epochs and numbers are recorded, and how much memory they take."""

import re

import numpy as np
import pytest
from helpers import HISTORIES, history_sizes, make_noise, refuse

import sgdm


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
