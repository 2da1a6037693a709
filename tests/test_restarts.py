"""One descent in several calls, files, processes; watched, interrupted, sliced: the bits are those of one call."""

import _thread
import copy
import dataclasses
import io
import itertools
import re
import sys
import threading
import time
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import sgdm
from sgdm import schedules
from sgdm._descent import descent as _run

pytestmark = pytest.mark.filterwarnings("ignore::sgdm.ConvergenceWarning")  # of fits of an epoch or two

N, D = 40, 5
SPLIT, TOTAL = 30, 50


def make_data(everything=False, seed=0):
    """Plain data; or, with everything, float32 in F order, three targets, weights and an intercept."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((N, D))
    Y = X @ rng.uniform(1, 2, (D, 3)) + 1 + 0.3 * rng.standard_normal((N, 3))
    if not everything:
        return X, Y[:, 0], {}
    weights = rng.uniform(0.1, 2, N)
    return np.asfortranarray(X, np.float32), Y.astype(np.float32), {"sample_weight": weights, "fit_intercept": True}


def held_out(everything=False, seed=1):
    X, y, options = make_data(everything, seed)
    return (X, y, options["sample_weight"]) if everything else (X, y)


both = pytest.mark.parametrize("everything", [False, True], ids=["plain", "everything"])
SHUFFLED = {"batch_size": 7, "seed": 5}
IN_ORDER = {"batch_size": 7, "shuffle": False}
LR, MOMENTUM = schedules.one_cycle(TOTAL, 0.2)
ROWS = "the validation rows of the data at hand"
MODES = {
    "full batch": {},
    "heavy ball": {"momentum": 0.9, "dampening": 0.0, "lr": 0.02},
    "nesterov": {"nesterov": True, "weight_decay": 0.1},
    "in order": IN_ORDER,
    "shuffled": SHUFFLED,
    "row by row": {"batch_size": 1, "seed": 5, "lr": 0.01},
    "one batch": {"batch_size": 100, "seed": 5},
    "arrays": {"lr": LR, "momentum": MOMENTUM},
    "arrays, shuffled": {"lr": LR, "momentum": MOMENTUM, "dampening": 0.5, **SHUFFLED},
    "lr array": {"lr": LR, **IN_ORDER},
    "functions": {"lr": lambda t: 0.1 / (1 + t), "momentum": lambda t: 0.9 - 0.5 / (1 + t), **SHUFFLED},
    "averaged": {"average": True},
    "averaged, shuffled": {"average": True, **SHUFFLED},
    "averaged from 10": {"average": 10, **SHUFFLED},
    "averaged from 40": {"average": 40, **SHUFFLED},
    "l1": {"l1": 0.3, "weight_decay": 0.1},
    "l1, shuffled": {"l1": 0.3, **SHUFFLED, "average": True},
    "validation": {"validation": ROWS},
    "validation, shuffled": {"validation": ROWS, **SHUFFLED},
    "fraction": {"validation": 0.3, "seed": 5},
    "fraction, shuffled": {"validation": 0.3, **SHUFFLED},
    "fraction, in order": {"validation": 0.3, **IN_ORDER, "seed": 5},
    "patience": {"validation": 0.3, "patience": 49, **SHUFFLED},
    "patience and tol": {"validation": ROWS, "patience": 45, "tol": 0.01},
    "tol": {"tol": 0.01},
    "reduced": {"method": "compress", "average": True},
    "reduced, validation": {"method": "compress", "validation": ROWS, "patience": 45},
    "updates": {"record": "updates", **SHUFFLED},
    "every fourth update": {"record": "updates", "record_every": 4, "validation": ROWS, **SHUFFLED},
    "every seventh": {"record_every": 7, **SHUFFLED},
    "every seventh, validation": {"record_every": 7, "validation": 0.3, **SHUFFLED},
    "losses": {"record": "loss", "record_every": 4, "validation": ROWS},
    "nothing": {"record": None, "validation": ROWS, "average": True, **SHUFFLED},
    "the first": {"record_every": 1000, **SHUFFLED},
}
modes = pytest.mark.parametrize("mode", MODES)


def mode_options(mode, everything):
    options = dict(MODES[mode])
    if options.get("validation") is ROWS:
        options["validation"] = held_out(everything)
    return options


def fit(problem, epochs, start=0, init=None, **options):
    """Epochs `start` to `start + epochs` of a fit: the slices of its arrays, and no seed once there is a generator."""
    X, y, more = problem
    for name in ("lr", "momentum"):
        if isinstance(options.get(name), np.ndarray):
            options[name] = options[name][start : start + epochs]
    if init is not None:
        options.pop("seed", None)
        options.pop("coef0", None)
    return sgdm.fit(X, y, epochs=epochs, init=init, **options, **more)


def but_status(result, expected):
    return result == dataclasses.replace(expected, status=result.status)


# Restarts


@both
@modes
def test_restart(mode, everything, tmp_path):
    """30 epochs and 20 more are 50, whether the first 30 come from memory or from a file; and cut otherwise."""
    problem, options = make_data(everything), mode_options(mode, everything)
    whole = fit(problem, TOTAL, **options)
    first = fit(problem, SPLIT, **options)
    before = copy.deepcopy(first)
    first.save(tmp_path / "first.npz")
    loaded = sgdm.load(tmp_path / "first.npz")
    assert loaded == first
    assert repr(loaded) == repr(first)
    for init in (first, loaded):
        assert fit(problem, TOTAL - SPLIT, SPLIT, init, **options) == whole
    assert first == before
    result = None
    for start, stop in itertools.pairwise([0, 1, 3, 17, 46, TOTAL]):
        result = fit(problem, stop - start, start, result, **options)
        if result.status == "converged":
            break
    assert result == whole
    whole.save(tmp_path / "first.npz")
    assert sgdm.load(str(tmp_path / "first.npz")) == whole
    assert whole.status == {"tol": "converged"}.get(mode, "completed")


def test_modes_reach_what_they_are_for():
    """The second part is where tol is met and where patience has something to remember."""
    assert SPLIT < fit(make_data(), TOTAL, **mode_options("tol", False)).epochs < TOTAL
    assert SPLIT < fit(make_data(True), TOTAL, **mode_options("tol", True)).epochs < TOTAL
    assert fit(make_data(), TOTAL, **mode_options("fraction, shuffled", False)).best_epoch not in (0, None)


CHOICES = st.fixed_dictionaries(
    {
        "lr": st.sampled_from([0.1, 0.05, LR, MODES["functions"]["lr"]]),
        "momentum": st.sampled_from([0.5, MOMENTUM, MODES["functions"]["momentum"]]),
        "batch_size": st.sampled_from([None, 1, 7, 8, 40, 41]),
        "shuffle": st.booleans(),
        "average": st.sampled_from([False, True, 2, 20, 48]),
        "validation": st.sampled_from([None, 0.3, ROWS]),
        "record": st.sampled_from(["all", "loss", "updates", None]),
        "record_every": st.sampled_from([1, 2, 7, 31, 100, sys.maxsize]),
        "l1": st.sampled_from([0.0, 0.1]),
        "nesterov": st.booleans(),
    }
)


@both
def test_restart_anywhere(everything, tmp_path_factory):
    path = tmp_path_factory.mktemp("restart") / "result.npz"
    problem = make_data(everything)

    @settings(max_examples=60, derandomize=True, database=None, deadline=None)
    @given(CHOICES, st.integers(1, TOTAL - 1), st.booleans())
    def check(options, split, through_file):
        if options["validation"] is ROWS:
            options["validation"] = held_out(everything)
        if (options["batch_size"] and options["shuffle"]) or options["validation"] == 0.3:
            options["seed"] = split
        first = fit(problem, split, **options)
        if through_file:
            first.save(path)
            first = sgdm.load(path)
        assert fit(problem, TOTAL - split, split, first, **options) == fit(problem, TOTAL, **options)

    check()


def generators():
    halfway = np.random.default_rng(3)
    halfway.integers(9, dtype=np.uint32)  # leaves half of a 64-bit number for the next
    return {
        "PCG64": halfway,
        "PCG64DXSM": np.random.Generator(np.random.PCG64DXSM(1)),
        "MT19937": np.random.Generator(np.random.MT19937(1)),
        "Philox": np.random.Generator(np.random.Philox(1)),
        "SFC64": np.random.Generator(np.random.SFC64(1)),
    }


@pytest.mark.parametrize("validation", [None, 0.3])
@pytest.mark.parametrize("name", generators())
def test_restart_with_any_generator(name, validation, tmp_path):
    problem, options = make_data(), {"batch_size": 7, "validation": validation}
    generator = generators()[name]
    whole = fit(problem, TOTAL, seed=generator, **options)
    first = fit(problem, SPLIT, seed=generators()[name], **options)
    assert whole.checkpoint.generator["bit_generator"] == name
    generator.random()
    generator.permutation(9)  # the result does not go by it any more
    first.save(tmp_path / "first.npz")
    for init in (first, sgdm.load(tmp_path / "first.npz")):
        assert fit(problem, TOTAL - SPLIT, SPLIT, init, **options) == whole
    assert fit(problem, TOTAL, seed=generators()["SFC64" if name == "MT19937" else "MT19937"], **options) != whole


PROCESS_SCRIPT = """
import numpy as np, sgdm

