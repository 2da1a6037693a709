"""Checks that every array has room for what the epoch loop will read and write; the loop checks nothing."""

from cython cimport floating

from .nouns cimport COLUMN_TERMS, METRICS, Options, Record, State
from .rows cimport Rows


cdef extern from "Python.h":
    const Py_ssize_t PY_SSIZE_T_MAX


cdef int check_shape(str name, Py_ssize_t rows, Py_ssize_t columns, Py_ssize_t expected_rows,
                     Py_ssize_t expected_columns) except -1:
    """Refuses an array of another shape."""
    if rows != expected_rows or columns != expected_columns:
        raise ValueError(f"{name} must have {expected_rows} rows of {expected_columns}, got {rows} of {columns}")
    return 0


cdef int check_fits(str name, Py_ssize_t length, Py_ssize_t fits, bint shared=False, Py_ssize_t columns=0,
                    Py_ssize_t expected=0) except -1:
    """Refuses an array that has not a row of `expected` numbers for each of so many fits, or one for all of them."""
    if length < fits and not (shared and length == 1):
        raise ValueError(f"{name} must have a row for each of {fits} fits{', or one' if shared else ''}, got {length}")
    return check_shape(name, 1, columns, 1, expected)


cdef int check_history(str name, Py_ssize_t first, Py_ssize_t last, Py_ssize_t start, Py_ssize_t every,
                       Py_ssize_t rows) except -1:
    """Refuses a history that has not the rows of epochs (or updates) `first` to `last`, the last one excluded.

    Row 0 is the first epoch at or after `start` that `every` divides.
    """
    cdef Py_ssize_t row_0 = ceil_div(start, every), begin = ceil_div(first, every), end = ceil_div(last, every)
    if begin < end and (begin < row_0 or end - row_0 > rows):
        raise ValueError(f"{name} must have room for rows {begin - row_0} to {end - row_0 - 1}, got {rows} rows")
    return 0


cdef int check_counts(Options options, State state, Record record, Py_ssize_t epochs, Py_ssize_t per_epoch) except -1:
    """Refuses negative counts, and more epochs of `per_epoch` updates than can be counted."""
    if epochs < 0 or state.epoch < 0 or state.updates < 0 or state.averaged < 0:
        raise ValueError(f"counts of epochs, updates and averaged iterates must not be negative, got {epochs} epochs "
                         f"after {state.epoch}, {state.updates} and {state.averaged}")
    if epochs > PY_SSIZE_T_MAX - state.epoch or epochs > (PY_SSIZE_T_MAX - state.updates) // per_epoch:
        raise ValueError(f"{epochs} epochs of {per_epoch} updates after {state.epoch} epochs and {state.updates} "
                         "updates are too many to count")
    if record.every < 1 or record.start < 0 or record.start_update < 0:
        raise ValueError(f"a record must keep every so many epochs, at least 1, from 0 or later on, got {record.every} "
                         f"from {record.start} and update {record.start_update} on")
    if options.rates is None:
        raise ValueError("rates must be set, got None")
    cdef Py_ssize_t first = state.epoch - options.start, last = first + epochs
    if options.rates_view is not None and (
            options.rates_view.shape[1] != 3 or first < 0 or last > options.rates_view.shape[0]):
        raise ValueError(f"rates must have 3 columns, and rows {first} to {last - 1}, got "
                         f"{options.rates_view.shape[0]} rows of {options.rates_view.shape[1]}")
    return 0


cdef int check_room(Rows rows, Options options, State state, Record record, Py_ssize_t epochs, Rows held_out,
                    const floating[:, :, ::1] parameters, const floating[:, ::1] best, const double[:, ::1] average,
                    const double[:, ::1] metrics, const floating[:, ::1] loss, const floating[:, ::1] val_loss,
                    const floating[:, :, :, ::1] paths) except -1:
    """Refuses to run so many epochs unless all arrays have the room for them."""
    cdef:
        Py_ssize_t k = rows.problem.k, p = rows.problem.p, every = record.every, start = record.start
        Py_ssize_t epoch = state.epoch, last = state.epoch + epochs, first = epoch, per_epoch
    per_epoch = ceil_div(rows.problem.n, rows.shape.batch)
    check_counts(options, state, record, epochs, per_epoch)
    if rows.columns is not None:
        check_shape("columns", rows.columns.shape[0], rows.columns.shape[1], COLUMN_TERMS, rows.problem.features)
    elif not (isinstance(options.weight_decay, float) and isinstance(options.l1, float)):
        raise ValueError("columns must be given where weight_decay or l1 is an array, got None")
    check_shape("parameters", parameters.shape[0], parameters.shape[1] * parameters.shape[2], 2, p * k)
    check_shape("parameters", parameters.shape[1], parameters.shape[2], p, k)
    check_shape("metrics", metrics.shape[0], metrics.shape[1], METRICS, k)
    if average is not None:
        check_shape("average", average.shape[0], average.shape[1], p, k)
    elif options.average_from >= 0:
        raise ValueError("average must be given with average_from, got None")
    if held_out is not None:
        if best is None:
            raise ValueError("best must be given with held_out, got None")
        check_shape("best", best.shape[0], best.shape[1], p, k)
        check_shape("held_out", held_out.problem.d, held_out.problem.k, rows.problem.d, k)
        if held_out.float32_lines != rows.float32_lines:
            raise ValueError("held_out must have the dtype of the rows")
        if val_loss is not None:
            check_shape("val_loss", 1, val_loss.shape[1], 1, k)
            check_history("val_loss", epoch, last, start, every, val_loss.shape[0])
    if record.per_update:
        if loss is None:
            raise ValueError("loss must be given with per_update, got None")
        start, first, last = record.start_update, state.updates, state.updates + epochs * per_epoch
    if loss is not None:
        check_shape("loss", 1, loss.shape[1], 1, k)
        check_history("loss", first, last, start, every, loss.shape[0])
    if paths is not None:
        check_shape("paths", paths.shape[0], paths.shape[2] * paths.shape[3], 3, p * k)
        check_shape("paths", paths.shape[2], paths.shape[3], p, k)
        check_history("paths", first, last, start, every, paths.shape[1])
    return 0
