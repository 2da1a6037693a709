/* Epochs of eight reduced fits at once, a fit in each lane. Part of template.h, for double.
 *
 * What runs in every epoch of the plainest fits is inlined for 1, 2 and 3 parameters, which then stay in registers. The
 * rest is compiled once.
 *
 * Every number has the bits of `sums` and of the updates for the fit alone: its sums are added in the same order. The
 * rows of a fit are the p + 1 rows of a triangular factor, of p columns. The last one has zeros in all of them: its
 * residual is -y.
 */
#define MOST SGDM_MOST_PARAMETERS
#define ROOM (SGDM_MOST_SHARED + 9) /* for parameters; arrays a power of two apart would share places in L1 */
#define EPOCHS 64                   /* whose histories are written together, at most */
_Static_assert(ROOM % 8 == 0 && EPOCHS % 8 == 0, "`spread` reads whole eights of columns");

struct NAME(factors) {
    _Alignas(64) V X[MOST * MOST]; /* row i has its numbers from i * width on, and zeros up to `width` */
    V y[ROOM], weight;
    const double *shared; /* X of all fits, in place of X, or NULL */
};

struct NAME(lanes) {
    struct NAME(factors) training, held_out;
    V a[ROOM], v[ROOM], g[ROOM]; /* the parameters, with zeros from p on; velocity and gradient */
    V direction[ROOM];           /* the preconditioned gradient */
    V mean[ROOM], inverse[ROOM], column_decay[ROOM], shrinkage[ROOM]; /* of each column: COLUMN_TERMS in nouns.pxd */
    V decay, l1;                                                      /* of all columns */
    V lr, momentum, gradient_weight;                                  /* of the epoch */
    V of_velocity, of_gradient; /* the same momentum and gradient_weight, but 0 and 1 in epoch 0 */
    V scale, loss;              /* scale: of the gradient */
    V overflow;         /* 0, or NaN from an overflow on */
    int preconditioned; /* in standardized coordinates: see `precondition` in descent.pyx */
    int shrinks;        /* by l1 */
};

/* What `descend_eight` works in. */
struct NAME(eight) {
    struct NAME(lanes) lanes[GROUP];
    double loss[EPOCHS * SGDM_FITS], val_loss[EPOCHS * SGDM_FITS]; /* of recorded epochs that are not written yet, and */
    double paths[3][ROOM * SGDM_FITS];                             /* gradients, steps and coefficients */
    double runs[ROOM * SGDM_FITS];                                 /* for `spread` */
};

/* How long a row is. Rows of up to three numbers are summed as columns are: see `transposed` in levels.c. Others are in
 * groups of four. */
SGDM_INLINE ptrdiff_t NAME(width_of)(const ptrdiff_t p) { return p <= SGDM_NARROWEST ? p : (p + 3) / 4 * 4; }

/* The sum of so many parts, by halves: as `sum_lanes` adds the lanes of one fit. */
SGDM_INLINE FOR_LEVEL V NAME(sum_by_halves)(V *part, const int count) {
    SGDM_UNROLL
    for (int half = count / 2; half >= 1; half /= 2)
        SGDM_UNROLL
        for (int l = 0; l < half; l++) part[l] += part[l + half];
    return part[0];
}

/* The sum of r^2 at the parameters a, and X' r into g, unless that is NULL. */
SGDM_INLINE FOR_LEVEL V NAME(sums_by_columns)(const struct NAME(factors) *s, const V *a, V *g, const ptrdiff_t p) {
    V squares[4] = {0}, r[SGDM_NARROWEST];
    for (ptrdiff_t i = 0; i < p; i++) {
        r[i] = (V){0} - s->y[i];
        for (ptrdiff_t j = i; j < p; j++) r[i] += a[j] * s->X[i * p + j];
        squares[i] = r[i] * r[i];
    }
    squares[p] = s->y[p] * s->y[p];
    for (ptrdiff_t j = 0; g && j < p; j++) {
        V part[4] = {0};
        for (ptrdiff_t i = 0; i <= j; i++) part[i] = s->X[i * p + j] * r[i];
        g[j] = NAME(sum_by_halves)(part, 4);
    }
    return NAME(sum_by_halves)(squares, 4);
}

