// What is done with the sums of a product, while they are in registers.

#pragma once
#include "args.h"
#include "product.h"

constexpr int TILES = WIDTH / 16;

struct Block {
    const Args& args;
    const Entry* entries;
    int group, index;
    uint4* x;
    float* sums;
    half16* queries;
    uint4 *mixed, *inner;
    float4* stream;      // float32 residual of this block's units
    volatile int* attentions;
    const u32* nothing;

    __device__ int row(int m, int half) const { return 16 * m + 8 * half + lane_id() / 4; }
};

// What RMSNorm multiplies the two rows of a lane with.
struct Norm {
    float part[2][TILES / 4], scale[2];

    __device__ __forceinline__ void ask(const Block& b, int m) {
#pragma unroll
        for (int i = 0; i < TILES / 2; ++i) {
            const int half = i % 2, tile = i / 2 * 4 + lane_id() % 4;
            part[half][i / 2] = b.sums[b.row(m, half) * TILES + tile];
        }
    }
    __device__ __forceinline__ void take(const Block& b) {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            float sum = 0;
#pragma unroll
            for (int i = 0; i < TILES / 4; ++i) sum += part[half][i];
            scale[half] = rsqrtf(quad_sum(sum) / WIDTH + b.args.eps);
        }
    }
};

// The residual stream: an m x n tile of it belongs to one block from the first layer to the last.
struct Stream {
    Block& b;
    const float* bias;
    float2 offset[Out::WIDE][2];

    __device__ float4* place(int unit, int m) const {
        constexpr int M = Out::M;
        return b.stream + ((unit - b.index) / BLOCKS * M + m % M) * 64 * Out::WIDE + lane_id();
    }
    __device__ void ask(int, int first, bool) {
        const float2* from = (const float2*)(bias + 16 * first) + lane_id() % 4;
#pragma unroll
        for (int n = 0; n < 2 * Out::WIDE; ++n) offset[n / 2][n % 2] = from[4 * n];
    }
    __device__ void take(int unit, int m, int first, const float (&acc)[Out::WIDE][2][4]) {
        const float4* at = place(unit, m);
        float x[Out::WIDE][2][4];
#pragma unroll
        for (int n = 0; n < 2 * Out::WIDE; ++n) {
            const float4 before = at[32 * n];
            const float2 o = offset[n / 2][n % 2];
            const float(&a)[4] = acc[n / 2][n % 2];
            float(&to)[4] = x[n / 2][n % 2];
            to[0] = before.x + (a[0] + o.x), to[1] = before.y + (a[1] + o.y);
            to[2] = before.z + (a[2] + o.x), to[3] = before.w + (a[3] + o.y);
        }
        leave(unit, m, first, x);
    }
    __device__ void leave(int unit, int m, int first, const float (&x)[Out::WIDE][2][4]) {
        float4* at = place(unit, m);
#pragma unroll
        for (int n = 0; n < Out::WIDE; ++n) {
            const float(&one)[4] = x[n][0], (&two)[4] = x[n][1];
            at[64 * n] = make_float4(one[0], one[1], one[2], one[3]);
            at[64 * n + 32] = make_float4(two[0], two[1], two[2], two[3]);
            b.x[(m * TILES + first + n) * 32 + lane_id()] = make_uint4(
                pack(one[0], one[1]), pack(one[2], one[3]),
                pack(two[0], two[1]), pack(two[2], two[3]));
            float upper = one[0] * one[0] + one[1] * one[1] + two[0] * two[0] + two[1] * two[1];
            float lower = one[2] * one[2] + one[3] * one[3] + two[2] * two[2] + two[3] * two[3];
            upper = quad_sum(upper), lower = quad_sum(lower);
            if (lane_id() % 4 == 0) {
                b.sums[b.row(m, 0) * TILES + first + n] = upper;
                b.sums[b.row(m, 1) * TILES + first + n] = lower;
            }
        }
    }
    __device__ void embed() {
        const int warp = warp_id();
        if (warp >= Out::M * Out::GROUPS) return;
        for (int unit = b.index; unit < Out::UNITS; unit += BLOCKS) {
            const int m = unit % Out::ROW_PARTS * Out::M + warp % Out::M;
            const int first = unit / Out::ROW_PARTS * Out::COLUMNS;
            float x[Out::WIDE][2][4];
#pragma unroll
            for (int half = 0; half < 2; ++half) {
                const size_t token = b.entries[b.row(m, half)].token;
                const u32* from = (const u32*)(b.args.table + token * WIDTH + 16 * first) + lane_id() % 4;
#pragma unroll
                for (int n = 0; n < 2 * Out::WIDE; ++n) {
                    float(&to)[4] = x[n / 2][n % 2];
                    unpack(from[4 * n], to[2 * half], to[2 * half + 1]);
                }
            }
            leave(unit, m, first, x);
        }
    }
};

// Queries, and of a layer's own attention keys and values (KEYS columns each, else none).
template <class S, int QUERIES, int KEYS>
struct Project {
    Block& b;
    int layer;
    Norm norm;
    float2 turn[2][2 * S::WIDE];   // cosine and sine: of halves of rows, of eights of columns

