/* Sixteen floats at a time, by the vector extensions of GCC and Clang: one instruction where the
 * processor has AVX-512, two with AVX2, four with NEON. Sums are taken in a fixed order whatever the
 * processor, so that a result does not depend on what else is computed beside it. */
#pragma once

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define LANES 16
#define INLINE static inline __attribute__((always_inline))

typedef float vec __attribute__((vector_size(64)));
typedef float vec8 __attribute__((vector_size(32)));
typedef float vec4 __attribute__((vector_size(16)));
typedef int32_t ivec __attribute__((vector_size(64)));

INLINE vec load(const float *at)
{
    vec v;
    memcpy(&v, at, sizeof v);
    return v;
}

INLINE void store(float *at, vec v) { memcpy(at, &v, sizeof v); }

INLINE vec splat(float x) { return x - (vec){0}; }

INLINE ivec load_ints(const void *at)
{
    ivec v;
    memcpy(&v, at, sizeof v);
    return v;
}

/* Byte ``j`` of each of sixteen words, with its sign. */
INLINE vec byte_of(ivec words, int j)
{
    return __builtin_convertvector((words << (24 - 8 * j)) >> 24, vec);
}

INLINE float total(vec v)
{
    vec8 a, b;
    memcpy(&a, &v, sizeof a);
    memcpy(&b, (const char *)&v + sizeof a, sizeof b);
    a += b;
    vec4 c, d;
    memcpy(&c, &a, sizeof c);
    memcpy(&d, (const char *)&a + sizeof c, sizeof d);
    c += d;
    return (c[0] + c[2]) + (c[1] + c[3]);
}

INLINE vec choose(ivec mask, vec yes, vec no)
{
    return (vec)((mask & (ivec)yes) | (~mask & (ivec)no));
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
