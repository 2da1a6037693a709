/* The arithmetic for one element type and one CPU level.
 *
 * The including file has set REAL and BITS (an integer of its size), LEVEL, FOR_LEVEL (that of functions for this
 * level), VECTOR_BYTES, REGISTER_GROUPS, PANEL and TARGETS; level_baseline.c says what the last three are.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "rows.h"

#define SGDM_JOIN_(name, level, type) sgdm_##name##_##level##_##type
#define SGDM_JOIN(name, level, type) SGDM_JOIN_(name, level, type)
#define NAME(name) SGDM_JOIN(name, LEVEL, REAL) /* the name of a function or type for this level and element type */

#define LANES ((ptrdiff_t)(SGDM_LANE_BYTES / sizeof(REAL)))
#ifdef SGDM_VECTORS
typedef REAL NAME(vector) __attribute__((vector_size(VECTOR_BYTES), aligned(sizeof(REAL)), may_alias));
typedef REAL NAME(quad) __attribute__((vector_size(4 * sizeof(REAL)), aligned(sizeof(REAL)), may_alias));
typedef double NAME(doubles) __attribute__((vector_size(VECTOR_BYTES), aligned(8), may_alias));
typedef double NAME(four_doubles) __attribute__((vector_size(32), aligned(8), may_alias));
typedef REAL NAME(narrower)
    __attribute__((vector_size(VECTOR_BYTES / 8 * sizeof(REAL)), aligned(sizeof(REAL)), may_alias));
typedef BITS NAME(mask) __attribute__((vector_size(VECTOR_BYTES), aligned(sizeof(REAL)), may_alias));
#define WIDTH ((ptrdiff_t)(VECTOR_BYTES / sizeof(REAL)))
#define GROUP (SGDM_LANE_BYTES / VECTOR_BYTES) /* vectors that make LANES */
#else
typedef REAL NAME(vector);
#define WIDTH 1
#define GROUP ((int)LANES)
#endif
#define DOUBLES NAME(doubles)
#define FOUR_DOUBLES NAME(four_doubles)
#define NARROWER NAME(narrower) /* as many elements as DOUBLES, before their conversion to double */
#define DWIDTH (VECTOR_BYTES / 8)
#define DGROUP (8 / DWIDTH)
#define V NAME(vector)
#define QUAD NAME(quad)
#define SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#define AT(address) (*(V *)(address))
#define READ(address) (*(const V *)(address))

/* A block: b rows of X, as lines, with their y and w; the parameters; and where the results go. */
struct NAME(block) {
    ptrdiff_t b, d, k;
    const REAL *lines, *y, *w;       /* w: NULL for ones */
    ptrdiff_t stride, target_stride; /* from line to line, and from target to target in y */
    ptrdiff_t first;                 /* the number of the block's first row in X */
    const REAL *coef;                /* (k, width): d coefficients, zeros up to `padded`, the intercept */
    ptrdiff_t padded, width;
    const ptrdiff_t *order;          /* NULL, or the b rows to take, and after them the rows of later blocks */
    ptrdiff_t ordered;               /* how many there are in `order` */
    const REAL *tail_rows;           /* the first row of X whose groups reach beyond X */
    ptrdiff_t to_tail;               /* from there to the copy that is read in its place */
    int in_steps, from_memory;       /* as in struct sgdm_shape */
    int prefetches;                  /* a step of rows prefetches the next one */
    int triangular;                  /* X is zero below its diagonal: row i is read from column i on */
    int straddles;                   /* a row can end in a cache line where no group of it starts: prefetch that too */
    int padded_rows;                 /* y and w can be read up to whole groups, too */
    REAL *r, *wr;                    /* (SGDM_TARGETS, row_stride): residuals, and w times them */
    ptrdiff_t row_stride;
    ptrdiff_t piece_rows;            /* of a block of F-order X, that are read together */
    REAL *g;                         /* (k, padded), zeros between blocks of C-order X; (SGDM_TARGETS, d, LANES) of F-order
                                      * X; NULL without gradient */
    double *sums;                    /* (k, width), added to: X' (w r), at [padded] sum w r, then sum w r^2 */
};

/* How many of a block's rows, from the first on, are read in place if they come in order. */
SGDM_INLINE ptrdiff_t NAME(in_place)(const struct NAME(block) *s) {
    const ptrdiff_t rows = (s->tail_rows - s->lines) / s->stride;
    return rows < 0 ? 0 : rows < s->b ? rows : s->b;
}

#include "lines.h"
#include "in_steps.h"
#include "by_rows.h"
#include "by_columns.h"
#include "update.h"
#include "passes.h"
#ifdef FACTORS
#include "factor.h"
#include "lanes.h"
#include "factor_lanes.h"
#include "modes.h"
#endif

#undef NAME
#undef SGDM_JOIN
#undef SGDM_JOIN_
#undef LANES
#undef WIDTH
#undef GROUP
#undef DOUBLES
#undef FOUR_DOUBLES
#undef NARROWER
#undef DWIDTH
#undef DGROUP
#undef V
#undef QUAD
#undef SHUFFLE
#undef AT
#undef READ
