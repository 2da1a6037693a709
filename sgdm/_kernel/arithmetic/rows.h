/* Passes over the rows of X: residual, loss and gradient, and the update of the parameters.
 *
 *     r     = X a - y              residual of n rows
 *     loss  = sum w r^2
 *     grad  = X' (w r)             half of the gradient, before the division by sum w
 *
 * X is read from memory once per pass. Its rows are taken in blocks, which stay in cache from the residual to the
 * gradient. The sums of each block are added to double accumulators.
 *
 * The arithmetic sees X as "lines", its runs of contiguous memory: the rows of a C-order X, the columns of an F-order
 * one. Two operations on lines serve both orders. `rows_in_steps`, `rows_in_registers` and `one_panel` do the same for
 * narrow rows, with the same bits.
 *
 *     dots           out[q]  = line[q] @ v      residual of C-order X, gradient of F-order X
 *     combination    out    += c @ lines        gradient of C-order X, residual of F-order X
 *
 *     lines.h        sums over lanes; dots and combination
 *     in_steps.h     a block of C-order X, in steps of some rows
 *     by_rows.h      a block of C-order X in other ways
 *     by_columns.h   a block of F-order X
 *     passes.h       X, y and w as blocks, transposed where need be; the parts of a pass, which threads share
 *     strips.h       copies of some rows, from which
 *     factor.h       the triangular factor of rows is computed, and
 *     gram.h         that of many well-conditioned rows
 *     lanes.h        epochs of eight reduced fits at once
 *     factor_lanes.h the triangular factors of eight small fits at once
 *     modes.h        descents after any number of epochs, along eigenvectors
 *     update.h       the momentum update
 *     template.h     includes these, for one element type and CPU level
 *     both_types.h   includes the template twice, for float and for double
 *     level_*.c      one file for each CPU level: it sets what differs and includes both_types.h
 *     levels.c       the levels that this CPU runs; how the rows of a problem are read
 *     compiler.h     what differs between compilers
 *     threads.h      the team of threads
 *
 * The bits are the same on every level: a sum runs over 64 bytes of lanes, whatever the width of the registers, and its
 * lanes are added by halves at the end. Everything else is elementwise, or added in one order: blocks into double sums,
 * parts in order, whatever the level and the threads. That holds with -ffp-contract=off and without -ffast-math, as in
 * setup.py.
 */
#ifndef SGDM_ROWS_H
#define SGDM_ROWS_H

#include <stddef.h>

#include "threads.h"

#define SGDM_READ_AHEAD (1 << 17)      /* bytes: half of a small L2, with those of y */
#define SGDM_MOST_READ_AHEAD (1 << 19) /* bytes of a unit: a larger one would leave the caches again */

/* Before a unit of some data is read, from byte `at` of `end` on: every SGDM_READ_AHEAD bytes, those of the next units are
 * read from start to end, a byte of each cache line. The hardware fetches ahead only in this order. Then they are in the
 * caches for any other. */
static inline void sgdm_read_ahead(const void *data, ptrdiff_t at, ptrdiff_t end, ptrdiff_t unit) {
    const ptrdiff_t units = unit < SGDM_READ_AHEAD ? SGDM_READ_AHEAD / unit : 1, most = at + units * unit;
    if (unit > SGDM_MOST_READ_AHEAD || at / unit % units) return;
    for (ptrdiff_t i = at; i < end && i < most; i += 64) (void)*((const volatile char *)data + i);
}

#define SGDM_FACTOR_ROWS 192 /* of a block that is factored together */
#define SGDM_FITS 8          /* that descend together, and */
#define SGDM_MOST_PARAMETERS 20 /* the parameters that they have at most, or */
#define SGDM_MOST_SHARED 255    /* if they share X: its rows are one block */
#define SGDM_LANES_BYTES 300000 /* too much for the stacks of some threads */
#define SGDM_NARROWEST 3     /* columns: X of so many is always read by columns */
#define SGDM_LANE_BYTES 64 /* of a group of lanes: lines are read in whole groups */
#define SGDM_TARGETS 4     /* whose residuals are computed together, where there are registers for that */

