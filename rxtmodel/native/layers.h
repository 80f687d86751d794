/* What decoder and encoder have in common.
 *
 * The structures are mirrored in structs.py. All numbers are float32. */
#pragma once

#include "products.h"

/* Of a stack, at most: see support.py. */
#define MAX_LAYERS 256

enum { READ_NOTHING, READ_SOFTMAX, READ_DELTA };

typedef struct {
    const float *attention_norm, *memory_norm, *ff_norm;
    product qkv, out, read_q, read_out, gate_up, down;
    float *k, *v;                         /* cache, [rows][kv heads][max_len][head_dim] */
    float *memory_k, *memory_v;           /* [rows][kv heads][slots][width]; delta: k alone */
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

/* See decoder.c. */
void rxt_forward(const decoder *d, const int32_t *tokens, const int32_t *rows,
                 const int32_t *positions, int32_t count, int32_t silent, int32_t threads,
                 int64_t scratch_size, float *scratch, float *logits, int32_t *best);

static inline void rms_norm(const float *x, const float *weight, float eps, int dim, float *out)
{
    vec sum = splat(0.0f);
    for (int i = 0; i < dim; i += LANES) sum += load(x + i) * load(x + i);
    const float scale = 1.0f / sqrtf(total(sum) / (float)dim + eps);
    for (int i = 0; i < dim; i += LANES) store(out + i, load(x + i) * load(weight + i) * scale);
}

static inline void rotate(float *x, int heads, int head_dim, const float *cos, const float *sin)
{
    for (int n = 0; n < heads; n++, x += head_dim)
        for (int j = 0; j < head_dim / 2; j++) {
            const float even = x[2 * j], odd = x[2 * j + 1];
            x[2 * j] = even * cos[j] - odd * sin[j];
            x[2 * j + 1] = even * sin[j] + odd * cos[j];
        }
}

/* The sum of ``count`` values by their weights, in two sums at once, each in its order. */
INLINE void weigh(const float *values, size_t stride, const float *weights, int count, int width,
                  float scale, float *out)
{
    for (int i = 0; i < width; i += 2 * LANES) {
        const int both = i + LANES < width;
        vec even = splat(0.0f), odd = even, even_too = even, odd_too = even;
        const float *v = values + i;
        int j = 0;
        for (; j + 1 < count; j += 2, v += 2 * stride) {
            even += load(v) * weights[j];
            odd += load(v + stride) * weights[j + 1];
            if (both) {
                even_too += load(v + LANES) * weights[j];
                odd_too += load(v + stride + LANES) * weights[j + 1];
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

/* The products of ``q`` with up to LANES keys, each in its lane; their values are asked for. */
INLINE vec meet(const float *q, const float *k, const float *v, const int keys, int head_dim)
{
    vec sums[LANES];
#pragma GCC unroll 16
    for (int n = 0; n < LANES; n++) sums[n] = splat(0.0f);
    for (int i = 0; i < head_dim; i += LANES) {
        const vec part = load(q + i);
#pragma GCC unroll 16
        for (int n = 0; n < keys; n++) {
            sums[n] = multiply_add(load(k + (size_t)n * head_dim + i), part, sums[n]);
            __builtin_prefetch(v + (size_t)n * head_dim + i);
        }
    }
    return totals(sums);
}

/* Softmax attention of one head to ``count`` keys; ``scores`` has room for them, up to 16s. */
static inline void attend(const float *q, const float *k, const float *v, int count, int head_dim,
                   float *scores, float *out)
{
    const float scale = 1.0f / sqrtf((float)head_dim);
    const size_t h = (size_t)head_dim;
    int j = 0;
    for (; j + LANES <= count; j += LANES)
        store(scores + j, meet(q, k + j * h, v + j * h, LANES, head_dim) * scale);
    if (j < count) store(scores + j, meet(q, k + j * h, v + j * h, count - j, head_dim) * scale);
    const int padded = (count + LANES - 1) / LANES * LANES;
    for (j = count; j < padded; j++) scores[j] = -INFINITY;
    vec most = splat(-INFINITY), sum = splat(0.0f);
    for (j = 0; j < padded; j += LANES) most = larger(load(scores + j), most);
    const float largest = largest_of(most);
    for (j = 0; j < padded; j += LANES) {
        const vec p = exponential(load(scores + j) - largest);
        store(scores + j, p);
        sum += p;
    }
    weigh(v, h, scores, count, head_dim, 1.0f / total(sum), out);
}

/* Turns features into an address, and returns what makes it a unit vector: ``memory.delta``. */
INLINE float address(float *features, int slots)
{
    vec sum = splat(0.0f);
    for (int s = 0; s < slots; s += LANES) {
        const vec feature = silu(load(features + s));
        store(features + s, feature);
        sum += feature * feature;
    }
    return 1.0f / sqrtf(total(sum) + 1e-6f);
}

/* Keys and values of a token go to their place, turned by its position. */
static inline void keep(const decoder *d, const layer *l, int row, int position, float *qkv)
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

/* Adds the feed-forward of ``count`` tokens to them. */
static inline void feed(const decoder *d, const layer *l, float *x, int count, float *normed,
                 float *wide, float *turned)
{
    const size_t dim = (size_t)d->dim, width = (size_t)d->width;
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
