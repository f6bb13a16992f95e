// The arithmetic of one pair on one token, for both sides.
#pragma once

#include <cstdint>

#include "common/device.h"
#include "common/portable_math.h"

namespace popnet {

constexpr double kLeastMixture = 0x1p-960;

// log(e^a + e^b) without underflow.
POPNET_HOST_DEVICE double log_sum(double a, double b) {
    double most = a > b ? a : b, least = a > b ? b : a;
    return most + portable_log(1.0 + portable_exp(least - most));
}

// The sum over tokens, in order, of log(e^a + e^b).
POPNET_HOST_DEVICE double log_sums(const float* a, const float* b, int64_t tokens) {
    double sum = 0.0;
    for (int64_t t = 0; t < tokens; ++t) sum += log_sum(a[t], b[t]);
    return sum;
}

}  // namespace popnet
