// Mean correlation over all pairs in O(members x values), and the ranks that the full matrix is made of.
//
// With u_i = v_i / |v_i| the normalised vectors of M members, the sum over ordered pairs of u_i . u_j is
// |sum u_i|^2 - sum |u_i|^2. Every component of u_i is rounded to a multiple of 2^-62 first, so that `sums`
// is an exact integer in any order of members, any split and on any device; the caller divides |S|^2 - sum
// q_i by (M - 1) sum q_i, all integers, q_i = |u_i|^2. Equal vectors so give exactly 1, opposite ones -1.
//
// Error of a pair's correlation: a component of u errs by at most 2^-52 of itself (root and quotient, each
// rounded once) and 2^-63 (the fixed point), hence a pair by 2^-51 and sqrt(values) 2^-62, and as much again
// since q_i is 1 but for such an error: together below 1e-14 for up to 10^8 values.
//
// v is, for Spearman, the centred doubled average rank 2 rank - (values + 1), an integer, |v|^2 summed in
// integers; -0 and 0 tie. For Pearson, double(z) - mean; the mean and |v|^2 are summed over 256 lanes (value
// k goes to lane k % 256, in order; lanes are then added pairwise: l += l + 128, l += l + 64, ...).
//
// A member whose values are all equal adds nothing; its q is 0.
//
// Floor, a value: Spearman 104 bytes in cache (4 read and 8 written for keys, three radix passes of 8 read
// and 8 written, 8 read once more, 16 of `sums` read and written) and one division; Pearson one division and
// the same sums.
#pragma once

#include <cstddef>
#include <cstdint>

namespace popnet {

// 128-bit two's complement integers, least significant word first: sums[2 k], sums[2 k + 1].
struct UnitSums {
    uint64_t* sums;     // [values][2], added to
    uint64_t* squares;  // [members][2], written: q_i in units of 2^-124
};

enum class Correlation { SPEARMAN, PEARSON };

// values: at least 1, here and below.
void add_unit_vectors_cpu(const UnitSums& out, const float* logits, int64_t members, int64_t values,
                          Correlation kind, int threads);

// workspace: unit_vectors_workspace_cuda(members, values) bytes, aligned to 256.
size_t unit_vectors_workspace_cuda(int64_t members, int64_t values);
void add_unit_vectors_cuda(const UnitSums& out, const float* logits, int64_t members, int64_t values,
                           Correlation kind, void* workspace, size_t workspace_bytes, void* stream);

// sum over k of sums[k]^2 as three 128-bit integers a, b, c (two words each): a 2^80 + b 2^41 + c.
void sum_of_squares(uint64_t result[6], const uint64_t* sums, int64_t values);

// ranks: int32 [members, values], the centred doubled average ranks.
void centred_ranks_cpu(int32_t* ranks, const float* logits, int64_t members, int64_t values, int threads);
void centred_ranks_cuda(int32_t* ranks, const float* logits, int64_t members, int64_t values, void* workspace,
                        size_t workspace_bytes, void* stream);

}  // namespace popnet
