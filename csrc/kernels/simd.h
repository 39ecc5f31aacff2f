/* The only file with intrinsics: the primitives that the kernels are written in, over one vector `vec` of WIDTH reals of
 * this level. Arithmetic is written with the operators + - * / and unary minus, which gcc and clang give vectors too.
 *
 *   vload(p) vstore(p, v)         no alignment needed          vset(x)            all lanes x
 *   vload_part vstore_part        the first lanes of a `part`  vpart(n)           the first n lanes, 0 <= n <= WIDTH
 *   vkeep(v, part)                the other lanes become 0     vfma(a, b, c)      a b + c, rounded once where WIDTH > 1
 *   vfma_once(a, b, c)            the same, and as good where WIDTH is 1, but slow there: for what roundings took
 *   vless(a, b) -> vmask          false where either is nan    vselect(m, a, b)   m ? a : b
 *   vall(m)                       whether m holds in all lanes vfold(v)           the sum of the lanes, folded in halves
 *   vlane(v, k)                   all lanes lane k of v, 0 <= k < WIDTH
 *   vsqrt(a)   vabs(a)   vsign_of(magnitude, sign)
 *   vmax(a, b) vmin(a, b)         a where either is nan, or they are equal
 *   vpow2(k + SHIFTER)            2^k for whole k in the range of normal exponents
 *   vscale(x, k + SHIFTER)        x 2^k rounded once, |k| at most twice that range    vany(m)    whether any lane is true
 *   vsplit(x, &k, &scale)         m in [sqrt(1/2), sqrt(2)) and whole k with x = m 2^k, x positive and normal; scale is 2^(1-k),
 *                                 or 0 for the largest k
 *   vtranspose(rows)              a square of WIDTH vectors, in place
 *   multiply_lower(a, b)          of `words`, 64-bit lanes: the product of their lower halves
 *   vzip(&a, &b) vunzip(&a, &b)   a0 b0 a1 b1 ... in two vectors, and back
 */
#ifndef BP_SIMD_H
#define BP_SIMD_H

#include <math.h>
#include <string.h>

#if defined(__GNUC__)
#define ALWAYS_INLINE static inline __attribute__((always_inline, unused))
#define NOINLINE static __attribute__((noinline, unused))
#define RESTRICT __restrict__
#define MAYBE_UNUSED __attribute__((unused))
#else
#define ALWAYS_INLINE static inline
#define NOINLINE static
#define RESTRICT
#define MAYBE_UNUSED
#endif

/* To bring a cache line near before it is read; a hint, harmless for any address. */
#if defined(__GNUC__)
#define PREFETCH(p) __builtin_prefetch(p)
#else
#define PREFETCH(p) ((void)(p))
#endif

/* Keeps a pointer in a register of its own: the compiler does not know where it came from. */
#if defined(__GNUC__)
#define KEEP_POINTER(p) __asm__("" : "+r"(p))
#else
#define KEEP_POINTER(p) ((void)(p))
#endif

#if defined(__clang__)
#define UNROLL _Pragma("clang loop unroll(full)")
#elif defined(__GNUC__)
#define UNROLL _Pragma("GCC unroll 32")
#else
#define UNROLL
#endif

/* For loops over two vectors that know nothing of each other: mix their operations, which keeps both fma units busier than one
 * after the other. Only where gcc adds such options to those of the command line, -ffp-contract=off among them. */
#if defined(__GNUC__) && !defined(__clang__) && __GNUC__ >= 12
#define INTERLEAVED __attribute__((optimize("schedule-insns", "sched-pressure")))
#else
#define INTERLEAVED
#endif

/* Sums are striped over this many lanes on every level, so that all levels add in the same order. */
#define STRIPE ((int64_t)(64 / sizeof(real)))
#define STRIPE_PARTS ((int)(64 / sizeof(real)) / WIDTH) /* in vectors */

#if BP_REAL_BITS == 64
typedef double real;
typedef uint64_t bits;
#define MANTISSA 52
#define EXPONENT_BIAS 1023
#define BITS_OF_SQRT_HALF 0x3FE6A09E667F3BCDu
#define ROUNDER 6755399441055744.0 /* 1.5 2^52 */
#define REAL_MAX 1.7976931348623157e308
#define REAL_EPSILON 2.220446049250313e-16
#define C(x) (x)
#else
typedef float real;
typedef uint32_t bits;
#define MANTISSA 23
#define EXPONENT_BIAS 127
#define BITS_OF_SQRT_HALF 0x3F3504F3u
#define ROUNDER 12582912.0f /* 1.5 2^23 */
#define REAL_MAX 3.40282347e38f
#define REAL_EPSILON 1.1920929e-7f
#define C(x) ((float)(x))
#endif

