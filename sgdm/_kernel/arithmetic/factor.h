/* The triangular factor R of rows, R'R = Z'Z, by Householder reflections. Part of template.h, for double.
 *
 * Z = [X, 1, Y] is read in blocks of SGDM_FACTOR_ROWS rows. A block is stacked below the R of the rows before it, and the
 * reflections that make its columns zero turn that R into the new one. Four reflections make a panel:
 *
 *     u_j = [h_j e_j; v_j]       reflector j: v_j lies where column j of the block was, e_j is a row of R
 *     H   = I - U T U'           the product of four, with T upper triangular
 *
 * (R. Schreiber and C. Van Loan, "A storage-efficient WY representation for products of Householder transformations",
 * SIAM J. Sci. Stat. Comput. 10 (1989)). A block lies in strips of eight columns: see strips.h. To a strip the panels of
 * all strips before it are applied first, by rows: the lanes are columns, and a sum over rows is added in their order.
 * Then it is transposed, so that its own two panels find columns of eight rows: there the lanes are rows. The first strip
 * and one of less than eight columns lie by columns from the start. The bits depend on neither the registers' width nor
 * the threads.
 */
#include "strips.h"

/* Four reflections. t[l][i], l <= i: their T. */
struct NAME(panel) {
    double h[4], t[4][4];
};

/* The sums of squares below this count as zero: they would make 1 / (beta h) overflow. */
static const double NAME(nothing) = 1e-280;

#ifdef SGDM_VECTORS
#define COLUMNS_TOGETHER (VECTOR_BYTES == 64 ? 1 : 2) /* vectors of columns whose four sums are in registers */
#else
#define COLUMNS_TOGETHER 8
#endif

/* A number in all lanes, in a register: gcc would load it anew for each product. AVX-512 multiplies from memory. */
SGDM_INLINE FOR_LEVEL V NAME(broadcast)(const double *number) {
    V x = *number - (V){0};
#if VECTOR_BYTES != 64
    SGDM_KEEP_IN_REGISTER(x);
#endif
    return x;
}

/* What the reflections do to R's rows above the block: z = T'(U'c), and r -= h z. dots: the block's part of U'c. Here for
 * lanes of columns, and below for one column and the first `count` reflections. */
SGDM_INLINE FOR_LEVEL void NAME(reflect_above)(const struct NAME(panel) *p, double *above, ptrdiff_t stride, const V *dots,
                                               V *z) {
    V u[4];
    SGDM_UNROLL
    for (int i = 0; i < 4; i++) u[i] = dots[i] + p->h[i] * READ(above + i * stride);
    SGDM_UNROLL
    for (int i = 0; i < 4; i++) {
        z[i] = p->t[0][i] * u[0];
        SGDM_UNROLL
        for (int l = 1; l <= i; l++) z[i] += p->t[l][i] * u[l];
        AT(above + i * stride) = READ(above + i * stride) - p->h[i] * z[i];
    }
}

SGDM_INLINE void NAME(reflect_number)(const struct NAME(panel) *p, const int count, const double *dots, double *above,
                                      ptrdiff_t stride, double *z) {
    double u[4];
    for (int i = 0; i < count; i++) u[i] = dots[i] + p->h[i] * above[i * stride];
    for (int i = 0; i < count; i++) {
        z[i] = p->t[0][i] * u[0];
        for (int l = 1; l <= i; l++) z[i] += p->t[l][i] * u[l];
        above[i * stride] -= p->h[i] * z[i];
    }
}

