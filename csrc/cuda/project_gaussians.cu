// Projection on a GPU: one thread per Gaussian.
#include "../project_gaussians.h"

#include "launch.cuh"

STABLE_TORCH_LIBRARY_IMPL(dietnerf, CUDA, library) {
  dietnerf::ProjectGaussiansOp<dietnerf::CudaLauncher>::register_kernels(library);
}
