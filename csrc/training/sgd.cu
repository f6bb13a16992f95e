#include "training/segments.cuh"
#include "training/sgd.h"
#include "training/sgd_element.h"

namespace popnet {
namespace {

struct ElementOptions {
    float negative_rate, weight_decay;
};

// One thread a few elements of one segment (see segments.cuh).
struct Update {
    FlatSgd buffers;
    float momentum;
    bool nesterov, zero_gradients;

    __device__ void operator()(int64_t i, const ElementOptions& options) const {
        float parameter = buffers.parameters[i], moment = buffers.momentum_buffer[i];
        sgd_element(parameter, buffers.gradients[i], moment, options.negative_rate, options.weight_decay,
                    momentum, nesterov);
        buffers.parameters[i] = parameter;
        buffers.momentum_buffer[i] = moment;
        if (zero_gradients) buffers.gradients[i] = 0.0f;
    }
};

}  // namespace

void sgd_cuda(const FlatSgd& buffers, const std::vector<Segment>& segments, const SgdOptions& options,
              void* stream) {
    auto options_of = [&](const Segment& segment) {
        return ElementOptions{-static_cast<float>(options.lr * segment.rate_multiplier),
                              segment.weight_decay};
    };
    launch_segments<ElementOptions>(
        segments, options_of, Update{buffers, options.momentum, options.nesterov, options.zero_gradients},
        stream, "SGD step");
}

}  // namespace popnet
