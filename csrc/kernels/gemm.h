/* Products of matrices. Every element of the result is ONE fma chain in increasing k, from its initial value, so tile sizes,
 * blocks and threads cannot change its bits. */
#ifndef BP_GEMM_H
#define BP_GEMM_H

#include "simd.h"

/* acc[i][j] = initial[i][j] + sum over l of a[i][l] b[l][j], for i < m, j < n, l < k; then, by `mode`,
 *
 *   STORE   c = acc
 *   ADD     c = c + acc
 *   STEP    c = factor acc + c, rounded once: plain SGD where acc is a gradient, c the weight and factor = -learning_rate
 *
 * where acc is first replaced by added + acc if there is an `added` (in ADD and STEP).
 * a[i][l] is a[i * a_row + l * a_column] and b[l][j] is b[l * b_row + j * b_column], so neither need be copied to be transposed;
 * b_column or b_row must be 1. An `initial` of stride 0 is a bias, NULL is zero. c must not overlap what is read, but for
 * `initial` and `added` where they are c itself.
 * Where c_stride leaves room, whole vectors are stored: zeros go into the padding (what is there stays in ADD and STEP).
 * finish(p, i, j, rows, columns), unless NULL, is called once for every part of c, rows i..i + rows and columns j..j + columns,
 * when it has been stored and is still in cache; parts may come in any order, and from several threads. */
typedef enum store_mode { STORE, ADD, STEP } store_mode;

typedef struct product product;
struct product {
    real *c;
    int64_t c_stride;
    const real *initial;
    int64_t initial_stride;
    const real *a;
    int64_t a_row, a_column;
    const real *b;
    int64_t b_row, b_column;
    int64_t m, n, k;
    store_mode mode;
    real factor;
    const real *added;
    int64_t added_stride;
    int narrow; /* sums of few outputs and many terms may be striped: see is_striped() */
    void (*finish)(const product *p, int64_t i, int64_t j, int64_t rows, int64_t columns);
    const void *context; /* for finish */
};

/* Rows x vectors of the register tile: what leaves room for a row of B and one broadcast. */
#if defined(BP_LEVEL_IS_avx512) || defined(BP_LEVEL_IS_neon)
#define TILE_ROWS 8
#define TILE_VECTORS 3
#elif defined(BP_LEVEL_IS_avx2)
#define TILE_ROWS 4
#define TILE_VECTORS 3
#else
#define TILE_ROWS 4
#define TILE_VECTORS 2
#endif

/* n lanes that are `stride` apart. */
ALWAYS_INLINE vec vgather(const real *p, int64_t stride, int64_t n)
{
    real lanes[WIDTH] = {0};
    for (int64_t i = 0; i < WIDTH && i < n; i++) lanes[i] = p[i * stride];
    return vload(lanes);
}

/* A vector of acc to where it goes. */
ALWAYS_INLINE void store_sum(const product *p, int64_t i, int64_t j, vec sum, int partly, part rest)
{
    real *c = p->c + i * p->c_stride + j;
    if (p->mode != STORE) {
        if (p->added) {
            const real *added = p->added + i * p->added_stride + j;
            sum = vload_part(added, vpart_of(j, p->n)) + sum;
        }
        const vec old = partly ? vload_part(c, rest) : vload(c);
        if (p->mode == ADD)
            sum = old + sum;
        else
            sum = vfma(vset(p->factor), sum, old);
    }
    if (partly)
        vstore_part(c, sum, rest);
    else
        vstore(c, sum);
}

/* One tile at row i, column j. `rest` is the part of its last vector that is inside the matrix. */
ALWAYS_INLINE void tile(const int rows, const int vectors, const int ragged, const product *p, int64_t i, int64_t j)
{
    vec sum[TILE_ROWS][TILE_VECTORS];
    const int last = vectors - 1;
    const part rest = vpart_of(j + last * WIDTH, p->n);
    const real *initial = p->initial ? p->initial + i * p->initial_stride + j : NULL;
    UNROLL
    for (int r = 0; r < rows; r++) {
        UNROLL
        for (int v = 0; v < vectors; v++) {
            const real *from = initial ? initial + r * p->initial_stride + v * WIDTH : NULL;
            sum[r][v] = !from ? vset(0) : ragged && v == last ? vload_part(from, rest) : vload(from);
        }
    }
    const real *a = p->a + i * p->a_row, *b = p->b + j * p->b_column;
    for (int64_t l = 0; l < p->k; l++) {
        vec row_of_b[TILE_VECTORS];
        UNROLL
        for (int v = 0; v < vectors; v++)
            row_of_b[v] = p->b_column != 1      ? vgather(b + v * WIDTH * p->b_column, p->b_column, p->n - j - v * WIDTH)
                          : ragged && v == last ? vload_part(b + v * WIDTH, rest)
                                                : vload(b + v * WIDTH);
        UNROLL
        for (int r = 0; r < rows; r++) {
            const vec scalar = vset(a[r * p->a_row]);
            UNROLL
            for (int v = 0; v < vectors; v++) sum[r][v] = vfma(scalar, row_of_b[v], sum[r][v]);
        }
        a += p->a_column;
        b += p->b_row;
    }
    const int whole = !ragged || j + vectors * WIDTH <= p->c_stride;
    UNROLL
    for (int r = 0; r < rows; r++) {
        UNROLL
        for (int v = 0; v < vectors; v++) store_sum(p, i + r, j + v * WIDTH, sum[r][v], v == last && !whole, rest);
    }
    if (p->finish) p->finish(p, i, j, rows, p->n - j < vectors * WIDTH ? p->n - j : vectors * WIDTH);
}

