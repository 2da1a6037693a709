/* The triangular factors of eight fits' rows at once, a fit in each lane. Part of template.h, for double.
 *
 * Every number has the bits of `factor` for the fit alone: see factor.h for the method. A block has a part for the WIDTH
 * fits of each vector, with the vectors of a column one after another. Columns begin `step` apart, which is odd, so that
 * they don't compete for the same places of L1.
 */
struct NAME(panel_of_lanes) {
    V h[4], t[4][4];
};

/* a where the condition holds, else b. */
#ifdef SGDM_VECTORS
SGDM_INLINE FOR_LEVEL V NAME(choose)(NAME(mask) condition, V a, V b) {
    return (V)((condition & (NAME(mask))a) | (~condition & (NAME(mask))b));
}
#else
SGDM_INLINE V NAME(choose)(int condition, V a, V b) { return condition ? a : b; }
#endif

SGDM_INLINE FOR_LEVEL V NAME(square_root)(V x) {
    for (int l = 0; l < WIDTH; l++) ((double *)&x)[l] = sqrt(((double *)&x)[l]);
    return x;
}

/* `reflect_number` for one column. */
SGDM_INLINE FOR_LEVEL void NAME(reflect_r)(const struct NAME(panel_of_lanes) *p, const int count, const V *dots, V *above,
                                           ptrdiff_t q, V *z) {
    V u[4];
    SGDM_UNROLL
    for (int i = 0; i < count; i++) u[i] = dots[i] + p->h[i] * above[i * q];
    SGDM_UNROLL
    for (int i = 0; i < count; i++) {
        z[i] = p->t[0][i] * u[0];
        SGDM_UNROLL
        for (int l = 1; l <= i; l++) z[i] += p->t[l][i] * u[l];
        above[i * q] -= p->h[i] * z[i];
    }
}

/* The panel v reflects `count` columns of b rows, and R's rows above them. Sums over rows have so many lanes: 8 as in
 * `reflect_pair`, or 1 as in `reflect_tiles`. */
SGDM_INLINE FOR_LEVEL void NAME(reflect_in_lanes)(const struct NAME(panel_of_lanes) *p, const V *v, V *columns,
                                                  const int count, ptrdiff_t b, ptrdiff_t step, const int lanes,
                                                  V *above, ptrdiff_t q) {
    V sums[2][4][8], z[2][4];
    for (ptrdiff_t l = 0; l < lanes; l++) {
        V s[2][4];
        SGDM_UNROLL
        for (int k = 0; k < count; k++)
            SGDM_UNROLL
            for (int i = 0; i < 4; i++) s[k][i] = (V){0};
        for (ptrdiff_t row = l; row < b; row += lanes)
            SGDM_UNROLL
            for (int k = 0; k < count; k++)
                SGDM_UNROLL
                for (int i = 0; i < 4; i++) s[k][i] += v[i * step + row] * columns[k * step + row];
        SGDM_UNROLL
        for (int k = 0; k < count; k++)
            SGDM_UNROLL
            for (int i = 0; i < 4; i++) sums[k][i][l] = s[k][i];
    }
    SGDM_UNROLL
    for (int k = 0; k < count; k++) {
        V dots[4];
        SGDM_UNROLL
        for (int i = 0; i < 4; i++) dots[i] = NAME(sum_by_halves)(sums[k][i], lanes);
        NAME(reflect_r)(p, 4, dots, above + k, q, z[k]);
    }
    for (ptrdiff_t row = 0; row < b; row++) {
        const V *const x = v + row;
        SGDM_UNROLL
        for (int k = 0; k < count; k++)
            columns[k * step + row] -= (x[0] * z[k][0] + x[step] * z[k][1]) + (x[2 * step] * z[k][2] + x[3 * step] * z[k][3]);
    }
}

static SGDM_NOT_INLINE FOR_LEVEL void NAME(reflect_lanes)(const struct NAME(panel_of_lanes) *p, const V *v, V *columns,
                                                          ptrdiff_t count, ptrdiff_t b, ptrdiff_t step, int in_order,
                                                          V *above, ptrdiff_t q) {
    ptrdiff_t j = 0;
    if (in_order)
        for (; j < count; j += 2) NAME(reflect_in_lanes)(p, v, columns + j * step, 2, b, step, 1, above + j, q);
    for (; j + 1 < count; j += 2) NAME(reflect_in_lanes)(p, v, columns + j * step, 2, b, step, 8, above + j, q);
    if (j < count) NAME(reflect_in_lanes)(p, v, columns + j * step, 1, b, step, 8, above + j, q);
}

