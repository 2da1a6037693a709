/* The CPU levels that this CPU runs, and how the rows of a problem are read. Levels are nested: each includes the lower
 * ones. */
#include "rows.h"

#include "compiler.h"

#ifdef SGDM_X86
#include <cpuid.h>
#endif

extern const struct sgdm_arithmetic_float sgdm_baseline_float, sgdm_v3_float, sgdm_v4_float;
extern const struct sgdm_arithmetic_double sgdm_baseline_double, sgdm_v3_double, sgdm_v4_double;
extern sgdm_factor sgdm_factor_baseline_double, sgdm_factor_v3_double, sgdm_factor_v4_double;
extern sgdm_descend_lanes sgdm_descend_lanes_baseline_double, sgdm_descend_lanes_v3_double, sgdm_descend_lanes_v4_double;
extern sgdm_factor_lanes sgdm_factor_lanes_baseline_double, sgdm_factor_lanes_v3_double, sgdm_factor_lanes_v4_double;
extern sgdm_follow_modes sgdm_follow_modes_baseline_double, sgdm_follow_modes_v3_double, sgdm_follow_modes_v4_double;

static const struct sgdm_level levels[] = {
    {"baseline", &sgdm_baseline_float, &sgdm_baseline_double, sgdm_factor_baseline_double,
     sgdm_descend_lanes_baseline_double, sgdm_factor_lanes_baseline_double,
     sgdm_follow_modes_baseline_double},
#ifdef SGDM_X86
    {"v3", &sgdm_v3_float, &sgdm_v3_double, sgdm_factor_v3_double,
     sgdm_descend_lanes_v3_double, sgdm_factor_lanes_v3_double,
     sgdm_follow_modes_v3_double},
    {"v4", &sgdm_v4_float, &sgdm_v4_double, sgdm_factor_v4_double,
     sgdm_descend_lanes_v4_double, sgdm_factor_lanes_v4_double,
     sgdm_follow_modes_v4_double},
#endif
};

static ptrdiff_t l2_bytes; /* 0 where it is unknown */

const struct sgdm_level *sgdm_levels(int *count) {
    *count = 1;
#ifdef SGDM_X86
    unsigned a, b, l2, d;
    if (__get_cpuid(0x80000006, &a, &b, &l2, &d)) l2_bytes = (ptrdiff_t)(l2 >> 16) * 1024;
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx2")) *count = 2;
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw"))
        *count = 3;
#endif
    return levels;
}

enum {
    /* C-order X is transposed once per fit and read by columns if its rows take at most NARROW_BYTES (TOGETHER_BYTES
     * from SGDM_TARGETS targets on) and X at most WHOLE_BYTES: 1 to 8 doubles take 2 ns a row by rows, 0.2 to 0.8 by
     * columns. X of up to SGDM_NARROWEST columns is always read so, block by block if it is too large to copy. */
    NARROW_BYTES = 128,
    WHOLE_BYTES = 4194304,
    TOGETHER_BYTES = 512,
    /* C-order X is read in steps if its rows take at most STEP_ROW_BYTES, or if X comes from memory and they take at
     * most MEMORY_ROW_BYTES: the panels read wide rows from L2 faster. */
    STEP_ROW_BYTES = 1024,
    MEMORY_ROW_BYTES = 8192,
    MEMORY_BYTES = 16000000,
    /* F-order X of at most ROW_COPY_BYTES is copied by rows if they are asked for in random order. */
    ROW_COPY_BYTES = 1 << 28,
    /* A block of C-order X has ROWS rows. With several targets it has as many as fit into L1, where all targets but the
     * first find them. */
    ROWS = 256,
    ROW_BLOCK_BYTES = 16384,
    /* A block of F-order X must stay in L2 until its second read. With one target, if that leaves fewer than
     * COLUMN_ROWS rows, it has BLOCK_MAX: short column pieces cost more than reading X twice from L3. */
    COLUMN_BLOCK_BYTES = 524288,
    COLUMN_ROWS = 128,
    BLOCK_MAX = 512,
    /* It is read in pieces of PIECE_BYTES, which stay in L1 until their second read, if that leaves COLUMN_BYTES of each
     * column; but from memory long pieces of columns are faster. A block beyond COLUMN_BLOCK_BYTES is read in pieces that
     * stay in L2, if that is large: 1000 x 1000 doubles take 500 us an epoch so, and 640 without (Xeon). A CPU with an L2
     * of LARGE_L2 reads SHORT_COLUMN_BYTES of each column as fast; Zens take twice the time below COLUMN_BYTES. */
    PIECE_BYTES = 28672,
    COLUMN_BYTES = 1024,
    SHORT_COLUMN_BYTES = 512,
    LARGE_L2 = 1 << 21,
    PART_ELEMENTS = 32768 /* of X that a part of a pass has at least */
};

