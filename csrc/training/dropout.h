// A dropout mask without state: a function of (seed, step, layer, example, element), whatever the batch
// around it.
//
// out: float32 or bfloat16 [examples, elements], row x for example_ids[x], each id in 0 .. 2^32-1. Element e
// takes word e % 4 of the Philox block with counter (e / 4, example id, step, layer << 8 | STOCHASTIC); it is
// kept if word >= floor(p 2^32) and then has the value 1 / (1 - p) (float64, rounded to float32, then to the
// type of out), else 0. layer < 2^24; 0 <= p <= 1. A mask over channels is the same with elements = channels.
#pragma once

#include <cstdint>

#include "common/numbers.h"
#include "common/step_values.h"

namespace popnet {

struct DropoutKey {
    uint64_t seed;
    uint32_t step, layer;
    const StepValues* now = nullptr;  // where given, its stochastic seed and step are used
};

// Throws std::out_of_range if an id does not fit 32 bits.
void dropout_mask_cpu(void* out, FloatType type, const int64_t* example_ids, int64_t examples,
                      int64_t elements, double p, const DropoutKey& key, int threads);

// Everything on the current device. Ids cannot be checked there: the row of one that does not fit becomes
// NaN.
void dropout_mask_cuda(void* out, FloatType type, const int64_t* example_ids, int64_t examples,
                       int64_t elements, double p, const DropoutKey& key, void* stream);

}  // namespace popnet