/* The same for wider rows. */
SGDM_INLINE FOR_LEVEL V NAME(sums_by_rows)(const struct NAME(factors) *s, const V *a, V *g, const ptrdiff_t p) {
    const ptrdiff_t width = NAME(width_of)(p);
    V squares[8], r[MOST];
    SGDM_UNROLL
    for (int l = 0; l < 8; l++) squares[l] = (V){0};
    for (ptrdiff_t i = 0; i < p; i++) {
        const V *const x = s->X + i * width;
        V lower[4], upper[4]; /* parts 0 to 3, and 4 to 7, each from the diagonal on: there are zeros before */
        SGDM_UNROLL
        for (int l = 0; l < 4; l++) lower[l] = upper[l] = (V){0};
        for (ptrdiff_t j = (i + 4) / 8 * 8; j < width; j += 8)
            SGDM_UNROLL
            for (int l = 0; l < 4; l++) lower[l] += x[j + l] * a[j + l];
        for (ptrdiff_t j = i / 8 * 8 + 4; j < width; j += 8)
            SGDM_UNROLL
            for (int l = 0; l < 4; l++) upper[l] += x[j + l] * a[j + l];
        SGDM_UNROLL
        for (int l = 0; l < 4; l++) lower[l] += upper[l];
        r[i] = NAME(sum_by_halves)(lower, 4) + ((V){0} - s->y[i]);
        squares[i % 8] += r[i] * r[i];
    }
    for (ptrdiff_t j = 0; g && j < width; j += 4) { /* four columns, of which row j + 3 is the last that is not zero */
        V sums[4] = {0};
        for (ptrdiff_t i = 0; i < p && i < j + 4; i++)
            SGDM_UNROLL
            for (int l = 0; l < 4; l++) sums[l] += r[i] * s->X[i * width + j + l];
        SGDM_UNROLL
        for (int l = 0; l < 4; l++) g[j + l] = sums[l];
    }
    squares[p % 8] += s->y[p] * s->y[p];
    return NAME(sum_by_halves)(squares, 8);
}

/* The residuals of one or two rows of a shared X, i and i + 1. They are read in whole groups of eight: there are zeros
 * before the diagonal, and what follows a row meets zeros in a. */
SGDM_INLINE FOR_LEVEL void NAME(shared_residuals)(const struct NAME(factors) *s, const V *a, ptrdiff_t p, ptrdiff_t i,
                                                  const int rows, V *r, V *squares) {
    const double *const x[2] = {s->shared + i * p, s->shared + (i + rows - 1) * p};
    V parts[2][4];
    SGDM_UNROLL
    for (int l = 0; l < 4; l += 2) { /* parts l, l + 1, l + 4 and l + 5 of eight: more don't fit in registers */
        V sums[2][4];
        SGDM_UNROLL
        for (int q = 0; q < rows; q++)
            SGDM_UNROLL
            for (int e = 0; e < 4; e++) sums[q][e] = (V){0};
        for (ptrdiff_t j = i / 8 * 8 + l; j < p; j += 8)
            SGDM_UNROLL
            for (int e = 0; e < 4; e++) {
                const ptrdiff_t at = j + e % 2 + e / 2 * 4;
                V coefficient = a[at];
                SGDM_KEEP_IN_REGISTER(coefficient);
                SGDM_UNROLL
                for (int q = 0; q < rows; q++) sums[q][e] += (x[q][at] - (V){0}) * coefficient;
            }
        SGDM_UNROLL
        for (int q = 0; q < rows; q++)
            SGDM_UNROLL
            for (int e = 0; e < 2; e++) parts[q][l + e] = sums[q][e] + sums[q][e + 2];
    }
    SGDM_UNROLL
    for (int q = 0; q < rows; q++) {
        r[q] = NAME(sum_by_halves)(parts[q], 4) + ((V){0} - s->y[i + q]);
        squares[(i + q) % 8] += r[q] * r[q];
    }
}

