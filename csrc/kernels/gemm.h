/* Products of matrices: which tiles, in which order, and what is packed first. */
#ifndef BP_GEMM_H
#define BP_GEMM_H

#include "narrow.h"

#ifndef PACKED_TERMS
#define PACKED_TERMS 256 /* of B at a time: a panel of them stays in L1 */
#endif
#define PANEL_VECTORS 4
#define PANEL_ROWS 64

#ifndef PACKED_BYTES
#define PACKED_BYTES (128 * 1024) /* of A at a time: a block of them stays in L2 */
#endif

#ifndef AHEAD_LINES
#define AHEAD_LINES 3
#endif

/* What the tiles of a panel of columns have in common. */
typedef struct panel {
    const product *p;
    int64_t j;
    int vectors, height; /* of the largest tile */
    const real *a;       /* packed, or NULL */
    const real *b;       /* at the first term */
    int64_t b_row;
    int packed;
    int64_t l, k; /* terms l..l + k */
    real *sums;   /* of an unfinished panel: c itself, or rows of `vectors` */
    int64_t sums_stride;
    int64_t next; /* the column at which the next panel of B starts, 0 if none will be read soon */
} panel;

/* Sums that the next tile starts from, or adds to. */
ALWAYS_INLINE void prefetch_rows(const real *c, int64_t stride, int64_t rows, int64_t columns)
{
    for (int64_t r = 0; r < rows; r++)
        for (int64_t x = 0; x < columns; x += STRIPE) PREFETCH(c + r * stride + x);
}

/* Rows i0..i1 of a panel, in tiles of nearly the same size. */
static void run_tiles(const panel *t, int64_t i0, int64_t i1)
{
    const product *p = t->p;
    const int64_t tiles = n_parts(i1 - i0, t->height);
    const int64_t least = (i1 - i0) / tiles, larger = (i1 - i0) % tiles;
    const int complete = t->l + t->k == p->k;
    const int64_t columns = at_most(p->n - t->j, t->vectors * WIDTH);
    const tile_fn *kinds = !t->packed && columns < t->vectors * WIDTH ? ragged_tiles[t->vectors] : whole_tiles[t->vectors];
    tile_job job = {.p = p, .j = t->j, .a_row = p->a_row, .a_column = p->a_column, .b = t->b, .b_row = t->b_row, .k = t->k};
    job.from_stride = t->l ? t->sums_stride : p->initial_stride;
    job.to_stride = t->sums_stride;
    int64_t i = i0;
    for (int64_t x = 0; x < tiles; x++) {
        const int64_t rows = least + (x < larger);
        job.i = i;
        if (t->a) {
            job.a = t->a + (i - i0) * t->k;
            job.a_row = 1;
            job.a_column = rows;
        } else
            job.a = p->a + i * p->a_row + t->l * p->a_column;
        if (t->l)
            job.from = t->sums + (i - i0) * t->sums_stride;
        else
            job.from = p->initial ? p->initial + i * p->initial_stride + t->j : NULL;
        job.to = complete ? NULL : t->sums + (i - i0) * t->sums_stride;
        job.ahead = (const char *)job.a;
        job.ahead_step = 0;
        if (t->next && x < AHEAD_LINES) {
            job.ahead = (const char *)(p->b + t->l * p->b_row + t->next) + 64 * x;
            job.ahead_step = p->b_row * (int64_t)sizeof(real);
        }
#ifndef NO_CPRE
        if (t->packed)
            prefetch_rows(p->c + (i + rows) * p->c_stride + t->j, p->c_stride, at_most(rows, i1 - i - rows), columns);
#endif
        kinds[rows](&job);
        if (complete && p->finish) p->finish(p, i, t->j, rows, columns);
        i += rows;
    }
}

/* Columns in panels of nearly the same number of vectors. */
typedef struct column_cut {
    int64_t panels, least, larger;
} column_cut;

static column_cut cut_columns(const product *p, int most)
{
    const int64_t vectors = n_parts(p->n, WIDTH), panels = n_parts(vectors, most);
    const column_cut c = {panels, vectors / panels, vectors % panels};
    return c;
}

static int packed_vectors(const product *p)
{
    const int most = most_vectors[at_most(p->m, MOST_ROWS)];
    return most < PANEL_VECTORS ? most : PANEL_VECTORS;
}

static void run_direct(const product *p)
{
    const column_cut c = cut_columns(p, most_vectors[at_most(p->m, MOST_ROWS)]);
    panel t = {.p = p, .b_row = p->b_row, .k = p->k};
    for (int64_t x = 0; x < c.panels; x++) {
        t.vectors = (int)(c.least + (x < c.larger));
        t.height = most_rows[t.vectors];
        t.b = p->b + t.j;
        run_tiles(&t, 0, p->m);
        t.j += t.vectors * WIDTH;
    }
}

