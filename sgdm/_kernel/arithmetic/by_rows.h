/* A block of C-order X: rows are dotted with the coefficients, and combined into the gradient. Part of template.h.
 *
 * There are three ways, with the same bits:
 *
 *     in steps        the residuals of some rows, then their gradient, if rows are narrow or X comes from memory: see
 *                     in_steps.h
 *     in registers    the gradient stays in registers, the narrowest rows too: where registers are large
 *     by panels       four or eight rows at a time: wide rows, rows in random order, several targets together
 */

/* How far ahead rows are prefetched: in bytes, or with a random order in rows. The hardware's own prefetch loses the
 * four rows of a panel. It keeps up with rows of more groups than PREFETCH_GROUPS, so these are not prefetched here:
 * 2000 x 2000 takes 0.76 ms without and 1.05 with it (Zen 5). */
#define AHEAD 8192
#define ROWS_AHEAD 24
#define PREFETCH_GROUPS 16

/* The lines of rows i to i + panel of a block, and the lines to prefetch. copied: whether there may be rows among them
 * that are read from their copy. */
SGDM_INLINE FOR_LEVEL void NAME(row_lines)(const struct NAME(block) *s, const REAL *lines, const int panel, ptrdiff_t i,
                                           const int permuted, const int copied, ptrdiff_t *row, const REAL **line,
                                           const REAL **ahead) {
    SGDM_UNROLL
    for (int q = 0; q < panel; q++) {
        row[q] = permuted ? s->order[i + q] : i + q;
        line[q] = lines + row[q] * s->stride;
        ahead[q] = line[q] + AHEAD / sizeof(REAL);
        if (permuted) {
            const ptrdiff_t later = i + q + ROWS_AHEAD;
            ahead[q] = lines + s->order[later < s->ordered ? later : i] * s->stride;
            if (s->straddles) SGDM_PREFETCH(ahead[q] + s->d - 1);
        }
        if (copied) line[q] += line[q] >= s->tail_rows ? s->to_tail : 0;
    }
}

/* r = z + intercept - y and wr = w * r for `panel` rows, by fours where these stand together: elements that are stored
 * one by one and read back as a vector wait for the stores. */
SGDM_INLINE FOR_LEVEL void NAME(row_residuals)(const int panel, const ptrdiff_t *row, const int permuted,
                                               const REAL *y, const REAL *w, REAL intercept, const REAL *z, REAL *r,
                                               REAL *wr) {
#ifdef SGDM_VECTORS
    if (panel % 4 == 0 && !permuted) {
        for (int q = 0; q < panel; q += 4) {
            QUAD four = *(const QUAD *)(z + q) + (intercept - *(const QUAD *)(y + row[q]));
            *(QUAD *)(r + q) = four;
            if (w) four *= *(const QUAD *)(w + row[q]);
            *(QUAD *)(wr + q) = four;
        }
        return;
    }
#endif
    SGDM_UNROLL
    for (int q = 0; q < panel; q++) r[q] = z[q] + (intercept - y[row[q]]);
    SGDM_UNROLL
    for (int q = 0; q < panel; q++) wr[q] = w ? w[row[q]] * r[q] : r[q];
}

