/* Threads that compute beside the one that calls, and wait for the next call.
 *
 * One call at a time. A helper that has nothing to do looks for work for as long as lies between two
 * steps, some tens of microseconds, letting other threads go first; then it sleeps. A forked child has
 * none of them, and starts its own. */
#pragma once

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>
#include <sched.h>

#define MAX_THREADS 64

typedef struct {
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t wake, done;
    void (*run)(void *);
    void *work;
    /* Calls so far, and those that were answered; who of both sleeps until they differ, or agree. */
    _Atomic int asked, answered, asleep, awaited;
    int quit;
#ifdef __GLIBC__
    cpu_set_t processors;
#endif
} helper;

typedef struct crew {
    pid_t process;
    int count;
    helper helpers[MAX_THREADS - 1];
} crew;

/* Whether ``number`` becomes ``value`` soon. */
static int soon(_Atomic int *number, int value)
{
    for (int i = 0; i < 64; i++) {
        for (int j = 0; j < 32; j++) {
            if (atomic_load_explicit(number, memory_order_acquire) == value) return 1;
#if defined(__x86_64__)
            __builtin_ia32_pause();
#endif
        }
        sched_yield();
    }
    return 0;
}

static void *help(void *given)
{
    helper *h = given;
    for (int next = 1;; next++) {
        if (!soon(&h->asked, next)) {
            pthread_mutex_lock(&h->lock);
            atomic_store(&h->asleep, 1);
            while (atomic_load(&h->asked) != next) pthread_cond_wait(&h->wake, &h->lock);
            atomic_store(&h->asleep, 0);
            pthread_mutex_unlock(&h->lock);
        }
        if (h->quit) return NULL;
        h->run(h->work);
        atomic_store(&h->answered, next);
        if (!atomic_load(&h->awaited)) continue;
        pthread_mutex_lock(&h->lock);
        pthread_cond_signal(&h->done);
        pthread_mutex_unlock(&h->lock);
    }
}

#ifdef __GLIBC__
/* Processors for helper ``number`` of ``count``, none of which this thread or another helper is on:
 * where all are busy for just a moment, Linux else begins or wakes a thread here, to wait until this
 * one sleeps. None: there are too few. */
static cpu_set_t places_for(int number, int count, int here)
{
    cpu_set_t allowed, own;
    CPU_ZERO(&own);
    if (here < 0 || sched_getaffinity(0, sizeof allowed, &allowed)) return own;
    for (int cpu = 0, others = 0; cpu < CPU_SETSIZE; cpu++)
        if (cpu != here && CPU_ISSET(cpu, &allowed) && others++ % count == number) CPU_SET(cpu, &own);
    return own;
}

/* Keeps a helper away from this thread's processor, which is another one than when it began. */
static void make_way(helper *h, int number, int count)
{
    const int here = sched_getcpu();
    if (here < 0 || here >= CPU_SETSIZE || !CPU_ISSET(here, &h->processors)) return;
    const cpu_set_t own = places_for(number, count, here);
    if (CPU_COUNT(&own) && !pthread_setaffinity_np(h->thread, sizeof own, &own)) h->processors = own;
}
#else
static void make_way(helper *h, int number, int count) { (void)h, (void)number, (void)count; }
#endif

/* Returns what failed, or 0. */
static int start_helper(helper *h, int number, int count)
{
    *h = (helper){0};
    pthread_mutex_init(&h->lock, NULL);
    pthread_cond_init(&h->wake, NULL);
    pthread_cond_init(&h->done, NULL);
    pthread_attr_t attributes;
    int error = pthread_attr_init(&attributes);
    if (error) return error;
#ifdef __GLIBC__
    const cpu_set_t own = places_for(number, count, sched_getcpu());
    if (CPU_COUNT(&own) && !pthread_attr_setaffinity_np(&attributes, sizeof own, &own))
        h->processors = own;
#else
    (void)number, (void)count;
#endif
    /* Signals are for the threads that know what to do with them. */
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    error = pthread_create(&h->thread, &attributes, help, h);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    return error;
}

/* Starts the helpers that are missing; returns how many of ``wanted`` there are. */
static int gather(crew *c, int wanted)
{
    if (c->process != getpid()) c->count = 0;
    c->process = getpid();
    while (c->count < wanted && !start_helper(&c->helpers[c->count], c->count, wanted)) c->count++;
    return c->count < wanted ? c->count : wanted;
}

/* Has one of those that were gathered run something. */
static void ask(crew *c, int number, void (*run)(void *), void *work)
{
    helper *h = &c->helpers[number];
    make_way(h, number, c->count);
    h->run = run;
    h->work = work;
    atomic_fetch_add(&h->asked, 1);
    if (!atomic_load(&h->asleep)) return;
    pthread_mutex_lock(&h->lock);
    pthread_cond_signal(&h->wake);
    pthread_mutex_unlock(&h->lock);
}

static void await(crew *c, int number)
{
    helper *h = &c->helpers[number];
    const int asked = atomic_load(&h->asked);
    if (soon(&h->answered, asked)) return;
    pthread_mutex_lock(&h->lock);
    atomic_store(&h->awaited, 1);
    while (atomic_load(&h->answered) != asked) pthread_cond_wait(&h->done, &h->lock);
    atomic_store(&h->awaited, 0);
    pthread_mutex_unlock(&h->lock);
}

static void dismiss(crew *c)
{
    if (c->process == getpid())
        for (int i = 0; i < c->count; i++) {
            c->helpers[i].quit = 1;
            ask(c, i, NULL, NULL);
            pthread_join(c->helpers[i].thread, NULL);
        }
    free(c);
}
