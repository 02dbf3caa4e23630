// Projection on the CPU: Gaussians in parallel.
#include "../project_gaussians.h"

#include "parallel_for.h"

namespace dietnerf {

DIETNERF_CPU_KERNEL(ProjectGaussians<float>)
DIETNERF_CPU_KERNEL(ProjectGaussians<double>)
DIETNERF_CPU_KERNEL(ProjectGaussiansBackward<float>)
DIETNERF_CPU_KERNEL(ProjectGaussiansBackward<double>)
DIETNERF_CPU_KERNEL(SumPoses<float>)
DIETNERF_CPU_KERNEL(SumPoses<double>)

}  // namespace dietnerf

STABLE_TORCH_LIBRARY_IMPL(dietnerf, CPU, library) {
  dietnerf::ProjectGaussiansOp<dietnerf::ParallelFor>::register_kernels(library);
}
