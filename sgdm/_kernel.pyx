"""The epoch loop: matmul, residual, loss, gradient, momentum update and histories, in one run without the GIL.

X is read from memory once per epoch: rows are taken in blocks that stay in cache from the residual to the gradient.
The sums of a block are added to double accumulators, so float32 data is never summed in float32 over all rows. The
arithmetic within a block is in _lanes.h, built for several CPU levels that give the same bits.
"""

import os

import numpy as np

cimport cython
from cython cimport final, floating
from libc.float cimport DBL_MAX, FLT_MAX
from libc.math cimport INFINITY, fabs, isfinite, sqrt
from cpython.pycapsule cimport PyCapsule_GetPointer
from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset


cdef extern from "Python.h":
    const Py_ssize_t PY_SSIZE_T_MAX


cdef extern from "_lanes.h" nogil:
    enum: SGDM_TARGETS
    struct Block "sgdm_block":
        Py_ssize_t stride, b, d, padded, k, target_stride, ahead, first, room
        bint triangular, padded_rows, straddles
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
    ctypedef void (*sgdm_transpose_float)(const float*, Py_ssize_t, Py_ssize_t, float*, Py_ssize_t) noexcept
    ctypedef void (*sgdm_transpose_double)(const double*, Py_ssize_t, Py_ssize_t, double*, Py_ssize_t) noexcept
    sgdm_transpose_float sgdm_transpose_for_float(int level)
    sgdm_transpose_double sgdm_transpose_for_double(int level)
    int sgdm_highest_level()


cdef extern from "_threads.h" nogil:
    enum: SGDM_PARTS
    ctypedef void (*sgdm_part)(void* task, int part, int member) noexcept
    struct sgdm_team:
        int members
        long long round, closed
    void sgdm_share(sgdm_team*, sgdm_part, void* task, int parts)
    void sgdm_help(sgdm_team*, int member)
    void SGDM_SET(long long*, long long)


cdef struct BitGenerator "sgdm_bit_generator":  # numpy/random/bitgen.h: what the capsule of a BitGenerator holds
    void* state
    uint64_t (*next_uint64)(void* state) noexcept nogil
    uint32_t (*next_uint32)(void* state) noexcept nogil
    double (*next_double)(void* state) noexcept nogil
    uint64_t (*next_raw)(void* state) noexcept nogil


cdef enum:
    LANE_BYTES = 64               # _lanes.h reads lines in groups of so many bytes
    # C-order X is transposed once per fit and read by columns if its rows take at most NARROW_BYTES (TOGETHER_BYTES
    # from SGDM_TARGETS targets on) and X at most WHOLE_BYTES: 1 to 8 doubles take 2 ns a row by rows, 0.2 to 0.8 by
    # columns. X of up to NARROWEST columns is always read so, block by block if it is too large to copy.
    NARROW_BYTES = 128
    WHOLE_BYTES = 4194304
    TOGETHER_BYTES = 512
    NARROWEST = 3
    ROWS = 256                    # a block of C-order X; with several targets, as many rows as fit in
    ROW_BLOCK_BYTES = 16384       # L1, where all targets but the first find it
    # A block of F-order X must stay in L2 until its second read. If that leaves fewer than COLUMN_ROWS rows (one
    # target), it has BLOCK_MAX: short column pieces cost more than reading X twice from L3.
    COLUMN_BLOCK_BYTES = 524288
    COLUMN_ROWS = 128
    BLOCK_MAX = 512
    PART_ELEMENTS = 32768         # of X that a part of a pass over the rows has at least


cdef enum Metric:
    INITIAL_OBJECTIVE, INITIAL_NORM, LAST_LOSS, METRICS

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
cdef sgdm_transpose_float _transpose_float = sgdm_transpose_for_float(_level)
cdef sgdm_transpose_double _transpose_double = sgdm_transpose_for_double(_level)
cdef sgdm_update_float _update_float = sgdm_update_for_float(_level)
cdef sgdm_update_double _update_double = sgdm_update_for_double(_level)
ISA = LEVELS[_level]


@final
@cython.internal
cdef class Room:
    """Memory for as long as it is referred to, zeroed."""

    cdef void* start

    def __cinit__(self, Py_ssize_t size):
        self.start = calloc(size, 1)
        if self.start == NULL:
            raise MemoryError("no memory for the working arrays of the fit")

    def __dealloc__(self):
        free(self.start)


cdef class Problem:
    """Validated data. X (n, d) and y (n, k) as lines: contiguous runs in memory.

    lines: X if it is C-order, X.T if it is F-order (by_columns). targets: y.T, (k, n). weights: (n,) or None.
    fit_intercept: whether an intercept is added to the d columns. features: how many columns are penalised; a column
    after them is an intercept spelled out. triangular: whether X is zero below its diagonal. dtype: that of the
    results, by default that of the lines; what it can't hold has overflowed. columns: room for the copy by columns that
    is read in place of narrow rows, once there is one.
    """

    cdef readonly object lines, targets, weights, dtype
    cdef Room columns
    cdef readonly bint by_columns, fit_intercept, triangular
    cdef bint single
    cdef readonly double total_weight
    cdef readonly Py_ssize_t n, d, k, p, features

    def __init__(self, lines, bint by_columns, targets, weights, double total_weight, bint fit_intercept,
                 Py_ssize_t features=-1, bint triangular=False, dtype=None):
        self.lines = lines
        self.dtype = lines.dtype if dtype is None else dtype
        self.single = self.dtype.itemsize == 4
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
        if self.n < 1 or self.d < 1 or self.k < 1 or self.features > self.d:
            raise ValueError(f"a problem must have rows, columns and targets, and no more features than columns, got "
                             f"{self.n}, {self.d}, {self.k} and {self.features}")


cdef class Options:
    """The constants of a run.

    rates: lr, momentum and 1 - dampening for all epochs, or an array of them (epochs, 3) from epoch `start` on.
    batch_size: rows per update, 0 for all. tol < 0: never converged. average_from: the epoch from which on iterates
    are averaged, -1 for never. patience: epochs that the validation loss may go without falling to (1 - improvement)
    of its lowest, 0 for any number. shuffle: whether each epoch takes the rows in a new random order.
    """

    cdef readonly object rates
    cdef double lr, momentum, undamped
    cdef readonly double weight_decay, l1, tol, improvement
    cdef readonly bint nesterov, shuffle
    cdef readonly Py_ssize_t start, batch_size, patience, average_from

    def __init__(self, rates, bint nesterov=False, double weight_decay=0.0, double l1=0.0, double tol=-1.0,
                 Py_ssize_t start=0, Py_ssize_t batch_size=0, Py_ssize_t average_from=-1, Py_ssize_t patience=0,
                 double improvement=0.0, bint shuffle=False):
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
        self.shuffle = shuffle


cdef class State:
    """Where a descent stands, and all that is needed to resume it; `advance` changes it in place.

    parameters: (2, p, k), a_t and v_{t-1} at update t.
    average: (p, k) double, the mean of `averaged` iterates.
    best: (p, k), the iterate of the lowest validation loss, best_loss, after epoch best_epoch (-1: none yet).
    metrics: (3, k) double, a row each of INITIAL_OBJECTIVE, INITIAL_NORM (of the objective's gradient, at the first
    epoch) and LAST_LOSS; NaN before there is one.
    generator: the numpy Generator that orders the rows, or None. split: its state before it chose the validation
    rows, and their fraction; or None.
    epoch, updates: done so far. waited: epochs since the validation loss last improved.
    diverged: the target that overflowed, or -1.
    """

    cdef readonly object parameters, average, best, metrics, generator, split
    cdef readonly Py_ssize_t epoch, updates, averaged, best_epoch, waited, diverged
    cdef readonly double best_loss

    def __init__(self, parameters, average, best, metrics, Py_ssize_t epoch=0, Py_ssize_t updates=0,
                 Py_ssize_t averaged=0, Py_ssize_t best_epoch=-1, Py_ssize_t waited=0, double best_loss=INFINITY,
                 generator=None, split=None):
        self.parameters = parameters
        self.average = average
        self.best = best
        self.metrics = metrics
        self.generator = generator
        self.split = split
        self.epoch = epoch
        self.updates = updates
        self.averaged = averaged
        self.best_epoch = best_epoch
        self.waited = waited
        self.best_loss = best_loss
        self.diverged = -1

    def copy(self):
        """A state of its own, but for the generator."""
        average = None if self.average is None else self.average.copy()
        best = None if self.best is None else self.best.copy()
        return State(self.parameters.copy(), average, best, self.metrics.copy(), self.epoch, self.updates,
                     self.averaged, self.best_epoch, self.waited, self.best_loss, self.generator, self.split)