/* Added to a whole number k it leaves the exponent field of 2^k in the last bits. */
#define SHIFTER (ROUNDER + EXPONENT_BIAS)
#define BITS_OF_ONE ((bits)EXPONENT_BIAS << MANTISSA)

/* ---- AVX-512 ------------------------------------------------------------------------------------------------------- */
#if defined(BP_LEVEL_IS_avx512)
#include <immintrin.h>

#if BP_REAL_BITS == 64
#define WIDTH 8
typedef __m512d vec;
typedef __mmask8 vmask;
#define PD(name) _mm512_##name##_pd
#define EPI(name) _mm512_##name##_epi64
#define SET1_BITS(x) _mm512_set1_epi64((long long)(x))
#define AS_BITS(v) _mm512_castpd_si512(v)
#define AS_REAL(v) _mm512_castsi512_pd(v)
#define TO_REAL(v) _mm512_cvtepi64_pd(v)
#else
#define WIDTH 16
typedef __m512 vec;
typedef __mmask16 vmask;
#define PD(name) _mm512_##name##_ps
#define EPI(name) _mm512_##name##_epi32
#define SET1_BITS(x) _mm512_set1_epi32((int)(x))
#define AS_BITS(v) _mm512_castps_si512(v)
#define AS_REAL(v) _mm512_castsi512_ps(v)
#define TO_REAL(v) _mm512_cvtepi32_ps(v)
#endif
typedef vmask part;

ALWAYS_INLINE vec vset(real x) { return PD(set1)(x); }
ALWAYS_INLINE vec vload(const real *p) { return PD(loadu)(p); }
ALWAYS_INLINE void vstore(real *p, vec v) { PD(storeu)(p, v); }
ALWAYS_INLINE part vpart(int64_t n) { return (part)((1u << n) - 1u); }
ALWAYS_INLINE vec vlane(vec v, int64_t k) { return PD(permutexvar)(SET1_BITS(k), v); }
#if BP_REAL_BITS == 64
ALWAYS_INLINE vec vload_part(const real *p, part m) { return _mm512_maskz_loadu_pd(m, p); }
ALWAYS_INLINE void vstore_part(real *p, vec v, part m) { _mm512_mask_storeu_pd(p, m, v); }
ALWAYS_INLINE vec vkeep(vec v, part m) { return _mm512_maskz_mov_pd(m, v); }
ALWAYS_INLINE vmask vless(vec a, vec b) { return _mm512_cmp_pd_mask(a, b, _CMP_LT_OQ); }
ALWAYS_INLINE vec vselect(vmask m, vec a, vec b) { return _mm512_mask_blend_pd(m, b, a); }
ALWAYS_INLINE int vall(vmask m) { return m == 0xFF; }
ALWAYS_INLINE real vfold(vec v)
{
    const __m256d quarters = _mm512_castpd512_pd256(v) + _mm512_extractf64x4_pd(v, 1);
    const __m128d pair = _mm256_castpd256_pd128(quarters) + _mm256_extractf128_pd(quarters, 1);
    return _mm_cvtsd_f64(pair) + _mm_cvtsd_f64(_mm_unpackhi_pd(pair, pair));
}
ALWAYS_INLINE vec vsign_of(vec magnitude, vec sign)
{
    return AS_REAL(_mm512_ternarylogic_epi64(SET1_BITS(1ull << 63), AS_BITS(sign), AS_BITS(magnitude), 0xCA));
}
#else
ALWAYS_INLINE vec vload_part(const real *p, part m) { return _mm512_maskz_loadu_ps(m, p); }
ALWAYS_INLINE void vstore_part(real *p, vec v, part m) { _mm512_mask_storeu_ps(p, m, v); }
ALWAYS_INLINE vec vkeep(vec v, part m) { return _mm512_maskz_mov_ps(m, v); }
ALWAYS_INLINE vmask vless(vec a, vec b) { return _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ); }
ALWAYS_INLINE vec vselect(vmask m, vec a, vec b) { return _mm512_mask_blend_ps(m, b, a); }
ALWAYS_INLINE int vall(vmask m) { return m == 0xFFFF; }
ALWAYS_INLINE real vfold(vec v)
{
    const __m256 eighths = _mm512_castps512_ps256(v) + _mm512_extractf32x8_ps(v, 1);
    const __m128 four = _mm256_castps256_ps128(eighths) + _mm256_extractf128_ps(eighths, 1);
    const __m128 pair = four + _mm_movehl_ps(four, four);
    return _mm_cvtss_f32(pair) + _mm_cvtss_f32(_mm_movehdup_ps(pair));
}
ALWAYS_INLINE vec vsign_of(vec magnitude, vec sign)
{
    return AS_REAL(_mm512_ternarylogic_epi32(SET1_BITS(1u << 31), AS_BITS(sign), AS_BITS(magnitude), 0xCA));
}
#endif
ALWAYS_INLINE vec vfma(vec a, vec b, vec c) { return PD(fmadd)(a, b, c); }
ALWAYS_INLINE vec vsqrt(vec a) { return PD(sqrt)(a); }
ALWAYS_INLINE vec vabs(vec a) { return PD(abs)(a); }
ALWAYS_INLINE vec vmax(vec a, vec b) { return PD(max)(b, a); }
ALWAYS_INLINE vec vmin(vec a, vec b) { return PD(min)(b, a); }
ALWAYS_INLINE int vany(vmask m) { return m != 0; }
ALWAYS_INLINE vec vpow2(vec shifted) { return AS_REAL(EPI(slli)(AS_BITS(shifted), MANTISSA)); }
ALWAYS_INLINE vec vscale(vec x, vec shifted) { return PD(scalef)(x, shifted - vset(SHIFTER)); }
ALWAYS_INLINE vec vsplit(vec x, vec *k, vec *scale)
{
    __m512i biased = EPI(srli)(EPI(add)(AS_BITS(x), SET1_BITS(BITS_OF_ONE - BITS_OF_SQRT_HALF)), MANTISSA);
    __m512i exponent = EPI(sub)(biased, SET1_BITS(EXPONENT_BIAS));
    __m512i shift = EPI(slli)(exponent, MANTISSA);
    *k = TO_REAL(exponent);
    *scale = AS_REAL(EPI(sub)(AS_BITS(vset(2)), shift));
    return AS_REAL(EPI(sub)(AS_BITS(x), shift));
}

