"""The epoch loop: matmul, residual, loss, gradient, momentum update and histories, in one run without the GIL.

X is read from memory once per epoch: rows are taken in blocks that stay in cache from the residual to the gradient.
The sums of a block are added to double accumulators, so float32 data is never summed in float32 over all rows. The
arithmetic within a block is in _lanes.h, built for several CPU levels that give the same bits.
"""

import os

from cython cimport final, floating
from libc.float cimport DBL_EPSILON, FLT_EPSILON
from libc.math cimport INFINITY, fabs, isfinite, sqrt
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset


cdef extern from "_lanes.h" nogil:
    struct Block "sgdm_block":
        Py_ssize_t stride, b, d, padded, k, target_stride, ahead, first
        bint triangular
        const Py_ssize_t* order
        const void* last
        const void* tail
    ctypedef void (*sgdm_block_float)(const Block*, const float*, const float*, const float*, const float*,
                                      const float*, float*, float*, float*, double*, double*) noexcept
    ctypedef void (*sgdm_block_double)(const Block*, const double*, const double*, const double*, const double*,
                                       const double*, double*, double*, double*, double*, double*) noexcept
    sgdm_block_float sgdm_rows_for_float(int level)
    sgdm_block_double sgdm_rows_for_double(int level)
    sgdm_block_float sgdm_columns_for_float(int level)
    sgdm_block_double sgdm_columns_for_double(int level)
    struct Update "sgdm_update":
        double lr, momentum, undamped, decay, threshold
        int first, nesterov
    ctypedef void (*sgdm_update_float)(const Update*, Py_ssize_t, double, const double*, float*, float*,
                                       float*) noexcept
    ctypedef void (*sgdm_update_double)(const Update*, Py_ssize_t, double, const double*, double*, double*,
                                        double*) noexcept
    sgdm_update_float sgdm_update_for_float(int level)
    sgdm_update_double sgdm_update_for_double(int level)
    int sgdm_highest_level()


cdef enum:
    LANE_BYTES = 64               # _lanes.h reads lines in groups of so many bytes
    NARROW = 8                    # C-order rows shorter than this are transposed: too short for lanes
    ROWS = 128                    # a block of C-order X; with several targets, as many rows as fit in
    ROW_BLOCK_BYTES = 16384       # L1, where all targets but the first find it
    COLUMN_BLOCK_BYTES = 262144   # a block of F-order X stays in L2 for its second reading
    BLOCK_MAX = 512
    AHEAD = 64                    # how many rows ahead permuted rows are prefetched


cdef enum Outcome:
    COMPLETED   # all epochs asked for are done
    CONVERGED   # the gradient met tol
    STOPPED     # the validation loss has not improved for `patience` epochs
    DIVERGED    # a number overflowed

OUTCOMES = ("completed", "converged", "stopped", "diverged")

LEVELS = ("baseline", "v3", "v4")   # of x86-64; elsewhere there is only the first


cdef int _choose_level() except -1:
    """The highest level of this CPU, or a lower one that the environment variable SGDM_ISA names."""
    name = os.environ.get("SGDM_ISA", "")
    highest = sgdm_highest_level()
    if not name:
        return highest
    if name not in LEVELS[:highest + 1]:
        raise ImportError(f"SGDM_ISA must be one of {', '.join(LEVELS[:highest + 1])} on this machine, got {name!r}")
    return LEVELS.index(name)


cdef int _level = _choose_level()
cdef sgdm_block_float _rows_float = sgdm_rows_for_float(_level), _columns_float = sgdm_columns_for_float(_level)
cdef sgdm_block_double _rows_double = sgdm_rows_for_double(_level), _columns_double = sgdm_columns_for_double(_level)
cdef sgdm_update_float _update_float = sgdm_update_for_float(_level)
cdef sgdm_update_double _update_double = sgdm_update_for_double(_level)
ISA = LEVELS[_level]


