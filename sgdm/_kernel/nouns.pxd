cdef class Problem:
    cdef readonly object lines, targets, weights, dtype
    cdef readonly bint by_columns, fit_intercept, triangular
    cdef bint float32_results
    cdef readonly double total_weight
    cdef readonly Py_ssize_t n, d, k, p, features, row_step


cpdef enum:     # what `Rows` holds of each column, and how many terms these are
    MEAN, INVERSE_DEVIATION, DECAY, SHRINKAGE, COLUMN_TERMS


cdef class Options:
    cdef readonly object rates, weight_decay, l1
    cdef double uniform_decay, uniform_l1       # the penalties of every column, where they are numbers
    cdef double lr, momentum, gradient_weight   # those of every epoch, where the rates are a tuple
    cdef const double[:, ::1] rates_view        # None where the rates are a tuple or None
    cdef readonly double tol, improvement
    cdef readonly bint nesterov, shuffle
    cdef readonly Py_ssize_t start, batch_size, patience, average_from
    cpdef set_rates(self, rates)


cpdef enum:     # the rows of a state's metrics, and their number
    INITIAL_OBJECTIVE, INITIAL_NORM, LAST_LOSS, METRICS


cdef class State:
    cdef readonly object parameters, average, best, metrics, generator, split
    cdef readonly Py_ssize_t epoch, updates, averaged, best_epoch, waited, diverged
    cdef readonly double best_loss


cdef class Record:
    cdef readonly object loss, val_loss, paths
    cdef readonly Py_ssize_t every, start, start_update
    cdef readonly bint per_update
