"""The door to the arithmetic in C: see arithmetic/rows.h for what its functions do."""

from cython cimport floating

from .nouns cimport SHRINKAGE, Problem


cdef extern from "arithmetic/threads.h" nogil:
    struct CTeam "sgdm_team":
        int members
        long long closed
    void sgdm_help(CTeam*, int member)
    void SGDM_SET(long long*, long long)


cdef extern from "arithmetic/rows.h" nogil:
    enum: SGDM_LANE_BYTES
    void sgdm_read_ahead(const void* data, Py_ssize_t at, Py_ssize_t end, Py_ssize_t unit)
    struct Shape "sgdm_shape":
        Py_ssize_t n, d, k, padded, width, batch, block_rows, part_rows
    struct Update "sgdm_update":
        double lr, momentum, gradient_weight, weight_decay, threshold
        int first, nesterov
    struct Handle "sgdm_rows":
        void (*loss_of_zeros)(const Handle*, double* sums) noexcept nogil
        double (*weight)(const Handle*, Py_ssize_t start, Py_ssize_t stop, const Py_ssize_t* order) noexcept nogil
        void (*close)(Handle*) noexcept nogil
    struct FloatArithmetic "sgdm_arithmetic_float":
        Handle* (*open)(const Shape*, CTeam*) noexcept nogil
        void (*take)(Handle*, const float* X, const float* y, const float* w) noexcept nogil
        void (*sums)(Handle*, Py_ssize_t start, Py_ssize_t stop, const Py_ssize_t* order, const float* coef,
                     bint with_gradient, double* sums) noexcept nogil
        void (*update)(const Update*, Py_ssize_t length, double scale, const double* grad, float* a, float* v,
                       float* g) noexcept nogil
    struct DoubleArithmetic "sgdm_arithmetic_double":
        Handle* (*open)(const Shape*, CTeam*) noexcept nogil
        void (*take)(Handle*, const double* X, const double* y, const double* w) noexcept nogil
        void (*sums)(Handle*, Py_ssize_t start, Py_ssize_t stop, const Py_ssize_t* order, const double* coef,
                     bint with_gradient, double* sums) noexcept nogil
        void (*update)(const Update*, Py_ssize_t length, double scale, const double* grad, double* a, double* v,
                       double* g) noexcept nogil
    struct Array "sgdm_array":
        const void* data
        Py_ssize_t columns, row_step, column_step
        bint single
    ctypedef bint (*Factor)(const Array* X, bint intercept, const Array* y, const double* roots, Py_ssize_t n,
                            bint triangular, double* R, Py_ssize_t stride) noexcept nogil
    enum: SGDM_FITS, SGDM_MOST_PARAMETERS, SGDM_MOST_SHARED, SGDM_LANES_BYTES
    struct Factors "sgdm_factors":
        const double* X[SGDM_FITS]
        const double* y[SGDM_FITS]
        double weight[SGDM_FITS]
    struct Fits "sgdm_fits":
        Py_ssize_t p, features, first, last, every, rates_step
        bint nesterov
        void* memory
        Factors training, held_out
        const double* rates[SGDM_FITS]
        double decay[SGDM_FITS]
        double l1[SGDM_FITS]
        const double* columns[SGDM_FITS]
        double* a[SGDM_FITS]
        double* v[SGDM_FITS]
        double* loss[SGDM_FITS]
        double* val_loss[SGDM_FITS]
        double* paths[3][SGDM_FITS]
        bint past_caches
        double last_loss[SGDM_FITS]
        double objective[SGDM_FITS]
        double norm[SGDM_FITS]
        int overflowed
    ctypedef void (*DescendLanes)(Fits*) noexcept nogil
    struct FitsRows "sgdm_fits_rows":
        Py_ssize_t n
        bint intercept
        Array X[SGDM_FITS]
        Array y[SGDM_FITS]
        Array roots[SGDM_FITS]
        double* lines[SGDM_FITS]
        double* targets[SGDM_FITS]
    ctypedef bint (*FactorLanes)(const FitsRows*) noexcept nogil
    struct Modes "sgdm_modes":
        Py_ssize_t n, p
        const double* curvature
        const double* weights
        const double* lr
        const double* momentum
        const double* gradient_weight
        const long long* epochs
        bint nesterov, from_start
        double* distance
        double* sums
    ctypedef void (*FollowModes)(const Modes*) noexcept nogil
    struct Level "sgdm_level":
        const char* name
        const FloatArithmetic* for_float
        const DoubleArithmetic* for_double
        Factor factor
        DescendLanes descend_lanes
        FactorLanes factor_lanes
        FollowModes follow_modes
    const Level* sgdm_levels(int* count)
    Shape sgdm_shape_of(Py_ssize_t n, Py_ssize_t d, Py_ssize_t k, Py_ssize_t row_step, Py_ssize_t itemsize,
                        bint by_columns, bint triangular, Py_ssize_t batch)


