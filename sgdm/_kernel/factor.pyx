"""The triangular factor of rows, by the arithmetic of arithmetic/factor.h."""

from cython cimport floating

from .checks cimport check_shape
from .rows cimport Array, arithmetic


cdef Array _array_of(const floating[:, :] values) noexcept:
    cdef Array array
    array.data, array.columns = &values[0, 0] if values.shape[0] and values.shape[1] else NULL, values.shape[1]
    array.row_step, array.column_step = values.strides[0], values.strides[1]
    array.single = floating is float
    return array


cdef Array _as_array(values) except *:
    """The array of a matrix of float32 or float64, which must outlive it."""
    return _array_of[float](values) if values.itemsize == 4 else _array_of[double](values)


def add_rows(double[:, ::1] R, X, bint intercept, y, const double[::1] roots=None, bint triangular=False):
    """R becomes the factor of its own rows and of the rows [X, 1, y], in place and without the GIL.

    X (n, d) and y (n, k) are float32 or float64 of any strides; the ones are only there with an intercept; each row is
    multiplied by its root. R (s, s), with s a multiple of 8, is zero beyond its first q = d + intercept + k columns.
    triangular: the rows are zero below their diagonal. MemoryError if there is no room to work in.
    """
    cdef:
        Array to_X = _as_array(X), to_y = _as_array(y)
        Py_ssize_t n = X.shape[0], q = to_X.columns + intercept + to_y.columns, stride = (q + 7) // 8 * 8
        const double* c_roots = NULL
        bint enough
    check_shape("R", R.shape[0], R.shape[1], stride, stride)
    check_shape("y", y.shape[0], 1, n, 1)
    if roots is not None:
        check_shape("roots", roots.shape[0], 1, n, 1)
        c_roots = &roots[0]
    if n == 0 or q == 0:
        return
    with nogil:
        enough = arithmetic().factor(&to_X, intercept, &to_y, c_roots, n, triangular, &R[0, 0], stride)
    if not enough:
        raise MemoryError("no memory for the block of rows that is factored")
