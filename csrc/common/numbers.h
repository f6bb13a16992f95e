// The few floating-point primitives whose bits must agree between the CPU and the GPU.
//
// Compiled with contraction off on both sides, so a fused multiply-add happens where it is written and
// nowhere else.
#pragma once

#include <cstdint>
#include <cstring>

#include "common/device.h"

namespace popnet {

// bfloat16 as it lies in memory.
struct BFloat16 {
    uint16_t bits;
};

// The element types that kernels write.
enum class FloatType { FLOAT32, BFLOAT16 };

// a * b + c, rounded once.
POPNET_HOST_DEVICE float fused_multiply_add(float a, float b, float c) {
#if defined(__CUDA_ARCH__)
    return __fmaf_rn(a, b, c);
#else
    return __builtin_fmaf(a, b, c);
#endif
}

POPNET_HOST_DEVICE uint32_t float_bits(float value) {
#if defined(__CUDA_ARCH__)
    return __float_as_uint(value);
#else
    uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    return bits;
#endif
}

POPNET_HOST_DEVICE float bits_float(uint32_t bits) {
#if defined(__CUDA_ARCH__)
    return __uint_as_float(bits);
#else
    float value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
#endif
}

// Rounds a float32 that is no NaN to the nearest value of type T, ties to even.
template <typename T>
POPNET_HOST_DEVICE T round_to(float value);

template <>
POPNET_HOST_DEVICE float round_to<float>(float value) {
    return value;
}

template <>
POPNET_HOST_DEVICE BFloat16 round_to<BFloat16>(float value) {
    uint32_t bits = float_bits(value);
    return BFloat16{static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16)};
}

}  // namespace popnet
