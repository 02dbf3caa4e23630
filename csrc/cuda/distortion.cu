// The distortion of weights on a GPU: one thread per ray.
#include "../distortion.h"

#include "launch.cuh"

STABLE_TORCH_LIBRARY_IMPL(dietnerf, CUDA, library) {
  dietnerf::DistortionOp<dietnerf::CudaLauncher>::register_kernels(library);
}
