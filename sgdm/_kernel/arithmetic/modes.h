/* Descents along the eigenvectors of a Hessian, after any number of epochs. Part of template.h, for double.
 *
 * Along an eigenvector of curvature s a descent has two numbers, the distance x and y = lr * velocity. The gradient is
 * h + s x: h is 1 for the distance from the start, and 0 for that from the optimum. The first epoch is done by itself,
 * for its velocity is the whole gradient. Each later one takes (x, y) to M (x, y) + (f, g), with a 2 x 2 matrix M. The
 * squares of M do 2, 4, 8, ... epochs at once, each with its own f and g, and some of these make any number of epochs. */

/* The distances x of descent i, along eight eigenvectors. */
SGDM_INLINE FOR_LEVEL void NAME(follow)(const struct sgdm_modes *o, ptrdiff_t i, const double *curvature, V *x) {
    const double lr = o->lr[i], momentum = o->momentum[i], of_gradient = lr * o->gradient_weight[i];
    /* How far a step goes for 1 of y, of the gradient, and of the gradient in the first epoch. */
    const double of_y = o->nesterov ? momentum : 1, pull = of_gradient * (o->nesterov ? 1 + momentum : 1);
    const double first = lr * (o->nesterov ? o->gradient_weight[i] + momentum : 1);
    const V zero = {0}, h = zero + (o->from_start ? 1.0 : 0.0);
    V y[GROUP], a[GROUP], b[GROUP], c[GROUP], d[GROUP], f[GROUP], g[GROUP];
    SGDM_UNROLL
    for (int v = 0; v < GROUP; v++) {
        const V s = READ(curvature + v * WIDTH), u = h + s * (1 - h);
        x[v] = 1 - h;
        if (o->epochs[i] > 0) x[v] -= first * u;
        y[v] = lr * u;
        a[v] = 1 - pull * s;
        b[v] = zero - momentum * of_y;
        c[v] = of_gradient * s;
        d[v] = zero + momentum;
        f[v] = -pull * h;
        g[v] = of_gradient * h;
    }
    for (long long left = o->epochs[i] - 1; left > 0; left >>= 1) {
        SGDM_UNROLL
        for (int v = 0; v < GROUP; v++) {
            if (left & 1) {
                const V moved = a[v] * x[v] + b[v] * y[v] + f[v];
                y[v] = c[v] * x[v] + d[v] * y[v] + g[v];
                x[v] = moved;
            }
            if (o->from_start) {
                const V moved = a[v] * f[v] + b[v] * g[v] + f[v];
                g[v] += c[v] * f[v] + d[v] * g[v];
                f[v] = moved;
            }
            const V bc = b[v] * c[v], trace = a[v] + d[v];
            a[v] = a[v] * a[v] + bc;
            b[v] *= trace;
            c[v] *= trace;
            d[v] = d[v] * d[v] + bc;
        }
    }
}

extern sgdm_follow_modes NAME(follow_modes);

FOR_LEVEL void NAME(follow_modes)(const struct sgdm_modes *o) {
    for (ptrdiff_t i = 0; i < o->n; i++) {
        V total[1][GROUP] = {0};
        for (ptrdiff_t j = 0; j < o->p; j += 8) {
            V x[GROUP];
            NAME(follow)(o, i, o->curvature + j, x);
            for (int v = 0; v < GROUP; v++) {
                const ptrdiff_t at = j + v * WIDTH;
                if (o->distance) AT(o->distance + i * o->p + at) = x[v];
                if (o->sums) total[0][v] += READ(o->weights + at) * x[v] * x[v];
            }
        }
        if (o->sums) NAME(sum_lanes)(1, total, o->sums + i);
    }
}
