"""Raises an exception at any place of the package's code that the main thread comes by, as a signal handler can, and
looks at what is left: the partial result, the checkpoint, the estimator, the file, the threads.

    python tests/inject.py [--bytecode] [--deep] [--every N] [--kind OSError] [name ...]     # at every line
    python tests/inject.py --signals 2000 [name ...]                                # or by a timer, at random instants

It runs against the installed package, and ends at a hang, with the traces of all threads.
"""

import _thread
import argparse
import builtins
import contextlib
import copy
import dis
import faulthandler
import functools
import gc
import os
import signal
import sys
import tempfile
import time
import warnings
from collections import Counter
from unittest import mock

import numpy as np

import sgdm
from sgdm import _fit_many
from sgdm._descent import descent
from sgdm._reduction import factor
from sgdm._reduction.leaves import Reduction

ROOT = os.path.dirname(sgdm.__file__)
EPOCHS, FITS, ROWS, AT_ONCE = 30, 20, 600, 75  # AT_ONCE: rows of a block
HANGS = 60  # after so many seconds

rng = np.random.default_rng(0)
X = rng.standard_normal((ROWS, 5))
y = X @ np.arange(5.0) + rng.standard_normal(ROWS)
TALL = np.tile(X, (40, 1)), np.tile(y, 40)  # of several parts, for a team
BLOCKS = [(X[i : i + AT_ONCE], y[i : i + AT_ONCE]) for i in range(0, ROWS, AT_ONCE)]
RETURNS = {dis.opmap.get(name) for name in ("RETURN_VALUE", "RETURN_CONST")}  # Python looks for no signals before these
HISTORIES = ("loss", "grad", "step", "coef", "val_loss")


class Injected(BaseException):
    """What is raised; a subclass of this and of another exception where it is to be told from that."""


@functools.cache
def kind_of(name):
    return Injected if name == "BaseException" else type(name, (Injected, getattr(builtins, name)), {})


# Raising it


def raise_at(call, at, bytecode=False, error=Injected, deep=False):
    """Calls `call()`, raising at the place with this number, those in what the package calls included if it is deep;
    returns how many places it came by, which one it was and what came of it."""
    count, where, came, before = 0, None, None, sys.gettrace()

    def local(frame, event, _):
        nonlocal count, where
        if (
            event == "line"
            if not bytecode
            else event == "opcode" and frame.f_code.co_code[frame.f_lasti] not in RETURNS
        ):
            count += 1
            if count == at:
                where = f"{os.path.basename(frame.f_code.co_filename)}:{frame.f_lineno} {frame.f_code.co_name}"
                sys.settrace(None)
                raise error
        return local

    def trace(frame, *_):
        if not frame.f_code.co_filename.startswith(ROOT) and not (deep and called_inside(frame)):
            return None
        frame.f_trace_opcodes = bytecode
        return local

    sys.settrace(trace)
    try:
        call()
    except BaseException as raised:
        came = raised
    finally:
        sys.settrace(before)
    return count, where, came


def called_inside(frame):
    """Whether the package called it; not from a __del__, where Python takes what is raised for itself."""
    while frame is not None and not frame.f_code.co_filename.startswith(ROOT):
        if frame.f_code.co_name == "__del__":
            return False
        frame = frame.f_back
    return frame is not None


@contextlib.contextmanager
def alarms(error=Injected):
    """A function that calls another and sends a signal to this thread, the main one, after so many seconds."""
    armed = False

    def ring(*_):
        nonlocal armed
        if armed:
            armed = False
            raise error

    def alarm(call, seconds):
        nonlocal armed
        came = None
        try:
            armed = True
            signal.setitimer(signal.ITIMER_REAL, seconds)
            call()
        except BaseException as raised:
            came = raised
        finally:
            armed = False
            signal.setitimer(signal.ITIMER_REAL, 0)
        return came

    before = signal.signal(signal.SIGALRM, ring)
    try:
        yield alarm
    finally:
        signal.signal(signal.SIGALRM, before)


