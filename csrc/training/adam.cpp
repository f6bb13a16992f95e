#include "training/adam.h"

#include <cstring>

#include "common/parallel.h"
#include "training/adam_element.h"

namespace popnet {
namespace {

void update(float* __restrict p, float* __restrict g, float* __restrict m, float* __restrict v, int64_t count,
            float negative_rate, float weight_decay, const AdamConstants& shared) {
    const AdamConstants constants = shared;
    for (int64_t i = 0; i < count; ++i) {
        adam_element(p[i], g[i], m[i], v[i], negative_rate, weight_decay, constants);
    }
}

}  // namespace

void adam_cpu(const FlatAdam& buffers, const std::vector<Segment>& segments, const AdamOptions& options,
              int threads) {
    AdamConstants constants = at_step(adam_constants(options), options.source.now);
    bool skip = options.source.skip && *options.source.skip != 0.0f;
    parallel_for(total_length(segments), threads, [&](int64_t begin, int64_t end) {
        for_each_piece(segments, begin, end, [&](const Segment& segment, int64_t first, int64_t count) {
            float* gradients = buffers.gradients + first;
            if (!skip) {
                update(buffers.parameters + first, gradients, buffers.first_moment + first,
                       buffers.second_moment + first, count,
                       adam_negative_rate(constants, segment.rate_multiplier), segment.weight_decay,
                       constants);
            }
            if (options.zero_gradients) std::memset(gradients, 0, count * sizeof(float));
        });
    });
}

}  // namespace popnet
