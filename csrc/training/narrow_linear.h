// A fully connected layer with few outputs, and its gradient:
//   y[b, o] = sum over i of x[b, i] w[o, i], plus bias[o]
// x is [rows, inputs], w [outputs, inputs], y and its gradient g [rows, outputs], all of float32 or float64.
//
// The order of every sum follows from the shape alone, and that of a row's y from the number of inputs alone:
//   lane l of 8 = fma(x[b, i], w[o, i], .) from 0 over i = l, l + 8, l + 16 ...
//   then lane l += lane l + 4 for l < 4, the same with 2 and with 1;  y = lane 0 + bias[o]
//   w_gradient[o, i] = fma(g[b, o], x[b, i], .) from 0 over b = 0, 1, 2 ...
//   x_gradient[b, i] = fma(g[b, o], w[o, i], .) from 0 over o = 0, 1, 2 ...
//   bias_gradient[o] = sum of g[b, o] from 0 over b = 0, 1, 2 ...
#pragma once

#include <cstdint>

#include "common/numbers.h"

namespace popnet {

inline constexpr int kNarrowOutputs = 32;  // at most

struct NarrowShape {
    int64_t rows, inputs;
    int outputs;     // 1 .. kNarrowOutputs
    FloatType type;  // FLOAT32 or FLOAT64
};

struct NarrowForward {
    const void *x, *weight, *bias;  // bias may be null
    void* y;
};

struct NarrowBackward {
    const void *gradient, *x, *weight;
    void *x_gradient, *weight_gradient, *bias_gradient;  // null where not wanted
};

void narrow_linear_cpu(const NarrowForward& arrays, const NarrowShape& shape, int threads);
void narrow_linear_gradient_cpu(const NarrowBackward& arrays, const NarrowShape& shape, int threads);

}  // namespace popnet