@final
cdef class Problem:
    """Validated data. X (n, d) and y (n, k) as lines: contiguous runs in memory.

    lines: X if it is C-order, X.T if it is F-order (by_columns). targets: y.T, (k, n). weights: (n,) or None.
    fit_intercept: whether an intercept is added to the d columns. features: how many columns are penalised; a column
    after them is an intercept spelled out. triangular: whether X is zero below its diagonal.
    """

    cdef readonly object lines, targets, weights
    cdef readonly bint by_columns, fit_intercept, triangular
    cdef readonly double total_weight
    cdef readonly Py_ssize_t n, d, k, p, features

    def __init__(self, lines, bint by_columns, targets, weights, double total_weight, bint fit_intercept,
                 Py_ssize_t features=-1, bint triangular=False):
        self.lines = lines
        self.by_columns = by_columns
        self.targets = targets
        self.weights = weights
        self.total_weight = total_weight
        self.fit_intercept = fit_intercept
        self.n, self.d = lines.shape
        if by_columns:
            self.n, self.d = self.d, self.n
        self.k = targets.shape[0]
        self.p = self.d + fit_intercept
        self.features = self.d if features < 0 else features
        self.triangular = triangular


@final
cdef class Settings:
    """The constants of a run.

    rates: lr, momentum and 1 - dampening for all epochs, or an array of them (epochs, 3) from epoch `start` on.
    batch_size: rows per update, 0 for all. tol < 0: never converged. average_from: the epoch from which on iterates
    are averaged, -1 for never. patience: epochs that the validation loss may go without falling to (1 - improvement)
    of its lowest, 0 for any number.
    """

    cdef readonly object rates
    cdef double lr, momentum, undamped
    cdef readonly double weight_decay, l1, tol, improvement
    cdef readonly bint nesterov
    cdef readonly Py_ssize_t start, batch_size, patience, average_from

    def __init__(self, rates, bint nesterov=False, double weight_decay=0.0, double l1=0.0, double tol=-1.0,
                 Py_ssize_t start=0, Py_ssize_t batch_size=0, Py_ssize_t average_from=-1, Py_ssize_t patience=0,
                 double improvement=0.0):
        self.rates = rates
        if isinstance(rates, tuple):
            self.lr, self.momentum, self.undamped = rates
        self.nesterov = nesterov
        self.weight_decay = weight_decay
        self.l1 = l1
        self.tol = tol
        self.start = start
        self.batch_size = batch_size
        self.patience = patience
        self.improvement = improvement
        self.average_from = average_from


@final
cdef class State:
    """Where a descent stands; `advance` changes it in place. All there is to go on from, with the row generator.

    coef, velocity: (p, k), a_t and v_{t-1} at update t.
    average: (p, k) double, the mean of `averaged` iterates.
    best: (p, k), the iterate of the lowest validation loss, best_loss, after epoch best_epoch (-1: none yet).
    marks: (4, k) double: the objective at the start and at the last epoch done, the norm of the objective's
    gradient at the first, the loss at the last.
    epoch, updates: done so far. waited: epochs since the validation loss last improved.
    diverged: the target that overflowed, or -1. rose: whether the objective ended above its start
    by more than rounding.
    """

    cdef readonly object coef, velocity, average, best, marks
    cdef readonly Py_ssize_t epoch, updates, averaged, best_epoch, waited, diverged
    cdef readonly double best_loss
    cdef readonly bint rose

    def __init__(self, coef, velocity, average, best, marks, Py_ssize_t epoch=0, Py_ssize_t updates=0,
                 Py_ssize_t averaged=0, Py_ssize_t best_epoch=-1, Py_ssize_t waited=0, double best_loss=INFINITY):
        self.coef = coef
        self.velocity = velocity
        self.average = average
        self.best = best
        self.marks = marks
        self.epoch = epoch
        self.updates = updates
        self.averaged = averaged
        self.best_epoch = best_epoch
        self.waited = waited
        self.best_loss = best_loss
        self.diverged = -1

    def copy(self):
        """A state of its own."""
        average = None if self.average is None else self.average.copy()
        best = None if self.best is None else self.best.copy()
        return State(self.coef.copy(), self.velocity.copy(), average, best, self.marks.copy(), self.epoch,
                     self.updates, self.averaged, self.best_epoch, self.waited, self.best_loss)


