// The draws and values of a dropout mask, for both sides.
#pragma once

#include "common/numbers.h"
#include "common/philox.h"
#include "training/dropout.h"

namespace popnet {

struct DropoutValues {
    uint64_t threshold;  // a word at least this large keeps its element
    float kept;
};

inline DropoutValues dropout_values(double p) {
    return DropoutValues{static_cast<uint64_t>(p * 4294967296.0),
                         p < 1.0 ? static_cast<float>(1.0 / (1.0 - p)) : 0.0f};
}

// The key with what a step's values say in place of its own seed and step.
POPNET_HOST_DEVICE DropoutKey at_step(DropoutKey key) {
    if (key.now) {
        key.seed = key.now->stochastic_seed;
        key.step = key.now->step;
    }
    return key;
}

// The words of elements 4 group .. 4 group + 3 of an example.
POPNET_HOST_DEVICE Words dropout_words(const DropoutKey& key, uint32_t example, uint32_t group) {
    return philox4x32(group, example, key.step, key.layer << 8 | STOCHASTIC, static_cast<uint32_t>(key.seed),
                      static_cast<uint32_t>(key.seed >> 32));
}

template <typename T>
POPNET_HOST_DEVICE T dropout_value(uint32_t word, const DropoutValues& values) {
    return round_to<T>(word >= values.threshold ? values.kept : 0.0f);
}

}  // namespace popnet
