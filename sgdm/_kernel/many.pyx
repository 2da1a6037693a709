"""Many fits: by the epoch loop, one after another, or small reduced ones by arithmetic/lanes.h, eight at a time."""

import numpy as np

from cython cimport floating
from libc.string cimport memcpy, memset

from .checks cimport check_fits, check_history, check_shape
from .descent cimport COMPLETED, Outcome, descend, losses_at
from .nouns cimport COLUMN_TERMS, INITIAL_NORM, INITIAL_OBJECTIVE, LAST_LOSS, METRICS, Options, Problem, Record, State
from .rows cimport PASS, SGDM_FITS, SGDM_MOST_PARAMETERS, Fits, Rows, arithmetic, set_columns, take


class Problems:
    """The data of many fits, full batches of one target.

    lines (B, n, d), or with by_columns (B, d, n); targets and weights (B, n), weights maybe None; total_weights (B,).
    What all fits share leads with 1 in place of B. one: the `Problem` of the first fit: all have its sizes. The other
    arguments are those of `Problem`.
    """

    def __init__(self, lines, by_columns, targets, weights, total_weights, fit_intercept, features=-1, triangular=False,
                 dtype=None):
        self.lines, self.by_columns, self.targets = lines, by_columns, targets
        self.weights, self.total_weights = weights, total_weights
        self.one = Problem(lines[0], by_columns, targets[:1], None, 1.0, fit_intercept, features, triangular, dtype)


class ManyOptions:
    """The constants of many fits.

    rates (B, 3): lr, momentum and 1 - dampening. penalties (B, 2): weight_decay and l1. epochs: how many each fit does.
    nesterov and tol are those of `Options`. columns: (B, COLUMN_TERMS, d), those of `Rows` for each fit; or None.
    """

    def __init__(self, rates, penalties, epochs, nesterov, tol):
        self.rates, self.penalties, self.epochs, self.nesterov, self.tol = rates, penalties, epochs, nesterov, tol
        self.columns = None


class States:
    """Where many fits stand.

    parameters (B, 2, p), metrics (B, 3) and epochs (B,) are those of `State`. outcomes (B,): an index into OUTCOMES, -1
    while there are epochs to do.
    """

    def __init__(self, parameters):
        self.parameters = parameters
        self.metrics = np.full((len(parameters), METRICS), np.nan)
        self.epochs = np.zeros(len(parameters), np.intp)
        self.outcomes = np.full(len(parameters), -1, np.int8)


cdef int check_problems(Problem first, const floating[:, :, ::1] lines, const floating[:, ::1] targets,
                        const floating[:, ::1] weights, const double[::1] total_weights, Py_ssize_t fits) except -1:
    """Refuses data that are not of the first problem's size, or fewer than there are fits."""
    cdef Py_ssize_t n = first.n, d = first.d
    if first.k != 1:
        raise ValueError(f"each fit must have one target, got {first.k}")
    check_fits("lines", lines.shape[0], fits, True)
    check_shape("lines", lines.shape[1], lines.shape[2], d if first.by_columns else n, n if first.by_columns else d)
    check_fits("targets", targets.shape[0], fits, True, targets.shape[1], n)
    if weights is not None:
        check_fits("weights", weights.shape[0], fits, True, weights.shape[1], n)
    check_fits("total_weights", total_weights.shape[0], fits, True)
    return 0


cdef inline void take_fit(Rows rows, Py_ssize_t i, const floating[:, :, ::1] lines, const floating[:, ::1] targets,
                          const floating[:, ::1] weights, const double[::1] total_weights) noexcept nogil:
    """Sets the data of fit i."""
    cdef const floating* w = NULL
    if weights is not None:
        w = &weights[i if weights.shape[0] > 1 else 0, 0]
    take(rows, &lines[i if lines.shape[0] > 1 else 0, 0, 0], &targets[i if targets.shape[0] > 1 else 0, 0], w)
    rows.total_weight = total_weights[i if total_weights.shape[0] > 1 else 0]


def losses_many(problems, parameters):
    """The mean squared error of each fit, (B,), at its parameters, (B, 2, p)."""
    loss = np.empty(len(parameters))
    if problems.lines.itemsize == 4:
        _losses_many[float](problems, problems.lines, problems.targets, problems.weights, parameters, loss)
    else:
        _losses_many[double](problems, problems.lines, problems.targets, problems.weights, parameters, loss)
    return loss


