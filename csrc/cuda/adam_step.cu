// Adam on a GPU: one thread an element.
#include "../adam_step.h"

#include "launch.cuh"

namespace dietnerf {

namespace {

template <typename T>
using AdamElement = AdamStep<T, 1>;

void adam_step_cuda(Tensor parameter, Tensor grad, Tensor exp_avg, Tensor exp_avg_sq, Tensor rule,
                    double beta1, double beta2, double eps) {
  adam_step<AdamElement>(SpreadOverThreads{parameter}, parameter, grad, exp_avg, exp_avg_sq, rule,
                         beta1, beta2, eps);
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(dietnerf, CUDA, m) { m.impl("adam_step", TORCH_BOX(&adam_step_cuda)); }

}  // namespace dietnerf
