"""Whether a fit descends on the rows or on their reduction, and the problem it then has."""

from .._descent.options import refuse_batches
from .._descent.state import as_start
from .._results.status import attach_result
from .compress import check_total
from .compressed import Compressed
from .leaves import Reduction

# Nanoseconds, measured for n of 10 000 to 1 000 000 and d of 10 to 200 by bench/test_compress.py, at levels v3 and v4.
# We reduce only if that takes at most half of the direct time, and the direct time exceeds _NOTICED_NS.
EPOCH_NS = 0.27  # for an element of X in an epoch
_UPDATE_NS = 80  # for an epoch without any rows
# A reduction without any rows, an element of a row, and the product of two elements: between what reflections take and
# what Gram matrices take.
REDUCE_NS = 500, 0.9, 0.046
_LANE_NS = 60, 0.6, 0.075  # for each of the fits that are reduced in lanes
_NOTICED_NS = 5e7


def as_reduced_problems(X, y, sample_weight, validation, options):
    """The problem of a fit to a Compressed, and that of its held-out rows, another Compressed, or None."""
    if y is not None or sample_weight is not None or options.fit_intercept or options.method == "direct":
        raise ValueError(
            "a Compressed holds y, sample_weight and fit_intercept already, and no rows for method='direct'; "
            "leave them out"
        )
    if options.batch_size:
        refuse_batches("a Compressed")
    problem, held_out = X._problem(), None
    if validation is not None:
        held_out = validation._problem() if isinstance(validation, Compressed) else None
        if held_out is None or validation._kind() != X._kind():
            raise ValueError(f"validation of a Compressed must be another of the same kind, got {validation!r:.80}")
    expected = None if options.init is None else options.init.feature_names
    if expected is not None and problem.feature_names not in (None, expected):
        raise ValueError(f"X must have the columns of init, in their order: {expected}, got {problem.feature_names}")
    problem.feature_names = expected or problem.feature_names
    return problem, held_out


def reduce_rows(problem, held_out, options):
    """The problems to descend on: the reductions of both where these are asked for or faster, else both as they are.

    For lr="auto" the problem has its reduction in any case, unless there are batches.
    """
    reduces = chooses_reduction(problem, options)
    if not reduces and (not options.auto or options.batch_size):
        return problem, held_out
    as_start(options.coef0, problem)  # which refuses a wrong start before the rows are reduced
    reduction = reduce_problem(problem, options.n_threads)
    if not reduces:
        problem.reduction = reduction
        return problem, held_out
    if held_out is not None:
        held_out = reduce_problem(held_out, options.n_threads)._problem()
    return reduction._problem(), held_out


def chooses_reduction(problem, options):
    """Whether the descent runs on the reduction of the rows."""
    if options.method != "auto":
        return options.method == "compress"
    if options.batch_size:
        return False
    if options.init is not None:
        return options.init.method == "compress"
    return options.auto or reducing_is_faster(problem, options.epochs)


def reduction_ns(n, q, in_lanes=False):
    """How long it takes to reduce n rows of q columns."""
    start, element, product = _LANE_NS if in_lanes else REDUCE_NS
    return start + n * q * (element + product * q)


def reducing_is_faster(problem, epochs, reduction=None, fits=1, together=1):
    """Whether reducing the rows first is clearly faster than all epochs over them, for so many fits like this one.

    reduction: how many ns it takes, if it is not that of the problem's rows. together: how many fits descend at once.
    """
    n, p, k, q = problem.n, problem.p, problem.k, problem.p + problem.k
    updates = fits * epochs
    direct = updates * (_UPDATE_NS + n * p * k * EPOCH_NS)
    if direct <= _NOTICED_NS:
        return False
    reduction = reduction_ns(n, q) if reduction is None else reduction
    return direct > 2 * (reduction + updates * (_UPDATE_NS / together + q * p * k * EPOCH_NS))


def reduce_problem(problem, n_threads):
    """The reduction of checked rows."""
    reduction = Reduction(problem.fit_intercept, problem.feature_names)
    try:
        reduction.take(reduction.leaves_of(problem), n_threads)
        return check_total(reduction.result())
    except BaseException as stop:
        attach_result(stop, None)  # a fit has no result before it descends
        raise
