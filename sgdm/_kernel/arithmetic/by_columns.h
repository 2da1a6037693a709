/* A block of F-order X: columns are combined into the residual, and dotted with it. Part of template.h. */

/* r += columns j to j + panel of a piece of a block @ coef[j:j + panel], for `targets` targets from `first` on. */
SGDM_INLINE FOR_LEVEL void NAME(residual_of_columns)(const struct NAME(block) *s, const REAL *lines, const int panel,
                                                     const int targets, ptrdiff_t first, ptrdiff_t j,
                                                     ptrdiff_t length) {
    const REAL *line[PANEL], *const coef = s->coef + first * s->width + j;
    REAL c[TARGETS * PANEL];
    SGDM_UNROLL
    for (int q = 0; q < panel; q++) {
        line[q] = lines + (j + q) * s->stride;
        SGDM_UNROLL
        for (int t = 0; t < targets; t++) c[t * PANEL + q] = coef[t * s->width + q];
    }
    NAME(combination)(line, panel, targets, 0, length, c, PANEL, s->r, s->row_stride);
}

/* The lanes of columns j to j + panel of a piece, dotted with w * r. They are added to those of the pieces before it,
 * which g (targets, d, LANES) holds; after the last piece their sums are added to s->sums. */
SGDM_INLINE FOR_LEVEL void NAME(gradient_of_columns)(const struct NAME(block) *s, const REAL *lines, int is_first,
                                                     int is_last, const int panel, const int targets, ptrdiff_t first,
                                                     ptrdiff_t j, ptrdiff_t length) {
    const REAL *line[PANEL], *const weighted = s->w ? s->wr : s->r;
    V lanes[TARGETS][PANEL][GROUP];
    REAL *const kept = s->g + j * LANES;
    const ptrdiff_t stride = s->d * LANES;
    NAME(set_lanes)(is_first ? NULL : kept, stride, panel, targets, lanes);
    SGDM_UNROLL
    for (int q = 0; q < panel; q++) line[q] = lines + (j + q) * s->stride;
    NAME(add_dots)(line, NULL, panel, targets, length, weighted, s->row_stride, lanes);
    SGDM_UNROLL
    for (int t = 0; t < targets; t++) {
        if (is_last) {
            REAL g[PANEL];
            double *const sums = s->sums + (first + t) * s->width + j;
            NAME(sum_lanes_of_panel)(panel, lanes[t], g);
            SGDM_UNROLL
            for (int q = 0; q < panel; q++) sums[q] += g[q];
        } else {
            SGDM_UNROLL
            for (int q = 0; q < panel; q++)
                SGDM_UNROLL
                for (int i = 0; i < GROUP; i++) AT(kept + t * stride + q * LANES + i * WIDTH) = lanes[t][q][i];
        }
    }
}

/* STEP(columns) for panels of `most` columns, 4 or 8, and then of 4. The last ones, fewer than four, are one panel.
 * Each panel is a pass over r. */
#define BY_PANELS(most, STEP)                      \
    do {                                           \
        ptrdiff_t j = 0;                           \
        for (; j + most <= d; j += most) STEP(most); \
        for (; j + 4 <= d; j += 4) STEP(4);        \
        if (d - j == 3) STEP(3);                   \
        if (d - j == 2) STEP(2);                   \
        if (d - j == 1) STEP(1);                   \
    } while (0)

/* Clears the lanes from `rows` on. */
SGDM_INLINE FOR_LEVEL void NAME(clear_lanes)(V *r, ptrdiff_t rows) {
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

/* One group of rows of d columns, which make one panel: its residual goes into loss and gradient at once. */
SGDM_INLINE FOR_LEVEL void NAME(group_of_one_panel)(const REAL *lines, ptrdiff_t stride, const int d, const REAL *y,
                                                    const REAL *w, ptrdiff_t rows, const V *factors, REAL intercept,
                                                    V gradient[][GROUP], NAME(loss_sums) *sums) {
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
        NAME(clear_lanes)(r, rows);
        NAME(clear_lanes)(wr, rows);
    }
    SGDM_UNROLL
    for (int l = 0; l < LANES; l += 8) NAME(add_rows)(sums, (const REAL *)r + l, (const REAL *)wr + l);
    SGDM_UNROLL
    for (int q = 0; q < d; q++)
        SGDM_UNROLL
        for (int i = 0; i < GROUP; i++) gradient[q][i] += READ(lines + q * stride + i * WIDTH) * wr[i];
}

