// What attention reads, fetched ahead piece by piece. It was there before the step (old keys,
// memories), so nothing that blocks wait for holds it up.

#pragma once
#include "args.h"

constexpr int HALF = PIECE_BYTES / 2;    // keys that come at once, and values
constexpr int PIECE = HALF / 2 / HEAD;   // keys
constexpr int PACE = 1000;               // cycles between what is asked for early

// A group's row: its place in the caches, tokens in its cache, its memory's slot. Nobody's: -1.
struct Entry { int row, length, slot, token; };

// Where the pieces of one warp lie.
struct Pieces {
    char* at;
    u64 *full, *empty;
    u32 taken;

    __device__ const char* take() {
        barrier_wait(full + taken % PIECES, taken / PIECES & 1);
        return at + taken % PIECES * 2 * HALF;
    }
    __device__ void give_back() {
        reads_done();
        __syncwarp();
        if (lane_id() == 0) barrier_arrive(empty + taken % PIECES);
        ++taken;
    }
};

// What one warp will read from the first layer to the last, asked for piece by piece.
struct Source {
    const Args* args;
    const Entry* entries;
    Pieces pieces;
    u64 policy;
    int first;                            // item of each attention
    int layer, kind, item, start, length; // what is fetched next
    const half16 *k, *v;

    __device__ int heads() const { return kind == 0 ? OWN_KV : READ_KV; }

    // What item of the layer's own attention (kind 0) or of its reading of memory (1) reads.
    __device__ void find() {
        start = length = 0;
        if (item >= ROWS * heads()) return;
        const Entry e = entries[item / heads()];
        if (e.row < 0) return;
        const size_t head = item % heads();
        if (kind == 0) {
            const size_t at = layer * args->layer_stride + e.row * args->row_stride;
            length = e.length;
            k = args->k + at + head * args->head_stride;
            v = args->v + at + head * args->head_stride;
        } else {
            const size_t at = e.slot * args->slot_stride + head * SLOTS_OF_MEMORY * HEAD;
            length = SLOTS_OF_MEMORY;
            k = args->memory[2 * layer] + at;
            v = args->memory[2 * layer + 1] + at;
        }
    }

    __device__ bool more() {
        while (start >= length) {
            if (layer == LAYERS) return false;
            item += BLOCKS * WARPS;
            if (item >= ROWS * heads()) {
                item = first;
                kind ^= 1;
                if (kind == 0 && ++layer == LAYERS) return false;
            }
            find();
        }
        return true;
    }

    // Ask for the next piece if there is room for it.
    __device__ bool ask() {
        const u32 place = pieces.taken % PIECES;
        if (!barrier_passed(pieces.empty + place, (pieces.taken / PIECES & 1) ^ 1)) return false;
        const int keys = min(PIECE, length - start);
        const u32 bytes = keys * HEAD * 2;
        char* to = pieces.at + place * 2 * HALF;
        barrier_expect(pieces.full + place, 2 * bytes);
        fetch(to, k + start * HEAD, bytes, pieces.full + place, policy);
        fetch(to + HALF, v + start * HEAD, bytes, pieces.full + place, policy);
        start += keys;
        ++pieces.taken;
        return true;
    }
};

// Of the warp that fetches for the others, a lane for each. What an attention wants that has not
// begun is asked for slowly: products before it are waiting for rows from the same memory.
__device__ void read_ahead(
    const Args& args, const Entry* entries, const volatile int* begun, int block, char* at,
    u64* full, u64* empty
) {
    const int warp = lane_id();
    if (warp >= WARPS) return;
    Source source{&args, entries,
                  {at + warp * PIECES * 2 * HALF, full + warp * PIECES, empty + warp * PIECES, 0},
                  read_once(), block * WARPS + warp};
    source.item = source.first;
    source.layer = source.kind = 0;
    source.find();
    int seen = -1;
    long long due = 0;
    while (source.more()) {
        const int attention = 2 * source.layer + source.kind + 1;
        if (attention > *begun) {
            const long long now = clock64();
            if (seen != attention) seen = attention, due = now + warp * PACE;
            if (now < due) continue;
        }
        if (source.ask()) due += WARPS * PACE;
    }
}