/* Blocks of `half` lanes off the diagonal change places. */
ALWAYS_INLINE void vtranspose(vec rows[WIDTH])
{
    UNROLL
    for (int half = WIDTH / 2; half > 0; half /= 2) {
        _Alignas(64) bits upper[WIDTH], lower[WIDTH];
        UNROLL
        for (int i = 0; i < WIDTH; i++) {
            upper[i] = (bits)(i & half ? WIDTH + i - half : i);
            lower[i] = (bits)(i & half ? WIDTH + i : i + half);
        }
        const __m512i from_upper = _mm512_load_si512(upper), from_lower = _mm512_load_si512(lower);
        UNROLL
        for (int i = 0; i < WIDTH; i++) {
            if (i & half) continue;
            const vec a = rows[i], b = rows[i + half];
            rows[i] = PD(permutex2var)(a, from_upper, b);
            rows[i + half] = PD(permutex2var)(a, from_lower, b);
        }
    }
}
ALWAYS_INLINE void vpermute_pair(vec *a, vec *b, const bits *first, const bits *second)
{
    const vec low = PD(permutex2var)(*a, _mm512_load_si512(first), *b);
    *b = PD(permutex2var)(*a, _mm512_load_si512(second), *b);
    *a = low;
}
ALWAYS_INLINE void vzip(vec *a, vec *b)
{
    _Alignas(64) bits low[WIDTH], high[WIDTH];
    UNROLL
    for (int i = 0; i < WIDTH; i++) {
        low[i] = (bits)(i % 2 * WIDTH + i / 2);
        high[i] = (bits)(i % 2 * WIDTH + i / 2 + WIDTH / 2);
    }
    vpermute_pair(a, b, low, high);
}
ALWAYS_INLINE void vunzip(vec *a, vec *b)
{
    _Alignas(64) bits even[WIDTH], odd[WIDTH];
    UNROLL
    for (int i = 0; i < WIDTH; i++) {
        even[i] = (bits)(2 * i);
        odd[i] = (bits)(2 * i + 1);
    }
    vpermute_pair(a, b, even, odd);
}

/* ---- AVX2 ---------------------------------------------------------------------------------------------------------- */
#elif defined(BP_LEVEL_IS_avx2)
#include <immintrin.h>

#if BP_REAL_BITS == 64
#define WIDTH 4
typedef __m256d vec;
#define PD(name) _mm256_##name##_pd
#define EPI(name) _mm256_##name##_epi64
#define SET1_BITS(x) _mm256_set1_epi64x((long long)(x))
#define AS_BITS(v) _mm256_castpd_si256(v)
#define AS_REAL(v) _mm256_castsi256_pd(v)
#else
#define WIDTH 8
typedef __m256 vec;
#define PD(name) _mm256_##name##_ps
#define EPI(name) _mm256_##name##_epi32
#define SET1_BITS(x) _mm256_set1_epi32((int)(x))
#define AS_BITS(v) _mm256_castps_si256(v)
#define AS_REAL(v) _mm256_castsi256_ps(v)
#endif
typedef vec vmask;
typedef __m256i part;

