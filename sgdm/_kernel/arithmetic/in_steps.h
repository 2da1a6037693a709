/* A block of C-order X, read in steps: the residuals of some rows, then their gradient. Part of template.h.
 *
 * The rows of a step stay in L1. Their dots read row after row, in the order of memory, so that the hardware's prefetch
 * keeps up: 200 000 x 100 doubles take 8.6 ms an epoch in steps, and 17.5 ms by panels of rows (Zen 4). In the gradient,
 * a tile of some columns stays in registers over all rows of the step.
 */

/* A step has as many rows as make STEP_BYTES, but at most STEP_MOST, and at least STEP_LEAST, or 4 with prefetch; all
 * are multiples of 4. */
#define STEP_BYTES 16384
#define STEP_LEAST 16
#define STEP_MOST 32
#define TILE 8 /* vectors of the gradient */

/* A row's dot has no loop if the row has at most UNROLLED vectors. The compiler then mixes the reads of four rows, which
 * is slow from memory: rows of more than MIXED_BYTES have a loop there. 1 000 000 x 50 takes 20 ms with a loop and 24 ms
 * without; 10 000 x 50, from cache, 94 us with a loop and 89 us without (Zen 4, v4). */
#define UNROLLED 8
#define MIXED_BYTES 256

/* A step: row i is lines[i * stride:], of `length` elements in whole groups. vectors: how many the row has, or 0 to loop
 * over its groups. ahead: how far ahead of a row the gradient prefetches, or 0 for not at all. */
struct NAME(step) {
    const REAL *lines;
    ptrdiff_t stride, rows, length, vectors, ahead;
};

/* out = rows @ coef, of `panel` rows from `lines` on. */
SGDM_INLINE FOR_LEVEL void NAME(dots_of_rows)(const struct NAME(step) *step, const REAL *lines, const int panel,
                                              const int vectors, const REAL *SGDM_RESTRICT coef,
                                              REAL *SGDM_RESTRICT out) {
    V dots[4][GROUP];
    SGDM_UNROLL
    for (int q = 0; q < panel; q++) {
        const REAL *const line = lines + q * step->stride;
        SGDM_UNROLL
        for (int i = 0; i < GROUP; i++) dots[q][i] = (V){0};
        SGDM_UNROLL
        for (int e = 0; e < vectors; e++) dots[q][e % GROUP] += READ(line + e * WIDTH) * READ(coef + e * WIDTH);
        for (ptrdiff_t e = 0; e < step->length && !vectors; e += LANES)
            SGDM_UNROLL
            for (int i = 0; i < GROUP; i++)
                dots[q][i] += READ(line + e + i * WIDTH) * READ(coef + e + i * WIDTH);
    }
    NAME(sum_lanes)(panel, dots, out);
}

/* r = rows @ coef. */
static SGDM_NOT_INLINE FOR_LEVEL void NAME(dots_of_step)(const struct NAME(step) *of, const REAL *SGDM_RESTRICT coef,
                                                         REAL *SGDM_RESTRICT r) {
    const struct NAME(step) own = *of, *const step = &own; /* a copy, whose fields stay in registers */
    const REAL *lines = step->lines;
    ptrdiff_t i = 0;
#define VECTORS(n)                                                              \
    case n:                                                                     \
        for (; i + 4 <= step->rows; i += 4, lines += 4 * step->stride)          \
            NAME(dots_of_rows)(step, lines, 4, n, coef, r + i);                 \
        break;
    switch (step->vectors) {
        VECTORS(0) VECTORS(1) VECTORS(2) VECTORS(3) VECTORS(4) VECTORS(5) VECTORS(6) VECTORS(7) VECTORS(8)
    }
#undef VECTORS
    for (; i < step->rows; i++, lines += step->stride) NAME(dots_of_rows)(step, lines, 1, 0, coef, r + i);
}

