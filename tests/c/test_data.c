/* bp_find_unfit on every layout. */
#include "layouts.h"

static void check_found(const bp_array *array, bp_dtype to, int64_t row, int64_t column)
{
    int64_t at_row = -7, at_column = -7;
    CHECK_INT(bp_find_unfit(array, to, &at_row, &at_column), row >= 0);
    CHECK_INT(at_row, row >= 0 ? row : -7);
    CHECK_INT(at_column, row >= 0 ? column : -7);
}

TEST(unfit_values_are_found_where_they_stand)
{
    UNUSED(s);
    const double unfit[] = {(double)NAN, (double)INFINITY, -(double)INFINITY};
    for (int kind = 0; kind < N_LAYOUTS; kind++)
        for (int dtype = BP_FLOAT32; dtype <= BP_FLOAT64; dtype++)
            for (int64_t rows = 0; rows <= 5; rows++)
                for (int64_t columns = 1; columns <= 9; columns += 2) {
                    double *values = exact_bytes((size_t)(rows * columns) * sizeof *values);
                    for (int64_t i = 0; i < rows * columns; i++) values[i] = i % 2 ? 3e38 : -1e-300 * (double)i;
                    laid_out a = lay_out((layout_kind)kind, (bp_dtype)dtype, BP_FLOAT64, values, rows, columns);
                    check_found(&a.array, BP_FLOAT32, -1, -1);
                    check_found(&a.array, BP_FLOAT64, -1, -1);
                    release(a.memory);
                    for (int64_t i = 0; i < rows * columns; i++) {
                        const double kept = values[i];
                        values[i] = unfit[i % 3];
                        a = lay_out((layout_kind)kind, (bp_dtype)dtype, BP_FLOAT64, values, rows, columns);
                        check_found(&a.array, BP_FLOAT32, i / columns, i % columns);
                        check_found(&a.array, BP_FLOAT64, i / columns, i % columns);
                        release(a.memory);
                        values[i] = kept;
                    }
                    release(values);
                }
}

TEST(the_first_unfit_value_is_the_one_reported)
{
    UNUSED(s);
    double values[12] = {0};
    values[11] = values[6] = values[7] = (double)NAN;
    for (int kind = 0; kind < N_LAYOUTS; kind++) {
        const laid_out a = lay_out((layout_kind)kind, BP_FLOAT64, BP_FLOAT64, values, 3, 4);
        check_found(&a.array, BP_FLOAT64, 1, 2);
        release(a.memory);
    }
}

/* The largest double that still rounds to a finite float is just below 2^128 - 2^103. */
TEST(values_too_large_for_float32)
{
    UNUSED(s);
    const double edge = ldexp(1.0, 128) - ldexp(1.0, 103);
    const double values[] = {nextafter(edge, 0.0), edge, -edge, 1e300, -1.7976931348623157e308, 3.4028234663852886e38};
    const int fits[] = {1, 0, 0, 0, 0, 1};
    for (int kind = 0; kind < N_LAYOUTS; kind++)
        for (int i = 0; i < 6; i++) {
            const laid_out a = lay_out((layout_kind)kind, BP_FLOAT64, BP_FLOAT64, &values[i], 1, 1);
            check_found(&a.array, BP_FLOAT32, fits[i] ? -1 : 0, 0);
            check_found(&a.array, BP_FLOAT64, -1, -1);
            release(a.memory);
        }
}

/* Many large values: their sum overflows, none of them is unfit. */
TEST(a_sum_that_overflows_is_no_unfit_value)
{
    UNUSED(s);
    double values[64];
    for (int i = 0; i < 64; i++) values[i] = 1.7e308;
    const bp_array a = contiguous(BP_FLOAT64, values, 1, 64);
    check_found(&a, BP_FLOAT64, -1, -1);
}

TEST(broadcast_rows_and_columns)
{
    UNUSED(s);
    double value = 1;
    bp_array a = {.data = &value, .n_rows = 1000, .n_columns = 1000, .dtype = BP_FLOAT64};
    check_found(&a, BP_FLOAT64, -1, -1);
    value = (double)NAN;
    check_found(&a, BP_FLOAT64, 0, 0);
}

const test_case data_tests[] = {CASE(unfit_values_are_found_where_they_stand),
                                CASE(the_first_unfit_value_is_the_one_reported),
                                CASE(values_too_large_for_float32),
                                CASE(a_sum_that_overflows_is_no_unfit_value),
                                CASE(broadcast_rows_and_columns),
                                END_OF_CASES};
