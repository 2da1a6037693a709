"""The kernel refuses to run where it would read or write outside an array, in a release build too."""

import sys

import numpy as np
import pytest

from sgdm._kernel import (
    ManyOptions,
    Options,
    Problem,
    Problems,
    Record,
    Rows,
    State,
    States,
    add_rows,
    advance,
    advance_many,
    factor_many,
    follow_modes,
    parts,
)

N, D, K = 20, 3, 2
CONSTANT = (0.1, 0.5, 0.5)


def problem(n=N, d=D, k=K, seed=0, dtype=float, **options):
    rng = np.random.default_rng(seed)
    lines, targets = rng.standard_normal((n, d)).astype(dtype), rng.standard_normal((k, n)).astype(dtype)
    options = {"by_columns": False, "weights": None, "total_weight": float(n), "fit_intercept": True, **options}
    return Problem(lines, targets=targets, **options)


def state(p=D + 1, k=K, dtype=float, **changed):
    arrays = {
        "parameters": np.zeros((2, p, k), dtype),
        "average": np.zeros((p, k)),
        "best": np.zeros((p, k), dtype),
        "metrics": np.full((3, k), np.nan),
    }
    return State(**{**arrays, **changed})


def record(rows=4, p=D + 1, k=K, dtype=float, **changed):
    arrays = {"loss": np.zeros((rows, k), dtype), "val_loss": np.zeros((rows, k), dtype)}
    return Record(**{**arrays, "paths": np.zeros((3, rows, p, k), dtype), **changed})


def run(problem, options, state, record, epochs, validation):
    """`advance` on the rows of these problems."""
    held_out = None if validation is None else Rows(validation)
    return advance(Rows(problem, options.batch_size), options, state, record, epochs, held_out)


def whole(**changed):
    """What `run` takes for four epochs, with a validation."""
    return {
        "problem": problem(),
        "options": Options(CONSTANT),
        "state": state(),
        "record": record(),
        "epochs": 4,
        "validation": problem(7, seed=1),
        **changed,
    }


def test_a_run_that_has_room_runs():
    assert run(**whole()) == "completed"
    exact = whole(options=Options(np.full((4, 3), 0.5), batch_size=6), record=record(16, per_update=True))
    assert run(**exact) == "completed"
    assert run(**whole(epochs=0, options=Options(np.zeros((0, 3))), record=record(0))) == "completed"


