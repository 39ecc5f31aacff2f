/* One element of a bp_array, of any dtype but labels, byte order and alignment. */
#ifndef BP_ELEMENT_H
#define BP_ELEMENT_H

#include <string.h>

#include "bpcore.h"

static inline void bp_copy_element(unsigned char *to, const char *from, size_t size, int swapped)
{
    if (!swapped) {
        memcpy(to, from, size);
        return;
    }
    for (size_t i = 0; i < size; i++) to[i] = (unsigned char)from[size - 1 - i];
}

static inline double bp_element(const bp_array *array, const char *p)
{
    unsigned char raw[8];
    if (array->dtype == BP_FLOAT32) {
        float single;
        bp_copy_element(raw, p, sizeof single, array->swapped);
        memcpy(&single, raw, sizeof single);
        return (double)single;
    }
    double wide;
    bp_copy_element(raw, p, sizeof wide, array->swapped);
    memcpy(&wide, raw, sizeof wide);
    return wide;
}

#endif
