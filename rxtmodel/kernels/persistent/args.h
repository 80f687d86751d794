// What the host gives to a step; ``rxtmodel.engine.persistent`` lays it out likewise.

#pragma once
#include "base.h"

struct Args {
    const int *order, *token, *pos, *slot;  // of rows, by their places in the caches
    const half16* table;                    // embedding [V, D]
    const float* rope;                      // cosines, then sines: [2, positions, HEAD / 2]
    const char* weights;                    // in the order in which blocks take them
    const float* biases;                    // of each layer: own, read, gate and up, down; the head's
    half16 *k, *v;                          // caches
    const half16* const* memory;            // keys and values of each layer
    uint4* x;                               // residual stream as products read it, a part a group
    float* sums;                            // of its squares, by tiles
    half16* queries;
    uint4 *mixed, *inner;                   // what attention, and gate and up, leave
    float* logits;
    int* meetings;                          // of each group, APART numbers apart
    size_t layer_stride, row_stride, head_stride, slot_stride, rope_stride;
    int count, nobody;
    float eps, own_scale, read_scale;
};
