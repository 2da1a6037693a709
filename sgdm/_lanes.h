/* The arithmetic over rows: one block's residual, loss and gradient, for each element type and CPU level.
 *
 * X comes as "lines", its runs of contiguous memory: the rows of a C-order X, the columns of an F-order one. Two
 * operations on lines serve both orders, each as residual for the one and as gradient for the other:
 *
 *     dots           out[q]  = lines[q] @ v      residual by rows, gradient by columns
 *     combination    out    += c @ lines         gradient by rows, residual by columns
 *
 * Lines are read in whole groups of LANES elements, so reads may run past a line's end. The extra elements are
 * multiplied by zeros or land in padding; the caller guarantees that the memory is readable.
 *
 * The same bits on every level: a sum runs over LANES accumulators, 64 bytes of them whatever the width of the
 * machine's registers, added by halves at the end; everything else is elementwise. That holds with
 * -ffp-contract=off and without -ffast-math, as setup.py has it.
 *
 * The file includes itself once per type and level.
 */
#ifndef REAL

#include <stddef.h>
#include <string.h>

/* gcc from 12 on and clang have vectors; elsewhere it is plain C, one element wide. */
#if defined(__has_builtin) && !defined(SGDM_NO_VECTORS)
#if __has_builtin(__builtin_shufflevector)
#define SGDM_VECTORS 1
#endif
#endif
#ifdef SGDM_VECTORS
#define SGDM_INLINE static inline __attribute__((always_inline))
#define SGDM_UNROLL _Pragma("GCC unroll 8")
#ifdef __clang__
#define SGDM_APART _Pragma("clang loop vectorize(assume_safety)")
#else
#define SGDM_APART _Pragma("GCC ivdep") /* the arrays of the loop don't overlap */
#endif
#define SGDM_PREFETCH(address) __builtin_prefetch(address)
#define SGDM_RESTRICT __restrict__
#define SGDM_NOT_INLINE __attribute__((noinline))
#else
#define SGDM_INLINE static inline
#define SGDM_UNROLL
#define SGDM_APART
#define SGDM_PREFETCH(address) ((void)0)
#define SGDM_RESTRICT
#define SGDM_NOT_INLINE
#endif

/* How far ahead rows are asked for: in bytes, or permuted in rows. From memory the hardware's own prefetch loses the
 * four rows of a panel: 1 000 000 x 50 doubles take 20.7 ms an epoch without this, 17.6 with 2048, 13.6 with 8192,
 * 15.0 with 16384. Rows of more groups than PREFETCH_GROUPS it keeps, and asking costs a load: 2000 x 2000 takes
 * 0.76 ms without and 1.05 with it. */
#define SGDM_AHEAD 8192
#define SGDM_ROWS_AHEAD 24
#define SGDM_PREFETCH_GROUPS 16

/* b rows of d columns for k targets. The caller's arrays are padded with zeros to whole groups: coef (k, padded),
 * where padded is d in whole groups, r and wr (SGDM_TARGETS, room), g (k, padded). Adds to loss[k] the sums of w * r**2 and to
 * grad (k, padded + 1) those of the gradient, the intercept's last; with g == NULL the loss alone. */
struct sgdm_block {
    ptrdiff_t stride, b, d, padded, k, target_stride; /* stride: from line to line; target_stride: in y */
    const ptrdiff_t *order; /* NULL, or the b rows to take, and after them those of later blocks */
    ptrdiff_t ahead;        /* how many of those there are */
    const void *last, *tail; /* the row at the end of X, and a padded copy to read in its place */
    ptrdiff_t first;         /* the block's first row in X */
    ptrdiff_t room;          /* from one target's residuals to the next's, in r and wr */
    int triangular;          /* whether X is zero below its diagonal: left of row i's column i there is nothing to do */
    int padded_rows;         /* whether y and w, too, are there up to whole groups */
    int straddles;           /* whether a row may end in a cache line that no group starts in: it needs a prefetch */
};
#define SGDM_TARGETS 4 /* of which the residuals are computed together, where there are registers for that */
#define SGDM_BLOCK_ARGUMENTS(real)                                                                                \
    const struct sgdm_block *s, const real *lines, const real *y, const real *w, const real *coef,                \
        const real *intercept, real *r, real *wr, real *g, double *loss, double *grad
typedef void (*sgdm_block_float)(SGDM_BLOCK_ARGUMENTS(float));
typedef void (*sgdm_block_double)(SGDM_BLOCK_ARGUMENTS(double));

/* One epoch's constants. threshold: of the proximal step, lr * l1 * (1 - dampening) / (1 - momentum). */
struct sgdm_update {
    double lr, momentum, undamped, decay, threshold;
    int first, nesterov; /* first: the velocity is the gradient, undamped */
};
#define SGDM_UPDATE_ARGUMENTS(real) \
    const struct sgdm_update *s, ptrdiff_t length, double scale, const double *grad, real *a, real *v, real *g
typedef void (*sgdm_update_float)(SGDM_UPDATE_ARGUMENTS(float));
typedef void (*sgdm_update_double)(SGDM_UPDATE_ARGUMENTS(double));

