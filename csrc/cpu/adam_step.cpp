// Adam on the CPU: cache lines in parallel, those without a gradient skipped.
#include "../adam_step.h"

#include "parallel_for.h"

namespace dietnerf {

// A call first collects the touched lines among many and then updates them, so that there is no
// branch to mispredict and lines are prefetched.
template <typename T>
struct AdamLines {
  // A cache line of floats: skipping smaller units would save no memory traffic.
  static constexpr int kLine = 16, kLines = 64, kSize = kLine * kLines;
  AdamStep<T, kLine> step;

  DIETNERF_HD void operator()(int64_t index) const {
    const int64_t first = index * kLines;
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

DIETNERF_CPU_KERNEL(AdamLines<float>)
DIETNERF_CPU_KERNEL(AdamLines<double>)

}  // namespace dietnerf

STABLE_TORCH_LIBRARY_IMPL(dietnerf, CPU, library) {
  dietnerf::AdamStepOp<dietnerf::AdamLines, dietnerf::ParallelFor>::register_kernels(library);
}
