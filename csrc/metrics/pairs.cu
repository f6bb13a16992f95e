#include "common/cuda.h"
#include "metrics/pair_element.h"
#include "metrics/pairs.h"

namespace popnet {
namespace {

constexpr int kThreads = 256;
constexpr int kSide = 16;  // kSide x kSide pairs a block

__device__ const float* logits_of(const PairSlice& slice, int64_t member, int64_t example) {
    return slice.values + slice.rows[member] * slice.member_stride + example * slice.classes;
}

__device__ int64_t first_item() {
    return static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
}
__device__ int64_t item_stride() {
    return static_cast<int64_t>(gridDim.x) * blockDim.x;
}

// One thread a member and example of the chunk: table[e][c][member] = the logit.
__global__ void write_logits(float* table, PairSlice slice, int64_t first, int64_t count) {
    for (int64_t i = first_item(); i < slice.members * count; i += item_stride()) {
        int64_t member = i % slice.members, e = i / slice.members;
        const float* z = logits_of(slice, member, first + e);
        for (int64_t c = 0; c < slice.classes; ++c)
            table[(e * slice.classes + c) * slice.members + member] = z[c];
    }
}

// The same with E = exp((z - max z) / 2).
__global__ void write_roots(double* table, PairSlice slice, int64_t first, int64_t count) {
    for (int64_t i = first_item(); i < slice.members * count; i += item_stride()) {
        int64_t member = i % slice.members, e = i / slice.members;
        const float* z = logits_of(slice, member, first + e);
        double most = largest(z, slice.classes);
        for (int64_t c = 0; c < slice.classes; ++c) {
            table[(e * slice.classes + c) * slice.members + member] =
                portable_exp(0.5 * (static_cast<double>(z[c]) - most));
        }
    }
}

// One thread a pair, over the chunk's examples.
__global__ void judge_pairs(int64_t* correct, const float* table, PairSlice slice, int64_t first,
                            int64_t count) {
    int64_t i = static_cast<int64_t>(blockIdx.y) * kSide + threadIdx.y;
    int64_t j = static_cast<int64_t>(blockIdx.x) * kSide + threadIdx.x;
    if (i >= j || j >= slice.members) return;
    int64_t right = 0;
    for (int64_t e = 0; e < count; ++e) {
        const float* logits = table + e * slice.classes * slice.members;
        int64_t label = slice.labels[first + e];
        float mine = logits[label * slice.members + i] + logits[label * slice.members + j];
        bool below = true, tie = false;  // every other sum is at most `mine`; one equals it
        for (int64_t c = 0; c < slice.classes; ++c) {
            if (c == label) continue;
            float sum = logits[c * slice.members + i] + logits[c * slice.members + j];
            below = below && sum <= mine;
            tie = tie || sum == mine;
        }
        if (below && tie) {
            below =
                ensemble_right(logits + i, slice.members, logits + j, slice.members, slice.classes, label);
        }
        right += below;
    }
    correct[i * slice.members + j] += right;
}

// One thread a pair, over one chunk.
__global__ void multiply_pairs(double* products, const double* table, PairSlice slice, int64_t first,
                               int64_t count) {
    int64_t i = static_cast<int64_t>(blockIdx.y) * kSide + threadIdx.y;
    int64_t j = static_cast<int64_t>(blockIdx.x) * kSide + threadIdx.x;
    if (i > j || j >= slice.members) return;
    double product = 1.0;
    for (int64_t e = 0; e < count; ++e) {
        const double* roots = table + e * slice.classes * slice.members;
        double dot = roots[j] * roots[i];
        for (int64_t c = 1; c < slice.classes; ++c) {
            dot = fused_multiply_add(roots[c * slice.members + j], roots[c * slice.members + i], dot);
        }
        product = e == 0 ? dot : product * dot;
    }
    double sum = 0.0;
    if (product < kLeastProduct) {
        for (int64_t e = first; e < first + count; ++e) {
            const float *a = logits_of(slice, i, e), *b = logits_of(slice, j, e);
            sum += log_product(a, largest(a, slice.classes), b, largest(b, slice.classes), slice.classes);
        }
    } else {
        sum = portable_log(product);
    }
    products[i * slice.members + j] += sum;
}

dim3 pair_blocks(int64_t members) {
    unsigned side = static_cast<unsigned>((members + kSide - 1) / kSide);
    return dim3(side, side);
}

}  // namespace

size_t ensemble_workspace_cuda(int64_t members, int64_t classes) {
    return kChunk * classes * members * sizeof(double);
}

void ensemble_correct_cuda(int64_t* correct, const PairSlice& slice, void* workspace, void* stream) {
    auto cuda_stream = static_cast<cudaStream_t>(stream);
    auto* table = static_cast<float*>(workspace);
    if (slice.members == 0) return;
    for (int64_t first = 0; first < slice.examples; first += kChunk) {
        int64_t count = std::min<int64_t>(kChunk, slice.examples - first);
        write_logits<<<blocks_for(slice.members * count, kThreads), kThreads, 0, cuda_stream>>>(table, slice,
                                                                                                first, count);
        judge_pairs<<<pair_blocks(slice.members), dim3(kSide, kSide), 0, cuda_stream>>>(correct, table, slice,
                                                                                        first, count);
    }
    check_cuda(cudaGetLastError(), "ensemble accuracy");
}

void ensemble_log_products_cuda(double* products, const PairSlice& slice, void* workspace, void* stream) {
    auto cuda_stream = static_cast<cudaStream_t>(stream);
    auto* table = static_cast<double*>(workspace);
    if (slice.members == 0) return;
    for (int64_t first = 0; first < slice.examples; first += kChunk) {
        int64_t count = std::min<int64_t>(kChunk, slice.examples - first);
        write_roots<<<blocks_for(slice.members * count, kThreads), kThreads, 0, cuda_stream>>>(table, slice,
                                                                                               first, count);
        multiply_pairs<<<pair_blocks(slice.members), dim3(kSide, kSide), 0, cuda_stream>>>(
            products, table, slice, first, count);
    }
    check_cuda(cudaGetLastError(), "ensemble cross-entropy");
}

}  // namespace popnet
