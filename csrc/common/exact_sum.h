// An exact sum of doubles, whatever their order: a fixed-point number that covers every double (a
// superaccumulator; Kulisch). Limb k holds a signed multiple of 2^(32 k - 1074); limbs overlap by 31 bits, so
// 2^31 numbers can be added before a carry is due. Sums are merged by adding limbs.
#pragma once

#include <cstdint>

#include "common/device.h"
#include "common/portable_math.h"

namespace popnet {

constexpr int kExactLimbs = 68;

// What a finite double adds to limbs `limb`, `limb` + 1 and `limb` + 2.
struct ExactParts {
    int limb;
    int64_t part[3];
};

POPNET_HOST_DEVICE ExactParts exact_parts(double value) {
    int64_t bits = double_bits(value);
    int64_t exponent = (bits >> 52) & 0x7ff;
    uint64_t mantissa = static_cast<uint64_t>(bits) & 0xfffffffffffffu;
    if (exponent > 0) {
        mantissa |= uint64_t{1} << 52;
        exponent -= 1;
    }
    int shift = static_cast<int>(exponent & 31);
    uint64_t low = (mantissa & 0xffffffffu) << shift, high = (mantissa >> 32)
                                                             << shift;  // below 2^63 and 2^52
    high += low >> 32;
    int64_t sign = bits < 0 ? -1 : 1;
    return {static_cast<int>(exponent >> 5),
            {sign * static_cast<int64_t>(low & 0xffffffffu), sign * static_cast<int64_t>(high & 0xffffffffu),
             sign * static_cast<int64_t>(high >> 32)}};
}

inline void exact_add(int64_t* limbs, double value) {
    ExactParts parts = exact_parts(value);
    for (int i = 0; i < 3; ++i) limbs[parts.limb + i] += parts.part[i];
}

// The double nearest to the sum, ties to even; the limbs are left normalised, the sum unchanged up to sign.
inline double exact_value(int64_t* limbs) {
    auto carry = [limbs] {
        for (int k = 0; k + 1 < kExactLimbs; ++k) {
            limbs[k + 1] += limbs[k] >> 32;
            limbs[k] &= 0xffffffff;
        }
    };
    carry();
    bool negative = limbs[kExactLimbs - 1] < 0;
    if (negative) {
        for (int k = 0; k < kExactLimbs; ++k) limbs[k] = -limbs[k];
        carry();
    }
    int top = kExactLimbs - 1;
    while (top > 0 && limbs[top] == 0) --top;
    // The sum is `head` * 2^(32 (top - 2) - 1074) plus what is below, which only matters as zero or not.
    unsigned __int128 head = 0;
    for (int k = top; k > top - 3; --k) head = head << 32 | static_cast<uint64_t>(k >= 0 ? limbs[k] : 0);
    bool rest = false;
    for (int k = 0; k < top - 2; ++k) rest = rest || limbs[k] != 0;
    int drop = 0;
    while (head >> drop >> 53) ++drop;
    int scale = 32 * (top - 2) - 1074 + drop;
    if (scale < -1074) {  // a denormal or small result: every bit of it is a multiple of 2^-1074
        drop += -1074 - scale;
        scale = -1074;
    }
    uint64_t mantissa = static_cast<uint64_t>(head >> drop);
    unsigned __int128 below = head - (static_cast<unsigned __int128>(mantissa) << drop);
    unsigned __int128 half = drop > 0 ? static_cast<unsigned __int128>(1) << (drop - 1) : 0;
    if (drop > 0 && (below > half || (below == half && (rest || (mantissa & 1))))) ++mantissa;
    double result = __builtin_ldexp(static_cast<double>(mantissa), scale);
    return negative ? -result : result;
}

}  // namespace popnet
