// A flat parameter buffer is a list of segments (one a parameter tensor) with padding between them.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "common/device.h"

namespace popnet {

// Elements offset .. offset + length - 1, their factor on the learning rate and their weight decay.
struct Segment {
    int64_t offset, length;
    double rate_multiplier;
    float weight_decay;
};

inline int64_t total_length(const std::vector<Segment>& segments) {
    int64_t total = 0;
    for (const Segment& segment : segments) total += segment.length;
    return total;
}

// Elements begin .. end-1 of all segments laid end to end: f(segment, first, count) for each piece, `first`
// an offset into the flat buffer.
template <typename Function>
void for_each_piece(const std::vector<Segment>& segments, int64_t begin, int64_t end, Function&& function) {
    int64_t before = 0;
    for (const Segment& segment : segments) {
        int64_t from = std::max(begin, before), to = std::min(end, before + segment.length);
        if (from < to) function(segment, segment.offset + from - before, to - from);
        before += segment.length;
    }
}

}  // namespace popnet
