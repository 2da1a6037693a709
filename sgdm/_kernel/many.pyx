"""Many fits: by the epoch loop, one after another, or reduced ones by arithmetic/lanes.h, eight at a time."""

import numpy as np

from cython cimport floating
from libc.math cimport INFINITY
from libc.string cimport memset

from .checks cimport check_fits, check_history, check_shape
from .descent cimport COMPLETED, Outcome, descend, losses_at
from .nouns cimport (
    COLUMN_TERMS, INITIAL_NORM, INITIAL_OBJECTIVE, LAST_LOSS, METRICS, SHRINKAGE, Options, Problem, Record, State,
)
from .rows cimport (
    PASS, SGDM_FITS, SGDM_LANES_BYTES, SGDM_MOST_PARAMETERS, SGDM_MOST_SHARED, Factors, Fits, Rows, arithmetic,
    set_columns, take,
)


FITS_IN_LANES, PARAMETERS_IN_LANES = SGDM_FITS, SGDM_MOST_PARAMETERS     # of fits that share no rows, at most
cdef Py_ssize_t MOST_CACHED = 1 << 22   # bytes of histories: larger ones are written past the caches


class Problems:
    """The data of many fits, full batches of one target.

    lines (B, n, d), or with by_columns (B, d, n); targets and weights (B, n), weights maybe None; total_weights (B,).
    Any of these may have m parts in place of B, if m divides B: equally many fits, one after another, share each then.
    one: the `Problem` of the first fit: all have its sizes. held_out: the `Problems` of held-out rows, or None. The
    other arguments are those of `Problem`.
    """

    def __init__(self, lines, by_columns, targets, weights, total_weights, fit_intercept, features=-1, triangular=False,
                 dtype=None, held_out=None):
        self.lines, self.by_columns, self.targets = lines, by_columns, targets
        self.weights, self.total_weights, self.held_out = weights, total_weights, held_out
        self.one = Problem(lines[0], by_columns, targets[:1], None, 1.0, fit_intercept, features, triangular, dtype)


class ManyOptions:
    """The constants of many fits.

    rates: lr, momentum and 1 - dampening, (B, 3), or those of each epoch, (B, epochs, 3). penalties (B, 2):
    weight_decay and l1. epochs: how many each fit does. nesterov and tol are those of `Options`. columns: (B,
    COLUMN_TERMS, d), those of `Rows` for each fit; or None.
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


cdef struct Part:
    # One array of `Problems`: the bytes from one of its parts to the next, and how many fits share each.
    const char* data
    Py_ssize_t step, fits


cdef struct Data:
    Part lines, targets, weights, total_weights     # weights.data: NULL for ones


cdef inline const void* part_of(const Part* part, Py_ssize_t i) noexcept nogil:
    """What fit i has of it."""
    return part.data + i // part.fits * part.step if part.data != NULL else NULL


cdef int set_part(Part* part, str name, Py_ssize_t size, Py_ssize_t count, Py_ssize_t fits) except -1:
    """Sets the sizes of an array of `count` parts, and refuses it if so many fits can't share them evenly."""
    if count < 1 or fits % count:
        raise ValueError(f"{name} must have a row for each of {fits} fits, or for equally many of them, got {count}")
    part.step, part.fits = size, fits // count
    return 0


cdef int open_data(problems, Py_ssize_t fits, Data* data) except -1:
    """Takes the arrays of the data, which must be of the first problem's size and enough for so many fits."""
    if problems.lines.itemsize == 4:
        return _open_data[float](problems.one, problems.lines, problems.targets, problems.weights,
                                 problems.total_weights, fits, data)
    return _open_data[double](problems.one, problems.lines, problems.targets, problems.weights,
                              problems.total_weights, fits, data)


