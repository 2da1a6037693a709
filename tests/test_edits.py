"""Files and results that somebody edited are refused if their parts don't go together."""

import copy
import json
import math
import pickle
import sys
from dataclasses import replace

import numpy as np
import pytest
from helpers import ignore_far
from saved_files import X, blocks, resealed, saved_checkpoint, y

import sgdm
from sgdm import Compressed

pytestmark = ignore_far


# Files


def edit(path, change):
    """Changes the members of a file, and puts its digest right."""
    with np.load(path) as file:
        members = {name: array for name, array in file.items() if name != "digest"}
    path.write_bytes(resealed(change(members)))


def changes(*keys, to):
    def change(members):
        text = json.loads(str(members["sgdm"]))
        part = text
        for key in keys[:-1]:
            part = part[key]
        part[keys[-1]] = to
        return {**members, "sgdm": np.array(json.dumps(text))}

    return change


def array_is(name, value):
    return lambda members: {**members, name: value}


def generator_is(*keys, to):
    return changes("checkpoint", "generator", *keys, to=to)


EDITS = {
    "coef too long": (array_is("coef", np.zeros(4)), "velocity must be an array of shape \\(4,\\)"),
    "coef of text": (array_is("coef", np.array(["a", "b", "c"])), "coef must be a \\(d,\\) or"),
    "velocity 0-D": (array_is("velocity", np.float64(1)), "velocity must be an array of shape \\(3,\\)"),
    "velocity of another fit": (array_is("velocity", np.ones(3)), "velocity must be that of the checkpoint"),
    "coef of another fit": (array_is("coef", np.ones(3)), "coef must be that of the checkpoint"),
    "average of another fit": (array_is("average_coef", np.ones(3)), "average_coef must be that of the checkpoint"),
    "history too long": (array_is("history.loss", np.zeros(9)), "history.loss must be an array of shape \\(3,\\)"),
    "history of bools": (array_is("history.loss", np.zeros(3, bool)), "garbled|a header of something else"),
    "history of ints": (array_is("history.loss", np.zeros(3, int)), "history.loss must be an array of shape"),
    "epochs of others": (array_is("history.epoch", np.arange(1, 4)), "history.epoch must be every record_every-th"),
    "parameters of NaN": (array_is("checkpoint.parameters", np.full((2, 3, 1), np.nan)), "parameters must be finite"),
    "metrics of fewer": (array_is("checkpoint.metrics", np.zeros((2, 1))), "checkpoint.metrics must be an array"),
    "negative metrics": (
        array_is("checkpoint.metrics", np.full((3, 1), -1.0)),
        "checkpoint.metrics must not be negative",
    ),
    "best of fewer": (array_is("checkpoint.best", np.zeros((2, 1))), "checkpoint.best must be an array of shape"),
    "negative loss": (array_is("loss", np.float64(-1)), "loss must be of shape \\(\\), floats and not negative"),
    "epochs text": (changes("epochs", to="x"), "epochs must be an int from 0 to [0-9]+, got 'x'"),
    "epochs negative": (changes("epochs", to=-5), "epochs must be an int from 0 to [0-9]+, got -5"),
    "epochs true": (changes("epochs", to=True), "epochs must be an int from 0 to [0-9]+, got True"),
    "epochs huge": (changes("epochs", to=2**63 - 1), "checkpoint.best_epoch|checkpoint.epoch"),
    "status": (changes("status", to="running"), "'running' is not a valid Status"),
    "method": (changes("method", to="magic"), "method must be 'direct' or 'compress', got 'magic'"),
    "lr text": (changes("lr", to="x"), "lr must be a finite float from 0 to inf, got 'x'"),
    "lr infinite": (changes("lr", to=math.inf), "lr must be a finite float"),
    "momentum": (changes("momentum", to=2.0), "momentum must be a finite float from 0 to 1, got 2.0"),
    "dampening": (changes("dampening", to=-0.5), "dampening must be a finite float from 0 to 1, got -0.5"),
    "names too few": (changes("feature_names", to=["a"]), "feature_names must be 3 texts, or None, got \\('a',\\)"),
    "names of letters": (changes("feature_names", to="abc"), "feature_names must be 3 texts, or None, got 'abc'"),
    "names of numbers": (changes("feature_names", to=[1, 2, 3]), "feature_names must be 3 texts"),
    "intercept": (changes("intercept", to=0), "intercept must be 0.0 without one, got 0"),
    "best epoch": (changes("best_epoch", to=0), "best_epoch must be 2, as the checkpoint has it, got 0"),
    "record": (changes("checkpoint", "record", to="loss"), "history.grad must be None"),
    "record unknown": (changes("checkpoint", "record", to=["all"]), "checkpoint.record must be 'all', 'loss'"),
    "record every 0": (changes("checkpoint", "record_every", to=0), "checkpoint.record_every must be an int from 1"),
    "record every 2": (changes("checkpoint", "record_every", to=2), "history.epoch must be 2 integers"),
    "fit_intercept": (changes("checkpoint", "fit_intercept", to=True), "velocity must be an array of shape \\(4,\\)"),
    "updates fewer": (changes("checkpoint", "updates", to=2), "checkpoint.updates must be an int from 3 to"),
    "averaged more": (changes("checkpoint", "averaged", to=999), "checkpoint.averaged must be an int from 0 to 6"),
    "waited huge": (changes("checkpoint", "waited", to=2**70), "checkpoint.waited must be an int from 0 to 0"),
    "best epoch to come": (changes("checkpoint", "best_epoch", to=3), "checkpoint.best_epoch must be an int from -1"),
    "best loss": (changes("checkpoint", "best_loss", to=math.nan), "checkpoint.best_loss must be a finite float"),
    "generator": (changes("checkpoint", "generator", to=5), "checkpoint.generator must be the state of a bit"),
    "generator unknown": (generator_is("bit_generator", to="test"), "of an unknown kind, 'test'"),
    "generator of another kind": (generator_is("bit_generator", to="MT19937"), "a state of numpy's MT19937"),
    "generator negative": (generator_is("state", "state", to=-1), "a state of numpy's PCG64"),
    "generator huge": (generator_is("state", "inc", to=2**200), "a state of numpy's PCG64"),
    "generator lacking": (generator_is("state", to={}), "a state of numpy's PCG64"),
    "split": (changes("checkpoint", "split", to={}), "checkpoint.split must have a state and a fraction"),
    "split of all": (changes("checkpoint", "split", "fraction", to=1.0), "checkpoint.split must have a state and a"),
    "no generator": (generator_is(to=None), "checkpoint.split must have .* beside a generator"),
    "checkpoint": (changes("checkpoint", to=None), ""),
    "history": (changes("history", to=[]), ""),
}  # fmt: skip


