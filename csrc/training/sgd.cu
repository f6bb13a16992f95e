#include "training/segments.cuh"
#include "training/sgd.h"
#include "training/sgd_element.h"

namespace popnet {
namespace {

struct ElementOptions {
    double rate_multiplier;
    float weight_decay;
};

// One thread a few elements of one segment (see segments.cuh).
struct Update {
    FlatSgd buffers;
    SgdOptions options;

    __device__ void operator()(int64_t i, const ElementOptions& element) const {
        if (!options.source.skip || *options.source.skip == 0.0f) {
            double lr = options.source.now ? options.source.now->rate : options.lr;
            float parameter = buffers.parameters[i], moment = buffers.momentum_buffer[i];
            sgd_element(parameter, buffers.gradients[i], moment,
                        -static_cast<float>(lr * element.rate_multiplier), element.weight_decay,
                        options.momentum, options.nesterov);
            buffers.parameters[i] = parameter;
            buffers.momentum_buffer[i] = moment;
        }
        if (options.zero_gradients) buffers.gradients[i] = 0.0f;
    }
};

}  // namespace

void sgd_cuda(const FlatSgd& buffers, const std::vector<Segment>& segments, const SgdOptions& options,
              void* stream) {
    auto options_of = [](const Segment& segment) {
        return ElementOptions{segment.rate_multiplier, segment.weight_decay};
    };
    launch_segments<ElementOptions>(segments, options_of, Update{buffers, options}, stream, "SGD step");
}

}  // namespace popnet
