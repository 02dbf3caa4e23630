// Compositing compiled for each processor generation, for the op itself and for fused ones.
#pragma once

#include "../composite.h"
#include "parallel_for.h"

namespace dietnerf {

DIETNERF_CPU_KERNEL(Composite<float>)
DIETNERF_CPU_KERNEL(Composite<double>)
DIETNERF_CPU_KERNEL(CompositeBackward<float>)
DIETNERF_CPU_KERNEL(CompositeBackward<double>)

}  // namespace dietnerf
