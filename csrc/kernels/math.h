/* exp, log1p, tanh, sigmoid, softplus and the normal distribution over vectors. The same operations in the same order on
 * every level. The coefficients are minimax fits (Remez) in the variable named beside each, found for this file. */
#ifndef BP_MATH_H
#define BP_MATH_H

#include "simd.h"

#if BP_REAL_BITS == 64
#define LOG2_E 1.4426950408889634
#define LN2 0.69314718055994529 /* ln 2 rounded, and the rest */
#define LN2_REST 2.3190468138462996e-17
#define LN2_HIGH 6.93147180369123816490e-01 /* 33 bits: times a whole exponent it is exact */
#define LN2_LOW 1.90821492927058770002e-10
#define EXP_LOWEST -750.0 /* exp is 0 below and infinite above these, with room to round */
#define EXP_HIGHEST 712.0
#define EXPM1_LOWEST -40.0     /* exp(x) - 1 rounds to -1 below */
#define TANH_HIGHEST 19.2      /* tanh rounds to 1 above */
#define SIGMOID_FARTHEST 690.0 /* below minus this sigmoid is exp, above it is 1; exp up to it is in vfma_once()'s range */
#define NEARLY_ONE 0.9999983   /* halves the largest error of exp_parts.early */
#define SOFTPLUS_HIGHEST 40.0  /* softplus is the identity above */
#define SMALLEST_NORMAL 2.2250738585072014e-308
/* (exp(r) - 1 - r) / r^2, |r| <= ln(2)/2; relative errors: of exp(r) 8.0e-18, of exp(r) - 1 2.0e-17 */
static const real EXP_POLY[] = {0.5000000000000006,    0.16666666666666669,    0.04166666666657298,    0.008333333333328918,
                                0.0013888888932688684, 0.00019841269863720817, 2.4801504005046098e-05, 2.7557270100453612e-06,
                                2.762651788886381e-07, 2.5099078346076103e-08};
/* 2 (atanh(s)/s - 1) / z with z = s^2 <= 0.04; error 1e-18 / z */
static const real LOG_POLY[] = {0.666666666666666,   0.4000000000005798,  0.28571428555525236, 0.22222224329804446,
                                0.18181663921962327, 0.15391174632191687, 0.13172560863169577, 0.13849982675863995};
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
#define LN2 0.693147182f
#define LN2_REST -1.90465421e-9f
#define LN2_HIGH 6.9314575195e-01f /* 15 bits */
#define LN2_LOW 1.4286067653e-06f
#define EXP_LOWEST -106.0f
#define EXP_HIGHEST 90.0f
#define EXPM1_LOWEST -20.0f
#define TANH_HIGHEST 9.1f
#define SIGMOID_FARTHEST 80.0f
#define NEARLY_ONE 0.9996f
#define SOFTPLUS_HIGHEST 20.0f
#define SMALLEST_NORMAL 1.17549435e-38f
/* errors 5.6e-9 and 1.4e-8 */
static const real EXP_POLY[] = {0.5f, 0.166665420f, 0.0416665189f, 0.00836676732f, 0.00139283179f};
/* error 1.9e-10 / z */
static const real LOG_POLY[] = {0.666666627f, 0.400008738f, 0.285064608f, 0.241084367f};
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

/* exp(x) = 2^n (1 + r + r^2 poly) (1 + rest), where x = n ln 2 + r + rest and |r| <= ln(2)/2. */
typedef struct exp_parts {
    vec shifted; /* n + SHIFTER, or as much less as it was told */
    vec r;       /* exact */
    vec rest;    /* what n ln 2 is beyond n LN2, at most 2^-45 (2^-21 in float32) */
    vec square, poly;
    vec early; /* the first terms of poly: 4 (2 in float32), for what may be rough but must be known soon */
} exp_parts;

/* `shifted` is x LOG2_E + shifter, and so its last bits are n plus those of shifter. */
ALWAYS_INLINE exp_parts exp_split(vec x, vec shifted, real shifter)
{
    exp_parts e;
    const vec n = shifted - vset(shifter);
    e.shifted = shifted;
    e.r = vfma_once(n, vset(-LN2), x);
    e.rest = n * vset(-LN2_REST);
    const vec r = e.r, square = r * r;
    e.square = square;
#define PAIR(i) vfma(vset(EXP_POLY[i + 1]), r, vset(EXP_POLY[i]))
#if BP_REAL_BITS == 64
    const vec fourth = square * square;
    e.early = vfma(PAIR(2), square, PAIR(0));
    e.poly = vfma(vfma(PAIR(8), fourth, vfma(PAIR(6), square, PAIR(4))), fourth, e.early);
#else
    e.early = PAIR(0);
    e.poly = vfma(vfma(vset(EXP_POLY[4]), square, PAIR(2)), square, e.early);
#endif
#undef PAIR
    return e;
}

