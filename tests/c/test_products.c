/* Products of all shapes about the edges of tiles, vectors and blocks, against one chain of multiply-adds for each element. */
#include "check.h"
#include "plan.h"

typedef struct product_case {
    bp_product p;
    void *c, *expected, *initial, *added, *a, *b;
    int64_t elements; /* of c */
    int *finished;    /* how often each element was */
} product_case;

static double fused(const setting *s, double x, double y, double z)
{
    if (s->level == BP_LEVEL_generic) return s->dtype == BP_FLOAT64 ? x * y + z : (double)((float)x * (float)y + (float)z);
    return s->dtype == BP_FLOAT64 ? fma(x, y, z) : (double)fmaf((float)x, (float)y, (float)z);
}

static double rounded(const setting *s, double x) { return s->dtype == BP_FLOAT64 ? x : (double)(float)x; }

static double term(const setting *s, const bp_product *p, int64_t i, int64_t j, int64_t l, double sum)
{
    const double x = get(s->dtype, p->a, i * p->a_row + l * p->a_column);
    return fused(s, x, get(s->dtype, p->b, l * p->b_row + j * p->b_column), sum);
}

static double striped_sum(const setting *s, const bp_product *p, int64_t i, int64_t j)
{
    const int stripe = s->dtype == BP_FLOAT64 ? 8 : 16;
    double lane[16] = {0};
    for (int64_t l = 0; l < p->k; l++) lane[l % stripe] = term(s, p, i, j, l, lane[l % stripe]);
    for (int half = stripe / 2; half > 0; half /= 2)
        for (int x = 0; x < half; x++) lane[x] = rounded(s, lane[x] + lane[x + half]);
    return lane[0];
}

static double expected_at(const setting *s, const bp_product *p, int64_t i, int64_t j)
{
    const double start = p->initial ? get(s->dtype, p->initial, i * p->initial_stride + j) : 0;
    const double old = get(s->dtype, p->c, i * p->c_stride + j);
    double sum = start;
    if (p->narrow && bp_is_striped(s->dtype, p->n, p->k))
        sum = rounded(s, striped_sum(s, p, i, j) + start);
    else
        for (int64_t l = 0; l < p->k; l++) sum = term(s, p, i, j, l, sum);
    if (p->mode == BP_STORE) return sum;
    if (p->added) sum = rounded(s, get(s->dtype, p->added, i * p->added_stride + j) + sum);
    return p->mode == BP_ADD ? rounded(s, old + sum) : fused(s, rounded(s, p->factor), sum, old);
}

static void count_part(void *context, int64_t i, int64_t j, int64_t rows, int64_t columns)
{
    const product_case *c = context;
    CHECK(i >= 0 && j >= 0 && rows > 0 && columns > 0 && i + rows <= c->p.m && j + columns <= c->p.n);
    for (int64_t r = i; r < i + rows; r++)
        for (int64_t x = j; x < j + columns; x++) c->finished[r * c->p.n + x]++;
}

enum { WITH_INITIAL = 1, WITH_BIAS = 2, WITH_ADDED = 4, WITH_ROOM = 8, WITH_FINISH = 16, NARROW = 32 };

/* kind: 0 a b, 1 a^T b, 2 a b^T, 3 a^T b^T. Rows of c and of what is read have `room` elements after them. */
static product_case make_case(const setting *s, int kind, int64_t m, int64_t n, int64_t k, int with)
{
    const int64_t room = with & WITH_ROOM ? 16 : 0, a_width = (kind & 1 ? m : k) + room, b_width = (kind & 2 ? k : n) + room;
    product_case c = {.elements = m * (n + room)};
    c.a = random_reals(s, (kind & 1 ? k : m) * a_width, -1, 1, 1);
    c.b = random_reals(s, (kind & 2 ? n : k) * b_width, -1, 1, 2);
    c.c = random_reals(s, c.elements, -1, 1, 3);
    c.initial = random_reals(s, c.elements, -1, 1, 4);
    c.added = random_reals(s, c.elements, -1, 1, 5);
    c.finished = calloc((size_t)(m * n + 1), sizeof *c.finished);
    const bp_product p = {.c = c.c,
                          .c_stride = n + room,
                          .initial = with & (WITH_INITIAL | WITH_BIAS) ? c.initial : NULL,
                          .initial_stride = with & WITH_BIAS ? 0 : n + room,
                          .a = c.a,
                          .a_row = kind & 1 ? 1 : a_width,
                          .a_column = kind & 1 ? a_width : 1,
                          .b = c.b,
                          .b_row = kind & 2 ? 1 : b_width,
                          .b_column = kind & 2 ? b_width : 1,
                          .m = m,
                          .n = n,
                          .k = k,
                          .factor = -0.3,
                          .added = with & WITH_ADDED ? c.added : NULL,
                          .added_stride = n + room,
                          .narrow = with & NARROW,
                          .finish = with & WITH_FINISH ? count_part : NULL};
    c.p = p;
    return c;
}

static void drop_case(product_case *c)
{
    void *const all[] = {c->a, c->b, c->c, c->initial, c->added};
    for (size_t x = 0; x < sizeof all / sizeof all[0]; x++) release(all[x]);
    free(c->finished);
}