@final
cdef class Record:
    """Histories: loss, val_loss (rows, k); grad, step, coef (rows, p, k); each may be None.

    A row per epoch divisible by `every`, or with per_update per update divisible by it (val_loss per epoch always);
    row 0 is the first of them at or after epoch `start` (update `start_update`).
    """

    cdef readonly object loss, val_loss, grad, step, coef
    cdef readonly Py_ssize_t every, start, start_update
    cdef readonly bint per_update

    def __init__(self, loss, val_loss, grad, step, coef, Py_ssize_t every=1, bint per_update=False,
                 Py_ssize_t start=0, Py_ssize_t start_update=0):
        self.loss = loss
        self.val_loss = val_loss
        self.grad = grad
        self.step = step
        self.coef = coef
        self.every = every
        self.per_update = per_update
        self.start = start
        self.start_update = start_update


def advance(Problem problem, Settings settings, State state, Record record, Py_ssize_t epochs, order=None,
            Problem validation=None):
    """Runs up to `epochs` more epochs, in place, without the GIL.

    order: (epochs, n) intp, the rows of each epoch in the order to take them; None takes them as they come.
    validation: held-out rows, whose loss is taken after every epoch.

    Returns "completed", "converged", "stopped" or "diverged". An epoch that overflows is undone: the state is the one
    before it.
    """
    cdef Problem held_out = validation
    cdef Outcome outcome
    val_lines = val_targets = val_weights = None
    if validation is not None:
        val_lines, val_targets, val_weights = held_out.lines, held_out.targets, held_out.weights
    if problem.lines.itemsize == 4:
        outcome = _advance[float](problem, settings, state, record, epochs, order, problem.lines, problem.targets,
                                  problem.weights, held_out, val_lines, val_targets, val_weights, state.coef,
                                  state.velocity, state.best, record.loss, record.val_loss, record.grad, record.step,
                                  record.coef)
    else:
        outcome = _advance[double](problem, settings, state, record, epochs, order, problem.lines, problem.targets,
                                   problem.weights, held_out, val_lines, val_targets, val_weights, state.coef,
                                   state.velocity, state.best, record.loss, record.val_loss, record.grad, record.step,
                                   record.coef)
    return OUTCOMES[outcome]


cdef inline Py_ssize_t _round_up(Py_ssize_t length, Py_ssize_t group) noexcept nogil:
    return (length + group - 1) // group * group


cdef struct Source:         # a problem's rows, and the room to read them in
    const void* lines
    const void* y           # (k, n)
    const void* w           # (n,), or NULL
    Py_ssize_t n, rows      # rows: all, and at most in a block
    bint by_columns         # F-order
    bint transpose          # C-order, taken in transposed blocks
    Py_ssize_t copied, copied_rows   # the first row that `copy` holds, or -1, and how many
    void* copy              # (d, rows), a block that can't be read in place; of C-order X the last row, padded
    void* y_copy            # (k, rows)
    void* w_copy            # (rows,)
    void* r                 # (rows,)
    void* wr                # (rows,)
    Block block


