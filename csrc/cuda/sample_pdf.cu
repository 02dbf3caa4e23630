// Inverse transform sampling on a GPU: one thread per ray, and one per new sample.
#include "../sample_pdf.h"

#include "launch.cuh"

STABLE_TORCH_LIBRARY_IMPL(dietnerf, CUDA, library) {
  dietnerf::SamplePdfOp<dietnerf::CudaLauncher>::register_kernels(library);
}
