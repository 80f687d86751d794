// A whole step of a dense decoder: one token for each of many rows, logits at the end.
//
// Rows are divided into groups, each with BLOCKS blocks of its own, which meet where one product
// needs what another wrote. Groups do not wait for each other, so one reads memories while
// another multiplies.

#include "args.h"
#include "attend.h"
#include "ends.h"
#include "meeting.h"
#include "product.h"

constexpr int BIASES = 2 * WIDTH + 2 * INNER + WIDTH;   // of a layer
constexpr int BEHIND = 4;   // meetings by which every other group follows the one before it

__device__ void feed(const Args& args, Ring ring, int block) {
    const u64 policy = read_again();
    const char* at = args.weights;
    for (int layer = 0; layer < LAYERS; ++layer, at += LAYER_BYTES) {
        ring.feed<Own>(at + OWN_AT, block, policy);
        ring.feed<OwnOut>(at + OWN_OUT_AT, block, policy);
        ring.feed<Read>(at + READ_AT, block, policy);
        ring.feed<ReadOut>(at + READ_OUT_AT, block, policy);
        ring.feed<Wide>(at + WIDE_AT, block, policy);
        ring.feed<Down>(at + DOWN_AT, block, policy);
    }
    ring.feed<Head>(at, block, policy);
}

__device__ void compute(Block& b, Ring ring, Pieces pieces, float4* scratch) {
    const int item = b.index * WARPS + warp_id();
    // So one reads memories while the other multiplies.
    if (b.group % 2) Meeting::follow(b.args.meetings + APART * (b.group - 1), BEHIND);
    Stream{b, nullptr}.embed();
    Meeting::sync();
    for (int layer = 0; layer < LAYERS; ++layer) {
        const float* bias = b.args.biases + layer * BIASES;
        Project<Own, OWN_KV * OWN_RATIO * HEAD, OWN_KV * HEAD> own{b, layer};
        product<Own>(b.x, ring, b.index, scratch, own);
        Meeting::sync();
        if (threadIdx.x == 0) *b.attentions = 2 * layer + 1;
        attend<0, OWN_KV, OWN_RATIO>(
            b.args, b.entries, pieces, item, layer, b.queries, (u32*)b.mixed, b.args.own_scale, b.nothing);
        Meeting::sync();
        Stream stream{b, bias};
        product<OwnOut>(b.mixed, ring, b.index, scratch, stream);
        Meeting::sync();
        Project<Read, READ_KV * READ_RATIO * HEAD, 0> read{b, layer};
        product<Read>(b.x, ring, b.index, scratch, read);
        Meeting::sync();
        if (threadIdx.x == 0) *b.attentions = 2 * layer + 2;
        attend<1, READ_KV, READ_RATIO>(
            b.args, b.entries, pieces, item, layer, b.queries, (u32*)b.mixed, b.args.read_scale, b.nothing);
        Meeting::sync();
        stream.bias = bias + WIDTH;
        product<ReadOut>(b.mixed, ring, b.index, scratch, stream);
        Meeting::sync();
        GateUp gate_up{b, bias + 2 * WIDTH};
        product<Wide>(b.x, ring, b.index, scratch, gate_up);
        Meeting::sync();
        stream.bias = bias + 2 * WIDTH + 2 * INNER;
        product<Down>(b.inner, ring, b.index, scratch, stream);
        Meeting::sync();
    }
    Logits logits{b, b.args.biases + LAYERS * BIASES};
    product<Head>(b.x, ring, b.index, scratch, logits);
}

extern "C" __global__ void __launch_bounds__(THREADS, 1) step(const __grid_constant__ Args args) {
    extern __shared__ __align__(128) char shared[];
    __shared__ Entry entries[ROWS];
    __shared__ volatile int attentions;   // that have begun
    __shared__ u32 nothing;
    __shared__ u64 barriers[2 * (SLOTS + WARPS * PIECES)];
    const int group = blockIdx.x / BLOCKS, index = blockIdx.x % BLOCKS, warp = warp_id();
    u64 *full = barriers, *empty = full + SLOTS;
    u64 *read = empty + SLOTS, *unread = read + WARPS * PIECES;
    if (threadIdx.x == 0) {
        attentions = 0, nothing = 0;
        for (int i = 0; i < SLOTS; ++i) barrier_init(full + i, 1), barrier_init(empty + i, WARPS);
        for (int i = 0; i < WARPS * PIECES; ++i) barrier_init(read + i, 1), barrier_init(unread + i, 1);
        asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
    }
    for (int i = threadIdx.x; i < ROWS; i += blockDim.x) {
        const int place = group * ROWS + i;
        const int row = place < args.count ? args.order[place] : args.nobody;
        const int token = args.token[row];
        entries[i] = row == args.nobody ? Entry{-1, 0, 0, token}
                                        : Entry{row, args.pos[row], args.slot[row], token};
    }
    __syncthreads();
    char* at = shared;
    if (warp == READER) {
        read_ahead(args, entries, &attentions, index, at, read, unread);
        return;
    }
    Pieces pieces{at + warp * PIECES * 2 * HALF, read + warp * PIECES, unread + warp * PIECES, 0};
    at += WARPS * PIECES * 2 * HALF;
    Ring ring{at, full, empty, 0};
    at += SLOTS * SLOT_BYTES;
    if (warp == WEIGHTS) {
        if (lane_id() == 0) feed(args, ring, index);
        return;
    }
    if (warp == HERALD) {
        Meeting{args.meetings + APART * group}.serve(1 + 8 * LAYERS);
        return;
    }
    float4* scratch = (float4*)at;
    at += SCRATCH_BYTES;
    Block block{
        args, entries, group, index,
        args.x + (size_t)group * ROW_TILES * TILES * 32,
        args.sums + (size_t)group * ROWS * TILES,
        args.queries + (size_t)group * ROWS * QUERY_WIDTH,
        args.mixed + (size_t)group * ROW_TILES * (QUERY_WIDTH / 16) * 32,
        args.inner + (size_t)group * ROW_TILES * (INNER / 16) * 32,
        (float4*)at, &attentions, &nothing,
    };
    compute(block, ring, pieces, scratch);
}
