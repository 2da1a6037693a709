/* The triangular factor of many well-conditioned rows, by their Gram matrix. Part of template.h, for double.
 *
 * Let Z = [X, e, Y], each row times the root of its weight; e holds the roots. The factor of the first rows gives the
 * means m and the regression B of Y on the columns X - e m. Then C = [X - e m, e, Y - e m - (X - e m) B] has Z = C T, with
 * T known. The Gram matrix C'C takes half of the operations of reflections. With its Cholesky factor, C'C = U'U, the rows
 * U T are joined to R.
 *
 * Why this is as accurate as reflections. Let S be C with its columns scaled to length 1, and W its triangular factor. In
 * these units rounding makes U the factor of S'S + E, with E of some eps. With F = S inv(S'S) E / 2, (S + F)'(S + F) is
 * S'S + E to first order. So U is the factor of S + F, and the columns of F are at most |inv(W)| |E| / 2 long. And as
 * |inv(W)| is small, no term of Z = C T is many times as long as its column of Z, so rounding the terms changes Z by some
 * eps. Two gates bound the Frobenius norm of inv(W), whose square is the number of columns if they are orthogonal. The
 * first one looks at the first rows, before the Gram matrix is computed. So few rows make the square up to twice as
 * large. The second one looks at all rows. Other rows are reflected. All decisions, and the bits, depend on the rows
 * alone. */

#define SIDE (8 / GROUP) /* columns whose products with eight others are in registers */

/* The square of the Frobenius norm of inv(W). W: columns `first` to q - 1 of the triangular U, from row `first` on, scaled
 * to length 1. inverse: room for q rows. */
static FOR_LEVEL double NAME(norm_of_inverse)(const double *U, ptrdiff_t stride, ptrdiff_t first, ptrdiff_t q,
                                              double *lengths, double *inverse) {
    double total = 0;
    for (ptrdiff_t j = first; j < q; j++) {
        double square = 0;
        for (ptrdiff_t i = first; i <= j; i++) square += U[i * stride + j] * U[i * stride + j];
        lengths[j] = sqrt(square);
    }
    for (ptrdiff_t i = q - 1; i >= first; i--) {
        double *const SGDM_RESTRICT row = inverse + i * stride;
        memset(row, 0, (size_t)stride * sizeof(double));
        for (ptrdiff_t k = i + 1; k < q; k++) {
            const double factor = U[i * stride + k] / lengths[k], *const lower = inverse + k * stride;
            for (ptrdiff_t j = k / 8 * 8; j < stride; j++) row[j] -= factor * lower[j];
        }
        const double factor = lengths[i] / U[i * stride + i];
        row[i] = 1;
        for (ptrdiff_t j = i; j < q; j++) {
            row[j] *= factor;
            total += row[j] * row[j];
        }
    }
    return total;
}

/* Turns the strips of a block of Z into those of C. means (stride,) are 0 for e and the padding. B (k, stride) is 0 from
 * column y - 1, that of e, on. Y begins in column y. */
static FOR_LEVEL void NAME(centre_block)(double *strips, ptrdiff_t tiles, ptrdiff_t stride, const double *means,
                                         const double *B, ptrdiff_t y, ptrdiff_t k) {
    const ptrdiff_t strip = tiles * TILE;
    for (ptrdiff_t row = 0; row < tiles * 64; row += 32) { /* four rows of eight numbers */
        double *const rows = strips + row, *const ones = rows + (y - 1) / 8 * strip + (y - 1) % 8;
        const double e[4] = {ones[0], ones[8], ones[16], ones[24]};
        for (ptrdiff_t j = 0; j < stride; j += 8)
            for (int l = 0; l < 4; l++)
                SGDM_UNROLL
                for (int h = 0; h < GROUP; h++) {
                    double *const z = rows + j / 8 * strip + l * 8 + h * WIDTH;
                    AT(z) = READ(z) - e[l] * READ(means + j + h * WIDTH);
                }
        for (ptrdiff_t t = 0; t < k; t++) {
            V sums[4][GROUP] = {0};
            double dots[4];
            for (ptrdiff_t j = 0; j < y; j += 8)
                SGDM_UNROLL
                for (int l = 0; l < 4; l++)
                    SGDM_UNROLL
                    for (int h = 0; h < GROUP; h++)
                        sums[l][h] += READ(rows + j / 8 * strip + l * 8 + h * WIDTH) * READ(B + t * stride + j + h * WIDTH);
            NAME(sum_lanes)(4, sums, dots);
            for (int l = 0; l < 4; l++) rows[(y + t) / 8 * strip + l * 8 + (y + t) % 8] -= dots[l];
        }
    }
}

/* G += the products of eight columns a with eight columns b of a block. */
static SGDM_NOT_INLINE FOR_LEVEL void NAME(add_products)(const double *a, const double *b, ptrdiff_t tiles, double *G,
                                                         ptrdiff_t stride, struct NAME(ahead) *ahead) {
    for (int i = 0; i < 8; i += SIDE) {
        V sums[SIDE][GROUP];
        SGDM_UNROLL
        for (int l = 0; l < SIDE; l++)
            SGDM_UNROLL
            for (int h = 0; h < GROUP; h++) sums[l][h] = (V){0};
        for (ptrdiff_t tile = 0; tile < tiles * TILE; tile += TILE) {
            NAME(prefetch)(ahead, 4);
            SGDM_ROLLED
            for (ptrdiff_t row = tile; row < tile + TILE; row += 8)
                SGDM_UNROLL
                for (int h = 0; h < GROUP; h++) {
                    const V z = READ(b + row + h * WIDTH);
                    SGDM_UNROLL
                    for (int l = 0; l < SIDE; l++) sums[l][h] += a[row + i + l] * z;
                }
        }
        SGDM_UNROLL
        for (int l = 0; l < SIDE; l++)
            SGDM_UNROLL
            for (int h = 0; h < GROUP; h++) AT(G + (i + l) * stride + h * WIDTH) += sums[l][h];
    }
}

