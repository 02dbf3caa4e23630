// Hash encoding compiled for each processor generation, for the op itself and for fused ones.
#pragma once

#include "../hash_encode.h"
#include "spread.h"

namespace dietnerf {

using torch::headeronly::BFloat16;
using torch::headeronly::Half;

#define DIETNERF_HASH_JOBS(Job) \
  DIETNERF_CPU_JOB(Job<float>)  \
  DIETNERF_CPU_JOB(Job<double>) \
  DIETNERF_CPU_JOB(Job<Half>)   \
  DIETNERF_CPU_JOB(Job<BFloat16>)

DIETNERF_HASH_JOBS(HashEncode)
DIETNERF_HASH_JOBS(HashEncodeTableBackward)
DIETNERF_HASH_JOBS(HashEncodePositionsBackward)
DIETNERF_HASH_JOBS(HashEncodeWeightsBackward)

}  // namespace dietnerf
