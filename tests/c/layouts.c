/* See layouts.h. */
#include "layouts.h"

static int64_t size_of(bp_dtype dtype) { return dtype == BP_FLOAT32 ? 4 : 8; }

/* Strides and the extent in bytes of a matrix that starts at the lowest address. */
static int64_t strides_of(layout_kind kind, int64_t size, int64_t n_rows, int64_t n_columns, bp_array *a)
{
    a->column_stride = size;
    a->row_stride = n_columns * size;
    switch (kind) {
        case LAYOUT_PADDED: a->row_stride += 3 * size; break;
        case LAYOUT_ODD_ROWS: a->row_stride += 3; break;
        case LAYOUT_FORTRAN:
            a->row_stride = size;
            a->column_stride = n_rows * size;
            break;
        case LAYOUT_STEPPED:
            a->column_stride = 3 * size;
            a->row_stride = 2 * n_columns * a->column_stride;
            break;
        default: break;
    }
    return n_rows == 0 ? 0 : (n_rows - 1) * a->row_stride + (n_columns - 1) * a->column_stride + size;
}

static laid_out lay_out_elements(layout_kind kind, bp_dtype dtype, const char *elements, int64_t n_rows, int64_t n_columns)
{
    const int64_t size = size_of(dtype), shift = kind == LAYOUT_SHIFTED;
    laid_out out = {{.n_rows = n_rows, .n_columns = n_columns, .dtype = dtype, .swapped = kind == LAYOUT_SWAPPED}, NULL};
    const int64_t extent = strides_of(kind, size, n_rows, n_columns, &out.array);
    out.memory = exact_bytes((size_t)(extent + shift));
    char *start = (char *)out.memory + shift;
    if (kind == LAYOUT_REVERSED && n_rows > 0) {
        start += extent - size;
        out.array.row_stride = -out.array.row_stride;
        out.array.column_stride = -out.array.column_stride;
    }
    out.array.data = start;
    for (int64_t r = 0; r < n_rows; r++)
        for (int64_t c = 0; c < n_columns; c++) {
            char *to = start + r * out.array.row_stride + c * out.array.column_stride;
            const char *from = elements + (r * n_columns + c) * size;
            for (int64_t b = 0; b < size; b++) to[b] = from[out.array.swapped ? size - 1 - b : b];
        }
    return out;
}

laid_out lay_out(layout_kind kind, bp_dtype dtype, bp_dtype from_dtype, const void *from, int64_t n_rows, int64_t n_columns)
{
    const int64_t n = n_rows * n_columns;
    char *elements = exact_bytes((size_t)(n * size_of(dtype)));
    for (int64_t i = 0; i < n; i++) set(dtype, elements, i, get(from_dtype, from, i));
    const laid_out out = lay_out_elements(kind, dtype, elements, n_rows, n_columns);
    release(elements);
    return out;
}

laid_out lay_out_labels(layout_kind kind, const int64_t *labels, int64_t n_rows)
{
    return lay_out_elements(kind, BP_INT64, (const char *)labels, n_rows, 1);
}

bp_array contiguous(bp_dtype dtype, const void *data, int64_t n_rows, int64_t n_columns)
{
    const int64_t size = size_of(dtype);
    const bp_array array = {.data = data,
                            .n_rows = n_rows,
                            .n_columns = n_columns,
                            .row_stride = n_columns * size,
                            .column_stride = size,
                            .dtype = dtype};
    return array;
}