/* Rows i to i + panel of a block, for `targets` targets from `first` on: r, wr = w * r, g += wr @ rows. */
SGDM_INLINE FOR_LEVEL void NAME(panel_of_rows)(const struct NAME(block) *s, const int panel, const int targets,
                                               ptrdiff_t first, ptrdiff_t i, const int permuted, const int prefetches) {
    REAL z[TARGETS * PANEL], *const r = s->r + i, *const wr = s->wr + i;
    const REAL *line[PANEL], *ahead[PANEL];
    ptrdiff_t row[PANEL];
    const ptrdiff_t skip = s->triangular ? (s->first + i) / LANES * LANES : 0, length = s->padded - skip;
    const REAL *const coef = s->coef + first * s->width;
    NAME(row_lines)(s, s->lines, panel, i, permuted, 1, row, line, ahead);
    SGDM_UNROLL
    for (int q = 0; q < panel; q++) line[q] += skip;
    NAME(dots)(line, prefetches ? ahead : NULL, panel, targets, length, coef + skip, s->width, z);
    SGDM_UNROLL
    for (int t = 0; t < targets; t++)
        NAME(row_residuals)(panel, row, permuted, s->y + (first + t) * s->target_stride, s->w,
                            coef[t * s->width + s->padded], z + t * PANEL, r + t * s->row_stride,
                            wr + t * s->row_stride);
    if (s->g)
        NAME(combination)(line, panel, targets, 1, length, wr, s->row_stride, s->g + first * s->padded + skip,
                          s->padded);
}

#if REGISTER_GROUPS > 0
#define HELD_GROUPS 3

/* Like panel_of_rows, with the same bits, for target t and the first `rows` rows of a block, a multiple of 4. The
 * gradient stays in registers: g is not loaded and stored between rows. So do the rows, if they have at most HELD_GROUPS
 * groups: 10 000 x 20 doubles take 41 us an epoch so, and 44 us in steps (Zen 4). Half of the prefetches are issued with
 * the dots and half with the gradient: batches of permuted rows take a fifth longer with all of them in the first. */
SGDM_INLINE FOR_LEVEL void NAME(rows_in_registers)(const struct NAME(block) *s, ptrdiff_t rows, const int groups,
                                                   const int permuted, ptrdiff_t t) {
    const REAL *const lines = s->lines, *const y = s->y + t * s->target_stride, *const w = s->w;
    const REAL *const coef = s->coef + t * s->width;
    const REAL intercept = coef[s->padded];
    const int held = groups <= HELD_GROUPS;
    REAL *const r = s->r, *const wr = s->wr, *const g = s->g + t * s->padded;
    V gradient[REGISTER_GROUPS];
    SGDM_UNROLL
    for (int e = 0; e < groups; e++) gradient[e] = (V){0};
    for (ptrdiff_t first = 0; first < rows; first += 4) {
        V x[HELD_GROUPS][4], dot[4][GROUP], factors[4];
        REAL z[4];
        const REAL *line[4], *ahead[4];
        ptrdiff_t row[4];
        NAME(row_lines)(s, lines, 4, first, permuted, permuted, row, line, ahead);
        SGDM_UNROLL
        for (int e = 0; e < groups && held; e++)
            SGDM_UNROLL
            for (int q = 0; q < 4; q++) {
                x[e][q] = READ(line[q] + e * LANES);
                SGDM_KEEP_IN_REGISTER(x[e][q]);
            }
        SGDM_UNROLL
        for (int e = 0; e < groups; e++) {
            const V v = READ(coef + e * LANES);
            SGDM_UNROLL
            for (int q = 0; q < 4; q++) {
                const V product = held ? x[e][q] * v : READ(line[q] + e * LANES) * v;
                if (e == 0)
                    dot[q][0] = product;
                else
                    dot[q][0] += product;
                if (e < (groups + 1) / 2) SGDM_PREFETCH(ahead[q] + e * LANES);
            }
        }
        NAME(sum_lanes)(4, dot, z);
        NAME(row_residuals)(4, row, permuted, y, w, intercept, z, r + first, wr + first);
        SGDM_UNROLL
        for (int q = 0; q < 4; q++) factors[q] = wr[first + q] - (V){0};
        SGDM_UNROLL
        for (int e = 0; e < groups; e++)
            SGDM_UNROLL
            for (int q = 0; q < 4; q++) {
                gradient[e] += held ? factors[q] * x[e][q] : factors[q] * READ(line[q] + e * LANES);
                if (e >= (groups + 1) / 2) SGDM_PREFETCH(ahead[q] + e * LANES);
            }
    }
    SGDM_UNROLL
    for (int e = 0; e < groups; e++) AT(g + e * LANES) = gradient[e];
}