ALWAYS_INLINE vec vset(real x) { return PD(set1)(x); }
ALWAYS_INLINE vec vload(const real *p) { return PD(loadu)(p); }
ALWAYS_INLINE void vstore(real *p, vec v) { PD(storeu)(p, v); }
#if BP_REAL_BITS == 64
ALWAYS_INLINE part vpart(int64_t n) { return _mm256_cmpgt_epi64(SET1_BITS(n), _mm256_set_epi64x(3, 2, 1, 0)); }
ALWAYS_INLINE int vall(vmask m) { return _mm256_movemask_pd(m) == 0xF; }
ALWAYS_INLINE real vfold(vec v)
{
    const __m128d pair = _mm256_castpd256_pd128(v) + _mm256_extractf128_pd(v, 1);
    return _mm_cvtsd_f64(pair) + _mm_cvtsd_f64(_mm_unpackhi_pd(pair, pair));
}
ALWAYS_INLINE vec vsplit_exponent(__m256i biased) /* whole numbers in [0, 2^52) to reals, minus the bias */
{
    const __m256i two52 = SET1_BITS(0x4330000000000000ull);
    return AS_REAL(_mm256_or_si256(biased, two52)) - vset(4503599627370496.0 + EXPONENT_BIAS);
}
#else
ALWAYS_INLINE part vpart(int64_t n) { return _mm256_cmpgt_epi32(SET1_BITS(n), _mm256_set_epi32(7, 6, 5, 4, 3, 2, 1, 0)); }
ALWAYS_INLINE int vall(vmask m) { return _mm256_movemask_ps(m) == 0xFF; }
ALWAYS_INLINE real vfold(vec v)
{
    const __m128 four = _mm256_castps256_ps128(v) + _mm256_extractf128_ps(v, 1);
    const __m128 pair = four + _mm_movehl_ps(four, four);
    return _mm_cvtss_f32(pair) + _mm_cvtss_f32(_mm_movehdup_ps(pair));
}
ALWAYS_INLINE vec vsplit_exponent(__m256i biased)
{
    return _mm256_cvtepi32_ps(_mm256_sub_epi32(biased, SET1_BITS(EXPONENT_BIAS)));
}
#endif
ALWAYS_INLINE vec vlane(vec v, int64_t k)
{
#if BP_REAL_BITS == 64 /* as pairs of halves: 2 k and 2 k + 1 */
    const __m256i index = _mm256_add_epi32(SET1_BITS((uint64_t)k * 0x200000002u), SET1_BITS(0x100000000u));
    return _mm256_castps_pd(_mm256_permutevar8x32_ps(_mm256_castpd_ps(v), index));
#else
    return _mm256_permutevar8x32_ps(v, SET1_BITS(k));
#endif
}
ALWAYS_INLINE vec vload_part(const real *p, part m) { return PD(maskload)(p, m); }
ALWAYS_INLINE void vstore_part(real *p, vec v, part m) { PD(maskstore)(p, m, v); }
ALWAYS_INLINE vec vkeep(vec v, part m) { return PD (and)(v, AS_REAL(m)); }
ALWAYS_INLINE vmask vless(vec a, vec b) { return PD(cmp)(a, b, _CMP_LT_OQ); }
ALWAYS_INLINE vec vselect(vmask m, vec a, vec b) { return PD(blendv)(b, a, m); }
ALWAYS_INLINE vec vfma(vec a, vec b, vec c) { return PD(fmadd)(a, b, c); }
ALWAYS_INLINE vec vsqrt(vec a) { return PD(sqrt)(a); }
ALWAYS_INLINE vec vabs(vec a) { return PD(andnot)(vset(C(-0.0)), a); }
ALWAYS_INLINE vec vsign_of(vec magnitude, vec sign)
{
    const vec sign_bit = vset(C(-0.0));
    return PD(or)(PD(andnot)(sign_bit, magnitude), PD (and)(sign_bit, sign));
}
ALWAYS_INLINE vec vmax(vec a, vec b) { return PD(max)(b, a); }
ALWAYS_INLINE vec vmin(vec a, vec b) { return PD(min)(b, a); }
ALWAYS_INLINE int vany(vmask m) { return PD(movemask)(m) != 0; }
ALWAYS_INLINE vec vpow2(vec shifted) { return AS_REAL(EPI(slli)(AS_BITS(shifted), MANTISSA)); }
ALWAYS_INLINE vec vscale(vec x, vec shifted)
{
    __m256i both = EPI(add)(AS_BITS(shifted), SET1_BITS(EXPONENT_BIAS)), half = EPI(srli)(both, 1);
    return x * vpow2(AS_REAL(half)) * vpow2(AS_REAL(EPI(sub)(both, half)));
}
ALWAYS_INLINE vec vsplit(vec x, vec *k, vec *scale)
{
    __m256i biased = EPI(srli)(EPI(add)(AS_BITS(x), SET1_BITS(BITS_OF_ONE - BITS_OF_SQRT_HALF)), MANTISSA);
    __m256i shift = EPI(slli)(EPI(sub)(biased, SET1_BITS(EXPONENT_BIAS)), MANTISSA);
    *k = vsplit_exponent(biased);
    *scale = AS_REAL(EPI(sub)(AS_BITS(vset(2)), shift));
    return AS_REAL(EPI(sub)(AS_BITS(x), shift));
}

