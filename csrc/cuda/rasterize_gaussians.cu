// Compositing Gaussians on a GPU: sorted by depth, then by tile, a block of threads a tile. The
// gradients of a tile are summed in each warp before they are added to those of other tiles.
#include "../rasterize_gaussians.h"

#include <array>

#include "../rasterize_gaussians/block.h"
#include "launch.cuh"

namespace dietnerf::rasterizing {

namespace {

struct PixelBlock {
  // One of them in registers, whatever the index.
  template <typename Value>
  struct PerThread {
    Value value;
    __device__ Value& operator[](int) { return value; }
  };

  template <typename Body>
  __device__ void each(const Body& body) {
    body(static_cast<int>(threadIdx.x));
  }

  template <typename Body>
  __device__ void threads(const Body& body) {
    body(static_cast<int>(threadIdx.x));
    __syncthreads();
  }

  template <typename Body>
  __device__ bool any(const Body& body) {
    return __syncthreads_or(body(static_cast<int>(threadIdx.x)));
  }

  template <typename T>
  __device__ void max_warps(PerThread<T>& values, T* to) {
    T largest = values[0];
    if (!__any_sync(~0u, largest > 0)) return;
    for (int offset = 16; offset; offset /= 2) {
      const T other = __shfl_xor_sync(~0u, largest, offset);
      largest = other > largest ? other : largest;
    }
    // Numbers that are not negative are in the order of their bits.
    if (threadIdx.x % 32 == 0) atomic_max(to, largest);
  }

  template <bool kAbsolute, typename T>
  __device__ void add_warps(PerThread<SplatSums<T>>& own, SplatSums<T>* to) {
    const SplatSums<T>& sums = own[0];
    const bool has_any =
        sums.h != 0 || sums.red != 0 || sums.green != 0 || sums.blue != 0 || sums.depth != 0;
    if (!__any_sync(~0u, has_any)) return;
    add(sums.h, &to->h), add(sums.x, &to->x), add(sums.y, &to->y);
    add(sums.xx, &to->xx), add(sums.xy, &to->xy), add(sums.yy, &to->yy);
    add(sums.red, &to->red), add(sums.green, &to->green), add(sums.blue, &to->blue);
    add(sums.depth, &to->depth);
    if (kAbsolute) add(sums.abs_x, &to->abs_x), add(sums.abs_y, &to->abs_y);
  }

 private:
  template <typename T>
  __device__ static void add(T value, T* to) {
    for (int offset = 16; offset; offset /= 2) value += __shfl_xor_sync(~0u, value, offset);
    if (threadIdx.x % 32 == 0) atomicAdd(to, value);
  }

  __device__ static void atomic_max(float* to, float value) {
    atomicMax(reinterpret_cast<int*>(to), __float_as_int(value));
  }
  __device__ static void atomic_max(double* to, double value) {
    atomicMax(reinterpret_cast<long long*>(to), __double_as_longlong(value));
  }
};

template <typename T, typename Kernel>
__global__ void __launch_bounds__(kThreads) run_pixels(Kernel kernel) {
  __shared__ SplatBatch<T> batch;
  PixelBlock block;
  kernel(block, batch, blockIdx.x);
}

template <typename T, typename Kernel>
void launch_pixels(const RasterizeInputs& in, const Kernel& kernel) {
  const int32_t device = in.centers.get_device_index();
  const torch::stable::accelerator::DeviceGuard guard(device);
  void* stream = nullptr;
  TORCH_ERROR_CODE_CHECK(aoti_torch_get_current_cuda_stream(device, &stream));
  run_pixels<T>
      <<<static_cast<unsigned>(in.n_tiles()), kThreads, 0, static_cast<cudaStream_t>(stream)>>>(
          kernel);
  STD_CUDA_KERNEL_LAUNCH_CHECK();
}

struct Sorted {
  Tensor values, indices;

  explicit Sorted(const Tensor& keys) {
    using torch::stable::detail::from;
    std::array<StableIValue, 4> stack{from(keys), from(std::optional<bool>(true)),
                                      from(int64_t{-1}), from(false)};
    TORCH_ERROR_CODE_CHECK(
        torch_call_dispatcher("aten::sort", "stable", stack.data(), TORCH_ABI_VERSION));
    values = torch::stable::detail::to<Tensor>(stack[0]);
    indices = torch::stable::detail::to<Tensor>(stack[1]);
  }
};

// Which Gaussians touch which tiles, front to back.
template <typename T>
struct CudaBins {
  Tensor order, splats, ranks, pairs, tile_offsets;

