// The arithmetic of one element of the Adam step, and its constants, for both sides.
#pragma once

#include <cmath>

#include "common/numbers.h"
#include "training/adam.h"

namespace popnet {

struct AdamConstants {
    float one_minus_beta1, beta2, one_minus_beta2, root_correction, eps;
    double rate, correction;  // lr and 1 - beta1^step
};

inline AdamConstants adam_constants(const AdamOptions& options) {
    return AdamConstants{static_cast<float>(1.0 - options.beta1),
                         static_cast<float>(options.beta2),
                         static_cast<float>(1.0 - options.beta2),
                         static_cast<float>(std::sqrt(1.0 - std::pow(options.beta2, double(options.step)))),
                         static_cast<float>(options.eps),
                         options.lr,
                         1.0 - std::pow(options.beta1, double(options.step))};
}

// The same with what a step's values say in place of lr and step.
POPNET_HOST_DEVICE AdamConstants at_step(AdamConstants constants, const StepValues* now) {
    if (now) {
        constants.rate = now->rate;
        constants.correction = now->first_correction;
        constants.root_correction = static_cast<float>(now->second_correction);
    }
    return constants;
}

POPNET_HOST_DEVICE float adam_negative_rate(const AdamConstants& constants, double rate_multiplier) {
    return -static_cast<float>(constants.rate * rate_multiplier / constants.correction);
}

POPNET_HOST_DEVICE void adam_element(float& parameter, float gradient, float& first, float& second,
                                     float negative_rate, float weight_decay,
                                     const AdamConstants& constants) {
    float decayed = fused_multiply_add(weight_decay, parameter, gradient);
    first = fused_multiply_add(constants.one_minus_beta1, decayed - first, first);
    second = fused_multiply_add(constants.one_minus_beta2 * decayed, decayed, constants.beta2 * second);
    // Square root and division round correctly on both sides (nvcc's default -prec-sqrt and -prec-div).
    float denominator = sqrtf(second) / constants.root_correction + constants.eps;
    parameter = fused_multiply_add(negative_rate, first / denominator, parameter);
}

}  // namespace popnet
