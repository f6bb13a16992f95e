// One step of stochastic gradient descent with momentum over a flat float32 buffer, in one pass.
//
// parameters, gradients, momentum_buffer: float32, one flat buffer each, cut into the same segments; what
// lies between segments is neither read nor written. For every element of a segment (p, g, m), with fused
// multiply-adds:
//   g' = fma(weight_decay, p, g)
//   m  = fma(momentum, m, g')
//   s  = nesterov ? fma(momentum, m, g') : m
//   p  = fma(-rate, s, p)        rate = float32(lr * rate_multiplier), the product in float64
// and g = 0 if zero_gradients. This is torch.optim.SGD (dampening 0, momentum buffer starting at 0) up to
// rounding.
#pragma once

#include <vector>

#include "training/segments.h"
#include "training/step.h"

namespace popnet {

struct SgdOptions {
    double lr;
    float momentum;
    bool nesterov, zero_gradients;
    StepSource source = {};  // where given, its rate is used instead of lr
};

struct FlatSgd {
    float *parameters, *gradients, *momentum_buffer;
};

void sgd_cpu(const FlatSgd& buffers, const std::vector<Segment>& segments, const SgdOptions& options,
             int threads);
void sgd_cuda(const FlatSgd& buffers, const std::vector<Segment>& segments, const SgdOptions& options,
              void* stream);

}  // namespace popnet
