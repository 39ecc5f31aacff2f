/* Products of matrices: which tiles, in which order, and what is packed first. */
#ifndef BP_GEMM_H
#define BP_GEMM_H

#include "../pool.h"
#include "narrow.h"
#include "squares.h"

#define PACKED_TERMS 256               /* of B at a time: a panel of them stays in L1, or near it */
#define PACKED_BYTES (384 * 1024)      /* of A at a time: a block of them stays in L2; it lies on the stack */
#define PACKED_FROM (512 * 1024)       /* bytes of B, of more than a few rows of tiles */
#define TWICE_PACKED_FROM (512 * 1024) /* bytes of A */
#define ACROSS_FROM (192 * 1024)       /* bytes of either, where low tiles read a transposed A */
#define PANEL_VECTORS 4                /* at most, and */
#define PANEL_ROWS 64                  /* rows, of a packed panel whose sums cannot wait in c */
#define FEW_TERMS 8                    /* for which a c of so many bytes */
#define STREAMED_FROM (1024 * 1024)    /* is passed through once, by rows */
#define AHEAD_LINES 3                  /* of each row of the next panel, brought near by as many tiles */

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
        if (t->packed)
            prefetch_rows(p->c + (i + rows) * p->c_stride + t->j, p->c_stride, at_most(rows, i1 - i - rows), columns);
        kinds[rows](&job);
        if (complete && p->finish) p->finish(p, i, t->j, rows, columns);
        i += rows;
    }
}

/* Rows top..bottom and columns left..right of a product. Columns start at whole vectors. */
typedef struct area {
    int64_t top, bottom, left, right;
} area;

/* Columns in panels of nearly the same number of vectors. */
typedef struct column_cut {
    int64_t panels, least, larger;
} column_cut;

static column_cut cut_columns(const area *r, int most)
{
    const int64_t vectors = n_parts(r->right - r->left, WIDTH), panels = n_parts(vectors, most);
    const column_cut c = {panels, vectors / panels, vectors % panels};
    return c;
}

static int vectors_of(const area *r) { return most_vectors[at_most(r->bottom - r->top, MOST_ROWS)]; }

static int packed_vectors_of(const area *r) { return vectors_of(r) < PANEL_VECTORS ? vectors_of(r) : PANEL_VECTORS; }

static void run_panels_directly(const product *p, const area *r)
{
    const column_cut c = cut_columns(r, vectors_of(r));
    panel t = {.p = p, .j = r->left, .b_row = p->b_row, .k = p->k};
    for (int64_t x = 0; x < c.panels; x++) {
        t.vectors = (int)(c.least + (x < c.larger));
        t.height = most_rows[t.vectors];
        t.b = p->b + t.j;
        run_tiles(&t, r->top, r->bottom);
        t.j += t.vectors * WIDTH;
    }
}

/* Panel by panel; where most of the work is to stream a large c from and to memory, a few rows of it at a time. */
static void run_direct(const product *p, const area *r)
{
    const int64_t height = r->bottom - r->top, bytes = height * (r->right - r->left) * (int64_t)sizeof(real);
    const int64_t rows = p->k <= FEW_TERMS && bytes > STREAMED_FROM ? most_rows[vectors_of(r)] : height;
    for (int64_t i = r->top; i < r->bottom; i += rows) {
        const area some = {i, at_most(i + rows, r->bottom), r->left, r->right};
        run_panels_directly(p, &some);
    }
}

/* B packed, a panel and a run of terms at a time. Sums that wait for later terms lie in c, or, where c holds something else,
 * beside the panel. */
NOINLINE void run_packed(const product *p, const area *r)
{
    _Alignas(64) real b[PACKED_TERMS * PANEL_VECTORS * WIDTH], sums[PANEL_ROWS * PANEL_VECTORS * WIDTH];
    const column_cut c = cut_columns(r, packed_vectors_of(r));
    const int64_t blocks = n_parts(p->k, PACKED_TERMS), terms = n_parts(p->k, blocks);
    panel t = {.p = p, .j = r->left, .b = b, .packed = 1};
    for (int64_t x = 0; x < c.panels; x++) {
        t.vectors = (int)(c.least + (x < c.larger));
        t.height = most_rows[t.vectors];
        t.b_row = t.vectors * WIDTH;
        t.sums = p->mode == STORE ? p->c + r->top * p->c_stride + t.j : sums;
        t.sums_stride = p->mode == STORE ? p->c_stride : t.vectors * WIDTH;
        for (t.l = 0; t.l < p->k; t.l += t.k) {
            t.k = at_most(terms, p->k - t.l);
            pack_b(b, p, t.j, t.vectors, t.l, t.k);
            run_tiles(&t, r->top, r->bottom);
        }
        t.j += t.vectors * WIDTH;
    }
}

/* As many rows of A as run_tiles() takes, tile by tile. */
static void pack_rows_of_a(real *out, const product *p, int64_t i0, int64_t i1, int height, int64_t l, int64_t k)
{
    const int64_t tiles = n_parts(i1 - i0, height), least = (i1 - i0) / tiles, larger = (i1 - i0) % tiles;
    for (int64_t x = 0, i = i0; x < tiles; x++) {
        const int64_t rows = least + (x < larger);
        pack_a(out + (i - i0) * k, p, i, rows, l, k);
        i += rows;
    }
}

/* All panels over one packed block of A, rows i0..i1. */
static void run_panels(panel *t, const area *r, const column_cut *c, real *b, int64_t i0, int64_t i1)
{
    const product *p = t->p;
    t->j = r->left;
    for (int64_t x = 0; x < c->panels; x++) {
        t->vectors = (int)(c->least + (x < c->larger));
        t->b_row = t->vectors * WIDTH;
        t->sums = p->c + i0 * p->c_stride + t->j;
        t->next = x + 1 < c->panels && p->b_column == 1 ? t->j + t->vectors * WIDTH : 0;
        pack_b(b, p, t->j, t->vectors, t->l, t->k);
        run_tiles(t, i0, i1);
        t->j += t->vectors * WIDTH;
    }
}