/* g += r' times so many rows, from row i on. */
SGDM_INLINE FOR_LEVEL void NAME(add_shared_gradient)(const struct NAME(factors) *s, const V *r, V *g, ptrdiff_t p,
                                                     ptrdiff_t i, const int rows) {
    const double *const x = s->shared + i * p;
    for (ptrdiff_t j = i / 4 * 4; j < p; j++) {
        V sum = g[j];
        SGDM_UNROLL
        for (int q = 0; q < rows; q++) sum += r[q] * x[q * p + j];
        g[j] = sum;
    }
}

static SGDM_NOT_INLINE FOR_LEVEL V NAME(sums_of_shared)(const struct NAME(factors) *s, const V *a, V *g, ptrdiff_t p) {
    V squares[8] = {0}, r[4];
    ptrdiff_t i = 0;
    if (g) memset(g, 0, (size_t)p * sizeof(V));
    for (; i + 4 <= p; i += 4) {
        NAME(shared_residuals)(s, a, p, i, 2, r, squares);
        NAME(shared_residuals)(s, a, p, i + 2, 2, r + 2, squares);
        if (g) NAME(add_shared_gradient)(s, r, g, p, i, 4);
    }
    for (; i < p; i++) {
        NAME(shared_residuals)(s, a, p, i, 1, r, squares);
        if (g) NAME(add_shared_gradient)(s, r, g, p, i, 1);
    }
    squares[p % 8] += s->y[p] * s->y[p];
    return NAME(sum_by_halves)(squares, 8);
}

/* The loss at the parameters, and half of its gradient times the weight into g, unless that is NULL. */
SGDM_INLINE FOR_LEVEL V NAME(loss_of_lanes)(const struct NAME(factors) *s, const V *a, V *g, const ptrdiff_t p) {
    return (p <= SGDM_NARROWEST ? NAME(sums_by_columns)(s, a, g, p)
            : s->shared         ? NAME(sums_of_shared)(s, a, g, p)
                                : NAME(sums_by_rows)(s, a, g, p)) / s->weight;
}

static SGDM_NOT_INLINE FOR_LEVEL V NAME(held_out_loss)(const struct NAME(lanes) *s, ptrdiff_t p) {
    return NAME(loss_of_lanes)(&s->held_out, s->a, NULL, p);
}

/* The parameters after an epoch, from g, which becomes the gradient. */
SGDM_INLINE FOR_LEVEL void NAME(update_lanes)(struct NAME(lanes) *s, const ptrdiff_t p, ptrdiff_t features,
                                              int nesterov) {
    for (ptrdiff_t j = 0; j < p; j++) {
        const V g = s->scale * s->g[j], decay = s->decay * (double)(j < features), u = g + decay * s->a[j];
        V step = s->of_velocity * s->v[j] + s->of_gradient * u;
        s->v[j] = step;
        if (nesterov) step = s->gradient_weight * u + s->momentum * step;
        s->a[j] -= s->lr * step;
        s->g[j] = g;
    }
}

/* The same in standardized coordinates: see `precondition` in descent.pyx, whose order of adding this is. Not for the
 * first epoch. */
static SGDM_NOT_INLINE FOR_LEVEL void NAME(update_preconditioned)(struct NAME(lanes) *s, ptrdiff_t p,
                                                                  ptrdiff_t features, int nesterov) {
    V *const direction = s->direction;
    V sums[4] = {0}, of_intercept = {0};
    for (ptrdiff_t j = 0; j < p; j++) s->g[j] = s->scale * s->g[j];
    if (features < p) of_intercept = s->g[features];
    for (ptrdiff_t j = 0; j < features; j++) {
        const V u = s->g[j] + s->column_decay[j] * s->a[j];
        direction[j] = (u - s->mean[j] * of_intercept) * s->inverse[j] * s->inverse[j];
        sums[j < features / 4 * 4 ? j % 4 : 0] += s->mean[j] * direction[j];
    }
    if (features < p) direction[features] = of_intercept - ((sums[0] + sums[2]) + (sums[1] + sums[3]));
    for (ptrdiff_t j = 0; j < p; j++) {
        V step = s->momentum * s->v[j] + s->gradient_weight * direction[j];
        s->v[j] = step;
        if (nesterov) step = s->gradient_weight * direction[j] + s->momentum * step;
        s->a[j] -= s->lr * step;
    }
}

