// Mean softmax cross-entropy of a batch and its gradient, in one pass.
//
// logits: float32 or float64 [examples, classes]; labels: int64 [examples]. Per example, in float64:
//   m = largest logit,  s = sum over classes of e^(z - m),  loss = ln s - (z_label - m)
//   gradient = (e^(z - m) / s - [class is the label]) / examples
// and the mean of the losses; exp and ln from portable_math.h. Series w = 0 .. 31 of s adds the classes w,
// w + 32, ... in order, and the series are merged by halving (w += w + 16, then 8, ...); the mean adds
// kLossSeries series of examples the same way. What is not finite gives NaN.
#pragma once

#include <cstdint>

#include "common/numbers.h"

namespace popnet {

struct CrossEntropy {
    const void* logits;
    const int64_t* labels;
    int64_t examples;  // at least 1
    int classes;       // at least 1
    FloatType type;    // FLOAT32 or FLOAT64, of logits, gradient and loss
    void *gradient, *loss;
    double* losses;  // [examples], scratch
};

// Throws std::out_of_range if a label is no class.
void cross_entropy_cpu(const CrossEntropy& batch, int threads);

// Everything on the current device. Labels cannot be checked there: one that is no class gives NaN.
void cross_entropy_cuda(const CrossEntropy& batch, void* stream);

}  // namespace popnet
