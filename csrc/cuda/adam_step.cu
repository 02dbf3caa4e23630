// Adam on a GPU: one thread per element.
#include "../adam_step.h"

#include "launch.cuh"

namespace dietnerf {

template <typename T>
using AdamElement = AdamStep<T, 1>;

}  // namespace dietnerf

STABLE_TORCH_LIBRARY_IMPL(dietnerf, CUDA, library) {
  dietnerf::AdamStepOp<dietnerf::AdamElement, dietnerf::CudaLauncher>::register_kernels(library);
}
