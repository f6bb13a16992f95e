// Batch normalisation of a training batch with what follows it, in one operation:
//   NORM       y = norm(x)
//   RELU       y = max(norm(x), 0)
//   ADD_RELU   y = max(norm(x) + residual, 0)
// and its gradient. x, residual, y and their gradients are [rows, channels] in memory (PyTorch's
// channels_last, rows = images * height * width), of type float32, bfloat16, float16 or float64; all other
// arrays are float64 where those are, else float32 ("Real").
//
// The order of every sum follows from the shape alone (batch_norm_element.h), so that the result does not
// depend on threads or device. With pivot = x[0, c] and d = x - pivot in Real:
//   sum = sum of d,  squares = sum of fma(d, d, .)                        per lane in Real, merged in float64
//   mean = pivot + sum / rows,  variance = max(squares / rows - (sum / rows)^2, 0)
//   inverse_sd = 1 / sqrt(variance + eps)                                 in float64, kept as Real
//   running_mean = (1 - momentum) running_mean + momentum mean            in float64, the same for the
//   variance
//                                                                         rows / (rows - 1); batches += 1
//   norm(x) = fma(x - mean, weight * inverse_sd, bias)                    in Real
// Gradient, with g the gradient of y where y > 0 (before rounding; with a residual: y as stored), else 0:
//   bias_gradient = sum of g,  weight_gradient = inverse_sd * sum of fma(g, x - mean, .)
//   offset = sum of g / rows,  slope = inverse_sd^2 * (sum of g (x - mean)) / rows
//   x_gradient = weight * inverse_sd * fma(-(x - mean), slope, g - offset)
//   residual_gradient = g
// This is PyTorch's batch_norm, add and relu up to rounding.
#pragma once

#include <cstdint>

#include "common/numbers.h"

namespace popnet {

enum class NormForm { NORM, RELU, ADD_RELU };

struct NormShape {
    int64_t rows;  // at least 2
    int channels;  // at least 1
    FloatType type;
    NormForm form;
};

struct NormForward {
    const void *x, *residual, *weight, *bias;
    void *y, *mean, *inverse_sd;
    void *running_mean, *running_var;  // updated in place
    int64_t* batches;                  // counted up by one
    double* partials;                  // norm_partials(shape) of them, scratch
    double eps, momentum;
};

struct NormBackward {
    const void *gradient, *x, *y, *weight, *bias, *mean, *inverse_sd;
    void *x_gradient, *residual_gradient, *weight_gradient, *bias_gradient;
    void* coefficients;  // Real [2, channels], scratch
    double* partials;    // norm_partials(shape) of them, scratch
};

int64_t norm_partials(const NormShape& shape);

void batch_norm_cpu(const NormForward& arrays, const NormShape& shape, int threads);
void batch_norm_gradient_cpu(const NormBackward& arrays, const NormShape& shape, int threads);

// Everything on the current device.
void batch_norm_cuda(const NormForward& arrays, const NormShape& shape, void* stream);
void batch_norm_gradient_cuda(const NormBackward& arrays, const NormShape& shape, void* stream);

}  // namespace popnet
