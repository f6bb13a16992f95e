// The sort keys of the epoch permutation, for both sides.
#pragma once

#include <cstdint>

#include "common/philox.h"

namespace popnet {

struct KeyPair {
    uint64_t even, odd;
};

// The keys of indices 2 * pair and 2 * pair + 1.
POPNET_HOST_DEVICE KeyPair permutation_keys(int64_t pair, uint64_t seed, uint32_t source, uint32_t epoch,
                                            uint32_t block) {
    Words words = stream_words(seed, source, epoch, static_cast<uint32_t>(pair), block);
    return KeyPair{static_cast<uint64_t>(words.word[1]) << 32 | words.word[0],
                   static_cast<uint64_t>(words.word[3]) << 32 | words.word[2]};
}

}  // namespace popnet
