// Stratified distances on the CPU: rays in parallel.
#include "../sample_stratified.h"

#include "parallel_for.h"

namespace dietnerf {

DIETNERF_CPU_KERNEL(SampleStratified<float>)
DIETNERF_CPU_KERNEL(SampleStratified<double>)
DIETNERF_CPU_KERNEL(SampleStratifiedBackward<float>)
DIETNERF_CPU_KERNEL(SampleStratifiedBackward<double>)

}  // namespace dietnerf

STABLE_TORCH_LIBRARY_IMPL(dietnerf, CPU, library) {
  dietnerf::SampleStratifiedOp<dietnerf::ParallelFor>::register_kernels(library);
}
