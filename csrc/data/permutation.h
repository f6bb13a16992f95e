// The order of `size` examples in one epoch: a permutation that is a function of (seed, source, epoch,
// block).
//
// Index i gets the 64-bit key (word[2 * (i % 2) + 1] << 32) | word[2 * (i % 2)], where word[0..3] are the
// Philox words of the counter (i / 2, epoch, block, source). The permutation lists the indices by ascending
// key; equal keys keep the smaller index first. Any epoch is entered directly, and the CPU and the GPU give
// the same permutation.
#pragma once

#include <cstddef>
#include <cstdint>

namespace popnet {

// order: int64 [size]; 0 <= size <= 2^31 - 1.
void permutation_cpu(int64_t* order, int64_t size, uint64_t seed, uint32_t source, uint32_t epoch,
                     uint32_t block, int threads);

// order and workspace lie on the current device; workspace has permutation_workspace_cuda(size) bytes,
// 256-aligned.
size_t permutation_workspace_cuda(int64_t size);
void permutation_cuda(int64_t* order, void* workspace, size_t workspace_bytes, int64_t size, uint64_t seed,
                      uint32_t source, uint32_t epoch, uint32_t block, void* stream);

}  // namespace popnet
