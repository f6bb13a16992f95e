// CUDA on the CPU, for tests alone: the part of the runtime and of the language that popnet's kernels use.
//
// The threads of a block are fibers: between two points where CUDA synchronises them they run one after the
// other, in an order drawn from a seed; blocks run one after the other, in an order drawn too. A result that
// depends on the order differs between seeds. Device memory can only be touched inside a
// launch. Built with EMULATION_WATCH, every access is looked at as well (memory.cpp).
//
// Environment: EMULATION_SEED, a number; EMULATION_MOST_BLOCKS, a limit of what blocks_for gives, so that the
// loops over the rest loop; EMULATION_INTERRUPT=N, which interrupts a thread at one of N accesses (watch).
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)

struct uint3 {
    unsigned x, y, z;
};
struct dim3 {
    unsigned x, y, z;
    constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};
struct alignas(16) double2 {
    double x, y;
};

extern uint3 threadIdx, blockIdx;
extern dim3 blockDim, gridDim;

// ---- the runtime's functions ----

struct EmulatedStream;
using cudaStream_t = EmulatedStream*;
enum cudaError_t {
    cudaSuccess = 0,
    cudaErrorInvalidValue = 1,
    cudaErrorMemoryAllocation = 2,
    cudaErrorInvalidConfiguration = 9,
};
enum cudaMemcpyKind { cudaMemcpyHostToDevice = 1, cudaMemcpyDeviceToHost = 2 };

cudaError_t cudaGetLastError();
const char* cudaGetErrorString(cudaError_t error);
cudaError_t cudaGetDeviceCount(int* count);
cudaError_t cudaStreamCreate(cudaStream_t* stream);
cudaError_t cudaStreamSynchronize(cudaStream_t stream);
cudaError_t cudaMalloc(void** memory, size_t bytes);
cudaError_t cudaFree(void* memory);
cudaError_t cudaMemcpy(void* to, const void* from, size_t bytes, cudaMemcpyKind kind);
cudaError_t cudaMemsetAsync(void* memory, int value, size_t bytes, cudaStream_t stream);

// ---- launches, barriers, warps ----

namespace emulation {

int64_t most_blocks();

void run(dim3 grid, dim3 block, cudaStream_t stream, const char* kernel, void (*body)(const void*),
         const void* context);

// What rewrite.py makes of a launch. `body` calls the kernel as one thread of it.
template <typename Body>
void launch(dim3 grid, dim3 block, size_t, cudaStream_t stream, const char* kernel, const Body& body) {
    run(
        grid, block, stream, kernel, [](const void* context) { (*static_cast<const Body*>(context))(); },
        &body);
}

template <typename Body>
void launch(dim3 grid, dim3 block, const char* kernel, const Body& body) {
    launch(grid, block, 0, nullptr, kernel, body);
}

// A __shared__ variable: one for each block, where it begins as garbage. rewrite.py makes a static one of
// each declaration.
struct SharedVariable {
    const char* name;
    size_t bytes;
    void* memory = nullptr;
    uint64_t block = 0;  // the number of the last that had it

    void* in_this_block();
};

enum class Exchange { DOWN, XOR, INDEX, BALLOT };

int barrier(int line, int predicate);
uint64_t exchange(int line, Exchange kind, unsigned mask, uint64_t value, unsigned parameter);
void atomic_access(const void* memory, size_t bytes);

template <typename T>
T shuffle(int line, Exchange kind, unsigned mask, T value, unsigned parameter) {
    static_assert(sizeof(T) <= sizeof(uint64_t));
    uint64_t bits = 0;
    std::memcpy(&bits, &value, sizeof value);
    bits = exchange(line, kind, mask, bits, parameter);
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

}  // namespace emulation

#define __syncthreads() ((void)::emulation::barrier(__LINE__, 0))
#define __syncthreads_or(predicate) ::emulation::barrier(__LINE__, (predicate) ? 1 : 0)
#define __shfl_down_sync(mask, value, delta) \
    ::emulation::shuffle(__LINE__, ::emulation::Exchange::DOWN, mask, value, delta)
#define __shfl_xor_sync(mask, value, lanes) \
    ::emulation::shuffle(__LINE__, ::emulation::Exchange::XOR, mask, value, lanes)
#define __shfl_sync(mask, value, lane) \
    ::emulation::shuffle(__LINE__, ::emulation::Exchange::INDEX, mask, value, lane)
#define __ballot_sync(mask, predicate) \
    static_cast<unsigned>(             \
        ::emulation::exchange(__LINE__, ::emulation::Exchange::BALLOT, mask, (predicate) ? 1 : 0, 0))

// ---- arithmetic ----

__attribute__((no_sanitize("thread"))) inline unsigned long long atomicAdd(unsigned long long* memory,
                                                                           unsigned long long value) {
    ::emulation::atomic_access(memory, sizeof *memory);
    unsigned long long before = *memory;
    *memory = before + value;
    return before;
}
inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
    return static_cast<unsigned long long>(static_cast<unsigned __int128>(a) * b >> 64);
}
inline float __int_as_float(int bits) {
    float value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}
inline double __longlong_as_double(long long bits) {
    double value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}
inline int __popc(unsigned bits) {
    return __builtin_popcount(bits);
}
