"""The epoch loop: residual, loss and gradient, momentum update and histories, in one run without the GIL.

Epoch t = 0, 1, ... does, for all rows or for each batch of them,

    r    = X a_t - y
    loss = sum w r^2 / sum w                                    history.loss[t]
    g_t  = 2 X' (w r) / sum w                                   history.grad[t]
    v_t  = momentum v_{t-1} + (1 - dampening) (g_t + weight_decay a_t)      history.step[t]; undamped in update 0
    a_{t+1} = a_t - lr v_t, and the proximal step of l1         history.coef[t] is a_t

`descend` is the loop; each of its steps is a function above it. They stand in one file, of more than 400 lines, since
gcc inlines them into the loop: an epoch over 100 x 2 takes 80 ns.
"""

from cpython.pycapsule cimport PyCapsule_GetPointer
from cython cimport floating
from libc.float cimport DBL_MAX, FLT_MAX
from libc.math cimport INFINITY, fabs, isfinite, sqrt
from libc.stdint cimport uint64_t
from libc.string cimport memcpy

import numpy as np

from .checks cimport ceil_div, check_room
from .nouns cimport (
    DECAY, INITIAL_NORM, INITIAL_OBJECTIVE, INVERSE_DEVIATION, LAST_LOSS, MEAN, SHRINKAGE, Options, Record, State,
)
from .rows cimport (
    AVERAGE, AVERAGE_BEFORE_EPOCH, BEFORE_EPOCH, BEFORE_UPDATE, COEF, DIRECTION, EPOCH, GRADIENT, PASS,
    VELOCITY, Rows, Shape, Update, momentum_update, sum_rows,
)

OUTCOMES = ("completed", "converged", "stopped", "diverged")


# Parameters are kept as (p, k), and worked on in slabs (k, width): see the comment above COEF in rows.pxd.


cdef inline Py_ssize_t place(const Shape* shape, Py_ssize_t j) noexcept nogil:
    """Where parameter j is in a row of `width`."""
    return j if j < shape.d else shape.padded


cdef inline void load(Rows rows, const floating* kept, floating* slab) noexcept nogil:
    """slab = kept.T, in the places of `place`."""
    cdef Py_ssize_t j, t, d = rows.shape.d, k = rows.shape.k
    for t in range(k):
        for j in range(d):
            slab[t * rows.shape.width + j] = kept[j * k + t]
        if rows.problem.p > d:
            slab[t * rows.shape.width + rows.shape.padded] = kept[d * k + t]


cdef inline void store(Rows rows, const floating* slab, floating* kept) noexcept nogil:
    """kept = slab.T: undoes `load`."""
    cdef Py_ssize_t j, t, d = rows.shape.d, k = rows.shape.k
    for t in range(k):
        if k == 1:              # memcpy is twice as fast as the loop below
            memcpy(kept, slab, d * sizeof(floating))
        else:
            for j in range(d):
                kept[j * k + t] = slab[t * rows.shape.width + j]
        if rows.problem.p > d:
            kept[d * k + t] = slab[t * rows.shape.width + rows.shape.padded]


# The steps of an epoch


cdef void shuffle(BitGenerator* generator, Py_ssize_t n, Py_ssize_t* order) noexcept nogil:
    """order = numpy.random.Generator(generator).permutation(n)

    Fisher and Yates: swap i = n - 1, ..., 1 with a random j <= i, found by rejection. Up to 64 partners are drawn
    before the swaps, without unpredictable branches: 3 instead of NumPy's 8 ns a row.
    """
    cdef:
        Py_ssize_t i = n - 1, j, q, lowest, count, accepted
        uint64_t mask = <uint64_t> -1, drawn
        uint64_t partner[64]
    for j in range(n):
        order[j] = j
    while i > 0:
        while mask >> 1 >= <uint64_t> i:
            mask >>= 1
        lowest = <Py_ssize_t> (mask >> 1) + 1           # every i in lowest..i has this mask
        count = min(i - lowest + 1, 64)
        accepted = 0
        while accepted < count:
            if mask >> 32 == 0:
                drawn = generator.next_uint32(generator.state)
            else:
                drawn = generator.next_uint64(generator.state)
            partner[accepted] = drawn & mask
            accepted += partner[accepted] <= <uint64_t> (i - accepted)      # the next draw overwrites a rejected one
        for q in range(count):
            j = <Py_ssize_t> partner[q]
            order[i], order[j] = order[j], order[i]
            i -= 1


