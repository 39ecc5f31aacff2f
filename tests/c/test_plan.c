/* Plans and workspaces: sizes, refusals, texts and names. */
#include "check.h"

#define DENSE(in, out, bias) {.kind = BP_LAYER_DENSE, .n_in = (in), .n_out = (out), .has_bias = (bias)}
#define ACTIVATION_LAYER(which) {.kind = BP_LAYER_ACTIVATION, .activation = (which)}
#define DROPOUT(p) {.kind = BP_LAYER_DROPOUT, .parameter = (p)}
#define N_OF(layers) ((int64_t)(sizeof(layers) / sizeof(layers)[0]))

static const bp_loss_spec squared = {.loss = BP_LOSS_mse};

/* The status of making a plan; where one is made all its sizes are asked for. */
static bp_status status_of(bp_dtype dtype, int64_t n_in, const bp_layer_spec *layers, int64_t n, const bp_loss_spec *loss)
{
    bp_plan *plan = (bp_plan *)&plan; /* must be overwritten */
    const bp_status status = bp_plan_create(&plan, dtype, n_in, layers, n, loss);
    if (status != BP_OK) {
        CHECK(plan == NULL);
        return status;
    }
    CHECK(bp_plan_block_rows(plan) >= 1);
    CHECK(bp_plan_n_parameters(plan) >= 0);
    CHECK_INT(bp_plan_n_in(plan), n_in);
    bp_plan_destroy(plan);
    return BP_OK;
}

TEST(plan_tells_its_sizes)
{
    UNUSED(s);
    const bp_layer_spec layers[] = {
        DENSE(4, 5, 1), ACTIVATION_LAYER(BP_ACTIVATION_tanh), DROPOUT(0.5), DENSE(5, 3, 0), {.kind = BP_LAYER_SOFTMAX}};
    for (int dtype = BP_FLOAT32; dtype <= BP_FLOAT64; dtype++) {
        bp_plan *plan = NULL;
        CHECK_INT(bp_plan_create(&plan, (bp_dtype)dtype, 4, layers, N_OF(layers), &squared), BP_OK);
        if (!plan) continue;
        CHECK_INT(bp_plan_n_in(plan), 4);
        CHECK_INT(bp_plan_n_out(plan), 3);
        CHECK_INT(bp_plan_n_parameters(plan), 4 * 5 + 5 + 5 * 3);
        CHECK_INT(bp_plan_dtype(plan), dtype);
        CHECK(bp_plan_block_rows(plan) >= 1);
        bp_plan_destroy(plan);
    }
}

TEST(plan_without_parameters)
{
    UNUSED(s);
    const bp_layer_spec layer = ACTIVATION_LAYER(BP_ACTIVATION_relu);
    bp_plan *plan = NULL;
    CHECK_INT(bp_plan_create(&plan, BP_FLOAT64, 7, &layer, 1, &squared), BP_OK);
    CHECK_INT(bp_plan_n_parameters(plan), 0);
    CHECK_INT(bp_plan_n_out(plan), 7);
    bp_plan_destroy(plan);
}

