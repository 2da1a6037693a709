"""What a reduction needs: the triangular factor of rows, by arithmetic/factor.h; descents along the eigenvectors of its
Hessian, by arithmetic/modes.h; and a digest of its data."""

from cython cimport floating
from libc.math cimport fabs
from libc.stdint cimport uint64_t
from libc.string cimport memcpy, memset

import numpy as np

from .checks cimport check_fits, check_shape
from .rows cimport SGDM_FITS, SGDM_MOST_PARAMETERS, Array, FitsRows, Modes, arithmetic, sgdm_read_ahead


cdef Array _array_of(const floating[:, :] values) noexcept:
    cdef Array array
    array.data, array.columns = &values[0, 0] if values.shape[0] and values.shape[1] else NULL, values.shape[1]
    array.row_step, array.column_step = values.strides[0], values.strides[1]
    array.single = floating is float
    return array


cdef Array _as_array(values) except *:
    """The array of a matrix of float32 or float64, which must outlive it."""
    return _array_of[float](values) if values.itemsize == 4 else _array_of[double](values)


def is_triangular(const double[:, :] R):
    """Whether there are only zeros below the diagonal."""
    cdef Py_ssize_t i, j
    for i in range(R.shape[0]):
        for j in range(min(i, R.shape[1])):
            if R[i, j] != 0:
                return False
    return True


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


def factor_many(const floating[:, :, :] X, bint intercept, const floating[:, :] y, const double[:, ::1] roots,
                double[:, :, ::1] lines, double[:, ::1] targets, Py_ssize_t first, Py_ssize_t last):
    """Writes the factors of the rows [X, 1, y] of fits `first` to `last`, without the GIL.

    X (B, n, d), y and roots (B, n) as for `add_rows`; what all fits share leads with 1. With p = d + intercept, lines
    (B, p + 1, p) are the columns of [X, 1] in each factor, and targets (B, p + 1) that of y. Returns the size of the
    largest number in each column, (last - first, p + 1), NaN if there is one.
    """
    cdef:
        Py_ssize_t n = X.shape[1], d = X.shape[2], p = d + intercept, stride = (p + 8) // 8 * 8
        Py_ssize_t i = first, lane, row, column
        double[:, ::1] R = np.empty((stride, stride))
        double[:, ::1] sizes
        FitsRows rows
        Py_ssize_t X_bytes = n * d * sizeof(floating), y_bytes = n * sizeof(floating)   # of a fit
        bint packed = is_packed(X, y)
        bint enough = True
    if first < 0 or first > last:
        raise ValueError(f"fits must run from 0 or later to no less, got {first} to {last}")
    check_fits("X", X.shape[0], last, True)
    check_fits("y", y.shape[0], last, True, y.shape[1], n)
    if roots is not None:
        check_fits("roots", roots.shape[0], last, True, roots.shape[1], n)
    check_fits("lines", lines.shape[0], last)
    check_shape("lines", lines.shape[1], lines.shape[2], p + 1, p)
    check_fits("targets", targets.shape[0], last, False, targets.shape[1], p + 1)
    if n == 0 or d == 0:
        raise ValueError(f"X must have rows and columns, got {n} and {d}")
    rows.n, rows.intercept = n, intercept
    sizes = np.zeros((last - first, p + 1))
    with nogil:
        while p <= SGDM_MOST_PARAMETERS and i + SGDM_FITS <= last and enough:
            if packed:
                sgdm_read_ahead(&X[first, 0, 0], (i - first) * X_bytes, (last - first) * X_bytes, SGDM_FITS * X_bytes)
                sgdm_read_ahead(&y[first, 0], (i - first) * y_bytes, (last - first) * y_bytes, SGDM_FITS * y_bytes)
            for lane in range(SGDM_FITS):
                take_rows(&rows, lane, i + lane, X, y, roots)
                rows.lines[lane], rows.targets[lane] = &lines[i + lane, 0, 0], &targets[i + lane, 0]
            enough = arithmetic().factor_lanes(&rows)
            i += SGDM_FITS
        while i < last and enough:
            memset(&R[0, 0], 0, stride * stride * sizeof(double))
            take_rows(&rows, 0, i, X, y, roots)
            enough = arithmetic().factor(&rows.X[0], intercept, &rows.y[0], <const double*> rows.roots[0].data, n,
                                         False, &R[0, 0], stride)
            for row in range(p + 1):
                memcpy(&lines[i, row, 0], &R[row, 0], p * sizeof(double))
                targets[i, row] = R[row, p]
            i += 1
        for i in range(first, last):
            for row in range(p + 1):
                for column in range(row, p):
                    enlarge(&sizes[i - first, column], fabs(lines[i, row, column]))
                enlarge(&sizes[i - first, p], fabs(targets[i, row]))
    if not enough:
        raise MemoryError("no memory for the block of rows that is factored")
    return np.asarray(sizes)


