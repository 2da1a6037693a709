"""One descent in several calls, from memory, files and other processes, has the bits of one call."""

import copy
import dataclasses
import itertools
import re
import sys

import numpy as np
import pytest
from helpers import (
    HELD_OUT,
    LR,
    MOMENTUM,
    SHUFFLED,
    SPLIT,
    TOTAL,
    WAYS,
    both,
    fit_epochs,
    held_out,
    make_data,
    make_problem,
    same_but_status,
    way_options,
    ways,
)
from hypothesis import given, settings
from hypothesis import strategies as st

import sgdm

pytestmark = pytest.mark.filterwarnings("ignore::sgdm.ConvergenceWarning")  # of fits of an epoch or two


@both
@ways
def test_a_restart_has_the_bits_of_one_fit(way, everything, tmp_path):
    """30 epochs and 20 more are 50, whether the first 30 come from memory or from a file; and cut otherwise."""
    problem, options = make_problem(everything), way_options(way, everything)
    whole = fit_epochs(problem, TOTAL, **options)
    first = fit_epochs(problem, SPLIT, **options)
    before = copy.deepcopy(first)
    first.save(tmp_path / "first.npz")
    loaded = sgdm.load(tmp_path / "first.npz")
    assert loaded == first
    assert repr(loaded) == repr(first)
    for init in (first, loaded):
        assert fit_epochs(problem, TOTAL - SPLIT, SPLIT, init, **options) == whole
    assert first == before
    result = None
    for start, stop in itertools.pairwise([0, 1, 3, 17, 46, TOTAL]):
        result = fit_epochs(problem, stop - start, start, result, **options)
        if result.status == "converged":
            break
    assert result == whole
    whole.save(tmp_path / "first.npz")
    assert sgdm.load(str(tmp_path / "first.npz")) == whole
    assert whole.status == {"tol": "converged"}.get(way, "completed")


def test_the_second_part_is_where_tol_and_patience_matter():
    """The second part is where tol is met and where patience has something to remember."""
    assert SPLIT < fit_epochs(make_problem(), TOTAL, **way_options("tol", False)).epochs < TOTAL
    assert SPLIT < fit_epochs(make_problem(True), TOTAL, **way_options("tol", True)).epochs < TOTAL
    assert fit_epochs(make_problem(), TOTAL, **way_options("fraction, shuffled", False)).best_epoch not in (0, None)


CHOICES = st.fixed_dictionaries({
    "lr": st.sampled_from([0.1, 0.05, LR, WAYS["functions"]["lr"]]),
    "momentum": st.sampled_from([0.5, MOMENTUM, WAYS["functions"]["momentum"]]),
    "batch_size": st.sampled_from([None, 1, 7, 8, 40, 41]),
    "shuffle": st.booleans(),
    "average": st.sampled_from([False, True, 2, 20, 48]),
    "validation": st.sampled_from([None, 0.3, HELD_OUT]),
    "record": st.sampled_from(["all", "loss", "updates", None]),
    "record_every": st.sampled_from([1, 2, 7, 31, 100, sys.maxsize]),
    "l1": st.sampled_from([0.0, 0.1]),
    "nesterov": st.booleans(),
})  # fmt: skip


@both
def test_a_fit_cut_anywhere_has_the_bits_of_one_fit(everything, tmp_path_factory):
    path = tmp_path_factory.mktemp("restart") / "result.npz"
    problem = make_problem(everything)

    @settings(max_examples=60, derandomize=True, database=None, deadline=None)
    @given(CHOICES, st.integers(1, TOTAL - 1), st.booleans())
    def check(options, split, through_file):
        if options["validation"] is HELD_OUT:
            options["validation"] = held_out(everything)
        if (options["batch_size"] and options["shuffle"]) or options["validation"] == 0.3:
            options["seed"] = split
        first = fit_epochs(problem, split, **options)
        if through_file:
            first.save(path)
            first = sgdm.load(path)
        assert fit_epochs(problem, TOTAL - split, split, first, **options) == fit_epochs(problem, TOTAL, **options)

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
def test_a_restart_goes_on_with_any_generator(name, validation, tmp_path):
    problem, options = make_problem(), {"batch_size": 7, "validation": validation}
    generator = generators()[name]
    whole = fit_epochs(problem, TOTAL, seed=generator, **options)
    first = fit_epochs(problem, SPLIT, seed=generators()[name], **options)
    assert whole.checkpoint.generator["bit_generator"] == name
    generator.random()
    generator.permutation(9)  # the result does not go by it any more
    first.save(tmp_path / "first.npz")
    for init in (first, sgdm.load(tmp_path / "first.npz")):
        assert fit_epochs(problem, TOTAL - SPLIT, SPLIT, init, **options) == whole
    assert (
        fit_epochs(problem, TOTAL, seed=generators()["SFC64" if name == "MT19937" else "MT19937"], **options) != whole
    )


PROCESS_SCRIPT = """
import numpy as np, sgdm

rng = np.random.default_rng(0)
X, y = rng.standard_normal((60, 4)).astype("f4"), rng.standard_normal((60, 2)).astype("f4")
options = {{"fit_intercept": True, "batch_size": 7, "average": True, "validation": 0.2, "record": "updates"}}
sgdm.fit(X, y, epochs=30, seed=9, **options).save({path!r})
"""


