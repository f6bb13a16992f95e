// sigmoid and tanh whose bits agree between the CPU and the GPU, without table or branch, so that the loops
// around them vectorise. In float both err by less than 3 units in the last place, in double by less than
// 1e-15; a NaN stays one.
#pragma once

#include "common/numbers.h"
#include "common/portable_math.h"

namespace popnet {

// e^x - 1 = scale * tail + (scale - 1) and e^x = scale * tail + scale.
struct FloatExp {
    float scale, tail;
};

// x = n ln 2 + r with |r| <= 0.3466; tail = e^r - 1 by its Taylor polynomial of degree 7 (remainder below
// 2^-27 of it); scale = 2^n. x is brought to -87 .. 88 first.
POPNET_HOST_DEVICE FloatExp float_exp(float x) {
    x = x < -87.0f ? -87.0f : x;
    x = x > 88.0f ? 88.0f : x;
    constexpr float magic = 0x1.8p23f;  // adding it rounds to an integer, which then stands in the low bits
    float with_magic = fused_multiply_add(x, 0x1.715476p0f, magic);
    float n = with_magic - magic;
    float r = fused_multiply_add(-n, 0x1.62e4p-1f, x);
    r = fused_multiply_add(-n, 0x1.7f7d1cp-20f, r);
    float p = 1.0f / 5040.0f;
    p = fused_multiply_add(p, r, 1.0f / 720.0f);
    p = fused_multiply_add(p, r, 1.0f / 120.0f);
    p = fused_multiply_add(p, r, 1.0f / 24.0f);
    p = fused_multiply_add(p, r, 1.0f / 6.0f);
    p = fused_multiply_add(p, r, 0.5f);
    p = fused_multiply_add(p, r * r, r);
    return FloatExp{bits_float((float_bits(with_magic) - float_bits(magic) + 127u) << 23), p};
}

POPNET_HOST_DEVICE float portable_sigmoid(float x) {
    FloatExp e = float_exp(-x);
    return 1.0f / (1.0f + fused_multiply_add(e.scale, e.tail, e.scale));
}

// With m = e^(-2|x|) - 1, tanh |x| = -m / (2 + m), which keeps the digits of a small x.
POPNET_HOST_DEVICE float portable_tanh(float x) {
    uint32_t sign = float_bits(x) & 0x80000000u;
    FloatExp e = float_exp(-2.0f * bits_float(float_bits(x) ^ sign));
    float m = fused_multiply_add(e.scale, e.tail, e.scale - 1.0f);
    return bits_float(float_bits(-m / (2.0f + m)) ^ sign);
}

POPNET_HOST_DEVICE double portable_sigmoid(double x) {
    return 1.0 / (1.0 + portable_exp(x < -700.0 ? 700.0 : -x));
}

POPNET_HOST_DEVICE double portable_tanh(double x) {
    return 1.0 - 2.0 / (1.0 + portable_exp(x > 350.0 ? 700.0 : 2.0 * x));
}

}  // namespace popnet
