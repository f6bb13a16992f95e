// parallel_for(items, threads, f): f(begin, end) over a static split of 0 .. items-1.
//
// Whatever f computes for an item must not depend on the split. Only the num_threads clause is used: the
// OpenMP runtime is shared with PyTorch, and omp_set_num_threads would change PyTorch's count, hence its
// bits.
#pragma once

#include <algorithm>
#include <cstdint>

#ifdef _OPENMP
#include <omp.h>
#endif

namespace popnet {

template <typename Function>
void parallel_for(int64_t items, int threads, Function&& function) {
#ifdef _OPENMP
    int team = static_cast<int>(std::clamp<int64_t>(items, 1, threads));
    if (team > 1) {
#pragma omp parallel num_threads(team)
        {
            int64_t members = omp_get_num_threads();  // the runtime may grant fewer than asked for
            int64_t member = omp_get_thread_num();
            function(items * member / members, items * (member + 1) / members);
        }
        return;
    }
#endif
    (void)threads;
    function(int64_t{0}, items);
}

}  // namespace popnet
