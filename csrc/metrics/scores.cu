#include "common/cuda.h"
#include "common/exact_sum.h"
#include "common/portable_math.h"
#include "metrics/scores.h"

namespace popnet {
namespace {

constexpr int kThreads = 256;
constexpr int kPairSide = 16;

__device__ void add_integer(int64_t* sum, int64_t value) {
    atomicAdd(reinterpret_cast<unsigned long long*>(sum), static_cast<unsigned long long>(value));
}

// One thread an example, one row of blocks a member; the exact sum is gathered in shared memory, integers in
// any order.
__global__ void score(Logits logits, const int64_t* labels, MemberScores out) {
    __shared__ int64_t limbs[kExactLimbs];
    __shared__ int64_t correct;
    int64_t examples = logits.examples, classes = logits.classes, words = (examples + 63) / 64;
    int64_t e = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
    for (int64_t member = blockIdx.y; member < logits.members; member += gridDim.y) {
        for (int k = threadIdx.x; k < kExactLimbs; k += kThreads) limbs[k] = 0;
        if (threadIdx.x == 0) correct = 0;
        __syncthreads();
        bool right = false;
        if (e < examples) {
            const float* z = logits.values + (member * examples + e) * classes;
            float most = z[0];
            int32_t prediction = 0;
            for (int64_t c = 1; c < classes; ++c) {
                if (z[c] > most) {
                    most = z[c];
                    prediction = static_cast<int32_t>(c);
                }
            }
            double shift = most, sum = 0.0;
            for (int64_t c = 0; c < classes; ++c) sum += portable_exp(static_cast<double>(z[c]) - shift);
            double loss = portable_log(sum) - (static_cast<double>(z[labels[e]]) - shift);
            right = prediction == labels[e];
            if (out.predictions) out.predictions[member * examples + e] = prediction;
            ExactParts parts = exact_parts(loss);
            for (int i = 0; i < 3; ++i) add_integer(&limbs[parts.limb + i], parts.part[i]);
        }
        unsigned right_lanes = __ballot_sync(0xffffffffu, right);
        if (threadIdx.x % 32 == 0) {
            if (out.correct_bits && e / 32 < 2 * words) {
                reinterpret_cast<uint32_t*>(out.correct_bits + member * words)[e / 32] = right_lanes;
            }
            add_integer(&correct, __popc(right_lanes));
        }
        __syncthreads();
        for (int k = threadIdx.x; k < kExactLimbs; k += kThreads) {
            if (limbs[k] != 0) add_integer(&out.losses[member * kExactLimbs + k], limbs[k]);
        }
        if (threadIdx.x == 0 && out.correct) add_integer(&out.correct[member], correct);
        __syncthreads();
    }
}

// One thread an example.
__global__ void count_votes(int64_t* votes, const int32_t* predictions, int64_t members, int64_t examples,
                            int64_t classes) {
    int64_t stride = static_cast<int64_t>(gridDim.x) * blockDim.x;
    for (int64_t e = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; e < examples; e += stride) {
        for (int64_t m = 0; m < members; ++m) ++votes[e * classes + predictions[m * examples + e]];
    }
}

// One thread a pair, kPairSide x kPairSide pairs a block; a pair counts where it stands above the diagonal.
__global__ void count_differing(int64_t* differing, const int32_t* predictions, int64_t members,
                                int64_t examples) {
    if (blockIdx.x < blockIdx.y) return;
    int64_t i = static_cast<int64_t>(blockIdx.y) * kPairSide + threadIdx.y;
    int64_t j = static_cast<int64_t>(blockIdx.x) * kPairSide + threadIdx.x;
    __shared__ int32_t rows[kPairSide][kPairSide + 1], columns[kPairSide][kPairSide + 1];
    int64_t column_member = static_cast<int64_t>(blockIdx.x) * kPairSide + threadIdx.y;
    int64_t count = 0;
    for (int64_t first = 0; first < examples; first += kPairSide) {
        int64_t e = first + threadIdx.x;
        rows[threadIdx.y][threadIdx.x] = i < members && e < examples ? predictions[i * examples + e] : 0;
        columns[threadIdx.y][threadIdx.x] =
            column_member < members && e < examples ? predictions[column_member * examples + e] : 0;
        __syncthreads();
        for (int k = 0; k < kPairSide; ++k) count += rows[threadIdx.y][k] != columns[threadIdx.x][k];
        __syncthreads();
    }
    if (i <= j && j < members) differing[i * members + j] = differing[j * members + i] = count;
}

}  // namespace

// `correct` is added to: the caller zeroes it, as it does `losses`.
void member_scores_cuda(const Logits& logits, const int64_t* labels, const MemberScores& out, void* stream) {
    if (logits.members == 0 || logits.examples == 0) return;
    dim3 blocks(static_cast<unsigned>((logits.examples + kThreads - 1) / kThreads), rows_for(logits.members));
    score<<<blocks, kThreads, 0, static_cast<cudaStream_t>(stream)>>>(logits, labels, out);
    check_cuda(cudaGetLastError(), "member scores");
}

void add_votes_cuda(int64_t* votes, const int32_t* predictions, int64_t members, int64_t examples,
                    int64_t classes, void* stream) {
    count_votes<<<blocks_for(examples, kThreads), kThreads, 0, static_cast<cudaStream_t>(stream)>>>(
        votes, predictions, members, examples, classes);
    check_cuda(cudaGetLastError(), "votes");
}

void differing_matrix_cuda(int64_t* differing, const int32_t* predictions, int64_t members, int64_t examples,
                           void* stream) {
    if (members == 0) return;
    unsigned side = static_cast<unsigned>((members + kPairSide - 1) / kPairSide);
    count_differing<<<dim3(side, side), dim3(kPairSide, kPairSide), 0, static_cast<cudaStream_t>(stream)>>>(
        differing, predictions, members, examples);
    check_cuda(cudaGetLastError(), "differing predictions");
}

}  // namespace popnet
