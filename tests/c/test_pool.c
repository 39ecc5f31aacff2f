/* The worker threads: every part once, several at a time, and no harm from nesting, contention, changes of number and forks. */
#define _GNU_SOURCE
#include "check.h"

#include <fenv.h>
#include <unistd.h>

#include "float_state.h"
#include "pool.h"

enum { MOST = 8 };

/* ---- Numbers --------------------------------------------------------------------------------------------------------- */

TEST(numbers_of_threads)
{
    UNUSED(s);
    CHECK(bp_processors() >= 1);
    CHECK_INT(bp_num_threads(), bp_processors());
    CHECK_INT(bp_set_num_threads(0), BP_E_ARGUMENT);
    CHECK_INT(bp_set_num_threads(-3), BP_E_ARGUMENT);
    CHECK_INT(bp_num_threads(), bp_processors());
    for (int n = 1; n <= MOST; n++) {
        CHECK_INT(bp_set_num_threads(n), BP_OK);
        CHECK_INT(bp_num_threads(), n);
    }
    CHECK_INT(bp_set_num_threads(INT32_MAX), BP_OK);
    CHECK_INT(bp_num_threads(), INT32_MAX);
    bp_set_num_threads(bp_processors());
}

#ifdef __linux__
#include <sys/stat.h>

static void write_file(const char *folder, const char *name, const char *text)
{
    char path[128];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "w");
    if (!file || fputs(text, file) < 0 || fclose(file)) abort();
}

TEST(quotas_of_control_groups)
{
    UNUSED(s);
    static const struct {
        const char *text;
        int n;
    } cases[] = {{"max 100000\n", 0},
                 {"200000 100000\n", 2},
                 {"150000 100000\n", 2},
                 {"1000 100000\n", 1},
                 {"100000 0\n", 0},
                 {"-1 100000\n", 0},
                 {"", 0},
                 {"nonsense", 0}};
    char folder[] = "/tmp/bpcore_test_XXXXXX", path[64];
    if (!mkdtemp(folder)) abort();
    CHECK_INT(bp_processor_quota(folder), 0);
    snprintf(path, sizeof path, "%s/cpu", folder);
    if (mkdir(path, 0700)) abort();
    write_file(folder, "cpu/cpu.cfs_quota_us", "-1\n");
    write_file(folder, "cpu/cpu.cfs_period_us", "100000\n");
    CHECK_INT(bp_processor_quota(folder), 0);
    write_file(folder, "cpu/cpu.cfs_quota_us", "250000\n");
    CHECK_INT(bp_processor_quota(folder), 3);
    write_file(folder, "cpu/cpu.cfs_quota_us", "-1\n");
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        write_file(folder, "cpu.max", cases[i].text);
        CHECK_INT(bp_processor_quota(folder), cases[i].n);
    }
    char command[128];
    snprintf(command, sizeof command, "rm -r %s", folder);
    if (system(command)) abort();
}
#endif

/* ---- Subnormal numbers ----------------------------------------------------------------------------------------------- */

static volatile double tiny = 1e-200;
static volatile double smallest_normal = 2.2250738585072014e-308;

TEST(flushing_subnormals_and_back)
{
    UNUSED(s);
    CHECK(tiny * 1e-120 > 0);
    const float_state before = float_state_flush_subnormals();
#ifdef FLUSHES_SUBNORMALS
    CHECK(tiny * 1e-120 == 0);
    CHECK(smallest_normal / 2 == 0);
#endif
    CHECK(tiny * 1e-100 > 0);
    float_state_set(before);
    CHECK(tiny * 1e-120 > 0);
    CHECK(smallest_normal / 2 > 0);
}

/* ---- Parts ----------------------------------------------------------------------------------------------------------- */

enum { MOST_PARTS = 1000 };

/* Each part is run by one thread, so that these need not be atomic. */
static void count(void *argument, int64_t part) { ((int *)argument)[part]++; }

static void expect_each_once(int64_t n_parts)
{
    static int counts[MOST_PARTS + 1];
    memset(counts, 0, sizeof counts);
    bp_pool_run(count, counts, n_parts);
    int64_t wrong = counts[n_parts] != 0;
    for (int64_t i = 0; i < n_parts; i++) wrong += counts[i] != 1;
    CHECK_INT(wrong, 0);
}

TEST(every_part_is_run_once)
{
    UNUSED(s);
    static const int64_t sizes[] = {0, 1, 2, 3, 7, 8, 9, 64, MOST_PARTS};
    for (int threads = 1; threads <= MOST; threads++) {
        bp_set_num_threads(threads);
        for (int repeat = 0; repeat < 20; repeat++)
            for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) expect_each_once(sizes[i]);
    }
    bp_set_num_threads(100000); /* more than there will ever be */
    expect_each_once(MOST_PARTS);
    bp_set_num_threads(2);
}