/* The sizes of a problem, and how its rows are read. See sgdm_shape_of in levels.c. */
struct sgdm_shape {
    ptrdiff_t n, d, k;     /* rows, columns, targets */
    ptrdiff_t row_step;    /* of C-order X: elements from one row to the next */
    ptrdiff_t padded;      /* d, rounded up to whole groups of lanes */
    ptrdiff_t width;       /* of a row of parameters: `padded` coefficients, the intercept, zeros up to whole groups */
    int by_columns;        /* X is in F order */
    int triangular;        /* X is zero below its diagonal */
    int transposed;        /* X is in C order, without gaps between rows, and read by columns: */
    int whole;             /* from a copy of all of X; or else of one block at a time */
    int copies_rows;       /* F-order X may be copied by rows, for rows in random order */
    int from_memory;       /* X is larger than caches are */
    int in_steps;          /* rows of C-order X are read in steps: see in_steps.h */
    ptrdiff_t batch;       /* rows of an update */
    ptrdiff_t block_rows;  /* in a block, at most */
    ptrdiff_t piece_rows;  /* of a block of F-order X that are read together: no bits depend on it */
    ptrdiff_t part_rows;   /* in a part of a pass, at most */
};

/* One epoch's constants. threshold: of the proximal step, lr * l1 * (1 - dampening) / (1 - momentum). */
struct sgdm_update {
    double lr, momentum, gradient_weight, weight_decay, threshold;
    int first, nesterov; /* first: the velocity becomes the gradient, undamped */
};

/* A problem's rows, opened for reading. More follows in memory, the buffers of each thread among it: see passes.h.
 *
 * loss_of_zeros   sets sums[padded + 1] to what `sums` below gives where all parameters are 0, up to rounding.
 * weight          the sum of w over rows start to stop, or over the rows that order[start:stop] names.
 * close           frees the memory.
 */
struct sgdm_rows {
    void (*loss_of_zeros)(const struct sgdm_rows *, double *sums);
    double (*weight)(const struct sgdm_rows *, ptrdiff_t start, ptrdiff_t stop, const ptrdiff_t *order);
    void (*close)(struct sgdm_rows *);
};

/* What each level offers for an element type.
 *
 * open      the rows of a problem of this shape, or NULL if there is no memory. team: the threads that share a pass, or
 *           NULL.
 * take      sets the data: X (n, d) in C order, or (d, n) with by_columns; y (k, n); w (n,), or NULL for ones.
 * sums      sets sums (k, width), over rows start to stop, or over the rows that order[start:stop] names: with_gradient
 *           X' (w r) in the first d places; at [padded] sum w r, and at [padded + 1] sum w r^2. coef is (k, width),
 *           with zeros from d to padded. The bits don't depend on the team.
 * update    one momentum update of `length` parameters a and their velocity v; g = scale * grad is kept for the record.
 */
#define SGDM_ARITHMETIC(type)                                                                                       \
    struct sgdm_arithmetic_##type {                                                                                 \
        struct sgdm_rows *(*open)(const struct sgdm_shape *, struct sgdm_team *team);                               \
        void (*take)(struct sgdm_rows *, const type *X, const type *y, const type *w);                              \
        void (*sums)(struct sgdm_rows *, ptrdiff_t start, ptrdiff_t stop, const ptrdiff_t *order, const type *coef, \
                     int with_gradient, double *sums);                                                              \
        void (*update)(const struct sgdm_update *, ptrdiff_t length, double scale, const double *grad, type *a,     \
                       type *v, type *g);                                                                           \
    }
SGDM_ARITHMETIC(float);
SGDM_ARITHMETIC(double);

/* Columns of float or double. */
struct sgdm_array {
    const void *data;
    ptrdiff_t columns, row_step, column_step; /* bytes from one row, or column, to the next */
    int single;                               /* of float */
};

/* R (stride, stride) becomes the triangular factor of its own rows and of n rows [X, 1, y], the ones only with an
 * intercept, each times its root (NULL for ones). The factor is the square of so many columns in R's upper left corner,
 * and the rest zeros; stride is a multiple of 8. triangular: the rows are zero below their diagonal. Returns whether
 * there was memory for it. */
typedef int sgdm_factor(const struct sgdm_array *X, int intercept, const struct sgdm_array *y, const double *roots,
                        ptrdiff_t n, int triangular, double *R, ptrdiff_t stride);

