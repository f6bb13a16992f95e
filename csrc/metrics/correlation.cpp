#include "metrics/correlation.h"

#include <algorithm>
#include <cmath>
#include <mutex>
#include <vector>

#include "common/parallel.h"
#include "common/portable_math.h"
#include "metrics/clones.h"
#include "metrics/unit_vector.h"

namespace popnet {
namespace {

using Wide = unsigned __int128;

constexpr int64_t kBytesPerValue = 32,
                  kThreadBytes = int64_t{1} << 30;  // of all threads together, if one allows
constexpr int kDigits = 3, kDigitBits = 11, kBuckets = 1 << kDigitBits;

// Sorts one member's values at a time; keeps its buffers.
class RankSorter {
public:
    explicit RankSorter(int64_t values) : values_(values), items_(values), other_(values) {}

    // Calls run(first, end) for every run of equal values, ascending; place(k) is then the index of the k-th
    // smallest.
    void sort(const float* logits) {
        static_assert(kDigits * kDigitBits >= 32);
        std::vector<uint32_t>& counts = counts_;
        counts.assign(kDigits * kBuckets, 0);
        for (int64_t k = 0; k < values_; ++k) {
            uint32_t key = sort_key(logits[k]);
            items_[k] = static_cast<uint64_t>(key) << 32 | static_cast<uint32_t>(k);
            for (int digit = 0; digit < kDigits; ++digit) ++counts[digit * kBuckets + digit_of(key, digit)];
        }
        for (int digit = 0; digit < kDigits; ++digit) scatter(counts.data() + digit * kBuckets, digit);
    }

    template <typename Run>
    void for_each_run(Run&& run) const {
        for (int64_t first = 0; first < values_;) {
            int64_t end = first + 1;
            while (end < values_ && items_[end] >> 32 == items_[first] >> 32) ++end;
            run(first, end);
            first = end;
        }
    }

    int64_t place(int64_t k) const { return static_cast<uint32_t>(items_[k]); }

private:
    static uint32_t digit_of(uint32_t key, int digit) { return key >> (digit * kDigitBits) & (kBuckets - 1); }

    void scatter(uint32_t* counts, int digit) {
        uint32_t start = 0;
        for (int bucket = 0; bucket < kBuckets; ++bucket) {
            if (counts[bucket] == static_cast<uint64_t>(values_))
                return;  // all in one bucket: in order already
            uint32_t count = counts[bucket];
            counts[bucket] = start;
            start += count;
        }
        for (uint64_t item : items_) other_[counts[digit_of(item >> 32, digit)]++] = item;
        items_.swap(other_);
    }

    int64_t values_;
    std::vector<uint64_t> items_, other_;
    std::vector<uint32_t> counts_;
};

// The sums of one thread's members.
class Sums {
public:
    explicit Sums(int64_t values) : sums_(values) {}

    void add(int64_t k, int64_t component) {
        sums_[k] += static_cast<Wide>(static_cast<__int128>(component));
    }

