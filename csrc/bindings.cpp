// The module popnet._native: bindings and nothing else. popnet/native.py is its only caller and checks every
// argument; here pointers are integers. Functions that end in _cuda exist only where CUDA was compiled.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "common/cuda_error.h"
#include "common/exact_sum.h"
#include "common/philox.h"
#include "common/portable_math.h"
#include "data/augment.h"
#include "data/jpeg.h"
#include "data/permutation.h"
#include "data/picture_job.h"
#include "data/pictures.h"
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
#include "training/narrow_linear.h"
#include "training/segments.h"
#include "training/sgd.h"
#include "training/step.h"

namespace py = pybind11;

namespace popnet {
namespace {

using Address = uintptr_t;
using Unlocked = py::gil_scoped_release;

template <typename T>
T* pointer(Address address) {
    return reinterpret_cast<T*>(address);
}

FloatType float_type(bool bfloat16) {
    return bfloat16 ? FloatType::BFLOAT16 : FloatType::FLOAT32;
}

// ---- common
// -------------------------------------------------------------------------------------------------------

std::array<uint32_t, 4> philox(std::array<uint32_t, 4> c, std::array<uint32_t, 2> k) {
    Words words = philox4x32(c[0], c[1], c[2], c[3], k[0], k[1]);
    return {words.word[0], words.word[1], words.word[2], words.word[3]};
}

void bind_common(py::module_& m) {
    py::register_exception<CudaError>(m, "CudaError", PyExc_RuntimeError);
    m.def("philox4x32", &philox, py::arg("counter"), py::arg("key"));
    py::dict sources;
    sources["INIT"] = uint32_t{INIT};
    sources["SHUFFLE"] = uint32_t{SHUFFLE};
    sources["AUGMENT"] = uint32_t{AUGMENT};
    sources["STOCHASTIC"] = uint32_t{STOCHASTIC};
    sources["KERNELS"] = uint32_t{KERNELS};
    sources["BIT"] = uint32_t{BIT};
    sources["BOOTSTRAP"] = uint32_t{BOOTSTRAP};
    sources["GROUPS"] = uint32_t{GROUPS};
    sources["SUBSET"] = uint32_t{SUBSET};
    m.attr("sources") = sources;
#ifdef POPNET_CUDA
    m.attr("cuda_compiled") = true;
#else
    m.attr("cuda_compiled") = false;
#endif
}

// ---- data
// ---------------------------------------------------------------------------------------------------------

ImageSet image_set(Address pixels, std::array<int64_t, 4> shape) {
    return ImageSet{pointer<const uint8_t>(pixels), shape[0], static_cast<int>(shape[1]),
                    static_cast<int>(shape[2]), static_cast<int>(shape[3])};
}

Batch batch(Address out, bool bfloat16, bool channels_last, Address indices, int64_t size, Address keys) {
    return Batch{pointer<void>(out),
                 pointer<const int64_t>(indices),
                 size,
                 channels_last ? Layout::NHWC : Layout::NCHW,
                 float_type(bfloat16),
                 pointer<const int64_t>(keys)};
}

Normalisation normalisation(const std::vector<double>& mean, const std::vector<double>& std) {
    Normalisation result{};
    for (size_t c = 0; c < mean.size(); ++c) {
        result.scale[c] = static_cast<float>(1.0 / (255.0 * std[c]));
        result.shift[c] = static_cast<float>(-mean[c] / std[c]);
    }
    return result;
}

Augmentation random_augmentation(uint64_t seed, uint32_t epoch, int crop, bool flip, int translate,
                                 int cutout, const std::vector<uint8_t>& fill, Address now) {
    Augmentation result{};
    result.now = pointer<const StepValues>(now);
    result.random = true;
    result.seed = seed;
    result.epoch = epoch;
    result.crop = crop;
    result.flip = flip;
    result.translate = translate;
    result.cutout = cutout;
    for (size_t c = 0; c < fill.size(); ++c) result.fill[c] = fill[c];
    return result;
}

Augmentation fixed_view(int dy, int dx, bool flip) {
    Augmentation result{};
    result.dy = dy;
    result.dx = dx;
    result.mirror = flip;
    return result;
}

Pictures pictures(Address bytes, Address table, int64_t count, int channels) {
    return Pictures{pointer<const uint8_t>(bytes), pointer<const Picture>(table), count, channels};
}

Framing random_framing(int height, int width, std::array<double, 2> area, std::array<double, 2> aspect) {
    return Framing{height, width, true, area[0], area[1], aspect[0], aspect[1]};
}

Framing central_framing(int height, int width, double share, int dy, int dx) {
    Framing result{};
    result.height = height;
    result.width = width;
    result.share = share;
    result.dy = dy;
    result.dx = dx;
    return result;
}

std::pair<int64_t, std::string> as_pair(const Unreadable& unreadable) {
    return {unreadable.index, unreadable.reason};
}

void bind_pictures(py::module_& m) {
    py::class_<Pictures>(m, "Pictures").def(py::init(&pictures));
    py::class_<Framing>(m, "Framing").def(py::init(&random_framing)).def(py::init(&central_framing));
    py::class_<PictureJob>(m, "PictureJob")
        .def(py::init<const Pictures&, const Framing&, const Augmentation&, const Normalisation&>())
        .def("enter", &PictureJob::enter)
        .def("take_unreadable", [](PictureJob& job) { return as_pair(job.take_unreadable()); })
        .def("address", [](PictureJob& job) { return reinterpret_cast<Address>(&job); });
    m.attr("fill_address") = reinterpret_cast<Address>(&popnet_fill);
    m.attr("decode_address") = reinterpret_cast<Address>(&popnet_decode);
    m.def("jpeg_library_error", &jpeg_library_error);
    m.def(
        "pictures_cpu",
        [](const Pictures& pictures, const Batch& batch, const Framing& framing,
           const Augmentation& augmentation, const Normalisation& normalisation, int threads) {
            return as_pair(pictures_cpu(pictures, batch, framing, augmentation, normalisation, threads));
        },
        py::call_guard<Unlocked>());
    m.def(
        "decode_picture",
        [](const Pictures& pictures, int64_t index, Address out) {
            return decode_picture(pictures, index, pointer<uint8_t>(out));
        },
        py::call_guard<Unlocked>());
}

void bind_data(py::module_& m) {
    py::class_<ImageSet>(m, "ImageSet").def(py::init(&image_set));
    py::class_<Batch>(m, "Batch").def(py::init(&batch));
    py::class_<Normalisation>(m, "Normalisation").def(py::init(&normalisation));
    py::class_<Augmentation>(m, "Augmentation")
        .def(py::init(&random_augmentation))
        .def(py::init(&fixed_view));
    m.attr("max_channels") = kMaxChannels;

    m.def(
        "permutation_cpu",
        [](Address order, int64_t size, uint64_t seed, uint32_t source, uint32_t epoch, uint32_t block,
           int threads) {
            permutation_cpu(pointer<int64_t>(order), size, seed, source, epoch, block, threads);
        },
        py::call_guard<Unlocked>());
    m.def("augment_cpu", &augment_cpu, py::call_guard<Unlocked>());
#ifdef POPNET_CUDA
    m.def("permutation_workspace_cuda", &permutation_workspace_cuda, py::call_guard<Unlocked>());
    m.def(
        "permutation_cuda",
        [](Address order, Address workspace, size_t workspace_bytes, int64_t size, uint64_t seed,
           uint32_t source, uint32_t epoch, uint32_t block, Address stream) {
            permutation_cuda(pointer<int64_t>(order), pointer<void>(workspace), workspace_bytes, size, seed,
                             source, epoch, block, pointer<void>(stream));
        },
        py::call_guard<Unlocked>());
    m.def(
        "augment_cuda",
        [](const ImageSet& images, const Batch& batch, const Augmentation& augmentation,
           const Normalisation& normalisation, Address stream) {
            augment_cuda(images, batch, augmentation, normalisation, pointer<void>(stream));
        },
        py::call_guard<Unlocked>());
#endif
}

// ---- training
// -----------------------------------------------------------------------------------------------------

std::vector<Segment> segment_list(const std::vector<std::tuple<int64_t, int64_t, double, double>>& rows) {
    std::vector<Segment> segments;
    for (const auto& [offset, length, rate_multiplier, weight_decay] : rows) {
        segments.push_back({offset, length, rate_multiplier, static_cast<float>(weight_decay)});
    }
    return segments;
}

// An opaque list, so that a step converts nothing.
struct Segments {
    std::vector<Segment> list;
};

FlatSgd flat_sgd(const std::array<Address, 3>& buffers) {
    return FlatSgd{pointer<float>(buffers[0]), pointer<float>(buffers[1]), pointer<float>(buffers[2])};
}

FlatAdam flat_adam(const std::array<Address, 4>& buffers) {
    return FlatAdam{pointer<float>(buffers[0]), pointer<float>(buffers[1]), pointer<float>(buffers[2]),
                    pointer<float>(buffers[3])};
}

template <typename T>
PoolForward<T> pool_forward(const std::array<Address, 5>& p) {
    return PoolForward<T>{pointer<const T>(p[0]), pointer<const T>(p[1]), pointer<const T>(p[2]),
                          pointer<T>(p[3]), pointer<T>(p[4])};
}

template <typename T>
PoolBackward<T> pool_backward(const std::array<Address, 8>& p) {
    return PoolBackward<T>{pointer<const T>(p[0]), pointer<const T>(p[1]), pointer<const T>(p[2]),
                           pointer<const T>(p[3]), pointer<const T>(p[4]), pointer<const T>(p[5]),
                           pointer<T>(p[6]),       pointer<T>(p[7])};
}

PoolShape pool_shape(const std::array<int64_t, 3>& shape) {
    return PoolShape{shape[0], shape[1], shape[2]};
}

void bind_fo_pool(py::module_& m) {
    using Shape = std::array<int64_t, 3>;  // length, batch, hidden
    m.def(
        "fo_pool_forward_cpu",
        [](const std::array<Address, 5>& tensors, bool float64, const Shape& shape, int threads) {
            if (float64) {
                fo_pool_forward_cpu(pool_forward<double>(tensors), pool_shape(shape), threads);
            } else {
                fo_pool_forward_cpu(pool_forward<float>(tensors), pool_shape(shape), threads);
            }
        },
        py::call_guard<Unlocked>());
    m.def(
        "fo_pool_backward_cpu",
        [](const std::array<Address, 8>& tensors, bool float64, const Shape& shape, int threads) {
            if (float64) {
                fo_pool_backward_cpu(pool_backward<double>(tensors), pool_shape(shape), threads);
            } else {
                fo_pool_backward_cpu(pool_backward<float>(tensors), pool_shape(shape), threads);
            }
        },
        py::call_guard<Unlocked>());
#ifdef POPNET_CUDA
    m.def(
        "fo_pool_forward_cuda",
        [](const std::array<Address, 5>& tensors, bool float64, const Shape& shape, Address stream) {
            if (float64) {
                fo_pool_forward_cuda(pool_forward<double>(tensors), pool_shape(shape), pointer<void>(stream));
            } else {
                fo_pool_forward_cuda(pool_forward<float>(tensors), pool_shape(shape), pointer<void>(stream));
            }
        },
        py::call_guard<Unlocked>());
    m.def(
        "fo_pool_backward_cuda",
        [](const std::array<Address, 8>& tensors, bool float64, const Shape& shape, Address stream) {
            if (float64) {
                fo_pool_backward_cuda(pool_backward<double>(tensors), pool_shape(shape),
                                      pointer<void>(stream));
            } else {
                fo_pool_backward_cuda(pool_backward<float>(tensors), pool_shape(shape),
                                      pointer<void>(stream));
            }
        },
        py::call_guard<Unlocked>());
#endif
}

StepSource step_source(Address now, Address skip) {
    return StepSource{pointer<const StepValues>(now), pointer<const float>(skip)};
}

StepBatch step_batch(Address table, Address order, Address all_labels, Address position, int64_t batch_size,
                     int64_t count, Address now, Address indices, Address labels) {
    return StepBatch{pointer<const StepValues>(table),
                     pointer<const int64_t>(order),
                     pointer<const int64_t>(all_labels),
                     pointer<const int64_t>(position),
                     batch_size,
                     count,
                     pointer<StepValues>(now),
                     pointer<int64_t>(indices),
                     pointer<int64_t>(labels)};
}

FloatType float_type(const std::string& name) {
    if (name == "float32") return FloatType::FLOAT32;
    if (name == "bfloat16") return FloatType::BFLOAT16;
    if (name == "float16") return FloatType::FLOAT16;
    if (name == "float64") return FloatType::FLOAT64;
    throw py::type_error("no floating-point type of the kernels: " + name);
}

NormShape norm_shape(int64_t rows, int channels, const std::string& type, bool add, bool relu) {
    return NormShape{rows, channels, float_type(type),
                     add    ? NormForm::ADD_RELU
                     : relu ? NormForm::RELU
                            : NormForm::NORM};
}

NarrowShape narrow_shape(int64_t rows, int64_t inputs, int outputs, const std::string& type) {
    return NarrowShape{rows, inputs, outputs, float_type(type)};
}

// Tensors in the order of the struct's members; 0 for one that is not there.
NarrowForward narrow_forward(const std::array<Address, 4>& tensors) {
    return NarrowForward{pointer<const void>(tensors[0]), pointer<const void>(tensors[1]),
                         pointer<const void>(tensors[2]), pointer<void>(tensors[3])};
}

NarrowBackward narrow_backward(const std::array<Address, 6>& tensors) {
    return NarrowBackward{pointer<const void>(tensors[0]), pointer<const void>(tensors[1]),
                          pointer<const void>(tensors[2]), pointer<void>(tensors[3]),
                          pointer<void>(tensors[4]),       pointer<void>(tensors[5])};
}

// Tensors in the order of the struct's members; 0 for one that is not there.
NormForward norm_forward(const std::array<Address, 11>& tensors, double eps, double momentum) {
    return NormForward{pointer<const void>(tensors[0]),
                       pointer<const void>(tensors[1]),
                       pointer<const void>(tensors[2]),
                       pointer<const void>(tensors[3]),
                       pointer<void>(tensors[4]),
                       pointer<void>(tensors[5]),
                       pointer<void>(tensors[6]),
                       pointer<void>(tensors[7]),
                       pointer<void>(tensors[8]),
                       pointer<int64_t>(tensors[9]),
                       pointer<double>(tensors[10]),
                       eps,
                       momentum};
}

NormBackward norm_backward(const std::array<Address, 13>& tensors) {
    return NormBackward{
        pointer<const void>(tensors[0]), pointer<const void>(tensors[1]), pointer<const void>(tensors[2]),
        pointer<const void>(tensors[3]), pointer<const void>(tensors[4]), pointer<const void>(tensors[5]),
        pointer<const void>(tensors[6]), pointer<void>(tensors[7]),       pointer<void>(tensors[8]),
        pointer<void>(tensors[9]),       pointer<void>(tensors[10]),      pointer<void>(tensors[11]),
        pointer<double>(tensors[12])};
}

CrossEntropy cross_entropy(Address logits, Address labels, int64_t examples, int classes,
                           const std::string& type, Address gradient, Address loss, Address losses) {
    return CrossEntropy{pointer<const void>(logits),
                        pointer<const int64_t>(labels),
                        examples,
                        classes,
                        float_type(type),
                        pointer<void>(gradient),
                        pointer<void>(loss),
                        pointer<double>(losses)};
}

void bind_training(py::module_& m) {
    bind_fo_pool(m);
    py::class_<Segments>(m, "Segments")
        .def(py::init([](const std::vector<std::tuple<int64_t, int64_t, double, double>>& rows) {
            return Segments{segment_list(rows)};
        }));

    m.def(
        "sgd_cpu",
        [](const std::array<Address, 3>& buffers, const Segments& segments, double lr, double momentum,
           bool nesterov, bool zero_gradients, Address now, Address skip, int threads) {
            sgd_cpu(flat_sgd(buffers), segments.list,
                    SgdOptions{lr, static_cast<float>(momentum), nesterov, zero_gradients,
                               step_source(now, skip)},
                    threads);
        },
        py::call_guard<Unlocked>());
    m.def(
        "adam_cpu",
        [](const std::array<Address, 4>& buffers, const Segments& segments, double lr, double beta1,
           double beta2, double eps, int64_t step, bool zero_gradients, Address now, Address skip,
           int threads) {
            adam_cpu(flat_adam(buffers), segments.list,
                     AdamOptions{lr, beta1, beta2, eps, step, zero_gradients, step_source(now, skip)},
                     threads);
        },
        py::call_guard<Unlocked>());
    m.def(
        "dropout_mask_cpu",
        [](Address out, bool bfloat16, Address example_ids, int64_t examples, int64_t elements, double p,
           uint64_t seed, uint32_t step, uint32_t layer, Address now, int threads) {
            dropout_mask_cpu(pointer<void>(out), float_type(bfloat16), pointer<const int64_t>(example_ids),
                             examples, elements, p,
                             DropoutKey{seed, step, layer, pointer<const StepValues>(now)}, threads);
        },
        py::call_guard<Unlocked>());

    py::class_<NormShape>(m, "NormShape").def(py::init(&norm_shape));
    py::class_<NormForward>(m, "NormForward").def(py::init(&norm_forward));
    py::class_<NormBackward>(m, "NormBackward").def(py::init(&norm_backward));
    py::class_<CrossEntropy>(m, "CrossEntropy").def(py::init(&cross_entropy));
    py::class_<StepBatch>(m, "StepBatch").def(py::init(&step_batch));
    m.attr("step_values_words") = sizeof(StepValues) / 8;
    py::class_<NarrowShape>(m, "NarrowShape").def(py::init(&narrow_shape));
    py::class_<NarrowForward>(m, "NarrowForward").def(py::init(&narrow_forward));
    py::class_<NarrowBackward>(m, "NarrowBackward").def(py::init(&narrow_backward));
    m.attr("narrow_outputs") = kNarrowOutputs;
    m.def("narrow_linear_cpu", &narrow_linear_cpu, py::call_guard<Unlocked>());
    m.def("narrow_linear_gradient_cpu", &narrow_linear_gradient_cpu, py::call_guard<Unlocked>());
    m.def("norm_partials", &norm_partials);
    m.def("batch_norm_cpu", &batch_norm_cpu, py::call_guard<Unlocked>());
    m.def("batch_norm_gradient_cpu", &batch_norm_gradient_cpu, py::call_guard<Unlocked>());
    m.def("cross_entropy_cpu", &cross_entropy_cpu, py::call_guard<Unlocked>());
    m.def("begin_step_cpu", &begin_step_cpu, py::call_guard<Unlocked>());
    m.def(
        "end_step_cpu",
        [](Address loss, Address losses, Address position) {
            end_step_cpu(pointer<const float>(loss), pointer<float>(losses), pointer<int64_t>(position));
        },
        py::call_guard<Unlocked>());
#ifdef POPNET_CUDA
    m.def(
        "sgd_cuda",
        [](const std::array<Address, 3>& buffers, const Segments& segments, double lr, double momentum,
           bool nesterov, bool zero_gradients, Address now, Address skip, Address stream) {
            sgd_cuda(flat_sgd(buffers), segments.list,
                     SgdOptions{lr, static_cast<float>(momentum), nesterov, zero_gradients,
                                step_source(now, skip)},
                     pointer<void>(stream));
        },
        py::call_guard<Unlocked>());
    m.def(
        "adam_cuda",
        [](const std::array<Address, 4>& buffers, const Segments& segments, double lr, double beta1,
           double beta2, double eps, int64_t step, bool zero_gradients, Address now, Address skip,
           Address stream) {
            adam_cuda(flat_adam(buffers), segments.list,
                      AdamOptions{lr, beta1, beta2, eps, step, zero_gradients, step_source(now, skip)},
                      pointer<void>(stream));
        },
        py::call_guard<Unlocked>());
    m.def(
        "dropout_mask_cuda",
        [](Address out, bool bfloat16, Address example_ids, int64_t examples, int64_t elements, double p,
           uint64_t seed, uint32_t step, uint32_t layer, Address now, Address stream) {
            dropout_mask_cuda(pointer<void>(out), float_type(bfloat16), pointer<const int64_t>(example_ids),
                              examples, elements, p,
                              DropoutKey{seed, step, layer, pointer<const StepValues>(now)},
                              pointer<void>(stream));
        },
        py::call_guard<Unlocked>());
    m.def(
        "batch_norm_cuda",
        [](const NormForward& arrays, const NormShape& shape, Address stream) {
            batch_norm_cuda(arrays, shape, pointer<void>(stream));
        },
        py::call_guard<Unlocked>());
    m.def(
        "batch_norm_gradient_cuda",
        [](const NormBackward& arrays, const NormShape& shape, Address stream) {
            batch_norm_gradient_cuda(arrays, shape, pointer<void>(stream));
        },
        py::call_guard<Unlocked>());
    m.def(
        "cross_entropy_cuda",
        [](const CrossEntropy& batch, Address stream) { cross_entropy_cuda(batch, pointer<void>(stream)); },
        py::call_guard<Unlocked>());
    m.def(
        "begin_step_cuda",
        [](const StepBatch& batch, Address stream) { begin_step_cuda(batch, pointer<void>(stream)); },
        py::call_guard<Unlocked>());
    m.def(
        "end_step_cuda",
        [](Address loss, Address losses, Address position, Address stream) {
            end_step_cuda(pointer<const float>(loss), pointer<float>(losses), pointer<int64_t>(position),
                          pointer<void>(stream));
        },
        py::call_guard<Unlocked>());
#endif
}

// ---- metrics ----

MemberScores member_scores(const std::array<Address, 4>& out) {
    return MemberScores{pointer<int64_t>(out[0]), pointer<uint64_t>(out[1]), pointer<int64_t>(out[2]),
                        pointer<int32_t>(out[3])};
}

Logits logits(Address values, const std::array<int64_t, 3>& shape) {
    return Logits{pointer<const float>(values), shape[0], shape[1], shape[2]};
}

UnitSums unit_sums(Address sums, Address squares) {
    return UnitSums{pointer<uint64_t>(sums), pointer<uint64_t>(squares)};
}

Correlation correlation(bool ranks) {
    return ranks ? Correlation::SPEARMAN : Correlation::PEARSON;
}

PairSlice pair_slice(Address values, int64_t member_stride, Address rows, const std::array<int64_t, 3>& shape,
                     Address labels) {
    return PairSlice{pointer<const float>(values),
                     member_stride,
                     pointer<const int64_t>(rows),
                     shape[0],
                     shape[1],
                     shape[2],
                     pointer<const int64_t>(labels)};
}

TokenSlice token_slice(Address values, int64_t member_stride, Address rows,
                       const std::array<int64_t, 2>& shape) {
    return TokenSlice{pointer<const float>(values), member_stride, pointer<const int64_t>(rows), shape[0],
                      shape[1]};
}

void bind_language_metrics(py::module_& m) {
    py::class_<TokenSlice>(m, "TokenSlice").def(py::init(&token_slice));
    m.attr("token_chunk") = kTokens;

    m.def(
        "token_sums_cpu",
        [](Address sums, const TokenSlice& slice, int threads) {
            token_sums_cpu(pointer<int64_t>(sums), slice, threads);
        },
        py::call_guard<Unlocked>());
    m.def(
        "mixture_log_products_cpu",
        [](Address products, const TokenSlice& slice, int threads) {
            mixture_log_products_cpu(pointer<double>(products), slice, threads);
        },
        py::call_guard<Unlocked>());
    m.def(
        "mean_log_probabilities_cpu",
        [](Address out, Address values, const std::array<int64_t, 3>& shape, bool normalised, int threads) {
            ViewValues views{pointer<const float>(values), shape[0], shape[1], shape[2]};
            mean_log_probabilities_cpu(pointer<float>(out), views, normalised, threads);
        },
        py::call_guard<Unlocked>());
    m.def("portable_exp", [](Address values, Address exponents, int64_t count) {
        for (int64_t i = 0; i < count; ++i) {
            pointer<double>(values)[i] = portable_exp(pointer<const double>(exponents)[i]);
        }
    });
#ifdef POPNET_CUDA
    m.def(
        "token_sums_cuda",
        [](Address sums, const TokenSlice& slice, Address stream) {
            token_sums_cuda(pointer<int64_t>(sums), slice, pointer<void>(stream));
        },
        py::call_guard<Unlocked>());
    m.def("mixture_workspace_cuda", &mixture_workspace_cuda);
    m.def(
        "mixture_log_products_cuda",
        [](Address products, const TokenSlice& slice, Address workspace, Address stream) {
            mixture_log_products_cuda(pointer<double>(products), slice, pointer<void>(workspace),
                                      pointer<void>(stream));
        },
        py::call_guard<Unlocked>());
#endif
}

void bind_metrics(py::module_& m) {
    using Shape = std::array<int64_t, 3>;  // members, examples, classes
    py::class_<PairSlice>(m, "PairSlice").def(py::init(&pair_slice));
    m.attr("exact_limbs") = kExactLimbs;
    m.attr("pair_chunk") = kChunk;

    m.def(
        "member_scores_cpu",
        [](Address values, const Shape& shape, Address labels, const std::array<Address, 4>& out,
           int threads) {
            member_scores_cpu(logits(values, shape), pointer<const int64_t>(labels), member_scores(out),
                              threads);
        },
        py::call_guard<Unlocked>());
    m.def(
        "exact_sums",
        [](Address values, Address limbs, int64_t count) {
            exact_sums(pointer<double>(values), pointer<int64_t>(limbs), count);
        },
        py::call_guard<Unlocked>());
    m.def(
        "first_nonfinite_cpu",
        [](Address values, int64_t count, int threads) {
            return first_nonfinite_cpu(pointer<const float>(values), count, threads);
        },
        py::call_guard<Unlocked>());
    m.def(
        "add_votes_cpu",
        [](Address votes, Address predictions, const Shape& shape, int threads) {
            add_votes_cpu(pointer<int64_t>(votes), pointer<const int32_t>(predictions), shape[0], shape[1],
                          shape[2], threads);
        },
        py::call_guard<Unlocked>());
    m.def(
        "differing_matrix_cpu",
        [](Address differing, Address predictions, int64_t members, int64_t examples, int threads) {
            differing_matrix_cpu(pointer<int64_t>(differing), pointer<const int32_t>(predictions), members,
                                 examples, threads);
        },
        py::call_guard<Unlocked>());
    m.def(
        "add_unit_vectors_cpu",
        [](Address sums, Address squares, Address values, int64_t members, int64_t count, bool ranks,
           int threads) {
            add_unit_vectors_cpu(unit_sums(sums, squares), pointer<const float>(values), members, count,
                                 correlation(ranks), threads);
        },
        py::call_guard<Unlocked>());
    m.def("sum_of_squares", [](Address sums, int64_t count) {
        std::array<uint64_t, 6> result;
        sum_of_squares(result.data(), pointer<const uint64_t>(sums), count);
        return result;
    });
    m.def(
        "centred_ranks_cpu",
        [](Address ranks, Address values, int64_t members, int64_t count, int threads) {
            centred_ranks_cpu(pointer<int32_t>(ranks), pointer<const float>(values), members, count, threads);
        },
        py::call_guard<Unlocked>());
    m.def("ensemble_gain_cpu", &ensemble_gain_cpu, py::call_guard<Unlocked>());
    m.def(
        "ensemble_correct_cpu",
        [](Address correct, const PairSlice& slice, int threads) {
            ensemble_correct_cpu(pointer<int64_t>(correct), slice, threads);
        },
        py::call_guard<Unlocked>());
    m.def(
        "ensemble_log_products_cpu",
        [](Address products, const PairSlice& slice, int threads) {
            ensemble_log_products_cpu(pointer<double>(products), slice, threads);
        },
        py::call_guard<Unlocked>());
    m.def(
        "bootstrap_deviations_cpu",
        [](Address deviations, Address values, int64_t statistics, int64_t members, int64_t resamples,
           uint64_t seed, int threads) {
            bootstrap_deviations_cpu(pointer<double>(deviations), pointer<const int64_t>(values), statistics,
                                     members, resamples, seed, threads);
        },
        py::call_guard<Unlocked>());
#ifdef POPNET_CUDA
    m.def(
        "member_scores_cuda",
        [](Address values, const Shape& shape, Address labels, const std::array<Address, 4>& out,
           Address stream) {
            member_scores_cuda(logits(values, shape), pointer<const int64_t>(labels), member_scores(out),
                               pointer<void>(stream));
        },
        py::call_guard<Unlocked>());
    m.def(
        "add_votes_cuda",
        [](Address votes, Address predictions, const Shape& shape, Address stream) {
            add_votes_cuda(pointer<int64_t>(votes), pointer<const int32_t>(predictions), shape[0], shape[1],
                           shape[2], pointer<void>(stream));
        },
        py::call_guard<Unlocked>());
    m.def(
        "differing_matrix_cuda",
        [](Address differing, Address predictions, int64_t members, int64_t examples, Address stream) {
            differing_matrix_cuda(pointer<int64_t>(differing), pointer<const int32_t>(predictions), members,
                                  examples, pointer<void>(stream));
        },
        py::call_guard<Unlocked>());
    m.def("unit_vectors_workspace_cuda", &unit_vectors_workspace_cuda);
    m.def(
        "add_unit_vectors_cuda",
        [](Address sums, Address squares, Address values, int64_t members, int64_t count, bool ranks,
           Address workspace, size_t workspace_bytes, Address stream) {
            add_unit_vectors_cuda(unit_sums(sums, squares), pointer<const float>(values), members, count,
                                  correlation(ranks), pointer<void>(workspace), workspace_bytes,
                                  pointer<void>(stream));
        },
        py::call_guard<Unlocked>());
    m.def(
        "centred_ranks_cuda",
        [](Address ranks, Address values, int64_t members, int64_t count, Address workspace,
           size_t workspace_bytes, Address stream) {
            centred_ranks_cuda(pointer<int32_t>(ranks), pointer<const float>(values), members, count,
                               pointer<void>(workspace), workspace_bytes, pointer<void>(stream));
        },
        py::call_guard<Unlocked>());
    m.def("ensemble_workspace_cuda", &ensemble_workspace_cuda);
    m.def(
        "ensemble_correct_cuda",
        [](Address correct, const PairSlice& slice, Address workspace, Address stream) {
            ensemble_correct_cuda(pointer<int64_t>(correct), slice, pointer<void>(workspace),
                                  pointer<void>(stream));
        },
        py::call_guard<Unlocked>());
    m.def(
        "ensemble_log_products_cuda",
        [](Address products, const PairSlice& slice, Address workspace, Address stream) {
            ensemble_log_products_cuda(pointer<double>(products), slice, pointer<void>(workspace),
                                       pointer<void>(stream));
        },
        py::call_guard<Unlocked>());
    m.def(
        "bootstrap_deviations_cuda",
        [](Address deviations, Address values, int64_t statistics, int64_t members, int64_t resamples,
           uint64_t seed, Address stream) {
            bootstrap_deviations_cuda(pointer<double>(deviations), pointer<const int64_t>(values), statistics,
                                      members, resamples, seed, pointer<void>(stream));
        },
        py::call_guard<Unlocked>());
#endif
}

}  // namespace
}  // namespace popnet

PYBIND11_MODULE(_native, m) {
    m.doc() = "popnet's native kernels; use popnet.native";
    popnet::bind_common(m);
    popnet::bind_data(m);
    popnet::bind_pictures(m);
    popnet::bind_training(m);
    popnet::bind_metrics(m);
    popnet::bind_language_metrics(m);
}
