// Colors by spherical harmonics on a GPU: one thread per direction.
#include "../eval_sh.h"

#include "launch.cuh"

STABLE_TORCH_LIBRARY_IMPL(dietnerf, CUDA, library) {
  dietnerf::EvalShOp<dietnerf::CudaLauncher>::register_kernels(library);
}