cdef inline Update epoch_constants(Options options, Py_ssize_t epoch) noexcept nogil:
    """lr, momentum, 1 - dampening, weight_decay and the threshold of the l1 step in an epoch, those of every column."""
    cdef Update update
    update.lr, update.momentum = options.lr, options.momentum
    update.gradient_weight = options.gradient_weight
    if options.rates_view is not None:
        update.lr = options.rates_view[epoch - options.start, 0]
        update.momentum = options.rates_view[epoch - options.start, 1]
        update.gradient_weight = options.rates_view[epoch - options.start, 2]
    update.weight_decay, update.nesterov, update.first = options.uniform_decay, options.nesterov, False
    update.threshold = update.lr * options.uniform_l1 * update.gradient_weight / (1 - update.momentum)
    return update


cdef inline double proximal_lr(const Update* update) noexcept nogil:
    """The step of the proximal operator of l1: lr (1 - dampening) / (1 - momentum)."""
    return update.lr * update.gradient_weight / (1 - update.momentum)


cdef inline double batch_weight(Rows rows, Py_ssize_t start, Py_ssize_t stop, const Py_ssize_t* order) noexcept nogil:
    """sum w over the rows of an update."""
    if rows.shape.batch >= rows.shape.n:
        return rows.total_weight
    return rows.handle.weight(rows.handle, start, stop, order)


cdef inline void update_parameters(Rows rows, const Update* update, double scale,
                                   floating[:, :, ::1] work) noexcept nogil:
    """The momentum update of every parameter, from g = scale * X' (w r); the penalties act on the features alone."""
    cdef:
        Py_ssize_t t, j, at, features = rows.problem.features
        Update unpenalised
    for t in range(rows.shape.k):
        momentum_update(rows, update, features, scale, &rows.sums[PASS, t, 0], &work[COEF, t, 0],
                        &work[VELOCITY, t, 0], &work[GRADIENT, t, 0])
    if features < rows.problem.p:
        unpenalised = update[0]
        unpenalised.weight_decay = unpenalised.threshold = 0
        for t in range(rows.shape.k):
            for j in range(features, rows.problem.p):
                at = place(&rows.shape, j)
                momentum_update(rows, &unpenalised, 1, scale, &rows.sums[PASS, t, at], &work[COEF, t, at],
                                &work[VELOCITY, t, at], &work[GRADIENT, t, at])


