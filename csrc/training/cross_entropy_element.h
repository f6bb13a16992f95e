// The arithmetic of one example's cross-entropy, for both sides.
#pragma once

#include "common/portable_math.h"
#include "training/cross_entropy.h"

namespace popnet {

constexpr int kClassSeries = 32;
constexpr int kLossSeries = 256;

POPNET_HOST_DEVICE double not_a_number() {
    return bits_double(0x7ff8000000000000);
}

// portable_log reads the bits of a finite, positive number only.
POPNET_HOST_DEVICE double example_loss(double sum, double label_logit, double largest) {
    return sum >= 1.0 && sum < 1e300 ? portable_log(sum) - (label_logit - largest) : not_a_number();
}

POPNET_HOST_DEVICE double logit_gradient(double logit, double largest, double sum, bool is_label,
                                         double examples) {
    double probability = portable_exp(logit - largest) / sum;
    return (is_label ? probability - 1.0 : probability) / examples;
}

}  // namespace popnet
