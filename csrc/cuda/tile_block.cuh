// A block of threads on a GPU, as csrc/tile_mlp/ needs it, and its launch.
#pragma once

#include <mma.h>

#include <algorithm>

#include "../tile_mlp/backward.h"
#include "launch.cuh"

namespace dietnerf {

struct TileBlock {
  // A 16x16 matrix in float32, of which every thread of a warp holds some elements.
  struct Sum {
    using Fragment = nvcuda::wmma::fragment<nvcuda::wmma::accumulator, 16, 16, 16, float>;
    static constexpr int kElements = Fragment::num_elements;
    Fragment fragment;

    __device__ float& operator[](int i) { return fragment.x[i]; }
    __device__ void clear() { nvcuda::wmma::fill_fragment(fragment, 0.0f); }

    // += left right, of 16x16 pieces whose rows are so many elements apart.
    template <bool kLeftTransposed, bool kRightTransposed>
    __device__ void add(const Half* left, int left_row, const Half* right, int right_row) {
      using namespace nvcuda::wmma;
      using Rows = row_major;
      using Columns = col_major;
      fragment_of<matrix_a, std::conditional_t<kLeftTransposed, Columns, Rows>> a;
      fragment_of<matrix_b, std::conditional_t<kRightTransposed, Columns, Rows>> b;
      load_matrix_sync(a, reinterpret_cast<const __half*>(left), left_row);
      load_matrix_sync(b, reinterpret_cast<const __half*>(right), right_row);
      mma_sync(fragment, a, b, fragment);
    }

    __device__ void load(const float* from, int row) {
      nvcuda::wmma::load_matrix_sync(fragment, from, row, nvcuda::wmma::mem_row_major);
    }
    __device__ void store(float* to, int row) const {
      nvcuda::wmma::store_matrix_sync(to, fragment, row, nvcuda::wmma::mem_row_major);
    }

    template <typename Use, typename Layout>
    using fragment_of = nvcuda::wmma::fragment<Use, 16, 16, 16, __half, Layout>;
  };

  template <typename Body>
  __device__ void threads(const Body& body) {
    body(static_cast<int>(threadIdx.x));
    __syncthreads();
  }

  template <typename Body>
  __device__ void warps(const Body& body) {
    body(static_cast<int>(threadIdx.x / 32));
    __syncthreads();
  }

  // body(i) for all i < n, shared among the threads of a warp.
  template <typename Body>
  __device__ void lanes(int n, const Body& body) {
    __syncwarp();
    for (int i = threadIdx.x % 32; i < n; i += 32) body(i);
    __syncwarp();
  }
};

// Four blocks per multiprocessor leave a thread 128 registers: without the bound ptxas spills for
// sm_80 and sm_120.
template <typename Kernel>
__global__ void __launch_bounds__(kTileThreads, 4) run_tiles(Kernel kernel) {
  extern __shared__ __align__(128) char shared[];
  TileBlock block;
  kernel(block, shared, blockIdx.x, gridDim.x);
}

inline void check_cuda(cudaError_t error, const char* what) {
  STD_TORCH_CHECK(error == cudaSuccess, what, ": ", cudaGetErrorString(error));
}

// As many blocks as the device of `like` runs at a time, but not more than there are tiles.
template <typename Kernel>
int64_t tile_blocks(const Tensor& like, const TileInputs& in) {
  const torch::stable::accelerator::DeviceGuard guard(like.get_device_index());
  int max_shared = 0, device = like.get_device_index(), per_multiprocessor = 0, multiprocessors = 0;
  check_cuda(cudaDeviceGetAttribute(&max_shared, cudaDevAttrMaxSharedMemoryPerBlockOptin, device),
             "render_hash_grid");
  STD_TORCH_CHECK(in.memory.total <= max_shared, "render_hash_grid: networks of this width take ",
                  in.memory.total, " bytes of shared memory, this GPU has ", max_shared);
  check_cuda(cudaFuncSetAttribute(run_tiles<Kernel>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                  in.memory.total),
             "render_hash_grid");
  // By default the driver may reserve shared memory for one block only.
  check_cuda(cudaFuncSetAttribute(run_tiles<Kernel>, cudaFuncAttributePreferredSharedMemoryCarveout,
                                  cudaSharedmemCarveoutMaxShared),
             "render_hash_grid");
  check_cuda(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&per_multiprocessor, run_tiles<Kernel>,
                                                           kTileThreads, in.memory.total),
             "render_hash_grid");
  STD_TORCH_CHECK(per_multiprocessor > 0, "render_hash_grid: this GPU has no room for a block of ",
                  kTileThreads, " threads with ", in.memory.total, " bytes of shared memory");
  check_cuda(cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, device),
             "render_hash_grid");
  return std::min<int64_t>(in.n_tiles(), int64_t{per_multiprocessor} * multiprocessors);
}

template <typename Kernel>
void launch_tiles(const Tensor& like, const Kernel& kernel, int64_t n_blocks) {
  if (n_blocks == 0) return;
  const int32_t device = like.get_device_index();
  const torch::stable::accelerator::DeviceGuard guard(device);
  void* stream = nullptr;
  TORCH_ERROR_CODE_CHECK(aoti_torch_get_current_cuda_stream(device, &stream));
  run_tiles<<<static_cast<unsigned>(n_blocks), kTileThreads, kernel.in.memory.total,
              static_cast<cudaStream_t>(stream)>>>(kernel);
  STD_CUDA_KERNEL_LAUNCH_CHECK();
}

}  // namespace dietnerf
