#include "common/cuda.h"
#include "common/exact_sum.h"
#include "metrics/mixture.h"
#include "metrics/mixture_element.h"

namespace popnet {
namespace {

constexpr int kThreads = 256;
constexpr int kSide = 16;                 // kSide x kSide pairs a block
constexpr int64_t kBatch = 64 * kTokens;  // tokens whose probabilities are held at once

__device__ const float* log_probabilities(const TokenSlice& slice, int64_t member, int64_t token) {
    return slice.values + slice.rows[member] * slice.member_stride + token;
}

__device__ void add_integer(int64_t* sum, int64_t value) {
    atomicAdd(reinterpret_cast<unsigned long long*>(sum), static_cast<unsigned long long>(value));
}

// One block a member; the exact sum is gathered in shared memory, integers in any order.
__global__ void sum_tokens(int64_t* sums, TokenSlice slice) {
    __shared__ int64_t limbs[kExactLimbs];
    for (int64_t member = blockIdx.x; member < slice.members; member += gridDim.x) {
        for (int k = threadIdx.x; k < kExactLimbs; k += kThreads) limbs[k] = 0;
        __syncthreads();
        const float* values = log_probabilities(slice, member, 0);
        for (int64_t t = threadIdx.x; t < slice.tokens; t += kThreads) {
            ExactParts parts = exact_parts(values[t]);
            for (int i = 0; i < 3; ++i) add_integer(&limbs[parts.limb + i], parts.part[i]);
        }
        __syncthreads();
        for (int k = threadIdx.x; k < kExactLimbs; k += kThreads) sums[member * kExactLimbs + k] += limbs[k];
        __syncthreads();
    }
}

// table[member][t] = p of token first + t.
__global__ void write_probabilities(double* table, TokenSlice slice, int64_t first, int64_t count) {
    int64_t stride = static_cast<int64_t>(gridDim.x) * blockDim.x;
    for (int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < slice.members * count;
         i += stride) {
        int64_t member = i / count, t = i % count;
        table[member * kBatch + t] = portable_exp(*log_probabilities(slice, member, first + t));
    }
}

// One thread a pair, over the chunks of one batch, in order.
__global__ void multiply_pairs(double* products, const double* table, TokenSlice slice, int64_t first,
                               int64_t count) {
    if (blockIdx.x < blockIdx.y) return;
    __shared__ double rows[kSide][kTokens + 1], columns[kSide][kTokens + 1];
    int64_t i = static_cast<int64_t>(blockIdx.y) * kSide + threadIdx.y;
    int64_t j = static_cast<int64_t>(blockIdx.x) * kSide + threadIdx.x;
    int64_t column_member = static_cast<int64_t>(blockIdx.x) * kSide + threadIdx.y;
    bool inside = i <= j && j < slice.members;
    double total = inside ? products[i * slice.members + j] : 0.0;
    for (int64_t start = 0; start < count; start += kTokens) {
        int64_t tokens = count - start < kTokens ? count - start : kTokens;
        for (int64_t t = threadIdx.x; t < tokens; t += kSide) {
            rows[threadIdx.y][t] = i < slice.members ? table[i * kBatch + start + t] : 1.0;
            columns[threadIdx.y][t] =
                column_member < slice.members ? table[column_member * kBatch + start + t] : 1.0;
        }
        __syncthreads();
        double product = rows[threadIdx.y][0] + columns[threadIdx.x][0];
        for (int64_t t = 1; t < tokens; ++t) product *= rows[threadIdx.y][t] + columns[threadIdx.x][t];
        if (inside) {
            total += product < kLeastMixture ? log_sums(log_probabilities(slice, i, first + start),
                                                        log_probabilities(slice, j, first + start), tokens)
                                             : portable_log(product);
        }
        __syncthreads();
    }
    if (inside) products[i * slice.members + j] = total;
}

}  // namespace

void token_sums_cuda(int64_t* sums, const TokenSlice& slice, void* stream) {
    if (slice.members == 0) return;
    sum_tokens<<<blocks_for(slice.members, 1), kThreads, 0, static_cast<cudaStream_t>(stream)>>>(sums, slice);
    check_cuda(cudaGetLastError(), "sums of log-probabilities");
}

size_t mixture_workspace_cuda(int64_t members) {
    return members * kBatch * sizeof(double);
}

void mixture_log_products_cuda(double* products, const TokenSlice& slice, void* workspace, void* stream) {
    if (slice.members == 0) return;
    auto cuda_stream = static_cast<cudaStream_t>(stream);
    auto* table = static_cast<double*>(workspace);
    unsigned side = static_cast<unsigned>((slice.members + kSide - 1) / kSide);
    for (int64_t first = 0; first < slice.tokens; first += kBatch) {
        int64_t count = std::min<int64_t>(kBatch, slice.tokens - first);
        write_probabilities<<<blocks_for(slice.members * count, kThreads), kThreads, 0, cuda_stream>>>(
            table, slice, first, count);
        multiply_pairs<<<dim3(side, side), dim3(kSide, kSide), 0, cuda_stream>>>(products, table, slice,
                                                                                 first, count);
    }
    check_cuda(cudaGetLastError(), "ensemble perplexity");
}

}  // namespace popnet