TEST(plan_refuses_bad_arguments)
{
    UNUSED(s);
    const bp_layer_spec good = DENSE(2, 3, 1);
    CHECK_INT(status_of(BP_INT64, 2, &good, 1, &squared), BP_E_ARGUMENT);
    CHECK_INT(status_of((bp_dtype)7, 2, &good, 1, &squared), BP_E_ARGUMENT);
    CHECK_INT(status_of((bp_dtype)-1, 2, &good, 1, &squared), BP_E_ARGUMENT);
    CHECK_INT(status_of(BP_FLOAT64, 0, &good, 1, &squared), BP_E_ARGUMENT);
    CHECK_INT(status_of(BP_FLOAT64, -2, &good, 1, &squared), BP_E_ARGUMENT);
    CHECK_INT(status_of(BP_FLOAT64, INT64_MIN, &good, 1, &squared), BP_E_ARGUMENT);
    CHECK_INT(status_of(BP_FLOAT64, 2, &good, 0, &squared), BP_E_ARGUMENT);
    CHECK_INT(status_of(BP_FLOAT64, 2, &good, -1, &squared), BP_E_ARGUMENT);
    CHECK_INT(status_of(BP_FLOAT64, 2, &good, INT64_MAX, &squared), BP_E_ARGUMENT);
    const bp_layer_spec bad[] = {
        DENSE(2, 0, 1),
        DENSE(2, -3, 1),
        DENSE(-2, 3, 1),
        DENSE(2, INT64_MIN, 1),
        {.kind = (bp_layer_kind)9},
        {.kind = (bp_layer_kind)-1},
        ACTIVATION_LAYER(BP_N_ACTIVATIONS),
        ACTIVATION_LAYER((bp_activation)-1),
        DROPOUT(1.0),
        DROPOUT(-0.1),
        DROPOUT((double)NAN),
        DROPOUT((double)INFINITY),
    };
    for (int64_t i = 0; i < N_OF(bad); i++) CHECK_INT(status_of(BP_FLOAT64, 2, &bad[i], 1, &squared), BP_E_ARGUMENT);
    const bp_loss_spec no_loss[] = {{.loss = BP_LOSS_CALLED_ELEMENTS + 1}, {.loss = (bp_loss)-1}};
    for (int64_t i = 0; i < N_OF(no_loss); i++) CHECK_INT(status_of(BP_FLOAT64, 2, &good, 1, &no_loss[i]), BP_E_ARGUMENT);
}

TEST(plan_refuses_layers_that_do_not_meet)
{
    UNUSED(s);
    const bp_layer_spec first[] = {DENSE(3, 2, 1)},
                        later[] = {DENSE(2, 5, 1), ACTIVATION_LAYER(BP_ACTIVATION_relu), DENSE(4, 1, 1)};
    CHECK_INT(status_of(BP_FLOAT64, 2, first, 1, &squared), BP_E_SHAPE);
    CHECK_INT(status_of(BP_FLOAT32, 2, later, 3, &squared), BP_E_SHAPE);
}

/* Widths up to the largest: either a plan or BP_E_OVERFLOW, and no arithmetic that overflows (the sanitizer looks on). */
TEST(plan_survives_huge_widths)
{
    UNUSED(s);
    for (int dtype = BP_FLOAT32; dtype <= BP_FLOAT64; dtype++) {
        for (int bits = 20; bits < 64; bits++) {
            for (int off = -1; off <= 1; off++) {
                const int64_t width = bits == 63 ? INT64_MAX - 1 + off : ((int64_t)1 << bits) + off;
                const bp_layer_spec one[] = {DENSE(1, width, 0)}, biased[] = {DENSE(1, width, 1)};
                const bp_layer_spec square[] = {DENSE(width, width, 1)}, narrow[] = {DENSE(width, 1, 1)};
                const bp_layer_spec two[] = {DENSE(1, width, 1), DENSE(width, 1, 1)};
                const bp_layer_spec many[] = {ACTIVATION_LAYER(BP_ACTIVATION_relu), ACTIVATION_LAYER(BP_ACTIVATION_relu),
                                              ACTIVATION_LAYER(BP_ACTIVATION_relu), ACTIVATION_LAYER(BP_ACTIVATION_relu),
                                              ACTIVATION_LAYER(BP_ACTIVATION_relu), ACTIVATION_LAYER(BP_ACTIVATION_relu)};
                const struct {
                    const bp_layer_spec *layers;
                    int64_t n, n_in;
                } cases[] = {{one, 1, 1},        {biased, 1, 1}, {square, 1, width},
                             {narrow, 1, width}, {two, 2, 1},    {many, 6, width}};
                for (int64_t i = 0; i < N_OF(cases); i++) {
                    const bp_status status = status_of((bp_dtype)dtype, cases[i].n_in, cases[i].layers, cases[i].n, &squared);
                    CHECK(status == BP_OK || status == BP_E_OVERFLOW);
                    if (bits <= 30 && i != 2) CHECK_INT(status, BP_OK);
                    if (bits >= 61 || (i == 2 && bits >= 31)) CHECK_INT(status, BP_E_OVERFLOW);
                }
            }
        }
    }
}