cdef int _open_data(Problem one, const floating[:, :, ::1] lines, const floating[:, ::1] targets,
                    const floating[:, ::1] weights, const double[::1] total_weights, Py_ssize_t fits,
                    Data* data) except -1:
    cdef Py_ssize_t n = one.n, d = one.d, size = sizeof(floating)
    if one.k != 1:
        raise ValueError(f"each fit must have one target, got {one.k}")
    check_shape("lines", lines.shape[1], lines.shape[2], d if one.by_columns else n, n if one.by_columns else d)
    check_shape("targets", 1, targets.shape[1], 1, n)
    set_part(&data.lines, "lines", n * d * size, lines.shape[0], fits)
    set_part(&data.targets, "targets", n * size, targets.shape[0], fits)
    set_part(&data.total_weights, "total_weights", sizeof(double), total_weights.shape[0], fits)
    data.lines.data, data.targets.data = <const char*> &lines[0, 0, 0], <const char*> &targets[0, 0]
    data.total_weights.data = <const char*> &total_weights[0]
    data.weights.data, data.weights.step, data.weights.fits = NULL, 0, 1
    if weights is not None:
        check_shape("weights", 1, weights.shape[1], 1, n)
        set_part(&data.weights, "weights", n * size, weights.shape[0], fits)
        data.weights.data = <const char*> &weights[0, 0]
    return 0


cdef inline void take_fit(Rows rows, Py_ssize_t i, const Data* data) noexcept nogil:
    """Sets the data of fit i."""
    cdef const void* X = part_of(&data.lines, i)
    cdef const void* y = part_of(&data.targets, i)
    cdef const void* w = part_of(&data.weights, i)
    if rows.float32_lines:
        take(rows, <const float*> X, <const float*> y, <const float*> w)
    else:
        take(rows, <const double*> X, <const double*> y, <const double*> w)
    rows.total_weight = (<const double*> part_of(&data.total_weights, i))[0]


def losses_many(problems, parameters):
    """The mean squared error of each fit, (B,), at its parameters, (B, 2, p)."""
    loss = np.empty(len(parameters))
    if problems.lines.itemsize == 4:
        _losses_many[float](problems, parameters, loss)
    else:
        _losses_many[double](problems, parameters, loss)
    return loss


cdef int _losses_many(problems, floating[:, :, ::1] parameters, double[::1] loss) except -1:
    cdef:
        Py_ssize_t first = 0, end, i, lane, count, fits = parameters.shape[0]
        Py_ssize_t[SGDM_FITS] chosen
        Rows rows = Rows(problems.one)
        floating[:, :, ::1] work = rows.work
        bint in_lanes, known
        unsigned char[::1] memory = np.empty(SGDM_LANES_BYTES, np.uint8)
        Data data
        Fits lanes
    open_data(problems, fits, &data)
    in_lanes = is_for_lanes(problems, &data)
    check_shape("parameters", parameters.shape[1], parameters.shape[2], 2, rows.problem.p)
    lanes.p, lanes.features, lanes.first, lanes.last = rows.problem.p, rows.problem.features, 0, 0
    lanes.memory, lanes.past_caches = &memory[0], False
    with nogil:
        while first < fits:
            count = choose_fits(first, fits, sharing(lanes.p, fits, &data), NULL, NULL, NULL, chosen, &end)
            known = False
            if floating is double:
                if in_lanes and count >= least_together(lanes.p):
                    take_lanes(chosen, &lanes, &data, NULL, parameters)
                    arithmetic().descend_lanes(&lanes)
                    known = lanes.overflowed == 0
            for lane in range(count):
                i = chosen[lane]
                if known:
                    loss[i] = lanes.last_loss[lane]
                else:
                    take_fit(rows, i, &data)
                    losses_at(rows, work, &parameters[i, 0, 0])
                    loss[i] = rows.sums[PASS, 0, rows.at_loss] / rows.total_weight
            first = end
    return 0


def advance_many(problems, options, states, Record record, Py_ssize_t first, Py_ssize_t last, Py_ssize_t epochs):
    """Runs up to `epochs` more epochs of each of the fits `first` to `last` that are not at their end, in place and
    without the GIL.

    record: its loss and val_loss are (B, rows), its paths are (3, B, rows, p). val_loss is that of problems.held_out.
    ValueError if an array has not the room for what will be read or written.
    """
    # Lanes don't measure what is to be known before the first update if columns differ, or with l1.
    cdef bint alone = options.columns is not None or bool((options.penalties[first:last, 1] > 0).any())
    if alone and epochs > 0 and (states.epochs[first:last] == 0).any():
        advance_fits(problems, options, states, record, first, last, 1, False)
        epochs -= 1
    advance_fits(problems, options, states, record, first, last, epochs, True)


cdef int advance_fits(problems, options, states, Record record, Py_ssize_t first, Py_ssize_t last, Py_ssize_t epochs,
                      bint in_lanes) except -1:
    """`advance_many`, with or without lanes."""
    if problems.lines.itemsize == 4:
        return _advance_fits[float](problems, options, states, record, first, last, epochs, False, states.parameters)
    return _advance_fits[double](problems, options, states, record, first, last, epochs, in_lanes, states.parameters)


