/* Looking over data of any layout before it is used. */
#include <float.h>
#include <math.h>
#include <string.h>

#include "element.h"

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
