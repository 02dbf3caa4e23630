// Compositing Gaussians on the CPU: tiles in parallel. Each tile writes sums of its own for each of
// its Gaussians, which are then added Gaussian by Gaussian: the same whatever the number of
// threads.
#include "rasterize_tiles.h"

namespace dietnerf::rasterizing {

using TileBackwardFloat = RasterizeTileBackward<float, false>;
using TileBackwardDouble = RasterizeTileBackward<double, false>;
using AbsTileBackwardFloat = RasterizeTileBackward<float, true>;
using AbsTileBackwardDouble = RasterizeTileBackward<double, true>;

DIETNERF_CPU_KERNEL(RasterizeTile<float>)
DIETNERF_CPU_KERNEL(RasterizeTile<double>)
DIETNERF_CPU_KERNEL(TileBackwardFloat)
DIETNERF_CPU_KERNEL(TileBackwardDouble)
DIETNERF_CPU_KERNEL(AbsTileBackwardFloat)
DIETNERF_CPU_KERNEL(AbsTileBackwardDouble)

namespace {

template <typename Kernel>
void run_tiles(const Kernel& kernel, int64_t n_tiles) {
  parallel_for_dynamic(n_tiles, [&] { return [&](int64_t tile) { run(kernel, tile, tile + 1); }; });
}

// Calls body(rank, entries from, to) for every Gaussian, with pointers to their positions.
template <typename T, typename Body>
void each_splat(const Bins<T>& bins, const Body& body) {
  constexpr int64_t kPerTask = 1024;
  parallel_for_dynamic((bins.n_ranks() + kPerTask - 1) / kPerTask, [&] {
    return [&](int64_t task) {
      const int64_t end = std::min(bins.n_ranks(), (task + 1) * kPerTask);
      for (int64_t rank = task * kPerTask; rank < end; ++rank) {
        body(rank, bins.positions.data() + bins.pair_offsets[rank],
             bins.positions.data() + bins.pair_offsets[rank + 1]);
      }
    };
  });
}

struct CpuRasterizer {
  static void forward(const RasterizeInputs& in, const RasterizeOutputs& out) {
    with_floating_type("rasterize_gaussians", in.centers, [&](auto zero) {
      using T = decltype(zero);
      const Bins<T> bins(in);
      const Tensor weights = empty_sized(in.centers, {bins.n_pairs()});
      run_tiles(RasterizeTile<T>{bins.splats.data(), bins.entries.data(), bins.tile_offsets.data(),
                                 in.width, in.height, mutable_data<T>(out.rgb),
                                 mutable_data<T>(out.opacity), mutable_data<T>(out.depth),
                                 mutable_data<T>(out.median_depth), mutable_data<T>(out.trans),
                                 mutable_data<T>(out.n_passed), mutable_data<T>(weights)},
                in.n_tiles());
      T* max_weights = mutable_data<T>(out.max_weights);
      const T* of_entries = const_data<T>(weights);
      each_splat(bins, [&](int64_t rank, const int32_t* from, const int32_t* to) {
        T largest = 0;
        for (; from < to; ++from) largest = std::max(largest, of_entries[*from]);
        max_weights[bins.ids[rank]] = largest;
      });
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
    const Bins<T> bins(in);
    const Tensor buffer =
        empty_sized(in.centers, {bins.n_pairs(), sizeof(SplatSums<T>) / sizeof(T)});
    const auto sums = reinterpret_cast<SplatSums<T>*>(mutable_data<T>(buffer));
    run_tiles(
        RasterizeTileBackward<T, kAbsolute>{
            bins.splats.data(), bins.entries.data(), bins.tile_offsets.data(), in.width, in.height,
            const_data<T>(grads.rgb), const_data<T>(grads.opacity), const_data<T>(grads.depth),
            const_data<T>(grads.grad_trans), const_data<T>(grads.trans),
            const_data<T>(grads.n_passed), sums},
        in.n_tiles());
    const SplatGrads<T> write = out.pointers<T>();
    each_splat(bins, [&](int64_t rank, const int32_t* from, const int32_t* to) {
      SplatSums<T> total;
      for (; from < to; ++from) total += sums[*from];
      write.write(bins.ids[rank], bins.splats[rank], total);
    });
  }
};

}  // namespace

}  // namespace dietnerf::rasterizing

STABLE_TORCH_LIBRARY_IMPL(dietnerf, CPU, library) {
  dietnerf::RasterizeGaussiansOp<dietnerf::rasterizing::CpuRasterizer>::register_kernels(library);
}