ROOM = {
    "a history too short": (whole(epochs=5), r"val_loss must have room for rows 0 to 4, got 4 rows"),
    "a loss too short": (
        whole(record=record(loss=np.zeros((3, K)))),
        r"loss must have room for rows 0 to 3, got 3 rows",
    ),
    "paths too short": (
        whole(record=record(paths=np.zeros((3, 3, D + 1, K)))),
        r"paths must have room for rows 0 to 3, got 3 rows",
    ),
    "no rows at all": (whole(record=record(loss=np.zeros((0, K)))), r"loss must have room for rows 0 to 3, got 0 rows"),
    "every second epoch": (
        whole(epochs=8, record=record(3, every=2)),
        r"val_loss must have room for rows 0 to 3, got 3 rows",
    ),
    "a history that begins later": (whole(record=record(start=1)), r"val_loss must have room for rows -1 to 2, got 4"),
    "a history that began long ago": (
        whole(state=state(epoch=100, updates=100)),
        r"val_loss must have room for rows 100 to 103, got 4 rows",
    ),
    "every update": (
        whole(options=Options(CONSTANT, batch_size=6), record=record(15, per_update=True)),
        r"loss must have room for rows 0 to 15, got 15 rows",
    ),
    "updates that begin later": (
        whole(options=Options(CONSTANT, batch_size=6), record=record(16, per_update=True, start_update=2)),
        r"loss must have room for rows -2 to 13, got 16 rows",
    ),
    "paths of updates": (
        whole(record=record(paths=np.zeros((3, 3, D + 1, K)), per_update=True)),
        r"paths must have room for rows 0 to 3, got 3 rows",
    ),
    "updates without a loss": (whole(record=record(loss=None, per_update=True)), "loss must be given with per_update"),
    "a negative epoch": (whole(state=state(epoch=-100001)), "must not be negative, got 4 epochs after -100001, 0 and"),
    "negative updates": (whole(state=state(updates=-1)), "must not be negative, got 4 epochs after 0, -1 and"),
    "a negative count of averaged iterates": (whole(state=state(averaged=-1)), "must not be negative"),
    "negative epochs": (whole(epochs=-1), "must not be negative, got -1 epochs"),
    "an epoch near the largest integer": (whole(state=state(epoch=sys.maxsize - 3)), "too many to count"),
    "updates near the largest integer": (
        whole(options=Options(CONSTANT, batch_size=6), state=state(updates=sys.maxsize - 15)),
        "4 epochs of 4 updates after 0 epochs and [0-9]+ updates are too many to count",
    ),
    "as many epochs as there can be": (whole(epochs=sys.maxsize), r"val_loss must have room for rows 0 to [0-9]+, got"),
    "every 0 epochs": (whole(record=record(every=0)), "at least 1, from 0 or later on, got 0"),
    "a record from before the start": (whole(record=record(start=-1)), "from 0 or later on, got 1 from -1"),
    "parameters of fewer": (whole(state=state(parameters=np.zeros((2, D, K)))), "parameters must have"),
    "parameters without velocity": (whole(state=state(parameters=np.zeros((1, 4, K)))), "parameters must have 2"),
    "parameters of other targets": (whole(state=state(parameters=np.zeros((2, K, 4)))), "parameters must have 4"),
    "metrics": (whole(state=state(metrics=np.zeros((2, K)))), "metrics must have 3 rows of 2, got 2 of 2"),
    "an average of fewer": (whole(state=state(average=np.zeros((D, K)))), "average must have 4 rows of 2, got 3 of 2"),
    "a best of fewer": (whole(state=state(best=np.zeros((4, 1)))), "best must have 4 rows of 2, got 4 of 1"),
    "no best": (whole(state=state(best=None)), "best must be given with held_out"),
    "rates for fewer epochs": (whole(options=Options(np.zeros((3, 3)))), r"and rows 0 to 3, got 3 rows of 3"),
    "rates of later epochs": (whole(options=Options(np.zeros((9, 3)), start=1)), r"rows -1 to 2, got 9 rows of 3"),
    "no rates": (whole(options=Options(None)), "rates must be set, got None"),
    "rates of two": (whole(options=Options(np.zeros((4, 2)))), r"rates must have 3 columns.* got 4 rows of 2"),
    "a validation of fewer columns": (whole(validation=problem(d=2)), "held_out must have 3 rows of 2, got 2 of 2"),
    "a validation of more targets": (whole(validation=problem(k=3)), "held_out must have"),
}  # fmt: skip


@pytest.mark.parametrize(("arguments", "message"), ROOM.values(), ids=ROOM)
def test_a_run_without_room_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        run(**arguments)


@pytest.mark.parametrize("dtype", [np.float32, float])
def test_both_element_types_are_checked(dtype):
    arguments = whole(problem=problem(dtype=dtype), state=state(dtype=dtype), record=record(dtype=dtype))
    arguments |= {"validation": problem(7, dtype=dtype)}
    assert run(**arguments) == "completed"
    with pytest.raises(ValueError, match="val_loss must have room for rows 4 to 7, got 4 rows"):
        run(**arguments)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"lines": np.zeros((N, 0))}, "a problem must have rows, columns and targets"),
        ({"lines": np.zeros((0, D))}, "a problem must have rows"),
        ({"targets": np.zeros((0, N))}, "a problem must have rows"),
        ({"features": D + 1}, "no more features than columns"),
        ({"lines": np.zeros((1, D)).repeat(N, 0)[:, ::-1]}, "lines must be contiguous, .* got strides of \\(24, -8\\)"),
        ({"lines": np.zeros((N, 2 * D))[:, ::2]}, "lines must be contiguous"),
        ({"lines": np.broadcast_to(np.zeros(D), (N, D))}, "rows that don't overlap, .* rows 0 elements apart"),
        ({"lines": np.zeros((2 * N, D))[::-2]}, "rows that don't overlap, .* rows -6 elements apart"),
        ({"targets": np.zeros((K, N - 1))}, "the problem must have 20 rows.* targets of \\(2, 19\\)"),
        ({"weights": np.ones(N - 1)}, "the problem must have 20 rows.* weights of \\(19,\\)"),
    ],
)
def test_data_of_different_sizes_are_refused(arrays, message):
    given = {"lines": np.zeros((N, D)), "targets": np.zeros((K, N)), "weights": None, "features": D, **arrays}

    def check():
        odd = Problem(given.pop("lines"), False, total_weight=float(N), fit_intercept=True, **given)
        parts(odd)
        run(**whole(problem=odd))

    with pytest.raises(ValueError, match=message):
        check()


