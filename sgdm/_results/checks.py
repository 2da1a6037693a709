"""What a valid result is: types, shapes and ranges of its parts, and how these go together.

Results that are saved, loaded, unpickled or given as `init` are checked here. All checks raise ValueError.
"""

import math
import sys

import numpy as np

from .._validation import ceil_div, raise_if_foreign
from .checkpoint import restore_generator
from .status import Status

FLOATS = (np.dtype(np.float64), np.dtype(np.float32))
_STATUSES = tuple(map(str, Status))


def check_result(result):
    """Refuses a FitResult whose parts are not what they should be, or disagree with each other."""
    check_parts(result)
    _check_agreement(result)


def check_init(init, epochs):
    """Refuses a result that can't be continued by this number of epochs."""
    try:
        check_result(init)
    except ValueError as error:
        raise_if_foreign(error)
        raise ValueError(
            f"init's checkpoint does not go with its coefficients, or with something else in it: {error}; fit again"
        ) from None
    if epochs > sys.maxsize - init.epochs:
        most = sys.maxsize - init.epochs
        raise ValueError(f"epochs must be at most {most} after the {init.epochs} of init, got {epochs}")


def check_parts(result):
    """Refuses a FitResult whose parts have a wrong type, shape or range.

    Their values may still disagree, for example where somebody converted the coefficients to other units for display.
    """
    try:
        if result._is_many:
            _check_many(result)
        else:
            _check_one(result)
    except AttributeError as error:
        raise_if_foreign(error)
        raise ValueError(f"a part is missing, or of another kind ({error})") from None


def _check_one(result):
    """One fit."""
    checkpoint, coef = result.checkpoint, result.coef
    valid = isinstance(coef, np.ndarray) and coef.ndim in (1, 2) and coef.size and coef.dtype in FLOATS
    expect(valid, "coef", "be a (d,) or (d, k) array of float32 or float64", coef)
    dtype, target_shape, d = coef.dtype, coef.shape[1:], len(coef)
    p, k = _parameters(checkpoint, d), target_shape[0] if target_shape else 1
    check_array(coef, "coef", (d, *target_shape), dtype, finite=True)
    check_array(result.velocity, "velocity", (p, *target_shape), dtype)
    _check_intercept(result.intercept, "intercept", checkpoint.fit_intercept, target_shape, dtype)
    _check_numbers(result.loss, "loss", target_shape)
    if result.optimal_loss is not None:
        _check_numbers(result.optimal_loss, "optimal_loss", target_shape)
    _check_constants(result)
    _check_shared(result, d)

    epochs = check_count(result.epochs, "epochs")
    check_count(checkpoint.epoch, "checkpoint.epoch", epochs, epochs)
    updates = check_count(checkpoint.updates, "checkpoint.updates", epochs, sys.maxsize if epochs else 0)
    inner = _check_method(result, dtype)
    check_array(checkpoint.parameters, "checkpoint.parameters", (2, p, k), inner)
    expect(np.isfinite(checkpoint.parameters[0]).all(), "checkpoint.parameters", "be finite", "NaN or infinity")
    _check_metrics(checkpoint.metrics, (3, k))
    _check_average(result, (p, k), updates)
    _check_validation(result, (p, k), inner)
    if checkpoint.generator is not None:
        _check_generator(checkpoint.generator, "checkpoint.generator")
    if checkpoint.split is not None:
        _check_split(checkpoint)
    _check_history(result.history, checkpoint, epochs, updates, p, target_shape, dtype)


def _check_shared(result, d):
    """What the results of one fit and of many have in common."""
    names, checkpoint = result.feature_names, result.checkpoint
    check_names(names, d)
    record = checkpoint.record
    valid = record is None or (isinstance(record, str) and record in ("all", "loss", "updates"))
    expect(valid, "checkpoint.record", "be 'all', 'loss', 'updates' or None", record)
    check_count(checkpoint.record_every, "checkpoint.record_every", 1)


def _check_constants(result):
    """The status, lr, momentum and dampening."""
    expect(isinstance(result.status, str) and result.status in _STATUSES, "status", "be a Status", result.status)
    for name, high in (("lr", math.inf), ("momentum", 1), ("dampening", 1)):
        value = getattr(result, name)
        if not isinstance(value, float) or not 0 <= value <= high or value == math.inf:
            refuse(name, f"be a finite float from 0 to {high}", value)


