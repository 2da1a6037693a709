/* X, y and w as blocks; transposition; a pass over the rows, whose parts threads share. Part of template.h.
 *
 * Lines are read in whole groups. A block is read in place where that stays within X, and from a copy elsewhere.
 */

/* The buffers of one thread. */
struct NAME(buffers) {
    REAL *copy;            /* (d, block_rows): a block by columns that can't be read in place */
    REAL *y_copy, *w_copy; /* (k, block_rows) and (block_rows,) */
    REAL *r, *wr, *g;      /* as of a block */
    ptrdiff_t copied, copied_rows; /* the first row that `copy` holds, or -1, and how many rows */
};

/* A problem's rows, opened for reading: the whole of a struct sgdm_rows. */
struct NAME(reader) {
    struct sgdm_rows head;
    struct sgdm_shape shape;
    const REAL *X, *y, *w;
    REAL *tail;  /* the last rows of C-order X, row_step apart, then zeros */
    ptrdiff_t tail_rows; /* how many rows have groups that reach beyond X */
    REAL *rows;  /* (n, d): F-order X by rows, once rows in random order are asked for; or NULL */
    REAL *whole; /* (d + k + 1, n in whole groups): transposed X, y and w; or NULL */
    int straddles;
    int prefetches; /* whether steps of rows are prefetched; UNKNOWN up to the first pass */
    double seconds[SGDM_PARTS]; /* that the parts of the first pass took */
    struct NAME(buffers) *buffers; /* one for each member of the team */
    double *partials;              /* the sums of each part of a pass (k, width); without team, of one part */
    struct sgdm_team *team;
    void *memory;
};

#define UNKNOWN -1
#define GATHERED 16 /* rows together */

static ptrdiff_t NAME(round_up)(ptrdiff_t length) { return (length + LANES - 1) / LANES * LANES; }

static void NAME(close)(struct sgdm_rows *rows) {
    struct NAME(reader) *reader = (struct NAME(reader) *)rows;
    if (!reader) return;
    free(reader->memory);
    free(reader->rows);
    free(reader->partials);
    free(reader->buffers);
    free(reader);
}

/* sum w y^2: it takes no pass over X. */
static void NAME(loss_of_zeros)(const struct sgdm_rows *rows, double *sums) {
    const struct NAME(reader) *reader = (const struct NAME(reader) *)rows;
    const ptrdiff_t n = reader->shape.n;
    for (ptrdiff_t t = 0; t < reader->shape.k; t++) {
        const REAL *const y = reader->y + t * n, *const w = reader->w;
        double loss = 0;
        for (ptrdiff_t i = 0; i < n; i++) loss += (w ? w[i] : 1) * ((double)y[i] * y[i]);
        sums[t * reader->shape.width + reader->shape.padded + 1] = loss;
    }
}

static double NAME(weight)(const struct sgdm_rows *rows, ptrdiff_t start, ptrdiff_t stop, const ptrdiff_t *order) {
    const REAL *const w = ((const struct NAME(reader) *)rows)->w;
    if (!w) return (double)(stop - start);
    double total = 0;
    for (ptrdiff_t i = start; i < stop; i++) total += w[order ? order[i] : i];
    return total;
}

