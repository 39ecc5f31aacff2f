/* What this CPU and this system can run, and which level is in use. Compiled without level flags and without LTO, so that
 * nothing here can contain an instruction that the machine lacks. BP_BUILT_<level> is defined for each level built in. */
#include "plan.h"

#ifdef BP_BUILT_avx2
#define AVX2_RUNS (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
#else
#define AVX2_RUNS 0
#define bp_kernels_float32_avx2 bp_kernels_float32_generic
#define bp_kernels_float64_avx2 bp_kernels_float64_generic
#endif

#ifdef BP_BUILT_avx512
#define AVX512_RUNS                                                                                                            \
    (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&          \
     __builtin_cpu_supports("fma"))
#else
#define AVX512_RUNS 0
#define bp_kernels_float32_avx512 bp_kernels_float32_generic
#define bp_kernels_float64_avx512 bp_kernels_float64_generic
#endif

#ifdef BP_BUILT_neon
#define NEON_RUNS 1 /* part of every AArch64 */
#else
#define NEON_RUNS 0
#define bp_kernels_float32_neon bp_kernels_float32_generic
#define bp_kernels_float64_neon bp_kernels_float64_generic
#endif

extern const bp_kernels bp_kernels_float32_generic, bp_kernels_float64_generic;
#ifdef BP_BUILT_avx2
extern const bp_kernels bp_kernels_float32_avx2, bp_kernels_float64_avx2;
#endif
#ifdef BP_BUILT_avx512
extern const bp_kernels bp_kernels_float32_avx512, bp_kernels_float64_avx512;
#endif
#ifdef BP_BUILT_neon
extern const bp_kernels bp_kernels_float32_neon, bp_kernels_float64_neon;
#endif

#define ISA(name) {&bp_kernels_float32_##name, &bp_kernels_float64_##name},
static const bp_kernels *const tables[BP_N_LEVELS][2] = {
#include "isa.def"
};
#undef ISA

static int chosen = -1; /* -1: not looked yet */

int bp_level_runs_here(bp_level level)
{
    switch (level) {
        case BP_LEVEL_generic: return 1;
        case BP_LEVEL_avx2: return AVX2_RUNS;
        case BP_LEVEL_avx512: return AVX512_RUNS;
        case BP_LEVEL_neon: return NEON_RUNS;
        case BP_N_LEVELS: break;
    }
    return 0;
}

bp_level bp_level_in_use(void)
{
    if (chosen < 0) {
        int best = BP_LEVEL_generic;
        for (int level = 0; level < BP_N_LEVELS; level++)
            if (bp_level_runs_here((bp_level)level)) best = level;
        chosen = best;
    }
    return (bp_level)chosen;
}

bp_status bp_level_choose(bp_level level)
{
    if ((int)level < 0 || level >= BP_N_LEVELS || !bp_level_runs_here(level)) return BP_E_LEVEL;
    chosen = (int)level;
    return BP_OK;
}

const bp_kernels *bp_kernels_for(bp_dtype dtype) { return tables[bp_level_in_use()][dtype == BP_FLOAT64]; }

/* One row an update is all delays, and those of half as wide vectors are shorter (4-5-3 in float32: 72 to 62 ns). Validation
 * is not, so there must not be too much of it. */
const bp_kernels *bp_kernels_for_fit(const bp_plan *plan, const bp_fit *fit)
{
    const int lanes = plan->dtype == BP_FLOAT64 ? 4 : 8;
    const int halves =
        fit->batch_size == 1 && plan->is_narrow && plan->widest <= lanes && fit->validation.n_rows <= fit->data.n_rows;
    const bp_level level = bp_level_in_use();
    if (level == BP_LEVEL_avx512 && halves && AVX2_RUNS) return tables[BP_LEVEL_avx2][plan->dtype == BP_FLOAT64];
    return bp_kernels_for(plan->dtype);
}
