// Stratified distances on a GPU: one thread a ray.
#include "../sample_stratified.h"

#include "launch.cuh"

namespace dietnerf {

namespace {

Tensor sample_stratified_cuda(Tensor near, Tensor far, Tensor ray_offsets, OptionalTensor jitter,
                              int64_t n_samples, bool lindisp) {
  const SampleStratifiedInputs in("sample_stratified", near, far, ray_offsets, jitter, n_samples,
                                  lindisp);
  return sample_stratified(SpreadOverThreads{in.ray_offsets}, in);
}

std::tuple<Tensor, Tensor, Tensor> sample_stratified_backward_cuda(
    int64_t wanted, OptionalTensor grad_ts, Tensor near, Tensor far, Tensor ray_offsets,
    OptionalTensor jitter, int64_t n_samples, bool lindisp) {
  const SampleStratifiedInputs in("sample_stratified_backward", near, far, ray_offsets, jitter,
                                  n_samples, lindisp);
  return sample_stratified_backward(SpreadOverThreads{in.ray_offsets}, wanted, grad_ts, in);
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(dietnerf, CUDA, m) {
  m.impl("sample_stratified", TORCH_BOX(&sample_stratified_cuda));
  m.impl("sample_stratified_backward", TORCH_BOX(&sample_stratified_backward_cuda));
}

}  // namespace dietnerf
