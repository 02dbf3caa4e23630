// Inverse transform sampling on the CPU: rays in parallel.
#include "../sample_pdf.h"

#include "parallel_for.h"

namespace dietnerf {

DIETNERF_CPU_KERNEL(Cumulate<float>)
DIETNERF_CPU_KERNEL(Cumulate<double>)
DIETNERF_CPU_KERNEL(SamplePdf<float>)
DIETNERF_CPU_KERNEL(SamplePdf<double>)
DIETNERF_CPU_KERNEL(SamplePdfBackward<float>)
DIETNERF_CPU_KERNEL(SamplePdfBackward<double>)

}  // namespace dietnerf

STABLE_TORCH_LIBRARY_IMPL(dietnerf, CPU, library) {
  dietnerf::SamplePdfOp<dietnerf::ParallelFor>::register_kernels(library);
}
