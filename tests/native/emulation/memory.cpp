// Device memory: allocations that only kernels, copies and libraries can touch; and the watch, which looks at
// each access of a kernel: races within a block and between blocks, reads of what nobody wrote, misalignment,
// accesses outside every allocation.
//
// The watch is what the compiler calls under -fsanitize=thread; the sanitizer's own library is not linked.
#include <sys/mman.h>

#include <cstdio>
#include <map>
#include <vector>

#include "cub/emulated_sort.h"
#include "emulation.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#endif

struct EmulatedStream {};

#if defined(EMULATION_WATCH)
constexpr bool kWatched = true;
#else
constexpr bool kWatched = false;
#endif

extern "C" char __executable_start[], end[];

namespace emulation {
namespace {

// The last access of one kind to a byte.
struct Access {
    Place place{};
    bool atomic = false;
};

struct Shadow {
    Access write, read;
    bool several_readers = false;  // threads, in the phase of `read`
    bool several_blocks = false;   // that read it, in the launch of `read`
    bool written = false;
};

struct Region {
    size_t bytes, mapped;
    std::string name;
    bool shared;
    std::vector<Shadow> shadows;  // where watched, one a byte
};

std::map<uintptr_t, Region> regions;  // by the first address
EmulatedStream the_stream;
bool stream_made = false;

constexpr uintptr_t kLauncherFrames = 1 << 16;
uintptr_t launcher_frame = 0;
const char* atomic_begin = nullptr;  // of the access that atomicAdd makes
size_t atomic_bytes = 0;
uint64_t watched = 0, interrupt_every = 0;

constexpr size_t kMostShared = 48 << 10;
uint64_t blocks = 0;      // that have begun
size_t shared_bytes = 0;  // of the present one

// ---- allocations ----

// What stands in memory that nobody wrote.
void fill_with_garbage(void* memory, size_t bytes) {
    auto* words = static_cast<char*>(memory);
    for (size_t i = 0; i < bytes; i += sizeof(uint64_t)) {
        uint64_t word = draw();
        std::memcpy(words + i, &word, std::min(sizeof word, bytes - i));
    }
}

void set_access(uintptr_t begin, const Region& region, bool open) {
    auto* memory = reinterpret_cast<void*>(begin);
#if defined(__SANITIZE_ADDRESS__)
    if (open)
        __asan_unpoison_memory_region(memory, region.bytes);
    else
        __asan_poison_memory_region(memory, region.bytes);
#else
    mprotect(memory, region.mapped, open ? PROT_READ | PROT_WRITE : PROT_NONE);
#endif
}

// Exactly as many bytes as asked for where the address sanitizer looks, so that it sees the first one too
// far; else whole pages, which can be closed.
void* take_memory(size_t bytes, size_t mapped) {
#if defined(__SANITIZE_ADDRESS__)
    void* memory = nullptr;
    (void)mapped;
    return posix_memalign(&memory, 256, bytes) == 0 ? memory : nullptr;
#else
    (void)bytes;
    void* memory =
        mmap(nullptr, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return memory == MAP_FAILED ? nullptr : memory;
#endif
}

Region* region_of(uintptr_t address, uintptr_t& begin) {
    auto after = regions.upper_bound(address);
    if (after == regions.begin()) return nullptr;
    --after;
    if (address >= after->first + after->second.bytes) return nullptr;
    begin = after->first;
    return &after->second;
}

bool inside(const void* memory, size_t bytes) {
    uintptr_t address = reinterpret_cast<uintptr_t>(memory), begin = 0;
    Region* region = region_of(address, begin);
    return region != nullptr && address + bytes <= begin + region->bytes;
}

// ---- the watch ----

// Where an access was; the text is only made where there is a fault.
struct Where {
    const Region* region;
    const void* code;

    std::string text() const {
        char address[32];
        std::snprintf(address, sizeof address, " at %p", code);
        return ", in " + (region ? region->name : "no allocation") + address;
    }
};

bool same_phase(const Place& a, const Place& b) {
    return a.launch == b.launch && a.block == b.block && a.phase == b.phase;
}

bool conflicts(const Access& before, const Access& now) {
    if (before.place.launch != now.place.launch || (before.atomic && now.atomic)) return false;
    if (before.place.block != now.place.block) return true;
    return before.place.phase == now.place.phase && before.place.thread != now.place.thread;
}

bool conflicts_with_reads(const Shadow& shadow, const Access& now) {
    if (conflicts(shadow.read, now)) return true;
    bool same_launch = shadow.read.place.launch == now.place.launch;
    return (shadow.several_blocks && same_launch) ||
           (shadow.several_readers && same_phase(shadow.read.place, now.place));
}

void watch_byte(Shadow& shadow, const Access& now, bool writes, const Where& where) {
    bool other_block =
        shadow.write.place.launch != now.place.launch || shadow.write.place.block != now.place.block;
    if (where.region->shared && other_block) shadow = Shadow{};  // what another block left counts for nothing
    if (conflicts(shadow.write, now)) {
        bool own = shadow.write.place.block == now.place.block;
        complain(std::string(writes ? "a write" : "a read") + " races with a write of " +
                 (own ? "its block" : "another block") + where.text());
    }
    if (writes && conflicts_with_reads(shadow, now)) complain("a write races with a read" + where.text());
    if ((!writes || now.atomic) && !shadow.written) complain("a read of what nobody wrote" + where.text());
    if (writes) {
        shadow.write = now;
        shadow.written = true;
        return;
    }
    const Place &before = shadow.read.place, &place = now.place;
    shadow.several_readers =
        same_phase(before, place) && (shadow.several_readers || before.thread != place.thread);
    shadow.several_blocks =
        before.launch == place.launch && (shadow.several_blocks || before.block != place.block);
    shadow.read = now;
}

// Memory that a thread may use though it is no allocation: its own stack, the launch's arguments on the
// launcher's stack, constants of the program.
bool is_a_threads_own(uintptr_t address, bool writes) {
    if (on_a_threads_stack(address)) return true;
    if (address >= launcher_frame && address < launcher_frame + kLauncherFrames) return !writes;
    bool constant = address >= reinterpret_cast<uintptr_t>(__executable_start) &&
                    address < reinterpret_cast<uintptr_t>(end);
    return constant && !writes;
}

[[maybe_unused]] void watch(const void* memory, size_t bytes, bool writes, const void* code) {
    auto address = reinterpret_cast<uintptr_t>(memory);
    if (!in_kernel()) return;
    bool is_atomic =
        atomic_begin <= memory && static_cast<const char*>(memory) + bytes <= atomic_begin + atomic_bytes;
    uintptr_t begin = 0;
    Region* region = region_of(address, begin);
    if (region == nullptr) {
        if (!is_a_threads_own(address, writes))
            complain("an access of memory that is not the device's" + Where{nullptr, code}.text());
        return;
    }
    ++watched;
    if (interrupt_every > 0 && !is_atomic && draw() % interrupt_every == 0) interrupt();
    Where where{region, code};
    if (address % bytes != 0)
        complain("a misaligned access of " + std::to_string(bytes) + " bytes" + where.text());
    if (address + bytes > begin + region->bytes) complain("an access beyond the end" + where.text());
    Access now{here(), is_atomic};
    for (size_t i = address - begin; i < std::min(address - begin + bytes, region->bytes); ++i) {
        watch_byte(region->shadows[i], now, writes, where);
    }
}

}  // namespace

uint64_t setting(const char* name, uint64_t otherwise) {
    const char* given = std::getenv(name);
    return given ? std::strtoull(given, nullptr, 10) : otherwise;
}

int64_t most_blocks() {
    static const auto most = static_cast<int64_t>(setting("EMULATION_MOST_BLOCKS", 1 << 20));
    return most;
}

void check_stream(cudaStream_t stream) {
    if (stream_made && stream != &the_stream) complain("work on another stream than the caller's");
}

void open_device_memory() {
    launcher_frame = reinterpret_cast<uintptr_t>(__builtin_frame_address(0));
    for (const auto& [begin, region] : regions) {
        if (!region.shared) set_access(begin, region, true);
    }
}

void close_device_memory() {
    for (const auto& [begin, region] : regions) {
        if (!region.shared) set_access(begin, region, false);
    }
}

void begin_block() {
    ++blocks;
    shared_bytes = 0;
}

void* SharedVariable::in_this_block() {
    if (block == blocks) return memory;
    block = blocks;
    shared_bytes += bytes;
    if (shared_bytes > kMostShared) complain("more than 48 KiB of shared memory");
    if (memory == nullptr) {
        memory = std::aligned_alloc(16, (bytes + 15) / 16 * 16);
        Region region{bytes, bytes, std::string("the shared ") + name, true,
                      std::vector<Shadow>(kWatched ? bytes : 0)};
        regions.emplace(reinterpret_cast<uintptr_t>(memory), std::move(region));
    }
    fill_with_garbage(memory, bytes);
    return memory;
}

void atomic_access([[maybe_unused]] const void* memory, [[maybe_unused]] size_t bytes) {
#if defined(EMULATION_WATCH)
    if (interrupt_every > 0 && draw() % interrupt_every == 0) interrupt();
    atomic_begin = static_cast<const char*>(memory);
    atomic_bytes = bytes;
    watch(memory, bytes, true, __builtin_return_address(0));  // which reads, too
    atomic_begin = nullptr;
    atomic_bytes = 0;
#endif
}

// ---- libraries ----

DeviceAccess::DeviceAccess(cudaStream_t stream) {
    check_stream(stream);
    open_device_memory();
}

DeviceAccess::~DeviceAccess() {
    close_device_memory();
}

void library_wrote(const void* memory, size_t bytes) {
    uintptr_t address = reinterpret_cast<uintptr_t>(memory), begin = 0;
    Region* region = kWatched ? region_of(address, begin) : nullptr;
    if (region == nullptr) return;
    if (address + bytes > begin + region->bytes) complain("a library writes beyond " + region->name);
    for (size_t i = address - begin; i < std::min(address - begin + bytes, region->bytes); ++i) {
        region->shadows[i].written = true;
    }
}

void library_reads(const void* memory, size_t bytes, const char* what) {
    uintptr_t address = reinterpret_cast<uintptr_t>(memory), begin = 0;
    Region* region = kWatched ? region_of(address, begin) : nullptr;
    if (region == nullptr) return;
    for (size_t i = address - begin; i < std::min(address - begin + bytes, region->bytes); ++i) {
        if (region->shadows[i].written) continue;
        complain(std::string(what) + " were not written, in " + region->name);
        return;
    }
}

void overwrite(void* memory, size_t bytes) {
    fill_with_garbage(memory, bytes);
}

}  // namespace emulation

using namespace emulation;

cudaError_t cudaGetDeviceCount(int* count) {
    *count = 1;
    interrupt_every = setting("EMULATION_INTERRUPT", 0);
    std::atexit([] {
        std::printf("%s, %llu watched accesses\n", summary().c_str(),
                    static_cast<unsigned long long>(watched));
        std::fflush(stdout);
    });
    return cudaSuccess;
}

cudaError_t cudaStreamCreate(cudaStream_t* stream) {
    stream_made = true;
    *stream = &the_stream;
    return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
    check_stream(stream);
    return cudaSuccess;
}

cudaError_t cudaMalloc(void** memory, size_t bytes) {
    static int number = 0;
    size_t mapped = (bytes + 4095) / 4096 * 4096;
    *memory = take_memory(bytes, mapped);
    if (*memory == nullptr) return cudaErrorMemoryAllocation;
    fill_with_garbage(*memory, bytes);
    std::string name = "allocation " + std::to_string(++number) + " of " + std::to_string(bytes) + " bytes";
    Region region{bytes, mapped, name, false, std::vector<Shadow>(kWatched ? bytes : 0)};
    auto begin = reinterpret_cast<uintptr_t>(*memory);
    set_access(begin, regions.emplace(begin, std::move(region)).first->second, false);
    return cudaSuccess;
}

cudaError_t cudaFree(void* memory) {
    auto found = regions.find(reinterpret_cast<uintptr_t>(memory));
    if (found == regions.end()) return memory == nullptr ? cudaSuccess : cudaErrorInvalidValue;
    set_access(found->first, found->second, true);
#if defined(__SANITIZE_ADDRESS__)
    std::free(memory);
#else
    munmap(memory, found->second.mapped);
#endif
    regions.erase(found);
    return cudaSuccess;
}

cudaError_t cudaMemcpy(void* to, const void* from, size_t bytes, cudaMemcpyKind kind) {
    bool upwards = kind == cudaMemcpyHostToDevice;
    if (!inside(upwards ? to : from, bytes)) return cudaErrorInvalidValue;
    open_device_memory();
    std::memcpy(to, from, bytes);
    if (upwards) library_wrote(to, bytes);
    if (!upwards) library_reads(from, bytes, "bytes that are copied to the host");
    close_device_memory();
    return cudaSuccess;
}

cudaError_t cudaMemsetAsync(void* memory, int value, size_t bytes, cudaStream_t stream) {
    DeviceAccess access(stream);
    std::memset(memory, value, bytes);
    library_wrote(memory, bytes);
    return cudaSuccess;
}

// ---- what the compiler calls ----

#if defined(EMULATION_WATCH)
#define WATCH(bytes)                                         \
    void __tsan_read##bytes(void* p) {                       \
        watch(p, bytes, false, __builtin_return_address(0)); \
    }                                                        \
    void __tsan_write##bytes(void* p) {                      \
        watch(p, bytes, true, __builtin_return_address(0));  \
    }                                                        \
    void __tsan_unaligned_read##bytes(void* p) {             \
        watch(p, bytes, false, __builtin_return_address(0)); \
    }                                                        \
    void __tsan_unaligned_write##bytes(void* p) {            \
        watch(p, bytes, true, __builtin_return_address(0));  \
    }                                                        \
    void __tsan_volatile_read##bytes(void* p) {              \
        watch(p, bytes, false, __builtin_return_address(0)); \
    }                                                        \
    void __tsan_volatile_write##bytes(void* p) {             \
        watch(p, bytes, true, __builtin_return_address(0));  \
    }
extern "C" {
WATCH(1)
WATCH(2)
WATCH(4)
WATCH(8)
WATCH(16)
void __tsan_read_range(void* p, size_t bytes) {
    for (size_t i = 0; i < bytes; ++i)
        watch(static_cast<char*>(p) + i, 1, false, __builtin_return_address(0));
}
void __tsan_write_range(void* p, size_t bytes) {
    for (size_t i = 0; i < bytes; ++i) watch(static_cast<char*>(p) + i, 1, true, __builtin_return_address(0));
}
void __tsan_init() {}
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}
void __tsan_vptr_update(void**, void*) {}
void __tsan_vptr_read(void**) {}
}
#endif