cdef bint is_packed(const floating[:, :, :] X, const floating[:, :] y) noexcept:
    """Whether the data of several fits follow one another without gaps, X by rows or by columns."""
    cdef Py_ssize_t n = X.shape[1], d = X.shape[2], size = sizeof(floating)
    cdef bint by_rows = X.strides[1] == d * size and X.strides[2] == size
    cdef bint by_columns = X.strides[1] == size and X.strides[2] == n * size
    cdef bint X_packed = X.shape[0] > 1 and X.strides[0] == n * d * size and (by_rows or by_columns)
    return X_packed and y.shape[0] > 1 and y.strides[0] == n * size and y.strides[1] == size


cdef inline void enlarge(double* largest, double size) noexcept nogil:
    """largest = max(largest, size), NaN if one of them is."""
    if size > largest[0] or size != size:
        largest[0] = size


cdef inline void take_rows(FitsRows* rows, Py_ssize_t lane, Py_ssize_t fit, const floating[:, :, :] X,
                           const floating[:, :] y, const double[:, ::1] roots) noexcept nogil:
    """Sets the data of a lane."""
    cdef bint single = floating is float
    rows.X[lane] = Array(&X[fit if X.shape[0] > 1 else 0, 0, 0], X.shape[2], X.strides[1], X.strides[2], single)
    rows.y[lane] = Array(&y[fit if y.shape[0] > 1 else 0, 0], 1, y.strides[1], 0, single)
    rows.roots[lane] = Array(NULL, 1, sizeof(double), 0, False)
    if roots is not None:
        rows.roots[lane].data = &roots[fit if roots.shape[0] > 1 else 0, 0]


def follow_modes(const double[::1] curvature, const double[:, ::1] constants, const long long[::1] epochs,
                 bint nesterov, bint from_start, const double[::1] weights=None):
    """How far n descents are along p eigenvectors after so many epochs each, (n, p), without the GIL.

    With weights (p,), the sums of weights * distance**2 instead, (n,). curvature (p,); constants (3, n) are lr,
    momentum and 1 - dampening; epochs (n,). arithmetic/rows.h says from where distances are measured, and their unit.
    """
    cdef:
        Modes modes
        Py_ssize_t n = epochs.shape[0], p = curvature.shape[0], padded = (p + 7) // 8 * 8
        double[:, ::1] columns = np.zeros((2, padded)), distance = np.empty((0 if weights is not None else n, padded))
        double[::1] sums = np.zeros(n if weights is not None else 0)
    check_shape("constants", constants.shape[0], constants.shape[1], 3, n)
    columns[0, :p] = curvature
    if weights is not None:
        check_shape("weights", weights.shape[0], 1, p, 1)
        columns[1, :p] = weights
    if n > 0 and p > 0:
        modes.n, modes.p, modes.nesterov, modes.from_start = n, padded, nesterov, from_start
        modes.curvature, modes.weights, modes.epochs = &columns[0, 0], &columns[1, 0], &epochs[0]
        modes.lr, modes.momentum, modes.gradient_weight = &constants[0, 0], &constants[1, 0], &constants[2, 0]
        modes.distance = &distance[0, 0] if weights is None else NULL
        modes.sums = &sums[0] if weights is not None else NULL
        with nogil:
            arithmetic().follow_modes(&modes)
    return np.asarray(distance)[:, :p] if weights is None else np.asarray(sums)


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
