"""Threads that share the rows of a fit: the same bits for any number of them, and nothing of them left behind."""

import functools
import os
import re
import sys
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import reference
from helpers import HISTORIES, bad_counts, dtypes, ignore_far, layouts

import sgdm
from sgdm import _kernel
from sgdm._descent import descent
from sgdm._validation import as_threads

THREADS = (2, 3, 8)
pytestmark = ignore_far

# Little data, but several parts of it: narrow X, read by columns whatever its order; narrow X of more than 4 MB in
# float64, no longer copied as a whole; and wide X, with rows left over for a last, short part.
SHAPES = [(66_001, 1), (33_003, 2), (14_001, 5), (11_003, 7), (9001, 8), (701, 300)]
LARGE = [(270_001, 2), (80_003, 7)]

shapes = pytest.mark.parametrize("shape", SHAPES, ids=str)


@functools.cache
def noise(*shape):
    return np.random.default_rng(sum(shape)).standard_normal(shape)


def make_data(shape, dtype=np.float64, order="C", targets=None):
    n, d = shape
    y = noise(n, d) @ np.linspace(1, 2, d * (targets or 1)).reshape(d, -1) + noise(n, targets or 1)
    return np.asarray(noise(n, d), dtype, order=order), np.asarray(y[:, 0] if targets is None else y, dtype)


def make_weights(n, dtype=np.float64):
    return (np.arange(n) % 4 / 2).astype(dtype)


def fit(X, y, **options):
    """By default few epochs of small steps on the rows themselves."""
    return sgdm.fit(X, y, **{"lr": 0.2 / X.shape[1], "epochs": 4, "method": "direct", **options})


@pytest.fixture
def teams(monkeypatch):
    """(parts of an update, threads) for each fit of the test that was asked to use threads, and did."""
    found, parts, Team = [], [], descent.Team
    monkeypatch.setattr(descent, "parts", lambda *problem: parts.append(_kernel.parts(*problem)) or parts[-1])
    monkeypatch.setattr(descent, "Team", lambda helpers: found.append((parts[-1], helpers + 1)) or Team(helpers))
    return found


def assert_shared(teams, threads=THREADS):
    """That there were several parts, and as many threads as asked for, or as parts."""
    assert [used for _, used in teams] == [min(count, parts) for (parts, _), count in zip(teams, threads, strict=True)]
    assert min(parts for parts, _ in teams) > 1


def assert_same_bits(teams, X, y, **options):
    alone = fit(X, y, **options)
    assert not teams
    for count in THREADS:
        assert fit(X, y, n_threads=count, **options) == alone, f"{count} threads"
    assert_shared(teams)
    return alone


# The same bits


@shapes
@layouts
@dtypes
@pytest.mark.parametrize("targets", [None, 3])
def test_any_number_of_threads_gives_the_same_bits(teams, shape, order, dtype, targets):
    X, y = make_data(shape, dtype, order, targets)
    assert_same_bits(teams, X, y)


@shapes
@layouts
@dtypes
def test_threads_share_weights_intercept_and_all_the_rest(teams, shape, order, dtype):
    X, y = make_data(shape, dtype, order, 2)
    assert_same_bits(
        teams, X, y, sample_weight=make_weights(len(X), dtype), fit_intercept=True, nesterov=True, weight_decay=0.1,
        l1=0.01, tol=1e-9, average=True, coef0=np.ones((shape[1] + 1, 2)), record_every=3,
    )  # fmt: skip


@pytest.mark.parametrize("shape", LARGE, ids=str)
@layouts
def test_threads_share_large_and_narrow_rows(teams, shape, order):
    X, y = make_data(shape, order=order)
    assert_same_bits(teams, X, y, epochs=2, sample_weight=make_weights(len(X)), fit_intercept=True)


