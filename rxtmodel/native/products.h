/* Products of weights with a few rows.
 *
 * Weights lie in panels of 16 outputs: float32 as [panel][input][16]; int8, with a scale for each
 * output, as [panel][input / 4][16][4], so that one load and shifts give four inputs. Each output is
 * one sum over the inputs in their order, by multiply-add, however many rows are multiplied at once:
 * what a row gets does not depend on the others. */
#pragma once

#include "vector.h"

typedef struct {
    const void *data;
    const float *scale; /* of int8 weights; NULL: float32 */
    int32_t inputs, outputs;
} product;

/* Sums that fit the registers, beside a few for weights; panels that all rows meet before the next
 * ones, so many that tiles of two or three share them out. */
#if defined(__AVX512F__) || defined(__aarch64__)
#define SUMS 16
#define BLOCK 4
#elif defined(__AVX__)
#define SUMS 12
#define BLOCK 6
#else
#define SUMS 12
#define BLOCK 4
#endif
#define MAX_ROWS 16
/* Inputs whose weights, which come from afar, are asked for before they are needed. */
#define AHEAD 16
/* And into the second cache, where many rows leave the time for it. */
#define FAR 64
/* Vectors of outputs in a panel. */
#define PARTS (PANEL / LANES)

/* ``x`` is [inputs][rows]: all numbers that one weight meets lie beside each other. What there is
 * less of, vectors of weights or numbers, stays in registers while the other comes one by one: all of
 * both beside the sums are more than AVX has. */
INLINE void add_weights(vec *sums, const int count, const int rows, const vec *weights, const float *x)
{
    if (count <= rows) {
#pragma GCC unroll 16
        for (int r = 0; r < rows; r++) {
            const vec number = splat(x[r]);
#pragma GCC unroll 16
            for (int i = 0; i < count; i++)
                sums[i * rows + r] = multiply_add(weights[i], number, sums[i * rows + r]);
        }
    } else {
#pragma GCC unroll 16
        for (int i = 0; i < count; i++)
#pragma GCC unroll 16
            for (int r = 0; r < rows; r++)
                sums[i * rows + r] = multiply_add(weights[i], splat(x[r]), sums[i * rows + r]);
    }
}

/* ``count`` vectors of outputs, of which the first is number ``first``, for ``rows`` rows. */
INLINE void tile(const int count, const int rows, const int int8, const product *w, int first,
                 const float *x, float *out, size_t out_stride, int add)
{
    const size_t inputs = (size_t)w->inputs, size = inputs * PANEL;
    /* Whole panels begin with their first part. */
    const int panels = first / PARTS, parts = count % PARTS ? first % PARTS : 0;
    vec sums[SUMS], weights[SUMS];
#pragma GCC unroll 16
    for (int i = 0; i < count * rows; i++) sums[i] = splat(0.0f);
    if (int8) {
        const int8_t *data = (const int8_t *)w->data;
        for (size_t k = 0; k < inputs; k += 4) {
            ivec words[SUMS];
#pragma GCC unroll 16
            for (int i = 0; i < count; i++) {
                const int panel = panels + (parts + i) / PARTS, part = (parts + i) % PARTS;
                words[i] = load_ints(data + panel * size + k * PANEL + part * 4 * LANES);
            }
#pragma GCC unroll 4
            for (int j = 0; j < 4; j++) {
#pragma GCC unroll 16
                for (int i = 0; i < count; i++) weights[i] = byte_of(words[i], j);
                add_weights(sums, count, rows, weights, x + (k + j) * rows);
            }
        }
    } else {
        const float *data = (const float *)w->data;
        for (size_t k = 0; k < inputs; k++) {
#pragma GCC unroll 16
            for (int i = 0; i < count; i++) {
                const int panel = panels + (parts + i) / PARTS, part = (parts + i) % PARTS;
                const float *weight = data + panel * size + k * PANEL + part * LANES;
                if (i % PARTS == 0) __builtin_prefetch(weight + AHEAD * PANEL);
                if (i % PARTS == 0 && rows * PARTS >= 12)
                    __builtin_prefetch(weight + FAR * PANEL, 0, 2);
                weights[i] = load(weight);
            }
            add_weights(sums, count, rows, weights, x + k * rows);
        }
    }
#pragma GCC unroll 16
    for (int i = 0; i < count; i++) {
        const size_t at = (size_t)(first + i) * LANES;
#pragma GCC unroll 16
        for (int r = 0; r < rows; r++) {
            float *to = out + r * out_stride + at;
            vec sum = sums[i * rows + r];
            if (int8)
                sum = add ? multiply_add(sum, load(w->scale + at), load(to)) : sum * load(w->scale + at);
            else if (add)
                sum += load(to);
            store(to, sum);
        }
    }
}

/* So many vectors at once as leave the sums in registers, then what is left by fewer. */
INLINE void vectors(const int rows, const int int8, const product *w, int from, int to,
                    const float *x, float *out, size_t out_stride, int add)
{
    const int fit = SUMS / rows, most = BLOCK * PARTS;
    const int some = fit < 3 ? fit : fit < 4 ? BLOCK / 2 : fit < 8 ? 4 : 8;
    const int at_once = some < most ? some : 4;
    for (; from + at_once <= to; from += at_once)
        tile(at_once, rows, int8, w, from, x, out, out_stride, add);
    if (at_once > 2)
        for (; from + 2 <= to; from += 2) tile(2, rows, int8, w, from, x, out, out_stride, add);
    for (; from < to; from++) tile(1, rows, int8, w, from, x, out, out_stride, add);
}

/* Rows that are multiplied together when ``left`` are left. */
INLINE int group_of(int left)
{
#if SUMS == 16
    return left >= 16 ? 16 : left >= 8 ? 8 : left;
#else
    return left == 7 ? 4 : left >= 6 ? 6 : left;
#endif
}

INLINE void multiply_as(const int int8, const product *w, const float *x, float *out,
                        size_t out_stride, int rows, int add)
{
    const int count = (int)(PADDED(w->outputs) / LANES), block = BLOCK * PARTS;
    for (int from = 0; from < count; from += block) {
        const int to = from + block < count ? from + block : count;
        for (int row = 0; row < rows; row += group_of(rows - row)) {
            const float *group = x + (size_t)row * w->inputs;
            float *at = out + row * out_stride;
#define GROUP(n) case n: vectors(n, int8, w, from, to, group, at, out_stride, add); break
            switch (group_of(rows - row)) {
#if SUMS == 16
            GROUP(16);
            GROUP(8);
            GROUP(7);
#endif
            GROUP(6);
            GROUP(5);
            GROUP(4);
            GROUP(3);
            GROUP(2);
            default: vectors(1, int8, w, from, to, group, at, out_stride, add);
            }
#undef GROUP
        }
    }
}

/* out [rows, outputs up to a multiple of 16] = or += x [rows, inputs] times the weights.
 * ``turned`` has room for x. */
static inline void multiply(const product *w, const float *x, size_t x_stride, float *out,
                     size_t out_stride, int rows, int add, float *turned)
{
    if (rows > 1) {
        float *to = turned;
        for (int row = 0; row < rows; row += group_of(rows - row)) {
            const int group = group_of(rows - row);
            for (int r = 0; r < group; r++)
                for (int k = 0; k < w->inputs; k++)
                    to[(size_t)k * group + r] = x[(row + r) * x_stride + k];
            to += (size_t)group * w->inputs;
        }
        x = turned;
    }
    if (w->scale)
        multiply_as(1, w, x, out, out_stride, rows, add);
    else
        multiply_as(0, w, x, out, out_stride, rows, add);
}