/* The panel v, four columns of a finished strip, reflects some columns of a strip by rows, and R's rows above them. */
SGDM_INLINE FOR_LEVEL void NAME(reflect_tiles)(const struct NAME(panel) *p, const double *v, double *strip, ptrdiff_t tiles,
                                               double *above, ptrdiff_t stride, struct NAME(ahead) *ahead) {
    V sums[COLUMNS_TOGETHER][4], z[COLUMNS_TOGETHER][4];
    SGDM_UNROLL
    for (int k = 0; k < COLUMNS_TOGETHER; k++)
        SGDM_UNROLL
        for (int i = 0; i < 4; i++) sums[k][i] = (V){0};
    for (const double *x = v, *s = strip, *end = strip + tiles * TILE; s < end; x += TILE, s += TILE) {
        NAME(prefetch)(ahead, 1);
        SGDM_BY_TWO
        for (int row = 0; row < 8; row++) {
            V c[COLUMNS_TOGETHER];
            SGDM_UNROLL
            for (int k = 0; k < COLUMNS_TOGETHER; k++) c[k] = READ(s + row * 8 + k * WIDTH);
            SGDM_UNROLL
            for (int i = 0; i < 4; i++) {
                const V number = NAME(broadcast)(x + i * 8 + row);
                SGDM_UNROLL
                for (int k = 0; k < COLUMNS_TOGETHER; k++) sums[k][i] += number * c[k];
            }
        }
    }
    SGDM_UNROLL
    for (int k = 0; k < COLUMNS_TOGETHER; k++) NAME(reflect_above)(p, above + k * WIDTH, stride, sums[k], z[k]);
    for (double *s = strip, *end = strip + tiles * TILE; s < end; v += TILE, s += TILE)
        SGDM_BY_TWO
        for (int row = 0; row < 8; row++) {
            V x[4];
            SGDM_UNROLL
            for (int i = 0; i < 4; i++) x[i] = NAME(broadcast)(v + i * 8 + row);
            SGDM_UNROLL
            for (int k = 0; k < COLUMNS_TOGETHER; k++)
                AT(s + row * 8 + k * WIDTH) = READ(s + row * 8 + k * WIDTH) - ((x[0] * z[k][0] + x[1] * z[k][1]) +
                                                                             (x[2] * z[k][2] + x[3] * z[k][3]));
        }
}

static SGDM_NOT_INLINE FOR_LEVEL void NAME(reflect_strip)(const struct NAME(panel) *p, const double *v, double *strip,
                                                          ptrdiff_t tiles, double *above, ptrdiff_t stride,
                                                          struct NAME(ahead) *ahead) {
    for (ptrdiff_t j = 0; j < 8; j += COLUMNS_TOGETHER * WIDTH)
        NAME(reflect_tiles)(p, v, strip + j, tiles, above + j, stride, ahead);
}

/* Column j of a panel: takes off the reflections before it, c_j -= sum_{i<j} z_i c_i, and sets g[k] = c_j' c_k for the
 * panel's `columns`; those after j are still as they were. */
SGDM_INLINE FOR_LEVEL void NAME(reflect_column)(double *panel, ptrdiff_t tiles, const int j, const int columns,
                                                const double *z, double *g, struct NAME(ahead) *ahead) {
    V sums[4][GROUP];
    SGDM_UNROLL
    for (int k = 0; k < 4; k++)
        SGDM_UNROLL
        for (int h = 0; h < GROUP; h++) sums[k][h] = (V){0};
    for (double *s = panel, *end = panel + tiles * TILE; s < end; s += TILE) {
        NAME(prefetch)(ahead, 1);
        SGDM_UNROLL
        for (int h = 0; h < GROUP; h++) {
            V c[4];
            SGDM_UNROLL
            for (int k = 0; k < columns; k++) c[k] = READ(s + k * 8 + h * WIDTH);
            if (j == 1) c[1] -= z[0] * c[0];
            if (j == 2) c[2] -= z[0] * c[0] + z[1] * c[1];
            if (j == 3) c[3] -= (z[0] * c[0] + z[1] * c[1]) + z[2] * c[2];
            if (j) AT(s + j * 8 + h * WIDTH) = c[j];
            SGDM_UNROLL
            for (int k = 0; k < columns; k++) sums[k][h] += c[j] * c[k];
        }
    }
    NAME(sum_lanes)(4, sums, g);
}

