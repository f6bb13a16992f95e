// CUB's radix sorts by their contract: a call without workspace says how large it must be, the sort is
// stable, the inputs stay as they are, and the workspace is overwritten.
#pragma once

#include <cuda_runtime.h>

#include <numeric>
#include <vector>

namespace emulation {
class DeviceAccess {  // while it lives, the host may touch device memory, as a library's kernels do
public:
    explicit DeviceAccess(cudaStream_t stream);
    ~DeviceAccess();
};
void library_wrote(const void* memory, size_t bytes);
void library_reads(const void* memory, size_t bytes, const char* what);
void overwrite(void* memory, size_t bytes);
}  // namespace emulation

namespace cub {
namespace emulated {

constexpr size_t kWorkspace = 4096;

template <typename Key, typename Value>
struct Columns {
    const Key* keys;
    Key* sorted_keys;
    const Value* values;
    Value* sorted_values;
};

// The items begin .. end-1 by the bits low .. high-1 of their keys.
template <typename Key, typename Value>
void sort(const Columns<Key, Value>& columns, int64_t begin, int64_t end, int low, int high) {
    emulation::library_reads(columns.keys + begin, (end - begin) * sizeof(Key), "a sort's keys");
    emulation::library_reads(columns.values + begin, (end - begin) * sizeof(Value), "a sort's values");
    auto part = [low, high](Key key) {
        int above = static_cast<int>(8 * sizeof(Key)) - high;
        return static_cast<Key>(static_cast<Key>(key << above) >> (above + low));
    };
    std::vector<int64_t> order(end - begin);
    std::iota(order.begin(), order.end(), begin);
    std::stable_sort(order.begin(), order.end(),
                     [&](int64_t a, int64_t b) { return part(columns.keys[a]) < part(columns.keys[b]); });
    for (int64_t i = begin; i < end; ++i) {
        columns.sorted_keys[i] = columns.keys[order[i - begin]];
        columns.sorted_values[i] = columns.values[order[i - begin]];
    }
    emulation::library_wrote(columns.sorted_keys + begin, (end - begin) * sizeof(Key));
    emulation::library_wrote(columns.sorted_values + begin, (end - begin) * sizeof(Value));
}

}  // namespace emulated

struct DeviceRadixSort {
    template <typename Key, typename Value>
    static cudaError_t SortPairs(void* workspace, size_t& bytes, const Key* keys, Key* sorted_keys,
                                 const Value* values, Value* sorted_values, int items, int low = 0,
                                 int high = 8 * sizeof(Key), cudaStream_t stream = nullptr) {
        size_t needed = emulated::kWorkspace + items;
        if (!workspace) return bytes = needed, cudaSuccess;
        if (bytes < needed) return cudaErrorInvalidValue;
        emulation::DeviceAccess access(stream);
        emulation::overwrite(workspace, needed);
        emulated::sort<Key, Value>({keys, sorted_keys, values, sorted_values}, 0, items, low, high);
        return cudaSuccess;
    }
};

struct DeviceSegmentedRadixSort {
    template <typename Key, typename Value, typename Begins, typename Ends>
    static cudaError_t SortPairs(void* workspace, size_t& bytes, const Key* keys, Key* sorted_keys,
                                 const Value* values, Value* sorted_values, int items, int segments,
                                 Begins begins, Ends ends, int low = 0, int high = 8 * sizeof(Key),
                                 cudaStream_t stream = nullptr) {
        size_t needed = emulated::kWorkspace + items + 64 * static_cast<size_t>(segments);
        if (!workspace) return bytes = needed, cudaSuccess;
        if (bytes < needed) return cudaErrorInvalidValue;
        emulation::DeviceAccess access(stream);
        emulation::overwrite(workspace, needed);
        for (int s = 0; s < segments; ++s) {
            if (begins[s] < 0 || ends[s] > items || begins[s] > ends[s]) return cudaErrorInvalidValue;
            emulated::sort<Key, Value>({keys, sorted_keys, values, sorted_values}, begins[s], ends[s], low,
                                       high);
        }
        return cudaSuccess;
    }
};

}  // namespace cub