/* All tiles of a column panel `vectors` wide. */
#define PANEL(vectors, ragged, suffix)                                                                                         \
    NOINLINE void panel_##vectors##suffix(const product *p, int64_t j)                                                         \
    {                                                                                                                          \
        int64_t i = 0;                                                                                                         \
        for (; i + TILE_ROWS <= p->m; i += TILE_ROWS) tile(TILE_ROWS, vectors, ragged, p, i, j);                               \
        for (; i + 4 <= p->m; i += 4) tile(4, vectors, ragged, p, i, j);                                                       \
        if (i + 2 <= p->m) {                                                                                                   \
            tile(2, vectors, ragged, p, i, j);                                                                                 \
            i += 2;                                                                                                            \
        }                                                                                                                      \
        if (i < p->m) tile(1, vectors, ragged, p, i, j);                                                                       \
    }
PANEL(1, 0, _whole)
PANEL(2, 0, _whole)
#if TILE_VECTORS > 2
PANEL(3, 0, _whole)
#endif
#if WIDTH > 1
PANEL(1, 1, _ragged)
PANEL(2, 1, _ragged)
PANEL(3, 1, _ragged)
#endif

typedef void (*panel_fn)(const product *, int64_t);

static void multiply(const product *p)
{
#if WIDTH > 1
    static const panel_fn panels[2][3] = {{panel_1_whole, panel_2_whole, panel_3_whole},
                                          {panel_1_ragged, panel_2_ragged, panel_3_ragged}};
#else
    static const panel_fn panels[1][2] = {{panel_1_whole, panel_2_whole}};
#endif
    for (int64_t j = 0; j < p->n; j += TILE_VECTORS * WIDTH) {
        int64_t vectors = (p->n - j + WIDTH - 1) / WIDTH;
        if (vectors > TILE_VECTORS) vectors = TILE_VECTORS;
        panels[p->n - j < vectors * WIDTH][vectors - 1](p, j);
    }
}

/* out[j][i] = in[i][j], for i < m, j < n. */
static void transpose(real *RESTRICT out, int64_t out_stride, const real *RESTRICT in, int64_t in_stride, int64_t m, int64_t n)
{
    enum { SIDE = 16 }; /* blocks, so that both sides stay in cache lines already met */
    for (int64_t i0 = 0; i0 < m; i0 += SIDE)
        for (int64_t j0 = 0; j0 < n; j0 += SIDE)
            for (int64_t j = j0; j < n && j < j0 + SIDE; j++)
                for (int64_t i = i0; i < m && i < i0 + SIDE; i++) out[j * out_stride + i] = in[i * in_stride + j];
}

/* ---- Dense layers: y = x W + b ---------------------------------------------------------------------------------------- */

typedef struct dense_shape {
    int64_t n, n_in, n_out;        /* rows, and the two widths */
    int64_t in_stride, out_stride; /* of x and dx, of y and dy */
} dense_shape;

static void dense_forward(real *y, const real *x, int64_t x_stride, const real *weight, const real *bias, const dense_shape *s)
{
    const product p = {.c = y,
                       .c_stride = s->out_stride,
                       .initial = bias,
                       .a = x,
                       .a_row = x_stride,
                       .a_column = 1,
                       .b = weight,
                       .b_row = s->n_out,
                       .b_column = 1,
                       .m = s->n,
                       .n = s->n_out,
                       .k = s->n_in,
                       .narrow = 1};
    multiply(&p);
}

/* sums[j] = the sum over n rows of column j, in the order of the rows. */
static void sum_columns(real *sums, const real *rows, int64_t stride, int64_t n, int64_t k)
{
    for (int64_t j = 0; j < k; j += WIDTH) {
        const part rest = vpart_of(j, k);
        vec sum = vset(0);
        for (int64_t r = 0; r < n; r++) sum = sum + vload_part(rows + r * stride + j, rest);
        vstore_part(sums + j, sum, rest);
    }
}

/* grad_weight = x^T dy, grad_bias = column sums of dy (unless NULL). */
static void dense_backward_weight(real *grad_weight, real *grad_bias, const real *dy, const real *x, int64_t x_stride,
                                  const dense_shape *s)
{
    const product p = {.c = grad_weight,
                       .c_stride = s->n_out,
                       .a = x,
                       .a_row = 1,
                       .a_column = x_stride,
                       .b = dy,
                       .b_row = s->out_stride,
                       .b_column = 1,
                       .m = s->n_in,
                       .n = s->n_out,
                       .k = s->n};
    multiply(&p);
    if (grad_bias) sum_columns(grad_bias, dy, s->out_stride, s->n, s->n_out);
}

/* dx = dy W^T, from the transposed copy of the weight whose rows are in_stride apart. */
static void dense_backward_input(real *dx, const real *dy, const real *transposed, const dense_shape *s)
{
    const product p = {.c = dx,
                       .c_stride = s->in_stride,
                       .a = dy,
                       .a_row = s->out_stride,
                       .a_column = 1,
                       .b = transposed,
                       .b_row = s->in_stride,
                       .b_column = 1,
                       .m = s->n,
                       .n = s->n_in,
                       .k = s->n_out,
                       .narrow = 1};
    multiply(&p);
}

#endif
