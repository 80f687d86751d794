/* A decoder's layers for a few tokens at once: one call, no Python in between.
 *
 * The structures are mirrored in structs.py. All numbers are float32. */
#include <pthread.h>

#include "products.h"

#define MAX_THREADS 64

enum { READ_NOTHING, READ_SOFTMAX, READ_DELTA };

typedef struct {
    const float *attention_norm, *memory_norm, *ff_norm;
    product qkv, out, read_q, read_out, gate_up, down;
    float *k, *v;                         /* cache, [rows][kv heads][max_len][head_dim] */
    const float *memory_k, *memory_v;     /* [rows][kv heads][slots][width]; delta: k alone */
    int32_t read, read_heads, read_kv_heads, read_dim, slots;
    int32_t ff_dim;
} layer;

typedef struct {
    const layer *layers;
    const float *embedding, *final_norm, *cos, *sin, *bias;
    product head;
    int32_t num_layers, dim, heads, kv_heads, head_dim, max_len, width;
    float eps;
} decoder;

static void rms_norm(const float *x, const float *weight, float eps, int dim, float *out)
{
    vec sum = splat(0.0f);
    for (int i = 0; i < dim; i += LANES) sum += load(x + i) * load(x + i);
    const float scale = 1.0f / sqrtf(total(sum) / (float)dim + eps);
    for (int i = 0; i < dim; i += LANES) store(out + i, load(x + i) * load(weight + i) * scale);
}

static void rotate(float *x, int heads, int head_dim, const float *cos, const float *sin)
{
    for (int n = 0; n < heads; n++, x += head_dim)
        for (int j = 0; j < head_dim / 2; j++) {
            const float even = x[2 * j], odd = x[2 * j + 1];
            x[2 * j] = even * cos[j] - odd * sin[j];
            x[2 * j + 1] = even * sin[j] + odd * cos[j];
        }
}

/* The sum of ``count`` values by their weights, in two sums at once, each in its order. */
INLINE void weigh(const float *values, const float *weights, int count, int width, float scale,
                  float *out)
{
    for (int i = 0; i < width; i += 2 * LANES) {
        const int both = i + LANES < width;
        vec even = splat(0.0f), odd = even, even_too = even, odd_too = even;
        const float *v = values + i;
        int j = 0;
        for (; j + 1 < count; j += 2, v += 2 * width) {
            even += load(v) * weights[j];
            odd += load(v + width) * weights[j + 1];
            if (both) {
                even_too += load(v + LANES) * weights[j];
                odd_too += load(v + width + LANES) * weights[j + 1];
            }
        }
        if (j < count) {
            even += load(v) * weights[j];
            if (both) even_too += load(v + LANES) * weights[j];
        }
        store(out + i, (even + odd) * scale);
        if (both) store(out + i + LANES, (even_too + odd_too) * scale);
    }
}

/* Softmax attention of one head to ``count`` keys; ``scores`` has room for them, up to 16s. */
static void attend(const float *q, const float *k, const float *v, int count, int head_dim,
                   float *scores, float *out)
{
    const float scale = 1.0f / sqrtf((float)head_dim);
    const int padded = (count + LANES - 1) / LANES * LANES;
    float largest = -INFINITY;
    for (int j = 0; j < count; j++, k += head_dim) {
        vec sum = splat(0.0f);
        for (int i = 0; i < head_dim; i += LANES) {
            sum += load(k + i) * load(q + i);
            __builtin_prefetch(v + (size_t)j * head_dim + i);
        }
        scores[j] = total(sum) * scale;
        largest = scores[j] > largest ? scores[j] : largest;
    }
    for (int j = count; j < padded; j++) scores[j] = -INFINITY;
    vec sum = splat(0.0f);
    for (int j = 0; j < padded; j += LANES) {
        const vec p = exponential(load(scores + j) - largest);
        store(scores + j, p);
        sum += p;
    }
    weigh(v, scores, count, head_dim, 1.0f / total(sum), out);
}