/* out[j * stride + i] = rows[i * d + j] for b rows of d columns; stride is b in whole groups or more. */
#define SGDM_TRANSPOSE_ARGUMENTS(real) const real *rows, ptrdiff_t d, ptrdiff_t b, real *out, ptrdiff_t stride
typedef void (*sgdm_transpose_float)(SGDM_TRANSPOSE_ARGUMENTS(float));
typedef void (*sgdm_transpose_double)(SGDM_TRANSPOSE_ARGUMENTS(double));

#define SGDM_JOIN_(name, level, type) sgdm_##name##_##level##_##type
#define SGDM_JOIN(name, level, type) SGDM_JOIN_(name, level, type)
#define NAME(name) SGDM_JOIN(name, LEVEL, REAL)

#define LEVEL baseline
#define TARGET
#define VECTOR_BYTES 16
#define REGISTER_GROUPS 1 /* groups of a row whose gradient the registers hold, beside the sums of four rows */
#define PANEL 4 /* lines that share a pass over coefficients or gradient, as many as the registers hold sums for */
#define TARGETS 1 /* that share a pass over a panel */
#define REAL float
#define BITS int
#include "_lanes.h"
#define REAL double
#define BITS long long
#include "_lanes.h"
#undef LEVEL
#undef TARGET
#undef VECTOR_BYTES
#undef REGISTER_GROUPS
#undef PANEL
#undef TARGETS

#if defined(__x86_64__) && defined(SGDM_VECTORS)
#define SGDM_LEVELS 3
#define LEVEL v3
#define TARGET __attribute__((target("avx2")))
#define VECTOR_BYTES 32
#define REGISTER_GROUPS 2
#define PANEL 4
#define TARGETS 1
#define REAL float
#define BITS int
#include "_lanes.h"
#define REAL double
#define BITS long long
#include "_lanes.h"
#undef LEVEL
#undef TARGET
#undef VECTOR_BYTES
#undef REGISTER_GROUPS
#undef PANEL
#undef TARGETS

#define LEVEL v4
#define TARGET __attribute__((target("avx512f,avx512dq,avx512vl,avx512bw")))
#define VECTOR_BYTES 64
#define REGISTER_GROUPS 8
#define PANEL 8
#define TARGETS SGDM_TARGETS
#define REAL float
#define BITS int
#include "_lanes.h"
#define REAL double
#define BITS long long
#include "_lanes.h"
#undef LEVEL
#undef TARGET
#undef VECTOR_BYTES
#undef REGISTER_GROUPS
#undef PANEL
#undef TARGETS
#else
#define SGDM_LEVELS 1
#endif

/* The highest level this CPU runs: 0 baseline, 1 x86-64-v3 (AVX2), 2 x86-64-v4 (AVX-512). */
static int sgdm_highest_level(void) {
#if SGDM_LEVELS == 3
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw"))
        return 2;
    if (__builtin_cpu_supports("avx2")) return 1;
#endif
    return 0;
}

