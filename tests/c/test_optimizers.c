/* Optimisers: three steps against the formulas written one parameter at a time. */
#include "check.h"

typedef struct recipe {
    bp_optimizer kind;
    double hyper[BP_N_HYPER];
    int n_slots;
    double first_start, second_start;
} recipe;

static const recipe recipes[] = {
    {BP_OPTIMIZER_sgd, {0, 0, 0, 0}, 0, 0, 0},
    {BP_OPTIMIZER_sgd, {0.875, 0, 0, 0}, 1, 0, 0},
    {BP_OPTIMIZER_sgd, {0.875, 1, 0, 0}, 1, 0, 0},
    {BP_OPTIMIZER_rmsprop, {0.96875, 1e-6, 0, 0}, 1, 0, 0},
    {BP_OPTIMIZER_adam, {0.875, 0.96875, 1e-6, 0}, 2, 0, 0},
    {BP_OPTIMIZER_adamw, {0.875, 0.96875, 1e-6, 0.125}, 2, 0, 0},
    {BP_OPTIMIZER_rprop, {0.5, 1.25, 0.001, 0.02}, 2, 0, 0.0125},
};
enum { N_RECIPES = sizeof recipes / sizeof recipes[0] };

/* One parameter p with its two slots, from its gradient g. */
static void step_reference(const recipe *r, double *p, double g, double *first, double *second, double rate, int step)
{
    const double *h = r->hyper;
    switch (r->kind) {
        case BP_OPTIMIZER_sgd:
            *first = h[0] * *first + g;
            *p -= rate * (h[1] != 0 ? g + h[0] * *first : *first);
            return;
        case BP_OPTIMIZER_rmsprop:
            *first = h[0] * *first + (1 - h[0]) * g * g;
            *p -= rate * g / (sqrt(*first) + h[1]);
            return;
        case BP_OPTIMIZER_adamw:
        case BP_OPTIMIZER_adam:
            if (r->kind == BP_OPTIMIZER_adamw) *p *= 1 - rate * h[3];
            *first = h[0] * *first + (1 - h[0]) * g;
            *second = h[1] * *second + (1 - h[1]) * g * g;
            *p -= rate * *first / (1 - pow(h[0], step)) / (sqrt(*second / (1 - pow(h[1], step))) + h[2]);
            return;
        case BP_OPTIMIZER_rprop: {
            const double agreement = g * *first;
            *second = fmin(fmax(*second * (agreement > 0 ? h[1] : agreement < 0 ? h[0] : 1), h[2]), h[3]);
            *first = agreement < 0 ? 0 : g;
            if (*first != 0) *p -= *first > 0 ? *second : -*second;
            return;
        }
        case BP_N_OPTIMIZERS: break;
    }
    CHECK(!"an optimiser without a reference here");
}

static void check_recipe(const setting *s, const recipe *r, int64_t n)
{
    enum { STEPS = 4, MOST = 40 };
    double p_expected[MOST], first[MOST], second[MOST];
    void *p = random_reals(s, n, -1, 1, 1), *slots[BP_MAX_SLOTS] = {NULL, NULL};
    for (int i = 0; i < r->n_slots; i++) slots[i] = reals(s, n);
    for (int64_t i = 0; i < n; i++) {
        p_expected[i] = get(s->dtype, p, i);
        first[i] = r->first_start;
        second[i] = r->second_start;
        if (slots[0]) set(s->dtype, slots[0], i, first[i]);
        if (slots[1]) set(s->dtype, slots[1], i, second[i]);
    }
    for (int step = 1; step <= STEPS; step++) {
        void *g = random_reals(s, n, -2, 2, (uint64_t)step);
        for (int64_t i = 0; i < n; i += 5) set(s->dtype, g, i, step == 2 ? 0 : get(s->dtype, g, i));
        void *kept = copy_of(g, (size_t)n * s->size);
        s->kernels->optimizer_step(r->kind, p, g, slots, r->hyper, 0.0625, step, n);
        CHECK(same_bytes(g, kept, (size_t)n * s->size));
        for (int64_t i = 0; i < n; i++) {
            step_reference(r, &p_expected[i], get(s->dtype, g, i), &first[i], &second[i], 0.0625, step);
            CHECK_NEAR(get(s->dtype, p, i), p_expected[i], 64 * s->epsilon, i);
            if (slots[0]) CHECK_NEAR(get(s->dtype, slots[0], i), first[i], 64 * s->epsilon, i);
            if (slots[1]) CHECK_NEAR(get(s->dtype, slots[1], i), second[i], 64 * s->epsilon, i);
        }
        release(g);
        release(kept);
    }
    release(p);
    for (int i = 0; i < BP_MAX_SLOTS; i++) release(slots[i]);
}

TEST(optimizers_on_ragged_sizes)
{
    int seen[BP_N_OPTIMIZERS] = {0};
    for (int i = 0; i < N_RECIPES; i++) {
        seen[recipes[i].kind] = 1;
        for (int64_t n = 0; n <= 40; n++) check_recipe(s, &recipes[i], n);
    }
    for (int kind = 0; kind < BP_N_OPTIMIZERS; kind++) CHECK(seen[kind]);
}

const test_case optimizer_tests[] = {CASE(optimizers_on_ragged_sizes), END_OF_CASES};
