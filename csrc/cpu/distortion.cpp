// The distortion of weights on the CPU: rays in parallel.
#include "../distortion.h"

#include "parallel_for.h"

namespace dietnerf {

DIETNERF_CPU_KERNEL(Distortion<float>)
DIETNERF_CPU_KERNEL(Distortion<double>)
DIETNERF_CPU_KERNEL(DistortionBackward<float>)
DIETNERF_CPU_KERNEL(DistortionBackward<double>)

}  // namespace dietnerf

STABLE_TORCH_LIBRARY_IMPL(dietnerf, CPU, library) {
  dietnerf::DistortionOp<dietnerf::ParallelFor>::register_kernels(library);
}