/* The Cholesky factor of G, with rows and columns divided by the lengths: G_ij = (U'U)_ij lengths_i lengths_j. U takes the
 * place of G's upper triangle, with zeros below. It has NaN if G is not positive. */
static FOR_LEVEL void NAME(factor_gram)(double *G, ptrdiff_t stride, ptrdiff_t q, double *lengths) {
    for (ptrdiff_t j = 0; j < q; j++) lengths[j] = sqrt(G[j * stride + j]);
    for (ptrdiff_t i = 0; i < q; i++) {
        double *const SGDM_RESTRICT row = G + i * stride;
        for (ptrdiff_t j = 0; j < q; j++) row[j] = j < i ? 0 : row[j] / (lengths[i] * lengths[j]);
        for (ptrdiff_t k = 0; k < i; k++) {
            const double factor = G[k * stride + i], *const upper = G + k * stride;
            for (ptrdiff_t j = i; j < q; j++) row[j] -= factor * upper[j];
        }
        const double pivot = sqrt(row[i]);
        for (ptrdiff_t j = i; j < q; j++) row[j] /= pivot;
    }
}

/* R becomes the factor of its own rows and of n rows [X, 1, Y], if these are wide, many and well-conditioned. Returns
 * whether they are, or -1 if there is no memory. */
static FOR_LEVEL int NAME(add_by_gram)(const struct sgdm_array *X, int intercept, const struct sgdm_array *Y,
                                       const double *roots, ptrdiff_t n, double *R, ptrdiff_t stride,
                                       struct NAME(work) *work) {
    const ptrdiff_t d = X->columns, k = Y->columns, y = d + 1, q = y + k, wide = (q + 7) / 8 * 8, square = wide * wide;
    const ptrdiff_t twice = 2 * (d + intercept + k + 1), first_rows = twice < 256 ? 256 : twice;
    if (d <= SGDM_MOST_PARAMETERS || n < 8 * first_rows) return 0;
    const struct sgdm_array ones = {.data = &(const double){1}, .columns = 1};
    const struct NAME(augmented) ones_first = {{&ones, X, Y}, roots, first_rows, q}, z = {{X, &ones, Y}, roots, n, q};
    double *const memory = calloc((size_t)(3 * square + (k + 3) * wide), sizeof(double));
    if (!memory) return -1;
    double *const first = memory, *const G = first + square, *const inverse = G + square, *const means = inverse + square;
    double *const lengths = means + wide, *const scales = lengths + wide, *const B = scales + wide;
    NAME(reflect_rows)(&ones_first, 0, first, wide, work);
    const double most = (double)(2 * q + 50); /* NaN is not below it */
    int done = NAME(norm_of_inverse)(first, wide, 1, y, lengths, inverse) <= 2 * most;
    if (done) {
        for (ptrdiff_t j = 0; j < d; j++) means[j] = first[j + 1] / first[0];
        for (ptrdiff_t t = 0; t < k; t++) {
            means[y + t] = first[y + t] / first[0];
            for (ptrdiff_t j = d - 1; j >= 0; j--) {
                const double *const row = first + (j + 1) * wide;
                double rest = row[y + t];
                for (ptrdiff_t l = j + 1; l < d; l++) rest -= row[l + 1] * B[t * wide + l];
                B[t * wide + j] = rest / row[j + 1];
            }
        }
        for (ptrdiff_t start = 0; start < n; start += SGDM_FACTOR_ROWS) {
            const ptrdiff_t b = n - start < SGDM_FACTOR_ROWS ? n - start : SGDM_FACTOR_ROWS, tiles = (b + 7) / 8;
            double *const strips = work->strips;
            work->ahead = NAME(next_block)(&z, start, b);
            for (ptrdiff_t j = 0; j < wide; j += 8) NAME(copy_strip)(&z, start, b, j, 1, strips + j * tiles * 8);
            NAME(centre_block)(strips, tiles, wide, means, B, y, k);
            for (ptrdiff_t i = 0; i < wide; i += 8)
                for (ptrdiff_t j = i; j < wide; j += 8)
                    NAME(add_products)(strips + i * tiles * 8, strips + j * tiles * 8, tiles, G + i * wide + j, wide,
                                       &work->ahead);
        }
        NAME(factor_gram)(G, wide, q, scales);
        done = NAME(norm_of_inverse)(G, wide, 0, q, lengths, inverse) <= most;
    }
    if (done) {
        for (ptrdiff_t i = 0; i < q; i++) { /* the rows U T */
            double *const row = G + i * wide;
            for (ptrdiff_t j = i; j < q; j++) row[j] *= scales[j];
            for (ptrdiff_t t = 0; t < k; t++)
                for (ptrdiff_t j = i; j < d; j++) row[y + t] += row[j] * B[t * wide + j];
            for (ptrdiff_t j = 0; j < q; j++) row[j] += row[d] * means[j];
        }
        const ptrdiff_t size = sizeof(double);
        const struct sgdm_array of_X = {G, d, wide * size, size, 0}, of_ones = {G + d, intercept, wide * size, size, 0};
        const struct sgdm_array of_Y = {G + y, k, wide * size, size, 0};
        const struct NAME(augmented) rows = {{&of_X, &of_ones, &of_Y}, NULL, q, d + intercept + k};
        NAME(reflect_rows)(&rows, 0, R, stride, work);
    }
    free(memory);
    return done;
}
#undef SIDE