/* 1 + r + r^2 poly, times 1 + rest, as the sum of a rounded number and a small one. */
ALWAYS_INLINE vec exp_mantissa(const exp_parts *e, vec *tail)
{
    const vec lead = vset(1) + e->r;
    const vec low = e->r - (lead - vset(1)); /* exact */
    *tail = vfma(e->poly, e->square, vfma(e->rest, vfma(e->early, e->square, lead), low));
    return lead;
}

ALWAYS_INLINE vec exp_v(vec x)
{
    const vec bounded = vmax(vmin(x, vset(EXP_HIGHEST)), vset(EXP_LOWEST));
    const exp_parts e = exp_split(bounded, vfma(bounded, vset(LOG2_E), vset(SHIFTER)), SHIFTER);
    vec tail, lead = exp_mantissa(&e, &tail);
    return vscale(lead + tail, e.shifted);
}

/* exp(x) - 1 for x <= 0. */
ALWAYS_INLINE vec expm1_negative_v(vec x)
{
    const vec bounded = vmax(x, vset(EXPM1_LOWEST));
    const exp_parts e = exp_split(bounded, vfma(bounded, vset(LOG2_E), vset(SHIFTER)), SHIFTER);
    const vec p = e.r + vfma(e.poly, e.square, e.rest * (vset(1) + e.r)), scale = vpow2(e.shifted);
    return vfma(scale, p, scale - vset(1));
}

/* lead + rest + log(1 + f + low), -0.3 < f <= 0.5, low below a rounding of f; lead is 0 or not less than |f|. */
ALWAYS_INLINE vec add_log(vec lead, vec rest, vec f, vec twice_low)
{
    const vec divisor = vset(2) + f, s = f / divisor, z = s * s; /* log(1 + f) = 2 atanh(s) = f - s (f - z poly) */
#if WIDTH == 1 /* more roundings than with fma: what those of s took, in the division and before it in 2 + f, is put back */
    rest = rest - (vfma_once(-s, divisor, f) - s * (f - (divisor - vset(2)))) / divisor * f;
#endif
    const vec sum = lead + f;
    rest = rest + (f - (sum - lead));               /* what the sum lost */
    rest = vfma(twice_low, vset(C(0.5)) - s, rest); /* 1 / (1 + f) is 1 - 2s nearly */
    return sum + vfma_once(-s, vfma(-z, VPOLY(LOG_POLY, z), f), rest);
}

/* log(u + c) for u positive and normal, |c| at most half a unit in the last place of u; nan where c is. */
ALWAYS_INLINE vec log_v(vec u, vec c)
{
    vec k, scale;
    const vec f = vsplit(u, &k, &scale) - vset(1);
    return add_log(k * vset(LN2_HIGH), k * vset(LN2_LOW), f, c * scale);
}

/* log(1 + x) for finite x > -1. */
ALWAYS_INLINE vec log1p_finite_v(vec x)
{
    const vec one = vset(1), u = one + x;
    return log_v(u, vmin(x, one) - (u - vmax(x, one))); /* 1 + x is the sum of the two exactly */
}

ALWAYS_INLINE vec log1p_v(vec x)
{
    vec y = log1p_finite_v(x);
    if (vany(vless(vset(REAL_MAX), x)) || vany(vless(vset(1) + x, vset(SMALLEST_NORMAL)))) {
        y = vselect(vless(vset(REAL_MAX), x), x, y);
        y = vselect(vless(vset(1) + x, vset(SMALLEST_NORMAL)), vset(-(real)INFINITY), y);
        y = vselect(vless(x, vset(-1)), vset((real)NAN), y);
    }
    return vsign_of(y, x);
}

/* 1 / (1 + exp(-x)) */
ALWAYS_INLINE vec sigmoid_v(vec x)
{
    const vec one = vset(1);
    const exp_parts e = exp_split(-x, vfma(x, vset(-LOG2_E), vset(SHIFTER)), SHIFTER);
    const vec scale = vpow2(e.shifted), scaled_square = scale * e.square;
    const vec start = one + scale, lead = vfma(scale, e.r, start);
    const vec rough = vfma(scaled_square, e.early, lead);
    const vec q = one / rough;                               /* so the division need not wait for the whole polynomial */
    vec low = vmin(one, scale) - (start - vmax(one, scale)); /* what rounding took from start, and then from lead */
    low = vfma(scale, e.r, start - lead) + low;
    low = vfma(e.rest, rough - one, low);
    const vec tail = vfma(scaled_square, e.poly, low);
    const vec excess = vfma(q, tail, vfma_once(q, lead, vset(-1))); /* q (1 + exp(-x)) - 1 */
    vec y = vfma(q, vfma(excess, excess, -excess), q);
    if (vany(vless(vset(SIGMOID_FARTHEST), vabs(x)))) { /* hardly ever, and so no delay for the others */
        y = vselect(vless(vset(SIGMOID_FARTHEST), x), one, y);
        y = vselect(vless(x, vset(-SIGMOID_FARTHEST)), exp_v(x), y);
    }
    return y;
}