cdef inline Py_ssize_t least_together(Py_ssize_t p) noexcept nogil:
    """From how many fits on eight lanes take less time than one fit after another; wide ones gain less each."""
    return 3 + p // 50


cdef inline Py_ssize_t most_parameters(bint share_rows) noexcept nogil:
    """The most parameters that fits in lanes have."""
    return SGDM_MOST_SHARED if share_rows else SGDM_MOST_PARAMETERS


cdef bint is_for_lanes(problems, const Data* data):
    """Whether arithmetic/lanes.h can read the rows of these problems."""
    cdef Problem one = problems.one
    return (one.triangular and one.n == one.p + 1 and one.p == one.d and not one.by_columns
            and one.p <= most_parameters(data.lines.fits > 1) and data.weights.data == NULL)


def fits_together(Problem one, options, bint share_rows):
    """SGDM_FITS if fits like this one, once reduced, can descend in lanes, so many at once; else 1."""
    lacking = options.tol >= 0 or one.float32_results or one.p > most_parameters(share_rows)
    return 1 if lacking else SGDM_FITS


cdef int check_many(problems, options, Record record, Py_ssize_t first, Py_ssize_t last, Py_ssize_t epochs,
                    const double[:, :, ::1] rates, const double[:, ::1] penalties,
                    const double[:, :, ::1] columns) except -1:
    """Refuses constants that are not those of each fit, and what is out of range."""
    cdef Problem one = problems.one
    if first < 0 or first > last or epochs < 0 or options.epochs < 0 or record.every < 1:
        raise ValueError(f"fits must run from 0 or later to no less, for no negative number of epochs, with every at "
                         f"least 1, got {first} to {last}, {epochs} of {options.epochs} and {record.every}")
    if record.start or record.start_update or record.per_update:
        raise ValueError("the record of many fits must begin at epoch 0 and have a row per epoch")
    if problems.held_out is not None:
        check_shape("held_out", problems.held_out.one.d, problems.held_out.one.p, one.d, one.p)
        if problems.held_out.lines.dtype != problems.lines.dtype:
            raise ValueError("held_out must have the dtype of the rows")
    elif record.val_loss is not None:
        raise ValueError("val_loss must be None without held-out rows")
    check_fits("rates", rates.shape[0], last, False, rates.shape[2], 3)
    if rates.shape[1] != 1 and (rates.shape[1] == 0 or rates.shape[1] < options.epochs):
        raise ValueError(f"rates must be those of every epoch, or of each of {options.epochs}, got {rates.shape[1]}")
    if columns is not None:
        check_fits("columns", columns.shape[0], last, False, columns.shape[2], one.features)
        check_shape("columns", 1, columns.shape[1], 1, COLUMN_TERMS)
    return check_fits("penalties", penalties.shape[0], last, False, penalties.shape[1], 2)