cdef int _losses_many(problems, const floating[:, :, ::1] lines, const floating[:, ::1] targets,
                      const floating[:, ::1] weights, floating[:, :, ::1] parameters, double[::1] loss) except -1:
    cdef:
        Py_ssize_t i, fits = parameters.shape[0]
        Rows rows = Rows(problems.one)
        const double[::1] total_weights = problems.total_weights
        floating[:, :, ::1] work = rows.work
        bint in_lanes = is_small_factor(problems)
        Py_ssize_t together
        Fits lanes
    check_problems(rows.problem, lines, targets, weights, total_weights, fits)
    check_shape("parameters", parameters.shape[1], parameters.shape[2], 2, rows.problem.p)
    lanes.p, lanes.first, lanes.last = rows.problem.p, 0, 0
    with nogil:
        i = 0
        while i < fits:
            together = 0
            if floating is double:
                if in_lanes and i + SGDM_FITS <= fits:
                    take_lanes(i, &lanes, lines, targets, total_weights, parameters)
                    arithmetic().descend_lanes(&lanes)
                    if lanes.overflowed == 0:
                        together = SGDM_FITS
                        memcpy(&loss[i], lanes.last_loss, sizeof(lanes.last_loss))
            if not together:
                take_fit(rows, i, lines, targets, weights, total_weights)
                losses_at(rows, work, &parameters[i, 0, 0])
                loss[i] = rows.sums[PASS, 0, rows.at_loss] / rows.total_weight
            i += max(together, 1)
    return 0


def advance_many(problems, options, states, Record record, Py_ssize_t first, Py_ssize_t last, Py_ssize_t epochs):
    """Runs up to `epochs` more epochs of each of the fits `first` to `last` that are not at their end, in place and
    without the GIL.

    record: its loss is (B, rows), its paths are (3, B, rows, p). ValueError if an array has not the room for what will
    be read or written.
    """
    cdef bint in_lanes = is_small_factor(problems) and fits_together(problems.one, options) > 1
    if problems.lines.itemsize == 4:
        _advance_many[float](problems, options, states, record, first, last, epochs, problems.lines, problems.targets,
                             problems.weights, in_lanes)
    else:
        _advance_many[double](problems, options, states, record, first, last, epochs, problems.lines,
                              problems.targets, problems.weights, in_lanes)


cdef bint is_small_factor(problems) except -1:
    """Whether arithmetic/lanes.h can read the rows of these problems."""
    cdef Problem one = problems.one
    return one.triangular and one.n == one.p + 1 <= SGDM_MOST_PARAMETERS + 1 and problems.weights is None


def fits_together(Problem one, options):
    """How many fits like this one descend at once if they are reduced: several, if they are small and have no options
    that arithmetic/lanes.h lacks."""
    lacks = options.columns is not None or options.tol >= 0 or (options.penalties[:, 1] > 0).any()
    return 1 if lacks or one.p > SGDM_MOST_PARAMETERS or one.float32_results else SGDM_FITS