static ptrdiff_t min(ptrdiff_t a, ptrdiff_t b) { return a < b ? a : b; }
static ptrdiff_t max(ptrdiff_t a, ptrdiff_t b) { return a > b ? a : b; }
static ptrdiff_t round_up(ptrdiff_t length, ptrdiff_t group) { return (length + group - 1) / group * group; }

struct sgdm_shape sgdm_shape_of(ptrdiff_t n, ptrdiff_t d, ptrdiff_t k, ptrdiff_t row_step, ptrdiff_t itemsize,
                                int by_columns, int triangular, ptrdiff_t batch) {
    struct sgdm_shape shape = {.n = n, .d = d, .k = k, .by_columns = by_columns, .triangular = triangular};
    const ptrdiff_t lanes = SGDM_LANE_BYTES / itemsize, row_bytes = d * itemsize;
    const ptrdiff_t narrow_bytes = k >= SGDM_TARGETS ? TOGETHER_BYTES : NARROW_BYTES;
    shape.padded = round_up(d, lanes);
    shape.width = shape.padded + lanes;
    shape.row_step = row_step;
    const int without_gaps = !by_columns && row_step == d;
    shape.whole = without_gaps && !triangular && n * row_bytes <= WHOLE_BYTES && row_bytes <= narrow_bytes;
    shape.transposed = shape.whole || (without_gaps && d <= SGDM_NARROWEST);
    shape.copies_rows = by_columns && n * row_bytes <= ROW_COPY_BYTES;
    shape.from_memory = n * row_bytes >= MEMORY_BYTES;
    shape.in_steps = !triangular && row_bytes <= (shape.from_memory ? MEMORY_ROW_BYTES : STEP_ROW_BYTES);
    shape.batch = batch > 0 ? min(batch, n) : n;
    ptrdiff_t rows;
    if (by_columns || shape.transposed) {
        rows = COLUMN_BLOCK_BYTES / row_bytes;
        if (rows < COLUMN_ROWS && k == 1) rows = BLOCK_MAX;
    } else {
        rows = k == 1 ? ROWS : ROW_BLOCK_BYTES / row_bytes;
    }
    rows = max(lanes, min(BLOCK_MAX, rows / lanes * lanes));
    const ptrdiff_t least = (l2_bytes >= LARGE_L2 ? SHORT_COLUMN_BYTES : COLUMN_BYTES) / itemsize;
    const ptrdiff_t in_l1 = PIECE_BYTES / row_bytes / lanes * lanes;
    if (in_l1 >= least && !shape.from_memory)
        shape.piece_rows = in_l1;
    else if (rows * row_bytes > COLUMN_BLOCK_BYTES && least * row_bytes <= l2_bytes / 4)
        shape.piece_rows = least;
    else
        shape.piece_rows = rows;
    shape.block_rows = min(rows, round_up(shape.batch, lanes));
    shape.part_rows = round_up(max(PART_ELEMENTS / d, (shape.batch + SGDM_PARTS - 1) / SGDM_PARTS), shape.block_rows);
    return shape;
}