static struct sgdm_rows *NAME(open)(const struct sgdm_shape *shape, struct sgdm_team *team) {
    const ptrdiff_t members = team ? team->members : 1, k = shape->k, b = shape->block_rows;
    const int by_columns = shape->by_columns || shape->transposed;
    const ptrdiff_t copy = by_columns ? shape->d * b : 0;
    const ptrdiff_t g = by_columns ? (k < SGDM_TARGETS ? k : SGDM_TARGETS) * shape->d * LANES : k * shape->padded;
    const ptrdiff_t own = copy + (k + 1 + 2 * SGDM_TARGETS) * b + g;
    /* Row n - i ends beyond X if (i - 1) * row_step < padded - d. */
    const ptrdiff_t step = shape->row_step, reach = (shape->padded - shape->d + step - 1) / step;
    const ptrdiff_t tail_rows = reach < shape->n ? reach : shape->n;
    const ptrdiff_t tail = NAME(round_up)(tail_rows * step) + shape->padded;
    const ptrdiff_t whole = shape->whole ? (shape->d + k + 1) * NAME(round_up)(shape->n) : 0;
    struct NAME(reader) *reader = calloc(1, sizeof(*reader));
    if (!reader) return NULL;
    reader->head.loss_of_zeros = NAME(loss_of_zeros);
    reader->head.weight = NAME(weight);
    reader->head.close = NAME(close);
    reader->shape = *shape;
    reader->team = team;
    reader->prefetches = shape->in_steps && shape->from_memory ? UNKNOWN : 0;
    reader->buffers = calloc((size_t)members, sizeof(*reader->buffers));
    reader->partials = calloc((size_t)((team ? SGDM_PARTS : 1) * k * shape->width), sizeof(double));
    reader->memory = calloc((size_t)(tail + whole + members * own + LANES), sizeof(REAL));
    if (!reader->buffers || !reader->partials || !reader->memory) {
        NAME(close)((struct sgdm_rows *)reader);
        return NULL;
    }
    /* From the first cache line on; each of the arrays takes whole groups. */
    REAL *next = (REAL *)(((size_t)reader->memory + SGDM_LANE_BYTES - 1) / SGDM_LANE_BYTES * SGDM_LANE_BYTES);
    reader->tail = next;
    reader->tail_rows = tail_rows;
    next += tail;
    if (whole) reader->whole = next;
    next += whole;
    for (ptrdiff_t i = 0; i < members; i++, next += own) {
        struct NAME(buffers) *buffers = reader->buffers + i;
        buffers->copy = next;
        buffers->y_copy = next + copy;
        buffers->w_copy = buffers->y_copy + k * b;
        buffers->r = buffers->w_copy + b;
        buffers->wr = buffers->r + SGDM_TARGETS * b;
        buffers->g = buffers->wr + SGDM_TARGETS * b;
    }
    return (struct sgdm_rows *)reader;
}

SGDM_INLINE FOR_LEVEL void NAME(transpose_narrow)(const REAL *SGDM_RESTRICT rows, const int d, ptrdiff_t b,
                                                  REAL *SGDM_RESTRICT out, ptrdiff_t stride) {
    for (ptrdiff_t i = 0; i < b; i++)
        SGDM_UNROLL
        for (int j = 0; j < d; j++) out[j * stride + i] = rows[i * d + j];
}

/* out[j * stride + i] = rows[i * d + j] for b rows of d columns. */
static FOR_LEVEL void NAME(transpose)(const REAL *rows, ptrdiff_t d, ptrdiff_t b, REAL *out, ptrdiff_t stride) {
#define TRANSPOSE(columns) \
    case columns: NAME(transpose_narrow)(rows, columns, b, out, stride); break;
    switch (d) { /* a constant number of columns, so that the compiler vectorises the loop */
        TRANSPOSE(1) TRANSPOSE(2) TRANSPOSE(3) TRANSPOSE(4)
    default: /* a cache line of `out` at a time */
        for (ptrdiff_t first = 0; first < b; first += LANES)
            for (ptrdiff_t j = 0; j < d; j++)
                for (ptrdiff_t i = first; i < b && i < first + LANES; i++) out[j * stride + i] = rows[i * d + j];
    }
#undef TRANSPOSE
}

