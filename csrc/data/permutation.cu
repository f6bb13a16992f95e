#include <cub/device/device_radix_sort.cuh>

#include "common/cuda.h"
#include "data/permutation.h"
#include "data/permutation_keys.h"

namespace popnet {
namespace {

constexpr int kThreads = 256;

// One thread a pair of indices: both keys come from one Philox block.
__global__ void write_keys(uint64_t* keys, int64_t* indices, int64_t size, uint64_t seed, uint32_t source,
                           uint32_t epoch, uint32_t block) {
    int64_t stride = static_cast<int64_t>(gridDim.x) * blockDim.x;
    for (int64_t pair = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; 2 * pair < size;
         pair += stride) {
        KeyPair both = permutation_keys(pair, seed, source, epoch, block);
        keys[2 * pair] = both.even;
        indices[2 * pair] = 2 * pair;
        if (2 * pair + 1 < size) {
            keys[2 * pair + 1] = both.odd;
            indices[2 * pair + 1] = 2 * pair + 1;
        }
    }
}

constexpr size_t aligned(size_t bytes) {
    return (bytes + 255) / 256 * 256;
}

size_t sort_bytes(int64_t size) {
    size_t bytes = 0;
    check_cuda(
        cub::DeviceRadixSort::SortPairs(nullptr, bytes, static_cast<const uint64_t*>(nullptr),
                                        static_cast<uint64_t*>(nullptr), static_cast<const int64_t*>(nullptr),
                                        static_cast<int64_t*>(nullptr), static_cast<int>(size)),
        "permutation: size of CUB's workspace");
    return bytes;
}

}  // namespace

// The workspace holds: keys, sorted keys, indices, CUB's own.
size_t permutation_workspace_cuda(int64_t size) {
    return 3 * aligned(size * sizeof(uint64_t)) + aligned(sort_bytes(size));
}

void permutation_cuda(int64_t* order, void* workspace, size_t workspace_bytes, int64_t size, uint64_t seed,
                      uint32_t source, uint32_t epoch, uint32_t block, void* stream) {
    if (size == 0) return;
    size_t column = aligned(size * sizeof(uint64_t));
    char* base = static_cast<char*>(workspace);
    auto* keys = reinterpret_cast<uint64_t*>(base);
    auto* sorted_keys = reinterpret_cast<uint64_t*>(base + column);
    auto* indices = reinterpret_cast<int64_t*>(base + 2 * column);
    size_t cub_bytes = workspace_bytes - 3 * column;
    auto cuda_stream = static_cast<cudaStream_t>(stream);

    write_keys<<<blocks_for((size + 1) / 2, kThreads), kThreads, 0, cuda_stream>>>(keys, indices, size, seed,
                                                                                   source, epoch, block);
    check_cuda(cudaGetLastError(), "permutation: keys");
    // CUB's radix sort is stable, so equal keys keep the smaller index first.
    check_cuda(cub::DeviceRadixSort::SortPairs(base + 3 * column, cub_bytes, keys, sorted_keys, indices,
                                               order, static_cast<int>(size), 0, 64, cuda_stream),
               "permutation: sort");
}

}  // namespace popnet