/* The triangular factors of eight fits: X (p + 1, p), y (p + 1,), and the sums of their weights. */
struct sgdm_factors {
    const double *X[SGDM_FITS], *y[SGDM_FITS];
    double weight[SGDM_FITS];
};

/* Eight reduced fits, for `descend_lanes`: how far they are, and where their data and results are. With more than
 * SGDM_MOST_PARAMETERS they share X, and that of held-out rows. A fit may be named more than once. */
struct sgdm_fits {
    ptrdiff_t p, features;                           /* parameters; the penalties act on the first `features` */
    ptrdiff_t first, last, every;                    /* the epochs to do; every so many are recorded */
    int nesterov;
    void *memory;                                    /* to work in, of SGDM_LANES_BYTES */
    struct sgdm_factors training, held_out;          /* X of held-out rows are NULL for none */
    const double *rates[SGDM_FITS];                  /* lr, momentum and 1 - dampening, of epoch `first` */
    ptrdiff_t rates_step;                            /* from an epoch's rates to the next: 3, or 0 for constants */
    double decay[SGDM_FITS], l1[SGDM_FITS];          /* the penalties; with columns, the largest l1 */
    const double *columns[SGDM_FITS];                /* (4, features), as of `Rows` in rows.pxd, or NULL */
    double *a[SGDM_FITS], *v[SGDM_FITS];             /* (p,), read and written */
    double *loss[SGDM_FITS], *val_loss[SGDM_FITS];   /* the histories (rows,) and */
    double *paths[3][SGDM_FITS];                     /* (rows, p), or NULL */
    int past_caches;                                 /* whether they are written past the caches */
    double last_loss[SGDM_FITS];                     /* of the last epoch; at `a`, if there are no epochs to do */
    double objective[SGDM_FITS], norm[SGDM_FITS];    /* before the first update: set if that is done, for fits without
                                                      * columns and l1 */
    int overflowed;                                  /* which fits did, as bits: their parameters are as they were */
};

/* Epochs of eight fits. */
typedef void sgdm_descend_lanes(struct sgdm_fits *);

/* The rows of eight fits, for `factor_lanes`: arrays of one layout. */
struct sgdm_fits_rows {
    ptrdiff_t n;
    int intercept;
    struct sgdm_array X[SGDM_FITS], y[SGDM_FITS], roots[SGDM_FITS]; /* roots: their data are NULL for ones */
    double *lines[SGDM_FITS], *targets[SGDM_FITS];                  /* written: R (p + 1, p) and its last column */
};

/* The triangular factors of eight fits with at most SGDM_MOST_PARAMETERS, as `factor` has them. Returns whether there
 * was memory for it. */
typedef int sgdm_factor_lanes(const struct sgdm_fits_rows *);

/* n descents along p eigenvectors, for `follow_modes`; p is a multiple of 8. */
struct sgdm_modes {
    ptrdiff_t n, p;
    const double *curvature, *weights;             /* (p,) */
    const double *lr, *momentum, *gradient_weight; /* (n,), the last 1 - dampening */
    const long long *epochs;                       /* (n,) */
    int nesterov;
    int from_start; /* whether the distance is that from the start, for a gradient of 1 there. If not, it is that from
                     * the optimum, and 1 at the start. */
    double *distance; /* (n, p), written, or NULL */
    double *sums;     /* (n,), of weights * distance^2, or NULL */
};

/* The distances after so many epochs, or the sums. */
typedef void sgdm_follow_modes(const struct sgdm_modes *);

struct sgdm_level {
    const char *name; /* "baseline", "v3" or "v4" of x86-64 */
    const struct sgdm_arithmetic_float *for_float;
    const struct sgdm_arithmetic_double *for_double;
    sgdm_factor *factor;
    sgdm_descend_lanes *descend_lanes;
    sgdm_factor_lanes *factor_lanes;
    sgdm_follow_modes *follow_modes;
};

/* The levels that this CPU runs, the lowest first; there are `*count`. */
const struct sgdm_level *sgdm_levels(int *count);

/* The shape of a problem. row_step: of C-order X, elements from one row to the next, d or more. batch: how many rows an
 * update takes, 0 for all. */
struct sgdm_shape sgdm_shape_of(ptrdiff_t n, ptrdiff_t d, ptrdiff_t k, ptrdiff_t row_step, ptrdiff_t itemsize,
                                int by_columns, int triangular, ptrdiff_t batch);

#endif
