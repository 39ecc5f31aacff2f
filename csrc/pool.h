/* Worker threads, and how many of them. */
#ifndef BP_POOL_H
#define BP_POOL_H

#include "bpcore.h"

/* Threads and C11 atomics that are sure to be there; otherwise the caller computes everything. */
#if defined(__GNUC__) && !defined(_WIN32)
#define BP_HAS_WORKERS 1
#include <stdatomic.h>
#endif

/* A flag that parts of the same run may set; who reads it does so before the run or after it. */
#ifdef BP_HAS_WORKERS
typedef atomic_int bp_flag;
static inline void bp_flag_set(bp_flag *flag, int value) { atomic_store_explicit(flag, value, memory_order_relaxed); }
static inline int bp_flag_get(const bp_flag *flag) { return atomic_load_explicit(flag, memory_order_relaxed); }
#else
typedef int bp_flag;
static inline void bp_flag_set(bp_flag *flag, int value) { *flag = value; }
static inline int bp_flag_get(const bp_flag *flag) { return *flag; }
#endif

typedef void (*bp_part_fn)(void *argument, int64_t part);

/* Run function(argument, part) for the parts 0 ... n_parts - 1, each once, and return when all are done. The caller takes part;
 * up to bp_num_threads() - 1 workers help it. Who computes which part is left open, but in runs of the same number of parts and
 * threads it is mostly the same thread, whose caches may still hold what it read. Parts run with the caller's float_state.
 *
 * There is one set of workers. A run from inside a part, or while another thread has the workers, computes all parts on its
 * caller. A part must not fork, and must not leave its function by longjmp. */
void bp_pool_run(bp_part_fn function, void *argument, int64_t n_parts);

/* Processors that this process may use: by its affinity, and by the share of their time that the system grants it. */
int bp_processors(void);

/* The number of processors that the limits of a folder of control groups (of version 2 or 1) come to, rounded up; 0: no limit. */
int bp_processor_quota(const char *folder);

#endif
