#include "training/adam.h"
#include "training/adam_element.h"
#include "training/segments.cuh"

namespace popnet {
namespace {

struct ElementOptions {
    double rate_multiplier;
    float weight_decay;
};

// One thread a few elements of one segment (see segments.cuh).
struct Update {
    FlatAdam buffers;
    AdamConstants constants;
    StepSource source;
    bool zero_gradients;

    __device__ void operator()(int64_t i, const ElementOptions& element) const {
        if (!source.skip || *source.skip == 0.0f) {
            AdamConstants here = at_step(constants, source.now);
            float parameter = buffers.parameters[i], first = buffers.first_moment[i],
                  second = buffers.second_moment[i];
            adam_element(parameter, buffers.gradients[i], first, second,
                         adam_negative_rate(here, element.rate_multiplier), element.weight_decay, here);
            buffers.parameters[i] = parameter;
            buffers.first_moment[i] = first;
            buffers.second_moment[i] = second;
        }
        if (zero_gradients) buffers.gradients[i] = 0.0f;
    }
};

}  // namespace

void adam_cuda(const FlatAdam& buffers, const std::vector<Segment>& segments, const AdamOptions& options,
               void* stream) {
    auto options_of = [](const Segment& segment) {
        return ElementOptions{segment.rate_multiplier, segment.weight_decay};
    };
    launch_segments<ElementOptions>(
        segments, options_of,
        Update{buffers, adam_constants(options), options.source, options.zero_gradients}, stream,
        "Adam step");
}

}  // namespace popnet
