// Structural similarity on a GPU: a block of threads a tile.
#include "../structural_similarity.h"

#include "launch.cuh"

namespace dietnerf::similarity {

namespace {

constexpr int kThreads = 256;

struct TileBlock {
  template <typename Body>
  __device__ void each(int n_rows, int n, const Body& body) const {
    for (int i = threadIdx.x; i < n_rows * n; i += kThreads) body(i / n, i % n);
    __syncthreads();
  }

  template <typename T, typename Body>
  __device__ void sum(int n_rows, int n, T* to, const Body& body) const {
    constexpr int kWarps = kThreads / 32;
    __shared__ T of_warps[kWarps];
    T total = 0;
    for (int i = threadIdx.x; i < n_rows * n; i += kThreads) total += body(i / n, i % n);
    for (int offset = 16; offset; offset /= 2) total += __shfl_xor_sync(~0u, total, offset);
    if (threadIdx.x % 32 == 0) of_warps[threadIdx.x / 32] = total;
    __syncthreads();
    if (threadIdx.x != 0) return;
    for (int warp = 1; warp < kWarps; ++warp) total += of_warps[warp];
    *to = total;
  }
};

template <typename Kernel>
__global__ void __launch_bounds__(kThreads) run_tile(Kernel kernel) {
  __shared__ typename Kernel::Memory memory;
  const TileBlock block;
  kernel(block, memory, blockIdx.x);
}

struct CudaTiles {
  using Size = TileSize<8, 38>;  // 48 columns with the border: 36 KB of shared memory in float64

  template <typename Kernel>
  static void run(const Kernel& kernel, int64_t n_tiles, const Tensor& like) {
    const int32_t device = like.get_device_index();
    const torch::stable::accelerator::DeviceGuard guard(device);
    void* stream = nullptr;
    TORCH_ERROR_CODE_CHECK(aoti_torch_get_current_cuda_stream(device, &stream));
    run_tile<<<static_cast<unsigned>(n_tiles), kThreads, 0, static_cast<cudaStream_t>(stream)>>>(
        kernel);
    STD_CUDA_KERNEL_LAUNCH_CHECK();
  }

  static Tensor sum(const Tensor& values) { return torch::stable::sum(values); }
};

}  // namespace

}  // namespace dietnerf::similarity

STABLE_TORCH_LIBRARY_IMPL(dietnerf, CUDA, library) {
  dietnerf::StructuralSimilarityOp<dietnerf::similarity::CudaTiles>::register_kernels(library);
}
