"""What a whole result and a whole reduction are: types, shapes and ranges of their parts, and how these go together.

What is loaded, unpickled, merged or given as `init` is checked here, and nowhere else. Everything raises ValueError.
"""

from __future__ import annotations

import math
import sys

import numpy as np

from .._validation import pass_on, restore_generator

_FLOATS = (np.dtype(np.float64), np.dtype(np.float32))
_STATUSES = ("completed", "converged", "stopped", "diverged")


# Results


def check_result(result):
    """Refuses a FitResult whose parts are not what they should be, or disagree with each other."""
    check_parts(result)
    _check_agreement(result)


def check_init(init, epochs):
    """Refuses a result that so many epochs more can't go on from."""
    try:
        check_result(init)
    except ValueError as error:
        pass_on(error)
        raise ValueError(
            f"init's checkpoint does not go with its coefficients, or with something else in it: {error}; fit again"
        ) from None
    if epochs > sys.maxsize - init.epochs:
        most = sys.maxsize - init.epochs
        raise ValueError(f"epochs must be at most {most} after the {init.epochs} of init, got {epochs}")


def check_parts(result):
    """Refuses a FitResult of parts of the wrong type, shape or range; they may still disagree in value, as where the
    coefficients were put into other units for display."""
    try:
        if isinstance(result.epochs, np.ndarray):
            _check_many(result)
        else:
            _check_one(result)
    except AttributeError as error:
        pass_on(error)
        raise ValueError(f"a part is missing, or of another kind ({error})") from None


def _check_one(result):
    """One fit, of `d` features and `slot` targets."""
    was, coef = result.checkpoint, result.coef
    right = isinstance(coef, np.ndarray) and coef.ndim in (1, 2) and coef.size and coef.dtype in _FLOATS
    _expect(right, "coef", "be a (d,) or (d, k) array of float32 or float64", coef)
    dtype, slot, d = coef.dtype, coef.shape[1:], len(coef)
    p, k = _parameters(was, d), slot[0] if slot else 1
    _check_array(coef, "coef", (d, *slot), dtype, finite=True)
    _check_array(result.velocity, "velocity", (p, *slot), dtype)
    _check_intercept(result.intercept, "intercept", was.fit_intercept, slot, dtype)
    _check_numbers(result.loss, "loss", slot)
    if result.optimal_loss is not None:
        _check_numbers(result.optimal_loss, "optimal_loss", slot)
    _check_constants(result)
    _check_shared(result, d)

    epochs = _check_count(result.epochs, "epochs")
    _check_count(was.epoch, "checkpoint.epoch", epochs, epochs)
    updates = _check_count(was.updates, "checkpoint.updates", epochs, sys.maxsize if epochs else 0)
    _expect(result.method in ("direct", "compress"), "method", "be 'direct' or 'compress'", result.method)
    inner = np.dtype(np.float64) if result.method == "compress" else dtype
    _check_array(was.parameters, "checkpoint.parameters", (2, p, k), inner)
    _expect(np.isfinite(was.parameters[0]).all(), "checkpoint.parameters", "be finite", "NaN or infinity")
    _check_metrics(was.metrics, (3, k))
    _check_average(result, (p, k), updates)
    _check_validation(result, (p, k), inner)
    if was.generator is not None:
        _check_generator(was.generator, "checkpoint.generator")
    if was.split is not None:
        _check_split(was)
    _check_history(result.history, was, epochs, updates, p, slot, dtype)


def _check_shared(result, d):
    """What one fit and many have alike."""
    names, was = result.feature_names, result.checkpoint
    _check_names(names, d)
    _expect(was.record is None or (isinstance(was.record, str) and was.record in ("all", "loss", "updates")),
            "checkpoint.record", "be 'all', 'loss', 'updates' or None", was.record)  # fmt: skip
    _check_count(was.record_every, "checkpoint.record_every", 1)


def _check_constants(result):
    """lr, momentum and dampening."""
    _expect(isinstance(result.status, str) and result.status in _STATUSES, "status", "be a Status", result.status)
    for name, high in (("lr", math.inf), ("momentum", 1), ("dampening", 1)):
        value = getattr(result, name)
        if not isinstance(value, float) or not 0 <= value <= high or value == math.inf:
            _refuse(name, f"be a finite float from 0 to {high}", value)


def _check_average(result, shape, updates):
    """The averages."""
    was, coef = result.checkpoint, result.coef
    _check_count(was.averaged, "checkpoint.averaged", 0, updates if was.average is not None else 0)
    missing = [part is None for part in (was.average, result.average_coef, result.average_intercept)]
    _expect(len(set(missing)) == 1, "averages", "be all there or all None", missing)
    if was.average is not None:
        _check_array(was.average, "checkpoint.average", shape, np.dtype(np.float64))
        _check_array(result.average_coef, "average_coef", coef.shape, coef.dtype)
        _check_intercept(
            result.average_intercept, "average_intercept", was.fit_intercept, coef.shape[1:], coef.dtype, finite=False
        )


