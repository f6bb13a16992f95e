// Every CUDA kernel against its CPU twin, byte for byte, without Python or PyTorch: small enough for
// compute-sanitizer. Each array has a device allocation of exactly its size, so that memcheck sees a byte too
// far, and outputs begin as garbage, so that a byte left out is seen here.
//
// Ends with code 0 if everything is equal, 1 if not, 2 without a GPU.
#include <cuda_runtime.h>

#include <cmath>
#include <cstdio>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "common/exact_sum.h"
#include "common/philox.h"
#include "data/augment.h"
#include "data/permutation.h"
#include "metrics/bootstrap.h"
#include "metrics/correlation.h"
#include "metrics/mixture.h"
#include "metrics/pairs.h"
#include "metrics/scores.h"
#include "training/adam.h"
#include "training/batch_norm.h"
#include "training/cross_entropy.h"
#include "training/dropout.h"
#include "training/fo_pool.h"
#include "training/sgd.h"
#include "training/step.h"

namespace popnet {
namespace {

void require(cudaError_t status, const char* what) {
    if (status != cudaSuccess) {
        std::fprintf(stderr, "%s: %s\n", what, cudaGetErrorString(status));
        std::exit(1);
    }
}

// Bytes in both memories.
class Array {
public:
    Array(const void* content, size_t bytes) : host_(bytes) {
        if (bytes) std::memcpy(host_.data(), content, bytes);
        require(cudaMalloc(&device_, std::max<size_t>(bytes, 1)), "cudaMalloc");
        if (bytes) require(cudaMemcpy(device_, content, bytes, cudaMemcpyHostToDevice), "to the device");
    }
    ~Array() { cudaFree(device_); }
    Array(const Array&) = delete;
    Array& operator=(const Array&) = delete;

    template <typename T>
    T* on(bool gpu) {
        return reinterpret_cast<T*>(gpu ? device_ : host_.data());
    }