/* -t / (1 + t) for t = (exp(-2|x|) - 1) / 2 */
ALWAYS_INLINE vec tanh_v(vec x)
{
    const vec a = vmin(vabs(x), vset(TANH_HIGHEST));
    const real shifter = SHIFTER - 1; /* 2^n is halved already */
    const vec shifted = vfma(a, vset(-2 * LOG2_E), vset(shifter));
    const exp_parts e = exp_split(a * vset(-2), vmax(shifted, vset(shifter - (MANTISSA + 1))), shifter);
    const vec scale = vpow2(e.shifted), start = scale - vset(C(0.5));
    const vec p = vfma(e.square, e.poly, e.r), t = vfma(scale, p, start);
    vec p_low = vfma_once(e.square, e.poly, e.r - p); /* what rounding took from p, and then from t */
#if BP_REAL_BITS == 64
    p_low = vfma(e.rest, vset(1) + p, p_low); /* in float32 it is too small to matter */
#endif
    const vec t_low = vfma(scale, p_low, vfma(scale, p, start - t));
    const vec y = t / (vset(1) + t), inverse = vset(1) - y;         /* of 1 + t */
    const vec left = vfma(t_low, inverse, vfma_once(-y, t, t - y)); /* t - y (1 + t), and the same of t_low */
    return vsign_of(vfma(left, inverse, y), x);
}

/* log(1 + exp(-a)) + positive, for a >= 0. */
ALWAYS_INLINE vec log1p_exp_v(vec a, vec positive)
{
    const vec bounded = -vmin(a, vset(-EXP_LOWEST));
    const exp_parts e = exp_split(bounded, vfma(bounded, vset(LOG2_E), vset(SHIFTER)), SHIFTER);
    vec tail;
    const vec lead = exp_mantissa(&e, &tail), mantissa = lead + tail;
    const vec t = vscale(mantissa, e.shifted), t_low = vscale(tail - (mantissa - lead), e.shifted);
    const vmask small = vless(t, vset(C(0.5))); /* else log(1 + t) = log 2 + log((1 + t) / 2) */
    const vec half = vselect(small, vset(1), vset(C(0.5))), log2 = vselect(small, vset(0), vset(LN2));
    const vec sum = log2 + positive, low = positive - (sum - log2);
    return add_log(sum, low + vselect(small, vset(0), vset(LN2_REST)), vfma(t, half, half - vset(1)), t_low * (half + half));
}

/* log(1 + exp(x)). */
ALWAYS_INLINE vec softplus_v(vec x)
{
    const vec y = log1p_exp_v(vabs(x), vmax(x, vset(0)));
    return vselect(vless(vset(SOFTPLUS_HIGHEST), x), x, y);
}

/* The standard normal distribution's cdf and density; x is taken as +-TAIL_FARTHEST beyond it. */
ALWAYS_INLINE vec normal_cdf_v(vec x, vec *density)
{
    vec a = vmin(vabs(x), vset(TAIL_FARTHEST));
    vec half_a = vset(C(0.5)) * a;
    vec h = half_a * a;
    vec h_low = vfma_once(half_a, a, -h); /* what rounding took from a^2/2 */
    vec e = exp_v(-h);
    e = vfma(e, -h_low, e);
    *density = e * vset(C(0.39894228040143268));
    vec tail = e * VPOLY(TAIL_POLY, (a - vset(TAIL_CENTRE)) / (a + vset(TAIL_CENTRE))) / (vset(1) + a);
    return vselect(vless(x, vset(0)), tail, vset(1) - tail);
}

/* 8 % (exp, float32) and 9 % (tanh) faster at avx512; sigmoid and log1p gain nothing, softplus lacks the registers */
INTERLEAVED static void exp_map(real *y, const real *x, int64_t n);
INTERLEAVED static void tanh_map(real *y, const real *x, int64_t n);

#define FUNCTION(name)                                                                                                         \
    static void name##_map(real *y, const real *x, int64_t n)                                                                  \
    {                                                                                                                          \
        int64_t i = 0;                                                                                                         \
        for (; i <= n - 2 * WIDTH; i += 2 * WIDTH) {                                                                           \
            const vec first = name##_v(vload(x + i)), second = name##_v(vload(x + i + WIDTH));                                 \
            vstore(y + i, first);                                                                                              \
            vstore(y + i + WIDTH, second);                                                                                     \
        }                                                                                                                      \
        for (; i <= n - WIDTH; i += WIDTH) vstore(y + i, name##_v(vload(x + i)));                                              \
        if (i < n) vstore_part(y + i, name##_v(vload_part(x + i, vpart(n - i))), vpart(n - i));                                \
    }
#include "../functions.def"
#undef FUNCTION

#endif
