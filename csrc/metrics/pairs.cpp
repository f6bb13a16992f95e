#include "metrics/pairs.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <vector>

#include "common/parallel.h"
#include "metrics/clones.h"
#include "metrics/pair_element.h"

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define POPNET_HAS_AVX512
#endif
#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace popnet {
namespace {

constexpr int kFloats = 16;  // partners a step of the accuracy
constexpr int kTile = 8;     // members a tile of the cross-entropy

// Examples whose logits are gathered at once: long runs, but at most 16 MB a thread.
int64_t gathered_examples(const PairSlice& slice) {
    return std::clamp<int64_t>((int64_t{1} << 22) / std::max<int64_t>(1, slice.members * slice.classes), 1,
                               32);
}

int64_t rounded_up(int64_t value, int64_t multiple) {
    return (value + multiple - 1) / multiple * multiple;
}

const float* logits_of(const PairSlice& slice, int64_t member, int64_t example) {
    return slice.values + slice.rows[member] * slice.member_stride + example * slice.classes;
}

// The loops over pairs, once for each instruction set (pair_loops.h says what they do).
struct PairLoops {
    int64_t (*count_right)(const float* own, const float* partners, int64_t stride, int64_t begin,
                           int64_t end, int64_t classes, int64_t label);
    void (*mark_right)(int64_t* correct, const float* own, const float* partners, int64_t stride,
                       int64_t begin, int64_t end, int64_t classes, int64_t label);
    void (*multiply_tile)(double* product, const double* a, const double* b, int64_t examples,
                          int64_t classes);
};

namespace baseline {
#if defined(__AVX2__) && defined(__FMA__)
#define POPNET_SIMD 256
#else
#define POPNET_SIMD 0
#endif
#include "metrics/pair_loops.h"
#undef POPNET_SIMD
}  // namespace baseline

#if defined(POPNET_HAS_AVX512)
#pragma GCC push_options
#pragma GCC target("arch=x86-64-v4")
namespace avx512 {
#define POPNET_SIMD 512
#include "metrics/pair_loops.h"
#undef POPNET_SIMD
}  // namespace avx512
#pragma GCC pop_options
#endif

const PairLoops& pair_loops() {
#if defined(POPNET_HAS_AVX512)
    static const bool has_avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
                                   __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw") &&
                                   __builtin_cpu_supports("avx512cd");
    if (has_avx512) return avx512::loops;
#endif
    return baseline::loops;
}

// One example at a time: its logits by class and member, members grouped by what they predict.
class GroupedExample {
public:
    explicit GroupedExample(const PairSlice& slice)
        : slice_(slice),
          stride_(rounded_up(slice.members, kFloats) + kFloats),
          gathered_(gathered_examples(slice) * slice.members * slice.classes),
          grouped_(slice.classes * stride_, 0.0f),
          own_(slice.members * slice.classes),
          prediction_(slice.members),
          start_(slice.classes + 1) {}

    // Reads the logits of examples first .. first + count-1 of every member: long runs, where single examples
    // would touch a page a member.
    void gather(int64_t first, int64_t count) {
        for (int64_t m = 0; m < slice_.members; ++m) {
            const float* from = logits_of(slice_, m, first);
            for (int64_t e = 0; e < count; ++e) {
                std::memcpy(&gathered_[(e * slice_.members + m) * slice_.classes], from + e * slice_.classes,
                            slice_.classes * sizeof(float));
            }
        }
    }

    // The sum over pairs of 2 [ensemble right] - [i right] - [j right] on gathered example e.
    int64_t gain(int64_t e, int64_t label) {
        const float* logits = &gathered_[e * slice_.members * slice_.classes];
        if (!group(logits)) return 0;
        int64_t gain = 0;
        for (int64_t group = 0; group < slice_.classes; ++group) {
            int64_t end = start_[group + 1];
            if (end == slice_.members) break;  // no later group
            for (int64_t i = start_[group]; i < end; ++i) {
                gain += 2 * loops_.count_right(&own_[i * slice_.classes], grouped_.data(), stride_, end,
                                               slice_.members, slice_.classes, label);
            }
        }
        int64_t right = start_[label + 1] - start_[label];
        return gain - right * (slice_.members - right);
    }

private:
    // False where all members predict the same class.
    bool group(const float* logits) {
        int64_t classes = slice_.classes;
        std::fill(start_.begin(), start_.end(), 0);
        for (int64_t m = 0; m < slice_.members; ++m) {
            const float* own = logits + m * classes;
            int64_t best = 0;
            for (int64_t c = 1; c < classes; ++c) best = own[c] > own[best] ? c : best;
            prediction_[m] = static_cast<int32_t>(best);
            ++start_[best + 1];
        }
        if (start_[prediction_[0] + 1] == slice_.members) return false;
        for (int64_t c = 0; c < classes; ++c) start_[c + 1] += start_[c];
        std::vector<int64_t>& next = next_;
        next.assign(start_.begin(), start_.end() - 1);
        for (int64_t m = 0; m < slice_.members; ++m) {
            int64_t place = next[prediction_[m]]++;
            std::memcpy(&own_[place * classes], logits + m * classes, classes * sizeof(float));
            for (int64_t c = 0; c < classes; ++c) grouped_[c * stride_ + place] = logits[m * classes + c];
        }
        return true;
    }

