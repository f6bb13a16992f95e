// JPEG decoding by the system's libturbojpeg (TurboJPEG API 2 or later), loaded when first asked for, so that
// popnet builds and runs without it.
#pragma once

#include <cstdint>
#include <string>

namespace popnet {

// What was wrong with loading the library; empty where it is loaded. Loads it at the first call.
const std::string& jpeg_library_error();

// Decodes to RGB, uint8 [height, width, 3], with the accurate DCT and smooth chroma upsampling (the library's
// flags 0), whose bytes every version of libjpeg-turbo agrees on. Returns what is wrong; empty where all is
// well. Warnings about damaged data are errors, but for superfluous bytes between markers, which decode
// without loss.
std::string decode_jpeg(const uint8_t* bytes, int64_t size, int height, int width, uint8_t* out);

}  // namespace popnet
