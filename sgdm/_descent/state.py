"""The state that a descent starts from."""

import sys

import numpy as np

from .._kernel import METRICS, State
from .._validation import as_real, check_finite, for_kernel

_NO_METRICS = np.full((METRICS, 1), np.nan)


def start_state(problem, options):
    """The first state of a fit: a new one, or a copy of that of `init`."""
    if options.init is not None:
        return _resumed(problem, options)
    p, k = problem.p, problem.k
    return State(
        as_start(options.coef0, problem),
        np.zeros((p, k)) if options.average_from >= 0 else None,
        np.zeros((p, k), problem.lines.dtype) if options.validates else None,
        _NO_METRICS.copy() if k == 1 else np.full((METRICS, k), np.nan),
        generator=options.generator,
        split=options.split,
    )


def as_start(coef0, problem):
    """The parameters and velocities (2, p, k) to start from: zeros, or coef0, which must be finite in the results."""
    start = np.zeros((2, problem.p, problem.k), problem.lines.dtype)
    if coef0 is None:
        return start
    coef = as_real(coef0, "coef0")
    expected = (problem.p, *problem.target_shape)
    if coef.shape != expected:
        intercept = " then the intercept" if problem.fit_intercept else ""
        raise ValueError(f"coef0 must have shape {expected}, the features{intercept}, got {coef.shape}")
    shown = for_kernel(coef, problem.dtype)  # as results show it
    check_finite(shown, "coef0")
    start[0] = (shown if problem.dtype is start.dtype else for_kernel(coef, start.dtype)).reshape(start.shape[1:])
    return start


def _resumed(problem, options):
    """A copy of the state of `init`, if the problem and the options are those of `init`."""
    init, earlier = options.init, options.init.checkpoint
    averages = options.average_from >= 0
    expected = (problem.features, *problem.target_shape), problem.lines.dtype.name, problem.has_intercept
    got = init.coef.shape, earlier.parameters.dtype.name, earlier.fit_intercept
    if got != expected:
        raise ValueError(f"init must have the parameters, dtype and intercept of this fit, {expected}, got {got}")
    if (earlier.record, earlier.record_every) != (options.record, options.record_every):
        raise ValueError(
            f"record and record_every must be those of init, {earlier.record!r} and {earlier.record_every}, "
            f"got {options.record!r} and {options.record_every}"
        )
    if options.validates != (earlier.best is not None):
        had = "none" if options.validates else "some"
        raise ValueError(f"validation must be given as for init, which had {had}")
    if averages and earlier.average is None and options.average_from < earlier.epoch:
        raise ValueError(f"average must start at epoch {earlier.epoch} or later: init kept no average until there")
    updates = options.epochs * options.updates_per_epoch(problem)
    if updates > sys.maxsize - earlier.updates:
        raise ValueError(f"epochs must be fewer: {updates} updates after the {earlier.updates} of init are too many")
    average = np.zeros((problem.p, problem.k)) if earlier.average is None else earlier.average
    state = State(
        earlier.parameters, average if averages else None, earlier.best, earlier.metrics, earlier.epoch,
        earlier.updates, earlier.averaged if averages else 0, earlier.best_epoch, earlier.waited, earlier.best_loss,
        options.generator, options.split,
    )  # fmt: skip
    return state.copy()