cdef int _advance_many(problems, options, states, Record record, Py_ssize_t first, Py_ssize_t last, Py_ssize_t epochs,
                       const floating[:, :, ::1] lines, const floating[:, ::1] targets,
                       const floating[:, ::1] weights, bint in_lanes) except -1:
    cdef:
        Rows rows = Rows(problems.one)
        const double[::1] total_weights = problems.total_weights
        const double[:, ::1] rates = options.rates
        const double[:, ::1] penalties = options.penalties
        double[:, :, ::1] columns = options.columns
        floating[:, :, ::1] work = rows.work
        floating[:, :, ::1] all_parameters = states.parameters
        floating[:, :, :, ::1] parameters = states.parameters[..., np.newaxis]
        double[:, :, ::1] metrics = states.metrics[..., np.newaxis]
        Py_ssize_t[::1] done = states.epochs
        signed char[::1] outcomes = states.outcomes
        floating[:, :, ::1] loss = None if record.loss is None else record.loss[..., np.newaxis]
        floating[:, :, :, :, ::1] paths = None if record.paths is None else record.paths[..., np.newaxis]
        floating[:, ::1] own_loss = None, nothing = None
        floating[:, :, :, :] own_paths = None
        Options own = Options((0.0, 0.0, 1.0), options.nesterov, tol=options.tol)
        State state = State(None, None, None, None)
        Py_ssize_t total = options.epochs, i, steps
        Py_ssize_t[::1] begun = states.epochs.copy()
        Outcome outcome
        Fits fits

    if first < 0 or first > last or epochs < 0 or total < 0 or record.every < 1:
        raise ValueError(f"fits must run from 0 or later to no less, for no negative number of epochs, with every at "
                         f"least 1, got {first} to {last}, {epochs} of {total} and {record.every}")
    if record.start or record.start_update or record.per_update:
        raise ValueError("the record of many fits must begin at epoch 0 and have a row per epoch")
    check_problems(rows.problem, lines, targets, weights, total_weights, last)
    check_fits("rates", rates.shape[0], last, False, rates.shape[1], 3)
    if columns is not None:
        check_fits("columns", columns.shape[0], last, False, columns.shape[2], rows.problem.features)
        check_shape("columns", 1, columns.shape[1], 1, COLUMN_TERMS)
    check_fits("penalties", penalties.shape[0], last, False, penalties.shape[1], 2)
    check_states(rows.problem.p, parameters, metrics, done, outcomes, first, last, total)
    check_histories(rows.problem.p, loss, paths, total, record.every, last)
    fits.p, fits.features, fits.every, fits.nesterov = rows.problem.p, rows.problem.features, record.every, own.nesterov
    with nogil:
        if floating is double:
            i = first
            while in_lanes and i + SGDM_FITS <= last:
                if go_together(i, epochs, total, done, outcomes, &fits):
                    take_lanes(i, &fits, lines, targets, total_weights, all_parameters)
                    take_options(i, &fits, rates, penalties, loss, paths)
                    arithmetic().descend_lanes(&fits)
                    keep_lanes(i, &fits, total, metrics, done, outcomes)
                i += SGDM_FITS
        for i in range(first, last):
            if outcomes[i] >= 0 or done[i] > begun[i]:
                continue
            take_fit(rows, i, lines, targets, weights, total_weights)
            own.lr, own.momentum, own.gradient_weight = rates[i, 0], rates[i, 1], rates[i, 2]
            own.uniform_decay, own.uniform_l1 = penalties[i, 0], penalties[i, 1]
            if columns is not None:
                set_columns(rows, columns[i])
            state.epoch = state.updates = done[i]
            if loss is not None:
                own_loss = loss[i]
            if paths is not None:
                own_paths = paths[:, i]
            steps = min(epochs, total - state.epoch)
            outcome = descend[floating](rows, None, own, state, record, steps, NULL,
                                        work, parameters[i], nothing, None, metrics[i], own_loss, nothing, own_paths)
            done[i] = state.epoch
            if outcome != COMPLETED or state.epoch == total:
                outcomes[i] = outcome
    return 0


cdef bint go_together(Py_ssize_t first, Py_ssize_t epochs, Py_ssize_t total, Py_ssize_t[::1] done,
                      signed char[::1] outcomes, Fits* fits) noexcept nogil:
    """Whether the fits from `first` on can do the same epochs in lanes; sets which."""
    cdef Py_ssize_t i
    for i in range(first, first + SGDM_FITS):
        if outcomes[i] >= 0 or done[i] != done[first]:
            return False
    fits.first, fits.last = done[first], min(total, done[first] + epochs)
    return fits.first < fits.last


cdef void take_lanes(Py_ssize_t first, Fits* fits, const double[:, :, ::1] lines, const double[:, ::1] targets,
                     const double[::1] total_weights, double[:, :, ::1] parameters) noexcept nogil:
    """Sets the data of the fits from `first` on, with constants of 0 and without histories."""
    cdef Py_ssize_t lane, i
    memset(fits.loss, 0, sizeof(fits.loss))
    memset(fits.paths, 0, sizeof(fits.paths))
    memset(fits.rates, 0, sizeof(fits.rates))
    memset(fits.decay, 0, sizeof(fits.decay))
    for lane in range(SGDM_FITS):
        i = first + lane
        fits.X[lane] = &lines[i if lines.shape[0] > 1 else 0, 0, 0]
        fits.y[lane] = &targets[i if targets.shape[0] > 1 else 0, 0]
        fits.weight[lane] = total_weights[i if total_weights.shape[0] > 1 else 0]
        fits.a[lane], fits.v[lane] = &parameters[i, 0, 0], &parameters[i, 1, 0]


cdef void take_options(Py_ssize_t first, Fits* fits, const double[:, ::1] rates, const double[:, ::1] penalties,
                       double[:, :, ::1] loss, double[:, :, :, :, ::1] paths) noexcept nogil:
    """Sets the constants of the fits from `first` on, and where their histories go."""
    cdef Py_ssize_t lane, i, part
    for lane in range(SGDM_FITS):
        i = first + lane
        for part in range(3):
            fits.rates[part][lane] = rates[i, part]
        fits.decay[lane] = penalties[i, 0]
        if loss is not None:
            fits.loss[lane] = &loss[i, 0, 0]
        if paths is not None:
            for part in range(3):
                fits.paths[part][lane] = &paths[part, i, 0, 0, 0]


