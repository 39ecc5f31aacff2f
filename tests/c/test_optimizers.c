/* Optimisers on ragged sizes: each element as if it were alone, and steps that cannot be taken. Their values are compared with
 * formulas by the tests in Python. */
#include "networks.h"

enum { LONGEST = 40, STEPS = 4 };

typedef struct state {
    const setting *s;
    bp_optimizer kind;
    int64_t n;
    void *parameters, *slots[BP_MAX_SLOTS];
} state;

static state state_of(const setting *s, bp_optimizer kind, int64_t n, int n_slots)
{
    state a = {s, kind, n, random_reals(s, n, -1, 1, 1), {NULL, NULL}};
    for (int i = 0; i < n_slots; i++) a.slots[i] = random_reals(s, n, 0.001, 0.01, 2);
    return a;
}

static void state_end(state *a)
{
    release(a->parameters);
    for (int i = 0; i < BP_MAX_SLOTS; i++) release(a->slots[i]);
}

static state state_copy(const state *a)
{
    state b = *a;
    const size_t bytes = (size_t)a->n * a->s->size;
    b.parameters = copy_of(a->parameters, bytes);
    for (int i = 0; i < BP_MAX_SLOTS; i++) b.slots[i] = a->slots[i] ? copy_of(a->slots[i], bytes) : NULL;
    return b;
}

static int same_state(const state *a, const state *b)
{
    const size_t bytes = (size_t)a->n * a->s->size;
    int same = same_bytes(a->parameters, b->parameters, bytes);
    for (int i = 0; i < BP_MAX_SLOTS; i++) same &= !a->slots[i] || same_bytes(a->slots[i], b->slots[i], bytes);
    return same;
}

static bp_status step_of(state *a, const void *gradients, double rate, int step)
{
    return a->s->kernels->optimizer_step(a->kind, a->parameters, gradients, a->slots, test_hyper, rate, step, a->n);
}

static void *element(const setting *s, void *array, int64_t i) { return array ? (char *)array + (size_t)i * s->size : NULL; }

/* All elements at once, and each by itself. */
static void check_steps(const setting *s, bp_optimizer kind, int64_t n, int n_slots)
{
    state all = state_of(s, kind, n, n_slots), single = state_copy(&all);
    for (int step = 1; step <= STEPS; step++) {
        void *g = random_reals(s, n, -2, 2, (uint64_t)step);
        for (int64_t i = 0; i < n; i += 5) set(s->dtype, g, i, step == 2 ? 0 : get(s->dtype, g, i));
        void *kept = copy_of(g, (size_t)n * s->size);
        CHECK_INT(step_of(&all, g, 0.0625, step), BP_OK);
        CHECK(same_bytes(g, kept, (size_t)n * s->size));
        for (int64_t i = 0; i < n; i++) {
            state one = {
                s, kind, 1, element(s, single.parameters, i), {element(s, single.slots[0], i), element(s, single.slots[1], i)}};
            CHECK_INT(step_of(&one, element(s, g, i), 0.0625, step), BP_OK);
            CHECK(isfinite(get(s->dtype, all.parameters, i)));
        }
        CHECK(same_state(&all, &single));
        release(g);
        release(kept);
    }
    state_end(&all);
    state_end(&single);
}

TEST(optimizers_on_ragged_sizes)
{
    for (int kind = 0; kind < BP_N_OPTIMIZERS; kind++)
        for (int64_t n = 0; n <= LONGEST; n++) {
            check_steps(s, (bp_optimizer)kind, n, bp_optimizer_slots[kind]);
            if (kind == BP_OPTIMIZER_sgd) check_steps(s, (bp_optimizer)kind, n, 0);
        }
}

/* Long enough for several of the pieces in which a doubtful step is tried. */
TEST(steps_that_cannot_be_taken_change_nothing)
{
    enum { N = 600 };
    const double bad[] = {(double)NAN, (double)INFINITY, -(double)INFINITY};
    for (int kind = 0; kind < BP_N_OPTIMIZERS; kind++)
        for (int64_t place = 0; place < N; place += 37) {
            state a = state_of(s, (bp_optimizer)kind, N, bp_optimizer_slots[kind]), before = state_copy(&a);
            void *g = random_reals(s, N, -2, 2, 3);
            set(s->dtype, g, place, bad[place % 3]);
            CHECK_INT(step_of(&a, g, 0.0625, 1), BP_E_DIVERGED);
            CHECK(same_state(&a, &before));
            release(g);
            state_end(&a);
            state_end(&before);
        }
}

/* A finite step from near the largest number past it, at one place. */
TEST(steps_to_infinity_change_nothing)
{
    enum { N = 600 };
    const double largest = s->dtype == BP_FLOAT32 ? 3.4e38 : 1.79e308;
    for (int64_t place = 0; place < N; place += 37) {
        state a = state_of(s, BP_OPTIMIZER_sgd, N, (int)(place % 2));
        set(s->dtype, a.parameters, place, largest);
        state before = state_copy(&a);
        void *g = random_reals(s, N, -1e-30, 1e-30, 3);
        set(s->dtype, g, place, -largest);
        CHECK_INT(step_of(&a, g, 1, 1), BP_E_DIVERGED);
        CHECK(same_state(&a, &before));
        set(s->dtype, g, place, largest / 2);
        CHECK_INT(step_of(&a, g, 1, 1), BP_OK);
        CHECK(isfinite(get(s->dtype, a.parameters, place)));
        release(g);
        state_end(&a);
        state_end(&before);
    }
}

const test_case optimizer_tests[] = {CASE(optimizers_on_ragged_sizes), CASE(steps_that_cannot_be_taken_change_nothing),
                                     CASE(steps_to_infinity_change_nothing), END_OF_CASES};
