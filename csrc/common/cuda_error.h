// What a call of CUDA or a launch that failed is thrown as; popnet._native.CudaError in Python.
#pragma once

#include <stdexcept>

namespace popnet {

class CudaError : public std::runtime_error {
    using std::runtime_error::runtime_error;
};

}  // namespace popnet
