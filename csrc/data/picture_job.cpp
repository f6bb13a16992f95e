#include "data/picture_job.h"

#include <exception>
#include <utility>

#include "common/parallel.h"

namespace popnet {

void PictureJob::fill(const int64_t* indices, int64_t size, float* out, int threads) noexcept {
    parallel_for(size, threads, [&](int64_t begin, int64_t end) {
        try {
            Batch batch{out, indices, size, Layout::NHWC, FloatType::FLOAT32};
            note(pictures_cpu(pictures_, batch, framing_, augmentation_, normalisation_, begin, end));
        } catch (const std::exception&
                     error) {  // out of memory; nothing may be thrown through the caller's frames
            note(Unreadable{indices[begin], error.what()});
        }
    });
}

void PictureJob::decode(const int64_t* indices, int64_t size, uint8_t* out, int64_t stride,
                        int threads) noexcept {
    parallel_for(size, threads, [&](int64_t begin, int64_t end) {
        for (int64_t b = begin; b < end; ++b) {
            try {
                std::string reason = decode_picture(pictures_, indices[b], out + b * stride);
                if (!reason.empty()) note(Unreadable{indices[b], reason});
            } catch (const std::exception& error) {
                note(Unreadable{indices[b], error.what()});
            }
        }
    });
}

Unreadable PictureJob::take_unreadable() {
    std::lock_guard<std::mutex> lock(mutex_);
    return std::exchange(unreadable_, Unreadable{});
}

void PictureJob::note(const Unreadable& unreadable) {
    if (unreadable.index < 0) return;
    std::lock_guard<std::mutex> lock(mutex_);
    if (unreadable_.index < 0 || unreadable.index < unreadable_.index) unreadable_ = unreadable;
}

void popnet_fill(PictureJob* job, const int64_t* indices, int64_t size, float* out, int64_t threads) {
    job->fill(indices, size, out, static_cast<int>(threads));
}

void popnet_decode(PictureJob* job, const int64_t* indices, int64_t size, uint8_t* out, int64_t stride,
                   int64_t threads) {
    job->decode(indices, size, out, stride, static_cast<int>(threads));
}

}  // namespace popnet
