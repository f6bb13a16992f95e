// Every CUDA kernel against its CPU twin, byte for byte, without Python or PyTorch: small enough for
// compute-sanitizer, and for the emulation (tests/native/emulation).
//
//     popnet_check [--small] [TEXT ...]
//
// Runs the checks whose names contain one of the texts, or all; --small leaves out what takes long where
// threads are slow. Ends with code 0 if everything is equal, 1 if not, 2 without a GPU.
//
// After an error that the device repeats at every call, the program begins anew with the next check:
// --after CHECKS DIFFERENT says how many have run, and how many of them failed.
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <set>

#include "check.h"
#include "common/cuda_error.h"

namespace popnet {
namespace {

std::vector<std::string> wanted;
bool small = false;
std::set<std::string> names;
std::vector<char*> command;
int checks = 0, different = 0, done_before = 0;
uint64_t random_state = 1;

bool is_wanted(const std::string& name) {
    return wanted.empty() || std::any_of(wanted.begin(), wanted.end(), [&](const std::string& text) {
               return name.find(text) != std::string::npos;
           });
}

}  // namespace

void require(cudaError_t status, const std::string& what) {
    if (status != cudaSuccess) throw CudaError(what + ": " + cudaGetErrorString(status));
}

cudaStream_t stream() {
    static cudaStream_t made = [] {
        cudaStream_t stream = nullptr;
        require(cudaStreamCreate(&stream), "cudaStreamCreate");
        return stream;
    }();
    return made;
}

Array::Array(std::vector<unsigned char> content, bool upload, size_t shift)
    : host_(std::move(content)), shift_(shift) {
    void* memory = nullptr;
    require(cudaMalloc(&memory, std::max<size_t>(host_.size() + shift, 1)), "cudaMalloc");
    device_ = static_cast<char*>(memory);
    if (!upload || host_.empty()) return;
    require(cudaMemcpy(device_ + shift, host_.data(), host_.size(), cudaMemcpyHostToDevice), "to the device");
}

Array::~Array() {
    cudaFree(device_);
}

void Array::download(void* to) const {
    if (host_.empty()) return;
    require(cudaMemcpy(to, device_ + shift_, host_.size(), cudaMemcpyDeviceToHost), "from the device");
}

bool Check::passes() const {
    require(cudaStreamSynchronize(stream()), name_);
    bool all = true;
    for (const auto& [array, how] : compared_) {
        std::string differs = how();
        if (differs.empty()) continue;
        std::fprintf(stderr, "%s: %s, between CPU and GPU: %s\n", name_.c_str(), array, differs.c_str());
        all = false;
    }
    return all;
}

std::string difference(size_t place, size_t bytes, const void* here, const void* there) {
    auto hexadecimal = [bytes](const void* value) {
        std::string text = "0x";
        char digits[3];
        for (size_t i = bytes; i-- > 0;) {  // the most significant byte first
            std::snprintf(digits, sizeof digits, "%02x", static_cast<const unsigned char*>(value)[i]);
            text += digits;
        }
        return text;
    };
    return std::to_string(place) + ": " + hexadecimal(here) + " and " + hexadecimal(there);
}

namespace {

// Whether nothing more can be computed in this process.
bool device_is_lost() {
    cudaGetLastError();
    return cudaStreamSynchronize(stream()) != cudaSuccess;
}

[[noreturn]] void begin_anew() {
    std::string ran = std::to_string(checks), failed = std::to_string(different);
    char after[] = "--after";
    std::vector<char*> words = command;
    words.insert(words.end(), {after, ran.data(), failed.data(), nullptr});
    execv("/proc/self/exe", words.data());
    std::perror("execv");
    std::_Exit(1);
}

}  // namespace

void check(const std::string& name, const std::function<void(Check&)>& body) {
    if (!names.insert(name).second) throw std::logic_error("two checks are called " + name);
    if (!is_wanted(name)) return;
    if (done_before > 0) {
        --done_before;
        return;
    }
    ++checks;
    bool equal = false, lost = false;
    try {
        Check made(name);
        body(made);
        equal = made.passes();
    } catch (const CudaError& error) {
        std::fprintf(stderr, "%s: %s\n", name.c_str(), error.what());
        lost = device_is_lost();
    }
    different += !equal;
    std::printf("%-70s %s\n", name.c_str(), equal ? "equal" : "DIFFERENT");
    std::fflush(stdout);
    if (lost) begin_anew();
}

bool large_checks() {
    return !small;
}

uint32_t random_word() {
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return static_cast<uint32_t>(random_state >> 33);
}

std::vector<float> floats(int64_t count, double low, double high) {
    std::vector<float> made(count);
    for (float& value : made) value = static_cast<float>(low + (high - low) * (random_word() / 2147483648.0));
    return made;
}

std::vector<float> ties(int64_t count, int steps) {
    std::vector<float> made(count);
    for (float& value : made) {
        value = 0.25f * static_cast<float>(static_cast<int>(random_word() % steps) - steps / 2);
        if (value == 0.0f && random_word() % 2) value = -0.0f;
    }
    return made;
}

std::vector<int64_t> integers(int64_t count, int64_t below) {
    std::vector<int64_t> made(count);
    for (int64_t& value : made) value = random_word() % below;
    return made;
}

namespace {

int run(int argc, char** argv) {
    command.push_back(argv[0]);
    for (int i = 1; i < argc; ++i) {
        if (std::strcmp(argv[i], "--after") == 0 && i + 2 < argc) {
            checks = done_before = std::atoi(argv[++i]);
            different = std::atoi(argv[++i]);
            continue;
        }
        command.push_back(argv[i]);
        if (std::strcmp(argv[i], "--small") == 0)
            small = true;
        else
            wanted.push_back(argv[i]);
    }
    int devices = 0;
    if (cudaGetDeviceCount(&devices) != cudaSuccess || devices == 0) {
        std::fprintf(stderr, "no CUDA device\n");
        return 2;
    }
    check_data();
    check_training();
    check_metrics();
    if (checks == 0) std::fprintf(stderr, "no check has such a name\n");
    std::printf("%d checks, %d different\n", checks, different);
    return checks == 0 || different > 0 ? 1 : 0;
}

}  // namespace
}  // namespace popnet

int main(int argc, char** argv) {
    return popnet::run(argc, argv);
}
