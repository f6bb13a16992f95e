"""Faults to plant in the kernels, each of which the emulation must find: a test of the tests."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Fault:
    """A change of one file of csrc.

    Attributes:
        what: in a few words.
        file: in csrc.
        before, after: the text to replace, which the file holds once, and what takes its place.
        checks: the text that names the checks to run.
        flavour: the build that finds it (CMakeLists.txt): PLAIN by a result or a broken rule, ASAN by an address,
            WATCH by a race or a read of what nobody wrote.
    """

    what: str
    file: str
    before: str
    after: str
    checks: str
    flavour: str = "PLAIN"


FAULTS = (
    Fault(
        "batch norm: no barrier before lanes are merged",
        "training/batch_norm.cu",
        "    __syncthreads();\n    for (int half = partition.lanes / 2",
        "    for (int half = partition.lanes / 2",
        "257x68 fp32",
    ),
    Fault(
        "batch norm: no barrier between two halvings",
        "training/batch_norm.cu",
        "            }\n        }\n        __syncthreads();\n    }\n    int channel = first_channel",
        "            }\n        }\n    }\n    int channel = first_channel",
        "257x68 fp32",
    ),
    Fault(
        "batch norm: a row too far",
        "training/batch_norm.cu",
        "if (row < partition.rows) f(",
        "if (row <= partition.rows) f(",
        "257x68 fp32",
        "ASAN",
    ),
    Fault(
        "batch norm: three warps finish four channels",
        "training/batch_norm.cu",
        "constexpr int kFinishThreads = kFinishChannels * kMergers;",
        "constexpr int kFinishThreads = 3 * kMergers;",
        "257x68 fp32",
    ),
    Fault(
        "batch norm: a warp cut in two",
        "training/batch_norm.cu",
        "constexpr int kFinishThreads = kFinishChannels * kMergers;",
        "constexpr int kFinishThreads = 100;",
        "257x68 fp32",
    ),
    Fault(
        "batch norm: every channel counts the batch",
        "training/batch_norm.cu",
        "if (channel == 0) *arrays.batches += 1;",
        "*arrays.batches += 1;",
        "257x68 fp32",
    ),
    Fault(
        "batch norm: packs of four where channels divide by two",
        "training/batch_norm.cu",
        "partition.channels % 4 != 0",
        "partition.channels % 2 != 0",
        "513x66 fp32",
        "ASAN",
    ),
    Fault(
        "batch norm: packs at any address",
        "training/batch_norm.cu",
        "% (4 * sizeof(T)) == 0",
        "% sizeof(T) == 0",
        "300x64 fp32",
        "WATCH",
    ),
    Fault(
        "batch norm: gradient of the residual never written",
        "training/batch_norm.cu",
        "store<T, kPack>(static_cast<T*>(arrays.residual_gradient), i, y);",
        ";",
        "257x68 fp32 add",
    ),
    Fault(
        "batch norm: mean and deviation swapped",
        "training/batch_norm.cu",
        "static_cast<R*>(arrays.mean)[channel] = static_cast<R>(moments.mean);",
        "static_cast<R*>(arrays.mean)[channel] = static_cast<R>(moments.inverse_sd);",
        "257x68 fp32",
    ),
    Fault(
        "batch norm: packs whatever the address of the residual's gradient",
        "training/batch_norm.cu",
        "{arrays.gradient, arrays.x, arrays.y, arrays.x_gradient, arrays.residual_gradient}",
        "{arrays.gradient, arrays.x, arrays.y, arrays.x_gradient}",
        "shifted: gradient of residual",
        "WATCH",
    ),
    Fault(
        "dropout: every second piece left out",
        "training/dropout.cu",
        "         i += stride) {",
        "         i += 2 * stride) {",
        "dropout 300",
    ),
    Fault(
        "scores: votes of every second piece left out",
        "metrics/scores.cu",
        "e < examples; e += stride) {",
        "e < examples; e += 2 * stride) {",
        "votes",
    ),
    Fault(
        "mixture: sums begin anew",
        "metrics/mixture.cu",
        "sums[member * kExactLimbs + k] += limbs[k];",
        "sums[member * kExactLimbs + k] = limbs[k];",
        "tokens",
    ),
    Fault(
        "mixture: members lie close together",
        "metrics/mixture.cu",
        "slice.rows[member] * slice.member_stride",
        "slice.rows[member] * slice.tokens",
        "tokens",
    ),
    Fault(
        "pairs: members lie close together",
        "metrics/pairs.cu",
        "slice.rows[member] * slice.member_stride",
        "slice.rows[member] * slice.examples * slice.classes",
        "pairs",
    ),
    Fault(
        "correlation: no barrier after a sum is read",
        "metrics/correlation.cu",
        "    double sum = lanes[0];\n    __syncthreads();\n",
        "    double sum = lanes[0];\n",
        "correlation, members",
    ),
    Fault(
        "correlation: squares not cleared at first",
        "metrics/correlation.cu",
        "cudaMemsetAsync(work.squares, 0, count * sizeof(DigitSums), cuda_stream)",
        "cudaMemsetAsync(work.squares, 0, 0, cuda_stream)",
        "correlation, members",
    ),
    Fault(
        "correlation: squares not cleared in between",
        "metrics/correlation.cu",
        "squares[m] = DigitSums{};",
        "",
        "correlation, members",
    ),
    Fault(
        "correlation: a carry too many",
        "metrics/correlation.cu",
        "(sum < low ? 1 : 0)",
        "(sum <= low ? 1 : 0)",
        "correlation, members whose values",
    ),
    Fault(
        "correlation: threads stride over one block",
        "metrics/correlation.cu",
        "return static_cast<int64_t>(gridDim.x) * blockDim.x;",
        "return blockDim.x;",
        "correlation, members",
    ),
    Fault(
        "correlation: plain += for atomicAdd",
        "metrics/correlation.cu",
        "atomicAdd(&total->digit[i], sums.digit[i]);",
        "total->digit[i] += sums.digit[i];",
        "correlation, members",
        "WATCH",
    ),
    Fault(
        "correlation: ranks overwrite the sorted places",
        "metrics/correlation.cu",
        "int32_t* ranks = work.places;",
        "int32_t* ranks = work.sorted_places;",
        "correlation, members",
    ),
    Fault(
        "correlation: half a warp's mask",
        "metrics/correlation.cu",
        "__shfl_down_sync(0xffffffffu, sums.digit[i], lane)",
        "__shfl_down_sync(0x0000ffffu, sums.digit[i], lane)",
        "correlation, members",
    ),
    Fault(
        "scores: no barrier after sums are cleared",
        "metrics/scores.cu",
        "if (threadIdx.x == 0) correct = 0;\n        __syncthreads();",
        "if (threadIdx.x == 0) correct = 0;",
        "scores",
    ),
    Fault(
        "scores: no second barrier",
        "metrics/scores.cu",
        "!= columns[threadIdx.x][k];\n        __syncthreads();",
        "!= columns[threadIdx.x][k];",
        "differences",
    ),
    Fault(
        "scores: pairs on the diagonal written twice",
        "metrics/scores.cu",
        "if (i <= j && j < members)",
        "if (i < members && j < members)",
        "differences",
        "WATCH",
    ),
    Fault(
        "scores: a word beyond the last",
        "metrics/scores.cu",
        "e / 32 < 2 * words",
        "e / 32 <= 2 * words",
        "scores",
        "ASAN",
    ),
    Fault(
        "scores: work on the default stream",
        "metrics/scores.cu",
        "    score<<<blocks, kThreads, 0, static_cast<cudaStream_t>(stream)>>>(logits, labels, out);",
        "    score<<<blocks, kThreads>>>(logits, labels, out);",
        "scores",
    ),
    Fault(
        "scores: nothing launched is nothing to do",
        "metrics/scores.cu",
        "if (logits.members == 0 || logits.examples == 0) return;",
        "if (logits.members == 0) return;",
        "scores 2x0x3",
    ),
    Fault(
        "mixture: no second barrier",
        "metrics/mixture.cu",
        "        }\n        __syncthreads();\n    }\n    if (inside) products",
        "        }\n    }\n    if (inside) products",
        "tokens 18",
    ),
    Fault(
        "mixture: factors beyond the text's end",
        "metrics/mixture.cu",
        "for (int64_t t = 1; t < tokens; ++t) product *=",
        "for (int64_t t = 1; t < kTokens; ++t) product *=",
        "tokens 18",
    ),
    Fault(
        "pairs: a tie decides for the higher class",
        "metrics/pairs.cu",
        "if (below && tie) {",
        "if (false && tie) {",
        "pairs, ties",
    ),
    Fault(
        "segments: an element too far",
        "training/segments.cuh",
        "if (element < table.length[segment])",
        "if (element <= table.length[segment])",
        "sgd 6",
    ),
    Fault(
        "step: labels by place instead of example",
        "training/step.cu",
        "batch.labels[i] = batch.all_labels[index];",
        "batch.labels[i] = batch.all_labels[i];",
        "step",
    ),
    Fault(
        "dropout: a fifth element of four words",
        "training/dropout.cu",
        "if (e >= elements) break;",
        "if (e > elements) break;",
        "dropout 5x33",
        "ASAN",
    ),
    Fault(
        "augmentation: no barrier before the placement is read",
        "data/augment.cu",
        "images.height, images.width);\n        }\n        __syncthreads();",
        "images.height, images.width);\n        }",
        "augment 8x8",
    ),
    Fault(
        "augmentation: one image a block however many there are",
        "data/augment.cu",
        "b < batch; b += gridDim.x",
        "b < gridDim.x; b += gridDim.x",
        "augment 8x8",
    ),
    Fault(
        "fo-pooling: the state before the first step read from the cells",
        "training/fo_pool.cu",
        "t > 0 ? pool.cells[at - columns] : pool.initial[column]",
        "pool.cells[at - columns]",
        "fo-pooling 5",
        "ASAN",
    ),
    Fault(
        "cross-entropy: no barrier before series are merged",
        "training/cross_entropy.cu",
        "series[threadIdx.x] = sum;\n    __syncthreads();",
        "series[threadIdx.x] = sum;",
        "cross-entropy 259",
    ),
    Fault(
        "cross-entropy: the sum stays in its first lane",
        "training/cross_entropy.cu",
        "    sum = __shfl_sync(0xffffffffu, sum, 0);\n",
        "",
        "cross-entropy 3x33",
    ),
)
