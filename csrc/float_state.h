/* The floating-point state of a thread: rounding, traps, and whether subnormal numbers count as zero. Where the processor has
 * a register for all of it, that is read and written as a whole; elsewhere only the rounding mode is kept. */
#ifndef BP_FLOAT_STATE_H
#define BP_FLOAT_STATE_H

#include <stdint.h>

#if defined(__GNUC__) && defined(__SSE2__) || defined(_M_X64)
#include <xmmintrin.h>
#define FLOAT_STATE_IS_MXCSR 1
#define FLUSHES_SUBNORMALS 1
#define FLOAT_STATE_CONTROLS (~UINT64_C(0x3F)) /* without the flags of what has happened */
#elif defined(__GNUC__) && defined(__aarch64__)
#define FLOAT_STATE_IS_FPCR 1
#define FLUSHES_SUBNORMALS 1
#define FLOAT_STATE_CONTROLS (~UINT64_C(0))
#else
#include <fenv.h>
#define FLOAT_STATE_CONTROLS (~UINT64_C(0))
#endif

typedef uint64_t float_state;

static inline float_state float_state_get(void)
{
#if defined(FLOAT_STATE_IS_MXCSR)
    return _mm_getcsr();
#elif defined(FLOAT_STATE_IS_FPCR)
    uint64_t state;
    __asm__ volatile("mrs %0, fpcr" : "=r"(state) : : "memory");
    return state;
#else
    return (float_state)fegetround();
#endif
}

static inline void float_state_set(float_state state)
{
#if defined(FLOAT_STATE_IS_MXCSR)
    _mm_setcsr((unsigned)state);
#elif defined(FLOAT_STATE_IS_FPCR)
    __asm__ volatile("msr fpcr, %0" : : "r"(state) : "memory");
#else
    fesetround((int)state);
#endif
}

/* From now on subnormal numbers, read or computed, are zero in this thread, if the processor can do it at every level that it
 * has. Returns the state from before, for float_state_set(). */
static inline float_state float_state_flush_subnormals(void)
{
    const float_state before = float_state_get();
#if defined(FLOAT_STATE_IS_MXCSR)
    float_state_set(before | 0x8040u); /* flush to zero, and subnormals read are zeros */
#elif defined(FLOAT_STATE_IS_FPCR)
    float_state_set(before | UINT64_C(1) << 24);
#endif
    return before;
}

#endif
