#include "data/resample.h"

#include <algorithm>
#include <cmath>

namespace popnet {
namespace {

constexpr int kPrecision = 22;
constexpr int32_t kHalf = 1 << (kPrecision - 1);

uint8_t to_pixel(int32_t sum) {
    return static_cast<uint8_t>(std::clamp(sum >> kPrecision, 0, 255));
}

template <int kChannels>
void narrow_row(const uint8_t* in, uint8_t* out, int width, int channels, const int* first, const int* count,
                const int32_t* weights, int stride) {
    const int step = kChannels > 0 ? kChannels : channels;
    for (int x = 0; x < width; ++x, weights += stride, out += step) {
        const uint8_t* pixel = in + static_cast<int64_t>(first[x]) * step;
        for (int c = 0; c < step; ++c) {
            int32_t sum = kHalf;
            for (int k = 0; k < count[x]; ++k) sum += weights[k] * pixel[k * step + c];
            out[c] = to_pixel(sum);
        }
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
}

void Resampler::resize(const uint8_t* in, int row_pixels, int channels, const Box& box, uint8_t* out,
                       int height, int width) {
    columns_.prepare(box.width, width);
    rows_.prepare(box.height, height);
    const int64_t in_row = static_cast<int64_t>(row_pixels) * channels;
    const int64_t out_row = static_cast<int64_t>(width) * channels;
    const uint8_t* corner = in + box.y * in_row + static_cast<int64_t>(box.x) * channels;
    narrowed_.resize(static_cast<size_t>(box.height) * out_row);
    auto* narrow = channels == 3 ? narrow_row<3> : channels == 1 ? narrow_row<1> : narrow_row<0>;
    for (int y = 0; y < box.height; ++y) {
        narrow(corner + y * in_row, narrowed_.data() + y * out_row, width, channels, columns_.first.data(),
               columns_.count.data(), columns_.weights.data(), columns_.stride);
    }
    sums_.resize(out_row);
    for (int y = 0; y < height; ++y, out += out_row) {
        std::fill(sums_.begin(), sums_.end(), kHalf);
        const int32_t* weights = rows_.weights.data() + static_cast<size_t>(y) * rows_.stride;
        for (int k = 0; k < rows_.count[y]; ++k) {
            const uint8_t* row = narrowed_.data() + (rows_.first[y] + k) * out_row;
            const int32_t weight = weights[k];
            for (int64_t i = 0; i < out_row; ++i) sums_[i] += weight * row[i];
        }
        for (int64_t i = 0; i < out_row; ++i) out[i] = to_pixel(sums_[i]);
    }
}

}  // namespace popnet
