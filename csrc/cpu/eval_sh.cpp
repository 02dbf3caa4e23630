// Colors by spherical harmonics on the CPU: directions in parallel.
#include "../eval_sh.h"

#include "parallel_for.h"

namespace dietnerf {

DIETNERF_CPU_KERNEL(EvalSh<float>)
DIETNERF_CPU_KERNEL(EvalSh<double>)
DIETNERF_CPU_KERNEL(EvalShBackward<float>)
DIETNERF_CPU_KERNEL(EvalShBackward<double>)

}  // namespace dietnerf

STABLE_TORCH_LIBRARY_IMPL(dietnerf, CPU, library) {
  dietnerf::EvalShOp<dietnerf::ParallelFor>::register_kernels(library);
}
