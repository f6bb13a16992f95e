#include "metrics/bootstrap.h"

#include "common/parallel.h"
#include "metrics/bootstrap_element.h"

namespace popnet {

void bootstrap_deviations_cpu(double* deviations, const int64_t* values, int64_t statistics, int64_t members,
                              int64_t resamples, uint64_t seed, int threads) {
    parallel_for(statistics * resamples, threads, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) {
            int64_t statistic = i / resamples;
            deviations[i] = resample_deviation(values + statistic * members, members, seed,
                                               static_cast<uint32_t>(i % resamples));
        }
    });
}

}  // namespace popnet
