"""The parts of exported C that do not depend on the network; ``@words@`` are filled in."""

from typing import Any


def fill(text: str, name: str, **words: Any) -> str:
    """Return a part with the function's name, and more, in the places of ``@words@``."""
    for word, value in (words | {"NAME": name.upper(), "name": name}).items():
        text = text.replace(f"@{word}@", str(value))
    return text


INCLUDES = """\
#include <float.h>

#if defined(__FAST_MATH__) || defined(__ASSOCIATIVE_MATH__) || defined(__RECIPROCAL_MATH__) || \\
    defined(__NO_SIGNED_ZEROS__) || defined(_M_FP_FAST) || \\
    (defined(__FINITE_MATH_ONLY__) && __FINITE_MATH_ONLY__ > 0)
#error "-ffast-math and the like change the results: compile this file without"
#endif
#if FLT_EVAL_METHOD != 0 && FLT_EVAL_METHOD != 16 /* 16: but _Float16 as itself */
#error "wider arithmetic changes the results: on x86, compile with -msse2 -mfpmath=sse"
#endif
#if defined(__clang__) && __clang_major__ >= 14
#pragma clang fp reassociate(off)
#endif

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
"""
FAST = {
    64: "defined(__FP_FAST_FMA) || defined(FP_FAST_FMA) || \\\n"
    "    defined(__FMA__) || defined(__AVX2__) || \\\n"
    "    (defined(__ARM_FEATURE_FMA) && defined(__ARM_FP) && (__ARM_FP & 8)) || \\\n"
    "    (defined(__riscv_flen) && __riscv_flen >= 64)",
    32: "defined(__FP_FAST_FMAF) || defined(FP_FAST_FMAF) || \\\n"
    "    defined(__FMA__) || defined(__AVX2__) || \\\n"
    "    defined(__ARM_FEATURE_FMA) || defined(__riscv_flen)",
}
FMA = """\
/* a b + c, rounded once: an instruction of the processor, or else what follows; the bits are the
 * same. Where that is too slow, define @NAME@_NO_FMA: then results differ by some roundings. */
#if @FAST@
#if defined(__GNUC__)
#define @name@_fma __builtin_fma@SUFFIX@
#else
#define @name@_fma fma@SUFFIX@
#endif
#define @name@_fma_once @name@_fma
#else
#if defined(@NAME@_NO_FMA)
static @REAL@ @name@_fma(@REAL@ a, @REAL@ b, @REAL@ c) { return a * b + c; }
#else
#define @name@_fma @name@_fma_once
#endif
#if @NEEDED@
"""
NEEDED = {True: "1 /* the functions below need it */", False: "!defined(@NAME@_NO_FMA)"}
"""Whether a b + c must be rounded once whatever is defined."""
FMA_ONCE = {
    32: """\
/* The product is exact in double. The sum is rounded there to an odd last bit, which makes the
 * second rounding, to float, right. */
static float @name@_fma_once(float a, float b, float c)
{
    const double product = (double)a * (double)b, addend = (double)c;
    const double sum = product + addend;
    const double part = sum - product, lost = (product - (sum - part)) + (addend - part);
    uint64_t bits;
    double odd;
    memcpy(&bits, &sum, sizeof bits);
    if (lost < 0 || lost > 0) /* nan where the sum is not finite */
        if ((bits & 1) == 0) bits = (lost > 0) == (sum > 0) ? bits + 1 : bits - 1;
    memcpy(&odd, &bits, sizeof odd);
    return (float)odd;
}
#endif
#endif
""",
    64: """\
/* A number is whole * 2^exponent, with the highest bit of the whole at place 125 of 128. */
typedef struct @name@_wide {
    uint64_t high, low;
    int exponent, negative;
} @name@_wide;

static uint64_t @name@_whole(double x, int *exponent, int *negative)
{
    uint64_t bits, whole;
    memcpy(&bits, &x, sizeof bits);
    *negative = (int)(bits >> 63);
    *exponent = (int)(bits >> 52 & 0x7FF);
    whole = bits & 0xFFFFFFFFFFFFFu;
    if (*exponent) whole |= (uint64_t)1 << 52;
    else *exponent = 1;
    *exponent -= 1075;
    for (; whole && !(whole >> 52); whole <<= 1) --*exponent;
    return whole;
}

/* To the right by n places; the last bit tells of what is lost. */
static void @name@_shift(@name@_wide *x, int n)
{
    uint64_t lost = 0;
    if (n >= 64) {
        lost = x->low;
        x->low = x->high;
        x->high = 0;
        n -= 64;
        if (n >= 64) {
            lost |= x->low;
            x->low = 0;
            n = 0;
        }
    }
    if (n > 0) {
        lost |= x->low << (64 - n);
        x->low = x->low >> n | x->high << (64 - n);
        x->high >>= n;
    }
    x->low |= lost != 0;
}

static double @name@_rounded_once(@name@_wide x)
{
    uint64_t whole, lost, half, bits;
    int shift, biased;
    double y;
    if (!(x.high | x.low)) return 0;
    for (; !(x.high >> 63); x.exponent--) {
        x.high = x.high << 1 | x.low >> 63;
        x.low <<= 1;
    }
    whole = x.high | (x.low != 0); /* 64 bits, the last of them as in a shift */
    biased = x.exponent + 127 + 1023;
    shift = 11 + (biased < 1 ? 1 - biased : 0);
    half = shift > 64 ? 0 : (uint64_t)1 << (shift - 1);
    lost = shift >= 64 ? whole : whole & (half * 2 - 1);
    bits = shift >= 64 ? 0 : whole >> shift;
    if (shift <= 64 && (lost > half || (lost == half && (bits & 1)))) bits++;
    if (biased >= 1) bits += (uint64_t)(biased - 1) << 52;
    if (biased > 2046 || bits >> 52 > 2046) bits = (uint64_t)0x7FF << 52;
    bits |= (uint64_t)x.negative << 63;
    memcpy(&y, &bits, sizeof y);
    return y;
}

static double @name@_fma_once(double a, double b, double c)
{
    @name@_wide product, addend;
    int a_exponent, b_exponent, a_negative, b_negative, distance;
    uint64_t x, y, middle, carry;
    if (a - a != 0 || b - b != 0 || a == 0 || b == 0) return a * b + c;
    if (c - c != 0) return c;
    if (c == 0) return a * b;
    x = @name@_whole(a, &a_exponent, &a_negative) << 10; /* 63 bits each: 126 of the product */
    y = @name@_whole(b, &b_exponent, &b_negative) << 10;
    middle = (x >> 32) * (y & 0xFFFFFFFFu);
    carry = (x & 0xFFFFFFFFu) * (y >> 32);
    product.low = (x & 0xFFFFFFFFu) * (y & 0xFFFFFFFFu);
    product.high = (x >> 32) * (y >> 32) + (middle >> 32) + (carry >> 32);
    middle = (middle & 0xFFFFFFFFu) + (carry & 0xFFFFFFFFu) + (product.low >> 32);
    product.low = (product.low & 0xFFFFFFFFu) | middle << 32;
    product.high += middle >> 32;
    product.exponent = a_exponent + b_exponent - 20;
    product.negative = a_negative ^ b_negative;
    addend.high = @name@_whole(c, &addend.exponent, &addend.negative) << 9;
    addend.low = 0;
    addend.exponent -= 73;
    distance = product.exponent - addend.exponent;
    if (distance > 0) @name@_shift(&addend, distance);
    if (distance < 0) @name@_shift(&product, -distance);
    if (distance < 0) product.exponent = addend.exponent;
    if (product.negative == addend.negative) {
        product.low += addend.low;
        product.high += addend.high + (product.low < addend.low);
    } else {
        if (product.high < addend.high ||
            (product.high == addend.high && product.low < addend.low)) {
            const @name@_wide swapped = {addend.high, addend.low, product.exponent,
                                         addend.negative};
            addend.high = product.high;
            addend.low = product.low;
            product = swapped;
        }
        carry = product.low < addend.low;
        product.low -= addend.low;
        product.high -= addend.high + carry;
    }
    return @name@_rounded_once(product);
}
#endif
#endif
""",
}
ROUNDED = """\
/* Keeps a product from being contracted with a sum, for which gcc's dialects need no permission. */
static @REAL@ @name@_rounded(@REAL@ x)
{
    volatile @REAL@ y = x;
    return y;
}
"""
FOLD = """\
/* @STRIPE@ sums become one, folded in halves. */
static @REAL@ @name@_fold(@REAL@ *sum)
{
    for (size_t half = @STRIPE@ / 2; half > 0; half /= 2)
        for (size_t i = 0; i < half; i++) sum[i] = sum[i] + sum[i + half];
    return sum[0];
}
"""
DOT = """\
/* x . y, term k in lane k modulo @STRIPE@; the last terms that are missing count as zeros. */
static @REAL@ @name@_dot(const @REAL@ *x, const @REAL@ *y, size_t n)
{
    @REAL@ sum[@STRIPE@] = {0};
    size_t k = 0;
    for (; k + @STRIPE@ <= n; k += @STRIPE@)
        for (size_t i = 0; i < @STRIPE@; i++) sum[i] = @name@_fma(x[k + i], y[k + i], sum[i]);
    if (k < n)
        for (size_t i = 0; i < @STRIPE@; i++)
            sum[i] = k + i < n ? @name@_fma(x[k + i], y[k + i], sum[i]) : sum[i] + 0;
    return @name@_fold(sum);
}
"""
SOFTMAX = """\
static void @name@_softmax(@REAL@ *x, size_t n)
{
    @REAL@ largest = x[0], total[@STRIPE@] = {0}, sum;
    for (size_t i = 1; i < n; i++) largest = x[i] > largest ? x[i] : largest;
    for (size_t i = 0; i < n; i++) {
        x[i] = @name@_rounded(@name@_exp(x[i] - largest));
        total[i % @STRIPE@] += x[i];
    }
    sum = @name@_fold(total);
    for (size_t i = 0; i < n; i++) x[i] = x[i] / sum;
}
"""
