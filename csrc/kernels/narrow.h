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

#define MOST_STRIPED ((int)(32 / sizeof(real))) /* columns: half a stripe */
#define STRIPED_ROWS 16                         /* at a time, */
#define STRIPED_CHUNK 512                       /* over so many terms, a multiple of STRIPE */
#define DOT_ROWS (STRIPE_PARTS == 1 ? 4 : STRIPE_PARTS == 2 ? 2 : 1)

/* sums[r][c] += k products of rows of A and columns of B, both contiguous. */
ALWAYS_INLINE void dots(const int rows, const int columns, stripe (*sums)[MOST_STRIPED], const real *a, int64_t a_row,
                        const real *b, int64_t b_column, int64_t k)
{
    stripe s[4][2];
    UNROLL
    for (int r = 0; r < rows; r++) {
        UNROLL
        for (int c = 0; c < columns; c++) s[r][c] = sums[r][c];
    }
    for (int64_t l = 0; l < k; l += STRIPE) {
        UNROLL
        for (int q = 0; q < STRIPE_PARTS; q++) {
            const int64_t at = l + q * WIDTH, left = k - at;
            const int whole = left >= WIDTH;
            const part rest = vpart(left < 0 ? 0 : whole ? WIDTH : left);
            vec y[2];
            UNROLL
            for (int c = 0; c < columns; c++)
                y[c] = whole ? vload(b + c * b_column + at) : vload_part(b + c * b_column + at, rest);
            UNROLL
            for (int r = 0; r < rows; r++) {
                const vec x = whole ? vload(a + r * a_row + at) : vload_part(a + r * a_row + at, rest);
                UNROLL
                for (int c = 0; c < columns; c++) s[r][c].part[q] = vfma(x, y[c], s[r][c].part[q]);
            }
        }
    }
    UNROLL
    for (int r = 0; r < rows; r++) {
        UNROLL
        for (int c = 0; c < columns; c++) sums[r][c] = s[r][c];
    }
}

NOINLINE void dot_rows(stripe (*sums)[MOST_STRIPED], const real *a, int64_t a_row, const real *b, int64_t b_column,
                       int64_t rows, int64_t n, int64_t k)
{
    for (int64_t j = 0; j < n; j += 2) {
        stripe(*to)[MOST_STRIPED] = (stripe(*)[MOST_STRIPED])(void *)&sums[0][j];
        const real *y = b + j * b_column;
        int64_t r = 0;
        for (; r + DOT_ROWS <= rows; r += DOT_ROWS) {
            if (n - j > 1)
                dots(DOT_ROWS, 2, to + r, a + r * a_row, a_row, y, b_column, k);
            else
                dots(DOT_ROWS, 1, to + r, a + r * a_row, a_row, y, b_column, k);
        }
        for (; r < rows; r++) {
            if (n - j > 1)
                dots(1, 2, to + r, a + r * a_row, a_row, y, b_column, k);
            else
                dots(1, 1, to + r, a + r * a_row, a_row, y, b_column, k);
        }
    }
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
        dot_rows(sums, p->a + i * p->a_row + l, p->a_row, b, b_column, rows, p->n, k);
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
static void run_upright(const product *p, int64_t i0, int64_t i1)
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

#endif
