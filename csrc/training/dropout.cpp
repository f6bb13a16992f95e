#include "training/dropout.h"

#include <algorithm>
#include <stdexcept>
#include <string>

#include "common/parallel.h"
#include "training/dropout_element.h"

namespace popnet {
namespace {

constexpr int64_t kLanes = 32;  // Philox blocks computed side by side, so that the compiler can use vectors

// One example's row.
template <typename T>
void mask_row(T* __restrict out, uint32_t example, int64_t elements, const DropoutValues& values,
              const DropoutKey& key) {
    uint32_t words[4][kLanes];
    int64_t groups = (elements + 3) / 4;
    for (int64_t first = 0; first < groups; first += kLanes) {
        for (int64_t lane = 0; lane < kLanes; ++lane) {
            Words block = dropout_words(key, example, static_cast<uint32_t>(first + lane));
            for (int w = 0; w < 4; ++w) words[w][lane] = block.word[w];
        }
        int64_t count = std::min(4 * kLanes, elements - 4 * first);
        for (int64_t i = 0; i < count; ++i)
            out[4 * first + i] = dropout_value<T>(words[i % 4][i / 4], values);
    }
}

template <typename T>
void mask(T* out, const int64_t* example_ids, int64_t examples, int64_t elements, double p,
          const DropoutKey& given, int threads) {
    DropoutValues values = dropout_values(p);
    DropoutKey key = at_step(given);
    parallel_for(examples, threads, [&](int64_t begin, int64_t end) {
        for (int64_t x = begin; x < end; ++x) {
            mask_row(out + x * elements, static_cast<uint32_t>(example_ids[x]), elements, values, key);
        }
    });
}

}  // namespace

void dropout_mask_cpu(void* out, FloatType type, const int64_t* example_ids, int64_t examples,
                      int64_t elements, double p, const DropoutKey& key, int threads) {
    for (int64_t x = 0; x < examples; ++x) {
        if (example_ids[x] < 0 || example_ids[x] > 0xffffffff) {
            throw std::out_of_range("example_ids[" + std::to_string(x) + "] is " +
                                    std::to_string(example_ids[x]) + ", but must be in 0 .. 2^32-1");
        }
    }
    if (type == FloatType::FLOAT32) {
        mask(static_cast<float*>(out), example_ids, examples, elements, p, key, threads);
    } else {
        mask(static_cast<BFloat16*>(out), example_ids, examples, elements, p, key, threads);
    }
}

}  // namespace popnet