#if BP_REAL_BITS == 64
ALWAYS_INLINE void vtranspose(vec rows[WIDTH])
{
    const vec a = PD(unpacklo)(rows[0], rows[1]), b = PD(unpackhi)(rows[0], rows[1]);
    const vec c = PD(unpacklo)(rows[2], rows[3]), d = PD(unpackhi)(rows[2], rows[3]);
    rows[0] = PD(permute2f128)(a, c, 0x20);
    rows[1] = PD(permute2f128)(b, d, 0x20);
    rows[2] = PD(permute2f128)(a, c, 0x31);
    rows[3] = PD(permute2f128)(b, d, 0x31);
}
#else
ALWAYS_INLINE void vtranspose(vec rows[WIDTH])
{
    vec t[WIDTH];
    UNROLL
    for (int i = 0; i < WIDTH; i += 4) { /* squares of four within the halves of four rows */
        const vec a = PD(unpacklo)(rows[i], rows[i + 1]), b = PD(unpackhi)(rows[i], rows[i + 1]);
        const vec c = PD(unpacklo)(rows[i + 2], rows[i + 3]), d = PD(unpackhi)(rows[i + 2], rows[i + 3]);
        t[i] = PD(shuffle)(a, c, 0x44);
        t[i + 1] = PD(shuffle)(a, c, 0xEE);
        t[i + 2] = PD(shuffle)(b, d, 0x44);
        t[i + 3] = PD(shuffle)(b, d, 0xEE);
    }
    UNROLL
    for (int i = 0; i < 4; i++) {
        rows[i] = PD(permute2f128)(t[i], t[i + 4], 0x20);
        rows[i + 4] = PD(permute2f128)(t[i], t[i + 4], 0x31);
    }
}
#endif
ALWAYS_INLINE void vzip(vec *a, vec *b)
{
    const vec low = PD(unpacklo)(*a, *b), high = PD(unpackhi)(*a, *b);
    *a = PD(permute2f128)(low, high, 0x20);
    *b = PD(permute2f128)(low, high, 0x31);
}
ALWAYS_INLINE void vunzip(vec *a, vec *b)
{
    const vec low = PD(permute2f128)(*a, *b, 0x20), high = PD(permute2f128)(*a, *b, 0x31);
#if BP_REAL_BITS == 64
    *a = PD(unpacklo)(low, high);
    *b = PD(unpackhi)(low, high);
#else
    *a = PD(shuffle)(low, high, 0x88);
    *b = PD(shuffle)(low, high, 0xDD);
#endif
}

/* ---- NEON (AArch64) ------------------------------------------------------------------------------------------------ */
#elif defined(BP_LEVEL_IS_neon)
#include <arm_neon.h>

typedef int64_t part; /* the number of lanes */
#if BP_REAL_BITS == 64
#define WIDTH 2
typedef float64x2_t vec;
typedef uint64x2_t vmask;
#define NEON_F(name) name##_f64
#define NEON_U(name) name##_u64
#define AS_BITS(v) vreinterpretq_u64_f64(v)
#define AS_REAL(v) vreinterpretq_f64_u64(v)
#define TO_REAL(v) vcvtq_f64_s64(vreinterpretq_s64_u64(v))
#define AS_WORDS(m) vreinterpretq_u32_u64(m)
ALWAYS_INLINE int vall(vmask m) { return (vgetq_lane_u64(m, 0) & vgetq_lane_u64(m, 1)) != 0; }
ALWAYS_INLINE real vfold(vec v) { return vgetq_lane_f64(v, 0) + vgetq_lane_f64(v, 1); }
#else
#define WIDTH 4
typedef float32x4_t vec;
typedef uint32x4_t vmask;
#define NEON_F(name) name##_f32
#define NEON_U(name) name##_u32
#define AS_BITS(v) vreinterpretq_u32_f32(v)
#define AS_REAL(v) vreinterpretq_f32_u32(v)
#define TO_REAL(v) vcvtq_f32_s32(vreinterpretq_s32_u32(v))
#define AS_WORDS(m) (m)
ALWAYS_INLINE int vall(vmask m) { return vminvq_u32(m) != 0; }
ALWAYS_INLINE real vfold(vec v)
{
    const float32x2_t pair = vadd_f32(vget_low_f32(v), vget_high_f32(v));
    return vget_lane_f32(pair, 0) + vget_lane_f32(pair, 1);
}
#endif

