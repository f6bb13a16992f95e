// Marks functions that are compiled for the CPU and, by nvcc, for the GPU as well.
#pragma once

#if defined(__CUDACC__)
#define POPNET_HOST_DEVICE __host__ __device__ __forceinline__
#else
#define POPNET_HOST_DEVICE inline
#endif
