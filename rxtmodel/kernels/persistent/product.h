// Products of a group's rows with a matrix, a part of its outputs for each block.
//
// Weights come through a ring of slots that a warp of its own fills ahead, whatever the others wait
// for: which weights come next is known from the start.

#pragma once
#include "base.h"

// A product: K tiles of inner width, N tiles of outputs; one unit of work is M tiles of rows with
// GROUPS x WIDE tiles of outputs; CHUNK tiles of inner width come at once. What is left of the
// warps divides the inner width.
template <int K_, int N_, int M_, int GROUPS_, int WIDE_, int CHUNK_>
struct Shape {
    static constexpr int K = K_, M = M_, GROUPS = GROUPS_, WIDE = WIDE_, CHUNK = CHUNK_;
    static constexpr int COLUMNS = GROUPS * WIDE;
    static constexpr int SPLIT = WARPS / (M * GROUPS);
    static constexpr int ROW_PARTS = ROW_TILES / M;
    static constexpr int UNITS = ROW_PARTS * (N_ / COLUMNS);
    static constexpr int CHUNKS = K / CHUNK;
    static constexpr int BYTES = COLUMNS * CHUNK * 512;
    static constexpr int PART = CHUNK / SPLIT;       // of a chunk, for one warp
    static constexpr int MINE = K / SPLIT;           // tiles of inner width for one warp
    static constexpr int AHEAD = MINE == 16 || (MINE % 16 == 0 && WIDE == 1) ? 16
        : MINE % 8 == 0 ? 8 : PART;
    // All that a warp needs of its rows is in registers from the first unit on.
    static constexpr bool ONCE = MINE == AHEAD && ROW_PARTS == 1;
    static_assert(M * GROUPS * SPLIT == WARPS && ROW_PARTS * M == ROW_TILES, "warps");
    static_assert(K % CHUNK == 0 && CHUNK % SPLIT == 0 && MINE % AHEAD == 0, "inner width");
    static_assert(N_ % COLUMNS == 0 && BYTES <= SLOT_BYTES, "outputs");
};

struct Ring {
    char* slots;
    u64* full;
    u64* empty;
    u32 at;

    __device__ char* slot() const { return slots + at % SLOTS * SLOT_BYTES; }
    __device__ u32 parity() const { return at / SLOTS & 1; }

    __device__ const uint4* take() {
        barrier_wait(full + at % SLOTS, parity());
        return (const uint4*)slot();
    }
    __device__ void give_back() {
        reads_done();
        __syncwarp();
        if (lane_id() == 0) barrier_arrive(empty + at % SLOTS);
        ++at;
    }
    template <class S>
    __device__ void feed(const char* weights, int block, u64 policy) {
        for (int unit = block; unit < S::UNITS; unit += BLOCKS) {
            const char* from = weights + (size_t)(unit / S::ROW_PARTS) * S::CHUNKS * S::BYTES;
            for (int chunk = 0; chunk < S::CHUNKS; ++chunk, ++at, from += S::BYTES) {
                barrier_wait(empty + at % SLOTS, parity() ^ 1);
                barrier_expect(full + at % SLOTS, S::BYTES);
                fetch(slot(), from, S::BYTES, full + at % SLOTS, policy);
            }
        }
    }
};

// The units of a block. ``end`` is asked first what it wants to know (before the weights are
// there), then given sums [WIDE][2][4] as tensor cores leave them: of the unit, the tile of rows,
// the first tile of outputs.
template <class S, class End>
__device__ __forceinline__ void product(
    const uint4* rows, Ring& ring, int block, float4* scratch, End& end
) {
    const int warp = warp_id(), lane = lane_id();
    const int group = warp / S::M % S::GROUPS, split = warp / (S::M * S::GROUPS);
    uint4 a[2][S::AHEAD];
    for (int unit = block; unit < S::UNITS; unit += BLOCKS) {
        const int m = unit % S::ROW_PARTS * S::M + warp % S::M;
        const int first = unit / S::ROW_PARTS * S::COLUMNS + group * S::WIDE;
        const uint4* mine = rows + (m * S::K + split * S::PART) * 32 + lane;
        float acc[S::WIDE][2][4] = {};
        // Tile i of this warp stands in chunk i / PART.
        auto load = [&](uint4 (&into)[S::AHEAD], int batch) {
#pragma unroll
            for (int j = 0; j < S::AHEAD; ++j) {
                const int i = batch * S::AHEAD + j;
                into[j] = mine[(i / S::PART * S::CHUNK + i % S::PART) * 32];
            }
        };
        if (!S::ONCE || unit == block) load(a[0], 0);
        if (split == 0) end.ask(m, first, S::ONCE && unit != block);
        const uint4* weights = nullptr;
#pragma unroll
        for (int batch = 0; batch < S::MINE / S::AHEAD; ++batch) {
            if (batch + 1 < S::MINE / S::AHEAD) load(a[(batch + 1) & 1], batch + 1);
#pragma unroll
            for (int j = 0; j < S::AHEAD; ++j) {
                const int i = batch * S::AHEAD + j;
                if (i % S::PART == 0) weights = ring.take();
                const uint4 x = a[batch & 1][j];
#pragma unroll
                for (int n = 0; n < S::WIDE; ++n) {
                    const int tile = (group * S::WIDE + n) * S::CHUNK + split * S::PART;
                    const uint4 w = weights[(tile + i % S::PART) * 32 + lane];
                    multiply_add(acc[n][0], x.x, x.y, x.z, x.w, w.x, w.y);
                    multiply_add(acc[n][1], x.x, x.y, x.z, x.w, w.z, w.w);
                }
                if (i % S::PART == S::PART - 1) ring.give_back();
            }
        }
        if (S::SPLIT > 1) {
            float4* place = scratch + warp % (S::M * S::GROUPS) * 64 * S::WIDE + lane;
            constexpr int STEP = S::M * S::GROUPS * 64 * S::WIDE;
            if (unit != block) block_sync();
            if (split > 0) {
#pragma unroll
                for (int n = 0; n < 2 * S::WIDE; ++n) {
                    const float(&s)[4] = acc[n / 2][n % 2];
                    place[(split - 1) * STEP + n * 32] = make_float4(s[0], s[1], s[2], s[3]);
                }
            }
            block_sync();
            if (split > 0) continue;
#pragma unroll
            for (int part = 0; part < S::SPLIT - 1; ++part) {
#pragma unroll
                for (int n = 0; n < 2 * S::WIDE; ++n) {
                    const float4 s = place[part * STEP + n * 32];
                    float(&to)[4] = acc[n / 2][n % 2];
                    to[0] += s.x, to[1] += s.y, to[2] += s.z, to[3] += s.w;
                }
            }
        }
        end.take(unit, m, first, acc);
    }
}