def _check_average(result, shape, updates):
    """The averages."""
    checkpoint, coef = result.checkpoint, result.coef
    check_count(checkpoint.averaged, "checkpoint.averaged", 0, updates if checkpoint.average is not None else 0)
    missing = [part is None for part in (checkpoint.average, result.average_coef, result.average_intercept)]
    expect(len(set(missing)) == 1, "averages", "be all there or all None", missing)
    if checkpoint.average is not None:
        check_array(checkpoint.average, "checkpoint.average", shape, np.dtype(np.float64))
        check_array(result.average_coef, "average_coef", coef.shape, coef.dtype)
        intercept, fitted = result.average_intercept, checkpoint.fit_intercept
        _check_intercept(intercept, "average_intercept", fitted, coef.shape[1:], coef.dtype, finite=False)


def _check_validation(result, shape, dtype):
    """The best epoch and the epochs since then. Either every epoch was validated or none."""
    checkpoint = result.checkpoint
    last = -1 if checkpoint.best is None else result.epochs - 1
    best_epoch = check_count(checkpoint.best_epoch, "checkpoint.best_epoch", -1, last)
    expected = None if best_epoch < 0 else best_epoch
    if type(result.best_epoch) is not type(expected) or result.best_epoch != expected:
        refuse("best_epoch", f"be {expected}, as the checkpoint has it", result.best_epoch)
    waited = 0 if checkpoint.best is None else result.epochs - 1 - best_epoch
    check_count(checkpoint.waited, "checkpoint.waited", waited, waited)
    loss = checkpoint.best_loss
    valid = isinstance(loss, float) and (0 <= loss < math.inf if best_epoch >= 0 else loss == math.inf)
    expect(valid, "checkpoint.best_loss", "be a finite float where there is a best epoch, else infinity", loss)
    if checkpoint.best is not None:
        check_array(checkpoint.best, "checkpoint.best", shape, dtype, finite=True)


def _check_history(history, checkpoint, epochs, updates, p, target_shape, dtype):
    """The histories: a row for each epoch, or update, that `record_every` divides."""
    every = checkpoint.record_every
    per_epoch = 0 if checkpoint.record is None else ceil_div(epochs, every)
    rows = ceil_div(updates, every) if checkpoint.record == "updates" else per_epoch
    epoch = history.epoch
    if not isinstance(epoch, np.ndarray) or epoch.dtype.kind != "i" or epoch.shape != (rows,):
        refuse("history.epoch", f"be {rows} integers", epoch)
    if checkpoint.record == "updates":
        valid = not rows or (epoch[0] == 0 and epoch[-1] < epochs and (epoch[1:] >= epoch[:-1]).all())
        expect(valid, "history.epoch", "rise from 0 to the last epoch at most", epoch)
    else:
        expect((epoch == np.arange(rows) * every).all(), "history.epoch", "be every record_every-th epoch", epoch)
    _check_rows(history.loss, "history.loss", (rows, *target_shape), dtype, checkpoint.record is not None, finite=True)
    for name in ("grad", "step", "coef"):
        shape, recorded = (rows, p, *target_shape), checkpoint.record in ("all", "updates")
        _check_rows(getattr(history, name), f"history.{name}", shape, dtype, recorded, finite=name == "coef")
    validates = checkpoint.best is not None and checkpoint.record is not None
    _check_rows(history.val_loss, "history.val_loss", (per_epoch, *target_shape), dtype, validates, finite=False)


def _check_rows(array, name, shape, dtype, recorded, finite):
    """One history, which is None where it was not recorded."""
    if recorded:
        check_array(array, name, shape, dtype, finite=finite)
    else:
        expect(array is None, name, "be None, as it was not recorded", array)


def _check_split(checkpoint):
    """How the generator chose the validation rows."""
    split = checkpoint.split
    valid = isinstance(split, dict) and split.keys() == {"state", "fraction"} and isinstance(split["fraction"], float)
    valid = valid and 0 < split["fraction"] < 1 and checkpoint.generator is not None and checkpoint.best is not None
    expect(valid, "checkpoint.split", "have a state and a fraction in (0, 1), beside a generator and a best", split)
    _check_generator(split["state"], "checkpoint.split")
    kinds = split["state"]["bit_generator"], checkpoint.generator["bit_generator"]
    expect(kinds[0] == kinds[1], "checkpoint.split", f"be of the generator's kind, {kinds[1]}", kinds[0])


