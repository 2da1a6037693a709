/* Sums over lanes, and the two operations on lines: dots and combination. Part of template.h.
 *
 * Lines are read in whole groups of LANES elements, so reads may run past a line's end. The extra elements are other
 * elements of X (finite, or the fit is refused) times zeros, or land in padding; the caller guarantees that the memory
 * is readable.
 */

/* out[q] = the sum of the lanes of s[q], by halves: lane l += lane l + LANES/2, and so on down to one lane. Four lines
 * share the last two steps. */
#ifdef SGDM_VECTORS
SGDM_INLINE FOR_LEVEL void NAME(sum_lanes)(const int panel, V s[][GROUP], REAL *out) {
    QUAD quads[4];
    SGDM_UNROLL
    for (int q = 0; q < panel; q++) {
        QUAD part[16 / sizeof(REAL)];
        memcpy(part, s[q], sizeof(part));
        SGDM_UNROLL
        for (int half = (int)(8 / sizeof(REAL)); half >= 1; half /= 2)
            SGDM_UNROLL
            for (int i = 0; i < half; i++) part[i] += part[i + half];
        quads[q] = part[0];
    }
    if (panel == 4) {
        const QUAD ac = SHUFFLE(quads[0], quads[2], 0, 1, 4, 5) + SHUFFLE(quads[0], quads[2], 2, 3, 6, 7);
        const QUAD bd = SHUFFLE(quads[1], quads[3], 0, 1, 4, 5) + SHUFFLE(quads[1], quads[3], 2, 3, 6, 7);
        *(QUAD *)out = SHUFFLE(ac, bd, 0, 4, 2, 6) + SHUFFLE(ac, bd, 1, 5, 3, 7);
    } else {
        SGDM_UNROLL
        for (int q = 0; q < panel; q++)
            out[q] = (quads[q][0] + quads[q][2]) + (quads[q][1] + quads[q][3]);
    }
}
#else
SGDM_INLINE void NAME(sum_lanes)(const int panel, V s[][GROUP], REAL *out) {
    for (int q = 0; q < panel; q++) {
        for (int half = GROUP / 2; half >= 1; half /= 2)
            for (int l = 0; l < half; l++) s[q][l] += s[q][l + half];
        out[q] = s[q][0];
    }
}
#endif

/* The same for up to PANEL lines. */
SGDM_INLINE FOR_LEVEL void NAME(sum_lanes_of_panel)(const int panel, V s[][GROUP], REAL *out) {
    SGDM_UNROLL
    for (int q = 0; q < PANEL; q += 4)
        if (q < panel) NAME(sum_lanes)(panel - q < 4 ? panel - q : 4, s + q, out + q);
}

/* s[t, q] += the lanes of line[q] @ v[t], for `panel` lines and `targets` vectors v. Lines have `length` elements, which
 * is whole groups; the v[t] are `stride` apart. ahead: NULL, or what to prefetch for each line. */
SGDM_INLINE FOR_LEVEL void NAME(add_dots)(const REAL *const *line, const REAL *const *ahead, const int panel,
                                          const int targets, ptrdiff_t length, const REAL *v, ptrdiff_t stride,
                                          V s[][PANEL][GROUP]) {
    for (ptrdiff_t e = 0; e < length; e += LANES)
        SGDM_UNROLL
        for (int i = 0; i < GROUP; i++) {
            V ve[TARGETS];
            SGDM_UNROLL
            for (int t = 0; t < targets; t++) ve[t] = READ(v + t * stride + e + i * WIDTH);
            SGDM_UNROLL
            for (int q = 0; q < panel; q++) {
                if (ahead && i == 0) SGDM_PREFETCH(ahead[q] + e);
                SGDM_UNROLL
                for (int t = 0; t < targets; t++) s[t][q][i] += READ(line[q] + e + i * WIDTH) * ve[t];
            }
        }
}

/* s[t, q] = LANES numbers at from + t * stride + q * LANES, or zeros if `from` is NULL. */
SGDM_INLINE FOR_LEVEL void NAME(set_lanes)(const REAL *from, ptrdiff_t stride, const int panel, const int targets,
                                           V s[][PANEL][GROUP]) {
    SGDM_UNROLL
    for (int t = 0; t < targets; t++)
        SGDM_UNROLL
        for (int q = 0; q < panel; q++)
            SGDM_UNROLL
            for (int i = 0; i < GROUP; i++)
                s[t][q][i] = from ? READ(from + t * stride + q * LANES + i * WIDTH) : (V){0};
}

