// Hash encoding on the CPU: blocks of samples in parallel, and for the gradient of the table
// levels, so that it needs no atomics and is the same for any number of threads.
#include "hash_encode_kernels.h"

namespace dietnerf {

struct CpuHashPolicy {
  // Large enough that a level's entries are in the cache again, small enough to balance threads.
  static constexpr int64_t kBlock = 512;

  static HashBlocks forward(const HashEncodeInputs& in) {
    return {kBlock, std::max<int64_t>(in.n_levels(), 1)};
  }

  static HashBackwardBlocks backward(const HashEncodeInputs& in) {
    const HashBlocks by_level{std::max<int64_t>(in.n_samples(), 1), 1};
    return {by_level, forward(in), by_level};
  }
};

}  // namespace dietnerf

STABLE_TORCH_LIBRARY_IMPL(dietnerf, CPU, library) {
  dietnerf::HashEncodeOp<dietnerf::ParallelFor, dietnerf::CpuHashPolicy>::register_kernels(library);
}