@pytest.mark.parametrize("shape", [*SHAPES, LARGE[0]], ids=str)
@layouts
@dtypes
def test_threads_follow_the_oracle(teams, shape, order, dtype):
    """All parts, and each of them once."""
    X, y = make_data(shape, dtype, order)
    options = {"sample_weight": make_weights(len(X), dtype), "fit_intercept": True, "lr": 0.2 / shape[1], "epochs": 3}
    ours, twin = fit(X, y, n_threads=2, **options), reference.fit(X, y, **options)
    assert_shared(teams, [2])
    for name in HISTORIES:
        theirs = getattr(twin.history, name)
        tolerance = max(64, len(X) / 2500) * np.finfo(dtype).eps * np.abs(theirs).max()  # NumPy's sum of 270 001: 66
        np.testing.assert_allclose(getattr(ours.history, name), theirs, rtol=0, atol=tolerance, err_msg=name)


BATCHES = [((901, 300), 450), ((33_003, 2), 17_000), ((14_001, 5), 7000)]
batch_options = pytest.mark.parametrize(
    "options",
    [{"shuffle": False}, {"seed": 1}, {"seed": 1, "record": "updates", "average": 2, "fit_intercept": True}],
    ids=["in order", "shuffled", "shuffled, by updates"],
)


@pytest.mark.parametrize(("shape", "batch"), BATCHES, ids=str)
@layouts
@dtypes
@batch_options
def test_threads_share_batches_of_several_parts(teams, shape, batch, order, dtype, options):
    X, y = make_data(shape, dtype, order)
    assert_same_bits(teams, X, y, batch_size=batch, sample_weight=1 + make_weights(len(X), dtype), **options)


@layouts
def test_threads_share_batches_of_several_targets(teams, order):
    X, y = make_data((901, 300), order=order, targets=3)
    assert_same_bits(teams, X, y, batch_size=450, seed=1)


@layouts
@batch_options
def test_small_batches_are_not_shared(teams, order, options):
    X, y = make_data((301, 300), order=order)
    alone = fit(X, y, batch_size=32, **options)
    assert fit(X, y, batch_size=32, n_threads=8, **options) == alone
    assert not teams


MANY_PARTS_SCRIPT = """
import faulthandler
import numpy as np
import sgdm
from sgdm._descent import descent

faulthandler.dump_traceback_later(60, exit=True)
found, parts = [], descent.parts
descent.parts = lambda *problem: found.append(parts(*problem)) or found[-1]
rng = np.random.default_rng(0)
n, d, batch = 34_000, 64, 900
X = np.asarray(rng.standard_normal((n, d), np.float32), order={order!r})
y = rng.standard_normal(n, np.float32)
options = dict(lr=1e-3, epochs=2, batch_size=batch, seed=0, record="updates")
alone = sgdm.fit(X, y, **options)
for count in (2, 8):
    assert sgdm.fit(X, y, n_threads=count, **options) == alone
assert min(found) > 1 and n > 64 * batch / min(found), "too few parts to tell"
"""


@layouts
def test_batches_of_so_many_rows_that_all_together_have_more_than_64_parts(run_python, order):
    """The loss at the start is that of all rows. In a process of its own, which may crash."""
    process = run_python(MANY_PARTS_SCRIPT.format(order=order))
    assert process.returncode == 0, process.stderr


@layouts
@dtypes
@pytest.mark.parametrize("options", [{}, {"batch_size": 450, "seed": 2}], ids=["full", "batches"])
@pytest.mark.parametrize("held_out", [40, 800, 0.3])
def test_threads_share_validation_rows(teams, order, dtype, options, held_out):
    """Of fewer rows than make a part, of more, and of a fraction of the rows."""
    X, y = make_data((1200, 300), dtype, order, 2)
    if held_out == 0.3:
        validation = held_out
        options = {"seed": 2, **options}
    else:
        validation = X[:held_out], y[:held_out], make_weights(held_out, dtype)
    result = assert_same_bits(teams, X, y, validation=validation, patience=3, fit_intercept=True, **options)
    assert result.best_epoch is not None


