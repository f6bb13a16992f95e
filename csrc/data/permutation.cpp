#include "data/permutation.h"

#include <array>
#include <memory>
#include <utility>

#include "common/parallel.h"
#include "data/permutation_keys.h"

namespace popnet {
namespace {

struct Entry {
    uint64_t key;
    int64_t index;
};

constexpr int kDigitBits = 11;
constexpr int kDigits = 6;  // 6 * 11 >= 64
constexpr uint64_t kDigitMask = (1u << kDigitBits) - 1;

}  // namespace

// Least significant digit first radix sort. It is stable and starts from ascending indices, so ties keep
// their order.
void permutation_cpu(int64_t* order, int64_t size, uint64_t seed, uint32_t source, uint32_t epoch,
                     uint32_t block, int threads) {
    auto keys = std::make_unique_for_overwrite<uint64_t[]>(size);
    parallel_for((size + 1) / 2, threads, [&](int64_t begin, int64_t end) {
        for (int64_t pair = begin; pair < end; ++pair) {
            write_key_pair(keys.get(), pair, size, seed, source, epoch, block);
        }
    });

    auto counts = std::make_unique<std::array<std::array<int64_t, kDigitMask + 1>, kDigits>>();
    auto from = std::make_unique_for_overwrite<Entry[]>(size);
    auto to = std::make_unique_for_overwrite<Entry[]>(size);
    for (int64_t i = 0; i < size; ++i) {
        from[i] = {keys[i], i};
        for (int digit = 0; digit < kDigits; ++digit) {
            ++(*counts)[digit][keys[i] >> (digit * kDigitBits) & kDigitMask];
        }
    }
    for (int digit = 0; digit < kDigits; ++digit) {
        auto& position = (*counts)[digit];
        int64_t before = 0;
        for (int64_t& count : position) before += std::exchange(count, before);
        for (int64_t i = 0; i < size; ++i) {
            to[position[from[i].key >> (digit * kDigitBits) & kDigitMask]++] = from[i];
        }
        std::swap(from, to);
    }
    for (int64_t i = 0; i < size; ++i) order[i] = from[i].index;
}

}  // namespace popnet
