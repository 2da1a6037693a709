"""The epoch loop: matmul, residual, loss, gradient, momentum update and histories, in one run without the GIL.

X is read from memory once per epoch: rows are taken in blocks that stay in cache from the residual to the gradient.
The sums of a block are added to double accumulators, so float32 data is never summed in float32 over all rows. The
arithmetic within a block is in _lanes.h, built for several CPU levels that give the same bits.
"""

import os

from cython cimport final, floating
from libc.math cimport fabs, isfinite, sqrt
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset


cdef extern from "_lanes.h" nogil:
    struct Block "sgdm_block":
        Py_ssize_t stride, b, d, padded, k, target_stride
    ctypedef void (*sgdm_block_float)(const Block*, const float*, const float*, const float*, const float*,
                                      const float*, float*, float*, float*, double*, double*) noexcept
    ctypedef void (*sgdm_block_double)(const Block*, const double*, const double*, const double*, const double*,
                                       const double*, double*, double*, double*, double*, double*) noexcept
    sgdm_block_float sgdm_rows_for_float(int level)
    sgdm_block_double sgdm_rows_for_double(int level)
    sgdm_block_float sgdm_columns_for_float(int level)
    sgdm_block_double sgdm_columns_for_double(int level)
    int sgdm_highest_level()


cdef enum:
    LANE_BYTES = 64               # _lanes.h reads lines in groups of so many bytes
    NARROW = 8                    # C-order rows shorter than this are transposed: too short for lanes
    ROWS = 128                    # a block of C-order X; with several targets, as many rows as fit in
    ROW_BLOCK_BYTES = 16384       # L1, where all targets but the first find it
    COLUMN_BLOCK_BYTES = 262144   # a block of F-order X stays in L2 for its second reading
    BLOCK_MAX = 512


cdef enum Outcome:
    COMPLETED   # all epochs asked for are done
    CONVERGED   # the gradient met tol
    DIVERGED    # a number overflowed

OUTCOMES = ("completed", "converged", "diverged")

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
ISA = LEVELS[_level]


@final
cdef class Problem:
    """Validated data. X (n, d) and y (n, k) as lines: contiguous runs in memory.

    lines: X if it is C-order, X.T if it is F-order (by_columns). targets: y.T, (k, n). weights: (n,) or None.
    """

    cdef readonly object lines, targets, weights
    cdef readonly bint by_columns, fit_intercept
    cdef readonly double total_weight
    cdef readonly Py_ssize_t n, d, k, p

    def __init__(self, lines, bint by_columns, targets, weights, double total_weight, bint fit_intercept):
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


@final
cdef class Settings:
    """The constants of a descent. rates: one row (lr, momentum, 1 - dampening) for all epochs, or one per epoch.

    tol < 0 never stops a fit.
    """

    cdef readonly object rates
    cdef readonly double weight_decay, tol
    cdef readonly bint nesterov

    def __init__(self, rates, bint nesterov, double weight_decay, double tol):
        self.rates = rates
        self.nesterov = nesterov
        self.weight_decay = weight_decay
        self.tol = tol


@final
cdef class State:
    """Where a descent stands; `advance` changes it in place. At epoch t:

    coef, velocity: (p, k), a_t and v_{t-1}. diverged: the target that overflowed in epoch t, or -1.
    marks: (4, k) double: the objective f(a) + weight_decay / 2 |a|^2 at the first epoch and at the last one done, the
    norm of the gradient at the first, the loss f(a) at the last. rose: whether the objective ended above its start.
    """

    cdef readonly object coef, velocity, marks
    cdef readonly Py_ssize_t epoch, diverged
    cdef readonly bint rose

    def __init__(self, coef, velocity, marks, Py_ssize_t epoch=0):
        self.coef = coef
        self.velocity = velocity
        self.marks = marks
        self.epoch = epoch
        self.diverged = -1


@final
cdef class Record:
    """Histories, a row per epoch kept: loss (rows, k); grad, step, coef (rows, p, k); each may be None.

    Epochs divisible by `every` are kept; row 0 is the first of them at or after epoch `start`.
    """

    cdef readonly object loss, grad, step, coef
    cdef readonly Py_ssize_t every, start

    def __init__(self, loss, grad, step, coef, Py_ssize_t every, Py_ssize_t start=0):
        self.every = every
        self.start = start
        self.loss = loss
        self.grad = grad
        self.step = step
        self.coef = coef


def advance(Problem problem, Settings settings, State state, Record record, Py_ssize_t epochs):
    """Runs up to `epochs` more epochs, in place, without the GIL. Returns "completed", "converged" or "diverged".

    An epoch that overflows is undone: the state is the one before it.
    """
    cdef Outcome outcome
    if problem.lines.itemsize == 4:
        outcome = _advance[float](problem, settings, state, record, epochs, problem.lines, problem.targets,
                                  problem.weights, state.coef, state.velocity, record.loss, record.grad, record.step,
                                  record.coef)
    else:
        outcome = _advance[double](problem, settings, state, record, epochs, problem.lines, problem.targets,
                                   problem.weights, state.coef, state.velocity, record.loss, record.grad,
                                   record.step, record.coef)
    return OUTCOMES[outcome]


