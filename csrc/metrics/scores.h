// What one pass over a member's logits gives: correct answers, cross-entropy, predictions.
//
// logits: float32 [members, examples, classes], finite, contiguous. labels: int64 [examples], all below
// `classes`.
//
//   predictions   int32 [members, examples]: the lowest class of the largest logit
//   correct       int64 [members], zeroed by the caller: examples whose prediction is the label
//   correct_bits  uint64 [members, ceil(examples / 64)]: bit e % 64 of word e / 64: is example e right?
//   losses        int64 [members, kExactLimbs], zeroed by the caller: the exact sum of cross-entropies
//
// An example's cross-entropy in nats, with t_c = double(z_c) - double(max z) and portable_math.h, is
//
//   log(exp(t_0) + exp(t_1) + ...) - t_label
//
// summed from class 0 up. Any output but `losses` may be null.
//
// Floor: 4 bytes read and one exp (about 20 operations) per logit.
#pragma once

#include <cstddef>
#include <cstdint>

namespace popnet {

struct Logits {
    const float* values;
    int64_t members, examples, classes;
};

struct MemberScores {
    int64_t* correct;
    uint64_t* correct_bits;
    int64_t* losses;
    int32_t* predictions;
};

void member_scores_cpu(const Logits& logits, const int64_t* labels, const MemberScores& out, int threads);
void member_scores_cuda(const Logits& logits, const int64_t* labels, const MemberScores& out, void* stream);

// values[m] = the double nearest to the exact sum whose limbs are losses[m]; on the host.
void exact_sums(double* values, int64_t* limbs, int64_t count);

// The first index whose value is NaN or infinite, or -1.
int64_t first_nonfinite_cpu(const float* values, int64_t count, int threads);

// Disagreement. predictions: int32 [members, examples], below `classes`.
// votes: int64 [examples, classes], added to: how many members predict each class.
void add_votes_cpu(int64_t* votes, const int32_t* predictions, int64_t members, int64_t examples,
                   int64_t classes, int threads);
void add_votes_cuda(int64_t* votes, const int32_t* predictions, int64_t members, int64_t examples,
                    int64_t classes, void* stream);

// differing: int64 [members, members], symmetric: examples on which two members' predictions differ.
// Floor: members^2 / 2 * examples comparisons of 4-byte integers.
void differing_matrix_cpu(int64_t* differing, const int32_t* predictions, int64_t members, int64_t examples,
                          int threads);
void differing_matrix_cuda(int64_t* differing, const int32_t* predictions, int64_t members, int64_t examples,
                           void* stream);

}  // namespace popnet
