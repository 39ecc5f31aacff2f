/* How many threads: what the system grants, and what the user has set. */
#define _GNU_SOURCE /* sched_getaffinity */
#include <stdlib.h>
#include <string.h>

#include "pool.h"

#ifdef __linux__
#include <fcntl.h>
#include <sched.h>
#endif
#ifndef _WIN32
#include <unistd.h>
#endif

/* ---- What the system grants ------------------------------------------------------------------------------------------ */

#ifdef __linux__
/* The first `size` - 1 bytes of a small file, or "" if it cannot be read. Not fopen(), which allocates. */
static void read_start(char *text, size_t size, const char *folder, const char *name)
{
    char path[256];
    text[0] = '\0';
    if (strlen(folder) + strlen(name) >= sizeof path) return;
    strcpy(path, folder);
    strcat(path, name);
    const int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0) return;
    const ssize_t n = read(file, text, size - 1);
    text[n > 0 ? n : 0] = '\0';
    close(file);
}

static int whole_processors(long long quota, long long period)
{
    if (quota <= 0 || period <= 0) return 0; /* "max" in version 2, -1 in version 1 */
    const long long n = (quota - 1) / period + 1;
    return n < 1000000 ? (int)n : 0;
}

int bp_processor_quota(const char *folder)
{
    char text[64], *end;
    read_start(text, sizeof text, folder, "/cpu.max");
    const long long quota = strtoll(text, &end, 10);
    if (text[0]) return whole_processors(quota, strtoll(end, NULL, 10));
    read_start(text, sizeof text, folder, "/cpu/cpu.cfs_quota_us");
    const long long old_quota = strtoll(text, NULL, 10);
    read_start(text, sizeof text, folder, "/cpu/cpu.cfs_period_us");
    return whole_processors(old_quota, strtoll(text, NULL, 10));
}

static int allowed(void)
{
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0) return CPU_COUNT(&set);
    return (int)sysconf(_SC_NPROCESSORS_ONLN); /* more of them than a cpu_set_t holds */
}
#else
int bp_processor_quota(const char *folder)
{
    (void)folder;
    return 0;
}

static int allowed(void)
{
#ifdef _SC_NPROCESSORS_ONLN
    return (int)sysconf(_SC_NPROCESSORS_ONLN);
#else
    return 1;
#endif
}
#endif

/* Plain ints, but read and written in one piece: threads that ask for the first time together find the same. */
#if defined(__GNUC__)
#define LOAD(variable) __atomic_load_n(&(variable), __ATOMIC_RELAXED)
#define STORE(variable, value) __atomic_store_n(&(variable), (value), __ATOMIC_RELAXED)
#else
#define LOAD(variable) (variable)
#define STORE(variable, value) ((variable) = (value))
#endif

static int processors; /* 0: not looked yet */

int bp_processors(void)
{
    int n = LOAD(processors);
    if (n) return n;
    const int quota = bp_processor_quota("/sys/fs/cgroup");
    n = allowed();
    if (quota && quota < n) n = quota;
    if (n < 1) n = 1;
    STORE(processors, n);
    return n;
}

/* ---- What the user has set ------------------------------------------------------------------------------------------- */

static int chosen; /* 0: nothing */

int bp_num_threads(void)
{
    const int n = LOAD(chosen);
    return n ? n : bp_processors();
}

bp_status bp_set_num_threads(int n)
{
    if (n < 1) return BP_E_ARGUMENT;
    STORE(chosen, n);
    return BP_OK;
}
