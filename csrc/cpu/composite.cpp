// Compositing on the CPU: rays in parallel, the samples of each in vector registers.
#include "composite_kernels.h"

STABLE_TORCH_LIBRARY_IMPL(dietnerf, CPU, library) {
  dietnerf::CompositeOp<dietnerf::ParallelFor>::register_kernels(library);
}
