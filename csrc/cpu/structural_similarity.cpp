// Structural similarity on the CPU: tiles in parallel, their columns side by side in vectors.
#include "../structural_similarity.h"

#include "parallel_for.h"

namespace dietnerf::similarity {

namespace {

// A block of one thread.
struct OneThread {
  template <typename Body>
  DIETNERF_HD void each(int n_rows, int n, const Body& body) const {
    for (int row = 0; row < n_rows; ++row) {
      DIETNERF_SIMD
      for (int i = 0; i < n; ++i) body(row, i);
    }
  }

  template <typename T, typename Body>
  DIETNERF_HD void sum(int n_rows, int n, T* to, const Body& body) const {
    T total = 0;
    for (int row = 0; row < n_rows; ++row) {
#pragma omp simd reduction(+ : total)
      for (int i = 0; i < n; ++i) total += body(row, i);
    }
    *to = total;
  }
};

template <typename Kernel>
struct EachTile {
  Kernel kernel;

  DIETNERF_HD void operator()(int64_t tile) const {
    typename Kernel::Memory memory;
    const OneThread block;
    kernel(block, memory, tile);
  }
};

using CpuSize = TileSize<2, 246>;  // of which 24 KB are kept, in the nearest cache
using TileFloat = EachTile<Similarity<float, CpuSize>>;
using TileDouble = EachTile<Similarity<double, CpuSize>>;
using TileBackwardFloat = EachTile<SimilarityBackward<float, CpuSize>>;
using TileBackwardDouble = EachTile<SimilarityBackward<double, CpuSize>>;

DIETNERF_CPU_KERNEL(TileFloat)
DIETNERF_CPU_KERNEL(TileDouble)
DIETNERF_CPU_KERNEL(TileBackwardFloat)
DIETNERF_CPU_KERNEL(TileBackwardDouble)

struct CpuTiles {
  using Size = CpuSize;

  template <typename Kernel>
  static void run(const Kernel& kernel, int64_t n_tiles, const Tensor&) {
    const EachTile<Kernel> each{kernel};
    ParallelFor(n_tiles * Size::kRows * Size::kColumns * kChannels)(each, n_tiles);
  }

  static Tensor sum(const Tensor& values) {
    const Tensor total = empty_sized(values, {});
    with_floating_type("structural_similarity", values, [&](auto zero) {
      using T = decltype(zero);
      double found = 0;
      for (int64_t i = 0; i < values.numel(); ++i) found += const_data<T>(values)[i];
      *mutable_data<T>(total) = static_cast<T>(found);
    });
    return total;
  }
};

}  // namespace

}  // namespace dietnerf::similarity

STABLE_TORCH_LIBRARY_IMPL(dietnerf, CPU, library) {
  dietnerf::StructuralSimilarityOp<dietnerf::similarity::CpuTiles>::register_kernels(library);
}