static FOR_LEVEL void NAME(take)(struct sgdm_rows *rows, const REAL *X, const REAL *y, const REAL *w) {
    struct NAME(reader) *reader = (struct NAME(reader) *)rows;
    const struct sgdm_shape *shape = &reader->shape;
    const ptrdiff_t n = shape->n, d = shape->d, k = shape->k, stride = NAME(round_up)(n);
    if (shape->whole) {
        if (reader->X != X) NAME(transpose)(X, d, n, reader->whole, stride);
        for (ptrdiff_t t = 0; t < k; t++)
            memcpy(reader->whole + (d + t) * stride, y + t * n, (size_t)n * sizeof(REAL));
        if (w) memcpy(reader->whole + (d + k) * stride, w, (size_t)n * sizeof(REAL));
    } else if (!shape->by_columns && !shape->transposed) {
        const ptrdiff_t size = d * (ptrdiff_t)sizeof(REAL), padded = shape->padded * (ptrdiff_t)sizeof(REAL);
        const ptrdiff_t apart = shape->row_step * (ptrdiff_t)sizeof(REAL), low_bit = apart & -apart;
        const ptrdiff_t step = low_bit < SGDM_LANE_BYTES ? low_bit : SGDM_LANE_BYTES;
        /* The starts of rows in their cache lines are `step` bytes apart. */
        reader->straddles = (ptrdiff_t)((size_t)X % (size_t)step) + SGDM_LANE_BYTES - step + size > padded;
        if (reader->tail_rows)
            memcpy(reader->tail, X + (n - reader->tail_rows) * shape->row_step,
                   (size_t)((reader->tail_rows - 1) * apart + size));
    }
    free(reader->rows);
    reader->rows = NULL;
    reader->X = X;
    reader->y = y;
    reader->w = w;
    for (ptrdiff_t i = 0; i < (reader->team ? reader->team->members : 1); i++) reader->buffers[i].copied = -1;
}

/* copy = rows start to start + b of F-order X. */
static void NAME(copy_block)(const struct NAME(reader) *reader, ptrdiff_t start, ptrdiff_t b, ptrdiff_t stride,
                             REAL *copy) {
    const struct sgdm_shape *shape = &reader->shape;
    for (ptrdiff_t j = 0; j < shape->d; j++)
        memcpy(copy + j * stride, reader->X + j * shape->n + start, (size_t)b * sizeof(REAL));
}

/* rows = X' of F-order X: rows in random order are gathered from there, which reads whole cache lines. Without memory for
 * it they are gathered from X, a number at a time. */
static FOR_LEVEL void NAME(copy_rows)(struct NAME(reader) *reader) {
    const ptrdiff_t n = reader->shape.n, d = reader->shape.d;
    if (reader->rows || !reader->shape.copies_rows) return;
    reader->rows = malloc((size_t)(n * d) * sizeof(REAL));
    if (reader->rows) NAME(transpose)(reader->X, n, d, reader->rows, d);
}

/* copy = the b rows that `order` names; their y and w too. */
static FOR_LEVEL void NAME(gather)(const struct NAME(reader) *reader, const ptrdiff_t *order, ptrdiff_t b,
                                   struct NAME(buffers) *buffers) {
    const struct sgdm_shape *shape = &reader->shape;
    const ptrdiff_t n = shape->n, d = shape->d, stride = shape->block_rows;
    const REAL *const rows = shape->by_columns ? reader->rows : reader->X;
    const ptrdiff_t along = rows ? 1 : n, across = rows ? d : 1;
    for (ptrdiff_t first = 0; first < b; first += GATHERED) {
        const ptrdiff_t count = b - first < GATHERED ? b - first : GATHERED;
        const REAL *line[GATHERED];
        for (ptrdiff_t i = 0; i < count; i++) line[i] = (rows ? rows : reader->X) + order[first + i] * across;
        for (ptrdiff_t i = 0; i < count && rows; i++)
            for (ptrdiff_t j = 0; j < d; j += LANES) SGDM_PREFETCH(line[i] + j);
        for (ptrdiff_t j = 0; j < d; j++)
            for (ptrdiff_t i = 0; i < count; i++) buffers->copy[j * stride + first + i] = line[i][j * along];
    }
    for (ptrdiff_t t = 0; t < shape->k; t++)
        for (ptrdiff_t i = 0; i < b; i++) buffers->y_copy[t * stride + i] = reader->y[t * n + order[i]];
    for (ptrdiff_t i = 0; i < b && reader->w; i++) buffers->w_copy[i] = reader->w[order[i]];
}

