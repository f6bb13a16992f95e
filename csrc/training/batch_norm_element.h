// The order of the sums of batch normalisation, and the arithmetic of one element, for both sides.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>

#include "common/numbers.h"
#include "common/portable_math.h"
#include "training/batch_norm.h"

namespace popnet {

template <typename T>
struct RealOf {
    using Type = float;
};
template <>
struct RealOf<double> {
    using Type = double;
};
template <typename T>
using Real = typename RealOf<T>::Type;

constexpr int kTile = 64;        // channels that a block of GPU threads covers
constexpr int kTileSums = 1024;  // sums that such a block keeps: lanes * channels
constexpr int kMergers = 32;     // partial sums of a channel are merged in so many interleaved series
constexpr int64_t kMostChunks = 1024;

// Rows are cut into chunks of lanes * rows_per_lane. Lane l of a chunk sums the chunk's rows l, l + lanes,
// ... in order; the lanes are merged by halving (lane l += lane l + lanes/2, ...). Series w of a channel adds
// the chunks w, w + 32, ... in order; the series are merged by halving too.
struct NormPartition {
    int64_t rows, rows_per_lane, chunks;
    int channels, lanes;
};

inline NormPartition norm_partition(int64_t rows, int channels) {
    int width = static_cast<int>(std::bit_ceil(static_cast<unsigned>(std::min(channels, kTile))));
    NormPartition partition{};
    partition.rows = rows;
    partition.channels = channels;
    partition.lanes = kTileSums / width;
    int64_t most_rows = kMostChunks * partition.lanes;
    partition.rows_per_lane = std::max<int64_t>(16, (rows + most_rows - 1) / most_rows);
    int64_t chunk = partition.lanes * partition.rows_per_lane;
    partition.chunks = (rows + chunk - 1) / chunk;
    return partition;
}

POPNET_HOST_DEVICE double fma_real(double a, double b, double c) {
    return fused_multiply_add(a, b, c);
}

POPNET_HOST_DEVICE float fma_real(float a, float b, float c) {
    return fused_multiply_add(a, b, c);
}

template <typename R>
struct ChannelNorm {
    R mean, scale, bias;

    POPNET_HOST_DEVICE R operator()(R x) const { return fma_real(x - mean, scale, bias); }
};

// A negative value becomes 0 and a NaN stays one, as in PyTorch.
template <typename R>
POPNET_HOST_DEVICE R relu(R value) {
    return value < R(0) ? R(0) : value;
}

struct ChannelMoments {
    double mean, variance, inverse_sd;
};

POPNET_HOST_DEVICE ChannelMoments channel_moments(double pivot, double sum, double squares, double rows,
                                                  double eps) {
    double offset = sum / rows, variance = squares / rows - offset * offset;
    variance = variance < 0.0 ? 0.0 : variance;
    return ChannelMoments{pivot + offset, variance, 1.0 / sqrt(variance + eps)};
}

POPNET_HOST_DEVICE double moving_average(double before, double now, double momentum) {
    return (1.0 - momentum) * before + momentum * now;
}

template <typename R>
POPNET_HOST_DEVICE R norm_gradient(R gradient, R centred, R scale, R offset, R slope) {
    return scale * fma_real(-centred, slope, gradient - offset);
}

}  // namespace popnet
