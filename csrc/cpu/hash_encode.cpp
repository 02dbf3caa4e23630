// Hash encoding on the CPU: blocks of samples in parallel, and for the gradient of the table
// levels, so that it needs no atomics and comes out the same for any number of threads.
#include "hash_encode_jobs.h"

namespace dietnerf {

namespace {

// Large enough that a level's entries are found in the cache again, small enough to share out.
constexpr int64_t kHashBlock = 512;

SpreadOverCores over_cores(const HashEncodeInputs& in) {
  return SpreadOverCores{in.n_samples() * in.n_levels()};
}

Tensor hash_encode_cpu(Tensor table, Tensor positions, Tensor levels, Tensor level_weights) {
  const HashEncodeInputs in("hash_encode", table, positions, levels, level_weights);
  return hash_encode(over_cores(in), in, HashJobs{kHashBlock, std::max<int64_t>(in.n_levels(), 1)});
}

std::tuple<Tensor, Tensor, Tensor> hash_encode_backward_cpu(int64_t wanted,
                                                            OptionalTensor grad_features,
                                                            Tensor table, Tensor positions,
                                                            Tensor levels, Tensor level_weights) {
  const HashEncodeInputs in("hash_encode_backward", table, positions, levels, level_weights);
  const HashJobs by_block{kHashBlock, std::max<int64_t>(in.n_levels(), 1)};
  const HashJobs by_level{std::max<int64_t>(in.n_samples(), 1), 1};
  return hash_encode_backward(over_cores(in), wanted, grad_features, in,
                              {by_level, by_block, by_level});
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(dietnerf, CPU, m) {
  m.impl("hash_encode", TORCH_BOX(&hash_encode_cpu));
  m.impl("hash_encode_backward", TORCH_BOX(&hash_encode_backward_cpu));
}

}  // namespace dietnerf
