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
constexpr int kDigits = 3;
constexpr int kLowestBit = 64 - kDigits * kDigitBits;
constexpr uint64_t kDigitValues = 1u << kDigitBits;

uint64_t digit_of(uint64_t key, int digit) {
    return key >> (kLowestBit + digit * kDigitBits) & (kDigitValues - 1);
}

}  // namespace

// Least significant digit first radix sort by the upper 33 bits, then insertion sort by the whole key. The
// keys are random, so after the first hardly any two neighbours are out of order. Both are stable and start
// from ascending indices, so equal keys keep theirs.
void permutation_cpu(int64_t* order, int64_t size, uint64_t seed, uint32_t source, uint32_t epoch,
                     uint32_t block, int threads) {
    auto from = std::make_unique_for_overwrite<Entry[]>(size);
    auto to = std::make_unique_for_overwrite<Entry[]>(size);
    parallel_for((size + 1) / 2, threads, [&](int64_t begin, int64_t end) {
        for (int64_t pair = begin; pair < end; ++pair) {
            KeyPair keys = permutation_keys(pair, seed, source, epoch, block);
            from[2 * pair] = {keys.even, 2 * pair};
            if (2 * pair + 1 < size) from[2 * pair + 1] = {keys.odd, 2 * pair + 1};
        }
    });

    auto counts = std::make_unique<std::array<std::array<int64_t, kDigitValues>, kDigits>>();
    for (int64_t i = 0; i < size; ++i) {
        for (int digit = 0; digit < kDigits; ++digit) ++(*counts)[digit][digit_of(from[i].key, digit)];
    }
    for (int digit = 0; digit < kDigits; ++digit) {
        auto& position = (*counts)[digit];
        int64_t before = 0;
        for (int64_t& count : position) before += std::exchange(count, before);
        for (int64_t i = 0; i < size; ++i) to[position[digit_of(from[i].key, digit)]++] = from[i];
        std::swap(from, to);
    }
    for (int64_t i = 1; i < size; ++i) {
        Entry entry = from[i];
        int64_t place = i;
        for (; place > 0 && from[place - 1].key > entry.key; --place) from[place] = from[place - 1];
        if (place < i) from[place] = entry;
    }
    for (int64_t i = 0; i < size; ++i) order[i] = from[i].index;
}

}  // namespace popnet