/* A and B packed. Sums that wait for later terms lie in c: STORE only, or k <= PACKED_TERMS. */
NOINLINE void run_twice_packed(const product *p, const area *r)
{
    _Alignas(64) real b[PACKED_TERMS * PANEL_VECTORS * WIDTH], a[PACKED_BYTES / sizeof(real)];
    const column_cut c = cut_columns(r, packed_vectors_of(r));
    const int64_t terms = n_parts(p->k, n_parts(p->k, PACKED_TERMS)), n = r->bottom - r->top;
    panel t = {.p = p, .a = a, .b = b, .packed = 1, .sums_stride = p->c_stride};
    t.height = most_rows[c.least + (c.larger > 0)];
    const int64_t fit = PACKED_BYTES / (int64_t)sizeof(real) / terms / t.height * t.height;
    const int64_t rows = n_parts(n, n_parts(n, fit));
    for (int64_t i = r->top; i < r->bottom; i += rows) {
        const int64_t end = at_most(i + rows, r->bottom);
        for (t.l = 0; t.l < p->k; t.l += t.k) {
            t.k = at_most(terms, p->k - t.l);
            pack_rows_of_a(a, p, i, end, t.height, t.l, t.k);
            run_panels(&t, r, &c, b, i, end);
        }
    }
}

/* ---- Which of them ----------------------------------------------------------------------------------------------------- */

/* Low tiles come by each line of a transposed A more often than it stays in L1, so packing pays sooner. */
static int64_t packed_from(const product *p, int64_t usual)
{
    return p->a_column != 1 && most_rows[3] < 8 ? ACROSS_FROM : usual;
}

static int is_packed(const product *p, const area *r)
{
    if (p->k == 0) return 0;
    if (p->b_column != 1) return 1;
    return r->bottom - r->top >= 64 && p->k * p->n * (int64_t)sizeof(real) > packed_from(p, PACKED_FROM);
}

static int goes_by_squares(const product *p, const area *r)
{
    return WIDTH > 1 && p->b_column != 1 && r->bottom - r->top <= SQUARES_ROWS;
}

static int is_twice_packed(const product *p, const area *r)
{
    if (p->mode != STORE && p->k > PACKED_TERMS) return 0;
    return r->right - r->left >= 24 * WIDTH && p->m * p->k * (int64_t)sizeof(real) > packed_from(p, TWICE_PACKED_FROM);
}

static void multiply_area(const product *p, const area *r)
{
    if (is_striped(p)) {
        run_striped(p, r->top, r->bottom);
    } else if (is_upright(p)) {
        run_upright(p, r->top, r->bottom);
    } else if (goes_by_squares(p, r)) {
        run_squares(p, r->top, r->bottom, r->left, r->right);
    } else if (!is_packed(p, r)) {
        run_direct(p, r);
    } else if (is_twice_packed(p, r)) {
        run_twice_packed(p, r);
    } else {
        const int64_t rows = p->mode != STORE && p->k > PACKED_TERMS ? PANEL_ROWS : p->m;
        for (area part = *r; part.top < r->bottom; part.top += rows) {
            part.bottom = at_most(part.top + rows, r->bottom);
            run_packed(p, &part);
        }
    }
}

/* ---- Shared by threads: parts of the result, so that no sum depends on them --------------------------------------------- */

/* Multiplications, in vectors, that pay for waking a thread. */
#define SHARED_FROM 65536.0

typedef struct shared_product {
    const product *p;
    area whole;
    int64_t parts;
    int by_columns;
} shared_product;

static void multiply_part(void *argument, int64_t part)
{
    const shared_product *s = argument;
    area r = s->whole;
    if (s->by_columns) {
        const int64_t vectors = n_parts(r.right - r.left, WIDTH), left = r.left;
        r.left = left + vectors * part / s->parts * WIDTH;
        r.right = at_most(left + vectors * (part + 1) / s->parts * WIDTH, r.right);
    } else {
        const int64_t rows = r.bottom - r.top, top = r.top;
        r.top = top + rows * part / s->parts;
        r.bottom = top + rows * (part + 1) / s->parts;
    }
    if (r.top < r.bottom && r.left < r.right) multiply_area(s->p, &r);
}

/* Columns where they are even parts, so that each thread reads its own part of B only; else rows. */
static int is_cut_by_columns(const product *p, int64_t columns, int64_t parts)
{
    const int64_t vectors = n_parts(columns, WIDTH);
    if (is_striped(p) || is_upright(p)) return 0;
    return vectors % parts == 0 || vectors >= 8 * parts || p->m < 8 * parts;
}

/* Columns left..right of a product only; left, and right unless it is n, must be multiples of STRIPE. The caller of a product
 * may thus do something else in between, without changing its bits. */
static void multiply_columns(const product *p, int64_t left, int64_t right)
{
    if (p->m == 0 || left >= right) return;
    const area whole = {0, p->m, left, right};
    const double work = (double)p->m * (double)p->k * (double)n_parts(right - left, WIDTH);
    const int64_t threads = work < SHARED_FROM ? 1 : bp_num_threads();
    if (threads == 1) {
        multiply_area(p, &whole);
        return;
    }
    shared_product shared = {p, whole, threads, is_cut_by_columns(p, right - left, threads)};
    bp_pool_run(multiply_part, &shared, threads);
}

static void multiply(const product *p) { multiply_columns(p, 0, p->n); }

#endif