    const PairSlice& slice_;
    const PairLoops& loops_ = pair_loops();
    int64_t stride_;
    std::vector<float> gathered_, grouped_, own_;
    std::vector<int32_t> prediction_;
    std::vector<int64_t> start_, next_;
};

// E = exp((z - max z) / 2) of kTile members on one chunk: roots[e][c][member].
POPNET_CLONES void write_roots(double* __restrict roots, const float* const* members, int64_t examples,
                               int64_t classes) {
    for (int64_t e = 0; e < examples; ++e) {
        double most[kTile];
        for (int m = 0; m < kTile; ++m)
            most[m] = members[m] ? largest(members[m] + e * classes, classes) : 0.0;
        for (int64_t c = 0; c < classes; ++c) {
            double half[kTile];
            for (int m = 0; m < kTile; ++m) {
                half[m] =
                    members[m] ? 0.5 * (static_cast<double>(members[m][e * classes + c]) - most[m]) : 0.0;
            }
            for (int m = 0; m < kTile; ++m) roots[m] = portable_exp(half[m]);
            roots += kTile;
        }
    }
}

// Replaces the products by their logarithms, those below kLeastProduct by NaN; says whether there was one.
POPNET_CLONES bool log_tile(double* product) {
    int64_t small = 0;
    for (int i = 0; i < kTile * kTile; ++i) {
        bool below = product[i] < kLeastProduct;
        small |= below;
        product[i] = below ? __builtin_nan("") : portable_log(product[i]);
    }
    return small != 0;
}

// Adds a full tile to the matrix, whose rows are `stride` apart.
POPNET_CLONES void add_rows(double* __restrict out, int64_t stride, const double* __restrict product,
                            int64_t rows) {
    for (int64_t i = 0; i < rows; ++i) {
        for (int j = 0; j < kTile; ++j) out[i * stride + j] += product[i * kTile + j];
    }
}

class LogProducts {
public:
    LogProducts(double* products, const PairSlice& slice)
        : products_(products),
          slice_(slice),
          tiles_((slice.members + kTile - 1) / kTile),
          tile_size_(kChunk * slice.classes * kTile),
          chunks_((slice.examples + kChunk - 1) / kChunk) {
        int64_t chunk_bytes = tiles_ * tile_size_ * static_cast<int64_t>(sizeof(double));
        chunks_at_once_ = std::clamp<int64_t>(kRootBytes / chunk_bytes, 1, std::max<int64_t>(chunks_, 1));
        roots_.resize(chunks_at_once_ * tiles_ * tile_size_);
    }

    void add(int threads) {
        for (int64_t first = 0; first < chunks_; first += chunks_at_once_) {
            int64_t chunks = std::min(chunks_at_once_, chunks_ - first);
            parallel_for(chunks * tiles_, threads, [&](int64_t begin, int64_t end) {
                for (int64_t i = begin; i < end; ++i)
                    fill(first + i / tiles_, i % tiles_, &roots_[i * tile_size_]);
            });
            parallel_for(threads, threads, [&](int64_t begin, int64_t end) {
                for (int64_t part = begin; part < end; ++part) add_part(part, threads, first, chunks);
            });
        }
    }

private:
    static constexpr int64_t kRootBytes = int64_t{32} << 20;

    int64_t examples_of(int64_t chunk) const {
        return std::min<int64_t>(kChunk, slice_.examples - chunk * kChunk);
    }

    void fill(int64_t chunk, int64_t tile, double* roots) {
        const float* members[kTile];
        for (int m = 0; m < kTile; ++m) {
            int64_t member = tile * kTile + m;
            members[m] = member < slice_.members ? logits_of(slice_, member, chunk * kChunk) : nullptr;
        }
        write_roots(roots, members, examples_of(chunk), slice_.classes);
    }

