#include "data/permutation.h"

#include <algorithm>
#include <array>
#include <memory>
#include <utility>

#include "common/parallel.h"
#include "data/permutation_keys.h"

namespace popnet {
namespace {

// The upper 33 bits of the key above an index of 31 bits: one number to sort by both.
constexpr int kIndexBits = 31;
constexpr uint64_t kIndexMask = (uint64_t{1} << kIndexBits) - 1;
constexpr int kDigitBits = 11;
constexpr int kDigits = 3;  // 3 * 11 = 64 - 31
constexpr uint64_t kDigitValues = 1u << kDigitBits;

uint64_t pack(uint64_t key, int64_t index) {
    return (key & ~kIndexMask) | static_cast<uint64_t>(index);
}

uint64_t digit_of(uint64_t packed, int digit) {
    return packed >> (kIndexBits + digit * kDigitBits) & (kDigitValues - 1);
}

}  // namespace

// Least significant digit first radix sort by the upper 33 bits of the keys; it is stable and starts from
// ascending indices. The keys are random, so few share those bits: such runs are sorted by whole keys,
// computed again.
void permutation_cpu(int64_t* order, int64_t size, uint64_t seed, uint32_t source, uint32_t epoch,
                     uint32_t block, int threads) {
    auto from = std::make_unique_for_overwrite<uint64_t[]>(size);
    auto to = std::make_unique_for_overwrite<uint64_t[]>(size);
    parallel_for((size + 1) / 2, threads, [&](int64_t begin, int64_t end) {
        for (int64_t pair = begin; pair < end; ++pair) {
            KeyPair keys = permutation_keys(pair, seed, source, epoch, block);
            from[2 * pair] = pack(keys.even, 2 * pair);
            if (2 * pair + 1 < size) from[2 * pair + 1] = pack(keys.odd, 2 * pair + 1);
        }
    });

    std::array<std::array<int64_t, kDigitValues>, kDigits> counts{};
    for (int64_t i = 0; i < size; ++i) {
        for (int digit = 0; digit < kDigits; ++digit) ++counts[digit][digit_of(from[i], digit)];
    }
    for (int digit = 0; digit < kDigits; ++digit) {
        auto& position = counts[digit];
        int64_t before = 0;
        for (int64_t& count : position) before += std::exchange(count, before);
        for (int64_t i = 0; i < size; ++i) to[position[digit_of(from[i], digit)]++] = from[i];
        std::swap(from, to);
    }
    for (int64_t i = 0; i < size; ++i) order[i] = static_cast<int64_t>(from[i] & kIndexMask);

    auto whole_key = [&](int64_t index) {
        KeyPair keys = permutation_keys(index / 2, seed, source, epoch, block);
        return std::pair{index % 2 == 0 ? keys.even : keys.odd, index};
    };
    for (int64_t begin = 0, end = 0; begin < size; begin = end) {
        for (end = begin + 1; end < size && from[end] >> kIndexBits == from[begin] >> kIndexBits; ++end) {
        }
        if (end - begin > 1) {
            std::sort(order + begin, order + end,
                      [&](int64_t a, int64_t b) { return whole_key(a) < whole_key(b); });
        }
    }
}

}  // namespace popnet
