"""What a fit says of itself: the warnings, and the message of a divergence."""

import math
import sys
import warnings

import numpy as np

from .._kernel import INITIAL_OBJECTIVE
from .._results.status import ConvergenceWarning, DivergenceError, Status
from .curvature import stable_lr
from .scaling import scaling_for

FAR_ABOVE = 0.01  # a fit warns if it ends more than this share of (start - least) above the least
_ROUNDING = 1000  # times eps: a smaller difference, or residual, is rounding


def warn(message, category=ConvergenceWarning):
    """Warns at the line that called into the package."""
    level, frame = 2, sys._getframe(1)
    while frame is not None and frame.f_globals.get("__name__", "").startswith("sgdm."):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, category, stacklevel=level)


def penalised(loss, coef, weight_decay, l1):
    """The objective (k,): the loss plus the penalties of the coefficients (d, k), without intercepts. The penalties
    are numbers, or arrays that go with the coefficients."""
    coef = np.abs(coef.astype(float))
    return loss + (weight_decay / 2 * coef**2 + l1 * coef).sum(axis=0)


def beyond_rounding(objective, y):
    """Which objectives (k,) are more than the rounding errors of an exact fit to the targets y (k, n)."""
    return np.sqrt(objective) > _ROUNDING * np.finfo(y.dtype).eps * np.abs(y).max(axis=1).astype(float)


def risen(start, end, y):
    """Which objectives (k,) rose from start to end by more than rounding."""
    rose = end > start * (1 + _ROUNDING * np.finfo(y.dtype).eps)
    return rose & beyond_rounding(end, y) if rose.any() else rose


def convergence_message(descent, result):
    """What to warn of: the objective ended above its start, or far above the least there is; else None."""
    problem, options, loss = descent.problem, descent.options, result.loss
    start = descent.state.metrics[INITIAL_OBJECTIVE]
    has_decay, has_l1 = _is_set(options.weight_decay), _is_set(options.l1)
    has_penalty = has_decay or has_l1
    if problem.k == 1 and not has_penalty and loss <= start[0]:
        if problem.reduction is None:
            return None
        end, least = float(loss[0] if problem.target_shape else loss), float(problem.reduction._least_objective(0.0)[0])
        if end - least <= FAR_ABOVE * (float(start[0]) - least):  # the usual case: numbers are faster than arrays
            return None
    with np.errstate(all="ignore"):
        end = np.atleast_1d(loss).astype(float)
        if has_penalty:
            penalties = (np.reshape(value, (-1, 1)) for value in (options.weight_decay, options.l1))
            end = penalised(end, result.coef.reshape(-1, problem.k), *penalties)
        rose = risen(start, end, problem.targets)
        if rose.any() and result.status is Status.COMPLETED:
            return _rise_message(descent, int(np.argmax(rose)), start, end)
        if problem.reduction is None or has_l1 or options.patience or result.status is Status.STOPPED:
            return None
        least = problem.reduction._least_objective(0.0)
        far = _far_above(start, end, least, problem.targets)
        if has_decay and far.any():
            least = problem.reduction._least_objective(options.weight_decay)
            far = _far_above(start, end, least, problem.targets)
    if not far.any():
        return None
    t = int(np.argmax(far))
    advice = "use standardize=True, or do more epochs" if problem.scaling is None else "do more epochs"
    return (
        f"the objective{_of_target(problem, t)} went from {start[t]:g} to {end[t]:g} in {result.epochs} epochs, far "
        f"above the least there is, {least[t]:g}; {advice}"
    )


def _is_set(penalty):
    """Whether a penalty, a number or an array, is not 0."""
    return penalty > 0 if type(penalty) is float else bool(np.any(penalty))


def _far_above(start, end, least, y):
    """Which objectives ended far above the least ones."""
    return beyond_rounding(end, y) & (end - least > FAR_ABOVE * np.maximum(start - least, 0))


def _rise_message(descent, t, start, end):
    """What to warn of when the objective of target t ended above its start."""
    problem, options, epoch = descent.problem, descent.options, descent.state.epoch
    rates = options.rates_at(epoch - 1)
    lr, max_lr = float(rates[0]), stable_lr(problem, options, rates)
    message = (
        f"the objective{_of_target(problem, t)} rose from {start[t]:g} to {end[t]:g} in {epoch} epochs with lr={lr:g}; "
    )
    if 0 < options.batch_size < problem.n:
        return f"{message}use a smaller lr, or one that falls, to even out the noise of the batches"
    if max_lr is None:
        return f"{message}scale the columns of X and y down"
    limit = _describe(max_lr, problem, options, epoch)
    if lr < max_lr:
        return f"{message}lr is stable (up to {limit}), so more epochs will bring it down"
    return f"{message}use an lr of at most {limit}{_scaling_advice(problem, options, rates)}"


def divergence(descent):
    """What to raise when an epoch overflowed: ValueError if the data were not finite to begin with."""
    problem, options, epoch = descent.problem, descent.options, descent.state.epoch
    if epoch == options.start:
        problem.refuse_nonfinite()
    rates = options.rates_at(epoch)
    lr, max_lr = float(rates[0]), stable_lr(problem, options, rates)
    target, limit = _of_target(problem, descent.state.diverged), _describe(max_lr, problem, options, epoch)
    if max_lr is None:
        message = (
            f"the squares of the data{target} overflow {problem.dtype} at epoch {options.start}, whatever the lr; "
            "scale the columns of X and y down"
        )
    elif lr < max_lr:
        message = (
            f"the loss or a parameter{target} overflowed {problem.dtype} at epoch {epoch}, though lr={lr:g} "
            f"is stable (up to {limit}); scale the columns of X and y, or the start, down"
        )
    else:
        message = f"the fit{target} diverged at epoch {epoch}: lr={lr:g} is too large; use an lr of at most {limit}"
        message += _scaling_advice(problem, options, rates)
    error = DivergenceError(message)
    error.max_lr = max_lr
    return error


@np.errstate(all="ignore")
def _scaling_advice(problem, options, rates):
    """What to say if the lr is stable in the coordinates of standardized columns; else nothing."""
    if problem.scaling is not None:
        return ""
    try:
        problem.scaling = scaling_for(problem, True)
        max_lr = stable_lr(problem, options, rates)
    finally:
        problem.scaling = None
    return "; or use standardize=True" if max_lr is not None and rates[0] < max_lr else ""


def _of_target(problem, t):
    """Target t for a message, if there are several."""
    return f" of target {t}" if problem.k > 1 else ""


def _describe(max_lr, problem, options, epoch):
    """A learning rate rounded down to three digits, and the constants of the epoch that it is for."""
    if max_lr in (None, math.inf):
        digits = str(max_lr)
    elif max_lr < 1e-300:  # where powers of ten have few digits, or none
        digits = f"{max_lr:.3g}"
    else:
        unit = 10.0 ** (math.floor(math.log10(max_lr)) - 2)
        digits = f"{math.floor(max_lr / unit) * unit:.3g}"
    _, momentum, gradient_weight = options.rates_at(epoch)
    form = ", nesterov" if options.nesterov else ""
    batches = f", batches of {options.batch_size}" if 0 < options.batch_size < problem.n else ""
    return f"{digits} for momentum={momentum:g}, dampening={1 - gradient_weight:g}{form}{batches}"
