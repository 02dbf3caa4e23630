// Inverse transform sampling on a GPU: one thread a ray, and one a new sample.
#include "../sample_pdf.h"

#include "launch.cuh"

namespace dietnerf {

namespace {

Tensor sample_pdf_cuda(Tensor t_starts, Tensor t_ends, Tensor weights, Tensor ray_offsets,
                       Tensor u) {
  const SamplePdfInputs in("sample_pdf", t_starts, t_ends, weights, ray_offsets, u);
  return sample_pdf(SpreadOverThreads{in.ray_offsets}, in);
}

std::tuple<Tensor, Tensor, Tensor, Tensor> sample_pdf_backward_cuda(int64_t wanted,
                                                                    OptionalTensor grad_ts,
                                                                    Tensor t_starts, Tensor t_ends,
                                                                    Tensor weights,
                                                                    Tensor ray_offsets, Tensor u) {
  const SamplePdfInputs in("sample_pdf_backward", t_starts, t_ends, weights, ray_offsets, u);
  return sample_pdf_backward(SpreadOverThreads{in.ray_offsets}, wanted, grad_ts, in);
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(dietnerf, CUDA, m) {
  m.impl("sample_pdf", TORCH_BOX(&sample_pdf_cuda));
  m.impl("sample_pdf_backward", TORCH_BOX(&sample_pdf_backward_cuda));
}

}  // namespace dietnerf
