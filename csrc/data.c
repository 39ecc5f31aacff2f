/* Looking over data of any layout before it is used. */
#include <float.h>
#include <math.h>
#include <string.h>

#include "element.h"

/* Whether all of n numbers that stand side by side are finite in `to`; loops that become vectors. */
static int doubles_fit(const char *from, int64_t n, bp_dtype to)
{
    /* The largest double that rounds to a finite float is just below 2^128 - 2^103. */
    const double most = to == BP_FLOAT32 ? 0x1.fffffefffffffp127 : DBL_MAX;
    int64_t unfit = 0;
    for (int64_t i = 0; i < n; i++) {
        double value;
        memcpy(&value, from + i * (int64_t)sizeof value, sizeof value);
        unfit |= !(fabs(value) <= most); /* nan is not */
    }
    return !unfit;
}

static int floats_fit(const char *from, int64_t n)
{
    int32_t unfit = 0;
    for (int64_t i = 0; i < n; i++) {
        float value;
        memcpy(&value, from + i * (int64_t)sizeof value, sizeof value);
        unfit |= !(fabsf(value) <= FLT_MAX);
    }
    return !unfit;
}

static int all_fit(const char *from, int64_t n, bp_dtype dtype, bp_dtype to)
{
    return dtype == BP_FLOAT32 ? floats_fit(from, n) : doubles_fit(from, n, to);
}

int bp_find_unfit(const bp_array *array, bp_dtype to, int64_t *row, int64_t *column)
{
    const int64_t size = array->dtype == BP_FLOAT32 ? 4 : 8;
    const int plain = !array->swapped && array->column_stride == size;
    if (plain && array->row_stride == array->n_columns * size &&
        all_fit(array->data, array->n_rows * array->n_columns, array->dtype, to))
        return 0;
    for (int64_t r = 0; r < array->n_rows; r++) {
        const char *from = (const char *)array->data + r * array->row_stride;
        if (plain && all_fit(from, array->n_columns, array->dtype, to)) continue;
        for (int64_t j = 0; j < array->n_columns; j++) {
            const double value = bp_element(array, from + j * array->column_stride);
            const double seen = to == BP_FLOAT32 ? (double)(float)value : value;
            if (isfinite(seen)) continue;
            *row = r;
            *column = j;
            return 1;
        }
    }
    return 0;
}
