/* Folding an encoded interaction into a memory by the delta rule: ``rxtmodel.memory.delta``.
 *
 *     M' = M + K^T diag(eta) (V - K M)        eta_t = b_t / max(1, sum_u b_u |k_t . k_u|)
 *
 * K are unit vectors over the slots. Computed in this order: nothing as large as slots x slots. */
#include "crew.h"
#include "interaction.h"

/* Floats of scratch that each thread of ``rxt_fold`` takes for so many tokens. */
int64_t rxt_fold_scratch(const delta_write *w, int32_t count)
{
    const int64_t token = w->dim + w->width + (w->heads + PANEL) + 1 + w->dim / w->heads;
    return count * token + (count + PANEL) * (int64_t)(w->slots + 1) +
           2 * MAX_ROWS * (int64_t)w->dim;
}

/* Adds up the shares of ``blocks`` vectors of tokens, as many sums at once. */
INLINE vec crowd_at(const int blocks, const float *k, const float *by_slot, const float *shares,
                    size_t stride, int slots)
{
    vec overlap[4], crowd = splat(0.0f);
#pragma GCC unroll 4
    for (int i = 0; i < blocks; i++) overlap[i] = splat(0.0f);
    for (int s = 0; s < slots; s++)
#pragma GCC unroll 4
        for (int i = 0; i < blocks; i++) overlap[i] += load(by_slot + s * stride + i * LANES) * k[s];
#pragma GCC unroll 4
    for (int i = 0; i < blocks; i++)
        crowd += choose(overlap[i] < 0.0f, -overlap[i], overlap[i]) * load(shares + i * LANES);
    return crowd;
}

/* How much of all that is written a token's address shares, sum_u b_u |k_t . k_u|: ``by_slot``
 * [slots, stride] are the addresses, ``shares`` [stride] b_u over the length of k_u. */
static float crowd_of(const float *k, float scale, const float *by_slot, const float *shares,
                      size_t stride, int slots)
{
    vec crowd = splat(0.0f);
    size_t u = 0;
    for (; u + 4 * LANES <= stride; u += 4 * LANES)
        crowd += crowd_at(4, k, by_slot + u, shares + u, stride, slots);
    for (; u < stride; u += LANES) crowd += crowd_at(1, k, by_slot + u, shares + u, stride, slots);
    return total(crowd) * scale;
}

/* One head: ``k`` [count, slots] with ``scale`` [count], ``v`` [count, head], ``b`` [count];
 * ``memory`` and ``out`` are [slots, head], rows ``dim`` apart. */
static void fold_head(const float *k, size_t k_stride, const float *scale, const float *v,
                      size_t v_stride, const float *b, size_t b_stride, int count, int slots,
                      int head, const float *memory, size_t dim, float *shares, float *missing,
                      float *by_slot, float *out)
{
    const size_t stride = PADDED(count);
    for (size_t u = 0; u < stride; u++) {
        const int there = u < (size_t)count;
        shares[u] = there ? b[u * b_stride] * scale[u] : 0.0f;
        for (int s = 0; s < slots; s++) by_slot[s * stride + u] = there ? k[u * k_stride + s] : 0.0f;
    }
    for (int t = 0; t < count; t++) {
        const float crowd = crowd_of(k + t * k_stride, scale[t], by_slot, shares, stride, slots);
        const float eta = b[t * b_stride] / (crowd > 1.0f ? crowd : 1.0f);
        float *left = missing + (size_t)t * head;
        weigh(memory, dim, k + t * k_stride, slots, head, scale[t], left);
        for (int i = 0; i < head; i += LANES)
            store(left + i, (load(v + t * v_stride + i) - load(left + i)) * (eta * scale[t]));
    }
    for (int s = 0; s < slots; s++) {
        float *to = out + s * dim;
        weigh(missing, (size_t)head, by_slot + s * stride, count, head, 1.0f, to);
        for (int i = 0; i < head; i += LANES)
            store(to + i, load(memory + s * dim + i) + load(to + i));
    }
}

typedef struct {
    const delta_write *w;
    const float *memory, *encoded;
    float *scratch, *out;
    int32_t count;
    _Atomic int next, seats;
} folding;

static void fold_layer(const folding *f, int i, float *scratch)
{
    const delta_write *w = f->w;
    const write_layer *l = w->layers + i;
    const int head = w->dim / w->heads, count = f->count;
    const size_t dim = (size_t)w->dim, width = (size_t)w->width, rows = (size_t)w->slots;
    const size_t strengths = PADDED(w->heads), stride = PADDED(count);
    const float *memory = f->memory + i * rows * dim, *encoded = f->encoded + i * count * dim;
    float *out = f->out + i * rows * dim;
    float *v = scratch, *k = v + count * dim, *b = k + count * width, *scale = b + count * strengths;
    float *shares = scale + count, *missing = shares + stride, *by_slot = missing + count * head;
    float *normed = by_slot + stride * rows, *turned = normed + MAX_ROWS * dim;
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
        fold_head(own, width, scale, v + n * head, dim, b + n, strengths, count, w->slots, head,
                  memory + n * head, dim, shares, missing, by_slot, out + n * head);
    }
}

static void fold_layers(void *given)
{
    folding *f = given;
    const int64_t size = rxt_fold_scratch(f->w, f->count);
    float *scratch = f->scratch + atomic_fetch_add(&f->seats, 1) * size;
    for (int i; (i = claim(&f->next, f->w->num_layers)) >= 0;) fold_layer(f, i, scratch);
}

/* ``encoded`` [layers, count, dim] into ``memory`` [layers, slots, dim]: ``out``, of its shape.
 * Layers are shared out between as many ``threads``, for which ``scratch`` has room. */
void rxt_fold(const delta_write *w, const float *memory, const float *encoded, int32_t count,
              int32_t threads, float *scratch, float *out)
{
    folding f = {w, memory, encoded, scratch, out, count, 0, 0};
    together(threads < w->num_layers ? threads : w->num_layers, fold_layers, &f);
}

/* Sizes of the structures, for whoever mirrors them. */
void rxt_sizes(int32_t sizes[6])
{
    sizes[0] = (int32_t)sizeof(product);
    sizes[1] = (int32_t)sizeof(layer);
    sizes[2] = (int32_t)sizeof(decoder);
    sizes[3] = (int32_t)sizeof(write_layer);
    sizes[4] = (int32_t)sizeof(delta_write);
    sizes[5] = (int32_t)sizeof(interaction);
}
