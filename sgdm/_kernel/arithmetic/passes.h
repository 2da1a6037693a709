/* X, y and w as blocks, and a pass over the rows, whose parts threads share. Part of template.h.
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

/* The whole of a struct sgdm_rows. */
struct NAME(problem) {
    struct sgdm_rows head;
    struct sgdm_shape shape;
    const REAL *X, *y, *w;
    REAL *tail;  /* (tail_rows, padded): the last rows of C-order X, each with zeros after it */
    ptrdiff_t tail_rows; /* how many rows have groups that reach beyond X */
    REAL *whole; /* (d + k + 1, n in whole groups): transposed X, y and w; or NULL */
    int straddles;
    struct NAME(buffers) *buffers; /* one for each member of the team */
    double *partials;              /* the sums of each part of a pass (k, width); without team, of one part */
    struct sgdm_team *team;
    void *memory;
};

static ptrdiff_t NAME(round_up)(ptrdiff_t length) { return (length + LANES - 1) / LANES * LANES; }

static void NAME(close)(struct sgdm_rows *rows) {
    struct NAME(problem) *problem = (struct NAME(problem) *)rows;
    if (!problem) return;
    free(problem->memory);
    free(problem->partials);
    free(problem->buffers);
    free(problem);
}

/* sum w y^2: it takes no pass over X. */
static void NAME(loss_of_zeros)(const struct sgdm_rows *rows, double *sums) {
    const struct NAME(problem) *problem = (const struct NAME(problem) *)rows;
    const ptrdiff_t n = problem->shape.n;
    for (ptrdiff_t t = 0; t < problem->shape.k; t++) {
        const REAL *const y = problem->y + t * n, *const w = problem->w;
        double loss = 0;
        for (ptrdiff_t i = 0; i < n; i++) loss += (w ? w[i] : 1) * ((double)y[i] * y[i]);
        sums[t * problem->shape.width + problem->shape.padded + 1] = loss;
    }
}

static double NAME(weight)(const struct sgdm_rows *rows, ptrdiff_t start, ptrdiff_t stop, const ptrdiff_t *order) {
    const REAL *const w = ((const struct NAME(problem) *)rows)->w;
    if (!w) return (double)(stop - start);
    double total = 0;
    for (ptrdiff_t i = start; i < stop; i++) total += w[order ? order[i] : i];
    return total;
}

static struct sgdm_rows *NAME(open)(const struct sgdm_shape *shape, struct sgdm_team *team) {
    const ptrdiff_t members = team ? team->members : 1, k = shape->k, b = shape->block_rows;
    const ptrdiff_t copy = shape->by_columns || shape->transposed ? shape->d * b : 0;
    const ptrdiff_t own = copy + (k + 1 + 2 * SGDM_TARGETS) * b + k * shape->padded;
    const ptrdiff_t reach = (shape->padded - 1) / shape->d; /* row n - i ends beyond X if i * d < padded */
    const ptrdiff_t tail_rows = reach < shape->n ? reach : shape->n, tail = tail_rows * shape->padded;
    const ptrdiff_t whole = shape->whole ? (shape->d + k + 1) * NAME(round_up)(shape->n) : 0;
    struct NAME(problem) *problem = calloc(1, sizeof(*problem));
    if (!problem) return NULL;
    problem->head.loss_of_zeros = NAME(loss_of_zeros);
    problem->head.weight = NAME(weight);
    problem->head.close = NAME(close);
    problem->shape = *shape;
    problem->team = team;
    problem->buffers = calloc((size_t)members, sizeof(*problem->buffers));
    problem->partials = calloc((size_t)((team ? SGDM_PARTS : 1) * k * shape->width), sizeof(double));
    problem->memory = calloc((size_t)(tail + whole + members * own + LANES), sizeof(REAL));
    if (!problem->buffers || !problem->partials || !problem->memory) {
        NAME(close)((struct sgdm_rows *)problem);
        return NULL;
    }
    /* From the first cache line on; each of the arrays takes whole groups. */
    REAL *next = (REAL *)(((size_t)problem->memory + SGDM_LANE_BYTES - 1) / SGDM_LANE_BYTES * SGDM_LANE_BYTES);
    problem->tail = next;
    problem->tail_rows = tail_rows;
    next += tail;
    if (whole) problem->whole = next;
    next += whole;
    for (ptrdiff_t i = 0; i < members; i++, next += own) {
        struct NAME(buffers) *buffers = problem->buffers + i;
        buffers->copy = next;
        buffers->y_copy = next + copy;
        buffers->w_copy = buffers->y_copy + k * b;
        buffers->r = buffers->w_copy + b;
        buffers->wr = buffers->r + SGDM_TARGETS * b;
        buffers->g = buffers->wr + SGDM_TARGETS * b;
    }
    return (struct sgdm_rows *)problem;
}

