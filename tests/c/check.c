/* See check.h. Runs the tests of every file, those of kernels for each dtype and level, and prints 'N passed, M failed'. */
#define _DEFAULT_SOURCE /* MAP_ANONYMOUS */
#include "check.h"

#include <stdarg.h>
#include <sys/mman.h>
#include <unistd.h>

extern const test_case plan_tests[], number_tests[], data_tests[], pool_tests[]; /* no kernels */
extern const test_case elementwise_tests[], product_tests[], layer_tests[], loss_tests[],
    optimizer_tests[]; /* single kernels */
extern const test_case network_tests[], gradient_tests[], training_tests[], called_tests[], pausing_tests[], trouble_tests[],
    guard_tests[];

/* The fingerprint of what the kernels compute; the same on every level with fma. */
uint64_t results_fingerprint(const setting *s);

static int failures_here, passed, failed;

void check_failed(const char *file, int line, const char *format, ...)
{
    enum { SHOWN = 5 };
    if (++failures_here > SHOWN) return;
    va_list arguments;
    printf("  %s:%d: ", file, line);
    va_start(arguments, format);
    vprintf(format, arguments);
    va_end(arguments);
    printf("\n");
}

int is_near(double got, double expected, double tolerance)
{
    if (isnan(got) || isnan(expected)) return isnan(got) && isnan(expected);
    if (got == expected) return 1;
    return fabs(got - expected) <= tolerance; /* false where one is infinite */
}

/* ---- Memory ---------------------------------------------------------------------------------------------------------- */

#if defined(__SANITIZE_ADDRESS__)
#define WATCHED_BY_SANITIZER 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define WATCHED_BY_SANITIZER 1
#endif
#endif

#ifdef WATCHED_BY_SANITIZER
void *exact_bytes(size_t bytes)
{
    void *memory = malloc(bytes);
    if (!memory) abort();
    return memset(memory, 0xA5, bytes);
}

void release(void *memory) { free(memory); }
#else
/* Mappings are kept for later arrays of as many pages. */
enum { MOST_MAPPINGS = 512 };
static struct mapping {
    char *start;
    void *array; /* NULL: free */
    size_t bytes;
} mappings[MOST_MAPPINGS];

static struct mapping *mapping_of(size_t bytes)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    for (struct mapping *m = mappings; m < mappings + MOST_MAPPINGS; m++) {
        if (m->start && (m->array || m->bytes != bytes)) continue;
        if (m->start) return m;
        m->start = mmap(NULL, bytes + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        m->bytes = bytes;
        if (m->start == MAP_FAILED || mprotect(m->start + bytes, page, PROT_NONE)) abort();
        return m;
    }
    abort();
    return NULL; /* not every compiler knows that abort() does not return */
}

void *exact_bytes(size_t bytes)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE), whole = (bytes + page) / page * page;
    struct mapping *m = mapping_of(whole);
    m->array = m->start + whole - bytes;
    return memset(m->array, 0xA5, bytes);
}

void release(void *memory)
{
    if (!memory) return;
    for (struct mapping *m = mappings; m < mappings + MOST_MAPPINGS; m++) {
        if (m->array != memory) continue;
        m->array = NULL;
        return;
    }
    abort();
}
#endif

/* ---- Arrays of reals ------------------------------------------------------------------------------------------------- */

double get(bp_dtype dtype, const void *array, int64_t i)
{
    return dtype == BP_FLOAT64 ? ((const double *)array)[i] : (double)((const float *)array)[i];
}

void set(bp_dtype dtype, void *array, int64_t i, double value)
{
    if (dtype == BP_FLOAT64)
        ((double *)array)[i] = value;
    else
        ((float *)array)[i] = (float)value;
}

void *reals(const setting *s, int64_t n)
{
    void *array = exact_bytes((size_t)n * s->size);
    for (int64_t i = 0; i < n; i++) set(s->dtype, array, i, (double)NAN);
    return array;
}

void *random_reals(const setting *s, int64_t n, double low, double high, uint64_t seed)
{
    stream source = {seed, 0};
    void *array = reals(s, n);
    for (int64_t i = 0; i < n; i++) set(s->dtype, array, i, low + (high - low) * stream_uniform(&source));
    return array;
}

void *copy_of(const void *array, size_t bytes)
{
    void *copy = exact_bytes(bytes);
    if (bytes) memcpy(copy, array, bytes);
    return copy;
}

