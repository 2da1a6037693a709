"""A fit runs in slices of epochs, between which Python looks; their length changes no bit."""

import numpy as np
import pytest
from helpers import TOTAL, both, fit_epochs, make_noise, make_problem, some_fits, way_options, ways

import sgdm
from sgdm._descent import descent


@pytest.mark.parametrize("slice_elements", [1, 3 * 601 * 5])
def test_slices_change_no_bit_on_any_path_through_the_kernel(monkeypatch, slice_elements):
    whole = some_fits(record_every=3)
    monkeypatch.setattr(descent, "SLICE_ELEMENTS", slice_elements)
    calls = []
    advance = descent.advance
    monkeypatch.setattr(descent, "advance", lambda *arguments: calls.append(1) or advance(*arguments))
    assert some_fits(record_every=3) == whole
    assert len(calls) > (1 if slice_elements > 1 else 24) * len(whole)


def test_slices_do_not_change_where_a_fit_converges(monkeypatch):
    X, y = make_noise()
    whole = sgdm.fit(X, y, tol=1e-3, epochs=500)
    monkeypatch.setattr(descent, "SLICE_ELEMENTS", 1)
    assert sgdm.fit(X, y, tol=1e-3, epochs=500) == whole


@both
@ways
def test_slices_change_no_bit_of_any_way_to_fit(way, everything, monkeypatch):
    problem, options = make_problem(everything), way_options(way, everything)
    whole = fit_epochs(problem, TOTAL, **options)
    advance, calls = descent.advance, []
    monkeypatch.setattr(descent, "advance", lambda *given: calls.append(1) or advance(*given))
    for elements in (1, 20_000):
        with monkeypatch.context() as patch:
            patch.setattr(descent, "SLICE_ELEMENTS", elements)
            calls.clear()
            assert fit_epochs(problem, TOTAL, **options) == whole
            if elements == 1:
                assert len(calls) == whole.epochs
            epochs = []
            fit_epochs(
                problem, TOTAL, callback=lambda view, to=epochs: to.append(view.epoch), callback_every=8, **options
            )
            assert epochs == list(range(8, whole.epochs + 1, 8))


@pytest.mark.parametrize("elements", [1, 10**9])
def test_an_epoch_that_overflows_gives_its_order_back(elements, monkeypatch):
    monkeypatch.setattr(descent, "SLICE_ELEMENTS", elements)
    X, y, *_ = make_problem()
    generator, same = np.random.default_rng(5), np.random.default_rng(5)
    with pytest.raises(sgdm.DivergenceError) as caught:
        sgdm.fit(X, y, lr=1e30, epochs=TOTAL, batch_size=7, seed=generator)
    assert 0 < caught.value.result.epochs < TOTAL
    for _ in range(caught.value.result.epochs):
        same.permutation(len(X))
    assert generator.bit_generator.state == same.bit_generator.state
