#include "common/cuda.h"
#include "data/augment.h"
#include "data/placement.h"

namespace popnet {
namespace {

constexpr int kThreads = 256;

// The pixel of the augmented image at (y, x), channel c. `image` is the source image.
__device__ uint8_t augmented_pixel(const uint8_t* image, const ImageSet& images, const Placement& placement,
                                   const uint8_t* fill, int y, int x, int c) {
    unsigned cut_y = static_cast<unsigned>(y - placement.cutout_y);
    unsigned cut_x = static_cast<unsigned>(x - placement.cutout_x);
    if (cut_y < static_cast<unsigned>(placement.cutout) && cut_x < static_cast<unsigned>(placement.cutout)) {
        return fill[c];
    }
    y -= placement.ty;
    x -= placement.tx;
    if (y < 0 || y >= images.height || x < 0 || x >= images.width) return 0;
    if (placement.flip) x = images.width - 1 - x;
    y += placement.dy;
    x += placement.dx;
    if (y < 0 || y >= images.height || x < 0 || x >= images.width) return 0;
    return image[(static_cast<int64_t>(y) * images.width + x) * images.channels + c];
}

// One block an image (blocks stride over the batch); its threads walk the elements in the order of the
// output's memory, so that writes are coalesced.
template <typename T>
__global__ void augment_kernel(ImageSet images, T* out, const int64_t* indices, const int64_t* keys,
                               int64_t batch, Layout layout, Augmentation augmentation,
                               Normalisation normalisation) {
    __shared__ Placement placement;
    __shared__ int64_t index;
    int64_t pixels = static_cast<int64_t>(images.height) * images.width;
    int64_t elements = pixels * images.channels;
    for (int64_t b = blockIdx.x; b < batch; b += gridDim.x) {
        __syncthreads();
        if (threadIdx.x == 0) {
            index = indices[b];
            int64_t key = keys != nullptr ? keys[b] : index;
            placement = place(at_step(augmentation), key, images.height, images.width);
        }
        __syncthreads();
        bool exists = index >= 0 && index < images.count;
        const uint8_t* image = images.pixels + (exists ? index : 0) * elements;
        for (int64_t e = threadIdx.x; e < elements; e += blockDim.x) {
            int c = static_cast<int>(layout == Layout::NHWC ? e % images.channels : e / pixels);
            int64_t position = layout == Layout::NHWC ? e / images.channels : e % pixels;
            int y = static_cast<int>(position / images.width), x = static_cast<int>(position % images.width);
            float value = __int_as_float(0x7fc00000);  // NaN, visible at once
            if (exists) {
                uint8_t pixel = augmented_pixel(image, images, placement, augmentation.fill, y, x, c);
                value = normalise(pixel, normalisation.scale[c], normalisation.shift[c]);
            }
            out[b * elements + e] = round_to<T>(value);
        }
    }
}

}  // namespace

void augment_cuda(const ImageSet& images, const Batch& batch, const Augmentation& augmentation,
                  const Normalisation& normalisation, void* stream) {
    if (batch.size == 0) return;
    unsigned blocks = blocks_for(batch.size, 1);
    auto cuda_stream = static_cast<cudaStream_t>(stream);
    if (batch.type == FloatType::FLOAT32) {
        augment_kernel<<<blocks, kThreads, 0, cuda_stream>>>(images, static_cast<float*>(batch.data),
                                                             batch.indices, batch.keys, batch.size,
                                                             batch.layout, augmentation, normalisation);
    } else {
        augment_kernel<<<blocks, kThreads, 0, cuda_stream>>>(images, static_cast<BFloat16*>(batch.data),
                                                             batch.indices, batch.keys, batch.size,
                                                             batch.layout, augmentation, normalisation);
    }
    check_cuda(cudaGetLastError(), "augment");
}

}  // namespace popnet