#if VECTOR_BYTES != SGDM_LANE_BYTES || REGISTER_GROUPS != 8
#error "rows_in_registers is for vectors of a whole group, and the switch below for up to 8 groups"
#endif
#endif

#if (PANEL != 4 && PANEL != 8) || (TARGETS != 1 && TARGETS != SGDM_TARGETS)
#error "PANEL must be 4 or 8, and TARGETS 1 or SGDM_TARGETS"
#endif

/* Residual, loss and gradient of a block of C-order X. */
static FOR_LEVEL void NAME(sum_block_by_rows)(const struct NAME(block) *block) {
    const struct NAME(block) own = *block, *const s = &own; /* a copy, whose fields stay in registers */
    const ptrdiff_t d = s->d, padded = s->padded, width = s->width, groups = padded / LANES, b = s->b;
    for (ptrdiff_t t = 0; t < s->k;) {
        const int together = TARGETS > 1 && s->k - t >= TARGETS;
        ptrdiff_t i = 0;
#if REGISTER_GROUPS > 0
        if (s->g && !together && !s->triangular && groups <= (s->order ? REGISTER_GROUPS : HELD_GROUPS)) {
            i = (s->order ? b : NAME(in_place)(s)) / 4 * 4;
#define IN_REGISTERS(groups, permuted) \
    case groups + permuted * 8: NAME(rows_in_registers)(s, i, groups, permuted, t); break;
            switch (groups + (s->order ? 8 : 0)) {
                IN_REGISTERS(1, 0) IN_REGISTERS(2, 0) IN_REGISTERS(3, 0)
                IN_REGISTERS(1, 1) IN_REGISTERS(2, 1) IN_REGISTERS(3, 1) IN_REGISTERS(4, 1)
                IN_REGISTERS(5, 1) IN_REGISTERS(6, 1) IN_REGISTERS(7, 1) IN_REGISTERS(8, 1)
            }
#undef IN_REGISTERS
        }
#endif
        if (s->in_steps && !together && i == 0) {
            NAME(rows_in_steps)(s, t);
            i = b;
        }
#define PANELS(panel, targets, permuted, prefetches) \
    for (; i + panel <= b; i += panel) NAME(panel_of_rows)(s, panel, targets, t, i, permuted, prefetches)
#if TARGETS > 1
        if (together) {
            if (s->order)
                PANELS(4, TARGETS, 1, 1);
            else if (groups > PREFETCH_GROUPS)
                PANELS(4, TARGETS, 0, 0);
            PANELS(4, TARGETS, 0, 1);
            PANELS(1, TARGETS, s->order != NULL, 1);
        }
#endif
        if (s->order)
            PANELS(4, 1, 1, 1);
        else if (groups > PREFETCH_GROUPS)
            PANELS(PANEL, 1, 0, 0);
        PANELS(4, 1, 0, 1); /* none is left if the rows are permuted */
        PANELS(1, 1, s->order != NULL, 1);
#undef PANELS
        const ptrdiff_t end = t + (together ? TARGETS : 1);
        for (ptrdiff_t u = 0; t < end; t++, u++) {
            double *const sums = s->sums + t * width;
            NAME(loss_sums) loss = {0};
            NAME(add_loss)(&loss, s->r + u * s->row_stride, s->wr + u * s->row_stride, b);
            NAME(add_lanes)(&loss, sums + padded);
            if (!s->g) continue;
            REAL *const g = s->g + t * padded;
            SGDM_NO_OVERLAP
            for (ptrdiff_t j = 0; j < d; j++) sums[j] += g[j];
            memset(g, 0, (size_t)padded * sizeof(REAL));
        }
    }
}

#undef HELD_GROUPS
#undef AHEAD
#undef ROWS_AHEAD
#undef PREFETCH_GROUPS
