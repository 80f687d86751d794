/* Threads that compute beside the one that calls: see crew.c. */
#pragma once

#include <sched.h>
#include <stdatomic.h>

#define MAX_THREADS 64

/* Runs ``run(work)`` on this thread and on up to ``threads`` - 1 others, which share its items out by
 * ``claim``; returns when all have ended. Work may be begun by this thread alone, or others come late. */
void together(int threads, void (*run)(void *), void *work);

/* The next of ``items`` that nobody has begun, or -1. */
static inline int claim(_Atomic int *next, int items)
{
    const int item = atomic_fetch_add(next, 1);
    return item < items ? item : -1;
}

/* Between two looks at what another thread writes. */
static inline void look_away(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("isb");
#endif
}

/* Waits for a thread that is at work, and so not for long. */
static inline void wait_until(_Atomic int *number, int value)
{
    for (int looks = 1; atomic_load_explicit(number, memory_order_acquire) != value; looks++)
        if (looks % 2048) look_away();
        else sched_yield(); /* it may want this processor */
}
