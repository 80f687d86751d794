/* An encoder's layers for one finished interaction: every token sees all of them. */
#include "crew.h"
#include "interaction.h"

typedef struct {
    const decoder *d;
    const int32_t *tokens;
    int32_t count, size; /* tokens, and those of a block */
    float *x, *wide, *own, *out;
    _Atomic int seats;
    /* Blocks that were begun, and that are done, of each round: a layer has two. */
    _Atomic int begun[2 * MAX_LAYERS], done[2 * MAX_LAYERS];
} encoding;

static int64_t own_scratch(const decoder *d, int32_t count)
{
    return (int64_t)MAX_ROWS * (d->dim + 2 * d->width) + count + PANEL;
}

/* Floats of scratch that ``rxt_encode`` takes for so many tokens and threads. */
int64_t rxt_encode_scratch(const decoder *d, int32_t count, int32_t threads)
{
    return (int64_t)count * (d->dim + d->width) + threads * own_scratch(d, count);
}

/* Queries stay in ``wide``, keys and values go where the layer says. */
static void keep_block(encoding *e, const layer *l, int from, int count, float *normed)
{
    const decoder *d = e->d;
    const size_t dim = (size_t)d->dim, width = (size_t)d->width;
    float *x = e->x + from * dim, *qkv = e->wide + from * width, *turned = normed + MAX_ROWS * dim;
    for (int t = 0; t < count; t++)
        rms_norm(x + t * dim, l->attention_norm, d->eps, d->dim, normed + t * dim);
    multiply(&l->qkv, normed, dim, qkv, width, count, 0, turned);
    for (int t = 0; t < count; t++) keep(d, l, 0, from + t, qkv + t * width);
}

static void attend_block(encoding *e, const layer *l, int from, int count, float *normed)
{
    const decoder *d = e->d;
    const size_t dim = (size_t)d->dim, width = (size_t)d->width;
    const int h = d->head_dim, group = d->heads / d->kv_heads;
    float *x = e->x + from * dim, *q = e->wide + from * width;
    float *turned = normed + MAX_ROWS * dim, *mixed = turned + MAX_ROWS * width;
    float *scores = mixed + MAX_ROWS * width;
    for (int t = 0; t < count; t++)
        for (int n = 0; n < d->heads; n++) {
            const size_t base = (size_t)(n / group) * d->max_len * h;
            attend(q + t * width + n * h, l->k + base, l->v + base, e->count, h, scores,
                   mixed + t * width + n * h);
        }
    multiply(&l->out, mixed, width, x, dim, count, 1, turned);
    /* The queries of these tokens are of no use any more. */
    feed(d, l, x, count, normed, q, turned);
}

/* Every token's keys are there before any attends; then the next layer. */
static void run_rounds(void *given)
{
    encoding *e = given;
    const decoder *d = e->d;
    const size_t dim = (size_t)d->dim;
    const int blocks = (e->count + e->size - 1) / e->size;
    float *own = e->own + atomic_fetch_add(&e->seats, 1) * own_scratch(d, e->count);
    for (int round = 0, block; round < 2 * d->num_layers; round++) {
        const layer *l = d->layers + round / 2;
        while ((block = claim(&e->begun[round], blocks)) >= 0) {
            const int from = block * e->size, left = e->count - from;
            const int some = left < e->size ? left : e->size;
            float *x = e->x + from * dim;
            for (int t = 0; !round && t < some; t++)
                memcpy(x + t * dim, d->embedding + e->tokens[from + t] * dim, dim * sizeof *x);
            if (round % 2 == 0) {
                keep_block(e, l, from, some, own);
            } else {
                attend_block(e, l, from, some, own);
                memcpy(e->out + (round / 2 * (size_t)e->count + from) * dim, x,
                       some * dim * sizeof *x);
            }
            atomic_fetch_add(&e->done[round], 1);
        }
        wait_until(&e->done[round], blocks);
    }
}

/* Every layer's output, ``out`` [layers, count, dim], of tokens 0 to ``count``. Keys and values go
 * where the layers say, and are of no use after. ``scratch`` is for as many ``threads``. */
void rxt_encode(const decoder *d, const int32_t *tokens, int32_t count, int32_t threads,
                float *scratch, float *out)
{
    encoding e = {.d = d, .tokens = tokens, .count = count, .x = scratch, .out = out};
    e.wide = e.x + (size_t)count * d->dim;
    e.own = e.wide + (size_t)count * d->width;
    if (threads < 1) threads = 1;
    const int share = (count + threads - 1) / threads;
    e.size = share < MAX_ROWS ? share : MAX_ROWS;
    together(threads, run_rounds, &e);
}
