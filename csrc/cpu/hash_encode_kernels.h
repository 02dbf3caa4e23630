// Hash encoding compiled for each processor generation, for the op itself and for fused ones.
#pragma once

#include "../hash_encode.h"
#include "parallel_for.h"

namespace dietnerf {

using torch::headeronly::BFloat16;
using torch::headeronly::Half;

#define DIETNERF_HASH_KERNELS(Kernel) \
  DIETNERF_CPU_KERNEL(Kernel<float>)  \
  DIETNERF_CPU_KERNEL(Kernel<double>) \
  DIETNERF_CPU_KERNEL(Kernel<Half>)   \
  DIETNERF_CPU_KERNEL(Kernel<BFloat16>)

DIETNERF_HASH_KERNELS(HashEncode)
DIETNERF_HASH_KERNELS(HashEncodeTableBackward)
DIETNERF_HASH_KERNELS(HashEncodePositionsBackward)
DIETNERF_HASH_KERNELS(HashEncodeWeightsBackward)

}  // namespace dietnerf
