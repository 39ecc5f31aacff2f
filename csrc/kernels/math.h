/* exp, log1p, tanh, sigmoid, softplus and the normal distribution over vectors. The same operations in the same order on
 * every level. The coefficients are minimax fits (Remez) in the variable named beside each, found for this file. */
#ifndef BP_MATH_H
#define BP_MATH_H

#include "simd.h"

#if BP_REAL_BITS == 64
#define LOG2_E 1.4426950408889634
#define LN2_HIGH 6.93147180369123816490e-01 /* 33 bits: times a whole exponent it is exact */
#define LN2_LOW 1.90821492927058770002e-10
#define EXP_LOWEST -750.0 /* exp is 0 below and infinite above these, with room to round */
#define EXP_HIGHEST 712.0
#define EXPM1_LOWEST -40.0 /* exp(x) - 1 rounds to -1 below */
#define SMALLEST_NORMAL 2.2250738585072014e-308
/* (exp(r) - 1 - r) / r^2, |r| <= ln(2)/2; relative error of exp(r) - 1: 2.7e-19 */
static const real EXP_POLY[] = {0.5,
                                0.166666666666666766,
                                0.041666666666666701371,
                                0.0083333333333216156743,
                                0.0013888888888866832611,
                                0.00019841269886158753951,
                                0.000024801587360568243421,
                                2.75572441817681281e-6,
                                2.7557242749043884101e-7,
                                2.5109044933709688039e-8,
                                2.0924446486264383343e-9};
/* 2 (atanh(s)/s - 1) / z with z = s^2, |s| <= (sqrt(2) - 1)/(sqrt(2) + 1); error 2.5e-18 */
static const real LOG_POLY[] = {0.66666666666667344575, 0.399999999994143287,   0.28571428742473842736, 0.22222198563570501887,
                                0.18183564862737678621, 0.15314035926270982046, 0.14796104637082038007};
/* (1 + a) exp(a^2/2) Phi(-a) in t = (a - 4)/(a + 4), 0 <= a <= 39; relative error 5.4e-17 */
#define TAIL_CENTRE 4.0
#define TAIL_FARTHEST 39.0
static const real TAIL_POLY[] = {
    0.47205320650984466697,     -0.096703477326525442705,    0.013999634724429944636,    0.028600364053511817155,
    -0.032197837428335226371,   0.017936097480879655051,     -0.0050023785855923948291,  -0.0002856231147676792283,
    0.00069489704241977921574,  -0.000094430128302236035517, -0.00008785276441903661484, 0.00002124950449033180537,
    0.000013625085531076015651, -3.4308114307341639618e-6,   -2.6079888702193948563e-6,  4.0257840297623311787e-7,
    5.4322928973347046e-7,      2.2481914592216838948e-9,    -1.0123897371048720687e-7,  -1.8517951237265232948e-8,
    1.1479571738307538949e-8,   4.2450684675330692367e-9,    1.4667101033791732539e-10};
#else
#define LOG2_E 1.44269504f
#define LN2_HIGH 6.9314575195e-01f /* 15 bits */
#define LN2_LOW 1.4286067653e-06f
#define EXP_LOWEST -106.0f
#define EXP_HIGHEST 90.0f
#define EXPM1_LOWEST -20.0f
#define SMALLEST_NORMAL 1.17549435e-38f
/* error 2.4e-10 */
static const real EXP_POLY[] = {0.50000000464160701f,   0.16666666816984536f,   0.041666354656656409f,
                                0.0083332730574396851f, 0.0013941008791335531f, 0.00019914170256455178f};
/* error 9.6e-12 */
static const real LOG_POLY[] = {0.66666665645074827f, 0.40000335284999912f, 0.28537301990538146f, 0.23582285974702974f};
/* in t = (a - 3.5)/(a + 3.5), 0 <= a <= 14.5; relative error 4.7e-9 */
#define TAIL_CENTRE 3.5f
#define TAIL_FARTHEST 14.5f
static const real TAIL_POLY[] = {0.47855319031347823f,    -0.097712547403525943f,  0.00078694362897765663f,
                                 0.038046930294237742f,   -0.030258169298723030f,  0.010385620159385916f,
                                 0.00027855912770057794f, -0.0014367439142791148f, 0.000098677926508337f,
                                 0.00020536756055042238f, 0.000029423531363126146f};
#endif

/* Even and odd powers as two chains, half as long as one. */
ALWAYS_INLINE vec vpoly(const real *coefficient, int n, vec x)
{
    const vec square = x * x;
    vec even = vset(coefficient[(n - 1) & ~1]), odd = vset(coefficient[((n - 2) & ~1) + 1]);
    UNROLL
    for (int i = ((n - 1) & ~1) - 2; i >= 0; i -= 2) even = vfma(even, square, vset(coefficient[i]));
    UNROLL
    for (int i = ((n - 2) & ~1) - 1; i >= 1; i -= 2) odd = vfma(odd, square, vset(coefficient[i]));
    return vfma(odd, x, even);
}
#define VPOLY(table, x) vpoly(table, (int)(sizeof(table) / sizeof(table[0])), x)

