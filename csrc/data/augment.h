// From a resident uint8 image set and the indices of a batch to the normalised batch.
//
// images: uint8 [count, height, width, channels]; indices: int64 [batch], each in 0 .. count-1.
// out: float32 or bfloat16, [batch, height, width, channels] in memory (Layout::NHWC, PyTorch's
// channels_last) or [batch, channels, height, width] (Layout::NCHW).
//
// Random draws are a function of (seed, epoch, image index) and of nothing else: the Philox words of the
// counter (image index, epoch, block, AUGMENT), always at the same place, so that switching one operation on
// changes no other:
//   block 0: crop_y, crop_x, flip, unused         block 1: translate_y, translate_x, cutout_y, cutout_x
//
// The operations, in their order; every read outside an image gives 0:
//   crop      a[y, x] = in[y + dy, x + dx], dy and dx uniform in -crop .. crop (the offset in the zero-padded
//   image,
//             0 .. 2 crop, is dy + crop)
//   flip      b[y, x] = a[y, width-1-x] with probability 1/2 (the word's top bit)
//   translate c[y, x] = b[y - ty, x - tx], ty and tx uniform in -translate .. translate: the content moves by
//   (ty, tx) cutout    a square of cutout x cutout pixels that lies wholly inside c, its corner uniform in 0
//   .. height-cutout
//             and 0 .. width-cutout, is set to `fill`
//   normalise out = fma(pixel, scale, shift), scale = float32(1 / (255 std)), shift = float32(-mean / std),
//   both
//             computed in float64; bfloat16 is the float32 value rounded to nearest, ties to even.
// Zeros and fill are pixel values: they are normalised like any other.
//
// A view is the deterministic form: given dy, dx (any sign) and flip, no draws: out[y, x] = in[y + dy, x +
// dx], then, if flip, the shifted image is mirrored: out[y, x] = in[y + dy, (width-1-x) + dx].
#pragma once

#include <cstdint>

#include "common/numbers.h"
#include "common/step_values.h"

namespace popnet {

constexpr int kMaxChannels = 16;

enum class Layout { NHWC, NCHW };

struct ImageSet {
    const uint8_t* pixels;
    int64_t count;
    int height, width, channels;
};

struct Normalisation {
    float scale[kMaxChannels], shift[kMaxChannels];
};

struct Augmentation {
    // Random, a function of (seed, epoch, image index); 0 or false switches an operation off.
    bool random;
    uint64_t seed;
    uint32_t epoch;
    int crop, translate, cutout;
    bool flip;
    uint8_t fill[kMaxChannels];
    // Fixed, for views; used where random is false.
    int dy, dx;
    bool mirror;
    // Where given, its augment seed and epoch are used.
    const StepValues* now;
};

struct Batch {
    void* data;
    const int64_t* indices;
    int64_t size;
    Layout layout;
    FloatType type;
    // What the draws of each element depend on in the place of its index: int64 [size]; null: the index
    // itself.
    const int64_t* keys = nullptr;
};

// Throws std::out_of_range if an index is none of the image set.
void augment_cpu(const ImageSet& images, const Batch& batch, const Augmentation& augmentation,
                 const Normalisation& normalisation, int threads);

// Everything on the current device. Indices cannot be checked there: an image that does not exist becomes
// NaN.
void augment_cuda(const ImageSet& images, const Batch& batch, const Augmentation& augmentation,
                  const Normalisation& normalisation, void* stream);

}  // namespace popnet