rng = np.random.default_rng(0)
X, y = rng.standard_normal((60, 4)).astype("f4"), rng.standard_normal((60, 2)).astype("f4")
options = {{"fit_intercept": True, "batch_size": 7, "average": True, "validation": 0.2, "record": "updates"}}
sgdm.fit(X, y, epochs=30, seed=9, **options).save({path!r})
"""


def test_restart_in_another_process(tmp_path, run_python):
    path = str(tmp_path / "first.npz")
    script = PROCESS_SCRIPT.format(path=path)
    process = run_python(script, PYTHONWARNINGS="error")
    assert process.returncode == 0, process.stderr
    names = {}
    exec(script[: script.index("sgdm.fit")], names)
    X, y, options = names["X"], names["y"], names["options"]
    whole = sgdm.fit(X, y, epochs=50, seed=9, **options)
    assert sgdm.fit(X, y, epochs=20, init=sgdm.load(path), **options) == whole


def test_restart_with_other_options():
    """What need not stay the same: rows, batches, rates, penalties. The count of epochs and the history go on."""
    X, y, _ = make_data()
    for first in (sgdm.fit(X, y, epochs=10, **SHUFFLED), sgdm.fit(X, y, epochs=10)):
        for options in ({"batch_size": 10, "shuffle": False}, {"batch_size": 9}, {}):
            result = sgdm.fit(X[:25], y[:25], epochs=5, init=first, lr=0.01, l1=0.1, **options)
            assert result.epochs == 15
            assert np.array_equal(result.history.epoch, range(15))
            assert np.array_equal(result.history.loss[:10], first.history.loss)
            begun = result.history.coef[10] if not options else None
            assert begun is None or np.array_equal(begun, first.coef)


def test_restart_after_divergence_and_patience():
    problem = make_data()
    with pytest.raises(sgdm.DivergenceError) as caught:
        fit(problem, 500, lr=1e3, **SHUFFLED)
    rescued = fit(problem, 500, init=caught.value.result, lr=1e-3, batch_size=7)
    assert rescued.epochs == caught.value.result.epochs + 500
    assert np.isfinite(rescued.history.loss).all()
    options = {"validation": held_out(), "patience": 1, "tol": 0.5, **SHUFFLED}
    stopped = fit(problem, TOTAL, **options)
    assert stopped.status == "stopped"
    assert stopped.epochs < 20
    options["patience"] = 60
    assert but_status(
        fit(problem, TOTAL - stopped.epochs, init=stopped, **options), fit(problem, TOTAL, **options)
    )  # fmt: skip


X, y, _ = make_data()
FIRST = sgdm.fit(X, y, epochs=3)


@pytest.mark.parametrize(
    ("X", "y", "options", "message"),
    [
        (X[:, :4], y, {}, "init must have the parameters, dtype and intercept of this fit, "),
        (X, np.column_stack([y, y]), {}, "init must have the parameters, dtype and intercept of this fit, "),
        (X, y[:, None], {}, "init must have the parameters, dtype and intercept of this fit, "),
        (X.astype("f4"), y.astype("f4"), {}, "init must have the parameters, dtype and intercept of this fit, "),
        (X, y, {"fit_intercept": True}, "init must have the parameters, dtype and intercept of this fit, "),
        (X[:, :4], y, {"fit_intercept": True}, "init must have the parameters, dtype and intercept of this fit, "),
        (X, y, {"record": "loss"}, "record and record_every must be those of init, 'all' and 1, got 'loss' and 1"),
        (X, y, {"record_every": 2}, "record and record_every must be those of init, 'all' and 1, got 'all' and 2"),
    ],
)
def test_init_of_another_fit(X, y, options, message):
    before = copy.deepcopy(FIRST)
    with pytest.raises(ValueError, match="^" + re.escape(message)):
        sgdm.fit(X, y, init=FIRST, **options)
    assert before == FIRST


@pytest.mark.parametrize("method", [pytest.param("direct", marks=pytest.mark.slow), "compress"])
def test_restart_where_reducing_pays(method):
    """30 epochs are not worth a reduction of these rows, 50 are: the bits are those of the method."""
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((200_000, 20)), rng.standard_normal(200_000)
    first = sgdm.fit(X, y, epochs=SPLIT, method=method)
    on = sgdm.fit(X, y, epochs=TOTAL - SPLIT, init=first)  # method="auto" goes on as init did
    assert on == sgdm.fit(X, y, epochs=TOTAL, method=method)
    assert sgdm.fit(X, y, epochs=SPLIT).method == "direct"
    chosen = sgdm.fit(X, y, epochs=TOTAL)
    assert chosen.method == "compress"
    np.testing.assert_allclose(on.history.loss, chosen.history.loss, rtol=1e-12)


def test_batches_after_a_reduced_fit_are_of_rows():
    """A reduction has no rows to make batches of: refused, or back to the rows themselves."""
    first = sgdm.fit(X, y, epochs=3, method="compress")
    try:
        result = sgdm.fit(X, y, epochs=3, init=first, batch_size=1, shuffle=False, lr=0.01)
    except ValueError as error:
        assert re.search("batch_size.* go together", str(error))  # noqa: PT017
    else:
        assert result.method == "direct"


def test_init_of_another_shape_without_histories():
    with pytest.raises(ValueError, match=r"^init must have the parameters, dtype and intercept of this fit, "):
        sgdm.fit(X, y[:, None], init=sgdm.fit(X, y, record=None), record=None)


def test_init_of_another_fraction():
    with pytest.raises(ValueError, match=r"^validation must be .*as for init"):
        sgdm.fit(X, y, init=sgdm.fit(X, y, validation=0.2, seed=1), validation=0.4)


def test_a_result_shares_no_memory_with_its_checkpoint():
    """Whoever scales result.velocity for a plot does not mean to change how the fit goes on."""
    for options in (
        {},
        {"validation": held_out(), "average": True, **SHUFFLED},
        {"validation": held_out(), "patience": 9},
    ):
        result = fit(make_data(), 10, **options)
        arrays = [result.coef, result.velocity, result.average_coef, *vars(result.history).values()]
        assert not any(
            np.shares_memory(a, b)
            for a in arrays for b in result.checkpoint[:5] if a is not None and b is not None
        )  # fmt: skip


# Files


@pytest.fixture
def saved(tmp_path):
    """A path with a small result at it, and the result."""
    result = fit(make_data(), 2, average=True, validation=0.3, record="loss", **SHUFFLED)
    path = tmp_path / "result.npz"
    result.save(path)
    return path, result


DAMAGED = r"result\.npz is damaged, or not a result saved by this version of sgdm \(.*\); make it anew, or restore"


def load_damaged(path, content):
    path.write_bytes(content)
    with pytest.raises(ValueError, match=DAMAGED):
        sgdm.load(path)


def npz(**arrays):
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def test_truncated_file_is_refused(saved):
    path, _ = saved
    content = path.read_bytes()
    for length in [*range(0, len(content), 97), len(content) - 1]:
        load_damaged(path, content[:length])


@pytest.mark.thread_unsafe(reason="writes to the fixture's file")
def test_flipped_byte_is_refused_or_harmless(saved):
    """Every byte of the directory at the end, and some of those before, once."""
    path, result = saved
    content = path.read_bytes()
    with zipfile.ZipFile(path) as file:
        directory = file.start_dir
    refused = 0
    for i in [*range(0, directory, 41), *range(directory, len(content), 2)]:
        damaged = bytearray(content)
        damaged[i] ^= (1, 32, 255)[i % 3]
        path.write_bytes(damaged)
        try:
            assert sgdm.load(path) == result  # a date, or an attribute
        except ValueError as error:
            assert re.search(DAMAGED, str(error)), i  # noqa: PT017
            refused += 1
    assert refused > 300


@pytest.mark.thread_unsafe(reason="writes to the fixture's file")
def test_damage_that_zipfile_reports_in_its_own_way(saved):
    """An unknown compression, an encrypted member, a directory that starts before the file: one byte each."""
    path, _ = saved
    content = path.read_bytes()
    with zipfile.ZipFile(path) as file:
        directory = file.start_dir
    for i, value in ((directory + 10, 99), (directory + 8, 1), (len(content) - 3, 255)):
        load_damaged(path, content[:i] + bytes([value]) + content[i + 1 :])


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"a,b\n1,2\n",
        npz(a=np.arange(3)),
        npz(sgdm=np.array("not JSON")),
        npz(sgdm=np.array("[1, 2]")),
        npz(sgdm=np.array("{}")),
        npz(sgdm=np.array('{"kind": "result", "format": 1}')),
        npz(sgdm=np.array('{"kind": "result", "format": 99}')),
        npz(sgdm=np.array('{"kind": "reduction", "format": 1}')),
        npz(sgdm=np.array([{"kind": "result", "format": 1}], object)),
    ],
    ids=[
        "empty",
        "text",
        "foreign",
        "no JSON",
        "list",
        "no format",
        "no result",
        "another format",
        "another kind",
        "pickle",
    ],
)
def test_foreign_file_is_refused(content, tmp_path):
    load_damaged(tmp_path / "result.npz", content)


@pytest.mark.thread_unsafe(reason="writes to the fixture's file")
def test_other_numpy_files_are_refused(saved, tmp_path):
    file = io.BytesIO()
    np.save(file, np.arange(3))
    load_damaged(tmp_path / "result.npz", file.getvalue())
    path, result = saved
    result.save(path)
    with np.load(path) as arrays:
        pickled = {**arrays, "coef": np.array([print], object)}
    load_damaged(path, npz(**pickled))


@pytest.mark.thread_unsafe(reason="writes to the fixture's file")
def test_file_that_lacks_something_is_refused(saved):
    """A damaged directory can hide any of its members."""
    path, _ = saved
    with np.load(path) as file:
        arrays = dict(file)
    for name in arrays:
        load_damaged(path, npz(**{other: array for other, array in arrays.items() if other != name}))


def test_load_what_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nothing\.npz"):
        sgdm.load(tmp_path / "nothing.npz")
    with pytest.raises(IsADirectoryError):
        sgdm.load(tmp_path)


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
def test_save_is_all_or_nothing(saved, monkeypatch, error):
    path, result = saved

    def savez(file, **arrays):
        file.write(b"half of it")
        raise error

    monkeypatch.setattr(np, "savez", savez)
    other = fit(make_data(), 3)
    for target in (path, path.with_name("new.npz")):
        with pytest.raises(type(error)):
            other.save(target)
    monkeypatch.undo()
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    assert sgdm.load(path) == result
    other.save(path)
    assert sgdm.load(path) == other
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_saved_as_named_and_without_pickle(tmp_path):
    result = fit(make_data(True), 3, **SHUFFLED)
    for name in ("result", "result.npz", "with.dots.fit"):
        result.save(tmp_path / name)
        assert sgdm.load(tmp_path / name) == result
        with np.load(tmp_path / name, allow_pickle=False) as file:
            assert all(file[key].dtype != object for key in file.files)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["result", "result.npz", "with.dots.fit"]
    with pytest.raises(FileNotFoundError):
        result.save(tmp_path / "nowhere" / "result.npz")


# Watching


@both
@modes
def test_callback(mode, everything):
    """It sees the run as it is, as a fit of so many epochs ends; looking changes no bit of it."""
    problem, options = make_data(everything), mode_options(mode, everything)
    whole = fit(problem, TOTAL, **options)
    views = []

    def look(view):
        views.append((view.epoch, view.loss, view.coef, view.result))

    assert fit(problem, TOTAL, callback=look, callback_every=12, **options) == whole
    assert [view[0] for view in views] == list(range(12, whole.epochs + 1, 12))
    for epoch, loss, coef, result in views[:: 1 if mode == "shuffled" else 2]:
        expected = fit(problem, epoch, **options)
        assert result.status == "stopped"
        assert but_status(result, expected)
        recorded = expected.checkpoint.metrics[2] if everything else expected.checkpoint.metrics[2, 0]
        assert np.array_equal(np.asarray(loss), recorded.astype(expected.loss.dtype))
        last = expected.checkpoint.parameters[0].astype(expected.coef.dtype)
        assert np.array_equal(coef, last if everything else last[:, 0])
        assert coef.dtype == expected.coef.dtype
    # every epoch, and going on
    assert fit(problem, TOTAL, callback=lambda view: None, **options) == whole
    first = fit(problem, SPLIT, callback=look, **options)
    views.clear()
    assert fit(problem, TOTAL - SPLIT, SPLIT, first, callback=look, callback_every=9, **options) == whole
    assert [view[0] for view in views] == list(range(SPLIT + 9, whole.epochs + 1, 9))


@both
@pytest.mark.parametrize("mode", ["full batch", "shuffled", "arrays, shuffled", "fraction, shuffled", "updates"])
def test_stop_iteration_stops(mode, everything):
    problem, options = make_data(everything), mode_options(mode, everything)

    def stop(view):
        if view.epoch == 12:
            raise StopIteration

    result = fit(problem, TOTAL, callback=stop, callback_every=4, **options)
    assert result.status == "stopped"
    assert result.epochs == 12
    assert but_status(result, fit(problem, 12, **options))
    whole = fit(problem, TOTAL, **options)
    assert fit(problem, TOTAL - 12, 12, result, **options) == whole


@pytest.mark.parametrize("error", [RuntimeError("mine"), KeyboardInterrupt(), ZeroDivisionError()])
def test_other_exceptions_carry_the_result(error):
    def fail(view):
        if view.epoch == 12:
            raise error

    with pytest.raises(type(error)) as caught:
        fit(make_data(), TOTAL, callback=fail, **SHUFFLED)
    assert caught.value is error
    assert error.result.status == "stopped"
    assert but_status(error.result, fit(make_data(), 12, **SHUFFLED))
    assert fit(make_data(), TOTAL - 12, init=error.result, batch_size=7) == fit(make_data(), TOTAL, **SHUFFLED)


def overwrite(part):
    """NaN, or 99, in every array within a result."""
    for value in part if isinstance(part, tuple) else vars(part).values():
        if isinstance(value, np.ndarray):
            value[...] = np.nan if value.dtype.kind == "f" else 99
        elif isinstance(value, (sgdm.History, sgdm.Checkpoint)):
            overwrite(value)


@both
@pytest.mark.parametrize("mode", ["full batch", "fraction, shuffled", "patience", "averaged, shuffled", "updates"])
@pytest.mark.parametrize("every", [7, TOTAL])
def test_what_a_callback_gets_is_its_own(every, mode, everything):
    problem, options = make_data(everything), mode_options(mode, everything)

    def spoil(view):
        view.coef[...] = np.nan
        if everything:
            view.loss[...] = np.nan
        overwrite(view.result)

    assert fit(problem, TOTAL, callback=spoil, callback_every=every, **options) == fit(problem, TOTAL, **options)


def test_progress_of_the_view():
    views = []
    fit(make_data(), 3, callback=views.append)
    assert len(views) == 3
    assert all(isinstance(view, sgdm.Progress) for view in views)
    assert re.fullmatch(r"Progress\(epoch=3, loss=\d+\.\d+\)", repr(views[-1]))
    assert type(views[-1].loss) is float


@both
@pytest.mark.parametrize("mode", ["full batch", "shuffled", "tol"])
def test_progress_bar(mode, everything, capsys):
    pytest.importorskip("tqdm")
    problem, options = make_data(everything), mode_options(mode, everything)
    whole = fit(problem, TOTAL, **options)
    first = fit(problem, SPLIT, **options)
    capsys.readouterr()
    assert fit(problem, TOTAL, progress=True, **options) == whole
    out, err = capsys.readouterr()
    assert not out
    assert f"{whole.epochs}/{TOTAL}" in err
    assert f"loss={float(np.mean(whole.checkpoint.metrics[2])):.3g}" in err
    assert fit(problem, TOTAL - SPLIT, SPLIT, first, progress=True, callback=lambda view: None, **options) == whole
    assert f"{whole.epochs - SPLIT}/{TOTAL - SPLIT}" in capsys.readouterr().err
    with pytest.raises(sgdm.DivergenceError) as caught:
        fit(problem, 500, progress=True, **{**options, "lr": 1e3})
    assert f"{caught.value.result.epochs}/500" in capsys.readouterr().err


def test_progress_without_tqdm(monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    calls = []
    with pytest.raises(ImportError, match=r"^progress=True needs tqdm: pip install 'sgdm\[progress\]'$"):
        fit(make_data(), 3, progress=True, callback=calls.append)
    assert not calls
    assert fit(make_data(), 3, progress=False) == fit(make_data(), 3)


# Slices and interruptions


@both
@modes
def test_slicing_changes_no_bit(mode, everything, monkeypatch):
    problem, options = make_data(everything), mode_options(mode, everything)
    whole = fit(problem, TOTAL, **options)
    advance, calls = _run.advance, []
    monkeypatch.setattr(_run, "advance", lambda *given: calls.append(1) or advance(*given))
    for elements in (1, 20_000):
        with monkeypatch.context() as patch:
            patch.setattr(_run, "SLICE_ELEMENTS", elements)
            calls.clear()
            assert fit(problem, TOTAL, **options) == whole
            if elements == 1:
                assert len(calls) == whole.epochs
            epochs = []
            fit(problem, TOTAL, callback=lambda view, to=epochs: to.append(view.epoch), callback_every=8, **options)
            assert epochs == list(range(8, whole.epochs + 1, 8))


@pytest.mark.parametrize("elements", [1, 10**9])
def test_an_epoch_that_overflows_gives_its_order_back(elements, monkeypatch):
    monkeypatch.setattr(_run, "SLICE_ELEMENTS", elements)
    X, y, *_ = make_data()
    generator, same = np.random.default_rng(5), np.random.default_rng(5)
    with pytest.raises(sgdm.DivergenceError) as caught:
        sgdm.fit(X, y, lr=1e30, epochs=TOTAL, batch_size=7, seed=generator)
    assert 0 < caught.value.result.epochs < TOTAL
    for _ in range(caught.value.result.epochs):
        same.permutation(len(X))
    assert generator.bit_generator.state == same.bit_generator.state


@pytest.mark.thread_unsafe(reason="a signal, to the main thread")
@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"batch_size": 16, "seed": 1, "record": "loss"}, marks=pytest.mark.slow),
        {"batch_size": 1, "seed": 1, "record": "all", "record_every": 100, "average": True, "validation": 0.1},
        pytest.param({"batch_size": 64, "shuffle": False, "record": None, "l1": 0.01}, marks=pytest.mark.slow),
        {"batch_size": 100, "seed": 4, "record": "updates", "record_every": 1000, "validation": 0.1, "patience": 10**6},
    ],
)
def test_ctrl_c_in_a_long_fit(heeds_sigint, options):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((2000, 20))
    y = X @ rng.uniform(1, 2, 20) + 0.1 * rng.standard_normal(2000)
    options = {"lr": 1e-3, "fit_intercept": True, **options}
    pressed = []
    timer = threading.Timer(0.2, lambda: (pressed.append(time.perf_counter()), _thread.interrupt_main()))
    timer.start()
    try:
        with pytest.raises(KeyboardInterrupt) as caught:
            sgdm.fit(X, y, epochs=10**6, **options)
        late = time.perf_counter() - pressed[0]
    finally:
        timer.cancel()
        timer.join()
    assert late < 0.5  # 0.2 s is the promise; a machine that is busy with other things may take a little longer
    result = caught.value.result
    assert result.status == "stopped"
    assert 0 < result.epochs < 10**6
    assert but_status(result, sgdm.fit(X, y, epochs=result.epochs, **options))
    longer = sgdm.fit(X, y, epochs=result.epochs + 5, **options)
    options.pop("seed", None)
    assert sgdm.fit(X, y, epochs=5, init=result, **options) == longer


@pytest.mark.parametrize("name", ["parameters", "metrics", "average", "best"])
def test_checkpoint_of_wrong_shape_is_refused(name):
    """The kernel would read past its end."""
    result = sgdm.fit(X, y, epochs=3, average=True, validation=(X, y))
    broken = result.checkpoint._replace(**{name: np.zeros((1, 1))})
    with pytest.raises(ValueError, match=r"^init's checkpoint does not go with its coefficients"):
        sgdm.fit(X, y, epochs=3, average=True, validation=(X, y), init=dataclasses.replace(result, checkpoint=broken))
