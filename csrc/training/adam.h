// One step of Adam (Kingma and Ba, 2015) with L2 weight decay over a flat float32 buffer, in one pass.
//
// Buffers and segments as in sgd.h. For every element (p, g, m, v), everything float32, `step` counting from
// 1:
//   g' = fma(weight_decay, p, g)
//   m  = fma(1 - beta1, g' - m, m)
//   v  = fma((1 - beta2) * g', g', beta2 * v)
//   d  = sqrt(v) / sqrt(1 - beta2^step) + eps
//   p  = fma(-rate, m / d, p)          rate = lr * rate_multiplier / (1 - beta1^step)
// and g = 0 if zero_gradients. Constants are computed in float64 and rounded once. This is torch.optim.Adam
// (amsgrad off, decay as part of the gradient) up to rounding.
#pragma once

#include <vector>

#include "training/segments.h"
#include "training/step.h"

namespace popnet {

struct AdamOptions {
    double lr, beta1, beta2, eps;
    int64_t step;
    bool zero_gradients;
    StepSource source = {};  // where given, its rate and corrections are used instead of lr and step
};

struct FlatAdam {
    float *parameters, *gradients, *first_moment, *second_moment;
};

void adam_cpu(const FlatAdam& buffers, const std::vector<Segment>& segments, const AdamOptions& options,
              int threads);
void adam_cuda(const FlatAdam& buffers, const std::vector<Segment>& segments, const AdamOptions& options,
               void* stream);

}  // namespace popnet
