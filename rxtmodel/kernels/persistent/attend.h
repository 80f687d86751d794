// Attention of one query token a row to keys that lie in rows of a slab: a row and kv head a warp.

#pragma once
#include "args.h"
#include "ahead.h"

constexpr int PARTS = HEAD / 32;         // of 16 bytes, that a lane takes of a key or a value
constexpr int UNITS = PIECE / 16;        // of 16 keys
constexpr float NEVER = -1e30f;

// Softmax attention of the queries of a kv head, one to a row of the tensor cores' tile: lanes
// 4 r .. 4 r + 3 hold row r, of which each has eight channels, 8 (lane % 4) and after.
//
// The order of keys is ours to choose, and so is that of channels within a key. They are such that
// a lane reads whole words, no two lanes of a turn the same bank, and nothing has to change lanes:
// of eight keys, column n is key n / 2 + n % 2 * 4; channel 4 g + t is column g of tile t.
struct Softmax {
    float top, total, acc[PARTS][4][4];
    Upper weight[UNITS];   // of keys, sixteen each

    __device__ explicit Softmax(const u32* nothing) : top(NEVER), total(0) {
#pragma unroll
        for (int n = 0; n < UNITS; ++n) weight[n] = Upper(nothing);
#pragma unroll
        for (int i = 0; i < 16 * PARTS; ++i) acc[i / 16][i / 4 % 4][i % 4] = 0;
    }

    // 16 N keys, of which the first ``left`` exist; with WHOLE all do.
    template <int N, bool WHOLE>
    __device__ __forceinline__ void add(
        const Upper (&query)[PARTS][2], const uint4 (&k)[2 * N][PARTS], const uint2 (&v)[4 * N][PARTS],
        int left, float scale
    ) {
        const int part = lane_id() % 4;
        float s[2 * N][4] = {};
        float best = top;
#pragma unroll
        for (int i = 0; i < PARTS; ++i) {
#pragma unroll
            for (int n = 0; n < 2 * N; ++n) query[i][0].times(s[n], k[n][i].x, k[n][i].y);
#pragma unroll
            for (int n = 0; n < 2 * N; ++n) query[i][1].times(s[n], k[n][i].z, k[n][i].w);
        }
#pragma unroll
        for (int n = 0; n < 2 * N; ++n) {
            if (!WHOLE) {
                if (8 * n + part >= left) s[n][0] = NEVER;
                if (8 * n + 4 + part >= left) s[n][1] = NEVER;
            }
            best = fmaxf(best, fmaxf(s[n][0], s[n][1]));
        }
        best = fmaxf(best, __shfl_xor_sync(ALL, best, 1));
        best = fmaxf(best, __shfl_xor_sync(ALL, best, 2));
        const float offset = best * scale;
        if (__any_sync(ALL, best > top)) {
            const float shrink = power_of_two(top * scale - offset);
            total *= shrink;
#pragma unroll
            for (int i = 0; i < 4 * PARTS; ++i) {
                acc[i / 4][i % 4][0] *= shrink;
                acc[i / 4][i % 4][1] *= shrink;
            }
            top = best;
        }
#pragma unroll
        for (int n = 0; n < N; ++n) {
            float e[4];
#pragma unroll
            for (int j = 0; j < 4; ++j)
                e[j] = power_of_two(s[2 * n + j / 2][j % 2] * scale - offset);
            total += (e[0] + e[1]) + (e[2] + e[3]);
            weight[n].a0 = pack(e[0], e[1]), weight[n].a2 = pack(e[2], e[3]);
        }
#pragma unroll
        for (int n = 0; n < N; ++n) {
#pragma unroll
            for (int i = 0; i < PARTS; ++i) {
                uint2 w[4];
#pragma unroll
                for (int j = 0; j < 4; ++j) {
                    w[j] = v[4 * n + j][i];
                    // Whatever lies where there is no key: times nothing it may be no number.
                    if (!WHOLE && 16 * n + 4 * j + part >= left) w[j] = make_uint2(0, 0);
                }
                weight[n].times(acc[i][0], low(w[0].x, w[1].x), low(w[2].x, w[3].x));
                weight[n].times(acc[i][1], high(w[0].x, w[1].x), high(w[2].x, w[3].x));
                weight[n].times(acc[i][2], low(w[0].y, w[1].y), low(w[2].y, w[3].y));
                weight[n].times(acc[i][3], high(w[0].y, w[1].y), high(w[2].y, w[3].y));
            }
        }
    }