/* The proximal step of l1: see `update` in update.h, and `shrink` in descent.pyx for standardized coordinates. */
static SGDM_NOT_INLINE FOR_LEVEL void NAME(shrink_lanes)(struct NAME(lanes) *s, ptrdiff_t p, ptrdiff_t features) {
    const V proximal_lr = s->lr * s->gradient_weight / (1.0 - s->momentum);
    const V uniform = s->lr * s->l1 * s->gradient_weight / (1.0 - s->momentum);
    V total = {0};
    for (ptrdiff_t j = 0; j < features; j++) {
        const V before = s->a[j];
        V threshold = uniform;
        if (s->preconditioned) threshold = proximal_lr * s->shrinkage[j] * s->inverse[j] * s->inverse[j];
        SGDM_ROLLED
        for (int l = 0; l < WIDTH; l++) {
            double *const a = (double *)(s->a + j) + l, t = ((const double *)&threshold)[l];
            if (t > 0) *a = *a > t ? *a - t : *a < -t ? *a + t : *a != *a ? *a : 0;
        }
        if (s->preconditioned) total += s->mean[j] * (before - s->a[j]);
    }
    if (s->preconditioned && features < p) s->a[features] += total;
}

/* Copies `count` numbers, whole cache lines of them past the caches: so the lines are not read before. */
static FOR_LEVEL void NAME(copy_past_caches)(const double *from, ptrdiff_t count, double *to) {
    ptrdiff_t j = 0;
    for (; j < count && (size_t)(to + j) % 64; j++) to[j] = from[j];
    for (; j + 8 <= count; j += 8)
        SGDM_UNROLL
        for (int e = 0; e < 8; e += 2) SGDM_COPY_PAST_CACHES(from + j + e, to + j + e);
    for (; j < count; j++) to[j] = from[j];
}

/* Columns of eight lanes, `count` of them, become runs in memory: to[l][at + j] = columns[j][l]. Columns are read in
 * whole eights, and `runs` has room for those. */
static FOR_LEVEL void NAME(spread)(const double *columns, ptrdiff_t count, double *const *to, ptrdiff_t at, double *runs,
                                   int past_caches) {
    const ptrdiff_t length = (count + 7) / 8 * 8;
    for (ptrdiff_t j = 0; j < length; j += 8) {
        const double *from[8];
        double *rows[8];
        for (int l = 0; l < SGDM_FITS; l++) {
            from[l] = columns + (j + l) * 8;
            rows[l] = runs + l * length + j;
        }
        NAME(transpose_tile)(from, rows);
    }
    for (int l = 0; l < SGDM_FITS; l++)
        if (past_caches)
            NAME(copy_past_caches)(runs + l * length, count, to[l] + at);
        else
            memcpy(to[l] + at, runs + l * length, (size_t)count * sizeof(double));
}

/* The reverse: to[j][l] = from[l][at + j]. */
static SGDM_NOT_INLINE FOR_LEVEL void NAME(gather_lanes)(const double *const *from, ptrdiff_t at, ptrdiff_t count,
                                                         V *to) {
    SGDM_ROLLED
    for (ptrdiff_t j = 0; j < count; j++)
        SGDM_ROLLED
        for (int l = 0; l < WIDTH; l++) ((double *)(to + j))[l] = from[l][at + j];
}

static SGDM_NOT_INLINE FOR_LEVEL void NAME(open_factors)(const struct sgdm_factors *f, int fit, ptrdiff_t p,
                                                         struct NAME(factors) *s) {
    const ptrdiff_t width = NAME(width_of)(p);
    s->shared = p > MOST ? f->X[0] : NULL;
    if (!s->shared) memset(s->X, 0, (size_t)(p * width) * sizeof(V));
    for (ptrdiff_t i = 0; i < p && !s->shared; i++)
        NAME(gather_lanes)(f->X + fit, i * p, p, s->X + i * width);
    NAME(gather_lanes)(f->y + fit, 0, p + 1, s->y);
    s->weight = READ(f->weight + fit);
}