    __device__ void ask(int m, int first, bool) {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            const int pos = b.entries[b.row(m, half)].length;
#pragma unroll
            for (int n = 0; n < 2 * S::WIDE; ++n) {
                const int column = 16 * first + 8 * n;
                if (column >= QUERIES + KEYS) continue;
                const float* at = b.args.rope + pos * (HEAD / 2) + column % HEAD / 2 + lane_id() % 4;
                turn[half][n] = make_float2(at[0], at[b.args.rope_stride]);
            }
        }
        norm.ask(b, m);
    }
    __device__ void take(int, int m, int first, const float (&acc)[S::WIDE][2][4]) {
        norm.take(b);
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            const int row = b.row(m, half);
            const Entry e = b.entries[row];
            const size_t newest = layer * b.args.layer_stride + e.row * b.args.row_stride
                + e.length * HEAD;
#pragma unroll
            for (int n = 0; n < 2 * S::WIDE; ++n) {
                const int eight = 16 * first + 8 * n, column = eight + lane_id() % 4 * 2;
                float even = acc[n / 2][n % 2][2 * half] * norm.scale[half];
                float odd = acc[n / 2][n % 2][2 * half + 1] * norm.scale[half];
                if (eight < QUERIES + KEYS) {
                    const float2 t = turn[half][n];
                    const float turned = even * t.x - odd * t.y;
                    odd = even * t.y + odd * t.x;
                    even = turned;
                }
                const u32 both = pack(even, odd);
                if (eight < QUERIES) {
                    *(u32*)(b.queries + row * QUERIES + column) = both;
                } else if (e.row >= 0) {
                    const int inside = (column - QUERIES) % (KEYS ? KEYS : 1);
                    const size_t at = newest + inside / HEAD * b.args.head_stride + inside % HEAD;
                    *(u32*)((eight < QUERIES + KEYS ? b.args.k : b.args.v) + at) = both;
                }
            }
        }
    }
};

// Tiles hold eight outputs of the gate and the same eight of what it is multiplied with.
struct GateUp {
    Block& b;
    const float* bias;
    Norm norm;
    float2 gate_bias[Wide::WIDE], up_bias[Wide::WIDE];

    __device__ void ask(int m, int first, bool) {
        norm.ask(b, m);
#pragma unroll
        for (int n = 0; n < Wide::WIDE; ++n) {
            const float* at = bias + 8 * (first + n) + lane_id() % 4 * 2;
            gate_bias[n] = *(const float2*)at, up_bias[n] = *(const float2*)(at + INNER);
        }
    }
    __device__ void take(int, int m, int first, const float (&acc)[Wide::WIDE][2][4]) {
        norm.take(b);
#pragma unroll
        for (int n = 0; n < Wide::WIDE; ++n) {
            u32 out[2];
#pragma unroll
            for (int half = 0; half < 2; ++half) {
                const float s = norm.scale[half];
                const float(&g)[4] = acc[n][0], (&u)[4] = acc[n][1];
                out[half] = pack(
                    gated(g[2 * half] * s + gate_bias[n].x, u[2 * half] * s + up_bias[n].x),
                    gated(g[2 * half + 1] * s + gate_bias[n].y, u[2 * half + 1] * s + up_bias[n].y));
            }
            const int tile = (first + n) / 2;
            uint2* at = (uint2*)(b.inner + (m * (INNER / 16) + tile) * 32 + lane_id());
            at[(first + n) % 2] = make_uint2(out[0], out[1]);
        }
    }
    __device__ static float gated(float gate, float up) {
        return __fdividef(gate, 1.0f + __expf(-gate)) * up;
    }
};

struct Logits {
    Block& b;
    const float* bias;
    Norm norm;
    float2 offset[2 * Head::WIDE];
    bool known = false;

    __device__ void ask(int m, int first, bool again) {
#pragma unroll
        for (int n = 0; n < 2 * Head::WIDE; ++n)
            offset[n] = ((const float2*)(bias + 16 * first + 8 * n))[lane_id() % 4];
        known = again;
        if (FINAL_NORM && !again) norm.ask(b, m);
    }
    __device__ void take(int, int m, int first, const float (&acc)[Head::WIDE][2][4]) {
        if (FINAL_NORM && !known) norm.take(b);
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            const int row = b.group * ROWS + b.row(m, half);
            if (row >= b.args.count) continue;
            const float scale = FINAL_NORM ? norm.scale[half] : 1.0f;
            float* to = b.args.logits + (size_t)row * VOCAB;
#pragma unroll
            for (int n = 0; n < 2 * Head::WIDE; ++n) {
                const int column = 16 * first + 8 * n + lane_id() % 4 * 2;
                const float(&a)[4] = acc[n / 2][n % 2];
                const float x = a[2 * half] * scale + offset[n].x;
                const float y = a[2 * half + 1] * scale + offset[n].y;
                if (VOCAB % 2 == 0) {
                    if (column < VOCAB) *(float2*)(to + column) = make_float2(x, y);
                } else {
                    if (column < VOCAB) to[column] = x;
                    if (column + 1 < VOCAB) to[column + 1] = y;
                }
            }
        }
    }
};
