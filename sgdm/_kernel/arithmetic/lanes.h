/* Epochs of eight reduced fits at once, a fit in each lane. Part of template.h, for double.
 *
 * What runs in every epoch is inlined for each small number of parameters, so that they stay in registers. The rest is
 * compiled once.
 *
 * Every number has the bits of `sums` and `update` for the fit alone: its sums are added in the same order. The rows of
 * a fit are the p + 1 rows of a triangular factor, of p columns.
 */
#define MOST SGDM_MOST_PARAMETERS

struct NAME(lanes) {
    V X[(MOST + 1) * MOST], y[MOST + 1]; /* row i has its numbers from i * width on, and zeros up to `width` */
    V a[MOST], v[MOST], g[MOST];         /* zeros from p on */
    V weight, lr, momentum, gradient_weight, decay, loss, overflow;
};

/* How long a row is. Rows of up to three numbers are summed as columns are: see `transposed` in levels.c. Others are in
 * groups of four. */
SGDM_INLINE ptrdiff_t NAME(width_of)(const ptrdiff_t p) { return p <= SGDM_NARROWEST ? p : (p + 3) / 4 * 4; }

/* The sum of `lanes` lanes, by halves. */
SGDM_INLINE FOR_LEVEL V NAME(sum_by_halves)(V *lane, const int lanes) {
    SGDM_UNROLL
    for (int half = lanes / 2; half >= 1; half /= 2)
        SGDM_UNROLL
        for (int l = 0; l < half; l++) lane[l] += lane[l + half];
    return lane[0];
}

SGDM_INLINE FOR_LEVEL V NAME(epoch_of_columns)(struct NAME(lanes) *s, const ptrdiff_t p) {
    V squares[4] = {0}, r[SGDM_NARROWEST + 1];
    for (ptrdiff_t i = 0; i <= p; i++) {
        r[i] = (V){0} - s->y[i];
        for (ptrdiff_t j = 0; j < p; j++) r[i] += s->a[j] * s->X[i * p + j];
        squares[i] = r[i] * r[i];
    }
    for (ptrdiff_t j = 0; j < p; j++) {
        V lane[4] = {0};
        for (ptrdiff_t i = 0; i <= p; i++) lane[i] = s->X[i * p + j] * r[i];
        s->g[j] = NAME(sum_by_halves)(lane, 4);
    }
    return NAME(sum_by_halves)(squares, 4);
}

SGDM_INLINE FOR_LEVEL V NAME(epoch_of_rows)(struct NAME(lanes) *s, const ptrdiff_t p) {
    const ptrdiff_t width = NAME(width_of)(p);
    V squares[8];
    SGDM_UNROLL
    for (int l = 0; l < 8; l++) squares[l] = (V){0};
    for (ptrdiff_t i = 0; i <= p; i++) {
        const V *const x = s->X + i * width, *const a = s->a;
        const ptrdiff_t first = i / 4 * 4; /* there are zeros before */
        V lower[4], upper[4];              /* lanes 0 to 3, and 4 to 7 */
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
        const V r = NAME(sum_by_halves)(lower, 4) + ((V){0} - s->y[i]);
        for (ptrdiff_t j = first; j < width; j += 4)
            SGDM_UNROLL
            for (int l = 0; l < 4; l++) s->g[j + l] = (i ? s->g[j + l] : (V){0}) + r * x[j + l];
        squares[i % 8] += r * r;
    }
    return NAME(sum_by_halves)(squares, 8);
}

/* One epoch: the loss is returned, and g is set. */
SGDM_INLINE FOR_LEVEL V NAME(epoch_of_lanes)(struct NAME(lanes) *s, const ptrdiff_t p) {
    return (p <= SGDM_NARROWEST ? NAME(epoch_of_columns)(s, p) : NAME(epoch_of_rows)(s, p)) / s->weight;
}

