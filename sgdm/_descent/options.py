"""The options of a fit, checked before a row is read."""

import operator
import sys

import numpy as np

from .._kernel import Options as KernelOptions
from .._results.checkpoint import restore_generator
from .._results.checks import check_init
from .._results.many import FitResults
from .._validation import as_count, as_flag, as_number, as_penalty, as_series, as_threads, ceil_div, raise_if_foreign
from .curvature import batch_curvature
from .scaling import as_standardize, scaling_for
from .tuning import auto_rates, steady_rates


class Options(KernelOptions):
    """What `fit` is asked, but the data: the arguments of the same names, checked.

    The kernel's attributes are those that the epoch loop reads. `rates` are None until `choose_rates` for lr="auto".

    Attributes
    ----------
    auto : bool
        Whether lr is "auto".
    momentum, dampening : float or None
        Set only for lr="auto"; None where they are to be chosen too.
    standardize : bool or Scaling
    validates : bool
        Whether there are held-out rows.
    fraction : float or None
        The fraction of the rows to hold out, as given.
    generator, split
        The row generator, and its state before it chose the held-out rows; see `State`.
    """

    __slots__ = (  # five times as fast to set as a dict
        "auto", "callback", "callback_every", "coef0", "dampening", "epochs", "fit_intercept", "fraction",
        "generator", "init", "method", "momentum", "n_threads", "progress", "record", "record_every", "split",
        "standardize", "validates",
    )  # fmt: skip

    def __init__(
        self, lr, momentum, epochs, dampening, nesterov, weight_decay, l1, standardize, fit_intercept, coef0, init,
        batch_size, shuffle, seed, average, tol, validates, fraction, patience, record, record_every, callback,
        callback_every, progress, method, n_threads,
    ):  # fmt: skip
        self.fit_intercept = as_flag(fit_intercept, "fit_intercept")
        self.epochs, self.n_threads = as_count(epochs, "epochs"), as_threads(n_threads)
        check_start(init, coef0, self.epochs)
        self.coef0, self.init, self.auto, self.method = coef0, init, is_auto(lr), method
        check_method(self, batch_size)
        shuffle = as_flag(shuffle, "shuffle") and batch_size is not None
        self.validates, self.fraction = validates, fraction
        self.generator, self.split = as_generator(seed, init, shuffle, fraction)
        self.record, self.record_every = as_record(record), as_count(record_every, "record_every")
        check_callback(callback, callback_every)
        self.callback, self.callback_every = callback, as_count(callback_every, "callback_every")
        self.progress = as_flag(progress, "progress")
        self.standardize = as_standardize(standardize)
        start, l1 = 0 if init is None else init.epochs, as_penalty(l1, "l1")
        if self.auto:
            rates = None
            self.momentum, self.dampening = as_auto_constants(momentum, dampening)
        elif is_auto(momentum):
            raise ValueError(
                'momentum="auto" needs lr="auto": both are chosen together; or give the momentum as a number'
            )
        else:
            rates = as_rates(lr, momentum, dampening, self.epochs, start)
        tol, patience, improvement = as_stopping_rule(tol, patience, batch_size, validates)
        nesterov, weight_decay = as_flag(nesterov, "nesterov"), as_penalty(weight_decay, "weight_decay")
        batch_size = 0 if batch_size is None else as_count(batch_size, "batch_size")
        average_from = as_average(average)
        super().__init__(
            rates, nesterov, weight_decay, l1, tol, start, batch_size, average_from, patience, improvement, shuffle
        )

    def scale(self, problem):
        """Sets the problem's scaling, and refuses penalties of another number of columns."""
        if type(self.weight_decay) is not float:
            as_penalty(self.weight_decay, "weight_decay", problem.features)
        if type(self.l1) is not float:
            as_penalty(self.l1, "l1", problem.features)
        problem.scaling = scaling_for(problem, self.standardize)

    def choose_rates(self, problem):
        """Sets the rates for lr="auto"."""
        form = self.momentum, self.dampening, self.nesterov
        if self.batch_size:
            constants = steady_rates(batch_curvature(problem, self.weight_decay, self.batch_size), *form)
        else:
            largest, smallest = problem.reduction._curvature_range(self.weight_decay, problem.scaling)
            constants = (
                steady_rates(largest, *form) if self.patience else auto_rates(largest, smallest, self.epochs, *form)
            )
        self.set_rates(as_rates(*constants, self.epochs, self.start))

    def rates_at(self, epoch):
        """lr, momentum and 1 - dampening of an epoch, or of the nearest one that this call does."""
        rates = self.rates
        if isinstance(rates, tuple):
            return rates
        return tuple(rates[max(0, min(epoch - self.start, len(rates) - 1))].tolist())

    def updates_per_epoch(self, problem):
        """How many updates an epoch over the problem's rows has."""
        return ceil_div(problem.n, self.batch_size) if self.batch_size else 1


def is_auto(value):
    """Whether an option is "auto"; comparing an array would not give a bool."""
    return isinstance(value, str) and value == "auto"


def as_auto_constants(momentum, dampening):
    """momentum and dampening for lr="auto": numbers, or None where they are to be chosen too."""
    chosen = momentum is None or is_auto(momentum)
    momentum = None if chosen else as_number(momentum, "momentum", 1, below=True)
    return momentum, None if dampening is None else as_number(dampening, "dampening", 1)


