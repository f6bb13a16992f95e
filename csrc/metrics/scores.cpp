#include "metrics/scores.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <vector>

#include "common/exact_sum.h"
#include "common/parallel.h"
#include "common/portable_math.h"
#include "metrics/clones.h"

namespace popnet {
namespace {

constexpr int kLanes = 64;  // examples that are scored together, one a lane

struct Lanes {
    double loss[kLanes];
    int32_t prediction[kLanes];
};

// values: [examples][classes], at most kLanes examples. work: [classes][kLanes].
POPNET_CLONES void score_lanes(Lanes& out, double* __restrict work, const float* __restrict values,
                               const int64_t* labels, int examples, int64_t classes) {
    float largest[kLanes];
    for (int lane = 0; lane < kLanes; ++lane) {
        largest[lane] = values[std::min(lane, examples - 1) * classes];
        out.prediction[lane] = 0;
    }
    for (int64_t c = 0; c < classes; ++c) {
        double* row = work + c * kLanes;
        for (int lane = 0; lane < examples; ++lane) row[lane] = values[lane * classes + c];
        for (int lane = examples; lane < kLanes; ++lane) row[lane] = 0.0;
        for (int lane = 0; lane < kLanes; ++lane) {
            float value = static_cast<float>(row[lane]);
            out.prediction[lane] = value > largest[lane] ? static_cast<int32_t>(c) : out.prediction[lane];
            largest[lane] = value > largest[lane] ? value : largest[lane];
        }
    }
    double shift[kLanes], sum[kLanes], own[kLanes];
    for (int lane = 0; lane < kLanes; ++lane) {
        shift[lane] = largest[lane];
        sum[lane] = 0.0;
    }
    for (int lane = 0; lane < examples; ++lane) own[lane] = work[labels[lane] * kLanes + lane] - shift[lane];
    for (int lane = examples; lane < kLanes; ++lane) own[lane] = shift[lane] = 0.0;
    for (int64_t c = 0; c < classes; ++c) {
        const double* row = work + c * kLanes;
        for (int lane = 0; lane < kLanes; ++lane) sum[lane] += portable_exp(row[lane] - shift[lane]);
    }
    for (int lane = 0; lane < kLanes; ++lane) out.loss[lane] = portable_log(sum[lane]) - own[lane];
}

void score_member(const Logits& logits, const int64_t* labels, const MemberScores& out, int64_t member,
                  double* work) {
    Lanes lanes;
    int64_t correct = 0;
    for (int64_t first = 0; first < logits.examples; first += kLanes) {
        int examples = static_cast<int>(std::min<int64_t>(kLanes, logits.examples - first));
        const float* values = logits.values + (member * logits.examples + first) * logits.classes;
        score_lanes(lanes, work, values, labels + first, examples, logits.classes);
        uint64_t bits = 0;
        for (int lane = 0; lane < examples; ++lane) {
            bits |= static_cast<uint64_t>(lanes.prediction[lane] == labels[first + lane]) << lane;
            exact_add(out.losses + member * kExactLimbs, lanes.loss[lane]);
        }
        correct += __builtin_popcountll(bits);
        if (out.correct_bits) out.correct_bits[member * ((logits.examples + 63) / 64) + first / 64] = bits;
        if (out.predictions) {
            std::copy_n(lanes.prediction, examples, out.predictions + member * logits.examples + first);
        }
    }
    if (out.correct) out.correct[member] = correct;
}

POPNET_CLONES bool all_finite(const float* values, int64_t count) {
    int32_t bad = 0;
    for (int64_t i = 0; i < count; ++i) {
        int32_t bits;
        __builtin_memcpy(&bits, values + i, sizeof bits);
        bad |= (bits & 0x7f800000) == 0x7f800000;
    }
    return bad == 0;
}

POPNET_CLONES int64_t count_differing(const int32_t* __restrict a, const int32_t* __restrict b,
                                      int64_t examples) {
    int64_t total = 0;
    for (int64_t first = 0; first < examples; first += 4096) {
        int64_t end = std::min<int64_t>(first + 4096, examples);
        int32_t count = 0;
        for (int64_t e = first; e < end; ++e) count += a[e] != b[e];
        total += count;
    }
    return total;
}

}  // namespace

void member_scores_cpu(const Logits& logits, const int64_t* labels, const MemberScores& out, int threads) {
    parallel_for(logits.members, threads, [&](int64_t begin, int64_t end) {
        std::vector<double> work(logits.classes * kLanes);
        for (int64_t member = begin; member < end; ++member)
            score_member(logits, labels, out, member, work.data());
    });
}

void exact_sums(double* values, int64_t* limbs, int64_t count) {
    for (int64_t i = 0; i < count; ++i) values[i] = exact_value(limbs + i * kExactLimbs);
}

int64_t first_nonfinite_cpu(const float* values, int64_t count, int threads) {
    std::atomic<int64_t> first{count};
    parallel_for(count, threads, [&](int64_t begin, int64_t end) {
        for (int64_t chunk = begin; chunk < end; chunk += 1 << 16) {
            int64_t size = std::min<int64_t>(1 << 16, end - chunk);
            if (all_finite(values + chunk, size)) continue;
            int64_t found = std::find_if(values + chunk, values + chunk + size,
                                         [](float value) { return !std::isfinite(value); }) -
                            values;
            int64_t known = first.load();
            while (found < known && !first.compare_exchange_weak(known, found)) {
            }
            return;
        }
    });
    return first == count ? -1 : first.load();
}

void add_votes_cpu(int64_t* votes, const int32_t* predictions, int64_t members, int64_t examples,
                   int64_t classes, int threads) {
    parallel_for(examples, threads, [&](int64_t begin, int64_t end) {
        for (int64_t member = 0; member < members; ++member) {
            const int32_t* row = predictions + member * examples;
            for (int64_t e = begin; e < end; ++e) ++votes[e * classes + row[e]];
        }
    });
}

void differing_matrix_cpu(int64_t* differing, const int32_t* predictions, int64_t members, int64_t examples,
                          int threads) {
    parallel_for(threads, threads, [&](int64_t begin, int64_t end) {
        for (int64_t part = begin; part < end; ++part) {
            for (int64_t i = part; i < members;
                 i += threads) {  // interleaved, as later rows have fewer pairs
                differing[i * members + i] = 0;
                for (int64_t j = i + 1; j < members; ++j) {
                    int64_t count =
                        count_differing(predictions + i * examples, predictions + j * examples, examples);
                    differing[i * members + j] = differing[j * members + i] = count;
                }
            }
        }
    });
}

}  // namespace popnet