    __device__ static u32 low(u32 a, u32 b) { return __byte_perm(a, b, 0x5410); }
    __device__ static u32 high(u32 a, u32 b) { return __byte_perm(a, b, 0x7632); }
};

// All items of a block. KIND 0: to the row's own cache, in which the newest key stands by now; 1:
// to its memory. Queries are [ROWS, HEADS KV * QUERIES, HEAD]; what comes out lies in tiles.
template <int KIND, int KV, int QUERIES>
__device__ void attend(
    const Args& args, const Entry* entries, Pieces& pieces, int first, int layer,
    const half16* queries, u32* out, float scale, const u32* nothing
) {
    constexpr int TILES = KV * QUERIES * HEAD / 16;
    const int lane = lane_id(), line = lane / 4, part = lane % 4;
    for (int item = first; item < ROWS * KV; item += BLOCKS * WARPS) {
        const int row = item / KV, head = item % KV;
        const Entry e = entries[row];
        const bool here = e.row >= 0;
        const int length = !here ? 0 : KIND == 0 ? e.length : SLOTS_OF_MEMORY;
        Upper query[PARTS][2];
        const half16* q_at = queries + ((row * KV + head) * QUERIES + line) * HEAD + 8 * part;
#pragma unroll
        for (int i = 0; i < PARTS; ++i) {
            const uint4 q = line < QUERIES ? *(const uint4*)(q_at + 32 * i) : make_uint4(0, 0, 0, 0);
            query[i][0] = Upper(nothing), query[i][1] = Upper(nothing);
            query[i][0].a0 = q.x, query[i][0].a2 = q.y;
            query[i][1].a0 = q.z, query[i][1].a2 = q.w;
        }
        Softmax softmax(nothing);
        if (KIND == 0 && here) {
            const size_t at = layer * args.layer_stride + e.row * args.row_stride
                + head * args.head_stride + e.length * HEAD;
            uint4 k[2][PARTS] = {};
            uint2 v[4][PARTS] = {};
#pragma unroll
            for (int i = 0; i < PARTS; ++i) {
                if (lane < 4) k[0][i] = *(const uint4*)(args.k + at + 32 * i + 8 * part);
                if (part == 0) v[0][i] = *(const uint2*)(args.v + at + 32 * i + 4 * line);
            }
            softmax.add<1, false>(query, k, v, 1, scale);
        }
        for (int start = 0; start < length; start += PIECE) {
            const char* piece = pieces.take();
            uint4 k[2 * UNITS][PARTS];
            uint2 v[4 * UNITS][PARTS];
#pragma unroll
            for (int n = 0; n < 2 * UNITS; ++n) {
                const int key = 8 * n + line / 2 + line % 2 * 4;
#pragma unroll
                for (int i = 0; i < PARTS; ++i)
                    k[n][i] = ((const uint4*)piece)[(key * PARTS + i) * 4 + part];
            }
#pragma unroll
            for (int n = 0; n < 4 * UNITS; ++n) {
                const int key = 4 * n + part;
#pragma unroll
                for (int i = 0; i < PARTS; ++i)
                    v[n][i] = ((const uint2*)(piece + HALF))[(key * PARTS + i) * 8 + line];
            }
            const int left = length - start;
            if (left >= PIECE) softmax.add<UNITS, true>(query, k, v, left, scale);
            else softmax.add<UNITS, false>(query, k, v, left, scale);
            pieces.give_back();
        }
        const float total = quad_sum(softmax.total), share = total > 0 ? 1.0f / total : 0.0f;
        // Eight channels of query ``line``: half of a tile's row, as four pairs for four lanes.
        if (line < QUERIES) {
#pragma unroll
            for (int i = 0; i < PARTS; ++i) {
                const int column = (head * QUERIES + line) * HEAD + 32 * i + 8 * part;
                const int tile = row / 16 * TILES + column / 16;
                const int word = row % 16 / 8 + 2 * (column % 16 / 8);
                float x[8];
#pragma unroll
                for (int j = 0; j < 8; ++j) x[j] = softmax.acc[i][j % 4][j / 4] * share;
#pragma unroll
                for (int j = 0; j < 4; ++j)
                    out[(tile * 32 + row % 8 * 4 + j) * 4 + word] = pack(x[2 * j], x[2 * j + 1]);
            }
        }
        __syncwarp();
    }
}
