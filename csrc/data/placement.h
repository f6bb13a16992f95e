// Where an augmented image's pixels come from, and their normalisation: what both sides of augment share.
#pragma once

#include "common/numbers.h"
#include "common/philox.h"
#include "data/augment.h"

namespace popnet {

struct Placement {
    int dy, dx;
    bool flip;
    int ty, tx;
    int cutout_y, cutout_x, cutout;
};

// The augmentation with what a step's values say in place of its own seed and epoch.
POPNET_HOST_DEVICE Augmentation at_step(Augmentation augmentation) {
    if (augmentation.now) {
        augmentation.seed = augmentation.now->augment_seed;
        augmentation.epoch = augmentation.now->epoch;
    }
    return augmentation;
}

POPNET_HOST_DEVICE Placement place(const Augmentation& augmentation, int64_t index, int height, int width) {
    if (!augmentation.random)
        return Placement{augmentation.dy, augmentation.dx, augmentation.mirror, 0, 0, 0, 0, 0};
    Placement placement{};
    uint32_t image = static_cast<uint32_t>(index);
    if (augmentation.crop > 0 || augmentation.flip) {
        Words words = stream_words(augmentation.seed, AUGMENT, augmentation.epoch, image, 0);
        uint32_t offsets = 2u * augmentation.crop + 1;
        placement.dy = static_cast<int>(uniform_integer(words.word[0], offsets)) - augmentation.crop;
        placement.dx = static_cast<int>(uniform_integer(words.word[1], offsets)) - augmentation.crop;
        placement.flip = augmentation.flip && uniform_integer(words.word[2], 2) == 1;
    }
    if (augmentation.translate > 0 || augmentation.cutout > 0) {
        Words words = stream_words(augmentation.seed, AUGMENT, augmentation.epoch, image, 1);
        uint32_t offsets = 2u * augmentation.translate + 1;
        placement.ty = static_cast<int>(uniform_integer(words.word[0], offsets)) - augmentation.translate;
        placement.tx = static_cast<int>(uniform_integer(words.word[1], offsets)) - augmentation.translate;
        placement.cutout = augmentation.cutout;
        placement.cutout_y =
            static_cast<int>(uniform_integer(words.word[2], height - augmentation.cutout + 1));
        placement.cutout_x =
            static_cast<int>(uniform_integer(words.word[3], width - augmentation.cutout + 1));
    }
    return placement;
}

POPNET_HOST_DEVICE float normalise(uint8_t pixel, float scale, float shift) {
    return fused_multiply_add(static_cast<float>(pixel), scale, shift);
}

}  // namespace popnet
