/* Looking over data of any layout before it is used. */
#include <float.h>
#include <math.h>
#include <string.h>

#include "bpcore.h"

static void copy_bytes(unsigned char *to, const char *from, size_t size, int swapped)
{
    for (size_t i = 0; i < size; i++) to[i] = (unsigned char)(swapped ? from[size - 1 - i] : from[i]);
}

static double value_at(const bp_array *array, const char *p)
{
    unsigned char raw[8];
    if (array->dtype == BP_FLOAT32) {
        float single;
        copy_bytes(raw, p, sizeof single, array->swapped);
        memcpy(&single, raw, sizeof single);
        return (double)single;
    }
    double wide;
    copy_bytes(raw, p, sizeof wide, array->swapped);
    memcpy(&wide, raw, sizeof wide);
    return wide;
}

/* A row of plain numbers: 0 times each, summed, is 0 unless one of them is non-finite. */
static int plain_row_is_fit(const bp_array *array, const char *from, bp_dtype to)
{
    double lane[8] = {0}; /* for vectors: a single sum would be one long chain */
    for (int64_t j = 0; j < array->n_columns; j++) {
        if (array->dtype == BP_FLOAT32) {
            float single;
            memcpy(&single, from + j * (int64_t)sizeof single, sizeof single);
            lane[j % 8] += 0.0 * (double)single;
        } else {
            double wide;
            memcpy(&wide, from + j * (int64_t)sizeof wide, sizeof wide);
            lane[j % 8] += 0.0 * (to == BP_FLOAT32 ? (double)(float)wide : wide);
        }
    }
    for (int i = 1; i < 8; i++) lane[0] += lane[i];
    return lane[0] == 0;
}

int bp_find_unfit(const bp_array *array, bp_dtype to, int64_t *row, int64_t *column)
{
    const int64_t size = array->dtype == BP_FLOAT32 ? 4 : 8;
    const int plain = !array->swapped && array->column_stride == size;
    for (int64_t r = 0; r < array->n_rows; r++) {
        const char *from = (const char *)array->data + r * array->row_stride;
        if (plain && plain_row_is_fit(array, from, to)) continue;
        for (int64_t j = 0; j < array->n_columns; j++) {
            const double value = value_at(array, from + j * array->column_stride);
            const double seen = to == BP_FLOAT32 ? (double)(float)value : value;
            if (isfinite(seen)) continue;
            *row = r;
            *column = j;
            return 1;
        }
    }
    return 0;
}