cdef class Record:
    """Histories, flat: loss, val_loss (rows, k); paths (3, rows, p, k), of grad, step and coef; each may be None.

    A row per epoch divisible by `every`, or with per_update per update divisible by it (val_loss per epoch always);
    row 0 is the first of them at or after epoch `start` (update `start_update`).
    """

    cdef readonly object loss, val_loss, paths
    cdef readonly Py_ssize_t every, start, start_update
    cdef readonly bint per_update

    def __init__(self, loss, val_loss, paths, Py_ssize_t every=1, bint per_update=False,
                 Py_ssize_t start=0, Py_ssize_t start_update=0):
        self.loss = loss
        self.val_loss = val_loss
        self.paths = paths
        self.every = every
        self.per_update = per_update
        self.start = start
        self.start_update = start_update


@final
cdef class Team:
    """Threads that share the rows of one `advance`: the one that calls it, and `helpers` that are in `help` then."""

    cdef sgdm_team team

    def __init__(self, int helpers):
        self.team.members = helpers + 1

    def open(self):
        """Lets helpers in again, once those from before have left."""
        SGDM_SET(&self.team.closed, 0)

    def close(self):
        """Sends the helpers home."""
        SGDM_SET(&self.team.closed, 1)

    def help(self, int member):
        """Takes part, as member 1 to `helpers`, until the team is closed."""
        with nogil:
            sgdm_help(&self.team, member)


def advance(Problem problem, Options options, State state, Record record, Py_ssize_t epochs, Problem validation=None,
            Team team=None):
    """Runs up to `epochs` more epochs, in place, without the GIL.

    With options.shuffle, the state's generator orders the rows of each epoch, as its `permutation` would. validation:
    held-out rows, whose loss is taken after every epoch. team: who shares the rows; the bits don't depend on it.

    Returns "completed", "converged", "stopped" or "diverged". An epoch that overflows is undone: the state and the
    generator are those before it. ValueError if an array has not the room for what will be read or written.
    """
    cdef Outcome outcome
    val_lines = val_targets = val_weights = None
    generator = state.generator.bit_generator if options.shuffle else None
    if validation is not None:
        val_lines, val_targets, val_weights = validation.lines, validation.targets, validation.weights
    if problem.lines.itemsize == 4:
        outcome = _advance[float](problem, options, state, record, epochs, generator, team, problem.lines,
                                  problem.targets, problem.weights, validation, val_lines, val_targets, val_weights,
                                  state.parameters, state.best, record.loss, record.val_loss, record.paths)
    else:
        outcome = _advance[double](problem, options, state, record, epochs, generator, team, problem.lines,
                                   problem.targets, problem.weights, validation, val_lines, val_targets, val_weights,
                                   state.parameters, state.best, record.loss, record.val_loss, record.paths)
    return OUTCOMES[outcome]


def parts(Problem problem, Options options):
    """Into how many parts an update's rows fall, at most: more threads than that are of no use."""
    cdef Py_ssize_t batch = min(options.batch_size if options.batch_size > 0 else problem.n, problem.n)
    cdef Shape shape = _shape(problem, batch, problem.lines.itemsize)
    return (batch + shape.part_rows - 1) // shape.part_rows


cdef inline Py_ssize_t _groups(Py_ssize_t length, Py_ssize_t group) noexcept nogil:
    """How many groups it takes, whose size may be the largest there is."""
    return length // group + (length % group != 0)


cdef inline Py_ssize_t _round_up(Py_ssize_t length, Py_ssize_t group) noexcept nogil:
    return (length + group - 1) // group * group


cdef struct Shape:          # of a problem, and how its rows are read
    Py_ssize_t n, d, k, padded      # padded: d in whole groups of lanes
    bint by_columns                 # F-order
    bint narrow                     # C-order, read by columns all the same:
    bint whole                      # from a copy of all of it, or else of a block
    bint triangular
    Py_ssize_t rows, part_rows      # in a block, and in a part of a pass, at most


