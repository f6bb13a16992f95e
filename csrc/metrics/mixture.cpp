#include "metrics/mixture.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "common/exact_sum.h"
#include "common/parallel.h"
#include "metrics/clones.h"
#include "metrics/mixture_element.h"

namespace popnet {
namespace {

constexpr int kSide = 8;  // members a tile
constexpr int64_t kTable = kTokens * kSide;
constexpr int64_t kTableBytes = int64_t{8} << 20;  // of probabilities that are held at once

using Row = double __attribute__((vector_size(kSide * sizeof(double))));

const float* log_probabilities(const TokenSlice& slice, int64_t member, int64_t token) {
    return slice.values + slice.rows[member] * slice.member_stride + token;
}

// table[t][m] = p of member m; members that are not there have p = 1.
POPNET_CLONES void write_probabilities(double* __restrict table, const float* const* members,
                                       int64_t tokens) {
    for (int64_t t = 0; t < tokens; ++t) {
        double value[kSide];
        for (int m = 0; m < kSide; ++m) value[m] = members[m] ? members[m][t] : 0.0;
        for (int m = 0; m < kSide; ++m) table[t * kSide + m] = portable_exp(value[m]);
    }
}

// product[a][b] = (p_a + p_b of the first token) * (p_a + p_b of the second) * ...; a and b: tables.
POPNET_CLONES void multiply_tile(double* __restrict product, const double* __restrict a,
                                 const double* __restrict b, int64_t tokens) {
    Row own[kSide], partners;
    for (int64_t t = 0; t < tokens; ++t) {
        __builtin_memcpy(&partners, b + t * kSide, sizeof partners);
        for (int i = 0; i < kSide; ++i) {
            Row sum = partners + a[t * kSide + i];
            own[i] = t == 0 ? sum : own[i] * sum;
        }
    }
    __builtin_memcpy(product, own, sizeof own);
}

// Replaces the products by their logarithms, those below kLeastMixture by NaN; says whether there was one.
POPNET_CLONES bool log_tile(double* product) {
    int64_t small = 0;
    for (int i = 0; i < kSide * kSide; ++i) {
        bool below = product[i] < kLeastMixture;
        small |= below;
        product[i] = below ? __builtin_nan("") : portable_log(product[i]);
    }
    return small != 0;
}

class MixtureProducts {
public:
    MixtureProducts(double* products, const TokenSlice& slice)
        : products_(products),
          slice_(slice),
          tiles_((slice.members + kSide - 1) / kSide),
          chunks_((slice.tokens + kTokens - 1) / kTokens),
          at_once_(std::clamp<int64_t>(kTableBytes / std::max<int64_t>(1, tiles_ * kTable * 8), 1,
                                       std::max<int64_t>(chunks_, 1))),
          tables_(at_once_ * tiles_ * kTable) {}

    void add(int threads) {
        for (int64_t first = 0; first < chunks_; first += at_once_) {
            int64_t chunks = std::min(at_once_, chunks_ - first);
            parallel_for(chunks * tiles_, threads, [&](int64_t begin, int64_t end) {
                for (int64_t i = begin; i < end; ++i) {
                    fill(first + i / tiles_, i % tiles_, &tables_[i * kTable]);
                }
            });
            parallel_for(threads, threads, [&](int64_t begin, int64_t end) {
                for (int64_t part = begin; part < end; ++part) add_part(part, threads, first, chunks);
            });
        }
    }

private:
    int64_t tokens_of(int64_t chunk) const {
        return std::min<int64_t>(kTokens, slice_.tokens - chunk * kTokens);
    }

    void fill(int64_t chunk, int64_t tile, double* table) {
        const float* members[kSide];
        for (int m = 0; m < kSide; ++m) {
            int64_t member = tile * kSide + m;
            members[m] =
                member < slice_.members ? log_probabilities(slice_, member, chunk * kTokens) : nullptr;
        }
        write_probabilities(table, members, tokens_of(chunk));
    }

