// How the blocks of a group wait for each other.

#pragma once
#include "base.h"

constexpr long long PATIENCE = 200000;   // cycles

// All blocks of a group: what any wrote before, each may read after. A warp of its own tells the
// others and listens to them: a fence of a thread waits for all copies that it has asked for.
struct Meeting {
    int* arrived;

    // Of the warps that compute.
    __device__ static void sync() {
        asm volatile("bar.arrive 2, %0;" :: "n"(32 * (WARPS + 1)) : "memory");
        asm volatile("bar.sync 3, %0;" :: "n"(32 * (WARPS + 1)) : "memory");
    }

    // Of the warp that tells; as often as the others meet. Then the last block to leave makes the
    // place as it was for the next step.
    __device__ void serve(int times) {
        for (int due = BLOCKS; times > 0; --times, due += BLOCKS) {
            asm volatile("bar.sync 2, %0;" :: "n"(32 * (WARPS + 1)) : "memory");
            if (lane_id() == 0) {
                asm volatile("red.release.gpu.global.add.s32 [%0], 1;" :: "l"(arrived) : "memory");
                int seen;
                do {
                    asm volatile("ld.acquire.gpu.global.s32 %0, [%1];"
                                 : "=r"(seen) : "l"(arrived) : "memory");
                } while (seen < due);
            }
            __syncwarp();
            asm volatile("bar.arrive 3, %0;" :: "n"(32 * (WARPS + 1)) : "memory");
        }
        if (lane_id() == 0 && atomicAdd(arrived + 1, 1) == BLOCKS - 1) {
            arrived[0] = 0;
            arrived[1] = 0;
        }
    }

    // A group waits until another group's blocks have met ``times`` times, or it takes too long.
    __device__ static void follow(const int* others, int times) {
        if (threadIdx.x == 0) {
            const long long began = clock64();
            int seen;
            do {
                asm volatile("ld.relaxed.gpu.global.s32 %0, [%1];"
                             : "=r"(seen) : "l"(others) : "memory");
            } while (seen < times * BLOCKS && clock64() - began < PATIENCE);
        }
        block_sync();
    }
};
