"""Callbacks and progress bars watch a fit, may stop it, and change no bit of it."""

import re
import sys

import numpy as np
import pytest
from helpers import SHUFFLED, SPLIT, TOTAL, both, fit_epochs, make_problem, same_but_status, way_options, ways

import sgdm

pytestmark = pytest.mark.filterwarnings("ignore::sgdm.ConvergenceWarning")  # of fits of an epoch or two


@both
@ways
def test_a_callback_sees_the_fit_and_changes_no_bit(way, everything):
    """It sees the run as it is, as a fit of so many epochs ends; looking changes no bit of it."""
    problem, options = make_problem(everything), way_options(way, everything)
    whole = fit_epochs(problem, TOTAL, **options)
    views = []

    def look(view):
        views.append((view.epoch, view.loss, view.coef, view.result))

    assert fit_epochs(problem, TOTAL, callback=look, callback_every=12, **options) == whole
    assert [view[0] for view in views] == list(range(12, whole.epochs + 1, 12))
    for epoch, loss, coef, result in views[:: 1 if way == "shuffled" else 2]:
        expected = fit_epochs(problem, epoch, **options)
        assert result.status == "stopped"
        assert same_but_status(result, expected)
        recorded = expected.checkpoint.metrics[2] if everything else expected.checkpoint.metrics[2, 0]
        assert np.array_equal(np.asarray(loss), recorded.astype(expected.loss.dtype))
        last = expected.checkpoint.parameters[0].astype(expected.coef.dtype)
        assert np.array_equal(coef, last if everything else last[:, 0])
        assert coef.dtype == expected.coef.dtype
    # every epoch, and going on
    assert fit_epochs(problem, TOTAL, callback=lambda view: None, **options) == whole
    first = fit_epochs(problem, SPLIT, callback=look, **options)
    views.clear()
    assert fit_epochs(problem, TOTAL - SPLIT, SPLIT, first, callback=look, callback_every=9, **options) == whole
    assert [view[0] for view in views] == list(range(SPLIT + 9, whole.epochs + 1, 9))


@both
@pytest.mark.parametrize("way", ["full batch", "shuffled", "arrays, shuffled", "fraction, shuffled", "updates"])
def test_a_callback_stops_a_fit_by_stop_iteration(way, everything):
    problem, options = make_problem(everything), way_options(way, everything)

    def stop(view):
        if view.epoch == 12:
            raise StopIteration

    result = fit_epochs(problem, TOTAL, callback=stop, callback_every=4, **options)
    assert result.status == "stopped"
    assert result.epochs == 12
    assert same_but_status(result, fit_epochs(problem, 12, **options))
    whole = fit_epochs(problem, TOTAL, **options)
    assert fit_epochs(problem, TOTAL - 12, 12, result, **options) == whole


@pytest.mark.parametrize("error", [RuntimeError("mine"), KeyboardInterrupt(), ZeroDivisionError()])
def test_another_exception_of_a_callback_carries_the_result(error):
    def fail(view):
        if view.epoch == 12:
            raise error

    with pytest.raises(type(error)) as caught:
        fit_epochs(make_problem(), TOTAL, callback=fail, **SHUFFLED)
    assert caught.value is error
    assert error.result.status == "stopped"
    assert same_but_status(error.result, fit_epochs(make_problem(), 12, **SHUFFLED))
    assert fit_epochs(make_problem(), TOTAL - 12, init=error.result, batch_size=7) == fit_epochs(
        make_problem(), TOTAL, **SHUFFLED
    )


def overwrite(part):
    """NaN, or 99, in every array within a result."""
    for value in part if isinstance(part, tuple) else vars(part).values():
        if isinstance(value, np.ndarray):
            value[...] = np.nan if value.dtype.kind == "f" else 99
        elif isinstance(value, (sgdm.History, sgdm.Checkpoint)):
            overwrite(value)


@both
@pytest.mark.parametrize("way", ["full batch", "fraction, shuffled", "patience", "averaged, shuffled", "updates"])
@pytest.mark.parametrize("every", [7, TOTAL])
def test_what_a_callback_gets_is_its_own(every, way, everything):
    problem, options = make_problem(everything), way_options(way, everything)

    def spoil(view):
        view.coef[...] = np.nan
        if everything:
            view.loss[...] = np.nan
        overwrite(view.result)

    assert fit_epochs(problem, TOTAL, callback=spoil, callback_every=every, **options) == fit_epochs(
        problem, TOTAL, **options
    )


def test_a_callback_gets_the_progress():
    views = []
    fit_epochs(make_problem(), 3, callback=views.append)
    assert len(views) == 3
    assert all(isinstance(view, sgdm.Progress) for view in views)
    assert re.fullmatch(r"Progress\(epoch=3, loss=\d+\.\d+\)", repr(views[-1]))
    assert type(views[-1].loss) is float


@both
@pytest.mark.parametrize("way", ["full batch", "shuffled", "tol"])
def test_a_progress_bar_counts_epochs_and_changes_no_bit(way, everything, capsys):
    pytest.importorskip("tqdm")
    problem, options = make_problem(everything), way_options(way, everything)
    whole = fit_epochs(problem, TOTAL, **options)
    first = fit_epochs(problem, SPLIT, **options)
    capsys.readouterr()
    assert fit_epochs(problem, TOTAL, progress=True, **options) == whole
    out, err = capsys.readouterr()
    assert not out
    assert f"{whole.epochs}/{TOTAL}" in err
    assert f"loss={float(np.mean(whole.checkpoint.metrics[2])):.3g}" in err
    assert (
        fit_epochs(problem, TOTAL - SPLIT, SPLIT, first, progress=True, callback=lambda view: None, **options) == whole
    )
    assert f"{whole.epochs - SPLIT}/{TOTAL - SPLIT}" in capsys.readouterr().err
    with pytest.raises(sgdm.DivergenceError) as caught:
        fit_epochs(problem, 500, progress=True, **{**options, "lr": 1e3})
    assert f"{caught.value.result.epochs}/500" in capsys.readouterr().err


def test_a_progress_bar_needs_tqdm(monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    calls = []
    with pytest.raises(ImportError, match=r"^progress=True needs tqdm: pip install 'sgdm\[progress\]'$"):
        fit_epochs(make_problem(), 3, progress=True, callback=calls.append)
    assert not calls
    assert fit_epochs(make_problem(), 3, progress=False) == fit_epochs(make_problem(), 3)
