// Runs kernels on a GPU, and what several of them need of torch: the only shared CUDA helper.
#pragma once

#include <cuda_runtime.h>
#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/macros.h>

#include <array>

#include "../common.h"

namespace dietnerf {

template <typename Kernel>
__global__ void run_kernel(Kernel kernel, int64_t n) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i < n) kernel(i);
}

// Calls kernel(i) for every i below n, each in a thread of its own, on the device and the current
// stream of `like`.
class CudaLauncher {
 public:
  explicit CudaLauncher(const Tensor& like, int64_t /*n_samples*/ = 0) : like_(like) {}

  template <typename Kernel>
  void operator()(const Kernel& kernel, int64_t n) const {
    if (n == 0) return;
    const int32_t device = like_.get_device_index();
    const torch::stable::accelerator::DeviceGuard guard(device);
    void* stream = nullptr;
    TORCH_ERROR_CODE_CHECK(aoti_torch_get_current_cuda_stream(device, &stream));
    const unsigned blocks = static_cast<unsigned>((n + kThreads - 1) / kThreads);
    run_kernel<<<blocks, kThreads, 0, static_cast<cudaStream_t>(stream)>>>(kernel, n);
    STD_CUDA_KERNEL_LAUNCH_CHECK();
  }

 private:
  // Rays differ in length: small blocks free a multiprocessor for the next ones sooner.
  static constexpr int64_t kThreads = 128;

  Tensor like_;
};

inline Tensor cumulated(const Tensor& counts) {
  using torch::stable::detail::from;
  std::array<StableIValue, 3> stack{from(counts), from(int64_t{0}),
                                    from(std::optional<ScalarType>())};
  TORCH_ERROR_CODE_CHECK(
      torch_call_dispatcher("aten::cumsum", "", stack.data(), TORCH_ABI_VERSION));
  return torch::stable::detail::to<Tensor>(stack[0]);
}

// The host waits for the number.
inline int64_t number_in(const Tensor& scalar) {
  const torch::stable::Device cpu(torch::headeronly::DeviceType::CPU);
  return *torch::stable::to(scalar, cpu).const_data_ptr<int64_t>();
}

}  // namespace dietnerf
