// Hash encoding on a GPU: one thread a sample and level, those of one level side by side, so that
// they find its entries in the cache.
#include "../hash_encode.h"

#include "launch.cuh"

namespace dietnerf {

namespace {

Tensor hash_encode_cuda(Tensor table, Tensor positions, Tensor levels, Tensor level_weights) {
  const HashEncodeInputs in("hash_encode", table, positions, levels, level_weights);
  return hash_encode(SpreadOverThreads{in.positions}, in, kOneByOne);
}

std::tuple<Tensor, Tensor, Tensor> hash_encode_backward_cuda(int64_t wanted,
                                                             OptionalTensor grad_features,
                                                             Tensor table, Tensor positions,
                                                             Tensor levels, Tensor level_weights) {
  const HashEncodeInputs in("hash_encode_backward", table, positions, levels, level_weights);
  const HashJobs by_sample{1, in.n_levels() ? in.n_levels() : 1};
  return hash_encode_backward(SpreadOverThreads{in.positions}, wanted, grad_features, in,
                              {kOneByOne, by_sample, kOneByOne});
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(dietnerf, CUDA, m) {
  m.impl("hash_encode", TORCH_BOX(&hash_encode_cuda));
  m.impl("hash_encode_backward", TORCH_BOX(&hash_encode_backward_cuda));
}

}  // namespace dietnerf