static TARGET void NAME(take)(struct sgdm_rows *rows, const REAL *X, const REAL *y, const REAL *w) {
    struct NAME(problem) *problem = (struct NAME(problem) *)rows;
    const struct sgdm_shape *shape = &problem->shape;
    const ptrdiff_t n = shape->n, d = shape->d, k = shape->k, stride = NAME(round_up)(n);
    if (shape->whole) {
        if (problem->X != X) NAME(transpose)(X, d, n, problem->whole, stride);
        for (ptrdiff_t t = 0; t < k; t++)
            memcpy(problem->whole + (d + t) * stride, y + t * n, (size_t)n * sizeof(REAL));
        if (w) memcpy(problem->whole + (d + k) * stride, w, (size_t)n * sizeof(REAL));
    } else if (!shape->by_columns && !shape->transposed) {
        const ptrdiff_t size = d * (ptrdiff_t)sizeof(REAL), padded = shape->padded * (ptrdiff_t)sizeof(REAL);
        const ptrdiff_t low_bit = size & -size, step = low_bit < SGDM_LANE_BYTES ? low_bit : SGDM_LANE_BYTES;
        /* The starts of rows in their cache lines are `step` bytes apart. */
        problem->straddles = (ptrdiff_t)((size_t)X % (size_t)step) + SGDM_LANE_BYTES - step + size > padded;
        for (ptrdiff_t i = 0; i < problem->tail_rows; i++)
            memcpy(problem->tail + i * shape->padded, X + (n - problem->tail_rows + i) * d, (size_t)size);
    }
    problem->X = X;
    problem->y = y;
    problem->w = w;
    for (ptrdiff_t i = 0; i < (problem->team ? problem->team->members : 1); i++) problem->buffers[i].copied = -1;
}

/* copy = rows start to start + b of F-order X. */
static void NAME(copy_block)(const struct NAME(problem) *problem, ptrdiff_t start, ptrdiff_t b, REAL *copy) {
    const struct sgdm_shape *shape = &problem->shape;
    for (ptrdiff_t j = 0; j < shape->d; j++)
        memcpy(copy + j * shape->block_rows, problem->X + j * shape->n + start, (size_t)b * sizeof(REAL));
}

/* The same of the b rows that `order` names, with their y and w, from X in C or F layout. */
static void NAME(gather)(const struct NAME(problem) *problem, const ptrdiff_t *order, ptrdiff_t b,
                         struct NAME(buffers) *buffers) {
    const struct sgdm_shape *shape = &problem->shape;
    const ptrdiff_t n = shape->n, d = shape->d, stride = shape->block_rows;
    for (ptrdiff_t i = 0; i < b; i++) {
        const ptrdiff_t row = order[i];
        for (ptrdiff_t j = 0; j < d; j++)
            buffers->copy[j * stride + i] = shape->by_columns ? problem->X[j * n + row] : problem->X[row * d + j];
        for (ptrdiff_t t = 0; t < shape->k; t++) buffers->y_copy[t * stride + i] = problem->y[t * n + row];
        if (problem->w) buffers->w_copy[i] = problem->w[row];
    }
}

/* Finds the block's rows from `start` on as rows of C-order X, in place. */
static void NAME(find_rows)(const struct NAME(problem) *problem, ptrdiff_t start, const ptrdiff_t *order,
                            struct NAME(block) *block) {
    block->stride = block->d;
    block->lines = problem->X;
    block->y = problem->y;
    block->w = problem->w;
    if (order) {
        block->order = order + start;
        block->ordered = problem->shape.n - start;
    } else {
        block->lines += start * block->d;
        block->y += start;
        block->w = block->w ? block->w + start : NULL;
    }
}

/* Finds the block's rows from `start` on as columns: in place, in the copy of all of X, or in a copy made here. It may
 * take fewer rows than asked for. */
static TARGET void NAME(find_columns)(const struct NAME(problem) *problem, struct NAME(buffers) *buffers,
                                      ptrdiff_t start, const ptrdiff_t *order, struct NAME(block) *block) {
    const struct sgdm_shape *shape = &problem->shape;
    const ptrdiff_t n = shape->n, d = shape->d, rows = shape->block_rows;
    block->y = problem->y + start;
    block->w = problem->w ? problem->w + start : NULL;
    if (order) {
        NAME(gather)(problem, order + start, block->b, buffers);
        buffers->copied = -1;
        block->lines = buffers->copy;
        block->stride = block->target_stride = rows;
        block->padded_rows = 1;
        block->y = buffers->y_copy;
        block->w = block->w ? buffers->w_copy : NULL;
    } else if (problem->whole) {
        block->stride = block->target_stride = NAME(round_up)(n);
        block->padded_rows = 1;
        block->lines = problem->whole + start;
        block->y = block->lines + d * block->stride;
        block->w = block->w ? block->y + shape->k * block->stride : NULL;
    } else if (shape->by_columns && n - start >= LANES) {
        if (start + NAME(round_up)(block->b) > n) block->b = (n - start) / LANES * LANES;
        block->lines = problem->X + start;
        block->stride = n;
    } else {
        if (!shape->by_columns)
            NAME(transpose)(problem->X + start * d, d, block->b, buffers->copy, rows);
        else if (buffers->copied != start || buffers->copied_rows != block->b) {
            buffers->copied = start;
            buffers->copied_rows = block->b;
            NAME(copy_block)(problem, start, block->b, buffers->copy);
        }
        block->lines = buffers->copy;
        block->stride = rows;
    }
}