/* Column j of a panel, as in `reflect_column`. */
SGDM_INLINE FOR_LEVEL void NAME(reflect_column_in_lanes)(V *panel, ptrdiff_t b, ptrdiff_t step, const int j,
                                                         const int columns, const V *z, V *g) {
    V sums[4][8];
    for (ptrdiff_t l = 0; l < 8; l++) {
        V s[4];
        SGDM_UNROLL
        for (int k = 0; k < columns; k++) s[k] = (V){0};
        for (V *c = panel + l; c < panel + b; c += 8) {
            V x = c[j * step];
            if (j == 1) x -= z[0] * c[0];
            if (j == 2) x -= z[0] * c[0] + z[1] * c[step];
            if (j == 3) x -= (z[0] * c[0] + z[1] * c[step]) + z[2] * c[2 * step];
            if (j) c[j * step] = x;
            SGDM_UNROLL
            for (int k = 0; k < columns; k++) s[k] += x * (k == j ? x : c[k * step]);
        }
        SGDM_UNROLL
        for (int k = 0; k < columns; k++) sums[k][l] = s[k];
    }
    SGDM_UNROLL
    for (int k = 0; k < columns; k++) g[k] = NAME(sum_by_halves)(sums[k], 8);
}

/* Factors a panel of up to four columns, as `factor_columns`; above: R from its diagonal on. */
SGDM_INLINE FOR_LEVEL void NAME(factor_in_lanes)(V *panel, ptrdiff_t b, ptrdiff_t step, const int columns, V *above,
                                                 ptrdiff_t q, struct NAME(panel_of_lanes) *p) {
    V g[4][4], dots[4], z[4];
    memset(p, 0, sizeof(*p));
    SGDM_UNROLL
    for (int j = 0; j < columns; j++) {
        SGDM_UNROLL
        for (int i = 0; i < j; i++) dots[i] = g[i][j];
        NAME(reflect_r)(p, j, dots, above + j, q, z);
        NAME(reflect_column_in_lanes)(panel, b, step, j, columns, z, g[j]);
        V *const r = above + j * q + j;
        const V none = {0}, alpha = *r, square = g[j][j], norm = NAME(square_root)(alpha * alpha + square);
        const V beta = NAME(choose)(alpha < none, norm, -norm), h = alpha - beta, t = -1 / (beta * h);
        p->h[j] = NAME(choose)(square <= NAME(nothing), none, h);
        p->t[j][j] = NAME(choose)(square <= NAME(nothing), none, t);
        *r = NAME(choose)(square <= NAME(nothing), alpha, beta);
        SGDM_UNROLL
        for (int i = 0; i < j; i++) {
            V sum = {0};
            SGDM_UNROLL
            for (int l = i; l < j; l++) sum += p->t[i][l] * g[j][l];
            p->t[i][j] = NAME(choose)(square <= NAME(nothing), none, -t * sum);
        }
    }
}

static SGDM_NOT_INLINE FOR_LEVEL void NAME(factor_lanes_of_panel)(V *panel, ptrdiff_t b, ptrdiff_t step,
                                                                  ptrdiff_t columns, V *above, ptrdiff_t q,
                                                                  struct NAME(panel_of_lanes) *p) {
    switch (columns) {
    case 1: NAME(factor_in_lanes)(panel, b, step, 1, above, q, p); break;
    case 2: NAME(factor_in_lanes)(panel, b, step, 2, above, q, p); break;
    case 3: NAME(factor_in_lanes)(panel, b, step, 3, above, q, p); break;
    default: NAME(factor_in_lanes)(panel, b, step, 4, above, q, p);
    }
}

/* R (q, q) becomes the factor of its own rows and of the block's, as in `factor_block`. */
static FOR_LEVEL void NAME(factor_block_of_lanes)(V *block, ptrdiff_t b, ptrdiff_t step, V *R, ptrdiff_t q) {
    struct NAME(panel_of_lanes) panels[(MOST + 4) / 4];
    for (ptrdiff_t j = 0; j < q; j += 8) {
        const ptrdiff_t columns = q - j < 8 ? q - j : 8;
        struct NAME(panel_of_lanes) *const p = panels + j / 4;
        V *const c = block + j * step, *const r = R + j * q + j;
        for (ptrdiff_t i = 0; i < j; i += 4)
            NAME(reflect_lanes)(panels + i / 4, block + i * step, c, columns, b, step, columns == 8, R + i * q + j, q);
        NAME(factor_lanes_of_panel)(c, b, step, columns, r, q, p);
        if (columns > 4) {
            NAME(reflect_lanes)(p, c, c + 4 * step, columns - 4, b, step, 0, r + 4, q);
            NAME(factor_lanes_of_panel)(c + 4 * step, b, step, columns - 4, r + 4 * q + 4, q, p + 1);
        }
    }
}