def many(**changed):
    """What `advance_many` takes for three fits of four epochs; `changed` are attributes of these, or arguments."""
    rng, count, rows, p = np.random.default_rng(0), 3, 4, D + 1
    shape = (count, N)
    problems = Problems(
        rng.standard_normal((count, N, D)), False, rng.standard_normal(shape), np.ones(shape), np.full(3, 20.0), True
    )
    options = ManyOptions(np.full((count, 3), 0.1), np.zeros((count, 2)), 4, False, -1.0)
    states = States(np.zeros((count, 2, p)))
    record = {"loss": np.zeros((count, rows)), "paths": np.zeros((3, count, rows, p)), "every": 1, "val_loss": None}
    arguments = {"problems": problems, "options": options, "states": states, "first": 0, "last": 3}
    arguments["steps"] = 2
    for name, value in changed.items():
        whose = [part for part in (problems, options, states) if hasattr(part, name)]
        whose = [states] if name == "epochs" else whose
        if whose:
            setattr(whose[0], name, value)
        else:
            place = record if name in record else arguments
            assert name in place
            place[name] = value
    kept = Record(record["loss"], record["val_loss"], record["paths"], record["every"])
    steps = arguments.pop("steps")
    return {**arguments, "record": kept, "epochs": steps}


def test_many_fits_that_have_room_run():
    arguments = many()
    states = arguments["states"]
    advance_many(**arguments)
    assert states.epochs.tolist() == [2, 2, 2]
    advance_many(**arguments)
    assert states.outcomes.tolist() == [0, 0, 0]
    whole = many()["problems"]
    shared = {name: getattr(whole, name)[:1] for name in ("lines", "targets", "weights", "total_weights")}
    advance_many(**many(**shared, every=2, loss=np.zeros((3, 2)), paths=None))


def held_out(n, d, dtype=float, fits=3):
    return Problems(np.zeros((fits, n, d), dtype), False, np.zeros((3, n), dtype), None, np.full(1, float(n)), True)


def test_the_losses_of_many_fits_need_room():
    rows = held_out(7, D)
    losses = np.full((3, 4), np.nan)
    arguments = many(held_out=rows, val_loss=losses)
    advance_many(**arguments)
    intercept = arguments["states"].parameters[:, 0, -1]  # all there is to a prediction of rows of zeros
    np.testing.assert_allclose(losses[:, 1], intercept**2, rtol=1e-14)
    assert np.isnan(losses[:, 2:]).all()
    with pytest.raises(ValueError, match="val_loss must have room for rows 0 to 3, got 3 rows"):
        advance_many(**many(held_out=rows, val_loss=losses[:, :3].copy()))
    with pytest.raises(ValueError, match="val_loss must have a row for each of 3 fits, got 2"):
        advance_many(**many(held_out=rows, val_loss=losses[:2]))


