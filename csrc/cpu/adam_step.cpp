// Adam on the CPU: cache lines in parallel, those without a gradient left where they are.
#include "../adam_step.h"

#include "spread.h"

namespace dietnerf {

// A job looks through many lines first and then takes those that are touched, so that the processor
// guesses no branch and fetches the lines ahead.
template <typename T>
struct AdamLines {
  // A cache line of floats: what is skipped finer than that is fetched all the same.
  static constexpr int kLine = 16, kLines = 64, kSize = kLine * kLines;
  AdamStep<T, kLine> step;

  DIETNERF_HD void operator()(int64_t job) const {
    const int64_t first = job * kLines;
    const int64_t rest = (step.n + kLine - 1) / kLine - first;
    const int count = static_cast<int>(rest < kLines ? rest : kLines);
    int64_t touched[kLines];
    int n_touched = 0;
    for (int i = 0; i < count; ++i) {
      touched[n_touched] = first + i;
      n_touched += step.is_touched(first + i);
    }
    for (int i = 0; i < n_touched; ++i) step.take(touched[i]);
  }
};

DIETNERF_CPU_JOB(AdamLines<float>)
DIETNERF_CPU_JOB(AdamLines<double>)

namespace {

void adam_step_cpu(Tensor parameter, Tensor grad, Tensor exp_avg, Tensor exp_avg_sq, Tensor rule,
                   double beta1, double beta2, double eps) {
  adam_step<AdamLines>(SpreadOverCores{parameter.numel()}, parameter, grad, exp_avg, exp_avg_sq,
                       rule, beta1, beta2, eps);
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(dietnerf, CPU, m) { m.impl("adam_step", TORCH_BOX(&adam_step_cpu)); }

}  // namespace dietnerf
