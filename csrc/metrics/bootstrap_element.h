// One resample of one statistic, for both sides.
#pragma once

#include <cmath>
#include <cstdint>

#include "common/philox.h"
#include "metrics/unit_vector.h"

namespace popnet {

POPNET_HOST_DEVICE double resample_deviation(const int64_t* values, int64_t members, uint64_t seed,
                                             uint32_t resample) {
    uint64_t sum = 0;
    unsigned __int128 squares = 0;
    for (int64_t first = 0; first < members; first += 4) {
        Words words = stream_words(seed, BOOTSTRAP, 0, resample, static_cast<uint32_t>(first / 4));
        for (int64_t draw = first; draw < members && draw < first + 4; ++draw) {
            uint32_t member = uniform_integer(words.word[draw - first], static_cast<uint32_t>(members));
            uint64_t value = static_cast<uint64_t>(values[member]);
            sum += value;
            squares += static_cast<unsigned __int128>(value) * value;
        }
    }
    unsigned __int128 scaled =
        squares * static_cast<uint64_t>(members) - static_cast<unsigned __int128>(sum) * sum;
    double variance = nearest_double(static_cast<uint64_t>(scaled >> 64), static_cast<uint64_t>(scaled));
    return sqrt(variance) / static_cast<double>(members);
}

}  // namespace popnet
