#include "data/augment.h"

#include <algorithm>
#include <cstring>
#include <stdexcept>
#include <string>
#include <vector>

#include "common/parallel.h"
#include "data/lanes.h"
#include "data/placement.h"

// An image is assembled as uint8 rows (moved, mirrored, cut) in a strip that stays in the first-level cache,
// then the strip is converted in long vectorised loops. No pixel is tested for being inside: what comes from
// the source is one contiguous piece a row, and what does not is one contiguous gap between two rows.

namespace popnet {
namespace {

constexpr int64_t kStripBytes = 8192;
constexpr int64_t kPatternPixels = 64;
constexpr int64_t kSlack = 16;  // bytes after the strip that may be written

// ---- Eight pixels at a time ----

inline Floats8 load_pixels(const uint8_t* in) {
    return __builtin_convertvector(widen(load_eight(in)), Floats8);
}

// The same arithmetic as fused_multiply_add and round_to, lane by lane.
inline Floats8 fused_multiply_add(Floats8 a, Floats8 b, Floats8 c) {
#if defined(__AVX2__) && defined(__FMA__)
    return (Floats8)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#else
    Floats8 values;
    for (int lane = 0; lane < 8; ++lane) values[lane] = popnet::fused_multiply_add(a[lane], b[lane], c[lane]);
    return values;
#endif
}

inline void store_rounded(float* out, Floats8 values) {
    std::memcpy(out, &values, sizeof values);
}

inline void store_rounded(BFloat16* out, Floats8 values) {
    Bits8 bits = (Bits8)values;
    bits = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
    Halves8 halves = __builtin_convertvector(bits, Halves8);
    std::memcpy(out, &halves, sizeof halves);
}

// Images are picked at random from a set larger than any cache: asking for the next image while this one is
// worked on hides most of the memory's latency.
void prefetch(const uint8_t* bytes, int64_t count) {
    for (int64_t i = 0; i < count; i += 64) __builtin_prefetch(bytes + i, 0, 2);
}

// A batch is larger than the second-level cache: its lines are asked for before they are written, too.
constexpr int64_t kAhead = 768;  // elements

template <typename T>
void prefetch_output(const T* out, int64_t count) {
    constexpr int64_t kLine = 64 / sizeof(T);
    for (int64_t i = 0; i < count; i += kLine) __builtin_prefetch(out + i, 1, 3);
}

// Interleaved channels. scale and shift hold the channels' constants repeated, `pattern` of them: a multiple
// of `channels` and of 8. With few channels the constants of 8 * kChannels elements stay in registers.
template <typename T, int kChannels>
void convert_interleaved(T* __restrict out, const uint8_t* __restrict in, int64_t count, const float* scale,
                         const float* shift, const uint8_t* next) {
    constexpr int64_t kGroup = 8 * kChannels, kChunk = 8 * kGroup;
    Floats8 scales[kChannels], shifts[kChannels];
    std::memcpy(scales, scale, sizeof scales);
    std::memcpy(shifts, shift, sizeof shifts);
    auto group = [&](int64_t i) {
#pragma GCC unroll 4
        for (int k = 0; k < kChannels; ++k) {
            store_rounded(out + i + 8 * k,
                          fused_multiply_add(load_pixels(in + i + 8 * k), scales[k], shifts[k]));
        }
    };
    int64_t i = 0;
    for (; i + kChunk <= count; i += kChunk) {
        prefetch(next + i, kChunk);
        prefetch_output(out + i + kAhead, kChunk);
        for (int64_t g = 0; g < kChunk; g += kGroup) group(i + g);
    }
    prefetch(next + i, count - i);
    for (; i + kGroup <= count; i += kGroup) group(i);
    for (int64_t rest = 0; i < count; ++i, ++rest)
        out[i] = round_to<T>(normalise(in[i], scale[rest], shift[rest]));
}

template <typename T>
void convert_interleaved_any(T* __restrict out, const uint8_t* __restrict in, int64_t count,
                             const float* scale, const float* shift, int64_t pattern) {
    for (; count > 0; count -= pattern, in += pattern, out += pattern) {
        int64_t length = std::min(count, pattern);
        for (int64_t i = 0; i < length; ++i) out[i] = round_to<T>(normalise(in[i], scale[i], shift[i]));
    }
}

// One channel of interleaved pixels, as a plane.
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

// ---- Assembling ----

// Writes the pixels of `in` in reverse order. Groups of 16 bytes (5 or 16 pixels): up to kSlack bytes after
// the row's end are overwritten, and up to 16 bytes before `in` are read if `may_read_before`; else the last
// pixels go singly.
void mirror_row(uint8_t* out, const uint8_t* in, int64_t pixels, int channels, bool may_read_before) {
    const uint8_t* end = in + pixels * channels;
    Bytes16 group;
    if (channels == 3) {
        for (int64_t least = may_read_before ? 1 : 6; pixels >= least; pixels -= 5, end -= 15, out += 15) {
            std::memcpy(&group, end - 16, 16);
            group = POPNET_SHUFFLE(group, 13, 14, 15, 10, 11, 12, 7, 8, 9, 4, 5, 6, 1, 2, 3, 0);
            std::memcpy(out, &group, 16);
        }
    } else if (channels == 1) {
        for (int64_t least = may_read_before ? 1 : 16; pixels >= least; pixels -= 16, end -= 16, out += 16) {
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
    return columns;
}

// Zeros `gap` bytes at out, out + stride, ... A crop's gaps are short: 16 bytes are read and written back in
// part, which beats a call of memset a row; at most kSlack bytes after a gap are touched.
void zero_gaps(uint8_t* out, int64_t gap, int64_t stride, int64_t count) {
    if (gap > 16) {
        for (; count > 0; --count, out += stride) std::memset(out, 0, gap);
        return;
    }
    constexpr Bytes16 place = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    Bytes16 keep = (Bytes16)(place >= static_cast<uint8_t>(gap)), bytes;
    for (; count > 0; --count, out += stride) {
        std::memcpy(&bytes, out, 16);
        bytes &= keep;
        std::memcpy(out, &bytes, 16);
    }
}

// Output rows y .. y + rows - 1 of `image`, still uint8, into the strip.
void assemble(uint8_t* strip, const uint8_t* image, const ImageSet& images, const Placement& p,
              const uint8_t* fill, int64_t y, int64_t rows) {
    int64_t height = images.height, channels = images.channels, row_bytes = images.width * channels;
    Columns columns = columns_from_source(p, images.width);
    // Row r is output row y + r and source row y + r + to_source; both translation and crop must leave it
    // inside.
    int64_t to_source = static_cast<int64_t>(p.dy) - p.ty;
    int64_t first = std::max<int64_t>({0, p.ty - y, -to_source - y});
    int64_t last = std::min<int64_t>({rows, height + p.ty - y, height - to_source - y});  // one past
    int64_t piece = (columns.end - columns.begin) * channels, gap = row_bytes - piece;
    if (first >= last || piece <= 0) {
        std::memset(strip, 0, rows * row_bytes);
    } else {
        uint8_t* out = strip + first * row_bytes + columns.begin * channels;
        const uint8_t* source = image + (y + first + to_source) * row_bytes + columns.source * channels;
        int64_t count = last - first;
        if (p.flip) {
            for (int64_t r = 0; r < count; ++r) {
                const uint8_t* in = source + r * row_bytes;
                mirror_row(out + r * row_bytes, in, columns.end - columns.begin, images.channels,
                           in - images.pixels >= 16);
            }
        } else {
            std::memcpy(out, source, (count - 1) * row_bytes + piece);
        }
        std::memset(strip, 0, out - strip);
        if (gap > 0) zero_gaps(out + piece, gap, row_bytes, count - 1);
        uint8_t* after = out + (count - 1) * row_bytes + piece;
        std::memset(after, 0, strip + rows * row_bytes - after);
    }
    for (int64_t r = std::max<int64_t>(0, p.cutout_y - y);
         r < std::min<int64_t>(rows, p.cutout_y + p.cutout - y); ++r) {
        uint8_t* cut = strip + r * row_bytes + p.cutout_x * channels;
        for (int64_t i = 0; i < p.cutout * channels; ++i) cut[i] = fill[i % channels];
    }
}

// ---- Images ----

template <typename T>
class Augmenter {
public:
    Augmenter(const ImageSet& images, const Batch& batch, const Augmentation& augmentation,
              const Normalisation& normalisation)
        : images_(images), batch_(batch), augmentation_(augmentation), normalisation_(normalisation) {
        row_bytes_ = static_cast<int64_t>(images.width) * images.channels;
        strip_rows_ = std::clamp<int64_t>(kStripBytes / row_bytes_, 1, images.height);
        strip_.resize(strip_rows_ * row_bytes_ + kSlack);
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
        int64_t key = batch_.keys != nullptr ? batch_.keys[b] : index;
        Placement placement = place(augmentation_, key, images_.height, images_.width);
        for (int64_t y = 0; y < images_.height; y += strip_rows_) {
            int64_t rows = std::min<int64_t>(strip_rows_, images_.height - y);
            assemble(strip_.data(), source, images_, placement, augmentation_.fill, y, rows);
            convert(out, y, rows, next + y * row_bytes_);
        }
    }

private:
    // The strip into output rows y .. y + rows - 1, asking for `next`, the next image's rows, on the way.
    void convert(T* image, int64_t y, int64_t rows, const uint8_t* next) {
        const uint8_t* strip = strip_.data();
        const float *scales = scale_pattern_.data(), *shifts = shift_pattern_.data();
        int64_t count = rows * row_bytes_;
        if (images_.channels == 1) {
            convert_interleaved<T, 1>(image + y * row_bytes_, strip, count, scales, shifts, next);
        } else if (batch_.layout == Layout::NHWC && images_.channels == 3) {
            convert_interleaved<T, 3>(image + y * row_bytes_, strip, count, scales, shifts, next);
        } else if (batch_.layout == Layout::NHWC) {
            prefetch(next, count);
            int64_t pattern = static_cast<int64_t>(scale_pattern_.size());
            convert_interleaved_any(image + y * row_bytes_, strip, count, scales, shifts, pattern);
        } else {
            prefetch(next, count);
            convert_to_planes(image + y * images_.width, rows * images_.width);
        }
    }

    void convert_to_planes(T* out, int64_t pixels) {
        int64_t plane = static_cast<int64_t>(images_.height) * images_.width;
        for (int c = 0; c < images_.channels; ++c, out += plane) {
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

void augment_cpu(const ImageSet& images, const Batch& batch, const Augmentation& given,
                 const Normalisation& normalisation, int threads) {
    Augmentation augmentation = at_step(given);
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