#if defined(BP_HAS_WORKERS)
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/wait.h>
#include <time.h>

static void rest(long microseconds)
{
    const struct timespec time = {0, microseconds * 1000};
    nanosleep(&time, NULL);
}

/* Parts that wait for each other: done soon only if all of them run at once. */
typedef struct meeting {
    atomic_int arrived;
    atomic_int missed;
    int expected;
    float_state states[MOST];
    double sums[MOST];
} meeting;

static volatile double third = 1.0 / 3;

static void meet(void *argument, int64_t part)
{
    meeting *m = argument;
    const double end = bp_clock() + 20;
    atomic_fetch_add(&m->arrived, 1);
    while (atomic_load(&m->arrived) < m->expected && bp_clock() < end) sched_yield();
    if (atomic_load(&m->arrived) < m->expected) atomic_fetch_add(&m->missed, 1);
    m->states[part] = float_state_get();
    m->sums[part] = 1 + third;
}

static int all_meet(meeting *m, int n)
{
    memset(m, 0, sizeof *m);
    m->expected = n;
    bp_pool_run(meet, m, n);
    return atomic_load(&m->missed) == 0;
}

TEST(parts_run_at_the_same_time)
{
    UNUSED(s);
    meeting m;
    for (int repeat = 0; repeat < 5; repeat++)
        for (int threads = MOST; threads >= 2; threads--) {
            bp_set_num_threads(threads);
            CHECK(all_meet(&m, threads));
            if (repeat > 2) rest(2000); /* long enough for the workers to fall asleep */
        }
    bp_set_num_threads(2);
}

TEST(parts_run_with_the_state_of_the_caller)
{
    UNUSED(s);
    meeting m;
    bp_set_num_threads(4);
    const double nearest = 1 + third;
    for (int round = 0; round < 3; round++) {
        const int upward = round == 1;
        if (upward) fesetround(FE_UPWARD);
        const double expected = upward ? 1 + third : nearest;
        const float_state before = round == 2 ? float_state_flush_subnormals() : float_state_get();
        const float_state own = float_state_get();
        const int met = all_meet(&m, 4);
        float_state_set(before);
        fesetround(FE_TONEAREST);
        CHECK(met);
        for (int i = 0; i < 4; i++) {
            CHECK_INT(m.states[i] & FLOAT_STATE_CONTROLS, own & FLOAT_STATE_CONTROLS);
            CHECK(m.sums[i] == expected);
        }
        CHECK((expected > nearest) == upward);
    }
    bp_set_num_threads(2);
}

/* ---- Runs within runs, and beside each other ------------------------------------------------------------------------- */

enum { SIDE = 12 };

static void run_row(void *argument, int64_t part) { bp_pool_run(count, (int *)argument + part * SIDE, SIDE); }

TEST(runs_within_parts)
{
    UNUSED(s);
    for (int threads = 1; threads <= MOST; threads++) {
        bp_set_num_threads(threads);
        int counts[SIDE * SIDE] = {0}, wrong = 0;
        for (int repeat = 0; repeat < 10; repeat++) bp_pool_run(run_row, counts, SIDE);
        for (int i = 0; i < SIDE * SIDE; i++) wrong += counts[i] != 10;
        CHECK_INT(wrong, 0);
    }
    bp_set_num_threads(2);
}

enum { CALLERS = 6, RUNS = 300, PARTS = 37 };

typedef struct caller {
    pthread_t thread;
    int64_t counts[PARTS];
} caller;

static void add_up(void *argument, int64_t part)
{
    for (int i = 0; i < 50; i++) (void)third; /* a little work: volatile is read */
    ((int64_t *)argument)[part] += part;
}

static void *run_many(void *argument)
{
    caller *c = argument;
    for (int i = 0; i < RUNS; i++) bp_pool_run(add_up, c->counts, PARTS);
    return NULL;
}

static void start_callers(caller *callers, int n)
{
    memset(callers, 0, (size_t)n * sizeof *callers);
    for (int i = 0; i < n; i++)
        if (pthread_create(&callers[i].thread, NULL, run_many, &callers[i])) abort();
}

static void join_callers(caller *callers, int n)
{
    int wrong = 0;
    for (int i = 0; i < n; i++) {
        pthread_join(callers[i].thread, NULL);
        for (int64_t part = 0; part < PARTS; part++) wrong += callers[i].counts[part] != part * RUNS;
    }
    CHECK_INT(wrong, 0);
}

