#include "common/cuda.h"
#include "training/fo_pool.h"
#include "training/fo_pool_element.h"

namespace popnet {
namespace {

constexpr int kThreads =
    64;  // small blocks: a batch has only some 10,000 columns, to be spread over all processors
constexpr int kAhead = 8;  // steps in time whose loads, which wait for nothing, are issued together

template <typename T>
struct Gates {
    T z, f, o;
};

// One thread a column (b, j): neighbours in j, so that every load and store of a warp is one piece of memory.
template <typename T>
__global__ void forward_kernel(PoolForward<T> pool, PoolShape shape) {
    int64_t columns = shape.batch * shape.hidden;
    int64_t column = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
    if (column >= columns) return;
    int64_t b = column / shape.hidden, j = column % shape.hidden;
    const T* gates = pool.gates + 3 * b * shape.hidden + j;
    T cell = pool.initial[column], mask = pool.mask ? pool.mask[column] : T(1);
    for (int64_t first = 0; first < shape.length; first += kAhead) {
        Gates<T> ahead[kAhead];
#pragma unroll
        for (int k = 0; k < kAhead; ++k) {
            if (first + k >= shape.length) break;
            const T* at = gates + (first + k) * 3 * columns;
            ahead[k] = Gates<T>{at[0], at[shape.hidden], at[2 * shape.hidden]};
        }
#pragma unroll
        for (int k = 0; k < kAhead; ++k) {
            if (first + k >= shape.length) break;
            T output;
            T before = cell;
            pool_element(ahead[k].z, ahead[k].f, ahead[k].o, before, cell, output);
            pool.cells[(first + k) * columns + column] = cell;
            pool.output[(first + k) * columns + column] = output * mask;
        }
    }
}

template <typename T>
struct Ahead {
    Gates<T> gates;
    T before, output_gradient, cell_gradient;
};

// As above, backwards in time.
template <typename T>
__global__ void backward_kernel(PoolBackward<T> pool, PoolShape shape) {
    int64_t columns = shape.batch * shape.hidden;
    int64_t column = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
    if (column >= columns) return;
    int64_t b = column / shape.hidden, j = column % shape.hidden;
    int64_t gate_column = 3 * b * shape.hidden + j;
    T mask = pool.mask ? pool.mask[column] : T(1);
    T carried = T(0), cell = pool.cells[(shape.length - 1) * columns + column];
    for (int64_t last = shape.length - 1; last >= 0; last -= kAhead) {
        Ahead<T> ahead[kAhead];
#pragma unroll
        for (int k = 0; k < kAhead; ++k) {
            int64_t t = last - k;
            if (t < 0) break;
            const T* gates = pool.gates + t * 3 * columns + gate_column;
            int64_t at = t * columns + column;
            ahead[k].gates = Gates<T>{gates[0], gates[shape.hidden], gates[2 * shape.hidden]};
            ahead[k].before = t > 0 ? pool.cells[at - columns] : pool.initial[column];
            ahead[k].output_gradient = pool.output_gradient[at];
            if (pool.cell_gradient) ahead[k].cell_gradient = pool.cell_gradient[at];
        }
#pragma unroll
        for (int k = 0; k < kAhead; ++k) {
            int64_t t = last - k;
            if (t < 0) break;
            if (pool.cell_gradient) carried = carried + ahead[k].cell_gradient;
            Gates<T> result = ahead[k].gates;
            pool_gradient(result.z, result.f, result.o, ahead[k].before, cell,
                          ahead[k].output_gradient * mask, carried);
            cell = ahead[k].before;
            T* gradients = pool.gate_gradients + t * 3 * columns + gate_column;
            gradients[0] = result.z;
            gradients[shape.hidden] = result.f;
            gradients[2 * shape.hidden] = result.o;
        }
    }
    pool.initial_gradient[column] = carried;
}

unsigned blocks(const PoolShape& shape) {
    int64_t columns = shape.batch * shape.hidden;
    return static_cast<unsigned>((columns + kThreads - 1) / kThreads);
}

}  // namespace

template <typename T>
void fo_pool_forward_cuda(const PoolForward<T>& pool, const PoolShape& shape, void* stream) {
    forward_kernel<<<blocks(shape), kThreads, 0, static_cast<cudaStream_t>(stream)>>>(pool, shape);
    check_cuda(cudaGetLastError(), "fo-pooling");
}

template <typename T>
void fo_pool_backward_cuda(const PoolBackward<T>& pool, const PoolShape& shape, void* stream) {
    backward_kernel<<<blocks(shape), kThreads, 0, static_cast<cudaStream_t>(stream)>>>(pool, shape);
    check_cuda(cudaGetLastError(), "fo-pooling's gradient");
}

template void fo_pool_forward_cuda(const PoolForward<float>&, const PoolShape&, void*);
template void fo_pool_forward_cuda(const PoolForward<double>&, const PoolShape&, void*);
template void fo_pool_backward_cuda(const PoolBackward<float>&, const PoolShape&, void*);
template void fo_pool_backward_cuda(const PoolBackward<double>&, const PoolShape&, void*);

}  // namespace popnet
