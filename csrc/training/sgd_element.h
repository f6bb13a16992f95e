// The arithmetic of one element of the SGD step, for both sides.
#pragma once

#include "common/numbers.h"

namespace popnet {

POPNET_HOST_DEVICE void sgd_element(float& parameter, float gradient, float& moment, float negative_rate,
                                    float weight_decay, float momentum, bool nesterov) {
    float decayed = fused_multiply_add(weight_decay, parameter, gradient);
    moment = fused_multiply_add(momentum, moment, decayed);
    float step = nesterov ? fused_multiply_add(momentum, moment, decayed) : moment;
    parameter = fused_multiply_add(negative_rate, step, parameter);
}

}  // namespace popnet
