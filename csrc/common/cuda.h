// What every .cu file needs: launch errors as exceptions, the number of blocks for a number of items.
#pragma once

#include <cuda_runtime.h>

#include <algorithm>
#include <cstdint>
#include <stdexcept>
#include <string>

namespace popnet {

inline void check_cuda(cudaError_t status, const char* what) {
    if (status != cudaSuccess) {
        throw std::runtime_error(std::string(what) + ": " + cudaGetErrorString(status));
    }
}

// Blocks for one thread an item; at most `limit` blocks, whose threads then stride over the rest.
inline unsigned blocks_for(int64_t items, int threads_per_block, int64_t limit = 1 << 20) {
    int64_t blocks = (items + threads_per_block - 1) / threads_per_block;
    return static_cast<unsigned>(std::clamp<int64_t>(blocks, 1, limit));
}

}  // namespace popnet
