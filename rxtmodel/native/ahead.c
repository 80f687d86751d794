/* Steps that are computed before they are asked for: a thread goes on with what the last one drew,
 * and when that was the end of the only row, with the interaction: encoding it, and folding it into
 * the memory that was read.
 *
 * ``taken`` <= ``made`` <= ``taken`` + LEAD. With a lead of one the thread would stop after each
 * step until whoever takes it has woken up. */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include "interaction.h"

#define LEAD 2

typedef struct {
    /* Of a run; what it does not share with its thread is written while there is none. */
    const decoder *d;
    float *scratch, *logits;
    int64_t scratch_size;
    int32_t count, threads, most;
    int32_t *tokens, *rows, *positions; /* [count], of the next step */
    int32_t *drawn;                     /* [most][count] */
    int32_t *ends;                      /* after one of these tokens there is no next step */
    int32_t num_ends;
    interaction whole; /* of a run of one row; without an encoder nothing is encoded */
    /* Under the lock */
    int32_t made, taken;
    int busy, over, quit;
    enum { NOTHING, COMPLETE, ENCODED, FOLDED } stage; /* of ``whole``, which is left alone then */
    int working; /* on the next stage */
    /* Of the thread */
    pid_t process; /* the one it lives in; a fork does not take it along */
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t wake, done;
} ahead;

static int may_go_on(const ahead *a)
{
    return !a->over && a->made < a->most && a->made < a->taken + LEAD;
}

static int is_end(const ahead *a, int32_t token)
{
    for (int i = 0; i < a->num_ends; i++)
        if (a->ends[i] == token) return 1;
    return 0;
}

/* Whether the interaction is complete with the last step: it ended, or no further one is wanted. */
static int is_complete(ahead *a, int ends)
{
    if (a->over || (!ends && a->made < a->most)) return 0;
    if (!ends) say(&a->whole, a->whole.eos);
    return a->whole.encoder && a->whole.ids[a->whole.count - 1] == a->whole.eos;
}

static void reach(ahead *a, int stage, int last)
{
    pthread_mutex_lock(&a->lock);
    a->stage = stage;
    a->working = stage != last;
    pthread_cond_broadcast(&a->done);
}

/* Under the lock, of which it lets go meanwhile. */
static void update(ahead *a)
{
    const interaction *w = &a->whole;
    const int last = w->write ? FOLDED : ENCODED;
    a->stage = COMPLETE;
    a->working = 1;
    pthread_mutex_unlock(&a->lock);
    rxt_encode(w->encoder, w->ids, w->count, w->threads, w->scratch, w->out);
    reach(a, ENCODED, last);
    if (last == ENCODED) return;
    pthread_mutex_unlock(&a->lock);
    rxt_fold(w->write, w->memory, w->out, w->count, w->threads, w->fold_scratch, w->next);
    reach(a, FOLDED, last);
}

static void *run_ahead(void *given)
{
    ahead *a = given;
    pthread_mutex_lock(&a->lock);
    while (!a->quit) {
        if (!may_go_on(a)) {
            pthread_cond_wait(&a->wake, &a->lock);
            continue;
        }
        a->busy = 1;
        int32_t *best = a->drawn + (size_t)a->made * a->count;
        pthread_mutex_unlock(&a->lock);
        rxt_forward(a->d, a->tokens, a->rows, a->positions, a->count, 0, a->threads,
                    a->scratch_size, a->scratch, a->logits, best);
        int ends = 0;
        for (int i = 0; i < a->count; i++) {
            a->tokens[i] = best[i];
            a->positions[i]++;
            ends |= is_end(a, best[i]);
        }
        say(&a->whole, best[0]);
        pthread_mutex_lock(&a->lock);
        a->busy = 0;
        a->made++;
        const int complete = is_complete(a, ends);
        a->over |= ends;
        pthread_cond_broadcast(&a->done);
        if (complete) update(a);
    }
    pthread_mutex_unlock(&a->lock);
    return NULL;
}

/* At first, and in a forked child: there is no thread. A parent's one is gone, perhaps with the
 * lock, and with it the step that it was at. */
static void renew(ahead *a)
{
    if (a->process == getpid()) return;
    pthread_mutex_init(&a->lock, NULL);
    pthread_cond_init(&a->wake, NULL);
    pthread_cond_init(&a->done, NULL);
    a->busy = 0;
    a->over = 1;
    a->stage = NOTHING;
    a->working = 0;
    a->process = 0;
}

/* Signals are for the threads that know what to do with them. */
static int start_thread(ahead *a)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    const int error = pthread_create(&a->thread, NULL, run_ahead, a);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (!error) a->process = getpid();
    return error;
}

static int32_t *copied(int32_t *old, const int32_t *from, int32_t count)
{
    int32_t *to = realloc(old, (size_t)(count ? count : 1) * sizeof *to);
    if (to && from) memcpy(to, from, (size_t)count * sizeof *to);
    return to;
}

ahead *rxt_ahead_new(void)
{
    return calloc(1, sizeof(ahead));
}

