#include "training/batch_norm.h"

#include <vector>

#include "common/parallel.h"
#include "training/batch_norm_element.h"

namespace popnet {
namespace {

// The values [rows, channels] are gone through in blocks of as many rows as a chunk has lanes, so that value
// i of a block belongs to sum i of the lanes [lanes, channels]: loops over a block are over memory alone, and
// vectorise.
int64_t block_size(const NormPartition& partition) {
    return static_cast<int64_t>(partition.lanes) * partition.channels;
}

// For every block of a chunk: body(first value's index, values).
template <typename Body>
void for_blocks(const NormPartition& partition, int64_t chunk, Body&& body) {
    int64_t block = block_size(partition), size = block * partition.rows_per_lane;
    int64_t end = std::min(partition.rows * partition.channels, (chunk + 1) * size);
    for (int64_t begin = chunk * size; begin < end; begin += block) body(begin, std::min(block, end - begin));
}

// What a channel has, for each value of a block.
template <typename R, typename Value>
std::vector<R> tiled(const NormPartition& partition, Value&& value) {
    std::vector<R> tile(block_size(partition));
    for (int c = 0; c < partition.channels; ++c) tile[c] = value(c);
    for (int64_t i = partition.channels; i < block_size(partition); ++i)
        tile[i] = tile[i - partition.channels];
    return tile;
}

// Lanes laid out [lanes, channels], merged into the first.
void merge_by_halving(double* lanes, int count, int64_t channels) {
    for (int half = count / 2; half > 0; half /= 2) {
        for (int64_t i = 0; i < half * channels; ++i) lanes[i] += lanes[half * channels + i];
    }
}

// One chunk's two sums for every channel: add(begin, values, first, second) adds a block's values to the
// lanes' sums.
template <typename R, typename Add>
void sum_chunk(const NormPartition& partition, int64_t chunk, double* partials, Add&& add) {
    int64_t channels = partition.channels, block = block_size(partition);
    std::vector<R> sums(2 * block, R(0));
    for_blocks(partition, chunk,
               [&](int64_t begin, int64_t values) { add(begin, values, sums.data(), sums.data() + block); });
    std::vector<double> wide(sums.begin(), sums.end());
    for (int which = 0; which < 2; ++which) {
        double* lanes_of_sum = wide.data() + which * block;
        merge_by_halving(lanes_of_sum, partition.lanes, channels);
        std::copy_n(lanes_of_sum, channels, partials + (2 * chunk + which) * channels);
    }
}

// A channel's sum over the chunks' partial sums.
double sum_of_chunks(const NormPartition& partition, const double* partials, int which, int channel) {
    double series[kMergers] = {};
    for (int64_t chunk = 0; chunk < partition.chunks; ++chunk) {
        series[chunk % kMergers] += partials[(2 * chunk + which) * partition.channels + channel];
    }
    merge_by_halving(series, kMergers, 1);
    return series[0];
}

template <typename R>
struct TiledNorm {
    std::vector<R> mean, scale, bias;

