#include "training/fo_pool.h"

#include "common/parallel.h"
#include "metrics/clones.h"
#include "training/fo_pool_element.h"

namespace popnet {
namespace {

#define POPNET_ALWAYS_INLINE inline __attribute__((always_inline))
#define POPNET_FLATTEN \
    __attribute__((flatten))  // the arithmetic inside the loop, or it would not become vectors

// One text of the batch at one time: rows of `hidden` neighbouring columns, three of them of gates.
template <typename T>
struct ForwardRow {
    const T *gates, *before, *mask;
    T *output, *cells;
};

template <typename T>
struct BackwardRow {
    const T *gates, *before, *mask, *cells, *output_gradient, *cell_gradient;
    T *gate_gradients, *carried;
};

template <bool masked, typename T>
POPNET_ALWAYS_INLINE void forward_loop(const ForwardRow<T>& row, int64_t hidden) {
    const T* __restrict gates = row.gates, * __restrict before = row.before, * __restrict mask = row.mask;
    T* __restrict output = row.output, * __restrict cells = row.cells;
#pragma GCC ivdep
    for (int64_t j = 0; j < hidden; ++j) {
        T cell, out;
        pool_element(gates[j], gates[hidden + j], gates[2 * hidden + j], before[j], cell, out);
        cells[j] = cell;
        output[j] = masked ? out * mask[j] : out;
    }
}

template <bool masked, bool inner, typename T>
POPNET_ALWAYS_INLINE void backward_loop(const BackwardRow<T>& row, int64_t hidden) {
    const T* __restrict gates = row.gates, * __restrict before = row.before, * __restrict mask = row.mask;
    const T* __restrict cells = row.cells, * __restrict output_gradient = row.output_gradient;
    const T* __restrict cell_gradient = row.cell_gradient;
    T* __restrict gate_gradients = row.gate_gradients, * __restrict carried = row.carried;
#pragma GCC ivdep
    for (int64_t j = 0; j < hidden; ++j) {
        T z = gates[j], f = gates[hidden + j], o = gates[2 * hidden + j];
        T carry = inner ? carried[j] + cell_gradient[j] : carried[j];
        T gradient = masked ? output_gradient[j] * mask[j] : output_gradient[j];
        pool_gradient(z, f, o, before[j], cells[j], gradient, carry);
        gate_gradients[j] = z;
        gate_gradients[hidden + j] = f;
        gate_gradients[2 * hidden + j] = o;
        carried[j] = carry;
    }
}

template <typename T>
POPNET_ALWAYS_INLINE void any_forward_row(const ForwardRow<T>& row, int64_t hidden) {
    row.mask ? forward_loop<true>(row, hidden) : forward_loop<false>(row, hidden);
}

template <typename T>
POPNET_ALWAYS_INLINE void any_backward_row(const BackwardRow<T>& row, int64_t hidden) {
    if (row.cell_gradient) {
        row.mask ? backward_loop<true, true>(row, hidden) : backward_loop<false, true>(row, hidden);
    } else {
        row.mask ? backward_loop<true, false>(row, hidden) : backward_loop<false, false>(row, hidden);
    }
}

POPNET_CLONES POPNET_FLATTEN void forward_row(const ForwardRow<float>& row, int64_t hidden) {
    any_forward_row(row, hidden);
}

void forward_row(const ForwardRow<double>& row, int64_t hidden) {
    any_forward_row(row, hidden);
}

POPNET_CLONES POPNET_FLATTEN void backward_row(const BackwardRow<float>& row, int64_t hidden) {
    any_backward_row(row, hidden);
}

void backward_row(const BackwardRow<double>& row, int64_t hidden) {
    any_backward_row(row, hidden);
}

}  // namespace

template <typename T>
void fo_pool_forward_cpu(const PoolForward<T>& pool, const PoolShape& shape, int threads) {
    int64_t hidden = shape.hidden, step = shape.batch * hidden;
    parallel_for(shape.batch, threads, [&](int64_t begin, int64_t end) {
        for (int64_t b = begin; b < end; ++b) {
            const T* mask = pool.mask ? pool.mask + b * hidden : nullptr;
            const T* before = pool.initial + b * hidden;
            for (int64_t t = 0; t < shape.length; ++t) {
                int64_t at = t * step + b * hidden;
                forward_row(
                    ForwardRow<T>{pool.gates + 3 * at, before, mask, pool.output + at, pool.cells + at},
                    hidden);
                before = pool.cells + at;
            }
        }
    });
}

template <typename T>
void fo_pool_backward_cpu(const PoolBackward<T>& pool, const PoolShape& shape, int threads) {
    int64_t hidden = shape.hidden, step = shape.batch * hidden;
    parallel_for(shape.batch, threads, [&](int64_t begin, int64_t end) {
        for (int64_t b = begin; b < end; ++b) {
            const T* mask = pool.mask ? pool.mask + b * hidden : nullptr;
            T* carried = pool.initial_gradient + b * hidden;
            for (int64_t j = 0; j < hidden; ++j) carried[j] = T(0);
            for (int64_t t = shape.length - 1; t >= 0; --t) {
                int64_t at = t * step + b * hidden;
                const T* before = t > 0 ? pool.cells + at - step : pool.initial + b * hidden;
                const T* cell_gradient = pool.cell_gradient ? pool.cell_gradient + at : nullptr;
                backward_row(BackwardRow<T>{pool.gates + 3 * at, before, mask, pool.cells + at,
                                            pool.output_gradient + at, cell_gradient,
                                            pool.gate_gradients + 3 * at, carried},
                             hidden);
            }
        }
    });
}

template void fo_pool_forward_cpu(const PoolForward<float>&, const PoolShape&, int);
template void fo_pool_forward_cpu(const PoolForward<double>&, const PoolShape&, int);
template void fo_pool_backward_cpu(const PoolBackward<float>&, const PoolShape&, int);
template void fo_pool_backward_cpu(const PoolBackward<double>&, const PoolShape&, int);

}  // namespace popnet
