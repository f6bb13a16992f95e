// Orders of the training set, and its images.
#include "data/augment.h"

#include "check.h"
#include "common/philox.h"
#include "common/step_values.h"
#include "data/permutation.h"

namespace popnet {
namespace {

void check_permutation(int64_t size, uint32_t epoch) {
    check("permutation " + std::to_string(size), [&](Check& arrays) {
        Array& order = arrays.blank(size * sizeof(int64_t), "order");
        size_t bytes = permutation_workspace_cuda(size);
        Array& workspace = arrays.scratch(bytes);
        permutation_cpu(order.on<int64_t>(false), size, 7, SHUFFLE, epoch, 0, 1);
        permutation_cuda(order.on<int64_t>(true), workspace.on<void>(true), bytes, size, 7, SHUFFLE, epoch, 0,
                         stream());
    });
}

struct Pixels {
    int height, width, channels;
    Layout layout;
    FloatType type;
};

enum class Draws { BY_VALUE, FROM_MEMORY, BY_KEYS, NONE };

Augmentation augmentation_of(const Pixels& p, Draws draws) {
    Augmentation made{};
    made.random = draws != Draws::NONE;
    made.seed = 5;
    made.epoch = 3;
    made.crop = 3;
    made.translate = 2;
    made.cutout = std::min(p.height, p.width) / 2;
    made.flip = true;
    for (int c = 0; c < p.channels; ++c) made.fill[c] = static_cast<uint8_t>(10 * c + 1);
    made.dy = -2;  // of a view, which draws nothing
    made.dx = 1;
    made.mirror = true;
    return made;
}

void check_augment(const Pixels& p, Draws draws) {
    constexpr int64_t kImages = 13, kBatch = 6;
    const char* kinds[] = {"", " from memory", " keys", " view"};
    const char* layout = p.layout == Layout::NHWC ? " nhwc" : " nchw";
    const char* type = p.type == FloatType::FLOAT32 ? " fp32" : " bf16";
    std::string size =
        std::to_string(p.height) + "x" + std::to_string(p.width) + "x" + std::to_string(p.channels);
    check("augment " + size + layout + type + kinds[static_cast<int>(draws)], [&](Check& arrays) {
        int64_t count = int64_t{p.height} * p.width * p.channels;
        std::vector<uint8_t> pixels(kImages * count);
        for (uint8_t& pixel : pixels) pixel = static_cast<uint8_t>(random_word());
        Array &images = arrays.input(pixels), &indices = arrays.input(integers(kBatch, kImages));
        Array& keys = arrays.input(integers(kBatch, 1000));
        Array& now = arrays.input(std::vector<StepValues>{{5, 6, 0.1, 0.1, 0.1, 2, 30}});
        Array& out = arrays.blank(kBatch * count * (p.type == FloatType::FLOAT32 ? 4 : 2), "images");
        Normalisation normalisation{};
        for (int c = 0; c < p.channels; ++c) {
            normalisation.scale[c] = 0.01f * static_cast<float>(c + 1);
            normalisation.shift[c] = -0.5f;
        }
        for (bool gpu : {false, true}) {
            Augmentation augmentation = augmentation_of(p, draws);
            if (draws == Draws::FROM_MEMORY) augmentation.now = now.on<StepValues>(gpu);
            ImageSet set{images.on<uint8_t>(gpu), kImages, p.height, p.width, p.channels};
            Batch batch{out.on<void>(gpu),
                        indices.on<int64_t>(gpu),
                        kBatch,
                        p.layout,
                        p.type,
                        draws == Draws::BY_KEYS ? keys.on<int64_t>(gpu) : nullptr};
            if (gpu)
                augment_cuda(set, batch, augmentation, normalisation, stream());
            else
                augment_cpu(set, batch, augmentation, normalisation, 1);
        }
    });
}

}  // namespace

void check_data() {
    for (int64_t size : {0, 1, 2, 3, 1000, 1025, 4099}) check_permutation(size, 3);
    for (FloatType type : {FloatType::FLOAT32, FloatType::BFLOAT16}) {
        for (Layout layout : {Layout::NHWC, Layout::NCHW}) {
            check_augment({8, 8, 3, layout, type}, Draws::BY_VALUE);
            check_augment({8, 8, 3, layout, type}, Draws::FROM_MEMORY);
            check_augment({5, 9, 1, layout, type}, Draws::BY_KEYS);
            check_augment({20, 17, 16, layout, type}, Draws::BY_KEYS);
            check_augment({7, 6, 2, layout, type}, Draws::NONE);
            check_augment({1, 1, 2, layout, type}, Draws::BY_VALUE);
        }
    }
    check("augment, no images", [](Check& arrays) {
        Array& pixels = arrays.input(std::vector<uint8_t>(12));
        ImageSet set{pixels.on<uint8_t>(true), 1, 2, 2, 3};
        Batch batch{nullptr, nullptr, 0, Layout::NHWC, FloatType::FLOAT32, nullptr};
        augment_cuda(set, batch, Augmentation{}, Normalisation{}, stream());
    });
}

}  // namespace popnet