cdef int _advance_fits(problems, options, states, Record record, Py_ssize_t first, Py_ssize_t last, Py_ssize_t epochs,
                       bint in_lanes, floating[:, :, ::1] all_parameters) except -1:
    cdef:
        Rows rows = Rows(problems.one)
        Rows held_out = None if problems.held_out is None else Rows(problems.held_out.one)
        const double[:, :, ::1] rates = options.rates if options.rates.ndim == 3 else options.rates[:, np.newaxis]
        const double[:, ::1] penalties = options.penalties
        double[:, :, ::1] columns = options.columns
        floating[:, :, ::1] work = rows.work
        floating[:, :, :, ::1] parameters = states.parameters[..., np.newaxis]
        double[:, :, ::1] metrics = states.metrics[..., np.newaxis]
        Py_ssize_t[::1] done = states.epochs, until
        signed char[::1] outcomes = states.outcomes
        floating[:, :, ::1] loss = None if record.loss is None else record.loss[..., np.newaxis]
        floating[:, :, ::1] val_loss = None if record.val_loss is None else record.val_loss[..., np.newaxis]
        floating[:, :, :, :, ::1] paths = None if record.paths is None else record.paths[..., np.newaxis]
        floating[:, ::1] own_loss = None, own_val_loss = None, nothing = None
        floating[:, :, :, :] own_paths = None
        Options own = Options((0.0, 0.0, 1.0), options.nesterov, tol=options.tol)
        State state = State(None, None, None, None, best_loss=-INFINITY)    # no iterate is the best: none is kept
        Py_ssize_t p = rows.problem.p, total = options.epochs, B = parameters.shape[0], i, count
        Py_ssize_t[SGDM_FITS] chosen
        unsigned char[::1] memory = np.empty(SGDM_LANES_BYTES, np.uint8)
        Outcome outcome
        Data data, held_out_data
        Fits fits

    check_many(problems, options, record, first, last, epochs, rates, penalties, columns)
    check_states(p, parameters, metrics, done, outcomes, first, last, total)
    check_histories(p, loss, val_loss, paths, total, record.every, last)
    open_data(problems, B, &data)
    in_lanes = in_lanes and is_for_lanes(problems, &data) and fits_together(rows.problem, options, True) > 1
    if held_out is not None:
        open_data(problems.held_out, B, &held_out_data)
        in_lanes = in_lanes and is_for_lanes(problems.held_out, &held_out_data)
        in_lanes = in_lanes and held_out_data.lines.fits == data.lines.fits
    until = states.epochs + np.minimum(epochs, total - states.epochs)       # where each fit stops
    fits.memory = &memory[0]
    fits.past_caches = is_large(record)
    fits.p, fits.features, fits.every, fits.nesterov = p, rows.problem.features, record.every, own.nesterov
    with nogil:
        if floating is double:
            i = first
            while in_lanes and i < last:
                count = choose_fits(i, last, sharing(p, B, &data), &done[0], &until[0], &outcomes[0], chosen, &i)
                fits.first, fits.last = done[chosen[0]], until[chosen[0]]
                if count >= least_together(p) and fits.first < fits.last:
                    take_lanes(chosen, &fits, &data, &held_out_data if held_out is not None else NULL, all_parameters)
                    take_options(chosen, &fits, rates, penalties, columns, loss, val_loss, paths)
                    arithmetic().descend_lanes(&fits)
                    keep_lanes(chosen, count, &fits, total, metrics, done, outcomes)
        for i in range(first, last):
            if outcomes[i] >= 0 or (done[i] >= until[i] and done[i] < total):
                continue
            take_fit(rows, i, &data)
            if held_out is not None:
                take_fit(held_out, i, &held_out_data)
            own.lr, own.momentum, own.gradient_weight = rates[i, 0, 0], rates[i, 0, 1], rates[i, 0, 2]
            if rates.shape[1] > 1:
                own.rates_view = rates[i]
            own.uniform_decay, own.uniform_l1 = penalties[i, 0], penalties[i, 1]
            if columns is not None:
                set_columns(rows, columns[i])
            state.epoch = state.updates = done[i]
            if loss is not None:
                own_loss = loss[i]
            if val_loss is not None:
                own_val_loss = val_loss[i]
            if paths is not None:
                own_paths = paths[:, i]
            outcome = descend[floating](
                rows, held_out, own, state, record, until[i] - done[i], NULL, work, parameters[i], nothing, None,
                metrics[i], own_loss, own_val_loss, own_paths)
            done[i] = state.epoch
            if outcome != COMPLETED or state.epoch == total:
                outcomes[i] = outcome
    return 0


cdef bint is_large(Record record):
    """Whether the histories take less time past the caches."""
    return sum([each.nbytes for each in (record.loss, record.val_loss, record.paths) if each is not None]) > MOST_CACHED


cdef inline Py_ssize_t sharing(Py_ssize_t p, Py_ssize_t fits, const Data* data) noexcept nogil:
    """How many of so many fits, one after another, can be in lanes together: if they are wide, those that share X."""
    return data.lines.fits if p > SGDM_MOST_PARAMETERS else fits


cdef Py_ssize_t choose_fits(Py_ssize_t i, Py_ssize_t last, Py_ssize_t sharing, const Py_ssize_t* done,
                            const Py_ssize_t* until, const signed char* outcomes, Py_ssize_t* chosen,
                            Py_ssize_t* end) noexcept nogil:
    """Chooses up to SGDM_FITS fits from i on that can do the same epochs in lanes. The last of them fills the lanes
    that are left. Returns how many they are. `end` is the first fit it did not look at. done: NULL for no epochs."""
    cdef Py_ssize_t count = 0, lane
    chosen[0] = i
    while i < last and count < SGDM_FITS:
        if done == NULL or outcomes[i] < 0:
            if count > 0 and (i // sharing != chosen[0] // sharing or (
                    done != NULL and (done[i] != done[chosen[0]] or until[i] != until[chosen[0]]))):
                break
            chosen[count] = i
            count += 1
        i += 1
    for lane in range(count, SGDM_FITS if count > 0 else 0):
        chosen[lane] = chosen[count - 1]
    end[0] = i
    return count