cdef void keep_lanes(Py_ssize_t first, const Fits* fits, Py_ssize_t total, double[:, :, ::1] metrics,
                     Py_ssize_t[::1] done, signed char[::1] outcomes) noexcept nogil:
    """Counts the epochs of the fits from `first` on. Those that overflowed stay, for `descend` to do."""
    cdef Py_ssize_t lane, i
    for lane in range(SGDM_FITS):
        i = first + lane
        if fits.overflowed >> lane & 1 == 0:
            metrics[i, LAST_LOSS, 0], done[i] = fits.last_loss[lane], fits.last
            if fits.first == 0:
                metrics[i, INITIAL_OBJECTIVE, 0], metrics[i, INITIAL_NORM, 0] = fits.objective[lane], fits.norm[lane]
            if fits.last == total:
                outcomes[i] = COMPLETED


cdef int check_states(Py_ssize_t p, floating[:, :, :, ::1] parameters, double[:, :, ::1] metrics, Py_ssize_t[::1] done,
                      signed char[::1] outcomes, Py_ssize_t first, Py_ssize_t last, Py_ssize_t total) except -1:
    """Refuses states of fewer fits, or beyond the last epoch."""
    cdef Py_ssize_t i
    check_fits("parameters", parameters.shape[0], last)
    check_shape("parameters", parameters.shape[1], parameters.shape[2], 2, p)
    check_fits("metrics", metrics.shape[0], last, False, metrics.shape[1], METRICS)
    check_fits("epochs", done.shape[0], last)
    check_fits("outcomes", outcomes.shape[0], last)
    for i in range(first, last):
        if done[i] < 0 or done[i] > total:
            raise ValueError(f"epochs must be from 0 to {total} epochs, got {done[i]} of fit {i}")
    return 0


cdef int check_histories(Py_ssize_t p, floating[:, :, ::1] loss, floating[:, :, :, :, ::1] paths, Py_ssize_t total,
                         Py_ssize_t every, Py_ssize_t fits) except -1:
    """Refuses histories of fewer fits, or that have not the room for all epochs."""
    if loss is not None:
        check_fits("loss", loss.shape[0], fits)
        check_history("loss", 0, total, 0, every, loss.shape[1])
    if paths is not None:
        check_shape("paths", paths.shape[0], paths.shape[3], 3, p)
        check_fits("paths", paths.shape[1], fits)
        check_history("paths", 0, total, 0, every, paths.shape[2])
    return 0


def column_sums(lines, bint by_columns, weights, shift, scale):
    """sum w z and sum w z^2 over the rows, of z = (X - shift) / scale, for the columns of B problems: (B, 2, d).

    lines and weights as of `Problems`, shift and scale (B, d). Rows are added in order, in double: the bits don't
    depend on the layout of X.
    """
    sums = np.zeros((len(shift), 2, shift.shape[1]))
    if lines.itemsize == 4:
        _column_sums[float](lines, by_columns, weights, shift, 1 / scale, sums)
    else:
        _column_sums[double](lines, by_columns, weights, shift, 1 / scale, sums)
    return sums


cdef int _column_sums(const floating[:, :, ::1] lines, bint by_columns, const floating[:, ::1] weights,
                      const double[:, ::1] shift, const double[:, ::1] factor, double[:, :, ::1] sums) except -1:
    cdef:
        Py_ssize_t fits = shift.shape[0], d = shift.shape[1], n = lines.shape[1 + by_columns], i, row, j, at, w_at
        Py_ssize_t first
        double w = 1, z
    check_fits("lines", lines.shape[0], fits, True, lines.shape[2 - by_columns], d)
    check_fits("scale", factor.shape[0], fits, False, factor.shape[1], d)
    if weights is not None:
        check_fits("weights", weights.shape[0], fits, True, weights.shape[1], n)
    with nogil:
        for i in range(fits):
            at, w_at = i if lines.shape[0] > 1 else 0, i if weights is not None and weights.shape[0] > 1 else 0
            for row in range(0 if by_columns else n):
                w = weights[w_at, row] if weights is not None else 1
                for j in range(d):
                    z = (lines[at, row, j] - shift[i, j]) * factor[i, j]
                    sums[i, 0, j] += w * z
                    sums[i, 1, j] += w * z * z
            for first in range(0, d if by_columns else 0, 8):       # eight at a time: one sum would wait for itself
                for row in range(n):
                    w = weights[w_at, row] if weights is not None else 1
                    for j in range(first, min(first + 8, d)):
                        z = (lines[at, j, row] - shift[i, j]) * factor[i, j]
                        sums[i, 0, j] += w * z
                        sums[i, 1, j] += w * z * z
    return 0