TEST(several_callers_at_once)
{
    UNUSED(s);
    static caller callers[CALLERS];
    for (int threads = 1; threads <= MOST; threads += 3) {
        bp_set_num_threads(threads);
        start_callers(callers, CALLERS);
        join_callers(callers, CALLERS);
    }
    bp_set_num_threads(2);
    meeting m;
    CHECK(all_meet(&m, 2)); /* the callers are forgotten */
}

TEST(the_number_may_change_during_runs)
{
    UNUSED(s);
    static caller callers[2];
    start_callers(callers, 2);
    for (int i = 0; i < 500; i++) {
        bp_set_num_threads(1 + i % MOST);
        if (i % 10 == 0) rest(100);
    }
    join_callers(callers, 2);
    bp_set_num_threads(2);
}

/* ---- Signals and forks ----------------------------------------------------------------------------------------------- */

static atomic_int signals;

static void note_signal(int number)
{
    (void)number;
    atomic_fetch_add(&signals, 1);
}

TEST(signals_are_left_to_the_program)
{
    UNUSED(s);
    meeting m;
    bp_set_num_threads(3);
    CHECK(all_meet(&m, 3));
    struct sigaction action = {.sa_handler = note_signal}, before;
    sigset_t usual, blocked;
    sigaction(SIGUSR1, &action, &before);
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGUSR1);
    pthread_sigmask(SIG_BLOCK, &blocked, &usual);
    kill(getpid(), SIGUSR1);
    rest(5000);
    CHECK_INT(atomic_load(&signals), 0); /* no worker took it */
    pthread_sigmask(SIG_SETMASK, &usual, NULL);
    CHECK_INT(atomic_load(&signals), 1);
    sigaction(SIGUSR1, &before, NULL);
    bp_set_num_threads(2);
}

/* Fork a child that shares work among three threads, and again in a child of its own; it says with its status how it went. */
static int child_works(int generations)
{
    const pid_t child = fork();
    if (child == 0) {
        meeting m;
        alarm(60);
        bp_set_num_threads(3);
        int ok = 1;
        for (int i = 0; i < 3; i++) ok &= all_meet(&m, 3);
        if (generations > 1) ok &= child_works(generations - 1);
        _exit(ok ? 0 : 1);
    }
    int status = -1;
    if (child < 0 || waitpid(child, &status, 0) != child) abort();
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

TEST(a_fork_starts_afresh)
{
    UNUSED(s);
    meeting m;
    bp_set_num_threads(3);
    CHECK(all_meet(&m, 3));
    CHECK(child_works(2)); /* while the workers are awake */
    rest(2000);
    CHECK(child_works(1)); /* and asleep */
    CHECK(all_meet(&m, 3));
    bp_set_num_threads(2);
}

typedef struct held {
    atomic_int begun, end;
} held;

static void hold(void *argument, int64_t part)
{
    held *h = argument;
    (void)part;
    atomic_fetch_add(&h->begun, 1);
    while (!atomic_load(&h->end)) sched_yield();
}

static void *hold_the_workers(void *argument)
{
    bp_pool_run(hold, argument, 3);
    return NULL;
}

TEST(a_fork_while_another_thread_has_the_workers)
{
    UNUSED(s);
    held h = {0, 0};
    pthread_t holder;
    bp_set_num_threads(3);
    if (pthread_create(&holder, NULL, hold_the_workers, &h)) abort();
    while (atomic_load(&h.begun) < 3) sched_yield();
    CHECK(child_works(1));
    static int counts[10];
    bp_pool_run(count, counts, 10); /* alone, as the workers are held */
    int wrong = 0;
    for (int i = 0; i < 10; i++) wrong += counts[i] != 1;
    CHECK_INT(wrong, 0);
    atomic_store(&h.end, 1);
    pthread_join(holder, NULL);
    meeting m;
    CHECK(all_meet(&m, 3));
    bp_set_num_threads(2);
}
#endif

const test_case pool_tests[] = {CASE(numbers_of_threads),
#ifdef __linux__
                                CASE(quotas_of_control_groups),
#endif
                                CASE(flushing_subnormals_and_back),
                                CASE(every_part_is_run_once),
#if defined(BP_HAS_WORKERS)
                                CASE(parts_run_at_the_same_time),
                                CASE(parts_run_with_the_state_of_the_caller),
                                CASE(runs_within_parts),
                                CASE(several_callers_at_once),
                                CASE(the_number_may_change_during_runs),
                                CASE(signals_are_left_to_the_program),
                                CASE(a_fork_starts_afresh),
                                CASE(a_fork_while_another_thread_has_the_workers),
#endif
                                END_OF_CASES};