cdef void take_lanes(const Py_ssize_t* chosen, Fits* fits, const Data* data, const Data* held_out,
                     double[:, :, ::1] parameters) noexcept nogil:
    """Sets the data of the chosen fits, without constants and histories."""
    cdef Py_ssize_t lane, i
    memset(fits.loss, 0, sizeof(fits.loss))
    memset(fits.val_loss, 0, sizeof(fits.val_loss))
    memset(fits.paths, 0, sizeof(fits.paths))
    memset(fits.columns, 0, sizeof(fits.columns))
    memset(fits.decay, 0, sizeof(fits.decay))
    memset(fits.l1, 0, sizeof(fits.l1))
    memset(&fits.held_out, 0, sizeof(fits.held_out))
    for lane in range(SGDM_FITS):
        i = chosen[lane]
        take_lane(&fits.training, lane, data, i)
        if held_out != NULL:
            take_lane(&fits.held_out, lane, held_out, i)
        fits.a[lane], fits.v[lane] = &parameters[i, 0, 0], &parameters[i, 1, 0]


cdef inline void take_lane(Factors* factors, Py_ssize_t lane, const Data* data, Py_ssize_t i) noexcept nogil:
    factors.X[lane] = <const double*> part_of(&data.lines, i)
    factors.y[lane] = <const double*> part_of(&data.targets, i)
    factors.weight[lane] = (<const double*> part_of(&data.total_weights, i))[0]


cdef void take_options(const Py_ssize_t* chosen, Fits* fits, const double[:, :, ::1] rates,
                       const double[:, ::1] penalties, double[:, :, ::1] columns, double[:, :, ::1] loss,
                       double[:, :, ::1] val_loss, double[:, :, :, :, ::1] paths) noexcept nogil:
    """Sets the constants of the chosen fits, and where their histories go."""
    cdef Py_ssize_t lane, i, j, part
    fits.rates_step = 3 if rates.shape[1] > 1 else 0
    for lane in range(SGDM_FITS):
        i = chosen[lane]
        fits.rates[lane] = &rates[i, fits.first if rates.shape[1] > 1 else 0, 0]
        fits.decay[lane], fits.l1[lane] = penalties[i, 0], penalties[i, 1]
        if columns is not None:
            fits.columns[lane] = &columns[i, 0, 0]
            for j in range(columns.shape[2]):
                fits.l1[lane] = max(fits.l1[lane], columns[i, SHRINKAGE, j])
        if loss is not None:
            fits.loss[lane] = &loss[i, 0, 0]
        if val_loss is not None:
            fits.val_loss[lane] = &val_loss[i, 0, 0]
        if paths is not None:
            for part in range(3):
                fits.paths[part][lane] = &paths[part, i, 0, 0, 0]


cdef void keep_lanes(const Py_ssize_t* chosen, Py_ssize_t count, const Fits* fits, Py_ssize_t total,
                     double[:, :, ::1] metrics, Py_ssize_t[::1] done, signed char[::1] outcomes) noexcept nogil:
    """Counts the epochs of the chosen fits. Those that overflowed stay, for `descend` to do."""
    cdef Py_ssize_t lane, i
    for lane in range(count):
        i = chosen[lane]
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


cdef int check_histories(Py_ssize_t p, floating[:, :, ::1] loss, floating[:, :, ::1] val_loss,
                         floating[:, :, :, :, ::1] paths, Py_ssize_t total, Py_ssize_t every,
                         Py_ssize_t fits) except -1:
    """Refuses histories of fewer fits, or that have not the room for all epochs."""
    if loss is not None:
        check_fits("loss", loss.shape[0], fits)
        check_history("loss", 0, total, 0, every, loss.shape[1])
    if val_loss is not None:
        check_fits("val_loss", val_loss.shape[0], fits)
        check_history("val_loss", 0, total, 0, every, val_loss.shape[1])
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
