// Compositing on a GPU: one thread per ray.
#include "../composite.h"

#include "launch.cuh"

STABLE_TORCH_LIBRARY_IMPL(dietnerf, CUDA, library) {
  dietnerf::CompositeOp<dietnerf::CudaLauncher>::register_kernels(library);
}
