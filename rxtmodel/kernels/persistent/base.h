// What every part of the step needs: numbers, tensor cores, copies that announce their end.
// Sizes (WARPS, BLOCKS, ROW_TILES and the like) are the host's; see ``rxtmodel.engine.persistent``.
//
// Rows of activations lie as tensor cores read them: in tiles of 16 rows and 16 channels, 512 bytes
// each, in which the 16 bytes of lane l stand at 16 l. Matrices lie likewise in tiles of 16 outputs.

#pragma once

typedef unsigned int u32;
typedef unsigned long long u64;

constexpr int WEIGHTS = WARPS;           // after those that compute: the one that fetches weights,
constexpr int HERALD = WARPS + 1;        // the one that tells other blocks how far this one is,
constexpr int READER = WARPS + 2;        // and the one that fetches what attention reads
constexpr int ROWS = 16 * ROW_TILES;     // of a group
constexpr u32 ALL = 0xffffffffu;

__device__ __forceinline__ u32 lane_id() { return threadIdx.x & 31; }
__device__ __forceinline__ u32 warp_id() { return threadIdx.x >> 5; }

struct __align__(2) half16 { unsigned short bits; };

// Two numbers of sixteen bits, the first in the low half.
__device__ __forceinline__ u32 pack(float low, float high) {
    u32 both;
#if BFLOAT
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(high), "f"(low));
#else
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(high), "f"(low));
#endif
    return both;
}

__device__ __forceinline__ void unpack(u32 both, float& low, float& high) {
#if BFLOAT
    low = __uint_as_float(both << 16);
    high = __uint_as_float(both & 0xffff0000u);
#else
    asm("{.reg .b16 l, h; mov.b32 {l, h}, %2; cvt.f32.f16 %0, l; cvt.f32.f16 %1, h;}"
        : "=f"(low), "=f"(high) : "r"(both));
#endif
}

// acc [16 x 8] += a [16 x 16] @ b [16 x 8].
__device__ __forceinline__ void multiply_add(
    float (&acc)[4], u32 a0, u32 a1, u32 a2, u32 a3, u32 b0, u32 b1
) {
#if BFLOAT
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
#else
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
#endif
        "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(acc[0]), "+f"(acc[1]), "+f"(acc[2]), "+f"(acc[3])
        : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}

__device__ __forceinline__ u32 shared_address(const void* p) {
    return (u32)__cvta_generic_to_shared(p);
}

// The left side of ``multiply_add`` with rows 8 to 15 empty. ``nothing`` is a zero in shared memory
// that the compiler knows nothing about: else it would write zeros again for every product.
struct Upper {
    u32 a0, a1, a2, a3;

    Upper() = default;
    __device__ explicit Upper(const u32* nothing) : a0(0), a2(0) {
        const u32 at = shared_address(nothing);
        asm volatile("ld.volatile.shared.u32 %0, [%1];" : "=r"(a1) : "r"(at));
        asm volatile("ld.volatile.shared.u32 %0, [%1];" : "=r"(a3) : "r"(at));
    }
    __device__ __forceinline__ void times(float (&acc)[4], u32 b0, u32 b1) const {
        multiply_add(acc, a0, a1, a2, a3, b0, b1);
    }
};

__device__ __forceinline__ float power_of_two(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

__device__ __forceinline__ float quad_sum(float x) {
    x += __shfl_xor_sync(ALL, x, 1);
    return x + __shfl_xor_sync(ALL, x, 2);
}

__device__ __forceinline__ void barrier_init(u64* barrier, u32 arrivals) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;"
                 :: "r"(shared_address(barrier)), "r"(arrivals) : "memory");
}

__device__ __forceinline__ void barrier_expect(u64* barrier, u32 bytes) {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;"
                 :: "r"(shared_address(barrier)), "r"(bytes) : "memory");
}

__device__ __forceinline__ void barrier_arrive(u64* barrier) {
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];"
                 :: "r"(shared_address(barrier)) : "memory");
}

__device__ __forceinline__ void barrier_wait(u64* barrier, u32 parity) {
    asm volatile(
        "{\n.reg .pred done;\n"
        "again:\n"
        "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
        "@done bra over;\n"
        "bra again;\n"
        "over:\n}"
        :: "r"(shared_address(barrier)), "r"(parity) : "memory");
}

__device__ __forceinline__ bool barrier_passed(u64* barrier, u32 parity) {
    u32 passed;
    asm volatile(
        "{\n.reg .pred done;\n"
        "mbarrier.test_wait.parity.shared::cta.b64 done, [%1], %2;\n"
        "selp.u32 %0, 1, 0, done;\n}"
        : "=r"(passed) : "r"(shared_address(barrier)), "r"(parity) : "memory");
    return passed;
}

// Bring bytes to shared memory; the barrier sees them arrive. One thread asks for all of them.
__device__ __forceinline__ void fetch(void* to, const void* from, u32 bytes, u64* barrier, u64 policy) {
    asm volatile(
        "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint "
        "[%0], [%1], %2, [%3], %4;"
        :: "r"(shared_address(to)), "l"(from), "r"(bytes), "r"(shared_address(barrier)), "l"(policy)
        : "memory");
}

// What this thread has read of shared memory, it has read before a copy that is asked for next
// writes there. Without it a step of 256 rows had wrong bits now and then.
__device__ __forceinline__ void reads_done() {
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

// Bytes that are read once a step must not drive weights out of the second cache.
__device__ __forceinline__ u64 read_once() {
    u64 policy;
    asm("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(policy));
    return policy;
}

__device__ __forceinline__ u64 read_again() {
    u64 policy;
    asm("createpolicy.fractional.L2::evict_last.b64 %0, 1.0;" : "=l"(policy));
    return policy;
}

// Warps that compute, of one block.
__device__ __forceinline__ void block_sync() {
    asm volatile("bar.sync 1, %0;" :: "n"(32 * WARPS) : "memory");
}