TEST(plan_of_many_layers)
{
    UNUSED(s);
    enum { MANY = 3000 };
    bp_layer_spec *layers = exact_bytes(MANY * sizeof *layers);
    const bp_layer_spec dense = DENSE(2, 2, 1);
    for (int i = 0; i < MANY; i++) layers[i] = dense;
    bp_plan *plan = NULL;
    CHECK_INT(bp_plan_create(&plan, BP_FLOAT32, 2, layers, MANY, &squared), BP_OK);
    release(layers); /* a plan keeps no pointer to its description */
    CHECK_INT(bp_plan_n_parameters(plan), 6 * MANY);
    bp_workspace *workspace = NULL;
    CHECK_INT(bp_workspace_create(&workspace, plan, 3, BP_FOR_TRAINING), BP_OK);
    bp_workspace_destroy(workspace);
    bp_plan_destroy(plan);
}

TEST(workspace_sizes_and_refusals)
{
    UNUSED(s);
    const bp_layer_spec layers[] = {DENSE(4, 100, 1), DROPOUT(0.25), DENSE(100, 3, 1)};
    bp_plan *plan = NULL;
    CHECK_INT(bp_plan_create(&plan, BP_FLOAT64, 4, layers, N_OF(layers), &squared), BP_OK);
    bp_workspace *workspace = NULL;
    size_t before = 0;
    for (int64_t rows = 1; rows <= 1000; rows *= 10) {
        CHECK_INT(bp_workspace_create(&workspace, plan, rows, BP_FOR_INFERENCE), BP_OK);
        const size_t inference = bp_workspace_bytes(workspace);
        CHECK_INT(bp_workspace_n_rows(workspace), rows);
        bp_workspace_destroy(workspace);
        CHECK_INT(bp_workspace_create(&workspace, plan, rows, BP_FOR_TRAINING), BP_OK);
        CHECK(bp_workspace_bytes(workspace) > inference && inference > before);
        before = inference;
        bp_workspace_destroy(workspace);
    }
    const struct {
        int64_t n_rows;
        bp_workspace_kind kind;
        bp_status expected;
    } bad[] = {
        {0, BP_FOR_TRAINING, BP_E_ARGUMENT},
        {-1, BP_FOR_INFERENCE, BP_E_ARGUMENT},
        {INT64_MIN, BP_FOR_INFERENCE, BP_E_ARGUMENT},
        {1, (bp_workspace_kind)2, BP_E_ARGUMENT},
        {1, (bp_workspace_kind)-1, BP_E_ARGUMENT},
        {INT64_MAX, BP_FOR_INFERENCE, BP_E_OVERFLOW},
        {INT64_MAX / 8, BP_FOR_TRAINING, BP_E_OVERFLOW},
        {(int64_t)1 << 53, BP_FOR_TRAINING, BP_E_OVERFLOW},
        {(int64_t)1 << 43, BP_FOR_TRAINING, BP_E_MEMORY}, /* more than any machine's address space */
    };
    for (int64_t i = 0; i < N_OF(bad); i++) {
        workspace = (bp_workspace *)&workspace;
        CHECK_INT(bp_workspace_create(&workspace, plan, bad[i].n_rows, bad[i].kind), bad[i].expected);
        CHECK(workspace == NULL);
    }
    bp_plan_destroy(plan);
    bp_plan_destroy(NULL);
    bp_workspace_destroy(NULL);
}

