#include "training/narrow_linear.h"

#include <algorithm>
#include <vector>

#if defined(__AVX2__) && defined(__FMA__)
#include <immintrin.h>
#endif

#include "common/parallel.h"
#include "common/portable_math.h"

namespace popnet {
namespace {

constexpr int kLanes = 8;
constexpr int64_t kInputs = 512;  // of a block: ten outputs' weights of it, side by side, fit the first cache
constexpr int64_t kRows = 32;     // that go through a block before the next

template <typename T>
struct Lanes {
    T v[kLanes];
    static Lanes load(const T* p) {
        Lanes r;
        std::copy_n(p, kLanes, r.v);
        return r;
    }
    void store(T* p) const { std::copy_n(v, kLanes, p); }
    static Lanes fma(Lanes a, Lanes b, Lanes c) {
        for (int l = 0; l < kLanes; ++l) c.v[l] = fused_multiply_add(a.v[l], b.v[l], c.v[l]);
        return c;
    }
};

#if defined(__AVX2__) && defined(__FMA__)
template <>
struct Lanes<float> {
    __m256 v;
    static Lanes load(const float* p) { return {_mm256_loadu_ps(p)}; }
    void store(float* p) const { _mm256_storeu_ps(p, v); }
    static Lanes fma(Lanes a, Lanes b, Lanes c) { return {_mm256_fmadd_ps(a.v, b.v, c.v)}; }
};
#endif

// Adds `count` inputs, from a multiple of the lanes on, to the lanes' sums [R rows, outputs, lanes] of O
// outputs.
template <int R, int O, typename T>
void add_tile(const T* x, const T* w, int64_t stride, int64_t count, int outputs, T* sums) {
    Lanes<T> sum[R][O];
    for (int r = 0; r < R; ++r)
        for (int o = 0; o < O; ++o) sum[r][o] = Lanes<T>::load(sums + (r * outputs + o) * kLanes);
    int64_t whole = count / kLanes * kLanes;
    for (int64_t i = 0; i < whole; i += kLanes) {
        Lanes<T> of_x[R];
        for (int r = 0; r < R; ++r) of_x[r] = Lanes<T>::load(x + r * stride + i);
        for (int o = 0; o < O; ++o) {
            Lanes<T> of_w = Lanes<T>::load(w + o * kInputs + i);
            for (int r = 0; r < R; ++r) sum[r][o] = Lanes<T>::fma(of_x[r], of_w, sum[r][o]);
        }
    }
    for (int r = 0; r < R; ++r) {
        for (int o = 0; o < O; ++o) {
            T* lanes = sums + (r * outputs + o) * kLanes;
            sum[r][o].store(lanes);
            for (int64_t i = whole; i < count; ++i)
                lanes[i - whole] =
                    fused_multiply_add(x[r * stride + i], w[o * kInputs + i], lanes[i - whole]);
        }
    }
}

template <int R, typename T>
void add_rows(const T* x, const T* w, int64_t stride, int64_t count, int outputs, T* sums) {
    int o = 0;
    for (; o + 5 <= outputs; o += 5)
        add_tile<R, 5>(x, w + o * kInputs, stride, count, outputs, sums + o * kLanes);
    for (; o + 2 <= outputs; o += 2)
        add_tile<R, 2>(x, w + o * kInputs, stride, count, outputs, sums + o * kLanes);
    if (o < outputs) add_tile<R, 1>(x, w + o * kInputs, stride, count, outputs, sums + o * kLanes);
}

template <typename T>
T merged(T* lanes) {
    for (int half = kLanes / 2; half > 0; half /= 2)
        for (int l = 0; l < half; ++l) lanes[l] += lanes[half + l];
    return lanes[0];
}

template <typename T>
void forward(const NarrowForward& arrays, const NarrowShape& shape, int threads) {
    const T *x = static_cast<const T*>(arrays.x), *w = static_cast<const T*>(arrays.weight);
    const T* bias = static_cast<const T*>(arrays.bias);
    T* y = static_cast<T*>(arrays.y);
    int64_t inputs = shape.inputs, row_sums = static_cast<int64_t>(shape.outputs) * kLanes;
    parallel_for((shape.rows + kRows - 1) / kRows, threads, [&](int64_t begin, int64_t end) {
        std::vector<T> sums(kRows * row_sums), packed(shape.outputs * kInputs);
        for (int64_t first = begin * kRows; first < std::min(end * kRows, shape.rows); first += kRows) {
            int64_t rows = std::min(kRows, shape.rows - first);
            std::fill(sums.begin(), sums.end(), T(0));
            for (int64_t i = 0; i < inputs; i += kInputs) {
                int64_t count = std::min(kInputs, inputs - i), r = 0;
                for (int o = 0; o < shape.outputs; ++o)
                    std::copy_n(w + o * inputs + i, count, &packed[o * kInputs]);
                const T* block = x + first * inputs + i;
                for (; r + 2 <= rows; r += 2)
                    add_rows<2>(block + r * inputs, packed.data(), inputs, count, shape.outputs,
                                &sums[r * row_sums]);
                if (r < rows)
                    add_rows<1>(block + r * inputs, packed.data(), inputs, count, shape.outputs,
                                &sums[r * row_sums]);
            }
            for (int64_t k = 0; k < rows * shape.outputs; ++k) {
                T sum = merged(&sums[k * kLanes]);
                y[first * shape.outputs + k] = bias ? sum + bias[k % shape.outputs] : sum;
            }
        }
    });
}

// sums[s, i] += factors[s, t] terms[t, i] for S sums and R terms, t ascending.
template <int S, int R, typename T>
void add_terms(const T* factors, int64_t sum_step, int64_t term_step, const T* __restrict terms,
               int64_t stride, int64_t count, T* __restrict sums) {
    T factor[S][R];
    for (int s = 0; s < S; ++s)
        for (int t = 0; t < R; ++t) factor[s][t] = factors[s * sum_step + t * term_step];
    for (int64_t i = 0; i < count; ++i) {
        for (int s = 0; s < S; ++s) {
            T sum = sums[s * kInputs + i];
            for (int t = 0; t < R; ++t) sum = fused_multiply_add(factor[s][t], terms[t * stride + i], sum);
            sums[s * kInputs + i] = sum;
        }
    }
}

template <int R, typename T>
void add_to_all(const T* factors, int64_t sum_step, int64_t term_step, const T* terms, int64_t stride,
                int64_t count, int64_t all, T* sums) {
    int64_t s = 0;
    for (; s + 2 <= all; s += 2)
        add_terms<2, R>(factors + s * sum_step, sum_step, term_step, terms, stride, count,
                        sums + s * kInputs);
    if (s < all)
        add_terms<1, R>(factors + s * sum_step, sum_step, term_step, terms, stride, count,
                        sums + s * kInputs);
}

// One block of sums[s, i] = sum over t of factors[s, t] terms[t, i].
template <typename T>
void combine(const T* factors, int64_t sum_step, int64_t term_step, int64_t count_of_terms, const T* terms,
             int64_t stride, int64_t count, int64_t all, T* out) {
    std::vector<T> packed(all * kInputs, T(0));  // rows a power of two apart would share few cache lines
    T* sums = packed.data();
    int64_t t = 0;
    for (; t + 4 <= count_of_terms; t += 4)
        add_to_all<4>(factors + t * term_step, sum_step, term_step, terms + t * stride, stride, count, all,
                      sums);
    for (; t < count_of_terms; ++t)
        add_to_all<1>(factors + t * term_step, sum_step, term_step, terms + t * stride, stride, count, all,
                      sums);
    for (int64_t s = 0; s < all; ++s) std::copy_n(sums + s * kInputs, count, out + s * stride);
}

template <typename T>
void backward(const NarrowBackward& arrays, const NarrowShape& shape, int threads) {
    const T *g = static_cast<const T*>(arrays.gradient), *x = static_cast<const T*>(arrays.x);
    const T* w = static_cast<const T*>(arrays.weight);
    T *of_x = static_cast<T*>(arrays.x_gradient), *of_w = static_cast<T*>(arrays.weight_gradient);
    T* of_bias = static_cast<T*>(arrays.bias_gradient);
    int64_t outputs = shape.outputs, inputs = shape.inputs;
    parallel_for((inputs + kInputs - 1) / kInputs, threads, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin * kInputs; i < std::min(end * kInputs, inputs); i += kInputs) {
            int64_t count = std::min(kInputs, inputs - i);
            if (of_w) combine(g, 1, outputs, shape.rows, x + i, inputs, count, outputs, of_w + i);
            for (int64_t b = 0; of_x && b < shape.rows; b += kRows)
                combine(g + b * outputs, outputs, 1, outputs, w + i, inputs, count,
                        std::min(kRows, shape.rows - b), of_x + b * inputs + i);
        }
    });
    for (int64_t o = 0; of_bias && o < outputs; ++o) {
        T sum = 0;
        for (int64_t b = 0; b < shape.rows; ++b) sum += g[b * outputs + o];
        of_bias[o] = sum;
    }
}

}  // namespace

void narrow_linear_cpu(const NarrowForward& arrays, const NarrowShape& shape, int threads) {
    if (shape.type == FloatType::FLOAT64) return forward<double>(arrays, shape, threads);
    forward<float>(arrays, shape, threads);
}

void narrow_linear_gradient_cpu(const NarrowBackward& arrays, const NarrowShape& shape, int threads) {
    if (shape.type == FloatType::FLOAT64) return backward<double>(arrays, shape, threads);
    backward<float>(arrays, shape, threads);
}

}  // namespace popnet
