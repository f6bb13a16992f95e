// The kernel of a pipeline that other code runs: what to make of which pictures, and two functions with C's
// calling convention that make pieces of batches. FFCV's compiled pipelines call them from any number of
// threads.
#pragma once

#include <cstdint>
#include <mutex>

#include "data/pictures.h"

namespace popnet {

class PictureJob {
public:
    PictureJob(const Pictures& pictures, const Framing& framing, const Augmentation& augmentation,
               const Normalisation& normalisation)
        : pictures_(pictures),
          framing_(framing),
          augmentation_(augmentation),
          normalisation_(normalisation) {}

    // What the draws depend on from here on; what was unreadable before is forgotten. Not while a batch is
    // being made.
    void enter(uint64_t seed, uint32_t epoch) {
        unreadable_ = Unreadable{};
        augmentation_.seed = seed;
        augmentation_.epoch = epoch;
    }

    // A batch: out is float32 [size, height, width, channels], indices int64 [size], each in 0 .. count-1.
    void fill(const int64_t* indices, int64_t size, float* out, int threads) noexcept;

    // The same batch, only decoded: element b goes to out + b * stride bytes.
    void decode(const int64_t* indices, int64_t size, uint8_t* out, int64_t stride, int threads) noexcept;

    // The unreadable picture of the lowest number that was met since the last call.
    Unreadable take_unreadable();

private:
    void note(const Unreadable& unreadable);

    Pictures pictures_;
    Framing framing_;
    Augmentation augmentation_;
    Normalisation normalisation_;
    std::mutex mutex_;
    Unreadable unreadable_;
};

extern "C" void popnet_fill(PictureJob* job, const int64_t* indices, int64_t size, float* out,
                            int64_t threads);
extern "C" void popnet_decode(PictureJob* job, const int64_t* indices, int64_t size, uint8_t* out,
                              int64_t stride, int64_t threads);

}  // namespace popnet
