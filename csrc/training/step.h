// One training step's inputs, read from memory instead of passed by value, so that a captured CUDA graph of
// the step can be replayed for every step of a training.
//
// An epoch is a table of StepValues, one a step, and the order of the examples. The first operation of a step
// copies the row at `position` to where the others read it, and fetches the batch; the last one keeps the
// loss and moves `position` on.
#pragma once

#include <cstdint>

#include "common/step_values.h"

namespace popnet {

// Where an optimiser finds the step's values; it leaves parameters and moments as they are if *skip is not 0.
struct StepSource {
    const StepValues* now;
    const float* skip;
};

struct StepBatch {
    const StepValues* table;    // [steps]
    const int64_t* order;       // the examples in the epoch's order
    const int64_t* all_labels;  // by example
    const int64_t* position;    // the step in the epoch
    int64_t batch_size, count;  // examples of a whole batch, and of this one
    StepValues* now;
    int64_t *indices, *labels;  // [count]
};

// *now = table[*position]; indices[i] = order[*position * batch_size + i]; labels[i] =
// all_labels[indices[i]].
void begin_step_cpu(const StepBatch& batch);
void begin_step_cuda(const StepBatch& batch, void* stream);

// losses[*position] = *loss; *position += 1.
void end_step_cpu(const float* loss, float* losses, int64_t* position);
void end_step_cuda(const float* loss, float* losses, int64_t* position, void* stream);

}  // namespace popnet