@pytest.mark.parametrize("what", EDITS)
def test_a_result_whose_parts_do_not_go_together_is_not_read(what, tmp_path):
    change, message = EDITS[what]
    sgdm.fit(X, y, batch_size=4, seed=0, epochs=3, average=True, validation=0.3).save(tmp_path / "r.npz")
    edit(tmp_path / "r.npz", change)
    with pytest.raises(ValueError, match=rf"r\.npz is damaged, or not a result saved by .*({message})"):
        sgdm.load(tmp_path / "r.npz")


REDUCED = {
    "no weight": ("total_weight", 0.0, "total_weight must be a positive, finite float, got 0.0"),
    "an int as weight": ("total_weight", 0, "total_weight must be a non-negative, finite float, got 0"),
    "a negative weight": ("total_weight", -1.0, "total_weight must be a non-negative, finite float, got -1.0"),
    "a text as weight": ("total_weight", "x", "total_weight must be a non-negative, finite float, got 'x'"),
    "infinite weight": ("total_weight", math.inf, "total_weight must be a non-negative, finite float, got inf"),
    "no rows": ("n_rows", 0, "n_rows must be an int from 1"),
    "rows of a float": ("n_rows", 3.0, "n_rows must be an int from 1 to [0-9]+, got 3.0"),
    "rows true": ("n_rows", True, "n_rows must be an int from 1 to [0-9]+, got True"),
    "more rows than there are": ("n_rows", 2**70, "n_rows must be an int from 1"),
    "objects": ("dtype", "O", "dtype must be float32 or float64, got dtype\\('O'\\)"),
    "ints": ("dtype", "int64", "dtype must be float32 or float64"),
    "no dtype": ("dtype", "magic", "data type 'magic' not understood"),
    "a list of dtypes": ("dtype", ["f8"], ""),
    "names too few": ("feature_names", ["a"], "feature_names must be 3 texts, or None"),
    "names of letters": ("feature_names", "abc", "feature_names must be 3 texts, or None"),
    "other features": ("n_features", 2, "R must be an array of shape \\(3, 3\\) and dtype float64"),
    "no features": ("n_features", 0, "n_features must be an int from 1"),
    "features of a text": ("n_features", "3", "n_features must be an int from 1"),
    "an intercept of 1": ("fit_intercept", 1, "fit_intercept must be True or False, got 1"),
    "an intercept more": ("fit_intercept", True, "R must be an array of shape \\(5, 5\\)"),
    "two numbers of targets": ("target_shape", [1, 1], "target_shape must be \\(\\) or \\(k,\\), got \\(1, 1\\)"),
    "no targets": ("target_shape", [0], "target_shape must be an int from 1"),
    "a target shape of a number": ("target_shape", 1, "target_shape must be \\(\\) or \\(k,\\), got 1"),
    "R of text": ("R", np.full((4, 4), "1"), "R must be an array of shape \\(4, 4\\)"),
    "R of float32": ("R", np.eye(4, dtype=np.float32), "R must be an array of shape \\(4, 4\\) and dtype float64"),
    "R of NaN": ("R", np.diag([1, np.nan, 1, 1]), "R must be finite"),
    "R below its diagonal": ("R", np.ones((4, 4)), "R must be upper triangular"),
    "R of another sign": ("R", -np.eye(4), "R must be upper triangular, with no negative number on its diagonal"),
    "R 1-D": ("R", np.ones(4), "R must be an array of shape \\(4, 4\\)"),
}