int same_bytes(const void *a, const void *b, size_t bytes) { return bytes == 0 || memcmp(a, b, bytes) == 0; }

/* ---- Random bits ----------------------------------------------------------------------------------------------------- */

uint64_t stream_uint64(void *state)
{
    stream *source = state;
    source->draws++;
    uint64_t z = source->state += 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

uint32_t stream_uint32(void *state) { return (uint32_t)stream_uint64(state); }

bp_random random_of(stream *source)
{
    const bp_random random = {source, stream_uint64, stream_uint32};
    return random;
}

double stream_uniform(stream *source) { return (double)(stream_uint64(source) >> 44) / 1048576.0; }

/* ---- Fingerprints ---------------------------------------------------------------------------------------------------- */

uint64_t fingerprint(uint64_t before, bp_dtype dtype, const void *array, int64_t n)
{
    const int size = dtype == BP_FLOAT64 ? 8 : 4;
    for (int64_t i = 0; i < n; i++) {
        const double value = get(dtype, array, i);
        uint64_t pattern = 0;
        if (isnan(value))
            pattern = 0x7FF8u;
        else /* from the lowest byte up, on machines of either byte order */
            memcpy(&pattern, (const char *)array + i * size, (size_t)size);
        for (int byte = 0; byte < size; byte++) before = (before ^ (pattern >> (8 * byte) & 255)) * 0x100000001b3u;
    }
    return before;
}

/* ---- Running --------------------------------------------------------------------------------------------------------- */

static void run(const test_case *tests, const setting *s)
{
    for (; tests->name; tests++) {
        failures_here = 0;
        tests->run(s);
        if (failures_here == 0) {
            passed++;
            continue;
        }
        failed++;
        if (s)
            printf("FAILED %s, float%d, %s: %d checks\n", tests->name, (int)(8 * s->size), bp_level_names[s->level],
                   failures_here);
        else
            printf("FAILED %s: %d checks\n", tests->name, failures_here);
    }
}

/* The bits of the first level with fma, for the others to equal. */
static void compare_results(const setting *s)
{
    static struct {
        uint64_t results;
        int known;
    } first[2];
    const uint64_t results = results_fingerprint(s);
    const int wide = s->dtype == BP_FLOAT64;
    printf("results of float%d, %s: %016llx\n", (int)(8 * s->size), bp_level_names[s->level], (unsigned long long)results);
    if (s->level == BP_LEVEL_generic) return;
    if (!first[wide].known) {
        first[wide].results = results;
        first[wide].known = 1;
    }
    CHECK(results == first[wide].results);
}
static const test_case same_bits_tests[] = {{"the_same_bits_on_all_levels_with_fma", compare_results}, END_OF_CASES};

static void run_on(bp_level level, bp_dtype dtype)
{
    /* large products take longest */
    const test_case *const all[] = {elementwise_tests, layer_tests,    loss_tests,     optimizer_tests, network_tests,
                                    gradient_tests,    training_tests, called_tests,   pausing_tests,   trouble_tests,
                                    guard_tests,       product_tests,  same_bits_tests};
    if (bp_level_choose(level) != BP_OK) abort();
    const int wide = dtype == BP_FLOAT64;
    const setting s = {dtype, level, bp_kernels_for(dtype), wide ? 8 : 4,
                       wide ? 2.220446049250313e-16 : 1.1920928955078125e-07};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) run(all[i], &s);
}

/* With an argument: only the level of that name; with a second: only that dtype, float32 or float64. */
int main(int n_arguments, char **arguments)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    run(plan_tests, NULL);
    run(number_tests, NULL);
    run(data_tests, NULL);
    run(pool_tests, NULL);
    for (int level = 0; level < BP_N_LEVELS; level++) {
        if (!bp_level_runs_here((bp_level)level)) continue;
        if (n_arguments > 1 && strcmp(arguments[1], bp_level_names[level]) != 0) continue;
        const char *only = n_arguments > 2 ? arguments[2] : "";
        if (strcmp(only, "float64") != 0) run_on((bp_level)level, BP_FLOAT32);
        if (strcmp(only, "float32") != 0) run_on((bp_level)level, BP_FLOAT64);
    }
    printf("%d passed, %d failed\n", passed, failed);
    return failed != 0;
}
