/* Dense layers: y = x W + b. */
#ifndef BP_DENSE_H
#define BP_DENSE_H

#include "gemm.h"

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