cdef inline Py_ssize_t _round_up(Py_ssize_t length, Py_ssize_t group) noexcept nogil:
    return (length + group - 1) // group * group


cdef struct Plan:
    Py_ssize_t n, rows      # rows of X: all, and a block's
    bint by_columns         # F-order
    bint transpose          # C-order taken in transposed blocks
    Py_ssize_t copied       # the first row that `copy` holds, or -1
    Block block


cdef inline void _run_block(bint columns, const Block* block, const floating* lines, const floating* y,
                            const floating* w, const floating* coef, const floating* intercept, floating* r,
                            floating* wr, floating* g, double* loss, double* grad) noexcept nogil:
    if floating is float:
        (_columns_float if columns else _rows_float)(block, lines, y, w, coef, intercept, r, wr, g, loss, grad)
    else:
        (_columns_double if columns else _rows_double)(block, lines, y, w, coef, intercept, r, wr, g, loss, grad)


cdef inline void _sums(Plan* plan, const floating* lines, const floating* y, const floating* w, const floating* coef,
                       const floating* intercept, floating* copy, floating* r, floating* wr, floating* g,
                       double* loss, double* grad) noexcept nogil:
    """One pass over X: loss = (w * r**2).sum() and grad = [X, 1].T @ (w * r), where r = X @ coef + intercept - y.

    Lines are read in whole groups, so the rows where that would run past the end of X are read from a copy.
    """
    cdef:
        Block block = plan.block
        Py_ssize_t lanes = LANE_BYTES // sizeof(floating), start = 0, i, j, end = plan.n
        const floating* lines_here
        bint copy_here
    memset(loss, 0, block.k * sizeof(double))
    memset(grad, 0, block.k * (block.padded + 1) * sizeof(double))
    if plan.by_columns:
        end -= plan.n % lanes
    elif block.padded > block.d:
        end -= 1
    while start < plan.n:
        copy_here = plan.transpose or start >= end
        block.b = min(plan.rows, (plan.n if copy_here else end) - start)
        if copy_here:
            block.stride = block.padded if not plan.by_columns and not plan.transpose else plan.rows
            if plan.copied != start:
                plan.copied = start
                for i in range(block.b):
                    for j in range(block.d):
                        if plan.by_columns:
                            copy[j * block.stride + i] = lines[j * plan.n + start + i]
                        elif plan.transpose:
                            copy[j * block.stride + i] = lines[(start + i) * block.d + j]
                        else:
                            copy[j] = lines[start * block.d + j]
            lines_here = copy
        elif plan.by_columns:
            block.stride = plan.n
            lines_here = lines + start
        else:
            block.stride = block.d
            lines_here = lines + start * block.d
        _run_block(plan.by_columns or plan.transpose, &block, lines_here, y + start, w + start if w != NULL else NULL,
                   coef, intercept, r, wr, g, loss, grad)
        start += block.b


cdef inline double _norm(const double* g, double scale, Py_ssize_t d, double last) noexcept nogil:
    """numpy.linalg.norm(scale * [g, last]), without overflow on the way."""
    cdef:
        double largest = fabs(scale * last), total
        Py_ssize_t j
    for j in range(d):
        largest = max(largest, fabs(scale * g[j]))
    if largest == 0 or not isfinite(largest):
        return largest
    total = (scale * last / largest) ** 2
    for j in range(d):
        total += (scale * g[j] / largest) ** 2
    return largest * sqrt(total)