    // Rows of tiles part, part + parts, ...: a pair belongs to one thread, which adds its chunks in order.
    void add_part(int64_t part, int64_t parts, int64_t first, int64_t chunks) {
        alignas(64) double product[kSide * kSide];
        for (int64_t i = 0; i < chunks; ++i) {
            const double* tables = &tables_[i * tiles_ * kTable];
            int64_t chunk = first + i;
            for (int64_t row = part; row < tiles_; row += parts) {
                for (int64_t column = row; column < tiles_; ++column) {
                    multiply_tile(product, tables + row * kTable, tables + column * kTable, tokens_of(chunk));
                    bool small = log_tile(product);
                    add_tile(product, small, row, column, chunk);
                }
            }
        }
    }

    void add_tile(const double* product, bool small, int64_t row, int64_t column, int64_t chunk) {
        int64_t rows = std::min<int64_t>(kSide, slice_.members - row * kSide);
        int64_t columns = std::min<int64_t>(kSide, slice_.members - column * kSide);
        for (int64_t i = 0; i < rows; ++i) {
            double* out = products_ + (row * kSide + i) * slice_.members + column * kSide;
            for (int64_t j = 0; j < columns; ++j) {
                double value = product[i * kSide + j];
                if (small && std::isnan(value)) {
                    value = log_sums(log_probabilities(slice_, row * kSide + i, chunk * kTokens),
                                     log_probabilities(slice_, column * kSide + j, chunk * kTokens),
                                     tokens_of(chunk));
                }
                out[j] += value;
            }
        }
    }

    double* products_;
    const TokenSlice& slice_;
    int64_t tiles_, chunks_, at_once_;
    std::vector<double> tables_;
};

// The log-sum-exp of one row.
POPNET_CLONES double log_normaliser(const float* values, int64_t columns) {
    float largest = values[0];
    for (int64_t c = 1; c < columns; ++c) largest = values[c] > largest ? values[c] : largest;
    double most = largest, sum = 0.0;
    for (int64_t c = 0; c < columns; ++c) sum += portable_exp(values[c] - most);
    return most + portable_log(sum);
}

// One row; values: of the first view, the next ones `view_stride` further; norms: of each view.
POPNET_CLONES void mean_row(float* __restrict out, const float* __restrict values, int64_t view_stride,
                            const double* __restrict norms, int64_t views, int64_t columns) {
    double shift = portable_log(static_cast<double>(views));
    for (int64_t c = 0; c < columns; ++c) {
        double most = values[c] - norms[0], sum = 0.0;
        for (int64_t v = 1; v < views; ++v) {
            double x = values[v * view_stride + c] - norms[v];
            most = x > most ? x : most;
        }
        for (int64_t v = 0; v < views; ++v)
            sum += portable_exp(values[v * view_stride + c] - norms[v] - most);
        out[c] = static_cast<float>(most + portable_log(sum) - shift);
    }
}

}  // namespace

void token_sums_cpu(int64_t* sums, const TokenSlice& slice, int threads) {
    parallel_for(slice.members, threads, [&](int64_t begin, int64_t end) {
        for (int64_t m = begin; m < end; ++m) {
            const float* values = log_probabilities(slice, m, 0);
            for (int64_t t = 0; t < slice.tokens; ++t) exact_add(sums + m * kExactLimbs, values[t]);
        }
    });
}

void mixture_log_products_cpu(double* products, const TokenSlice& slice, int threads) {
    if (slice.members == 0) return;
    MixtureProducts(products, slice).add(threads);
}

void mean_log_probabilities_cpu(float* out, const ViewValues& values, bool normalised, int threads) {
    int64_t columns = values.columns, stride = values.rows * columns;
    parallel_for(values.rows, threads, [&](int64_t begin, int64_t end) {
        std::vector<double> norms(values.views, 0.0);
        for (int64_t row = begin; row < end; ++row) {
            const float* first = values.values + row * columns;
            for (int64_t v = 0; v < values.views && !normalised; ++v) {
                norms[v] = log_normaliser(first + v * stride, columns);
            }
            mean_row(out + row * columns, first, stride, norms.data(), values.views, columns);
        }
    });
}

}  // namespace popnet