TEST(every_status_has_its_text)
{
    UNUSED(s);
    for (int a = BP_OK; a <= BP_E_DIVERGED; a++) {
        CHECK(bp_status_text((bp_status)a) != NULL && strlen(bp_status_text((bp_status)a)) > 1);
        for (int b = BP_OK; b < a; b++) CHECK(strcmp(bp_status_text((bp_status)a), bp_status_text((bp_status)b)) != 0);
        CHECK(strcmp(bp_status_text((bp_status)a), bp_status_text((bp_status)99)) != 0);
    }
    CHECK(bp_status_text((bp_status)-5) != NULL);
}

TEST(every_kind_has_its_name)
{
    UNUSED(s);
    const struct {
        const char *const *names;
        int n;
    } all[] = {{bp_activation_names, BP_N_ACTIVATIONS},
               {bp_loss_names, BP_N_LOSSES},
               {bp_optimizer_names, BP_N_OPTIMIZERS},
               {bp_function_names, BP_N_FUNCTIONS},
               {bp_level_names, BP_N_LEVELS}};
    for (int64_t i = 0; i < N_OF(all); i++)
        for (int a = 0; a < all[i].n; a++) {
            CHECK(all[i].names[a] != NULL && strlen(all[i].names[a]) > 1);
            for (int b = 0; b < a; b++) CHECK(strcmp(all[i].names[a], all[i].names[b]) != 0);
        }
    CHECK(strcmp(bp_activation_names[BP_ACTIVATION_gelu_tanh], "gelu_tanh") == 0);
    CHECK(strcmp(bp_loss_names[BP_LOSS_cross_entropy_logits], "cross_entropy_logits") == 0);
    CHECK(strcmp(bp_optimizer_names[BP_OPTIMIZER_rprop], "rprop") == 0);
}

TEST(levels_that_do_not_run_are_refused)
{
    UNUSED(s);
    const bp_level best = bp_level_in_use();
    CHECK(bp_level_runs_here(BP_LEVEL_generic));
    CHECK(bp_level_runs_here(best));
    CHECK(!bp_level_runs_here(BP_N_LEVELS) && !bp_level_runs_here((bp_level)-1));
    CHECK_INT(bp_level_choose(BP_N_LEVELS), BP_E_LEVEL);
    CHECK_INT(bp_level_choose((bp_level)-1), BP_E_LEVEL);
    for (int level = 0; level < BP_N_LEVELS; level++) {
        const bp_level before = bp_level_in_use();
        if (bp_level_runs_here((bp_level)level)) {
            CHECK_INT(bp_level_choose((bp_level)level), BP_OK);
            CHECK_INT(bp_level_in_use(), level);
            CHECK(bp_kernels_for(BP_FLOAT32) != NULL && bp_kernels_for(BP_FLOAT32) != bp_kernels_for(BP_FLOAT64));
        } else {
            CHECK_INT(bp_level_choose((bp_level)level), BP_E_LEVEL);
            CHECK_INT(bp_level_in_use(), before);
        }
    }
    CHECK_INT(bp_level_choose(best), BP_OK);
}

TEST(clock_never_goes_back)
{
    UNUSED(s);
    double before = bp_clock();
    for (int i = 0; i < 1000; i++) {
        const double now = bp_clock();
        CHECK(now >= before);
        before = now;
    }
}

const test_case plan_tests[] = {CASE(plan_tells_its_sizes),         CASE(plan_without_parameters),
                                CASE(plan_refuses_bad_arguments),   CASE(plan_refuses_layers_that_do_not_meet),
                                CASE(plan_survives_huge_widths),    CASE(plan_of_many_layers),
                                CASE(workspace_sizes_and_refusals), CASE(every_status_has_its_text),
                                CASE(every_kind_has_its_name),      CASE(levels_that_do_not_run_are_refused),
                                CASE(clock_never_goes_back),        END_OF_CASES};
