// Stratified distances on a GPU: one thread per ray.
#include "../sample_stratified.h"

#include "launch.cuh"

STABLE_TORCH_LIBRARY_IMPL(dietnerf, CUDA, library) {
  dietnerf::SampleStratifiedOp<dietnerf::CudaLauncher>::register_kernels(library);
}
