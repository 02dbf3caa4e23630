// How a job is spread over a GPU: the only shared CUDA helper.
#pragma once

#include <cuda_runtime.h>
#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/macros.h>

#include "../common.h"

namespace dietnerf {

template <typename Job>
__global__ void run_each(Job job, int64_t n) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i < n) job(i);
}

// One thread calls job(i) for one i, on the device and the current stream of `like`.
struct SpreadOverThreads {
  const Tensor& like;

  template <typename Job>
  void operator()(const Job& job, int64_t n) const {
    if (n == 0) return;
    const int32_t device = like.get_device_index();
    const torch::stable::accelerator::DeviceGuard guard(device);
    void* stream = nullptr;
    TORCH_ERROR_CODE_CHECK(aoti_torch_get_current_cuda_stream(device, &stream));
    const unsigned blocks = static_cast<unsigned>((n + kThreads - 1) / kThreads);
    run_each<<<blocks, kThreads, 0, static_cast<cudaStream_t>(stream)>>>(job, n);
    STD_CUDA_KERNEL_LAUNCH_CHECK();
  }

  // Rays differ in length: small blocks let a multiprocessor go on to the next ones sooner.
  static constexpr int64_t kThreads = 128;
};

}  // namespace dietnerf
