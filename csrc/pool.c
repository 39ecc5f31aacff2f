/* The workers: asleep until there is a run, awake for a while after it.
 *
 * All that threads agree on is one word, `state`: which run it is, whether it is open, how many threads it wants, and how many
 * workers are in it. A worker joins an open run by counting itself in, and counts itself out when there are no parts left. The
 * caller takes parts as well; when none is left it closes the run, and waits for the workers that have joined. So a worker that
 * is slow to wake is not waited for. */
#define _GNU_SOURCE
#include "float_state.h"
#include "pool.h"

static void run_alone(bp_part_fn function, void *argument, int64_t n_parts)
{
    for (int64_t part = 0; part < n_parts; part++) function(argument, part);
}

#ifdef BP_HAS_WORKERS
#include <pthread.h>
#include <sched.h>
#include <signal.h>

enum { MOST_THREADS = 256, CACHE_LINES = 128 /* bytes; processors fetch lines of 64 in pairs */ };

/* The parts of one thread: it takes its own first, then those of others. */
typedef struct queue {
    _Alignas(CACHE_LINES) _Atomic int64_t next;
    int64_t end;
} queue;

/* Where a thread sleeps: the workers in 1 ..., whoever runs them in 0. */
typedef struct seat {
    _Alignas(CACHE_LINES) atomic_int asleep;
    pthread_mutex_t lock;
    pthread_cond_t wake;
} seat;

/* state, from its lowest bit: workers in the run, whether it is open, threads wanted, number of the run */
#define IN_RUN UINT64_C(0xFFF)
#define OPEN UINT64_C(0x1000)
#define WANTED_SHIFT 16
#define RUN (UINT64_C(0xFFFFFFFF) << 32)
#define NEXT_RUN (UINT64_C(1) << 32)

static struct {
    _Alignas(CACHE_LINES) _Atomic uint64_t state;
    _Alignas(CACHE_LINES) atomic_int taken; /* some thread has the workers */
    atomic_int callers;                     /* threads inside bp_pool_run() */
    atomic_int crowded;                     /* more threads than processors: waiting takes time from the others */

    /* written by the thread that has taken the workers, before the run opens */
    bp_part_fn function;
    void *argument;
    int n_threads;
    float_state floats;
    int n_workers;
    int most_workers; /* the system refused more; 0: it did not */

    queue queues[MOST_THREADS];
    seat seats[MOST_THREADS];
} pool;

/* ---- Waiting --------------------------------------------------------------------------------------------------------- */

/* Seconds. A wait begins with reading the word again and again, goes on with that and offers the processor to others, and ends
 * in sleep. Waking costs the waker several microseconds and the sleeper tens. */
static const double ALONE = 20e-6, AWAKE = 200e-6;

static inline void relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("isb");
#endif
}

static void sleep_while(seat *own, uint64_t mask, uint64_t value)
{
    pthread_mutex_lock(&own->lock);
    atomic_store(&own->asleep, 1); /* before the look at the state; wake() is called after a change of the state */
    while ((atomic_load(&pool.state) & mask) == value && atomic_load(&own->asleep)) pthread_cond_wait(&own->wake, &own->lock);
    atomic_store(&own->asleep, 0);
    pthread_mutex_unlock(&own->lock);
}

static void wake(seat *sleeper)
{
    if (!atomic_load(&sleeper->asleep)) return;
    pthread_mutex_lock(&sleeper->lock);
    atomic_store(&sleeper->asleep, 0);
    pthread_cond_signal(&sleeper->wake);
    pthread_mutex_unlock(&sleeper->lock);
}

/* Return the state once (state & mask) != value; sleep after `patience` seconds. */
static uint64_t wait_while(seat *own, uint64_t mask, uint64_t value, double patience)
{
    const double start = bp_clock();
    for (;;) {
        for (int i = 0; i < 64; i++) {
            const uint64_t state = atomic_load_explicit(&pool.state, memory_order_acquire);
            if ((state & mask) != value) return state;
            relax();
        }
        const double passed = bp_clock() - start;
        if (passed > patience)
            sleep_while(own, mask, value);
        else if (passed > ALONE || atomic_load_explicit(&pool.crowded, memory_order_relaxed))
            sched_yield();
    }
}

/* ---- Parts ----------------------------------------------------------------------------------------------------------- */

static void fill_queues(int64_t n_parts, int n_threads)
{
    const int64_t each = n_parts / n_threads, longer = n_parts % n_threads;
    int64_t next = 0;
    for (int i = 0; i < n_threads; i++) {
        atomic_store_explicit(&pool.queues[i].next, next, memory_order_relaxed);
        next += each + (i < longer);
        pool.queues[i].end = next;
    }
}

static void empty_queue(queue *q, bp_part_fn function, void *argument)
{
    for (;;) {
        if (atomic_load_explicit(&q->next, memory_order_relaxed) >= q->end) return;
        const int64_t part = atomic_fetch_add_explicit(&q->next, 1, memory_order_relaxed);
        if (part >= q->end) return;
        function(argument, part);
    }
}

static void take_parts(int thread)
{
    const int n = pool.n_threads;
    for (int i = 0; i < n; i++) empty_queue(&pool.queues[(thread + i) % n], pool.function, pool.argument);
}

/* ---- Workers --------------------------------------------------------------------------------------------------------- */

static int wants(uint64_t state, int thread) { return (int)(state >> WANTED_SHIFT & 0xFFFF) > thread; }

