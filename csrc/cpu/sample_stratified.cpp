// Stratified distances on the CPU: rays in parallel.
#include "../sample_stratified.h"

#include "spread.h"

namespace dietnerf {

DIETNERF_CPU_JOB(SampleStratified<float>)
DIETNERF_CPU_JOB(SampleStratified<double>)
DIETNERF_CPU_JOB(SampleStratifiedBackward<float>)
DIETNERF_CPU_JOB(SampleStratifiedBackward<double>)

namespace {

Tensor sample_stratified_cpu(Tensor near, Tensor far, Tensor ray_offsets, OptionalTensor jitter,
                             int64_t n_samples, bool lindisp) {
  const SampleStratifiedInputs in("sample_stratified", near, far, ray_offsets, jitter, n_samples,
                                  lindisp);
  return sample_stratified(SpreadOverCores{n_samples}, in);
}

std::tuple<Tensor, Tensor, Tensor> sample_stratified_backward_cpu(
    int64_t wanted, OptionalTensor grad_ts, Tensor near, Tensor far, Tensor ray_offsets,
    OptionalTensor jitter, int64_t n_samples, bool lindisp) {
  const SampleStratifiedInputs in("sample_stratified_backward", near, far, ray_offsets, jitter,
                                  n_samples, lindisp);
  return sample_stratified_backward(SpreadOverCores{n_samples}, wanted, grad_ts, in);
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(dietnerf, CPU, m) {
  m.impl("sample_stratified", TORCH_BOX(&sample_stratified_cpu));
  m.impl("sample_stratified_backward", TORCH_BOX(&sample_stratified_backward_cpu));
}

}  // namespace dietnerf