static void run_packed(const product *p, int64_t i0, int64_t i1)
{
    _Alignas(64) real b[PACKED_TERMS * PANEL_VECTORS * WIDTH], sums[PANEL_ROWS * PANEL_VECTORS * WIDTH];
    const column_cut c = cut_columns(p, packed_vectors(p));
    const int64_t blocks = n_parts(p->k, PACKED_TERMS), terms = n_parts(p->k, blocks);
    panel t = {.p = p, .b = b, .packed = 1};
    for (int64_t x = 0; x < c.panels; x++) {
        t.vectors = (int)(c.least + (x < c.larger));
        t.height = most_rows[t.vectors];
        t.b_row = t.vectors * WIDTH;
        t.sums = p->mode == STORE ? p->c + i0 * p->c_stride + t.j : sums;
        t.sums_stride = p->mode == STORE ? p->c_stride : t.vectors * WIDTH;
        for (t.l = 0; t.l < p->k; t.l += t.k) {
            t.k = at_most(terms, p->k - t.l);
            pack_b(b, p, t.j, t.vectors, t.l, t.k);
            run_tiles(&t, i0, i1);
        }
        t.j += t.vectors * WIDTH;
    }
}

static void pack_rows_of_a(real *out, const product *p, int64_t i0, int64_t i1, int height, int64_t l, int64_t k)
{
    const int64_t tiles = n_parts(i1 - i0, height), least = (i1 - i0) / tiles, larger = (i1 - i0) % tiles;
    for (int64_t x = 0, i = i0; x < tiles; x++) {
        const int64_t rows = least + (x < larger);
        pack_a(out + (i - i0) * k, p, i, rows, l, k);
        i += rows;
    }
}

/* Both packed; STORE only, or k <= PACKED_TERMS. */
static void run_twice_packed(const product *p, int64_t i0, int64_t i1)
{
    _Alignas(64) real b[PACKED_TERMS * PANEL_VECTORS * WIDTH], a[PACKED_BYTES / sizeof(real)];
    const column_cut c = cut_columns(p, packed_vectors(p));
    const int64_t blocks = n_parts(p->k, PACKED_TERMS), terms = n_parts(p->k, blocks);
    const int64_t fits = PACKED_BYTES / (int64_t)sizeof(real) / terms;
    panel t = {.p = p, .a = a, .b = b, .packed = 1, .sums_stride = p->c_stride};
    t.height = most_rows[c.least + (c.larger > 0)];
    const int64_t n_blocks = n_parts(i1 - i0, fits / t.height * t.height), rows = n_parts(i1 - i0, n_blocks);
    for (int64_t i = i0; i < i1; i += rows) {
        const int64_t end = at_most(i + rows, i1);
        for (t.l = 0; t.l < p->k; t.l += t.k) {
            t.k = at_most(terms, p->k - t.l);
            pack_rows_of_a(a, p, i, end, t.height, t.l, t.k);
            t.j = 0;
            for (int64_t x = 0; x < c.panels; x++) {
                t.vectors = (int)(c.least + (x < c.larger));
                t.b_row = t.vectors * WIDTH;
                t.sums = p->c + i * p->c_stride + t.j;
                t.next = x + 1 < c.panels && p->b_column == 1 ? t.j + t.vectors * WIDTH : 0;
                pack_b(b, p, t.j, t.vectors, t.l, t.k);
                run_tiles(&t, i, end);
                t.j += t.vectors * WIDTH;
            }
        }
    }
}

static int is_packed(const product *p)
{
#ifdef FORCE_PACK
    return FORCE_PACK;
#endif
    if (p->b_column != 1) return 1;
    return p->m >= 32 && p->k * p->n * (int64_t)sizeof(real) > 512 * 1024;
}

static int is_twice_packed(const product *p)
{
    if (p->mode != STORE && p->k > PACKED_TERMS) return 0;
#ifdef FORCE_TWICE
    return FORCE_TWICE;
#endif
    return p->n >= 24 * WIDTH && p->m * p->k * (int64_t)sizeof(real) > 512 * 1024;
}

static void multiply(const product *p)
{
    if (p->m == 0 || p->n == 0) return;
    if (is_striped(p)) {
        run_striped(p, 0, p->m);
        return;
    }
    if (is_upright(p)) {
        run_upright(p, 0, p->m);
        return;
    }
    if (p->k == 0 || !is_packed(p)) {
        run_direct(p);
        return;
    }
    if (is_twice_packed(p)) {
        run_twice_packed(p, 0, p->m);
        return;
    }
    const int64_t rows = p->mode != STORE && p->k > PACKED_TERMS ? PANEL_ROWS : p->m;
    for (int64_t i = 0; i < p->m; i += rows) run_packed(p, i, at_most(i + rows, p->m));
}

#endif