def faults(case, check, came, threads):
    """What is wrong after an exception came, or None."""
    if not isinstance(came, Injected):
        return "nothing came" if came is None else f"{type(came).__name__} came instead: {str(came)[:70]}"
    deadline = time.monotonic() + 1
    while _thread._count() > threads and time.monotonic() < deadline:
        time.sleep(0.001)
    if _thread._count() > threads:
        return f"{_thread._count() - threads} threads stay"
    return check(came)


def places(name, every=1, bytecode=False, kind="BaseException", most=sys.maxsize, deep=False):
    """(how many places the case comes by, Counter of (what was wrong, where)) for an exception at every N-th of them,
    or further apart if that is more than `most`."""
    case, wrong = CASES[name], Counter()
    with tempfile.TemporaryDirectory() as folder, case_settings():
        total = raise_at(case(folder)[0], -1, bytecode, deep=deep)[0]
        for at in range(1, total + 1, max(every, -(-total // most))):
            where, fault = fault_of(
                case, folder, lambda call, at=at: raise_at(call, at, bytecode, kind_of(kind), deep)[1:]
            )
            if fault:
                wrong[fault, where] += 1
    return total, wrong


def fault_of(case, folder, interrupt):
    """Where `interrupt(call)` says that the call was interrupted, None if nowhere, and what is wrong then, or None. A
    function of its own, so that its frame, and all that the exception's traceback holds, is garbage afterwards."""
    faulthandler.dump_traceback_later(HANGS, exit=True)
    call, check = case(folder)
    threads = _thread._count()
    where, came = interrupt(call)
    fault = None if where is None else faults(case, check, came, threads)
    faulthandler.cancel_dump_traceback_later()
    return where, fault


def instants(name, count, seed=0):
    """(how many signals came while the case ran, Counter of what was wrong) for signals at random instants."""
    case, wrong, came_in_time, draw = CASES[name], Counter(), 0, np.random.default_rng(seed)
    with tempfile.TemporaryDirectory() as folder, case_settings(), alarms() as alarm:
        start = time.perf_counter()
        for _ in range(3):
            case(folder)[0]()
        seconds = (time.perf_counter() - start) / 3

        def ring(call):
            came = alarm(call, max(1e-6, seconds * draw.random()))
            return inside(came), came

        while came_in_time < count:
            where, fault = fault_of(case, folder, ring)
            came_in_time += where is not None
            if fault:
                wrong[fault] += 1
    return came_in_time, wrong


def inside(error):
    """The function of the package that ran when it came, or None if that was just before or after, or nothing came."""
    place = error and error.__traceback__
    while place is not None and not place.tb_frame.f_code.co_filename.startswith(ROOT):
        place = place.tb_next
    return place and place.tb_frame.f_code.co_name


@contextlib.contextmanager
def case_settings():
    """Slices of few epochs; no warnings, of what an alarm in a __del__ raises neither; the states of all runs."""

    def remembering(problem, settings, state, *rest):
        states.append(state)
        return advance(problem, settings, state, *rest)

    def ignoring(unraisable):
        pass

    advance = descent.advance
    with (
        mock.patch.object(descent, "advance", remembering),
        mock.patch.object(sys, "unraisablehook", ignoring),
        mock.patch.object(descent, "SLICE_ELEMENTS", 7 * ROWS * 6),
        mock.patch.object(_fit_many, "SLICE_ELEMENTS", 7 * ROWS * 6),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        gc.freeze()  # what is older than the case: looking through it would take most of the time
        yield
        while gc.collect():  # archives that were left half open, whose __del__ would complain later
            pass
        gc.unfreeze()


# What is called, and what must hold then: functions of a folder that return the two

states = []  # of the runs of the last case


def fit_case(data=(X, y), rng=None, **options):
    """A fit: the result holds the epochs that the kernel has done, as the whole fit has them, and goes on to that."""
    options = {"epochs": EPOCHS, "method": "direct", **options}

    @functools.cache
    def whole():
        return sgdm.fit(*data, **options, **({} if rng is None else {"seed": np.random.default_rng(rng)}))

    def case(_):
        generator = None if rng is None else np.random.default_rng(rng)
        whole()
        states.clear()

        def check(error):
            part, done = getattr(error, "result", None), states[0].epoch if states else 0
            if part is None:
                return f"no result after {done} epochs" if done else None
            if part.epochs != done:
                return f"a result of {part.epochs} epochs after {done}"
            for name in HISTORIES:
                all_rows = getattr(whole().history, name)
                if all_rows is not None and not np.array_equal(getattr(part.history, name), all_rows[:done]):
                    return f"wrong history.{name}"
            if rng is not None and generator.bit_generator.state != part.checkpoint.generator:
                return "the generator is not where the checkpoint says"
            if done == whole().epochs:
                again = part
            else:
                rest = {name: value for name, value in options.items() if name not in ("seed", "coef0", "callback")}
                rest |= {"init": part, "epochs": whole().epochs - done, "n_threads": 1}
                again = sgdm.fit(*data, **rest)
            for name in ("coef", "velocity", "loss", "checkpoint", "history", "average_coef"):
                if not sgdm._results.checkpoint.equal(getattr(again, name), getattr(whole(), name)):
                    return f"continued, it has another {name}"
            return None

        given = options if rng is None else {**options, "seed": generator}
        return functools.partial(sgdm.fit, *data, **given), check

    return case


def many(n_threads, **options):
    """fit_many: of each fit, the epochs counted are there, and nothing of the others."""
    arguments = {"lr": np.full(FITS, 0.01), "epochs": EPOCHS, **options}

    @functools.cache
    def whole():
        return sgdm.fit_many(X, y, **arguments)

    def case(_):
        whole()

        def check(error):
            part = getattr(error, "result", None)
            if part is None:
                return None
            for i, epochs in enumerate(part.epochs):
                for name in ("loss", "grad", "step", "coef"):
                    rows = getattr(part.history, name)[i]
                    if not np.array_equal(rows[:epochs], getattr(whole().history, name)[i, :epochs]):
                        return f"wrong history.{name}"
                    if not np.isnan(rows[epochs:]).all():
                        return f"more history.{name} than epochs"
                expected = whole().coef[i] if epochs == EPOCHS else whole().history.coef[i, epochs]
                if not np.array_equal(part.coef[i], expected) or (part.status[i] == "completed") != (epochs == EPOCHS):
                    return "wrong coefficients or status"
            return None

        return lambda: sgdm.fit_many(X, y, **arguments, n_threads=n_threads), check

    return case


@functools.cache
def reduced(blocks):
    return sgdm.compress(BLOCKS[:blocks])


def reduction(n_threads, resumed=0, **options):
    """compress: result and checkpoint hold the rows that they say, and it goes on to the whole reduction."""

    def case(folder):
        path = os.path.join(folder, "checkpoint.npz")
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        if resumed:
            with contextlib.suppress(ZeroDivisionError):
                sgdm.compress(stopped(resumed), checkpoint=path)
        left = os.listdir(folder)

        def check(error):
            part = getattr(error, "result", None)
            if part is not None and (part.n_rows % AT_ONCE or part != reduced(part.n_rows // AT_ONCE)):
                return f"a result of {part.n_rows} rows is wrong"
            if not set(os.listdir(folder)) <= {"checkpoint.npz"}:
                return f"it leaves {os.listdir(folder)}"
            if os.path.exists(path):
                held = Reduction(False, None, True)
                held.restore(path)
                if part is not None and held.n_rows != part.n_rows:
                    return f"the checkpoint holds {held.n_rows} rows, the result {part.n_rows}"
                if sgdm.compress(iter(BLOCKS), checkpoint=path) != reduced(len(BLOCKS)):
                    return "continued from the checkpoint, the rows don't add up"
            elif part is not None or left:
                return "no checkpoint"
            return None

        return lambda: sgdm.compress(iter(BLOCKS), checkpoint=path, n_threads=n_threads, **options), check

    return case


def stopped(after):
    yield from BLOCKS[:after]
    raise ZeroDivisionError


def leaves():
    """compress of one array, in several leaves, without a checkpoint."""

    def case(_):
        patch = mock.patch.multiple(factor, _LEAF_ELEMENTS=200, _LEAF_ROWS=8)

        def call():
            with patch:
                sgdm.compress(X, y, n_threads=2)

        def check(error):
            part = getattr(error, "result", None)
            with patch:
                if part is not None and not np.allclose(part.R, sgdm.compress(X[: part.n_rows], y[: part.n_rows]).R):
                    return f"a result of {part.n_rows} rows is wrong"
            return None

        return call, check

    return case


def reducing_fit(_):
    """A fit that reduces first: no part of the reduction is taken for a result."""
    whole = sgdm.fit(X, y, method="compress", epochs=EPOCHS)

    def check(error):
        part = getattr(error, "result", None)
        if part is None:
            return None
        if not isinstance(part, sgdm.FitResult):
            return f"a {type(part).__name__} as result"
        same = np.array_equal(part.history.loss, whole.history.loss[: part.epochs])
        return None if same else "wrong history"

    return lambda: sgdm.fit(X, y, method="compress", epochs=EPOCHS), check


def pure(call):
    """Of what changes nothing, nothing is left."""
    return lambda _: (call, lambda error: None)


def saving(new, old, load):
    """The file is the old one or the new one, and alone."""

    def case(folder):
        path = os.path.join(folder, "saved.npz")
        old().save(path)

        def check(error):
            if os.listdir(folder) != ["saved.npz"]:
                return f"it leaves {os.listdir(folder)}"
            return None if load(path) in (old(), new()) else "neither the old file nor the new one"

        return lambda: new().save(path), check

    return case


def loading(saved, load):
    def case(folder):
        path = os.path.join(folder, "saved.npz")
        saved().save(path)
        return lambda: load(path), lambda error: None if load(path) == saved() else "another file"

    return case


def estimator(make, refit, first=True):
    """The estimator is all of the last fit, or all of the new one."""

    @functools.cache
    def last():
        return make().fit(X, y) if first else make()

    def prepared():
        return copy.copy(last())

    @functools.cache
    def new():
        model = prepared()
        refit(model)
        return vars(model)

    def case(_):
        model = prepared()
        new()
        before = dict(vars(model))

        def check(error):
            now = vars(model)
            if now.keys() == before.keys() and all(now[name] is before[name] for name in now):
                part = getattr(error, "result", None)
                return None if part is None or isinstance(part, sgdm.FitResult) else "another fit's result"
            same = now.keys() == new().keys() and all(_same(now[name], new()[name]) for name in now)
            return None if same else "attributes of two fits"

        return lambda: refit(model), check

    return case


def _same(a, b):
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(_same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(_same, a, b))
    if isinstance(a, np.ndarray):
        return np.array_equal(a, b, equal_nan=a.dtype.kind == "f")
    return a is b or a == b


@functools.cache
def fitted(epochs=5):
    return sgdm.fit(X, y, epochs=epochs, batch_size=50, seed=1, validation=0.2)


BATCHES = {"batch_size": 50, "seed": 1, "lr": 0.01, "average": True, "record_every": 1}
VALIDATED = {"validation": 0.2, "patience": EPOCHS, "seed": 3, "lr": 0.01}
CASES = {
    "fit": fit_case(),
    "fit, callback": fit_case(callback=lambda progress: progress.loss),
    "fit, batches": fit_case(**BATCHES),
    "fit, validation": fit_case(**VALIDATED),
    "fit, batches of a given generator": fit_case(rng=7, batch_size=50, lr=0.01, validation=0.3),
    "fit, 2 threads": fit_case(TALL, n_threads=2, epochs=12),
    "fit, batches, 2 threads": fit_case(TALL, n_threads=2, epochs=5, batch_size=12_000, lr=0.01, rng=2),
    "fit, validation, 2 threads": fit_case(TALL, n_threads=2, epochs=8, **VALIDATED),
    "fit, reducing": reducing_fit,
    "fit_many": many(1),
    "fit_many, 2 threads": many(2),
    "fit_many, reduced": many(2, method="compress", sample_weight=np.ones((FITS, ROWS))),
    "compress": reduction(1, checkpoint_every=0),
    "compress, rarely saved": reduction(1, checkpoint_every=1e9),
    "compress, 2 threads": reduction(2, checkpoint_every=0),
    "compress, 3 threads, rarely saved": reduction(3, checkpoint_every=1e9),
    "compress, resumed": reduction(1, resumed=5, checkpoint_every=0),
    "compress, resumed, 2 threads": reduction(2, resumed=5, checkpoint_every=1e9),
    "compress, an array, 2 threads": leaves(),
    "tune": pure(lambda: reduced(len(BLOCKS)).tune(20, momentum=0.8)),
    "forecast": pure(lambda: reduced(len(BLOCKS)).forecast(0.1, epochs=20)),
    "path": pure(lambda: reduced(len(BLOCKS)).path(0.1, epochs=[3, 20])),
    "save a result": saving(lambda: fitted(6), fitted, sgdm.load),
    "save a reduction": saving(lambda: reduced(len(BLOCKS)), lambda: reduced(3), sgdm.Compressed.load),
    "load a result": loading(fitted, sgdm.load),
    "load a reduction": loading(lambda: reduced(len(BLOCKS)), sgdm.Compressed.load),
}
with contextlib.suppress(ImportError):
    from sgdm.sklearn import SGDMRegressor, SGDMRegressorCV

    W, v = X[:, :3], y + 1  # data with other columns

    def two_settings():
        return SGDMRegressorCV(lr=[0.01, 0.1], momentum=0.5, max_iter=20, cv=3)

    CASES |= {
        "SGDMRegressor": estimator(lambda: SGDMRegressor(lr=0.1, max_iter=20), lambda model: model.fit(W, v)),
        "SGDMRegressor, the first fit": estimator(
            lambda: SGDMRegressor(lr=0.1, max_iter=20), lambda model: model.fit(W, v), first=False
        ),
        "SGDMRegressor, early_stopping": estimator(
            lambda: SGDMRegressor(lr=0.1, max_iter=20, early_stopping=True, random_state=0),
            lambda model: model.fit(W, v),
        ),
        "SGDMRegressor, partial_fit": estimator(
            lambda: SGDMRegressor(max_iter=20, tol=None, lr=0.1, batch_size=50, random_state=0),
            lambda model: model.partial_fit(X, v),
        ),
        "SGDMRegressor, warm_start": estimator(
            lambda: SGDMRegressor(max_iter=20, warm_start=True), lambda model: model.fit(X, v)
        ),
        "SGDMRegressorCV": estimator(two_settings, lambda model: model.fit(W, v)),
        "SGDMRegressorCV, the first fit": estimator(two_settings, lambda model: model.fit(W, v), first=False),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=list(CASES), metavar="name", help=", ".join(CASES))
    parser.add_argument("--bytecode", action="store_true", help="at every instruction instead of every line")
    parser.add_argument("--deep", action="store_true", help="in what the package calls, too")
    parser.add_argument("--every", type=int, default=1, help="at every N-th place alone")
    parser.add_argument("--kind", default="BaseException", help="the class of what is raised")
    parser.add_argument("--signals", type=int, help="so many signals a case instead, at random instants")
    parser.add_argument("--seed", type=int, default=0, help="of these instants")
    given, failed = parser.parse_args(), False
    for name in given.names:
        start = time.monotonic()
        if given.signals:
            count, wrong = instants(name, given.signals, given.seed)
        else:
            count, wrong = places(name, given.every, given.bytecode, given.kind, deep=given.deep)
        what = "signals" if given.signals else "instructions" if given.bytecode else "lines"
        seconds = time.monotonic() - start
        print(f"{name}: {count} {what}, wrong at {wrong.total()} ({seconds:.0f} s)", flush=True)
        for fault, times in wrong.most_common(12):
            print(f"    {times} x {fault}", flush=True)
        failed |= bool(wrong)
    sys.exit(failed)


if __name__ == "__main__":
    main()