static SGDM_NOT_INLINE FOR_LEVEL void NAME(take_rates)(const struct sgdm_fits *f, int fit, ptrdiff_t epoch,
                                                       struct NAME(lanes) *s) {
    V rates[3];
    NAME(gather_lanes)(f->rates + fit, (epoch - f->first) * f->rates_step, 3, rates);
    s->lr = rates[0];
    s->momentum = rates[1];
    s->gradient_weight = rates[2];
    s->of_velocity = (double)(epoch > 0) * rates[1];
    s->of_gradient = (double)(epoch > 0) * rates[2] + (double)(epoch == 0);
}

static SGDM_NOT_INLINE FOR_LEVEL void NAME(open_lanes)(const struct sgdm_fits *f, int fit, struct NAME(lanes) *s) {
    const ptrdiff_t p = f->p, features = f->features;
    const double *const *const columns = f->columns + fit;
    memset(s->a, 0, (size_t)((p + 7) / 8 * 8) * sizeof(V));
    NAME(gather_lanes)((const double *const *)f->a + fit, 0, p, s->a);
    NAME(gather_lanes)((const double *const *)f->v + fit, 0, p, s->v);
    NAME(open_factors)(&f->training, fit, p, &s->training);
    if (f->held_out.X[0]) NAME(open_factors)(&f->held_out, fit, p, &s->held_out);
    s->scale = 2.0 / s->training.weight;
    s->decay = READ(f->decay + fit);
    s->l1 = READ(f->l1 + fit);
    s->preconditioned = f->columns[0] != NULL;
    s->shrinks = 0;
    for (int l = 0; l < WIDTH; l++) s->shrinks |= f->l1[fit + l] > 0;
    s->overflow = (V){0};
    if (!s->preconditioned) return;
    NAME(gather_lanes)(columns, 0, features, s->mean);
    NAME(gather_lanes)(columns, features, features, s->inverse);
    NAME(gather_lanes)(columns, 2 * features, features, s->column_decay);
    NAME(gather_lanes)(columns, 3 * features, features, s->shrinkage);
}

/* Writes where the fits are now, but those that overflowed. Without an epoch, the loss is still to be computed. */
static SGDM_NOT_INLINE FOR_LEVEL void NAME(close_lanes)(struct sgdm_fits *f, int fit, struct NAME(lanes) *s) {
    const ptrdiff_t p = f->p;
    if (f->first == f->last) s->loss = NAME(loss_of_lanes)(&s->training, s->a, NULL, p);
    for (ptrdiff_t j = 0; j < p; j++) s->overflow += s->a[j] * 0.0;
    SGDM_ROLLED
    for (int l = 0; l < WIDTH; l++) {
        if (((double *)&s->overflow)[l] != 0) {
            f->overflowed |= 1 << (fit + l);
            continue;
        }
        f->last_loss[fit + l] = ((double *)&s->loss)[l];
        if (f->first == f->last) continue;
        for (ptrdiff_t j = 0; j < p; j++) f->a[fit + l][j] = ((double *)(s->a + j))[l];
        for (ptrdiff_t j = 0; j < p; j++) f->v[fit + l][j] = ((double *)(s->v + j))[l];
    }
}

/* Sets the objective and the norm of its gradient before the first update; `penalty` and `subgradient_norm` in
 * descent.pyx have the same bits. */
static SGDM_NOT_INLINE FOR_LEVEL void NAME(measure_lanes)(struct sgdm_fits *f, int fit, const struct NAME(lanes) *s) {
    const ptrdiff_t p = f->p;
    SGDM_ROLLED
    for (int l = 0; l < WIDTH; l++) {
        const double scale = ((const double *)&s->scale)[l];
        double penalty = 0, largest = 0, total = 0, u[ROOM];
        for (ptrdiff_t j = 0; j < p; j++) {
            const double aj = ((const double *)(s->a + j))[l], decay = j < f->features ? f->decay[fit + l] : 0;
            penalty += decay / 2 * aj * aj;
            u[j] = scale * ((const double *)(s->g + j))[l] + decay * aj;
            largest = fabs(u[j]) > largest ? fabs(u[j]) : largest;
        }
        const double unit = largest > 0 ? largest : 1;
        for (ptrdiff_t j = f->features; j < p; j++) total += u[j] / unit * (u[j] / unit);
        for (ptrdiff_t j = 0; j < f->features; j++) total += u[j] / unit * (u[j] / unit);
        f->objective[fit + l] = ((const double *)&s->loss)[l] + penalty;
        f->norm[fit + l] = largest * sqrt(total);
    }
}