/* g += wr @ rows, of the columns of one tile. */
SGDM_INLINE FOR_LEVEL void NAME(add_to_tile)(const struct NAME(step) *step, ptrdiff_t column, const int vectors,
                                             const REAL *wr, REAL *g) {
    const ptrdiff_t stride = step->stride, rows = step->rows;
    const REAL *line = step->lines + column;
    V tile[TILE];
    SGDM_UNROLL
    for (int e = 0; e < vectors; e++) tile[e] = READ(g + column + e * WIDTH);
    for (ptrdiff_t i = 0; i < rows; i++, line += stride) {
        const V factor = wr[i] - (V){0};
        if (step->ahead)
            SGDM_UNROLL
            for (int e = 0; e < vectors; e += GROUP) SGDM_PREFETCH(line + step->ahead + e * WIDTH);
        SGDM_UNROLL
        for (int e = 0; e < vectors; e++) tile[e] += factor * READ(line + e * WIDTH);
    }
    SGDM_UNROLL
    for (int e = 0; e < vectors; e++) AT(g + column + e * WIDTH) = tile[e];
}

/* g += wr @ rows, in tiles of about equal size. */
static SGDM_NOT_INLINE FOR_LEVEL void NAME(gradient_of_step)(const struct NAME(step) *step, ptrdiff_t d,
                                                             const REAL *wr, REAL *g) {
    ptrdiff_t left = (d + WIDTH - 1) / WIDTH, column = 0;
    for (ptrdiff_t tiles = (left + TILE - 1) / TILE; tiles; tiles--) {
        const ptrdiff_t vectors = (left + tiles - 1) / tiles;
#define VECTORS(n) \
    case n: NAME(add_to_tile)(step, column, n, wr, g); break;
        switch (vectors) {
            VECTORS(1) VECTORS(2) VECTORS(3) VECTORS(4) VECTORS(5) VECTORS(6) VECTORS(7) VECTORS(8)
        }
#undef VECTORS
        column += vectors * WIDTH;
        left -= vectors;
    }
}

#if TILE != 8 || UNROLLED != 8
#error "the switches above have a case for each number of vectors up to TILE and UNROLLED"
#endif

/* The rows of a block, for target t: r, wr = w * r, g += wr @ rows. */
static FOR_LEVEL void NAME(rows_in_steps)(const struct NAME(block) *s, ptrdiff_t t) {
    const REAL *const coef = s->coef + t * s->width, *const y = s->y + t * s->target_stride;
    const REAL intercept = coef[s->padded];
    REAL *const g = s->g ? s->g + t * s->padded : NULL;
    const ptrdiff_t bytes = s->d * (ptrdiff_t)sizeof(REAL), vectors = (s->d + WIDTH - 1) / WIDTH;
    ptrdiff_t most = STEP_BYTES / bytes / 4 * 4;
    const ptrdiff_t least = s->prefetches ? 4 : STEP_LEAST;
    most = most < least ? least : most > STEP_MOST ? STEP_MOST : most;
    const ptrdiff_t in_place = NAME(in_place)(s);
    struct NAME(step) step = {.stride = s->stride, .length = s->padded};
    step.vectors = vectors > UNROLLED || (s->from_memory && bytes > MIXED_BYTES) ? 0 : vectors;
    for (ptrdiff_t first = 0; first < s->b; first += step.rows) {
        const ptrdiff_t end = first < in_place ? in_place : s->b;
        step.rows = end - first < most ? end - first : most;
        step.lines = s->lines + first * s->stride + (first < in_place ? 0 : s->to_tail);
        step.ahead = s->prefetches ? step.rows * step.stride : 0;
        REAL *const r = s->r + first, *const wr = s->wr + first;
        NAME(dots_of_step)(&step, coef, r);
        SGDM_NO_OVERLAP
        for (ptrdiff_t i = 0; i < step.rows; i++) r[i] += intercept - y[first + i];
        SGDM_NO_OVERLAP
        for (ptrdiff_t i = 0; i < step.rows; i++) wr[i] = s->w ? s->w[first + i] * r[i] : r[i];
        if (g) NAME(gradient_of_step)(&step, s->d, wr, g);
    }
}

#undef STEP_BYTES
#undef STEP_LEAST
#undef STEP_MOST
#undef TILE
#undef UNROLLED
#undef MIXED_BYTES
