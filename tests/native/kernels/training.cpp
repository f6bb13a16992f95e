// A training step: its inputs, optimisers, dropout, batch norm, the loss, fo-pooling.
#include <cmath>
#include <limits>

#include "check.h"
#include "training/adam.h"
#include "training/batch_norm.h"
#include "training/batch_norm_element.h"
#include "training/cross_entropy.h"
#include "training/dropout.h"
#include "training/fo_pool.h"
#include "training/sgd.h"
#include "training/step.h"

namespace popnet {
namespace {

void check_step(int64_t batch_size, int64_t count) {
    check("step of " + std::to_string(count), [&](Check& arrays) {
        std::vector<StepValues> rows;
        for (uint32_t i = 0; i < 4; ++i) rows.push_back({i, i + 1, 0.1 * i, 0.2, 0.3, 9, i});
        Array& table = arrays.input(rows);
        Array& order = arrays.input(integers(4 * batch_size, 100));
        Array& labels = arrays.input(integers(100, 10));
        Array& position = arrays.output(std::vector<int64_t>{2}, "position");
        Array& now = arrays.blank(sizeof(StepValues), "values");
        Array& indices = arrays.blank(count * 8, "indices");
        Array& batch_labels = arrays.blank(count * 8, "labels");
        Array& loss = arrays.input(std::vector<float>{1.5f});
        Array& losses = arrays.output(floats(4), "losses");
        for (bool gpu : {false, true}) {
            StepBatch batch{};
            batch.table = table.on<StepValues>(gpu);
            batch.order = order.on<int64_t>(gpu);
            batch.all_labels = labels.on<int64_t>(gpu);
            batch.position = position.on<int64_t>(gpu);
            batch.batch_size = batch_size;
            batch.count = count;
            batch.now = now.on<StepValues>(gpu);
            batch.indices = indices.on<int64_t>(gpu);
            batch.labels = batch_labels.on<int64_t>(gpu);
            if (gpu) {
                begin_step_cuda(batch, stream());
                end_step_cuda(loss.on<float>(true), losses.on<float>(true), position.on<int64_t>(true),
                              stream());
            } else {
                begin_step_cpu(batch);
                end_step_cpu(loss.on<float>(false), losses.on<float>(false), position.on<int64_t>(false));
            }
        }
    });
}

// ---- optimisers ----

std::vector<Segment> segments_of(const std::vector<int64_t>& lengths, int64_t gap) {
    std::vector<Segment> made;
    int64_t end = 0;
    for (size_t i = 0; i < lengths.size(); ++i) {
        made.push_back({end, lengths[i], 0.1 * static_cast<double>(1 + i % 7), i % 2 ? 5e-4f : 0.0f});
        end += lengths[i] + gap;
    }
    return made;
}

enum class Values { GIVEN, FROM_MEMORY, SKIPPED };

void check_optimisers(const std::vector<Segment>& segments, Values values) {
    const char* kinds[] = {"", " from memory", " skipped"};
    std::string what = std::to_string(segments.size()) + " segments" + kinds[static_cast<int>(values)];
    int64_t size = segments.empty() ? 0 : segments.back().offset + segments.back().length + 5;
    std::vector<StepValues> step{{1, 2, 0.05, 0.3, 0.2, 0, 4}};
    std::vector<float> flag{values == Values::SKIPPED ? 1.0f : 0.0f};
    auto source = [&](Array& now, Array& skip, bool gpu) {
        if (values == Values::GIVEN) return StepSource{};
        return StepSource{now.on<StepValues>(gpu), skip.on<float>(gpu)};
    };
    for (bool nesterov : {false, true}) {
        check((nesterov ? "nesterov " : "sgd ") + what, [&](Check& arrays) {
            Array& p = arrays.output(floats(size), "parameters");
            Array& g = arrays.output(floats(size), "gradients");
            Array& m = arrays.output(floats(size), "momentum");
            Array &now = arrays.input(step), &skip = arrays.input(flag);
            for (bool gpu : {false, true}) {
                FlatSgd flat{p.on<float>(gpu), g.on<float>(gpu), m.on<float>(gpu)};
                SgdOptions options{0.1, 0.9f, nesterov, !nesterov, source(now, skip, gpu)};
                if (gpu)
                    sgd_cuda(flat, segments, options, stream());
                else
                    sgd_cpu(flat, segments, options, 1);
            }
        });
    }
    check("adam " + what, [&](Check& arrays) {
        Array& p = arrays.output(floats(size), "parameters");
        Array& g = arrays.output(floats(size), "gradients");
        Array& m = arrays.output(floats(size), "first moment");
        Array& v = arrays.output(floats(size, 0.0, 1.0), "second moment");
        Array &now = arrays.input(step), &skip = arrays.input(flag);
        for (bool gpu : {false, true}) {
            FlatAdam flat{p.on<float>(gpu), g.on<float>(gpu), m.on<float>(gpu), v.on<float>(gpu)};
            AdamOptions options{0.01, 0.9, 0.999, 1e-8, 3, true, source(now, skip, gpu)};
            if (gpu)
                adam_cuda(flat, segments, options, stream());
            else
                adam_cpu(flat, segments, options, 1);
        }
    });
}

// ---- dropout ----

void check_dropout(int64_t examples, int64_t elements, FloatType type, bool from_memory) {
    std::string size = std::to_string(examples) + "x" + std::to_string(elements);
    const char* kind = type == FloatType::FLOAT32 ? " fp32" : " bf16";
    check("dropout " + size + kind + (from_memory ? " from memory" : ""), [&](Check& arrays) {
        Array& ids = arrays.input(integers(examples, 1000));
        Array& now = arrays.input(std::vector<StepValues>{{5, 6, 0.1, 0.1, 0.1, 2, 30}});
        Array& out = arrays.blank(examples * elements * (type == FloatType::FLOAT32 ? 4 : 2), "mask");
        for (bool gpu : {false, true}) {
            DropoutKey key{11, 12, 3, from_memory ? now.on<StepValues>(gpu) : nullptr};
            const int64_t* examples_of = ids.on<int64_t>(gpu);
            if (gpu)
                dropout_mask_cuda(out.on<void>(true), type, examples_of, examples, elements, 0.3, key,
                                  stream());
            else
                dropout_mask_cpu(out.on<void>(false), type, examples_of, examples, elements, 0.3, key, 1);
        }
    });
}

// ---- batch norm ----

constexpr const char* kTensors[] = {"x", "residual",      "gradient",
                                    "y", "gradient of x", "gradient of residual"};

struct NormCase {
    int64_t rows;
    int channels;
    NormForm form;
    bool ties;         // many zeros before and after the ReLU
    int shifted = -1;  // the one of kTensors in which no pack of elements is aligned
};

template <typename T>
void check_batch_norm(const NormCase& given, FloatType type) {
    using R = Real<T>;
    NormShape shape{given.rows, given.channels, type, given.form};
    const char* types[] = {"fp32", "bf16", "fp16", "fp64"};
    const char* forms[] = {"", " relu", " add relu"};
    std::string name = "batch norm " + std::to_string(given.rows) + "x" + std::to_string(given.channels) +
                       " " + types[static_cast<int>(type)] + forms[static_cast<int>(given.form)] +
                       (given.ties ? " ties" : "") +
                       (given.shifted < 0 ? "" : std::string(", shifted: ") + kTensors[given.shifted]);
    check(name, [&](Check& arrays) {
        int64_t count = given.rows * given.channels;
        size_t bytes = count * sizeof(T), real = given.channels * sizeof(R);
        auto numbers = [&](int64_t size) { return given.ties ? ties(size, 3) : floats(size); };
        bool adds = given.form == NormForm::ADD_RELU;
        auto shift = [&](int tensor) { return tensor == given.shifted ? sizeof(T) : 0; };
        Array& x = arrays.input(as<T>(numbers(count)), shift(0));
        Array& residual = arrays.input(as<T>(numbers(count)), shift(1));
        Array& gradient = arrays.input(as<T>(numbers(count)), shift(2));
        Array& weight = arrays.input(as<R>(numbers(given.channels)));
        Array& bias = arrays.input(as<R>(numbers(given.channels)));
        Array& running_mean = arrays.output(as<R>(floats(given.channels)), "running mean");
        Array& running_var = arrays.output(as<R>(floats(given.channels)), "running variance");
        Array& batches = arrays.output(std::vector<int64_t>{4}, "batches");
        Array& y = arrays.blank(bytes, "y", shift(3));
        Array &mean = arrays.blank(real, "mean"), &inverse_sd = arrays.blank(real, "inverse deviation");
        Array& partials = arrays.blank(norm_partials(shape) * sizeof(double), "partial sums");
        Array& of_x = arrays.blank(bytes, "gradient of x", shift(4));
        Array& of_residual = arrays.blank(adds ? bytes : 0, "gradient of the residual", shift(5));
        Array& of_weight = arrays.blank(real, "gradient of the weight");
        Array& of_bias = arrays.blank(real, "gradient of the bias");
        Array& coefficients = arrays.blank(2 * real, "coefficients");
        for (bool gpu : {false, true}) {
            NormForward forward{};
            forward.x = x.on<void>(gpu);
            forward.residual = adds ? residual.on<void>(gpu) : nullptr;
            forward.weight = weight.on<void>(gpu);
            forward.bias = bias.on<void>(gpu);
            forward.y = y.on<void>(gpu);
            forward.mean = mean.on<void>(gpu);
            forward.inverse_sd = inverse_sd.on<void>(gpu);
            forward.running_mean = running_mean.on<void>(gpu);
            forward.running_var = running_var.on<void>(gpu);
            forward.batches = batches.on<int64_t>(gpu);
            forward.partials = partials.on<double>(gpu);
            forward.eps = 1e-5;
            forward.momentum = 0.1;
            NormBackward backward{};
            backward.gradient = gradient.on<void>(gpu);
            backward.x = x.on<void>(gpu);
            backward.y = y.on<void>(gpu);
            backward.weight = weight.on<void>(gpu);
            backward.bias = bias.on<void>(gpu);
            backward.mean = mean.on<void>(gpu);
            backward.inverse_sd = inverse_sd.on<void>(gpu);
            backward.x_gradient = of_x.on<void>(gpu);
            backward.residual_gradient = adds ? of_residual.on<void>(gpu) : nullptr;
            backward.weight_gradient = of_weight.on<void>(gpu);
            backward.bias_gradient = of_bias.on<void>(gpu);
            backward.coefficients = coefficients.on<void>(gpu);
            backward.partials = partials.on<double>(gpu);
            if (gpu) {
                batch_norm_cuda(forward, shape, stream());
                batch_norm_gradient_cuda(backward, shape, stream());
            } else {
                batch_norm_cpu(forward, shape, 1);
                batch_norm_gradient_cpu(backward, shape, 1);
            }
        }
    });
}

void check_norms() {
    for (NormForm form : {NormForm::NORM, NormForm::RELU, NormForm::ADD_RELU}) {
        // a few rows; a lane's rows and one more; chunks and one more row; tiles of channels; channels in
        // packs or not
        for (auto [rows, channels] : {std::pair<int64_t, int>{2, 1},
                                      {33, 3},
                                      {16385, 1},
                                      {1025, 4},
                                      {257, 68},
                                      {513, 66},
                                      {40, 260},
                                      {100, 16}}) {
            NormCase given{rows, channels, form, false};
            check_batch_norm<float>(given, FloatType::FLOAT32);
            check_batch_norm<BFloat16>(given, FloatType::BFLOAT16);
            check_batch_norm<Float16>(given, FloatType::FLOAT16);
            check_batch_norm<double>(given, FloatType::FLOAT64);
        }
        for (int tensor = 0; tensor < 6; ++tensor) {
            check_batch_norm<float>({300, 64, form, false, tensor}, FloatType::FLOAT32);
        }
        check_batch_norm<BFloat16>({300, 64, form, false, 0}, FloatType::BFLOAT16);
        check_batch_norm<double>({300, 64, form, false, 4}, FloatType::FLOAT64);
        check_batch_norm<float>({300, 12, form, true}, FloatType::FLOAT32);
        check_batch_norm<BFloat16>({300, 12, form, true}, FloatType::BFLOAT16);
    }
    // more rows than kMostChunks chunks of 16 rows a lane hold, so that a lane has more
    if (large_checks())
        check_batch_norm<BFloat16>({262145 + 500, 33, NormForm::NORM, false}, FloatType::BFLOAT16);
}

// ---- loss ----

template <typename T>
void check_cross_entropy(int64_t examples, int classes, FloatType type) {
    std::string name = "cross-entropy " + std::to_string(examples) + "x" + std::to_string(classes) +
                       (type == FloatType::FLOAT32 ? " fp32" : " fp64");
    check(name, [&](Check& arrays) {
        Array& logits = arrays.input(as<T>(ties(examples * classes, 100)));
        Array& labels = arrays.input(integers(examples, classes));
        Array& gradient = arrays.blank(examples * classes * sizeof(T), "gradient");
        Array& loss = arrays.blank(sizeof(T), "loss");
        Array& losses = arrays.blank(examples * sizeof(double), "losses");
        for (bool gpu : {false, true}) {
            CrossEntropy batch{};
            batch.logits = logits.on<void>(gpu);
            batch.labels = labels.on<int64_t>(gpu);
            batch.examples = examples;
            batch.classes = classes;
            batch.type = type;
            batch.gradient = gradient.on<void>(gpu);
            batch.loss = loss.on<void>(gpu);
            batch.losses = losses.on<double>(gpu);
            if (gpu)
                cross_entropy_cuda(batch, stream());
            else
                cross_entropy_cpu(batch, 1);
        }
    });
}

// What the CPU refuses becomes NaN on the device, and touches nothing that is not there.
void check_wrong_labels() {
    check("cross-entropy, labels that are no class", [](Check& arrays) {
        constexpr int64_t kExamples = 3;
        constexpr int kClasses = 4;
        Array& logits = arrays.input(floats(kExamples * kClasses));
        Array& labels = arrays.input(std::vector<int64_t>{-1, 4, int64_t{1} << 40});
        Array &gradient = arrays.scratch(kExamples * kClasses * sizeof(float)),
              &loss = arrays.scratch(sizeof(float));
        Array& losses = arrays.scratch(kExamples * sizeof(double));
        CrossEntropy batch{
            logits.on<void>(true), labels.on<int64_t>(true), kExamples,           kClasses,
            FloatType::FLOAT32,    gradient.on<void>(true),  loss.on<void>(true), losses.on<double>(true)};
        cross_entropy_cuda(batch, stream());
        for (Array* array : {&gradient, &loss}) {
            auto* values = array->on<float>(false);
            std::fill_n(values, array == &loss ? 1 : kExamples * kClasses,
                        std::numeric_limits<float>::quiet_NaN());
            arrays.compare_results<float, bool>(*array, "NaN", [](std::vector<float> found) {
                std::vector<bool> nan;
                for (float value : found) nan.push_back(std::isnan(value));
                return nan;
            });
        }
    });
}

// ---- fo-pooling ----

template <typename T>
void check_fo_pool(const PoolShape& shape, bool masked, bool inner) {
    std::string name = "fo-pooling " + std::to_string(shape.length) + "x" + std::to_string(shape.batch) +
                       "x" + std::to_string(shape.hidden) + (sizeof(T) == 4 ? " fp32" : " fp64") +
                       (masked ? " mask" : "") + (inner ? " inner" : "");
    check(name, [&](Check& arrays) {
        int64_t state = shape.batch * shape.hidden, count = shape.length * state;
        Array& gates = arrays.input(as<T>(floats(3 * count, -30, 30)));
        Array &initial = arrays.input(as<T>(floats(state))), &mask = arrays.input(as<T>(floats(state)));
        Array& output = arrays.blank(count * sizeof(T), "output");
        Array& cells = arrays.blank(count * sizeof(T), "cells");
        Array &above = arrays.input(as<T>(floats(count))), &of_cells = arrays.input(as<T>(floats(count)));
        Array& of_gates = arrays.blank(3 * count * sizeof(T), "gradient of the gates");
        Array& of_initial = arrays.blank(state * sizeof(T), "gradient of the initial state");
        for (bool gpu : {false, true}) {
            const T* mask_here = masked ? mask.on<T>(gpu) : nullptr;
            PoolForward<T> forward{gates.on<T>(gpu), initial.on<T>(gpu), mask_here, output.on<T>(gpu),
                                   cells.on<T>(gpu)};
            PoolBackward<T> backward{};
            backward.gates = gates.on<T>(gpu);
            backward.initial = initial.on<T>(gpu);
            backward.mask = mask_here;
            backward.cells = cells.on<T>(gpu);
            backward.output_gradient = above.on<T>(gpu);
            backward.cell_gradient = inner ? of_cells.on<T>(gpu) : nullptr;
            backward.gate_gradients = of_gates.on<T>(gpu);
            backward.initial_gradient = of_initial.on<T>(gpu);
            if (gpu) {
                fo_pool_forward_cuda(forward, shape, stream());
                fo_pool_backward_cuda(backward, shape, stream());
            } else {
                fo_pool_forward_cpu(forward, shape, 1);
                fo_pool_backward_cpu(backward, shape, 1);
            }
        }
    });
}

}  // namespace

void check_training() {
    for (auto [batch_size, count] : {std::pair<int64_t, int64_t>{300, 300}, {64, 10}, {8, 0}}) {
        check_step(batch_size, count);
    }
    for (Values values : {Values::GIVEN, Values::FROM_MEMORY, Values::SKIPPED}) {
        check_optimisers(segments_of({1, 1023, 1024, 1025, 0, 5}, 3), values);
        check_optimisers(segments_of(std::vector<int64_t>(96, 10), 0), values);  // a full table
        check_optimisers(segments_of(std::vector<int64_t>(193, 7), 1), values);  // three tables
        check_optimisers({}, values);
    }
    for (FloatType type : {FloatType::FLOAT32, FloatType::BFLOAT16}) {
        check_dropout(5, 33, type, true);
        check_dropout(70, 4, type, false);
        check_dropout(300, 9, type, false);  // several blocks
        check_dropout(3, 1, type, false);
        check_dropout(0, 4, type, false);
    }
    check_norms();
    for (int classes : {1, 2, 31, 33, 257}) {
        for (int64_t examples : {1, 3, 259})
            check_cross_entropy<float>(examples, classes, FloatType::FLOAT32);
        check_cross_entropy<double>(7, classes, FloatType::FLOAT64);
    }
    check_wrong_labels();
    for (PoolShape shape :
         {PoolShape{1, 1, 1}, PoolShape{5, 3, 40}, PoolShape{8, 2, 33}, PoolShape{17, 1, 70}}) {
        for (bool masked : {false, true}) {
            for (bool inner : {false, true}) {
                check_fo_pool<float>(shape, masked, inner);
                check_fo_pool<double>(shape, masked, inner);
            }
        }
    }
}

}  // namespace popnet
