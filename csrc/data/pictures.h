// Pictures of any size, as they lie in memory or in a mapped file, to batches: decode, frame, augment,
// normalise.
//
// The table has a row for each picture; the bytes of a picture are [height, width, channels], or a JPEG of
// that size and 3 channels. Framing (data/crop_box.h, data/resample.h) makes all of one size; what follows is
// augment's, the same code (data/augment.h), with the picture's number as the key of its draws. A batch does
// not depend on who makes it or in how many pieces.
#pragma once

#include <cstdint>
#include <string>

#include "data/augment.h"
#include "data/crop_box.h"

namespace popnet {

struct Picture {
    int64_t offset, size, height, width, jpeg;  // offset and size in bytes; jpeg is 0 or 1
};

struct Pictures {
    const uint8_t* bytes;
    const Picture* table;
    int64_t count;
    int channels;
};

// The first picture of a batch that could not be read, and why; none where `index` is negative.
struct Unreadable {
    int64_t index = -1;
    std::string reason;
};

// Elements begin .. end-1 of the batch. A picture that cannot be read leaves its place as it was.
Unreadable pictures_cpu(const Pictures& pictures, const Batch& batch, const Framing& framing,
                        const Augmentation& augmentation, const Normalisation& normalisation, int64_t begin,
                        int64_t end);

// The whole batch by several threads.
Unreadable pictures_cpu(const Pictures& pictures, const Batch& batch, const Framing& framing,
                        const Augmentation& augmentation, const Normalisation& normalisation, int threads);

// One picture, decoded only, to uint8 [height, width, channels]. Returns what is wrong, or nothing.
std::string decode_picture(const Pictures& pictures, int64_t index, uint8_t* out);

}  // namespace popnet
