#include "data/pictures.h"

#include <algorithm>
#include <cstring>
#include <mutex>
#include <vector>

#include "common/parallel.h"
#include "data/jpeg.h"

namespace popnet {
namespace {

int64_t pixels_of(const Picture& picture, int channels) {
    return picture.height * picture.width * channels;
}

// The reusable memory of one thread's work.
struct Workspace {
    std::vector<uint8_t> decoded, framed;
    Resampler resampler;
};

// The picture's pixels: where they lie, or decoded into `space`. Null, with the reason, where it cannot be
// read.
const uint8_t* pixels(const Pictures& pictures, int64_t index, std::vector<uint8_t>& space,
                      std::string& reason) {
    const Picture& picture = pictures.table[index];
    const uint8_t* bytes = pictures.bytes + picture.offset;
    if (!picture.jpeg) return bytes;
    space.resize(pixels_of(picture, pictures.channels));
    reason = decode_jpeg(bytes, picture.size, static_cast<int>(picture.height),
                         static_cast<int>(picture.width), space.data());
    return reason.empty() ? space.data() : nullptr;
}

Box frame(const Framing& framing, const Augmentation& augmentation, const Picture& picture, int64_t key) {
    int height = static_cast<int>(picture.height), width = static_cast<int>(picture.width);
    if (!framing.random) return central_box(framing, height, width);
    return random_box(framing, height, width, augmentation.seed, augmentation.epoch,
                      static_cast<uint32_t>(key));
}

}  // namespace

Unreadable pictures_cpu(const Pictures& pictures, const Batch& batch, const Framing& framing,
                        const Augmentation& augmentation, const Normalisation& normalisation, int64_t begin,
                        int64_t end) {
    thread_local Workspace space;
    Unreadable first;
    const int64_t element = batch.type == FloatType::FLOAT32 ? 4 : 2;
    const int64_t* keys = batch.keys != nullptr ? batch.keys : batch.indices;
    for (int64_t b = begin; b < end; ++b) {
        const int64_t index = batch.indices[b];
        const Picture& picture = pictures.table[index];
        std::string reason;
        const uint8_t* image = pixels(pictures, index, space.decoded, reason);
        if (image == nullptr) {
            if (first.index < 0) first = Unreadable{index, reason};
            continue;
        }
        int height = static_cast<int>(picture.height), width = static_cast<int>(picture.width);
        if (framing.height > 0) {
            Box box = frame(framing, augmentation, picture, keys[b]);
            space.framed.resize(static_cast<size_t>(framing.height) * framing.width * pictures.channels);
            space.resampler.resize(image, width, pictures.channels, box, space.framed.data(), framing.height,
                                   framing.width);
            image = space.framed.data();
            height = framing.height;
            width = framing.width;
        }
        ImageSet one{image, 1, height, width, pictures.channels};
        const int64_t zero = 0;
        auto* out = static_cast<uint8_t*>(batch.data) + b * height * width * pictures.channels * element;
        augment_cpu(one, Batch{out, &zero, 1, batch.layout, batch.type, keys + b}, augmentation,
                    normalisation, 1);
    }
    return first;
}

Unreadable pictures_cpu(const Pictures& pictures, const Batch& batch, const Framing& framing,
                        const Augmentation& augmentation, const Normalisation& normalisation, int threads) {
    Unreadable first;
    std::mutex mutex;
    int64_t first_place = batch.size;
    parallel_for(batch.size, threads, [&](int64_t begin, int64_t end) {
        Unreadable here = pictures_cpu(pictures, batch, framing, augmentation, normalisation, begin, end);
        std::lock_guard<std::mutex> lock(mutex);
        if (here.index >= 0 && begin < first_place) {
            first = here;
            first_place = begin;
        }
    });
    return first;
}

std::string decode_picture(const Pictures& pictures, int64_t index, uint8_t* out) {
    const Picture& picture = pictures.table[index];
    const uint8_t* bytes = pictures.bytes + picture.offset;
    if (picture.jpeg) {
        return decode_jpeg(bytes, picture.size, static_cast<int>(picture.height),
                           static_cast<int>(picture.width), out);
    }
    std::memcpy(out, bytes, pixels_of(picture, pictures.channels));
    return {};
}

}  // namespace popnet
