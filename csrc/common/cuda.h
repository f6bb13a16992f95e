// What every .cu file needs: launch errors as exceptions, the number of blocks for a number of items.
#pragma once

#include <cuda_runtime.h>

#include <algorithm>
#include <cstdint>
#include <string>

#include "common/cuda_error.h"

// The most blocks of a launch whose threads stride over what is left. Tests set it to 2, so that they do.
#if !defined(POPNET_MOST_BLOCKS)
#define POPNET_MOST_BLOCKS (1 << 20)
#endif

namespace popnet {

inline void check_cuda(cudaError_t status, const char* what) {
    if (status != cudaSuccess) throw CudaError(std::string(what) + ": " + cudaGetErrorString(status));
}

// Blocks for one thread an item, for kernels whose threads stride over what is left: at least one block, at
// most `limit`.
inline unsigned blocks_for(int64_t items, int threads_per_block, int64_t limit = POPNET_MOST_BLOCKS) {
    int64_t blocks = (items + threads_per_block - 1) / threads_per_block;
    return static_cast<unsigned>(
        std::clamp<int64_t>(blocks, 1, std::min<int64_t>(limit, POPNET_MOST_BLOCKS)));
}

// Rows of blocks (gridDim.y) for one an item, as above.
inline unsigned rows_for(int64_t items) {
    return static_cast<unsigned>(std::clamp<int64_t>(items, 1, std::min<int64_t>(65535, POPNET_MOST_BLOCKS)));
}

}  // namespace popnet
