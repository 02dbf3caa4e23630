// The distortion of weights on a GPU: one thread a ray.
#include "../distortion.h"

#include "launch.cuh"

namespace dietnerf {

namespace {

Tensor distortion_cuda(Tensor weights, Tensor ts, Tensor deltas, Tensor ray_offsets) {
  const DistortionInputs in("distortion", weights, ts, deltas, ray_offsets);
  return distortion(SpreadOverThreads{in.ray_offsets}, in);
}

std::tuple<Tensor, Tensor, Tensor> distortion_backward_cuda(int64_t wanted,
                                                            OptionalTensor grad_distortion,
                                                            Tensor weights, Tensor ts,
                                                            Tensor deltas, Tensor ray_offsets) {
  const DistortionInputs in("distortion_backward", weights, ts, deltas, ray_offsets);
  return distortion_backward(SpreadOverThreads{in.ray_offsets}, wanted, grad_distortion, in);
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(dietnerf, CUDA, m) {
  m.impl("distortion", TORCH_BOX(&distortion_cuda));
  m.impl("distortion_backward", TORCH_BOX(&distortion_backward_cuda));
}

}  // namespace dietnerf
