// How a job is spread over the cores: the only shared CPU helper.
#pragma once

#include "../common.h"

// Makes `run(job, begin, end)` for a job type, compiled once a processor generation. The loop has
// to stand in the attributed function, which can be no template.
#define DIETNERF_CPU_JOB(Job)                                                                    \
  [[maybe_unused]] DIETNERF_CLONES static void run(const Job& job, int64_t begin, int64_t end) { \
    for (int64_t i = begin; i < end; ++i) job(i);                                                \
  }

namespace dietnerf {

struct SpreadOverCores {
  int64_t n_samples;

  // Each job does all of its work alone, so neither the number of threads nor the split shows in
  // the result.
  template <typename Job>
  void operator()(const Job& job, int64_t n) const {
    if (n == 0) return;
    const int64_t samples_each = n_samples / n + 1;
    torch::stable::parallel_for(0, n, kSamplesPerThread / samples_each + 1,
                                [&](int64_t begin, int64_t end) { run(job, begin, end); });
  }

  // Fewer are not worth waking a second thread for.
  static constexpr int64_t kSamplesPerThread = 8192;
};

}  // namespace dietnerf