  explicit CudaBins(const RasterizeInputs& in) {
    const CudaLauncher launch(in.centers);
    const Tensor keys = empty_sized(in.centers, {in.n});
    launch(
        SortKeys<T>{const_data<T>(in.centers), const_data<T>(in.conics), const_data<T>(in.depths),
                    const_data<T>(in.radii), const_data<T>(in.opacities), mutable_data<T>(keys)},
        in.n);
    const Sorted by_depth(keys);
    order = by_depth.indices;
    splats = empty_sized(in.centers, {in.n, sizeof(Splat<T>) / sizeof(T)});
    ListPairs<T> list{const_data<T>(in.centers),
                      const_data<T>(in.conics),
                      const_data<T>(in.opacities),
                      const_data<T>(in.colors),
                      const_data<T>(by_depth.values),
                      const_data<int64_t>(order),
                      in.width,
                      in.height,
                      reinterpret_cast<Splat<T>*>(mutable_data<T>(splats))};
    const Tensor counts = torch::stable::new_zeros(order, {in.n + 1});
    list.counts = mutable_data<int64_t>(counts) + 1;
    launch(list, in.n);
    Tensor offsets = cumulated(counts);
    const int64_t n_pairs = number_in(torch::stable::narrow(offsets, 0, in.n, 1));
    const Tensor tiles = torch::stable::new_empty(in.centers, {n_pairs}, ScalarType::Int);
    ranks = torch::stable::new_empty(tiles, {n_pairs});
    list.counts = nullptr;
    list.offsets = const_data<int64_t>(offsets);
    list.tiles = mutable_data<int32_t>(tiles);
    list.ranks = mutable_data<int32_t>(ranks);
    launch(list, in.n);
    const Sorted by_tile(tiles);
    pairs = by_tile.indices;
    tile_offsets = torch::stable::new_empty(order, {in.n_tiles() + 1});
    launch(TileOffsets{const_data<int32_t>(by_tile.values), n_pairs,
                       mutable_data<int64_t>(tile_offsets)},
           in.n_tiles() + 1);
  }

  TiledSplats<T> tiled(const RasterizeInputs& in) const {
    return {reinterpret_cast<const Splat<T>*>(const_data<T>(splats)),
            const_data<int32_t>(ranks),
            const_data<int64_t>(pairs),
            const_data<int64_t>(tile_offsets),
            in.width,
            in.height};
  }
};

struct CudaRasterizer {
  static void forward(const RasterizeInputs& in, const RasterizeOutputs& out) {
    with_floating_type("rasterize_gaussians", in.centers, [&](auto zero) {
      using T = decltype(zero);
      const CudaBins<T> bins(in);
      launch_pixels<T>(
          in,
          BlockForward<T>{bins.tiled(in), const_data<int64_t>(bins.order), mutable_data<T>(out.rgb),
                          mutable_data<T>(out.opacity), mutable_data<T>(out.depth),
                          mutable_data<T>(out.median_depth), mutable_data<T>(out.trans),
                          mutable_data<T>(out.n_passed), mutable_data<T>(out.max_weights)});
    });
  }

  static void backward(const RasterizeInputs& in, const RasterizeGrads& grads,
                       const RasterizeInputGrads& out) {
    with_floating_type("rasterize_gaussians_backward", in.centers, [&](auto zero) {
      using T = decltype(zero);
      if (out.absgrad.numel()) {
        backward_of<T, true>(in, grads, out);
      } else {
        backward_of<T, false>(in, grads, out);
      }
    });
  }

 private:
  template <typename T, bool kAbsolute>
  static void backward_of(const RasterizeInputs& in, const RasterizeGrads& grads,
                          const RasterizeInputGrads& out) {
    const CudaBins<T> bins(in);
    const TiledSplats<T> tiled = bins.tiled(in);
    const Tensor sums = zeros_sized(in.centers, {in.n, sizeof(SplatSums<T>) / sizeof(T)});
    const auto pointer = reinterpret_cast<SplatSums<T>*>(mutable_data<T>(sums));
    launch_pixels<T>(in, BlockBackward<T, kAbsolute>{
                             tiled, const_data<T>(grads.rgb), const_data<T>(grads.opacity),
                             const_data<T>(grads.depth), const_data<T>(grads.grad_trans),
                             const_data<T>(grads.trans), const_data<T>(grads.n_passed), pointer});
    CudaLauncher(in.centers)(
        WriteGrads<T>{tiled.splats, pointer, const_data<int64_t>(bins.order), out.pointers<T>()},
        in.n);
  }
};

}  // namespace

}  // namespace dietnerf::rasterizing

STABLE_TORCH_LIBRARY_IMPL(dietnerf, CUDA, library) {
  dietnerf::RasterizeGaussiansOp<dietnerf::rasterizing::CudaRasterizer>::register_kernels(library);
}