cdef Outcome _advance(Problem problem, Settings settings, State state, Record record, Py_ssize_t epochs,
                      const floating[:, ::1] lines, const floating[:, ::1] targets, const floating[::1] weights,
                      floating[:, ::1] coef, floating[:, ::1] velocity, floating[:, ::1] loss_history,
                      floating[:, :, ::1] grad_history, floating[:, :, ::1] step_history,
                      floating[:, :, ::1] coef_history) except *:
    cdef:
        Plan plan
        Py_ssize_t d = problem.d, p = problem.p, k = problem.k, lanes = LANE_BYTES // sizeof(floating)
        Py_ssize_t padded = _round_up(d, lanes), copy_size
        Py_ssize_t epoch = state.epoch, last = state.epoch + epochs, row, t, j, converged
        Py_ssize_t every = record.every, first_row = (record.start + record.every - 1) // record.every
        const double[:, ::1] rates = settings.rates
        double[:, ::1] marks = state.marks
        double lr, momentum, undamped, a, u, v, g, norm, penalty
        double scale = 2 / problem.total_weight, decay = settings.weight_decay, tol = settings.tol
        bint nesterov = settings.nesterov, keep, finite
        const floating* w = NULL
        floating* scratch
        floating* r
        floating* wr
        floating* block_grad
        floating* block_coef
        floating* intercept
        floating* copy
        floating* next_coef
        floating* next_velocity
        double* loss
        double* objective
        double* grad
        Outcome outcome = COMPLETED

    if weights is not None:
        w = &weights[0]
    plan.n = problem.n
    plan.by_columns = problem.by_columns
    plan.transpose = not problem.by_columns and d < NARROW
    plan.copied = -1
    plan.block.d, plan.block.padded, plan.block.k, plan.block.target_stride = d, padded, k, problem.n
    if plan.by_columns or plan.transpose:
        plan.rows = COLUMN_BLOCK_BYTES // (d * <Py_ssize_t> sizeof(floating))
    elif k == 1:
        plan.rows = ROWS
    else:
        plan.rows = ROW_BLOCK_BYTES // (d * <Py_ssize_t> sizeof(floating))
    plan.rows = max(lanes, min(BLOCK_MAX, plan.rows // lanes * lanes))
    plan.rows = min(plan.rows, _round_up(problem.n, lanes))

    copy_size = d * plan.rows if plan.transpose or plan.by_columns else padded
    scratch = <floating*> calloc(2 * plan.rows + (2 * padded + 1 + 2 * p) * k + copy_size, sizeof(floating))
    loss = <double*> calloc(k * (padded + 3), sizeof(double))
    if scratch == NULL or loss == NULL:
        free(scratch)
        free(loss)
        raise MemoryError("no memory for the working arrays of the fit")
    r = scratch
    wr = r + plan.rows
    block_grad = wr + plan.rows         # (k, padded)
    block_coef = block_grad + padded * k
    intercept = block_coef + padded * k
    next_coef = intercept + k           # (p, k), as coef
    next_velocity = next_coef + p * k
    copy = next_velocity + p * k
    objective = loss + k
    grad = objective + k                # (k, padded + 1)

    try:
        with nogil:
            while epoch < last:
                for t in range(k):
                    for j in range(d):
                        block_coef[t * padded + j] = coef[j, t]
                    if p > d:
                        intercept[t] = coef[d, t]
                _sums(&plan, &lines[0, 0], &targets[0, 0], w, block_coef, intercept, copy, r, wr, block_grad,
                      loss, grad)

                row = epoch if rates.shape[0] > 1 else 0
                lr, momentum, undamped = rates[row, 0], rates[row, 1], rates[row, 2]
                keep = epoch % every == 0
                row = epoch // every - first_row
                converged = 0
                for t in range(k):
                    loss[t] /= problem.total_weight
                    finite = isfinite(<floating> loss[t])
                    penalty = 0
                    for j in range(p):
                        a = coef[j, t]
                        g = scale * grad[t * (padded + 1) + (j if j < d else padded)]
                        u = g
                        if j < d:
                            u += decay * a
                            penalty += a * a
                        v = momentum * velocity[j, t] + undamped * u if epoch > 0 else u
                        a -= lr * (undamped * u + momentum * v if nesterov else v)
                        next_velocity[j * k + t] = <floating> v
                        next_coef[j * k + t] = <floating> a
                        finite = finite and isfinite(<floating> a) and isfinite(<floating> v)
                        if keep:
                            if grad_history is not None:
                                grad_history[row, j, t] = <floating> g
                            if step_history is not None:
                                step_history[row, j, t] = <floating> v
                            if coef_history is not None:
                                coef_history[row, j, t] = coef[j, t]
                    if not finite:
                        state.diverged = t
                        outcome = DIVERGED
                        break
                    if keep and loss_history is not None:
                        loss_history[row, t] = <floating> loss[t]
                    if epoch == 0 or tol >= 0:
                        norm = _norm(grad + t * (padded + 1), scale, d, grad[t * (padded + 1) + padded] if p > d else 0)
                        if epoch == 0:
                            marks[0, t] = loss[t] + decay / 2 * penalty
                            marks[2, t] = norm
                        converged += norm <= tol * marks[2, t]
                    objective[t] = loss[t] + decay / 2 * penalty
                if outcome == DIVERGED:
                    break
                memcpy(&coef[0, 0], next_coef, p * k * sizeof(floating))
                memcpy(&velocity[0, 0], next_velocity, p * k * sizeof(floating))
                for t in range(k):
                    marks[1, t] = objective[t]
                    marks[3, t] = loss[t]
                epoch += 1
                if converged == k:
                    outcome = CONVERGED
                    break
            state.epoch = epoch
            state.rose = False
            for t in range(k):
                state.rose = state.rose or marks[1, t] > marks[0, t]
    finally:
        free(scratch)
        free(loss)
    return outcome


def first_nonfinite(const floating[:, ::1] lines):
    """Index (line, element) of the first NaN or infinity, in memory order, or None."""
    cdef:
        Py_ssize_t i, j
        floating zero
    for i in range(lines.shape[0]):
        zero = 0
        for j in range(lines.shape[1]):
            zero += lines[i, j] * 0     # 0 until a NaN or an infinity comes
        if zero != 0:
            for j in range(lines.shape[1]):
                if not isfinite(lines[i, j]):
                    return i, j
    return None