MANY = {
    "lines": (np.zeros((2, N, D)), "lines must have a row for each of 3 fits, or for equally many of them, got 2"),
    "lines of fewer rows": (np.zeros((3, N - 1, D)), "lines must have 20 rows of 3, got 19 of 3"),
    "targets": (np.zeros((0, N)), "targets must have a row for each of 3 fits, or for equally many of them, got 0"),
    "targets of fewer rows": (np.zeros((3, N - 1)), "targets must have 1 rows of 20, got 1 of 19"),
    "weights": (np.zeros((2, N)), "weights must have a row for each"),
    "weights of fewer rows": (np.zeros((3, 1)), "weights must have 1 rows of 20"),
    "total_weights": (np.zeros(2), "total_weights must have a row for each"),
    "rates": (np.zeros((1, 3)), "rates must have a row for each of 3 fits, got 1"),
    "rates of two": (np.zeros((3, 2)), "rates must have 1 rows of 3, got 1 of 2"),
    "rates of three epochs": (np.zeros((3, 3, 3)), "rates must be those of every epoch, or of each of 4, got 3"),
    "rates of no epoch": (np.zeros((3, 0, 3)), "rates must be those of every epoch, .* got 0"),
    "penalties": (np.zeros((1, 2)), "penalties must have a row for each of 3 fits"),
    "columns": (np.zeros((2, 4, D)), "columns must have a row for each of 3 fits, got 2"),
    "columns of fewer": (np.zeros((3, 4, D - 1)), "columns must have 1 rows of 3, got 1 of 2"),
    "columns of fewer terms": (np.zeros((3, 3, D)), "columns must have 1 rows of 4, got 1 of 3"),
    "val_loss": (np.zeros((3, 4)), "val_loss must be None without held-out rows"),
    "held_out": (held_out(7, 2), "held_out must have 3 rows of 4, got 2 of 3"),
    "held_out of another dtype": (held_out(7, D, np.float32), "held_out must have the dtype of the rows"),
    "held_out of fewer rows": (held_out(7, D, fits=2), "lines must have a row for each of 3 fits, or for equally many"),
    "parameters": (np.zeros((2, 2, D + 1)), "parameters must have a row for each of 3 fits, got 2"),
    "parameters of fewer": (np.zeros((3, 2, D)), "parameters must have 2 rows of 4, got 2 of 3"),
    "metrics": (np.zeros((3, 2)), "metrics must have 1 rows of 3, got 1 of 2"),
    "epochs": (np.array([0, 0, -1]), "epochs must be from 0 to 4 epochs, got -1 of fit 2"),
    "epochs more than all": (np.array([0, 5, 0]), "epochs must be from 0 to 4 epochs, got 5 of fit 1"),
    "epochs of fewer": (np.zeros(2, np.intp), "epochs must have a row for each of 3 fits, got 2"),
    "outcomes": (np.zeros(2, np.int8), "outcomes must have a row for each of 3 fits, got 2"),
    "loss": (np.zeros((3, 3)), "loss must have room for rows 0 to 3, got 3 rows"),
    "loss of fewer fits": (np.zeros((2, 4)), "loss must have a row for each of 3 fits, got 2"),
    "paths": (np.zeros((3, 3, 3, 4)), "paths must have room for rows 0 to 3, got 3 rows"),
    "paths of fewer fits": (np.zeros((3, 2, 4, 4)), "paths must have a row for each of 3 fits, got 2"),
    "paths of two": (np.zeros((2, 3, 4, 4)), "paths must have 3 rows of 4, got 2 of 4"),
    "every": (0, "with every at least 1"),
    "steps": (-1, "for no negative number of epochs"),
    "first": (-1, "fits must run from 0"),
    "last": (4, "must have a row for each of 4 fits"),
    "one": (problem(), "each fit must have one target, got 2"),
}


@pytest.mark.parametrize("what", MANY)
def test_many_fits_without_room_are_refused(what):
    value, message = MANY[what]
    with pytest.raises(ValueError, match=message):
        advance_many(**many(**{what.split(" ")[0]: value}))


