/* Epochs of eight reduced fits at once, a fit in each lane. Part of template.h, for double.
 *
 * Every number has the bits of `sums` and `update` for the fit alone: its sums are added in the same order. The rows of
 * a fit are the p + 1 rows of a triangular factor, of p columns.
 */
#define MOST SGDM_MOST_PARAMETERS

struct NAME(lanes) {
    V X[(MOST + 1) * MOST], y[MOST + 1]; /* row i has its numbers from i * p on */
    V a[MOST], v[MOST], g[MOST];
    V weight, lr, momentum, gradient_weight, decay, overflow;
};

/* The sum of `lanes` lanes, by halves. */
SGDM_INLINE FOR_LEVEL V NAME(sum_by_halves)(V *lane, const int lanes) {
    SGDM_UNROLL
    for (int half = lanes / 2; half >= 1; half /= 2)
        SGDM_UNROLL
        for (int l = 0; l < half; l++) lane[l] += lane[l + half];
    return lane[0];
}

/* One epoch: the loss is returned, and g is set. Rows of up to three numbers are summed as columns are: see
 * `transposed` in levels.c. */
SGDM_INLINE FOR_LEVEL V NAME(epoch_of_lanes)(struct NAME(lanes) *s, const ptrdiff_t p) {
    V squares[8] = {0}, r[MOST + 1];
    const int by_columns = p <= SGDM_NARROWEST;
    for (ptrdiff_t j = 0; j < p; j++) s->g[j] = (V){0};
    for (ptrdiff_t i = 0; i <= p; i++) {
        const V *const x = s->X + i * p;
        if (by_columns) {
            r[i] = (V){0} - s->y[i];
            for (ptrdiff_t j = 0; j < p; j++) r[i] += s->a[j] * x[j];
        } else {
            V lane[8] = {0};
            for (ptrdiff_t j = i; j < p; j++) lane[j % 8] += x[j] * s->a[j]; /* there are zeros before */
            r[i] = NAME(sum_by_halves)(lane, 8) + ((V){0} - s->y[i]);
            for (ptrdiff_t j = i; j < p; j++) s->g[j] += r[i] * x[j];
        }
        squares[i % 8] += r[i] * r[i];
    }
    if (by_columns)
        for (ptrdiff_t j = 0; j < p; j++) {
            V lane[4] = {0};
            for (ptrdiff_t i = 0; i <= p; i++) lane[i] = s->X[i * p + j] * r[i];
            s->g[j] = NAME(sum_by_halves)(lane, 4);
        }
    return NAME(sum_by_halves)(squares, 8) / s->weight;
}

/* The parameters after an epoch, from g, which becomes the gradient. */
SGDM_INLINE FOR_LEVEL void NAME(update_lanes)(struct NAME(lanes) *s, const ptrdiff_t p, ptrdiff_t features, int nesterov) {
    const V scale = 2.0 / s->weight;
    for (ptrdiff_t j = 0; j < p; j++) {
        const V g = scale * s->g[j], weight_decay = s->decay * (double)(j < features), u = g + weight_decay * s->a[j];
        V step = s->momentum * s->v[j] + s->gradient_weight * u;
        s->v[j] = step;
        if (nesterov) step = s->gradient_weight * u + s->momentum * step;
        s->a[j] -= s->lr * step;
        s->g[j] = g;
    }
}

/* to[l][at + j] = from[j][l] for the fits from `fit` on. */
SGDM_INLINE FOR_LEVEL void NAME(spread)(const V *from, const ptrdiff_t count, double *const *to, ptrdiff_t at) {
    for (ptrdiff_t j = 0; j < count; j++)
        SGDM_UNROLL
        for (int l = 0; l < WIDTH; l++) to[l][at + j] = ((const double *)(from + j))[l];
}

SGDM_INLINE FOR_LEVEL void NAME(gather_lanes)(double *const *from, ptrdiff_t count, V *to) {
    for (ptrdiff_t j = 0; j < count; j++)
        for (int l = 0; l < WIDTH; l++) ((double *)(to + j))[l] = from[l][j];
}

/* The epochs of WIDTH fits. Returns which of them overflowed, as bits; their parameters are left as they were. */
SGDM_INLINE FOR_LEVEL int NAME(descend_width)(struct sgdm_fits *f, const ptrdiff_t p, int fit) {
    struct NAME(lanes) s;
    V constants[3];
    int overflowed = 0;
    NAME(gather_lanes)((double *const *)f->X + fit, (p + 1) * p, s.X);
    NAME(gather_lanes)((double *const *)f->y + fit, p + 1, s.y);
    NAME(gather_lanes)(f->a + fit, p, s.a);
    NAME(gather_lanes)(f->v + fit, p, s.v);
    NAME(gather_lanes)((double *const *)f->rates + fit, 3, constants);
    s.lr = constants[0];
    s.momentum = constants[1];
    s.gradient_weight = constants[2];
    s.weight = READ(f->weight + fit);
    s.decay = READ(f->decay + fit);
    s.overflow = (V){0};
    V loss = (V){0};
    for (ptrdiff_t epoch = f->first; epoch < f->last; epoch++) {
        V before[MOST];
        const ptrdiff_t row = epoch / f->every;
        const int recorded = f->loss[fit] && epoch % f->every == 0;
        loss = NAME(epoch_of_lanes)(&s, p);
        s.overflow += loss * 0.0; /* NaN from an overflow on */
        for (ptrdiff_t j = 0; j < p; j++) before[j] = s.a[j];
        NAME(update_lanes)(&s, p, f->features, f->nesterov);
        if (!recorded) continue;
        NAME(spread)(&loss, 1, f->loss + fit, row);
        if (!f->paths[0][fit]) continue;
        NAME(spread)(s.g, p, f->paths[0] + fit, row * p);
        NAME(spread)(s.v, p, f->paths[1] + fit, row * p);
        NAME(spread)(before, p, f->paths[2] + fit, row * p);
    }
    for (ptrdiff_t j = 0; j < p; j++) s.overflow += s.a[j] * 0.0;
    for (int l = 0; l < WIDTH; l++) {
        if (((double *)&s.overflow)[l] != 0) {
            overflowed |= 1 << (fit + l);
            continue;
        }
        for (ptrdiff_t j = 0; j < p; j++) f->a[fit + l][j] = ((double *)(s.a + j))[l];
        for (ptrdiff_t j = 0; j < p; j++) f->v[fit + l][j] = ((double *)(s.v + j))[l];
        f->last_loss[fit + l] = ((double *)&loss)[l];
    }
    return overflowed;
}

extern sgdm_descend_lanes NAME(descend_lanes);

FOR_LEVEL int NAME(descend_lanes)(struct sgdm_fits *f) {
    int overflowed = 0;
    for (int fit = 0; fit < SGDM_FITS; fit += WIDTH) {
#define FITS(p) \
    case p: overflowed |= NAME(descend_width)(f, p, fit); break;
        switch (f->p) { /* a constant number, so that parameters stay in registers */
            FITS(1) FITS(2) FITS(3)
        default: overflowed |= NAME(descend_width)(f, f->p, fit);
        }
#undef FITS
    }
    return overflowed;
}
#undef MOST
