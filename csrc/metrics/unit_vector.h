// The arithmetic of one value of a normalised vector, for both sides.
#pragma once

#include <cmath>
#include <cstdint>

#include "common/device.h"

namespace popnet {

constexpr int kPearsonLanes = 256;

// An unsigned integer that orders as the float does; -0 and 0 are one.
POPNET_HOST_DEVICE uint32_t sort_key(float value) {
    value = value + 0.0f;  // -0 becomes 0
#if defined(__CUDA_ARCH__)
    uint32_t bits = __float_as_uint(value);
#else
    uint32_t bits;
    __builtin_memcpy(&bits, &value, sizeof bits);
#endif
    return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

// The centred doubled average rank of the run of equal values at sorted places first .. end-1, of `values`.
POPNET_HOST_DEVICE int64_t centred_rank(int64_t first, int64_t end, int64_t values) {
    return first + end - values;
}

// component / norm in units of 2^-62, to the nearest integer, ties to even; |component| <= norm.
POPNET_HOST_DEVICE int64_t unit_component(double component, double norm) {
    return static_cast<int64_t>(rint(component / norm * 0x1p62));
}

// The double nearest to high * 2^64 + low, ties to even.
POPNET_HOST_DEVICE double nearest_double(uint64_t high, uint64_t low) {
    if (high == 0 && low >> 53 == 0) return static_cast<double>(low);
    int drop = 0;
    uint64_t mantissa = high, rest = low;  // after the loop: the number is mantissa * 2^drop + lost bits
    if (high == 0) {
        mantissa = low;
        rest = 0;
    } else {
        drop = 64;
        while (mantissa >> 63 == 0 && drop > 0) {
            mantissa = mantissa << 1 | rest >> 63;
            rest <<= 1;
            --drop;
        }
    }
    // Keep 54 bits and more: one below the last place, the others folded into a sticky bit, then one
    // rounding.
    int extra = 0;
    while (mantissa >> extra >> 55) ++extra;
    uint64_t sticky = (rest != 0 || (mantissa & ((uint64_t{1} << extra) - 1)) != 0) ? 1 : 0;
    uint64_t kept = mantissa >> extra | sticky;  // at most 55 bits: its conversion rounds once
    return ldexp(static_cast<double>(kept), drop + extra);
}

}  // namespace popnet