/* What a pass asks for. */
struct NAME(pass) {
    struct NAME(problem) *problem;
    ptrdiff_t start, stop;
    const ptrdiff_t *order;
    const REAL *coef;
    int with_gradient;
};

/* Sets sums, over rows start to stop, by one thread. */
static TARGET void NAME(sums_of_rows)(const struct NAME(pass) *pass, struct NAME(buffers) *buffers, ptrdiff_t start,
                                      ptrdiff_t stop, double *sums) {
    const struct NAME(problem) *problem = pass->problem;
    const struct sgdm_shape *shape = &problem->shape;
    const int by_columns = shape->by_columns || shape->transposed;
    struct NAME(block) block = {
        .d = shape->d,
        .k = shape->k,
        .target_stride = shape->n,
        .coef = pass->coef,
        .padded = shape->padded,
        .width = shape->width,
        .triangular = shape->triangular,
        .straddles = problem->straddles,
        .r = buffers->r,
        .wr = buffers->wr,
        .row_stride = shape->block_rows,
        .g = pass->with_gradient ? buffers->g : NULL,
        .sums = sums,
    };
    block.tail_rows = problem->X + (shape->n - problem->tail_rows) * shape->d;
    block.tail = problem->tail;
    memset(sums, 0, (size_t)(shape->k * shape->width) * sizeof(double));
    while (start < stop) {
        block.b = stop - start < shape->block_rows ? stop - start : shape->block_rows;
        block.first = start;
        if (by_columns) {
            NAME(find_columns)(problem, buffers, start, pass->order, &block);
            NAME(columns)(&block);
        } else {
            NAME(find_rows)(problem, start, pass->order, &block);
            NAME(rows)(&block);
        }
        start += block.b;
    }
}

/* The sums of part `part` of a pass. */
static void NAME(part)(const struct NAME(pass) *pass, ptrdiff_t part, int member, double *sums) {
    const struct sgdm_shape *shape = &pass->problem->shape;
    const ptrdiff_t start = pass->start + part * shape->part_rows, stop = start + shape->part_rows;
    NAME(sums_of_rows)(pass, pass->problem->buffers + member, start, stop < pass->stop ? stop : pass->stop, sums);
}

static void NAME(shared_part)(void *task, int part, int member) {
    const struct NAME(pass) *pass = task;
    const struct sgdm_shape *shape = &pass->problem->shape;
    NAME(part)(pass, part, member, pass->problem->partials + part * shape->k * shape->width);
}

/* The parts are added in order, whoever computes them. */
static void NAME(sums)(struct sgdm_rows *rows, ptrdiff_t start, ptrdiff_t stop, const ptrdiff_t *order,
                       const REAL *coef, int with_gradient, double *sums) {
    struct NAME(problem) *problem = (struct NAME(problem) *)rows;
    const struct sgdm_shape *shape = &problem->shape;
    struct NAME(pass) pass = {problem, start, stop, order, coef, with_gradient};
    const ptrdiff_t size = shape->k * shape->width;
    const ptrdiff_t parts = (stop - start + shape->part_rows - 1) / shape->part_rows;
    if (parts == 1) {
        NAME(sums_of_rows)(&pass, problem->buffers, start, stop, sums);
        return;
    }
    /* Parts are sized for an update. A pass over all rows of a fit in batches may have more than SGDM_PARTS of them, and
     * is then done by one thread. */
    struct sgdm_team *const team = parts <= SGDM_PARTS ? problem->team : NULL;
    if (team) sgdm_share(team, NAME(shared_part), &pass, (int)parts);
    memset(sums, 0, (size_t)size * sizeof(double));
    for (ptrdiff_t part = 0; part < parts; part++) {
        double *const partial = problem->partials + (team ? part * size : 0);
        if (!team) NAME(part)(&pass, part, 0, partial);
        for (ptrdiff_t j = 0; j < size; j++) sums[j] += partial[j];
    }
}

#define SGDM_TABLE_(level, type)                                                                        \
    extern const struct sgdm_arithmetic_##type sgdm_##level##_##type;                                   \
    const struct sgdm_arithmetic_##type sgdm_##level##_##type = {                                       \
        sgdm_open_##level##_##type, sgdm_take_##level##_##type, sgdm_sums_##level##_##type,             \
        sgdm_update_##level##_##type}
#define SGDM_TABLE(level, type) SGDM_TABLE_(level, type)
SGDM_TABLE(LEVEL, REAL);
#undef SGDM_TABLE
#undef SGDM_TABLE_
