// fo-pooling of a quasi-recurrent layer (Bradbury et al. 2016, Equation 4), its gates' activations included:
// everything between the layer's linear map and its output, in one pass each way.
//
// Forward, for every column (b, j) and t = 0 .. length-1 in order, with (z, f, o) the gates at (t, b, j),
// (t, b, hidden + j) and (t, b, 2 hidden + j):
//   F = sigmoid(f)
//   h_t = fma(F, tanh(z) - h_{t-1}, h_{t-1})        h_{-1} = initial
//   output_t = sigmoid(o) * h_t, then * mask where there is one
// Backward, in descending t, with g = output_gradient_t (* mask), c = h_t's gradient from t+1 and on, 0 at
// first:
//   d = fma(g, O, c + cell_gradient_t)              c + 0 where there is none; Z = tanh(z), O = sigmoid(o)
//   gate gradients: (d F (1 - Z^2), d (Z - h_{t-1}) F (1 - F), g h_t O (1 - O)), each product from left to
//   right c = d (1 - F)
// and what is c in the end is the gradient of `initial`. The mask is a constant.
//
// T is float or double. gates and gate_gradients: [length, batch, 3 hidden]; output, cells (h),
// output_gradient and cell_gradient: [length, batch, hidden]; initial, mask, initial_gradient: [batch,
// hidden]; all contiguous. mask and cell_gradient may be null. Columns never mix, so no result depends on
// threads; the CPU and the GPU give the same bits.
#pragma once

#include <cstdint>

namespace popnet {

struct PoolShape {
    int64_t length, batch, hidden;  // each at least 1
};

template <typename T>
struct PoolForward {
    const T *gates, *initial, *mask;
    T *output, *cells;
};

template <typename T>
struct PoolBackward {
    const T *gates, *initial, *mask, *cells, *output_gradient, *cell_gradient;
    T *gate_gradients, *initial_gradient;
};

template <typename T>
void fo_pool_forward_cpu(const PoolForward<T>& pool, const PoolShape& shape, int threads);
template <typename T>
void fo_pool_backward_cpu(const PoolBackward<T>& pool, const PoolShape& shape, int threads);
template <typename T>
void fo_pool_forward_cuda(const PoolForward<T>& pool, const PoolShape& shape, void* stream);
template <typename T>
void fo_pool_backward_cuda(const PoolBackward<T>& pool, const PoolShape& shape, void* stream);

}  // namespace popnet
