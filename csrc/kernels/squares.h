/* Few rows times a transposed B, whose terms lie side by side (b_row is 1): squares of B are turned in registers as they are
 * read, as a copy would be used but a few times. The same chains as everywhere. */
#ifndef BP_SQUARES_H
#define BP_SQUARES_H

#include "product.h"

#define SQUARES_ROWS 4                   /* at most: of five and more, a packed B is as fast */
#define SQUARES_SIDE (WIDTH > 8 ? 1 : 2) /* squares side by side: chains enough to hide the latency of an fma */

/* sum[r] += a[r] times one square: `columns` rows of B by `terms` of its columns. */
ALWAYS_INLINE void add_square(const int rows, const int whole, vec *sum, const real *a, int64_t a_row, int64_t a_column,
                              const real *b, int64_t b_column, int64_t columns, int64_t terms)
{
    vec square[WIDTH];
    const part some = vpart(terms);
    UNROLL
    for (int x = 0; x < WIDTH; x++)
        square[x] = whole ? vload(b + x * b_column) : x < columns ? vload_part(b + x * b_column, some) : vset(0);
    vtranspose(square);
    UNROLL
    for (int l = 0; l < WIDTH; l++) {
        if (!whole && l >= terms) break;
        UNROLL
        for (int r = 0; r < rows; r++) sum[r] = vfma(vset(a[r * a_row + l * a_column]), square[l], sum[r]);
    }
}

/* `rows` rows of c, from row i and column j on, by `side` squares; or by one that has `columns` columns, if not `whole`. */
ALWAYS_INLINE void squares(const int rows, const int side, const int whole, const product *p, int64_t i, int64_t j,
                           int64_t columns)
{
    const real *a = p->a + i * p->a_row, *b = p->b + j * p->b_column;
    const int64_t a_row = p->a_row, a_column = p->a_column, b_column = p->b_column, k = p->k;
    const part rest = vpart(whole ? WIDTH : columns);
    vec sum[SQUARES_SIDE][SQUARES_ROWS];
    UNROLL
    for (int q = 0; q < side; q++) {
        UNROLL
        for (int r = 0; r < rows; r++) {
            const real *from = p->initial ? p->initial + (i + r) * p->initial_stride + j + q * WIDTH : NULL;
            sum[q][r] = from ? vload_part(from, rest) : vset(0);
        }
    }
    int64_t l = 0;
    for (; l + WIDTH <= k; l += WIDTH) {
        UNROLL
        for (int q = 0; q < side; q++)
            add_square(rows, whole, sum[q], a + l * a_column, a_row, a_column, b + q * WIDTH * b_column + l, b_column, columns,
                       WIDTH);
    }
    if (l < k) {
        UNROLL
        for (int q = 0; q < side; q++)
            add_square(rows, 0, sum[q], a + l * a_column, a_row, a_column, b + q * WIDTH * b_column + l, b_column,
                       whole ? WIDTH : columns, k - l);
    }
    UNROLL
    for (int r = 0; r < rows; r++) {
        UNROLL
        for (int q = 0; q < side; q++) {
            const int64_t at = j + q * WIDTH;
            store_sum(p, i + r, at, sum[q][r], at + WIDTH > p->c_stride, rest);
        }
    }
    if (p->finish) p->finish(p, i, j, rows, whole ? side * WIDTH : columns);
}

/* Columns left..right of the rows from i on. */
#define DEFINE_SQUARES(rows)                                                                                                   \
    NOINLINE void squares_of_##rows(const product *p, int64_t i, int64_t left, int64_t right)                                  \
    {                                                                                                                          \
        int64_t j = left;                                                                                                      \
        for (; j + SQUARES_SIDE * WIDTH <= right; j += SQUARES_SIDE * WIDTH) squares(rows, SQUARES_SIDE, 1, p, i, j, WIDTH);   \
        for (; j + WIDTH <= right; j += WIDTH) squares(rows, 1, 1, p, i, j, WIDTH);                                            \
        if (j < right) squares(rows, 1, 0, p, i, j, right - j);                                                                \
    }
DEFINE_SQUARES(1)
DEFINE_SQUARES(2)
DEFINE_SQUARES(3)
DEFINE_SQUARES(4)
#undef DEFINE_SQUARES

/* Rows top..bottom, at most SQUARES_ROWS of them, and columns left..right. */
static void run_squares(const product *p, int64_t top, int64_t bottom, int64_t left, int64_t right)
{
    static void (*const kinds[SQUARES_ROWS + 1])(const product *p, int64_t i, int64_t left, int64_t right) = {
        NULL, squares_of_1, squares_of_2, squares_of_3, squares_of_4};
    kinds[bottom - top](p, top, left, right);
}

#endif
