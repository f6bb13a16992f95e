// Which part of a picture is looked at: drawn, or in the middle.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "common/philox.h"
#include "common/portable_math.h"
#include "data/resample.h"

namespace popnet {

// How a picture of any size becomes one of height x width; 0 x 0 leaves it as it is.
struct Framing {
    int height = 0, width = 0;
    // The random resized crop's ranges, of its area as a share of the picture's, and of width / height.
    bool random = false;
    double least_area = 0, most_area = 0, least_aspect = 0, most_aspect = 0;
    // Else: a square in the middle, its side this share of the picture's shorter one, moved by dy and dx, in
    // units of the output's pixels.
    double share = 1;
    int dy = 0, dx = 0;
};

constexpr uint32_t kCropBlock = 2;  // of the Philox counters: blocks 0 and 1 are augment's (data/augment.h)
constexpr uint32_t kCropAttempts = 10;

// Uniform in [low, high).
inline double uniform_real(uint32_t word, double low, double high) {
    return low + word * 0x1p-32 * (high - low);
}

// torchvision's distribution: ten attempts to draw an area and, uniform in its logarithm, an aspect ratio
// whose rectangle fits; then a uniform place. If none fits, the largest rectangle in the middle whose ratio
// is in range. Attempt k is a function of (seed, epoch, index): block 2 + k of the stream AUGMENT, its words
// the area, the ratio, y and x. Sizes are rounded half to even.
inline Box random_box(const Framing& framing, int height, int width, uint64_t seed, uint32_t epoch,
                      uint32_t index) {
    double area = static_cast<double>(height) * width;
    double least_log = portable_log(framing.least_aspect), most_log = portable_log(framing.most_aspect);
    for (uint32_t attempt = 0; attempt < kCropAttempts; ++attempt) {
        Words words = stream_words(seed, AUGMENT, epoch, index, kCropBlock + attempt);
        double target = area * uniform_real(words.word[0], framing.least_area, framing.most_area);
        double aspect = portable_exp(uniform_real(words.word[1], least_log, most_log));
        int w = static_cast<int>(std::nearbyint(std::sqrt(target * aspect)));
        int h = static_cast<int>(std::nearbyint(std::sqrt(target / aspect)));
        if (0 < w && w <= width && 0 < h && h <= height) {
            int y = static_cast<int>(uniform_integer(words.word[2], height - h + 1));
            int x = static_cast<int>(uniform_integer(words.word[3], width - w + 1));
            return Box{y, x, h, w};
        }
    }
    double aspect = static_cast<double>(width) / height;
    int h = height, w = width;
    if (aspect < framing.least_aspect) {
        h = std::clamp(static_cast<int>(std::nearbyint(w / framing.least_aspect)), 1, height);
    } else if (aspect > framing.most_aspect) {
        w = std::clamp(static_cast<int>(std::nearbyint(h * framing.most_aspect)), 1, width);
    }
    return Box{(height - h) / 2, (width - w) / 2, h, w};
}

// The square's side is rounded down, as is its corner; a move that would leave the picture ends at its
// border.
inline Box central_box(const Framing& framing, int height, int width) {
    int side = std::max(static_cast<int>(framing.share * std::min(height, width)), 1);
    auto corner = [side](int size, int move, int out) {
        int moved = static_cast<int>(std::nearbyint(static_cast<double>(move) * side / out));
        return std::clamp((size - side) / 2 + moved, 0, size - side);
    };
    return Box{corner(height, framing.dy, framing.height), corner(width, framing.dx, framing.width), side,
               side};
}

}  // namespace popnet
