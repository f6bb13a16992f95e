// Eight values at a time, in the vector types of GCC and clang: the same source for every instruction set.
#pragma once

#include <cstdint>
#include <cstring>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

namespace popnet {

typedef uint8_t Bytes8 __attribute__((vector_size(8)));
typedef uint8_t Bytes16 __attribute__((vector_size(16)));
typedef uint64_t Words2 __attribute__((vector_size(16)));
typedef int32_t Ints4 __attribute__((vector_size(16)));
typedef int32_t Ints8 __attribute__((vector_size(32)));
typedef uint32_t Bits8 __attribute__((vector_size(32)));
typedef uint16_t Halves8 __attribute__((vector_size(16)));
typedef float Floats8 __attribute__((vector_size(32)));

#if defined(__clang__)
#define POPNET_SHUFFLE(v, ...) __builtin_shufflevector(v, v, __VA_ARGS__)
#else
#define POPNET_SHUFFLE(v, ...) __builtin_shuffle(v, ::popnet::Bytes16{__VA_ARGS__})
#endif

// The first eight bytes, each as an integer of 32 bits.
inline Ints8 widen(Bytes16 bytes) {
#if defined(__AVX2__)  // GCC takes the bytes apart one by one
    return (Ints8)_mm256_cvtepu8_epi32((__m128i)bytes);
#else
    Bytes8 first;
    std::memcpy(&first, &bytes, sizeof first);
    return __builtin_convertvector(first, Ints8);
#endif
}

// Eight bytes from memory; the rest is zero. By way of an integer: a vector that is written in part goes
// through memory.
inline Bytes16 load_eight(const uint8_t* in) {
    uint64_t word;
    std::memcpy(&word, in, sizeof word);
    return (Bytes16)Words2{word, 0};
}

}  // namespace popnet
