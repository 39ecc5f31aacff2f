/* What a product of matrices is: every element ONE fma chain in increasing k, from its initial value, so tile sizes, blocks and
 * threads cannot change its bits. */
#ifndef BP_PRODUCT_H
#define BP_PRODUCT_H

#include "../plan.h"
#include "simd.h"

/* See bp_product in bpcore.h for all that a product may do. Where c_stride leaves room, whole vectors are stored: zeros go into
 * the padding (in ADD and STEP what is there stays). */
typedef enum store_mode { STORE = BP_STORE, ADD = BP_ADD, STEP = BP_STEP } store_mode;

typedef struct product product;
struct product {
    real *c;
    int64_t c_stride;
    const real *initial;
    int64_t initial_stride;
    const real *a;
    int64_t a_row, a_column;
    const real *b;
    int64_t b_row, b_column;
    int64_t m, n, k;
    store_mode mode;
    real factor;
    const real *added;
    int64_t added_stride;
    int narrow;
    real a_limit;      /* a striped product may look at A as it reads it: */
    bp_flag *a_beyond; /* set if a magnitude in A may be a_limit or more; NULL: nobody asks */
    void (*finish)(const product *p, int64_t i, int64_t j, int64_t rows, int64_t columns);
    const void *context; /* for finish */
};

/* A vector of acc to where it goes: all of it, or the `rest` if partly. */
ALWAYS_INLINE void store_vector(real *c, vec sum, const real *added, part added_part, store_mode mode, vec factor, int partly,
                                part rest)
{
    if (mode != STORE) {
        if (added) sum = vload_part(added, added_part) + sum;
        const vec old = partly ? vload_part(c, rest) : vload(c);
        if (mode == ADD)
            sum = old + sum;
        else
            sum = vfma(factor, sum, old);
    }
    if (partly)
        vstore_part(c, sum, rest);
    else
        vstore(c, sum);
}

ALWAYS_INLINE void store_sum(const product *p, int64_t i, int64_t j, vec sum, int partly, part rest)
{
    const real *added = p->added ? p->added + i * p->added_stride + j : NULL;
    store_vector(p->c + i * p->c_stride + j, sum, added, vpart_of(j, p->n), p->mode, vset(p->factor), partly, rest);
}

ALWAYS_INLINE int64_t at_most(int64_t a, int64_t b) { return a < b ? a : b; }

/* How many parts of at most `most` make n. */
ALWAYS_INLINE int64_t n_parts(int64_t n, int64_t most) { return (n + most - 1) / most; }

#endif
