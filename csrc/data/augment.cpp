#include "data/augment.h"

#include <algorithm>
#include <cstring>
#include <stdexcept>
#include <string>
#include <vector>

#include "common/parallel.h"
#include "data/placement.h"

// An image is assembled as uint8 rows (moved, mirrored, cut) in a strip that stays in the first-level cache,
// then the strip is converted in long vectorised loops. No pixel is tested for being inside: a row is zeros,
// a contiguous piece of the source, zeros.

namespace popnet {
namespace {

constexpr int64_t kStripBytes = 8192;
constexpr int64_t kPatternPixels = 64;

typedef uint8_t Bytes16 __attribute__((vector_size(16)));

#if defined(__clang__)
#define POPNET_SHUFFLE(v, ...) __builtin_shufflevector(v, v, __VA_ARGS__)
#else
#define POPNET_SHUFFLE(v, ...) __builtin_shuffle(v, Bytes16{__VA_ARGS__})
#endif

// Whole groups of pixels: load 16 bytes, shuffle, store 16 bytes. With three channels a group is 15 bytes;
// the byte too many is read and written inside the row, as one pixel always stays for the loop at the end.
void mirror_row(uint8_t* out, const uint8_t* in, int64_t pixels, int channels) {
    const uint8_t* end = in + pixels * channels;
    Bytes16 group;
    if (channels == 3) {
        for (; pixels >= 6; pixels -= 5, end -= 15, out += 15) {
            std::memcpy(&group, end - 16, 16);
            group = POPNET_SHUFFLE(group, 13, 14, 15, 10, 11, 12, 7, 8, 9, 4, 5, 6, 1, 2, 3, 0);
            std::memcpy(out, &group, 16);
        }
    } else if (channels == 1) {
        for (; pixels >= 16; pixels -= 16, end -= 16, out += 16) {
            std::memcpy(&group, end - 16, 16);
            group = POPNET_SHUFFLE(group, 15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
            std::memcpy(out, &group, 16);
        }
    }
    for (; pixels > 0; --pixels, end -= channels, out += channels) {
        for (int c = 0; c < channels; ++c) out[c] = end[c - channels];
    }
}

// The columns of an output row that come from the source, and where in the source row they begin.
struct Columns {
    int64_t begin, end, source;
};

Columns columns_from_source(const Placement& p, int64_t width) {
    int64_t dx = p.dx, tx = p.tx;
    Columns columns;
    if (p.flip) {
        columns.begin = std::max<int64_t>({0, tx, tx + dx});
        columns.end = std::min<int64_t>({width, width + tx, width + tx + dx});
        columns.source = width - columns.end + tx + dx;
    } else {
        columns.begin = std::max<int64_t>({0, tx, tx - dx});
        columns.end = std::min<int64_t>({width, width + tx, width + tx - dx});
        columns.source = columns.begin - tx + dx;
    }
    if (columns.end <= columns.begin) columns = {width, width, 0};
    return columns;
}

// One output row of `image`, still uint8.
void assemble_row(uint8_t* row, const uint8_t* image, const ImageSet& images, const Placement& p,
                  const Columns& columns, const uint8_t* fill, int64_t y) {
    int64_t width = images.width, height = images.height, channels = images.channels;
    int64_t flipped_y = y - p.ty, source_y = flipped_y + p.dy;
    if (flipped_y < 0 || flipped_y >= height || source_y < 0 || source_y >= height) {
        std::memset(row, 0, width * channels);
    } else {
        const uint8_t* source = image + (source_y * width + columns.source) * channels;
        int64_t pixels = columns.end - columns.begin;
        std::memset(row, 0, columns.begin * channels);
        if (p.flip) {
            mirror_row(row + columns.begin * channels, source, pixels, images.channels);
        } else {
            std::memcpy(row + columns.begin * channels, source, pixels * channels);
        }
        std::memset(row + columns.end * channels, 0, (width - columns.end) * channels);
    }
    if (y >= p.cutout_y && y < p.cutout_y + p.cutout) {
        uint8_t* cut = row + p.cutout_x * channels;
        for (int64_t i = 0; i < p.cutout * channels; ++i) cut[i] = fill[i % channels];
    }
}

// Images are picked at random from a set larger than any cache: asking for the next image's row while this
// one's is worked on hides most of the memory's latency.
void prefetch(const uint8_t* bytes, int64_t count) {
    for (int64_t i = 0; i < count; i += 64) __builtin_prefetch(bytes + i, 0, 2);
}

// Interleaved channels: scale and shift hold the channels' constants repeated, kPatternPixels times.
template <typename T>
void convert_interleaved(T* __restrict out, const uint8_t* __restrict in, int64_t count,
                         const float* __restrict scale, const float* __restrict shift, int64_t pattern) {
    for (; count > 0; count -= pattern, in += pattern, out += pattern) {
        int64_t length = std::min(count, pattern);
        for (int64_t i = 0; i < length; ++i) out[i] = round_to<T>(normalise(in[i], scale[i], shift[i]));
    }
}

// One channel of `pixels` interleaved pixels, as a plane.
template <typename T, int kStride>
void convert_plane(T* __restrict out, const uint8_t* __restrict in, int64_t pixels, float scale,
                   float shift) {
    for (int64_t i = 0; i < pixels; ++i) out[i] = round_to<T>(normalise(in[i * kStride], scale, shift));
}

template <typename T>
void convert_plane_any(T* __restrict out, const uint8_t* __restrict in, int64_t pixels, int64_t stride,
                       float scale, float shift) {
    for (int64_t i = 0; i < pixels; ++i) out[i] = round_to<T>(normalise(in[i * stride], scale, shift));
}

template <typename T>
class Augmenter {
public:
    Augmenter(const ImageSet& images, const Batch& batch, const Augmentation& augmentation,
              const Normalisation& normalisation)
        : images_(images), batch_(batch), augmentation_(augmentation), normalisation_(normalisation) {
        row_bytes_ = static_cast<int64_t>(images.width) * images.channels;
        strip_rows_ = std::clamp<int64_t>(kStripBytes / row_bytes_, 1, images.height);
        strip_.resize(strip_rows_ * row_bytes_);
        for (int64_t i = 0; i < kPatternPixels * images.channels; ++i) {
            scale_pattern_.push_back(normalisation.scale[i % images.channels]);
            shift_pattern_.push_back(normalisation.shift[i % images.channels]);
        }
    }

    // Element b of the batch; b_next is the one this thread does next.
    void image(int64_t b, int64_t b_next) {
        int64_t index = batch_.indices[b], elements = images_.height * row_bytes_;
        const uint8_t* source = images_.pixels + index * elements;
        const uint8_t* next = images_.pixels + batch_.indices[b_next] * elements;
        T* out = static_cast<T*>(batch_.data) + b * elements;
        Placement placement = place(augmentation_, index, images_.height, images_.width);
        Columns columns = columns_from_source(placement, images_.width);
        for (int64_t y = 0; y < images_.height; y += strip_rows_) {
            int64_t rows = std::min(strip_rows_, images_.height - y);
            for (int64_t r = 0; r < rows; ++r) {
                prefetch(next + (y + r) * row_bytes_, row_bytes_);
                assemble_row(strip_.data() + r * row_bytes_, source, images_, placement, columns,
                             augmentation_.fill, y + r);
            }
            convert_strip(out, y, rows);
        }
    }

private:
    void convert_strip(T* image, int64_t y, int64_t rows) {
        if (batch_.layout == Layout::NHWC || images_.channels == 1) {
            convert_interleaved(image + y * row_bytes_, strip_.data(), rows * row_bytes_,
                                scale_pattern_.data(), shift_pattern_.data(),
                                static_cast<int64_t>(scale_pattern_.size()));
            return;
        }
        int64_t plane = static_cast<int64_t>(images_.height) * images_.width, pixels = rows * images_.width;
        for (int c = 0; c < images_.channels; ++c) {
            T* out = image + c * plane + y * images_.width;
            float scale = normalisation_.scale[c], shift = normalisation_.shift[c];
            if (images_.channels == 3) {
                convert_plane<T, 3>(out, strip_.data() + c, pixels, scale, shift);
            } else {
                convert_plane_any(out, strip_.data() + c, pixels, images_.channels, scale, shift);
            }
        }
    }

    const ImageSet& images_;
    const Batch& batch_;
    const Augmentation& augmentation_;
    const Normalisation& normalisation_;
    int64_t row_bytes_, strip_rows_;
    std::vector<uint8_t> strip_;
    std::vector<float> scale_pattern_, shift_pattern_;
};

template <typename T>
void augment(const ImageSet& images, const Batch& batch, const Augmentation& augmentation,
             const Normalisation& normalisation, int threads) {
    parallel_for(batch.size, threads, [&](int64_t begin, int64_t end) {
        Augmenter<T> augmenter(images, batch, augmentation, normalisation);
        for (int64_t b = begin; b < end; ++b) augmenter.image(b, std::min(b + 1, end - 1));
    });
}

}  // namespace

void augment_cpu(const ImageSet& images, const Batch& batch, const Augmentation& augmentation,
                 const Normalisation& normalisation, int threads) {
    for (int64_t b = 0; b < batch.size; ++b) {
        if (batch.indices[b] < 0 || batch.indices[b] >= images.count) {
            throw std::out_of_range("indices[" + std::to_string(b) + "] is " +
                                    std::to_string(batch.indices[b]) + ", but there are " +
                                    std::to_string(images.count) + " images");
        }
    }
    if (batch.type == FloatType::FLOAT32) {
        augment<float>(images, batch, augmentation, normalisation, threads);
    } else {
        augment<BFloat16>(images, batch, augmentation, normalisation, threads);
    }
}

}  // namespace popnet
