// The arithmetic of one pair on one example, for both sides.
#pragma once

#include <cstdint>

#include "common/device.h"
#include "common/portable_math.h"

namespace popnet {

constexpr double kLeastProduct = 0x1p-960;

// Whether a + b < c + d, exactly, for floats widened to double: their sums, then what the sums rounded away.
POPNET_HOST_DEVICE int compare_sums(double a, double b, double c, double d) {
    double left = a + b, right = c + d;
    if (left != right) return left < right ? -1 : 1;
    double b_rounded = left - a, d_rounded = right - c;
    double left_error = (a - (left - b_rounded)) + (b - b_rounded);
    double right_error = (c - (right - d_rounded)) + (d - d_rounded);
    return left_error < right_error ? -1 : left_error > right_error ? 1 : 0;
}

// Whether `label` is the lowest class of the largest exact sum a[c * a_step] + b[c * b_step].
POPNET_HOST_DEVICE bool ensemble_right(const float* a, int64_t a_step, const float* b, int64_t b_step,
                                       int64_t classes, int64_t label) {
    double own_a = a[label * a_step], own_b = b[label * b_step];
    for (int64_t c = 0; c < classes; ++c) {
        if (c == label) continue;
        int order = compare_sums(a[c * a_step], b[c * b_step], own_a, own_b);
        if (order > 0 || (order == 0 && c < label)) return false;
    }
    return true;
}

// log(E_i . E_j) without underflow: a and b point to the logits, `a_most` and `b_most` are their largest.
POPNET_HOST_DEVICE double log_product(const float* a, float a_most, const float* b, float b_most,
                                      int64_t classes) {
    double most = 0.0, sum = 0.0;
    for (int64_t c = 0; c < classes; ++c) {
        double exponent =
            0.5 * (static_cast<double>(a[c]) - a_most) + 0.5 * (static_cast<double>(b[c]) - b_most);
        most = c == 0 || exponent > most ? exponent : most;
    }
    for (int64_t c = 0; c < classes; ++c) {
        double exponent =
            0.5 * (static_cast<double>(a[c]) - a_most) + 0.5 * (static_cast<double>(b[c]) - b_most);
        sum += portable_exp(exponent - most);
    }
    return most + portable_log(sum);
}

POPNET_HOST_DEVICE float largest(const float* values, int64_t classes) {
    float most = values[0];
    for (int64_t c = 1; c < classes; ++c) most = values[c] > most ? values[c] : most;
    return most;
}

}  // namespace popnet
