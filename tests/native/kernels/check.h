// What the checks of the kernels are written with: arrays in both memories, and the comparison of one call on
// the CPU with one on the device.
//
// Each array has a device allocation of exactly its size, so that memcheck sees a byte too far. Outputs begin
// as garbage on the host and stay as they were allocated on the device, so that a byte left out is seen here,
// and a read of one by initcheck.
#pragma once

#include <cuda_runtime.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "common/numbers.h"

namespace popnet {

// Ends the program if a call of CUDA failed.
void require(cudaError_t status, const std::string& what);

// The stream that every kernel under test is launched on.
cudaStream_t stream();

// An element's place, and its bytes on the CPU and on the device.
std::string difference(size_t place, size_t bytes, const void* here, const void* there);

// Bytes in both memories; on the device `shift` bytes behind an aligned address.
class Array {
public:
    Array(std::vector<unsigned char> content, bool upload, size_t shift);
    ~Array();
    Array(const Array&) = delete;
    Array& operator=(const Array&) = delete;

    template <typename T>
    T* on(bool gpu) {
        return reinterpret_cast<T*>(gpu ? device_ + shift_ : reinterpret_cast<char*>(host_.data()));
    }
    template <typename T>
    std::vector<T> from_device() const {
        std::vector<T> values(host_.size() / sizeof(T));
        download(values.data());
        return values;
    }
    template <typename T>
    std::vector<T> from_host() const {
        auto* values = reinterpret_cast<const T*>(host_.data());
        return {values, values + host_.size() / sizeof(T)};
    }

private:
    void download(void* to) const;

    std::vector<unsigned char> host_;
    char* device_ = nullptr;
    size_t shift_;
};

// The arrays of one check; those with a name are compared when it has run.
class Check {
public:
    explicit Check(std::string name) : name_(std::move(name)) {}

    template <typename T>
    Array& input(const std::vector<T>& content, size_t shift = 0) {
        auto* bytes = reinterpret_cast<const unsigned char*>(content.data());
        std::vector<unsigned char> host(bytes, bytes + content.size() * sizeof(T));
        arrays_.push_back(std::make_unique<Array>(std::move(host), true, shift));
        return *arrays_.back();
    }
    // Begins with `content` in both memories.
    template <typename T>
    Array& output(const std::vector<T>& content, const char* name, size_t shift = 0) {
        Array& array = input(content, shift);
        compare<T>(array, name);
        return array;
    }
    // Begins as garbage on the host and as it comes on the device; compared byte for byte.
    Array& blank(size_t bytes, const char* name, size_t shift = 0) {
        Array& array = scratch(bytes, shift);
        compare<unsigned char>(array, name);
        return array;
    }
    Array& scratch(size_t bytes, size_t shift = 0) {
        std::vector<unsigned char> garbage(bytes, 0x7f);
        arrays_.push_back(std::make_unique<Array>(std::move(garbage), false, shift));
        return *arrays_.back();
    }
    // Compares the elements at `places`; all of them if none are given.
    template <typename T>
    void compare(const Array& array, const char* name, std::vector<size_t> places = {}) {
        compared_.emplace_back(name, [&array, places = std::move(places)] {
            std::vector<T> there = array.from_device<T>(), here = array.from_host<T>();
            std::string text;
            int64_t count = 0;
            auto look = [&](size_t i) {
                if (std::memcmp(&here[i], &there[i], sizeof(T)) == 0) return;
                if (count++ == 0) text = difference(i, sizeof(T), &here[i], &there[i]);
            };
            for (size_t place : places) look(place);
            for (size_t i = 0; places.empty() && i < here.size(); ++i) look(i);
            return count == 0 ? "" : std::to_string(count) + " elements differ, the first is " + text;
        });
    }
    // Compares what `of` makes of the elements of each memory.
    template <typename T, typename Result>
    void compare_results(const Array& array, const char* name,
                         std::function<std::vector<Result>(std::vector<T>)> of) {
        compared_.emplace_back(name, [&array, of = std::move(of)]() -> std::string {
            return of(array.from_device<T>()) == of(array.from_host<T>()) ? "" : "the results differ";
        });
    }

    // Waits for the device and compares; what differs is printed.
    bool passes() const;

private:
    std::string name_;
    std::vector<std::unique_ptr<Array>> arrays_;
    std::vector<std::pair<const char*, std::function<std::string()>>> compared_;  // how, if they differ
};

// Runs `body` if the command line names the check, or names none.
void check(const std::string& name, const std::function<void(Check&)>& body);

// Whether checks are wanted that take many seconds on a slow device.
bool large_checks();

// The checks of each stage, in data.cpp, training.cpp and metrics.cpp.
void check_data();
void check_training();
void check_metrics();

// ---- values: deterministic, of no particular quality ----

uint32_t random_word();
std::vector<float> floats(int64_t count, double low = -2.0, double high = 2.0);
// Multiples of a quarter in -steps/8 .. steps/8, so that many are equal, 0 and -0 among them.
std::vector<float> ties(int64_t count, int steps);
std::vector<int64_t> integers(int64_t count, int64_t below);

template <typename T>
std::vector<T> as(const std::vector<float>& values) {
    std::vector<T> made;
    for (float value : values) {
        if constexpr (std::is_same_v<T, double>)
            made.push_back(value);
        else
            made.push_back(narrow<T>(value));
    }
    return made;
}

}  // namespace popnet
