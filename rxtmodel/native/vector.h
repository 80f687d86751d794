/* As many floats at a time as a register of the processor holds, by the vector extensions of GCC and
 * Clang: 16 with AVX-512, 8 with AVX, 4 otherwise. (Wider types than registers compile to code that
 * keeps them in memory: ten times as slow.) Each sum is taken in one order, so that a result does not
 * depend on what else is computed beside it. */
#pragma once

#ifdef __AVX__
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__AVX512F__)
#define LANES 16
#elif defined(__AVX__)
#define LANES 8
#else
#define LANES 4
#endif
/* Sizes of arrays are multiples of this, whatever the processor. */
#define PANEL 16
#define PADDED(n) (((size_t)(n) + PANEL - 1) / PANEL * PANEL)
#define INLINE static inline __attribute__((always_inline))

typedef float vec __attribute__((vector_size(4 * LANES)));
typedef int32_t ivec __attribute__((vector_size(4 * LANES)));

INLINE vec load(const float *at)
{
    vec v;
    memcpy(&v, at, sizeof v);
    return v;
}

INLINE void store(float *at, vec v) { memcpy(at, &v, sizeof v); }

INLINE vec splat(float x) { return x - (vec){0}; }

/* a * b + c, rounded once: compilers may, but need not, do so everywhere where it is left to them. */
INLINE vec multiply_add(vec a, vec b, vec c)
{
#if defined(__AVX512F__)
    return (vec)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#elif defined(__AVX__) && defined(__FMA__)
    return (vec)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#elif defined(__aarch64__)
    return (vec)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b);
#else
    return a * b + c;
#endif
}

INLINE ivec load_ints(const void *at)
{
    ivec v;
    memcpy(&v, at, sizeof v);
    return v;
}

/* Byte ``j`` of each word, with its sign. */
INLINE vec byte_of(ivec words, int j)
{
    return __builtin_convertvector((words << (24 - 8 * j)) >> 24, vec);
}

/* The halves are added until one number is left. */
INLINE float total(vec v)
{
    float x[LANES];
#if LANES > 4
    typedef float vec4 __attribute__((vector_size(16)));
    vec4 part[LANES / 4];
    memcpy(part, &v, sizeof v);
#pragma GCC unroll 4
    for (int half = LANES / 8; half; half /= 2)
#pragma GCC unroll 4
        for (int i = 0; i < half; i++) part[i] += part[i + half];
    memcpy(x, part, sizeof *part);
#else
    memcpy(x, &v, sizeof v);
#endif
    return (x[0] + x[2]) + (x[1] + x[3]);
}

/* Of two vectors, end to end, every other run of ``half`` lanes: the first ones, or ``from`` them. */
#define LANE(j, half, from) ((j) / (half) * 2 * (half) + (j) % (half) + (from))
#define RUN(j, half, from)                                                                       \
    LANE(j, half, from), LANE(j + 1, half, from), LANE(j + 2, half, from), LANE(j + 3, half, from)
#if LANES == 16
#define RUNS(half, from)                                                                         \
    RUN(0, half, from), RUN(4, half, from), RUN(8, half, from), RUN(12, half, from)
#elif LANES == 8
#define RUNS(half, from) RUN(0, half, from), RUN(4, half, from)
#else
#define RUNS(half, from) RUN(0, half, from)
#endif
#if defined(__clang__) || __GNUC__ >= 12
#define PICK(a, b, half, from) __builtin_shufflevector(a, b, RUNS(half, from))
#else
#define PICK(a, b, half, from) __builtin_shuffle(a, b, (ivec){RUNS(half, from)})
#endif
#define HALVE(half)                                                                              \
    for (int i = 0; i < half; i++)                                                               \
        v[i] = PICK(v[2 * i], v[2 * i + 1], half, 0) + PICK(v[2 * i], v[2 * i + 1], half, half)

/* ``total`` of each of LANES vectors, in its lane, by the same sums. What is in ``v`` is lost. */
INLINE vec totals(vec *v)
{
#if LANES > 8
#pragma GCC unroll 8
    HALVE(8);
#endif
#if LANES > 4
#pragma GCC unroll 4
    HALVE(4);
#endif
#pragma GCC unroll 2
    HALVE(2);
    HALVE(1);
    return v[0];
}

INLINE vec choose(ivec mask, vec yes, vec no)
{
    return (vec)((mask & (ivec)yes) | (~mask & (ivec)no));
}

/* The second where the first is no number. */
INLINE vec larger(vec a, vec b) { return choose(a > b, a, b); }

INLINE float largest_of(vec v)
{
    float x[LANES];
    store(x, v);
#pragma GCC unroll 4
    for (int half = LANES / 2; half; half /= 2)
#pragma GCC unroll 8
        for (int i = 0; i < half; i++) x[i] = x[i + half] > x[i] ? x[i + half] : x[i];
    return x[0];
}

/* e^x to 2 units in the last place, 0 below -87 and e^88 above 88; NaN stays NaN. */
INLINE vec exponential(vec x)
{
    const vec low = splat(-87.0f), high = splat(88.0f);
    const ivec tiny = x < low;
    x = choose(tiny, low, choose(x > high, high, x));
    const vec magic = splat(12582912.0f); /* 1.5 * 2^23: adding it rounds to a whole number */
    const vec shifted = x * 1.44269504088896341f + magic;
    const vec n = shifted - magic;
    const vec r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
    vec p = splat(1.9875691500e-4f);
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = (p * r) * r + (r + 1.0f);
    const ivec exponent = (ivec)shifted << 23; /* what magic holds above is shifted out */
    return choose(tiny, splat(0.0f), (vec)((ivec)p + exponent));
}

INLINE vec silu(vec x) { return x / (exponential(-x) + 1.0f); }
