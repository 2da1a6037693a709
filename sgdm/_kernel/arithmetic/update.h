/* The momentum update. Part of template.h. */

/* One update of `length` parameters a and their velocity v:
 *
 *     u = g + weight_decay a
 *     v = momentum v + (1 - dampening) u                  v = u in the first update
 *     a = a - lr v                                        or with nesterov a - lr ((1 - dampening) u + momentum v)
 *     a = sign(a) max(|a| - threshold, 0)                 the proximal step of l1; NaN passes it
 *
 * The arithmetic is in double, and each result is rounded once. g = scale * grad is left for the record. */
static FOR_LEVEL void NAME(update)(const struct sgdm_update *s, ptrdiff_t length, double scale, const double *grad,
                                   REAL *SGDM_RESTRICT a, REAL *SGDM_RESTRICT v, REAL *SGDM_RESTRICT g) {
    const double lr = s->lr, momentum = s->momentum, gradient_weight = s->gradient_weight;
    const double weight_decay = s->weight_decay, threshold = s->threshold;
    const double of_velocity = s->first ? 0 : momentum, of_gradient = s->first ? 1 : gradient_weight;
    for (ptrdiff_t j = 0; j < length; j++) {
        const double gj = scale * grad[j], u = gj + weight_decay * a[j], vj = of_velocity * v[j] + of_gradient * u;
        double aj = a[j] - lr * (s->nesterov ? gradient_weight * u + momentum * vj : vj);
        if (threshold > 0) aj = aj > threshold ? aj - threshold : aj < -threshold ? aj + threshold : aj != aj ? aj : 0;
        g[j] = (REAL)gj;
        v[j] = (REAL)vj;
        a[j] = (REAL)aj;
    }
}
