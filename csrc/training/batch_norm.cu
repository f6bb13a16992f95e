#include "common/cuda.h"
#include "training/batch_norm.h"
#include "training/batch_norm_element.h"

// Every kernel over the elements has the same geometry: a block covers one chunk of rows (blockIdx.x) and one
// tile of channels (blockIdx.y); threadIdx.y is the lane, threadIdx.x a pack of neighbouring channels. So a
// thread keeps its channels' constants in registers, and a warp's accesses are coalesced.

namespace popnet {
namespace {

template <typename T, int kPack>
struct alignas(sizeof(T) * kPack) Pack {
    T value[kPack];
};

template <typename T, int kPack>
__device__ Pack<T, kPack> load(const T* base, int64_t i) {
    return *reinterpret_cast<const Pack<T, kPack>*>(base + i);
}

template <typename T, int kPack>
__device__ void store(T* base, int64_t i, const Pack<T, kPack>& pack) {
    *reinterpret_cast<Pack<T, kPack>*>(base + i) = pack;
}

// The first channel of this thread; may lie beyond the last.
template <int kPack>
__device__ int first_channel() {
    return static_cast<int>(blockIdx.y) * kTile + static_cast<int>(threadIdx.x) * kPack;
}

// f(index of the thread's pack) for every row of this thread's lane.
template <typename Function>
__device__ void for_each_row(const NormPartition& partition, int channel, Function f) {
    int64_t row = static_cast<int64_t>(blockIdx.x) * partition.lanes * partition.rows_per_lane + threadIdx.y;
#pragma unroll 4
    for (int64_t i = 0; i < partition.rows_per_lane; ++i, row += partition.lanes) {
        if (row < partition.rows) f(row * partition.channels + channel);
    }
}

// Merges the lanes' two sums of the block's channels by halving and writes them as this chunk's partial sums.
// All threads of the block take part.
template <typename R, int kPack>
__device__ void merge_lanes(const NormPartition& partition, const R* first, const R* second,
                            double* partials) {
    __shared__ double sums[2][kTileSums];
    int width = static_cast<int>(blockDim.x) * kPack, column = static_cast<int>(threadIdx.x) * kPack;
    int lane = static_cast<int>(threadIdx.y);
    for (int k = 0; k < kPack; ++k) {
        sums[0][lane * width + column + k] = first[k];
        sums[1][lane * width + column + k] = second[k];
    }
    __syncthreads();
    for (int half = partition.lanes / 2; half > 0; half /= 2) {
        if (lane < half) {
            for (int k = 0; k < kPack; ++k) {
                int here = lane * width + column + k;
                sums[0][here] += sums[0][here + half * width];
                sums[1][here] += sums[1][here + half * width];
            }
        }
        __syncthreads();
    }
    int channel = first_channel<kPack>();
    if (lane == 0 && channel < partition.channels) {
        for (int k = 0; k < kPack; ++k) {
            int64_t chunk = blockIdx.x;
            partials[(2 * chunk) * partition.channels + channel + k] = sums[0][column + k];
            partials[(2 * chunk + 1) * partition.channels + channel + k] = sums[1][column + k];
        }
    }
}

// A channel's sum over the chunks, by one warp; in lane 0.
__device__ double sum_of_chunks(const NormPartition& partition, const double* partials, int which,
                                int channel) {
    double sum = 0.0;
    for (int64_t chunk = threadIdx.x % kMergers; chunk < partition.chunks; chunk += kMergers) {
        sum += partials[(2 * chunk + which) * partition.channels + channel];
    }
    for (int half = kMergers / 2; half > 0; half /= 2) sum += __shfl_down_sync(0xffffffffu, sum, half);
    return sum;
}

constexpr int kFinishChannels = 4;  // of a block, a warp each
constexpr int kFinishThreads = kFinishChannels * kMergers;

template <typename R, typename Arrays>
__device__ ChannelNorm<R> channel_norm(const Arrays& arrays, int channel) {
    return ChannelNorm<R>{
        static_cast<const R*>(arrays.mean)[channel],
        static_cast<const R*>(arrays.weight)[channel] * static_cast<const R*>(arrays.inverse_sd)[channel],
        static_cast<const R*>(arrays.bias)[channel]};
}

// ---- forward ----

template <typename T, int kPack>
__global__ void __launch_bounds__(kTileSums / kPack)
    moments_kernel(NormForward arrays, NormPartition partition) {
    using R = Real<T>;
    int channel = first_channel<kPack>();
    const T* x = static_cast<const T*>(arrays.x);
    R pivot[kPack], sum[kPack] = {}, squares[kPack] = {};
    if (channel < partition.channels) {
        for (int k = 0; k < kPack; ++k) pivot[k] = widen(x[channel + k]);
        for_each_row(partition, channel, [&](int64_t i) {
            Pack<T, kPack> pack = load<T, kPack>(x, i);
            for (int k = 0; k < kPack; ++k) {
                R d = widen(pack.value[k]) - pivot[k];
                sum[k] += d;
                squares[k] = fma_real(d, d, squares[k]);
            }
        });
    }
    merge_lanes<R, kPack>(partition, sum, squares, arrays.partials);
}

// One warp a channel.
template <typename T>
__global__ void finish_moments_kernel(NormForward arrays, NormPartition partition) {
    using R = Real<T>;
    int channel = static_cast<int>((blockIdx.x * blockDim.x + threadIdx.x) / kMergers);
    if (channel >= partition.channels) return;  // a whole warp
    double sum = sum_of_chunks(partition, arrays.partials, 0, channel);
    double squares = sum_of_chunks(partition, arrays.partials, 1, channel);
    if (threadIdx.x % kMergers != 0) return;
    double rows = static_cast<double>(partition.rows);
    double pivot = widen(static_cast<const T*>(arrays.x)[channel]);
    ChannelMoments moments = channel_moments(pivot, sum, squares, rows, arrays.eps);
    static_cast<R*>(arrays.mean)[channel] = static_cast<R>(moments.mean);
    static_cast<R*>(arrays.inverse_sd)[channel] = static_cast<R>(moments.inverse_sd);
    R* running_mean = static_cast<R*>(arrays.running_mean) + channel;
    R* running_var = static_cast<R*>(arrays.running_var) + channel;
    *running_mean = static_cast<R>(moving_average(*running_mean, moments.mean, arrays.momentum));
    double unbiased = moments.variance * (rows / (rows - 1.0));
    *running_var = static_cast<R>(moving_average(*running_var, unbiased, arrays.momentum));
    if (channel == 0) *arrays.batches += 1;
}

template <typename T, int kPack, NormForm kForm>
__global__ void __launch_bounds__(kTileSums / kPack)
    apply_kernel(NormForward arrays, NormPartition partition) {
    using R = Real<T>;
    int channel = first_channel<kPack>();
    if (channel >= partition.channels) return;
    ChannelNorm<R> norms[kPack];
    for (int k = 0; k < kPack; ++k) norms[k] = channel_norm<R>(arrays, channel + k);
    for_each_row(partition, channel, [&](int64_t i) {
        Pack<T, kPack> x = load<T, kPack>(static_cast<const T*>(arrays.x), i), residual, y;
        if (kForm == NormForm::ADD_RELU) residual = load<T, kPack>(static_cast<const T*>(arrays.residual), i);
        for (int k = 0; k < kPack; ++k) {
            R value = norms[k](widen(x.value[k]));
            if (kForm == NormForm::ADD_RELU) value += widen(residual.value[k]);
            y.value[k] = narrow<T>(kForm == NormForm::NORM ? value : relu(value));
        }
        store<T, kPack>(static_cast<T*>(arrays.y), i, y);
    });
}

// ---- backward ----

template <typename T, int kPack, NormForm kForm>
__global__ void __launch_bounds__(kTileSums / kPack)
    products_kernel(NormBackward arrays, NormPartition partition) {
    using R = Real<T>;
    int channel = first_channel<kPack>();
    R sum[kPack] = {}, products[kPack] = {};
    if (channel < partition.channels) {
        ChannelNorm<R> norms[kPack];
        for (int k = 0; k < kPack; ++k) norms[k] = channel_norm<R>(arrays, channel + k);
        for_each_row(partition, channel, [&](int64_t i) {
            Pack<T, kPack> gradient = load<T, kPack>(static_cast<const T*>(arrays.gradient), i);
            Pack<T, kPack> x = load<T, kPack>(static_cast<const T*>(arrays.x), i), y;
            if (kForm == NormForm::ADD_RELU) y = load<T, kPack>(static_cast<const T*>(arrays.y), i);
            for (int k = 0; k < kPack; ++k) {
                R input = widen(x.value[k]), g = widen(gradient.value[k]);
                if (kForm == NormForm::RELU && !(norms[k](input) > R(0))) g = R(0);
                if (kForm == NormForm::ADD_RELU) {
                    if (!(widen(y.value[k]) > R(0))) g = R(0);
                    y.value[k] = narrow<T>(g);
                }
                sum[k] += g;
                products[k] = fma_real(g, input - norms[k].mean, products[k]);
            }
            if (kForm == NormForm::ADD_RELU) store<T, kPack>(static_cast<T*>(arrays.residual_gradient), i, y);
        });
    }
    merge_lanes<R, kPack>(partition, sum, products, arrays.partials);
}

// One warp a channel.
template <typename T>
__global__ void finish_products_kernel(NormBackward arrays, NormPartition partition) {
    using R = Real<T>;
    int channel = static_cast<int>((blockIdx.x * blockDim.x + threadIdx.x) / kMergers);
    if (channel >= partition.channels) return;  // a whole warp
    double sum = sum_of_chunks(partition, arrays.partials, 0, channel);
    double products = sum_of_chunks(partition, arrays.partials, 1, channel);
    if (threadIdx.x % kMergers != 0) return;
    double rows = static_cast<double>(partition.rows);
    double inverse = static_cast<const R*>(arrays.inverse_sd)[channel];
    static_cast<R*>(arrays.bias_gradient)[channel] = static_cast<R>(sum);
    static_cast<R*>(arrays.weight_gradient)[channel] = static_cast<R>(products * inverse);
    R* coefficients = static_cast<R*>(arrays.coefficients);
    coefficients[channel] = static_cast<R>(sum / rows);
    coefficients[partition.channels + channel] = static_cast<R>(products / rows * (inverse * inverse));
}

// With a residual its gradient, already written, is the gradient that passed the ReLU.
template <typename T, int kPack, NormForm kForm>
__global__ void __launch_bounds__(kTileSums / kPack)
    gradient_kernel(NormBackward arrays, NormPartition partition) {
    using R = Real<T>;
    int channel = first_channel<kPack>();
    if (channel >= partition.channels) return;
    ChannelNorm<R> norms[kPack];
    R offsets[kPack], slopes[kPack];
    const R* coefficients = static_cast<const R*>(arrays.coefficients);
    for (int k = 0; k < kPack; ++k) {
        norms[k] = channel_norm<R>(arrays, channel + k);
        offsets[k] = coefficients[channel + k];
        slopes[k] = coefficients[partition.channels + channel + k];
    }
    const void* passed = kForm == NormForm::ADD_RELU ? arrays.residual_gradient : arrays.gradient;
    for_each_row(partition, channel, [&](int64_t i) {
        Pack<T, kPack> gradient = load<T, kPack>(static_cast<const T*>(passed), i);
        Pack<T, kPack> x = load<T, kPack>(static_cast<const T*>(arrays.x), i), result;
        for (int k = 0; k < kPack; ++k) {
            R input = widen(x.value[k]), g = widen(gradient.value[k]);
            if (kForm == NormForm::RELU && !(norms[k](input) > R(0))) g = R(0);
            result.value[k] =
                narrow<T>(norm_gradient(g, input - norms[k].mean, norms[k].scale, offsets[k], slopes[k]));
        }
        store<T, kPack>(static_cast<T*>(arrays.x_gradient), i, result);
    });
}

// ---- launches ----

struct Geometry {
    dim3 blocks, threads;
    unsigned finish_blocks;
};

Geometry geometry(const NormPartition& partition, int pack) {
    unsigned tiles = static_cast<unsigned>((partition.channels + kTile - 1) / kTile);
    return Geometry{dim3(static_cast<unsigned>(partition.chunks), tiles),
                    dim3(static_cast<unsigned>(kTileSums / partition.lanes / pack),
                         static_cast<unsigned>(partition.lanes)),
                    static_cast<unsigned>((partition.channels + kFinishChannels - 1) / kFinishChannels)};
}

template <typename T, int kPack, NormForm kForm>
void forward(const NormForward& arrays, const NormPartition& partition, cudaStream_t stream) {
    Geometry g = geometry(partition, kPack);
    moments_kernel<T, kPack><<<g.blocks, g.threads, 0, stream>>>(arrays, partition);
    check_cuda(cudaGetLastError(), "batch norm: moments");
    finish_moments_kernel<T><<<g.finish_blocks, kFinishThreads, 0, stream>>>(arrays, partition);
    check_cuda(cudaGetLastError(), "batch norm: end of the moments");
    apply_kernel<T, kPack, kForm><<<g.blocks, g.threads, 0, stream>>>(arrays, partition);
    check_cuda(cudaGetLastError(), "batch norm");
}

template <typename T, int kPack, NormForm kForm>
void backward(const NormBackward& arrays, const NormPartition& partition, cudaStream_t stream) {
    Geometry g = geometry(partition, kPack);
    products_kernel<T, kPack, kForm><<<g.blocks, g.threads, 0, stream>>>(arrays, partition);
    check_cuda(cudaGetLastError(), "batch norm gradient: sums");
    finish_products_kernel<T><<<g.finish_blocks, kFinishThreads, 0, stream>>>(arrays, partition);
    check_cuda(cudaGetLastError(), "batch norm gradient: end of the sums");
    gradient_kernel<T, kPack, kForm><<<g.blocks, g.threads, 0, stream>>>(arrays, partition);
    check_cuda(cudaGetLastError(), "batch norm gradient");
}

// Packs of four where channels and addresses allow it. The arithmetic is the same.
template <typename T>
bool packs(const NormPartition& partition, std::initializer_list<const void*> tensors) {
    if (partition.channels % 4 != 0) return false;
    return std::all_of(tensors.begin(), tensors.end(), [](const void* tensor) {
        return reinterpret_cast<uintptr_t>(tensor) % (4 * sizeof(T)) == 0;
    });
}

template <typename T, NormForm kForm>
void forward_of(const NormForward& arrays, const NormShape& shape, cudaStream_t stream) {
    NormPartition partition = norm_partition(shape.rows, shape.channels);
    bool packed = packs<T>(partition, {arrays.x, arrays.residual, arrays.y});
    (packed ? forward<T, 4, kForm> : forward<T, 1, kForm>)(arrays, partition, stream);
}

template <typename T, NormForm kForm>
void backward_of(const NormBackward& arrays, const NormShape& shape, cudaStream_t stream) {
    NormPartition partition = norm_partition(shape.rows, shape.channels);
    bool packed = packs<T>(
        partition, {arrays.gradient, arrays.x, arrays.y, arrays.x_gradient, arrays.residual_gradient});
    (packed ? backward<T, 4, kForm> : backward<T, 1, kForm>)(arrays, partition, stream);
}

// call.template operator()<T, form>() with the types that the shape names.
template <typename T, typename Call>
void with_form(NormForm form, Call&& call) {
    switch (form) {
        case NormForm::NORM:
            return call.template operator()<T, NormForm::NORM>();
        case NormForm::RELU:
            return call.template operator()<T, NormForm::RELU>();
        case NormForm::ADD_RELU:
            return call.template operator()<T, NormForm::ADD_RELU>();
    }
}

template <typename Call>
void with_types(const NormShape& shape, Call&& call) {
    switch (shape.type) {
        case FloatType::FLOAT32:
            return with_form<float>(shape.form, call);
        case FloatType::BFLOAT16:
            return with_form<BFloat16>(shape.form, call);
        case FloatType::FLOAT16:
            return with_form<Float16>(shape.form, call);
        case FloatType::FLOAT64:
            return with_form<double>(shape.form, call);
    }
}

}  // namespace

void batch_norm_cuda(const NormForward& arrays, const NormShape& shape, void* stream) {
    with_types(shape, [&]<typename T, NormForm kForm>() {
        forward_of<T, kForm>(arrays, shape, static_cast<cudaStream_t>(stream));
    });
}

void batch_norm_gradient_cuda(const NormBackward& arrays, const NormShape& shape, void* stream) {
    with_types(shape, [&]<typename T, NormForm kForm>() {
        backward_of<T, kForm>(arrays, shape, static_cast<cudaStream_t>(stream));
    });
}

}  // namespace popnet