    // Rows of tiles part, part + parts, ...: a pair belongs to one thread, which adds its chunks in order.
    void add_part(int64_t part, int64_t parts, int64_t first, int64_t chunks) {
        alignas(64) double product[kTile * kTile];
        for (int64_t i = 0; i < chunks; ++i) {
            const double* roots = &roots_[i * tiles_ * tile_size_];
            for (int64_t row = part; row < tiles_; row += parts) {
                for (int64_t column = row; column < tiles_; ++column) {
                    loops_.multiply_tile(product, roots + row * tile_size_, roots + column * tile_size_,
                                         examples_of(first + i), slice_.classes);
                    add_tile(product, row, column, first + i);
                }
            }
        }
    }

    void add_tile(double* product, int64_t row, int64_t column, int64_t chunk) {
        int64_t rows = std::min<int64_t>(kTile, slice_.members - row * kTile);
        int64_t columns = std::min<int64_t>(kTile, slice_.members - column * kTile);
        double* out = products_ + row * kTile * slice_.members + column * kTile;
        if (log_tile(product)) take_small_products(product, row, column, chunk);
        if (columns == kTile) {
            add_rows(out, slice_.members, product, rows);
            return;
        }
        for (int64_t i = 0; i < rows; ++i) {
            for (int64_t j = 0; j < columns; ++j) out[i * slice_.members + j] += product[i * kTile + j];
        }
    }

    void take_small_products(double* product, int64_t row, int64_t column, int64_t chunk) const {
        for (int64_t i = 0; i < kTile * kTile; ++i) {
            int64_t a = row * kTile + i / kTile, b = column * kTile + i % kTile;
            if (!std::isnan(product[i]) || a >= slice_.members || b >= slice_.members) continue;
            product[i] = small_product(a, b, chunk);
        }
    }

    double small_product(int64_t i, int64_t j, int64_t chunk) const {
        double sum = 0.0;
        for (int64_t e = chunk * kChunk; e < chunk * kChunk + examples_of(chunk); ++e) {
            const float *a = logits_of(slice_, i, e), *b = logits_of(slice_, j, e);
            sum += log_product(a, largest(a, slice_.classes), b, largest(b, slice_.classes), slice_.classes);
        }
        return sum;
    }

    double* products_;
    const PairSlice& slice_;
    const PairLoops& loops_ = pair_loops();
    int64_t tiles_, tile_size_, chunks_, chunks_at_once_;
    std::vector<double> roots_;
};

}  // namespace

int64_t ensemble_gain_cpu(const PairSlice& slice, int threads) {
    if (slice.members == 0) return 0;
    if (slice.classes == 1) return 0;
    std::atomic<int64_t> total{0};
    int64_t step = gathered_examples(slice);
    parallel_for(slice.examples, threads, [&](int64_t begin, int64_t end) {
        GroupedExample example(slice);
        int64_t gain = 0;
        for (int64_t first = begin; first < end; first += step) {
            int64_t count = std::min(step, end - first);
            example.gather(first, count);
            for (int64_t e = 0; e < count; ++e) gain += example.gain(e, slice.labels[first + e]);
        }
        total += gain;
    });
    return total;
}

void ensemble_correct_cpu(int64_t* correct, const PairSlice& slice, int threads) {
    int64_t members = slice.members, classes = slice.classes, stride = rounded_up(members, kFloats) + kFloats;
    const PairLoops& loops = pair_loops();
    int64_t step = gathered_examples(slice);
    std::vector<float> table(step * classes * stride, 0.0f);
    for (int64_t first = 0; first < slice.examples; first += step) {
        int64_t count = std::min(step, slice.examples - first);
        parallel_for(members, threads, [&](int64_t begin, int64_t end) {
            for (int64_t m = begin; m < end; ++m) {
                const float* from = logits_of(slice, m, first);
                for (int64_t k = 0; k < count * classes; ++k) table[k * stride + m] = from[k];
            }
        });
        parallel_for(threads, threads, [&](int64_t begin, int64_t end) {
            for (int64_t part = begin; part < end; ++part) {
                for (int64_t e = 0; e < count; ++e) {
                    const float* partners = table.data() + e * classes * stride;
                    int64_t label = slice.labels[first + e];
                    for (int64_t i = part; i < members; i += threads) {
                        int64_t* row = correct + i * members;
                        if (classes == 1) {
                            for (int64_t j = i + 1; j < members; ++j) ++row[j];
                        } else {
                            loops.mark_right(row, logits_of(slice, i, first + e), partners, stride, i + 1,
                                             members, classes, label);
                        }
                    }
                }
            }
        });
    }
}

void ensemble_log_products_cpu(double* products, const PairSlice& slice, int threads) {
    if (slice.members == 0) return;
    LogProducts(products, slice).add(threads);
}

}  // namespace popnet
