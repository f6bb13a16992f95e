// The inner loops over pairs, for one instruction set; included once for each, inside that set's namespace,
// with POPNET_SIMD as simd.h wants it.
#include "metrics/simd.h"

// For the ensembles of `own` [classes] and each of kFloats partners ([classes][stride], by class): bit j of
// `right` says that the label's float32 sum is the only largest, of `unsure` that it ties for the largest.
struct Verdict {
    uint32_t right, unsure;
};

static inline Verdict judge(const float* own, const float* partners, int64_t stride, int64_t classes,
                            int64_t label) {
    int64_t first = label == 0 ? 1 : 0;
    Floats best = Floats::sum(partners + first * stride, own[first]);
    for (int64_t c = first + 1; c < label; ++c)
        best = Floats::max(best, Floats::sum(partners + c * stride, own[c]));
    for (int64_t c = label + 1; c < classes; ++c) {
        best = Floats::max(best, Floats::sum(partners + c * stride, own[c]));
    }
    Floats mine = Floats::sum(partners + label * stride, own[label]);
    return {Floats::greater(mine, best), Floats::equal(mine, best)};
}

static inline uint32_t lanes_inside(int64_t remaining) {
    return remaining >= kFloats ? (1u << kFloats) - 1 : (1u << remaining) - 1;
}

static inline int64_t count_unsure(uint32_t unsure, const float* own, const float* partners, int64_t stride,
                                   int64_t classes, int64_t label) {
    int64_t right = 0;
    for (; unsure != 0; unsure &= unsure - 1) {
        right += ensemble_right(own, 1, partners + __builtin_ctz(unsure), stride, classes, label);
    }
    return right;
}

// How many of the partners begin .. end-1 make a right ensemble with `own`.
static int64_t count_right(const float* own, const float* partners, int64_t stride, int64_t begin,
                           int64_t end, int64_t classes, int64_t label) {
    int64_t right = 0;
    for (int64_t first = begin; first < end; first += kFloats) {
        uint32_t inside = lanes_inside(end - first);
        Verdict verdict = judge(own, partners + first, stride, classes, label);
        right += __builtin_popcount(verdict.right & inside);
        if (verdict.unsure & inside) {
            right += count_unsure(verdict.unsure & inside, own, partners + first, stride, classes, label);
        }
    }
    return right;
}

// correct[j] += whether the ensemble of `own` and partner j is right, for j = begin .. end-1.
static void mark_right(int64_t* correct, const float* own, const float* partners, int64_t stride,
                       int64_t begin, int64_t end, int64_t classes, int64_t label) {
    for (int64_t first = begin; first < end; first += kFloats) {
        uint32_t inside = lanes_inside(end - first);
        Verdict verdict = judge(own, partners + first, stride, classes, label);
        uint32_t right = verdict.right & inside, unsure = verdict.unsure & inside;
        for (; unsure != 0; unsure &= unsure - 1) {
            int lane = __builtin_ctz(unsure);
            right |=
                static_cast<uint32_t>(ensemble_right(own, 1, partners + first + lane, stride, classes, label))
                << lane;
        }
        int64_t count = end - first < kFloats ? end - first : kFloats;
        for (int64_t j = 0; j < count; ++j) correct[first + j] += right >> j & 1;
    }
}

// product[a][b] = E_a . E_b of the chunk's first example * ... of its last; a and b: tiles
// [examples][classes][kTile].
static void multiply_tile(double* product, const double* a, const double* b, int64_t examples,
                          int64_t classes) {
    for (int64_t e = 0; e < examples; ++e) {
        Doubles dot[kTile];
        Doubles partners = Doubles::load(b);
        for (int i = 0; i < kTile; ++i) dot[i] = Doubles::times(partners, a[i]);
        for (int64_t c = 1; c < classes; ++c) {
            partners = Doubles::load(b + c * kTile);
            for (int i = 0; i < kTile; ++i) dot[i] = Doubles::fma(partners, a[c * kTile + i], dot[i]);
        }
        a += classes * kTile;
        b += classes * kTile;
        for (int i = 0; i < kTile; ++i) {
            double* out = product + i * kTile;
            (e == 0 ? dot[i] : Doubles::times(Doubles::load(out), dot[i])).store(out);
        }
    }
}

static const PairLoops loops{&count_right, &mark_right, &multiply_tile};