FACTORS = {
    "R of fewer columns": ({"R": np.zeros((8, 7))}, "R must have 8 rows of 8, got 8 of 7"),
    "R that is not in whole groups": ({"R": np.zeros((5, 5))}, "R must have 8 rows of 8, got 5 of 5"),
    "y of fewer rows": ({"y": np.zeros((N - 1, 1))}, "y must have 20 rows of 1, got 19 of 1"),
    "fewer roots": ({"roots": np.zeros(N - 1)}, "roots must have 20 rows of 1, got 19 of 1"),
    "integers": ({"X": np.zeros((N, D), int)}, "Buffer dtype mismatch"),
}


@pytest.mark.parametrize(("changed", "message"), FACTORS.values(), ids=FACTORS)
def test_rows_that_do_not_go_with_their_factor_are_refused(changed, message):
    arguments = {"R": np.zeros((8, 8)), "X": np.zeros((N, D)), "intercept": True, "y": np.zeros((N, 1))}
    add_rows(**arguments)
    with pytest.raises(ValueError, match=message):
        add_rows(**arguments | changed)


def test_no_rows_leave_the_factor_as_it_is():
    R = np.triu(np.ones((8, 8)))
    add_rows(R, np.zeros((0, 7)), False, np.zeros((0, 1)))
    np.testing.assert_array_equal(R, np.triu(np.ones((8, 8))))


MANY_FACTORS = {
    "X of fewer fits": ({"X": np.zeros((2, N, D))}, "X must have a row for each of 3 fits, or one, got 2"),
    "y of fewer rows": ({"y": np.zeros((3, N - 1))}, "y must have 1 rows of 20, got 1 of 19"),
    "fewer roots": ({"roots": np.zeros((3, 1))}, "roots must have 1 rows of 20, got 1 of 1"),
    "lines of fewer fits": ({"lines": np.zeros((1, D + 2, D + 1))}, "lines must have a row for each of 3 fits, got 1"),
    "lines of fewer columns": ({"lines": np.zeros((3, D + 2, D))}, "lines must have 5 rows of 4, got 5 of 3"),
    "targets of fewer rows": ({"targets": np.zeros((3, D))}, "targets must have 1 rows of 5, got 1 of 3"),
    "negative": ({"first": -1}, "fits must run from 0 or later to no less, got -1 to 3"),
    "no columns": (
        {"X": np.zeros((3, N, 0)), "lines": np.zeros((3, 2, 1)), "targets": np.zeros((3, 2))},
        "X must have rows and columns, got 20 and 0",
    ),
}


@pytest.mark.parametrize(("changed", "message"), MANY_FACTORS.values(), ids=MANY_FACTORS)
def test_many_factors_without_room_are_refused(changed, message):
    arguments = {
        "X": np.zeros((3, N, D)), "intercept": True, "y": np.zeros((3, N)), "roots": None,
        "lines": np.zeros((3, D + 2, D + 1)), "targets": np.zeros((3, D + 2)), "first": 0, "last": 3,
    }  # fmt: skip
    factor_many(*arguments.values())
    with pytest.raises(ValueError, match=message):
        factor_many(*(arguments | changed).values())


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"constants": np.zeros((3, 5))}, "^constants must have 3 rows of 4, got 3 of 5"),
        ({"constants": np.zeros((2, 4))}, "^constants must have 3 rows of 4, got 2 of 4"),
        ({"epochs": np.zeros(3, int)}, "^constants must have 3 rows of 3, got 3 of 4"),
        ({"weights": np.zeros(8)}, "^weights must have 9 rows of 1, got 8 of 1"),
    ],
)
def test_modes_that_do_not_fit_their_constants_are_refused(changed, message):
    arguments = {
        "curvature": np.ones(9), "constants": np.zeros((3, 4)), "epochs": np.zeros(4, int), "nesterov": False,
        "from_start": False, "weights": np.ones(9),
    }  # fmt: skip
    assert follow_modes(*arguments.values()).tolist() == [9.0] * 4
    with pytest.raises(ValueError, match=message):
        follow_modes(*(arguments | changed).values())
    assert follow_modes(np.ones(0), np.zeros((3, 4)), np.zeros(4, int), False, False).shape == (4, 0)
