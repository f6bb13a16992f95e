// Standard deviations of bootstrap resamples, in integers: exact, so the same on every device and for any
// thread count.
//
// values: int64 [statistics, members], each in 0 .. 2^41, members at most 2^20. A resample draws `members`
// members with replacement, the same ones for every statistic: draw d of resample r is
// uniform_integer(word[d % 4] of stream_words(seed, BOOTSTRAP, 0, r, d / 4), members).
//
// deviations: float64 [statistics, resamples], the population standard deviation of a resample (ddof 0),
//
//   sqrt(members * sum v^2 - (sum v)^2) / members
//
// whose difference is an exact integer, rounded once.
//
// Floor: resamples * members / 4 Philox blocks (10 rounds), a gather and a 128-bit multiply-add per draw and
// statistic.
#pragma once

#include <cstdint>

namespace popnet {

void bootstrap_deviations_cpu(double* deviations, const int64_t* values, int64_t statistics, int64_t members,
                              int64_t resamples, uint64_t seed, int threads);
void bootstrap_deviations_cuda(double* deviations, const int64_t* values, int64_t statistics, int64_t members,
                               int64_t resamples, uint64_t seed, void* stream);

}  // namespace popnet
