// Compositing on the CPU: rays in parallel, each one's samples in vector registers.
#include "composite_jobs.h"

namespace dietnerf {

namespace {

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> composite_cpu(Tensor sigmas, Tensor rgbs,
                                                                 Tensor deltas, Tensor ts,
                                                                 Tensor ray_offsets,
                                                                 double early_stop) {
  const CompositeInputs in("composite", sigmas, rgbs, deltas, ts, ray_offsets);
  return composite(SpreadOverCores{in.n_samples}, in, early_stop);
}

std::tuple<Tensor, Tensor, Tensor, Tensor> composite_backward_cpu(
    int64_t wanted, OptionalTensor grad_weights, OptionalTensor grad_rgb,
    OptionalTensor grad_opacity, OptionalTensor grad_depth, OptionalTensor grad_trans,
    Tensor weights, Tensor trans, Tensor sigmas, Tensor rgbs, Tensor deltas, Tensor ts,
    Tensor ray_offsets, double early_stop) {
  const CompositeInputs in("composite_backward", sigmas, rgbs, deltas, ts, ray_offsets);
  const CompositeGrads grads{grad_weights, grad_rgb, grad_opacity, grad_depth, grad_trans};
  return composite_backward(SpreadOverCores{in.n_samples}, wanted, grads, weights, trans, in,
                            early_stop);
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(dietnerf, CPU, m) {
  m.impl("composite", TORCH_BOX(&composite_cpu));
  m.impl("composite_backward", TORCH_BOX(&composite_backward_cpu));
}

}  // namespace dietnerf
