"""Ctrl-C and errors in fit_many: what was done is handed over, and no thread is left behind."""

import itertools
import os
import threading

import numpy as np
import pytest
from helpers import MANY_X as X
from helpers import MANY_Y as y
from helpers import alone

import sgdm
from sgdm import _fit_many

# The first fit and the last of each status are those that fit gives.
CHECK = """
assert result.coef.shape == (B, d) and {"stopped"} <= set(result.status) <= {"stopped", "completed", "converged"}
for status in set(result.status):
    for i in np.flatnonzero(result.status == status)[[0, -1]]:
        kept = len(range(0, result.epochs[i], options["record_every"]))
        assert np.isfinite(result.history.loss[i, :kept]).all() and np.isnan(result.history.loss[i, kept:]).all()
        if result.epochs[i] > 0:
            own = X[i] if X.ndim == 3 else X
            alone = sgdm.fit(own, y[i], lr=lr[i], epochs=int(result.epochs[i]), **options)
            assert result[i] == dataclasses.replace(alone, status=sgdm.Status(status))
        else:
            assert status == "stopped" and not result.coef[i].any() and not result.velocity[i].any()
"""


@pytest.mark.thread_unsafe(reason="it must be quick")
@pytest.mark.skipif(os.name == "nt", reason="no pthread_kill there")
@pytest.mark.parametrize("threads", [pytest.param(1, marks=pytest.mark.slow), 2])
@pytest.mark.parametrize(
    ("sizes", "still", "options"),
    [
        ((20_000, 100, 2, 10_000), "[]", {"record": "loss", "record_every": 5000}),
        ((3, 200, 20, 5_000_000), "[]", {"record": "all", "record_every": 10_000}),
        pytest.param(
            *((3, 200, 20, 5_000_000), "1:", {"record": "loss", "record_every": 1000, "tol": 0.0}),
            marks=pytest.mark.slow,
        ),
        ((3, 200, 20, 5_000_000), ":-1", {"record": "loss", "record_every": 1000, "tol": 0.0}),
        ((3, 200, 20, 5_000_000), "[]", {"record": "loss", "record_every": 1000, "method": "compress"}),
    ],
    ids=["many", "few", "the first", "the last", "reduced"],
)
def test_ctrl_c_hands_over_the_fits_done(press_ctrl_c, sizes, still, options, threads):
    """While all are at work; and while one still is, be it this thread's or another's."""
    setup = f"""
B, n, d, epochs = {sizes}
options = {{"method": "direct", **{options}}}
shape = (n, d) if options["method"] == "direct" else (B, n, d)
X, y, lr = rng.standard_normal(shape), rng.standard_normal((B, n)), np.linspace(0.01, 0.05, B) / d
y[{still}] = 0  # at their minimum from the beginning
"""
    press_ctrl_c(setup, f"sgdm.fit_many(X, y, lr=lr, epochs=epochs, n_threads={threads}, **options)", CHECK)


@pytest.mark.parametrize("error", ["KeyboardInterrupt", "RuntimeError"])
def test_threads_end_if_one_can_not_be_started(without_second_thread, error):
    data = "np.ones((200, 20)), np.ones((20, 200))"
    fits = f"sgdm.fit_many({data}, lr=1e-3, epochs=2_000_000, record=None, n_threads=3)"
    without_second_thread(error, fits, "'stopped' in result.status")


ORPHAN_SCRIPT = """
import _thread, faulthandler, time
import numpy as np
import sgdm

faulthandler.dump_traceback_later(20, exit=True)
start_new_thread = _thread.start_new_thread

def interrupt(*task):
    start_new_thread(*task)
    time.sleep(0.1)
    raise KeyboardInterrupt

_thread.start_new_thread = interrupt
try:
    sgdm.fit_many(np.ones((200, 20)), np.ones((20, 200)), lr=1e-3, epochs=2_000_000, record=None, n_threads=2)
except KeyboardInterrupt as stop:
    result = stop.result
before = result.epochs.copy()
assert before.any()
time.sleep(0.3)
assert (result.epochs == before).all()
"""


def test_a_thread_whose_start_was_interrupted_is_waited_for(run_python):
    """Ctrl-C comes while its thread starts: it writes to the result's arrays until it sees that it's over."""
    process = run_python(ORPHAN_SCRIPT)
    assert process.returncode == 0, process.stderr


def test_an_error_in_a_thread_reaches_the_caller(monkeypatch):
    calls, advance = itertools.count(), _fit_many.advance_many

    def fail(*arguments):
        if next(calls) == 3:
            raise MemoryError("mine")
        return advance(*arguments)

    monkeypatch.setattr(_fit_many, "advance_many", fail)
    before = threading.active_count()
    with pytest.raises(MemoryError, match=r"^mine$") as caught:
        sgdm.fit_many(X, y, n_threads=4)
    assert threading.active_count() == before
    result = caught.value.result
    assert "stopped" in result.status
    for i in np.flatnonzero(result.status == "completed"):
        assert result[i] == alone(i, X=X, y=y)
