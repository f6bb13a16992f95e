// Launches: the threads of a block as fibers, their barriers and the exchanges of their warps.
#include <sys/mman.h>

#include <cstdio>
#include <memory>
#include <set>
#include <unordered_set>
#include <utility>
#include <vector>

#include "emulation.h"

#if !defined(__x86_64__)
#error "the emulation switches stacks in x86-64's machine code"
#endif
#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

// Keeps the registers that a call must keep on the present stack, and takes up the other one.
extern "C" void emulation_switch(void** from, void* to);
asm(R"(
.text
.type emulation_switch, @function
emulation_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
)");

namespace emulation {
namespace {

constexpr size_t kStackBytes = size_t{1} << 16, kGuardBytes = 4096;
constexpr unsigned kWarp = 32;
constexpr int kFaulty = 4;  // exit code

enum class State { READY, AT_BARRIER, IN_EXCHANGE, ENDED };

// A thread of the block that runs.
struct Fiber {
    char* stack = nullptr;
    void* top = nullptr;  // of what is on the stack
    uint3 index{};
    unsigned number = 0;
    State state = State::READY;
    int line = 0;       // of the barrier or exchange it waits in
    int predicate = 0;  // of a barrier
    Exchange kind{};
    unsigned mask = 0, parameter = 0;
    uint64_t value = 0;
#if defined(__SANITIZE_ADDRESS__)
    void* shadow_stack = nullptr;
#endif
};

std::vector<std::unique_ptr<Fiber>> fibers;  // as many as the largest block so far has threads
std::vector<Fiber*> ready;
Fiber* current = nullptr;
void* launcher_top = nullptr;
#if defined(__SANITIZE_ADDRESS__)
void* launcher_shadow_stack = nullptr;
const void* launcher_stack = nullptr;
size_t launcher_stack_bytes = 0;
#endif

const char* kernel = "";
void (*body)(const void*) = nullptr;
const void* context = nullptr;
unsigned threads = 0;
uint32_t launch_number = 0, block_number = 0, phase = 0;
cudaError_t last_error = cudaSuccess;

uint64_t random_state = 0, complaint_count = 0;
std::unordered_set<std::string> told;
std::set<std::string> launched;

[[noreturn]] void give_up(const std::string& fault) {
    complain(fault);
    std::fflush(stdout);
    std::_Exit(kFaulty);
}

// ---- switching ----

void leave([[maybe_unused]] bool for_good) {
    Fiber* self = current;
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_start_switch_fiber(for_good ? nullptr : &self->shadow_stack, launcher_stack,
                                   launcher_stack_bytes);
#endif
    emulation_switch(&self->top, launcher_top);
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(self->shadow_stack, &launcher_stack, &launcher_stack_bytes);
#endif
}

void first_steps() {
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(nullptr, &launcher_stack, &launcher_stack_bytes);
#endif
    body(context);
    current->state = State::ENDED;
    leave(true);
    std::abort();
}

void resume(Fiber* fiber) {
    current = fiber;
    threadIdx = fiber->index;
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_start_switch_fiber(&launcher_shadow_stack, fiber->stack, kStackBytes);
#endif
    emulation_switch(&launcher_top, fiber->top);
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(launcher_shadow_stack, nullptr, nullptr);
#endif
    current = nullptr;
}

void make_ready(unsigned number) {
    if (fibers.size() <= number) {
        fibers.push_back(std::make_unique<Fiber>());
        void* memory = mmap(nullptr, kGuardBytes + kStackBytes, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (memory == MAP_FAILED) give_up("no memory for a thread's stack");
        mprotect(memory, kGuardBytes, PROT_NONE);  // a stack that grows too large ends the program here
        fibers.back()->stack = static_cast<char*>(memory) + kGuardBytes;
    }
    Fiber& fiber = *fibers[number];
#if defined(__SANITIZE_ADDRESS__)
    __asan_unpoison_memory_region(fiber.stack, kStackBytes);
    fiber.shadow_stack = nullptr;
#endif
    // what emulation_switch takes from the stack: six registers and where to go on
    void** entry = reinterpret_cast<void**>(fiber.stack + kStackBytes - 64);
    *entry = reinterpret_cast<void*>(&first_steps);
    fiber.top = entry - 6;
    std::fill(entry - 6, entry, nullptr);
    fiber.number = number;
    fiber.index = {number % blockDim.x, number / blockDim.x % blockDim.y, number / blockDim.x / blockDim.y};
    fiber.state = State::READY;
    ready.push_back(&fiber);
}

// ---- synchronisation ----

void go_on(Fiber& fiber) {
    fiber.state = State::READY;
    ready.push_back(&fiber);
}

unsigned source_lane(const Fiber& fiber, unsigned lane) {
    switch (fiber.kind) {
        case Exchange::DOWN:
            return lane + fiber.parameter < kWarp ? lane + fiber.parameter : lane;
        case Exchange::XOR:
            return (lane ^ fiber.parameter) % kWarp;
        case Exchange::INDEX:
            return fiber.parameter % kWarp;
        case Exchange::BALLOT:
            break;
    }
    return lane;
}

// All lanes of the mask are there: each gets its value.
void finish_exchange(const Fiber& last) {
    unsigned first = last.number / kWarp * kWarp, mask = last.mask;
    auto named = [mask](unsigned lane) { return (mask >> lane & 1) != 0; };
    uint64_t given[kWarp] = {}, ballot = 0;
    for (unsigned lane = 0; lane < kWarp; ++lane) {
        if (!named(lane)) continue;
        given[lane] = fibers[first + lane]->value;
        ballot |= (given[lane] & 1) << lane;
    }
    for (unsigned lane = 0; lane < kWarp; ++lane) {
        if (!named(lane)) continue;
        Fiber& fiber = *fibers[first + lane];
        if (fiber.kind != last.kind || fiber.line != last.line || fiber.mask != mask) {
            complain("lanes of a warp meet in different operations");
        }
        unsigned source = source_lane(fiber, lane);
        if (!named(source)) {
            complain("a lane reads from one outside the mask, line " + std::to_string(fiber.line));
        }
        fiber.value = fiber.kind == Exchange::BALLOT ? ballot : given[source];
        go_on(fiber);
    }
}

// Nobody is ready: either all have ended, or all that have not stand at one barrier.
bool finish_phase() {
    unsigned ended = 0, waiting = 0;
    int line = 0, any = 0;
    for (unsigned i = 0; i < threads; ++i) {
        const Fiber& fiber = *fibers[i];
        ended += fiber.state == State::ENDED;
        if (fiber.state != State::AT_BARRIER) continue;
        if (waiting > 0 && fiber.line != line) {
            complain("the barriers of lines " + std::to_string(std::min(line, fiber.line)) + " and " +
                     std::to_string(std::max(line, fiber.line)) + " meet");
        }
        ++waiting;
        line = fiber.line;
        any |= fiber.predicate;
    }
    if (ended == threads) return false;
    if (waiting + ended < threads) give_up("deadlock: lanes of a warp wait for others that do not come");
    if (ended > 0) {
        complain("a barrier, line " + std::to_string(line) + ", that threads which have ended never reach");
    }
    ++phase;
    for (unsigned i = 0; i < threads; ++i) {
        if (fibers[i]->state != State::AT_BARRIER) continue;
        fibers[i]->predicate = any;
        go_on(*fibers[i]);
    }
    return true;
}

void run_block() {
    begin_block();
    ready.clear();
    phase = 0;
    for (unsigned i = 0; i < threads; ++i) make_ready(i);
    do {
        while (!ready.empty()) {
            std::swap(ready[draw() % ready.size()], ready.back());
            Fiber* fiber = ready.back();
            ready.pop_back();
            resume(fiber);
        }
    } while (finish_phase());
}

bool exists(dim3 grid, dim3 block) {
    uint64_t size = uint64_t{block.x} * block.y * block.z;
    return grid.x && grid.y && grid.z && size && size <= 1024 && block.z <= 64 && grid.x <= 0x7fffffffu &&
           grid.y <= 65535 && grid.z <= 65535;
}

}  // namespace

// ---- what kernels call ----

int barrier(int line, int predicate) {
    Fiber* self = current;
    self->state = State::AT_BARRIER;
    self->line = line;
    self->predicate = predicate;
    leave(false);
    return self->predicate;
}

uint64_t exchange(int line, Exchange kind, unsigned mask, uint64_t value, unsigned parameter) {
    Fiber* self = current;
    self->line = line, self->kind = kind, self->mask = mask, self->value = value, self->parameter = parameter;
    unsigned first = self->number / kWarp * kWarp, lane = self->number % kWarp;
    auto give_up_at = [line](const char* fault) { give_up(fault + (", line " + std::to_string(line))); };
    if (!(mask >> lane & 1)) give_up_at("a lane is not in its own mask");
    bool complete = true;
    for (unsigned other = 0; other < kWarp; ++other) {
        if (!(mask >> other & 1) || other == lane) continue;
        if (first + other >= threads) give_up_at("the mask names a lane that does not exist");
        State state = fibers[first + other]->state;
        if (state == State::ENDED) give_up_at("the mask names a lane that has ended");
        complete = complete && state == State::IN_EXCHANGE;
    }
    self->state = State::IN_EXCHANGE;
    if (complete) finish_exchange(*self);  // and makes this one ready, to go on when it is drawn
    leave(false);
    return self->value;
}

void run(dim3 grid, dim3 block, cudaStream_t stream, const char* name, void (*thread)(const void*),
         const void* captured) {
    kernel = name;
    check_stream(stream);
    if (!exists(grid, block)) {
        last_error = cudaErrorInvalidConfiguration;
        return;
    }
    ++launch_number;
    launched.insert(name);
    gridDim = grid, blockDim = block, threads = block.x * block.y * block.z;
    body = thread, context = captured;
    std::vector<uint32_t> order(size_t{grid.x} * grid.y * grid.z);
    for (size_t i = 0; i < order.size(); ++i) order[i] = static_cast<uint32_t>(i);
    for (size_t i = order.size(); i > 1; --i) std::swap(order[i - 1], order[draw() % i]);
    open_device_memory();
    for (uint32_t number : order) {
        block_number = number;
        blockIdx = {number % grid.x, number / grid.x % grid.y, number / grid.x / grid.y};
        run_block();
    }
    close_device_memory();
    kernel = "";
}

// ---- what the memory's half asks ----

Place here() {
    return {launch_number, block_number, phase, static_cast<uint16_t>(current->number)};
}

bool in_kernel() {
    return current != nullptr;
}

bool on_a_threads_stack(uintptr_t address) {
    auto stack = reinterpret_cast<uintptr_t>(current->stack);
    return address >= stack && address < stack + kStackBytes;
}

void interrupt() {
    go_on(*current);
    leave(false);
}

uint64_t draw() {
    if (random_state == 0) random_state = setting("EMULATION_SEED", 1) * 0x9E3779B97F4A7C15u | 1;
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    return random_state ^= random_state << 17;
}

void complain(const std::string& fault) {
    if (complaint_count++ == 0) {
        std::atexit([] {
            std::fflush(nullptr);  // what was printed so far, which _Exit drops
            std::_Exit(kFaulty);
        });
    }
    std::string text = std::string(kernel) + ": " + fault;
    if (told.size() > 200 || !told.insert(text).second) return;
    std::string thread = current ? ", thread " + std::to_string(current->number) : "";
    std::fprintf(stderr, "EMULATION %s (first in block %u%s)\n", text.c_str(), block_number, thread.c_str());
}

std::string summary() {
    std::string text = "emulated kernels:";
    for (const std::string& name : launched) text += " " + name;
    return text + "\nemulation: " + std::to_string(launch_number) + " launches, " +
           std::to_string(complaint_count) + " complaints";
}

cudaError_t take_last_error() {
    return std::exchange(last_error, cudaSuccess);
}

}  // namespace emulation

cudaError_t cudaGetLastError() {
    return emulation::take_last_error();
}

const char* cudaGetErrorString(cudaError_t error) {
    switch (error) {
        case cudaSuccess:
            return "no error";
        case cudaErrorMemoryAllocation:
            return "out of memory";
        case cudaErrorInvalidConfiguration:
            return "invalid configuration argument";
        case cudaErrorInvalidValue:
            break;
    }
    return "invalid argument";
}
