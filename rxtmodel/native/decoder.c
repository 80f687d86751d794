/* A decoder's layers for a few tokens at once: one call, no Python in between. */
#define _GNU_SOURCE
#include "crew.h"
#include "layers.h"

/* A unit vector over the slots reads what stands there: ``rxtmodel.memory.delta``. */
static void read_delta(float *q, const float *memory, int heads, int slots, int width, float *out)
{
    for (int n = 0; n < heads; n++, q += slots, out += width) {
        const float scale = address(q, slots);
        weigh(memory, (size_t)width, q, slots, width, scale, out);
        memory += (size_t)slots * width;
    }
}

static void attend_self(const decoder *d, const layer *l, int row, int position, const float *q,
                        float *scores, float *out)
{
    const int h = d->head_dim, group = d->heads / d->kv_heads;
    for (int n = 0; n < d->heads; n++) {
        const size_t base = ((size_t)row * d->kv_heads + n / group) * d->max_len * h;
        attend(q + n * h, l->k + base, l->v + base, position + 1, h, scores, out + n * h);
    }
}

static void read_memory(const decoder *d, const layer *l, int row, int position, float *q,
                        float *scores, float *out)
{
    const int width = l->read_dim, group = l->read_heads / l->read_kv_heads;
    const size_t size = (size_t)l->slots * width, base = (size_t)row * l->read_kv_heads * size;
    if (l->read == READ_DELTA) {
        read_delta(q, l->memory_k + base, l->read_heads, l->slots, width, out);
        return;
    }
    if (d->cos) {
        const size_t at = (size_t)position * (width / 2);
        rotate(q, l->read_heads, width, d->cos + at, d->sin + at);
    }
    for (int n = 0; n < l->read_heads; n++) {
        const size_t at = base + n / group * size;
        attend(q + n * width, l->memory_k + at, l->memory_v + at, l->slots, width, scores,
               out + n * width);
    }
}

static void run_layer(const decoder *d, const layer *l, const int32_t *rows,
                      const int32_t *positions, int count, float *x, float *normed, float *wide,
                      float *mixed, float *turned, float *scores)
{
    const size_t dim = (size_t)d->dim, width = (size_t)d->width;
    for (int t = 0; t < count; t++)
        rms_norm(x + t * dim, l->attention_norm, d->eps, d->dim, normed + t * dim);
    multiply(&l->qkv, normed, dim, wide, width, count, 0, turned);
    /* All tokens are kept before any attends: those of one row see the ones before them. */
    for (int t = 0; t < count; t++) keep(d, l, rows[t], positions[t], wide + t * width);
    for (int t = 0; t < count; t++)
        attend_self(d, l, rows[t], positions[t], wide + t * width, scores, mixed + t * width);
    multiply(&l->out, mixed, width, x, dim, count, 1, turned);
    if (l->read != READ_NOTHING) {
        for (int t = 0; t < count; t++)
            rms_norm(x + t * dim, l->memory_norm, d->eps, d->dim, normed + t * dim);
        multiply(&l->read_q, normed, dim, wide, width, count, 0, turned);
        for (int t = 0; t < count; t++)
            read_memory(d, l, rows[t], positions[t], wide + t * width, scores, mixed + t * width);
        multiply(&l->read_out, mixed, width, x, dim, count, 1, turned);
    }
    feed(d, l, x, count, normed, wide, turned);
}

/* Adds the bias; the first of the largest numbers, or the first that is no number. There are
 * numbers up to the next multiple of 16, which do not count. */
static int32_t best_of(float *logits, const float *bias, int count)
{
    const int whole = count / LANES * LANES;
    vec largest = splat(-INFINITY);
    ivec none = largest != largest;
    for (int i = 0; i < whole; i += LANES) {
        const vec x = load(logits + i) + load(bias + i);
        store(logits + i, x);
        largest = larger(x, largest);
        none |= x != x;
    }
    float best = largest_of(largest);
    int unknown = 0;
    for (int i = 0; i < LANES; i++) unknown |= none[i];
    for (int i = whole; i < count; i++) {
        logits[i] += bias[i];
        best = logits[i] > best ? logits[i] : best;
        unknown |= logits[i] != logits[i];
    }
    for (int i = 0; i < count; i++)
        if (unknown ? logits[i] != logits[i] : logits[i] == best) return i;
    return 0;
}

