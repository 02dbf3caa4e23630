// How a job is spread over the cores: the only shared CPU helper.
#pragma once

#include <algorithm>
#include <atomic>

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
    const int64_t n_each = kSamplesPerPart / (n_samples / n + 1) + 1;
    const int64_t n_parts = (n + n_each - 1) / n_each;
    // Parts are taken as threads get free: rays differ in length, and cores in what else they do.
    std::atomic<int64_t> next{0};
    const int64_t n_workers = std::min<int64_t>(n_parts, torch::stable::get_num_threads());
    torch::stable::parallel_for(0, n_workers, 1, [&](int64_t, int64_t) {
      for (int64_t part = next++; part < n_parts; part = next++) {
        run(job, part * n_each, std::min(n, (part + 1) * n_each));
      }
    });
  }

  // Fewer are not worth waking a second thread for.
  static constexpr int64_t kSamplesPerPart = 8192;
};

}  // namespace dietnerf
