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

constexpr int kDigits = 3, kDigitBits = 11, kBuckets = 1 << kDigitBits;

// Sorts one member's values at a time; keeps its buffers.
class RankSorter {
   public:
    explicit RankSorter(int64_t values) : values_(values), items_(values), other_(values) {}

    // Calls run(first, end) for every run of equal values, ascending; place(k) is then the index of the k-th smallest.
    void sort(const float* logits) {
        static_assert(kDigits * kDigitBits >= 32);
        std::vector<int64_t>& counts = counts_;
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

    void scatter(int64_t* counts, int digit) {
        int64_t start = 0;
        for (int bucket = 0; bucket < kBuckets; ++bucket) {
            if (counts[bucket] == values_) return;  // all in one bucket: in order already
            int64_t count = counts[bucket];
            counts[bucket] = start;
            start += count;
        }
        for (uint64_t item : items_) other_[counts[digit_of(item >> 32, digit)]++] = item;
        items_.swap(other_);
    }

    int64_t values_;
    std::vector<uint64_t> items_, other_;
    std::vector<int64_t> counts_;
};

// Writes one member's ranks as a unit vector; false where all values are equal.
bool rank_vector(int64_t* unit, RankSorter& sorter, const float* logits, int64_t values) {
    sorter.sort(logits);
    Wide square = 0;
    sorter.for_each_run([&](int64_t first, int64_t end) {
        int64_t rank = centred_rank(first, end, values);
        square += static_cast<Wide>(static_cast<uint64_t>(rank * rank)) * static_cast<uint64_t>(end - first);
    });
    if (square == 0) return false;
    double norm = std::sqrt(nearest_double(static_cast<uint64_t>(square >> 64), static_cast<uint64_t>(square)));
    sorter.for_each_run([&](int64_t first, int64_t end) {
        int64_t component = unit_component(static_cast<double>(centred_rank(first, end, values)), norm);
        for (int64_t k = first; k < end; ++k) unit[sorter.place(k)] = component;
    });
    return true;
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
        for (int lane = 0; lane < kPearsonLanes; ++lane) lanes[lane] += static_cast<double>(logits[first + lane]);
    }
    for (int64_t k = full; k < values; ++k) lanes[k - full] += static_cast<double>(logits[k]);
}

POPNET_CLONES void square_lanes(double* __restrict lanes, const float* __restrict logits, int64_t values, double mean) {
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
    for (int64_t k = 0; k < values; ++k) unit[k] = unit_component(static_cast<double>(logits[k]) - mean, norm);
}

bool value_vector(int64_t* unit, const float* logits, int64_t values) {
    auto [least, most] = std::minmax_element(logits, logits + values);
    if (*least == *most) return false;
    double lanes[kPearsonLanes];
    sum_lanes(lanes, logits, values);
    double mean = add_lanes(lanes) / static_cast<double>(values);
    square_lanes(lanes, logits, values, mean);
    write_components(unit, logits, values, mean, std::sqrt(add_lanes(lanes)));
    return true;
}

// Adds unit vectors to the shared sums, a stripe at a time under the stripe's lock.
class SharedSums {
   public:
    SharedSums(uint64_t* sums, int64_t values) : sums_(reinterpret_cast<Wide*>(sums)), values_(values) {}

    // Returns |unit|^2.
    Wide add(const int64_t* unit, int64_t first_stripe) {
        Wide square = 0;
        for (int64_t i = 0; i < kStripes; ++i) {
            int64_t stripe = (first_stripe + i) % kStripes;
            std::lock_guard lock(locks_[stripe]);
            square += add_range(unit, values_ * stripe / kStripes, values_ * (stripe + 1) / kStripes);
        }
        return square;
    }

   private:
    static constexpr int64_t kStripes = 32;

    Wide add_range(const int64_t* unit, int64_t begin, int64_t end) {
        Wide square = 0;
        for (int64_t k = begin; k < end; ++k) {
            Wide sum;
            __builtin_memcpy(&sum, sums_ + k, sizeof sum);
            sum += static_cast<Wide>(static_cast<__int128>(unit[k]));
            __builtin_memcpy(sums_ + k, &sum, sizeof sum);
            uint64_t size = unit[k] < 0 ? -static_cast<uint64_t>(unit[k]) : unit[k];
            square += static_cast<Wide>(size) * size;
        }
        return square;
    }

    Wide* sums_;
    int64_t values_;
    std::mutex locks_[kStripes];
};

}  // namespace

void add_unit_vectors_cpu(const UnitSums& out, const float* logits, int64_t members, int64_t values, Correlation kind,
                          int threads) {
    SharedSums sums(out.sums, values);
    parallel_for(members, threads, [&](int64_t begin, int64_t end) {
        std::vector<int64_t> unit(values);
        RankSorter sorter(kind == Correlation::SPEARMAN ? values : 0);
        for (int64_t member = begin; member < end; ++member) {
            const float* row = logits + member * values;
            bool varies = kind == Correlation::SPEARMAN ? rank_vector(unit.data(), sorter, row, values)
                                                        : value_vector(unit.data(), row, values);
            Wide square = varies ? sums.add(unit.data(), member - begin + begin % 7) : 0;
            out.squares[2 * member] = static_cast<uint64_t>(square);
            out.squares[2 * member + 1] = static_cast<uint64_t>(square >> 64);
        }
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
