// Every CUDA kernel against its CPU twin, byte for byte, without Python or PyTorch: small enough for
// compute-sanitizer, and for the emulation (tests/native/emulation).
//
//     popnet_check [--small] [TEXT ...]
//
// Runs the checks whose names contain one of the texts, or all; --small leaves out what takes long where
// threads are slow. Ends with code 0 if everything is equal, 1 if not, 2 without a GPU.
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "check.h"
#include "common/cuda_error.h"

namespace popnet {
namespace {

std::vector<std::string> wanted;
bool small = false;
int checks = 0, different = 0;
uint64_t random_state = 1;

bool is_wanted(const std::string& name) {
    return wanted.empty() || std::any_of(wanted.begin(), wanted.end(), [&](const std::string& text) {
               return name.find(text) != std::string::npos;
           });
}

}  // namespace

void require(cudaError_t status, const std::string& what) {
    if (status == cudaSuccess) return;
    std::fprintf(stderr, "%s: %s\n", what.c_str(), cudaGetErrorString(status));
    std::exit(1);
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
    for (const auto& [array, first_difference] : compared_) {
        int64_t place = first_difference();
        if (place < 0) continue;
        std::fprintf(stderr, "%s: %s differs between CPU and GPU, first at %lld\n", name_.c_str(), array,
                     static_cast<long long>(place));
        all = false;
    }
    return all;
}

void check(const std::string& name, const std::function<void(Check&)>& body) {
    if (!is_wanted(name)) return;
    ++checks;
    Check made(name);
    bool equal = false;
    try {
        body(made);
        equal = made.passes();
    } catch (const CudaError& error) {
        std::fprintf(stderr, "%s: %s\n", name.c_str(), error.what());
    }
    different += !equal;
    std::printf("%-60s %s\n", name.c_str(), equal ? "equal" : "DIFFERENT");
    std::fflush(stdout);
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
    for (int i = 1; i < argc; ++i) {
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
