// What the kernels of one training step read from memory instead of taking by value, so that a captured CUDA
// graph of the step serves every step of a training (training/step.h).
#pragma once

#include <cstdint>

namespace popnet {

// Mirrored by popnet.native.STEP_VALUES.
struct StepValues {
    uint64_t augment_seed, stochastic_seed;
    double rate;              // the learning rate, for group multiplier 1
    double first_correction;  // Adam: 1 - beta1^t and sqrt(1 - beta2^t), t = step + 1
    double second_correction;
    uint32_t epoch, step;  // step counts from the beginning of the training
};
static_assert(sizeof(StepValues) == 48);

}  // namespace popnet