@pytest.mark.parametrize(
    "options",
    [{}, {"batch_size": 300, "average": 1}, {"validation": 0.4, "patience": 9}],
    ids=["full", "batches", "validation"],
)
@pytest.mark.parametrize("threads", [(1, 2), (3, 1), (2, 8)], ids=str)
def test_a_restart_may_have_another_number_of_threads(teams, options, threads):
    X, y = make_data((701, 300))
    options = {"fit_intercept": True, **options}
    start = {"seed": 3} if len(options) > 1 else {}
    first = fit(X, y, epochs=3, n_threads=threads[0], **start, **options)
    second = fit(X, y, epochs=4, n_threads=threads[1], init=first, **options)
    assert_shared(teams, [count for count in threads if count > 1])
    assert second == fit(X, y, epochs=7, **start, **options)


@layouts
@dtypes
@pytest.mark.parametrize("targets", [None, 3])
def test_threads_share_a_wide_reduction(teams, order, dtype, targets):
    """A wide one is shared in its turn."""
    X, y = make_data((900, 300), dtype, order, targets)
    weights = make_weights(900, dtype)
    assert_same_bits(teams, X, y, method="compress", fit_intercept=True, sample_weight=weights)


def test_threads_share_a_fit_with_any_learning_rate(teams):
    X, y = make_data((301, 300))
    assert_same_bits(teams, X, y, lr="auto")
    teams.clear()
    assert_same_bits(teams, X, y, lr=sgdm.schedules.cosine(4, 1e-3))


# More threads than there is work or cores for


@pytest.mark.parametrize("threads", [16, 10**6, sys.maxsize])
def test_there_may_be_more_threads_than_cores(teams, threads):
    X, y = make_data((4096, 300))
    assert fit(X, y, epochs=20, n_threads=threads) == fit(X, y, epochs=20)
    assert_shared(teams, [threads])
    assert teams[0][1] >= 16


def test_a_problem_of_one_part_needs_no_team(teams):
    X, y = make_data((100, 300))
    assert fit(X, y, n_threads=8) == fit(X, y)
    assert not teams


@bad_counts
@pytest.mark.parametrize("method", ["direct", "compress"])
def test_a_bad_number_of_threads_is_refused(value, error, expected, method):
    X, y = make_data((100, 300))
    all_cpus = "; -1 stands for all CPUs" if error is ValueError else ""
    with pytest.raises(error, match=f"^n_threads must be {re.escape(expected + all_cpus)}$"):
        fit(X, y, n_threads=value, method=method)


@pytest.mark.parametrize("minus_one", [-1, np.int8(-1)])
def test_minus_one_thread_is_all_cpus_that_the_process_may_use(monkeypatch, minus_one):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 3, 5}, raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 7)
    assert as_threads(minus_one) == 3
    monkeypatch.delattr(os, "sched_getaffinity")
    assert as_threads(minus_one) == 7
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert as_threads(minus_one) == 1


def test_all_cpus_give_the_bits_of_one(teams, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1}, raising=False)
    X, y = make_data((14_001, 5))
    assert fit(X, y, n_threads=-1) == fit(X, y)
    assert_shared(teams, [2])


# Slices and callbacks


@pytest.fixture
def slices_of_one_epoch(monkeypatch):
    monkeypatch.setattr(descent, "SLICE_ELEMENTS", 1)


@pytest.mark.parametrize("options", [{}, {"batch_size": 290, "seed": 1}], ids=["full", "batches"])
def test_slices_of_one_epoch_change_no_bit(teams, slices_of_one_epoch, options):
    X, y = make_data((301, 300))
    assert_same_bits(teams, X, y, epochs=30, **options)


def test_callbacks_see_the_same_with_threads(teams):
    """They see the same, and may fit with threads of their own."""
    X, y = make_data((301, 300))

    def run(**options):
        seen = []

        def look(progress):
            seen.append((progress.epoch, progress.loss, progress.coef.tolist(), progress.result))
            if progress.epoch == 4:
                seen.append(fit(X, y, **options))
            if progress.epoch == 8:
                raise StopIteration

        seen.append(fit(X, y, epochs=20, callback=look, callback_every=2, **options))
        return seen

    alone = run()
    assert alone[-1].epochs == 8
    assert alone[-1].status == "stopped"
    assert run(n_threads=3) == alone
    assert_shared(teams, [3, 3])