SGDM_INLINE double NAME(number)(const struct sgdm_array *a, ptrdiff_t row, ptrdiff_t column) {
    const void *const at = (const char *)a->data + row * a->row_step + column * a->column_step;
    return a->single ? *(const float *)at : *(const double *)at;
}

/* Writes b rows of eight arrays, from row `first` on, into the columns of a block from `to` on. */
static FOR_LEVEL void NAME(gather_array)(const struct sgdm_array *a, ptrdiff_t first, ptrdiff_t b, double *to,
                                         ptrdiff_t part, ptrdiff_t step) {
    const ptrdiff_t size = sizeof(double), all = a->columns;
    const ptrdiff_t run = a->column_step == size && a->row_step == all * size ? all : 1; /* columns read together */
    for (ptrdiff_t start = 0; start < all; start += run, to += run * step * WIDTH) {
        ptrdiff_t e = 0, row = 0, j = 0;
        if (!a->single && a->row_step == run * size)
            for (; e + 8 <= b * run; e += 8) {
                const double *from[8];
                double tile[TILE], *numbers[8];
                for (int l = 0; l < SGDM_FITS; l++)
                    from[l] = (const double *)((const char *)a[l].data + start * a->column_step) + first * run + e;
                for (int i = 0; i < 8; i++) {
                    numbers[i] = GROUP == 1 ? to + (j * step + row) * WIDTH : tile + i * 8;
                    if (GROUP == 1 && ++j == run) j = 0, row++;
                }
                NAME(transpose_tile)(from, numbers);
                for (int i = 0; GROUP > 1 && i < 8; i++) {
                    SGDM_UNROLL
                    for (int h = 0; h < GROUP; h++)
                        AT(to + h * part + (j * step + row) * WIDTH) = READ(tile + i * 8 + h * WIDTH);
                    if (++j == run) j = 0, row++;
                }
            }
        for (; e < b * run; e++) {
            for (int l = 0; l < SGDM_FITS; l++)
                to[l / WIDTH * part + (j * step + row) * WIDTH + l % WIDTH] =
                    NAME(number)(a + l, first + row, start + j);
            if (++j == run) j = 0, row++;
        }
    }
}

extern sgdm_factor_lanes NAME(factor_lanes);

FOR_LEVEL int NAME(factor_lanes)(const struct sgdm_fits_rows *f) {
    const ptrdiff_t d = f->X->columns, p = d + f->intercept, q = p + 1, step = SGDM_FACTOR_ROWS + 1;
    const ptrdiff_t part = q * step * WIDTH, tiles = (q * q + 7) / 8 * TILE;
    double *const memory = malloc((size_t)(8 + (q + 1) * step * 8 + 3 * tiles) * sizeof(double));
    if (!memory) return 0;
    double *const block = (double *)(((size_t)memory + 63) / 64 * 64);
    double *const roots = block + q * step * 8, *const R = roots + step * 8, *const out = R + tiles;
    memset(R, 0, (size_t)tiles * sizeof(double));
    for (ptrdiff_t start = 0; start < f->n; start += SGDM_FACTOR_ROWS) {
        const ptrdiff_t b = f->n - start < SGDM_FACTOR_ROWS ? f->n - start : SGDM_FACTOR_ROWS;
        NAME(gather_array)(f->X, start, b, block, part, step);
        NAME(gather_array)(f->y, start, b, block + p * step * WIDTH, part, step);
        if (f->roots->data) NAME(gather_array)(f->roots, start, b, roots, step * WIDTH, step);
        for (int h = 0; h < GROUP; h++) {
            V *const x = (V *)(block + h * part);
            const V *const root = (const V *)roots + h * step;
            for (ptrdiff_t row = 0; f->intercept && row < b; row++) x[d * step + row] = (V){0} + 1.0;
            for (ptrdiff_t j = 0; f->roots->data && j < q; j++)
                for (ptrdiff_t row = 0; row < b; row++) x[j * step + row] *= root[row];
            NAME(factor_block_of_lanes)(x, b, step, (V *)R + h * q * q, q);
        }
    }
    for (int h = 0; h < GROUP; h++)
        for (ptrdiff_t i = 0; i < q; i++)
            for (ptrdiff_t j = 0; j < q; j++)
                AT((j < p ? out + (i * p + j) * 8 : out + tiles + i * 8) + h * WIDTH) = ((V *)R)[h * q * q + i * q + j];
    NAME(spread)(out, q * p, f->lines, 0, block, 0);
    NAME(spread)(out + tiles, q, f->targets, 0, block, 0);
    free(memory);
    return 1;
}
#undef MOST
#undef TILE
#undef ROOM