/* out[t, q] = line[q] @ v[t]; out is (targets, PANEL). */
SGDM_INLINE FOR_LEVEL void NAME(dots)(const REAL *const *line, const REAL *const *ahead, const int panel,
                                      const int targets, ptrdiff_t length, const REAL *v, ptrdiff_t stride, REAL *out) {
    V s[TARGETS][PANEL][GROUP];
    NAME(set_lanes)(NULL, 0, panel, targets, s);
    NAME(add_dots)(line, ahead, panel, targets, length, v, stride, s);
    SGDM_UNROLL
    for (int t = 0; t < targets; t++) NAME(sum_lanes_of_panel)(panel, s[t], out + t * PANEL);
}

/* out[t] += c[t] @ line, for `panel` lines and `targets` rows of c and of out, `c_stride` and `stride` apart. out is
 * read and written once for all lines. backwards: from the ends of the lines, which were read last. */
SGDM_INLINE FOR_LEVEL void NAME(combination)(const REAL *const *line, const int panel, const int targets,
                                             const int backwards, ptrdiff_t length, const REAL *c, ptrdiff_t c_stride,
                                             REAL *out, ptrdiff_t stride) {
    V factors[TARGETS][PANEL];
    SGDM_UNROLL
    for (int t = 0; t < targets; t++)
        SGDM_UNROLL
        for (int q = 0; q < panel; q++) factors[t][q] = c[t * c_stride + q] - (V){0};
    for (ptrdiff_t i = 0; i < length; i += WIDTH) {
        const ptrdiff_t e = backwards ? length - WIDTH - i : i;
        V o[TARGETS];
        SGDM_UNROLL
        for (int t = 0; t < targets; t++) o[t] = READ(out + t * stride + e);
        SGDM_UNROLL
        for (int q = 0; q < panel; q++)
            SGDM_UNROLL
            for (int t = 0; t < targets; t++) o[t] += factors[t][q] * READ(line[q] + e);
        SGDM_UNROLL
        for (int t = 0; t < targets; t++) AT(out + t * stride + e) = o[t];
    }
}

/* The sums of wr * r and of wr over rows, in 8 lanes of double. */
typedef struct {
#ifdef SGDM_VECTORS
    DOUBLES squares[DGROUP], residuals[DGROUP];
#else
    double squares[8], residuals[8];
#endif
} NAME(loss_sums);

/* Adds rows 0 to 8 of r and wr, which may lie in registers. */
SGDM_INLINE FOR_LEVEL void NAME(add_rows)(NAME(loss_sums) *s, const void *r, const void *wr) {
#ifdef SGDM_VECTORS
    SGDM_UNROLL
    for (int g = 0; g < DGROUP; g++) {
        const DOUBLES x = __builtin_convertvector(((const NARROWER *)r)[g], DOUBLES);
        const DOUBLES wx = __builtin_convertvector(((const NARROWER *)wr)[g], DOUBLES);
        s->squares[g] += wx * x;
        s->residuals[g] += wx;
    }
#else
    for (ptrdiff_t l = 0; l < 8; l++) {
        s->squares[l] += (double)((const REAL *)wr)[l] * ((const REAL *)r)[l];
        s->residuals[l] += ((const REAL *)wr)[l];
    }
#endif
}

/* sums[0] += wr.sum() and sums[1] += (wr * r).sum(): the lanes are added by halves. */
SGDM_INLINE FOR_LEVEL void NAME(add_lanes)(const NAME(loss_sums) *s, double *sums) {
#ifdef SGDM_VECTORS
    FOUR_DOUBLES r[2], squares[2];
    memcpy(r, s->residuals, sizeof(r));
    memcpy(squares, s->squares, sizeof(squares));
    r[0] += r[1];
    squares[0] += squares[1];
    const FOUR_DOUBLES two = SHUFFLE(r[0], squares[0], 0, 1, 4, 5) + SHUFFLE(r[0], squares[0], 2, 3, 6, 7);
    sums[0] += two[0] + two[1];
    sums[1] += two[2] + two[3];
#else
    const double *const lanes[2] = {s->residuals, s->squares};
    for (int i = 0; i < 2; i++) {
        const double *const l = lanes[i];
        sums[i] += ((l[0] + l[4]) + (l[2] + l[6])) + ((l[1] + l[5]) + (l[3] + l[7]));
    }
#endif
}

/* Adds b rows of r and wr. Clears both from b to whole groups of 8. */
SGDM_INLINE FOR_LEVEL void NAME(add_loss)(NAME(loss_sums) *sums, REAL *r, REAL *wr, ptrdiff_t b) {
    NAME(loss_sums) s = *sums;
    const ptrdiff_t whole = (b + 7) / 8 * 8;
    for (ptrdiff_t i = b; i < whole; i++) r[i] = wr[i] = 0;
    for (ptrdiff_t i = 0; i < whole; i += 8) NAME(add_rows)(&s, r + i, wr + i);
    *sums = s;
}