/* Stores a memory of the delta rule, [layers that read one][slots][dim], as ``row`` reads it. */
void rxt_store_delta(const decoder *d, const float *memory, int32_t row)
{
    for (int i = 0; i < d->num_layers; i++) {
        const layer *l = d->layers + i;
        if (l->read != READ_DELTA) continue;
        const size_t width = (size_t)l->read_dim, dim = width * (size_t)l->read_heads;
        float *to = l->memory_k + row * dim * (size_t)l->slots;
        for (int n = 0; n < l->read_heads; n++)
            for (int s = 0; s < l->slots; s++, to += width)
                memcpy(to, memory + s * dim + n * width, width * sizeof *to);
        memory += dim * (size_t)l->slots;
    }
}

/* Floats of scratch that each thread of ``rxt_forward`` takes. */
int64_t rxt_scratch(const decoder *d, int32_t longest)
{
    return (int64_t)MAX_ROWS * (2 * d->dim + 3 * d->width) + longest + PANEL;
}

typedef struct {
    const decoder *d;
    const int32_t *tokens, *rows, *positions;
    float *scratch, *logits;
    int32_t *best;
    int32_t count, silent; /* tokens, and the first of them of which no logits are wanted */
} part;

static void run_part(void *given)
{
    const part *p = given;
    const decoder *d = p->d;
    const size_t dim = (size_t)d->dim, width = (size_t)d->width;
    const size_t outputs = PADDED(d->head.outputs);
    float *x = p->scratch, *normed = x + MAX_ROWS * dim, *wide = normed + MAX_ROWS * dim;
    float *mixed = wide + MAX_ROWS * width, *turned = mixed + MAX_ROWS * width;
    float *scores = turned + MAX_ROWS * width;
    for (int from = 0; from < p->count; from += MAX_ROWS) {
        const int some = p->count - from < MAX_ROWS ? p->count - from : MAX_ROWS;
        for (int t = 0; t < some; t++)
            memcpy(x + t * dim, d->embedding + p->tokens[from + t] * dim, dim * sizeof *x);
        for (int i = 0; i < d->num_layers; i++)
            run_layer(d, d->layers + i, p->rows + from, p->positions + from, some, x, normed,
                      wide, mixed, turned, scores);
        const int first = p->silent > from ? p->silent - from : 0, loud = some - first;
        if (!p->logits || loud < 1) continue;
        const float *last = x + first * dim;
        if (d->final_norm) {
            for (int t = 0; t < loud; t++)
                rms_norm(last + t * dim, d->final_norm, d->eps, d->dim, normed + t * dim);
            last = normed;
        }
        float *to = p->logits + (from + first - p->silent) * outputs;
        int32_t *best = p->best + (from + first - p->silent);
        multiply(&d->head, last, dim, to, outputs, loud, 0, turned);
        for (int t = 0; t < loud; t++)
            best[t] = best_of(to + t * outputs, d->bias, d->head.outputs);
    }
}

crew *rxt_crew_new(void) { return calloc(1, sizeof(crew)); }

void rxt_crew_free(crew *c) { dismiss(c); }

/* Runs ``count`` tokens, of which those of one row stand in their order. ``logits`` [count - silent,
 * outputs up to a multiple of 16] and ``best`` [count - silent] are of all but the first ``silent``;
 * both may be NULL: then only caches are filled. With ``threads`` above 1 tokens are shared out
 * between this thread and the decoder's crew, which those of one row must not be, and none be silent;
 * ``scratch`` is for as many. */
void rxt_forward(const decoder *d, const int32_t *tokens, const int32_t *rows,
                 const int32_t *positions, int32_t count, int32_t silent, int32_t threads,
                 int64_t scratch_size, float *scratch, float *logits, int32_t *best)
{
    const size_t outputs = PADDED(d->head.outputs);
    threads = threads < 1 || !d->crew ? 1 : threads > MAX_THREADS ? MAX_THREADS : threads;
    if (threads > 1) threads = 1 + gather(d->crew, threads - 1);
    part parts[MAX_THREADS];
    for (int i = threads - 1; i >= 0; i--) {
        const int first = (int)((int64_t)count * i / threads);
        const int last = (int)((int64_t)count * (i + 1) / threads);
        parts[i] = (part){d, tokens + first, rows + first, positions + first,
                          scratch + i * scratch_size, logits ? logits + first * outputs : NULL,
                          best ? best + first : NULL, last - first, silent};
        if (i) ask(d->crew, i - 1, run_part, &parts[i]);
    }
    run_part(&parts[0]);
    for (int i = 1; i < threads; i++) await(d->crew, i - 1);
}