/* The parameters after an epoch, from g, which becomes the gradient. first: the velocity becomes it, undamped. */
SGDM_INLINE FOR_LEVEL void NAME(update_lanes)(struct NAME(lanes) *s, const ptrdiff_t p, ptrdiff_t features, int nesterov,
                                              int first) {
    const V scale = 2.0 / s->weight, of_velocity = s->momentum * (double)!first;
    const V of_gradient = s->gradient_weight * (double)!first + (double)first;
    for (ptrdiff_t j = 0; j < p; j++) {
        const V g = scale * s->g[j], weight_decay = s->decay * (double)(j < features), u = g + weight_decay * s->a[j];
        V step = of_velocity * s->v[j] + of_gradient * u;
        s->v[j] = step;
        if (nesterov) step = s->gradient_weight * u + s->momentum * step;
        s->a[j] -= s->lr * step;
        s->g[j] = g;
    }
}

/* Columns of eight lanes, `count` of them, become runs in memory: to[l][at + j] = columns[j][l]. The next run of each is
 * prefetched: an epoch with its history takes a fifth less time so (Xeon). */
static FOR_LEVEL void NAME(spread)(const double *columns, ptrdiff_t count, double *const *to, ptrdiff_t at) {
    const double *from[8];
    double *runs[8];
    for (ptrdiff_t j = 0; j + 8 <= count; j += 8) {
        for (int l = 0; l < SGDM_FITS; l++) {
            from[l] = columns + (j + l) * 8;
            runs[l] = to[l] + at + j;
            SGDM_PREFETCH(runs[l] + count + 8);
        }
        NAME(transpose_tile)(from, runs);
    }
    for (ptrdiff_t j = count / 8 * 8; j < count; j++)
        for (int l = 0; l < SGDM_FITS; l++) to[l][at + j] = columns[j * 8 + l];
}

static SGDM_NOT_INLINE FOR_LEVEL void NAME(gather_lanes)(double *const *from, ptrdiff_t at, ptrdiff_t count, V *to) {
    SGDM_ROLLED
    for (ptrdiff_t j = 0; j < count; j++)
        SGDM_ROLLED
        for (int l = 0; l < WIDTH; l++) ((double *)(to + j))[l] = from[l][at + j];
}

static SGDM_NOT_INLINE FOR_LEVEL void NAME(open_lanes)(const struct sgdm_fits *f, int fit, struct NAME(lanes) *s) {
    const ptrdiff_t p = f->p, width = NAME(width_of)(p);
    memset(s->X, 0, (size_t)((p + 1) * width) * sizeof(V));
    memset(s->a, 0, (size_t)width * sizeof(V));
    for (ptrdiff_t i = 0; i <= p; i++) NAME(gather_lanes)((double *const *)f->X + fit, i * p, p, s->X + i * width);
    NAME(gather_lanes)((double *const *)f->y + fit, 0, p + 1, s->y);
    NAME(gather_lanes)(f->a + fit, 0, p, s->a);
    NAME(gather_lanes)(f->v + fit, 0, p, s->v);
    s->lr = READ(f->rates[0] + fit);
    s->momentum = READ(f->rates[1] + fit);
    s->gradient_weight = READ(f->rates[2] + fit);
    s->weight = READ(f->weight + fit);
    s->decay = READ(f->decay + fit);
    s->overflow = (V){0};
}

/* Writes where the fits are now, but those that overflowed. Without an epoch, the loss is still to be computed. */
static SGDM_NOT_INLINE FOR_LEVEL void NAME(close_lanes)(struct sgdm_fits *f, int fit, struct NAME(lanes) *s) {
    const ptrdiff_t p = f->p;
    if (f->first == f->last) s->loss = NAME(epoch_of_lanes)(s, p);
    for (ptrdiff_t j = 0; j < p; j++) s->overflow += s->a[j] * 0.0;
    SGDM_ROLLED
    for (int l = 0; l < WIDTH; l++) {
        if (((double *)&s->overflow)[l] != 0) {
            f->overflowed |= 1 << (fit + l);
            continue;
        }
        for (ptrdiff_t j = 0; j < p; j++) f->a[fit + l][j] = ((double *)(s->a + j))[l];
        for (ptrdiff_t j = 0; j < p; j++) f->v[fit + l][j] = ((double *)(s->v + j))[l];
        f->last_loss[fit + l] = ((double *)&s->loss)[l];
    }
}

