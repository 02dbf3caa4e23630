// Inverse transform sampling on the CPU: rays in parallel.
#include "../sample_pdf.h"

#include "spread.h"

namespace dietnerf {

DIETNERF_CPU_JOB(Cumulate<float>)
DIETNERF_CPU_JOB(Cumulate<double>)
DIETNERF_CPU_JOB(SamplePdf<float>)
DIETNERF_CPU_JOB(SamplePdf<double>)
DIETNERF_CPU_JOB(SamplePdfBackward<float>)
DIETNERF_CPU_JOB(SamplePdfBackward<double>)

namespace {

Tensor sample_pdf_cpu(Tensor t_starts, Tensor t_ends, Tensor weights, Tensor ray_offsets,
                      Tensor u) {
  const SamplePdfInputs in("sample_pdf", t_starts, t_ends, weights, ray_offsets, u);
  return sample_pdf(SpreadOverCores{in.n_samples + u.numel()}, in);
}

std::tuple<Tensor, Tensor, Tensor, Tensor> sample_pdf_backward_cpu(int64_t wanted,
                                                                   OptionalTensor grad_ts,
                                                                   Tensor t_starts, Tensor t_ends,
                                                                   Tensor weights,
                                                                   Tensor ray_offsets, Tensor u) {
  const SamplePdfInputs in("sample_pdf_backward", t_starts, t_ends, weights, ray_offsets, u);
  return sample_pdf_backward(SpreadOverCores{in.n_samples + u.numel()}, wanted, grad_ts, in);
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(dietnerf, CPU, m) {
  m.impl("sample_pdf", TORCH_BOX(&sample_pdf_cpu));
  m.impl("sample_pdf_backward", TORCH_BOX(&sample_pdf_backward_cpu));
}

}  // namespace dietnerf
