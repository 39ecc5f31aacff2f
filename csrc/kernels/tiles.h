/* Register tiles: a few rows by a few vectors of a product, all of whose sums stay in registers over a run of terms. */
#ifndef BP_TILES_H
#define BP_TILES_H

#include "product.h"

/* The most rows of a tile of so many vectors: the sums, a row of B and one broadcast fit the registers. */
#if defined(BP_LEVEL_IS_avx512) || defined(BP_LEVEL_IS_neon)
#define MOST_VECTORS 8
#define MOST_ROWS 12
#define TILES(T) ROWS_12(T, 1) ROWS_12(T, 2) ROWS_8(T, 3) ROWS_6(T, 4) ROWS_2(T, 5) ROWS_2(T, 6) ROWS_1(T, 7) ROWS_1(T, 8)
static const int8_t most_rows[MOST_VECTORS + 1] = {0, 12, 12, 8, 6, 2, 2, 1, 1};
static const int8_t most_vectors[MOST_ROWS + 1] = {0, 8, 6, 4, 4, 4, 4, 3, 3, 3, 3, 3, 3}; /* of products of so many rows */
#elif defined(BP_LEVEL_IS_avx2)
#define MOST_VECTORS 8
#define MOST_ROWS 12
#define TILES(T) ROWS_12(T, 1) ROWS_6(T, 2) ROWS_4(T, 3) ROWS_2(T, 4) ROWS_2(T, 5) ROWS_1(T, 6) ROWS_1(T, 7) ROWS_1(T, 8)
static const int8_t most_rows[MOST_VECTORS + 1] = {0, 12, 6, 4, 2, 2, 1, 1, 1};
static const int8_t most_vectors[MOST_ROWS + 1] = {0, 8, 5, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3};
#else
#define MOST_VECTORS 4
#define MOST_ROWS 4
#define TILES(T) ROWS_4(T, 1) ROWS_4(T, 2) ROWS_1(T, 3) ROWS_1(T, 4)
static const int8_t most_rows[MOST_VECTORS + 1] = {0, 4, 4, 1, 1};
static const int8_t most_vectors[MOST_ROWS + 1] = {0, 4, 2, 2, 2};
#endif
#define MOST_SUMS 24 /* vectors of sums of a tile */
#define ROW_GROUP 3 /* rows of A found from one pointer, at 0, 1 and 2 strides: more pointers or strides do not fit registers */
#define ROWS_1(T, v) T(1, v)
#define ROWS_2(T, v) ROWS_1(T, v) T(2, v)
#define ROWS_4(T, v) ROWS_2(T, v) T(3, v) T(4, v)
#define ROWS_6(T, v) ROWS_4(T, v) T(5, v) T(6, v)
#define ROWS_8(T, v) ROWS_6(T, v) T(7, v) T(8, v)
#define ROWS_12(T, v) ROWS_8(T, v) T(9, v) T(10, v) T(11, v) T(12, v)

typedef struct tile_job {
    const product *p;
    int64_t i, j;  /* its place in c */
    const real *a; /* from row i on */
    int64_t a_row, a_column;
    const real *b; /* from column j on */
    int64_t b_row, k;
    const real *from; /* where the sums start, NULL for zero */
    int64_t from_stride;
    real *to; /* where the sums go, NULL if they are complete and go where the product says */
    int64_t to_stride;
    const char *ahead; /* what will be read soon, a line with each term */
    int64_t ahead_step;
} tile_job;

/* `ragged`: the last vector of a row of B ends outside the matrix, and must be loaded in part. */
ALWAYS_INLINE void tile(const int rows, const int vectors, const int ragged, const tile_job *t)
{
    const product *p = t->p;
    vec sum[MOST_ROWS][MOST_VECTORS];
    const int last = vectors - 1;
    const part rest = vpart_of(t->j + last * WIDTH, p->n);
    const int partly = WIDTH > 1 && t->j + vectors * WIDTH > p->n;
    UNROLL
    for (int r = 0; r < rows; r++) {
        UNROLL
        for (int v = 0; v < vectors; v++) {
            const real *from = t->from ? t->from + r * t->from_stride + v * WIDTH : NULL;
            sum[r][v] = !from ? vset(0) : v == last && partly ? vload_part(from, rest) : vload(from);
        }
    }
    const int64_t a_row = t->a_row, a_column = t->a_column, b_row = t->b_row;
    const real *a[(MOST_ROWS + ROW_GROUP - 1) / ROW_GROUP], *b = t->b;
    const int groups = (rows + ROW_GROUP - 1) / ROW_GROUP;
    UNROLL
    for (int g = 0; g < groups; g++) {
        a[g] = t->a + g * ROW_GROUP * a_row;
        KEEP_POINTER(a[g]);
    }
    const char *ahead = t->ahead;
    const int64_t ahead_step = t->ahead_step;
    for (int64_t l = t->k; l > 0; l--) {
        PREFETCH(ahead);
        ahead += ahead_step;
        vec row_of_b[MOST_VECTORS];
        UNROLL
        for (int v = 0; v < vectors; v++)
            row_of_b[v] = ragged && v == last ? vload_part(b + v * WIDTH, rest) : vload(b + v * WIDTH);
        UNROLL
        for (int r = 0; r < rows; r++) {
            const vec scalar = vset(a[r / ROW_GROUP][r % ROW_GROUP * a_row]);
            UNROLL
            for (int v = 0; v < vectors; v++) sum[r][v] = vfma(scalar, row_of_b[v], sum[r][v]);
        }
        UNROLL
        for (int g = 0; g < groups; g++) a[g] += a_column;
        b += b_row;
    }
    /* copies, as a store of a vector may be to anything, and all of it would be read again */
    const int beyond = t->j + vectors * WIDTH > p->c_stride; /* there is no padding to store to */
    const store_mode mode = t->to ? STORE : p->mode;
    const int64_t to_stride = t->to ? t->to_stride : p->c_stride, added_stride = p->added_stride;
    const real *added = p->added ? p->added + t->i * added_stride + t->j : NULL;
    const vec factor = vset(p->factor);
    real *to = t->to ? t->to : p->c + t->i * to_stride + t->j;
    UNROLL
    for (int r = 0; r < rows; r++) {
        UNROLL
        for (int v = 0; v < vectors; v++)
            store_vector(to + v * WIDTH, sum[r][v], added ? added + v * WIDTH : NULL, v == last ? rest : vpart(WIDTH), mode,
                         factor, v == last && beyond, rest);
        to += to_stride;
        added = added ? added + added_stride : NULL;
    }
}

#define DEFINE_TILE(rows, vectors)                                                                                             \
    NOINLINE void tile_##rows##x##vectors(const tile_job *t) { tile(rows, vectors, 0, t); }                                    \
    NOINLINE void ragged_##rows##x##vectors(const tile_job *t) { tile(rows, vectors, WIDTH > 1, t); }
TILES(DEFINE_TILE)
#undef DEFINE_TILE

typedef void (*tile_fn)(const tile_job *);

static const tile_fn whole_tiles[MOST_VECTORS + 1][MOST_ROWS + 1] = {
#define TILE(rows, vectors) [vectors][rows] = tile_##rows##x##vectors,
    TILES(TILE)
#undef TILE
};
static const tile_fn ragged_tiles[MOST_VECTORS + 1][MOST_ROWS + 1] = {
#define TILE(rows, vectors) [vectors][rows] = ragged_##rows##x##vectors,
    TILES(TILE)
#undef TILE
};

#endif
