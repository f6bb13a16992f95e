// The few floating-point primitives whose bits must agree between the CPU and the GPU.
//
// Compiled with contraction off on both sides, so a fused multiply-add happens where it is written and
// nowhere else.
#pragma once

#include <cstdint>
#include <cstring>

#include "common/device.h"

#if defined(__CUDACC__)
#include <cuda_fp16.h>
#endif

namespace popnet {

// bfloat16 as it lies in memory.
struct BFloat16 {
    uint16_t bits;
};

// IEEE half precision as it lies in memory.
struct Float16 {
    uint16_t bits;
};

// The element types of tensors; most kernels take the first two alone.
enum class FloatType { FLOAT32, BFLOAT16, FLOAT16, FLOAT64 };

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

template <>
POPNET_HOST_DEVICE Float16 round_to<Float16>(float value) {
#if defined(__CUDA_ARCH__)
    return Float16{__half_as_ushort(__float2half_rn(value))};
#else
    uint32_t sign = float_bits(value) >> 16 & 0x8000u, size = float_bits(value) & 0x7fffffffu;
    if (size >= 0x477ff000u) return Float16{static_cast<uint16_t>(sign | 0x7c00u)};  // rounds to infinity
    if (size < 0x38800000u) {  // a multiple of 2^-24: adding 2^23 rounds to an integer
        float scaled = bits_float(size) * 0x1p24f + 0x1p23f;
        return Float16{static_cast<uint16_t>(sign | (float_bits(scaled) - 0x4b000000u))};
    }
    size += 0xfffu + (size >> 13 & 1u);
    return Float16{static_cast<uint16_t>(sign | (size - (112u << 23)) >> 13)};
#endif
}

// The value of an element, exactly.
POPNET_HOST_DEVICE double widen(double value) {
    return value;
}

POPNET_HOST_DEVICE float widen(float value) {
    return value;
}

POPNET_HOST_DEVICE float widen(BFloat16 value) {
    return bits_float(static_cast<uint32_t>(value.bits) << 16);
}

POPNET_HOST_DEVICE float widen(Float16 value) {
#if defined(__CUDA_ARCH__)
    return __half2float(__ushort_as_half(value.bits));
#else
    uint32_t sign = (value.bits & 0x8000u) << 16, size = value.bits & 0x7fffu;
    if (size >= 0x7c00u) return bits_float(sign | 0x7f800000u | (size & 0x3ffu) << 13);
    if (size < 0x400u) return bits_float(sign | float_bits(static_cast<float>(size) * 0x1p-24f));
    return bits_float(sign | ((size << 13) + (112u << 23)));
#endif
}

// Rounds to the nearest value of type T, ties to even; a NaN stays one, whatever its bits.
template <typename T>
POPNET_HOST_DEVICE T narrow(float value) {
    return round_to<T>(value);
}

template <>
POPNET_HOST_DEVICE BFloat16 narrow<BFloat16>(float value) {
    return value == value ? round_to<BFloat16>(value) : BFloat16{0x7fc0};
}

template <>
POPNET_HOST_DEVICE Float16 narrow<Float16>(float value) {
    return value == value ? round_to<Float16>(value) : Float16{0x7e00};
}

template <typename T>
POPNET_HOST_DEVICE T narrow(double value) {
    return value;
}

}  // namespace popnet
