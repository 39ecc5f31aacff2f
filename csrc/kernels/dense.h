/* Dense layers: y = x W + b. */
#ifndef BP_DENSE_H
#define BP_DENSE_H

#include "gemm.h"

typedef struct dense_shape {
    int64_t n, n_in, n_out;        /* rows, and the two widths */
    int64_t in_stride, out_stride; /* of x and dx, of y and dy */
} dense_shape;

/* y = x W + b; bias may be NULL. */
static product dense_product(real *y, const real *x, int64_t x_stride, const real *weight, const real *bias,
                             const dense_shape *s)
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
    return p;
}

/* grad_weight = x^T dy */
static product weight_gradient_product(real *grad_weight, const real *dy, const real *x, int64_t x_stride, const dense_shape *s)
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
    return p;
}

/* dx = dy W^T, from the weight, or from its transpose, whose rows are in_stride apart. */
static product input_gradient_product(real *dx, const real *dy, const real *weight, int is_transposed, const dense_shape *s)
{
    const product p = {.c = dx,
                       .c_stride = s->in_stride,
                       .a = dy,
                       .a_row = s->out_stride,
                       .a_column = 1,
                       .b = weight,
                       .b_row = is_transposed ? s->in_stride : 1,
                       .b_column = is_transposed ? 1 : s->n_out,
                       .m = s->n,
                       .n = s->n_in,
                       .k = s->n_out,
                       .narrow = 1};
    return p;
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

#endif
