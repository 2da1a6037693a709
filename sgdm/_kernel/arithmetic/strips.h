/* A block of rows Z = [X, 1, Y] in strips of eight columns. Part of factor.h.
 *
 * A strip lies in tiles of 8 x 8 numbers, one for eight rows: by columns, as a panel is factored, or by rows.
 */
#define TILE 64                                      /* numbers of a tile */
#define IN_STRIP(row) ((row) / 8 * TILE + (row) % 8) /* a row's place in a column, in a strip by columns */

/* Rows [X, 1, Y], each times its root (NULL for ones). */
struct NAME(augmented) {
    const struct sgdm_array *arrays[3];
    const double *roots;
    ptrdiff_t n, q; /* rows and columns */
};

SGDM_INLINE ptrdiff_t NAME(size_of)(const struct sgdm_array *a) { return a->single ? sizeof(float) : sizeof(double); }

SGDM_INLINE double NAME(read_number)(const char *x, int single) {
    return single ? *(const float *)x : *(const double *)x;
}

#ifdef SGDM_VECTORS
typedef float NAME(four_floats) __attribute__((vector_size(16), aligned(sizeof(float)), may_alias));

/* Reads four numbers, one after another. */
SGDM_INLINE FOR_LEVEL void NAME(read_four)(const char *x, int single, QUAD *numbers) {
    if (single)
        *numbers = __builtin_convertvector(*(const NAME(four_floats) *)x, QUAD);
    else
        *numbers = *(const QUAD *)x;
}

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

#ifdef SGDM_VECTORS
/* Writes one or four columns of b rows, times their roots, into a strip by columns. One after another lie the numbers of
 * the column, or four of a row. Returns how many rows it wrote: the last three may remain. */
SGDM_INLINE FOR_LEVEL ptrdiff_t NAME(copy_fours)(const char *x, ptrdiff_t row_step, int single, const int columns,
                                                 ptrdiff_t b, const double *roots, double *to) {
    ptrdiff_t row = 0;
    for (; row + 4 <= b; row += 4) {
        QUAD rows[4], numbers[4];
        SGDM_UNROLL
        for (int l = 0; l < columns; l++) NAME(read_four)(x + (row + l) * row_step, single, rows + l);
        if (columns == 4)
            NAME(transpose_quads)(rows, numbers);
        else
            numbers[0] = rows[0];
        SGDM_UNROLL
        for (int l = 0; l < columns; l++) {
            if (roots) numbers[l] *= *(const QUAD *)(roots + row);
            *(QUAD *)(to + IN_STRIP(row) + l * 8) = numbers[l];
        }
    }
    return row;
}
#endif

/* Writes columns `first` to `last` - 1 of b rows of an array, from row `start` on and times their roots, into a strip by
 * columns. */
static FOR_LEVEL void NAME(copy_by_columns)(const struct sgdm_array *a, ptrdiff_t start, ptrdiff_t b, ptrdiff_t first,
                                            ptrdiff_t last, const double *roots, double *strip) {
    const ptrdiff_t size = NAME(size_of)(a), step = a->row_step;
    if (roots) roots += start;
    for (ptrdiff_t j = first, together; j < last; j += together) {
        const char *const x = (const char *)a->data + start * step + j * a->column_step;
        double *const to = strip + (j - first) * 8;
        ptrdiff_t row = 0;
        together = a->column_step == size && j + 4 <= last ? 4 : 1;
#ifdef SGDM_VECTORS
        if (together == 4)
            row = NAME(copy_fours)(x, step, a->single, 4, b, roots, to);
        else if (step == size)
            row = NAME(copy_fours)(x, step, a->single, 1, b, roots, to);
#endif
        for (ptrdiff_t l = 0; l < together; l++)
            for (ptrdiff_t i = row; i < b; i++) {
                const double number = NAME(read_number)(x + i * step + l * a->column_step, a->single);
                to[IN_STRIP(i) + l * 8] = roots ? roots[i] * number : number;
            }
    }
}

/* Writes eight numbers of each of b rows of an array, from row `start` and column j on, into a strip by rows. */
static FOR_LEVEL void NAME(copy_by_rows)(const struct sgdm_array *a, ptrdiff_t start, ptrdiff_t b, ptrdiff_t j,
                                         const double *roots, double *strip) {
    const ptrdiff_t size = NAME(size_of)(a);
    for (ptrdiff_t row = start; row < start + b; row++, strip += 8) {
        const char *const x = (const char *)a->data + row * a->row_step + j * size;
        const double root = roots ? roots[row] : 1;
#ifdef SGDM_VECTORS
        QUAD numbers[2];
        SGDM_UNROLL
        for (int l = 0; l < 2; l++) {
            NAME(read_four)(x + l * 4 * size, a->single, numbers + l);
            *(QUAD *)(strip + l * 4) = root * numbers[l];
        }
#else
        for (int l = 0; l < 8; l++) strip[l] = root * NAME(read_number)(x + l * size, a->single);
#endif
    }
}

/* Copies columns j to j + 7 of b rows, from row `start` on, into a strip, with zeros for the rows that its last tile has
 * besides. By rows it has zeros for columns from q on, too. */
static FOR_LEVEL void NAME(copy_strip)(const struct NAME(augmented) *z, ptrdiff_t start, ptrdiff_t b, ptrdiff_t j,
                                       int by_rows, double *strip) {
    const ptrdiff_t tiles = (b + 7) / 8, zeros = by_rows && z->q < j + 8 ? tiles : b % 8 != 0;
    memset(strip + (tiles - zeros) * TILE, 0, (size_t)(zeros * TILE) * sizeof(double));
    ptrdiff_t at = -j; /* the column of the strip that is the array's first one */
    for (int i = 0; i < 3; at += z->arrays[i++]->columns) {
        const struct sgdm_array *const a = z->arrays[i];
        const ptrdiff_t first = at < 0 ? -at : 0, last = at + a->columns < 8 ? a->columns : 8 - at;
        if (by_rows && last - first == 8 && a->column_step == NAME(size_of)(a)) {
            NAME(copy_by_rows)(a, start, b, first, z->roots, strip);
            return;
        }
        if (first < last) NAME(copy_by_columns)(a, start, b, first, last, z->roots, strip + (at + first) * 8);
    }
    if (by_rows) NAME(transpose_tiles)(strip, tiles);
}

/* The bytes of the next block. They are prefetched while a block is in work, few lines with each tile: many at once would
 * wait for memory. 50 columns take a tenth less time so. */
struct NAME(ahead) {
    const char *data;
    ptrdiff_t next, end; /* bytes */
};

SGDM_INLINE void NAME(prefetch)(struct NAME(ahead) *a, int lines) {
    for (int l = 0; l < lines && a->next < a->end; l++, a->next += 64) SGDM_PREFETCH_FAR(a->data + a->next);
}

/* Those after the b rows from row `start` on, in the widest array; none if that has gaps. */
static struct NAME(ahead) NAME(next_block)(const struct NAME(augmented) *z, ptrdiff_t start, ptrdiff_t b) {
    const struct sgdm_array *a = z->arrays[0];
    for (int i = 1; i < 3; i++)
        if (z->arrays[i]->columns > a->columns) a = z->arrays[i];
    const ptrdiff_t size = NAME(size_of)(a), next = start + b;
    ptrdiff_t rows = z->n - next < b ? z->n - next : b;
    if (a->column_step != size || a->row_step != a->columns * size) rows = 0;
    return (struct NAME(ahead)){a->data, next * a->row_step, (next + rows) * a->row_step};
}