cdef void* _open(Source* source, Problem problem, Py_ssize_t batch, const floating* lines, const floating* y,
                 const floating* w) noexcept nogil:
    """Sets up the source, to be read `batch` rows at a time; returns what to free, or NULL if there is no memory."""
    cdef:
        Py_ssize_t lanes = LANE_BYTES // sizeof(floating), n = problem.n, d = problem.d, k = problem.k
        Py_ssize_t padded = _round_up(d, lanes), rows, copy_size
        floating* room
    source.lines, source.y, source.w = lines, y, w
    source.n = n
    source.by_columns = problem.by_columns
    source.transpose = not problem.by_columns and d < NARROW
    source.copied = -1
    source.block.d, source.block.padded, source.block.k, source.block.target_stride = d, padded, k, n
    source.block.triangular = problem.triangular
    source.block.order = source.block.last = source.block.tail = NULL
    if source.by_columns or source.transpose:
        rows = COLUMN_BLOCK_BYTES // (d * <Py_ssize_t> sizeof(floating))
    elif k == 1:
        rows = ROWS
    else:
        rows = ROW_BLOCK_BYTES // (d * <Py_ssize_t> sizeof(floating))
    rows = max(lanes, min(BLOCK_MAX, rows // lanes * lanes))
    source.rows = rows = min(rows, _round_up(min(batch, n), lanes))
    copy_size = d * rows if source.by_columns or source.transpose else padded
    room = <floating*> calloc(copy_size + (k + 3) * rows, sizeof(floating))
    source.copy = room
    source.y_copy = room + copy_size
    source.w_copy = room + copy_size + k * rows
    source.r = room + copy_size + (k + 1) * rows
    source.wr = room + copy_size + (k + 2) * rows
    if room != NULL and not source.by_columns and not source.transpose and padded > d:
        source.block.last = lines + (n - 1) * d
        source.block.tail = room
        memcpy(room, source.block.last, d * sizeof(floating))
    return room


cdef inline void _gather(Source* source, const Block* block, Py_ssize_t start, const Py_ssize_t* order,
                         const floating* lines, floating* copy) noexcept nogil:
    """copy = rows `start` to `start + b` of X by columns, or those that `order` names there, with their y and w."""
    cdef:
        Py_ssize_t n = source.n, d = block.d, stride = source.rows, i, j, row
        const floating* y = <const floating*> source.y
        const floating* w = <const floating*> source.w
    for i in range(block.b):
        row = order[start + i] if order != NULL else start + i
        for j in range(d):
            copy[j * stride + i] = lines[j * n + row] if source.by_columns else lines[row * d + j]
        if order != NULL:
            for j in range(block.k):
                (<floating*> source.y_copy)[j * stride + i] = y[j * n + row]
            if w != NULL:
                (<floating*> source.w_copy)[i] = w[row]


cdef inline void _sums(Source* source, Py_ssize_t start, Py_ssize_t stop, const Py_ssize_t* order,
                       const floating* coef, const floating* intercept, floating* g,
                       double* loss, double* grad) noexcept nogil:
    """loss = (w * r**2).sum() and grad = [X, 1].T @ (w * r) over rows start to stop; r = X @ coef + intercept - y.

    With g NULL the loss alone. Lines are read in whole groups; where that would run past the end of X, from a copy.
    """
    cdef:
        Block block = source.block
        Py_ssize_t lanes = LANE_BYTES // sizeof(floating), n = source.n
        bint columns = source.by_columns or source.transpose
        const floating* lines
        const floating* y
        const floating* w
    memset(loss, 0, block.k * sizeof(double))
    memset(grad, 0, block.k * (block.padded + 1) * sizeof(double))
    while start < stop:
        block.b = min(source.rows, stop - start)
        block.first = start
        lines, y, w = <const floating*> source.lines, <const floating*> source.y, <const floating*> source.w
        if not columns:
            block.stride = block.d
            if order != NULL:
                block.order = order + start
                block.ahead = n - start
            else:
                lines += start * block.d
        elif source.by_columns and order == NULL and n - start >= lanes:
            if start + _round_up(block.b, lanes) > n:
                block.b = (n - start) // lanes * lanes
            block.stride = n
            lines += start
        else:
            if order != NULL or source.copied != start or source.copied_rows != block.b:
                source.copied, source.copied_rows = start if order == NULL else -1, block.b
                _gather(source, &block, start, order, lines, <floating*> source.copy)
            block.stride = source.rows
            lines = <const floating*> source.copy
            if order != NULL:
                block.target_stride = source.rows
                y = <const floating*> source.y_copy
                w = <const floating*> source.w_copy if w != NULL else NULL
        if order == NULL:
            y += start
            w = w + start if w != NULL else NULL
        if floating is float:
            (_columns_float if columns else _rows_float)(
                &block, lines, y, w, coef, intercept, <float*> source.r, <float*> source.wr, g, loss, grad)
        else:
            (_columns_double if columns else _rows_double)(
                &block, lines, y, w, coef, intercept, <double*> source.r, <double*> source.wr, g, loss, grad)
        start += block.b


cdef inline double _weight(Source* source, Py_ssize_t start, Py_ssize_t stop, const Py_ssize_t* order,
                           const floating* w) noexcept nogil:
    """The sum of the weights of rows start to stop."""
    cdef double total = 0
    cdef Py_ssize_t i
    if w == NULL:
        return stop - start
    for i in range(start, stop):
        total += w[order[i] if order != NULL else i]
    return total


cdef inline void _update(const Update* update, Py_ssize_t length, double scale, const double* grad, floating* a,
                         floating* v, floating* g) noexcept nogil:
    if floating is float:
        _update_float(update, length, scale, grad, a, v, g)
    else:
        _update_double(update, length, scale, grad, a, v, g)


cdef inline double _subgradient(floating a, floating g, double decay, double l1) noexcept nogil:
    """The least element of the objective's subdifferential in one coordinate: its gradient where there is no l1."""
    cdef double u = g + decay * a
    if a != 0:
        return u + (l1 if a > 0 else -l1)
    return u - l1 if u > l1 else (u + l1 if u < -l1 else 0)


cdef double _norm(Py_ssize_t d, const floating* a, const floating* g, double decay, double l1,
                  floating last) noexcept nogil:
    """numpy.linalg.norm of the objective's subgradient, the intercept's last, without overflow on the way."""
    cdef:
        double largest = fabs(last), total
        Py_ssize_t j
    for j in range(d):
        largest = max(largest, fabs(_subgradient(a[j], g[j], decay, l1)))
    if largest == 0 or not isfinite(largest):
        return largest
    total = (last / largest) ** 2
    for j in range(d):
        total += (_subgradient(a[j], g[j], decay, l1) / largest) ** 2
    return largest * sqrt(total)


cdef double _penalty(Py_ssize_t d, const floating* a, double decay, double l1) noexcept nogil:
    """decay / 2 |a|^2 + l1 |a|_1"""
    cdef double total = 0
    cdef Py_ssize_t j
    if decay > 0 or l1 > 0:
        for j in range(d):
            total += decay / 2 * a[j] * a[j] + l1 * fabs(a[j])
    return total


cdef inline Py_ssize_t _at(Py_ssize_t j, Py_ssize_t t, Py_ssize_t d, Py_ssize_t k, Py_ssize_t padded) noexcept nogil:
    """Where parameter j of target t is: k rows of `padded` features, then the k intercepts."""
    return t * padded + j if j < d else k * padded + t


cdef int _keep(Py_ssize_t row, Py_ssize_t p, Py_ssize_t k, Py_ssize_t d, Py_ssize_t padded, const floating* g,
               const floating* v, const floating* a, floating[:, :, ::1] grad_history,
               floating[:, :, ::1] step_history, floating[:, :, ::1] coef_history) except -1 nogil:
    """Writes one row of the histories that are kept."""
    cdef Py_ssize_t j, t
    for j in range(p):
        for t in range(k):
            if grad_history is not None:
                grad_history[row, j, t] = g[_at(j, t, d, k, padded)]
            if step_history is not None:
                step_history[row, j, t] = v[_at(j, t, d, k, padded)]
            if coef_history is not None:
                coef_history[row, j, t] = a[_at(j, t, d, k, padded)]
    return 0


cdef Outcome _advance(Problem problem, Settings settings, State state, Record record, Py_ssize_t epochs,
                      const Py_ssize_t[:, ::1] order_rows,
                      const floating[:, ::1] lines, const floating[:, ::1] targets, const floating[::1] weights,
                      Problem validation, const floating[:, ::1] val_lines, const floating[:, ::1] val_targets,
                      const floating[::1] val_weights,
                      floating[:, ::1] coef, floating[:, ::1] velocity, floating[:, ::1] best,
                      floating[:, ::1] loss_history, floating[:, ::1] val_history, floating[:, :, ::1] grad_history,
                      floating[:, :, ::1] step_history, floating[:, :, ::1] coef_history) except *:
    cdef:
        Source source, val_source
        Update update, intercept_update
        Py_ssize_t d = problem.d, p = problem.p, k = problem.k, n = problem.n, features = problem.features
        Py_ssize_t padded = _round_up(d, LANE_BYTES // sizeof(floating)), width = padded + 1
        Py_ssize_t batch = settings.batch_size if settings.batch_size > 0 else n
        Py_ssize_t epoch = state.epoch, last = state.epoch + epochs, updates, averaged
        Py_ssize_t every = record.every, row, t, j, start, stop, converged
        Py_ssize_t first_row = ((record.start_update if record.per_update else record.start) + every - 1) // every
        Py_ssize_t first_val_row = (record.start + every - 1) // every
        const double[:, ::1] rates = None if isinstance(settings.rates, tuple) else settings.rates
        double[:, ::1] marks = state.marks
        double[:, ::1] average = state.average
        const Py_ssize_t* order = NULL
        double epsilon = FLT_EPSILON if floating is float else DBL_EPSILON
        double total, scale, val, decay = settings.weight_decay, l1 = settings.l1
        bint validate = validation is not None
        bint full = batch >= n, per_update = record.per_update, keep, finite
        void* room = NULL
        void* val_room = NULL
        floating* work = NULL
        double* sums = NULL
        floating* a
        floating* b
        floating* v
        floating* g
        floating* block_grad
        floating* a_before
        floating* a_start
        floating* v_start
        double* loss
        double* epoch_loss
        double* grad
        double* mean
        double* mean_start
        Outcome outcome = COMPLETED

    room = _open(&source, problem, batch, &lines[0, 0], &targets[0, 0],
                 &weights[0] if weights is not None else NULL)
    if validate:
        val_room = _open(&val_source, validation, validation.n, &val_lines[0, 0], &val_targets[0, 0],
                         &val_weights[0] if val_weights is not None else NULL)
    # Parameters are kept as k rows of `padded` features, then k intercepts: as the arithmetic over rows wants them.
    work = <floating*> calloc(7 * k * width, sizeof(floating))
    sums = <double*> calloc(2 * k + 3 * k * width, sizeof(double))
    if room == NULL or (validate and val_room == NULL) or work == NULL or sums == NULL:
        free(room)
        free(val_room)
        free(work)
        free(sums)
        raise MemoryError("no memory for the working arrays of the fit")
    a = work
    b = a + k * padded              # the intercepts
    v = a + k * width
    g = v + k * width
    block_grad = g + k * width
    a_before = block_grad + k * width   # the parameters before the last update
    a_start = a_before + k * width      # the parameters and velocities before the epoch
    v_start = a_start + k * width
    if full:
        a_before = a_start              # there is one update
    loss = sums
    epoch_loss = loss + k
    grad = epoch_loss + k           # (k, width)
    mean = grad + k * width
    mean_start = mean + k * width
    update.nesterov = intercept_update.nesterov = settings.nesterov

    try:
        with nogil:
            for t in range(k):
                for j in range(p):
                    a[_at(j, t, d, k, padded)] = coef[j, t]
                    v[_at(j, t, d, k, padded)] = velocity[j, t]
                    if average is not None:
                        mean[_at(j, t, d, k, padded)] = average[j, t]
            while epoch < last:
                memcpy(a_start, a, k * width * sizeof(floating))
                memcpy(v_start, v, k * width * sizeof(floating))
                if average is not None:
                    memcpy(mean_start, mean, k * width * sizeof(double))
                memset(epoch_loss, 0, k * sizeof(double))
                updates, averaged = state.updates, state.averaged
                row = epoch - settings.start
                if rates is None:
                    update.lr, update.momentum, update.undamped = settings.lr, settings.momentum, settings.undamped
                else:
                    update.lr, update.momentum, update.undamped = rates[row, 0], rates[row, 1], rates[row, 2]
                update.decay = decay
                update.threshold = update.lr * l1 * update.undamped / (1 - update.momentum)
                if epoch == 0 and not full:     # where it began: the loss of all rows before the first update
                    _sums(&source, 0, n, NULL, a, b, <floating*> NULL, loss, grad)
                    for t in range(k):
                        marks[0, t] = loss[t] / problem.total_weight + _penalty(features, a + t * padded, decay, l1)
                if order_rows is not None:
                    order = &order_rows[epoch - state.epoch, 0]
                start = 0
                while start < n:
                    stop = min(start + batch, n)
                    update.first = updates == 0
                    intercept_update = update
                    intercept_update.decay = intercept_update.threshold = 0
                    _sums(&source, start, stop, order, a, b, block_grad, loss, grad)
                    total = problem.total_weight if full else _weight(
                        &source, start, stop, order, <const floating*> source.w)
                    scale = 2 / total if total > 0 else 0
                    if not full:
                        memcpy(a_before, a, k * width * sizeof(floating))
                    for t in range(k):
                        epoch_loss[t] += loss[t]
                        row = t * padded
                        _update(&update, features, scale, grad + t * width, a + row, v + row, g + row)
                        if d > features:
                            row += features
                            _update(&intercept_update, d - features, scale, grad + t * width + features, a + row,
                                    v + row, g + row)
                        if p > d:
                            _update(&intercept_update, 1, scale, grad + t * width + padded, b + t,
                                    v + k * padded + t, g + k * padded + t)
                    if settings.average_from >= 0 and epoch >= settings.average_from:
                        averaged += 1
                        for j in range(k * width):
                            mean[j] += (a[j] - mean[j]) / averaged
                    if per_update and updates % every == 0:
                        row = updates // every - first_row
                        for t in range(k):
                            loss_history[row, t] = <floating> (loss[t] / total if total > 0 else 0)
                            if not isfinite(loss_history[row, t]):
                                epoch_loss[t] = INFINITY
                        _keep(row, p, k, d, padded, g, v, a_before, grad_history, step_history, coef_history)
                    updates += 1
                    start = stop

                finite = True
                for t in range(k):
                    epoch_loss[t] /= problem.total_weight
                    finite = isfinite(<floating> epoch_loss[t])
                    for j in range(p):
                        row = _at(j, t, d, k, padded)
                        finite = finite and isfinite(a[row]) and isfinite(v[row]) and isfinite(g[row])
                    if not finite:
                        state.diverged = t
                        break
                if not finite:
                    memcpy(a, a_start, k * width * sizeof(floating))
                    memcpy(v, v_start, k * width * sizeof(floating))
                    if average is not None:
                        memcpy(mean, mean_start, k * width * sizeof(double))
                    outcome = DIVERGED
                    break

                keep = epoch % every == 0
                if keep and not per_update:
                    row = epoch // every - first_row
                    for t in range(k):
                        if loss_history is not None:
                            loss_history[row, t] = <floating> epoch_loss[t]
                    _keep(row, p, k, d, padded, g, v, a_before, grad_history, step_history, coef_history)
                converged = 0
                for t in range(k):
                    marks[1, t] = epoch_loss[t] + _penalty(features, a_before + t * padded, decay, l1)
                    marks[3, t] = epoch_loss[t]
                    if epoch == 0:
                        if full:
                            marks[0, t] = marks[1, t]
                        marks[2, t] = _norm(features, a_before + t * padded, g + t * padded, decay, l1,
                                            g[_at(features, t, d, k, padded)] if p > features else 0)
                    if settings.tol >= 0:
                        converged += _norm(features, a_before + t * padded, g + t * padded, decay, l1,
                                           g[_at(features, t, d, k, padded)] if p > features else 0
                                           ) <= settings.tol * marks[2, t]
                epoch += 1
                state.updates, state.averaged = updates, averaged
                if validate:
                    _sums(&val_source, 0, val_source.n, NULL, a, b, <floating*> NULL, loss, grad)
                    val = 0
                    for t in range(k):
                        val += loss[t] / validation.total_weight
                        if keep and val_history is not None:
                            row = (epoch - 1) // every - first_val_row
                            val_history[row, t] = <floating> (loss[t] / validation.total_weight)
                    if val < state.best_loss * (1 - (settings.improvement if state.best_epoch >= 0 else 0)):
                        state.best_loss = val
                        state.best_epoch = epoch - 1
                        state.waited = 0
                        for t in range(k):
                            for j in range(p):
                                best[j, t] = a[_at(j, t, d, k, padded)]
                    else:
                        state.waited += 1
                        if 0 < settings.patience <= state.waited:
                            outcome = STOPPED
                            break
                if converged == k:
                    outcome = CONVERGED
                    break
            for t in range(k):
                for j in range(p):
                    coef[j, t] = a[_at(j, t, d, k, padded)]
                    velocity[j, t] = v[_at(j, t, d, k, padded)]
                    if average is not None:
                        average[j, t] = mean[_at(j, t, d, k, padded)]
            state.epoch = epoch
            state.rose = False
            for t in range(k):
                state.rose = state.rose or marks[1, t] > marks[0, t] * (1 + 1000 * epsilon)
    finally:
        free(room)
        free(val_room)
        free(work)
        free(sums)
    return outcome
