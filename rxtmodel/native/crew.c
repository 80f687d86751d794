/* One crew of threads for the process, which wait for the next call.
 *
 * One call at a time has it; who calls meanwhile computes alone. A helper that has nothing to do
 * looks for work for as long as lies between two steps, some tens of microseconds; then it sleeps. (One
 * that yielded meanwhile would lose its turn, milliseconds, to any other program.) Work that a helper
 * has not begun when the caller is done with it is taken back: where a machine does other things a
 * helper may get a processor late. A forked child has no helpers, and starts its own. */
#define _GNU_SOURCE
#include "crew.h"

#include <fenv.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>

typedef struct {
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t wake, done;
    void (*run)(void *);
    void *work;
    /* Calls so far, and how many of them the helper answered; whether the last one is still for the
     * taking, and who of both sleeps. */
    _Atomic int asked, answered, offered, asleep, awaited;
    int before; /* answers before the last call */
} helper;

static struct {
    _Atomic int taken; /* by a call */
    int count;
    fenv_t numbers; /* how the caller rounds, and whether it flushes what is tiny to zero */
#ifdef __GLIBC__
    cpu_set_t allowed; /* to the caller, when the helpers were placed */
    int placed, here;
#endif
    helper helpers[MAX_THREADS - 1];
} crew;
static pthread_once_t prepared = PTHREAD_ONCE_INIT;

/* Whether ``number`` becomes another one than ``known`` soon. */
static int changes(_Atomic int *number, int known)
{
    for (int looks = 0; looks < 2048; looks++) {
        if (atomic_load_explicit(number, memory_order_acquire) != known) return 1;
        look_away();
    }
    return 0;
}

/* Waits for that on ``condition``; whoever changes it looks at ``sleeping`` after. */
static void wait_for_change(helper *h, _Atomic int *number, int known, pthread_cond_t *condition,
                            _Atomic int *sleeping)
{
    if (changes(number, known)) return;
    pthread_mutex_lock(&h->lock);
    atomic_store(sleeping, 1);
    while (atomic_load(number) == known) pthread_cond_wait(condition, &h->lock);
    atomic_store(sleeping, 0);
    pthread_mutex_unlock(&h->lock);
}

static void change(helper *h, _Atomic int *number, pthread_cond_t *condition, _Atomic int *sleeping)
{
    atomic_fetch_add(number, 1);
    if (!atomic_load(sleeping)) return;
    pthread_mutex_lock(&h->lock);
    pthread_cond_signal(condition);
    pthread_mutex_unlock(&h->lock);
}

static int take(helper *h) { return atomic_exchange(&h->offered, 0); }

static void *help(void *given)
{
    helper *h = given;
#ifdef __GLIBC__
    pthread_setname_np(pthread_self(), "rxt-helper");
#endif
    for (int known = 0, now;; known = now) {
        wait_for_change(h, &h->asked, known, &h->wake, &h->asleep);
        now = atomic_load(&h->asked); /* before the work is taken: a later call is not missed */
        if (!take(h)) continue;
        fesetenv(&crew.numbers);
        h->run(h->work);
        change(h, &h->answered, &h->done, &h->awaited);
    }
    return NULL;
}

#ifdef __GLIBC__
/* Puts each of ``count`` helpers on processors where neither this thread nor another helper is, if
 * there are so many: where all are busy for just a moment, Linux else begins or wakes a thread here,
 * to wait until this one sleeps. Again when this thread moved, or others are allowed to it. Where
 * there are many more than threads, it finds one by itself. */
static void place(int count, cpu_set_t allowed)
{
    const int here = sched_getcpu();
    if (here < 0 || here >= CPU_SETSIZE) return;
    if (crew.placed == count && crew.here == here && CPU_EQUAL(&allowed, &crew.allowed)) return;
    crew.placed = count;
    crew.here = here;
    crew.allowed = allowed;
    const int many = CPU_COUNT(&allowed) > 4 * (count + 1);
    for (int i = 0; i < count; i++) {
        cpu_set_t own;
        CPU_ZERO(&own);
        for (int cpu = 0, others = 0; cpu < CPU_SETSIZE; cpu++)
            if (cpu != here && CPU_ISSET(cpu, &allowed) && others++ % count == i) CPU_SET(cpu, &own);
        const cpu_set_t *where = many || !CPU_COUNT(&own) ? &allowed : &own;
        pthread_setaffinity_np(crew.helpers[i].thread, sizeof *where, where); /* or it stays */
    }
}
#endif

/* Returns what failed, or 0. */
static int start(helper *h)
{
    memset(h, 0, sizeof *h);
    pthread_mutex_init(&h->lock, NULL);
    pthread_cond_init(&h->wake, NULL);
    pthread_cond_init(&h->done, NULL);
    /* Signals are for the threads that know what to do with them. */
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    const int error = pthread_create(&h->thread, NULL, help, h);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (!error) pthread_detach(h->thread);
    return error;
}

/* In a child: they, and whoever had called them, are not in it. */
static void forget(void) { memset(&crew, 0, sizeof crew); }

static void prepare(void) { pthread_atfork(NULL, NULL, forget); }

/* Takes the crew; returns how many of ``wanted`` helpers there are, and processors for them. 0: it
 * is not taken. */
static int gather(int wanted)
{
    pthread_once(&prepared, prepare);
#ifdef __GLIBC__
    cpu_set_t allowed;
    const int known = !sched_getaffinity(0, sizeof allowed, &allowed); /* 1,024 processors at most */
    if (known && wanted >= CPU_COUNT(&allowed)) wanted = CPU_COUNT(&allowed) - 1;
#endif
    if (!wanted || atomic_exchange(&crew.taken, 1)) return 0;
    while (crew.count < wanted && !start(&crew.helpers[crew.count])) crew.count++;
    if (!crew.count) atomic_store(&crew.taken, 0);
    const int count = crew.count < wanted ? crew.count : wanted;
#ifdef __GLIBC__
    if (count && known) place(count, allowed);
#endif
    return count;
}

void together(int threads, void (*run)(void *), void *work)
{
    threads = threads < MAX_THREADS ? threads : MAX_THREADS;
    const int helpers = threads > 1 ? gather(threads - 1) : 0;
    if (helpers) fegetenv(&crew.numbers);
    for (int i = 0; i < helpers; i++) {
        helper *h = &crew.helpers[i];
        h->run = run;
        h->work = work;
        h->before = atomic_load(&h->answered);
        atomic_store(&h->offered, 1);
        change(h, &h->asked, &h->wake, &h->asleep);
    }
    run(work);
    if (!helpers) return;
    for (int i = 0; i < helpers; i++) {
        helper *h = &crew.helpers[i];
        if (!take(h)) wait_for_change(h, &h->answered, h->before, &h->done, &h->awaited);
    }
    atomic_store(&crew.taken, 0);
}
