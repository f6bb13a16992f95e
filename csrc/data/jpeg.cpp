#include "data/jpeg.h"

#include <dlfcn.h>

namespace popnet {
namespace {

using Handle = void*;

constexpr int kRgb = 0;  // TJPF_RGB

struct Library {
    Handle (*init)() = nullptr;
    int (*header)(Handle, const unsigned char*, unsigned long, int*, int*, int*, int*) = nullptr;
    int (*decompress)(Handle, const unsigned char*, unsigned long, unsigned char*, int, int, int, int,
                      int) = nullptr;
    char* (*message)(Handle) = nullptr;
    int (*destroy)(Handle) = nullptr;
    std::string error;
};

template <typename Function>
bool find(void* library, const char* name, Function& function) {
    function = reinterpret_cast<Function>(dlsym(library, name));
    return function != nullptr;
}

Library load() {
    Library result;
    void* library = dlopen("libturbojpeg.so.0", RTLD_NOW | RTLD_LOCAL);
    if (library == nullptr) {
        result.error = "libturbojpeg.so.0 is not installed";
        return result;
    }
    bool complete = find(library, "tjInitDecompress", result.init) &&
                    find(library, "tjDecompressHeader3", result.header) &&
                    find(library, "tjDecompress2", result.decompress) &&
                    find(library, "tjGetErrorStr2", result.message) &&
                    find(library, "tjDestroy", result.destroy);
    if (!complete) result.error = "libturbojpeg.so.0 is too old: TurboJPEG 2 is needed";
    return result;
}

const Library& library() {
    static const Library loaded = load();
    return loaded;
}

// One decompressor a thread.
struct Decompressor {
    Handle handle = library().init();
    ~Decompressor() {
        if (handle != nullptr) library().destroy(handle);
    }
};

}  // namespace

const std::string& jpeg_library_error() {
    return library().error;
}

std::string decode_jpeg(const uint8_t* bytes, int64_t size, int height, int width, uint8_t* out) {
    const Library& tj = library();
    if (!tj.error.empty()) return tj.error;
    thread_local Decompressor decompressor;
    Handle handle = decompressor.handle;
    if (handle == nullptr) return "libturbojpeg could not start";
    int real_width = 0, real_height = 0, subsampling = 0, colours = 0;
    if (tj.header(handle, bytes, size, &real_width, &real_height, &subsampling, &colours) != 0) {
        return tj.message(handle);
    }
    if (real_height != height || real_width != width) {
        return "it is " + std::to_string(real_height) + " x " + std::to_string(real_width) + " pixels, not " +
               std::to_string(height) + " x " + std::to_string(width);
    }
    if (tj.decompress(handle, bytes, size, out, width, width * 3, height, kRgb, 0) != 0) {
        std::string message = tj.message(handle);
        if (message.find("extraneous bytes") == std::string::npos) return message;
    }
    return {};
}

}  // namespace popnet