def _check_generator(state, name):
    """The state of a row generator. One that is not of numpy passes: `fit` refuses to continue from it."""
    valid = isinstance(state, dict) and isinstance(state.get("bit_generator"), str)
    expect(valid, name, "be the state of a bit generator", state)
    if hasattr(np.random, state["bit_generator"]):
        restore_generator(state, name)


def _check_method(result, dtype):
    """The method, and the dtype that its descent has."""
    expect(result.method in ("direct", "compress"), "method", "be 'direct' or 'compress'", result.method)
    return np.dtype(np.float64) if result.method == "compress" else dtype


def _check_many(result):
    """The fits of `fit_many`. All arrays lead with the axis of the fits."""
    checkpoint, history, epochs, coef = result.checkpoint, result.history, result.epochs, result.coef
    valid = epochs.dtype.kind == "i" and epochs.ndim == 1 and epochs.size and epochs.min() >= 0
    expect(valid, "epochs", "be a (fits,) array of counts", epochs)
    fits = len(epochs)
    valid = isinstance(coef, np.ndarray) and coef.ndim == 2 and coef.shape[1] and coef.dtype in FLOATS
    expect(valid, "coef", "be a (fits, d) array of floats", coef)
    dtype, d = coef.dtype, coef.shape[1]
    p = _parameters(checkpoint, d)
    check_array(coef, "coef", (fits, d), dtype, finite=True)
    check_array(result.velocity, "velocity", (fits, p), dtype)
    check_array(result.intercept, "intercept", (fits,), dtype, finite=True)
    expect(checkpoint.fit_intercept or not result.intercept.any(), "intercept", "be 0 without one", result.intercept)
    _check_numbers(result.loss, "loss", (fits,))
    if result.optimal_loss is not None:
        _check_numbers(result.optimal_loss, "optimal_loss", (fits,))
    status = result.status
    valid = isinstance(status, np.ndarray) and status.shape == (fits,) and status.dtype.kind == "U"
    valid = valid and np.isin(status, _STATUSES).all()
    expect(valid, "status", "be a (fits,) array of statuses", status)
    for name, high in (("lr", math.inf), ("momentum", 1), ("dampening", 1)):
        value = getattr(result, name)
        check_array(value, name, (fits,), np.dtype(np.float64), finite=True)
        if (value < 0).any() or (value > high).any():
            refuse(name, f"be from 0 to {high}", value)
    _check_shared(result, d)
    record, every = checkpoint.record, checkpoint.record_every
    expect(record != "updates", "checkpoint.record", "be 'all', 'loss' or None of many fits", record)
    for name in ("epoch", "updates"):
        value = getattr(checkpoint, name)
        valid = isinstance(value, np.ndarray) and value.dtype.kind == "i" and np.array_equal(value, epochs)
        expect(valid, f"checkpoint.{name}", "be the epochs", value)
    inner = _check_method(result, dtype)
    check_array(checkpoint.parameters, "checkpoint.parameters", (fits, 2, p, 1), inner)
    _check_metrics(checkpoint.metrics, (fits, 3, 1))
    absent = (result.best_epoch, result.average_coef, result.average_intercept, checkpoint.average, checkpoint.best,
              checkpoint.generator, checkpoint.split, history.val_loss)  # fmt: skip
    expect(all(part is None for part in absent), "what one fit alone has", "be None of many fits", "something else")
    rest = checkpoint.averaged, checkpoint.best_epoch, checkpoint.waited, checkpoint.best_loss
    expect(rest == (0, -1, 0, math.inf), "what one fit alone has", "be unset of many fits", rest)

    rows = len(history.epoch) if isinstance(history.epoch, np.ndarray) and history.epoch.ndim == 1 else 0
    valid = np.array_equal(history.epoch, np.arange(rows) * every) and isinstance(history.epoch, np.ndarray)
    valid = valid and history.epoch.dtype.kind == "i"
    expect(valid, "history.epoch", "be every record_every-th epoch", history.epoch)
    needed = 0 if record is None else ceil_div(int(epochs.max()), every)
    expect(rows >= needed and (record is not None or not rows), "history", "have a row for each epoch", rows)
    written = history.epoch < epochs[:, np.newaxis]
    _check_rows(history.loss, "history.loss", (fits, rows), dtype, record is not None, finite=False)
    valid = history.loss is None or (np.isfinite(history.loss) == written).all()
    expect(valid, "history.loss", "be finite in the epochs done, and only there", "something else")
    for name in ("grad", "step", "coef"):
        _check_rows(getattr(history, name), f"history.{name}", (fits, rows, p), dtype, record == "all", finite=False)