cdef Shape _shape(Problem problem, Py_ssize_t batch, Py_ssize_t itemsize) noexcept:
    cdef Shape shape
    cdef Py_ssize_t lanes = LANE_BYTES // itemsize, size = problem.d * itemsize
    shape.n, shape.d, shape.k, shape.padded = problem.n, problem.d, problem.k, _round_up(problem.d, lanes)
    shape.by_columns, shape.triangular = problem.by_columns, problem.triangular
    shape.whole = not problem.by_columns and not problem.triangular and problem.n * size <= WHOLE_BYTES and (
        size <= (TOGETHER_BYTES if problem.k >= SGDM_TARGETS else NARROW_BYTES))
    shape.narrow = shape.whole or (not problem.by_columns and problem.d <= NARROWEST)
    batch = min(batch, problem.n)
    if shape.by_columns or shape.narrow:
        shape.rows = COLUMN_BLOCK_BYTES // size
        if shape.rows < COLUMN_ROWS and problem.k == 1:
            shape.rows = BLOCK_MAX
    elif problem.k == 1:
        shape.rows = ROWS
    else:
        shape.rows = ROW_BLOCK_BYTES // size
    shape.rows = max(lanes, min(BLOCK_MAX, shape.rows // lanes * lanes))
    shape.rows = min(shape.rows, _round_up(batch, lanes))
    shape.part_rows = _round_up(max(PART_ELEMENTS // problem.d, (batch + SGDM_PARTS - 1) // SGDM_PARTS), shape.rows)
    return shape


cdef struct Source:         # a problem's rows, and one thread's room to read them in
    Shape shape
    const void* lines
    const void* y           # (k, n)
    const void* w           # (n,), or NULL
    void* tail              # (padded,), of C-order X the last row with zeros after it
    void* whole             # (d + k + 1, n in whole groups), narrow X, y and w, all rows by columns; or NULL
    Py_ssize_t copied, copied_rows   # the first row that `copy` holds, or -1, and how many
    void* copy              # (d, rows), a block that can't be read in place
    void* y_copy            # (k, rows)
    void* w_copy            # (rows,)
    void* r                 # (SGDM_TARGETS, rows)
    void* wr                # the same
    void* g                 # (k, padded)
    Block block


cdef struct Rows:           # a problem's rows for a team of threads
    Source* sources         # one for each member
    void* room
    double* partials        # (SGDM_PARTS, k + k * (padded + 1)), the loss and the gradient of each part; alone one
    sgdm_team* team         # or NULL


cdef inline void* _cache_line(void* room) noexcept nogil:
    """The first place in it where a cache line begins."""
    return <void*> _round_up(<Py_ssize_t> room, LANE_BYTES)


cdef int _open(Rows* rows, Shape shape, sgdm_team* team, const floating* exemplar) noexcept nogil:
    """Makes room to read the rows of a problem of this shape; returns -1 if there is no memory. To be closed."""
    cdef:
        Py_ssize_t members = team.members if team != NULL else 1, k = shape.k, b = shape.rows, i
        Py_ssize_t copy = shape.d * b if shape.by_columns or shape.narrow else 0
        Py_ssize_t own = copy + (k + 1 + 2 * SGDM_TARGETS) * b + k * shape.padded
        floating* room
    rows.team = team
    rows.sources = <Source*> calloc(members, sizeof(Source))
    rows.room = calloc(shape.padded + members * own + LANE_BYTES // sizeof(floating), sizeof(floating))
    rows.partials = <double*> calloc((SGDM_PARTS if team != NULL else 1) * k * (shape.padded + 2), sizeof(double))
    if rows.sources == NULL or rows.room == NULL or rows.partials == NULL:
        return -1
    for i in range(members):
        room = <floating*> _cache_line(rows.room)
        rows.sources[i].shape = shape
        rows.sources[i].tail = room
        room += shape.padded + i * own
        rows.sources[i].copy = room
        rows.sources[i].y_copy = room + copy
        rows.sources[i].w_copy = room + copy + k * b
        rows.sources[i].r = room + copy + (k + 1) * b
        rows.sources[i].wr = room + copy + (k + 1 + SGDM_TARGETS) * b
        rows.sources[i].g = room + copy + (k + 1 + 2 * SGDM_TARGETS) * b
    return 0


cdef void _close(Rows* rows) noexcept nogil:
    free(rows.sources)
    free(rows.room)
    free(rows.partials)


cdef Py_ssize_t _whole_size(Shape shape, Py_ssize_t itemsize) noexcept nogil:
    """How many bytes to allocate for a copy by columns of X, y and w."""
    return (shape.d + shape.k + 1) * _round_up(shape.n, LANE_BYTES // itemsize) * itemsize + LANE_BYTES


cdef void _point(Rows* rows, const floating* lines, const floating* y, const floating* w, void* columns,
                 bint copied) noexcept nogil:
    """Takes up the data that are to be read; columns: the room for the copy by columns, and whether it is made."""
    cdef:
        Shape shape = rows.sources[0].shape
        Source* source = &rows.sources[0]
        Py_ssize_t size = shape.d * <Py_ssize_t> sizeof(floating), i
        Py_ssize_t step = min(size & -size, <Py_ssize_t> LANE_BYTES)  # rows begin so far apart in their cache lines
        Py_ssize_t stride = _round_up(shape.n, LANE_BYTES // sizeof(floating))
        floating* whole = <floating*> _cache_line(columns)
        Block block
    memset(&block, 0, sizeof(Block))
    block.d, block.padded, block.k, block.target_stride = shape.d, shape.padded, shape.k, shape.n
    block.triangular, block.room = shape.triangular, shape.rows
    if not shape.by_columns and not shape.narrow:
        block.straddles = (<Py_ssize_t> lines) % step + LANE_BYTES - step + size > (
            shape.padded * <Py_ssize_t> sizeof(floating))
        if shape.padded > shape.d:
            block.last, block.tail = lines + (shape.n - 1) * shape.d, source.tail
            memcpy(source.tail, block.last, size)
    if shape.whole and not copied:
        if source.lines != lines:
            if floating is float:
                _transpose_float(lines, shape.d, shape.n, whole, stride)
            else:
                _transpose_double(lines, shape.d, shape.n, whole, stride)
        for i in range(shape.k):
            memcpy(whole + (shape.d + i) * stride, y + i * shape.n, shape.n * sizeof(floating))
        if w != NULL:
            memcpy(whole + (shape.d + shape.k) * stride, w, shape.n * sizeof(floating))
    for i in range(rows.team.members if rows.team != NULL else 1):
        source = &rows.sources[i]
        source.lines, source.y, source.w, source.whole = lines, y, w, whole if shape.whole else NULL
        source.copied = -1
        source.block = block


cdef inline void _gather(Source* source, const Block* block, Py_ssize_t start, const Py_ssize_t* order,
                         const floating* lines, floating* copy) noexcept nogil:
    """copy = rows `start` to `start + b` of X by columns, or those that `order` names there, with their y and w."""
    cdef:
        Py_ssize_t n = source.shape.n, d = block.d, stride = source.shape.rows, i, j, row
        const floating* y = <const floating*> source.y
        const floating* w = <const floating*> source.w
    if order == NULL:
        for j in range(d):
            memcpy(copy + j * stride, lines + j * n + start, block.b * sizeof(floating))
        return
    for i in range(block.b):
        row = order[start + i]
        for j in range(d):
            copy[j * stride + i] = lines[j * n + row] if source.shape.by_columns else lines[row * d + j]
        for j in range(block.k):
            (<floating*> source.y_copy)[j * stride + i] = y[j * n + row]
        if w != NULL:
            (<floating*> source.w_copy)[i] = w[row]


cdef void _sums_of(Source* source, Py_ssize_t start, Py_ssize_t stop, const Py_ssize_t* order, const floating* coef,
                   const floating* intercept, bint with_gradient, double* loss, double* grad) noexcept nogil:
    """`_sums` of rows start to stop by one thread.

    Lines are read in whole groups; where that would run past the end of X, from a copy.
    """
    cdef:
        Block block = source.block
        Py_ssize_t lanes = LANE_BYTES // sizeof(floating), n = source.shape.n
        bint by_columns = source.shape.by_columns, columns = by_columns or source.shape.narrow
        floating* g = <floating*> source.g if with_gradient else NULL
        const floating* lines
        const floating* y
        const floating* w
    memset(loss, 0, block.k * sizeof(double))
    memset(grad, 0, block.k * (block.padded + 1) * sizeof(double))
    while start < stop:
        block.b = min(source.shape.rows, stop - start)
        block.first = start
        lines, y, w = <const floating*> source.lines, <const floating*> source.y, <const floating*> source.w
        if not columns:
            block.stride = block.d
            if order != NULL:
                block.order = order + start
                block.ahead = n - start
            else:
                lines += start * block.d
        elif order == NULL and source.whole != NULL:
            block.stride = block.target_stride = _round_up(n, lanes)
            block.padded_rows = True
            lines = <const floating*> source.whole
            y = lines + block.d * block.stride
            if w != NULL:
                w = y + block.k * block.stride
            lines += start
        elif order == NULL and by_columns and n - start >= lanes:
            if start + _round_up(block.b, lanes) > n:
                block.b = (n - start) // lanes * lanes
            block.stride = n
            lines += start
        else:
            if order == NULL and not by_columns:
                if floating is float:
                    _transpose_float(lines + start * block.d, block.d, block.b, <float*> source.copy,
                                     source.shape.rows)
                else:
                    _transpose_double(lines + start * block.d, block.d, block.b, <double*> source.copy,
                                      source.shape.rows)
            elif order != NULL or source.copied != start or source.copied_rows != block.b:
                source.copied, source.copied_rows = start if order == NULL else -1, block.b
                _gather(source, &block, start, order, lines, <floating*> source.copy)
            block.stride = source.shape.rows
            lines = <const floating*> source.copy
            if order != NULL:
                block.target_stride = source.shape.rows
                block.padded_rows = True
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


cdef struct Pass:           # over rows start to stop, shared in parts
    Rows* rows
    Py_ssize_t start, stop
    const Py_ssize_t* order
    const void* coef
    const void* intercept
    bint with_gradient


cdef inline void _part(Pass* task, Py_ssize_t part, double* partial, Source* source,
                       const floating* coef) noexcept nogil:
    """Part `part` of a pass, its loss and gradient to `partial`."""
    cdef Py_ssize_t start = task.start + part * source.shape.part_rows
    _sums_of(source, start, min(start + source.shape.part_rows, task.stop), task.order, coef,
             <const floating*> task.intercept, task.with_gradient, partial, partial + source.shape.k)


cdef void _part_float(void* task, int part, int member) noexcept nogil:
    cdef Rows* rows = (<Pass*> task).rows
    _part(<Pass*> task, part, rows.partials + part * rows.sources.shape.k * (rows.sources.shape.padded + 2),
          &rows.sources[member], <const float*> (<Pass*> task).coef)


cdef void _part_double(void* task, int part, int member) noexcept nogil:
    cdef Rows* rows = (<Pass*> task).rows
    _part(<Pass*> task, part, rows.partials + part * rows.sources.shape.k * (rows.sources.shape.padded + 2),
          &rows.sources[member], <const double*> (<Pass*> task).coef)


cdef void _sums(Rows* rows, Py_ssize_t start, Py_ssize_t stop, const Py_ssize_t* order, const floating* coef,
                const floating* intercept, bint with_gradient, double* loss, double* grad) noexcept nogil:
    """loss = (w * r**2).sum() and grad = [X, 1].T @ (w * r) over rows start to stop; r = X @ coef + intercept - y.

    Summed part by part, whoever computes the parts: the bits don't depend on the team.
    """
    cdef:
        Source* source = rows.sources
        Py_ssize_t k = source.shape.k, size = k * (source.shape.padded + 2), part, j
        Py_ssize_t parts = (stop - start + source.shape.part_rows - 1) // source.shape.part_rows
        double* partial = rows.partials
        sgdm_team* team = rows.team if parts <= SGDM_PARTS else NULL    # a batch falls into fewer; all rows may not
        Pass task
    if parts == 1:
        _sums_of(source, start, stop, order, coef, intercept, with_gradient, loss, grad)
        return
    task.rows, task.start, task.stop, task.order = rows, start, stop, order
    task.coef, task.intercept, task.with_gradient = coef, intercept, with_gradient
    if team != NULL:
        sgdm_share(team, _part_float if floating is float else _part_double, &task, <int> parts)
    memset(loss, 0, k * sizeof(double))
    memset(grad, 0, (size - k) * sizeof(double))
    for part in range(parts):
        if team == NULL:
            _part(&task, part, partial, source, coef)
        for j in range(k):
            loss[j] += partial[j]
        for j in range(size - k):
            grad[j] += partial[k + j]
        if team != NULL:
            partial += size


cdef bint _sums_of_zeros(const Source* source, const floating* a, double* loss) noexcept nogil:
    """loss = (w * y**2).sum() over all rows, if all parameters are 0: it takes no pass over X. Returns whether."""
    cdef:
        const floating* y = <const floating*> source.y
        const floating* w = <const floating*> source.w
        Py_ssize_t n = source.shape.n, k = source.shape.k, i, t
    for i in range(k * (source.shape.padded + 1)):
        if a[i] != 0:
            return False
    for t in range(k):
        loss[t] = 0
        for i in range(n):
            loss[t] += (w[i] if w != NULL else 1) * (<double> y[t * n + i] * y[t * n + i])
    return True


cdef inline double _weight(const Source* source, Py_ssize_t start, Py_ssize_t stop, const Py_ssize_t* order,
                           const floating* w) noexcept nogil:
    """The sum of the weights of rows start to stop."""
    cdef double total = 0
    cdef Py_ssize_t i
    if w == NULL:
        return stop - start
    for i in range(start, stop):
        total += w[order[i] if order != NULL else i]
    return total


cdef void _shuffle(BitGenerator* generator, Py_ssize_t n, Py_ssize_t* order) noexcept nogil:
    """order = numpy.random.Generator(generator).permutation(n), without its unpredictable branches (3 instead of 8 ns a
    row).

    Fisher and Yates: swap i = n - 1, ..., 1 with a random j <= i, found by rejection. Up to 64 partners are drawn
    before the swaps; the next draw overwrites a rejected one.
    """
    cdef:
        Py_ssize_t i = n - 1, j, q, lowest, count, kept
        uint64_t mask = <uint64_t> -1, drawn
        uint64_t partner[64]
    for j in range(n):
        order[j] = j
    while i > 0:
        while mask >> 1 >= <uint64_t> i:
            mask >>= 1
        lowest = <Py_ssize_t> (mask >> 1) + 1           # mask is that of every i from here on
        count = min(i - lowest + 1, 64)
        kept = 0
        while kept < count:
            if mask >> 32 == 0:
                drawn = generator.next_uint32(generator.state)
            else:
                drawn = generator.next_uint64(generator.state)
            partner[kept] = drawn & mask
            kept += partner[kept] <= <uint64_t> (i - kept)
        for q in range(count):
            j = <Py_ssize_t> partner[q]
            order[i], order[j] = order[j], order[i]
            i -= 1


cdef inline void _update(const Update* update, Py_ssize_t length, double scale, const double* grad, floating* a,
                         floating* v, floating* g) noexcept nogil:
    if floating is float:
        _update_float(update, length, scale, grad, a, v, g)
    else:
        _update_double(update, length, scale, grad, a, v, g)


cdef inline bint _finite(const floating* x, Py_ssize_t length, double largest) noexcept nogil:
    """Whether all of x are numbers of at most this size."""
    cdef Py_ssize_t i
    for i in range(length):
        if not fabs(x[i]) <= largest:
            return False
    return True


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


cdef struct Descent:        # one run as the nogil loop sees it; a NULL pointer means that the feature is off
    Rows rows, held_out             # held_out.sources: NULL without validation
    double total_weight, held_out_weight
    Py_ssize_t p, features, batch
    const double* rates             # lr, momentum and 1 - dampening at epoch `start`; those of later ones every
    Py_ssize_t start, rate_step     # `rate_step`
    double decay, l1, tol, improvement
    Py_ssize_t patience, average_from
    bint nesterov, single
    Py_ssize_t every, first_row, first_val_row      # histories: see Record
    bint per_update
    void* loss
    void* val_loss
    void* paths
    Py_ssize_t path                                 # elements of each of the three paths
    void* parameters                                # the state: see State
    void* best
    double* metrics
    double* average
    Py_ssize_t epoch, updates, averaged, best_epoch, waited, diverged
    double best_loss
    void* work                                      # the loop's own room
    double* sums
    Py_ssize_t* order
    BitGenerator* generator


cdef int _make_room(Descent* run, Shape shape, const floating* exemplar) noexcept nogil:
    """Allocates what the loop works in; returns -1 if there is no memory."""
    cdef Py_ssize_t size = shape.k * (shape.padded + 1)
    run.work = calloc(6 * size + LANE_BYTES // sizeof(floating), sizeof(floating))
    run.sums = <double*> calloc(2 * shape.k + 3 * size, sizeof(double))
    if run.generator != NULL:
        run.order = <Py_ssize_t*> calloc(shape.n, sizeof(Py_ssize_t))
    return -1 if run.work == NULL or run.sums == NULL or (run.generator != NULL and run.order == NULL) else 0


cdef void _free_room(Descent* run) noexcept nogil:
    _close(&run.rows)
    _close(&run.held_out)
    free(run.work)
    free(run.sums)
    free(run.order)


cdef inline Py_ssize_t _at(Py_ssize_t j, Py_ssize_t t, const Shape* shape) noexcept nogil:
    """Where parameter j of target t is in the loop: k rows of `padded` features, then the k intercepts."""
    return t * shape.padded + j if j < shape.d else shape.k * shape.padded + t


cdef inline void _pack(const Descent* run, floating* kept, floating* working, bint back) noexcept nogil:
    """working = kept, parameters as State and Record have them, (p, k), into the order of the loop; or back."""
    cdef Py_ssize_t j, t
    cdef const Shape* shape = &run.rows.sources.shape
    if shape.k == 1:
        if back:
            memcpy(kept, working, shape.d * sizeof(floating))
        else:
            memcpy(working, kept, shape.d * sizeof(floating))
        if run.p > shape.d and back:
            kept[shape.d] = working[shape.padded]
        elif run.p > shape.d:
            working[shape.padded] = kept[shape.d]
        return
    for j in range(run.p):
        for t in range(shape.k):
            if back:
                kept[j * shape.k + t] = working[_at(j, t, shape)]
            else:
                working[_at(j, t, shape)] = kept[j * shape.k + t]


cdef inline void _keep(const Descent* run, Py_ssize_t row, floating* g, floating* v, floating* a) noexcept nogil:
    """Writes row `row` of the paths."""
    cdef floating* path = <floating*> run.paths
    if path != NULL:
        path += row * run.p * run.rows.sources.shape.k
        _pack(run, path, g, True)
        _pack(run, path + run.path, v, True)
        _pack(run, path + 2 * run.path, a, True)


cdef bint _finite_target(const Descent* run, Py_ssize_t t, const floating* a, double largest) noexcept nogil:
    """Whether parameters, velocity and gradient of a target are numbers of at most this size."""
    cdef const Shape* shape = &run.rows.sources.shape
    cdef Py_ssize_t i, j
    for i in range(3):
        for j in range(run.p):
            if not fabs(a[i * shape.k * (shape.padded + 1) + _at(j, t, shape)]) <= largest:
                return False
    return True


cdef Outcome _descend(Descent* run, Py_ssize_t epochs, const floating* exemplar) noexcept nogil:
    """Advances a run by up to `epochs` epochs."""
    cdef:
        const Shape* shape = &run.rows.sources.shape
        Update update, intercept_update
        Py_ssize_t n = shape.n, d = shape.d, k = shape.k, padded = shape.padded, width = padded + 1
        Py_ssize_t p = run.p, features = run.features, every = run.every, size = k * width
        Py_ssize_t epoch, last = run.epoch + epochs, updates, averaged, row, t, j, start, stop, converged
        floating* a = <floating*> _cache_line(run.work)
        floating* b = a + k * padded            # the intercepts
        floating* v = a + size
        floating* g = v + size
        floating* a_before = g + size           # the parameters before the last update
        floating* a_start = a_before + size     # the parameters and velocities before the epoch
        floating* v_start = a_start + size
        floating* parameters = <floating*> run.parameters
        double* loss = run.sums
        double* epoch_loss = loss + k
        double* grad = epoch_loss + k           # (k, width)
        double* mean = grad + size
        double* mean_start = mean + size
        double* metrics = run.metrics           # (METRICS, k)
        const double* rates
        const Py_ssize_t* order = run.order if run.generator != NULL else NULL
        double total, scale, val, norm, largest = FLT_MAX if run.single else DBL_MAX
        bint full = run.batch >= n, keep, finite
        Outcome outcome = COMPLETED

    if full:
        a_before = a_start                      # there is one update
    _pack(run, parameters, a, False)
    _pack(run, parameters + p * k, v, False)
    if run.average != NULL:
        _pack(run, run.average, mean, False)
    update.nesterov = run.nesterov
    update.decay = run.decay
    while run.epoch < last:
        epoch = run.epoch
        memcpy(a_start, a, size * sizeof(floating))
        memcpy(v_start, v, size * sizeof(floating))
        if run.average != NULL:
            memcpy(mean_start, mean, size * sizeof(double))
        memset(epoch_loss, 0, k * sizeof(double))
        updates, averaged = run.updates, run.averaged
        rates = run.rates + (epoch - run.start) * run.rate_step
        update.lr, update.momentum, update.undamped = rates[0], rates[1], rates[2]
        update.threshold = update.lr * run.l1 * update.undamped / (1 - update.momentum)
        if epoch == 0 and not full:             # where it began: the loss of all rows before the first update
            if not _sums_of_zeros(run.rows.sources, a, loss):
                _sums(&run.rows, 0, n, NULL, a, b, False, loss, grad)
            for t in range(k):
                metrics[INITIAL_OBJECTIVE * k + t] = loss[t] / run.total_weight + _penalty(
                    features, a + t * padded, run.decay, run.l1)
        if order != NULL:
            _shuffle(run.generator, n, run.order)
        start = 0
        while start < n:
            stop = min(start + run.batch, n)
            update.first = updates == 0
            if p > features:
                intercept_update = update
                intercept_update.decay = intercept_update.threshold = 0
            _sums(&run.rows, start, stop, order, a, b, True, loss, grad)
            total = run.total_weight if full else _weight(
                run.rows.sources, start, stop, order, <const floating*> run.rows.sources.w)
            scale = 2 / total if total > 0 else 0
            if not full:
                memcpy(a_before, a, size * sizeof(floating))
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
            if run.average_from >= 0 and epoch >= run.average_from:
                averaged += 1
                for j in range(size):
                    mean[j] += (a[j] - mean[j]) / averaged
            if run.per_update and updates % every == 0:
                row = updates // every - run.first_row
                for t in range(k):
                    (<floating*> run.loss)[row * k + t] = <floating> (loss[t] / total if total > 0 else 0)
                    if not isfinite((<floating*> run.loss)[row * k + t]):
                        epoch_loss[t] = INFINITY
                _keep(run, row, g, v, a_before)
            updates += 1
            start = stop

        # In float32 velocity and gradient too: computed in double, they may overflow when rounded.
        finite = _finite(a, (3 if floating is float or run.single else 1) * size, largest)
        for t in range(k):
            epoch_loss[t] /= run.total_weight
            finite &= fabs(<floating> epoch_loss[t]) <= largest
        if not finite:
            run.diverged = 0
            while fabs(<floating> epoch_loss[run.diverged]) <= largest and run.diverged < k - 1 and (
                    _finite_target(run, run.diverged, a, largest)):
                run.diverged += 1
            memcpy(a, a_start, size * sizeof(floating))
            memcpy(v, v_start, size * sizeof(floating))
            if run.average != NULL:
                memcpy(mean, mean_start, size * sizeof(double))
            outcome = DIVERGED
            break

        keep = epoch % every == 0
        if keep and not run.per_update:
            row = epoch // every - run.first_row
            if run.loss != NULL:
                for t in range(k):
                    (<floating*> run.loss)[row * k + t] = <floating> epoch_loss[t]
            _keep(run, row, g, v, a_before)
        converged = 0
        for t in range(k):
            metrics[LAST_LOSS * k + t] = epoch_loss[t]
            if epoch == 0 and full:
                metrics[INITIAL_OBJECTIVE * k + t] = epoch_loss[t] + _penalty(
                    features, a_before + t * padded, run.decay, run.l1)
            if epoch == 0 or run.tol >= 0:
                norm = _norm(features, a_before + t * padded, g + t * padded, run.decay, run.l1,
                             g[_at(features, t, shape)] if p > features else 0)
                if epoch == 0:
                    metrics[INITIAL_NORM * k + t] = norm
                converged += run.tol >= 0 and norm <= run.tol * metrics[INITIAL_NORM * k + t]
        run.epoch += 1
        run.updates, run.averaged = updates, averaged
        if run.held_out.sources != NULL:
            _sums(&run.held_out, 0, run.held_out.sources.shape.n, NULL, a, b, False, loss, grad)
            val = 0
            for t in range(k):
                val += loss[t] / run.held_out_weight
                if keep and run.val_loss != NULL:
                    row = epoch // every - run.first_val_row
                    (<floating*> run.val_loss)[row * k + t] = <floating> (loss[t] / run.held_out_weight)
            if val < run.best_loss * (1 - (run.improvement if run.best_epoch >= 0 else 0)):
                run.best_loss = val
                run.best_epoch = epoch
                run.waited = 0
                _pack(run, <floating*> run.best, a, True)
            else:
                run.waited += 1
                if 0 < run.patience <= run.waited:
                    outcome = STOPPED
                    break
        if converged == k:
            outcome = CONVERGED
            break
    _pack(run, parameters, a, True)
    _pack(run, parameters + p * k, v, True)
    if run.average != NULL:
        _pack(run, run.average, mean, True)
    return outcome


cdef inline int _expect(str name, Py_ssize_t rows, Py_ssize_t columns, Py_ssize_t expected_rows,
                        Py_ssize_t expected_columns) except -1:
    """Refuses an array of another shape than the loop reads or writes."""
    if rows != expected_rows or columns != expected_columns:
        raise ValueError(f"{name} must have {expected_rows} rows of {expected_columns}, got {rows} of {columns}")
    return 0


cdef inline int _expect_rows(str name, Py_ssize_t first, Py_ssize_t last, Py_ssize_t begin, Py_ssize_t every,
                             Py_ssize_t rows) except -1:
    """Refuses a history of so many rows that has no room for the epochs (or updates) from `first` to before `last`;
    its row 0 is the first of them at or after `begin` that `every` divides."""
    cdef Py_ssize_t start = _groups(first, every), stop = _groups(last, every), begun = _groups(begin, every)
    if start < stop and (start < begun or stop - begun > rows):
        raise ValueError(f"{name} must have room for rows {start - begun} to {stop - begun - 1}, got {rows} rows")
    return 0


cdef int _expect_data(str whose, Problem problem, const floating[:, ::1] lines, const floating[:, ::1] targets,
                      const floating[::1] weights) except -1:
    """Refuses data that are not of the problem's size."""
    cdef Py_ssize_t n = problem.n, d = problem.d
    if (lines.shape[0] != (d if problem.by_columns else n) or lines.shape[1] != (n if problem.by_columns else d)
            or targets.shape[0] != problem.k or targets.shape[1] != n
            or (weights is not None and weights.shape[0] != n)):
        raise ValueError(f"{whose} must have {n} rows, {d} columns, {problem.k} targets and as many weights as rows, "
                         f"got lines of shape {problem.lines.shape}, targets of {problem.targets.shape} and weights "
                         f"of {getattr(problem.weights, 'shape', None)}")
    return 0


cdef int _expect_room(Problem problem, Options options, State state, Record record, Py_ssize_t epochs,
                      Py_ssize_t per_epoch, Problem validation, const floating[:, :, ::1] parameters,
                      const floating[:, ::1] best, const double[:, ::1] metrics, const double[:, ::1] average,
                      const double[:, ::1] rates, const floating[::1] loss, const floating[::1] val_loss,
                      const floating[::1] paths) except -1:
    """Refuses to run epochs of so many updates each unless all that they will read and write is there: the loop does
    not look."""
    cdef:
        Py_ssize_t k = problem.k, p = problem.p, every = record.every, row = 3 * p * k
        Py_ssize_t epoch = state.epoch, updates = state.updates, last, last_update
    if epochs < 0 or epoch < 0 or updates < 0 or state.averaged < 0:
        raise ValueError(f"counts of epochs, updates and averaged iterates must not be negative, got {epochs} epochs "
                         f"after {epoch}, {updates} and {state.averaged}")
    if epochs > PY_SSIZE_T_MAX - epoch or epochs > (PY_SSIZE_T_MAX - updates) // per_epoch:
        raise ValueError(f"{epochs} epochs of {per_epoch} updates after {epoch} epochs and {updates} updates are too "
                         "many to count")
    if every < 1 or record.start < 0 or record.start_update < 0:
        raise ValueError(f"a record must keep every so many epochs, at least 1, from 0 or later on, got {every} from "
                         f"{record.start} and update {record.start_update} on")
    last, last_update = epoch + epochs, updates + epochs * per_epoch
    _expect("parameters", parameters.shape[0], parameters.shape[1] * parameters.shape[2], 2, p * k)
    _expect("parameters", parameters.shape[1], parameters.shape[2], p, k)
    _expect("metrics", metrics.shape[0], metrics.shape[1], METRICS, k)
    if average is not None:
        _expect("average", average.shape[0], average.shape[1], p, k)
    if rates is not None and (rates.shape[1] != 3 or epoch < options.start or last - options.start > rates.shape[0]):
        raise ValueError(f"rates must have 3 columns, and rows {epoch - options.start} to "
                         f"{last - options.start - 1}, got {rates.shape[0]} rows of {rates.shape[1]}")
    if validation is not None:
        if best is None:
            raise ValueError("best must be given with validation, got None")
        _expect("best", best.shape[0], best.shape[1], p, k)
        _expect("validation", validation.d, validation.k, problem.d, k)
        if val_loss is not None:
            _expect_rows("val_loss", epoch, last, record.start, every, val_loss.shape[0] // k)
    if record.per_update:
        if loss is None:
            raise ValueError("loss must be given with per_update, got None")
        _expect_rows("loss", updates, last_update, record.start_update, every, loss.shape[0] // k)
        if paths is not None:
            _expect_rows("paths", updates, last_update, record.start_update, every, paths.shape[0] // row)
        return 0
    if loss is not None:
        _expect_rows("loss", epoch, last, record.start, every, loss.shape[0] // k)
    if paths is not None:
        _expect_rows("paths", epoch, last, record.start, every, paths.shape[0] // row)
    return 0


cdef Outcome _advance(Problem problem, Options options, State state, Record record, Py_ssize_t epochs, generator,
                      Team team, const floating[:, ::1] lines, const floating[:, ::1] targets,
                      const floating[::1] weights, Problem validation, const floating[:, ::1] val_lines,
                      const floating[:, ::1] val_targets, const floating[::1] val_weights,
                      floating[:, :, ::1] parameters, floating[:, ::1] best, floating[::1] loss_history,
                      floating[::1] val_history, floating[::1] paths) except *:
    cdef:
        Py_ssize_t batch = options.batch_size if options.batch_size > 0 else problem.n
        double[:, ::1] metrics = state.metrics
        double[:, ::1] average = state.average
        const double[:, ::1] rates = None
        double constants[3]
        void* columns = NULL
        bint copied
        Shape shape = _shape(problem, batch, sizeof(floating)), val_shape
        sgdm_team* helpers = &team.team if team is not None else NULL
        const floating* exemplar = NULL         # for its type
        Descent run
        Outcome outcome

    if not isinstance(options.rates, tuple):
        rates = options.rates
    _expect_data("the problem", problem, lines, targets, weights)
    if validation is not None:
        _expect_data("validation", validation, val_lines, val_targets, val_weights)
    _expect_room(problem, options, state, record, epochs, _groups(problem.n, batch), validation, parameters, best,
                 metrics, average, rates, loss_history, val_history, paths)
    memset(&run, 0, sizeof(Descent))
    run.p, run.features, run.batch, run.total_weight = problem.p, problem.features, batch, problem.total_weight
    if rates is None:
        constants[0], constants[1], constants[2] = options.lr, options.momentum, options.undamped
        run.rates = constants
    elif rates.shape[0]:
        run.rates, run.rate_step = &rates[0, 0], 3
    run.start, run.nesterov, run.single = options.start, options.nesterov, problem.single
    run.decay, run.l1, run.tol = options.weight_decay, options.l1, options.tol
    run.patience, run.improvement, run.average_from = options.patience, options.improvement, options.average_from
    run.every, run.per_update = record.every, record.per_update
    run.first_row = _groups(record.start_update if record.per_update else record.start, run.every)
    run.first_val_row = _groups(record.start, run.every)
    run.loss = &loss_history[0] if loss_history is not None and loss_history.shape[0] else NULL
    run.val_loss = &val_history[0] if val_history is not None and val_history.shape[0] else NULL
    if paths is not None and paths.shape[0]:
        run.paths, run.path = &paths[0], paths.shape[0] // 3
    run.parameters = &parameters[0, 0, 0]
    run.best = &best[0, 0] if best is not None else NULL
    run.metrics = &metrics[0, 0]
    run.average = &average[0, 0] if average is not None else NULL
    run.epoch, run.updates, run.averaged = state.epoch, state.updates, state.averaged
    run.best_epoch, run.waited, run.best_loss, run.diverged = state.best_epoch, state.waited, state.best_loss, -1
    if generator is not None:
        run.generator = <BitGenerator*> PyCapsule_GetPointer(generator.capsule, "BitGenerator")
        generator.lock.acquire()    # which an interrupt may end; from here on, nothing of Python's runs that one can
    try:
        if generator is not None:
            before = generator.state
        if _open(&run.rows, shape, helpers, exemplar) < 0 or _make_room(&run, shape, exemplar) < 0:
            raise MemoryError("no memory for the working arrays of the fit")
        if validation is not None:
            val_shape = _shape(validation, validation.n, sizeof(floating))
            run.held_out_weight = validation.total_weight
            if _open(&run.held_out, val_shape, helpers, exemplar) < 0:
                raise MemoryError("no memory for the working arrays of the validation")
            copied = validation.columns is not None
            if val_shape.whole:
                if not copied:
                    validation.columns = Room(_whole_size(val_shape, sizeof(floating)))
                columns = validation.columns.start
            _point(&run.held_out, &val_lines[0, 0], &val_targets[0, 0],
                   &val_weights[0] if val_weights is not None else NULL, columns, copied)
        copied = problem.columns is not None
        if shape.whole:
            if not copied:
                problem.columns = Room(_whole_size(shape, sizeof(floating)))
            columns = problem.columns.start
        with nogil:
            _point(&run.rows, &lines[0, 0], &targets[0, 0], &weights[0] if weights is not None else NULL,
                   columns, copied)
            outcome = _descend(&run, epochs, exemplar)
        if outcome == DIVERGED and generator is not None:
            generator.state = before
            for _ in range(run.epoch - state.epoch):
                _shuffle(run.generator, problem.n, run.order)
    finally:
        if generator is not None:
            generator.lock.release()
        _free_room(&run)
    state.epoch, state.updates, state.averaged = run.epoch, run.updates, run.averaged
    state.best_epoch, state.waited, state.best_loss, state.diverged = (
        run.best_epoch, run.waited, run.best_loss, run.diverged)
    return outcome


def losses(Problem problem, parameters):
    """The mean squared error of each target, a list of k floats, at the parameters (p, k)."""
    if problem.lines.itemsize == 4:
        return _losses[float](problem, problem.lines, problem.targets, problem.weights, parameters)
    return _losses[double](problem, problem.lines, problem.targets, problem.weights, parameters)


cdef list _losses(Problem problem, const floating[:, ::1] lines, const floating[:, ::1] targets,
                  const floating[::1] weights, const floating[:, ::1] parameters):
    cdef:
        Py_ssize_t t
        Shape shape = _shape(problem, problem.n, sizeof(floating))
        bint copied = problem.columns is not None
        Room columns = problem.columns
        const floating* exemplar = NULL
        Descent run
    _expect_data("the problem", problem, lines, targets, weights)
    _expect("parameters", parameters.shape[0], parameters.shape[1], problem.p, problem.k)
    memset(&run, 0, sizeof(Descent))
    run.p = problem.p
    if shape.whole and not copied:
        columns = Room(_whole_size(shape, sizeof(floating)))
    try:
        if _open(&run.rows, shape, NULL, exemplar) < 0 or _make_room(&run, shape, exemplar) < 0:
            raise MemoryError("no memory for the working arrays of the loss")
        with nogil:
            _point(&run.rows, &lines[0, 0], &targets[0, 0], &weights[0] if weights is not None else NULL,
                   columns.start if shape.whole else NULL, copied)
            _losses_at(&run, &parameters[0, 0])
        return [run.sums[t] / problem.total_weight for t in range(problem.k)]
    finally:
        _free_room(&run)


cdef void _losses_at(Descent* run, const floating* parameters) noexcept nogil:
    """run.sums = the sum of w r^2 of each target at the parameters."""
    cdef:
        const Shape* shape = &run.rows.sources.shape
        floating* a = <floating*> _cache_line(run.work)
    _pack(run, <floating*> parameters, a, False)
    _sums(&run.rows, 0, shape.n, NULL, a, a + shape.k * shape.padded, False, run.sums, run.sums + shape.k)


class Problems:
    """The data of many fits, full batches of one target.

    lines (B, n, d), or with by_columns (B, d, n); targets and weights (B, n), weights maybe None; total_weights (B,).
    Each leads with 1 in place of B where all fits share it. one: the `Problem` of the first fit, for its sizes.
    """

    def __init__(self, lines, by_columns, targets, weights, total_weights, fit_intercept):
        self.lines, self.by_columns, self.targets = lines, by_columns, targets
        self.weights, self.total_weights = weights, total_weights
        self.one = Problem(lines[0], by_columns, targets[:1], None, 1.0, fit_intercept)


class ManyOptions:
    """The constants of many fits: rates (B, 3), lr, momentum and 1 - dampening; penalties (B, 2), weight_decay and l1;
    how many epochs each does, and nesterov and tol as of `Options`."""

    def __init__(self, rates, penalties, epochs, nesterov, tol):
        self.rates, self.penalties, self.epochs, self.nesterov, self.tol = rates, penalties, epochs, nesterov, tol


class States:
    """Where many fits stand: parameters (B, 2, p), metrics (B, 3) and epochs (B,) as of `State`, and outcomes (B,), an
    index into OUTCOMES, -1 while there are epochs to do."""

    def __init__(self, parameters):
        count = len(parameters)
        self.parameters = parameters
        self.metrics = np.full((count, METRICS), np.nan)
        self.epochs = np.zeros(count, np.intp)
        self.outcomes = np.full(count, -1, np.int8)


cdef inline int _expect_fits(str name, Py_ssize_t rows, Py_ssize_t fits, bint shared) except -1:
    """Refuses an array without a row for each of so many fits, or one for all of them."""
    if rows < fits and not (shared and rows == 1):
        raise ValueError(f"{name} must have a row for each of {fits} fits{', or one' if shared else ''}, got {rows}")
    return 0


cdef int _expect_stacks(Problem problem, const floating[:, :, ::1] lines, const floating[:, ::1] targets,
                        const floating[:, ::1] weights, const double[::1] total_weights, Py_ssize_t fits) except -1:
    """Refuses data of many fits that are not of the problem's size, or fewer than there are fits."""
    cdef Py_ssize_t n = problem.n, d = problem.d
    _expect_fits("lines", lines.shape[0], fits, True)
    _expect("lines", lines.shape[1], lines.shape[2], d if problem.by_columns else n, n if problem.by_columns else d)
    _expect_fits("targets", targets.shape[0], fits, True)
    _expect("targets", 1, targets.shape[1], 1, n)
    if weights is not None:
        _expect_fits("weights", weights.shape[0], fits, True)
        _expect("weights", 1, weights.shape[1], 1, n)
    _expect_fits("total_weights", total_weights.shape[0], fits, True)
    return 0


def losses_many(problems, parameters, double[::1] loss):
    """Writes the mean squared error of each fit, (B,), at its parameters, (B, 2, p)."""
    if problems.lines.itemsize == 4:
        _losses_many[float](problems.one, problems.lines, problems.targets, problems.weights, problems.total_weights,
                            parameters, loss)
    else:
        _losses_many[double](problems.one, problems.lines, problems.targets, problems.weights, problems.total_weights,
                             parameters, loss)


cdef int _losses_many(Problem problem, const floating[:, :, ::1] lines, const floating[:, ::1] targets,
                      const floating[:, ::1] weights, const double[::1] total_weights,
                      floating[:, :, ::1] parameters, double[::1] loss) except -1:
    cdef:
        Py_ssize_t i
        Shape shape = _shape(problem, problem.n, sizeof(floating))
        const floating* exemplar = NULL
        Room columns = Room(_whole_size(shape, sizeof(floating)) if shape.whole else 1)
        Descent run
    _expect_stacks(problem, lines, targets, weights, total_weights, parameters.shape[0])
    _expect("parameters", parameters.shape[1], parameters.shape[2], 2, problem.p)
    _expect_fits("loss", loss.shape[0], parameters.shape[0], False)
    memset(&run, 0, sizeof(Descent))
    run.p = problem.p
    try:
        if _open(&run.rows, shape, NULL, exemplar) < 0 or _make_room(&run, shape, exemplar) < 0:
            raise MemoryError("no memory for the working arrays of the losses")
        with nogil:
            for i in range(parameters.shape[0]):
                _point_at(&run, i, lines, targets, weights, columns)
                _losses_at(&run, &parameters[i, 0, 0])
                loss[i] = run.sums[0] / total_weights[i if total_weights.shape[0] > 1 else 0]
    finally:
        _free_room(&run)
    return 0


cdef void _point_at(Descent* run, Py_ssize_t i, const floating[:, :, ::1] lines, const floating[:, ::1] targets,
                    const floating[:, ::1] weights, Room columns) noexcept nogil:
    """Takes up the data of fit i of many."""
    cdef const floating* w = NULL
    if weights is not None:
        w = &weights[i if weights.shape[0] > 1 else 0, 0]
    _point(&run.rows, &lines[i if lines.shape[0] > 1 else 0, 0, 0],
           &targets[i if targets.shape[0] > 1 else 0, 0], w, columns.start, False)


def advance_many(problems, options, states, Record record, Py_ssize_t first, Py_ssize_t last, Py_ssize_t epochs):
    """Runs up to `epochs` more epochs of each of the fits `first` to `last` that are not at their end, in place and
    without the GIL.

    record: its loss is (B, rows), its paths (3, B, rows, p). ValueError if an array has not the room for what will be
    read or written.
    """
    if problems.lines.itemsize == 4:
        _advance_many[float](problems, options, states, record, problems.lines, first, last, epochs)
    else:
        _advance_many[double](problems, options, states, record, problems.lines, first, last, epochs)


cdef int _advance_many(problems, options, states, Record record, const floating[:, :, ::1] lines, Py_ssize_t first,
                       Py_ssize_t last, Py_ssize_t epochs) except -1:
    cdef:
        Problem problem = problems.one
        const floating[:, ::1] targets = problems.targets
        const floating[:, ::1] weights = problems.weights
        const double[::1] total_weights = problems.total_weights
        const double[:, ::1] rates = options.rates
        const double[:, ::1] penalties = options.penalties
        floating[:, :, ::1] parameters = states.parameters
        double[:, ::1] metrics = states.metrics
        Py_ssize_t[::1] done = states.epochs
        signed char[::1] outcomes = states.outcomes
        floating[:, ::1] loss = record.loss
        floating[:, :, :, ::1] paths = record.paths
        Py_ssize_t every = record.every, total = options.epochs, i, p = problem.p
        Shape shape = _shape(problem, problem.n, sizeof(floating))
        const floating* exemplar = NULL
        Room columns = Room(_whole_size(shape, sizeof(floating)) if shape.whole else 1)
        Descent run
        Outcome outcome

    if first < 0 or first > last or epochs < 0 or total < 0 or every < 1 or problem.k != 1:
        raise ValueError(f"fits must run from 0 or later to no less, for no negative number of epochs, with every at "
                         f"least 1 and one target, got {first} to {last}, {epochs} of {total}, {every} and {problem.k}")
    _expect_stacks(problem, lines, targets, weights, total_weights, last)
    _expect_fits("rates", rates.shape[0], last, False)
    _expect("rates", 1, rates.shape[1], 1, 3)
    _expect_fits("penalties", penalties.shape[0], last, False)
    _expect("penalties", 1, penalties.shape[1], 1, 2)
    _expect_fits("parameters", parameters.shape[0], last, False)
    _expect("parameters", parameters.shape[1], parameters.shape[2], 2, p)
    _expect_fits("metrics", metrics.shape[0], last, False)
    _expect("metrics", 1, metrics.shape[1], 1, METRICS)
    _expect_fits("epochs", done.shape[0], last, False)
    _expect_fits("outcomes", outcomes.shape[0], last, False)
    for i in range(first, last):
        if done[i] < 0 or done[i] > total:
            raise ValueError(f"epochs must be from 0 to {total} epochs, got {done[i]} of fit {i}")
    if loss is not None:
        _expect_fits("loss", loss.shape[0], last, False)
        _expect_rows("loss", 0, total, 0, every, loss.shape[1])
    if paths is not None:
        _expect("paths", paths.shape[0], paths.shape[3], 3, p)
        _expect_fits("paths", paths.shape[1], last, False)
        _expect_rows("paths", 0, total, 0, every, paths.shape[2])
    memset(&run, 0, sizeof(Descent))
    run.p, run.features, run.batch = problem.p, problem.features, problem.n
    run.tol, run.nesterov, run.average_from, run.every = options.tol, options.nesterov, -1, every
    try:
        if _open(&run.rows, shape, NULL, exemplar) < 0 or _make_room(&run, shape, exemplar) < 0:
            raise MemoryError("no memory for the working arrays of the fits")
        with nogil:
            for i in range(first, last):
                if outcomes[i] >= 0:
                    continue
                _point_at(&run, i, lines, targets, weights, columns)
                run.total_weight = total_weights[i if total_weights.shape[0] > 1 else 0]
                run.rates, run.decay, run.l1 = &rates[i, 0], penalties[i, 0], penalties[i, 1]
                run.parameters, run.metrics = &parameters[i, 0, 0], &metrics[i, 0]
                run.epoch = run.updates = done[i]
                if loss is not None:
                    run.loss = &loss[i, 0]
                if paths is not None:
                    run.paths, run.path = &paths[0, i, 0, 0], paths.shape[1] * paths.shape[2] * problem.p
                outcome = _descend(&run, min(epochs, total - run.epoch), exemplar)
                done[i] = run.epoch
                if outcome != COMPLETED or run.epoch == total:
                    outcomes[i] = outcome
    finally:
        _free_room(&run)
    return 0


cdef inline void _mix_words(const void* content, size_t size, uint64_t* digest) noexcept nogil:
    cdef uint64_t words[8]
    cdef uint64_t word
    cdef int i
    if size < sizeof(words):
        memset(words, 0, sizeof(words))
    memcpy(words, content, size)
    for i in range(8):
        word = (digest[i] ^ words[i]) * <uint64_t> 0x9E3779B97F4A7C15
        digest[i] = word << 29 | word >> 35


cdef void _mix(const unsigned char* content, Py_ssize_t size, uint64_t* digest) noexcept nogil:
    cdef uint64_t words[8]      # a copy, which stays in registers
    memcpy(words, digest, sizeof(words))
    while size >= 64:
        _mix_words(content, 64, words)
        content += 64
        size -= 64
    if size > 0:
        _mix_words(content, size, words)
    memcpy(digest, words, sizeof(words))


def mix(uint64_t[::1] digest, const unsigned char[::1] content):
    """Mixes content into a digest, 8 words of 64 bits, in place and without the GIL.

    Each step is one to one in the digest's word and in the content's, so one word that differs always shows. Several
    that differ cancel out as often as random words of 64 bits are equal: this tells other data from these, but not
    data that were made to look the same. 400 bytes take 25 ns, and 210 with sha1, the fastest of hashlib.
    """
    if digest.shape[0] != 8:
        raise ValueError(f"a digest has 8 words, got {digest.shape[0]}")
    with nogil:
        _mix(&content[0] if content.shape[0] else NULL, content.shape[0], &digest[0])
