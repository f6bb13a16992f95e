#include "data/resample.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "data/lanes.h"

namespace popnet {
namespace {

constexpr int kPrecision = 22;
constexpr int32_t kHalf = 1 << (kPrecision - 1);

uint8_t to_pixel(int32_t sum) {
    return static_cast<uint8_t>(std::clamp(sum >> kPrecision, 0, 255));
}

// Output pixels begin .. end-1 of a row.
template <int kChannels>
void narrow_pixels(const uint8_t* in, uint8_t* out, int begin, int end, int channels, const int* first,
                   const int* count, const int32_t* weights, int stride) {
    const int step = kChannels > 0 ? kChannels : channels;
    weights += static_cast<int64_t>(begin) * stride;
    out += static_cast<int64_t>(begin) * step;
    for (int x = begin; x < end; ++x, weights += stride, out += step) {
        const uint8_t* pixel = in + static_cast<int64_t>(first[x]) * step;
        for (int c = 0; c < step; ++c) {
            int32_t sum = kHalf;
            for (int k = 0; k < count[x]; ++k) sum += weights[k] * pixel[k * step + c];
            out[c] = to_pixel(sum);
        }
    }
}

// Output pixels 0 .. end-1 of a row of three channels, from two input pixels at a time. Reads up to five
// bytes more than the last input pixel has, and writes one more than the last output pixel has.
void narrow_by_pairs(const uint8_t* in, uint8_t* out, int end, const int* first, const int* count,
                     const int32_t* pairs, int stride) {
    for (int x = 0; x < end; ++x, pairs += stride, out += 3) {
        const uint8_t* pixel = in + static_cast<int64_t>(first[x]) * 3;
        Ints8 sums{}, by;
        for (int k = 0; k < count[x]; k += 2, pixel += 6) {
            std::memcpy(&by, pairs + k * 4, sizeof by);
            Bytes16 two =
                POPNET_SHUFFLE(load_eight(pixel), 0, 1, 2, 15, 3, 4, 5, 15, 15, 15, 15, 15, 15, 15, 15, 15);
            sums += widen(two) * by;
        }
        Ints4 even, odd;
        std::memcpy(&even, &sums, sizeof even);
        std::memcpy(&odd, reinterpret_cast<const uint8_t*>(&sums) + sizeof even, sizeof odd);
        Ints4 sum = (even + odd + kHalf) >> kPrecision;
        sum = sum < 0 ? Ints4{} : sum;
        sum = sum > 255 ? Ints4{} + 255 : sum;
        Bytes16 bytes =
            POPNET_SHUFFLE((Bytes16)sum, 0, 4, 8, 12, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15);
        std::memcpy(out, &bytes, 4);
    }
}

// `elements` of an output row from `count` rows, weighted, a block of columns at a time: its sums stay in
// registers.
void mix_rows(const uint8_t* rows, int64_t elements, int count, const int32_t* weights, uint8_t* out) {
    constexpr int kGroups = 4;
    int64_t i = 0;
    for (; i + 8 * kGroups <= elements; i += 8 * kGroups) {
        Ints8 sums[kGroups] = {Ints8{} + kHalf, Ints8{} + kHalf, Ints8{} + kHalf, Ints8{} + kHalf};
        for (int k = 0; k < count; ++k) {
            const uint8_t* row = rows + k * elements + i;
            for (int g = 0; g < kGroups; ++g) sums[g] += widen(load_eight(row + 8 * g)) * weights[k];
        }
        int32_t values[8 * kGroups];
        std::memcpy(values, sums, sizeof values);
        for (int j = 0; j < 8 * kGroups; ++j) out[i + j] = to_pixel(values[j]);
    }
    for (; i < elements; ++i) {
        int32_t sum = kHalf;
        for (int k = 0; k < count; ++k) sum += weights[k] * rows[k * elements + i];
        out[i] = to_pixel(sum);
    }
}

}  // namespace

void Resampler::Axis::prepare(int in_size, int out_size) {
    if (in == in_size && out == out_size) return;
    in = in_size;
    out = out_size;
    double scale = static_cast<double>(in) / out, support = std::max(scale, 1.0), step = 1.0 / support;
    stride = static_cast<int>(std::ceil(support)) * 2 + 1;
    first.resize(out);
    count.resize(out);
    weights.assign(static_cast<size_t>(out) * stride, 0);
    std::vector<double> exact(stride);
    for (int position = 0; position < out; ++position) {
        double centre = (position + 0.5) * scale, total = 0.0;
        int begin = std::max(static_cast<int>(centre - support + 0.5), 0);
        int end = std::min(static_cast<int>(centre + support + 0.5), in);
        for (int k = 0; k < end - begin; ++k) {
            double distance = std::fabs((k + begin - centre + 0.5) * step);
            exact[k] = distance < 1.0 ? 1.0 - distance : 0.0;
            total += exact[k];
        }
        for (int k = 0; k < end - begin; ++k) {
            double weight = total != 0.0 ? exact[k] / total : exact[k];
            weights[static_cast<size_t>(position) * stride + k] =
                static_cast<int32_t>(0.5 + weight * (1 << kPrecision));
        }
        first[position] = begin;
        count[position] = end - begin;
    }
    pairs.assign(static_cast<size_t>(out) * pair_stride(), 0);
    for (int position = 0; position < out; ++position) {
        for (int k = 0; k < count[position]; ++k) {
            int32_t weight = weights[static_cast<size_t>(position) * stride + k];
            std::fill_n(&pairs[static_cast<size_t>(position) * pair_stride() + k * 4], 3, weight);
        }
    }
}

void Resampler::narrow(const uint8_t* in, int64_t readable, int channels, uint8_t* out) const {
    const Axis& axis = columns_;
    int done = 0;
    if (channels == 3) {
        while (done + 1 < axis.out && (axis.first[done] + axis.count[done]) * 3 + 5 <= readable) ++done;
        narrow_by_pairs(in, out, done, axis.first.data(), axis.count.data(), axis.pairs.data(),
                        axis.pair_stride());
    }
    auto* rest = channels == 3 ? narrow_pixels<3> : channels == 1 ? narrow_pixels<1> : narrow_pixels<0>;
    rest(in, out, done, axis.out, channels, axis.first.data(), axis.count.data(), axis.weights.data(),
         axis.stride);
}

void Resampler::resize(const uint8_t* in, int row_pixels, int channels, const Box& box, uint8_t* out,
                       int height, int width) {
    columns_.prepare(box.width, width);
    rows_.prepare(box.height, height);
    const int64_t in_row = static_cast<int64_t>(row_pixels) * channels;
    const int64_t out_row = static_cast<int64_t>(width) * channels;
    const uint8_t* corner = in + box.y * in_row + static_cast<int64_t>(box.x) * channels;
    const int64_t box_bytes = (box.height - 1) * in_row + static_cast<int64_t>(box.width) * channels;
    narrowed_.resize(static_cast<size_t>(box.height) * out_row);
    for (int y = 0; y < box.height; ++y) {
        narrow(corner + y * in_row, box_bytes - y * in_row, channels, narrowed_.data() + y * out_row);
    }
    for (int y = 0; y < height; ++y, out += out_row) {
        const int32_t* weights = rows_.weights.data() + static_cast<size_t>(y) * rows_.stride;
        mix_rows(narrowed_.data() + rows_.first[y] * out_row, out_row, rows_.count[y], weights, out);
    }
}

}  // namespace popnet