@pytest.mark.parametrize("what", REDUCED)
def test_a_reduction_whose_parts_do_not_go_together_is_refused(what, tmp_path):
    name, value, message = REDUCED[what]
    reduced, path = sgdm.compress(X, y), tmp_path / "r.npz"
    reduced.save(path)
    edit(path, array_is(name, value) if name == "R" else changes(name, to=value))
    with pytest.raises(ValueError, match=rf"r\.npz is damaged, or not a reduction saved by .*({message})"):
        Compressed.load(path)

    bad = copy.copy(reduced)
    vars(bad)[name] = tuple(value) if isinstance(value, list) else value
    for use in (bad.fit, lambda: reduced.fit(validation=bad)):
        with pytest.raises(ValueError, match=" must "):
            use()
    if what != "no weight":  # which some of the rows of a reduction may have
        for use in (lambda: bad + reduced, lambda: Compressed.merge([bad]), lambda: pickle.loads(pickle.dumps(bad))):
            with pytest.raises(ValueError, match=" must "):
                use()
        with pytest.raises(ValueError, match=" must "):
            bad.save(path)


LEVELS = {
    "another number of leaves": (changes("n_leaves", to=6), "n_leaves must be 5, as the heights say, got 6"),
    "leaves of a text": (changes("n_leaves", to="5"), "n_leaves must be 5"),
    "heights that rise": (changes("heights", to=[0, 2]), "heights must be an int from 0 to -1, got 2"),
    "heights alike": (changes("heights", to=[2, 2]), "heights must be an int from 0 to 1, got 2"),
    "heights negative": (changes("heights", to=[2, -1]), "heights must be an int from 0 to 1, got -1"),
    "heights huge": (changes("heights", to=[10**9, 0]), "heights must be an int from 0 to 62, got 1000000000"),
    "heights true": (changes("heights", to=[2, False]), "heights must be an int from 0 to 1, got False"),
    "no heights": (changes("heights", to=[]), "n_leaves must be 0"),
    "fewer heights": (changes("heights", to=[2]), "n_leaves must be 4"),
    "fewer rows than leaves": (changes("n_rows", to=4), "n_rows must be an int from 5"),
    "a text as digest": (changes("digest", to=None), "other parts than a reduction under way"),
    "R of other columns": (array_is("R1", np.eye(5)), "R of height 0 must be an array of shape \\(4, 4\\)"),
    "R of fewer rows": (array_is("R0", np.eye(4)[:3]), "R of height 2 must be an array of shape \\(4, 4\\)"),
    "R of text": (array_is("R0", np.full((4, 4), "1")), "R of height 2 must be an array"),
    "R below its diagonal": (array_is("R1", np.ones((4, 4))), "R of height 0 must be upper triangular"),
    "R of NaN": (array_is("R1", np.full((4, 4), np.nan)), "R of height 0 must be finite"),
    "an R more": (array_is("R2", np.eye(4)), "other parts than a reduction under way"),
    "other features": (changes("n_features", to=5), "R must be an array of shape \\(6, 6\\)"),
    "a text as weight": (changes("total_weight", to="x"), "total_weight must be a non-negative, finite float"),
}


