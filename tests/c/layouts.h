/* One matrix in every layout that a bp_array can describe, in memory that holds no byte more than it needs. */
#ifndef LAYOUTS_H
#define LAYOUTS_H

#include "check.h"

typedef enum layout_kind {
    LAYOUT_C,
    LAYOUT_PADDED,   /* rows further apart than they are long */
    LAYOUT_FORTRAN,  /* columns contiguous */
    LAYOUT_REVERSED, /* both strides negative */
    LAYOUT_STEPPED,  /* every third element of every second row */
    LAYOUT_SHIFTED,  /* one byte off every alignment */
    LAYOUT_ODD_ROWS, /* a row stride that is no multiple of the element size */
    LAYOUT_SWAPPED,  /* the other byte order */
    N_LAYOUTS
} layout_kind;

typedef struct laid_out {
    bp_array array;
    void *memory;
} laid_out;

/* [n_rows][n_columns] values of `from` (reals of dtype from_dtype, C order) in that layout, as elements of `dtype`. */
laid_out lay_out(layout_kind kind, bp_dtype dtype, bp_dtype from_dtype, const void *from, int64_t n_rows, int64_t n_columns);
/* The same of class labels. */
laid_out lay_out_labels(layout_kind kind, const int64_t *labels, int64_t n_rows);
/* A contiguous matrix where it lies. */
bp_array contiguous(bp_dtype dtype, const void *data, int64_t n_rows, int64_t n_columns);

#endif
