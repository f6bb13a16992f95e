#include "common/cuda.h"
#include "training/step.h"

namespace popnet {
namespace {

constexpr int kThreads = 256;

// One thread an example; the first also copies the step's values.
__global__ void begin_kernel(StepBatch batch) {
    int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
    int64_t position = *batch.position;
    if (i == 0) *batch.now = batch.table[position];
    if (i < batch.count) {
        int64_t index = batch.order[position * batch.batch_size + i];
        batch.indices[i] = index;
        batch.labels[i] = batch.all_labels[index];
    }
}

__global__ void end_kernel(const float* loss, float* losses, int64_t* position) {
    losses[*position] = *loss;
    *position += 1;
}

}  // namespace

void begin_step_cuda(const StepBatch& batch, void* stream) {
    // the first thread has work for no examples too
    auto blocks = static_cast<unsigned>(std::max<int64_t>(1, (batch.count + kThreads - 1) / kThreads));
    begin_kernel<<<blocks, kThreads, 0, static_cast<cudaStream_t>(stream)>>>(batch);
    check_cuda(cudaGetLastError(), "begin of a step");
}

void end_step_cuda(const float* loss, float* losses, int64_t* position, void* stream) {
    end_kernel<<<1, 1, 0, static_cast<cudaStream_t>(stream)>>>(loss, losses, position);
    check_cuda(cudaGetLastError(), "end of a step");
}

}  // namespace popnet
