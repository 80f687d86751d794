/* An encoder's layers for one finished interaction: every token sees all of them. */
#include "interaction.h"

/* Floats of scratch that ``rxt_encode`` takes for so many tokens. */
int64_t rxt_encode_scratch(const decoder *d, int32_t count)
{
    return (int64_t)count * (d->dim + d->width + 1) + (int64_t)MAX_ROWS * (d->dim + 2 * d->width) +
           PANEL;
}

/* Every layer's output, ``out`` [layers, count, dim], of tokens 0 to ``count``. Keys and values go
 * where the layers say, and are of no use after. */
void rxt_encode(const decoder *d, const int32_t *tokens, int32_t count, float *scratch, float *out)
{
    const size_t dim = (size_t)d->dim, width = (size_t)d->width;
    const int h = d->head_dim, group = d->heads / d->kv_heads;
    float *x = scratch, *wide = x + count * dim, *normed = wide + count * width;
    float *mixed = normed + MAX_ROWS * dim, *turned = mixed + MAX_ROWS * width;
    float *scores = turned + MAX_ROWS * width;
    for (int t = 0; t < count; t++)
        memcpy(x + t * dim, d->embedding + tokens[t] * dim, dim * sizeof *x);
    for (int i = 0; i < d->num_layers; i++, out += count * dim) {
        const layer *l = d->layers + i;
        for (int from = 0; from < count; from += MAX_ROWS) {
            const int some = count - from < MAX_ROWS ? count - from : MAX_ROWS;
            float *qkv = wide + from * width;
            for (int t = 0; t < some; t++)
                rms_norm(x + (from + t) * dim, l->attention_norm, d->eps, d->dim, normed + t * dim);
            multiply(&l->qkv, normed, dim, qkv, width, some, 0, turned);
            for (int t = 0; t < some; t++) keep(d, l, 0, from + t, qkv + t * width);
        }
        for (int from = 0; from < count; from += MAX_ROWS) {
            const int some = count - from < MAX_ROWS ? count - from : MAX_ROWS;
            float *q = wide + from * width, *tokens_of = x + from * dim;
            for (int t = 0; t < some; t++)
                for (int n = 0; n < d->heads; n++) {
                    const size_t base = (size_t)(n / group) * d->max_len * h;
                    attend(q + t * width + n * h, l->k + base, l->v + base, count, h, scores,
                           mixed + t * width + n * h);
                }
            multiply(&l->out, mixed, width, tokens_of, dim, some, 1, turned);
            /* The queries of these tokens are of no use any more. */
            feed(d, l, tokens_of, some, normed, q, turned);
        }
        memcpy(out, x, count * dim * sizeof *x);
    }
}