def _check_validation(result, shape, dtype):
    """The best epoch, and how long ago that was: every epoch was validated, or none."""
    was = result.checkpoint
    last = -1 if was.best is None else result.epochs - 1
    best_epoch = _check_count(was.best_epoch, "checkpoint.best_epoch", -1, last)
    expected = None if best_epoch < 0 else best_epoch
    if type(result.best_epoch) is not type(expected) or result.best_epoch != expected:
        _refuse("best_epoch", f"be {expected}, as the checkpoint has it", result.best_epoch)
    waited = 0 if was.best is None else result.epochs - 1 - best_epoch
    _check_count(was.waited, "checkpoint.waited", waited, waited)
    loss = was.best_loss
    right = isinstance(loss, float) and (0 <= loss < math.inf if best_epoch >= 0 else loss == math.inf)
    _expect(right, "checkpoint.best_loss", "be a finite float where there is a best epoch, else infinity", loss)
    if was.best is not None:
        _check_array(was.best, "checkpoint.best", shape, dtype, finite=True)


def _check_history(history, was, epochs, updates, p, slot, dtype):
    """The histories: a row for each epoch, or update, that `record_every` divides."""
    every = was.record_every
    per_epoch = 0 if was.record is None else -(-epochs // every)
    rows = -(-updates // every) if was.record == "updates" else per_epoch
    epoch = history.epoch
    if not isinstance(epoch, np.ndarray) or epoch.dtype.kind != "i" or epoch.shape != (rows,):
        _refuse("history.epoch", f"be {rows} integers", epoch)
    if was.record == "updates":
        right = not rows or (epoch[0] == 0 and epoch[-1] < epochs and (epoch[1:] >= epoch[:-1]).all())
        _expect(right, "history.epoch", "rise from 0 to the last epoch at most", epoch)
    else:
        _expect((epoch == np.arange(rows) * every).all(), "history.epoch", "be every record_every-th epoch", epoch)
    _check_rows(history.loss, "history.loss", (rows, *slot), dtype, was.record is not None, finite=True)
    for name in ("grad", "step", "coef"):
        kept = was.record in ("all", "updates")
        _check_rows(getattr(history, name), f"history.{name}", (rows, p, *slot), dtype, kept, finite=name == "coef")
    validates = was.best is not None and was.record is not None
    _check_rows(history.val_loss, "history.val_loss", (per_epoch, *slot), dtype, validates, finite=False)


def _check_rows(array, name, shape, dtype, kept, finite):
    """One history, which is None where it is not kept."""
    if kept:
        _check_array(array, name, shape, dtype, finite=finite)
    else:
        _expect(array is None, name, "be None, as it was not recorded", array)


def _check_split(was):
    """How the generator chose the validation rows."""
    split = was.split
    right = isinstance(split, dict) and split.keys() == {"state", "fraction"} and isinstance(split["fraction"], float)
    right = right and 0 < split["fraction"] < 1 and was.generator is not None and was.best is not None
    _expect(right, "checkpoint.split", "have a state and a fraction in (0, 1), beside a generator and a best", split)
    _check_generator(split["state"], "checkpoint.split")
    kinds = split["state"]["bit_generator"], was.generator["bit_generator"]
    _expect(kinds[0] == kinds[1], "checkpoint.split", f"be of the generator's kind, {kinds[1]}", kinds[0])


def _check_generator(state, name):
    """The state of a row generator. One of a kind that is not numpy's is nothing to go on from, and passes."""
    right = isinstance(state, dict) and isinstance(state.get("bit_generator"), str)
    _expect(right, name, "be the state of a bit generator", state)
    if hasattr(np.random, state["bit_generator"]):
        restore_generator(state, name)


def _check_many(result):
    """The fits of `fit_many`, all arrays of which lead with the axis of the fits."""
    was, history, epochs, coef = result.checkpoint, result.history, result.epochs, result.coef
    _expect(epochs.dtype.kind == "i" and epochs.ndim == 1 and epochs.size and epochs.min() >= 0,
            "epochs", "be a (fits,) array of counts", epochs)  # fmt: skip
    fits = len(epochs)
    _expect(isinstance(coef, np.ndarray) and coef.ndim == 2 and coef.shape[1] and coef.dtype in _FLOATS,
            "coef", "be a (fits, d) array of floats", coef)  # fmt: skip
    dtype, d = coef.dtype, coef.shape[1]
    p = _parameters(was, d)
    _check_array(coef, "coef", (fits, d), dtype, finite=True)
    _check_array(result.velocity, "velocity", (fits, p), dtype)
    _check_array(result.intercept, "intercept", (fits,), dtype, finite=True)
    _expect(was.fit_intercept or not result.intercept.any(), "intercept", "be 0 without one", result.intercept)
    _check_numbers(result.loss, "loss", (fits,))
    _expect(isinstance(result.status, np.ndarray) and result.status.shape == (fits,)
            and result.status.dtype.kind == "U" and np.isin(result.status, _STATUSES).all(),
            "status", "be a (fits,) array of statuses", result.status)  # fmt: skip
    for name, high in (("lr", math.inf), ("momentum", 1), ("dampening", 1)):
        value = getattr(result, name)
        _check_array(value, name, (fits,), np.dtype(np.float64), finite=True)
        if (value < 0).any() or (value > high).any():
            _refuse(name, f"be from 0 to {high}", value)
    _check_shared(result, d)
    _expect(was.record != "updates", "checkpoint.record", "be 'all', 'loss' or None of many fits", was.record)
    for name in ("epoch", "updates"):
        value = getattr(was, name)
        right = isinstance(value, np.ndarray) and value.dtype.kind == "i" and np.array_equal(value, epochs)
        _expect(right, f"checkpoint.{name}", "be the epochs", value)
    _check_array(was.parameters, "checkpoint.parameters", (fits, 2, p, 1), dtype)
    _check_metrics(was.metrics, (fits, 3, 1))
    absent = (result.best_epoch, result.average_coef, result.average_intercept, result.optimal_loss, was.average,
              was.best, was.generator, was.split, history.val_loss)  # fmt: skip
    _expect(all(part is None for part in absent), "what one fit alone has", "be None of many fits", "something else")
    rest = was.averaged, was.best_epoch, was.waited, was.best_loss, result.method
    _expect(rest == (0, -1, 0, math.inf, "direct"), "what one fit alone has", "be unset of many fits", rest)

    rows = len(history.epoch) if isinstance(history.epoch, np.ndarray) and history.epoch.ndim == 1 else 0
    every = was.record_every
    right = np.array_equal(history.epoch, np.arange(rows) * every) and isinstance(history.epoch, np.ndarray)
    right = right and history.epoch.dtype.kind == "i"
    _expect(right, "history.epoch", "be every record_every-th epoch", history.epoch)
    needed = 0 if was.record is None else int(epochs.max() // every + (epochs.max() % every > 0))
    _expect(rows >= needed and (was.record is not None or not rows), "history", "have a row for each epoch", rows)
    written = history.epoch < epochs[:, np.newaxis]
    _check_rows(history.loss, "history.loss", (fits, rows), dtype, was.record is not None, finite=False)
    right = history.loss is None or (np.isfinite(history.loss) == written).all()
    _expect(right, "history.loss", "be finite in the epochs done, and only there", "something else")
    for name in ("grad", "step", "coef"):
        kept = was.record == "all"
        _check_rows(getattr(history, name), f"history.{name}", (fits, rows, p), dtype, kept, finite=False)


def _check_agreement(result):
    """What a result shows is what its checkpoint goes on from, to the bit."""
    was, coef = result.checkpoint, result.coef
    d, parameters = coef.shape[-1] if isinstance(result.epochs, np.ndarray) else len(coef), was.parameters
    shown = [(result.velocity, parameters[..., 1, :, :], "velocity")]
    at = parameters[..., 0, :, :]
    if was.best_epoch >= 0 and not _same(coef, at[..., :d, :]):  # with patience
        at = was.best
    shown += [(coef, at[..., :d, :], "coef")]
    if was.fit_intercept:
        shown += [(result.intercept, at[..., d, :], "intercept")]
    if was.average is not None:
        average = was.average if was.averaged else parameters[0]
        shown += [(result.average_coef, average[:d], "average_coef")]
        if was.fit_intercept:
            shown += [(result.average_intercept, average[d], "average_intercept")]
    for part, kept, name in shown:
        _expect(_same(part, kept), name, "be that of the checkpoint", part)


def _same(part, kept):
    """Whether they have the same bits, once what is kept has the dtype of what is shown."""
    return np.asarray(part).tobytes() == kept.astype(part.dtype, copy=False).tobytes()


# Reductions


def check_reduction(reduced, *, weighty=True):
    """Refuses a Compressed whose parts are not what they should be, or don't go together. weighty: whether the sum of
    its weights must be positive; that of some of the rows may be 0."""
    try:
        _check_reduction(reduced, weighty)
    except AttributeError as error:
        pass_on(error)
        raise ValueError(f"a part is missing, or of another kind ({error})") from None


def _check_reduction(reduced, weighty):
    d, slot = _check_count(reduced.n_features, "n_features", 1), reduced.slot
    _expect(type(slot) is tuple and len(slot) <= 1, "slot", "be () or (k,)", slot)
    k = _check_count(slot[0], "slot", 1) if slot else 1
    _expect(type(reduced.fit_intercept) is bool, "fit_intercept", "be True or False", reduced.fit_intercept)
    right = isinstance(reduced.dtype, np.dtype) and reduced.dtype in _FLOATS
    _expect(right, "dtype", "be float32 or float64", reduced.dtype)
    _check_names(reduced.feature_names, d)
    _check_count(reduced.n_rows, "n_rows", 1)
    total = reduced.total_weight
    if not isinstance(total, float) or not (total > 0 if weighty else total >= 0) or total == math.inf:
        _refuse("total_weight", f"be a {'positive' if weighty else 'non-negative'}, finite float", total)
    _check_factor(reduced.R, "R", d + reduced.fit_intercept + k)


def _check_factor(R, name, q, leaf=False):
    """A triangular factor of q columns; that of a leaf may have fewer rows, and a diagonal of any sign."""
    rows = len(R) if leaf and isinstance(R, np.ndarray) and R.ndim == 2 and 0 < len(R) < q else q
    _check_array(R, name, (rows, q), np.dtype(np.float64), finite=True)
    right = not np.tril(R, -1).any() and (leaf or (np.diagonal(R) >= 0).all())
    _expect(right, name, "be upper triangular, with no negative number on its diagonal", "another matrix")


def check_levels(levels, n_leaves, n_rows):
    """Refuses the levels [(height, R)] of a tree that doesn't hold so many leaves, of so many rows or fewer."""
    leaves = 0
    last = 62  # 2**62 leaves are more than there are
    for height, _ in levels:
        _check_count(height, "heights", 0, last)
        last = height - 1
        leaves += 2**height
    if not levels or type(n_leaves) is not int or leaves != n_leaves:
        _refuse("n_leaves", f"be {leaves}, as the heights say", n_leaves)
    _check_count(n_rows, "n_rows", n_leaves)
    q = levels[0][1].shape[-1] if isinstance(levels[0][1], np.ndarray) and levels[0][1].ndim else 0
    for height, R in levels:
        _check_factor(R, f"R of height {height}", q, leaf=not height)


# What both have


def _expect(right, name, expected, got):
    if not right:
        _refuse(name, expected, got)


def _refuse(name, expected, got):
    if isinstance(got, np.ndarray) and got.size > 1:
        got = f"an array of shape {got.shape} and dtype {got.dtype}"
    raise ValueError(f"{name} must {expected}, got {got!r:.80}")


def _check_array(array, name, shape, dtype, finite=False):
    if not isinstance(array, np.ndarray) or array.shape != shape or array.dtype != dtype:
        _refuse(name, f"be an array of shape {shape} and dtype {dtype}", array)
    if finite and not np.isfinite(array).all():
        _refuse(name, "be finite", "NaN or infinity")


def _check_count(value, name, low=0, high=sys.maxsize):
    """An int, and no bool, of this range."""
    if type(value) is not int or not low <= value <= high:
        _refuse(name, f"be an int from {low} to {high}", value)
    return value


def _check_numbers(value, name, slot):
    """A loss: one for each target, not negative; it may have overflowed, or be NaN where there was no epoch."""
    right = isinstance(value, (np.ndarray, np.floating, float)) and np.shape(value) == slot
    if not right or np.asarray(value).dtype not in _FLOATS or np.any(np.asarray(value) < 0):
        _refuse(name, f"be of shape {slot}, floats and not negative", value)


def _check_intercept(value, name, fitted, slot, dtype, finite=True):
    """A number for each target, or 0.0 without one."""
    if not fitted:
        _expect(type(value) is float and value == 0, name, "be 0.0 without one", value)
        return
    if not isinstance(value, (np.ndarray, np.floating)) or value.shape != slot or value.dtype != dtype:
        _refuse(name, f"be of shape {slot} and dtype {dtype}", value)
    if finite and not np.isfinite(value).all():
        _refuse(name, "be finite", value)


def _check_metrics(metrics, shape):
    """An objective, a norm and a loss: none is negative, and they are NaN before the first epoch."""
    _check_array(metrics, "checkpoint.metrics", shape, np.dtype(np.float64))
    _expect(not (metrics < 0).any(), "checkpoint.metrics", "not be negative", metrics)


def _check_names(names, d):
    if names is None:
        return
    if type(names) is not tuple or len(names) != d or not all(isinstance(name, str) for name in names):
        _refuse("feature_names", f"be {d} texts, or None", names)


def _parameters(was, d):
    """How many parameters there are, with the intercept."""
    _expect(type(was.fit_intercept) is bool, "checkpoint.fit_intercept", "be True or False", was.fit_intercept)
    return d + was.fit_intercept