/* Residual, loss and gradient of target t where all d columns make one panel: X is read once. */
SGDM_INLINE FOR_LEVEL void NAME(target_of_one_panel)(const struct NAME(block) *s, const int d, ptrdiff_t t) {
    const REAL *const lines = s->lines, *const coef = s->coef + t * s->width, *w = s->w;
    const REAL *y = s->y + t * s->target_stride;
    const REAL intercept = coef[s->padded];
    double *const totals = s->sums + t * s->width;
    REAL g[PANEL];
    V gradient[PANEL][GROUP], factors[PANEL];
    NAME(loss_sums) sums = {0};
    const ptrdiff_t stride = s->stride, whole = s->b / LANES * LANES, rest = s->b - whole;
    SGDM_UNROLL
    for (int q = 0; q < d; q++) {
        factors[q] = coef[q] - (V){0};
        SGDM_UNROLL
        for (int i = 0; i < GROUP; i++) gradient[q][i] = (V){0};
    }
    if (w)
        for (ptrdiff_t e = 0; e < whole; e += LANES)
            NAME(group_of_one_panel)(lines + e, stride, d, y + e, w + e, LANES, factors, intercept, gradient, &sums);
    else
        for (ptrdiff_t e = 0; e < whole; e += LANES)
            NAME(group_of_one_panel)(lines + e, stride, d, y + e, NULL, LANES, factors, intercept, gradient, &sums);
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
        NAME(group_of_one_panel)(lines + whole, stride, d, y, w, rest, factors, intercept, gradient, &sums);
    }
    NAME(add_lanes)(&sums, totals + s->padded);
    NAME(sum_lanes_of_panel)(d, gradient, g);
    for (int q = 0; q < d; q++) totals[q] += g[q];
}

/* A function of its own: the many registers of `columns` cost an epoch over 100 x 2 a tenth of its time. */
static SGDM_NOT_INLINE FOR_LEVEL void NAME(one_panel)(const struct NAME(block) *s) {
#define ONE_PANEL(columns) \
    case columns: NAME(target_of_one_panel)(s, columns, t); break;
    for (ptrdiff_t t = 0; t < s->k; t++) switch (s->d) {
            ONE_PANEL(1) ONE_PANEL(2) ONE_PANEL(3) ONE_PANEL(4)
#if PANEL == 8
            ONE_PANEL(5) ONE_PANEL(6) ONE_PANEL(7) ONE_PANEL(8)
#endif
        }
#undef ONE_PANEL
}

/* Residual, loss and gradient of a block of F-order X. The block is read in pieces, which stay in cache from the
 * residual to the gradient. */
static FOR_LEVEL void NAME(sum_block_by_columns)(const struct NAME(block) *s) {
    if (s->g && s->d <= PANEL) {
        NAME(one_panel)(s);
        return;
    }
    const ptrdiff_t d = s->d;
    for (ptrdiff_t t = 0; t < s->k;) {
        const int together = TARGETS > 1 && s->k - t >= TARGETS;
        const ptrdiff_t first = t, targets = together ? TARGETS : 1;
        NAME(loss_sums) losses[TARGETS];
        memset(losses, 0, sizeof(losses));
        for (ptrdiff_t row = 0; row < s->b; row += s->piece_rows) {
            const ptrdiff_t b = s->b - row < s->piece_rows ? s->b - row : s->piece_rows;
            const ptrdiff_t length = (b + LANES - 1) / LANES * LANES;
            const REAL *const lines = s->lines + row, *const w = s->w ? s->w + row : NULL;
            for (ptrdiff_t u = 0; u < targets; u++) {
                const REAL *const y = s->y + (first + u) * s->target_stride + row;
                const REAL intercept = s->coef[(first + u) * s->width + s->padded];
                REAL *const r = s->r + u * s->row_stride;
                SGDM_NO_OVERLAP
                for (ptrdiff_t i = 0; i < b; i++) r[i] = intercept - y[i];
            }
#define RESIDUAL_TOGETHER(columns) NAME(residual_of_columns)(s, lines, columns, TARGETS, first, j, length)
#define RESIDUAL(columns) NAME(residual_of_columns)(s, lines, columns, 1, first, j, length)
            if (together)
                BY_PANELS(4, RESIDUAL_TOGETHER);
            else
                BY_PANELS(PANEL, RESIDUAL);
            for (ptrdiff_t u = 0; u < targets; u++) {
                REAL *const r = s->r + u * s->row_stride, *const wr = w ? s->wr + u * s->row_stride : r;
                if (w) {
                    SGDM_NO_OVERLAP
                    for (ptrdiff_t i = 0; i < b; i++) wr[i] = w[i] * r[i];
                }
                for (ptrdiff_t i = b; i < length; i++) r[i] = wr[i] = 0;
                NAME(add_loss)(losses + u, r, wr, b);
            }
#define GRADIENT_TOGETHER(columns) \
    NAME(gradient_of_columns)(s, lines, row == 0, row + b == s->b, columns, TARGETS, first, j, length)
#define GRADIENT(columns) \
    NAME(gradient_of_columns)(s, lines, row == 0, row + b == s->b, columns, 1, first, j, length)
            if (s->g && together)
                BY_PANELS(4, GRADIENT_TOGETHER);
            else if (s->g)
                BY_PANELS(PANEL, GRADIENT);
        }
        for (ptrdiff_t u = 0; u < targets; u++, t++) NAME(add_lanes)(losses + u, s->sums + t * s->width + s->padded);
    }
}

#undef BY_PANELS
#undef RESIDUAL_TOGETHER
#undef RESIDUAL
#undef GRADIENT_TOGETHER
#undef GRADIENT