ALWAYS_INLINE vec vset(real x) { return NEON_F(vdupq_n)(x); }
ALWAYS_INLINE vec vload(const real *p) { return NEON_F(vld1q)(p); }
ALWAYS_INLINE void vstore(real *p, vec v) { NEON_F(vst1q)(p, v); }
ALWAYS_INLINE part vpart(int64_t n) { return n; }
ALWAYS_INLINE vec vlane(vec v, int64_t k)
{
    real lanes[WIDTH];
    vstore(lanes, v);
    return vset(lanes[k]);
}
ALWAYS_INLINE vec vload_part(const real *p, part n)
{
    real lanes[WIDTH] = {0};
    memcpy(lanes, p, (size_t)n * sizeof(real));
    return vload(lanes);
}
ALWAYS_INLINE void vstore_part(real *p, vec v, part n)
{
    real lanes[WIDTH];
    vstore(lanes, v);
    memcpy(p, lanes, (size_t)n * sizeof(real));
}
ALWAYS_INLINE vec vkeep(vec v, part n)
{
    real lanes[WIDTH];
    vstore(lanes, v);
    for (int64_t i = n; i < WIDTH; i++) lanes[i] = 0;
    return vload(lanes);
}
ALWAYS_INLINE vmask vless(vec a, vec b) { return NEON_F(vcltq)(a, b); }
ALWAYS_INLINE vec vselect(vmask m, vec a, vec b) { return NEON_F(vbslq)(m, a, b); }
ALWAYS_INLINE vec vfma(vec a, vec b, vec c) { return NEON_F(vfmaq)(c, a, b); }
ALWAYS_INLINE vec vsqrt(vec a) { return NEON_F(vsqrtq)(a); }
ALWAYS_INLINE vec vabs(vec a) { return NEON_F(vabsq)(a); }
ALWAYS_INLINE vec vsign_of(vec magnitude, vec sign)
{
    return NEON_F(vbslq)(NEON_U(vdupq_n)((bits)1 << (BP_REAL_BITS - 1)), sign, magnitude);
}
ALWAYS_INLINE vec vmax(vec a, vec b) { return vselect(vless(a, b), b, a); }
ALWAYS_INLINE vec vmin(vec a, vec b) { return vselect(vless(b, a), b, a); }
ALWAYS_INLINE int vany(vmask m) { return vmaxvq_u32(AS_WORDS(m)) != 0; }
ALWAYS_INLINE vec vpow2(vec shifted) { return AS_REAL(NEON_U(vshlq_n)(AS_BITS(shifted), MANTISSA)); }
ALWAYS_INLINE vec vscale(vec x, vec shifted)
{
    vmask both = NEON_U(vaddq)(AS_BITS(shifted), NEON_U(vdupq_n)(EXPONENT_BIAS)), half = NEON_U(vshrq_n)(both, 1);
    return x * vpow2(AS_REAL(half)) * vpow2(AS_REAL(NEON_U(vsubq)(both, half)));
}
ALWAYS_INLINE vec vsplit(vec x, vec *k, vec *scale)
{
    vmask biased = NEON_U(vshrq_n)(NEON_U(vaddq)(AS_BITS(x), NEON_U(vdupq_n)(BITS_OF_ONE - BITS_OF_SQRT_HALF)), MANTISSA);
    vmask exponent = NEON_U(vsubq)(biased, NEON_U(vdupq_n)(EXPONENT_BIAS));
    vmask shift = NEON_U(vshlq_n)(exponent, MANTISSA);
    *k = TO_REAL(exponent);
    *scale = AS_REAL(NEON_U(vsubq)(AS_BITS(vset(2)), shift));
    return AS_REAL(NEON_U(vsubq)(AS_BITS(x), shift));
}

