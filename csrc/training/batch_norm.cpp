#include "training/batch_norm.h"

#include <vector>

#include "common/parallel.h"
#include "training/batch_norm_element.h"

namespace popnet {
namespace {

// Lanes laid out [lanes, channels], merged into the first.
void merge_by_halving(double* lanes, int count, int64_t channels) {
    for (int half = count / 2; half > 0; half /= 2) {
        for (int64_t i = 0; i < half * channels; ++i) lanes[i] += lanes[half * channels + i];
    }
}

// One chunk's two sums for every channel: add(row, first, second) adds a row to its lane's sums.
template <typename R, typename Add>
void sum_chunk(const NormPartition& partition, int64_t chunk, double* partials, Add&& add) {
    int64_t channels = partition.channels, lanes = partition.lanes;
    std::vector<R> sums(2 * lanes * channels, R(0));
    R* second = sums.data() + lanes * channels;
    int64_t begin = chunk * lanes * partition.rows_per_lane;
    int64_t end = std::min(partition.rows, begin + lanes * partition.rows_per_lane);
    for (int64_t row = begin; row < end; ++row) {
        int64_t lane = (row - begin) % lanes;
        add(row, sums.data() + lane * channels, second + lane * channels);
    }
    std::vector<double> wide(sums.begin(), sums.end());
    for (int which = 0; which < 2; ++which) {
        double* lanes_of_sum = wide.data() + which * lanes * channels;
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

template <typename R, typename T>
ChannelNorm<R> channel_norm(const T& arrays, int channel) {
    return ChannelNorm<R>{
        static_cast<const R*>(arrays.mean)[channel],
        static_cast<const R*>(arrays.weight)[channel] * static_cast<const R*>(arrays.inverse_sd)[channel],
        static_cast<const R*>(arrays.bias)[channel]};
}

template <typename R, typename T>
std::vector<ChannelNorm<R>> channel_norms(const T& arrays, int channels) {
    std::vector<ChannelNorm<R>> norms;
    for (int c = 0; c < channels; ++c) norms.push_back(channel_norm<R>(arrays, c));
    return norms;
}

template <typename T>
void forward(const NormForward& arrays, const NormShape& shape, int threads) {
    using R = Real<T>;
    NormPartition partition = norm_partition(shape.rows, shape.channels);
    int channels = shape.channels;
    const T* x = static_cast<const T*>(arrays.x);
    parallel_for(partition.chunks, threads, [&](int64_t begin, int64_t end) {
        for (int64_t chunk = begin; chunk < end; ++chunk) {
            sum_chunk<R>(partition, chunk, arrays.partials, [&](int64_t row, R* sum, R* squares) {
                const T* values = x + row * channels;
                for (int c = 0; c < channels; ++c) {
                    R d = widen(values[c]) - widen(x[c]);
                    sum[c] += d;
                    squares[c] = fma_real(d, d, squares[c]);
                }
            });
        }
    });
    R *mean = static_cast<R*>(arrays.mean), *inverse_sd = static_cast<R*>(arrays.inverse_sd);
    R *running_mean = static_cast<R*>(arrays.running_mean),
      *running_var = static_cast<R*>(arrays.running_var);
    double rows = static_cast<double>(shape.rows);
    for (int c = 0; c < channels; ++c) {
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
    std::vector<ChannelNorm<R>> norms = channel_norms<R>(arrays, channels);
    const T* residual = static_cast<const T*>(arrays.residual);
    T* y = static_cast<T*>(arrays.y);
    parallel_for(shape.rows, threads, [&](int64_t begin, int64_t end) {
        for (int64_t row = begin; row < end; ++row) {
            for (int c = 0; c < channels; ++c) {
                int64_t i = row * channels + c;
                R value = norms[c](widen(x[i]));
                if (shape.form == NormForm::ADD_RELU) value += widen(residual[i]);
                y[i] = narrow<T>(shape.form == NormForm::NORM ? value : relu(value));
            }
        }
    });
}

template <typename T>
void backward(const NormBackward& arrays, const NormShape& shape, int threads) {
    using R = Real<T>;
    NormPartition partition = norm_partition(shape.rows, shape.channels);
    int channels = shape.channels;
    const T *x = static_cast<const T*>(arrays.x), *y = static_cast<const T*>(arrays.y);
    const T* gradient = static_cast<const T*>(arrays.gradient);
    std::vector<ChannelNorm<R>> norms = channel_norms<R>(arrays, channels);
    auto passed = [&](int64_t i, int c) {
        bool passes = shape.form == NormForm::NORM ||
                      (shape.form == NormForm::RELU ? norms[c](widen(x[i])) : widen(y[i])) > R(0);
        return passes ? widen(gradient[i]) : R(0);
    };
    T* residual_gradient = static_cast<T*>(arrays.residual_gradient);
    parallel_for(partition.chunks, threads, [&](int64_t begin, int64_t end) {
        for (int64_t chunk = begin; chunk < end; ++chunk) {
            sum_chunk<R>(partition, chunk, arrays.partials, [&](int64_t row, R* sum, R* products) {
                for (int c = 0; c < channels; ++c) {
                    int64_t i = row * channels + c;
                    R g = passed(i, c);
                    if (shape.form == NormForm::ADD_RELU) residual_gradient[i] = narrow<T>(g);
                    sum[c] += g;
                    products[c] = fma_real(g, widen(x[i]) - norms[c].mean, products[c]);
                }
            });
        }
    });
    R *coefficients = static_cast<R*>(arrays.coefficients), *slopes = coefficients + channels;
    const R* inverse_sd = static_cast<const R*>(arrays.inverse_sd);
    double rows = static_cast<double>(shape.rows);
    for (int c = 0; c < channels; ++c) {
        double sum = sum_of_chunks(partition, arrays.partials, 0, c);
        double products = sum_of_chunks(partition, arrays.partials, 1, c);
        double inverse = inverse_sd[c];
        static_cast<R*>(arrays.bias_gradient)[c] = static_cast<R>(sum);
        static_cast<R*>(arrays.weight_gradient)[c] = static_cast<R>(products * inverse);
        coefficients[c] = static_cast<R>(sum / rows);
        slopes[c] = static_cast<R>(products / rows * (inverse * inverse));
    }
    T* x_gradient = static_cast<T*>(arrays.x_gradient);
    parallel_for(shape.rows, threads, [&](int64_t begin, int64_t end) {
        for (int64_t row = begin; row < end; ++row) {
            for (int c = 0; c < channels; ++c) {
                int64_t i = row * channels + c;
                x_gradient[i] = narrow<T>(norm_gradient(passed(i, c), widen(x[i]) - norms[c].mean,
                                                        norms[c].scale, coefficients[c], slopes[c]));
            }
        }
    });
}

}  // namespace

int64_t norm_partials(const NormShape& shape) {
    return 2 * norm_partition(shape.rows, shape.channels).chunks * shape.channels;
}

void batch_norm_cpu(const NormForward& arrays, const NormShape& shape, int threads) {
    switch (shape.type) {
        case FloatType::FLOAT32:
            return forward<float>(arrays, shape, threads);
        case FloatType::BFLOAT16:
            return forward<BFloat16>(arrays, shape, threads);
        case FloatType::FLOAT16:
            return forward<Float16>(arrays, shape, threads);
        case FloatType::FLOAT64:
            return forward<double>(arrays, shape, threads);
    }
}

void batch_norm_gradient_cpu(const NormBackward& arrays, const NormShape& shape, int threads) {
    switch (shape.type) {
        case FloatType::FLOAT32:
            return backward<float>(arrays, shape, threads);
        case FloatType::BFLOAT16:
            return backward<BFloat16>(arrays, shape, threads);
        case FloatType::FLOAT16:
            return backward<Float16>(arrays, shape, threads);
        case FloatType::FLOAT64:
            return backward<double>(arrays, shape, threads);
    }
}

}  // namespace popnet
