#include "common/cuda.h"
#include "training/dropout.h"
#include "training/dropout_element.h"

namespace popnet {
namespace {

constexpr int kThreads = 256;

// One thread a Philox block: four neighbouring elements of one example.
template <typename T>
__global__ void mask_kernel(T* out, const int64_t* example_ids, int64_t examples, int64_t elements,
                            DropoutValues values, DropoutKey given) {
    DropoutKey key = at_step(given);
    int64_t groups = (elements + 3) / 4;
    int64_t stride = static_cast<int64_t>(gridDim.x) * blockDim.x;
    for (int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < examples * groups;
         i += stride) {
        int64_t x = i / groups, group = i % groups;
        int64_t example = example_ids[x];
        bool fits = example >= 0 && example <= 0xffffffff;
        Words words = dropout_words(key, static_cast<uint32_t>(example), static_cast<uint32_t>(group));
        for (int w = 0; w < 4; ++w) {
            int64_t e = 4 * group + w;
            if (e >= elements) break;
            T value = dropout_value<T>(words.word[w], values);
            out[x * elements + e] = fits ? value : round_to<T>(__int_as_float(0x7fc00000));
        }
    }
}

}  // namespace

void dropout_mask_cuda(void* out, FloatType type, const int64_t* example_ids, int64_t examples,
                       int64_t elements, double p, const DropoutKey& key, void* stream) {
    int64_t groups = examples * ((elements + 3) / 4);
    if (groups == 0) return;
    unsigned blocks = blocks_for(groups, kThreads);
    DropoutValues values = dropout_values(p);
    auto cuda_stream = static_cast<cudaStream_t>(stream);
    if (type == FloatType::FLOAT32) {
        mask_kernel<<<blocks, kThreads, 0, cuda_stream>>>(static_cast<float*>(out), example_ids, examples,
                                                          elements, values, key);
    } else {
        mask_kernel<<<blocks, kThreads, 0, cuda_stream>>>(static_cast<BFloat16*>(out), example_ids, examples,
                                                          elements, values, key);
    }
    check_cuda(cudaGetLastError(), "dropout mask");
}

}  // namespace popnet