/* Finds the block's rows from `start` on as rows of C-order X, in place. */
static void NAME(find_rows)(const struct NAME(reader) *reader, ptrdiff_t start, const ptrdiff_t *order,
                            struct NAME(block) *block) {
    block->stride = reader->shape.row_step;
    block->lines = reader->X;
    block->tail_rows = block->lines + (reader->shape.n - reader->tail_rows) * block->stride;
    block->to_tail = reader->tail - block->tail_rows;
    block->y = reader->y;
    block->w = reader->w;
    if (order) {
        block->order = order + start;
        block->ordered = reader->shape.n - start;
    } else {
        block->lines += start * block->stride;
        block->y += start;
        block->w = block->w ? block->w + start : NULL;
    }
}

/* Finds the block's rows from `start` on as columns: in place, in the copy of all of X, or in a copy made here. It may
 * take fewer rows than asked for. */
static FOR_LEVEL void NAME(find_columns)(const struct NAME(reader) *reader, struct NAME(buffers) *buffers,
                                         ptrdiff_t start, const ptrdiff_t *order, struct NAME(block) *block) {
    const struct sgdm_shape *shape = &reader->shape;
    const ptrdiff_t n = shape->n, d = shape->d, rows = shape->block_rows;
    block->y = reader->y + start;
    block->w = reader->w ? reader->w + start : NULL;
    if (order) {
        NAME(gather)(reader, order + start, block->b, buffers);
        buffers->copied = -1;
        block->lines = buffers->copy;
        block->stride = block->target_stride = rows;
        block->padded_rows = 1;
        block->y = buffers->y_copy;
        block->w = block->w ? buffers->w_copy : NULL;
    } else if (reader->whole) {
        block->stride = block->target_stride = NAME(round_up)(n);
        block->padded_rows = 1;
        block->lines = reader->whole + start;
        block->y = block->lines + d * block->stride;
        block->w = block->w ? block->y + shape->k * block->stride : NULL;
    } else if (shape->by_columns && n - start >= LANES) {
        if (start + NAME(round_up)(block->b) > n) block->b = (n - start) / LANES * LANES;
        block->lines = reader->X + start;
        block->stride = n;
    } else {
        block->stride = NAME(round_up)(block->b);
        if (!shape->by_columns)
            NAME(transpose)(reader->X + start * d, d, block->b, buffers->copy, block->stride);
        else if (buffers->copied != start || buffers->copied_rows != block->b) {
            buffers->copied = start;
            buffers->copied_rows = block->b;
            NAME(copy_block)(reader, start, block->b, block->stride, buffers->copy);
        }
        block->lines = buffers->copy;
    }
}

/* What a pass asks for. */
struct NAME(pass) {
    struct NAME(reader) *reader;
    ptrdiff_t start, stop;
    const ptrdiff_t *order;
    const REAL *coef;
    int with_gradient;
};

/* Sets sums, over rows start to stop, by one thread. */
static FOR_LEVEL void NAME(sums_of_rows)(const struct NAME(pass) *pass, struct NAME(buffers) *buffers, ptrdiff_t start,
                                         ptrdiff_t stop, int prefetches, double *sums) {
    const struct NAME(reader) *reader = pass->reader;
    const struct sgdm_shape *shape = &reader->shape;
    const int by_columns = shape->by_columns || shape->transposed;
    struct NAME(block) block = {
        .d = shape->d,
        .k = shape->k,
        .target_stride = shape->n,
        .coef = pass->coef,
        .padded = shape->padded,
        .width = shape->width,
        .triangular = shape->triangular,
        .in_steps = shape->in_steps && !pass->order,
        .from_memory = shape->from_memory,
        .prefetches = prefetches,
        .straddles = reader->straddles,
        .r = buffers->r,
        .wr = buffers->wr,
        .row_stride = shape->block_rows,
        .piece_rows = shape->piece_rows,
        .g = pass->with_gradient ? buffers->g : NULL,
        .sums = sums,
    };
    memset(sums, 0, (size_t)(shape->k * shape->width) * sizeof(double));
    while (start < stop) {
        block.b = stop - start < shape->block_rows ? stop - start : shape->block_rows;
        block.first = start;
        if (by_columns) {
            NAME(find_columns)(reader, buffers, start, pass->order, &block);
            NAME(sum_block_by_columns)(&block);
        } else {
            NAME(find_rows)(reader, start, pass->order, &block);
            NAME(sum_block_by_rows)(&block);
        }
        start += block.b;
    }
}

