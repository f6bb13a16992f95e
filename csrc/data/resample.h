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
        // The same for two pixels of three channels at a time, in eights: w w w 0 v v v 0.
        std::vector<int32_t> pairs;
        int pair_stride() const { return (stride + 1) / 2 * 8; }
        void prepare(int in_size, int out_size);
    };

    // Along one row of the box, from whose first byte on `readable` bytes may be read.
    void narrow(const uint8_t* in, int64_t readable, int channels, uint8_t* out) const;

    Axis rows_, columns_;
    std::vector<uint8_t> narrowed_;
};

}  // namespace popnet