    template <typename Arrays>
    TiledNorm(const NormPartition& partition, const Arrays& arrays) {
        const R *weight = static_cast<const R*>(arrays.weight), *offset = static_cast<const R*>(arrays.bias);
        const R* centre = static_cast<const R*>(arrays.mean);
        const R* inverse_sd = static_cast<const R*>(arrays.inverse_sd);
        mean = tiled<R>(partition, [&](int c) { return centre[c]; });
        scale = tiled<R>(partition, [&](int c) { return weight[c] * inverse_sd[c]; });
        bias = tiled<R>(partition, [&](int c) { return offset[c]; });
    }
};

template <typename T, typename R>
void add_moments(const T* __restrict x, const R* __restrict pivot, int64_t count, R* __restrict sum,
                 R* __restrict squares) {
    for (int64_t i = 0; i < count; ++i) {
        R d = widen(x[i]) - pivot[i];
        sum[i] += d;
        squares[i] = fma_real(d, d, squares[i]);
    }
}

template <NormForm form, typename T, typename R>
void normalise(const T* __restrict x, const T* __restrict residual, const R* __restrict mean,
               const R* __restrict scale, const R* __restrict bias, int64_t count, T* __restrict y) {
    for (int64_t i = 0; i < count; ++i) {
        R value = ChannelNorm<R>{mean[i], scale[i], bias[i]}(widen(x[i]));
        if constexpr (form == NormForm::ADD_RELU) value += widen(residual[i]);
        if constexpr (form != NormForm::NORM) value = relu(value);
        y[i] = narrow<T>(value);
    }
}

// The gradient of a block that passes the ReLU, [count].
template <NormForm form, typename T, typename R>
void passed(const T* __restrict gradient, const T* __restrict x, const T* __restrict y,
            const R* __restrict mean, const R* __restrict scale, const R* __restrict bias, int64_t count,
            R* __restrict g) {
    for (int64_t i = 0; i < count; ++i) {
        R value = R(1);
        if constexpr (form == NormForm::RELU) value = ChannelNorm<R>{mean[i], scale[i], bias[i]}(widen(x[i]));
        if constexpr (form == NormForm::ADD_RELU) value = widen(y[i]);
        R whole = widen(gradient[i]);
        g[i] = value > R(0) ? whole : R(0);
    }
}

template <typename T, typename R>
void add_products(const R* __restrict g, const T* __restrict x, const R* __restrict mean, int64_t count,
                  R* __restrict sum, R* __restrict products) {
    for (int64_t i = 0; i < count; ++i) {
        sum[i] += g[i];
        products[i] = fma_real(g[i], widen(x[i]) - mean[i], products[i]);
    }
}

template <typename T, typename R>
void gradients(const R* __restrict g, const T* __restrict x, const R* __restrict mean,
               const R* __restrict scale, const R* __restrict offset, const R* __restrict slope,
               int64_t count, T* __restrict x_gradient) {
    for (int64_t i = 0; i < count; ++i) {
        x_gradient[i] = narrow<T>(norm_gradient(g[i], widen(x[i]) - mean[i], scale[i], offset[i], slope[i]));
    }
}

template <typename T, NormForm form>
void forward(const NormForward& arrays, const NormShape& shape, int threads) {
    using R = Real<T>;
    NormPartition partition = norm_partition(shape.rows, shape.channels);
    const T* x = static_cast<const T*>(arrays.x);
    std::vector<R> pivot = tiled<R>(partition, [&](int c) { return widen(x[c]); });
    parallel_for(partition.chunks, threads, [&](int64_t begin, int64_t end) {
        for (int64_t chunk = begin; chunk < end; ++chunk) {
            sum_chunk<R>(partition, chunk, arrays.partials,
                         [&](int64_t i, int64_t count, R* sum, R* squares) {
                             add_moments(x + i, pivot.data(), count, sum, squares);
                         });
        }
    });
    R *mean = static_cast<R*>(arrays.mean), *inverse_sd = static_cast<R*>(arrays.inverse_sd);
    R *running_mean = static_cast<R*>(arrays.running_mean),
      *running_var = static_cast<R*>(arrays.running_var);
    double rows = static_cast<double>(shape.rows);
    for (int c = 0; c < shape.channels; ++c) {
        ChannelMoments moments =
            channel_moments(widen(x[c]), sum_of_chunks(partition, arrays.partials, 0, c),
                            sum_of_chunks(partition, arrays.partials, 1, c), rows, arrays.eps);
        mean[c] = static_cast<R>(moments.mean);
        inverse_sd[c] = static_cast<R>(moments.inverse_sd);
        running_mean[c] = static_cast<R>(moving_average(running_mean[c], moments.mean, arrays.momentum));
        double unbiased = moments.variance * (rows / (rows - 1.0));
        running_var[c] = static_cast<R>(moving_average(running_var[c], unbiased, arrays.momentum));
    }
    *arrays.batches += 1;
    TiledNorm<R> norm(partition, arrays);
    const T* residual = static_cast<const T*>(arrays.residual);
    T* y = static_cast<T*>(arrays.y);
    parallel_for(partition.chunks, threads, [&](int64_t begin, int64_t end) {
        for (int64_t chunk = begin; chunk < end; ++chunk) {
            for_blocks(partition, chunk, [&](int64_t i, int64_t count) {
                const T* added = form == NormForm::ADD_RELU ? residual + i : nullptr;
                normalise<form>(x + i, added, norm.mean.data(), norm.scale.data(), norm.bias.data(), count,
                                y + i);
            });
        }
    });
}

template <typename T, NormForm form>
void backward(const NormBackward& arrays, const NormShape& shape, int threads) {
    using R = Real<T>;
    NormPartition partition = norm_partition(shape.rows, shape.channels);
    const T *x = static_cast<const T*>(arrays.x), *y = static_cast<const T*>(arrays.y);
    const T* gradient = static_cast<const T*>(arrays.gradient);
    TiledNorm<R> norm(partition, arrays);
    auto pass = [&](int64_t i, int64_t count, R* g) {
        passed<form>(gradient + i, x + i, y + i, norm.mean.data(), norm.scale.data(), norm.bias.data(), count,
                     g);
    };
    T* residual_gradient = static_cast<T*>(arrays.residual_gradient);
    parallel_for(partition.chunks, threads, [&](int64_t begin, int64_t end) {
        std::vector<R> g(block_size(partition));
        for (int64_t chunk = begin; chunk < end; ++chunk) {
            sum_chunk<R>(partition, chunk, arrays.partials,
                         [&](int64_t i, int64_t count, R* sum, R* products) {
                             pass(i, count, g.data());
                             if constexpr (form == NormForm::ADD_RELU) {
                                 std::transform(g.data(), g.data() + count, residual_gradient + i,
                                                [](R value) { return narrow<T>(value); });
                             }
                             add_products(g.data(), x + i, norm.mean.data(), count, sum, products);
                         });
        }
    });
    R *coefficients = static_cast<R*>(arrays.coefficients), *slopes = coefficients + shape.channels;
    const R* inverse_sd = static_cast<const R*>(arrays.inverse_sd);
    double rows = static_cast<double>(shape.rows);
    for (int c = 0; c < shape.channels; ++c) {
        double sum = sum_of_chunks(partition, arrays.partials, 0, c);
        double products = sum_of_chunks(partition, arrays.partials, 1, c);
        double inverse = inverse_sd[c];
        static_cast<R*>(arrays.bias_gradient)[c] = static_cast<R>(sum);
        static_cast<R*>(arrays.weight_gradient)[c] = static_cast<R>(products * inverse);
        coefficients[c] = static_cast<R>(sum / rows);
        slopes[c] = static_cast<R>(products / rows * (inverse * inverse));
    }
    std::vector<R> offset = tiled<R>(partition, [&](int c) { return coefficients[c]; });
    std::vector<R> slope = tiled<R>(partition, [&](int c) { return slopes[c]; });
    T* x_gradient = static_cast<T*>(arrays.x_gradient);
    parallel_for(partition.chunks, threads, [&](int64_t begin, int64_t end) {
        std::vector<R> g(block_size(partition));
        for (int64_t chunk = begin; chunk < end; ++chunk) {
            for_blocks(partition, chunk, [&](int64_t i, int64_t count) {
                pass(i, count, g.data());
                gradients(g.data(), x + i, norm.mean.data(), norm.scale.data(), offset.data(), slope.data(),
                          count, x_gradient + i);
            });
        }
    });
}

template <NormForm form>
void forward_of(const NormForward& arrays, const NormShape& shape, int threads) {
    switch (shape.type) {
        case FloatType::FLOAT32:
            return forward<float, form>(arrays, shape, threads);
        case FloatType::BFLOAT16:
            return forward<BFloat16, form>(arrays, shape, threads);
        case FloatType::FLOAT16:
            return forward<Float16, form>(arrays, shape, threads);
        case FloatType::FLOAT64:
            return forward<double, form>(arrays, shape, threads);
    }
}

template <NormForm form>
void backward_of(const NormBackward& arrays, const NormShape& shape, int threads) {
    switch (shape.type) {
        case FloatType::FLOAT32:
            return backward<float, form>(arrays, shape, threads);
        case FloatType::BFLOAT16:
            return backward<BFloat16, form>(arrays, shape, threads);
        case FloatType::FLOAT16:
            return backward<Float16, form>(arrays, shape, threads);
        case FloatType::FLOAT64:
            return backward<double, form>(arrays, shape, threads);
    }
}

}  // namespace

int64_t norm_partials(const NormShape& shape) {
    return 2 * norm_partition(shape.rows, shape.channels).chunks * shape.channels;
}

void batch_norm_cpu(const NormForward& arrays, const NormShape& shape, int threads) {
    switch (shape.form) {
        case NormForm::NORM:
            return forward_of<NormForm::NORM>(arrays, shape, threads);
        case NormForm::RELU:
            return forward_of<NormForm::RELU>(arrays, shape, threads);
        case NormForm::ADD_RELU:
            return forward_of<NormForm::ADD_RELU>(arrays, shape, threads);
    }
}

void batch_norm_gradient_cpu(const NormBackward& arrays, const NormShape& shape, int threads) {
    switch (shape.form) {
        case NormForm::NORM:
            return backward_of<NormForm::NORM>(arrays, shape, threads);
        case NormForm::RELU:
            return backward_of<NormForm::RELU>(arrays, shape, threads);
        case NormForm::ADD_RELU:
            return backward_of<NormForm::ADD_RELU>(arrays, shape, threads);
    }
}

}  // namespace popnet
