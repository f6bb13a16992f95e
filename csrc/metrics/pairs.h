// Ensembles of two, for all pairs of members: is the mean of their logits right, and what is its
// cross-entropy?
//
// The logits of member m, example e are at values + rows[m] * member_stride + e * classes, float32, finite,
// for examples 0 .. examples-1; labels: int64 [examples]. A population is taken in slices of examples of any
// size, except that slices for the cross-entropy begin at multiples of kChunk, in order.
//
// Accuracy. The ensemble predicts the lowest class of the largest exact sum z_i + z_j. Rounding is monotone:
// where the float32 sums of two classes differ, so do the exact ones; where they are equal, the exact sums
// decide (two-sum of doubles). Where two members predict the same class, so does their ensemble, so only the
// other pairs are looked at.
//
// Cross-entropy. With E = exp((z - max z) / 2), the ensemble's cross-entropy minus the mean of its members'
// is the mean over examples of log(E_i . E_j) - (log(E_i . E_i) + log(E_j . E_j)) / 2: the labels cancel.
//
//   products   float64 [members, members], added to: the sum over chunks of kChunk examples of
//              log(E_i . E_j of the chunk's first example * E_i . E_j of its second * ...)
//
// with one logarithm for a chunk, chunks in order; E_i . E_j = fma over c = 0, 1, ... Where the product is
// below 2^-960 the chunk is the sum, in order, of its examples' log-sum-exp, which does not underflow.
// Entries j < i are undefined.
//
// Floors, for P = members^2 / 2 pairs: accuracy, P * examples * disagreement * 2 classes operations on
// float32; cross-entropy, P * examples * classes fused multiply-adds on float64.
#pragma once

#include <cstddef>
#include <cstdint>

namespace popnet {

constexpr int kChunk = 16;

struct PairSlice {
    const float* values;
    int64_t member_stride;
    const int64_t* rows;
    int64_t members, examples, classes;
    const int64_t* labels;  // not read by the cross-entropy
};

// The sum over pairs i < j and examples of 2 [ensemble right] - [i right] - [j right].
int64_t ensemble_gain_cpu(const PairSlice& slice, int threads);

// correct: int64 [members, members], added to for i < j only: examples on which the ensemble is right.
void ensemble_correct_cpu(int64_t* correct, const PairSlice& slice, int threads);

void ensemble_log_products_cpu(double* products, const PairSlice& slice, int threads);

// workspace: ensemble_workspace_cuda(members, classes) bytes, aligned to 256.
size_t ensemble_workspace_cuda(int64_t members, int64_t classes);
void ensemble_correct_cuda(int64_t* correct, const PairSlice& slice, void* workspace, void* stream);
void ensemble_log_products_cuda(double* products, const PairSlice& slice, void* workspace, void* stream);

}  // namespace popnet
