/* Folding an encoded interaction into a memory by the delta rule: ``rxtmodel.memory.delta``.
 *
 *     M' = M + K^T diag(eta) (V - K M)        eta_t = b_t / max(1, sum_u b_u |k_t . k_u|)
 *
 * K are unit vectors over the slots. Computed in this order: nothing as large as slots x slots. */
#include "layers.h"

typedef struct {
    const float *norm, *strength_bias;
    product k, v, strength;
} write_layer;

typedef struct {
    const write_layer *layers;
    int32_t num_layers, dim, heads, slots, width;
    float eps;
} delta_write;

/* Floats of scratch that ``rxt_fold`` takes for so many tokens. */
int64_t rxt_fold_scratch(const delta_write *w, int32_t count)
{
    const int64_t token = w->dim + w->width + (w->heads + LANES) + 2 + w->dim / w->heads + w->slots;
    return count * token + 2 * MAX_ROWS * (int64_t)w->dim;
}

/* One head: ``k`` [count, slots] with ``scale`` [count], ``v`` [count, head], ``b`` [count];
 * ``memory`` and ``out`` are [slots, head], rows ``dim`` apart. */
static void fold_head(const float *k, size_t k_stride, const float *scale, const float *v,
                      size_t v_stride, const float *b, size_t b_stride, int count, int slots,
                      int head, const float *memory, size_t dim, float *crowd, float *missing,
                      float *by_slot, float *out)
{
    for (int t = 0; t < count; t++) {
        crowd[t] = 0.0f;
        for (int u = 0; u <= t; u++) {
            vec sum = splat(0.0f);
            for (int s = 0; s < slots; s += LANES)
                sum += load(k + t * k_stride + s) * load(k + u * k_stride + s);
            const float overlap = fabsf(total(sum) * scale[t] * scale[u]);
            crowd[t] += overlap * b[u * b_stride];
            if (u < t) crowd[u] += overlap * b[t * b_stride];
        }
    }
    for (int t = 0; t < count; t++) {
        const float eta = b[t * b_stride] / (crowd[t] > 1.0f ? crowd[t] : 1.0f);
        float *left = missing + (size_t)t * head;
        weigh(memory, dim, k + t * k_stride, slots, head, scale[t], left);
        for (int i = 0; i < head; i += LANES)
            store(left + i, (load(v + t * v_stride + i) - load(left + i)) * (eta * scale[t]));
        for (int s = 0; s < slots; s++) by_slot[(size_t)s * count + t] = k[t * k_stride + s];
    }
    for (int s = 0; s < slots; s++) {
        float *to = out + s * dim;
        weigh(missing, (size_t)head, by_slot + (size_t)s * count, count, head, 1.0f, to);
        for (int i = 0; i < head; i += LANES)
            store(to + i, load(memory + s * dim + i) + load(to + i));
    }
}

/* ``encoded`` [layers, count, dim] into ``memory`` [layers, slots, dim]: ``out``, of its shape. */
void rxt_fold(const delta_write *w, const float *memory, const float *encoded, int32_t count,
              float *scratch, float *out)
{
    const size_t dim = (size_t)w->dim, width = (size_t)w->width, rows = (size_t)w->slots;
    const size_t strengths = (size_t)(w->heads + LANES - 1) / LANES * LANES;
    const int head = w->dim / w->heads;
    float *v = scratch, *k = v + count * dim, *b = k + count * width, *scale = b + count * strengths;
    float *crowd = scale + count, *missing = crowd + count, *by_slot = missing + count * head;
    float *normed = by_slot + count * rows, *turned = normed + MAX_ROWS * dim;
    for (int i = 0; i < w->num_layers; i++) {
        const write_layer *l = w->layers + i;
        for (int from = 0; from < count; from += MAX_ROWS) {
            const int some = count - from < MAX_ROWS ? count - from : MAX_ROWS;
            for (int t = 0; t < some; t++)
                rms_norm(encoded + (from + t) * dim, l->norm, w->eps, w->dim, normed + t * dim);
            multiply(&l->k, normed, dim, k + from * width, width, some, 0, turned);
            multiply(&l->v, normed, dim, v + from * dim, dim, some, 0, turned);
            multiply(&l->strength, normed, dim, b + from * strengths, strengths, some, 0, turned);
        }
        for (int t = 0; t < count; t++)
            for (size_t n = 0; n < strengths; n += LANES) {
                float *to = b + t * strengths + n;
                const vec x = load(to) + load(l->strength_bias + n);
                store(to, 1.0f / (exponential(-x) + 1.0f));
            }
        for (int n = 0; n < w->heads; n++) {
            float *own = k + (size_t)n * rows;
            for (int t = 0; t < count; t++) scale[t] = address(own + t * width, w->slots);
            fold_head(own, width, scale, v + n * head, dim, b + n, strengths, count, w->slots,
                      head, memory + n * head, dim, crowd, missing, by_slot, out + n * head);
        }
        memory += rows * dim;
        encoded += count * dim;
        out += rows * dim;
    }
}

/* Sizes of the structures, for whoever mirrors them. */
void rxt_sizes(int32_t sizes[5])
{
    sizes[0] = (int32_t)sizeof(product);
    sizes[1] = (int32_t)sizeof(layer);
    sizes[2] = (int32_t)sizeof(decoder);
    sizes[3] = (int32_t)sizeof(write_layer);
    sizes[4] = (int32_t)sizeof(delta_write);
}
