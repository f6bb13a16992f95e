#include "training/cross_entropy.h"

#include <stdexcept>
#include <string>

#include "common/parallel.h"
#include "training/cross_entropy_element.h"

namespace popnet {
namespace {

double merged(double* series, int count) {
    for (int half = count / 2; half > 0; half /= 2) {
        for (int w = 0; w < half; ++w) series[w] += series[w + half];
    }
    return series[0];
}

template <typename R>
double example(const R* logits, int64_t label, int classes, double examples, R* gradient) {
    double largest = -__builtin_inf();
    for (int c = 0; c < classes; ++c)
        largest = logits[c] > largest ? static_cast<double>(logits[c]) : largest;
    double series[kClassSeries] = {};
    for (int c = 0; c < classes; ++c) series[c % kClassSeries] += portable_exp(logits[c] - largest);
    double sum = merged(series, kClassSeries);
    for (int c = 0; c < classes; ++c) {
        gradient[c] = static_cast<R>(logit_gradient(logits[c], largest, sum, c == label, examples));
    }
    return example_loss(sum, logits[label], largest);
}

template <typename R>
void batch_loss(const CrossEntropy& batch, int threads) {
    auto* logits = static_cast<const R*>(batch.logits);
    auto* gradient = static_cast<R*>(batch.gradient);
    double examples = static_cast<double>(batch.examples);
    parallel_for(batch.examples, threads, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) {
            batch.losses[i] = example(logits + i * batch.classes, batch.labels[i], batch.classes, examples,
                                      gradient + i * batch.classes);
        }
    });
    double series[kLossSeries] = {};
    for (int64_t i = 0; i < batch.examples; ++i) series[i % kLossSeries] += batch.losses[i];
    *static_cast<R*>(batch.loss) = static_cast<R>(merged(series, kLossSeries) / examples);
}

}  // namespace

void cross_entropy_cpu(const CrossEntropy& batch, int threads) {
    for (int64_t i = 0; i < batch.examples; ++i) {
        if (batch.labels[i] < 0 || batch.labels[i] >= batch.classes) {
            throw std::out_of_range("labels[" + std::to_string(i) + "] is " +
                                    std::to_string(batch.labels[i]) + ", but must be in 0 .. " +
                                    std::to_string(batch.classes - 1));
        }
    }
    if (batch.type == FloatType::FLOAT64) {
        batch_loss<double>(batch, threads);
    } else {
        batch_loss<float>(batch, threads);
    }
}

}  // namespace popnet
