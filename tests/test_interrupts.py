"""An exception at any instant, as from a signal handler: what is left holds exactly what it says, and nothing goes on.

`inject.py` beside this file is the tool; run by hand, it says where in the code a fault is.
"""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import sgdm

TOOL = Path(__file__).with_name("inject.py")
SPEC = importlib.util.spec_from_file_location("inject", TOOL)
inject = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(inject)

pytestmark = pytest.mark.thread_unsafe
# Every so many lines in the plain run: a prime, so that loops are met at different lines.
FEW = {"compress": 97, "compress, 2 threads": 97, "compress, resumed": 97, "fit_many": 61, "SGDMRegressorCV": 61}
ENTRY_POINTS = list(inject.CASES)
SIGNALLED = [
    "fit", "fit, batches", "fit, validation", "fit, 2 threads", "fit, batches, 2 threads", "fit, validation, 2 threads",
    "fit_many", "fit_many, 2 threads", "compress, rarely saved", "compress, 3 threads, rarely saved",
    "SGDMRegressorCV",
]  # fmt: skip


@pytest.mark.parametrize("name", ENTRY_POINTS)
def test_an_exception_at_a_line_loses_nothing(name):
    lines, wrong = inject.places(name, every=FEW.get(name, 41))
    assert lines > 20
    assert not wrong


@pytest.mark.slow
@pytest.mark.parametrize("name", ENTRY_POINTS)
def test_an_exception_at_any_line_loses_nothing(name):
    assert not inject.places(name)[1]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["fit", "fit, batches", "fit, 2 threads", "compress, rarely saved", "fit, reducing"])
def test_an_exception_at_an_instruction_loses_nothing(name):
    instructions, wrong = inject.places(name, every=3, bytecode=True)
    assert instructions > 500
    assert not wrong


@pytest.mark.parametrize("kind", ["ValueError", "TypeError", "OSError", "AttributeError", "StopIteration"])
@pytest.mark.parametrize("name", ["fit", "compress", "load a result", "save a result"])
def test_the_exception_is_the_one_that_was_raised(name, kind):
    """Also where such exceptions are ours to reword."""
    assert not inject.places(name, every=101, kind=kind)[1]


@pytest.mark.slow
@pytest.mark.parametrize("name", SIGNALLED)
def test_signals_at_random_instants_lose_nothing(name):
    came, wrong = inject.instants(name, 200)
    assert came == 200
    assert not wrong


def test_a_few_signals_lose_nothing():
    for name in SIGNALLED:
        assert not inject.instants(name, 5, seed=1)[1]


def interrupted(attempts):
    """Runs compress with two threads, interrupted at random instants, in a process of its own."""
    code = f"""
import signal, time, _thread
import numpy as np, sgdm
rng = np.random.default_rng(5)
X = rng.standard_normal((2000, 20))
class Alarm(Exception): pass
armed = False
def ring(*_):
    global armed
    if armed:
        armed = False
        raise Alarm
signal.signal(signal.SIGALRM, ring)
for i in range({attempts}):
    try:
        armed = True
        signal.setitimer(signal.ITIMER_REAL, 0.0005 + 0.02 * rng.random())
        sgdm.compress(((X, X[:, 0]) for _ in range(100_000)), n_threads=2)
    except Alarm:
        pass
    armed = False
time.sleep(1)
assert _thread._count() == 0
"""
    subprocess.run([sys.executable, "-P", "-c", code], timeout=120, check=True)


def test_two_threads_that_are_interrupted_end():
    interrupted(40)


@pytest.mark.slow
def test_two_threads_that_are_interrupted_again_and_again_end():
    for _ in range(20):
        interrupted(400)


def test_a_checkpoint_of_other_targets_is_refused(tmp_path):
    """The same X and the same first rows, as in a loop of one label against the rest."""
    X = np.random.default_rng(0).standard_normal((120_000, 3))
    label = np.arange(120_000) % 3

    def blocks(which, rows=120_000):
        for i in range(0, rows, 30_000):
            yield X[i : i + 30_000], (label[i : i + 30_000] == which) * 10.0
        if rows < 120_000:
            raise ZeroDivisionError

    path = tmp_path / "half.npz"
    with pytest.raises(ZeroDivisionError):
        sgdm.compress(blocks(1, 60_000), fit_intercept=True, checkpoint=path)
    with pytest.raises(ValueError, match=r"^checkpoint holds 60000 rows of other data"):
        sgdm.compress(blocks(2), fit_intercept=True, checkpoint=path)
    assert sgdm.compress(blocks(1), fit_intercept=True, checkpoint=path) == sgdm.compress(blocks(1), fit_intercept=True)


@pytest.mark.parametrize("what", ["X", "y", "weights"])
@pytest.mark.parametrize("row", [0, 1, 39, 77])
def test_a_checkpoint_knows_every_number_of_its_rows(what, row, tmp_path):
    rng = np.random.default_rng(0)
    data = {"X": rng.standard_normal((120, 4)), "y": rng.standard_normal(120), "weights": rng.random(120)}

    def blocks(data, stop=False):
        for i in range(0, 120, 40):
            if stop and i == 80:
                raise ZeroDivisionError
            yield tuple(array[i : i + 40] for array in data.values())

    path = os.fspath(tmp_path / "half.npz")
    with pytest.raises(ZeroDivisionError):
        sgdm.compress(blocks(data, stop=True), checkpoint=path)
    other = {name: array.copy() for name, array in data.items()}
    last = other[what][row, -1:] if what == "X" else other[what][row : row + 1]
    last[...] = np.nextafter(last, np.inf)
    with pytest.raises(ValueError, match=r"^checkpoint holds 80 rows of other data"):
        sgdm.compress(blocks(other), checkpoint=path)
    assert sgdm.compress(blocks(data), checkpoint=path) == sgdm.compress(blocks(data))
