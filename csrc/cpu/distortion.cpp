// The distortion of weights on the CPU: rays in parallel.
#include "../distortion.h"

#include "spread.h"

namespace dietnerf {

DIETNERF_CPU_JOB(Distortion<float>)
DIETNERF_CPU_JOB(Distortion<double>)
DIETNERF_CPU_JOB(DistortionBackward<float>)
DIETNERF_CPU_JOB(DistortionBackward<double>)

namespace {

Tensor distortion_cpu(Tensor weights, Tensor ts, Tensor deltas, Tensor ray_offsets) {
  const DistortionInputs in("distortion", weights, ts, deltas, ray_offsets);
  return distortion(SpreadOverCores{in.n_samples}, in);
}

std::tuple<Tensor, Tensor, Tensor> distortion_backward_cpu(int64_t wanted,
                                                           OptionalTensor grad_distortion,
                                                           Tensor weights, Tensor ts, Tensor deltas,
                                                           Tensor ray_offsets) {
  const DistortionInputs in("distortion_backward", weights, ts, deltas, ray_offsets);
  return distortion_backward(SpreadOverCores{in.n_samples}, wanted, grad_distortion, in);
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(dietnerf, CPU, m) {
  m.impl("distortion", TORCH_BOX(&distortion_cpu));
  m.impl("distortion_backward", TORCH_BOX(&distortion_backward_cpu));
}

}  // namespace dietnerf
