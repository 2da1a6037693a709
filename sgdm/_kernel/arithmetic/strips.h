/* A block of rows Z = [X, 1, Y] in strips of eight columns. Part of factor.h.
 *
 * A strip lies in tiles of 8 x 8 numbers, one for eight rows: by columns, as a panel is factored, or by rows.
 */
#define TILE 64                                      /* numbers of a tile */
#define IN_STRIP(row) ((row) / 8 * TILE + (row) % 8) /* where a row of a column begins, in a strip by columns */

/* Rows [X, 1, Y], each times its root (NULL for ones). */
struct NAME(augmented) {
    const struct sgdm_array *arrays[3];
    const double *roots;
    ptrdiff_t n, q; /* rows and columns */
};

#ifdef SGDM_VECTORS
/* column[j][i] = row[i][j], for i and j below 4. */
SGDM_INLINE FOR_LEVEL void NAME(transpose_quads)(const QUAD *row, QUAD *column) {
    const QUAD ab0 = SHUFFLE(row[0], row[1], 0, 4, 2, 6), ab1 = SHUFFLE(row[0], row[1], 1, 5, 3, 7);
    const QUAD cd0 = SHUFFLE(row[2], row[3], 0, 4, 2, 6), cd1 = SHUFFLE(row[2], row[3], 1, 5, 3, 7);
    column[0] = SHUFFLE(ab0, cd0, 0, 1, 4, 5);
    column[1] = SHUFFLE(ab1, cd1, 0, 1, 4, 5);
    column[2] = SHUFFLE(ab0, cd0, 2, 3, 6, 7);
    column[3] = SHUFFLE(ab1, cd1, 2, 3, 6, 7);
}
#endif

/* to[i][j] = from[j][i], for i and j below 8. Both may be the same tile. */
SGDM_INLINE FOR_LEVEL void NAME(transpose_tile)(const double *const *from, double *const *to) {
#ifdef SGDM_VECTORS
    QUAD block[2][2][4];
    SGDM_UNROLL
    for (int i = 0; i < 2; i++)
        SGDM_UNROLL
        for (int j = 0; j < 2; j++) {
            QUAD rows[4];
            SGDM_UNROLL
            for (int l = 0; l < 4; l++) rows[l] = *(const QUAD *)(from[i * 4 + l] + j * 4);
            NAME(transpose_quads)(rows, block[j][i]);
        }
    SGDM_UNROLL
    for (int i = 0; i < 8; i++)
        SGDM_UNROLL
        for (int j = 0; j < 2; j++) *(QUAD *)(to[i] + j * 4) = block[i / 4][j][i % 4];
#else
    double tile[TILE];
    for (int i = 0; i < TILE; i++) tile[i] = from[i % 8][i / 8];
    for (int i = 0; i < 8; i++) memcpy(to[i], tile + i * 8, 8 * sizeof(double));
#endif
}

static FOR_LEVEL void NAME(transpose_tiles)(double *strip, ptrdiff_t tiles) {
    for (double *s = strip, *end = strip + tiles * TILE; s < end; s += TILE) {
        double *const rows[8] = {s, s + 8, s + 16, s + 24, s + 32, s + 40, s + 48, s + 56};
        NAME(transpose_tile)((const double *const *)rows, rows);
    }
}

/* Writes `count` columns of b rows of an array, from column j and row `start` on and times their roots, into a strip by
 * columns. */