/* x = n ln 2 + r with |r| <= ln(2)/2: returns exp(r) - 1, sets n. */
ALWAYS_INLINE vec exp_reduced(vec x, vec *n)
{
    *n = vround(x * vset(LOG2_E));
    vec r = vfma(*n, vset(-LN2_HIGH), x);
    r = vfma(*n, vset(-LN2_LOW), r);
    return vfma(r * r, VPOLY(EXP_POLY, r), r);
}

ALWAYS_INLINE vec exp_v(vec x)
{
    vec n, p;
    p = exp_reduced(vmax(vmin(x, vset(EXP_HIGHEST)), vset(EXP_LOWEST)), &n);
    /* in two steps, so that results that are denormal or overflow are rounded once */
    vec half = vround(n * vset(C(0.5)));
    return (vset(1) + p) * vpow2(half) * vpow2(n - half);
}

/* exp(x) - 1 for x <= 0. */
ALWAYS_INLINE vec expm1_negative_v(vec x)
{
    vec n, p;
    p = exp_reduced(vmax(x, vset(EXPM1_LOWEST)), &n);
    vec scale = vpow2(n);
    return vfma(scale, p, scale - vset(1));
}

/* log(u + c) for u positive and normal, |c| at most half a unit in the last place of u. */
ALWAYS_INLINE vec log_v(vec u, vec c)
{
    vec k, f, s, z;
    f = vsplit(u, &k) - vset(1);
    s = f / (vset(2) + f); /* log(1 + f) = 2 atanh(s) = f - s (f - R) */
    z = s * s;
    vec remainder = z * VPOLY(LOG_POLY, z);
    vec low = vfma(k, vset(LN2_LOW), c / u);
    return vfma(k, vset(LN2_HIGH), f - (s * (f - remainder) - low));
}

/* log(1 + x) for finite x > -1. */
ALWAYS_INLINE vec log1p_finite_v(vec x)
{
    vec u = vset(1) + x;
    vec back = u - vset(1);
    vec c = (vset(1) - (u - back)) + (x - back); /* 1 + x = u + c exactly (Knuth's two-sum) */
    return log_v(u, c);
}

ALWAYS_INLINE vec log1p_v(vec x)
{
    const real infinity = (real)INFINITY;
    vec y = vselect(vless(x, vset(infinity)), log1p_finite_v(x), x);
    y = vselect(vless(vabs(vset(1) + x), vset(SMALLEST_NORMAL)), vset(-infinity), y);
    y = vselect(vless(x, vset(-1)), vset((real)NAN), y);
    return vsign_of(y, x);
}

ALWAYS_INLINE vec sigmoid_v(vec x)
{
    vec t = exp_v(-vabs(x)); /* never overflows */
    return vselect(vless(x, vset(0)), t, vset(1)) / (vset(1) + t);
}

ALWAYS_INLINE vec tanh_v(vec x)
{
    vec t = expm1_negative_v(vset(-2) * vabs(x));
    return vsign_of(-t / (vset(2) + t), x);
}

/* log(1 + exp(x)). */
ALWAYS_INLINE vec softplus_v(vec x) { return vmax(x, vset(0)) + log1p_finite_v(exp_v(-vabs(x))); }

/* The standard normal distribution's cdf and density; x is taken as +-TAIL_FARTHEST beyond it. */
ALWAYS_INLINE vec normal_cdf_v(vec x, vec *density)
{
    vec a = vmin(vabs(x), vset(TAIL_FARTHEST));
    vec half_a = vset(C(0.5)) * a;
    vec h = half_a * a;
    vec h_low = vfma(half_a, a, -h); /* what rounding took from a^2/2 */
    vec e = exp_v(-h);
    e = vfma(e, -h_low, e);
    *density = e * vset(C(0.39894228040143268));
    vec tail = e * VPOLY(TAIL_POLY, (a - vset(TAIL_CENTRE)) / (a + vset(TAIL_CENTRE))) / (vset(1) + a);
    return vselect(vless(x, vset(0)), tail, vset(1) - tail);
}

#define FUNCTION(name)                                                                                                         \
    static void name##_map(real *y, const real *x, int64_t n)                                                                  \
    {                                                                                                                          \
        int64_t i = 0;                                                                                                         \
        for (; i <= n - WIDTH; i += WIDTH) vstore(y + i, name##_v(vload(x + i)));                                              \
        if (i < n) vstore_part(y + i, name##_v(vload_part(x + i, vpart(n - i))), vpart(n - i));                                \
    }
#include "../functions.def"
#undef FUNCTION

#endif
