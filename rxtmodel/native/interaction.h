/* A memory update: what encodes a finished interaction, and what folds it into a memory.
 *
 * The structures are mirrored in structs.py. */
#pragma once

#include "layers.h"

/* See encoder.c. */
void rxt_encode(const decoder *d, const int32_t *tokens, int32_t count, int32_t threads,
                float *scratch, float *out);

typedef struct {
    const float *norm, *strength_bias;
    product k, v, strength;
} write_layer;

typedef struct {
    const write_layer *layers;
    int32_t num_layers, dim, heads, slots, width;
    float eps;
} delta_write;

/* See delta.c. */
void rxt_fold(const delta_write *w, const float *memory, const float *encoded, int32_t count,
              int32_t threads, float *scratch, float *out);

/* An interaction that grows, what encodes it when it is complete, and what folds it into a memory
 * then; see ahead.c. */
typedef struct {
    const decoder *encoder;
    const delta_write *write; /* may be NULL */
    int32_t *ids;             /* [longest] */
    float *scratch, *out, *fold_scratch, *next;
    const float *memory;
    int32_t count, longest, eos, threads;
} interaction;

static inline void say(interaction *w, int32_t token)
{
    if (w->count == w->longest) w->encoder = NULL;
    if (w->encoder) w->ids[w->count++] = token;
}