@pytest.mark.parametrize("what", LEVELS)
def test_a_checkpoint_whose_parts_do_not_go_together_is_refused(what, tmp_path):
    change, message = LEVELS[what]
    path = tmp_path / "half.npz"
    saved_checkpoint("checkpoint", path)
    edit(path, change)
    with pytest.raises(ValueError, match=rf"half\.npz is damaged, or not a checkpoint saved by .*({message})"):
        sgdm.compress(blocks(), checkpoint=path)
    assert path.exists()


# Results in memory


def test_a_negative_epoch_is_refused_as_init():
    """The kernel would write before its arrays."""
    result = sgdm.fit(X, y, epochs=4, record_every=2)
    for epoch in (-100001, -1):
        bad = replace(result, epochs=epoch, checkpoint=result.checkpoint._replace(epoch=epoch))
        message = f"^init's checkpoint does not go with .* epochs must be .* got {epoch};"
        for _ in range(50):
            with pytest.raises(ValueError, match=message):
                sgdm.fit(X, y, init=bad, epochs=4, record_every=2)


def test_an_epoch_near_the_largest_integer_is_refused_as_init():
    result = sgdm.fit(X, y, epochs=4, record=None)
    for epoch in (sys.maxsize - 3, sys.maxsize, sys.maxsize + 1, 2**70):
        counts = {"epoch": epoch, "updates": epoch}
        bad = replace(result, epochs=epoch, checkpoint=result.checkpoint._replace(**counts))
        with pytest.raises(ValueError, match=r"epochs must be (at most|an int from 0)"):
            sgdm.fit(X, y, init=bad, epochs=4, record=None)
    bad = replace(result, checkpoint=result.checkpoint._replace(updates=sys.maxsize - 3))
    with pytest.raises(ValueError, match=r"epochs must be fewer: 4 updates after the [0-9]+ of init are too many"):
        sgdm.fit(X, y, init=bad, epochs=4, record=None)
    epoch = sys.maxsize - 4
    last = replace(result, epochs=epoch, checkpoint=result.checkpoint._replace(epoch=epoch, updates=epoch))
    assert sgdm.fit(X, y, init=last, epochs=4, record=None).epochs == sys.maxsize


INITS = {
    "coef": np.ones(3), "coef of another dtype": np.ones(3, np.float32), "coef None": None, "intercept": 1.0,
    "velocity": np.zeros(3), "loss": "x", "lr": None, "status": 3, "history": None, "checkpoint": (),
    "feature_names": ("a",), "optimal_loss": np.zeros(3), "best_epoch": 1.0,
}  # fmt: skip


@pytest.mark.parametrize("what", INITS)
def test_a_result_with_another_part_is_refused_as_init(what):
    result = sgdm.fit(X, y, epochs=4, validation=(X, y))
    bad = replace(result, **{what.split(" ")[0]: INITS[what]})
    with pytest.raises(ValueError, match=r"^init's checkpoint does not go with its coefficients, or with something"):
        sgdm.fit(X, y, epochs=4, validation=(X, y), init=bad)