def as_rates(lr, momentum, dampening, epochs, start):
    """lr, momentum and 1 - dampening, for all epochs or (epochs, 3), as the kernel's Options take them."""
    lr = as_series(lr, "lr", epochs, start=start)
    momentum = as_series(momentum, "momentum", epochs, start=start, high=1, below=True)
    gradient_weight = 1 - (momentum if dampening is None else as_number(dampening, "dampening", 1))
    if type(lr) is float and type(momentum) is float:
        return lr, momentum, gradient_weight
    rates = np.empty((epochs, 3))
    rates[:, 0], rates[:, 1], rates[:, 2] = lr, momentum, gradient_weight
    return rates


def as_average(average):
    """The epoch from which on to average: 0 for True, -1 for False."""
    if isinstance(average, (bool, np.bool_)):
        return 0 if average else -1
    try:
        start = operator.index(average)
    except TypeError as error:
        raise_if_foreign(error)
        raise TypeError(f"average must be True, False or the epoch to start at, got {average!r}") from None
    if not 0 <= start <= sys.maxsize:
        most = " and at most sys.maxsize" if start > 0 else ""
        raise ValueError(f"average must start at epoch 0 or later{most}, got {start}")
    return start


def as_record(record):
    """What the history holds."""
    if record is not None and not (isinstance(record, str) and record in ("all", "loss", "updates")):
        raise ValueError(f"record must be 'all', 'loss', 'updates' or None, got {record!r}")
    return record


def as_generator(seed, init, shuffle, fraction):
    """The row generator and its split (see `State`), each None without random rows."""
    random = shuffle or fraction is not None
    resumed = None if init is None else init.checkpoint.generator
    if seed is not None and not random:
        raise ValueError("seed has no effect here: it needs batch_size with shuffle=True, or a fraction as validation")
    if seed is not None and resumed is not None:
        raise ValueError("init and seed both set the row generator; leave seed out to go on as init did")
    if not random:
        return None, None
    if resumed is not None:
        split = init.checkpoint.split
        expected = split and split["fraction"]
        if fraction is not None and fraction != expected:
            raise ValueError(f"validation must be given as for init, whose fraction was {expected}, got {fraction!r}")
        return restore_generator(resumed), split
    if isinstance(seed, (bool, np.bool_)):
        raise TypeError(f"seed must be an int, a SeedSequence or a Generator, got {seed!r}")
    try:
        generator = np.random.default_rng(seed)
    except (TypeError, ValueError) as error:
        raise_if_foreign(error)
        raise type(error)(
            f"seed must be an int of at least 0, a SeedSequence or a Generator, got {seed!r:.80} ({error})"
        ) from None
    if fraction is None:
        return generator, None
    fraction = as_number(fraction, "validation", 1, below=True)
    return generator, {"state": generator.bit_generator.state, "fraction": fraction}


def check_start(init, coef0, epochs):
    """Refuses an `init` that can't be continued, or a second start."""
    if init is None:
        return
    if not hasattr(init, "checkpoint"):
        raise TypeError(f"init must be a FitResult, got {init!r:.80}")
    if isinstance(init, FitResults):
        raise ValueError("init must be one fit, got the many of fit_many; take init[i]")
    if coef0 is not None:
        raise ValueError("init and coef0 both say where to start; give one of them")
    check_init(init, epochs)


def as_method(method):
    """Whether to descend on the rows or on their reduction."""
    if not isinstance(method, str) or method not in ("auto", "direct", "compress"):
        raise ValueError(f"method must be 'auto', 'direct' or 'compress', got {method!r}")
    return method


def check_method(options, batch_size):
    """Refuses an unknown method, and options that exclude each other where the rows are reduced."""
    method, auto = as_method(options.method), options.auto
    if auto and options.init is not None:
        raise ValueError("lr='auto' and init don't go together: they would change the constants; give init's lr")
    if batch_size is not None and method == "compress":
        refuse_batches("method='compress'")


def refuse_batches(other):
    """Raises ValueError: `other` reduces the rows that batches are made of."""
    raise ValueError(f"batch_size and {other} don't go together: batches need the rows")


def as_stopping_rule(tol, patience, batch_size, validates):
    """tol, patience and improvement as the kernel's Options take them. With patience, tol is the improvement."""
    if patience is not None and not validates:
        raise ValueError("patience needs validation rows to watch; give validation, or tol without patience")
    if tol is not None and patience is None and batch_size is not None:
        raise ValueError(
            "tol and batch_size don't go together: a batch's gradient is too noisy to stop by; "
            "use validation with patience"
        )
    if patience is None:
        return -1.0 if tol is None else as_number(tol, "tol"), 0, 0.0
    return -1.0, as_count(patience, "patience"), 0.0 if tol is None else as_number(tol, "tol", 1, below=True)


def check_callback(callback, callback_every):
    """Refuses a callback that can't be called, and an interval without a callback."""
    if callback is not None and not callable(callback):
        raise TypeError(f"callback must be a function, got {callback!r:.80}")
    if callback is None and callback_every != 1:
        raise ValueError("callback_every needs a callback")