def os_threads():
    return len(os.listdir("/proc/self/task")) if os.path.isdir("/proc/self/task") else threading.active_count()


def assert_left_alone(before):
    """As many threads as before; a thread that has ended may be a moment on its way out of the system."""
    deadline = time.monotonic() + 5
    while os_threads() > before[1] and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() == before[0]
    assert os_threads() <= before[1]


def test_nothing_is_left_of_a_callback_that_raises(teams):
    X, y = make_data((301, 300))

    def fail(progress):
        if progress.epoch == 3:
            raise ZeroDivisionError("mine")

    fit(X, y)
    before = threading.active_count(), os_threads()
    with pytest.raises(ZeroDivisionError, match=r"^mine$") as caught:
        fit(X, y, callback=fail, n_threads=3, epochs=20)
    assert_left_alone(before)
    assert_shared(teams, [3])
    assert caught.value.result.epochs == 3
    assert np.array_equal(caught.value.result.coef, fit(X, y, epochs=3).coef)


@pytest.mark.parametrize("shape", [(301, 300), (33_003, 2)], ids=str)
def test_no_thread_outlives_its_fit(teams, shape):
    X, y = make_data(shape)
    fit(X, y)
    before = threading.active_count(), os_threads()
    for _ in range(5):
        fit(X, y, n_threads=8)
    assert_left_alone(before)
    assert_shared(teams, [8] * 5)


# Divergence and bad data


@pytest.mark.parametrize("shape", [(301, 300), (33_003, 2)], ids=str)
@pytest.mark.parametrize(
    ("factor", "options"),
    [(1, {"lr": 1e60}), (1, {"lr": 1e9, "fit_intercept": True, "record_every": 3}), (1e200, {})],
    ids=["soon", "later", "at once"],
)
def test_a_fit_with_threads_diverges_as_without(teams, shape, factor, options):
    X, y = make_data(shape)
    errors = []
    for count in (1, 2, 8):
        with pytest.raises(sgdm.DivergenceError) as caught:
            fit(X * factor, y, epochs=200, n_threads=count, **options)
        errors.append(caught.value)
    assert_shared(teams, [2, 8])
    for error in errors[1:]:
        assert (str(error), error.max_lr, error.result) == (str(errors[0]), errors[0].max_lr, errors[0].result)


@pytest.mark.parametrize("shape", [(301, 300), (33_003, 2)], ids=str)
@layouts
def test_threads_name_the_row_that_is_not_finite(teams, shape, order):
    X, y = make_data(shape, order=order)
    X = X.copy(order="K")
    X[-1, 1] = np.nan
    with pytest.raises(ValueError, match=f"^X must be finite, got nan at row {len(X) - 1}, column 1$"):
        fit(X, y, n_threads=2)
    assert_shared(teams, [2])


def test_a_rise_is_told_with_threads_as_without():
    X, y = make_data((301, 300))
    messages = []
    for count in (1, 2):
        with pytest.warns(sgdm.ConvergenceWarning, match="^the objective rose from ") as caught:
            fit(X, y, lr=10, n_threads=count)
        messages.append(str(caught[0].message))
    assert messages[0] == messages[1]


# Several fits at once, processes, interruption


def test_four_fits_with_threads_at_once_get_the_same_bits(teams):
    problems = [make_data((301, 300)), make_data((33_003, 2), np.float32), make_data((701, 300), order="F", targets=2)]
    alone = [fit(X, y, epochs=20) for X, y in problems]
    together = threading.Barrier(4)

    def run(first):
        together.wait()
        order = [(first + i) % 3 for i in range(6)]
        return all(fit(*problems[i], epochs=20, n_threads=2) == alone[i] for i in order)

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(run, range(4)))
    assert len(teams) == 24


