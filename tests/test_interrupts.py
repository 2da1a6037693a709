"""An exception at any instant, as a signal's handler raises it: what is handed out is right, and no thread goes on."""

import _thread
import itertools
import os
import signal
import threading
import time

import inject
import numpy as np
import pytest

import sgdm
from sgdm import _estimators, _kernel, _workers
from sgdm._reduction import leaves

pytestmark = pytest.mark.thread_unsafe(reason="traces, and signals to the main thread")

SIGNALS = 2000
SIGNALLED = [
    "fit", "fit, batches", "fit, validation", "fit, 2 threads", "fit, batches, 2 threads", "fit, validation, 2 threads",
    "fit_many", "fit_many, 2 threads", "compress, rarely saved", "compress, 2 threads", "SGDMRegressorCV",
]  # fmt: skip
X, y = inject.X, inject.y
cases = pytest.mark.parametrize("name", inject.CASES)
alarms = pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no alarms there")


class Stop(Exception):
    pass


def threads_end():
    deadline = time.monotonic() + 1
    while _thread._count() > threads_end.before and time.monotonic() < deadline:
        time.sleep(0.001)
    return _thread._count() <= threads_end.before


@pytest.fixture(autouse=True)
def threads_before():
    threads_end.before = _thread._count()


# At any line, any instruction, any instant


@cases
def test_an_exception_at_some_lines_leaves_nothing_wrong(name):
    _, wrong = inject.places(name, most=6)
    assert not wrong


@pytest.mark.slow
@cases
def test_an_exception_at_every_line_leaves_nothing_wrong(name):
    _, wrong = inject.places(name)
    assert not wrong


@pytest.mark.slow
@cases
def test_an_exception_at_any_instruction_leaves_nothing_wrong(name):
    total, wrong = inject.places(name, every=7, bytecode=True, most=500)
    assert not wrong
    assert total > 100


@pytest.mark.slow
@cases
def test_exceptions_of_kinds_that_the_package_catches_come_out_too(name):
    for kind in ("TimeoutError", "TypeError", "ValueError", "AttributeError", "OSError"):
        _, wrong = inject.places(name, kind=kind, most=60)
        assert not wrong


@alarms
@pytest.mark.parametrize("name", SIGNALLED)
def test_some_signals_leave_nothing_wrong(name):
    if name not in inject.CASES:
        pytest.skip("needs scikit-learn")
    count, wrong = inject.instants(name, 10)
    assert (count, wrong) == (10, {})