/* Sets the objective and the norm of its gradient, at the parameters `a` where the gradient is g; `penalty` and
 * `subgradient_norm` in descent.pyx have the same bits. */
static SGDM_NOT_INLINE FOR_LEVEL void NAME(measure_lanes)(struct sgdm_fits *f, int fit, const struct NAME(lanes) *s,
                                                          const V *a) {
    const ptrdiff_t p = f->p;
    SGDM_ROLLED
    for (int l = 0; l < WIDTH; l++) {
        double penalty = 0, largest = 0, total = 0, u[MOST] = {0};
        for (ptrdiff_t j = 0; j < p; j++) {
            const double aj = ((const double *)(a + j))[l], decay = j < f->features ? f->decay[fit + l] : 0;
            penalty += decay / 2 * aj * aj;
            u[j] = ((const double *)(s->g + j))[l] + decay * aj;
            largest = fabs(u[j]) > largest ? fabs(u[j]) : largest;
        }
        const double unit = largest > 0 ? largest : 1;
        for (ptrdiff_t j = f->features; j < p; j++) total += u[j] / unit * (u[j] / unit);
        for (ptrdiff_t j = 0; j < f->features; j++) total += u[j] / unit * (u[j] / unit);
        f->objective[fit + l] = ((const double *)&s->loss)[l] + penalty;
        f->norm[fit + l] = largest * sqrt(total);
    }
}

/* The epochs of eight fits. Histories are written for up to eight recorded epochs at a time. */
SGDM_INLINE FOR_LEVEL void NAME(descend_eight)(struct sgdm_fits *f, const ptrdiff_t p) {
    struct NAME(lanes) s[GROUP];
    double loss[TILE], paths[3][TILE * MOST];
    ptrdiff_t waiting = 0; /* recorded epochs that are not written */
    f->overflowed = 0;
    for (int h = 0; h < GROUP; h++) NAME(open_lanes)(f, h * WIDTH, s + h);
    for (ptrdiff_t epoch = f->first; epoch < f->last; epoch++) {
        const int recorded = f->loss[0] && epoch % f->every == 0;
        SGDM_BY_TWO /* with vectors of 16 bytes, all four would be 26 kB of code, and no faster */
        for (int h = 0; h < GROUP; h++) {
            V before[MOST];
            const ptrdiff_t at = waiting * p * 8 + h * WIDTH;
            s[h].loss = NAME(epoch_of_lanes)(s + h, p);
            s[h].overflow += s[h].loss * 0.0; /* NaN from an overflow on */
            for (ptrdiff_t j = 0; j < p; j++) before[j] = s[h].a[j];
            NAME(update_lanes)(s + h, p, f->features, f->nesterov, epoch == 0);
            if (epoch == 0) NAME(measure_lanes)(f, h * WIDTH, s + h, before);
            if (!recorded) continue;
            AT(loss + waiting * 8 + h * WIDTH) = s[h].loss;
            if (!f->paths[0][0]) continue;
            for (ptrdiff_t j = 0; j < p; j++) {
                AT(paths[0] + at + j * 8) = s[h].g[j];
                AT(paths[1] + at + j * 8) = s[h].v[j];
                AT(paths[2] + at + j * 8) = before[j];
            }
        }
        waiting += recorded;
        if (waiting == 8 || (waiting && epoch + 1 == f->last)) {
            const ptrdiff_t row = epoch / f->every + 1 - waiting;
            NAME(spread)(loss, waiting, f->loss, row);
            for (int part = 0; f->paths[0][0] && part < 3; part++)
                NAME(spread)(paths[part], waiting * p, f->paths[part], row * p);
            waiting = 0;
        }
    }
    for (int h = 0; h < GROUP; h++) NAME(close_lanes)(f, h * WIDTH, s + h);
}

extern sgdm_descend_lanes NAME(descend_lanes);

FOR_LEVEL void NAME(descend_lanes)(struct sgdm_fits *f) {
    switch (f->p) { /* a constant number, so that parameters stay in registers */
    case 1: NAME(descend_eight)(f, 1); break;
    case 2: NAME(descend_eight)(f, 2); break;
    case 3: NAME(descend_eight)(f, 3); break;
    default: NAME(descend_eight)(f, f->p);
    }
}