/* Begins no further step, and waits for the one under way. What was made can be taken. */
void rxt_ahead_halt(ahead *a)
{
    renew(a);
    if (!a->process) return;
    pthread_mutex_lock(&a->lock);
    a->over = 1;
    while (a->busy) pthread_cond_wait(&a->done, &a->lock);
    pthread_mutex_unlock(&a->lock);
}

/* Forgets the interaction of the last run. 0: not now, since it is being worked on. */
int32_t rxt_ahead_forget(ahead *a)
{
    renew(a);
    if (!a->process) return 1;
    pthread_mutex_lock(&a->lock);
    const int idle = !a->working;
    if (idle) a->stage = NOTHING;
    pthread_mutex_unlock(&a->lock);
    return idle;
}

/* Begins a run of at most ``most`` steps of the first ``count`` rows. None may be under way.
 * ``whole`` is the interaction of the only row so far, or NULL; the last one must be forgotten.
 * Returns 0, or what failed. */
int32_t rxt_ahead_begin(ahead *a, const decoder *d, const int32_t *tokens,
                        const int32_t *positions, int32_t count, int32_t threads, int32_t most,
                        const int32_t *ends, int32_t num_ends, int64_t scratch_size,
                        float *scratch, float *logits, const interaction *whole)
{
    rxt_ahead_halt(a);
    a->tokens = copied(a->tokens, tokens, count);
    a->positions = copied(a->positions, positions, count);
    a->rows = copied(a->rows, NULL, count);
    a->drawn = copied(a->drawn, NULL, count * most);
    a->ends = copied(a->ends, ends, num_ends);
    if (!a->tokens || !a->positions || !a->rows || !a->drawn || !a->ends) return ENOMEM;
    for (int i = 0; i < count; i++) a->rows[i] = i;
    a->d = d;
    a->count = count;
    a->threads = threads;
    a->most = most;
    a->num_ends = num_ends;
    a->scratch_size = scratch_size;
    a->scratch = scratch;
    a->logits = logits;
    a->whole = whole ? *whole : (interaction){0};
    const int error = a->process ? 0 : start_thread(a);
    if (error) return error;
    pthread_mutex_lock(&a->lock);
    a->made = a->taken = a->over = 0;
    pthread_mutex_unlock(&a->lock);
    pthread_cond_signal(&a->wake);
    return 0;
}

/* Waits for the next step; ``best`` [count] gets what was drawn. 0: there is none in this run. */
int32_t rxt_ahead_take(ahead *a, int32_t *best)
{
    renew(a);
    if (a->process) pthread_mutex_lock(&a->lock);
    while (a->taken == a->made && (a->busy || may_go_on(a)))
        pthread_cond_wait(&a->done, &a->lock);
    const int there = a->taken < a->made;
    if (there) memcpy(best, a->drawn + (size_t)a->taken++ * a->count, a->count * sizeof *best);
    const int wake = !a->busy && may_go_on(a);
    if (a->process) pthread_mutex_unlock(&a->lock);
    if (wake) pthread_cond_signal(&a->wake);
    return there;
}

/* Waits for a stage that is, or will be reached. 0: it will not. */
static int wait_for(ahead *a, int stage)
{
    while (a->stage < stage && a->working) pthread_cond_wait(&a->done, &a->lock);
    return a->stage >= stage;
}

/* Waits for ``ids`` to be encoded: ``out`` [layers, count, dim]. 0: it is not they that are. */
int32_t rxt_ahead_encoded(ahead *a, const int32_t *ids, int32_t count, float *out)
{
    renew(a);
    if (!a->process) return 0;
    const interaction *w = &a->whole;
    pthread_mutex_lock(&a->lock);
    const int there = a->stage != NOTHING && w->count == count &&
                      !memcmp(w->ids, ids, (size_t)count * sizeof *ids) && wait_for(a, ENCODED);
    pthread_mutex_unlock(&a->lock);
    if (there)
        memcpy(out, w->out, (size_t)w->encoder->num_layers * count * w->encoder->dim * sizeof *out);
    return there;
}

/* Waits for what was encoded to be folded into the memory that the run had read: ``out``, of its
 * shape. 0: it is not. */
int32_t rxt_ahead_folded(ahead *a, float *out)
{
    renew(a);
    if (!a->process) return 0;
    pthread_mutex_lock(&a->lock);
    const int there = wait_for(a, FOLDED);
    pthread_mutex_unlock(&a->lock);
    const delta_write *w = a->whole.write;
    if (there)
        memcpy(out, a->whole.next, (size_t)w->num_layers * w->slots * w->dim * sizeof *out);
    return there;
}

/* Ends the thread: there is no further run. */
void rxt_ahead_end(ahead *a)
{
    renew(a);
    if (!a->process) return;
    pthread_mutex_lock(&a->lock);
    a->quit = a->over = 1;
    pthread_mutex_unlock(&a->lock);
    pthread_cond_signal(&a->wake);
    pthread_join(a->thread, NULL);
    a->process = 0;
}

/* Ends the thread, and what it works in. */
void rxt_ahead_free(ahead *a)
{
    rxt_ahead_end(a);
    free(a->tokens);
    free(a->rows);
    free(a->positions);
    free(a->drawn);
    free(a->ends);
    free(a);
}
