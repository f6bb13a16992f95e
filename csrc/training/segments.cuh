// Launches one kernel for many segments: the table travels as a kernel argument, so nothing is copied or
// allocated.
#pragma once

#include <vector>

#include "common/cuda.h"
#include "training/segments.h"

namespace popnet {

constexpr int kSegmentThreads = 256;
constexpr int kElementsPerBlock = 4 * kSegmentThreads;
constexpr int kSegmentsPerLaunch = 96;  // the table stays below the 4 KB that kernel arguments may take

// Options: what a kernel needs to know of a segment besides its place, a trivially copyable struct.
template <typename Options>
struct SegmentTable {
    int64_t offset[kSegmentsPerLaunch], length[kSegmentsPerLaunch];
    Options options[kSegmentsPerLaunch];
    int first_block[kSegmentsPerLaunch + 1];
    int size;
};

// A block updates kElementsPerBlock neighbouring elements of the one segment it belongs to.
template <typename Options, typename Update>
__global__ void update_segments(const SegmentTable<Options> table, Update update) {
    int block = static_cast<int>(blockIdx.x);
    int segment = 0,
        above = table.size;  // binary search: first_block[segment] <= block < first_block[segment + 1]
    while (above - segment > 1) {
        int middle = (segment + above) / 2;
        if (table.first_block[middle] <= block) {
            segment = middle;
        } else {
            above = middle;
        }
    }
    int64_t first = static_cast<int64_t>(block - table.first_block[segment]) * kElementsPerBlock;
    for (int k = 0; k < kElementsPerBlock / kSegmentThreads; ++k) {
        int64_t element = first + k * kSegmentThreads + threadIdx.x;
        if (element < table.length[segment]) update(table.offset[segment] + element, table.options[segment]);
    }
}

template <typename Options, typename Update, typename OptionsOf>
void launch_segments(const std::vector<Segment>& segments, OptionsOf options_of, Update update, void* stream,
                     const char* what) {
    SegmentTable<Options> table;
    static_assert(sizeof(table) + sizeof(Update) <= 4000);
    table.size = 0;
    table.first_block[0] = 0;
    auto launch = [&] {
        if (table.first_block[table.size] > 0) {
            update_segments<Options, Update>
                <<<table.first_block[table.size], kSegmentThreads, 0, static_cast<cudaStream_t>(stream)>>>(
                    table, update);
            check_cuda(cudaGetLastError(), what);
        }
        table.size = 0;
    };
    for (const Segment& segment : segments) {
        if (segment.length == 0) continue;
        int64_t blocks = (segment.length + kElementsPerBlock - 1) / kElementsPerBlock;
        table.offset[table.size] = segment.offset;
        table.length[table.size] = segment.length;
        table.options[table.size] = options_of(segment);
        table.first_block[table.size + 1] = table.first_block[table.size] + static_cast<int>(blocks);
        if (++table.size == kSegmentsPerLaunch) launch();
    }
    launch();
}

}  // namespace popnet
