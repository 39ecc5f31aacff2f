/* Products whose results are too narrow for rows of vectors. */
#ifndef BP_NARROW_H
#define BP_NARROW_H

#include "pack.h"
#include "tiles.h"

/* ---- Few outputs, many terms: sums striped over the terms -------------------------------------------------------------- */

ALWAYS_INLINE int is_striped(const product *p)
{
    return p->narrow && bp_is_striped(BP_REAL_BITS == 64 ? BP_FLOAT64 : BP_FLOAT32, p->n, p->k);
}

#define MOST_STRIPED ((int)(32 / sizeof(real)))        /* columns: half a stripe */
#define STRIPED_ROWS 16                                /* at a time, */
#define STRIPED_CHUNK ((int64_t)(2048 / sizeof(real))) /* over so many terms, whole stripes: 16 rows of them fit L1 */
#define DOT_ROWS (STRIPE_PARTS == 1 ? 6 : STRIPE_PARTS == 2 ? 2 : 1)

/* Rows of A, all of whose sums stay in registers over a run of terms; `seen` adds up their magnitudes. */
typedef struct dot_sums {
    stripe sum[DOT_ROWS][2];
    vec seen;
} dot_sums;

/* The terms of one stripe, all of them or the first `left`. */
ALWAYS_INLINE void dot_terms(const int rows, const int columns, const int whole, dot_sums *s, const real *a, int64_t a_row,
                             const real *b, int64_t b_column, int64_t left)
{
    UNROLL
    for (int q = 0; q < STRIPE_PARTS; q++) {
        const int at = q * WIDTH;
        const part rest = vpart(whole || left >= at + WIDTH ? WIDTH : left < at ? 0 : left - at);
        vec y[2];
        UNROLL
        for (int c = 0; c < columns; c++) y[c] = whole ? vload(b + c * b_column + at) : vload_part(b + c * b_column + at, rest);
        UNROLL
        for (int r = 0; r < rows; r++) {
            vec x = whole ? vload(a + r * a_row + at) : vload_part(a + r * a_row + at, rest);
            IN_REGISTER(x);
            s->seen = s->seen + vabs(x);
            UNROLL
            for (int c = 0; c < columns; c++) s->sum[r][c].part[q] = vfma(x, y[c], s->sum[r][c].part[q]);
        }
    }
}

/* sums[r][c] += k products of rows of A and columns of B, both contiguous; returns the magnitudes of A's, added up in lanes. */
ALWAYS_INLINE vec dots(const int rows, const int columns, stripe (*sums)[MOST_STRIPED], const real *a, int64_t a_row,
                       const real *b, int64_t b_column, int64_t k)
{
    dot_sums s;
    s.seen = vset(0);
    UNROLL
    for (int r = 0; r < rows; r++) {
        UNROLL
        for (int c = 0; c < columns; c++) s.sum[r][c] = sums[r][c];
    }
    int64_t l = 0;
    for (; l + STRIPE <= k; l += STRIPE) dot_terms(rows, columns, 1, &s, a + l, a_row, b + l, b_column, STRIPE);
    if (l < k) dot_terms(rows, columns, 0, &s, a + l, a_row, b + l, b_column, k - l);
    UNROLL
    for (int r = 0; r < rows; r++) {
        UNROLL
        for (int c = 0; c < columns; c++) sums[r][c] = s.sum[r][c];
    }
    return s.seen;
}

#if defined(BP_LEVEL_IS_avx512)
#define EACH_DOTS(D) D(1) D(2) D(3) D(4) D(5) D(6)
#elif defined(BP_LEVEL_IS_avx2)
#define EACH_DOTS(D) D(1) D(2)
#else
#define EACH_DOTS(D) D(1)
#endif

typedef vec (*dots_fn)(stripe (*sums)[MOST_STRIPED], const real *a, int64_t a_row, const real *b, int64_t b_column, int64_t k);

#define DEFINE_DOTS(rows, columns)                                                                                             \
    NOINLINE vec dots_##rows##x##columns(stripe(*sums)[MOST_STRIPED], const real *a, int64_t a_row, const real *b,             \
                                         int64_t b_column, int64_t k)                                                          \
    {                                                                                                                          \
        return dots(rows, columns, sums, a, a_row, b, b_column, k);                                                            \
    }
#define BOTH_DOTS(rows) DEFINE_DOTS(rows, 1) DEFINE_DOTS(rows, 2)
EACH_DOTS(BOTH_DOTS)
#undef BOTH_DOTS
#undef DEFINE_DOTS