FORK_SCRIPT = """
import os, signal, threading
import numpy as np
import sgdm

signal.alarm(60)  # not faulthandler: its watchdog does not survive a fork
rng = np.random.default_rng(0)
X, y = rng.standard_normal((1000, 300)), rng.standard_normal(1000)
options = {"lr": 1e-3, "method": "direct"}
alone = sgdm.fit(X, y, **options)
begun = threading.Event()

def again():
    sgdm.fit(X, y, epochs=10**5, record=None, n_threads=2, callback=look, **options)

def look(progress):
    begun.set()
    if over.is_set():
        raise StopIteration

def fork():
    child = os.fork()
    if child == 0:
        signal.alarm(30)
        os._exit(0 if sgdm.fit(X, y, n_threads=3, **options) == alone else 1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0, status

assert sgdm.fit(X, y, n_threads=3, **options) == alone
fork()
over = threading.Event()
meanwhile = threading.Thread(target=again)
meanwhile.start()
begun.wait()
fork()
over.set()
meanwhile.join()
assert sgdm.fit(X, y, n_threads=3, **options) == alone
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork there")
def test_a_process_may_fork_after_and_during_a_fit_with_threads(run_python):
    # Python 3.12 warns of any fork beside threads; what is tested is that it works all the same.
    process = run_python(FORK_SCRIPT, PYTHONWARNINGS="ignore::DeprecationWarning")
    assert process.returncode == 0, process.stderr


@pytest.mark.thread_unsafe(reason="it must be quick")
@pytest.mark.skipif(os.name == "nt", reason="no pthread_kill there")
@pytest.mark.parametrize(
    ("shape", "threads", "options"),
    [
        ((2000, 300), 2, {"record": "loss", "record_every": 100}),
        ((33_003, 2), 2, {"record": None, "batch_size": 20_000, "seed": 1}),
        pytest.param((33_003, 2), 8, {"record": "loss", "record_every": 100}, marks=pytest.mark.slow),
        pytest.param((2000, 300), 8, {"record": None, "batch_size": 600, "seed": 1}, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_ctrl_c_ends_a_fit_with_threads(press_ctrl_c, shape, threads, options):
    setup = f"""
n, d = {shape}
X, y = rng.standard_normal((n, d)), rng.standard_normal(n)
options = dict(lr=0.2 / d, method="direct", **{options})
"""
    check = """
assert result.status == "stopped" and 0 < result.epochs < 10**6, result
whole = sgdm.fit(X, y, epochs=result.epochs, n_threads=1, **options)
assert result == dataclasses.replace(whole, status=result.status)
"""
    press_ctrl_c(setup, f"sgdm.fit(X, y, epochs=10**6, n_threads={threads}, **options)", check)


@pytest.mark.parametrize("error", ["KeyboardInterrupt", "RuntimeError"])
def test_threads_of_a_fit_end_if_one_can_not_be_started(without_second_thread, error):
    fit = "sgdm.fit(np.ones((1000, 300)), np.ones(1000), lr=1e-3, method='direct', n_threads=3)"
    expected = "result.epochs == 0 and result.status == 'stopped'"
    without_second_thread(error, fit, expected, f"assert {fit}.status == 'completed'")


def test_threads_raise_no_warnings():
    X, y = make_data((301, 300))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fit(X, y, n_threads=8)
    assert not caught


@pytest.mark.thread_unsafe(reason="the size of stacks is that of all threads to come")
def test_threads_with_small_stacks_can_call_everything():
    """Some systems give a thread 128 kB."""
    rng = np.random.default_rng(0)
    X, y, done = rng.standard_normal((3000, 30)), rng.standard_normal(3000), []

    def work():
        sgdm.fit(X, y, lr=0.01, epochs=2, method="direct")
        sgdm.compress(X, y)
        for rows in (X, X.reshape(10, 300, 30)[:, :, :4]):
            targets = y if rows.ndim == 2 else y.reshape(10, 300)
            sgdm.fit_many(rows, targets, lr=np.full(10, 0.01), epochs=2, method="compress", standardize=True)
        done.append(True)

    before = threading.stack_size(1 << 17)
    try:
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    finally:
        threading.stack_size(before)
    assert done