cdef inline void precondition(Rows rows, double scale, const floating* a, const double* sums,
                              double* direction) noexcept nogil:
    """direction = T T' u, with u = scale * sums + weight decay, where a = T b are the parameters of standardized
    columns:

        b_j = s_j a_j,   b_0 = a_0 + sum_j m_j a_j;    (T'u)_j = (u_j - m_j u_0) / s_j,   (T'u)_0 = u_0

    with the columns' means m and deviations s.
    """
    cdef:
        Py_ssize_t j, features = rows.problem.features, at = place(&rows.shape, features)
        bint intercept = features < rows.problem.p
        const double* mean = &rows.columns[MEAN, 0]
        const double* inverse = &rows.columns[INVERSE_DEVIATION, 0]
        const double* decay = &rows.columns[DECAY, 0]
        double of_intercept = scale * sums[at] if intercept else 0, s0 = 0, s1 = 0, s2 = 0, s3 = 0
    for j in range(features):
        direction[j] = (scale * sums[j] + decay[j] * a[j] - mean[j] * of_intercept) * inverse[j] * inverse[j]
    if intercept:
        for j in range(0, features - 3, 4):         # four sums: one would wait for itself
            s0 += mean[j] * direction[j]
            s1 += mean[j + 1] * direction[j + 1]
            s2 += mean[j + 2] * direction[j + 2]
            s3 += mean[j + 3] * direction[j + 3]
        for j in range(features // 4 * 4, features):
            s0 += mean[j] * direction[j]
        direction[at] = of_intercept - ((s0 + s2) + (s1 + s3))


cdef inline void shrink(Rows rows, double proximal_lr, floating* a) noexcept nogil:
    """The proximal step of l1 in the coordinates b of `precondition`, where b_0 stays; NaN passes it."""
    cdef:
        Py_ssize_t j, features = rows.problem.features
        double total = 0, threshold, size, inverse
        floating before
    for j in range(features):
        inverse = rows.columns[INVERSE_DEVIATION, j]
        threshold = proximal_lr * rows.columns[SHRINKAGE, j] * inverse * inverse
        if threshold > 0:
            before, size = a[j], fabs(a[j]) - threshold
            if not size > 0:
                a[j] = 0 if size <= 0 else a[j]
            else:
                a[j] = <floating> (size if before > 0 else -size)
            total += rows.columns[MEAN, j] * (before - a[j])
    if features < rows.problem.p:
        a[place(&rows.shape, features)] += <floating> total


cdef inline void update_by_columns(Rows rows, const Update* update, double scale,
                                   floating[:, :, ::1] work) noexcept nogil:
    """Like `update_parameters`, where the columns differ: see `Rows`."""
    cdef:
        Py_ssize_t t, j
        Update plain = update[0]
    plain.weight_decay = plain.threshold = 0
    for t in range(rows.shape.k):
        precondition(rows, scale, &work[COEF, t, 0], &rows.sums[PASS, t, 0], &rows.sums[DIRECTION, t, 0])
        momentum_update(rows, &plain, rows.shape.width, 1, &rows.sums[DIRECTION, t, 0], &work[COEF, t, 0],
                        &work[VELOCITY, t, 0], &work[GRADIENT, t, 0])
        if rows.shrinks:
            shrink(rows, proximal_lr(update), &work[COEF, t, 0])
        for j in range(rows.shape.padded + 1):      # sums are zeros between the features and the intercept
            work[GRADIENT, t, j] = <floating> (scale * rows.sums[PASS, t, j])


cdef inline void average_iterates(Rows rows, Py_ssize_t averaged, const floating[:, :, ::1] work) noexcept nogil:
    """mean += (a - mean) / averaged"""
    cdef Py_ssize_t t, j
    for t in range(rows.shape.k):
        for j in range(rows.shape.width):
            rows.sums[AVERAGE, t, j] += (work[COEF, t, j] - rows.sums[AVERAGE, t, j]) / averaged


cdef inline int before_update(Rows rows) noexcept nogil:
    """The slab of the coefficients before the last update. A full batch is an epoch's only one."""
    return BEFORE_UPDATE if rows.shape.batch < rows.shape.n else BEFORE_EPOCH


cdef inline Py_ssize_t history_row(Py_ssize_t epoch, Py_ssize_t start, Py_ssize_t every) noexcept nogil:
    """The row of an epoch that `every` divides; row 0 is the first such epoch at or after `start`. So for updates."""
    return epoch // every - ceil_div(start, every)


cdef inline void record_paths(Rows rows, floating[:, :, :, :] paths, Py_ssize_t row,
                              const floating[:, :, ::1] work) noexcept nogil:
    """history.grad[row] = g, history.step[row] = v and history.coef[row] = a before the update."""
    store(rows, &work[GRADIENT, 0, 0], &paths[0, row, 0, 0])
    store(rows, &work[VELOCITY, 0, 0], &paths[1, row, 0, 0])
    store(rows, &work[before_update(rows), 0, 0], &paths[2, row, 0, 0])


cdef inline bint is_finite(const Shape* shape, Py_ssize_t p, const floating* slab, Py_ssize_t t,
                           double largest) noexcept nogil:
    """Whether the parameters of target t in a slab are numbers of at most this size."""
    cdef Py_ssize_t j
    for j in range(p):
        if not fabs(slab[t * shape.width + place(shape, j)]) <= largest:
            return False
    return True


cdef inline Py_ssize_t first_overflowed(Rows rows, const floating[:, :, ::1] work) noexcept nogil:
    """The first target whose loss or parameters are not finite in the dtype of the results, or -1.

    In float32 velocity and gradient count too: computed in double, they may overflow when rounded.
    """
    cdef:
        bint float32 = rows.problem.float32_results
        double largest = FLT_MAX if float32 else DBL_MAX
        Py_ssize_t t, p = rows.problem.p
    for t in range(rows.shape.k):
        if not fabs(<floating> rows.sums[EPOCH, t, rows.at_loss]) <= largest:
            return t
        if not is_finite(&rows.shape, p, &work[COEF, 0, 0], t, largest):
            return t
        if float32 and not (is_finite(&rows.shape, p, &work[VELOCITY, 0, 0], t, largest)
                            and is_finite(&rows.shape, p, &work[GRADIENT, 0, 0], t, largest)):
            return t
    return -1


cdef inline double penalty(Rows rows, Options options, const floating* a) noexcept nogil:
    """weight_decay / 2 |a|^2 + l1 |a|_1"""
    cdef double total = 0, decay = options.uniform_decay, l1 = options.uniform_l1
    cdef Py_ssize_t j
    if decay > 0 or l1 > 0 or rows.columns is not None:
        for j in range(rows.problem.features):
            if rows.columns is not None:
                decay, l1 = rows.columns[DECAY, j], rows.columns[SHRINKAGE, j]
            total += decay / 2 * a[j] * a[j] + l1 * fabs(a[j])
    return total


cdef inline double subgradient(floating a, double g, double weight_decay, double l1) noexcept nogil:
    """The least element of the objective's subdifferential in one coordinate: its gradient where there is no l1."""
    cdef double u = g + weight_decay * a
    if a != 0:
        return u + (l1 if a > 0 else -l1)
    return u - l1 if u > l1 else (u + l1 if u < -l1 else 0)


cdef inline double subgradient_of(Rows rows, Options options, const floating* a, const floating* g, double intercept,
                                  Py_ssize_t j) noexcept nogil:
    """`subgradient` for feature j, in the coordinates b of `precondition`. intercept: the intercept's gradient."""
    if rows.columns is None:
        return subgradient(a[j], g[j], options.uniform_decay, options.uniform_l1)
    return rows.columns[INVERSE_DEVIATION, j] * subgradient(
        a[j], g[j] - rows.columns[MEAN, j] * intercept, rows.columns[DECAY, j], rows.columns[SHRINKAGE, j])


cdef double subgradient_norm(Rows rows, Options options, const floating* a, const floating* g) noexcept nogil:
    """numpy.linalg.norm of the objective's subgradient, without overflow on the way. The penalties spare the
    intercept."""
    cdef:
        Py_ssize_t j, features = rows.problem.features
        double intercept = g[place(&rows.shape, features)] if rows.problem.p > features else 0
        double largest = fabs(intercept), total
    for j in range(features):
        largest = max(largest, fabs(subgradient_of(rows, options, a, g, intercept, j)))
    if largest == 0 or not isfinite(largest):
        return largest
    total = (intercept / largest) ** 2
    for j in range(features):
        total += (subgradient_of(rows, options, a, g, intercept, j) / largest) ** 2
    return largest * sqrt(total)


cdef void measure_start(Rows rows, Options options, const floating[:, :, ::1] work,
                        double[:, ::1] metrics) noexcept nogil:
    """The objective before the first update. Only for mini-batches: a full-batch epoch 0 computes it anyway."""
    cdef Py_ssize_t t, j
    cdef bint zeros = True
    for t in range(rows.shape.k):
        for j in range(rows.shape.width):
            zeros &= work[COEF, t, j] == 0
    if zeros:
        rows.handle.loss_of_zeros(rows.handle, &rows.sums[PASS, 0, 0])
    else:
        sum_rows(rows, 0, rows.shape.n, NULL, &work[COEF, 0, 0], False, &rows.sums[PASS, 0, 0])
    for t in range(rows.shape.k):
        metrics[INITIAL_OBJECTIVE, t] = rows.sums[PASS, t, rows.at_loss] / rows.total_weight + penalty(
            rows, options, &work[COEF, t, 0])


cdef void record_update(Rows rows, Record record, Py_ssize_t update, double weight, const floating[:, :, ::1] work,
                        floating[:, ::1] loss, floating[:, :, :, :] paths) noexcept nogil:
    """Writes the row of one update, where the record has one. Its loss is that of the update's rows."""
    cdef Py_ssize_t t, row = history_row(update, record.start_update, record.every)
    if update % record.every:
        return
    for t in range(rows.shape.k):
        loss[row, t] = <floating> (rows.sums[PASS, t, rows.at_loss] / weight if weight > 0 else 0)
        if not isfinite(loss[row, t]):
            rows.sums[EPOCH, t, rows.at_loss] = INFINITY
    if paths is not None:
        record_paths(rows, paths, row, work)


cdef inline void record_epoch(Rows rows, Record record, Py_ssize_t epoch, const floating[:, :, ::1] work,
                              floating[:, ::1] loss, floating[:, :, :, :] paths) noexcept nogil:
    """Writes the row of one epoch, where the record has one: its loss, and the rest of its last update."""
    cdef Py_ssize_t t, row = history_row(epoch, record.start, record.every)
    if record.per_update or epoch % record.every:
        return
    if loss is not None:
        for t in range(rows.shape.k):
            loss[row, t] = <floating> rows.sums[EPOCH, t, rows.at_loss]
    if paths is not None:
        record_paths(rows, paths, row, work)


cdef inline bint measure_epoch(Rows rows, Options options, Py_ssize_t epoch, const floating[:, :, ::1] work,
                               double[:, ::1] metrics) noexcept nogil:
    """Writes the metrics: the loss, and in epoch 0 the objective and the norm of its gradient. And returns whether the
    descent has converged: whether the norm of every target has fallen to tol times that of epoch 0."""
    cdef:
        Py_ssize_t t, converged = 0
        int before = before_update(rows)
        double norm
    for t in range(rows.shape.k):
        metrics[LAST_LOSS, t] = rows.sums[EPOCH, t, rows.at_loss]
        if epoch == 0 and rows.shape.batch >= rows.shape.n:
            metrics[INITIAL_OBJECTIVE, t] = rows.sums[EPOCH, t, rows.at_loss] + penalty(
                rows, options, &work[before, t, 0])
        if epoch == 0 or options.tol >= 0:
            norm = subgradient_norm(rows, options, &work[before, t, 0], &work[GRADIENT, t, 0])
            if epoch == 0:
                metrics[INITIAL_NORM, t] = norm
            converged += options.tol >= 0 and norm <= options.tol * metrics[INITIAL_NORM, t]
    return converged == rows.shape.k


cdef bint validate(Rows rows, Rows held_out, Options options, State state, Record record, Py_ssize_t epoch,
                   const floating[:, :, ::1] work, floating[:, ::1] best, floating[:, ::1] val_loss) noexcept nogil:
    """Takes the loss on the held-out rows, and the parameters if it improved. Returns whether patience is at its
    end."""
    cdef:
        Py_ssize_t t, row = history_row(epoch, record.start, record.every)
        double loss, total = 0, needed = options.improvement if state.best_epoch >= 0 else 0
    sum_rows(held_out, 0, held_out.shape.n, NULL, &work[COEF, 0, 0], False, &rows.sums[PASS, 0, 0])
    for t in range(rows.shape.k):
        loss = rows.sums[PASS, t, rows.at_loss] / held_out.total_weight
        total += loss
        if val_loss is not None and epoch % record.every == 0:
            val_loss[row, t] = <floating> loss
    if total < state.best_loss * (1 - needed):
        state.best_loss, state.best_epoch, state.waited = total, epoch, 0
        store(rows, &work[COEF, 0, 0], &best[0, 0])
        return False
    state.waited += 1
    return 0 < options.patience <= state.waited


cdef inline void begin_epoch(Rows rows, floating[:, :, ::1] work) noexcept nogil:
    """Keeps what an epoch that overflows is put back to."""
    cdef Py_ssize_t t, size = rows.shape.k * rows.shape.width
    memcpy(&work[BEFORE_EPOCH, 0, 0], &work[COEF, 0, 0], 2 * size * sizeof(floating))     # and the velocity
    for t in range(rows.shape.k):
        rows.sums[EPOCH, t, rows.at_loss] = 0


cdef void undo_epoch(Rows rows, State state, Py_ssize_t updates, Py_ssize_t averaged,
                     floating[:, :, ::1] work) noexcept nogil:
    """Puts the parameters, averages and counts back to where they were before the epoch."""
    cdef Py_ssize_t size = rows.shape.k * rows.shape.width
    memcpy(&work[COEF, 0, 0], &work[BEFORE_EPOCH, 0, 0], 2 * size * sizeof(floating))
    memcpy(&rows.sums[AVERAGE, 0, 0], &rows.sums[AVERAGE_BEFORE_EPOCH, 0, 0], size * sizeof(double))
    state.updates, state.averaged = updates, averaged


cdef Outcome descend(Rows rows, Rows held_out, Options options, State state, Record record, Py_ssize_t epochs,
                     BitGenerator* generator, floating[:, :, ::1] work, floating[:, :, ::1] parameters,
                     floating[:, ::1] best, double[:, ::1] average, double[:, ::1] metrics, floating[:, ::1] loss,
                     floating[:, ::1] val_loss, floating[:, :, :, :] paths) noexcept nogil:
    """Advances a state by up to `epochs` epochs. An epoch that overflows is undone."""
    cdef:
        Py_ssize_t n = rows.shape.n, size = rows.shape.k * rows.shape.width, last = state.epoch + epochs
        Py_ssize_t epoch, updates, averaged, start, stop, t
        const Py_ssize_t* order = &rows.order[0] if generator != NULL else NULL
        bint batches = rows.shape.batch < n, converged
        double weight
        Update update
        Outcome outcome = COMPLETED
    load(rows, &parameters[0, 0, 0], &work[COEF, 0, 0])
    load(rows, &parameters[1, 0, 0], &work[VELOCITY, 0, 0])
    if average is not None:
        load(rows, &average[0, 0], &rows.sums[AVERAGE, 0, 0])
    while state.epoch < last and outcome == COMPLETED:
        epoch, updates, averaged = state.epoch, state.updates, state.averaged
        update = epoch_constants(options, epoch)
        begin_epoch(rows, work)
        if average is not None:
            memcpy(&rows.sums[AVERAGE_BEFORE_EPOCH, 0, 0], &rows.sums[AVERAGE, 0, 0], size * sizeof(double))
        if epoch == 0 and batches:
            measure_start(rows, options, work, metrics)
        if generator != NULL:
            shuffle(generator, n, &rows.order[0])
        start = 0
        while start < n:                            # once, for a full batch
            stop = min(start + rows.shape.batch, n)
            if batches:
                memcpy(&work[BEFORE_UPDATE, 0, 0], &work[COEF, 0, 0], size * sizeof(floating))
            sum_rows(rows, start, stop, order, &work[COEF, 0, 0], True, &rows.sums[PASS, 0, 0])
            for t in range(rows.shape.k):
                rows.sums[EPOCH, t, rows.at_loss] += rows.sums[PASS, t, rows.at_loss]
            weight = batch_weight(rows, start, stop, order)
            update.first = state.updates == 0
            if rows.columns is None:
                update_parameters(rows, &update, 2 / weight if weight > 0 else 0, work)
            else:
                update_by_columns(rows, &update, 2 / weight if weight > 0 else 0, work)
            if 0 <= options.average_from <= epoch:
                state.averaged += 1
                average_iterates(rows, state.averaged, work)
            if record.per_update:
                record_update(rows, record, state.updates, weight, work, loss, paths)
            state.updates += 1
            start = stop
        for t in range(rows.shape.k):
            rows.sums[EPOCH, t, rows.at_loss] /= rows.total_weight
        state.diverged = first_overflowed(rows, work)
        if state.diverged >= 0:
            undo_epoch(rows, state, updates, averaged, work)
            outcome = DIVERGED
            break
        state.epoch += 1
        record_epoch(rows, record, epoch, work, loss, paths)
        converged = measure_epoch(rows, options, epoch, work, metrics)
        if held_out is not None and validate(rows, held_out, options, state, record, epoch, work, best, val_loss):
            outcome = STOPPED
        elif converged:
            outcome = CONVERGED
    store(rows, &work[COEF, 0, 0], &parameters[0, 0, 0])
    store(rows, &work[VELOCITY, 0, 0], &parameters[1, 0, 0])
    if average is not None:
        store(rows, &rows.sums[AVERAGE, 0, 0], &average[0, 0])
    return outcome


def advance(Rows rows, Options options, State state, Record record, Py_ssize_t epochs, Rows held_out=None):
    """Runs up to `epochs` more epochs, in place and without the GIL.

    With options.shuffle, the state's generator orders the rows of each epoch, as its `permutation` would. held_out:
    rows whose loss is taken after every epoch.

    Returns "completed", "converged", "stopped" or "diverged". An epoch that overflows is undone: the state and the
    generator are those before it. ValueError if an array has not the room for what will be read or written.
    """
    cdef Outcome outcome
    if rows.float32_lines:
        outcome = _advance[float](rows, options, state, record, epochs, held_out, rows.work, state.parameters,
                                  state.best, record.loss, record.val_loss, record.paths)
    else:
        outcome = _advance[double](rows, options, state, record, epochs, held_out, rows.work, state.parameters,
                                   state.best, record.loss, record.val_loss, record.paths)
    return OUTCOMES[outcome]


cdef Outcome _advance(Rows rows, Options options, State state, Record record, Py_ssize_t epochs, Rows held_out,
                      floating[:, :, ::1] work, floating[:, :, ::1] parameters, floating[:, ::1] best,
                      floating[:, ::1] loss, floating[:, ::1] val_loss, floating[:, :, :, ::1] paths) except *:
    cdef:
        double[:, ::1] metrics = state.metrics
        double[:, ::1] average = state.average
        BitGenerator* c_generator = NULL
        Py_ssize_t epoch = state.epoch
        Outcome outcome
    check_room(rows, options, state, record, epochs, held_out, parameters, best, average, metrics, loss, val_loss,
               paths)
    bit_generator = state.generator.bit_generator if options.shuffle else None
    if bit_generator is not None:
        if rows.order is None:
            rows.order = np.empty(rows.shape.n, np.intp)
        c_generator = <BitGenerator*> PyCapsule_GetPointer(bit_generator.capsule, "BitGenerator")
        # Ctrl-C may interrupt this wait. Until the release below only compiled code runs: no signal handler can raise.
        bit_generator.lock.acquire()
    try:
        before = bit_generator.state if bit_generator is not None else None
        with nogil:
            outcome = descend[floating](rows, held_out, options, state, record, epochs, c_generator, work, parameters,
                                        best, average, metrics, loss, val_loss, paths)
        if outcome == DIVERGED and bit_generator is not None:
            bit_generator.state = before
            for _ in range(state.epoch - epoch):    # replays the permutations of the epochs that are kept
                shuffle(c_generator, rows.shape.n, &rows.order[0])
    finally:
        if bit_generator is not None:
            bit_generator.lock.release()
    return outcome


cdef void losses_at(Rows rows, floating[:, :, ::1] work, const floating* parameters) noexcept nogil:
    """rows.sums[PASS, :, rows.at_loss] = sum w r^2 of each target, at the parameters (p, k)."""
    load(rows, parameters, &work[COEF, 0, 0])
    sum_rows(rows, 0, rows.shape.n, NULL, &work[COEF, 0, 0], False, &rows.sums[PASS, 0, 0])


def losses(Rows rows, parameters):
    """The mean squared error of each target, a list of k floats, at the parameters (p, k)."""
    cdef Py_ssize_t t
    if rows.float32_lines:
        _losses[float](rows, rows.work, parameters)
    else:
        _losses[double](rows, rows.work, parameters)
    return [rows.sums[PASS, t, rows.at_loss] / rows.total_weight for t in range(rows.shape.k)]


cdef int _losses(Rows rows, floating[:, :, ::1] work, const floating[:, ::1] parameters) except -1:
    if parameters.shape[0] != rows.problem.p or parameters.shape[1] != rows.problem.k:
        raise ValueError(f"parameters must have {rows.problem.p} rows of {rows.problem.k}, got "
                         f"{parameters.shape[0]} of {parameters.shape[1]}")
    with nogil:
        losses_at(rows, work, &parameters[0, 0])
    return 0