static const dots_fn dots_kinds[2][DOT_ROWS + 1] = {
#define ONE_COLUMN(rows) [0][rows] = dots_##rows##x1,
#define TWO_COLUMNS(rows) [1][rows] = dots_##rows##x2,
    EACH_DOTS(ONE_COLUMN) EACH_DOTS(TWO_COLUMNS)
#undef ONE_COLUMN
#undef TWO_COLUMNS
};

/* All rows by all columns of a chunk of terms; whether all of A in it is known to be below `limit`. */
static int dot_rows(stripe (*sums)[MOST_STRIPED], const real *a, int64_t a_row, const real *b, int64_t b_column, int64_t rows,
                    int64_t n, int64_t k, real limit)
{
    const int64_t tiles = n_parts(rows, DOT_ROWS), least = rows / tiles, larger = rows % tiles;
    vec seen = vset(0);
    for (int64_t j = 0; j < n; j += 2) {
        const dots_fn *kinds = dots_kinds[n - j > 1];
        for (int64_t x = 0, r = 0; x < tiles; x++) {
            const int64_t height = least + (x < larger);
            stripe(*to)[MOST_STRIPED] = (stripe(*)[MOST_STRIPED])(void *)&sums[r][j];
            seen = seen + kinds[height](to, a + r * a_row, a_row, b + j * b_column, b_column, k);
            r += height;
        }
    }
    return vall(vless(seen, vset(limit)));
}

/* Columns of B that are not contiguous are copied, a chunk of terms at a time, for all rows of a block. */
static void run_striped_rows(const product *p, int64_t i, int64_t rows)
{
    _Alignas(64) real columns[MOST_STRIPED * STRIPED_CHUNK];
    stripe sums[STRIPED_ROWS][MOST_STRIPED];
    for (int64_t r = 0; r < rows; r++)
        for (int64_t j = 0; j < p->n; j++) sums[r][j] = stripe_zero();
    for (int64_t l = 0; l < p->k; l += STRIPED_CHUNK) {
        const int64_t k = at_most(p->k - l, STRIPED_CHUNK);
        const real *b = p->b + l * p->b_row;
        int64_t b_column = p->b_column;
        if (p->b_row != 1) {
            transpose(columns, STRIPED_CHUNK, b, p->b_row, k, p->n);
            b = columns;
            b_column = STRIPED_CHUNK;
        }
        if (!dot_rows(sums, p->a + i * p->a_row + l, p->a_row, b, b_column, rows, p->n, k, p->a_limit) && p->a_beyond)
            bp_flag_set(p->a_beyond, 1);
    }
    for (int64_t r = 0; r < rows; r++) {
        real row[64 / sizeof(real)] = {0};
        for (int64_t j = 0; j < p->n; j++) {
            row[j] = stripe_sum(&sums[r][j]);
            if (p->initial) row[j] += p->initial[(i + r) * p->initial_stride + j];
        }
        for (int64_t j = 0; j < p->n; j += WIDTH)
            store_sum(p, i + r, j, vload(row + j), j + WIDTH > p->c_stride, vpart_of(j, p->n));
    }
    if (p->finish) p->finish(p, i, 0, rows, p->n);
}

static void run_striped(const product *p, int64_t i0, int64_t i1)
{
    for (int64_t i = i0; i < i1; i += STRIPED_ROWS) run_striped_rows(p, i, at_most(i1 - i, STRIPED_ROWS));
}

/* ---- Few columns, rows of A transposed: the same chains with the rows along the vectors -------------------------------- */

#define UPRIGHT_VECTORS (STRIPE_PARTS == 1 ? 6 : 4)

ALWAYS_INLINE int is_upright(const product *p)
{
    return WIDTH > 1 && 2 * p->n <= WIDTH && p->m >= 2 * WIDTH && p->a_row == 1 && !p->initial;
}

/* From c's rows i..i + rows, side by side in `results`, to where they go. */
static void store_upright(const product *p, int64_t i, int64_t rows, const real *results)
{
    if (p->c_stride != p->n || (p->added && p->added_stride != p->n)) {
        for (int64_t r = 0; r < rows; r++) store_sum(p, i + r, 0, vload(results + r * p->n), WIDTH > p->c_stride, vpart(p->n));
        return;
    }
    product flat = *p; /* contiguous: one long row */
    flat.c += i * p->n;
    if (p->added) flat.added += i * p->n;
    flat.n = rows * p->n;
    for (int64_t j = 0; j < flat.n; j += WIDTH)
        store_sum(&flat, 0, j, vload(results + j), j + WIDTH > flat.n, vpart_of(j, flat.n));
}

