#include "training/step.h"

namespace popnet {

void begin_step_cpu(const StepBatch& batch) {
    *batch.now = batch.table[*batch.position];
    const int64_t* order = batch.order + *batch.position * batch.batch_size;
    for (int64_t i = 0; i < batch.count; ++i) {
        batch.indices[i] = order[i];
        batch.labels[i] = batch.all_labels[order[i]];
    }
}

void end_step_cpu(const float* loss, float* losses, int64_t* position) {
    losses[*position] = *loss;
    *position += 1;
}

}  // namespace popnet