/* Factors a panel of up to four columns of the block; above: R from its diagonal on. */
SGDM_INLINE FOR_LEVEL void NAME(factor_columns)(double *panel, ptrdiff_t tiles, const int columns, double *above,
                                                ptrdiff_t stride, struct NAME(panel) *p, struct NAME(ahead) *ahead) {
    double g[4][4], dots[4], z[4];
    memset(p, 0, sizeof(*p));
    SGDM_UNROLL
    for (int j = 0; j < columns; j++) {
        double *const r = above + j; /* column j of R */
        for (int i = 0; i < j; i++) dots[i] = g[i][j];
        NAME(reflect_number)(p, j, dots, r, stride, z);
        NAME(reflect_column)(panel, tiles, j, columns, z, g[j], ahead);
        const double alpha = r[j * stride], square = g[j][j];
        if (square <= NAME(nothing)) continue; /* no reflection; NaN goes on */
        const double norm = sqrt(alpha * alpha + square), beta = alpha < 0 ? norm : -norm;
        p->h[j] = alpha - beta;
        p->t[j][j] = -1 / (beta * p->h[j]);
        r[j * stride] = beta;
        for (int i = 0; i < j; i++) {
            double sum = 0;
            for (int l = i; l < j; l++) sum += p->t[i][l] * g[j][l];
            p->t[i][j] = -p->t[j][j] * sum;
        }
    }
}

static SGDM_NOT_INLINE FOR_LEVEL void NAME(factor_panel)(double *panel, ptrdiff_t tiles, ptrdiff_t columns, double *above,
                                                         ptrdiff_t stride, struct NAME(panel) *p,
                                                         struct NAME(ahead) *ahead) {
    switch (columns) {
    case 1: NAME(factor_columns)(panel, tiles, 1, above, stride, p, ahead); break;
    case 2: NAME(factor_columns)(panel, tiles, 2, above, stride, p, ahead); break;
    case 3: NAME(factor_columns)(panel, tiles, 3, above, stride, p, ahead); break;
    default: NAME(factor_columns)(panel, tiles, 4, above, stride, p, ahead);
    }
}

/* The panel v reflects one or two columns of a strip by columns. */
SGDM_INLINE FOR_LEVEL void NAME(reflect_pair)(const struct NAME(panel) *p, const double *v, double *pair, const int count,
                                              ptrdiff_t tiles, double *above, ptrdiff_t stride) {
    V sums[2][4][GROUP];
    double z[2][4];
    SGDM_UNROLL
    for (int h = 0; h < GROUP; h++) { /* all sums of a group of lanes would not fit into registers */
        V s[2][4];
        SGDM_UNROLL
        for (int i = 0; i < 4; i++) s[0][i] = s[1][i] = (V){0};
        for (ptrdiff_t at = h * WIDTH; at < tiles * TILE; at += TILE)
            SGDM_UNROLL
            for (int i = 0; i < 4; i++)
                SGDM_UNROLL
                for (int k = 0; k < count; k++) s[k][i] += READ(v + at + i * 8) * READ(pair + at + k * 8);
        SGDM_UNROLL
        for (int i = 0; i < 4; i++) sums[0][i][h] = s[0][i], sums[1][i][h] = s[1][i];
    }
    for (int k = 0; k < count; k++) {
        double dots[4];
        NAME(sum_lanes)(4, sums[k], dots);
        NAME(reflect_number)(p, 4, dots, above + k, stride, z[k]);
    }
    for (ptrdiff_t tile = 0; tile < tiles * TILE; tile += TILE)
        SGDM_UNROLL
        for (int h = 0; h < GROUP; h++) {
            const ptrdiff_t at = tile + h * WIDTH;
            V x[4];
            SGDM_UNROLL
            for (int i = 0; i < 4; i++) x[i] = READ(v + at + i * 8);
            SGDM_UNROLL
            for (int k = 0; k < count; k++)
                AT(pair + at + k * 8) = READ(pair + at + k * 8) - ((x[0] * z[k][0] + x[1] * z[k][1]) +
                                                                   (x[2] * z[k][2] + x[3] * z[k][3]));
        }
}

/* The panel v reflects the first `count` columns of a strip by columns. */
static SGDM_NOT_INLINE FOR_LEVEL void NAME(reflect_columns)(const struct NAME(panel) *p, const double *v, double *columns,
                                                            ptrdiff_t count, ptrdiff_t tiles, double *above,
                                                            ptrdiff_t stride) {
    ptrdiff_t j = 0;
    for (; j + 1 < count; j += 2) NAME(reflect_pair)(p, v, columns + j * 8, 2, tiles, above + j, stride);
    if (j < count) NAME(reflect_pair)(p, v, columns + j * 8, 1, tiles, above + j, stride);
}

