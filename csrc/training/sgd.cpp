#include "training/sgd.h"

#include <cstring>

#include "common/parallel.h"
#include "training/sgd_element.h"

namespace popnet {
namespace {

template <bool kNesterov>
void update(float* __restrict p, float* __restrict g, float* __restrict m, int64_t count, float negative_rate,
            float weight_decay, float momentum) {
    for (int64_t i = 0; i < count; ++i) {
        sgd_element(p[i], g[i], m[i], negative_rate, weight_decay, momentum, kNesterov);
    }
}

}  // namespace

void sgd_cpu(const FlatSgd& buffers, const std::vector<Segment>& segments, const SgdOptions& options,
             int threads) {
    double lr = options.source.now ? options.source.now->rate : options.lr;
    bool skip = options.source.skip && *options.source.skip != 0.0f;
    parallel_for(total_length(segments), threads, [&](int64_t begin, int64_t end) {
        for_each_piece(segments, begin, end, [&](const Segment& segment, int64_t first, int64_t count) {
            float* gradients = buffers.gradients + first;
            auto* function = options.nesterov ? update<true> : update<false>;
            if (!skip) {
                function(buffers.parameters + first, gradients, buffers.momentum_buffer + first, count,
                         -static_cast<float>(lr * segment.rate_multiplier), segment.weight_decay,
                         options.momentum);
            }
            if (options.zero_gradients) std::memset(gradients, 0, count * sizeof(float));
        });
    });
}

}  // namespace popnet
