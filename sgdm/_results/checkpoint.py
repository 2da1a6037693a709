"""What a fit needs to go on from where another one stopped."""

import math
from typing import Any, NamedTuple

import numpy as np

from .._validation import raise_if_foreign


class Checkpoint(NamedTuple):
    """What a fit needs to go on with identical bits, as ``result.checkpoint``. The fields are internal.

    parameters (2, p, k): the last iterate and its velocity. average (p, k): the mean of ``averaged`` iterates. best
    (p, k): the iterate with the lowest validation loss; waited: the epochs since then. metrics: as in the kernel's
    State. generator: the state of the row generator now. split: {"state", "fraction"}, its state before it chose the
    validation rows, and their fraction. The arrays of `fit_many` have a first axis for the fits.
    """

    parameters: np.ndarray
    metrics: np.ndarray
    epoch: int
    updates: int
    record: str | None
    record_every: int
    fit_intercept: bool
    average: np.ndarray | None = None
    best: np.ndarray | None = None
    averaged: int = 0
    best_epoch: int = -1
    waited: int = 0
    best_loss: float = math.inf
    generator: dict[str, Any] | None = None
    split: dict[str, Any] | None = None

    @classmethod
    def of(cls, state, options, fit_intercept):
        """The checkpoint of a fit with these options. It holds the arrays of the state, not copies."""
        generator = state.generator
        return cls(
            state.parameters, state.metrics, state.epoch, state.updates, options.record, options.record_every,
            fit_intercept, state.average, state.best, state.averaged, state.best_epoch, state.waited, state.best_loss,
            None if generator is None else generator.bit_generator.state, state.split,
        )  # fmt: skip


# The positions in a generator's state, and the arrays they point into. numpy checks no position before it reads there.
_POSITIONS = {"pos": "key", "buffer_pos": "buffer"}


def restore_generator(state, name="init's row generator"):
    """A numpy Generator in the given state of its bit generator; ValueError if it can't be in that state."""
    kind = getattr(np.random, state["bit_generator"], None)
    known = isinstance(kind, type) and issubclass(kind, np.random.BitGenerator) and kind is not np.random.BitGenerator
    if not known:
        raise ValueError(f"{name} is of an unknown kind, {state['bit_generator']!r}")
    bit_generator = kind(0)
    valid = _is_like(state, bit_generator.state)
    if valid:
        try:
            bit_generator.state = state
        except (TypeError, ValueError, OverflowError) as error:  # a number that this generator can't hold
            raise_if_foreign(error)
            valid = False
    if not valid or not equal(state, bit_generator.state):
        raise ValueError(f"{name} must be a state of numpy's {kind.__name__}, got {state!r:.80}")
    return np.random.Generator(bit_generator)


def _is_like(state, example):
    """Whether the state of a bit generator has the parts of the example, with numbers it can work with."""
    if isinstance(example, dict):
        return (
            isinstance(state, dict)
            and state.keys() == example.keys()
            and all(_is_like(state[part], example[part]) for part in example)
            and all(0 <= state[at] <= len(state[array]) for at, array in _POSITIONS.items() if at in example)
        )
    if isinstance(example, np.ndarray):
        return isinstance(state, np.ndarray) and (state.dtype, state.shape) == (example.dtype, example.shape)
    return type(state) is type(example) and (not isinstance(example, int) or state >= 0)  # NumPy 1 casts -1, and warns


def equal(a, b):
    """Whether two fields of results, or two states of bit generators, are equal."""
    if isinstance(a, (np.ndarray, np.generic)) and isinstance(b, (np.ndarray, np.generic)):
        a, b = np.asarray(a), np.asarray(b)
        return a.dtype == b.dtype and np.array_equal(a, b, equal_nan=a.dtype.kind == "f")
    if isinstance(a, Checkpoint) and isinstance(b, Checkpoint):
        return all(map(equal, a, b))
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(equal(a[key], b[key]) for key in a)
    return a is b if a is None or b is None else a == b
