/* The kernels of one dtype and one level, compiled once for each with -DBP_REAL_BITS=32|64 -DBP_LEVEL_IS_<level>
 * -DBP_TABLE=bp_kernels_<dtype>_<level> and that level's flags. Exports the one table. */
#include <math.h>
#include <stdint.h>
#include <string.h>

#include "kernels/training.h"

typedef void (*function_fn)(real *, const real *, int64_t);

static void function_entry(bp_function function, void *y, const void *x, int64_t n)
{
#define FUNCTION(name) name##_map,
    static const function_fn functions[BP_N_FUNCTIONS] = {
#include "functions.def"
    };
#undef FUNCTION
    functions[function](y, x, n);
}

static void activation_forward_entry(bp_activation kind, double parameter, void *y, const void *x, int64_t n)
{
    activation_forwards[kind](y, x, n, (real)parameter);
}

static void activation_backward_entry(bp_activation kind, double parameter, void *dx, const void *dy, const void *x,
                                      const void *y, int64_t n)
{
    activation_backwards[kind](dx, dy, x, y, n, (real)parameter);
}

static void softmax_forward_entry(void *y, const void *x, int64_t n, int64_t k)
{
    for (int64_t r = 0; r < n; r++) softmax_row((real *)y + r * k, (const real *)x + r * k, k);
}

static void softmax_backward_entry(void *dx, const void *dy, const void *y, int64_t n, int64_t k)
{
    for (int64_t r = 0; r < n; r++)
        softmax_backward_row((real *)dx + r * k, (const real *)dy + r * k, (const real *)y + r * k, k);
}

static void dropout_mask_entry(void *mask, uint64_t key, double p, int64_t n) { dropout_fill(mask, key, 0, 1, p, n); }

static void dense_forward_entry(void *y, const void *x, const void *weight, const void *bias, int64_t n, int64_t n_in,
                                int64_t n_out)
{
    const dense_shape shape = {n, n_in, n_out, n_in, n_out};
    const product p = dense_product(y, x, n_in, weight, bias, &shape);
    multiply(&p);
}

static void dense_backward_entry(void *grad_weight, void *grad_bias, void *dx, void *transposed, const void *dy, const void *x,
                                 const void *weight, int64_t n, int64_t n_in, int64_t n_out)
{
    const dense_shape shape = {n, n_in, n_out, n_in, n_out};
    const product by_weight = weight_gradient_product(grad_weight, dy, x, n_in, &shape);
    multiply(&by_weight);
    if (grad_bias) sum_columns(grad_bias, dy, n_out, n, n_out);
    if (!dx) return;
    transpose(transposed, n_in, weight, n_out, n_in, n_out);
    const product by_input = input_gradient_product(dx, dy, transposed, 1, &shape);
    multiply(&by_input);
}

static void finish_entry(const product *p, int64_t i, int64_t j, int64_t rows, int64_t columns)
{
    const bp_product *outer = p->context;
    outer->finish(outer->context, i, j, rows, columns);
}

static void multiply_entry(const bp_product *p)
{
    const product inner = {.c = p->c,
                           .c_stride = p->c_stride,
                           .initial = p->initial,
                           .initial_stride = p->initial_stride,
                           .a = p->a,
                           .a_row = p->a_row,
                           .a_column = p->a_column,
                           .b = p->b,
                           .b_row = p->b_row,
                           .b_column = p->b_column,
                           .m = p->m,
                           .n = p->n,
                           .k = p->k,
                           .mode = (store_mode)p->mode,
                           .factor = (real)p->factor,
                           .added = p->added,
                           .added_stride = p->added_stride,
                           .narrow = p->narrow,
                           .finish = p->finish ? finish_entry : NULL,
                           .context = p};
    multiply(&inner);
}

static void loss_entry_point(const bp_loss_spec *spec, double *value, void *gradient, const void *prediction,
                             const void *target, const void *weight, int64_t n, int64_t k)
{
    enum { BLOCK = 512 }; /* summed in double between blocks */
    double total_weight = weight ? 0 : (double)n, sum = 0;
    for (int64_t r = 0; weight && r < n; r++) total_weight += (double)((const real *)weight)[r];
    const double scale = loss_scale(spec->loss, spec->reduction, total_weight, k);
    for (int64_t first = 0; first < n; first += BLOCK) {
        const loss_rows rows = {.gradient = gradient ? (real *)gradient + first * k : NULL,
                                .prediction = (const real *)prediction + first * k,
                                .target = (const real *)target + first * k,
                                .weight = weight ? (const real *)weight + first : NULL,
                                .n = n - first < BLOCK ? n - first : BLOCK,
                                .k = k,
                                .stride = k,
                                .gradient_scale = scale,
                                .parameter = (real)spec->parameter};
        sum += loss_table[spec->loss].rows(&rows);
    }
    *value = scale * sum;
}

static void weigh_entry(const bp_loss_spec *spec, double *value, void *gradient, const void *losses, const void *weight,
                        int64_t n, int64_t k)
{
    double total_weight = weight ? 0 : (double)n;
    for (int64_t r = 0; weight && r < n; r++) total_weight += (double)((const real *)weight)[r];
    const double scale = loss_scale(spec->loss, spec->reduction, total_weight, k);
    const loss_rows rows = {.gradient = gradient, .weight = weight, .n = n, .k = k, .stride = k, .gradient_scale = scale};
    *value = scale * weigh_losses(losses, spec->loss == BP_LOSS_CALLED_ELEMENTS ? k : 1, &rows);
}

static bp_status optimizer_step_entry(bp_optimizer kind, void *parameters, const void *gradients, void *const *slots,
                                      const double *hyper, double learning_rate, int64_t step, int64_t n)
{
    return guarded_step(kind, parameters, gradients, (real *const *)slots, hyper, learning_rate, step, n);
}

static void predict_entry(const bp_plan *plan, bp_workspace *workspace, void *y, const void *parameters, const bp_array *x)
{
    predict(plan, workspace, y, parameters, x);
}

static void forward_entry(const bp_plan *plan, bp_workspace *workspace, void *y, const void *parameters, const bp_array *x,
                          int training, uint64_t dropout_key)
{
    forward(plan, workspace, y, parameters, x, training, dropout_key);
}

static void backward_entry(const bp_plan *plan, bp_workspace *workspace, void *gradients, void *dx, const void *dy,
                           const void *parameters, int64_t n)
{
    backward(plan, workspace, gradients, dx, dy, parameters, n);
}

static bp_status loss_and_gradient_entry(const bp_plan *plan, bp_workspace *workspace, double *value, void *gradients, void *dx,
                                         const void *parameters, const bp_dataset *data, int training, uint64_t dropout_key)
{
    return loss_and_gradient(plan, workspace, value, gradients, dx, parameters, data, training, dropout_key);
}

const bp_kernels BP_TABLE = {
    .function = function_entry,
    .activation_forward = activation_forward_entry,
    .activation_backward = activation_backward_entry,
    .softmax_forward = softmax_forward_entry,
    .softmax_backward = softmax_backward_entry,
    .dropout_mask = dropout_mask_entry,
    .dense_forward = dense_forward_entry,
    .dense_backward = dense_backward_entry,
    .loss = loss_entry_point,
    .weigh = weigh_entry,
    .optimizer_step = optimizer_step_entry,
    .predict = predict_entry,
    .forward = forward_entry,
    .backward = backward_entry,
    .loss_and_gradient = loss_and_gradient_entry,
    .train = train,
    .multiply = multiply_entry,
};