static void check_product(const setting *s, int kind, bp_store_mode mode, int64_t m, int64_t n, int64_t k, int with)
{
    product_case c = make_case(s, kind, m, n, k, with);
    c.p.mode = mode;
    c.p.context = &c;
    double *expected = malloc((size_t)(m * n + 1) * sizeof *expected);
    for (int64_t i = 0; i < m; i++)
        for (int64_t j = 0; j < n; j++) expected[i * n + j] = expected_at(s, &c.p, i, j);
    s->kernels->multiply(&c.p);
    int64_t wrong = 0, unfinished = 0;
    for (int64_t i = 0; i < m; i++)
        for (int64_t j = 0; j < n; j++) {
            wrong += get(s->dtype, c.c, i * c.p.c_stride + j) != expected[i * n + j];
            unfinished += c.finished[i * n + j] != (c.p.finish != NULL);
        }
    if (wrong || unfinished)
        check_failed(__FILE__, __LINE__, "kind %d, mode %d, %lldx%lldx%lld, with %d: %lld wrong, %lld not finished once", kind,
                     (int)mode, (long long)m, (long long)k, (long long)n, with, (long long)wrong, (long long)unfinished);
    free(expected);
    drop_case(&c);
}

TEST(every_small_product)
{
    for (int kind = 0; kind < 3; kind++)
        for (int64_t m = 1; m <= 27; m += m < 14 ? 1 : 4)
            for (int64_t n = 1; n <= 140; n += n < 36 ? 1 : 13)
                check_product(s, kind, BP_STORE, m, n, (m + n) % 5, (m + n) % 2 ? WITH_BIAS | WITH_FINISH : WITH_ROOM);
}

/* A few rows by a transposed B, which is turned in registers, a square at a time. */
TEST(few_rows_by_transposed_squares)
{
    for (int64_t m = 1; m <= 6; m++)
        for (int64_t n = 1; n <= 70; n += n < 36 ? 1 : 11)
            for (int64_t k = 0; k <= 70; k += k < 18 ? 1 : 13)
                check_product(s, (int)(2 + (m + k) % 2), (bp_store_mode)((m + n + k) % 3), m, n, k,
                              (n + k) % 2 ? WITH_BIAS | WITH_FINISH : WITH_ROOM);
    check_product(s, 2, BP_STEP, 3, 1000, 301, WITH_ADDED | WITH_INITIAL | WITH_FINISH);
}

TEST(every_store_mode)
{
    const int withs[] = {0, WITH_ADDED, WITH_INITIAL | WITH_FINISH, WITH_ADDED | WITH_ROOM | WITH_BIAS | WITH_FINISH};
    for (int kind = 0; kind < 3; kind++)
        for (int mode = 0; mode < 3; mode++)
            for (int w = 0; w < 4; w++) {
                const int with = mode == BP_STORE ? withs[w] & ~WITH_ADDED : withs[w];
                check_product(s, kind, (bp_store_mode)mode, 7, 21, 9, with);
                check_product(s, kind, (bp_store_mode)mode, 70, 50, 300, with); /* more terms than are packed at once */
                for (int64_t n = 1; n <= 9; n++) check_product(s, kind, (bp_store_mode)mode, 45, n, 6, with);
            }
}

/* Past the sizes at which B, or A and B, are packed. */
TEST(large_products)
{
    for (int kind = 0; kind < 3; kind++) { /* each mode once with each path, as all of them would take minutes */
        check_product(s, kind, (bp_store_mode)kind, 33, 331, 800, WITH_FINISH | WITH_BIAS);
        check_product(s, kind, (bp_store_mode)((kind + 1) % 3), 301, 430, 250, WITH_FINISH);
    }
    check_product(s, 0, BP_STORE, 301, 430, 520, WITH_FINISH | WITH_INITIAL | WITH_ROOM);
    check_product(s, 1, BP_STORE, 301, 430, 520, WITH_FINISH);
    check_product(s, 0, BP_STORE, 1, 1000, 300, WITH_BIAS);
}

/* Lanes by hand: with k a whole number of stripes, and with some left over. */
TEST(narrow_products_of_many_terms_are_striped)
{
    for (int kind = 0; kind < 3; kind += 2)
        for (int64_t n = 1; n <= 9; n++)
            for (int64_t k = 250; k <= 1100; k = k < 275 ? k + 1 : k + 271)
                for (int mode = 0; mode < 3; mode += 2)
                    check_product(s, kind, (bp_store_mode)mode, k % 2 ? 19 : 1 + k % 7, n, k,
                                  NARROW | (n % 2 ? WITH_BIAS : WITH_ROOM) | WITH_FINISH);
}

/* Past the work that is shared, by rows and by columns. */
TEST(products_shared_by_threads)
{
    const int before = bp_num_threads();
    bp_set_num_threads(3);
    for (int kind = 0; kind < 3; kind++) {
        check_product(s, kind, BP_STORE, 70, 331, 100, WITH_BIAS | WITH_FINISH);
        check_product(s, kind, BP_STEP, 331, 70, 300, WITH_FINISH | WITH_ADDED);
        check_product(s, kind, BP_STORE, 3, 1003, 700, WITH_BIAS | WITH_FINISH); /* few rows, other columns for each thread */
        check_product(s, kind, BP_ADD, 3000, 3, 300, WITH_FINISH | (kind == 1 ? 0 : NARROW));
    }
    bp_set_num_threads(before);
}

const test_case product_tests[] = {CASE(every_small_product),
                                   CASE(few_rows_by_transposed_squares),
                                   CASE(every_store_mode),
                                   CASE(large_products),
                                   CASE(narrow_products_of_many_terms_are_striped),
                                   CASE(products_shared_by_threads),
                                   END_OF_CASES};
