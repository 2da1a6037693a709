"""Several fits at once, in threads of the caller's and in forked processes."""

import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from helpers import make_data, make_noise, some_fits

import sgdm
from sgdm._descent import descent


def test_eight_threads_get_the_same_bits_as_one():
    alone = some_fits()
    together = threading.Barrier(8)

    def run(_):
        together.wait()
        return some_fits()

    with ThreadPoolExecutor(8) as pool:
        for results in pool.map(run, range(8)):
            assert results == alone


def test_other_threads_run_during_a_fit(monkeypatch):
    """One slice of half a second, in which a thread takes naps: were the GIL held, it would not wake once."""
    monkeypatch.setattr(descent, "SLICE_ELEMENTS", sys.maxsize)
    X, y = make_noise(500, 10)
    start = time.perf_counter()
    sgdm.fit(X, y, epochs=1000, record=None)
    epochs = max(1000, int(1000 * 0.5 / (time.perf_counter() - start)))
    begun, done = threading.Event(), threading.Event()
    naps = []

    def nap():
        begun.set()
        while not done.is_set():
            time.sleep(0.001)
            naps.append(time.perf_counter())

    thread = threading.Thread(target=nap)
    thread.start()
    begun.wait()
    start = time.perf_counter()
    sgdm.fit(X, y, epochs=epochs, record=None)
    end = time.perf_counter()
    done.set()
    thread.join()
    # Of some hundreds, on a machine with a second core; noise leaves more than two, away from both ends.
    middle = [at for at in naps if start + 0.1 * (end - start) < at < end - 0.1 * (end - start)]
    assert len(middle) > 2


def test_four_threads_get_the_same_mini_batches():
    X, y = make_data(3000, 9)

    def run(_):
        return sgdm.fit(X, y, batch_size=8, seed=1, epochs=10, average=True, validation=0.1, lr=0.01)

    with ThreadPoolExecutor(4) as pool:
        first, *others = pool.map(run, range(8))
    assert all(other == first for other in others)


FORK_SCRIPT = """
import os, sys, threading
import numpy as np
import sgdm

rng = np.random.default_rng(0)
X, y = rng.standard_normal((20_000, 20)), rng.standard_normal(20_000)
expected = sgdm.fit(X, y)
meanwhile = threading.Thread(target=sgdm.fit, args=(X, y), kwargs={"epochs": 2000, "record": None})
meanwhile.start()
child = os.fork()
if child == 0:
    os._exit(0 if sgdm.fit(X, y) == expected else 1)
_, status = os.waitpid(child, 0)
meanwhile.join()
assert sgdm.fit(X, y) == expected
sys.exit(os.waitstatus_to_exitcode(status))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no fork there")
def test_a_process_may_fork_after_and_during_a_fit(run_python):
    # Python 3.12 warns of any fork beside threads; what is tested is that it works all the same.
    process = run_python(FORK_SCRIPT, PYTHONWARNINGS="ignore::DeprecationWarning")
    assert process.returncode == 0, process.stderr
