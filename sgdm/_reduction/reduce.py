"""Which problem a fit descends on, the rows or their reduction, and with which constants for lr="auto"."""

from __future__ import annotations

from contextlib import suppress

import numpy as np

from .._descent.tuning import auto_rates
from .._validation import as_number, as_problem, as_validation
from .compress import compress
from .compressed import Compressed

# Nanoseconds, measured over n of 10 000 to 1 000 000 and d of 10 to 200 by bench/test_compress.py: an epoch over an
# element of X, reducing an element of a row, and a product of two. Reducing has to pay twice over, and to save
# something one would notice.
_EPOCH_NS, _REDUCE_NS, _PRODUCT_NS, _NOTICED_NS = 0.27, 3.3, 0.073, 5e7


def pays(problem, epochs):
    """Whether reducing the rows first is clearly faster than so many epochs over them."""
    q = problem.p + problem.k
    direct = epochs * problem.n * problem.p * problem.k * _EPOCH_NS
    if direct <= _NOTICED_NS:
        return False
    reduced = problem.n * q * (_REDUCE_NS + _PRODUCT_NS * q) + epochs * q * problem.p * problem.k * _EPOCH_NS
    return direct > 2 * reduced


def reduce_problem(problem, slot, n_threads):
    """`compress` of data that are validated already."""
    X = problem.lines.T if problem.by_columns else problem.lines
    y = problem.targets.T.reshape(problem.n, *slot)
    try:
        return compress(X, y, sample_weight=problem.weights, fit_intercept=problem.fit_intercept, n_threads=n_threads)
    except BaseException as stop:
        with suppress(AttributeError):
            stop.result = None  # type: ignore[attr-defined]  # of a fit, which has not begun
        raise


def check_method(method, X, batch_size, init, auto_lr):
    """Refuses a method of another name, and what does not go together with reducing the rows."""
    if not isinstance(method, str) or method not in ("auto", "direct", "compress"):
        raise ValueError(f"method must be 'auto', 'direct' or 'compress', got {method!r}")
    if auto_lr and init is not None:
        raise ValueError("lr='auto' and init don't go together: they would change the constants; give init's lr")
    if batch_size is not None and (auto_lr or method == "compress" or isinstance(X, Compressed)):
        other = "lr='auto'" if auto_lr else "method='compress'" if method == "compress" else "a Compressed"
        raise ValueError(f"batch_size and {other} don't go together: batches need the rows")


def check_data(X, y, sample_weight, fit_intercept, validation, method, names):
    """The problem of the data, the held-out one or None, and the shape of one target's slot."""
    if not isinstance(X, Compressed):
        if isinstance(validation, Compressed):
            raise TypeError("validation can only be a Compressed where X is one")
        problem, slot = as_problem(X, y, sample_weight, fit_intercept)
        return problem, None if validation is None else as_validation(validation, problem, slot, names), slot
    if y is not None or sample_weight is not None or fit_intercept or method == "direct":
        raise ValueError(
            "a Compressed holds y, sample_weight and fit_intercept already, and no rows for method='direct'; "
            "leave them out"
        )
    problem = X._problem()
    held_out = validation._problem() if isinstance(validation, Compressed) else None
    if validation is not None and (held_out is None or validation._kind() != X._kind()):
        raise ValueError(f"validation of a Compressed must be another of the same kind, got {validation!r:.80}")
    return problem, held_out, X.slot


def choose_method(method, problem, batch_size, epochs, init, auto_lr):
    """What method="auto" stands for: "direct" or "compress"."""
    if method != "auto":
        return method
    if batch_size is not None:
        return "direct"
    if init is not None:
        return init.method
    return "compress" if auto_lr or pays(problem, epochs) else "direct"


def choose_rates(reduced, epochs, momentum, dampening, nesterov, weight_decay):
    """lr, momentum and dampening for lr="auto" on a reduced problem; momentum and dampening as of `as_momentum`."""
    return auto_rates(*curvature_range(reduced, weight_decay), epochs, momentum, dampening, nesterov)


def as_momentum(momentum, dampening):
    """momentum and dampening, each None where lr="auto" is to choose it."""
    auto = momentum is None or (isinstance(momentum, str) and momentum == "auto")
    momentum = None if auto else as_number(momentum, "momentum", 1, below=True)
    return momentum, None if dampening is None else as_number(dampening, "dampening", 1)


def curvature_range(reduced, weight_decay):
    """The largest and the smallest eigenvalue of the Hessian of the objective."""
    with np.errstate(all="ignore"):
        values = reduced._spectrum(as_number(weight_decay, "weight_decay"))
    return values[0], values[-1]
