"""sgdm against its competitors: full batches, mini-batches and many fits. `pytest bench -k PART` runs a part."""

from functools import partial

import numpy as np
import pytest

import sgdm

from .competitors import (
    ALL_ROWS,
    BATCH_COMPETITORS,
    COMPETITORS,
    MAX_BATCHES,
    ROW_COMPETITORS,
    SOLVERS,
    Descent,
    available,
)
from .problems import BATCH_PROBLEMS, LARGE, MANY, N_FITS, PROBLEMS, SEED
from .rounds import TOLERANCE, alternate, check_same, compare


@pytest.mark.parametrize("problem", PROBLEMS, ids=str)
def test_direct(problem, benchmark, tables):
    X, y = problem.data()
    fit = problem.ours(X, y)
    loops = {
        name: partial(loop, X, y, problem.lr, problem.momentum, problem.epochs)
        for name, loop in available(COMPETITORS).items()
    }
    for name, loop in loops.items():
        check_same(loop(), fit().history, name)
    others = dict(loops)
    if problem.n * problem.d >= LARGE:
        others["two threads"] = problem.ours(X, y, n_threads=2)
        np.testing.assert_array_equal(others["two threads"]().history.coef, fit().history.coef)  # to the bit
    if problem.per == "epoch":
        flat = X.ravel(order="K")  # a view
        others["reading"] = partial(np.dot, flat, flat)
    solvers = {name: partial(solver, X, y) for name, solver in available(SOLVERS).items()} if problem.solvers else {}
    for solve in solvers.values():  # the first call imports
        solve()

    fast, slow = (others, solvers) if problem.n * problem.d >= LARGE else (others | solvers, {})
    seconds = alternate(benchmark, fit, fast, problem.rounds, slow=slow)
    if seconds is None:  # --benchmark-disable: only check the results
        return
    ours = seconds["sgdm"]
    epoch = ours / problem.epochs
    columns = {
        "one thread / two threads": compare(ours, seconds["two threads"]) if "two threads" in others else None,
        "sgdm / reading limit": compare(epoch, seconds["reading"]) if "reading" in others else None,
        **{f"{name}, in epochs": compare(seconds[name], epoch) for name in solvers},
    }
    info = {
        "problem": problem.title,
        "seconds": {problem.per: (epoch if problem.per == "epoch" else ours).min()},
        "ratios": {name: compare(seconds[name], ours) for name in loops},
        "columns": columns,
    }
    benchmark.extra_info.update(info)
    tables["ratios"].append(info)


@pytest.mark.parametrize("problem", BATCH_PROBLEMS, ids=str)
def test_batches(problem, benchmark, tables):
    X, y = problem.data()
    options = {"momentum": problem.momentum, "epochs": problem.epochs, "batch": problem.batch}
    others, rows = {}, {"sgdm": problem.n}
    for name, loop in available(BATCH_COMPETITORS if problem.batch > 1 else ROW_COMPETITORS).items():
        rows[name] = problem.n if name in ALL_ROWS else min(problem.n, MAX_BATCHES * problem.batch)
        data = X[: rows[name]], y[: rows[name]]
        others[name] = partial(loop, *data, problem.lr, **options, seed=SEED)
        own_order = name not in available(BATCH_COMPETITORS)  # shuffles differently: compare without shuffling
        result = problem.ours(*data, **{"shuffle": False, "seed": None} if own_order else {})()
        theirs = loop(*data, problem.lr, **options, seed=None) if own_order else others[name]()
        check_same(theirs, Descent(result.history.loss, result.coef), name)

    seconds = alternate(benchmark, problem.ours(X, y), others, problem.rounds)
    if seconds is None:
        return
    per_row = {name: calls / (rows[name] * problem.epochs) for name, calls in seconds.items()}
    ours = per_row.pop("sgdm")
    info = {
        "problem": problem.title,
        "seconds": {"epoch": ours.min() * problem.n, "row": ours.min()},
        "ratios": {name: compare(theirs, ours) for name, theirs in per_row.items()},
    }
    benchmark.extra_info.update(info)
    tables["batches"].append(info)


@pytest.mark.skipif(not hasattr(sgdm, "fit_many"), reason="this sgdm has no fit_many")
def test_many(benchmark, tables):
    X, y = MANY.data()
    fit = MANY.ours(X, y)
    coef = fit().coef
    for i in range(5):
        expected = sgdm.fit(X[i], y[i], lr=MANY.lr, momentum=MANY.momentum, epochs=MANY.epochs).coef
        np.testing.assert_allclose(coef[i], expected, rtol=0, atol=TOLERANCE * np.finfo(float).eps)

    def one_by_one(loop):
        for rows, target in zip(X[:N_FITS], y[:N_FITS], strict=True):
            loop(rows, target, MANY.lr, MANY.momentum, MANY.epochs)

    others = {name: partial(one_by_one, loop) for name, loop in available(COMPETITORS).items()}
    for call in others.values():  # the first call compiles
        call()
    seconds = alternate(benchmark, fit, others, MANY.rounds)
    if seconds is None:
        return
    per_fit = {name: calls / (MANY.fits if name == "sgdm" else N_FITS) for name, calls in seconds.items()}
    ours = per_fit.pop("sgdm")
    info = {
        "problem": MANY.title,
        "seconds": {"call": ours.min() * MANY.fits, "fit": ours.min()},
        "ratios": {name: compare(theirs, ours) for name, theirs in per_fit.items()},
    }
    benchmark.extra_info.update(info)
    tables["ratios"].append(info)