/* Rows i0..i1 as columns of c^T = b^T a^T. */
static void run_turned(const product *p, int64_t i0, int64_t i1)
{
    _Alignas(64) real sums[MOST_SUMS * WIDTH], results[(MOST_SUMS + 1) * WIDTH];
    const product turned = {.c = sums, .c_stride = INT64_MAX, .n = i1, .m = p->n, .k = p->k};
    const int64_t most = most_vectors[at_most(p->n, MOST_ROWS)], vectors = n_parts(i1 - i0, WIDTH);
    const int64_t panels = n_parts(vectors, most);
    int64_t i = i0;
    for (int64_t x = 0; x < panels; x++) {
        const int64_t wide = vectors / panels + (x < vectors % panels), columns = at_most(i1 - i, wide * WIDTH);
        const tile_job job = {.p = &turned,
                              .j = i,
                              .a = p->b,
                              .a_row = p->b_column,
                              .a_column = p->b_row,
                              .b = p->a + i,
                              .b_row = p->a_column,
                              .k = p->k,
                              .to = sums,
                              .to_stride = wide * WIDTH,
                              .ahead = (const char *)p->a};
        (columns < wide * WIDTH ? ragged_tiles : whole_tiles)[wide][p->n](&job);
        transpose(results, p->n, sums, wide * WIDTH, p->n, columns);
        store_upright(p, i, columns, results);
        if (p->finish) p->finish(p, i, 0, columns, p->n);
        i += columns;
    }
}

/* One or two columns side by side in c: whole vectors of their rows go there from registers. */
ALWAYS_INLINE void upright_tile(const int columns, const int vectors, const product *p, int64_t i)
{
    vec sum[2 * UPRIGHT_VECTORS];
    UNROLL
    for (int v = 0; v < columns * vectors; v++) sum[v] = vset(0);
    const real *a = p->a + i, *b = p->b;
    for (int64_t l = p->k; l > 0; l--) {
        vec scalar[2];
        UNROLL
        for (int c = 0; c < columns; c++) scalar[c] = vset(b[c * p->b_column]);
        UNROLL
        for (int v = 0; v < vectors; v++) {
            vec x = vload(a + v * WIDTH);
            IN_REGISTER(x);
            UNROLL
            for (int c = 0; c < columns; c++) sum[v * columns + c] = vfma(scalar[c], x, sum[v * columns + c]);
        }
        a += p->a_column;
        b += p->b_row;
    }
    const int64_t at = i * columns;
    const store_mode mode = p->mode;
    const vec factor = vset(p->factor);
    real *c = p->c + at;
    const real *added = p->added ? p->added + at : NULL;
    UNROLL
    for (int v = 0; v < columns * vectors; v++) {
        if (columns == 2 && v % 2 == 0) vzip(&sum[v], &sum[v + 1]);
        store_vector(c + v * WIDTH, sum[v], added ? added + v * WIDTH : NULL, vpart(WIDTH), mode, factor, 0, vpart(WIDTH));
    }
}

ALWAYS_INLINE void upright_tiles(const int columns, const product *p, int64_t i0, int64_t i1)
{
    int64_t i = i1;
    for (; i - UPRIGHT_VECTORS * WIDTH >= i0; i -= UPRIGHT_VECTORS * WIDTH)
        upright_tile(columns, UPRIGHT_VECTORS, p, i - UPRIGHT_VECTORS * WIDTH);
    for (; i > i0; i -= WIDTH) upright_tile(columns, 1, p, i - WIDTH);
}

/* Rows i0..i1 as columns of c^T = b^T a^T, the last ones first: the product before this one may just have read them. */
static void run_upright(const product *p, int64_t i0, int64_t i1)
{
    if (p->n > 2 || p->c_stride != p->n || (p->added && p->added_stride != p->n) || p->finish) {
        run_turned(p, i0, i1);
        return;
    }
    const int64_t whole = i0 + (i1 - i0) / WIDTH * WIDTH;
    if (whole < i1) run_turned(p, whole, i1);
    if (p->n == 1)
        upright_tiles(1, p, i0, whole);
    else
        upright_tiles(2, p, i0, whole);
}

#endif
