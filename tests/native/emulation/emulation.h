// What the two halves of the emulation ask of each other.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <string>

namespace emulation {

// ---- execution.cpp: who runs ----

// One thread between two barriers of its block.
struct Place {
    uint32_t launch, block, phase;
    uint16_t thread;
};

// Where the present thread is; to be asked inside a kernel only.
Place here();
bool in_kernel();
bool on_a_threads_stack(uintptr_t address);

// Lets another thread of the block go on first.
void interrupt();

// Numbers that follow from EMULATION_SEED.
uint64_t draw();

// Tells of a fault in the kernel that runs, each text once, and lets the program end with exit code 4.
void complain(const std::string& fault);
std::string summary();
cudaError_t take_last_error();

// ---- memory.cpp: what they touch ----

void check_stream(cudaStream_t stream);
void open_device_memory();
void close_device_memory();

// A block begins, with shared memory of its own.
void begin_block();

uint64_t setting(const char* name, uint64_t otherwise);

}  // namespace emulation