/* The epochs of eight fits. Histories are written for `most` recorded epochs at a time. */
SGDM_INLINE FOR_LEVEL void NAME(descend_eight)(struct sgdm_fits *f, const ptrdiff_t p) {
    struct NAME(eight) *const SGDM_RESTRICT eight = (void *)(((size_t)f->memory + 63) / 64 * 64);
    struct NAME(lanes) *const s = eight->lanes;
    const ptrdiff_t room = ROOM / p, most = room < EPOCHS ? room : EPOCHS;
    ptrdiff_t waiting = 0; /* recorded epochs that are not written yet */
    f->overflowed = 0;
    for (int h = 0; h < GROUP; h++) NAME(open_lanes)(f, h * WIDTH, s + h);
    for (ptrdiff_t epoch = f->first; epoch < f->last; epoch++) {
        const int recorded = epoch % f->every == 0, whole = recorded && f->paths[0][0];
        SGDM_BY_TWO /* with vectors of 16 bytes, all four would be 26 kB of code, and no faster */
        for (int h = 0; h < GROUP; h++) {
            const ptrdiff_t at = waiting * p * SGDM_FITS + h * WIDTH;
            if (f->rates_step || epoch == f->first || epoch == 1) NAME(take_rates)(f, h * WIDTH, epoch, s + h);
            s[h].loss = NAME(loss_of_lanes)(&s[h].training, s[h].a, s[h].g, p);
            s[h].overflow += s[h].loss * 0.0; /* NaN from an overflow on */
            if (epoch == 0) NAME(measure_lanes)(f, h * WIDTH, s + h);
            for (ptrdiff_t j = 0; whole && j < p; j++) AT(eight->paths[2] + at + j * SGDM_FITS) = s[h].a[j];
            if (s[h].preconditioned)
                NAME(update_preconditioned)(s + h, p, f->features, f->nesterov);
            else
                NAME(update_lanes)(s + h, p, f->features, f->nesterov);
            if (s[h].shrinks) NAME(shrink_lanes)(s + h, p, f->features);
            if (!recorded) continue;
            AT(eight->loss + waiting * SGDM_FITS + h * WIDTH) = s[h].loss;
            if (f->val_loss[0]) AT(eight->val_loss + waiting * SGDM_FITS + h * WIDTH) = NAME(held_out_loss)(s + h, p);
            for (ptrdiff_t j = 0; whole && j < p; j++) {
                AT(eight->paths[0] + at + j * SGDM_FITS) = s[h].g[j];
                AT(eight->paths[1] + at + j * SGDM_FITS) = s[h].v[j];
            }
        }
        waiting += recorded;
        if (waiting == most || (waiting && epoch + 1 == f->last)) {
            const ptrdiff_t row = epoch / f->every + 1 - waiting;
            if (f->loss[0]) NAME(spread)(eight->loss, waiting, f->loss, row, eight->runs, f->past_caches);
            if (f->val_loss[0]) NAME(spread)(eight->val_loss, waiting, f->val_loss, row, eight->runs, f->past_caches);
            for (int part = 0; f->paths[0][0] && part < 3; part++)
                NAME(spread)(eight->paths[part], waiting * p, f->paths[part], row * p, eight->runs, f->past_caches);
            waiting = 0;
        }
    }
    for (int h = 0; h < GROUP; h++) NAME(close_lanes)(f, h * WIDTH, s + h);
    if (f->past_caches) SGDM_FENCE();
}

_Static_assert(sizeof(struct NAME(eight)) + 63 <= SGDM_LANES_BYTES, "eight fits must have room to work in");

extern sgdm_descend_lanes NAME(descend_lanes);

FOR_LEVEL void NAME(descend_lanes)(struct sgdm_fits *f) {
    switch (f->p) { /* a constant number, so that parameters stay in registers */
    case 1: NAME(descend_eight)(f, 1); break;
    case 2: NAME(descend_eight)(f, 2); break;
    case 3: NAME(descend_eight)(f, 3); break;
    default: NAME(descend_eight)(f, f->p);
    }
}
#undef EPOCHS
