#include "common/cuda.h"
#include "training/cross_entropy.h"
#include "training/cross_entropy_element.h"

namespace popnet {
namespace {

constexpr int kThreads = 128;  // four examples, a warp each

// One warp an example, a lane each series of classes.
template <typename R>
__global__ void example_kernel(CrossEntropy batch) {
    int64_t i = (static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x) / kClassSeries;
    if (i >= batch.examples) return;  // a whole warp
    int lane = static_cast<int>(threadIdx.x % kClassSeries);
    const R* logits = static_cast<const R*>(batch.logits) + i * batch.classes;
    R* gradient = static_cast<R*>(batch.gradient) + i * batch.classes;
    double largest = -__longlong_as_double(0x7ff0000000000000);
    for (int c = lane; c < batch.classes; c += kClassSeries) {
        largest = logits[c] > largest ? static_cast<double>(logits[c]) : largest;
    }
    for (int half = kClassSeries / 2; half > 0; half /= 2) {
        double other = __shfl_xor_sync(0xffffffffu, largest, half);
        largest = other > largest ? other : largest;
    }
    double sum = 0.0;
    for (int c = lane; c < batch.classes; c += kClassSeries) sum += portable_exp(logits[c] - largest);
    for (int half = kClassSeries / 2; half > 0; half /= 2) sum += __shfl_down_sync(0xffffffffu, sum, half);
    sum = __shfl_sync(0xffffffffu, sum, 0);
    int64_t label = batch.labels[i];
    bool exists = label >= 0 && label < batch.classes;
    double examples = static_cast<double>(batch.examples);
    for (int c = lane; c < batch.classes; c += kClassSeries) {
        double value = logit_gradient(logits[c], largest, sum, c == label, examples);
        gradient[c] = static_cast<R>(exists ? value : not_a_number());
    }
    if (lane == 0) {
        batch.losses[i] = exists ? example_loss(sum, logits[label], largest) : not_a_number();
    }
}

// One block; a thread each series of examples.
template <typename R>
__global__ void mean_kernel(CrossEntropy batch) {
    __shared__ double series[kLossSeries];
    double sum = 0.0;
    for (int64_t i = threadIdx.x; i < batch.examples; i += kLossSeries) sum += batch.losses[i];
    series[threadIdx.x] = sum;
    __syncthreads();
    for (unsigned half = kLossSeries / 2; half > 0; half /= 2) {
        if (threadIdx.x < half) series[threadIdx.x] += series[threadIdx.x + half];
        __syncthreads();
    }
    if (threadIdx.x == 0)
        *static_cast<R*>(batch.loss) = static_cast<R>(series[0] / static_cast<double>(batch.examples));
}

template <typename R>
void launch(const CrossEntropy& batch, cudaStream_t stream) {
    auto blocks = static_cast<unsigned>((batch.examples * kClassSeries + kThreads - 1) / kThreads);
    example_kernel<R><<<blocks, kThreads, 0, stream>>>(batch);
    check_cuda(cudaGetLastError(), "cross-entropy");
    mean_kernel<R><<<1, kLossSeries, 0, stream>>>(batch);
    check_cuda(cudaGetLastError(), "cross-entropy: mean");
}

}  // namespace

void cross_entropy_cuda(const CrossEntropy& batch, void* stream) {
    if (batch.type == FloatType::FLOAT64) {
        launch<double>(batch, static_cast<cudaStream_t>(stream));
    } else {
        launch<float>(batch, static_cast<cudaStream_t>(stream));
    }
}

}  // namespace popnet
