// Compositing compiled for each processor generation, for the op itself and for fused ones.
#pragma once

#include "../composite.h"
#include "spread.h"

namespace dietnerf {

DIETNERF_CPU_JOB(Composite<float>)
DIETNERF_CPU_JOB(Composite<double>)
DIETNERF_CPU_JOB(CompositeBackward<float>)
DIETNERF_CPU_JOB(CompositeBackward<double>)

}  // namespace dietnerf