static double NAME(now)(void) {
    struct timespec time;
    timespec_get(&time, TIME_UTC);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

/* The sums of part `part` of a pass. */
static void NAME(part)(const struct NAME(pass) *pass, ptrdiff_t part, int member, double *sums) {
    struct NAME(reader) *reader = pass->reader;
    const ptrdiff_t start = pass->start + part * reader->shape.part_rows, end = start + reader->shape.part_rows;
    const ptrdiff_t stop = end < pass->stop ? end : pass->stop;
    const int tries = reader->prefetches == UNKNOWN && part < SGDM_PARTS;
    const double began = tries ? NAME(now)() : 0;
    NAME(sums_of_rows)(pass, reader->buffers + member, start, stop, tries ? part % 2 : reader->prefetches == 1, sums);
    if (tries) reader->seconds[part] = NAME(now)() - began;
}

/* Whether the odd parts of a pass, which prefetched, took less time than the even ones. It is measured, for it differs
 * from CPU to CPU: 1 000 000 x 50 take 30 ms with and 41 ms without on a Xeon, but 24 and 19 ms on a Zen 4. */
static int NAME(prefetch_pays)(const double *seconds, ptrdiff_t parts) {
    double gain = 0;
    for (ptrdiff_t part = 0; part + 2 < parts; part += 2) gain += seconds[part] - seconds[part + 1];
    return gain > 0;
}

static void NAME(shared_part)(void *task, int part, int member) {
    const struct NAME(pass) *pass = task;
    const struct sgdm_shape *shape = &pass->reader->shape;
    NAME(part)(pass, part, member, pass->reader->partials + part * shape->k * shape->width);
}

/* The parts are added in order, whoever computes them. */
static void NAME(sums)(struct sgdm_rows *rows, ptrdiff_t start, ptrdiff_t stop, const ptrdiff_t *order,
                       const REAL *coef, int with_gradient, double *sums) {
    struct NAME(reader) *reader = (struct NAME(reader) *)rows;
    const struct sgdm_shape *shape = &reader->shape;
    struct NAME(pass) pass = {reader, start, stop, order, coef, with_gradient};
    if (order && shape->by_columns) NAME(copy_rows)(reader);
    const ptrdiff_t size = shape->k * shape->width;
    const ptrdiff_t parts = (stop - start + shape->part_rows - 1) / shape->part_rows;
    if (parts == 1) {
        NAME(sums_of_rows)(&pass, reader->buffers, start, stop, reader->prefetches == 1, sums);
        return;
    }
    /* Parts are sized for an update. A pass over all rows of a fit in batches may have more than SGDM_PARTS of them,
     * and is then done by one thread. */
    struct sgdm_team *const team = parts <= SGDM_PARTS ? reader->team : NULL;
    if (team) sgdm_share(team, NAME(shared_part), &pass, (int)parts);
    memset(sums, 0, (size_t)size * sizeof(double));
    for (ptrdiff_t part = 0; part < parts; part++) {
        double *const partial = reader->partials + (team ? part * size : 0);
        if (!team) NAME(part)(&pass, part, 0, partial);
        for (ptrdiff_t j = 0; j < size; j++) sums[j] += partial[j];
    }
    if (reader->prefetches == UNKNOWN && with_gradient && parts > 2 && parts <= SGDM_PARTS)
        reader->prefetches = NAME(prefetch_pays)(reader->seconds, parts);
}

#undef UNKNOWN
#undef GATHERED

#define SGDM_TABLE_(level, type)                                                                        \
    extern const struct sgdm_arithmetic_##type sgdm_##level##_##type;                                   \
    const struct sgdm_arithmetic_##type sgdm_##level##_##type = {                                       \
        sgdm_open_##level##_##type, sgdm_take_##level##_##type, sgdm_sums_##level##_##type,             \
        sgdm_update_##level##_##type}
#define SGDM_TABLE(level, type) SGDM_TABLE_(level, type)
SGDM_TABLE(LEVEL, REAL);
#undef SGDM_TABLE
#undef SGDM_TABLE_
