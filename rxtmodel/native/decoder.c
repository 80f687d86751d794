/* A decoder's layers for a few tokens at once: one call, no Python in between. */
#include "crew.h"
#include "layers.h"

/* Tokens that are computed in blocks of ``size``: of different rows, or (``ordered``) of one row. */
typedef struct {
    const decoder *d;
    const int32_t *tokens, *rows, *positions;
    float *scratch, *logits;
    int64_t scratch_size;
    int32_t *best;
    int32_t count, silent; /* tokens, and the first of them of which no logits are wanted */
    int32_t size, ordered;
    _Atomic int next, seats;
    _Atomic int kept[MAX_LAYERS]; /* blocks, whose keys and values are in the cache of a layer */
} job;

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

/* One layer of a block; ``x`` and after it are its scratch. */
static void run_layer(job *j, int i, int block, int from, int count, float *x)
{
    const decoder *d = j->d;
    const layer *l = d->layers + i;
    const int32_t *rows = j->rows + from, *positions = j->positions + from;
    const size_t dim = (size_t)d->dim, width = (size_t)d->width;
    float *normed = x + MAX_ROWS * dim, *wide = normed + MAX_ROWS * dim;
    float *mixed = wide + MAX_ROWS * width, *turned = mixed + MAX_ROWS * width;
    float *scores = turned + MAX_ROWS * width;
    for (int t = 0; t < count; t++)
        rms_norm(x + t * dim, l->attention_norm, d->eps, d->dim, normed + t * dim);
    multiply(&l->qkv, normed, dim, wide, width, count, 0, turned);
    /* All tokens are kept before any attends: those of one row see the ones before them. */
    for (int t = 0; t < count; t++) keep(d, l, rows[t], positions[t], wide + t * width);
    if (j->ordered) {
        wait_until(&j->kept[i], block);
        atomic_store(&j->kept[i], block + 1);
    }
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

/* All layers of a block, and the logits of its last tokens. */
static void run_block(job *j, int block, float *x)
{
    const decoder *d = j->d;
    const size_t dim = (size_t)d->dim, outputs = PADDED(d->head.outputs);
    const int from = block * j->size, left = j->count - from, some = left < j->size ? left : j->size;
    for (int t = 0; t < some; t++)
        memcpy(x + t * dim, d->embedding + j->tokens[from + t] * dim, dim * sizeof *x);
    for (int i = 0; i < d->num_layers; i++) run_layer(j, i, block, from, some, x);
    const int first = j->silent > from ? j->silent - from : 0, loud = some - first;
    if (!j->logits || loud < 1) return;
    const float *last = x + first * dim;
    float *normed = x + MAX_ROWS * dim, *turned = normed + MAX_ROWS * (dim + 2 * (size_t)d->width);
    if (d->final_norm) {
        for (int t = 0; t < loud; t++)
            rms_norm(last + t * dim, d->final_norm, d->eps, d->dim, normed + t * dim);
        last = normed;
    }
    float *to = j->logits + (from + first - j->silent) * outputs;
    int32_t *best = j->best + (from + first - j->silent);
    multiply(&d->head, last, dim, to, outputs, loud, 0, turned);
    for (int t = 0; t < loud; t++) best[t] = best_of(to + t * outputs, d->bias, d->head.outputs);
}

static void run_blocks(void *given)
{
    job *j = given;
    const int blocks = (j->count + j->size - 1) / j->size;
    int block = claim(&j->next, blocks);
    if (block < 0) return;
    float *scratch = j->scratch + atomic_fetch_add(&j->seats, 1) * j->scratch_size;
    do run_block(j, block, scratch);
    while ((block = claim(&j->next, blocks)) >= 0);
}

/* Runs ``count`` tokens: one of each row, or those of one row in their order. ``logits`` [count -
 * silent, outputs up to a multiple of 16] and ``best`` [count - silent] are of all but the first
 * ``silent``; both may be NULL: then only caches are filled. They are shared out between as many
 * ``threads``, for which ``scratch`` has room. */
void rxt_forward(const decoder *d, const int32_t *tokens, const int32_t *rows,
                 const int32_t *positions, int32_t count, int32_t silent, int32_t threads,
                 int64_t scratch_size, float *scratch, float *logits, int32_t *best)
{
    job j = {d, tokens, rows, positions, scratch, logits, scratch_size, best, count, silent,
             .ordered = count > 1 && rows[0] == rows[1]};
    if (threads < 1) threads = 1;
    const int share = (count + threads - 1) / threads;
    j.size = share < MAX_ROWS ? share : MAX_ROWS;
    if (threads == 1) j.ordered = 0; /* one thread takes them in their order */
    together(threads, run_blocks, &j);
}
