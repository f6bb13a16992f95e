#include <thrust/iterator/counting_iterator.h>
#include <thrust/iterator/transform_iterator.h>
#include <cub/device/device_segmented_radix_sort.cuh>

#include "common/cuda.h"
#include "common/portable_math.h"
#include "metrics/correlation.h"
#include "metrics/unit_vector.h"

namespace popnet {
namespace {

constexpr int kThreads = 256;
constexpr int64_t kValuesAtOnce = int64_t{1} << 25;  // values whose ranks are sorted together

// A non-negative 128-bit sum in the making: sums of its addends' four 32-bit digits.
struct DigitSums {
    unsigned long long digit[4];
};

struct SegmentStart {
    int64_t values;
    __host__ __device__ int operator()(int segment) const { return static_cast<int>(segment * values); }
};

using Segments = thrust::transform_iterator<SegmentStart, thrust::counting_iterator<int>>;

Segments segments(int64_t values, int first) {
    return Segments(thrust::counting_iterator<int>(first), SegmentStart{values});
}

__device__ void add_square(DigitSums& sums, uint64_t size) {
    uint64_t high = __umul64hi(size, size), low = size * size;
    sums.digit[0] += low & 0xffffffffu;
    sums.digit[1] += low >> 32;
    sums.digit[2] += high & 0xffffffffu;
    sums.digit[3] += high >> 32;
}

// Adds the block's sums to `total`, integers in any order.
__device__ void add_block(DigitSums* total, DigitSums sums) {
    for (int i = 0; i < 4; ++i) {
        for (int lane = 16; lane > 0; lane /= 2)
            sums.digit[i] += __shfl_down_sync(0xffffffffu, sums.digit[i], lane);
        if (threadIdx.x % 32 == 0 && sums.digit[i] != 0) atomicAdd(&total->digit[i], sums.digit[i]);
    }
}

__device__ void combine(uint64_t& high, uint64_t& low, const DigitSums& sums) {
    unsigned __int128 value = 0;
    for (int i = 3; i >= 0; --i) value = (value << 32) + sums.digit[i];
    high = static_cast<uint64_t>(value >> 64);
    low = static_cast<uint64_t>(value);
}

__device__ int64_t first_item() {
    return static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
}
__device__ int64_t item_stride() {
    return static_cast<int64_t>(gridDim.x) * blockDim.x;
}

// One thread a value.
__global__ void write_sort_keys(uint32_t* keys, int32_t* places, const float* logits, int64_t members,
                                int64_t values) {
    for (int64_t i = first_item(); i < members * values; i += item_stride()) {
        keys[i] = sort_key(logits[i]);
        places[i] = static_cast<int32_t>(i % values);
    }
}

// One thread a sorted place; finds the run of equal keys around it by bisection.
__global__ void write_ranks(int32_t* ranks, const uint32_t* keys, const int32_t* places, int64_t members,
                            int64_t values) {
    for (int64_t i = first_item(); i < members * values; i += item_stride()) {
        int64_t member = i / values, k = i % values;
        const uint32_t* row = keys + member * values;
        uint32_t key = row[k];
        int64_t low = 0, high = k;  // the first place whose key is not below
        while (low < high) {
            int64_t middle = (low + high) / 2;
            if (row[middle] < key) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        int64_t first = low;
        low = k + 1;
        high = values;  // the first place whose key is above
        while (low < high) {
            int64_t middle = (low + high) / 2;
            if (row[middle] <= key) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        ranks[member * values + places[i]] = static_cast<int32_t>(centred_rank(first, low, values));
    }
}

// A row of blocks a member.
__global__ void square_ranks(DigitSums* squares, const int32_t* ranks, int64_t values) {
    const int32_t* row = ranks + blockIdx.y * values;
    DigitSums sums{};
    for (int64_t k = first_item(); k < values; k += item_stride()) {
        int64_t rank = row[k];
        add_square(sums, static_cast<uint64_t>(rank < 0 ? -rank : rank));
    }
    add_block(&squares[blockIdx.y], sums);
}

// One thread a member: mean 0 and the norm of its ranks; the squares are cleared for what comes next.
__global__ void rank_norms(double2* mean_and_norm, DigitSums* squares, int64_t members) {
    int64_t m = first_item();
    if (m >= members) return;
    uint64_t high, low;
    combine(high, low, squares[m]);
    mean_and_norm[m] = double2{0.0, sqrt(nearest_double(high, low))};
    squares[m] = DigitSums{};
}

__device__ double add_lanes(double* lanes, double value) {
    int lane = threadIdx.x;
    lanes[lane] = value;
    __syncthreads();
    for (int half = kPearsonLanes / 2; half > 0; half /= 2) {
        if (lane < half) lanes[lane] += lanes[lane + half];
        __syncthreads();
    }
    double sum = lanes[0];
    __syncthreads();
    return sum;
}

// One block a member, one thread a lane.
__global__ void value_norms(double2* mean_and_norm, const float* logits, int64_t values) {
    __shared__ double lanes[kPearsonLanes];
    const float* row = logits + blockIdx.x * values;
    double sum = 0.0;
    bool varies = false;
    for (int64_t k = threadIdx.x; k < values; k += kPearsonLanes) {
        sum += static_cast<double>(row[k]);
        varies = varies || row[k] != row[0];
    }
    double mean = add_lanes(lanes, sum) / static_cast<double>(values);
    double square = 0.0;
    for (int64_t k = threadIdx.x; k < values; k += kPearsonLanes) {
        double v = static_cast<double>(row[k]) - mean;
        square = fused_multiply_add(v, v, square);
    }
    double norm = sqrt(add_lanes(lanes, square));
    bool any = __syncthreads_or(varies);
    if (threadIdx.x == 0) mean_and_norm[blockIdx.x] = double2{mean, any ? norm : 0.0};
}

template <typename Value>
__device__ int64_t component(const Value* row, int64_t k, double2 mean_and_norm) {
    if (mean_and_norm.y == 0.0) return 0;
    return unit_component(static_cast<double>(row[k]) - mean_and_norm.x, mean_and_norm.y);
}

// A row of blocks a member: |unit|^2.
template <typename Value>
__global__ void square_units(DigitSums* squares, const Value* rows, const double2* mean_and_norm,
                             int64_t values) {
    DigitSums sums{};
    for (int64_t k = first_item(); k < values; k += item_stride()) {
        int64_t unit = component(rows + blockIdx.y * values, k, mean_and_norm[blockIdx.y]);
        add_square(sums, static_cast<uint64_t>(unit < 0 ? -unit : unit));
    }
    add_block(&squares[blockIdx.y], sums);
}

// One thread a value: adds every member's component to its sum.
template <typename Value>
__global__ void add_units(uint64_t* sums, const Value* rows, const double2* mean_and_norm, int64_t members,
                          int64_t values) {
    for (int64_t k = first_item(); k < values; k += item_stride()) {
        uint64_t low = sums[2 * k], high = sums[2 * k + 1];
        for (int64_t m = 0; m < members; ++m) {
            int64_t unit = component(rows + m * values, k, mean_and_norm[m]);
            uint64_t sum = low + static_cast<uint64_t>(unit);
            high += static_cast<uint64_t>(unit >> 63) + (sum < low ? 1 : 0);
            low = sum;
        }
        sums[2 * k] = low;
        sums[2 * k + 1] = high;
    }
}

__global__ void write_squares(uint64_t* out, const DigitSums* squares, int64_t members) {
    int64_t m = first_item();
    if (m < members) combine(out[2 * m + 1], out[2 * m], squares[m]);
}

constexpr size_t aligned(size_t bytes) {
    return (bytes + 255) / 256 * 256;
}

// At least one, so that a workspace exists for no members too.
int64_t members_at_once(int64_t members, int64_t values) {
    return std::clamp<int64_t>(kValuesAtOnce / std::max<int64_t>(values, 1), 1, rows_for(members));
}

size_t sort_bytes(int64_t members, int64_t values) {
    size_t bytes = 0;
    check_cuda(cub::DeviceSegmentedRadixSort::SortPairs(
                   nullptr, bytes, static_cast<const uint32_t*>(nullptr), static_cast<uint32_t*>(nullptr),
                   static_cast<const int32_t*>(nullptr), static_cast<int32_t*>(nullptr),
                   static_cast<int>(members * values), static_cast<int>(members), segments(values, 0),
                   segments(values, 1)),
               "ranks: size of CUB's workspace");
    return bytes;
}

// Workspace: keys, sorted keys, places, sorted places (their first then the ranks), means and norms, squares,
// CUB's own.
class Workspace {
public:
    Workspace(void* base, size_t bytes, int64_t members, int64_t values) {
        size_t column = aligned(members * values * sizeof(uint32_t));
        char* next = static_cast<char*>(base);
        auto take = [&next](size_t size) {
            char* taken = next;
            next += size;
            return taken;
        };
        keys = reinterpret_cast<uint32_t*>(take(column));
        sorted_keys = reinterpret_cast<uint32_t*>(take(column));
        places = reinterpret_cast<int32_t*>(take(column));
        sorted_places = reinterpret_cast<int32_t*>(take(column));
        mean_and_norm = reinterpret_cast<double2*>(take(aligned(members * sizeof(double2))));
        squares = reinterpret_cast<DigitSums*>(take(aligned(members * sizeof(DigitSums))));
        cub = next;
        cub_bytes = bytes - static_cast<size_t>(next - static_cast<char*>(base));
    }

    static size_t bytes(int64_t members, int64_t values) {
        return 4 * aligned(members * values * sizeof(uint32_t)) + aligned(members * sizeof(double2)) +
               aligned(members * sizeof(DigitSums)) + aligned(sort_bytes(members, values));
    }

    uint32_t *keys, *sorted_keys;
    int32_t *places, *sorted_places;
    double2* mean_and_norm;
    DigitSums* squares;
    char* cub;
    size_t cub_bytes;
};

void write_group_ranks(int32_t* ranks, const float* logits, int64_t members, int64_t values, Workspace& work,
                       cudaStream_t stream) {
    unsigned blocks = blocks_for(members * values, kThreads);
    write_sort_keys<<<blocks, kThreads, 0, stream>>>(work.keys, work.places, logits, members, values);
    check_cuda(cudaGetLastError(), "ranks: keys");
    check_cuda(
        cub::DeviceSegmentedRadixSort::SortPairs(
            work.cub, work.cub_bytes, static_cast<const uint32_t*>(work.keys), work.sorted_keys,
            static_cast<const int32_t*>(work.places), work.sorted_places, static_cast<int>(members * values),
            static_cast<int>(members), segments(values, 0), segments(values, 1), 0, 32, stream),
        "ranks: sort");
    write_ranks<<<blocks, kThreads, 0, stream>>>(ranks, work.sorted_keys, work.sorted_places, members,
                                                 values);
    check_cuda(cudaGetLastError(), "ranks");
}

template <typename Value>
void add_group(const UnitSums& out, const Value* rows, int64_t members, int64_t values, Workspace& work,
               cudaStream_t stream) {
    dim3 blocks(blocks_for(values, kThreads, 64), static_cast<unsigned>(members));
    square_units<<<blocks, kThreads, 0, stream>>>(work.squares, rows, work.mean_and_norm, values);
    add_units<<<blocks_for(values, kThreads), kThreads, 0, stream>>>(out.sums, rows, work.mean_and_norm,
                                                                     members, values);
    write_squares<<<blocks_for(members, kThreads), kThreads, 0, stream>>>(out.squares, work.squares, members);
    check_cuda(cudaGetLastError(), "unit vectors");
}

}  // namespace

size_t unit_vectors_workspace_cuda(int64_t members, int64_t values) {
    return Workspace::bytes(members_at_once(members, values), values);
}

void add_unit_vectors_cuda(const UnitSums& out, const float* logits, int64_t members, int64_t values,
                           Correlation kind, void* workspace, size_t workspace_bytes, void* stream) {
    if (members == 0) return;
    auto cuda_stream = static_cast<cudaStream_t>(stream);
    int64_t step = members_at_once(members, values);
    Workspace work(workspace, workspace_bytes, step, values);
    for (int64_t first = 0; first < members; first += step) {
        int64_t count = std::min(step, members - first);
        const float* rows = logits + first * values;
        UnitSums group{out.sums, out.squares + 2 * first};
        check_cuda(cudaMemsetAsync(work.squares, 0, count * sizeof(DigitSums), cuda_stream),
                   "unit vectors: squares");
        if (kind == Correlation::SPEARMAN) {
            int32_t* ranks = work.places;  // the unsorted places are not needed after the sort
            write_group_ranks(ranks, rows, count, values, work, cuda_stream);
            dim3 blocks(blocks_for(values, kThreads, 64), static_cast<unsigned>(count));
            square_ranks<<<blocks, kThreads, 0, cuda_stream>>>(work.squares, ranks, values);
            rank_norms<<<blocks_for(count, kThreads), kThreads, 0, cuda_stream>>>(work.mean_and_norm,
                                                                                  work.squares, count);
            check_cuda(cudaGetLastError(), "ranks: norms");
            add_group(group, ranks, count, values, work, cuda_stream);
        } else {
            value_norms<<<static_cast<unsigned>(count), kPearsonLanes, 0, cuda_stream>>>(work.mean_and_norm,
                                                                                         rows, values);
            check_cuda(cudaGetLastError(), "values: norms");
            add_group(group, rows, count, values, work, cuda_stream);
        }
    }
}

void centred_ranks_cuda(int32_t* ranks, const float* logits, int64_t members, int64_t values, void* workspace,
                        size_t workspace_bytes, void* stream) {
    if (members == 0) return;
    int64_t step = members_at_once(members, values);
    Workspace work(workspace, workspace_bytes, step, values);
    for (int64_t first = 0; first < members; first += step) {
        write_group_ranks(ranks + first * values, logits + first * values, std::min(step, members - first),
                          values, work, static_cast<cudaStream_t>(stream));
    }
}

}  // namespace popnet