    bool equal() const {
        std::vector<unsigned char> found(host_.size());
        if (!found.empty())
            require(cudaMemcpy(found.data(), device_, found.size(), cudaMemcpyDeviceToHost),
                    "from the device");
        return std::memcmp(found.data(), host_.data(), found.size()) == 0;
    }

private:
    std::vector<unsigned char> host_;
    void* device_ = nullptr;
};

// Deterministic numbers of no particular quality.
class Numbers {
public:
    uint32_t word() {
        state_ = state_ * 6364136223846793005u + 1442695040888963407u;
        return static_cast<uint32_t>(state_ >> 33);
    }
    double uniform() { return word() / 2147483648.0; }

private:
    uint64_t state_ = 1;
};

// The arrays of one check; those added by `output` are compared.
class Arrays {
public:
    template <typename T>
    Array& input(const std::vector<T>& content) {
        arrays_.push_back(std::make_unique<Array>(content.data(), content.size() * sizeof(T)));
        return *arrays_.back();
    }
    template <typename T>
    Array& output(const std::vector<T>& content, const char* name) {
        Array& array = input(content);
        compared_.emplace_back(&array, name);
        return array;
    }
    // Garbage to be overwritten, the same in both memories.
    Array& blank(size_t bytes, const char* name = nullptr) {
        std::vector<unsigned char> garbage(bytes, 0x7f);
        return name ? output(garbage, name) : input(garbage);
    }
    bool equal(const std::string& check) const {
        bool all = true;
        for (const auto& [array, name] : compared_) {
            if (array->equal()) continue;
            std::fprintf(stderr, "%s: %s differs between CPU and GPU\n", check.c_str(), name);
            all = false;
        }
        return all;
    }

private:
    std::vector<std::unique_ptr<Array>> arrays_;
    std::vector<std::pair<const Array*, const char*>> compared_;
};

Numbers numbers;
bool all_equal = true;

void check(const std::string& name, const std::function<void(Arrays&)>& body) {
    Arrays arrays;
    body(arrays);
    require(cudaDeviceSynchronize(), name.c_str());
    bool equal = arrays.equal(name);
    all_equal = all_equal && equal;
    std::printf("%-40s %s\n", name.c_str(), equal ? "equal" : "DIFFERENT");
}

std::vector<float> floats(int64_t count, double low = -2.0, double high = 2.0) {
    std::vector<float> made(count);
    for (float& value : made) value = static_cast<float>(low + (high - low) * numbers.uniform());
    return made;
}

std::vector<int64_t> integers(int64_t count, int64_t below) {
    std::vector<int64_t> made(count);
    for (int64_t& value : made) value = numbers.word() % below;
    return made;
}

template <typename T>
std::vector<T> elements(int64_t count);
template <>
std::vector<float> elements(int64_t count) {
    return floats(count);
}
template <>
std::vector<double> elements(int64_t count) {
    std::vector<float> narrow = floats(count);
    return {narrow.begin(), narrow.end()};
}
template <>
std::vector<BFloat16> elements(int64_t count) {
    std::vector<BFloat16> made;
    for (float value : floats(count)) made.push_back(round_to<BFloat16>(value));
    return made;
}
template <>
std::vector<Float16> elements(int64_t count) {
    std::vector<Float16> made;
    for (float value : floats(count)) made.push_back(round_to<Float16>(value));
    return made;
}

// ---- data ----

void check_permutation(int64_t size) {
    check("permutation " + std::to_string(size), [&](Arrays& arrays) {
        Array& order = arrays.blank(size * sizeof(int64_t), "order");
        size_t bytes = permutation_workspace_cuda(size);
        Array& workspace = arrays.blank(bytes);
        permutation_cpu(order.on<int64_t>(false), size, 7, SHUFFLE, 3, 0, 1);
        permutation_cuda(order.on<int64_t>(true), workspace.on<void>(true), bytes, size, 7, SHUFFLE, 3, 0,
                         nullptr);
    });
}

void check_augment(int side, int channels, Layout layout, FloatType type) {
    constexpr int64_t kImages = 20, kBatch = 9;
    check("augment " + std::to_string(side) + "x" + std::to_string(channels), [&](Arrays& arrays) {
        std::vector<uint8_t> pixels(kImages * side * side * channels);
        for (uint8_t& pixel : pixels) pixel = static_cast<uint8_t>(numbers.word());
        Array& images = arrays.input(pixels);
        Array& indices = arrays.input(integers(kBatch, kImages));
        Array& now = arrays.input(std::vector<StepValues>{{5, 6, 0.1, 0.1, 0.1, 2, 30}});
        size_t width = type == FloatType::FLOAT32 ? 4 : 2;
        Array& out = arrays.blank(kBatch * side * side * channels * width, "images");
        Normalisation normalisation{};
        for (int c = 0; c < channels; ++c) {
            normalisation.scale[c] = 0.01f * (c + 1);
            normalisation.shift[c] = -0.5f;
        }
        for (bool gpu : {false, true}) {
            Augmentation augmentation{};
            augmentation.random = true;
            augmentation.crop = augmentation.translate = 2;
            augmentation.cutout = side / 3;
            augmentation.flip = true;
            augmentation.now = now.on<StepValues>(gpu);
            ImageSet set{images.on<uint8_t>(gpu), kImages, side, side, channels};
            Batch batch{out.on<void>(gpu), indices.on<int64_t>(gpu), kBatch, layout, type};
            if (gpu)
                augment_cuda(set, batch, augmentation, normalisation, nullptr);
            else
                augment_cpu(set, batch, augmentation, normalisation, 1);
        }
    });
}

// ---- training ----

void check_step(int64_t batch_size, int64_t count) {
    check("step " + std::to_string(count), [&](Arrays& arrays) {
        std::vector<StepValues> rows;
        for (uint32_t i = 0; i < 4; ++i) rows.push_back({i, i + 1, 0.1 * i, 0.2, 0.3, 9, i});
        Array& table = arrays.input(rows);
        std::vector<int64_t> all = integers(4 * batch_size, 100);
        Array& order = arrays.input(all);
        Array& labels = arrays.input(integers(100, 10));
        Array& position = arrays.output(std::vector<int64_t>{2}, "position");
        Array& now = arrays.blank(sizeof(StepValues), "values");
        Array& indices = arrays.blank(count * 8, "indices");
        Array& batch_labels = arrays.blank(count * 8, "labels");
        Array& loss = arrays.input(std::vector<float>{1.5f});
        Array& losses = arrays.output(floats(4), "losses");
        for (bool gpu : {false, true}) {
            StepBatch batch{table.on<StepValues>(gpu),
                            order.on<int64_t>(gpu),
                            labels.on<int64_t>(gpu),
                            position.on<int64_t>(gpu),
                            batch_size,
                            count,
                            now.on<StepValues>(gpu),
                            indices.on<int64_t>(gpu),
                            batch_labels.on<int64_t>(gpu)};
            if (gpu) {
                begin_step_cuda(batch, nullptr);
                end_step_cuda(loss.on<float>(true), losses.on<float>(true), position.on<int64_t>(true),
                              nullptr);
            } else {
                begin_step_cpu(batch);
                end_step_cpu(loss.on<float>(false), losses.on<float>(false), position.on<int64_t>(false));
            }
        }
    });
}

void check_optimisers(int segments, bool skipped) {
    std::vector<Segment> list;
    int64_t end = 0;
    for (int i = 0; i < segments; ++i) {
        int64_t length = numbers.word() % 3000;
        list.push_back({end, length, 0.1 * (1 + i % 7), i % 2 ? 5e-4f : 0.0f});
        end += length + numbers.word() % 64;
    }
    std::vector<StepValues> values{{1, 2, 0.05, 0.3, 0.2, 0, 4}};
    std::vector<float> skip{skipped ? 1.0f : 0.0f};
    for (bool nesterov : {false, true}) {
        check("sgd " + std::to_string(segments), [&](Arrays& arrays) {
            Array& p = arrays.output(floats(end), "parameters");
            Array& g = arrays.output(floats(end), "gradients");
            Array& m = arrays.output(floats(end), "momentum");
            Array &now = arrays.input(values), &flag = arrays.input(skip);
            for (bool gpu : {false, true}) {
                FlatSgd flat{p.on<float>(gpu), g.on<float>(gpu), m.on<float>(gpu)};
                SgdOptions options{0.0, 0.9f, nesterov, true, {now.on<StepValues>(gpu), flag.on<float>(gpu)}};
                if (gpu)
                    sgd_cuda(flat, list, options, nullptr);
                else
                    sgd_cpu(flat, list, options, 1);
            }
        });
    }
    check("adam " + std::to_string(segments), [&](Arrays& arrays) {
        Array& p = arrays.output(floats(end), "parameters");
        Array& g = arrays.output(floats(end), "gradients");
        Array& m = arrays.output(floats(end), "first moment");
        Array& v = arrays.output(floats(end, 0.0, 1.0), "second moment");
        Array &now = arrays.input(values), &flag = arrays.input(skip);
        for (bool gpu : {false, true}) {
            FlatAdam flat{p.on<float>(gpu), g.on<float>(gpu), m.on<float>(gpu), v.on<float>(gpu)};
            AdamOptions options{
                0.0, 0.9, 0.999, 1e-8, 1, true, {now.on<StepValues>(gpu), flag.on<float>(gpu)}};
            if (gpu)
                adam_cuda(flat, list, options, nullptr);
            else
                adam_cpu(flat, list, options, 1);
        }
    });
}

void check_dropout(int64_t examples, int64_t count, FloatType type) {
    check("dropout " + std::to_string(count), [&](Arrays& arrays) {
        Array& ids = arrays.input(integers(examples, 1000));
        Array& now = arrays.input(std::vector<StepValues>{{5, 6, 0.1, 0.1, 0.1, 2, 30}});
        Array& out = arrays.blank(examples * count * (type == FloatType::FLOAT32 ? 4 : 2), "mask");
        for (bool gpu : {false, true}) {
            DropoutKey key{0, 0, 3, now.on<StepValues>(gpu)};
            const int64_t* example_ids = ids.on<int64_t>(gpu);
            if (gpu)
                dropout_mask_cuda(out.on<void>(gpu), type, example_ids, examples, count, 0.3, key, nullptr);
            else
                dropout_mask_cpu(out.on<void>(gpu), type, example_ids, examples, count, 0.3, key, 1);
        }
    });
}

template <typename T, typename R>
void check_batch_norm(int64_t rows, int channels, FloatType type, NormForm form) {
    NormShape shape{rows, channels, type, form};
    check("batch norm " + std::to_string(rows) + "x" + std::to_string(channels), [&](Arrays& arrays) {
        int64_t count = rows * channels;
        size_t real = channels * sizeof(R);
        Array &x = arrays.input(elements<T>(count)), &residual = arrays.input(elements<T>(count));
        Array &gradient = arrays.input(elements<T>(count)), &weight = arrays.input(elements<R>(channels));
        Array& bias = arrays.input(elements<R>(channels));
        Array& running_mean = arrays.output(elements<R>(channels), "running mean");
        Array& running_var = arrays.output(elements<R>(channels), "running variance");
        Array& batches = arrays.output(std::vector<int64_t>{4}, "batches");
        Array &y = arrays.blank(count * sizeof(T), "y"), &mean = arrays.blank(real, "mean");
        Array& inverse_sd = arrays.blank(real, "inverse standard deviation");
        Array& partials = arrays.blank(norm_partials(shape) * sizeof(double));
        Array& of_x = arrays.blank(count * sizeof(T), "gradient of x");
        bool adds = form == NormForm::ADD_RELU;
        Array& of_residual = arrays.blank(adds ? count * sizeof(T) : 0, "gradient of the residual");
        Array &of_weight = arrays.blank(real, "gradient of the weight"),
              &of_bias = arrays.blank(real, "of the bias");
        Array& coefficients = arrays.blank(2 * real);
        for (bool gpu : {false, true}) {
            NormForward forward{x.on<void>(gpu),
                                adds ? residual.on<void>(gpu) : nullptr,
                                weight.on<void>(gpu),
                                bias.on<void>(gpu),
                                y.on<void>(gpu),
                                mean.on<void>(gpu),
                                inverse_sd.on<void>(gpu),
                                running_mean.on<void>(gpu),
                                running_var.on<void>(gpu),
                                batches.on<int64_t>(gpu),
                                partials.on<double>(gpu),
                                1e-5,
                                0.1};
            NormBackward backward{
                gradient.on<void>(gpu),   x.on<void>(gpu),       y.on<void>(gpu),
                weight.on<void>(gpu),     bias.on<void>(gpu),    mean.on<void>(gpu),
                inverse_sd.on<void>(gpu), of_x.on<void>(gpu),    adds ? of_residual.on<void>(gpu) : nullptr,
                of_weight.on<void>(gpu),  of_bias.on<void>(gpu), coefficients.on<void>(gpu),
                partials.on<double>(gpu)};
            if (gpu) {
                batch_norm_cuda(forward, shape, nullptr);
                batch_norm_gradient_cuda(backward, shape, nullptr);
            } else {
                batch_norm_cpu(forward, shape, 1);
                batch_norm_gradient_cpu(backward, shape, 1);
            }
        }
    });
}

void check_cross_entropy(int64_t examples, int classes) {
    check("cross-entropy " + std::to_string(examples) + "x" + std::to_string(classes), [&](Arrays& arrays) {
        Array& logits = arrays.input(floats(examples * classes, -9.0, 9.0));
        Array& labels = arrays.input(integers(examples, classes));
        Array& gradient = arrays.blank(examples * classes * sizeof(float), "gradient");
        Array& loss = arrays.blank(sizeof(float), "loss");
        Array& losses = arrays.blank(examples * sizeof(double), "losses");
        for (bool gpu : {false, true}) {
            CrossEntropy batch{
                logits.on<void>(gpu), labels.on<int64_t>(gpu), examples,           classes,
                FloatType::FLOAT32,   gradient.on<void>(gpu),  loss.on<void>(gpu), losses.on<double>(gpu)};
            if (gpu)
                cross_entropy_cuda(batch, nullptr);
            else
                cross_entropy_cpu(batch, 1);
        }
    });
}

template <typename T>
void check_fo_pool(const PoolShape& shape) {
    check("fo-pooling", [&](Arrays& arrays) {
        int64_t state = shape.batch * shape.hidden, count = shape.length * state;
        Array &gates = arrays.input(elements<T>(3 * count)), &initial = arrays.input(elements<T>(state));
        Array& mask = arrays.input(elements<T>(state));
        Array &output = arrays.blank(count * sizeof(T), "output"),
              &cells = arrays.blank(count * sizeof(T), "cells");
        Array &above = arrays.input(elements<T>(count)), &of_cells = arrays.input(elements<T>(count));
        Array& of_gates = arrays.blank(3 * count * sizeof(T), "gradient of the gates");
        Array& of_initial = arrays.blank(state * sizeof(T), "gradient of the initial state");
        for (bool gpu : {false, true}) {
            PoolForward<T> forward{gates.on<T>(gpu), initial.on<T>(gpu), mask.on<T>(gpu), output.on<T>(gpu),
                                   cells.on<T>(gpu)};
            PoolBackward<T> backward{gates.on<T>(gpu),    initial.on<T>(gpu),   mask.on<T>(gpu),
                                     cells.on<T>(gpu),    above.on<T>(gpu),     of_cells.on<T>(gpu),
                                     of_gates.on<T>(gpu), of_initial.on<T>(gpu)};
            if (gpu) {
                fo_pool_forward_cuda(forward, shape, nullptr);
                fo_pool_backward_cuda(backward, shape, nullptr);
            } else {
                fo_pool_forward_cpu(forward, shape, 1);
                fo_pool_backward_cpu(backward, shape, 1);
            }
        }
    });
}

// ---- metrics ----

void check_bootstrap() {
    check("bootstrap", [](Arrays& arrays) {
        Array& values = arrays.input(integers(3 * 11, 1 << 20));
        Array& deviations = arrays.blank(3 * 50 * sizeof(double), "deviations");
        bootstrap_deviations_cpu(deviations.on<double>(false), values.on<int64_t>(false), 3, 11, 50, 5, 1);
        bootstrap_deviations_cuda(deviations.on<double>(true), values.on<int64_t>(true), 3, 11, 50, 5,
                                  nullptr);
    });
}

void check_votes_and_differences() {
    check("votes and differences", [](Arrays& arrays) {
        constexpr int64_t kMembers = 5, kExamples = 77, kClasses = 10;
        std::vector<int32_t> guesses;
        for (int64_t guess : integers(kMembers * kExamples, kClasses))
            guesses.push_back(static_cast<int32_t>(guess));
        Array& predictions = arrays.input(guesses);
        Array& votes = arrays.output(std::vector<int64_t>(kExamples * kClasses), "votes");
        Array& differing = arrays.output(std::vector<int64_t>(kMembers * kMembers), "differences");
        const int32_t *here = predictions.on<int32_t>(false), *there = predictions.on<int32_t>(true);
        add_votes_cpu(votes.on<int64_t>(false), here, kMembers, kExamples, kClasses, 1);
        add_votes_cuda(votes.on<int64_t>(true), there, kMembers, kExamples, kClasses, nullptr);
        differing_matrix_cpu(differing.on<int64_t>(false), here, kMembers, kExamples, 1);
        differing_matrix_cuda(differing.on<int64_t>(true), there, kMembers, kExamples, nullptr);
    });
}

void check_correlation(Correlation kind) {
    check("unit vectors", [&](Arrays& arrays) {
        constexpr int64_t kMembers = 3, kValues = 700;
        Array& logits = arrays.input(floats(kMembers * kValues));
        Array& sums = arrays.output(std::vector<uint64_t>(2 * kValues), "sums");
        Array& squares = arrays.blank(2 * kMembers * sizeof(uint64_t), "squares");
        size_t bytes = unit_vectors_workspace_cuda(kMembers, kValues);
        Array& workspace = arrays.blank(bytes);
        add_unit_vectors_cpu({sums.on<uint64_t>(false), squares.on<uint64_t>(false)}, logits.on<float>(false),
                             kMembers, kValues, kind, 1);
        add_unit_vectors_cuda({sums.on<uint64_t>(true), squares.on<uint64_t>(true)}, logits.on<float>(true),
                              kMembers, kValues, kind, workspace.on<void>(true), bytes, nullptr);
    });
}

void check_scores() {
    check("scores", [](Arrays& arrays) {
        constexpr int64_t kMembers = 3, kExamples = 130, kClasses = 10, kWords = (kExamples + 63) / 64;
        Array& logits = arrays.input(floats(kMembers * kExamples * kClasses));
        Array& labels = arrays.input(integers(kExamples, kClasses));
        Array& correct = arrays.output(std::vector<int64_t>(kMembers), "right answers");
        Array& bits = arrays.output(std::vector<uint64_t>(kMembers * kWords), "bits");
        Array& losses = arrays.input(std::vector<int64_t>(kMembers * kExactLimbs));
        Array& predictions = arrays.blank(kMembers * kExamples * sizeof(int32_t), "predictions");
        for (bool gpu : {false, true}) {
            Logits values{logits.on<float>(gpu), kMembers, kExamples, kClasses};
            MemberScores out{correct.on<int64_t>(gpu), bits.on<uint64_t>(gpu), losses.on<int64_t>(gpu),
                             predictions.on<int32_t>(gpu)};
            if (gpu)
                member_scores_cuda(values, labels.on<int64_t>(gpu), out, nullptr);
            else
                member_scores_cpu(values, labels.on<int64_t>(gpu), out, 1);
        }
    });
}

// Matrices over pairs are defined above the diagonal only, and one exact sum has many forms: these run here,
// and are compared in Python.
void check_pairs() {
    check("pairs (run only)", [](Arrays& arrays) {
        constexpr int64_t kMembers = 5, kExamples = 48, kClasses = 10;
        Array& logits = arrays.input(floats(kMembers * kExamples * kClasses));
        Array& rows = arrays.input(std::vector<int64_t>{0, 1, 2, 3, 4});
        Array& labels = arrays.input(integers(kExamples, kClasses));
        Array& correct = arrays.input(std::vector<int64_t>(kMembers * kMembers));
        Array& products = arrays.input(std::vector<double>(kMembers * kMembers));
        Array& workspace = arrays.blank(ensemble_workspace_cuda(kMembers, kClasses));
        PairSlice slice{logits.on<float>(true),
                        kExamples * kClasses,
                        rows.on<int64_t>(true),
                        kMembers,
                        kExamples,
                        kClasses,
                        labels.on<int64_t>(true)};
        ensemble_correct_cuda(correct.on<int64_t>(true), slice, workspace.on<void>(true), nullptr);
        ensemble_log_products_cuda(products.on<double>(true), slice, workspace.on<void>(true), nullptr);
    });
    check("tokens (run only)", [](Arrays& arrays) {
        constexpr int64_t kMembers = 5, kTokenCount = 192;
        Array& values = arrays.input(floats(kMembers * kTokenCount, -9.0, -0.1));
        Array& rows = arrays.input(std::vector<int64_t>{0, 1, 2, 3, 4});
        Array& sums = arrays.input(std::vector<int64_t>(kMembers * kExactLimbs));
        Array& products = arrays.input(std::vector<double>(kMembers * kMembers));
        Array& workspace = arrays.blank(mixture_workspace_cuda(kMembers));
        TokenSlice slice{values.on<float>(true), kTokenCount, rows.on<int64_t>(true), kMembers, kTokenCount};
        token_sums_cuda(sums.on<int64_t>(true), slice, nullptr);
        mixture_log_products_cuda(products.on<double>(true), slice, workspace.on<void>(true), nullptr);
    });
}

int run() {
    int devices = 0;
    if (cudaGetDeviceCount(&devices) != cudaSuccess || devices == 0) {
        std::fprintf(stderr, "no CUDA device\n");
        return 2;
    }
    for (int64_t size : {1, 2, 1000}) check_permutation(size);
    for (FloatType type : {FloatType::FLOAT32, FloatType::BFLOAT16}) {
        check_augment(8, 3, Layout::NHWC, type);
        check_augment(7, 1, Layout::NCHW, type);
        check_dropout(5, 33, type);
    }
    check_step(300, 300);
    check_step(64, 10);
    for (bool skipped : {false, true}) {
        for (int segments : {1, 97}) check_optimisers(segments, skipped);
    }
    for (NormForm form : {NormForm::NORM, NormForm::RELU, NormForm::ADD_RELU}) {
        for (int64_t rows : {2, 100, 3000}) {
            for (int channels : {1, 16, 66}) {
                check_batch_norm<float, float>(rows, channels, FloatType::FLOAT32, form);
                check_batch_norm<BFloat16, float>(rows, channels, FloatType::BFLOAT16, form);
                check_batch_norm<Float16, float>(rows, channels, FloatType::FLOAT16, form);
                check_batch_norm<double, double>(rows, channels, FloatType::FLOAT64, form);
            }
        }
    }
    check_cross_entropy(1, 2);
    check_cross_entropy(300, 10);
    check_cross_entropy(7, 100);
    check_fo_pool<float>({5, 3, 40});
    check_fo_pool<double>({5, 3, 40});
    check_bootstrap();
    check_votes_and_differences();
    check_correlation(Correlation::SPEARMAN);
    check_correlation(Correlation::PEARSON);
    check_scores();
    check_pairs();
    return all_equal ? 0 : 1;
}

}  // namespace
}  // namespace popnet

int main() {
    return popnet::run();
}
