// Hash encoding on a GPU: one thread per sample and level, those of one level in consecutive
// threads, so that its entries stay in the cache.
#include "../hash_encode.h"

#include "launch.cuh"

namespace dietnerf {

struct CudaHashPolicy {
  static HashBlocks forward(const HashEncodeInputs&) { return kOnePerThread; }

  static HashBackwardBlocks backward(const HashEncodeInputs& in) {
    const HashBlocks by_sample{1, in.n_levels() ? in.n_levels() : 1};
    return {kOnePerThread, by_sample, kOnePerThread};
  }
};

}  // namespace dietnerf

STABLE_TORCH_LIBRARY_IMPL(dietnerf, CUDA, library) {
  dietnerf::HashEncodeOp<dietnerf::CudaLauncher, dietnerf::CudaHashPolicy>::register_kernels(
      library);
}
