// Ensembles of language models, which average probabilities: of one word, known by its log-probability.
//
// The log-probabilities of member m, token t are at values + rows[m] * member_stride + t, float32, finite.
//
// Sums. sums: int64 [members, kExactLimbs], zeroed by the caller: the exact sum over tokens.
//
// Pairs. With p = exp of the log-probability (portable_math.h, float64),
//
//   products   float64 [members, members], added to for i <= j only: the sum over chunks of kTokens tokens of
//              log((p_i + p_j of the chunk's first token) * (p_i + p_j of its second) * ...)
//
// with one logarithm for a chunk, chunks in order. Where the product is below 2^-960 the chunk is the sum, in
// order, of its tokens' log(p_i + p_j) from the log-probabilities themselves, which does not underflow.
// Entries j < i are undefined. A text is taken in slices of any size that begin at multiples of kTokens, in
// order.
//
// Mean. out: float32 [rows, columns] of values float32 [views, rows, columns]: the logarithm of the mean over
// views of exp(value - norm), with norm = 0, or where `normalised` is false the log-sum-exp of the view's
// row, which makes logits log-probabilities. On the host: views come from files.
//
//   most + log(exp(x_0 - most) + exp(x_1 - most) + ...) - log(views),  x_v = value - norm, most = max x
//
// in float64, rounded once.
//
// Floors, for P = members^2 / 2 pairs: P * tokens additions and multiplications on float64; the rest, an exp
// a value.
#pragma once

#include <cstddef>
#include <cstdint>

namespace popnet {

constexpr int kTokens = 64;

struct TokenSlice {
    const float* values;
    int64_t member_stride;
    const int64_t* rows;
    int64_t members, tokens;
};

void token_sums_cpu(int64_t* sums, const TokenSlice& slice, int threads);
void token_sums_cuda(int64_t* sums, const TokenSlice& slice, void* stream);

void mixture_log_products_cpu(double* products, const TokenSlice& slice, int threads);
// workspace: mixture_workspace_cuda(members) bytes, aligned to 256.
size_t mixture_workspace_cuda(int64_t members);
void mixture_log_products_cuda(double* products, const TokenSlice& slice, void* workspace, void* stream);

struct ViewValues {
    const float* values;
    int64_t views, rows, columns;
};

void mean_log_probabilities_cpu(float* out, const ViewValues& values, bool normalised, int threads);

}  // namespace popnet