def _check_agreement(result):
    """What a result shows has the bits of its checkpoint."""
    checkpoint, coef, parameters = result.checkpoint, result.coef, result.checkpoint.parameters
    d = parameters.shape[-2] - checkpoint.fit_intercept
    shown = [(result.velocity, parameters[..., 1, :, :], "velocity")]

    def iterate(at):
        parts = [(coef, at[..., :d, :], "coef")]
        return [*parts, (result.intercept, at[..., d, :], "intercept")] if checkpoint.fit_intercept else parts

    last = iterate(parameters[..., 0, :, :])
    is_last = checkpoint.best_epoch < 0 or all(_same(part, saved) for part, saved, _ in last)
    shown += last if is_last else iterate(checkpoint.best)  # with patience, the best iterate is shown
    if checkpoint.average is not None:
        average = checkpoint.average if checkpoint.averaged else parameters[0]
        shown += [(result.average_coef, average[:d], "average_coef")]
        if checkpoint.fit_intercept:
            shown += [(result.average_intercept, average[d], "average_intercept")]
    for part, saved, name in shown:
        expect(_same(part, saved), name, "be that of the checkpoint", part)


def _same(part, saved):
    """Whether `part` has the bits of `saved`, once that has the dtype of `part`."""
    with np.errstate(all="ignore"):
        return np.asarray(part).tobytes() == saved.astype(part.dtype, copy=False).tobytes()


# Parts of results and of reductions


def expect(valid, name, expected, got):
    """Refuses a part that is not valid."""
    if not valid:
        refuse(name, expected, got)


def refuse(name, expected, got):
    """Raises ValueError for the part of that name."""
    if isinstance(got, np.ndarray) and got.size > 1:
        got = f"an array of shape {got.shape} and dtype {got.dtype}"
    raise ValueError(f"{name} must {expected}, got {got!r:.80}")


def check_array(array, name, shape, dtype, finite=False):
    """An array of this shape and dtype; with `finite`, without NaN and infinity."""
    if not isinstance(array, np.ndarray) or array.shape != shape or array.dtype != dtype:
        refuse(name, f"be an array of shape {shape} and dtype {dtype}", array)
    if finite and not np.isfinite(array).all():
        refuse(name, "be finite", "NaN or infinity")


def check_count(value, name, low=0, high=sys.maxsize):
    """An int in this range; a bool is none."""
    if type(value) is not int or not low <= value <= high:
        refuse(name, f"be an int from {low} to {high}", value)
    return value


def _check_numbers(value, name, target_shape):
    """A loss for each target. It is not negative; it may be infinite, or NaN before the first epoch."""
    valid = isinstance(value, (np.ndarray, np.floating, float)) and np.shape(value) == target_shape
    if not valid or np.asarray(value).dtype not in FLOATS or np.any(np.asarray(value) < 0):
        refuse(name, f"be of shape {target_shape}, floats and not negative", value)


def _check_intercept(value, name, fitted, target_shape, dtype, finite=True):
    """A number for each target; 0.0 for a fit without an intercept."""
    if not fitted:
        expect(type(value) is float and value == 0, name, "be 0.0 without one", value)
        return
    if not isinstance(value, (np.ndarray, np.floating)) or value.shape != target_shape or value.dtype != dtype:
        refuse(name, f"be of shape {target_shape} and dtype {dtype}", value)
    if finite and not np.isfinite(value).all():
        refuse(name, "be finite", value)


def _check_metrics(metrics, shape):
    """The objective, norm and loss of a state. They are not negative, and NaN before the first epoch."""
    check_array(metrics, "checkpoint.metrics", shape, np.dtype(np.float64))
    expect(not (metrics < 0).any(), "checkpoint.metrics", "not be negative", metrics)


def check_names(names, d):
    """The names of d columns, or None."""
    if names is None:
        return
    if type(names) is not tuple or len(names) != d or not all(isinstance(name, str) for name in names):
        refuse("feature_names", f"be {d} texts, or None", names)


def _parameters(checkpoint, d):
    """How many parameters there are, with the intercept."""
    fitted = checkpoint.fit_intercept
    expect(type(fitted) is bool, "checkpoint.fit_intercept", "be True or False", fitted)
    return d + fitted