#if SGDM_LEVELS == 3
#define SGDM_PICK(name, type) \
    (level == 2 ? sgdm_##name##_v4_##type : level == 1 ? sgdm_##name##_v3_##type : sgdm_##name##_baseline_##type)
#else
#define SGDM_PICK(name, type) ((void)level, sgdm_##name##_baseline_##type)
#endif
static sgdm_block_float sgdm_rows_for_float(int level) { return SGDM_PICK(rows, float); }
static sgdm_block_double sgdm_rows_for_double(int level) { return SGDM_PICK(rows, double); }
static sgdm_block_float sgdm_columns_for_float(int level) { return SGDM_PICK(columns, float); }
static sgdm_block_double sgdm_columns_for_double(int level) { return SGDM_PICK(columns, double); }
static sgdm_transpose_float sgdm_transpose_for_float(int level) { return SGDM_PICK(transpose, float); }
static sgdm_transpose_double sgdm_transpose_for_double(int level) { return SGDM_PICK(transpose, double); }
static sgdm_update_float sgdm_update_for_float(int level) { return SGDM_PICK(update, float); }
static sgdm_update_double sgdm_update_for_double(int level) { return SGDM_PICK(update, double); }

#else /* the template: REAL, BITS (as many), LEVEL, TARGET, VECTOR_BYTES, REGISTER_GROUPS, PANEL and TARGETS are set */

#define LANES ((ptrdiff_t)(64 / sizeof(REAL)))
#ifdef SGDM_VECTORS
typedef REAL NAME(vector) __attribute__((vector_size(VECTOR_BYTES), aligned(sizeof(REAL)), may_alias));
typedef REAL NAME(quad) __attribute__((vector_size(4 * sizeof(REAL)), aligned(sizeof(REAL)), may_alias));
typedef double NAME(doubles) __attribute__((vector_size(VECTOR_BYTES), aligned(8), may_alias));
typedef REAL NAME(narrower)
    __attribute__((vector_size(VECTOR_BYTES / 8 * sizeof(REAL)), aligned(sizeof(REAL)), may_alias));
typedef BITS NAME(mask) __attribute__((vector_size(VECTOR_BYTES), aligned(sizeof(REAL)), may_alias));
#define WIDTH ((ptrdiff_t)(VECTOR_BYTES / sizeof(REAL)))
#define GROUP (64 / VECTOR_BYTES) /* vectors that make LANES */
#else
typedef REAL NAME(vector);
#define WIDTH 1
#define GROUP ((int)LANES)
#endif
#define DOUBLES NAME(doubles)
#define NARROWER NAME(narrower) /* as many elements, before their conversion to double */
#define DWIDTH (VECTOR_BYTES / 8)
#define DGROUP (8 / DWIDTH)
#define V NAME(vector)
#define QUAD NAME(quad)
#define SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#define AT(address) (*(V *)(address))
#define READ(address) (*(const V *)(address))

/* out[q] = the sum of the lanes of s[q], by halves: lane l takes lane l + LANES/2, and so on down to one. Four lines
 * share the last two steps. */
#ifdef SGDM_VECTORS
SGDM_INLINE TARGET void NAME(sum_lanes)(const int panel, V s[][GROUP], REAL *out) {
    QUAD quads[4];
    SGDM_UNROLL
    for (int q = 0; q < panel; q++) {
        QUAD part[16 / sizeof(REAL)];
        memcpy(part, s[q], sizeof(part));
        SGDM_UNROLL
        for (int half = (int)(8 / sizeof(REAL)); half >= 1; half /= 2)
            SGDM_UNROLL
            for (int i = 0; i < half; i++) part[i] += part[i + half];
        quads[q] = part[0];
    }
    if (panel == 4) {
        const QUAD ab = SHUFFLE(quads[0], quads[1], 0, 1, 4, 5) + SHUFFLE(quads[0], quads[1], 2, 3, 6, 7);
        const QUAD cd = SHUFFLE(quads[2], quads[3], 0, 1, 4, 5) + SHUFFLE(quads[2], quads[3], 2, 3, 6, 7);
        *(QUAD *)out = SHUFFLE(ab, cd, 0, 2, 4, 6) + SHUFFLE(ab, cd, 1, 3, 5, 7);
    } else {
        SGDM_UNROLL
        for (int q = 0; q < panel; q++)
            out[q] = (quads[q][0] + quads[q][2]) + (quads[q][1] + quads[q][3]);
    }
}
#else
SGDM_INLINE void NAME(sum_lanes)(const int panel, V s[][GROUP], REAL *out) {
    for (int q = 0; q < panel; q++) {
        for (int half = GROUP / 2; half >= 1; half /= 2)
            for (int l = 0; l < half; l++) s[q][l] += s[q][l + half];
        out[q] = s[q][0];
    }
}
#endif

/* The same for up to PANEL lines. */
SGDM_INLINE TARGET void NAME(sum_all)(const int panel, V s[][GROUP], REAL *out) {
    SGDM_UNROLL
    for (int q = 0; q < PANEL; q += 4)
        if (q < panel) NAME(sum_lanes)(panel - q < 4 ? panel - q : 4, s + q, out + q);
}

/* out[t, q] = line[q] @ v[t] for `panel` lines of `length` elements, whole groups, and `targets` of v, `stride` apart;
 * asks for ahead[q] meanwhile, if given. out (targets, PANEL). */
SGDM_INLINE TARGET void NAME(dots)(const REAL *const *line, const REAL *const *ahead, const int panel,
                                   const int targets, ptrdiff_t length, const REAL *v, ptrdiff_t stride, REAL *out) {
    V s[TARGETS][PANEL][GROUP];
    SGDM_UNROLL
    for (int t = 0; t < targets; t++)
        SGDM_UNROLL
        for (int q = 0; q < panel; q++)
            SGDM_UNROLL
            for (int i = 0; i < GROUP; i++) s[t][q][i] = (V){0};
    for (ptrdiff_t e = 0; e < length; e += LANES)
        SGDM_UNROLL
        for (int i = 0; i < GROUP; i++) {
            V ve[TARGETS];
            SGDM_UNROLL
            for (int t = 0; t < targets; t++) ve[t] = READ(v + t * stride + e + i * WIDTH);
            SGDM_UNROLL
            for (int q = 0; q < panel; q++) {
                if (ahead && i == 0) SGDM_PREFETCH(ahead[q] + e);
                SGDM_UNROLL
                for (int t = 0; t < targets; t++) s[t][q][i] += READ(line[q] + e + i * WIDTH) * ve[t];
            }
        }
    SGDM_UNROLL
    for (int t = 0; t < targets; t++) NAME(sum_all)(panel, s[t], out + t * PANEL);
}

/* out[t] += c[t] @ line for `panel` lines of `length` elements, whole groups, and `targets` of out, `stride` apart: out
 * is read and written once for all lines. c (targets, PANEL). */
SGDM_INLINE TARGET void NAME(combination)(const REAL *const *line, const int panel, const int targets,
                                          ptrdiff_t length, const REAL *c, REAL *out, ptrdiff_t stride) {
    V factors[TARGETS][PANEL];
    SGDM_UNROLL
    for (int t = 0; t < targets; t++)
        SGDM_UNROLL
        for (int q = 0; q < panel; q++) factors[t][q] = c[t * PANEL + q] - (V){0};
    for (ptrdiff_t e = length - WIDTH; e >= 0; e -= WIDTH) { /* backwards: the lines' ends were read last */
        V o[TARGETS];
        SGDM_UNROLL
        for (int t = 0; t < targets; t++) o[t] = READ(out + t * stride + e);
        SGDM_UNROLL
        for (int q = 0; q < panel; q++)
            SGDM_UNROLL
            for (int t = 0; t < targets; t++) o[t] += factors[t][q] * READ(line[q] + e);
        SGDM_UNROLL
        for (int t = 0; t < targets; t++) AT(out + t * stride + e) = o[t];
    }
}

/* The sums of wr * r and of wr, in double over 8 lanes. */
typedef struct {
#ifdef SGDM_VECTORS
    DOUBLES products[DGROUP], totals[DGROUP];
#else
    double products[8], totals[8];
#endif
} NAME(sums);

/* Adds rows 0 to 8 of r and wr, wherever they are. */
SGDM_INLINE TARGET void NAME(add_loss)(NAME(sums) *s, const void *r, const void *wr) {
#ifdef SGDM_VECTORS
    SGDM_UNROLL
    for (int g = 0; g < DGROUP; g++) {
        NARROWER narrow[2];
        memcpy(narrow, (const NARROWER *)r + g, sizeof(NARROWER));
        memcpy(narrow + 1, (const NARROWER *)wr + g, sizeof(NARROWER));
        const DOUBLES x = __builtin_convertvector(narrow[0], DOUBLES);
        const DOUBLES wx = __builtin_convertvector(narrow[1], DOUBLES);
        s->products[g] += wx * x;
        s->totals[g] += wx;
    }
#else
    for (ptrdiff_t l = 0; l < 8; l++) {
        s->products[l] += (double)((const REAL *)wr)[l] * ((const REAL *)r)[l];
        s->totals[l] += ((const REAL *)wr)[l];
    }
#endif
}

SGDM_INLINE TARGET double NAME(sum_of_8)(const void *lanes) {
    double s[8];
    memcpy(s, lanes, sizeof(s));
    return ((s[0] + s[4]) + (s[2] + s[6])) + ((s[1] + s[5]) + (s[3] + s[7]));
}

/* Returns (wr * r).sum(); *total += wr.sum(). Clears r and wr from b to whole groups. */
SGDM_INLINE TARGET double NAME(loss)(REAL *r, REAL *wr, ptrdiff_t b, double *total) {
    NAME(sums) s = {{{0}}};
    const ptrdiff_t whole = (b + 7) / 8 * 8;
    for (ptrdiff_t i = b; i < whole; i++) r[i] = wr[i] = 0;
    for (ptrdiff_t i = 0; i < whole; i += 8) NAME(add_loss)(&s, r + i, wr + i);
    *total += NAME(sum_of_8)(s.totals);
    return NAME(sum_of_8)(s.products);
}

/* The lines of rows i to i + panel of a block, with the one at the end of X in its copy; ahead, what to ask for. */
SGDM_INLINE TARGET void NAME(row_lines)(const struct sgdm_block *s, const REAL *lines, const int panel, ptrdiff_t i,
                                        const int permuted, ptrdiff_t *row, const REAL **line, const REAL **ahead) {
    SGDM_UNROLL
    for (int q = 0; q < panel; q++) {
        row[q] = permuted ? s->order[i + q] : i + q;
        line[q] = lines + row[q] * s->stride;
        ahead[q] = line[q] + SGDM_AHEAD / sizeof(REAL);
        if (permuted) {
            const ptrdiff_t later = i + q + SGDM_ROWS_AHEAD;
            ahead[q] = lines + s->order[later < s->ahead ? later : i] * s->stride;
            if (s->straddles) SGDM_PREFETCH(ahead[q] + s->d - 1);
        }
        if (line[q] == (const REAL *)s->last) line[q] = (const REAL *)s->tail;
    }
}

/* r = z + intercept - y and wr = w * r for `panel` rows. */
SGDM_INLINE TARGET void NAME(row_residuals)(const int panel, const ptrdiff_t *row, const REAL *y, const REAL *w,
                                            REAL intercept, const REAL *z, REAL *r, REAL *wr) {
    SGDM_UNROLL
    for (int q = 0; q < panel; q++) r[q] = z[q] + (intercept - y[row[q]]);
    SGDM_UNROLL
    for (int q = 0; q < panel; q++) wr[q] = w ? w[row[q]] * r[q] : r[q];
}

/* Rows i to i + panel of a block and `targets` targets from `first` on: residual r, wr = w * r, g += wr @ rows; asks
 * for later rows or not. */
SGDM_INLINE TARGET void NAME(rows_panel)(const struct sgdm_block *s, const REAL *lines, const int panel,
                                         const int targets, ptrdiff_t first, ptrdiff_t i, const int permuted,
                                         const int asks, const REAL *y, const REAL *w, const REAL *coef,
                                         const REAL *intercept, REAL *r, REAL *wr, REAL *g) {
    REAL z[TARGETS * PANEL], zr[TARGETS * PANEL], zwr[TARGETS * PANEL];
    const REAL *line[PANEL], *ahead[PANEL];
    ptrdiff_t row[PANEL];
    const ptrdiff_t skip = s->triangular ? (s->first + i) / LANES * LANES : 0, from = first * s->padded + skip;
    NAME(row_lines)(s, lines, panel, i, permuted, row, line, ahead);
    SGDM_UNROLL
    for (int q = 0; q < panel; q++) line[q] += skip;
    NAME(dots)(line, asks ? ahead : NULL, panel, targets, s->padded - skip, coef + from, s->padded, z);
    SGDM_UNROLL
    for (int t = 0; t < targets; t++)
        NAME(row_residuals)(panel, row, y + (first + t) * s->target_stride, w, intercept[first + t], z + t * PANEL,
                            zr + t * PANEL, zwr + t * PANEL);
    if (g) NAME(combination)(line, panel, targets, s->padded - skip, zwr, g + from, s->padded);
    SGDM_UNROLL
    for (int t = 0; t < targets; t++) {
        memcpy(r + t * s->room + i, zr + t * PANEL, (size_t)panel * sizeof(REAL));
        memcpy(wr + t * s->room + i, zwr + t * PANEL, (size_t)panel * sizeof(REAL));
    }
}

#if defined(__x86_64__) && defined(SGDM_VECTORS) && VECTOR_BYTES == 64
#define HOLDS 1
#define HOLD(x) __asm__("" : "+v"(x))
#else
#define HOLDS 0
#define HOLD(x) ((void)0)
#endif

/* The same for rows of few groups, with the gradient in registers: no loop over groups, no loads and stores of g
 * between rows. An epoch over 10 000 x 20 doubles takes 24 us so, and 44 us by rows_panel. Half of the prefetches are
 * issued with the dots and half with the gradient: batches of 32 permuted rows of 50 take 17 ns a row so, and 21 ns
 * with all of them in the first. */
SGDM_INLINE TARGET void NAME(rows_in_registers)(const struct sgdm_block *s, const REAL *lines, const int groups,
                                                const int permuted, const REAL *y, const REAL *w, const REAL *coef,
                                                REAL intercept, REAL *r, REAL *wr, REAL *g) {
    V sums[8][GROUP];
    SGDM_UNROLL
    for (int e = 0; e < groups; e++)
        SGDM_UNROLL
        for (int i = 0; i < GROUP; i++) sums[e][i] = (V){0};
    for (ptrdiff_t first = 0; first < s->b; first += 4) {
        V dot[4][GROUP], factors[4];
        REAL z[4], zr[4], zwr[4];
        const REAL *line[4], *ahead[4];
        ptrdiff_t row[4];
        NAME(row_lines)(s, lines, 4, first, permuted, row, line, ahead);
        V held[3][4]; /* the rows, where there are registers for them too; left alone, gcc loads them again */
        const int holds = HOLDS && groups <= 3;
        SGDM_UNROLL
        for (int e = 0; e < groups && holds; e++)
            SGDM_UNROLL
            for (int q = 0; q < 4; q++) {
                held[e][q] = READ(line[q] + e * LANES);
                HOLD(held[e][q]);
            }
        SGDM_UNROLL
        for (int e = 0; e < groups; e++)
            SGDM_UNROLL
            for (int i = 0; i < GROUP; i++) {
                const V v = READ(coef + e * LANES + i * WIDTH);
                SGDM_UNROLL
                for (int q = 0; q < 4; q++) {
                    const V product = (holds ? held[e][q] : READ(line[q] + e * LANES + i * WIDTH)) * v;
                    if (e == 0)
                        dot[q][i] = product;
                    else
                        dot[q][i] += product;
                    if (i == 0 && e < (groups + 1) / 2) SGDM_PREFETCH(ahead[q] + e * LANES);
                }
            }
        NAME(sum_lanes)(4, dot, z);
        NAME(row_residuals)(4, row, y, w, intercept, z, zr, zwr);
        SGDM_UNROLL
        for (int q = 0; q < 4; q++) factors[q] = zwr[q] - (V){0};
        SGDM_UNROLL
        for (int e = 0; e < groups; e++)
            SGDM_UNROLL
            for (int i = 0; i < GROUP; i++)
                SGDM_UNROLL
                for (int q = 0; q < 4; q++) {
                    sums[e][i] += factors[q] * (holds ? held[e][q] : READ(line[q] + e * LANES + i * WIDTH));
                    if (i == 0 && e >= (groups + 1) / 2) SGDM_PREFETCH(ahead[q] + e * LANES);
                }
        memcpy(r + first, zr, sizeof(zr));
        memcpy(wr + first, zwr, sizeof(zwr));
    }
    SGDM_UNROLL
    for (int e = 0; e < groups; e++)
        SGDM_UNROLL
        for (int i = 0; i < GROUP; i++) AT(g + e * LANES + i * WIDTH) = sums[e][i];
}

static TARGET void NAME(rows)(SGDM_BLOCK_ARGUMENTS(REAL)) {
    const ptrdiff_t d = s->d, padded = s->padded, groups = padded / LANES, b = s->b;
    struct sgdm_block fours = *s; /* the rows that make whole panels */
    fours.b = b / 4 * 4;
    const int in_registers = g && !s->triangular && groups <= REGISTER_GROUPS && fours.b;
    for (ptrdiff_t t = 0; t < s->k;) {
        const int together = TARGETS > 1 && s->k - t >= TARGETS;
        ptrdiff_t i = 0;
#define IN_REGISTERS(n) /* groups, + 16 where the rows are permuted */                                             \
    case n:                                                                                                         \
        NAME(rows_in_registers)(&fours, lines, n % 16, n / 16, y + t * s->target_stride, w, coef + t * padded,      \
                                intercept[t], r, wr, g + t * padded);                                               \
        break;
        if (in_registers && !together) {
            switch (groups + (s->order ? 16 : 0)) {
                IN_REGISTERS(1) IN_REGISTERS(17)
#if REGISTER_GROUPS >= 2
                IN_REGISTERS(2) IN_REGISTERS(18)
#endif
#if REGISTER_GROUPS >= 8
                IN_REGISTERS(3) IN_REGISTERS(4) IN_REGISTERS(5) IN_REGISTERS(6) IN_REGISTERS(7) IN_REGISTERS(8)
                IN_REGISTERS(19) IN_REGISTERS(20) IN_REGISTERS(21) IN_REGISTERS(22) IN_REGISTERS(23) IN_REGISTERS(24)
#endif
            }
            i = fours.b;
        }
#undef IN_REGISTERS
#define PANELS(panel, targets, permuted, asks) \
    for (; i + panel <= b; i += panel)         \
        NAME(rows_panel)(s, lines, panel, targets, t, i, permuted, asks, y, w, coef, intercept, r, wr, g)
#if TARGETS > 1
        if (together) {
            if (s->order)
                PANELS(4, TARGETS, 1, 1);
            else if (groups > SGDM_PREFETCH_GROUPS)
                PANELS(4, TARGETS, 0, 0);
            PANELS(4, TARGETS, 0, 1);
            PANELS(1, TARGETS, s->order != NULL, 1);
        }
#endif
        if (s->order)
            PANELS(4, 1, 1, 1);
        else if (groups > SGDM_PREFETCH_GROUPS)
            PANELS(PANEL, 1, 0, 0);
        PANELS(4, 1, 0, 1);
        PANELS(1, 1, s->order != NULL, 1);
#undef PANELS
        const ptrdiff_t end = t + (together ? TARGETS : 1);
        for (ptrdiff_t u = 0; t < end; t++, u++) {
            loss[t] += NAME(loss)(r + u * s->room, wr + u * s->room, b, grad + t * (padded + 1) + padded);
            if (!g) continue;
            SGDM_APART
            for (ptrdiff_t j = 0; j < d; j++) grad[t * (padded + 1) + j] += g[t * padded + j];
            memset(g + t * padded, 0, (size_t)padded * sizeof(REAL));
        }
    }
}

/* r += a[j:j + panel] @ columns j to j + panel of a block, for `targets` targets; a: their coefficients from j on. */
SGDM_INLINE TARGET void NAME(columns_residual)(const struct sgdm_block *s, const REAL *lines, const int panel,
                                               const int targets, ptrdiff_t length, const REAL *a, REAL *r) {
    const REAL *line[PANEL];
    REAL c[TARGETS * PANEL];
    SGDM_UNROLL
    for (int q = 0; q < panel; q++) {
        line[q] = lines + q * s->stride;
        SGDM_UNROLL
        for (int t = 0; t < targets; t++) c[t * PANEL + q] = a[t * s->padded + q];
    }
    NAME(combination)(line, panel, targets, length, c, r, s->room);
}

/* g[j:j + panel] = columns j to j + panel of a block @ wr, likewise. */
SGDM_INLINE TARGET void NAME(columns_gradient)(const struct sgdm_block *s, const REAL *lines, const int panel,
                                               const int targets, ptrdiff_t length, const REAL *wr, REAL *g) {
    const REAL *line[PANEL];
    REAL sums[TARGETS * PANEL];
    SGDM_UNROLL
    for (int q = 0; q < panel; q++) line[q] = lines + q * s->stride;
    NAME(dots)(line, NULL, panel, targets, length, wr, s->room, sums);
    SGDM_UNROLL
    for (int t = 0; t < targets; t++)
        SGDM_UNROLL
        for (int q = 0; q < panel; q++) g[t * s->padded + q] = sums[t * PANEL + q];
}

/* By panels of up to `most` columns, 4 or 8; the last ones, fewer than four, are one: one pass over r for each panel. */
#define BY_PANELS(most, targets, name, from, to)                                                  \
    do {                                                                                          \
        ptrdiff_t j = 0;                                                                          \
        for (; j + most <= d; j += most) PART(name, most, targets, from, to);                     \
        for (; j + 4 <= d; j += 4) PART(name, 4, targets, from, to);                              \
        if (d - j == 3) PART(name, 3, targets, from, to);                                         \
        if (d - j == 2) PART(name, 2, targets, from, to);                                         \
        if (d - j == 1) PART(name, 1, targets, from, to);                                         \
    } while (0)
#define PART(name, panel, targets, from, to) NAME(name)(s, lines + j * s->stride, panel, targets, length, from, to)

/* Clears lanes from `rows` on. */
SGDM_INLINE TARGET void NAME(keep)(V *r, ptrdiff_t rows) {
#ifdef SGDM_VECTORS
    static const BITS lanes[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    SGDM_UNROLL
    for (int i = 0; i < GROUP; i++) {
        NAME(mask) lane;
        memcpy(&lane, lanes + i * WIDTH, sizeof(lane));
        r[i] = (V)((NAME(mask))r[i] & (lane < (BITS)rows));
    }
#else
    for (ptrdiff_t l = rows; l < LANES; l++) r[l] = 0;
#endif
}

/* A group of rows of few columns and one target: its residual goes into the loss and the gradient at once. */
SGDM_INLINE TARGET void NAME(few_columns_group)(const REAL *lines, ptrdiff_t stride, const int d, const REAL *y,
                                                const REAL *w, ptrdiff_t rows, const V *factors, REAL intercept,
                                                V gradient[][GROUP], NAME(sums) *sums) {
    V r[GROUP], wr[GROUP];
    SGDM_UNROLL
    for (int i = 0; i < GROUP; i++) {
        r[i] = intercept - READ(y + i * WIDTH);
        SGDM_UNROLL
        for (int q = 0; q < d; q++) r[i] += factors[q] * READ(lines + q * stride + i * WIDTH);
        wr[i] = r[i];
        if (w) wr[i] *= READ(w + i * WIDTH);
    }
    if (rows < LANES) {
        NAME(keep)(r, rows);
        NAME(keep)(wr, rows);
    }
    SGDM_UNROLL
    for (int l = 0; l < LANES; l += 8) NAME(add_loss)(sums, (const REAL *)r + l, (const REAL *)wr + l);
    SGDM_UNROLL
    for (int q = 0; q < d; q++)
        SGDM_UNROLL
        for (int i = 0; i < GROUP; i++) gradient[q][i] += READ(lines + q * stride + i * WIDTH) * wr[i];
}

/* Residual, loss and gradient of one target where all columns make one panel: in one pass, X read once. */
SGDM_INLINE TARGET void NAME(few_columns)(const struct sgdm_block *s, const REAL *lines, const int d, const REAL *y,
                                          const REAL *w, const REAL *a, REAL intercept, REAL *g, double *loss,
                                          double *total) {
    V gradient[PANEL][GROUP], factors[PANEL];
    NAME(sums) sums = {{{0}}};
    const ptrdiff_t stride = s->stride, whole = s->b / LANES * LANES, rest = s->b - whole;
    SGDM_UNROLL
    for (int q = 0; q < d; q++) {
        factors[q] = a[q] - (V){0};
        SGDM_UNROLL
        for (int i = 0; i < GROUP; i++) gradient[q][i] = (V){0};
    }
    if (w)
        for (ptrdiff_t e = 0; e < whole; e += LANES)
            NAME(few_columns_group)(lines + e, stride, d, y + e, w + e, LANES, factors, intercept, gradient, &sums);
    else
        for (ptrdiff_t e = 0; e < whole; e += LANES)
            NAME(few_columns_group)(lines + e, stride, d, y + e, NULL, LANES, factors, intercept, gradient, &sums);
    if (rest) {
        REAL targets[64 / sizeof(REAL)] = {0}, weights[64 / sizeof(REAL)] = {0};
        y += whole;
        w = w ? w + whole : w;
        if (!s->padded_rows) {
            for (ptrdiff_t i = 0; i < rest; i++) targets[i] = y[i];
            for (ptrdiff_t i = 0; w && i < rest; i++) weights[i] = w[i];
            y = targets;
            w = w ? weights : w;
        }
        NAME(few_columns_group)(lines + whole, stride, d, y, w, rest, factors, intercept, gradient, &sums);
    }
    *loss += NAME(sum_of_8)(sums.products);
    *total += NAME(sum_of_8)(sums.totals);
    NAME(sum_all)(d, gradient, g);
}

/* Apart from `columns`, whose many registers cost an epoch over 100 x 2 a tenth of its time. */
static SGDM_NOT_INLINE TARGET void NAME(few)(SGDM_BLOCK_ARGUMENTS(REAL)) {
    (void)r, (void)wr;
    for (ptrdiff_t t = 0; t < s->k; t++) {
        const REAL *const yt = y + t * s->target_stride, *const a = coef + t * s->padded;
        double *const gradt = grad + t * (s->padded + 1);
#define FEW(columns) \
    case columns: NAME(few_columns)(s, lines, columns, yt, w, a, intercept[t], g, loss + t, gradt + s->padded); break;
        switch (s->d) {
            FEW(1) FEW(2) FEW(3) FEW(4)
#if PANEL == 8
            FEW(5) FEW(6) FEW(7) FEW(8)
#endif
        }
#undef FEW
        for (ptrdiff_t j = 0; j < s->d; j++) gradt[j] += g[j];
    }
}

static TARGET void NAME(columns)(SGDM_BLOCK_ARGUMENTS(REAL)) {
    if (g && s->d <= PANEL) {
        NAME(few)(s, lines, y, w, coef, intercept, r, wr, g, loss, grad);
        return;
    }
    const ptrdiff_t b = s->b, d = s->d, length = (b + LANES - 1) / LANES * LANES;
    REAL *const weighted = w ? wr : r;
    for (ptrdiff_t t = 0; t < s->k;) {
        const int together = TARGETS > 1 && s->k - t >= TARGETS;
        const ptrdiff_t first = t, end = t + (together ? TARGETS : 1);
        for (ptrdiff_t u = first; u < end; u++) {
            const REAL *const yu = y + u * s->target_stride;
            REAL *const ru = r + (u - first) * s->room;
            SGDM_APART
            for (ptrdiff_t i = 0; i < b; i++) ru[i] = intercept[u] - yu[i];
        }
        if (together)
            BY_PANELS(4, TARGETS, columns_residual, coef + first * s->padded + j, r);
        else
            BY_PANELS(PANEL, 1, columns_residual, coef + first * s->padded + j, r);
        for (; t < end; t++) {
            REAL *const rt = r + (t - first) * s->room, *const wrt = weighted + (t - first) * s->room;
            if (w) {
                SGDM_APART
                for (ptrdiff_t i = 0; i < b; i++) wrt[i] = w[i] * rt[i];
            }
            for (ptrdiff_t i = b; i < length; i++) rt[i] = wrt[i] = 0;
            loss[t] += NAME(loss)(rt, wrt, b, grad + t * (s->padded + 1) + s->padded);
        }
        if (!g) continue;
        if (together)
            BY_PANELS(4, TARGETS, columns_gradient, weighted, g + j);
        else
            BY_PANELS(PANEL, 1, columns_gradient, weighted, g + j);
        for (ptrdiff_t u = first; u < end; u++) {
            SGDM_APART
            for (ptrdiff_t j = 0; j < d; j++) grad[u * (s->padded + 1) + j] += g[(u - first) * s->padded + j];
        }
    }
}

#undef BY_PANELS
#undef PART

SGDM_INLINE TARGET void NAME(transpose_narrow)(const REAL *SGDM_RESTRICT rows, const int d, ptrdiff_t b,
                                               REAL *SGDM_RESTRICT out, ptrdiff_t stride) {
    for (ptrdiff_t i = 0; i < b; i++)
        SGDM_UNROLL
        for (int j = 0; j < d; j++) out[j * stride + i] = rows[i * d + j];
}

static TARGET void NAME(transpose)(SGDM_TRANSPOSE_ARGUMENTS(REAL)) {
#define TRANSPOSE(columns) \
    case columns: NAME(transpose_narrow)(rows, columns, b, out, stride); break;
    switch (d) { /* a constant each, for the compiler to vectorise by */
        TRANSPOSE(1) TRANSPOSE(2) TRANSPOSE(3) TRANSPOSE(4)
    default: /* a cache line of `out` at a time */
        for (ptrdiff_t first = 0; first < b; first += LANES)
            for (ptrdiff_t j = 0; j < d; j++)
                for (ptrdiff_t i = first; i < b && i < first + LANES; i++) out[j * stride + i] = rows[i * d + j];
    }
#undef TRANSPOSE
}

/* One momentum update of `length` parameters a and their velocity v; g = scale * grad is left for the record. The
 * arithmetic is in double, rounded once. NaN passes the proximal step. */
static TARGET void NAME(update)(SGDM_UPDATE_ARGUMENTS(REAL)) {
    const double lr = s->lr, momentum = s->momentum, undamped = s->undamped, decay = s->decay;
    const double threshold = s->threshold;
    const double keep = s->first ? 0 : momentum, take = s->first ? 1 : undamped;
    REAL *SGDM_RESTRICT const ra = a, *SGDM_RESTRICT const rv = v, *SGDM_RESTRICT const rg = g;
    for (ptrdiff_t j = 0; j < length; j++) {
        const double gj = scale * grad[j], u = gj + decay * ra[j], vj = keep * rv[j] + take * u;
        double aj = ra[j] - lr * (s->nesterov ? undamped * u + momentum * vj : vj);
        if (threshold > 0) aj = aj > threshold ? aj - threshold : aj < -threshold ? aj + threshold : aj != aj ? aj : 0;
        rg[j] = (REAL)gj;
        rv[j] = (REAL)vj;
        ra[j] = (REAL)aj;
    }
}

#undef HOLDS
#undef HOLD
#undef V
#undef QUAD
#undef DOUBLES
#undef NARROWER
#undef DWIDTH
#undef DGROUP
#undef SHUFFLE
#undef AT
#undef READ
#undef LANES
#undef WIDTH
#undef GROUP
#undef REAL
#undef BITS
#endif