/* A unit vector over the slots reads what stands there: ``rxtmodel.memory.delta``. */
static void read_delta(float *q, const float *memory, int heads, int slots, int width, float *out)
{
    for (int n = 0; n < heads; n++, q += slots, out += width) {
        vec sum = splat(0.0f);
        for (int s = 0; s < slots; s += LANES) {
            const vec feature = silu(load(q + s));
            store(q + s, feature);
            sum += feature * feature;
        }
        weigh(memory, q, slots, width, 1.0f / sqrtf(total(sum) + 1e-6f), out);
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

static void keep(const decoder *d, const layer *l, int row, int position, float *qkv)
{
    const int h = d->head_dim;
    float *k = qkv + d->heads * h;
    const float *v = k + d->kv_heads * h;
    if (d->cos) {
        const size_t at = (size_t)position * (h / 2);
        rotate(qkv, d->heads + d->kv_heads, h, d->cos + at, d->sin + at);
    }
    for (int g = 0; g < d->kv_heads; g++) {
        const size_t to = (((size_t)row * d->kv_heads + g) * d->max_len + position) * h;
        memcpy(l->k + to, k + g * h, (size_t)h * sizeof *k);
        memcpy(l->v + to, v + g * h, (size_t)h * sizeof *v);
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
    for (int t = 0; t < count; t++)
        rms_norm(x + t * dim, l->ff_norm, d->eps, d->dim, normed + t * dim);
    multiply(&l->gate_up, normed, dim, wide, width, count, 0, turned);
    for (int t = 0; t < count; t++) {
        float *gate = wide + t * width, *up = gate + l->ff_dim;
        for (int i = 0; i < l->ff_dim; i += LANES)
            store(gate + i, silu(load(gate + i)) * load(up + i));
    }
    multiply(&l->down, wide, width, x, dim, count, 1, turned);
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
        largest = choose(x > largest, x, largest);
        none |= x != x;
    }
    float best = -INFINITY;
    int unknown = 0;
    for (int i = 0; i < LANES; i++) {
        best = largest[i] > best ? largest[i] : best;
        unknown |= none[i];
    }
    for (int i = whole; i < count; i++) {
        logits[i] += bias[i];
        best = logits[i] > best ? logits[i] : best;
        unknown |= logits[i] != logits[i];
    }
    for (int i = 0; i < count; i++)
        if (unknown ? logits[i] != logits[i] : logits[i] == best) return i;
    return 0;
}

/* Floats of scratch that each thread of ``rxt_forward`` takes. */
int64_t rxt_scratch(const decoder *d, int32_t longest)
{
    return (int64_t)MAX_ROWS * (2 * d->dim + 3 * d->width) + longest + LANES;
}

typedef struct {
    const decoder *d;
    const int32_t *tokens, *rows, *positions;
    float *scratch, *logits;
    int32_t *best;
    int32_t count;
    pthread_t thread;
    int started;
} part;

static void run_part(const part *p)
{
    const decoder *d = p->d;
    const size_t dim = (size_t)d->dim, width = (size_t)d->width;
    const size_t outputs = ((size_t)d->head.outputs + LANES - 1) / LANES * LANES;
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
        if (!p->logits) continue;
        const float *last = x;
        if (d->final_norm) {
            for (int t = 0; t < some; t++)
                rms_norm(x + t * dim, d->final_norm, d->eps, d->dim, normed + t * dim);
            last = normed;
        }
        float *to = p->logits + from * outputs;
        multiply(&d->head, last, dim, to, outputs, some, 0, turned);
        for (int t = 0; t < some; t++)
            p->best[from + t] = best_of(to + t * outputs, d->bias, d->head.outputs);
    }
}

static void *run_on_thread(void *given)
{
    run_part(given);
    return NULL;
}

/* Runs ``count`` tokens, of which those of one row stand in their order. ``logits`` [count, outputs
 * up to a multiple of 16] and ``best`` [count] may both be NULL: then only caches are filled.
 * With ``threads`` above 1 tokens are shared out, which those of one row must not be; ``scratch``
 * is for as many. Threads live as long as a call: a fork, or an end, finds none of them. */
void rxt_forward(const decoder *d, const int32_t *tokens, const int32_t *rows,
                 const int32_t *positions, int32_t count, int32_t threads, int64_t scratch_size,
                 float *scratch, float *logits, int32_t *best)
{
    const size_t outputs = ((size_t)d->head.outputs + LANES - 1) / LANES * LANES;
    threads = threads < 1 ? 1 : threads > MAX_THREADS ? MAX_THREADS : threads;
    part parts[MAX_THREADS];
    for (int i = threads - 1; i >= 0; i--) {
        const int first = (int)((int64_t)count * i / threads);
        const int last = (int)((int64_t)count * (i + 1) / threads);
        parts[i] = (part){d, tokens + first, rows + first, positions + first,
                          scratch + i * scratch_size, logits ? logits + first * outputs : NULL,
                          best ? best + first : NULL, last - first, 0, 0};
        if (i) parts[i].started = !pthread_create(&parts[i].thread, NULL, run_on_thread, &parts[i]);
        if (!parts[i].started) run_part(&parts[i]);
    }
    for (int i = 1; i < threads; i++)
        if (parts[i].started) pthread_join(parts[i].thread, NULL);
}

/* Sizes of the structures, for whoever mirrors them. */
void rxt_sizes(int32_t sizes[3])
{
    sizes[0] = (int32_t)sizeof(product);
    sizes[1] = (int32_t)sizeof(layer);
    sizes[2] = (int32_t)sizeof(decoder);
}
