// Part of a picture, resized: a triangle filter as wide as the step between output pixels (never narrower
// than a pixel), which is bilinear interpolation with antialiasing. Weights in float64, normalised, rounded
// to multiples of 2^-22; along rows first, then along columns, each pass rounded to uint8. The bytes are
// those of Pillow's resize(BILINEAR) of the cropped picture, width first (as Pillow does it up to version 12;
// later ones choose the order by its cost).
#pragma once

#include <cstdint>
#include <vector>

namespace popnet {

// A rectangle of whole pixels inside a picture.
struct Box {
    int y, x, height, width;
};

// The buffers of one thread, reused from picture to picture.
class Resampler {
public:
    // in: uint8 [rows, row_pixels, channels], of which `box` is read; out: uint8 [height, width, channels].
    void resize(const uint8_t* in, int row_pixels, int channels, const Box& box, uint8_t* out, int height,
                int width);

private:
    // What one output position of an axis is made of: `count` inputs from `first` on, their weights from
    // weights[position * stride] on.
    struct Axis {
        int in = 0, out = 0, stride = 0;
        std::vector<int> first, count;
        std::vector<int32_t> weights;
        void prepare(int in_size, int out_size);
    };

    Axis rows_, columns_;
    std::vector<uint8_t> narrowed_;
    std::vector<int32_t> sums_;
};

}  // namespace popnet