#if BP_REAL_BITS == 64
ALWAYS_INLINE void vtranspose(vec rows[WIDTH])
{
    const vec a = rows[0], b = rows[1];
    rows[0] = vzip1q_f64(a, b);
    rows[1] = vzip2q_f64(a, b);
}
#else
ALWAYS_INLINE void vtranspose(vec rows[WIDTH])
{
    const float32x4x2_t upper = vzipq_f32(rows[0], rows[2]), lower = vzipq_f32(rows[1], rows[3]);
    const float32x4x2_t first = vzipq_f32(upper.val[0], lower.val[0]), last = vzipq_f32(upper.val[1], lower.val[1]);
    rows[0] = first.val[0];
    rows[1] = first.val[1];
    rows[2] = last.val[0];
    rows[3] = last.val[1];
}
#endif
ALWAYS_INLINE void vzip(vec *a, vec *b)
{
    const vec low = NEON_F(vzip1q)(*a, *b);
    *b = NEON_F(vzip2q)(*a, *b);
    *a = low;
}
ALWAYS_INLINE void vunzip(vec *a, vec *b)
{
    const vec even = NEON_F(vuzp1q)(*a, *b);
    *b = NEON_F(vuzp2q)(*a, *b);
    *a = even;
}

/* ---- generic: one lane, any C11 compiler -------------------------------------------------------------------------- */
#else
#define WIDTH 1
typedef real vec;
typedef int vmask;
typedef int64_t part;

ALWAYS_INLINE vec vset(real x) { return x; }
ALWAYS_INLINE vec vload(const real *p)
{
    vec v;
    memcpy(&v, p, sizeof v); /* p need not be aligned */
    return v;
}
ALWAYS_INLINE void vstore(real *p, vec v) { *p = v; }
ALWAYS_INLINE part vpart(int64_t n) { return n; }
ALWAYS_INLINE vec vlane(vec v, int64_t k) { return k ? 0 : v; }
ALWAYS_INLINE vec vload_part(const real *p, part n) { return n ? vload(p) : 0; }
ALWAYS_INLINE void vstore_part(real *p, vec v, part n)
{
    if (n) *p = v;
}
ALWAYS_INLINE vec vkeep(vec v, part n) { return n ? v : 0; }
ALWAYS_INLINE vmask vless(vec a, vec b) { return a < b; }
ALWAYS_INLINE int vall(vmask m) { return m; }
ALWAYS_INLINE real vfold(vec v) { return v; }
ALWAYS_INLINE vec vselect(vmask m, vec a, vec b) { return m ? a : b; }
ALWAYS_INLINE vec vfma(vec a, vec b, vec c) { return a * b + c; } /* fma() in software would be far slower */
#if BP_REAL_BITS == 64
/* Dekker's product (Numerische Mathematik 18, 1971): a and b are cut into halves whose products are exact. Magnitudes below 2^996. */
ALWAYS_INLINE vec vfma_once(vec a, vec b, vec c)
{
    const vec splitter = 134217729; /* 2^27 + 1 */
    const vec a_shifted = splitter * a, b_shifted = splitter * b;
    const vec a_high = a_shifted - (a_shifted - a), a_low = a - a_high;
    const vec b_high = b_shifted - (b_shifted - b), b_low = b - b_high;
    const vec product = a * b;
    const vec product_low = a_low * b_low - (((product - a_high * b_high) - a_low * b_high) - a_high * b_low);
    return (product + c) + product_low;
}
#else
ALWAYS_INLINE vec vfma_once(vec a, vec b, vec c) { return (vec)((double)a * (double)b + (double)c); }
#endif
ALWAYS_INLINE bits bits_of(real x)
{
    bits b;
    memcpy(&b, &x, sizeof b);
    return b;
}
ALWAYS_INLINE real real_of(bits b)
{
    real x;
    memcpy(&x, &b, sizeof x);
    return x;
}
#if BP_REAL_BITS == 64
ALWAYS_INLINE vec vsqrt(vec a) { return sqrt(a); }
#else
ALWAYS_INLINE vec vsqrt(vec a) { return sqrtf(a); }
#endif
#define SIGN_BIT ((bits)1 << (BP_REAL_BITS - 1))
ALWAYS_INLINE vec vabs(vec a) { return real_of(bits_of(a) & ~SIGN_BIT); }
ALWAYS_INLINE vec vsign_of(vec magnitude, vec sign)
{
    return real_of((bits_of(magnitude) & ~SIGN_BIT) | (bits_of(sign) & SIGN_BIT));
}
ALWAYS_INLINE void vtranspose(vec rows[WIDTH]) { (void)rows; }
ALWAYS_INLINE void vzip(vec *a, vec *b) { (void)a, (void)b; }
ALWAYS_INLINE void vunzip(vec *a, vec *b) { (void)a, (void)b; }
ALWAYS_INLINE vec vmax(vec a, vec b) { return a < b ? b : a; }
ALWAYS_INLINE vec vmin(vec a, vec b) { return b < a ? b : a; }
ALWAYS_INLINE int vany(vmask m) { return m; }
ALWAYS_INLINE vec vpow2(vec shifted) { return real_of(bits_of(shifted) << MANTISSA); }
ALWAYS_INLINE vec vscale(vec x, vec shifted)
{
    bits both = bits_of(shifted) + EXPONENT_BIAS, half = both >> 1;
    return x * vpow2(real_of(half)) * vpow2(real_of(both - half));
}
ALWAYS_INLINE vec vsplit(vec x, vec *k, vec *scale)
{
    bits biased = (bits_of(x) + (BITS_OF_ONE - BITS_OF_SQRT_HALF)) >> MANTISSA;
    bits shift = (biased - EXPONENT_BIAS) << MANTISSA;
    *k = (real)(int)biased - (real)EXPONENT_BIAS;
    *scale = real_of(bits_of(2) - shift);
    return real_of(bits_of(x) - shift);
}
#endif