def test_a_restart_goes_on_in_another_process(tmp_path, run_python):
    path = str(tmp_path / "first.npz")
    script = PROCESS_SCRIPT.format(path=path)
    process = run_python(script, PYTHONWARNINGS="error")
    assert process.returncode == 0, process.stderr
    names = {}
    exec(script[: script.index("sgdm.fit")], names)
    X, y, options = names["X"], names["y"], names["options"]
    whole = sgdm.fit(X, y, epochs=50, seed=9, **options)
    assert sgdm.fit(X, y, epochs=20, init=sgdm.load(path), **options) == whole


def test_a_restart_may_have_other_rows_batches_rates_and_penalties():
    """What need not stay the same: rows, batches, rates, penalties. The count of epochs and the history go on."""
    X, y, _ = make_problem()
    for first in (sgdm.fit(X, y, epochs=10, **SHUFFLED), sgdm.fit(X, y, epochs=10)):
        for options in ({"batch_size": 10, "shuffle": False}, {"batch_size": 9}, {}):
            result = sgdm.fit(X[:25], y[:25], epochs=5, init=first, lr=0.01, l1=0.1, **options)
            assert result.epochs == 15
            assert np.array_equal(result.history.epoch, range(15))
            assert np.array_equal(result.history.loss[:10], first.history.loss)
            begun = result.history.coef[10] if not options else None
            assert begun is None or np.array_equal(begun, first.coef)


def test_a_fit_that_diverged_or_stopped_can_be_gone_on_from():
    problem = make_problem()
    with pytest.raises(sgdm.DivergenceError) as caught:
        fit_epochs(problem, 500, lr=1e3, **SHUFFLED)
    rescued = fit_epochs(problem, 500, init=caught.value.result, lr=1e-3, batch_size=7)
    assert rescued.epochs == caught.value.result.epochs + 500
    assert np.isfinite(rescued.history.loss).all()
    options = {"validation": held_out(), "patience": 1, "tol": 0.5, **SHUFFLED}
    stopped = fit_epochs(problem, TOTAL, **options)
    assert stopped.status == "stopped"
    assert stopped.epochs < 20
    options["patience"] = 60
    assert same_but_status(
        fit_epochs(problem, TOTAL - stopped.epochs, init=stopped, **options), fit_epochs(problem, TOTAL, **options)
    )  # fmt: skip


X, y, _ = make_problem()
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
def test_an_init_of_another_fit_is_refused(X, y, options, message):
    before = copy.deepcopy(FIRST)
    with pytest.raises(ValueError, match="^" + re.escape(message)):
        sgdm.fit(X, y, init=FIRST, **options)
    assert before == FIRST


@pytest.mark.parametrize("method", [pytest.param("direct", marks=pytest.mark.slow), "compress"])
def test_a_restart_keeps_the_method_of_its_init(method):
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


def test_an_init_of_another_shape_is_refused_without_histories_too():
    with pytest.raises(ValueError, match=r"^init must have the parameters, dtype and intercept of this fit, "):
        sgdm.fit(X, y[:, None], init=sgdm.fit(X, y, record=None), record=None)


def test_an_init_of_another_fraction_is_refused():
    with pytest.raises(ValueError, match=r"^validation must be .*as for init"):
        sgdm.fit(X, y, init=sgdm.fit(X, y, validation=0.2, seed=1), validation=0.4)


def test_a_result_shares_no_memory_with_its_checkpoint():
    """Whoever scales result.velocity for a plot does not mean to change how the fit goes on."""
    for options in (
        {},
        {"validation": held_out(), "average": True, **SHUFFLED},
        {"validation": held_out(), "patience": 9},
    ):
        result = fit_epochs(make_problem(), 10, **options)
        arrays = [result.coef, result.velocity, result.average_coef, *vars(result.history).values()]
        assert not any(
            np.shares_memory(a, b)
            for a in arrays for b in result.checkpoint[:5] if a is not None and b is not None
        )  # fmt: skip


@pytest.mark.parametrize("name", ["parameters", "metrics", "average", "best"])
def test_a_checkpoint_of_another_shape_is_refused(name):
    """The kernel would read past its end."""
    result = sgdm.fit(X, y, epochs=3, average=True, validation=(X, y))
    broken = result.checkpoint._replace(**{name: np.zeros((1, 1))})
    with pytest.raises(ValueError, match=r"^init's checkpoint does not go with its coefficients"):
        sgdm.fit(X, y, epochs=3, average=True, validation=(X, y), init=dataclasses.replace(result, checkpoint=broken))


def test_a_reduction_with_other_names_is_refused_as_init():
    X, y = make_data()
    names = [f"x{i}" for i in range(X.shape[1])]
    reduced, other = sgdm.compress(X, y), sgdm.compress(X, y)
    reduced.feature_names, other.feature_names = tuple(names), tuple(names[::-1])
    init = reduced.fit(epochs=3)
    assert sgdm.fit(reduced, init=init, epochs=2).feature_names == tuple(names)
    with pytest.raises(ValueError, match=r"^X must have the columns of init, in their order: \('x0', .* got \('x4'"):
        sgdm.fit(other, init=init, epochs=2)


def test_a_part_that_a_result_does_not_have_is_refused():
    result = sgdm.fit(*make_data(), epochs=3)
    with pytest.raises(TypeError, match=r"^FitResult has no coeff$"):
        dataclasses.replace(result, coeff=result.coef)
