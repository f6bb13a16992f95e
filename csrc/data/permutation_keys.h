// The sort keys of the epoch permutation, for both sides.
#pragma once

#include <cstdint>

#include "common/philox.h"

namespace popnet {

// Writes the keys of indices 2 * pair and 2 * pair + 1 (the latter unless it is `size`).
POPNET_HOST_DEVICE void write_key_pair(uint64_t* keys, int64_t pair, int64_t size, uint64_t seed,
                                       uint32_t source, uint32_t epoch, uint32_t block) {
    Words words = stream_words(seed, source, epoch, static_cast<uint32_t>(pair), block);
    keys[2 * pair] = static_cast<uint64_t>(words.word[1]) << 32 | words.word[0];
    if (2 * pair + 1 < size) {
        keys[2 * pair + 1] = static_cast<uint64_t>(words.word[3]) << 32 | words.word[2];
    }
}

}  // namespace popnet