@pytest.mark.parametrize("name", ["epoch", "loss", "grad", "step", "coef", "val_loss"])
def test_a_result_with_another_history_is_refused_as_init(name):
    result = sgdm.fit(X, y, epochs=4, validation=(X, y))
    for value in (None, getattr(result.history, name)[:-1], getattr(result.history, name).astype(complex), "x", 5):
        bad = replace(result, history=replace(result.history, **{name: value}))
        with pytest.raises(ValueError, match=rf"^init's checkpoint does not go .*: history\.{name} must "):
            sgdm.fit(X, y, epochs=4, validation=(X, y), init=bad)


@pytest.mark.parametrize(("kind", "name"), [("MT19937", "pos"), ("Philox", "buffer_pos")])
def test_a_position_outside_a_generators_numbers_is_refused(kind, name, tmp_path):
    """numpy takes it, and reads there."""
    options = {"batch_size": 4, "epochs": 2}
    result = sgdm.fit(X, y, seed=np.random.Generator(getattr(np.random, kind)(0)), **options)
    assert sgdm.fit(X, y, init=result, **options).epochs == 4
    for position in (-1, 10**6):
        state = copy.deepcopy(result.checkpoint.generator)
        (state["state"] if name == "pos" else state)[name] = position
        bad = replace(result, checkpoint=result.checkpoint._replace(generator=state))
        with pytest.raises(ValueError, match=f"checkpoint.generator must be a state of numpy's {kind}"):
            sgdm.fit(X, y, init=bad, **options)


def test_a_result_that_could_not_be_read_is_not_saved(tmp_path):
    result = sgdm.fit(X, y, epochs=4)
    result.save(tmp_path / "r.npz")
    for bad in (replace(result, epochs=-4), replace(result, coef=result.coef + 1)):
        with pytest.raises(ValueError, match="must"):
            bad.save(tmp_path / "r.npz")
    assert sgdm.load(tmp_path / "r.npz") == result


def test_a_pickle_of_impossible_parts_is_refused():
    """One whose coefficients were put into other units passes, as a copy of it does; it is none to go on from."""
    result, many = sgdm.fit(X, y, epochs=4), sgdm.fit_many(X, y, lr=[0.1, 0.2], epochs=4)
    assert pickle.loads(pickle.dumps(result)) == result
    assert pickle.loads(pickle.dumps(many)) == many
    parts = {"epochs": -5}, {"history": result.checkpoint}, {"lr": "x"}
    for bad in (*(replace(result, **part) for part in parts), replace(many, epochs=many.epochs + 9)):
        with pytest.raises(ValueError, match=r"must|missing"):
            pickle.loads(pickle.dumps(bad))
    scaled = replace(result, coef=2 * result.coef)
    assert pickle.loads(pickle.dumps(scaled)) == copy.deepcopy(scaled) == scaled
    with pytest.raises(ValueError, match="coef must be that of the checkpoint"):
        sgdm.fit(X, y, init=scaled)


MANY = {
    "epochs": np.array([1, -1]), "status": np.array(["completed", "running"]), "coef": np.zeros((2, 2)),
    "velocity": np.zeros((2, 3)), "intercept": np.ones(2), "loss": np.zeros(3), "lr": np.array([0.1, np.nan]),
    "momentum": np.array([0.1, 1.5]), "dampening": np.zeros(2, np.float32), "best_epoch": 0, "method": "magic",
    "feature_names": ("a",),
}  # fmt: skip


@pytest.mark.parametrize("name", MANY)
def test_many_fits_whose_parts_do_not_go_together_are_refused(name, tmp_path):
    many = sgdm.fit_many(X, y, lr=[0.1, 0.2], epochs=4)
    with pytest.raises(ValueError, match=" must "):
        replace(many, **{name: MANY[name]}).save(tmp_path / "r.npz")
    for history in ({"loss": many.history.loss[:, :3]}, {"epoch": many.history.epoch + 1}, {"grad": None}):
        with pytest.raises(ValueError, match="history"):
            replace(many, history=replace(many.history, **history)).save(tmp_path / "r.npz")