static int join(uint64_t state, int thread)
{
    const uint64_t run = state & RUN;
    while ((state & RUN) == run && (state & OPEN) && wants(state, thread))
        if (atomic_compare_exchange_weak(&pool.state, &state, state + 1)) return 1;
    return 0;
}

static void leave(void)
{
    const uint64_t before = atomic_fetch_sub(&pool.state, 1);
    if ((before & (IN_RUN | OPEN)) == 1) wake(&pool.seats[0]); /* the last one, and the caller waits */
}

static void *work(void *argument)
{
    const int thread = (int)(intptr_t)argument;
    const float_state own = float_state_get();
    uint64_t run = 0;
    double patience = AWAKE;
    for (;;) {
        const uint64_t state = wait_while(&pool.seats[thread], RUN, run, patience);
        run = state & RUN;
        patience = wants(state, thread) ? AWAKE : 0; /* those that are not wanted do not stay awake */
        if (!join(state, thread)) continue;
        float_state_set(pool.floats);
        take_parts(thread);
        float_state_set(own);
        leave();
    }
    return NULL;
}

static void make_seat(seat *s)
{
    atomic_init(&s->asleep, 0);
    pthread_mutex_init(&s->lock, NULL);
    pthread_cond_init(&s->wake, NULL);
}

/* Signals are for the program's own threads: all but those that a fault in a part sends to itself are blocked. */
static int start_thread(int thread)
{
    const int own[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGABRT};
    sigset_t blocked, before;
    pthread_attr_t attributes;
    pthread_t started;
    sigfillset(&blocked);
    for (size_t i = 0; i < sizeof own / sizeof own[0]; i++) sigdelset(&blocked, own[i]);
    if (pthread_attr_init(&attributes)) return 0;
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attributes, (size_t)1 << 20);
    pthread_sigmask(SIG_SETMASK, &blocked, &before);
    const int error = pthread_create(&started, &attributes, work, (void *)(intptr_t)thread);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    return !error;
}

/* Only the thread that forked lives on in the child; the pool is as it was at the start, whatever it was doing. */
static void after_fork(void)
{
    atomic_init(&pool.state, 0);
    atomic_init(&pool.taken, 0);
    atomic_init(&pool.callers, 0);
    pool.n_workers = pool.most_workers = 0;
}

/* Start the workers that are missing; return how many threads there are for a run. */
static int start_workers(int n_threads)
{
    static int handler_set; /* a child has its parent's handlers */
    if (!handler_set && n_threads > 1) {
        if (pthread_atfork(NULL, NULL, after_fork)) return 1;
        handler_set = 1;
    }
    while (pool.n_workers + 1 < n_threads && !pool.most_workers) {
        if (pool.n_workers == 0) make_seat(&pool.seats[0]);
        make_seat(&pool.seats[pool.n_workers + 1]);
        if (start_thread(pool.n_workers + 1))
            pool.n_workers++;
        else
            pool.most_workers = pool.n_workers + 1; /* do not ask again and again */
    }
    return n_threads < pool.n_workers + 1 ? n_threads : pool.n_workers + 1;
}

/* ---- Runs ------------------------------------------------------------------------------------------------------------ */

static void open_run(int n_threads)
{
    const uint64_t before = atomic_load_explicit(&pool.state, memory_order_relaxed);
    atomic_store(&pool.state, ((before & RUN) + NEXT_RUN) | (uint64_t)n_threads << WANTED_SHIFT | OPEN);
    for (int i = 1; i < n_threads; i++) wake(&pool.seats[i]);
}

static void close_run(void)
{
    uint64_t state = atomic_fetch_and(&pool.state, ~OPEN) & ~OPEN;
    while (state & IN_RUN) state = wait_while(&pool.seats[0], IN_RUN, state & IN_RUN, AWAKE);
}

static void run_shared(bp_part_fn function, void *argument, int64_t n_parts, int n_threads)
{
    pool.function = function;
    pool.argument = argument;
    pool.n_threads = n_threads;
    pool.floats = float_state_get();
    fill_queues(n_parts, n_threads);
    open_run(n_threads);
    take_parts(0);
    close_run();
}

static int take_workers(void)
{
    return !atomic_load_explicit(&pool.taken, memory_order_relaxed) && !atomic_exchange(&pool.taken, 1);
}

void bp_pool_run(bp_part_fn function, void *argument, int64_t n_parts)
{
    int n_threads = bp_num_threads();
    if (n_parts < 2 || n_threads < 2) {
        run_alone(function, argument, n_parts);
        return;
    }
    /* Other callers have a processor each already. */
    const int others = atomic_fetch_add_explicit(&pool.callers, 1, memory_order_relaxed);
    atomic_store_explicit(&pool.crowded, n_threads > bp_processors(), memory_order_relaxed);
    if (n_threads > MOST_THREADS) n_threads = MOST_THREADS;
    n_threads -= others;
    if (n_threads > n_parts) n_threads = (int)n_parts;
    if (n_threads > 1 && take_workers()) {
        n_threads = start_workers(n_threads);
        if (n_threads > 1)
            run_shared(function, argument, n_parts, n_threads);
        else
            run_alone(function, argument, n_parts);
        atomic_store_explicit(&pool.taken, 0, memory_order_release);
    } else {
        run_alone(function, argument, n_parts);
    }
    atomic_fetch_sub_explicit(&pool.callers, 1, memory_order_relaxed);
}
#else
void bp_pool_run(bp_part_fn function, void *argument, int64_t n_parts) { run_alone(function, argument, n_parts); }
#endif