/* What a factorisation works in: a block, and its panels. */
struct NAME(work) {
    double *const strips;
    struct NAME(panel) *const panels;
    struct NAME(ahead) ahead; /* of the next block */
};

/* R becomes the factor of its own rows and of b rows from row `start` on. Columns before `first` are zeros. */
static FOR_LEVEL void NAME(factor_block)(const struct NAME(augmented) *z, ptrdiff_t start, ptrdiff_t b, ptrdiff_t first,
                                         double *R, ptrdiff_t stride, struct NAME(work) *work) {
    const ptrdiff_t tiles = (b + 7) / 8;
    work->ahead = NAME(next_block)(z, start, b);
    for (ptrdiff_t j = first; j < z->q; j += 8) {
        double *const strip = work->strips + j * tiles * 8, *const r = R + j * stride + j;
        struct NAME(panel) *const panels = work->panels + j / 4;
        const ptrdiff_t columns = z->q - j < 8 ? z->q - j : 8;
        const int by_rows = columns == 8 && j > first;
        NAME(copy_strip)(z, start, b, j, by_rows, strip);
        for (ptrdiff_t i = first; i < j; i += 4) {
            const double *const v = work->strips + i / 8 * 8 * tiles * 8 + i % 8 * 8;
            if (by_rows)
                NAME(reflect_strip)(work->panels + i / 4, v, strip, tiles, R + i * stride + j, stride, &work->ahead);
            else
                NAME(reflect_columns)(work->panels + i / 4, v, strip, columns, tiles, R + i * stride + j, stride);
        }
        if (by_rows) NAME(transpose_tiles)(strip, tiles);
        NAME(factor_panel)(strip, tiles, columns, r, stride, panels, &work->ahead);
        if (columns > 4) {
            NAME(reflect_columns)(panels, strip, strip + 32, columns - 4, tiles, r + 4, stride);
            NAME(factor_panel)(strip + 32, tiles, columns - 4, r + 4 * stride + 4, stride, panels + 1, &work->ahead);
        }
    }
}

/* R becomes the factor of its own rows and of these. */
static FOR_LEVEL void NAME(reflect_rows)(const struct NAME(augmented) *z, int triangular, double *R, ptrdiff_t stride,
                                         struct NAME(work) *work) {
    const ptrdiff_t n = triangular && z->q < z->n ? z->q : z->n; /* the other rows are zeros */
    for (ptrdiff_t start = 0; start < n; start += SGDM_FACTOR_ROWS) {
        const ptrdiff_t b = n - start < SGDM_FACTOR_ROWS ? n - start : SGDM_FACTOR_ROWS;
        NAME(factor_block)(z, start, b, triangular ? start / 8 * 8 : 0, R, stride, work);
    }
}

#include "gram.h"

extern sgdm_factor NAME(factor);

FOR_LEVEL int NAME(factor)(const struct sgdm_array *X, int intercept, const struct sgdm_array *y,
                           const double *roots, ptrdiff_t n, int triangular, double *R, ptrdiff_t stride) {
    const ptrdiff_t columns = stride + 8; /* a strip more, for add_by_gram */
    const size_t numbers = (size_t)(columns * SGDM_FACTOR_ROWS + 8), panels = (size_t)(columns / 4);
    double *const memory = malloc(numbers * sizeof(double) + panels * sizeof(struct NAME(panel)));
    if (!memory) return 0;
    struct NAME(work) work = {(double *)(((size_t)memory + 63) / 64 * 64), (struct NAME(panel) *)(memory + numbers), {0}};
    const struct sgdm_array ones = {.data = &(const double){1}, .columns = intercept};
    const struct NAME(augmented) z = {{X, &ones, y}, roots, n, X->columns + intercept + y->columns};
    const int done = triangular ? 0 : NAME(add_by_gram)(X, intercept, y, roots, n, R, stride, &work);
    if (done == 0) NAME(reflect_rows)(&z, triangular, R, stride, &work);
    free(memory);
    return done >= 0;
}
#undef COLUMNS_TOGETHER
