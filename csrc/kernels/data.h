/* Rows of a bp_array, of any layout, byte order and dtype, into padded rows of reals. */
#ifndef BP_DATA_H
#define BP_DATA_H

#include "../element.h"
#include "simd.h"

ALWAYS_INLINE const char *row_of(const bp_array *array, int64_t row)
{
    return (const char *)array->data + row * array->row_stride;
}

/* Whole vectors where the row has room for them, so that later loads need not wait for two stores. */
ALWAYS_INLINE void copy_row(real *to, int64_t room, const char *from, int64_t n)
{
    const real *source = (const real *)(const void *)from; /* vload needs no alignment */
    for (int64_t j = 0; j < n; j += WIDTH) {
        const part rest = vpart_of(j, n);
        if (j + WIDTH <= room)
            vstore(to + j, vload_part(source + j, rest));
        else
            vstore_part(to + j, vload_part(source + j, rest), rest);
    }
}

/* The rows order[0..n), or first..first + n where order is NULL, into `out`, `stride` reals apart. */
static void read_rows(real *out, int64_t stride, const bp_array *array, const int64_t *order, int64_t first, int64_t n)
{
    const int plain = array->dtype == (BP_REAL_BITS == 64 ? BP_FLOAT64 : BP_FLOAT32) && !array->swapped &&
                      array->column_stride == (int64_t)sizeof(real);
    for (int64_t r = 0; r < n; r++) {
        const char *from = row_of(array, order ? order[r] : first + r);
        real *to = out + r * stride;
        if (plain) {
            copy_row(to, stride, from, array->n_columns);
            continue;
        }
        for (int64_t j = 0; j < array->n_columns; j++) to[j] = (real)bp_element(array, from + j * array->column_stride);
    }
}

/* Rows of k reals to other rows. */
static void copy_columns(real *to, int64_t to_stride, const real *from, int64_t from_stride, int64_t n, int64_t k)
{
    for (int64_t r = 0; r < n; r++) memcpy(to + r * to_stride, from + r * from_stride, (size_t)k * sizeof(real));
}

/* The label of a row, or -1 where it is none of k classes. */
static int64_t read_label(const bp_array *array, int64_t row, int64_t k)
{
    int64_t label;
    bp_copy_element((unsigned char *)&label, row_of(array, row), sizeof label, array->swapped);
    return label < 0 || label >= k ? -1 : label;
}

/* The same for targets of k columns; labels become one-hot rows. Labels are looked at here, each time, because another
 * thread may have changed them since they were checked. */
static bp_status read_targets(real *out, int64_t stride, const bp_array *array, const int64_t *order, int64_t first, int64_t n,
                              int64_t k)
{
    if (array->dtype != BP_INT64) {
        read_rows(out, stride, array, order, first, n);
        return BP_OK;
    }
    for (int64_t r = 0; r < n; r++) {
        const int64_t label = read_label(array, order ? order[r] : first + r, k);
        if (label < 0) return BP_E_LABEL;
        memset(out + r * stride, 0, (size_t)k * sizeof(real));
        out[r * stride + label] = 1;
    }
    return BP_OK;
}

/* Can rows first, first + 1, ... be used where they lie? */
static int rows_in_place(const bp_array *array)
{
    const int64_t size = (int64_t)sizeof(real);
    return array->dtype == (BP_REAL_BITS == 64 ? BP_FLOAT64 : BP_FLOAT32) && !array->swapped && array->column_stride == size &&
           array->row_stride % size == 0 && (uintptr_t)array->data % sizeof(real) == 0;
}

/* The sum of the weights of n rows; n where there are none. */
static double sum_of_weights(const bp_array *weight, const int64_t *order, int64_t first, int64_t n)
{
    if (!weight->data) return (double)n;
    double sum = 0;
    for (int64_t r = 0; r < n; r++) sum += bp_element(weight, row_of(weight, order ? order[r] : first + r));
    return sum;
}

#endif