/* A loaded vector that several operations use: without this, compilers make it an operand in memory of each, and load it again. */
#if defined(__GNUC__) && defined(BP_LEVEL_IS_avx512)
#define IN_REGISTER(v) __asm__("" : "+v"(v))
#elif defined(__GNUC__) && defined(BP_LEVEL_IS_avx2)
#define IN_REGISTER(v) __asm__("" : "+x"(v))
#else
#define IN_REGISTER(v) ((void)(v))
#endif

/* A vector's size of 64-bit whole numbers, where it has lanes: + ^ & >> are operators. */
#if WIDTH > 1
typedef uint64_t words __attribute__((vector_size(WIDTH * sizeof(real))));
#define WORDS ((int)(WIDTH * sizeof(real) / 8))

/* The product of the lower halves of each lane. */
ALWAYS_INLINE words multiply_lower(words a, words b)
{
#if defined(BP_LEVEL_IS_avx512)
    return (words)_mm512_mul_epu32((__m512i)a, (__m512i)b);
#elif defined(BP_LEVEL_IS_avx2)
    return (words)_mm256_mul_epu32((__m256i)a, (__m256i)b);
#else
    return (words)vmull_u32(vmovn_u64((uint64x2_t)a), vmovn_u64((uint64x2_t)b));
#endif
}

ALWAYS_INLINE words words_of(uint64_t x)
{
    const words zero = {0};
    return zero + x;
}
#endif

/* ---- built from the above ------------------------------------------------------------------------------------------ */

#if WIDTH > 1
#define vfma_once vfma
#endif

/* To the nearest whole number, |x| < 2^(MANTISSA - 1). */
ALWAYS_INLINE vec vround(vec x)
{
    vec shifted = x + vset(ROUNDER);
    return shifted - vset(ROUNDER);
}

/* A sum over STRIPE lanes: element i of a row goes to lane i % STRIPE. */
typedef struct stripe {
    vec part[STRIPE_PARTS];
} stripe;

ALWAYS_INLINE stripe stripe_zero(void)
{
    stripe s;
    for (int i = 0; i < STRIPE_PARTS; i++) s.part[i] = vset(0);
    return s;
}

/* The lanes folded in halves, the same tree on every level. */
ALWAYS_INLINE real stripe_sum(const stripe *s)
{
    vec part[STRIPE_PARTS];
    for (int i = 0; i < STRIPE_PARTS; i++) part[i] = s->part[i];
    UNROLL
    for (int half = STRIPE_PARTS / 2; half > 0; half /= 2)
        for (int i = 0; i < half; i++) part[i] = part[i] + part[i + half];
    return vfold(part[0]);
}

ALWAYS_INLINE real stripe_max(const stripe *s)
{
    real lane[64 / sizeof(real)];
    for (int i = 0; i < STRIPE_PARTS; i++) vstore(lane + i * WIDTH, s->part[i]);
    real largest = lane[0];
    for (int64_t i = 1; i < STRIPE; i++) largest = lane[i] > largest ? lane[i] : largest;
    return largest;
}

/* The lane group of a stripe that column j belongs to, j a multiple of WIDTH. */
#define LANES(s, j) ((s)->part[(j) / WIDTH % STRIPE_PARTS])

/* The part of a vector that starts at column j of k: all of it, or what is left. */
ALWAYS_INLINE part vpart_of(int64_t j, int64_t k) { return vpart(k - j < WIDTH ? k - j : WIDTH); }

#endif
