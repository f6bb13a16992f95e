#include "common/cuda.h"
#include "metrics/bootstrap.h"
#include "metrics/bootstrap_element.h"

namespace popnet {
namespace {

constexpr int kThreads = 128;

// One thread a statistic and resample.
__global__ void resample(double* deviations, const int64_t* values, int64_t statistics, int64_t members,
                         int64_t resamples, uint64_t seed) {
    int64_t stride = static_cast<int64_t>(gridDim.x) * blockDim.x;
    for (int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < statistics * resamples;
         i += stride) {
        deviations[i] = resample_deviation(values + i / resamples * members, members, seed,
                                           static_cast<uint32_t>(i % resamples));
    }
}

}  // namespace

void bootstrap_deviations_cuda(double* deviations, const int64_t* values, int64_t statistics, int64_t members,
                               int64_t resamples, uint64_t seed, void* stream) {
    if (statistics * resamples == 0) return;
    resample<<<blocks_for(statistics * resamples, kThreads), kThreads, 0,
               static_cast<cudaStream_t>(stream)>>>(deviations, values, statistics, members, resamples, seed);
    check_cuda(cudaGetLastError(), "bootstrap");
}

}  // namespace popnet
