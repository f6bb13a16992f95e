// exp and log whose bits agree between the CPU and the GPU: the same polynomial, the same explicit fused
// multiply-adds, no table, no branch, so that the loops around them vectorise. Both err by less than 1.5
// units in the last place.
#pragma once

#include <cstdint>
#include <cstring>

#include "common/device.h"

namespace popnet {

POPNET_HOST_DEVICE double fused_multiply_add(double a, double b, double c) {
#if defined(__CUDA_ARCH__)
    return __fma_rn(a, b, c);
#else
    return __builtin_fma(a, b, c);
#endif
}

POPNET_HOST_DEVICE int64_t double_bits(double value) {
#if defined(__CUDA_ARCH__)
    return __double_as_longlong(value);
#else
    int64_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    return bits;
#endif
}

POPNET_HOST_DEVICE double bits_double(int64_t bits) {
#if defined(__CUDA_ARCH__)
    return __longlong_as_double(bits);
#else
    double value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
#endif
}

// Adding it rounds a small double to an integer, which then stands in the low bits.
constexpr double kRoundingMagic = 0x1.8p52;

POPNET_HOST_DEVICE int64_t rounded_integer(double with_magic) {
    return double_bits(with_magic) - double_bits(kRoundingMagic);
}

// e^x for x <= 709; below -745.14 it is 0, in between correctly denormal.
// x = n ln 2 + r with |r| <= 0.3466; e^r by its Taylor polynomial of degree 13 (remainder below 2^-57); 2^n
// in two halves.
POPNET_HOST_DEVICE double portable_exp(double x) {
    x = x < -800.0 ? -800.0 : x;
    double with_magic = fused_multiply_add(x, 0x1.71547652b82fep0, kRoundingMagic);
    double n = with_magic - kRoundingMagic;
    double r = fused_multiply_add(-n, 0x1.62e42fefa39efp-1, x);
    r = fused_multiply_add(-n, 0x1.abc9e3b39803fp-56, r);
    double p = 1.0 / 6227020800.0;
    p = fused_multiply_add(p, r, 1.0 / 479001600.0);
    p = fused_multiply_add(p, r, 1.0 / 39916800.0);
    p = fused_multiply_add(p, r, 1.0 / 3628800.0);
    p = fused_multiply_add(p, r, 1.0 / 362880.0);
    p = fused_multiply_add(p, r, 1.0 / 40320.0);
    p = fused_multiply_add(p, r, 1.0 / 5040.0);
    p = fused_multiply_add(p, r, 1.0 / 720.0);
    p = fused_multiply_add(p, r, 1.0 / 120.0);
    p = fused_multiply_add(p, r, 1.0 / 24.0);
    p = fused_multiply_add(p, r, 1.0 / 6.0);
    p = fused_multiply_add(p, r, 0.5);
    p = fused_multiply_add(p, r, 1.0);
    p = fused_multiply_add(p, r, 1.0);
    int64_t exponent = rounded_integer(with_magic);
    int64_t half = rounded_integer(fused_multiply_add(n, 0.5, kRoundingMagic));
    return p * bits_double((half + 1023) << 52) * bits_double((exponent - half + 1023) << 52);
}

// ln x for normal, finite x > 0.
// x = 2^k m with m in [1/sqrt 2, sqrt 2); with f = m - 1 and s = f / (2 + f), ln m = 2 atanh s by its series
// to s^21.
POPNET_HOST_DEVICE double portable_log(double x) {
    int64_t bits = double_bits(x);
    // Adding 1 - 1/sqrt 2 in the exponent's scale carries into the exponent exactly when the mantissa is sqrt
    // 2 or more.
    int64_t shifted = bits + (0x3ff0000000000000 - 0x3fe6a09e667f3bcd);
    int64_t exponent = shifted & static_cast<int64_t>(0xfff0000000000000);
    double m = bits_double(bits - exponent + 0x3ff0000000000000);
    // The biased exponent as a double: placed in the low bits of 2^52.
    double k = bits_double(static_cast<int64_t>(static_cast<uint64_t>(exponent) >> 52) | 0x4330000000000000) -
               (0x1p52 + 1023.0);
    double f = m - 1.0;
    double s = f / (2.0 + f);
    double z = s * s;
    double half_square = 0.5 * f * f;
    double t = 2.0 / 21.0;
    t = fused_multiply_add(t, z, 2.0 / 19.0);
    t = fused_multiply_add(t, z, 2.0 / 17.0);
    t = fused_multiply_add(t, z, 2.0 / 15.0);
    t = fused_multiply_add(t, z, 2.0 / 13.0);
    t = fused_multiply_add(t, z, 2.0 / 11.0);
    t = fused_multiply_add(t, z, 2.0 / 9.0);
    t = fused_multiply_add(t, z, 2.0 / 7.0);
    t = fused_multiply_add(t, z, 2.0 / 5.0);
    t = fused_multiply_add(t, z, 2.0 / 3.0);
    t = t * z;
    // ln m = f - f^2/2 + s (f^2/2 + t), which keeps the digits of a small f.
    double tail = fused_multiply_add(s, half_square + t, k * 0x1.abc9e3b39803fp-56);
    return fused_multiply_add(k, 0x1.62e42fefa39efp-1, f - (half_square - tail));
}

}  // namespace popnet