static FOR_LEVEL void NAME(copy_columns)(const struct sgdm_array *a, ptrdiff_t start, ptrdiff_t b, ptrdiff_t j,
                                         ptrdiff_t count, const double *roots, double *to) {
    const char *x = (const char *)a->data + start * a->row_step + j * a->column_step;
    for (ptrdiff_t together; count > 0; count -= together, x += together * a->column_step, to += together * 8) {
        ptrdiff_t row = 0;
        together = 1;
#ifdef SGDM_VECTORS
        if (count >= 4 && a->column_step == sizeof(double) && !a->single)
            for (together = 4; row + 4 <= b; row += 4) {
                QUAD rows[4], columns[4];
                SGDM_UNROLL
                for (int l = 0; l < 4; l++) rows[l] = *(const QUAD *)(x + (row + l) * a->row_step);
                NAME(transpose_quads)(rows, columns);
                SGDM_UNROLL
                for (int l = 0; l < 4; l++) {
                    if (roots) columns[l] *= *(const QUAD *)(roots + start + row);
                    *(QUAD *)(to + IN_STRIP(row) + l * 8) = columns[l];
                }
            }
#endif
        for (ptrdiff_t l = 0; l < together; l++)
            for (ptrdiff_t i = row; i < b; i++) {
                const char *const number = x + i * a->row_step + l * a->column_step;
                const double root = roots ? roots[start + i] : 1;
                to[IN_STRIP(i) + l * 8] = root * (a->single ? *(const float *)number : *(const double *)number);
            }
    }
}

/* Copies columns j to j + 7 of b rows, from row `start` on, into a strip. Rows that the last tile has not are zeros, and
 * so are columns that the rows have not if the strip is by rows. */
static FOR_LEVEL void NAME(copy_strip)(const struct NAME(augmented) *z, ptrdiff_t start, ptrdiff_t b, ptrdiff_t j,
                                       int by_rows, double *strip) {
    const ptrdiff_t tiles = (b + 7) / 8;
    if (by_rows && z->q < j + 8) memset(strip, 0, (size_t)(tiles * TILE) * sizeof(double));
    if (b % 8) memset(strip + (tiles - 1) * TILE, 0, TILE * sizeof(double));
    for (int i = 0; i < 3; j -= z->arrays[i++]->columns) {
        const struct sgdm_array *const a = z->arrays[i];
        const ptrdiff_t first = j > 0 ? j : 0, last = j + 8 < a->columns ? j + 8 : a->columns;
        if (by_rows && last - first == 8 && a->column_step == sizeof(double) && !a->single) {
            const char *x = (const char *)a->data + start * a->row_step + j * a->column_step;
            for (ptrdiff_t row = 0; row < b; row++, x += a->row_step, strip += 8) {
                const double root = z->roots ? z->roots[start + row] : 1;
                SGDM_UNROLL
                for (int h = 0; h < GROUP; h++) AT(strip + h * WIDTH) = root * READ((const double *)x + h * WIDTH);
            }
            return;
        }
        if (first < last) NAME(copy_columns)(a, start, b, first, last - first, z->roots, strip + (first - j) * 8);
    }
    if (by_rows) NAME(transpose_tiles)(strip, tiles);
}

/* Data to prefetch while others are in work: so many lines with each tile. In large portions it would wait for memory. */
struct NAME(ahead) {
    const char *next, *end;
    ptrdiff_t lines;
};

SGDM_INLINE void NAME(prefetch_lines)(struct NAME(ahead) *a) {
    for (ptrdiff_t l = 0; l < a->lines && a->next < a->end; l++, a->next += 64) SGDM_PREFETCH_FAR(a->next);
}

/* The block after the b rows from row `start` on, of the widest array, to be prefetched with so many tiles. */
static struct NAME(ahead) NAME(next_block)(const struct NAME(augmented) *z, ptrdiff_t start, ptrdiff_t b, ptrdiff_t tiles) {
    const struct sgdm_array *const a = z->arrays[z->arrays[0]->columns < z->arrays[2]->columns ? 2 : 0];
    const ptrdiff_t size = a->single ? sizeof(float) : sizeof(double), rest = z->n - start - b, bytes = a->columns * size;
    if (a->column_step != size || a->row_step != bytes) return (struct NAME(ahead)){NULL, NULL, 0};
    const char *const next = (const char *)a->data + (start + b) * bytes;
    return (struct NAME(ahead)){next, next + (rest < b ? rest : b) * bytes, b * bytes / 64 / tiles + 1};
}
