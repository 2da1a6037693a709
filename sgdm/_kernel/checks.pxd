from cython cimport floating

from .nouns cimport Options, Record, State
from .rows cimport Rows


cdef int check_shape(str name, Py_ssize_t rows, Py_ssize_t columns, Py_ssize_t expected_rows,
                     Py_ssize_t expected_columns) except -1
cdef int check_fits(str name, Py_ssize_t length, Py_ssize_t fits, bint shared=*, Py_ssize_t columns=*,
                    Py_ssize_t expected=*) except -1
cdef int check_history(str name, Py_ssize_t first, Py_ssize_t last, Py_ssize_t start, Py_ssize_t every,
                       Py_ssize_t rows) except -1
cdef int check_room(Rows rows, Options options, State state, Record record, Py_ssize_t epochs, Rows held_out,
                    const floating[:, :, ::1] parameters, const floating[:, ::1] best, const double[:, ::1] average,
                    const double[:, ::1] metrics, const floating[:, ::1] loss, const floating[:, ::1] val_loss,
                    const floating[:, :, :, ::1] paths) except -1


cdef inline Py_ssize_t ceil_div(Py_ssize_t a, Py_ssize_t b) noexcept nogil:
    """a / b, rounded up, where a + b may overflow."""
    return a // b + (a % b != 0)