    void add_to(uint64_t* total) const {
        for (size_t k = 0; k < sums_.size(); ++k) {
            Wide sum;
            __builtin_memcpy(&sum, total + 2 * k, sizeof sum);
            sum += sums_[k];
            __builtin_memcpy(total + 2 * k, &sum, sizeof sum);
        }
    }

private:
    std::vector<Wide> sums_;
};

Wide squared(int64_t component) {
    uint64_t size = component < 0 ? -static_cast<uint64_t>(component) : component;
    return static_cast<Wide>(size) * size;
}

// Adds one member's ranks as a unit vector u and returns |u|^2; 0, and nothing added, where all values are
// equal.
Wide add_ranks(Sums& sums, RankSorter& sorter, const float* logits, int64_t values) {
    sorter.sort(logits);
    // The squared ranks of n different values sum to (n^3 - n) / 3, and each run of t equal ones takes (t^3 -
    // t) / 3.
    auto cube = [](int64_t n) { return (static_cast<Wide>(n) * n * n - n) / 3; };
    Wide square = cube(values);
    sorter.for_each_run([&](int64_t first, int64_t end) {
        if (end - first > 1) square -= cube(end - first);
    });
    if (square == 0) return 0;
    double norm =
        std::sqrt(nearest_double(static_cast<uint64_t>(square >> 64), static_cast<uint64_t>(square)));
    Wide unit_square = 0;
    sorter.for_each_run([&](int64_t first, int64_t end) {
        int64_t component = unit_component(static_cast<double>(centred_rank(first, end, values)), norm);
        for (int64_t k = first; k < end; ++k) {
            sums.add(sorter.place(k), component);
            unit_square += squared(component);
        }
    });
    return unit_square;
}

double add_lanes(double* lanes) {
    for (int half = kPearsonLanes / 2; half > 0; half /= 2) {
        for (int lane = 0; lane < half; ++lane) lanes[lane] += lanes[lane + half];
    }
    return lanes[0];
}

POPNET_CLONES void sum_lanes(double* __restrict lanes, const float* __restrict logits, int64_t values) {
    std::fill_n(lanes, kPearsonLanes, 0.0);
    int64_t full = values / kPearsonLanes * kPearsonLanes;
    for (int64_t first = 0; first < full; first += kPearsonLanes) {
        for (int lane = 0; lane < kPearsonLanes; ++lane)
            lanes[lane] += static_cast<double>(logits[first + lane]);
    }
    for (int64_t k = full; k < values; ++k) lanes[k - full] += static_cast<double>(logits[k]);
}

POPNET_CLONES void square_lanes(double* __restrict lanes, const float* __restrict logits, int64_t values,
                                double mean) {
    std::fill_n(lanes, kPearsonLanes, 0.0);
    int64_t full = values / kPearsonLanes * kPearsonLanes;
    for (int64_t first = 0; first < full; first += kPearsonLanes) {
        for (int lane = 0; lane < kPearsonLanes; ++lane) {
            double v = static_cast<double>(logits[first + lane]) - mean;
            lanes[lane] = fused_multiply_add(v, v, lanes[lane]);
        }
    }
    for (int64_t k = full; k < values; ++k) {
        double v = static_cast<double>(logits[k]) - mean;
        lanes[k - full] = fused_multiply_add(v, v, lanes[k - full]);
    }
}

POPNET_CLONES void write_components(int64_t* __restrict unit, const float* __restrict logits, int64_t values,
                                    double mean, double norm) {
    for (int64_t k = 0; k < values; ++k)
        unit[k] = unit_component(static_cast<double>(logits[k]) - mean, norm);
}

POPNET_CLONES bool all_equal(const float* logits, int64_t values) {
    int32_t differing = 0;
    for (int64_t k = 0; k < values; ++k) differing |= logits[k] != logits[0];
    return differing == 0;
}

// The same for one member's values.
Wide add_values(Sums& sums, const float* logits, int64_t values) {
    if (all_equal(logits, values)) return 0;
    double lanes[kPearsonLanes];
    sum_lanes(lanes, logits, values);
    double mean = add_lanes(lanes) / static_cast<double>(values);
    square_lanes(lanes, logits, values, mean);
    double norm = std::sqrt(add_lanes(lanes));
    Wide unit_square = 0;
    int64_t unit[1024];
    for (int64_t first = 0; first < values; first += 1024) {
        int64_t count = std::min<int64_t>(1024, values - first);
        write_components(unit, logits + first, count, mean, norm);
        for (int64_t k = 0; k < count; ++k) {
            sums.add(first + k, unit[k]);
            unit_square += squared(unit[k]);
        }
    }
    return unit_square;
}

}  // namespace

void add_unit_vectors_cpu(const UnitSums& out, const float* logits, int64_t members, int64_t values,
                          Correlation kind, int threads) {
    int64_t affordable = std::max<int64_t>(1, kThreadBytes / (kBytesPerValue * values));
    std::mutex lock;
    parallel_for(members, static_cast<int>(std::min<int64_t>(threads, affordable)),
                 [&](int64_t begin, int64_t end) {
                     Sums sums(values);
                     RankSorter sorter(kind == Correlation::SPEARMAN ? values : 0);
                     for (int64_t member = begin; member < end; ++member) {
                         const float* row = logits + member * values;
                         Wide square = kind == Correlation::SPEARMAN ? add_ranks(sums, sorter, row, values)
                                                                     : add_values(sums, row, values);
                         out.squares[2 * member] = static_cast<uint64_t>(square);
                         out.squares[2 * member + 1] = static_cast<uint64_t>(square >> 64);
                     }
                     std::lock_guard guard(lock);
                     sums.add_to(out.sums);
                 });
}

void sum_of_squares(uint64_t result[6], const uint64_t* sums, int64_t values) {
    // s = high 2^40 + low, so s^2 = high^2 2^80 + high low 2^41 + low^2; |s| < 2^90.
    __int128 parts[3] = {0, 0, 0};
    for (int64_t k = 0; k < values; ++k) {
        __int128 sum = static_cast<__int128>(static_cast<Wide>(sums[2 * k + 1]) << 64 | sums[2 * k]);
        __int128 high = sum >> 40, low = sum & ((__int128{1} << 40) - 1);
        parts[0] += high * high;
        parts[1] += high * low;
        parts[2] += low * low;
    }
    for (int i = 0; i < 3; ++i) {
        result[2 * i] = static_cast<uint64_t>(parts[i]);
        result[2 * i + 1] = static_cast<uint64_t>(static_cast<Wide>(parts[i]) >> 64);
    }
}

void centred_ranks_cpu(int32_t* ranks, const float* logits, int64_t members, int64_t values, int threads) {
    parallel_for(members, threads, [&](int64_t begin, int64_t end) {
        RankSorter sorter(values);
        for (int64_t member = begin; member < end; ++member) {
            sorter.sort(logits + member * values);
            int32_t* row = ranks + member * values;
            sorter.for_each_run([&](int64_t first, int64_t last) {
                for (int64_t k = first; k < last; ++k) {
                    row[sorter.place(k)] = static_cast<int32_t>(centred_rank(first, last, values));
                }
            });
        }
    });
}

}  // namespace popnet