cdef const Level* arithmetic() noexcept nogil


cdef class Team:
    cdef CTeam team


cdef class Rows:
    cdef readonly Problem problem
    cdef readonly object team
    cdef Handle* handle
    cdef bint float32_lines
    cdef const FloatArithmetic* for_float
    cdef const DoubleArithmetic* for_double
    cdef Shape shape
    cdef double total_weight
    cdef object work                        # (SLABS, k, width), floats or doubles as the lines
    cdef double[:, :, ::1] sums             # (SUMS, k, width)
    cdef double[:, ::1] columns             # (COLUMN_TERMS, features), or None
    cdef bint shrinks                       # whether there is l1 in the columns
    cdef Py_ssize_t at_loss                 # where sum w r^2 is in a row of sums
    cdef Py_ssize_t[::1] order              # (n,), once rows are taken in a random order


# What has a value for each parameter is kept here as a slab (k, width). A row has d features, zeros to index `padded`,
# the intercept at index `padded`, zeros to `width`. Sums over rows have sum w r^2 after the intercept's sum.
cdef enum:
    COEF, VELOCITY, GRADIENT
    BEFORE_UPDATE                           # the coefficients, and
    BEFORE_EPOCH, VELOCITY_BEFORE_EPOCH     # what an epoch that overflows is put back to
    SLABS

cdef enum:
    PASS                                    # over the rows of an update
    EPOCH                                   # sum w r^2 so far, in the same place
    AVERAGE, AVERAGE_BEFORE_EPOCH
    DIRECTION                               # the gradient of the objective, preconditioned
    SUMS


cdef inline void set_columns(Rows rows, double[:, ::1] columns) noexcept nogil:
    """Sets what differs between columns."""
    cdef Py_ssize_t j
    rows.columns, rows.shrinks = columns, False
    for j in range(columns.shape[1]):
        rows.shrinks |= columns[SHRINKAGE, j] > 0


cdef inline void take(Rows rows, const floating* X, const floating* y, const floating* w) noexcept nogil:
    """Sets the data that are read."""
    if floating is float:
        rows.for_float.take(rows.handle, X, y, w)
    else:
        rows.for_double.take(rows.handle, X, y, w)


cdef inline void sum_rows(Rows rows, Py_ssize_t start, Py_ssize_t stop, const Py_ssize_t* order,
                          const floating* coef, bint with_gradient, double* sums) noexcept nogil:
    """sums = X' (w r), sum w r and sum w r^2 of each target, r = X a - y, over rows start to stop, or over the rows
    order[start:stop]."""
    if floating is float:
        rows.for_float.sums(rows.handle, start, stop, order, coef, with_gradient, sums)
    else:
        rows.for_double.sums(rows.handle, start, stop, order, coef, with_gradient, sums)


cdef inline void momentum_update(Rows rows, const Update* update, Py_ssize_t length, double scale, const double* grad,
                                 floating* a, floating* v, floating* g) noexcept nogil:
    """One momentum update of a and v, from g = scale * grad: see arithmetic/update.h."""
    if floating is float:
        rows.for_float.update(update, length, scale, grad, a, v, g)
    else:
        rows.for_double.update(update, length, scale, grad, a, v, g)