@pytest.mark.slow
@alarms
@pytest.mark.parametrize("name", SIGNALLED)
def test_two_thousand_signals_leave_nothing_wrong(name):
    """Between all of these."""
    count, wrong = inject.instants(name, -(-SIGNALS // len(SIGNALLED)), seed=1)
    assert not wrong
    assert count * len(SIGNALLED) >= SIGNALS


INTERRUPTED_SCRIPT = """
import _thread, faulthandler, signal, time
import numpy as np
import sgdm

faulthandler.dump_traceback_later(110, exit=True)
rng = np.random.default_rng({seed})
X = rng.standard_normal((2000, 20))
y = X[:, 0]
armed, interrupts = False, 0

class Alarm(Exception):
    pass

def ring(*_):
    global armed
    if armed:
        armed = False
        raise Alarm

signal.signal(signal.SIGALRM, ring)
for _ in range({times}):
    try:
        armed = True
        signal.setitimer(signal.ITIMER_REAL, 0.0005 + 0.02 * rng.random())
        sgdm.compress(((X, y) for _ in range(100_000)), n_threads=2)
    except Alarm:
        interrupts += 1
    armed = False
assert interrupts == {times}
deadline = time.monotonic() + 1
while _thread._count() and time.monotonic() < deadline:
    time.sleep(0.01)
assert _thread._count() == 0
"""


@alarms
@pytest.mark.parametrize("times", [20, pytest.param(3000, marks=pytest.mark.slow)])
def test_compress_with_threads_ends_at_each_of_many_interrupts(run_python, times):
    for seed in range(max(1, times // 400)):
        process = run_python(INTERRUPTED_SCRIPT.format(times=min(times, 400), seed=seed))
        assert process.returncode == 0, process.stderr


# Threads


def test_threads_are_waited_for_even_if_the_wait_is_interrupted():
    began, goes_on, at_work = threading.Event(), threading.Event(), []

    def work():
        at_work.append(True)
        began.set()
        goes_on.wait(10)
        at_work.clear()

    interrupts = itertools.count()

    def stop():
        if next(interrupts) < 3:
            raise KeyboardInterrupt("while it is waited for")
        goes_on.set()

    def lead(start):
        start(work)
        began.wait(10)
        raise Stop("the first")

    with pytest.raises(Stop, match=r"^the first$"):
        _workers.with_threads(lead, stop)
    assert next(interrupts) == 4
    assert not at_work
    assert threads_end()


def test_a_thread_that_starts_late_does_nothing(monkeypatch):
    late, calls = [], []
    monkeypatch.setattr(_thread, "start_new_thread", lambda function, arguments: late.append((function, arguments)))
    assert _workers.with_threads(lambda start: start(calls.append, 1) or "done", lambda: None) == "done"
    ((function, arguments),) = late
    monkeypatch.undo()
    _thread.start_new_thread(function, arguments)
    assert threads_end()
    assert not calls


@pytest.mark.parametrize("n_threads", [1, 2, 3, 100])
def test_results_are_taken_in_order_and_few_are_under_way(n_threads):
    drawn, taken = itertools.count(), []

    def arguments():
        for i in range(40):
            assert next(drawn) - len(taken) <= n_threads + 1
            yield i

    def square(i):
        time.sleep(0.001 * (i % 3))
        return i * i

    _workers.map_in_order(square, arguments(), lambda i, squared: taken.append((i, squared)), n_threads)
    assert taken == [(i, i * i) for i in range(40)]
    assert threads_end()


@pytest.mark.parametrize("n_threads", [1, 2, 3])
def test_an_error_in_a_thread_that_factors_reaches_the_caller(monkeypatch, n_threads):
    factor, calls = leaves.factor_rows, itertools.count()

    def fail(*rows):
        if next(calls) == 5:
            raise MemoryError("mine")
        return factor(*rows)

    monkeypatch.setattr(leaves, "factor_rows", fail)
    with pytest.raises(MemoryError, match=r"^mine$") as caught:
        sgdm.compress(iter(inject.BLOCKS), n_threads=n_threads)
    monkeypatch.undo()
    part = caught.value.result
    assert part is None or part == inject.reduced(part.n_rows // inject.AT_ONCE)
    assert n_threads > 1 or part.n_rows == 5 * inject.AT_ONCE
    assert threads_end()


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_compress_without_the_threads_it_asks_for_hands_over_what_it_has(monkeypatch, error):
    start, calls = _thread.start_new_thread, itertools.count()

    def fail(*task):
        if next(calls) == 1:
            raise error("no more threads")
        return start(*task)

    monkeypatch.setattr(_thread, "start_new_thread", fail)
    with pytest.raises(error, match=r"^no more threads$") as caught:
        sgdm.compress(iter(inject.BLOCKS), n_threads=3)
    assert caught.value.result is None  # the second thread is started for the second leaf
    assert threads_end()


# What the exception carries


def test_a_fit_that_is_interrupted_while_it_reduces_carries_no_reduction(monkeypatch):
    def fail(*rows):
        raise KeyboardInterrupt

    monkeypatch.setattr(leaves, "factor_rows", fail)
    with pytest.raises(KeyboardInterrupt) as caught:
        sgdm.fit(X, y, method="compress")
    assert caught.value.result is None


def test_cross_validation_that_is_interrupted_carries_no_fold(monkeypatch):
    sklearn = pytest.importorskip("sgdm.sklearn")
    model = sklearn.SGDMRegressorCV(lr=0.1, max_iter=200, cv=3).fit(X, y)
    before = dict(vars(model))

    def interrupt(descents):
        stop = KeyboardInterrupt()
        stop.result = sgdm.fit(X, y, epochs=1)
        raise stop

    monkeypatch.setattr(_estimators.Descents, "run", interrupt)
    with pytest.raises(KeyboardInterrupt) as caught:
        model.fit(X[:, :2], y)
    assert caught.value.result is None
    assert vars(model) == before
    assert model.predict(X).shape == y.shape


def test_an_estimator_that_is_interrupted_keeps_its_last_fit(monkeypatch):
    sklearn = pytest.importorskip("sgdm.sklearn")
    model = sklearn.SGDMRegressor(lr=0.1, max_iter=5, tol=None).fit(X, y)
    before = dict(vars(model))
    with pytest.raises(ZeroDivisionError) as caught:
        model.set_params(lr=lambda epoch: 0.1 / (7 - epoch), max_iter=20).fit(X[:, :2], y)
    assert not hasattr(caught.value, "result") or caught.value.result is None
    model.set_params(lr=0.1, max_iter=5)
    assert vars(model) == before


def test_what_cannot_be_saved_at_an_interrupt_is_a_note_on_it(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(leaves, "write_npz", fail)
    with pytest.raises(Stop) as caught:
        sgdm.compress(stopping(3), checkpoint=tmp_path / "half.npz")
    assert caught.value.__notes__ == ["the checkpoint could not be saved: disk full"]
    assert caught.value.result == inject.reduced(3)
    assert not os.listdir(tmp_path)


def test_an_interrupt_in_the_middle_of_an_archive_comes_out_as_it_is(tmp_path, monkeypatch):
    """zipfile refuses to close what is open for writing, in numpy's own cleaning up."""

    def savez(file, **arrays):
        try:
            raise Stop
        finally:
            raise ValueError("Can't close the ZIP file while there is an open writing handle on it.")

    monkeypatch.setattr(np, "savez", savez)
    with pytest.raises(Stop):
        inject.fitted().save(tmp_path / "result.npz")
    assert not os.listdir(tmp_path)


# Checkpoints know every number


def stopping(after, blocks=inject.BLOCKS):
    yield from blocks[:after]
    raise Stop


def stop(path, blocks, after, **options):
    with pytest.raises(Stop):
        sgdm.compress(stopping(after, blocks), checkpoint=path, **options)


WEIGHTED = [(x, t, 1 + np.arange(len(t)) % 3) for x, t in inject.BLOCKS]
OTHER = r"^checkpoint holds 525 rows of other data, or in other blocks, than these"


@pytest.mark.parametrize("n_threads", [1, 2])
@pytest.mark.parametrize("array", [0, 1, 2], ids=["X", "y", "weights"])
@pytest.mark.parametrize("block", [0, 3, 6])
def test_a_checkpoint_is_refused_if_any_one_number_differs(tmp_path, array, block, n_threads):
    path, rng = tmp_path / "half.npz", np.random.default_rng([array, block])
    stop(path, WEIGHTED, 7)
    for _ in range(3):
        blocks = [tuple(part.copy() for part in parts) for parts in WEIGHTED]
        numbers = blocks[block][array]
        place = tuple(rng.integers(numbers.shape))
        numbers[place] = numbers[place] + 1 if array == 2 else np.nextafter(numbers[place], 9)
        with pytest.raises(ValueError, match=OTHER):
            sgdm.compress(iter(blocks), checkpoint=path, n_threads=n_threads)
    assert sgdm.compress(iter(WEIGHTED), checkpoint=path, n_threads=n_threads) == sgdm.compress(iter(WEIGHTED))


def test_a_checkpoint_of_other_targets_is_refused(tmp_path):
    """One against the rest, over one path: the same X, and other labels from the second row on."""
    label = np.arange(inject.ROWS) % 3
    one, two = ([(x, 10.0 * (label[: len(x)] == which)) for x, _ in inject.BLOCKS] for which in (1, 2))
    assert one[0][1][0] == two[0][1][0]
    stop(tmp_path / "half.npz", one, 7)
    with pytest.raises(ValueError, match=OTHER):
        sgdm.compress(iter(two), checkpoint=tmp_path / "half.npz")


CHANGES = {
    "signs": lambda X, y: (X, -y),
    "signs of rows": lambda X, y: (-X, -y),
    "two rows": lambda X, y: (np.concatenate([X[1::-1], X[2:]]), np.concatenate([y[1::-1], y[2:]])),
    "two columns": lambda X, y: (X[:, [1, 0, 2, 3, 4]], y),
    "dtype": lambda X, y: (X.astype(np.float32), y),
    "order of a column and y": lambda X, y: (np.column_stack([y, X[:, 1:]]), X[:, 0].copy()),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_checkpoint_is_refused_if_many_numbers_change_alike(tmp_path, change):
    stop(tmp_path / "half.npz", inject.BLOCKS, 7)
    blocks = [change(*block) if i == 2 else block for i, block in enumerate(inject.BLOCKS)]
    with pytest.raises(ValueError, match=OTHER):
        sgdm.compress(iter(blocks), checkpoint=tmp_path / "half.npz")


@pytest.mark.parametrize("given", [np.float64, np.float32, np.longdouble, ">f8", np.int16, bool])
def test_a_checkpoint_goes_on_with_any_layout_of_the_same_numbers(tmp_path, given):
    blocks = [(np.round(x).astype(given), t) for x, t in inject.BLOCKS]
    other = [(np.asarray(np.repeat(x, 2, axis=1)[:, ::2], order="F"), np.repeat(t, 3)[::3]) for x, t in blocks]
    stop(tmp_path / "half.npz", blocks, 7)
    assert sgdm.compress(iter(other), checkpoint=tmp_path / "half.npz") == sgdm.compress(iter(blocks))


def test_a_checkpoint_of_an_earlier_format_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "half.npz"
    with monkeypatch.context() as patch:
        patch.setitem(sgdm._files._FORMATS, "checkpoint", 1)
        stop(path, inject.BLOCKS, 7)
    with pytest.raises(ValueError, match=r"half\.npz is damaged, or not a checkpoint saved by this version of sgdm"):
        sgdm.compress(iter(inject.BLOCKS), checkpoint=path)


def test_a_checkpoint_whose_levels_and_leaves_disagree_is_refused(tmp_path):
    path = tmp_path / "half.npz"
    stop(path, inject.BLOCKS, 7)
    reduction = leaves.Reduction(False, None, True)
    reduction.restore(path)
    for done in (
        reduction.done._replace(n_leaves=6),
        reduction.done._replace(levels=reduction.done.levels[::-1]),
        reduction.done._replace(digest="00"),
    ):
        reduction.done = done
        reduction.save(path)
        with pytest.raises(ValueError, match=r"half\.npz is damaged, or not a checkpoint saved by this version"):
            sgdm.compress(iter(inject.BLOCKS), checkpoint=path)


def test_a_digest_tells_where_a_number_is_and_how_many_there_are():
    def digest(content):
        words = np.arange(1, 9, dtype=np.uint64)
        _kernel.mix(words, np.frombuffer(content, np.uint8))
        return words.tobytes()

    contents = [bytes(64 * n) for n in range(5)]
    contents += [bytes(i) + b"a" + bytes(130 - i) for i in range(131)]
    contents += [bytes(i) + b"\x80" + bytes(63) + b"\x80" + bytes(66 - i) for i in range(67)]
    assert len({digest(content) for content in contents}) == len(contents)


@pytest.mark.parametrize("words", [0, 7, 9])
def test_a_digest_has_eight_words(words):
    with pytest.raises(ValueError, match=f"^a digest has 8 words, got {words}$"):
        _kernel.mix(np.zeros(words, np.uint64), np.zeros(3, np.uint8))
